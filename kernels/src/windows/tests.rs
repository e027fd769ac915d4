use super::*;
use crate::cpu::CpuEngine;
use crate::engine::EngineKind;
use crate::hash::result_hash;
use crate::testing::*;
use crate::{Partials, Results, Runs};
use isotick_model::results::{ResultSchema, Value};
use isotick_model::ticks::{NEVER_SEEN, ON_TIME};
use isotick_model::view::{Aggregate, Tumbling};
use proptest::prelude::*;

const WINDOW: Tumbling = Tumbling { width_ns: 7, origin_ns: 3 };

fn windows(aggregates: &[Aggregate], window: Tumbling, scales: [u8; 2]) -> Windows {
    Windows::new(Arc::new(view(aggregates, window, None)), &schema(scales))
}

fn windows_of(rows: &[Row], aggregates: &[Aggregate], window: Tumbling) -> Windows {
    let mut windows = windows(aggregates, window, [4, 0]);
    windows.update_all(&ticks_of(rows), &mut CpuEngine).unwrap();
    windows
}

fn row(ts: i64, publisher: usize, sequence: u64, price: i64, size: i64) -> Row {
    let values = vec![Some(price), Some(size)];
    Row { ts, publisher, sequence, key: 0, values, seen: ON_TIME }
}

/// The CPU engine without its way for rows in any order.
struct RunsOnly;

impl Engine for RunsOnly {
    fn kind(&self) -> EngineKind {
        EngineKind::Cpu
    }

    fn describe(&self) -> String {
        "runs only".to_owned()
    }

    fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
        CpuEngine.reduce(plan, runs)
    }
}

proptest! {
    #[test]
    fn groups_and_runs_give_the_same_states(
        rows in any_rows(200),
        no_nulls: bool,
        narrow: bool,
        width_ns in 1_i64..40,
    ) {
        let mut rows = rows;
        for value in rows.iter_mut().flat_map(|row| &mut row.values) {
            if no_nulls {
                value.get_or_insert(-3);
            }
            if narrow {
                *value = value.map(|value| value % 1000);
            }
        }
        let window = Tumbling { width_ns, origin_ns: 3 };
        let [groups, runs]: [Vec<_>; 2] = [
            &mut CpuEngine as &mut dyn Engine,
            &mut RunsOnly,
        ].map(|engine| {
            let mut windows = windows(&EVERY_AGGREGATE, window, [4, 0]);
            windows.update_all(&ticks_of(&rows), engine).unwrap();
            let mut ids: Vec<_> = windows.ids().collect();
            ids.sort_unstable_by_key(|id| (windows.key(*id).clone(), id.window_start()));
            let state = |id: &WindowId| windows.index.get(id.key, id.start).unwrap();
            ids.iter()
                .map(|id| (windows.key(*id).clone(), id.start, windows.state(state(id)).to_vec()))
                .collect()
        });
        prop_assert_eq!(groups, runs);
    }

    #[test]
    fn rows_are_those_of_the_plain_reference(
        rows in any_rows(120),
        price_scale in 0_u8..=18,
        size_scale in 0_u8..=18,
        width_ns in 1_i64..40,
        origin_ns in -9_i64..9,
    ) {
        let (window, scales) = (Tumbling { width_ns, origin_ns }, [price_scale, size_scale]);
        let mut windows = windows(&EVERY_AGGREGATE, window, scales);
        windows.update(&ticks_of(&rows), &|_| true, &mut CpuEngine).unwrap();
        assert_rows(&windows.rows(), &naive(&rows, &EVERY_AGGREGATE, window, scales), window);
        prop_assert_eq!(windows.passed(), rows.len() as u64);
    }

    #[test]
    fn cuts_order_and_merges_do_not_matter(
        (rows, shuffled) in any_rows(80).prop_flat_map(|rows| {
            (Just(rows.clone()), Just(rows).prop_shuffle())
        }),
        cuts in proptest::collection::vec((1_usize..20, 0_usize..3), 80),
        first in 0_usize..3,
    ) {
        let whole = windows_of(&rows, &EVERY_AGGREGATE, WINDOW);
        let mut parts: Vec<Windows> =
            (0..3).map(|_| windows(&EVERY_AGGREGATE, WINDOW, [4, 0])).collect();
        let mut rest = &shuffled[..];
        let mut taken: [Vec<&Row>; 3] = Default::default();
        for (len, part) in cuts {
            let (batch, after) = rest.split_at(len.min(rest.len()));
            taken[part].extend(batch);
            let engine: &mut dyn Engine =
                if len % 2 == 0 { &mut CpuEngine } else { &mut RunsOnly };
            let touched = parts[part].update_all(&ticks_of(batch), engine).unwrap();
            let mut unique = touched.clone();
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(unique.len(), touched.len());
            prop_assert!(touched.iter().all(|&id| parts[part].contains(id)));
            rest = after;
            if len % 3 == 0 {
                // What is still to come, and what other parts have.
                let others = (0..3).filter(|other| *other != part).flat_map(|other| &taken[other]);
                let others: Vec<&Row> = others.copied().chain(rest).collect();
                parts[part].finish(|of| {
                    let of_key = others.iter().filter(|row| key(row.key) == *of);
                    of_key.map(|row| row.ts..=row.ts).collect()
                });
            }
        }
        prop_assume!(rest.is_empty());
        parts.rotate_left(first);
        let merged = Results::of(parts);
        let results = ResultSchema::of(whole.view());
        prop_assert_eq!(merged.rows(), whole.rows());
        prop_assert_eq!(merged.passed(), whole.passed());
        prop_assert_eq!(
            result_hash(&results, &merged.rows()).to_string(),
            result_hash(&results, &whole.rows()).to_string()
        );
    }
}

