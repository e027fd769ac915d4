//! Stored states stand for ticks: whichever files have some, of whichever finer windows and richer
//! views, what a scan gives is what the ticks give; also after more ticks came, and after files were
//! merged. Planted faults are noticed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use isotick::rollups::{self, Chooser};
use isotick_kernels::{Base, CpuEngine, Engine};
use isotick_model::view::{Aggregate, NamedAggregate, OutputType, Tumbling, View};
use isotick_model::{Key, LogPosition};
use isotick_scheduler::{Extent, OnFailure, Part, Scan, ScanError, ScanOutcome, ScanView};
use isotick_storage::{
    ALL_TIME, Columns, Parts, RollupBase, Snapshot, StatesPart, Store, StoredStates,
};

use crate::oracle::{self, Arrival, Output, Truth};
use crate::product::{Product, cut};
use crate::random::{Case, Shape};
use crate::subject::Subject;

const SEEDS: u64 = 2;

/// Cases whose views need states of fixed size only.
fn subjects(seeds: u64) -> impl Iterator<Item = Subject> {
    Subject::all(seeds).map(|mut subject| {
        let all = [
            ("count()", "count", Output::Count),
            ("count(side)", "count_side", Output::CountOf(2)),
            ("sum(size)", "sum_size", Output::Sum(1)),
            ("min(price)", "min_price", Output::Min(0)),
            ("max(reading)", "max_reading", Output::Max(3)),
            ("first(price)", "first_price", Output::First(0)),
            ("last(side)", "last_side", Output::Last(2)),
            ("mean(reading)", "mean_reading", Output::Mean(3)),
            ("stddev(size)", "stddev_size", Output::Stddev(1)),
            ("vwap(price, size)", "vwap_price_size", Output::Vwap(0, 1)),
        ];
        let mut chosen: Vec<_> = all.iter().filter(|_| subject.rng.chance(50)).collect();
        if chosen.is_empty() {
            chosen.push(&all[5]);
        }
        subject.case.aggregates = chosen.iter().map(|of| of.0.to_owned()).collect();
        let outputs = chosen.iter().map(|of| (of.1.to_owned(), of.2));
        subject.case.view.outputs = outputs.collect();
        subject.product = Product::of(&subject.case);
        subject
    })
}

/// Some bases: of windows that those of the view are made of and of more terms, and some that
/// do not stand for it.
fn bases(subject: &mut Subject) -> Vec<RollupBase> {
    let view = View::clone(&subject.product.view);
    let divisors: Vec<i64> =
        [1, 2, 3, 4, 60].into_iter().filter(|by| view.window.width_ns % by == 0).collect();
    let extra = [Aggregate::Min(1), Aggregate::Last(0), Aggregate::Var(3), Aggregate::CountOf(0)];
    let mut bases: Vec<RollupBase> = Vec::new();
    for number in 0..3 {
        let width_ns = view.window.width_ns / *subject.rng.pick(&divisors);
        let away = subject.rng.between(-3, 3).checked_mul(width_ns);
        let origin_ns = away.and_then(|away| view.window.origin_ns.checked_add(away));
        let origin_ns = origin_ns.unwrap_or(view.window.origin_ns);
        let mut of = View { window: Tumbling { width_ns, origin_ns }, ..view.clone() };
        let more = |&aggregate| NamedAggregate {
            name: format!("{aggregate:?}"),
            aggregate,
            output: OutputType::Float,
        };
        let more: Vec<_> = extra.iter().filter(|_| subject.rng.chance(30)).map(more).collect();
        of.aggregates.splice(0..0, more);
        if number == 2 {
            match subject.rng.index(3) {
                0 => of.filter = None,
                1 => of.window.width_ns = view.window.width_ns.saturating_add(1),
                _ => of.aggregates.truncate(1),
            }
        }
        let base = rollups::stored_base(&of, &subject.product.schema).expect("no quantiles");
        if !bases.contains(&base) {
            bases.push(base);
        }
    }
    bases
}

