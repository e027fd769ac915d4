use std::fs;
use std::path::{Path, PathBuf};

use isotick_model::{Column, KeySelection, LogPosition, Scale, StreamSchema, Ticks, ValueColumn};
use tempfile::TempDir;

use crate::compaction::Eagerness;
use crate::error::Error;
use crate::fixtures::{Random, Row, rows, schema, ticks};
use crate::history::{ALL_TIME, Columns};
use crate::manifest::Origin;
use crate::snapshot::Snapshot;
use crate::store::Store;

/// Commits pieces of the live path one by one, and every third as an import.
fn filled(schema: &StreamSchema, pieces: &[Ticks]) -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path(), "test").unwrap();
    for (number, piece) in pieces.iter().enumerate() {
        let from = store.manifest().covered();
        let to = LogPosition(from.0 + 1);
        let mut commit = store.begin();
        match number % 3 {
            2 => commit.add_imported(schema, std::slice::from_ref(piece)).unwrap(),
            _ => {
                commit.add_ticks(schema, std::slice::from_ref(piece), from..to).unwrap();
                commit.cover(to, []);
            }
        }
        commit.finish().unwrap();
    }
    (dir, store)
}

/// Pieces of publishers that overlap in time and keys, with and without late rows and nulls.
fn pieces(schema: &StreamSchema, count: u64, rows: u64) -> Vec<Ticks> {
    let name = |piece| ["b", "a", "a\u{e9}"][piece as usize % 3];
    (0..count).map(|piece| ticks(schema, name(piece), piece * rows, rows, piece)).collect()
}

fn compact(store: &mut Store, schema: &StreamSchema) -> u64 {
    let (expected, mut told) = (store.uncompacted_rows(&schema.name), 0);
    store.compact(schema, &mut |rows| told += rows).unwrap();
    assert_eq!(told, expected);
    assert_eq!(store.uncompacted_rows(&schema.name), 0);
    told
}

/// The rows of a snapshot, file by file in the manifest's order.
fn read(snapshot: &Snapshot, schema: &StreamSchema) -> Vec<Row> {
    let parts = snapshot.ticks(schema, &Columns::all(schema), ALL_TIME).unwrap();
    let batches = parts.iter().flat_map(|part| part.read().unwrap());
    batches.flat_map(|batch| rows(&batch.unwrap())).collect()
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

fn parquet_files(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(parquet_files(&path)),
            false if path.to_str().unwrap().contains(".parquet") => files.push(path),
            false => {}
        }
    }
    files.sort();
    files
}

#[test]
fn merged_history_holds_the_same_rows_in_one_order_per_date() {
    for keys in [&[][..], &["symbol"], &["venue", "symbol"]] {
        let schema = schema(keys);
        let (dir, mut store) = filled(&schema, &pieces(&schema, 7, 500));
        let before = read(&store.snapshot(), &schema);
        assert_eq!(parquet_files(dir.path()).len(), 14);
        assert_eq!(compact(&mut store, &schema), 3_500);
        let after = read(&store.snapshot(), &schema);
        assert_eq!(sorted(after.clone()), sorted(before));
        let files: Vec<_> =
            store.manifest().files().map(|file| dir.path().join(&file.path)).collect();
        assert_eq!(parquet_files(dir.path()), files, "one of each date, and nothing else");
        assert_eq!(files.len(), 2);
        let mut first = 0;
        for file in &store.manifest().streams["trades"].files {
            let of_file = &after[first..first + file.file.rows as usize];
            assert!(of_file.is_sorted(), "{}", file.file.path);
            let times = of_file.iter().map(|row| row.1);
            assert_eq!(
                (file.ts_min, file.ts_max),
                (times.clone().min().unwrap(), times.max().unwrap())
            );
            assert!(matches!(file.origin, Origin::Compacted { .. }));
            first += of_file.len();
        }

        // Again there is nothing to do, and what comes later is merged in.
        let manifest = store.manifest().clone();
        assert_eq!(compact(&mut store, &schema), 0);
        assert_eq!(*store.manifest(), manifest);
        let later = ticks(&schema, "c", 0, 300, 1);
        let from = store.manifest().covered();
        let mut commit = store.begin();
        commit.add_ticks(&schema, std::slice::from_ref(&later), from..from.next()).unwrap();
        commit.cover(from.next(), []);
        commit.finish().unwrap();
        assert_eq!(compact(&mut store, &schema), 3_800);
        let all = after.into_iter().chain(rows(&later)).collect();
        assert_eq!(sorted(read(&store.snapshot(), &schema)), sorted(all));
    }
}