proptest! {
    #[test]
    fn a_sorted_sequence_in_any_batches_gives_the_same(
        rows in any_rows(120),
        cuts in proptest::collection::vec((1_usize..30, 0_usize..3), 120),
        sequence in proptest::collection::vec(any::<bool>(), 120),
        wanted in proptest::collection::vec(proptest::bool::weighted(0.9), 120),
        has_quantiles: bool,
    ) {
        // Windows with multisets are always held.
        let aggregates = &EVERY_AGGREGATE[..if has_quantiles { EVERY_AGGREGATE.len() } else { 13 }];
        let wanted = |row: &Row| wanted[row.sequence as usize % wanted.len()];
        let expected: Vec<Row> = rows.iter().filter(|row| wanted(row)).cloned().collect();
        let whole = windows_of(&expected, aggregates, WINDOW);
        let (mut sorted, others): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| sequence[row.sequence as usize % sequence.len()]);
        sorted.sort_by_key(|row| (key(row.key), row.ts, row.publisher, row.sequence));
        // Pieces of the sequence in three parts, and all other rows in a fourth.
        let mut parts: Vec<Windows> =
            (0..4).map(|_| windows(aggregates, WINDOW, [4, 0])).collect();
        let of_others = |of: &Key| -> Vec<_> {
            others.iter().filter(|row| key(row.key) == *of).map(|row| row.ts..=row.ts).collect()
        };
        let mut rest = &sorted[..];
        for (len, part) in cuts {
            let (batch, after) = rest.split_at(len.min(rest.len()));
            rest = after;
            let engine: &mut dyn Engine =
                if len % 2 == 0 { &mut CpuEngine } else { &mut RunsOnly };
            let select = |row: usize| wanted(&batch[row]);
            parts[part].update_sorted(&ticks_of(batch), Some(&select), engine, of_others).unwrap();
        }
        prop_assume!(rest.is_empty());
        let select = |row: usize| wanted(&others[row]);
        parts[3].update(&ticks_of(&others), &select, &mut CpuEngine).unwrap();
        prop_assert_eq!(whole.plan().values().is_empty(), !has_quantiles);
        let merged = Results::of(parts);
        prop_assert_eq!(merged.rows(), whole.rows());
        prop_assert_eq!(merged.passed(), whole.passed());
    }
}

