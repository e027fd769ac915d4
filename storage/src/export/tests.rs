use std::fs::File;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::{FileReader, StreamReader};
use isotick_model::{Key, LogPosition, Scale};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use super::*;
use crate::fixtures::{Row, rows, schema, ticks};
use crate::history::ALL_TIME;
use crate::snapshot::Snapshot;
use crate::store::Store;

/// A folder with ticks of three publishers in history, in two commits.
fn stored(schema: &StreamSchema) -> (TempDir, Snapshot, Vec<Row>) {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path(), "test").unwrap();
    let batches = [("b", 0, 1), ("a", 7, 2), ("c", 50, 4)]
        .map(|(name, first, seed)| ticks(schema, name, first, 5_000, seed));
    for (at, batches) in [&batches[..2], &batches[2..]].into_iter().enumerate() {
        let (from, to) = (LogPosition(at as u64), LogPosition(at as u64 + 1));
        let mut commit = store.begin();
        commit.add_ticks(schema, batches, from..to).unwrap();
        commit.cover(to, []);
        commit.finish().unwrap();
    }
    let mut all: Vec<Row> = batches.iter().flat_map(rows).collect();
    all.sort_by_key(canonical);
    (dir, store.snapshot(), all)
}

fn canonical(row: &Row) -> (i64, isotick_model::PublisherId, u64) {
    (row.1, row.2.clone(), row.3)
}

fn in_order(
    snapshot: &Snapshot,
    schema: &StreamSchema,
    range: std::ops::RangeInclusive<i64>,
    keys: &[Key],
    slice_rows: u64,
) -> Vec<Row> {
    let order = InOrder::new(snapshot, schema, range, keys, slice_rows).unwrap();
    let most = order.rows();
    let all: Vec<Row> = order.flat_map(|ticks| rows(&ticks.unwrap())).collect();
    assert!(all.len() as u64 <= most);
    all
}

#[test]
fn ticks_come_by_time_publisher_and_sequence_however_they_are_cut() {
    let schema = schema(&["symbol"]);
    let (_dir, snapshot, all) = stored(&schema);
    for slice_rows in [1, 7, 1_000, 14_999, 15_000, u64::MAX] {
        let found = in_order(&snapshot, &schema, ALL_TIME, &[], slice_rows);
        assert!(found == all, "slices of {slice_rows}");
    }
    let (from, to) = (all[4_000].1, all[9_000].1);
    let key = Key::from_components(["symbol\x003"]);
    for slice_rows in [100, u64::MAX] {
        let within: Vec<_> =
            all.iter().filter(|row| (from..=to).contains(&row.1)).cloned().collect();
        assert!(in_order(&snapshot, &schema, from..=to, &[], slice_rows) == within);
        let of_key: Vec<_> = within.into_iter().filter(|row| row.0 == key).collect();
        let found = in_order(&snapshot, &schema, from..=to, std::slice::from_ref(&key), slice_rows);
        assert!(!of_key.is_empty() && found == of_key);
    }
    #[expect(clippy::reversed_empty_ranges, reason = "no time lies in it")]
    let none = in_order(&snapshot, &schema, i64::MAX..=i64::MIN, &[], 100);
    assert!(none.is_empty());
}

/// What a reader of record batches sees, against the rows that were written.
fn check(batches: &[RecordBatch], schema: &StreamSchema, all: &[Row]) {
    let mut rows = all.iter();
    for batch in batches {
        let names: Vec<_> =
            batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["ts", "symbol", "price", "size", "publisher", "sequence", "seen"]);
        let text = |at: usize| {
            let text = arrow_cast::cast(batch.column(at), &DataType::Utf8).unwrap();
            text.as_string::<i32>().clone()
        };
        let (symbol, publisher) = (text(1), text(4));
        let ts = batch.column(0).as_primitive::<TimestampNanosecondType>();
        let price = batch.column(2).as_primitive::<Decimal128Type>();
        assert_eq!(price.scale(), schema.columns[0].scale.digits().cast_signed());
        let size = batch.column(3).as_primitive::<Int64Type>();
        let sequence = batch.column(5).as_primitive::<UInt64Type>();
        let seen = batch.column(6).as_primitive::<Int64Type>();
        for at in 0..batch.num_rows() {
            let row = (
                Key::from_components([symbol.value(at)]),
                ts.value(at),
                crate::fixtures::publisher(publisher.value(at)),
                sequence.value(at),
                vec![
                    Some(i64::try_from(price.value(at)).unwrap()),
                    size.is_valid(at).then(|| size.value(at)),
                ],
                if seen.is_valid(at) { seen.value(at) } else { ON_TIME },
            );
            assert_eq!(Some(&row), rows.next());
        }
    }
    assert_eq!(rows.next(), None);
}

#[test]
fn files_hold_what_was_written_in_every_form() {
    let mut schema = schema(&["symbol"]);
    let (dir, snapshot, all) = stored(&schema);
    for wide in [false, true] {
        if wide {
            // More digits than 18: still a decimal.
            schema.columns[0].min = i64::MIN;
        }
        for codec in [Codec::None, Codec::Zstd] {
            for format in [TableFormat::Parquet, TableFormat::Arrow, TableFormat::ArrowStream] {
                let path = dir.path().join("out");
                let out = File::create(&path).unwrap();
                let mut file = TickFile::new(out, &path, &schema, format, codec).unwrap();
                for ticks in InOrder::new(&snapshot, &schema, ALL_TIME, &[], 1_000).unwrap() {
                    file.write(&ticks.unwrap()).unwrap();
                }
                file.finish().unwrap();
                let read = File::open(&path).unwrap();
                let batches: Result<Vec<_>, _> = match format {
                    TableFormat::Parquet => {
                        let builder = ParquetRecordBatchReaderBuilder::try_new(read).unwrap();
                        assert_eq!(builder.schema().field(1).data_type(), &DataType::Utf8);
                        builder.build().unwrap().collect()
                    }
                    TableFormat::Arrow => FileReader::try_new(read, None).unwrap().collect(),
                    TableFormat::ArrowStream => {
                        StreamReader::try_new(read, None).unwrap().collect()
                    }
                };
                check(&batches.unwrap(), &schema, &all);
            }
        }
    }
}

#[test]
fn a_column_that_was_declared_later_is_null() {
    let schema = schema(&["symbol"]);
    let (_dir, snapshot, all) = stored(&schema);
    let mut later = schema.clone();
    later.columns.push(Column {
        name: "fee".into(),
        scale: Scale::new(2).unwrap(),
        min: i64::MIN,
        max: i64::MAX,
        optional: true,
    });
    let found = in_order(&snapshot, &later, ALL_TIME, &[], 4_000);
    assert_eq!(found.len(), all.len());
    assert!(found.iter().zip(&all).all(|(row, old)| row.4[..2] == old.4[..] && row.4[2].is_none()));
}