/// Adds rows, live ones and imported ones, in some commits.
fn add(store: &mut Store, subject: &mut Subject, rows: &[usize]) {
    let imported = |row: &usize| subject.case.ticks[*row].arrival == Arrival::NeverSeen;
    let (never_seen, live): (Vec<usize>, Vec<_>) = rows.iter().partition(|row| imported(row));
    for rows in cut(&live, 3, &mut subject.rng) {
        let from = store.manifest().covered();
        let positions = from..LogPosition(from.0 + 1);
        let batches = subject.cut(&rows, 3);
        let mut commit = store.begin();
        commit.add_ticks(&subject.product.schema, &batches, positions.clone()).expect("written");
        commit.cover(positions.end, []);
        commit.finish().expect("committed");
    }
    for rows in cut(&never_seen, 2, &mut subject.rng) {
        let batches = subject.cut(&rows, 3);
        let mut commit = store.begin();
        commit.add_imported(&subject.product.schema, &batches).expect("written");
        commit.finish().expect("committed");
    }
}

/// Rolls up some files, by so many per cent.
fn roll_up(store: &mut Store, subject: &mut Subject, bases: &[RollupBase], percent: u64) {
    let schema = &subject.product.schema;
    for base in bases {
        let paths: Vec<String> = {
            let files = store.manifest().without_rollup(&schema.name, base);
            files.map(|file| file.file.path.clone()).collect()
        };
        let mut done = Vec::new();
        for path in paths.iter().filter(|_| subject.rng.chance(percent)) {
            let work = store.plan_rollup(schema, base, |file| file.file.path == *path);
            // Also where there is a state for each tick.
            let work = work.expect("it is without states").from_ticks_per_state(1);
            done.push(rollups::reduce(&work, schema, &mut |_| Ok(())).expect("reduced"));
        }
        let count = done.len();
        assert_eq!(store.commit_rolled(done).expect("committed"), count);
    }
}

fn scan(subject: &Subject) -> Scan {
    Scan {
        views: vec![ScanView {
            view: subject.product.view.clone(),
            truth: subject.product.truth(Truth::Now),
        }],
        schema: subject.product.schema.clone().into(),
        from_ns: None,
        to_ns: None,
        keys: Vec::new(),
    }
}

/// What is read of a folder where states are taken wherever they stand for ticks.
fn planned(scan: &Scan, folder: &Path) -> (Parts, Chooser) {
    let chooser = Chooser::new(scan).expect("the view needs states alone").at_any_cost();
    let snapshot = Snapshot::open(folder).expect("the folder is readable");
    let (columns, keys) = (Columns::all(&scan.schema), scan.key_selection());
    let choose = |file: &_, known: &_| chooser.choose(file, known);
    let parts = snapshot.parts_of(&scan.schema, &columns, ALL_TIME, &keys, &choose);
    (parts.expect("the files fit"), chooser)
}

fn failed(error: isotick_storage::Error) -> ScanError {
    ScanError::Read(error.into())
}

/// A part of states as the scheduler takes it, changed on its way.
fn states_part(
    part: &StatesPart,
    base: Arc<Base>,
    change: impl Fn(&mut StoredStates) + Send + 'static,
) -> Part {
    let part = part.clone();
    let extent = Some(Extent { times: part.times(), keys: part.keys() });
    Part::states(extent, base, move |sink| {
        for states in part.read().map_err(failed)? {
            let mut states = states.map_err(failed)?;
            change(&mut states);
            sink(rollups::saved(states))?;
        }
        Ok(())
    })
}

fn parts(read: Parts, chooser: &Chooser) -> Vec<Part> {
    let states = read.states.iter();
    let states = states.map(|part| states_part(part, chooser.base(part.base()), |_| ()));
    let ticks = read.ticks.into_iter().map(|part| {
        let extent = Some(Extent { times: part.times(), keys: part.keys() });
        Part::ticks(extent, move |sink| {
            for ticks in part.read().map_err(failed)? {
                sink(ticks.map_err(failed)?)?;
            }
            Ok(())
        })
    });
    states.chain(ticks).collect()
}

fn run(scan: &Scan, parts: Vec<Part>, threads: usize) -> ScanOutcome {
    let engines = (0..threads).map(|_| Box::new(CpuEngine) as Box<dyn Engine>).collect();
    let outcome = scan.run(parts, engines, OnFailure::Stop, &AtomicU64::new(0));
    outcome.unwrap_or_else(|error| panic!("{error}"))
}