proptest! {
    #[test]
    fn parts_in_any_batches_give_the_same(
        rows in any_rows(160),
        cuts in proptest::collection::vec((1_usize..50, 0_usize..8), 160),
        wanted in proptest::collection::vec(proptest::bool::weighted(0.9), 160),
        in_order in 0_usize..3,
        has_quantiles: bool,
        width_ns in 1_i64..40,
    ) {
        let window = Tumbling { width_ns, origin_ns: 3 };
        let aggregates = &EVERY_AGGREGATE[..if has_quantiles { EVERY_AGGREGATE.len() } else { 13 }];
        let wanted = |row: &Row| wanted[row.sequence as usize % wanted.len()];
        let expected: Vec<Row> = rows.iter().filter(|row| wanted(row)).cloned().collect();
        let whole = windows_of(&expected, aggregates, window);
        let mut rows = rows;
        match in_order {
            // As it comes; by time, so that few windows lie in two batches; by key as well.
            0 => {}
            1 => rows.sort_by_key(|row| row.ts),
            _ => rows.sort_by_key(|row| (key(row.key), row.ts, row.publisher, row.sequence)),
        }
        // Two threads, each of which takes in some parts, one after the other.
        let mut threads: Vec<Windows> =
            (0..2).map(|_| windows(aggregates, window, [4, 0])).collect();
        let mut batches: Vec<&[Row]> = Vec::new();
        let (mut rest, mut parts) = (&rows[..], Vec::new());
        for (len, step) in &cuts {
            let (batch, after) = rest.split_at((*len).min(rest.len()));
            rest = after;
            batches.push(batch);
            if *step == 0 {
                parts.push(std::mem::take(&mut batches));
            }
        }
        parts.push(batches);
        prop_assume!(rest.is_empty());
        for (number, part) in parts.iter().enumerate() {
            let windows = &mut threads[cuts[number].0 % 2];
            for (at, batch) in part.iter().enumerate() {
                let select = |row: usize| wanted(&batch[row]);
                let ticks = ticks_of(batch);
                match cuts[number + at].1 {
                    // Held: those of the part that wait have to be as well.
                    1 => windows.update(&ticks, &select, &mut CpuEngine).map(|_| ()).unwrap(),
                    2 => windows.update_part(&ticks, Some(&select), &mut RunsOnly).unwrap(),
                    _ => windows.update_part(&ticks, Some(&select), &mut CpuEngine).unwrap(),
                }
            }
            let others = parts.iter().enumerate().filter(|(other, _)| *other != number);
            let others: Vec<&Row> =
                others.flat_map(|(_, part)| part.iter().copied().flatten()).collect();
            windows.finish(|of| {
                let of_key = others.iter().filter(|row| key(row.key) == *of);
                of_key.map(|row| row.ts..=row.ts).collect()
            });
            prop_assert!(!windows.has_waiting());
        }
        let merged = Results::of(threads);
        prop_assert_eq!(merged.rows(), whole.rows());
        prop_assert_eq!(merged.passed(), whole.passed());
    }
}

/// Rows of one key, not in order, so that they come as groups.
fn descending(times: std::ops::Range<i64>) -> Vec<Row> {
    times.rev().map(|ts| row(ts, 0, ts as u64, ts, 1)).collect()
}

/// Of one key; one window in the first two, one in the last two.
fn spread_batches() -> [Vec<Row>; 3] {
    [3..28, 28..55, 55..80].map(descending)
}

#[test]
fn a_window_of_a_part_alone_is_never_held() {
    let mut windows = windows(&EVERY_AGGREGATE[..13], WINDOW, [4, 0]);
    for batch in spread_batches() {
        windows.update_part(&ticks_of(&batch), None, &mut CpuEngine).unwrap();
        assert!(windows.is_empty() && windows.has_waiting());
    }
    let reached = |_: &Key| vec![4..=4, 40..=41, 79..=i64::MAX];
    windows.finish(reached);
    let mut held: Vec<i64> = windows.ids().map(WindowId::window_start).collect();
    held.sort_unstable();
    assert_eq!(held, [3, 38, 73]);
    let rows = Results::of(vec![windows]).rows();
    let all: Vec<Row> = spread_batches().concat();
    assert_eq!(rows, windows_of(&all, &EVERY_AGGREGATE[..13], WINDOW).rows());
}

