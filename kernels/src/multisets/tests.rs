use std::sync::Arc;

use isotick_model::view::{Aggregate, Tumbling};
use proptest::prelude::*;

use crate::testing::*;
use crate::{CpuEngine, Results, Windows};

const QUANTILES: [Aggregate; 3] = [
    Aggregate::Quantile { column: 0, q: billionths(500_000_000) },
    Aggregate::Quantile { column: 1, q: billionths(990_000_000) },
    Aggregate::ApproxQuantile { column: 1, q: billionths(10_000_000) },
];

/// Rows whose values are near each other, apart, or near but for some: by key and time, or in
/// any order; with nulls or without.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = |kind: u8, draw: i64| match kind {
        0 => draw % 300,
        1 => draw % 32_768,
        2 => draw,
        _ if draw % 97 == 0 => draw,
        _ => draw % 5,
    };
    let draws = proptest::collection::vec((any::<i64>(), any::<i64>(), 0_i64..200), 0..4000);
    (draws, 0_u8..4, 0_u8..4, any::<bool>(), any::<bool>()).prop_map(
        move |(draws, price, size, nulls, by_key)| {
            let row = |(sequence, (a, b, ts)): (usize, (i64, i64, i64))| Row {
                ts,
                publisher: 0,
                sequence: sequence as u64,
                key: (a.unsigned_abs() % 4) as usize,
                values: vec![
                    (!nulls || b % 11 != 0).then(|| value(price, a)),
                    (!nulls || a % 13 != 0).then(|| value(size, b)),
                ],
                seen: isotick_model::ticks::ON_TIME,
            };
            let mut rows: Vec<Row> = draws.into_iter().enumerate().map(row).collect();
            if by_key {
                rows.sort_by_key(|row| (row.key, row.ts));
            }
            rows
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    /// One window a key or many, in batches of any size over two parts.
    #[test]
    fn quantiles_are_those_of_the_plain_reference(
        rows in rows(),
        width_ns in prop_oneof![Just(1000), 1_i64..50],
        batch in prop_oneof![1_usize..40, 500_usize..4000],
    ) {
        let window = Tumbling { width_ns, origin_ns: 0 };
        let view = Arc::new(view(&QUANTILES, window, None));
        let mut parts = [0, 1].map(|_| Windows::new(view.clone(), &schema([0, 0])));
        for (number, batch) in rows.chunks(batch).enumerate() {
            parts[number % 2].update_all(&ticks_of(batch), &mut CpuEngine).unwrap();
        }
        let expected = naive(&rows, &QUANTILES, window, [0, 0]);
        assert_rows(&Results::of(parts).rows(), &expected, window);
    }
}

/// A window that was removed leaves nothing to the one that takes its place.
#[test]
fn a_place_is_used_again() {
    let window = Tumbling { width_ns: 10, origin_ns: 0 };
    let row = |sequence: u64, ts: i64, value: i64| Row {
        ts,
        publisher: 0,
        sequence,
        key: (sequence % 2) as usize,
        values: vec![Some(value), Some(-value)],
        seen: isotick_model::ticks::ON_TIME,
    };
    let mut windows = Windows::new(Arc::new(view(&QUANTILES, window, None)), &schema([0, 0]));
    for (start, value) in [(0, 1), (10, 1 << 50), (20, -7), (30, 65_536)] {
        let rows: Vec<Row> =
            (0..3000).map(|at| row(at, start + at as i64 % 10, value + at as i64 % 50)).collect();
        windows.update_all(&ticks_of(&rows), &mut CpuEngine).unwrap();
        assert_rows(&windows.rows(), &naive(&rows, &QUANTILES, window, [0, 0]), window);
        let ids: Vec<_> = windows.ids().collect();
        assert!(ids.into_iter().all(|id| windows.remove(id)));
    }
}
