//! Conversions against big integers, and one file in many cuts.

use std::str::FromStr;

use arrow_array::{Float64Array, Int64Array, StringArray};
use isotick_model::view::Tumbling;
use num_bigint::BigInt;
use proptest::prelude::*;

use super::super::batch::TimeRange;
use super::*;

/// What decimal text must become, by big integers.
fn expected(negative: bool, whole: &str, fraction: &str, digits: u8) -> Result<i64, RejectReason> {
    let kept = fraction.trim_end_matches('0');
    if kept.len() > usize::from(digits) {
        return Err(RejectReason::Inexact);
    }
    let padded = format!("{whole}{kept:0<width$}", width = usize::from(digits));
    let value = BigInt::from_str(&padded).unwrap();
    i64::try_from(if negative { -value } else { value }).map_err(|_| RejectReason::OutOfBounds)
}

proptest! {
    #[test]
    fn decimal_text_is_exact(
        rows in prop::collection::vec(
            (any::<bool>(), "[0-9]{1,22}", "[0-9]{0,20}"), 1..40,
        ),
        digits in 0_u8..=18,
    ) {
        let schema = stream(vec![column("price", digits)]);
        let text = |(negative, whole, fraction): &(bool, String, String)| {
            let sign = if *negative { "-" } else { "" };
            let point = if fraction.is_empty() { "" } else { "." };
            format!("{sign}{whole}{point}{fraction}")
        };
        let texts: Vec<String> = rows.iter().map(text).collect();
        let lines: String =
            texts.iter().enumerate().map(|(row, text)| format!("{row},A,{text}\n")).collect();
        let csv = Sample::csv(&format!("ts,symbol,price\n{lines}")).read(&schema);
        let parquet = Sample::parquet(vec![
            ("ts", Arc::new(Int64Array::from_iter_values(0..rows.len() as i64))),
            ("symbol", Arc::new(StringArray::from(vec!["A"; rows.len()]))),
            ("price", Arc::new(StringArray::from(texts))),
        ]).read(&schema);
        prop_assert_eq!(&csv.ticks, &parquet.ticks);
        prop_assert_eq!(&csv.rejected, &parquet.rejected);
        let mut ticks = csv.ticks.into_iter();
        let mut rejected = csv.rejected.into_iter();
        for (row, (negative, whole, fraction)) in (0..).zip(&rows) {
            match expected(*negative, whole, fraction, digits) {
                Ok(value) => {
                    prop_assert_eq!(ticks.next().unwrap(), (row, row as i64, "A".into(), vec![Some(value)]));
                }
                Err(reason) => prop_assert_eq!(rejected.next().unwrap(), (row, reason)),
            }
        }
    }

    #[test]
    fn cuts_do_not_matter(
        rows in prop::collection::vec(
            (prop::option::weighted(0.9, any::<i64>()), prop::option::weighted(0.9, 0_u8..4),
             prop::option::weighted(0.8, -3.0..3.0_f64), prop::option::weighted(0.8, any::<i64>())),
            1..60,
        ),
        group_rows in 1_usize..30,
        batch_rows in 1_usize..30,
        at in 0_u64..60,
    ) {
        let mut schema = stream(vec![
            optional("a", 0),
            Column { min: -5, max: 5, ..optional("b", 0) },
        ]);
        schema.inexact = Inexact::Round;
        let keys = rows.iter().map(|row| row.1.map(|key| format!("K{key}")));
        let fields: Vec<(Field, ArrayRef)> = [
            ("ts", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()) as ArrayRef),
            ("symbol", Arc::new(keys.collect::<StringArray>())),
            ("a", Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>())),
            ("b", Arc::new(rows.iter().map(|row| row.3.map(|b| b % 7)).collect::<Int64Array>())),
        ].into_iter().map(|(name, array)| {
            (Field::new(name, array.data_type().clone(), true), array)
        }).collect();
        let whole = Sample::parquet_with(Default::default(), fields.clone(), usize::MAX);
        let cut = Sample::parquet_with(Default::default(), fields, group_rows);
        let whole = whole.read(&schema);
        let options = SourceOptions { batch_rows, ..Default::default() };
        prop_assert_eq!(&cut.read_with(&schema, &options), &whole);

        let source = Source::open(&cut.path, &options, &schema).unwrap();
        prop_assert_eq!(source.rows_total(), Some(rows.len() as u64));
        for ranges in [source.parts(2), vec![0..at, at..u64::MAX]] {
            let mut parts = Flat::default();
            for range in ranges {
                let mut part = source.part(range).unwrap();
                while let Some(batch) = part.next_batch().unwrap() {
                    parts.add(&batch);
                }
            }
            prop_assert_eq!(&parts, &whole);
        }

        let mut resumed = Source::open(&cut.path, &options, &schema).unwrap();
        resumed.skip_to(at).unwrap();
        let rest = Flat::of(resumed);
        let after: Vec<Row> = whole.ticks.iter().filter(|row| row.0 >= at).cloned().collect();
        prop_assert_eq!(rest.ticks, after);

        // A column that is not wanted still rejects.
        let only_a = SourceOptions { columns: Some(vec![0]), batch_rows, ..Default::default() };
        let only_a = cut.read_with(&schema, &only_a);
        prop_assert_eq!(only_a.rejected, whole.rejected);
    }

    #[test]
    fn the_range_of_times_is_that_of_the_windows(
        windows in prop::collection::vec((1..=i64::MAX, any::<i64>()), 0..4),
        ts in any::<i64>(),
    ) {
        let windows: Vec<Tumbling> = windows
            .into_iter()
            .map(|(width_ns, origin_ns)| Tumbling { width_ns, origin_ns })
            .collect();
        let range = TimeRange::of(&windows);
        let edges = [range.min, range.max].into_iter().flat_map(|edge| {
            [edge.saturating_sub(1), edge, edge.saturating_add(1)]
        });
        for ts in edges.chain([ts, 0, i64::MIN, i64::MAX]) {
            let fits = windows.iter().all(|window| window.start_of(ts).is_some());
            prop_assert_eq!(range.holds(ts), fits, "{} in {:?} of {:?}", ts, range, windows);
        }
    }
}
