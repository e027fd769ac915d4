//! What this encoder writes against what the general writer makes of the same columns.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array,
    UInt64Array,
};
use arrow_buffer::{NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::properties::WriterProperties;

use super::super::{RowGroup, stage_columns, writer};
use super::{Column, Run};
use crate::disk::Files;
use crate::fixtures::Random;
use crate::objects::Objects;

const PAGE_ROWS: usize = 100;

struct Rows {
    plain: Vec<i64>,
    unsigned: Vec<i64>,
    optional: (Vec<i64>, NullBuffer),
    texts: Vec<&'static str>,
    small: Vec<u32>,
    decimals: (Vec<i128>, NullBuffer),
    floats: (Vec<f64>, NullBuffer),
}

/// Every width of deltas, runs of every length, pages that are all null and all valid.
fn rows(rows: usize, seed: u64) -> Rows {
    let mut random = Random(seed);
    // Of so many rows each: parts of 64 values are the shorter ones for some, of 32 for others.
    let wide = |random: &mut Random, row: usize, same: usize| {
        let width = (row / same + seed as usize) % 65;
        random.next().checked_shr(64 - width as u32).unwrap_or(0).cast_signed()
    };
    let plain = (0..rows).map(|row| wide(&mut random, row, 32)).collect();
    let unsigned = (0..rows).map(|_| random.next().cast_signed()).collect();
    let optional = (0..rows).map(|row| wide(&mut random, row, 64).wrapping_neg()).collect();
    let valid = (0..rows).map(|row| match row / PAGE_ROWS % 4 {
        0 => true,
        1 => false,
        2 => random.below(2) == 0,
        _ => row % 37 < 20,
    });
    let valid_runs = valid.collect::<Vec<bool>>().into();
    let names = ["", "a", "b", "ba", "long enough to be no accident", "ü", "\0"];
    let mut texts = Vec::new();
    while texts.len() < rows {
        let longest = [1, 3, 20, 500][random.below(4) as usize];
        let len = (1 + random.below(longest) as usize).min(rows - texts.len());
        let name = names[random.below(names.len() as u64) as usize];
        texts.extend(std::iter::repeat_n(name, len));
    }
    let valid = |random: &mut Random| {
        NullBuffer::from((0..rows).map(|_| random.below(5) > 0).collect::<Vec<_>>())
    };
    let decimals = (0..rows).map(|_| i128::from(random.next().cast_signed()) * 10).collect();
    let floats = (0..rows).map(|_| match random.below(8) {
        0 => 0.0,
        1 => f64::INFINITY,
        draw => (draw.cast_signed() - 4) as f64 / 3.0,
    });
    let floats = floats.collect();
    Rows {
        plain,
        unsigned,
        optional: (optional, valid_runs),
        texts,
        small: (0..rows).map(|_| random.next() as u32).collect(),
        decimals: (decimals, valid(&mut random)),
        floats: (floats, valid(&mut random)),
    }
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("plain", DataType::Int64, false),
        Field::new("unsigned", DataType::UInt64, false),
        Field::new("optional", DataType::Int64, true),
        Field::new("text", DataType::Utf8, false),
        Field::new("small", DataType::UInt32, false),
        Field::new("decimal", DataType::Decimal128(20, 3), true),
        Field::new("float", DataType::Float64, true),
    ]))
}

fn columns(rows: &Rows) -> RowGroup<'_> {
    let integers = |values, nulls, unsigned| Column::Integers {
        values,
        nulls,
        optional: nulls.is_some(),
        unsigned,
    };
    let runs = rows.texts.chunk_by(|a, b| a == b);
    RowGroup {
        rows: rows.plain.len(),
        columns: vec![
            integers(&rows.plain, None, false),
            integers(&rows.unsigned, None, true),
            integers(&rows.optional.0, Some(&rows.optional.1), false),
            Column::Texts(runs.map(|run| Run { text: run[0], rows: run.len() }).collect()),
            Column::Small(&rows.small),
            Column::Decimals { values: &rows.decimals.0, nulls: &rows.decimals.1, width: 9 },
            Column::Floats { values: &rows.floats.0, nulls: &rows.floats.1 },
        ],
    }
}

