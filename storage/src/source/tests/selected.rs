use arrow_array::{Int64Array, StringArray};

use super::*;

fn wanted(keys: &[&str], latest_ns: i64) -> SourceOptions {
    let keys: Vec<_> = keys.iter().map(|key| isotick_model::Key::from_components([key])).collect();
    let keys = KeySelection::new(1, &keys, None);
    let needed = Some(Needed { keys, identity: true, one_window: None, latest_ns });
    SourceOptions { needed, batch_rows: 700, ..Default::default() }
}

/// Row groups of 1,000 rows. Every 100th row has the key `rare`, and the last group has no other.
fn sample(price: impl Fn(i64) -> Option<i64>) -> Sample {
    let key = |row: i64| if row >= 5_000 || row % 100 == 0 { "rare" } else { "usual" };
    let columns: [(&str, ArrayRef); 3] = [
        ("ts", Arc::new(Int64Array::from_iter_values(0..6_000))),
        ("symbol", Arc::new(StringArray::from_iter_values((0..6_000).map(key)))),
        ("price", Arc::new((0..6_000).map(price).collect::<Int64Array>())),
    ];
    let field = |(name, array): (&str, ArrayRef)| {
        (Field::new(name, array.data_type().clone(), true), array)
    };
    Sample::parquet_with(Default::default(), columns.into_iter().map(field).collect(), 1_000)
}

fn schema() -> StreamSchema {
    stream(vec![column("price", 2)])
}

/// All batches, which leave gaps.
fn read(sample: &Sample, options: &SourceOptions) -> Flat {
    let mut source = Source::open(&sample.path, options, &schema()).unwrap();
    let mut flat = Flat::default();
    while let Some(batch) = source.next_batch().unwrap() {
        flat.add(&batch);
    }
    flat
}

#[test]
fn rows_of_unwanted_keys_stay_unread_and_the_others_keep_their_places() {
    let sample = sample(|row| Some(row * 3));
    let whole = sample.read(&schema());
    for (keys, expected) in [(&["rare"][..], 1_050), (&["none"], 0), (&["rare", "usual"], 6_000)] {
        let some = read(&sample, &wanted(keys, i64::MAX));
        let is_wanted = |key: &String| keys.contains(&key.as_str());
        let of_keys = |ticks: &[Row]| {
            let ticks = ticks.iter().filter(|row| is_wanted(&row.2));
            ticks.cloned().collect::<Vec<_>>()
        };
        assert_eq!(of_keys(&some.ticks), of_keys(&whole.ticks));
        assert_eq!(of_keys(&some.ticks).len(), expected);
        if keys != ["rare", "usual"] {
            assert!(some.ticks.len() < 2_000, "{keys:?}: {} rows were read", some.ticks.len());
        }
    }
}

/// Rows of a key stand too near each other to be passed over, and are few enough to be picked.
#[test]
fn rows_of_wanted_keys_are_picked_from_what_was_read() {
    let key = |row: i64| match (row % 5, row % 7) {
        _ if row >= 5_000 => "last",
        (0, _) => "often",
        (_, 0) => "less",
        _ => "usual",
    };
    let columns: [(&str, ArrayRef); 3] = [
        ("ts", Arc::new(Int64Array::from_iter_values(0..6_000))),
        ("symbol", Arc::new(StringArray::from_iter_values((0..6_000).map(key)))),
        ("price", Arc::new(Int64Array::from_iter_values((0..6_000).map(|row| row * 3)))),
    ];
    let field = |(name, array): (&str, ArrayRef)| {
        (Field::new(name, array.data_type().clone(), true), array)
    };
    let columns = columns.into_iter().map(field).collect();
    let sample = Sample::parquet_with(Default::default(), columns, 1_000);
    let whole = sample.read(&schema());
    for (keys, are_picked) in [
        (&["often"][..], true),
        (&["often", "less"], true),
        (&["less", "last"], true),
        (&["usual"], false),
    ] {
        let some = read(&sample, &wanted(keys, i64::MAX));
        let mut of_keys = whole.ticks.clone();
        of_keys.retain(|row| keys.contains(&row.2.as_str()));
        assert_eq!(some.ticks == of_keys, are_picked, "{keys:?}");
        let mut found = some.ticks;
        found.retain(|row| keys.contains(&row.2.as_str()));
        assert_eq!(found, of_keys);
    }
}

#[test]
fn a_file_that_may_have_bad_rows_is_read_whole() {
    let bad = sample(|row| (row != 7).then_some(row));
    assert_eq!(read(&bad, &wanted(&["rare"], i64::MAX)), bad.read(&schema()));
    let late = sample(Some);
    assert_eq!(read(&late, &wanted(&["rare"], 5_998)), late.read(&schema()));
    assert!(read(&late, &wanted(&["rare"], 5_999)).ticks.len() < 2_000);
}