#[test]
fn states_wait_only_where_it_is_of_use_and_there_is_room() {
    let aggregates = &EVERY_AGGREGATE[..13];
    let waits = |windows: &mut Windows, rows: &[Row]| {
        windows.update_part(&ticks_of(rows), None, &mut CpuEngine).unwrap();
        windows.has_waiting()
    };
    let [first, second, _] = spread_batches();
    // One window, or two: those of the next batch may be the same.
    let mut narrow = windows(aggregates, Tumbling { width_ns: 20, origin_ns: 0 }, [4, 0]);
    assert!(!waits(&mut narrow, &first));
    assert!(!waits(&mut narrow, &second), "a part waits as a whole");
    narrow.finish(|_| Vec::new());
    assert!(narrow.is_empty());
    // Batches of the same windows.
    let mut again = windows(aggregates, WINDOW, [4, 0]);
    assert!(waits(&mut again, &first));
    assert!(!waits(&mut again, &first));
    // Quantiles are not in states.
    assert!(!waits(&mut windows(&EVERY_AGGREGATE, WINDOW, [4, 0]), &first));
    // No rows decide nothing.
    let mut filtered = windows(aggregates, WINDOW, [4, 0]).with_range(Some(3), None);
    assert!(!waits(&mut filtered, &[row(0, 0, 0, 1, 1)]));
    assert!(waits(&mut filtered, &first));
    assert!(waits(&mut filtered, &[row(0, 0, 0, 1, 1)]));
    filtered.update_all(&ticks_of(&second), &mut CpuEngine).unwrap();
    assert!(!filtered.has_waiting() && filtered.len() == 8, "the part is held");
    // Too many to wait.
    let mut full = windows(aggregates, Tumbling { width_ns: 1, origin_ns: 0 }, [4, 0]);
    let times = (finish::WAITING_WORDS_MAX / full.plan().words()) as i64;
    assert!(waits(&mut full, &descending(0..times - 10)));
    assert!(!waits(&mut full, &descending(times - 10..times + 10)));
    assert_eq!(full.len() as i64, times + 10);
    full.finish(|_| Vec::new());
    assert_eq!(Results::of(vec![full]).len() as i64, times + 10);
}

#[test]
#[should_panic(expected = "the last part was finished")]
fn results_of_a_part_that_is_not_finished_are_refused() {
    let mut windows = windows(&EVERY_AGGREGATE[..13], WINDOW, [4, 0]);
    windows.update_part(&ticks_of(&spread_batches()[0]), None, &mut CpuEngine).unwrap();
    Results::of(vec![windows]);
}

#[test]
#[should_panic(expected = "the last part was finished")]
fn a_part_that_is_not_finished_is_not_saved_without_its_windows() {
    let mut windows = windows(&EVERY_AGGREGATE[..13], WINDOW, [4, 0]);
    windows.update_part(&ticks_of(&spread_batches()[0]), None, &mut CpuEngine).unwrap();
    windows.save(|_, _| ());
}

#[test]
fn a_window_inside_a_sorted_batch_is_never_held() {
    let rows: Vec<Row> = (0..40).map(|ts| row(ts, 0, ts as u64, ts, 1)).collect();
    let mut windows = windows(&[Aggregate::Count], WINDOW, [4, 0]);
    let reached = |_: &Key| vec![18..=19];
    windows.update_sorted(&ticks_of(&rows), None, &mut CpuEngine, reached).unwrap();
    // Windows of seven from 3 on: the first and the last of the batch, and the one that is reached.
    let mut held: Vec<i64> = windows.ids().map(WindowId::window_start).collect();
    held.sort_unstable();
    assert_eq!(held, [-4, 17, 38]);
    assert_eq!(Results::of(vec![windows]).rows().len(), 7);
}

