use super::*;
use crate::testing::*;
use isotick_model::Key;
use isotick_model::view::Aggregate;
use proptest::prelude::*;

const WINDOW: Tumbling = Tumbling { width_ns: 7, origin_ns: 3 };

fn partitioner() -> Partitioner {
    let view = view(&EVERY_AGGREGATE, WINDOW, None);
    Partitioner::new(&view, &Plan::of(&view))
}

fn partition(ticks: &Ticks) -> Runs {
    let (mut keys, mut publishers) = (KeyTable::default(), PublisherTable::default());
    partitioner()
        .partition(ticks, None, false, &mut keys, &mut publishers)
        .form
        .into_runs()
        .unwrap()
}

fn canonical(row: &Row) -> (&'static [u8], i64, &'static [u8], u64) {
    let publisher = PUBLISHERS[row.publisher].as_bytes();
    (KEYS[row.key].as_bytes(), row.ts, publisher, row.sequence)
}

/// Key, window and rows of each run, runs of one (key, window) joined where adjacent.
fn contents(runs: &Runs) -> Vec<(Key, i64, Vec<u64>)> {
    let ticks = &runs.ticks;
    let mut contents: Vec<(Key, i64, Vec<u64>)> = Vec::new();
    let mut next = 0;
    for run in &runs.runs {
        assert_eq!(run.start, next);
        assert!(run.len > 0);
        next += run.len;
        let rows = run.start as usize..next as usize;
        let identity = |row: usize| {
            (ticks.ts_event[row], ticks.publisher_of(row).as_str(), ticks.sequence[row])
        };
        assert!(rows.clone().map(identity).is_sorted());
        for row in rows.clone() {
            assert_eq!(ticks.key_of(row), ticks.key_of(rows.start));
            assert_eq!(WINDOW.start_of(ticks.ts_event[row]), Some(run.window_start));
        }
        let key = ticks.key_of(rows.start).clone();
        contents.push((key, run.window_start, ticks.sequence[rows].to_vec()));
    }
    assert_eq!(next as usize, ticks.len());
    contents
}

proptest! {
    #[test]
    fn the_way_without_sorting_gives_the_same_runs(
        (sorted, shuffled) in any_rows(150).prop_flat_map(|mut rows| {
            rows.sort_by_key(canonical);
            (Just(rows.clone()), Just(rows).prop_shuffle())
        }),
    ) {
        let ticks = ticks_of(&sorted);
        let runs = partition(&ticks);
        prop_assert!(runs.ticks.ts_event.ptr_eq(&ticks.ts_event), "nothing was moved");
        let fast = contents(&runs);
        let mut slow = contents(&partition(&ticks_of(&shuffled)));
        slow.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        prop_assert_eq!(fast, slow);
    }

    #[test]
    fn selected_rows_are_those_of_a_smaller_batch(
        rows in any_rows(100),
        sorted: bool,
        selected in proptest::collection::vec(any::<bool>(), 100),
    ) {
        let mut rows = rows;
        if sorted {
            rows.sort_by_key(canonical);
        }
        let (mut keys, mut publishers) = (KeyTable::default(), PublisherTable::default());
        let ticks = ticks_of(&rows);
        let select = |row: usize| selected[row];
        let some = partitioner().partition(&ticks, Some(&select), false, &mut keys, &mut publishers);
        let kept: Vec<Row> =
            rows.iter().zip(&selected).filter(|row| *row.1).map(|row| row.0.clone()).collect();
        let mut some = contents(&some.form.into_runs().unwrap());
        let mut all = contents(&partition(&ticks_of(&kept)));
        some.sort();
        all.sort();
        prop_assert_eq!(some, all);
    }
}

#[test]
fn adjacent_rows_in_form_share_their_buffers() {
    let view = view(&[Aggregate::Sum(0)], WINDOW, None);
    let rows: Vec<Row> = (0..50)
        .map(|ts| Row {
            ts,
            publisher: 0,
            sequence: ts as u64,
            key: 0,
            values: vec![Some(1), None],
            seen: 0,
        })
        .collect();
    let ticks = ticks_of(&rows);
    let (mut keys, mut publishers) = (KeyTable::default(), PublisherTable::default());
    let partitioner = Partitioner::new(&view, &Plan::of(&view)).with_range(Some(10), Some(20));
    let runs = partitioner
        .partition(&ticks, None, false, &mut keys, &mut publishers)
        .form
        .into_runs()
        .unwrap();
    assert_eq!(runs.ticks.len(), 14);
    assert_eq!(runs.ticks.ts_event.as_ptr(), &raw const ticks.ts_event[10]);
    assert!(runs.ticks.values[1].values.is_empty(), "a column that the plan does not read");
}

#[test]
fn many_keys_for_few_rows_are_sorted_too() {
    let mut ticks = ticks_of(&[]);
    ticks.keys = (0..5000).map(|key| Key::from_components([key.to_string()])).collect();
    ticks.key = vec![4999, 0, 4999, 0].into();
    ticks.ts_event = vec![5, 6, 4, 3].into();
    ticks.sequence = vec![0, 1, 2, 3].into();
    ticks.publishers = vec![isotick_model::PublisherId::new("p").unwrap()];
    ticks.values = vec![ValueColumn { values: vec![1; 4].into(), nulls: None }; 2];
    let (mut keys, mut publishers) = (KeyTable::default(), PublisherTable::default());
    let runs = partitioner()
        .partition(&ticks, None, false, &mut keys, &mut publishers)
        .form
        .into_runs()
        .unwrap();
    let sequences: Vec<_> = contents(&runs).into_iter().map(|run| run.2).collect();
    assert_eq!(sequences, [vec![3, 1], vec![2, 0]]);
    assert_eq!(keys.len(), 2, "only keys that occur get a code");
}

#[test]
fn leading_counts_times_before_the_end() {
    for len in 0..40_i64 {
        let ts: Vec<i64> = (0..len).map(|i| i * 2).collect();
        for end in 1..90 {
            let expected = ts.iter().filter(|&&ts| ts < end).count();
            if expected > 0 {
                assert_eq!(leading(&ts, end), expected, "{len} {end}");
            }
        }
    }
}
