use std::sync::Arc;

use isotick_model::expr::Expr;
use isotick_model::results::{ResultSchema, Value};
use isotick_model::view::{Aggregate, Tumbling};
use isotick_model::{Key, Quantile};
use proptest::prelude::*;

use crate::base::Base;
use crate::cpu::CpuEngine;
use crate::hash::result_hash;
use crate::testing::*;
use crate::windows::{SavedMultiset, SavedWindows, Unfit, Windows};
use crate::{Plan, Results, Truth};

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

const TERMS: [Aggregate; 8] = [
    Aggregate::Count,
    Aggregate::Sum(1),
    Aggregate::Min(0),
    Aggregate::Max(1),
    Aggregate::First(0),
    Aggregate::Last(1),
    Aggregate::Stddev(1),
    Aggregate::Vwap { price: 0, size: 1 },
];

proptest! {
    /// Some ticks as states of finer windows and of more terms, some as ticks.
    #[test]
    fn states_of_finer_windows_stand_for_their_ticks(
        rows in any_rows(300),
        stored in proptest::collection::vec(0_u8..3, 300),
        optional: [bool; 2],
        base in (1_i64..12, -20_i64..20),
        (times, shift) in (1_i64..5, -3_i64..4),
        wanted_terms: [bool; 8],
        filtered: bool,
        (from, to) in (proptest::option::of(-60_i64..60), proptest::option::of(-60_i64..60)),
        only_key in proptest::option::of(0_usize..4),
    ) {
        let mut rows = rows;
        let mut schema = schema([4, 0]);
        for (column, optional) in optional.into_iter().enumerate() {
            schema.columns[column].optional = optional;
            let values = rows.iter_mut().map(|row| &mut row.values[column]);
            values.for_each(|value| if !optional { value.get_or_insert(-3); });
        }
        let inner = Tumbling { width_ns: base.0, origin_ns: base.1 };
        let outer = Tumbling { width_ns: base.0 * times, origin_ns: base.1 + shift * base.0 };
        let filter = filtered.then(|| Expr::parse("size > -5", &schema).unwrap());
        let aggregates: Vec<_> =
            TERMS.into_iter().zip(wanted_terms).filter(|of| of.1).map(|of| of.0).collect();
        let all = view(&TERMS, inner, filter.clone());
        let coarse = Arc::new(view(&aggregates, outer, filter));
        let base = Base::of(&all, &schema);
        let plan = Plan::over(&coarse, &schema);
        prop_assert!(base.covers(&coarse, &plan));
        let narrow = base.narrowed([&plan]);

        let new = || Windows::new(coarse.clone(), &schema).with_range(from, to);
        let is_wanted = |of: &Key| only_key.is_none_or(|only| key(only) == *of);
        let update = |windows: &mut Windows, rows: &[Row]| {
            let ticks = ticks_of(rows);
            let select = |row: usize| is_wanted(&ticks.keys[ticks.key[row] as usize]);
            windows.update(&ticks, &select, &mut CpuEngine).unwrap();
        };
        let mut whole = new();
        update(&mut whole, &rows);
        let mut mixed = new();
        for (part, base) in [&base, &base, &narrow].into_iter().enumerate() {
            let of_part: Vec<Row> = rows.iter().zip(&stored)
                .filter(|(_, of)| usize::from(**of) == part)
                .map(|(row, _)| row.clone())
                .collect();
            if part == 0 {
                update(&mut mixed, &of_part);
                continue;
            }
            let mut states = Windows::of_base(base, &schema);
            states.update_all(&ticks_of(&of_part), &mut CpuEngine).unwrap();
            prop_assert_eq!(states.unrepresentable(), 0);
            let held = states.passed();
            let states = states.save(|_, _| ());
            prop_assert_eq!(mixed.absorb_states(&states, base, is_wanted), Ok(held));
        }
        prop_assert_eq!(mixed.rows(), whole.rows());
        prop_assert_eq!(mixed.passed(), whole.passed());
    }
}

#[test]
fn a_base_covers_what_nests_in_it_under_the_same_filter() {
    let schema = schema([4, 0]);
    let filter = |text: &str| Some(Expr::parse(text, &schema).unwrap());
    let window = |width_ns, origin_ns| Tumbling { width_ns, origin_ns };
    let of = |aggregates: &[Aggregate], window, filter| {
        let view = view(aggregates, window, filter);
        let plan = Plan::over(&view, &schema);
        (view, plan)
    };
    let (view, _) = of(&[Aggregate::Sum(0), Aggregate::Last(0)], window(10, 3), filter("size > 1"));
    let base = Base::of(&view, &schema);
    let covers = |aggregates: &[Aggregate], window, filter| {
        let (view, plan) = of(aggregates, window, filter);
        base.covers(&view, &plan)
    };
    let sum = [Aggregate::Sum(0)];
    assert!(covers(&sum, window(10, 3), filter("size > 1.0")));
    assert!(covers(&sum, window(30, -7), filter("size > 1")));
    assert!(covers(&[Aggregate::Mean(0), Aggregate::Count], window(20, 13), filter("size > 1")));
    assert!(!covers(&sum, window(10, 3), None), "other ticks");
    assert!(!covers(&sum, window(10, 3), filter("size >= 1")), "other ticks");
    assert!(!covers(&sum, window(15, 3), filter("size > 1")), "not whole windows");
    assert!(!covers(&sum, window(5, 3), filter("size > 1")), "finer windows");
    assert!(!covers(&sum, window(20, 4), filter("size > 1")), "windows elsewhere");
    assert!(!covers(&[Aggregate::First(0)], window(10, 3), filter("size > 1")), "a term less");
    let median = Aggregate::Quantile { column: 0, q: Quantile::MEDIAN };
    assert!(!covers(&[Aggregate::Sum(0), median], window(10, 3), filter("size > 1")));
    let extreme = of(&sum, window(i64::MAX, i64::MIN), None);
    let base = Base::of(&extreme.0, &schema);
    assert!(base.covers(&extreme.0, &extreme.1));
    assert!(!base.covers(&of(&sum, window(i64::MAX, i64::MAX), None).0, &extreme.1));
}

#[test]
fn ticks_of_a_wider_window_that_is_none_are_counted() {
    let rows = [Row { ts: i64::MAX - 20, ..rows()[0].clone() }, rows()[0].clone()];
    let schema = schema([4, 0]);
    let count = |width_ns| view(&[Aggregate::Count], Tumbling { width_ns, origin_ns: 0 }, None);
    let base = Base::of(&count(10), &schema);
    let mut states = Windows::of_base(&base, &schema);
    states.update_all(&ticks_of(&rows), &mut CpuEngine).unwrap();
    assert_eq!((states.passed(), states.unrepresentable()), (2, 0));
    let mut windows = Windows::new(Arc::new(count(1000)), &schema);
    windows.absorb_states(&states.save(|_, _| ()), &base, |_| true).unwrap();
    assert_eq!((windows.passed(), windows.unrepresentable()), (1, 1));
    let mut ticks = Windows::new(Arc::new(count(1000)), &schema);
    ticks.update_all(&ticks_of(&rows), &mut CpuEngine).unwrap();
    assert_eq!((ticks.passed(), ticks.unrepresentable()), (1, 1));
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