#[test]
fn ties_in_time_follow_publishers_by_bytes_then_sequence() {
    // "aa" (2) comes before "m" (0) and "z" (1), whatever their codes are.
    let rows = [row(5, 1, 0, 10, 1), row(5, 0, 7, 20, 1), row(5, 2, 9, 30, 1), row(5, 2, 8, 40, 1)];
    let ends = [Aggregate::First(0), Aggregate::Last(0)];
    let expected = [Value::Integer(40), Value::Integer(10)];
    assert_eq!(windows_of(&rows, &ends, WINDOW).rows()[0].values, expected);
    // One batch per tick: the merge of states decides, not the sort.
    let mut one_by_one = windows(&ends, WINDOW, [4, 0]);
    let mut apart = Vec::new();
    for tick in &rows {
        one_by_one.update_all(&ticks_of(std::slice::from_ref(tick)), &mut CpuEngine).unwrap();
        let mut part = windows(&ends, WINDOW, [4, 0]);
        part.update_all(&ticks_of(std::slice::from_ref(tick)), &mut CpuEngine).unwrap();
        apart.push(part);
    }
    assert_eq!(one_by_one.rows()[0].values, expected);
    assert_eq!(Results::of(apart).rows()[0].values, expected);
}

#[test]
fn extremes_are_exact() {
    let mut all_extreme: Vec<Row> =
        (0..5000).map(|sequence| row(0, 0, sequence, i64::MIN, i64::MIN)).collect();
    let cases: Vec<Vec<Row>> = vec![
        vec![row(0, 0, 0, i64::MAX, i64::MAX)],
        vec![row(0, 0, 0, i64::MIN, i64::MAX), row(0, 0, 1, i64::MIN, 1)],
        vec![row(0, 0, 0, 5, 0), row(1, 0, 1, 7, 0)],
        vec![row(0, 0, 0, 5, 3), row(1, 0, 1, 7, -4)],
        vec![row(0, 0, 0, 5, 3), row(1, 0, 1, -7, -3)],
        vec![row(0, 0, 0, 42, 1); 1]
            .into_iter()
            .chain((1..9).map(|s| row(2, 0, s, 42, 1)))
            .collect(),
        all_extreme.clone(),
        {
            all_extreme.iter_mut().step_by(2).for_each(|row| row.values[0] = Some(i64::MAX));
            all_extreme
        },
    ];
    for (case, rows) in cases.iter().enumerate() {
        for scales in [[0, 0], [18, 18], [4, 2]] {
            let mut windows = windows(&EVERY_AGGREGATE, WINDOW, scales);
            windows.update_all(&ticks_of(rows), &mut CpuEngine).unwrap();
            let expected = naive(rows, &EVERY_AGGREGATE, WINDOW, scales);
            assert_rows(&windows.rows(), &expected, WINDOW);
            let vwap = windows.rows()[0].values[12];
            assert_eq!(vwap == Value::Null, case == 2 || case == 4, "case {case}");
        }
    }
}

#[test]
fn only_nulls_is_null_and_count_is_not() {
    let mut tick = row(0, 0, 0, 0, 0);
    tick.values = vec![None, None];
    let windows = windows_of(&[tick], &EVERY_AGGREGATE, WINDOW);
    let values = &windows.rows()[0].values;
    assert_eq!(values[..3], [Value::Integer(1), Value::Integer(0), Value::Integer(0)]);
    assert!(values[3..].iter().all(|value| *value == Value::Null), "{values:?}");
}

#[test]
fn times_without_a_window_are_counted() {
    let rows = [
        row(i64::MIN, 0, 0, 1, 1),
        row(i64::MIN + 9, 0, 1, 1, 1),
        row(0, 0, 2, 1, 1),
        row(i64::MAX - 9, 0, 3, 1, 1),
        row(i64::MAX, 0, 4, 1, 1),
    ];
    for window in [
        Tumbling { width_ns: 7, origin_ns: 3 },
        Tumbling { width_ns: 10, origin_ns: -5 },
        Tumbling { width_ns: i64::MAX, origin_ns: 0 },
        Tumbling { width_ns: i64::MAX, origin_ns: -1 },
        Tumbling { width_ns: 1, origin_ns: i64::MIN },
    ] {
        let mut windows = windows(&EVERY_AGGREGATE, window, [4, 0]);
        windows.update_all(&ticks_of(&rows), &mut CpuEngine).unwrap();
        let expected = rows.iter().filter(|row| window.start_of(row.ts).is_some()).count() as u64;
        assert_eq!(windows.passed(), expected, "{window:?}");
        assert_eq!(windows.unrepresentable(), rows.len() as u64 - expected);
        assert_rows(&windows.rows(), &naive(&rows, &EVERY_AGGREGATE, window, [4, 0]), window);
    }
}

