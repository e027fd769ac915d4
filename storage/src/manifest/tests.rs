use std::fs;
use std::path::{Path, PathBuf};

use isotick_model::results::{ResultSchema, Value, WindowRow};
use isotick_model::view::{DefinitionHash, OutputType};
use isotick_model::{Key, LogPosition, RejectReason};
use tempfile::TempDir;

use super::*;
use crate::fixtures::{publisher, schema, ticks};
use crate::history::{ALL_TIME, Columns};
use crate::log::LogRecord;
use crate::record::RecordedWindow;
use crate::snapshot::Snapshot;
use crate::store::Store;

fn definition() -> DefinitionHash {
    DefinitionHash("ab".repeat(32))
}

fn results() -> ResultSchema {
    ResultSchema {
        keys: vec!["symbol".to_owned()],
        columns: vec![("count".to_owned(), OutputType::Count)],
    }
}

fn window(start: i64, version: u32, count: i128) -> RecordedWindow {
    let row = WindowRow {
        key: Key::from_components(["A"]),
        window_start: start,
        window_end: start + 10,
        version,
        values: vec![Value::Integer(count)],
    };
    RecordedWindow { row, reason: "closed".into() }
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

fn rows_of(snapshot: &Snapshot) -> usize {
    let schema = schema(&["symbol"]);
    let parts = snapshot.ticks(&schema, &Columns::default(), ALL_TIME).unwrap();
    let batches = parts.iter().flat_map(|part| part.read().unwrap());
    batches.map(|batch| batch.unwrap().len()).sum()
}

/// Adds a commit's worth of files and hands the commit over unfinished.
fn fill<'a>(store: &'a mut Store, publisher_name: &str) -> crate::store::Commit<'a> {
    let schema = schema(&["symbol"]);
    let from = store.manifest().covered();
    let to = LogPosition(from.0 + 3);
    let version = store.manifest().version as u32 + 1;
    let mut commit = store.begin();
    commit.add_ticks(&schema, &[ticks(&schema, publisher_name, 0, 100, 1)], from..to).unwrap();
    commit.add_ticks(&schema, &[ticks(&schema, publisher_name, 100, 50, 2)], from..to).unwrap();
    commit.add_imported(&schema, &[ticks(&schema, "file", 0, 10, 3)]).unwrap();
    commit.add_windows("bars", &definition(), &results(), &[window(0, version, 7)], None).unwrap();
    commit.cover(to, [("trades".to_owned(), Some(to.0 as i64))]);
    commit
}

#[test]
fn a_commit_counts_whole_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path(), "test").unwrap();
    fill(&mut store, "a").finish().unwrap();
    let before = Snapshot::open(dir.path()).unwrap();
    let counted = files_below(dir.path());
    assert_eq!(rows_of(&before), 160);

    // The process ends at each step before the swap: files in place, manifest staged.
    let commit = fill(&mut store, "b");
    std::mem::forget(commit);
    drop(store);
    assert!(files_below(dir.path()).len() > counted.len());
    let reader = Snapshot::open(dir.path()).unwrap();
    assert_eq!(reader.manifest(), before.manifest());
    assert_eq!(rows_of(&reader), 160);
    let mut store = Store::open(dir.path(), "test").unwrap();
    assert_eq!(files_below(dir.path()), counted, "the next writer removes what does not count");

    let commit = fill(&mut store, "b");
    let staged = commit.stage_manifest().unwrap();
    assert!(dir.path().join("manifest.json.tmp").exists());
    std::mem::forget((commit, staged));
    drop(store);
    assert_eq!(Snapshot::open(dir.path()).unwrap().manifest(), before.manifest());
    let mut store = Store::open(dir.path(), "test").unwrap();
    assert_eq!(files_below(dir.path()), counted);

    // A commit given up removes its files at once.
    drop(fill(&mut store, "b"));
    assert_eq!(files_below(dir.path()), counted);

    fill(&mut store, "b").finish().unwrap();
    let after = Snapshot::open(dir.path()).unwrap();
    assert_eq!((rows_of(&before), rows_of(&after)), (160, 320));
    assert_eq!((after.covered(), after.watermark("trades")), (LogPosition(6), Some(6)));
    assert_eq!(after.record(&definition(), &results()).unwrap(), [window(0, 2, 7).row]);
    assert_eq!(after.record(&DefinitionHash("other".into()), &results()).unwrap(), []);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_last_commit() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path(), "test").unwrap();
    fill(&mut store, "a").finish().unwrap();
    let counted = files_below(dir.path());
    let before = store.manifest().clone();
    // Every write to this device fails as on a full disk.
    let full = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/dev/full", path).unwrap();
    };
    full("manifest.json.tmp");
    let error = fill(&mut store, "b").finish().unwrap_err();
    assert!(error.is_disk_full() && error.to_string().contains("manifest.json"), "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    assert_eq!(files_below(dir.path()), counted);

    full("stream=trades/date=1970-01-01/0000000002-0000.parquet.tmp");
    let schema = schema(&["symbol"]);
    let mut commit = store.begin();
    let positions = LogPosition(3)..LogPosition(4);
    let error =
        commit.add_ticks(&schema, &[ticks(&schema, "b", 0, 100, 1)], positions).unwrap_err();
    assert!(error.is_disk_full() && error.to_string().contains("0000000002-0000"), "{error}");
    drop(commit);
    assert_eq!(files_below(dir.path()), counted);
    assert_eq!(Snapshot::open(dir.path()).unwrap().manifest(), &*before);
    fill(&mut store, "b").finish().unwrap();
}