/// Reads the folder in many ways and holds each against the oracle; how many states were read.
fn check(subject: &mut Subject, folder: &Path, how: &str) -> u64 {
    let all = subject.expected(Truth::Now);
    let of_ticks = run(&scan(subject), subject_parts(subject), 1).views.remove(0).results;
    let mut states_read = 0;
    for threads in [1, 3] {
        let scan = scan(subject);
        let (read, chooser) = planned(&scan, folder);
        let mut parts = parts(read, &chooser);
        subject.rng.shuffle(&mut parts);
        let outcome = run(&scan, parts, threads);
        let how = format!("{how}, {} states, {threads} threads", outcome.states_read);
        let of = &outcome.views[0];
        subject.check_rows(&how, &all, &of.results.rows());
        let (name, ticks) = (subject.case.name(), subject.case.ticks.len() as u64);
        assert_eq!(of.results.passed(), of_ticks.passed(), "{name}, {how}");
        assert_eq!(of.results.unrepresentable(), of_ticks.unrepresentable(), "{name}, {how}");
        if subject.case.view.filter.is_none() {
            assert_eq!(outcome.rows_read + outcome.rows_from_states, ticks, "{name}, {how}");
        }
        states_read += outcome.states_read;
    }
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return states_read };
    // Whole windows in a range of starts, and some keys.
    let starts = [first.start, last.start, all[all.len() / 2].start];
    let from = *subject.rng.pick(&starts);
    let to = subject.rng.chance(50).then(|| from.max(*subject.rng.pick(&starts)).saturating_add(1));
    let key = subject.rng.chance(50).then(|| all[subject.rng.index(all.len())].key.clone());
    let mut scan = scan(subject);
    (scan.from_ns, scan.to_ns) = (Some(from), to);
    scan.keys.extend(key.iter().map(|key| Key::from_components(key.iter())));
    let asked = |of: &&oracle::Window| {
        of.start >= from
            && to.is_none_or(|to| of.start < to)
            && key.as_ref().is_none_or(|key| of.key == *key)
    };
    let expected: Vec<_> = all.iter().filter(asked).cloned().collect();
    let (read, chooser) = planned(&scan, folder);
    let outcome = run(&scan, parts(read, &chooser), 2);
    let how = format!("{how}, {from}..{to:?}, {key:?}");
    subject.check_rows(&how, &expected, &outcome.views[0].results.rows());
    states_read
}

/// The case's ticks, never stored.
fn subject_parts(subject: &mut Subject) -> Vec<Part> {
    let rows = subject.rows();
    subject.cut(&rows, 3).into_iter().map(Part::of).collect()
}

#[test]
fn states_give_what_their_ticks_give() {
    let mut with_states = 0;
    for mut subject in subjects(SEEDS) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut store = Store::open(folder.path(), "tests").expect("the folder is ours");
        let bases = bases(&mut subject);
        let mut rows = subject.rows();
        subject.rng.shuffle(&mut rows);
        let late = rows.split_off(rows.len() - rows.len() / 3);
        add(&mut store, &mut subject, &rows);
        roll_up(&mut store, &mut subject, &bases, 60);
        // Ticks of the same windows come after their states were stored.
        add(&mut store, &mut subject, &late);
        let read = check(&mut subject, folder.path(), "late ticks");
        with_states += usize::from(read > 0);
        roll_up(&mut store, &mut subject, &bases, 60);
        check(&mut subject, folder.path(), "rolled up again");
        store.compact(&subject.product.schema, &mut |_| ()).expect("compacted");
        check(&mut subject, folder.path(), "compacted");
        roll_up(&mut store, &mut subject, &bases, 100);
        check(&mut subject, folder.path(), "all of it rolled up");
        let ids: Vec<_> = bases.iter().map(|base| base.id(&subject.product.schema.name)).collect();
        store.drop_rollups(&subject.product.schema.name, &ids).expect("dropped");
        assert_eq!(check(&mut subject, folder.path(), "dropped"), 0);
    }
    assert!(with_states > 12, "{with_states} cases had states to read");
}

/// What a fault has to work with.
struct Faulty<'a> {
    /// States of some files, and the ticks of the others.
    read: Parts,
    chooser: Chooser,
    /// What was read before the last ticks came.
    before: (Parts, Chooser),
    scan: &'a Scan,
}