#[test]
fn a_range_takes_whole_windows_by_their_start() {
    let rows: Vec<Row> = (-40..40).map(|ts| row(ts, 0, (ts + 40) as u64, 1, 1)).collect();
    for from in [None, Some(i64::MIN), Some(-4), Some(-3), Some(3), Some(i64::MAX)] {
        for to in [None, Some(i64::MIN), Some(-4), Some(10), Some(11), Some(i64::MAX)] {
            let mut windows = windows(&[Aggregate::Count], WINDOW, [4, 0]).with_range(from, to);
            windows.update_all(&ticks_of(&rows), &mut CpuEngine).unwrap();
            let all = windows_of(&rows, &[Aggregate::Count], WINDOW).rows();
            let within = |row: &WindowRow| {
                from.is_none_or(|from| row.window_start >= from)
                    && to.is_none_or(|to| row.window_start < to)
            };
            let expected: Vec<_> = all.into_iter().filter(within).collect();
            assert_eq!(windows.rows(), expected, "{from:?} {to:?}");
            assert_eq!(windows.unrepresentable(), 0);
        }
    }
}

#[test]
fn as_seen_leaves_out_what_came_too_late_for_its_window() {
    let seen = |ts: i64, sequence: u64, seen: i64| Row { seen, ..row(ts, 0, sequence, 1, 1) };
    // Windows [-4, 3) and [3, 10).
    let rows = [
        seen(0, 0, ON_TIME),
        seen(1, 1, 2),
        seen(1, 2, 3),
        seen(1, 3, 4),
        seen(1, 4, 5),
        seen(4, 5, 9),
        seen(4, 6, NEVER_SEEN),
    ];
    let counts = |truth: Truth| {
        let mut windows = windows(&[Aggregate::Count], WINDOW, [4, 0]).with_truth(truth);
        windows.update_all(&ticks_of(&rows), &mut CpuEngine).unwrap();
        let counts: Vec<_> = windows.rows().iter().map(|row| row.values[0]).collect();
        (counts, windows.too_late())
    };
    let integers = |a, b| vec![Value::Integer(a), Value::Integer(b)];
    assert_eq!(counts(Truth::Now), (integers(5, 2), 0));
    assert_eq!(counts(Truth::Seen { allowed_ns: 0 }), (integers(2, 1), 4));
    assert_eq!(counts(Truth::Seen { allowed_ns: 2 }), (integers(4, 1), 2));
    assert_eq!(counts(Truth::Seen { allowed_ns: i64::MAX }), (integers(5, 1), 1));
    assert_eq!(counts(Truth::Late { allowed_ns: 0 }), (vec![Value::Integer(3)], 4));
    assert_eq!(counts(Truth::Late { allowed_ns: i64::MAX }), (vec![], 7));
}

#[test]
fn windows_are_removed_and_begin_anew() {
    let mut windows =
        windows_of(&[row(0, 0, 0, 5, 1), row(9, 0, 1, 6, 1)], &EVERY_AGGREGATE, WINDOW);
    let id = windows.ids().find(|id| id.window_start() == -4).unwrap();
    assert!(windows.remove(id) && !windows.remove(id) && !windows.contains(id));
    assert_eq!(windows.len(), 1);
    let touched = windows.update_all(&ticks_of(&[row(1, 0, 2, 7, 1)]), &mut CpuEngine).unwrap();
    assert_eq!(touched, [id]);
    let anew = windows_of(&[row(1, 0, 2, 7, 1)], &EVERY_AGGREGATE, WINDOW);
    assert_eq!(windows.row(id), anew.rows()[0], "nothing is left of what was there before");
    assert_eq!(windows.len(), 2);
}

