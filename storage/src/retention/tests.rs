use std::path::Path;

use isotick_model::view::DefinitionHash;
use isotick_model::{LogPosition, StreamSchema, Ticks};

use super::*;
use crate::fixtures::{schema, ticks};
use crate::history::{ALL_TIME, Columns};
use crate::snapshot::Snapshot;

/// Ten ticks a day, a commit each, for so many days from the epoch on.
fn filled(schema: &StreamSchema, days: i64) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), "test").unwrap();
    for day in 0..days {
        let position = LogPosition(day.cast_unsigned());
        let some = Ticks {
            ts_event: (0..10).map(|n| day * DAY_NS + n * 1_000).collect(),
            seen: None,
            ..ticks(schema, "p", day.cast_unsigned() * 10, 10, 7)
        };
        let w = some.ts_event.last().copied();
        let mut commit = store.begin();
        commit.add_ticks(schema, &[some], position..position.next()).unwrap();
        commit.cover(position.next(), [("trades".to_owned(), w)]);
        commit.finish().unwrap();
    }
    (dir, store)
}

fn rows(path: &Path, schema: &StreamSchema) -> usize {
    let snapshot = Snapshot::open(path).unwrap();
    let parts = snapshot.ticks(schema, &Columns::default(), ALL_TIME).unwrap();
    let batches = parts.iter().flat_map(|part| part.read().unwrap());
    batches.map(|batch| batch.unwrap().len()).sum()
}

#[test]
fn days_go_by_age_and_the_newest_stays() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = filled(&schema, 5);
    let age = |age_ns| Retention { age_ns: Some(age_ns), bytes: None };
    assert_eq!(store.retain("trades", age(9 * DAY_NS)).unwrap(), Dropped::default());
    assert_eq!(store.retain("other", age(0)).unwrap(), Dropped::default());
    let version = store.manifest().version;
    // The watermark stands some microseconds into day 4.
    let dropped = store.retain("trades", age(2 * DAY_NS)).unwrap();
    assert_eq!((dropped.files, dropped.rows), (2, 20));
    assert_eq!(store.manifest().streams["trades"].dropped_before, Some(2 * DAY_NS));
    assert_eq!(rows(dir.path(), &schema), 30);
    assert_eq!(store.retain("trades", age(2 * DAY_NS)).unwrap(), Dropped::default());
    assert_eq!(store.manifest().version, version + 1, "nothing to do is no commit");
    assert_eq!(store.retain("trades", age(0)).unwrap().rows, 20);
    assert_eq!(rows(dir.path(), &schema), 10);
    drop(store);
    assert_eq!(Store::open(dir.path(), "test").unwrap().leftovers(), 0, "the files are gone");
}

#[test]
fn what_comes_late_for_dropped_days_can_be_merged() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = filled(&schema, 5);
    assert_eq!(store.drop_ticks("trades", 3 * DAY_NS).unwrap().rows, 30);
    for number in 0..2 {
        let late = Ticks {
            ts_event: (0..10).map(|n| DAY_NS + n).collect(),
            ..ticks(&schema, "late", number * 10, 10, 4)
        };
        let mut commit = store.begin();
        commit.add_imported(&schema, &[late]).unwrap();
        commit.finish().unwrap();
    }
    store.compact(&schema, &mut |_| ()).unwrap();
    assert_eq!(store.manifest().streams["trades"].files.len(), 3);
    assert_eq!(rows(dir.path(), &schema), 40);
    assert_eq!(store.drop_ticks("trades", 3 * DAY_NS).unwrap().rows, 20, "it can go again");
}

#[test]
fn days_go_by_size() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = filled(&schema, 5);
    let files = store.manifest().streams["trades"].files.clone();
    let newest: u64 = files[2..].iter().map(|file| file.file.bytes).sum();
    let size = |bytes| Retention { age_ns: None, bytes: Some(bytes) };
    assert_eq!(store.retain("trades", size(newest)).unwrap().rows, 20);
    assert_eq!(store.retain("trades", size(newest)).unwrap().rows, 0);
    assert_eq!(store.retain("trades", size(0)).unwrap().rows, 20, "the newest day stays");
    assert_eq!(rows(dir.path(), &schema), 10);
}

#[test]
fn replaced_files_stay_for_those_who_read() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = filled(&schema, 3);
    store.keep_replaced(std::time::Duration::from_secs(60));
    store.handle_time(1_000);
    let before = Snapshot::open(dir.path()).unwrap();
    assert_eq!(store.drop_ticks("trades", 2 * DAY_NS).unwrap().rows, 20);
    let read = |snapshot: &Snapshot| {
        let parts = snapshot.ticks(&schema, &Columns::default(), ALL_TIME).unwrap();
        let batches = parts.iter().flat_map(|part| part.read().unwrap());
        batches.map(|batch| batch.unwrap().len()).sum::<usize>()
    };
    assert_eq!((read(&before), rows(dir.path(), &schema)), (30, 10));
    store.handle_time(60_000_000_000 + 1_000);
    store.begin().finish().unwrap();
    let missing = before.ticks(&schema, &Columns::default(), ALL_TIME);
    assert!(missing.unwrap_err().to_string().contains("date=1970-01-01"));
}

#[test]
fn a_dropped_stream_takes_its_records_along_and_may_come_again() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = filled(&schema, 2);
    let definition = DefinitionHash("ab".repeat(32));
    let mut commit = store.begin();
    let results = isotick_model::results::ResultSchema {
        keys: vec!["symbol".to_owned()],
        columns: vec![("count".to_owned(), isotick_model::view::OutputType::Count)],
    };
    commit.add_windows("bars", &definition, &results, &[], None).unwrap();
    commit.finish().unwrap();
    assert_eq!(store.drop_stream("trades", &[&definition.0]).unwrap().rows, 20);
    let manifest = store.manifest().clone();
    assert!(manifest.streams.is_empty() && manifest.records.is_empty());
    assert_eq!(manifest.covered, 2, "the log goes on");
    assert_eq!(store.drop_stream("trades", &[]).unwrap(), Dropped::default());
    let mut commit = store.begin();
    commit.add_imported(&schema, &[ticks(&schema, "q", 0, 5, 2)]).unwrap();
    commit.finish().unwrap();
    assert_eq!(rows(dir.path(), &schema), 5);
    let open = Snapshot::open(dir.path()).unwrap();
    assert_eq!(open.manifest(), &**store.manifest());
}

#[test]
fn a_merge_of_what_is_dropped_meanwhile_is_void() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = filled(&schema, 2);
    let position = LogPosition(2);
    let more = Ticks {
        ts_event: (0..10).map(|n| n * 500).collect(),
        seen: None,
        ..ticks(&schema, "q", 0, 10, 7)
    };
    let mut commit = store.begin();
    commit.add_ticks(&schema, &[more], position..position.next()).unwrap();
    commit.cover(position.next(), []);
    commit.finish().unwrap();
    let merge = store.plan_merge(&schema, crate::Eagerness::Full, |_| true).unwrap();
    assert_eq!((merge.rows(), merge.folder()), (20, "stream=trades/date=1970-01-01"));
    let merged = merge.run(&mut |_| Ok(())).unwrap();
    assert_eq!(store.drop_ticks("trades", DAY_NS).unwrap().rows, 20);
    assert!(!store.commit_merged(merged).unwrap());
    assert_eq!(rows(dir.path(), &schema), 10);
    drop(store);
    assert_eq!(Store::open(dir.path(), "test").unwrap().leftovers(), 0, "nothing is left of it");
}
