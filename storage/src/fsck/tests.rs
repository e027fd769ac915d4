use std::fs;
use std::path::Path;

use isotick_model::{LogPosition, Ticks};

use super::*;
use crate::fixtures::{schema, ticks};
use crate::log::LogRecord;
use crate::store::Store;
use crate::{Checkpoint, Eagerness};

fn definitions() -> Definitions {
    Definitions { streams: vec![schema(&["symbol"])], views: Vec::new() }
}

/// Three commits of the log's ticks and an import, a checkpoint, and a tail of the log.
fn filled() -> (tempfile::TempDir, Store) {
    let schema = schema(&["symbol"]);
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), "test").unwrap();
    let (mut log, _) = store.open_log().unwrap();
    let mut records = Vec::new();
    for number in 0..4 {
        let ticks = Ticks { seen: None, ..ticks(&schema, "p", number * 100, 100, 8) };
        let stream = schema.name.clone();
        let record = LogRecord::Ticks { stream, ticks, rejected: Vec::new(), ts_recv_ns: 1 };
        log.append(&record).unwrap();
        records.push(record);
    }
    for (number, record) in records.iter().take(3).enumerate() {
        let LogRecord::Ticks { ticks, .. } = record else { unreachable!() };
        let from = LogPosition(number as u64);
        let mut commit = store.begin();
        commit.add_ticks(&schema, std::slice::from_ref(ticks), from..from.next()).unwrap();
        commit.cover(from.next(), []);
        if number == 1 {
            let payload = b"what the live path held".to_vec();
            commit.add_checkpoint(&Checkpoint { position: from.next(), payload }).unwrap();
        }
        commit.finish().unwrap();
    }
    let mut commit = store.begin();
    commit.add_imported(&schema, &[ticks(&schema, "q", 0, 50, 2)]).unwrap();
    commit.finish().unwrap();
    (dir, store)
}

fn report(dir: &Path) -> Report {
    fsck(&Snapshot::open(dir).unwrap(), &definitions(), &mut |_| ()).unwrap()
}

fn history(dir: &Path) -> Vec<PathBuf> {
    let snapshot = Snapshot::open(dir).unwrap();
    snapshot.manifest().files().map(|file| dir.join(&file.path)).collect()
}

#[test]
fn a_whole_folder_has_no_findings() {
    let (dir, mut store) = filled();
    let found = report(dir.path());
    assert_eq!(found.findings, []);
    assert_eq!((found.ticks, found.checkpoints, found.covered), (350, 1, LogPosition(3)));
    assert_eq!(found.log.unwrap().end, LogPosition(4));
    let files = found.history_files;
    store.compact(&schema(&["symbol"]), &mut |_| ()).unwrap();
    let found = report(dir.path());
    assert_eq!((found.findings, found.orphans), (vec![], vec![]));
    assert!(found.history_files < files);
    assert_eq!(found.ticks, 350);
}

#[test]
fn damage_is_found_wherever_it_is() {
    let (dir, store) = filled();
    drop(store);
    let checkpoint = fs::read_dir(dir.path().join("checkpoint")).unwrap();
    let checkpoint = checkpoint.map(|entry| entry.unwrap().path()).next().unwrap();
    let mut places = history(dir.path());
    places.push(checkpoint);
    for path in places {
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        let name = path.display().to_string();
        for content in [&bytes[..], &whole[..whole.len() - 1], b""] {
            fs::write(&path, content).unwrap();
            let found = report(dir.path()).findings;
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].place, name);
            assert!(!found[0].remedy.is_empty());
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(report(dir.path()).findings.len(), 1);
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(report(dir.path()).findings, []);
    fs::write(dir.path().join("stream=trades/date=1970-01-01/other.parquet"), "x").unwrap();
    assert_eq!(report(dir.path()).orphans, ["stream=trades/date=1970-01-01/other.parquet"]);
}

#[test]
fn what_a_manifest_says_wrongly_is_found() {
    let (dir, mut store) = filled();
    let schema = schema(&["symbol"]);
    // The same ticks once more, as if a flush had been repeated.
    let twice = Ticks { seen: None, ..ticks(&schema, "p", 0, 100, 8) };
    let mut commit = store.begin();
    commit.add_ticks(&schema, &[twice], LogPosition(3)..LogPosition(4)).unwrap();
    commit.cover(LogPosition(4), []);
    // And times and rows that are not the file's.
    let files = &mut commit.next.streams.get_mut("trades").unwrap().files;
    files[0].ts_min -= 1;
    commit.finish().unwrap();
    let found = report(dir.path()).findings;
    let said: Vec<_> = found.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("times are others"), "{said:?}");
    assert!(said[1].contains("100 of 450 ticks are there more than once"), "{said:?}");
}

#[test]
fn a_log_that_ends_or_begins_wrongly_is_found() {
    let (dir, store) = filled();
    drop(store);
    let log = dir.path().join("log");
    for path in fs::read_dir(&log).unwrap() {
        fs::remove_file(path.unwrap().path()).unwrap();
    }
    let found = report(dir.path()).findings;
    assert!(
        found.iter().any(|finding| finding.what.contains("it ends before record")),
        "{found:?}"
    );
}

#[test]
fn what_is_damaged_is_left_out_when_asked() {
    let (dir, mut store) = filled();
    let schema = schema(&["symbol"]);
    while let Some(merge) = store.plan_merge(&schema, Eagerness::Full, |_| true) {
        let merged = merge.run(&mut |_| Ok(())).unwrap();
        assert!(store.commit_merged(merged).unwrap());
    }
    drop(store);
    let path = history(dir.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[700] ^= 1;
    fs::write(&path, bytes).unwrap();
    let snapshot = Snapshot::open(dir.path()).unwrap();
    let rows: u64 = snapshot.manifest().files().map(|file| file.rows).sum();
    let (whole, damaged) = without_damaged(&snapshot, &schema, &mut |_| ()).unwrap();
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].0, path);
    let left: u64 = whole.manifest().files().map(|file| file.rows).sum();
    assert!(left > 0 && left < rows);
    let parts = whole.ticks(&schema, &Columns::all(&schema), ALL_TIME).unwrap();
    let read: usize =
        parts.iter().flat_map(|part| part.read().unwrap()).map(|ticks| ticks.unwrap().len()).sum();
    assert_eq!(read as u64, left);
}