#[test]
fn a_failed_engine_changes_nothing() {
    struct Broken;
    impl Engine for Broken {
        fn kind(&self) -> EngineKind {
            EngineKind::Gpu
        }
        fn describe(&self) -> String {
            "broken".into()
        }
        fn reduce(&mut self, _: &Plan, _: &Runs) -> Result<Partials, EngineError> {
            Err(EngineError { engine: EngineKind::Gpu, reason: "lost".into() })
        }
    }
    let rows = [row(0, 0, 0, 5, 1), row(9, 0, 1, 6, 1), row(i64::MAX, 0, 2, 6, 1)];
    let mut windows = windows(&EVERY_AGGREGATE, WINDOW, [4, 0]);
    assert!(windows.update_all(&ticks_of(&rows), &mut Broken).is_err());
    assert_eq!((windows.len(), windows.passed(), windows.unrepresentable()), (0, 0, 0));
    windows.update_all(&ticks_of(&rows), &mut CpuEngine).unwrap();
    assert_eq!(windows.rows(), windows_of(&rows, &EVERY_AGGREGATE, WINDOW).rows());
}

#[test]
fn can_move_between_threads() {
    fn send<T: Send>() {}
    send::<Windows>();
}

proptest! {
    /// What is saved in the middle and restored goes on as if nothing had happened.
    #[test]
    fn restored_windows_go_on_alike(
        before in any_rows(300),
        after in any_rows(60),
        width_ns in 1_i64..40,
    ) {
        let window = Tumbling { width_ns, origin_ns: 3 };
        let mut whole = windows(&EVERY_AGGREGATE, window, [4, 0]);
        whole.update_all(&ticks_of(&before), &mut CpuEngine).unwrap();
        let removed = whole.ids().nth(2);
        removed.map(|id| whole.remove(id));
        let (mut out, mut back) = (Vec::new(), Vec::new());
        let saved = whole.save(|id, _| out.push(id));
        let (view, schema) = (whole.view().clone(), schema([4, 0]));
        let restored = Windows::restore(view, &schema, Truth::Now, saved.clone(), |id, _| back.push(id));
        let mut restored = restored.unwrap();
        prop_assert_eq!(out, back);
        prop_assert_eq!(&restored.save(|_, _| ()), &saved);
        for windows in [&mut whole, &mut restored] {
            windows.update_all(&ticks_of(&after), &mut CpuEngine).unwrap();
        }
        prop_assert_eq!(whole.rows(), restored.rows());
        prop_assert_eq!(whole.save(|_, _| ()), restored.save(|_, _| ()));
    }
}

#[test]
fn what_does_not_fit_is_not_restored() {
    let rows = [row(1, 0, 0, 5, 6), row(2, 1, 1, 7, 8), row(90, 1, 2, 7, 8)];
    let windows = windows_of(&rows, &EVERY_AGGREGATE, WINDOW);
    let saved = windows.save(|_, _| ());
    let restore = |change: &dyn Fn(&mut SavedWindows)| {
        let mut saved = saved.clone();
        change(&mut saved);
        let (view, schema) = (windows.view().clone(), schema([4, 0]));
        Windows::restore(view, &schema, Truth::Now, saved, |_, _| ()).map(|_| ())
    };
    assert_eq!(restore(&|_| ()), Ok(()));
    let changes: [&dyn Fn(&mut SavedWindows); 9] = [
        &|saved| saved.words.truncate(1),
        &|saved| saved.start.push(3),
        &|saved| saved.start[0] += 1,
        &|saved| saved.start[1] = saved.start[0],
        &|saved| saved.key[0] = 9,
        &|saved| saved.keys.push(saved.keys[0].clone()),
        &|saved| saved.publishers.clear(),
        &|saved| saved.multisets[0].counts[0] = 0,
        &|saved| saved.multisets[0].values.push(i64::MIN),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert!(restore(change).is_err(), "change {number} was not noticed");
    }
}