/// Over some cases the sound reading agrees with the oracle, and the faulty one must differ in one
/// at least.
fn must_notice(fault: impl Fn(Faulty<'_>) -> Vec<Part>) {
    let mut noticed = 0;
    for seed in 0..3 {
        for shape in [Shape::Mixed, Shape::Ties] {
            let mut subject = Subject::new(shape, seed, 600);
            subject.case.aggregates =
                ["sum(price)", "first(price)", "last(size)"].map(str::to_owned).into();
            let outputs = [
                ("sum_price", Output::Sum(0)),
                ("first_price", Output::First(0)),
                ("last_size", Output::Last(1)),
            ];
            subject.case.view.outputs = outputs.map(|of| (of.0.to_owned(), of.1)).into();
            let case: &Case = &subject.case;
            subject.product = Product::of(case);
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut store = Store::open(folder.path(), "tests").expect("the folder is ours");
            let view = &subject.product.view;
            let base = rollups::stored_base(view, &subject.product.schema).expect("no quantiles");
            let rows = subject.rows();
            let (early, late) = rows.split_at(rows.len() * 2 / 3);
            add(&mut store, &mut subject, early);
            roll_up(&mut store, &mut subject, std::slice::from_ref(&base), 100);
            let scan = scan(&subject);
            let before = planned(&scan, folder.path());
            add(&mut store, &mut subject, late);
            check(&mut subject, folder.path(), "sound");
            let expected = subject.expected(Truth::Now);
            let (read, chooser) = planned(&scan, folder.path());
            let parts = fault(Faulty { read, chooser, before, scan: &scan });
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let rows = run(&scan, parts, 2).views[0].results.rows();
                subject.product.plain(&rows) == expected
            }));
            noticed += usize::from(matches!(outcome, Ok(false)));
        }
    }
    assert!(noticed > 0, "the fault went unnoticed in every case");
}

#[test]
fn stale_states_are_noticed() {
    // As if the states of before stood for what is there now.
    must_notice(|fault| parts(fault.before.0, &fault.before.1));
}

#[test]
fn ticks_beside_their_states_are_noticed() {
    must_notice(|fault| {
        let (mut read, _) = fault.before;
        let twice = std::mem::take(&mut read.states);
        let read = Parts { states: [twice, fault.read.states].concat(), ..fault.read };
        parts(read, &fault.chooser)
    });
}

#[test]
fn states_of_ticks_that_a_filter_leaves_out_are_noticed() {
    must_notice(|fault| {
        let states = fault.read.states.iter();
        let states = states.map(|part| {
            states_part(part, fault.chooser.base(part.base()), |states| {
                // One tick more in every window.
                let stride = states.words.len() / states.start.len();
                states.words.chunks_exact_mut(stride).for_each(|words| words[0] += 1);
                let sum = stride.min(3);
                let words = states.words.chunks_exact_mut(stride);
                words.for_each(|words| words[sum - 1] = words[sum - 1].wrapping_add(1));
            })
        });
        let states: Vec<_> = states.collect();
        let ticks = Parts { states: Vec::new(), ..fault.read };
        states.into_iter().chain(parts(ticks, &fault.chooser)).collect()
    });
}

#[test]
fn publishers_by_the_codes_of_another_table_are_noticed() {
    must_notice(|fault| {
        let states = fault.read.states.iter();
        let states = states.map(|part| {
            states_part(part, fault.chooser.base(part.base()), |states| {
                states.publishers.reverse();
            })
        });
        let states: Vec<_> = states.collect();
        let ticks = Parts { states: Vec::new(), ..fault.read };
        states.into_iter().chain(parts(ticks, &fault.chooser)).collect()
    });
}

#[test]
fn states_in_the_window_beside_theirs_are_noticed() {
    must_notice(|fault| {
        let width_ns = fault.scan.views[0].view.window.width_ns;
        let states = fault.read.states.iter();
        let states = states.map(|part| {
            states_part(part, fault.chooser.base(part.base()), move |states| {
                states.start.iter_mut().for_each(|start| *start = start.saturating_add(width_ns));
            })
        });
        let states: Vec<_> = states.collect();
        let ticks = Parts { states: Vec::new(), ..fault.read };
        states.into_iter().chain(parts(ticks, &fault.chooser)).collect()
    });
}
