use std::fs;

use arrow_buffer::NullBuffer;
use isotick_model::ticks::{NEVER_SEEN, ON_TIME};
use isotick_model::{
    Codec, Column, Key, KeySelection, LogPosition, Scale, StreamSchema, Ticks, ValueColumn,
};
use tempfile::TempDir;

use super::{ALL_TIME, Columns};
use crate::error::Error;
use crate::fixtures::{Row, publisher, rows, schema, ticks};
use crate::parquet_file::forget_footers;
use crate::snapshot::Snapshot;
use crate::store::Store;

const DAY_NS: i64 = 86_400_000_000_000;

fn store() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path(), "test").unwrap();
    (dir, store)
}

fn commit(store: &mut Store, schema: &StreamSchema, batches: &[Ticks]) {
    let from = store.manifest().covered();
    let to = from.next();
    let mut commit = store.begin();
    commit.add_ticks(schema, batches, from..to).unwrap();
    commit.cover(to, []);
    commit.finish().unwrap();
}

fn read(
    snapshot: &Snapshot,
    schema: &StreamSchema,
    columns: &Columns,
    range: std::ops::RangeInclusive<i64>,
) -> Vec<Row> {
    let mut all = Vec::new();
    for part in snapshot.ticks(schema, columns, range).unwrap() {
        let mut of_part = Vec::new();
        for batch in part.read().unwrap() {
            let batch = batch.unwrap();
            assert!(!batch.is_empty());
            assert_eq!(batch.values.len(), schema.columns.len());
            of_part.extend(rows(&batch));
        }
        assert!(of_part.len() <= part.rows());
        assert!(of_part.is_sorted_by_key(|row| (row.0.clone(), row.1, row.2.clone(), row.3)));
        all.extend(of_part);
    }
    all
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

#[test]
fn ticks_come_back_with_every_kind_of_key() {
    for (keys, codec) in [
        (&[][..], Codec::None),
        (&["symbol"], Codec::None),
        (&["symbol"], Codec::Zstd),
        (&["venue", "symbol"], Codec::Zstd),
    ] {
        let schema = StreamSchema { codec, ..schema(keys) };
        let batches: Vec<Ticks> = [("b", 0, 1), ("a", 7, 2), ("a\u{e9}", 0, 3), ("c", 50, 0)]
            .map(|(name, first, seed)| ticks(&schema, name, first, 300, seed))
            .into();
        let (_dir, mut store) = store();
        commit(&mut store, &schema, &batches[..3]);
        commit(&mut store, &schema, &batches[3..]);
        let found = read(&store.snapshot(), &schema, &Columns::all(&schema), ALL_TIME);
        assert_eq!(sorted(found), sorted(batches.iter().flat_map(rows).collect()));
        let dates: Vec<_> =
            store.manifest().files().map(|file| file.path.split('/').nth(1).unwrap()).collect();
        assert_eq!(dates, ["date=1969-12-31", "date=1970-01-01"].repeat(2));
    }
}

#[test]
fn extremes_come_back_in_one_mixed_file() {
    let mut schema = schema(&["symbol"]);
    for column in &mut schema.columns {
        (column.min, column.max) = (i64::MIN, i64::MAX);
    }
    let ts: Vec<i64> =
        [i64::MIN, i64::MAX, 0, -1, 1].into_iter().chain((0..40).map(|day| day * DAY_NS)).collect();
    let rows_count = ts.len();
    let edge = |row: usize| [i64::MIN, i64::MAX, 0, -1][row % 4];
    let values: Vec<i64> = (0..rows_count).map(edge).collect();
    let valid: Vec<bool> = (0..rows_count).map(|row| row % 5 != 0).collect();
    let sizes = (0..rows_count).map(|row| if valid[row] { edge(row + 1) } else { 0 });
    let batch = Ticks {
        ts_event: ts.into(),
        sequence: (0..rows_count as u64).map(|row| u64::MAX - row).collect(),
        publishers: vec![publisher("z"), publisher("a")],
        publisher: (0..rows_count as u32).map(|row| row % 2).collect(),
        keys: ["", "a\0b", "\u{1F600}"].map(|text| Key::from_components([text])).into(),
        key: (0..rows_count as u32).map(|row| row % 3).collect(),
        values: vec![
            ValueColumn { values: values.into(), nulls: None },
            ValueColumn { values: sizes.collect(), nulls: Some(NullBuffer::from(valid)) },
        ],
        seen: Some(
            (0..rows_count).map(|row| [ON_TIME, NEVER_SEEN, 0, i64::MIN + 1][row % 4]).collect(),
        ),
    };
    let (_dir, mut store) = store();
    commit(&mut store, &schema, std::slice::from_ref(&batch));
    let path = &store.manifest().files().next().unwrap().path;
    assert!(path.starts_with("stream=trades/date=mixed/"), "{path}");
    let found = read(&store.snapshot(), &schema, &Columns::all(&schema), ALL_TIME);
    assert_eq!(sorted(found), sorted(rows(&batch)));
}

#[test]
fn rows_of_other_keys_may_be_left_out() {
    let schema = schema(&["symbol"]);
    // Sorted by key, one part of it has the key and most have not.
    let batches: Vec<Ticks> =
        (0..8).map(|seed| ticks(&schema, "p", 40_000 * seed, 40_000, seed)).collect();
    let (_dir, mut store) = store();
    commit(&mut store, &schema, &batches);
    let all: Vec<Row> = batches.iter().flat_map(rows).collect();
    let key = all[7].0.clone();
    let of_key = |rows: Vec<Row>| sorted(rows.into_iter().filter(|row| row.0 == key).collect());
    let keys = KeySelection::new(1, std::slice::from_ref(&key), None);
    let parts =
        store.snapshot().ticks_of(&schema, &Columns::all(&schema), ALL_TIME, &keys).unwrap();
    let batches = parts.iter().flat_map(|part| part.read().unwrap());
    let found: Vec<Row> = batches.flat_map(|batch| rows(&batch.unwrap())).collect();
    assert!(found.len() < all.len(), "something was left out");
    assert_eq!(of_key(found), of_key(all));
    let none = KeySelection::new(1, &[Key::from_components(["~"])], None);
    let parts = store.snapshot().ticks_of(&schema, &Columns::all(&schema), ALL_TIME, &none);
    assert!(parts.unwrap().is_empty(), "no row group can have the key");
}

#[test]
fn columns_are_read_as_asked() {
    let schema = schema(&["symbol"]);
    let batch = ticks(&schema, "p", 0, 200, 1);
    let (_dir, mut store) = store();
    commit(&mut store, &schema, std::slice::from_ref(&batch));
    let columns = Columns { values: vec![1], ..Columns::default() };
    let snapshot = store.snapshot();
    let mut found = Vec::new();
    for part in snapshot.ticks(&schema, &columns, ALL_TIME).unwrap() {
        for batch in part.read().unwrap().map(Result::unwrap) {
            assert!(batch.values[0].values.is_empty());
            assert!(batch.seen.is_none() && batch.publisher.is_empty());
            assert!(batch.sequence.iter().all(|&sequence| sequence == 0));
            let row =
                |row| (batch.key_of(row).clone(), batch.ts_event[row], batch.values[1].get(row));
            found.extend((0..batch.len()).map(row));
        }
    }
    found.sort();
    let mut expected: Vec<_> = (0..batch.len())
        .map(|row| (batch.key_of(row).clone(), batch.ts_event[row], batch.values[1].get(row)))
        .collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn time_ranges_prune_files_and_cut_exactly() {
    let schema = schema(&["symbol"]);
    let batch = ticks(&schema, "p", 0, 2_000, 4);
    let (_dir, mut store) = store();
    commit(&mut store, &schema, std::slice::from_ref(&batch));
    let snapshot = store.snapshot();
    let columns = Columns::all(&schema);
    assert_eq!(snapshot.ticks(&schema, &columns, ALL_TIME).unwrap().len(), 2);
    assert_eq!(snapshot.ticks(&schema, &columns, 0..=i64::MAX).unwrap().len(), 1);
    assert_eq!(snapshot.ticks(&schema, &columns, DAY_NS..=i64::MAX).unwrap().len(), 0);
    let times = &batch.ts_event;
    for range in [-1_000_000_000_000..=2_000_000_000_000, times[3]..=times[3], times[5]..=i64::MAX]
    {
        let found = read(&snapshot, &schema, &columns, range.clone());
        let expected = rows(&batch).into_iter().filter(|row| range.contains(&row.1)).collect();
        assert_eq!(sorted(found), sorted(expected));
    }
}

#[test]
fn large_files_split_into_row_groups_and_batches() {
    let schema = schema(&["symbol"]);
    let rows_count = (1_u64 << 20) + 100_000;
    let mut batch = ticks(&schema, "p", 0, 1, 2);
    let valid: Vec<bool> = (0..rows_count).map(|row| row % 3 > 0).collect();
    batch.ts_event = (0..rows_count.cast_signed()).map(|row| row * 1_000).collect();
    batch.sequence = (0..rows_count).collect();
    batch.keys = (0..3_000).map(|key| Key::from_components([format!("{key:04}")])).collect();
    batch.key = (0..rows_count).map(|row| (row * 7_919 % 3_000) as u32).collect();
    batch.values = vec![
        ValueColumn { values: (0..rows_count.cast_signed()).collect(), nulls: None },
        ValueColumn {
            values: (0..rows_count.cast_signed())
                .map(|row| if row % 3 > 0 { -row } else { 0 })
                .collect(),
            nulls: Some(NullBuffer::from(valid)),
        },
    ];
    let (_dir, mut store) = store();
    commit(&mut store, &schema, std::slice::from_ref(&batch));
    let parts = store.snapshot().ticks(&schema, &Columns::all(&schema), ALL_TIME).unwrap();
    assert_eq!(parts.len(), 9);
    let count = |part: &super::Part| {
        let (mut rows_found, mut sum) = (0, 0);
        for batch in part.read().unwrap().map(Result::unwrap) {
            for row in 0..batch.len() {
                let ordinal = batch.sequence[row];
                let key = format!("{:04}", ordinal * 7_919 % 3_000);
                assert_eq!(batch.key_of(row).components(), [key]);
                assert_eq!(batch.ts_event[row], ordinal.cast_signed() * 1_000);
                let size = (ordinal % 3 > 0).then_some(-ordinal.cast_signed());
                assert_eq!(batch.values[1].get(row), size);
                sum += ordinal;
            }
            rows_found += batch.len() as u64;
        }
        (rows_found, sum)
    };
    let counts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = parts.iter().map(|part| scope.spawn(|| count(part))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(counts.iter().map(|(found, _)| found).sum::<u64>(), rows_count);
    let sum = rows_count * (rows_count - 1) / 2;
    assert_eq!(counts.iter().map(|(_, sum)| sum).sum::<u64>(), sum);
}

#[test]
fn the_order_of_rows_stands_for_publishers_and_sequences() {
    let schema = schema(&["symbol"]);
    let batches = [("b", 0, 1), ("a", 7, 2)]
        .map(|(name, first, seed)| ticks(&schema, name, first, 150_000, seed));
    let (_dir, mut store) = store();
    commit(&mut store, &schema, &batches);
    let parts = store.snapshot().ticks(&schema, &Columns::all(&schema), ALL_TIME).unwrap();
    assert!(parts.iter().any(|part| part.row_group() > 0));
    let (mut names, mut rows_found, mut batches_found) = (Vec::new(), 0, 0);
    for part in parts {
        let by_order = part.clone().by_order();
        assert_eq!(by_order.name(), None, "nobody else is given these");
        assert!(by_order.bytes() < part.bytes());
        let mut whole = part.read().unwrap();
        for batch in by_order.read().unwrap() {
            let (batch, whole) = (batch.unwrap(), whole.next().unwrap().unwrap());
            let named = rows(&whole).into_iter();
            let unnamed =
                named.map(|row| (row.0, row.1, batch.publishers[0].clone(), 0, row.4, row.5));
            assert_eq!(rows(&batch), unnamed.collect::<Vec<Row>>());
            let [name] = batch.publishers.as_slice() else { panic!("{:?}", batch.publishers) };
            names.push((part.path().to_path_buf(), name.clone()));
            rows_found += batch.len();
            batches_found += 1;
        }
        assert!(whole.next().is_none());
    }
    assert_eq!(rows_found, 300_000);
    assert!(names.is_sorted(), "batches of a file come in its order");
    names.dedup();
    assert_eq!(names.len(), batches_found, "each has a name of its own");
}

#[test]
fn columns_declared_later_are_null_in_older_files_and_batches() {
    let old = schema(&["symbol"]);
    let mut new = old.clone();
    new.columns.push(Column {
        name: "seen".to_owned(),
        scale: Scale::new(2).unwrap(),
        min: -5,
        max: 5,
        optional: true,
    });
    let (_dir, mut store) = store();
    let first = ticks(&old, "a", 0, 50, 1);
    let second = ticks(&old, "a", 50, 50, 2);
    let mut third = ticks(&old, "a", 100, 50, 3);
    third.values.push(ValueColumn { values: vec![5; 50].into(), nulls: None });
    commit(&mut store, &old, std::slice::from_ref(&first));
    commit(&mut store, &new, &[second.clone(), third.clone()]);
    let found = read(&store.snapshot(), &new, &Columns::all(&new), ALL_TIME);
    let with_null = |mut row: Row| {
        row.4.push(None);
        row
    };
    let mut expected: Vec<_> =
        rows(&first).into_iter().chain(rows(&second)).map(with_null).collect();
    expected.extend(rows(&third));
    assert_eq!(sorted(found), sorted(expected));
}

#[test]
fn files_that_do_not_fit_the_schema_are_refused() {
    let schema = schema(&["symbol"]);
    let (_dir, mut store) = store();
    commit(&mut store, &schema, &[ticks(&schema, "a", 0, 50, 1)]);
    let refused = |change: fn(&mut StreamSchema)| {
        let mut other = schema.clone();
        change(&mut other);
        let error = store.snapshot().ticks(&other, &Columns::all(&other), ALL_TIME).unwrap_err();
        assert!(matches!(error, Error::Column { .. }), "{error}");
        error.to_string()
    };
    let scale = refused(|schema| schema.columns[0].scale = Scale::new(2).unwrap());
    assert!(scale.contains("column price: the file has scale 4, the stream 2"), "{scale}");
    refused(|schema| schema.keys = vec!["venue".to_owned()]);
    refused(|schema| schema.time = "time".to_owned());
    refused(|schema| schema.columns[1].optional = false);
    refused(|schema| schema.columns[0].name = "bid".to_owned());
}

#[test]
fn every_damaged_byte_that_is_read_is_noticed() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = store();
    let batch = ticks(&schema, "a", 0, 60, 1);
    commit(&mut store, &schema, std::slice::from_ref(&batch));
    let path = dir.path().join(&store.manifest().files().next().unwrap().path);
    let bytes = fs::read(&path).unwrap();
    let whole = read(&store.snapshot(), &schema, &Columns::all(&schema), ALL_TIME);
    let attempt = || -> crate::Result<Vec<Row>> {
        let mut all = Vec::new();
        for part in store.snapshot().ticks(&schema, &Columns::all(&schema), ALL_TIME)? {
            for batch in part.read()? {
                all.extend(rows(&batch?));
            }
        }
        Ok(all)
    };
    let unread = |is_kept: bool| {
        let mut unread = 0;
        for at in 0..bytes.len() {
            if !is_kept {
                forget_footers();
            }
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x04;
            fs::write(&path, damaged).unwrap();
            match attempt() {
                Ok(found) => {
                    unread += 1;
                    assert_eq!(found, whole, "byte {at}");
                }
                Err(error) => {
                    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
                }
            }
        }
        unread
    };
    // The footer was read when the file was whole, and is not read again.
    let with_footer = unread(true);
    // The leading magic and the page index are not read.
    let without = unread(false);
    assert!(without < bytes.len() / 3, "{without} of {}", bytes.len());
    assert!(without < with_footer, "{without} against {with_footer}");
    for len in [0, 7, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        let error = attempt().unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("damaged"), "{error}");
    }
    fs::remove_file(&path).unwrap();
    assert!(attempt().unwrap_err().to_string().contains(path.to_str().unwrap()));
}

#[test]
fn imported_ticks_are_never_seen() {
    let schema = schema(&["symbol"]);
    let (_dir, mut store) = store();
    let batch = ticks(&schema, "file", 0, 80, 1);
    let mut commit = store.begin();
    commit.add_imported(&schema, std::slice::from_ref(&batch)).unwrap();
    commit.finish().unwrap();
    let found = read(&store.snapshot(), &schema, &Columns::all(&schema), ALL_TIME);
    assert!(found.iter().all(|row| row.5 == NEVER_SEEN));
    assert_eq!(found.len(), 80);
    assert_eq!(store.snapshot().covered(), LogPosition(0));
}

#[test]
fn a_damaged_page_is_noticed_by_those_who_read_it_and_no_others() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = store();
    commit(&mut store, &schema, &[ticks(&schema, "p", 0, 60_000, 1)]);
    let path = dir.path().join(&store.manifest().files().next().unwrap().path);
    let bytes = fs::read(&path).unwrap();
    let attempt = |keys: &KeySelection| -> crate::Result<Vec<Row>> {
        let mut all = Vec::new();
        for part in store.snapshot().ticks_of(&schema, &Columns::all(&schema), ALL_TIME, keys)? {
            for batch in part.read()? {
                all.extend(rows(&batch?));
            }
        }
        Ok(all)
    };
    let every = attempt(&KeySelection::default()).unwrap();
    let key = every[0].0.clone();
    let one_key = KeySelection::new(1, std::slice::from_ref(&key), None);
    let of_key = attempt(&one_key).unwrap();
    assert!(of_key.len() > 10_000 && of_key.iter().all(|row| row.0 == key));
    let (mut noticed, mut passed_over, mut unread) = (0, 0, 0);
    for at in (5..bytes.len()).step_by(bytes.len() / 400) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        let whole = attempt(&KeySelection::default());
        match attempt(&one_key) {
            Ok(found) => {
                assert_eq!(found, of_key, "byte {at}");
                match whole {
                    Ok(found) => {
                        assert_eq!(found, every, "byte {at}");
                        unread += 1;
                    }
                    Err(_) => passed_over += 1,
                }
            }
            Err(error) => {
                assert!(matches!(error, Error::Damaged { .. }), "byte {at}: {error}");
                noticed += 1;
            }
        }
    }
    // The key has two rows in seven of a file, and its pages reach a little further.
    assert!(noticed > 60 && passed_over > 150 && unread < 20, "{noticed} {passed_over} {unread}");
}