#[test]
fn more_runs_than_are_merged_at_once_become_one() {
    let schema = schema(&["symbol"]);
    let (_dir, mut store) = filled(&schema, &pieces(&schema, 70, 20));
    let before = sorted(read(&store.snapshot(), &schema));
    assert!(compact(&mut store, &schema) > 1_400, "some rows are merged twice");
    assert_eq!(store.manifest().files().count(), 2);
    assert_eq!(sorted(read(&store.snapshot(), &schema)), before);
}

#[test]
fn rows_that_interleave_and_rows_that_do_not_are_merged_alike() {
    // Runs of one key that alternate row by row, in blocks, and not at all; equal times too.
    let schema = schema(&["symbol"]);
    let mut random = Random(9);
    for block in [1, 3, 40, 1_000] {
        let piece = |piece: i64| {
            let mut piece_ticks = ticks(&schema, ["p", "q"][piece as usize % 2], 0, 1_000, 2);
            let time = |row: i64| {
                (row / block * 5 + piece) * block + row % block + (random.below(2) as i64)
            };
            let mut times: Vec<i64> = (0..1_000).map(time).collect();
            times.sort_unstable();
            piece_ticks.ts_event = times.into();
            piece_ticks.sequence = (0..1_000).map(|row| row + 1_000 * piece as u64).collect();
            piece_ticks.key = vec![3; 1_000].into();
            piece_ticks
        };
        let pieces: Vec<_> = (0..5).map(piece).collect();
        let (_dir, mut store) = filled(&schema, &pieces);
        let before = sorted(read(&store.snapshot(), &schema));
        compact(&mut store, &schema);
        assert_eq!(read(&store.snapshot(), &schema), before, "blocks of {block}");
    }
}

#[test]
fn columns_declared_later_are_null_in_what_was_older() {
    let old = schema(&["symbol"]);
    let mut new = old.clone();
    new.columns.push(Column {
        name: "flags".to_owned(),
        scale: Scale::new(0).unwrap(),
        min: -5,
        max: 5,
        optional: true,
    });
    let (_dir, mut store) = filled(&old, &pieces(&old, 2, 100));
    let mut third = ticks(&new, "c", 0, 50, 5);
    third.values.truncate(2);
    third.values.push(ValueColumn { values: vec![5; 50].into(), nulls: None });
    let from = store.manifest().covered();
    let mut commit = store.begin();
    commit.add_ticks(&new, std::slice::from_ref(&third), from..from.next()).unwrap();
    commit.cover(from.next(), []);
    commit.finish().unwrap();
    let before = sorted(read(&store.snapshot(), &new));
    compact(&mut store, &new);
    let after = sorted(read(&store.snapshot(), &new));
    assert_eq!(after, before);
    assert_eq!(after.iter().filter(|row| row.4[2].is_none()).count(), 200);
}

