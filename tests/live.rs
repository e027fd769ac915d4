//! The live path record by record: what it publishes is what the log's ticks say, however the log
//! was cut into records.

use std::collections::BTreeMap;

use isotick_kernels::CpuEngine;
use isotick_model::results::WindowRow;
use isotick_model::ticks::ON_TIME;
use isotick_model::watermark::Watermark;
use isotick_model::{Key, PublisherId};
use isotick_scheduler::{LiveView, Published, Reason};

use crate::oracle::{self, Arrival, Event, Tick, Truth};
use crate::random::{Rng, Shape};
use crate::subject::Subject;

const SEEDS: u64 = 15;

/// A record of the log: one publisher's ticks by row, or a publisher that comes or goes.
enum Record {
    Ticks(String, Vec<usize>),
    Event(Event),
}

/// The case's log, its runs of ticks cut at drawn places into records of at most `len_max`.
fn records(subject: &Subject, len_max: usize, rng: &mut Rng) -> Vec<Record> {
    let ticks = subject.case.ticks.iter().enumerate();
    let mut live = ticks.filter(|(_, tick)| tick.arrival != Arrival::NeverSeen).map(|(row, _)| row);
    let mut records = Vec::new();
    for event in &subject.case.events {
        let Event::Tick(publisher, _) = event else {
            records.push(Record::Event(event.clone()));
            continue;
        };
        let row = live.next().expect("every tick of the log is a row");
        match records.last_mut() {
            Some(Record::Ticks(last, rows))
                if last == publisher && rows.len() < len_max && !rng.chance(10) =>
            {
                rows.push(row);
            }
            _ => records.push(Record::Ticks(publisher.clone(), vec![row])),
        }
    }
    records
}

/// Plays records into a live view; `after` sees what each one published.
fn play(
    subject: &mut Subject,
    records: &[Record],
    mut after: impl FnMut(&Subject, usize, Option<i64>, Vec<Published>),
) -> (LiveView, Option<i64>) {
    let id = |name: &str| PublisherId::new(name).expect("names in cases are short");
    let mut watermark = Watermark::default();
    let mut view = LiveView::new(subject.product.view.clone(), &subject.product.schema);
    for (index, record) in records.iter().enumerate() {
        match record {
            Record::Event(Event::Join(name)) => watermark.join(&id(name)),
            Record::Event(Event::Idle(name)) => watermark.idle(&id(name)),
            Record::Event(Event::Tick(..)) => unreachable!("ticks come in blocks"),
            Record::Ticks(name, rows) => {
                let mut ticks = subject.batch(rows);
                let mut seen = vec![ON_TIME; ticks.len()];
                watermark.observe(&id(name), &ticks.ts_event, |row, w| seen[row] = w);
                ticks.seen = Some(seen.into());
                view.handle_ticks(&ticks, &mut CpuEngine).expect("the engine reduces");
            }
        }
        view.handle_watermark(watermark.get());
        let published = std::iter::from_fn(|| view.poll_published()).flatten().collect();
        after(subject, index, watermark.get(), published);
    }
    (view, watermark.get())
}

/// How far W must be past a window's end to publish it under the case's policy.
fn patience(subject: &Subject) -> i128 {
    if subject.case.policy == "correct" { 0 } else { subject.case.view.allowed.into() }
}

#[test]
fn the_last_versions_are_what_could_be_known() {
    for mut subject in Subject::all(SEEDS) {
        let expected = subject.expected(Truth::Seen);
        for len_max in [1, 7, 100_000] {
            let mut rng = Rng::new(subject.case.seed);
            let records = records(&subject, len_max, &mut rng);
            let mut last: BTreeMap<(Key, i64), WindowRow> = BTreeMap::new();
            let (view, w) = play(&mut subject, &records, |subject, _, _, published| {
                for Published { row, reason } in published {
                    let before = last.insert((row.key.clone(), row.window_start), row.clone());
                    let version = before.map_or(0, |before| before.version) + 1;
                    assert_eq!(row.version, version, "{}: {row:?}", subject.case.name());
                    let once = subject.case.policy != "correct";
                    let reasons = if version == 1 { Reason::Closed } else { Reason::Late };
                    assert_eq!(reason, reasons, "{}: {row:?}", subject.case.name());
                    assert!(version == 1 || !once, "{}: published again", subject.case.name());
                }
            });
            let patience = patience(&subject);
            let closed = |window: &oracle::Window| {
                w.is_some_and(|w| i128::from(window.end) + patience <= i128::from(w))
            };
            let (finals, open): (Vec<_>, Vec<_>) = expected.iter().cloned().partition(closed);
            let how = format!("live, records of at most {len_max}");
            let rows: Vec<_> = last.into_values().collect();
            subject.check_rows(&how, &finals, &rows);
            let mut rows = view.open_rows();
            rows.sort_by(|a, b| (&a.key, a.window_start).cmp(&(&b.key, b.window_start)));
            subject.check_rows(&format!("{how}, open"), &open, &rows);
        }
    }
}

/// Each publication holds exactly what the log said up to then, and comes as soon as W allows.
#[test]
fn each_publication_is_the_log_so_far() {
    for (shape, seed) in Shape::ALL.into_iter().flat_map(|s| (0..4).map(move |seed| (s, seed))) {
        let mut subject = Subject::new(shape, seed, 100);
        let mut rng = Rng::new(seed);
        let records = records(&subject, 5, &mut rng);
        let patience = patience(&subject);
        let mut so_far: Vec<Tick> = Vec::new();
        let mut published_ever = 0;
        play(&mut subject, &records, |subject, index, w, published| {
            if let Record::Ticks(_, rows) = &records[index] {
                so_far.extend(rows.iter().map(|row| subject.case.ticks[*row].clone()));
            }
            let known = oracle::windows(&subject.case.view, &so_far, Truth::Seen);
            for Published { row, .. } in &published {
                let got = subject.product.plain(std::slice::from_ref(row));
                let same = |window: &&oracle::Window| {
                    (&window.key, window.start) == (&got[0].key, got[0].start)
                };
                let expected = known.iter().find(same).into_iter().cloned().collect::<Vec<_>>();
                let difference = oracle::differences(&subject.case.view, &expected, &got);
                let name = subject.case.name();
                assert_eq!(difference, None, "{name}, record {index}, version {}", row.version);
            }
            published_ever +=
                published.iter().filter(|published| published.row.version == 1).count();
            let is_due = |window: &&oracle::Window| {
                w.is_some_and(|w| i128::from(window.end) + patience <= i128::from(w))
            };
            let due = known.iter().filter(is_due).count();
            assert_eq!(published_ever, due, "{}, record {index}", subject.case.name());
        });
    }
}