fn batch(rows: &Rows) -> RecordBatch {
    let unsigned = rows.unsigned.iter().map(|value| value.cast_unsigned());
    let (values, valid) = &rows.optional;
    let decimals =
        Decimal128Array::new(rows.decimals.0.clone().into(), Some(rows.decimals.1.clone()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(rows.plain.clone())),
        Arc::new(UInt64Array::from_iter_values(unsigned)),
        Arc::new(Int64Array::new(ScalarBuffer::from(values.clone()), Some(valid.clone()))),
        Arc::new(StringArray::from_iter_values(&rows.texts)),
        Arc::new(UInt32Array::from(rows.small.clone())),
        Arc::new(decimals.with_precision_and_scale(20, 3).unwrap()),
        Arc::new(Float64Array::new(rows.floats.0.clone().into(), Some(rows.floats.1.clone()))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn open(path: &Path) -> (RecordBatch, Arc<ParquetMetaData>) {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(File::open(path).unwrap(), options)
            .unwrap();
    let metadata = builder.metadata().clone();
    let reader: ParquetRecordBatchReader = builder.with_batch_size(1 << 20).build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    assert_eq!(batches.len(), 1);
    (batches[0].clone(), metadata)
}

#[test]
fn columns_are_written_as_the_general_writer_would() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = [1, 7, 8, 9, 63, 64, 65, 100, 101, 256, 257, 1_000, 5_000];
    let mut are_shorter = 0;
    for (number, len) in sizes.into_iter().enumerate() {
        let properties = || {
            WriterProperties::builder()
                .set_compression(match number % 2 {
                    0 => Compression::UNCOMPRESSED,
                    _ => Compression::ZSTD(ZstdLevel::default()),
                })
                .set_data_page_row_count_limit(PAGE_ROWS)
                .set_write_batch_size(PAGE_ROWS)
        };
        let rows = rows(len, 5 * number as u64);
        let ours = stage_columns(
            &Objects::local(Arc::new(Files), folder.path()),
            format!("ours-{len}"),
            schema(),
            properties(),
            Vec::new(),
            [Ok(&rows)],
            |rows| columns(rows),
        );
        let (ours, stored) = ours.unwrap();
        assert_eq!(stored.rows, len as u64);
        ours.put_in_place().unwrap();
        let path = folder.path().join(format!("theirs-{len}"));
        let file = File::create(&path).unwrap();
        let properties = ["plain", "unsigned", "optional"].into_iter().fold(
            properties().set_dictionary_enabled(false),
            |properties, column| {
                properties.set_column_encoding(column.into(), Encoding::DELTA_BINARY_PACKED)
            },
        );
        let properties = properties.set_column_dictionary_enabled("text".into(), true);
        let mut theirs = writer(&path, file, schema(), properties, Vec::new()).unwrap();
        theirs.write(&batch(&rows)).unwrap();
        theirs.close().unwrap();
        let (ours, our_metadata) = open(&folder.path().join(format!("ours-{len}")));
        let (theirs, their_metadata) = open(&folder.path().join(format!("theirs-{len}")));
        assert_eq!(ours, theirs);
        assert_eq!(ours.num_rows(), len);
        for column in 0..7 {
            let (our, their) = (
                our_metadata.row_group(0).column(column),
                their_metadata.row_group(0).column(column),
            );
            assert_eq!(our.statistics(), their.statistics(), "{len} {column}");
            assert_eq!(our.compression(), their.compression(), "{len} {column}");
            if our.encodings().any(|encoding| encoding == Encoding::DELTA_BINARY_PACKED)
                && our.compression() == Compression::UNCOMPRESSED
            {
                assert!(our.compressed_size() <= their.compressed_size(), "{len} {column}");
                are_shorter += usize::from(our.compressed_size() < their.compressed_size());
            }
            let index = |metadata: &ParquetMetaData| {
                let index = &metadata.column_index().unwrap()[0][column];
                let bounds = |page| match index {
                    ColumnIndexMetaData::INT64(index) => format!(
                        "{:?} {:?}",
                        index.min_value(page).copied(),
                        index.max_value(page).copied()
                    ),
                    ColumnIndexMetaData::BYTE_ARRAY(index) => {
                        format!("{:?} {:?}", index.min_value(page), index.max_value(page))
                    }
                    ColumnIndexMetaData::INT32(index) => {
                        format!("{:?} {:?}", index.min_value(page), index.max_value(page))
                    }
                    ColumnIndexMetaData::DOUBLE(index) => {
                        format!("{:?} {:?}", index.min_value(page), index.max_value(page))
                    }
                    ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(index) => {
                        format!("{:?} {:?}", index.min_value(page), index.max_value(page))
                    }
                    other => panic!("no column is of this type: {other:?}"),
                };
                let pages = (0..index.num_pages() as usize)
                    .map(|page| (bounds(page), index.is_null_page(page), index.null_count(page)));
                (pages.collect::<Vec<_>>(), index.get_boundary_order())
            };
            assert_eq!(index(&our_metadata), index(&their_metadata), "{len} {column}");
            let starts = |metadata: &ParquetMetaData| {
                let locations = metadata.offset_index().unwrap()[0][column].page_locations();
                locations.iter().map(|page| page.first_row_index).collect::<Vec<_>>()
            };
            assert_eq!(starts(&our_metadata), starts(&their_metadata));
        }
    }
    assert!(are_shorter > 0, "narrow values that vary are packed in small parts");
}