#[test]
fn a_compaction_that_ends_anywhere_leaves_the_old_or_the_new_files() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = filled(&schema, &pieces(&schema, 4, 200));
    let old = store.manifest().clone();
    let (old_files, rows) = (parquet_files(dir.path()), sorted(read(&store.snapshot(), &schema)));
    let copies: Vec<_> = old_files.iter().map(|path| fs::read(path).unwrap()).collect();

    // The process ends with all files in place and the manifest staged.
    let merge = store.plan_merge(&schema, Eagerness::Full, |_| true).unwrap();
    let merged = merge.run(&mut |_| Ok(())).unwrap();
    let mut commit = store.begin();
    commit.take_merged(&merged);
    merged.abandon();
    let staged = commit.stage_manifest().unwrap();
    std::mem::forget((commit, staged));
    drop(store);
    assert_eq!(parquet_files(dir.path()).len(), old_files.len() + 1);
    let reader = Snapshot::open(dir.path()).unwrap();
    assert_eq!(reader.manifest(), &*old);
    assert_eq!(sorted(read(&reader, &schema)), rows);
    let mut store = Store::open(dir.path(), "test").unwrap();
    assert_eq!(store.leftovers(), 2, "the merged file and the manifest");
    assert_eq!(parquet_files(dir.path()), old_files);

    // It ends after the swap, with the old files still there.
    compact(&mut store, &schema);
    let (new, new_files) = (store.manifest().clone(), parquet_files(dir.path()));
    drop(store);
    for (path, copy) in old_files.iter().zip(&copies) {
        fs::write(path, copy).unwrap();
    }
    let reader = Snapshot::open(dir.path()).unwrap();
    assert_eq!(reader.manifest(), &*new);
    assert_eq!(sorted(read(&reader, &schema)), rows);
    let store = Store::open(dir.path(), "test").unwrap();
    assert_eq!(store.leftovers(), old_files.len() as u64);
    assert_eq!(parquet_files(dir.path()), new_files);
    assert_eq!(sorted(read(&store.snapshot(), &schema)), rows);
}

#[test]
fn readers_go_on_while_files_are_replaced() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = filled(&schema, &pieces(&schema, 4, 200));
    let before = Snapshot::open(dir.path()).unwrap();
    let rows_before = sorted(read(&before, &schema));
    let parts = before.ticks(&schema, &Columns::all(&schema), ALL_TIME).unwrap();
    compact(&mut store, &schema);
    // What was planned before is read from the old files, what is planned now from the new ones.
    let batches = parts.iter().flat_map(|part| part.read().unwrap());
    assert_eq!(sorted(batches.flat_map(|batch| rows(&batch.unwrap())).collect()), rows_before);
    assert_eq!(sorted(read(&before, &schema)), rows_before);

    // More ticks are another content: a reader of the old one is told.
    let later = ticks(&schema, "c", 0, 30, 1);
    let mut commit = store.begin();
    commit.add_imported(&schema, std::slice::from_ref(&later)).unwrap();
    commit.finish().unwrap();
    compact(&mut store, &schema);
    let error = before.ticks(&schema, &Columns::all(&schema), ALL_TIME).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn a_damaged_file_is_not_merged() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = filled(&schema, &pieces(&schema, 3, 200));
    let (manifest, files) = (store.manifest().clone(), parquet_files(dir.path()));
    let mut bytes = fs::read(&files[1]).unwrap();
    bytes[600] ^= 1;
    fs::write(&files[1], &bytes).unwrap();
    let error = store.compact(&schema, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(files[1].to_str().unwrap()), "{error}");
    assert_eq!((store.manifest(), parquet_files(dir.path())), (&manifest, files));
}

#[test]
fn some_keys_are_read_from_merged_files() {
    let schema = schema(&["symbol"]);
    let (_dir, mut store) = filled(&schema, &pieces(&schema, 4, 60_000));
    let all = read(&store.snapshot(), &schema);
    compact(&mut store, &schema);
    for key in all.iter().map(|row| &row.0).collect::<std::collections::BTreeSet<_>>() {
        let keys = KeySelection::new(1, std::slice::from_ref(key), None);
        let columns = Columns::all(&schema);
        let parts = store.snapshot().ticks_of(&schema, &columns, ALL_TIME, &keys).unwrap();
        let batches = parts.iter().flat_map(|part| part.read().unwrap());
        let found: Vec<Row> = batches.flat_map(|batch| rows(&batch.unwrap())).collect();
        let expected = all.iter().filter(|row| row.0 == *key).cloned().collect();
        assert_eq!(sorted(found), sorted(expected), "no row of another key, none missing");
    }
}