#[test]
fn a_short_range_reads_the_pages_that_have_some_of_it() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = store();
    let mut batch = ticks(&schema, "p", 0, 300_000, 1);
    batch.key = batch.key.iter().map(|key| key % 2).collect();
    commit(&mut store, &schema, &[batch]);
    let attempt = |keys: &KeySelection, range| -> crate::Result<Vec<Row>> {
        let mut all = Vec::new();
        for part in store.snapshot().ticks_of(&schema, &Columns::all(&schema), range, keys)? {
            for batch in part.read()? {
                all.extend(rows(&batch?));
            }
        }
        Ok(all)
    };
    let any = KeySelection::default();
    let every = attempt(&any, ALL_TIME).unwrap();
    let key = every[every.len() / 3].0.clone();
    let one_key = KeySelection::new(1, std::slice::from_ref(&key), None);
    for n in 0..60 {
        let start = DAY_NS / 64 * (n - 32);
        let range = start..=start + DAY_NS / [4, 30, 100, 5_000][n as usize % 4];
        let inside = |row: &&Row| range.contains(&row.1);
        let expected: Vec<Row> = every.iter().filter(inside).cloned().collect();
        assert_eq!(attempt(&any, range.clone()).unwrap(), expected, "{range:?}");
        let mut found = attempt(&one_key, range.clone()).unwrap();
        found.retain(|row| row.0 == key);
        let expected: Vec<Row> = expected.into_iter().filter(|row| row.0 == key).collect();
        assert_eq!(found, expected, "{range:?}");
    }
    let entry = store.manifest().files().next().unwrap();
    let path = dir.path().join(&entry.path);
    let bytes = fs::read(&path).unwrap();
    // Half an hour of the half day that is in the file.
    let range = -DAY_NS / 4..=-DAY_NS / 4 + DAY_NS / 48;
    let whole = attempt(&any, range.clone()).unwrap();
    assert!(whole.len() > 4_000);
    let (mut noticed, mut passed_over) = (0, 0);
    for at in (5..bytes.len()).step_by(bytes.len() / 150) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        match attempt(&any, range.clone()) {
            Ok(found) => {
                assert_eq!(found, whole, "byte {at}");
                passed_over += 1;
            }
            Err(error) => {
                assert!(matches!(error, Error::Damaged { .. }), "byte {at}: {error}");
                noticed += 1;
            }
        }
    }
    // The times of all rows, and a page or two of each of two keys.
    assert!(passed_over > 60 && noticed > 30, "{passed_over} and {noticed}");
}