#[test]
fn one_time_stands_for_all_where_they_lie_in_one_window() {
    let sample = sample(Some);
    let of_windows = |width_ns, latest_ns| {
        let one_window = Some(Tumbling { width_ns, origin_ns: 0 });
        let needed =
            Some(Needed { keys: KeySelection::default(), identity: true, one_window, latest_ns });
        sample.read_with(&schema(), &SourceOptions { needed, ..Default::default() })
    };
    let whole = sample.read(&schema());
    let floor = |rows: Vec<Row>, width: i64| {
        let row = |(sequence, ts, key, values)| (sequence, ts - ts % width, key, values);
        rows.into_iter().map(row).collect::<Vec<Row>>()
    };
    // Row groups of 1,000 rows lie in windows of 1,000 ns, and across windows of 1,500 ns.
    for (width, times) in [(1_000, 6), (1_500, 2_004), (6_000, 6)] {
        let some = of_windows(width, i64::MAX);
        let mut met: Vec<i64> = some.ticks.iter().map(|row| row.1).collect();
        met.dedup();
        assert_eq!(met.len(), times, "windows of {width} ns");
        assert_eq!(floor(some.ticks, width), floor(whole.ticks.clone(), width));
    }
    assert_eq!(of_windows(1_000, 5_998), whole, "a late row is there");
}

#[test]
fn without_identity_sequences_are_left_out_where_no_row_is_refused() {
    let of = |sample: &Sample, keys: &[&str], identity, latest_ns| {
        let needed = Needed { identity, ..wanted(keys, latest_ns).needed.unwrap() };
        read(sample, &SourceOptions { needed: Some(needed), ..Default::default() })
    };
    let bare = |mut flat: Flat| {
        flat.ticks.iter_mut().for_each(|row| row.0 = 0);
        flat
    };
    let good = sample(Some);
    for keys in [&[][..], &["rare"]] {
        let whole = of(&good, keys, true, i64::MAX);
        assert!(whole.ticks.iter().any(|row| row.0 > 0));
        assert_eq!(of(&good, keys, false, i64::MAX), bare(whole));
    }
    // Rows after the latest time are refused by the caller, who names them.
    assert_eq!(of(&good, &[], false, 5_998), good.read(&schema()));
    let bad = sample(|row| (row != 7).then_some(row));
    let (flat, whole) = (of(&bad, &[], false, i64::MAX), bad.read(&schema()));
    assert_eq!((flat.rejected, flat.messages), (whole.rejected, whole.messages));
}

#[test]
fn a_large_row_group_is_several_parts() {
    let parts_of = |rows: i64, group_rows: usize, threads| {
        let columns: [(&str, ArrayRef); 3] = [
            ("ts", Arc::new(Int64Array::from_iter_values(0..rows))),
            ("symbol", Arc::new(StringArray::from_iter_values((0..rows).map(|_| "A")))),
            ("price", Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row % 10)))),
        ];
        let field = |(name, array): (&str, ArrayRef)| {
            (Field::new(name, array.data_type().clone(), true), array)
        };
        let columns = columns.into_iter().map(field).collect();
        let sample = Sample::parquet_with(Default::default(), columns, group_rows);
        let source = Source::open(&sample.path, &SourceOptions::default(), &schema()).unwrap();
        let parts = source.parts(threads);
        assert_eq!(parts.first().map(|part| part.start), Some(0));
        assert_eq!(parts.last().map(|part| part.end), Some(rows as u64));
        assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start), "{parts:?}");
        let times = parts.iter().map(|part| source.times_of(part).unwrap());
        (parts.len(), times.collect::<Vec<_>>())
    };
    // Of the times of a part no more is known than of its row group's.
    assert_eq!(parts_of(1_700_000, usize::MAX, 4), (3, vec![0..=1_699_999; 3]));
    assert_eq!(parts_of(2_700_000, usize::MAX, 2).0, 4);
    assert_eq!(parts_of(1_700_000, usize::MAX, 1).0, 1);
    assert_eq!(parts_of(1_000_000, usize::MAX, 4), (1, vec![0..=999_999]));
    // The fifth of five row groups of one size is two parts, the small one behind it another.
    assert_eq!(parts_of(5 * 1_100_000 + 100_000, 1_100_000, 2).0, 7);
    assert_eq!(parts_of(4 * 1_100_000 + 100_000, 1_100_000, 2).0, 5);
    let (parts, times) = parts_of(1_700_000, 100_000, 8);
    assert_eq!((parts, &times[16]), (17, &(1_600_000..=1_699_999)));
}
