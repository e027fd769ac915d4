//! Through Parquet and back: what a data folder gives to a scan is what went into it, however it
//! was committed, in which order its parts are read and by how many threads.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use isotick_kernels::{CpuEngine, Engine};
use isotick_model::expr::Expr;
use isotick_model::{Key, LogPosition};
use isotick_scheduler::{Extent, OnFailure, Part, Scan, ScanError, ScanView, TickSink};
use isotick_storage::{ALL_TIME, Columns, Snapshot, Store};

use crate::oracle::{self, Arrival, Output, Truth};
use crate::product::cut;
use crate::subject::Subject;

const SEEDS: u64 = 4;

/// Writes a case's ticks into a data folder: live ones and imported ones, in several commits of
/// several pieces.
fn store(subject: &mut Subject, folder: &std::path::Path) {
    let mut store = Store::open(folder, "tests").expect("the folder is ours");
    let imported =
        |subject: &Subject, row: &usize| subject.case.ticks[*row].arrival == Arrival::NeverSeen;
    let (never_seen, live): (Vec<_>, Vec<_>) =
        subject.rows().into_iter().partition(|row| imported(subject, row));
    for (position, rows) in (0..).zip(cut(&live, 2, &mut subject.rng)) {
        let positions = LogPosition(position)..LogPosition(position + 1);
        let pieces = cut(&rows, 2, &mut subject.rng);
        let mut commit = store.begin();
        for piece in pieces {
            let batches = subject.cut(&piece, 3);
            commit
                .add_ticks(&subject.product.schema, &batches, positions.clone())
                .expect("the folder is writable");
        }
        commit.cover(positions.end, []);
        commit.finish().expect("the folder is writable");
    }
    if !never_seen.is_empty() {
        let batches = subject.cut(&never_seen, 4);
        let mut commit = store.begin();
        commit.add_imported(&subject.product.schema, &batches).expect("the folder is writable");
        commit.finish().expect("the folder is writable");
    }
}

/// The columns that a scan needs: no identity where nothing hangs on order, and no times where
/// only windows matter.
fn needed(subject: &Subject, truth: Truth) -> Columns {
    let order =
        |(_, output): &(String, Output)| matches!(output, Output::First(_) | Output::Last(_));
    let identity = subject.case.view.outputs.iter().any(order);
    let view = &subject.product.view;
    let timed = view.filter.as_ref().is_some_and(Expr::reads_time);
    let one_window = !identity && !timed && truth == Truth::Now;
    Columns {
        values: (0..subject.case.columns.len()).collect(),
        identity,
        seen: truth == Truth::Seen,
        one_window: one_window.then_some(view.window),
    }
}

/// The folder's parts as the scheduler takes them, in drawn order.
fn parts(subject: &mut Subject, folder: &std::path::Path, columns: &Columns) -> Vec<Part> {
    let snapshot = Snapshot::open(folder).expect("the folder is readable");
    let parts = snapshot.ticks(&subject.product.schema, columns, ALL_TIME);
    let mut files = HashMap::new();
    let mut parts: Vec<Part> = parts
        .expect("the files fit the schema")
        .into_iter()
        .map(|part| {
            let extent = Some(Extent { times: part.times(), keys: part.keys() });
            let next = files.len() as u32;
            let file = *files.entry(part.path().to_path_buf()).or_insert(next);
            let read = move |sink: &mut TickSink<'_>| {
                for ticks in part.read().map_err(|e| ScanError::Read(e.into()))? {
                    sink(ticks.map_err(|e| ScanError::Read(e.into()))?)?;
                }
                Ok(())
            };
            Part::ticks(extent, read).in_sequence(file)
        })
        .collect();
    subject.rng.shuffle(&mut parts);
    parts
}

#[test]
fn history_gives_back_what_went_in() {
    for mut subject in Subject::all(SEEDS) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        store(&mut subject, folder.path());
        for truth in [Truth::Now, Truth::Seen] {
            let expected = subject.expected(truth);
            let all = Columns::all(&subject.product.schema);
            for (columns, threads) in [(all, 1), (needed(&subject, truth), 3)] {
                let how = format!("{truth:?}, stored, {columns:?}, {threads} threads");
                let scan = Scan {
                    views: vec![ScanView {
                        view: subject.product.view.clone(),
                        truth: subject.product.truth(truth),
                    }],
                    schema: subject.product.schema.clone().into(),
                    from_ns: None,
                    to_ns: None,
                    keys: Vec::new(),
                };
                let parts = parts(&mut subject, folder.path(), &columns);
                let engines =
                    (0..threads).map(|_| Box::new(CpuEngine) as Box<dyn Engine>).collect();
                let rows = AtomicU64::new(0);
                let outcome = scan.run(parts, engines, OnFailure::Stop, &rows);
                let outcome = outcome.expect("the scan ends");
                subject.check_rows(&how, &expected, &outcome.views[0].results.rows());
            }
        }
    }
}

/// A scan of some keys gives their windows and no others.
#[test]
fn keys_are_selected_by_their_bytes() {
    for mut subject in Subject::all(SEEDS) {
        let all = subject.expected(Truth::Now);
        let Some(first) = all.first().map(|window| window.key.clone()) else { continue };
        let last = all.last().expect("there is a first").key.clone();
        let chosen = |window: &&oracle::Window| window.key == first || window.key == last;
        let expected: Vec<_> = all.iter().filter(chosen).cloned().collect();
        let rows = subject.rows();
        let batches = subject.cut(&rows, 5);
        let parts = batches.into_iter().map(Part::of).collect();
        let scan = Scan {
            views: vec![ScanView {
                view: subject.product.view.clone(),
                truth: subject.product.truth(Truth::Now),
            }],
            schema: subject.product.schema.clone().into(),
            from_ns: None,
            to_ns: None,
            keys: [&first, &last].map(|key| Key::from_components(key.iter())).to_vec(),
        };
        let outcome =
            scan.run(parts, vec![Box::new(CpuEngine)], OnFailure::Stop, &AtomicU64::new(0));
        let rows = outcome.expect("the scan ends").views[0].results.rows();
        subject.check_rows("two keys", &expected, &rows);
    }
}