#[test]
fn imports_are_remembered() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path(), "test").unwrap();
    let imported = Imported::new(12, [(RejectReason::NullKey, 2), (RejectReason::Inexact, 0)]);
    let mut commit = store.begin();
    commit.mark_imported("trades", &publisher("file"), imported.clone());
    commit.finish().unwrap();
    drop(store);
    let store = Store::open(dir.path(), "test").unwrap();
    assert_eq!(store.manifest().imported("trades", "file"), Some(&imported));
    assert_eq!(store.manifest().imported("quotes", "file"), None);
    assert_eq!(imported.rejected, [("null_key".to_owned(), 2)].into());
}

#[test]
fn the_tail_is_what_the_files_do_not_cover() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path(), "test").unwrap();
    let (mut log, _) = store.open_log().unwrap();
    let schema = schema(&["symbol"]);
    for ordinal in 0..6 {
        let record = |stream: &str| LogRecord::Ticks {
            stream: stream.to_owned(),
            ticks: ticks(&schema, "a", ordinal * 10, 10, ordinal),
            rejected: Vec::new(),
            ts_recv_ns: 0,
        };
        log.append(&record(if ordinal == 4 { "quotes" } else { "trades" })).unwrap();
    }
    assert_eq!(Snapshot::open(dir.path()).unwrap().tail("trades").unwrap().len(), 5);
    fill(&mut store, "a").finish().unwrap();
    let snapshot = Snapshot::open(dir.path()).unwrap();
    let sequences = |stream| {
        let tail: Vec<_> = snapshot.tail(stream).unwrap();
        tail.iter().map(|ticks| ticks.sequence[0]).collect::<Vec<_>>()
    };
    assert_eq!((sequences("trades"), sequences("quotes")), (vec![30, 50], vec![40]));
    drop((log, store));
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    let store = Store::open(dir.path(), "test").unwrap();
    assert!(matches!(store.open_log(), Err(Error::LogGap { position: 3, .. })));
}

#[test]
fn damage_and_newer_formats_are_refused() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path(), "test").unwrap();
    fill(&mut store, "a").finish().unwrap();
    let path = dir.path().join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    let open = |text: &str| {
        fs::write(&path, text).unwrap();
        Snapshot::open(dir.path()).map(drop)
    };
    for damaged in
        [&text[..text.len() / 2], "", "{}", &text.replacen("\"rows\": ", "\"rows\": 1", 1)]
    {
        let error = open(damaged).unwrap_err();
        assert!(matches!(error, Error::Manifest { .. }), "{error}");
        assert!(error.to_string().contains("manifest.json is damaged"));
    }
    let newer = open("{\"format\": 2, \"what\": [\"ever\"]}").unwrap_err();
    assert!(matches!(newer, Error::Newer { found: 2, .. }), "{newer}");
    open(&text).unwrap();
}

#[test]
fn invariants_catch_what_must_not_be() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path(), "test").unwrap();
    let first = fill(&mut store, "a").finish().unwrap();
    let second = fill(&mut store, "b").finish().unwrap();
    assert_eq!(invariants::succeeds(&second, &first), Ok(()));
    let broken = |change: fn(&mut Manifest)| {
        let mut manifest = Manifest::clone(&second);
        change(&mut manifest);
        let holds = invariants::holds(&manifest);
        holds.and_then(|()| invariants::succeeds(&manifest, &first)).unwrap_err()
    };
    fn trades(manifest: &mut Manifest) -> &mut StreamFiles {
        manifest.streams.get_mut("trades").unwrap()
    }
    let reasons = [
        broken(|m| trades(m).files[0].file.rows = 0),
        broken(|m| trades(m).files[0].file.path = "../elsewhere".to_owned()),
        broken(|m| trades(m).files[0].ts_min = i64::MAX),
        broken(|m| {
            let first = trades(m).files[0].clone();
            trades(m).files.push(first);
        }),
        broken(|m| trades(m).files[0].origin = Origin::Log { from: 2, to: 9 }),
        broken(|m| trades(m).files.last_mut().unwrap().origin = Origin::Log { from: 1, to: 4 }),
        broken(|m| trades(m).watermark = None),
        broken(|m| drop(trades(m).files.remove(0))),
        broken(|m| m.version = 7),
    ];
    let empty = |version, covered| Manifest { version, covered, ..Manifest::default() };
    assert!(invariants::succeeds(&empty(2, 4), &empty(1, 5)).is_err());
    for (index, reason) in reasons.iter().enumerate() {
        assert!(!reasons[..index].contains(reason), "each is caught for its own reason: {reason}");
    }
}
