use std::sync::Arc;

use isotick_model::results::{ResultSchema, Value};
use isotick_model::view::{Aggregate, Tumbling};
use proptest::prelude::*;

use crate::cpu::CpuEngine;
use crate::hash::result_hash;
use crate::testing::*;
use crate::windows::{SavedMultiset, SavedWindows, Unfit, Windows};
use crate::{Results, Truth};

const WINDOW: Tumbling = Tumbling { width_ns: 7, origin_ns: 3 };

fn none() -> Windows {
    Windows::new(Arc::new(view(&EVERY_AGGREGATE, WINDOW, None)), &schema([4, 0]))
}

fn of<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Windows {
    let mut windows = none();
    let rows: Vec<Row> = rows.into_iter().cloned().collect();
    windows.update_all(&ticks_of(&rows), &mut CpuEngine).unwrap();
    windows
}

fn hash(windows: &Windows) -> String {
    result_hash(&ResultSchema::of(windows.view()), &windows.rows()).to_string()
}

fn plain(saved: &SavedWindows) -> (usize, [u64; 3]) {
    (saved.key.len(), [saved.passed, saved.unrepresentable, saved.too_late])
}

proptest! {
    /// Any ticks, in any split, some absorbed before and some taken in after.
    #[test]
    fn absorbed_windows_are_those_of_all_ticks(
        rows in any_rows(400),
        owners in proptest::collection::vec(0_usize..4, 400),
        engine_first: bool,
    ) {
        let whole = of(&rows);
        let of_owner = |owner: usize| {
            rows.iter().zip(&owners).filter(move |(_, of)| **of == owner).map(|(row, _)| row)
        };
        let mut all = if engine_first { of(of_owner(0)) } else { none() };
        for owner in 1..4 {
            let part = of(of_owner(owner));
            let saved = part.save(|_, _| ());
            // What is saved again after being taken back is absorbed as well.
            let (view, schema) = (part.view().clone(), schema([4, 0]));
            let restored = Windows::restore(view, &schema, Truth::Now, saved.clone(), |_, _| ());
            prop_assert_eq!(&restored.unwrap().save(|_, _| ()), &saved);
            all.absorb(&saved).unwrap();
        }
        if !engine_first {
            let rows: Vec<Row> = of_owner(0).cloned().collect();
            all.update_all(&ticks_of(&rows), &mut CpuEngine).unwrap();
        }
        prop_assert_eq!(all.rows(), whole.rows());
        prop_assert_eq!(hash(&all), hash(&whole));
        let (all, whole) = (all.save(|_, _| ()), whole.save(|_, _| ()));
        prop_assert_eq!(plain(&all), plain(&whole));
    }
}

#[test]
fn many_values_are_absorbed_into_every_form() {
    // Few, dense ones, wide ones that repeat, wide ones that do not; each into each.
    let values: [Vec<i64>; 4] = [
        vec![5, 5, -7],
        (0..6000).map(|at| at % 900).collect(),
        (0..6000).map(|at| at % 900 * 1_000_000_007).collect(),
        (0..6000).map(|at| at * 1_000_000_000_000_007).collect(),
    ];
    let rows = |values: &[i64], from: u64| -> Vec<Row> {
        let row = |(at, &value): (usize, &i64)| Row {
            ts: 4,
            publisher: 0,
            sequence: from + at as u64,
            key: 0,
            values: vec![Some(value), None],
            seen: isotick_model::ticks::ON_TIME,
        };
        values.iter().enumerate().map(row).collect()
    };
    for into in &values {
        for from in &values {
            let (into, from) = (rows(into, 0), rows(from, 10_000));
            let mut absorbed = of(&into);
            absorbed.absorb(&of(&from).save(|_, _| ())).unwrap();
            let mut all = of(into.iter().chain(&from));
            assert_eq!(absorbed.rows(), all.rows());
            // Both go on alike.
            let more = ticks_of(&rows(&[3, 4, 5], 90_000));
            for windows in [&mut absorbed, &mut all] {
                windows.update_all(&more, &mut CpuEngine).unwrap();
            }
            assert_eq!(absorbed.rows(), all.rows());
            assert_eq!(absorbed.save(|_, _| ()).multisets, all.save(|_, _| ()).multisets);
        }
    }
}

fn rows() -> Vec<Row> {
    let row = |ts, publisher, sequence| Row {
        ts,
        publisher,
        sequence,
        key: 0,
        values: vec![Some(5), Some(6)],
        seen: isotick_model::ticks::ON_TIME,
    };
    vec![row(1, 0, 0), row(2, 1, 1), row(90, 1, 2), row(i64::MAX, 0, 3)]
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let saved = of(&rows()).save(|_, _| ());
    let changes: [&dyn Fn(&mut SavedWindows); 11] = [
        &|saved| saved.words.truncate(1),
        &|saved| saved.start.push(3),
        &|saved| saved.start[0] += 1,
        &|saved| saved.start[1] = saved.start[0],
        &|saved| saved.start.reverse(),
        &|saved| saved.key[1] = 9,
        &|saved| saved.keys.push(saved.keys[0].clone()),
        &|saved| saved.publishers.clear(),
        &|saved| saved.multisets[0].counts[0] = 0,
        &|saved| {
            *saved.multisets.last_mut().unwrap() =
                SavedMultiset { values: vec![1, 2], counts: vec![u64::MAX, 1] }
        },
        &|saved| saved.passed = u64::MAX,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut windows = of(&rows()[..2]);
        let before = windows.save(|_, _| ());
        let mut saved = saved.clone();
        change(&mut saved);
        let refused = windows.absorb(&saved);
        assert!(matches!(refused, Err(Unfit(_))), "change {number} was not noticed");
        assert_eq!(windows.save(|_, _| ()), before, "change {number} left something");
    }
    let mut windows = of(&rows()[..2]);
    windows.absorb(&saved).unwrap();
    assert_eq!((windows.passed(), windows.unrepresentable()), (5, 1));
}

#[test]
fn other_windows_may_have_been_finished() {
    let mut windows = of(&rows()[..2]);
    windows.finish(|_| vec![]);
    assert!(windows.is_empty());
    windows.absorb(&of(&rows()[2..]).save(|_, _| ())).unwrap();
    let results = Results::of(vec![windows]);
    assert_eq!(results.rows(), of(&rows()).rows());
    assert_eq!(results.rows()[0].values[0], Value::Integer(2));
}

#[test]
#[should_panic(expected = "a finished window is in one part")]
fn a_finished_window_absorbs_nothing() {
    let count = Arc::new(view(&[Aggregate::Count], WINDOW, None));
    let mut windows = Windows::new(count, &schema([4, 0]));
    windows.update_all(&ticks_of(&rows()), &mut CpuEngine).unwrap();
    let saved = windows.save(|_, _| ());
    windows.finish(|_| vec![]);
    windows.absorb(&saved).unwrap();
    Results::of(vec![windows]).rows();
}
