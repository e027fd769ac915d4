//! What these columns give of files that a general writer wrote.

use std::fs::{self, File};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::WriterProperties;

use super::super::pages;
use super::*;
use crate::fixtures::Random;

struct Rows {
    wide: Vec<i64>,
    optional: Vec<Option<i64>>,
    few: Vec<i64>,
    texts: Vec<String>,
}

fn rows(count: usize, random: &mut Random) -> Rows {
    let mut texts = Vec::new();
    while texts.len() < count {
        let longest = [1, 3, 40, 700][random.below(4) as usize];
        let len = (1 + random.below(longest) as usize).min(count - texts.len());
        let text = format!("{}", random.below(12));
        texts.extend(std::iter::repeat_n(text, len));
    }
    let shift = random.below(64);
    Rows {
        wide: (0..count).map(|_| random.next().cast_signed() >> shift).collect(),
        optional: (0..count)
            .map(|row| match row / 150 % 3 {
                0 => Some(row as i64 * 1_000),
                1 => None,
                _ => (random.below(3) > 0).then(|| random.next().cast_signed() >> shift),
            })
            .collect(),
        few: (0..count).map(|row| [-7, i64::MAX, 0][row / 40 % 3]).collect(),
        texts,
    }
}

/// The whole file as a row group's pages, with places of pages where they may be skipped.
fn pages_of(
    path: &std::path::Path,
    can_skip: bool,
    rows: Option<&[Range<usize>]>,
) -> RowGroupPages {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let metadata = ArrowReaderMetadata::load(&File::open(path).unwrap(), options).unwrap();
    let metadata = metadata.metadata().clone();
    let group = metadata.row_group(0);
    let places = metadata.offset_index().unwrap()[0].iter().zip(group.columns());
    let places = places.map(|(index, column)| {
        let locations = index.page_locations();
        let next = locations.iter().skip(1).map(|page| page.first_row_index);
        let ends = next.chain([group.num_rows()]);
        let page = |bytes: i64, rows: i64| pages::Page {
            bytes: bytes as u32,
            rows: rows as u32,
            crc32: 0,
        };
        let dictionary = locations[0].offset - column.byte_range().0 as i64;
        pages::ColumnPages {
            data: locations
                .iter()
                .zip(ends)
                .map(|(at, end)| page(at.compressed_page_size.into(), end - at.first_row_index))
                .collect(),
            dictionary: (dictionary > 0).then(|| page(dictionary, 0)),
        }
    });
    let pages = can_skip.then(|| places.collect());
    let chunks = Chunks::new(vec![(0, fs::read(path).unwrap().into())]);
    RowGroupPages { metadata, number: 0, chunks: chunks.into(), pages, rows: rows.map(Into::into) }
}

fn ranges(count: usize, random: &mut Random) -> Vec<Range<usize>> {
    let longest = [2, 30, 500][random.below(3) as usize];
    let mut ranges = Vec::new();
    let mut row = random.below(longest) as usize;
    while row < count {
        let end = (row + 1 + random.below(longest) as usize).min(count);
        ranges.push(row..end);
        row = end + 1 + random.below(longest) as usize;
    }
    ranges
}

fn integers(
    pages: &RowGroupPages,
    column: usize,
    count: usize,
    random: &mut Random,
) -> Vec<Option<i64>> {
    let mut column = pages.integers(column).unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let rows = (1 + random.below(400) as usize).min(count - found.len());
        let (values, nulls) = column.next(rows).unwrap();
        assert_eq!(values.len(), rows);
        assert!(nulls.as_ref().is_none_or(|nulls| nulls.len() == rows && nulls.null_count() > 0));
        let valid = |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let value = |(row, &value): (usize, &i64)| {
            assert!(valid(row) || value == 0, "a null's value is 0");
            valid(row).then_some(value)
        };
        found.extend(values.iter().enumerate().map(value));
    }
    assert!(column.next(1).is_err(), "there are no more");
    found
}

#[test]
fn columns_of_a_general_writer_are_read_by_any_rows_in_any_batches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    let mut random = Random(5);
    for draw in 0..60_u64 {
        let count = 1 + random.below(3_000) as usize;
        let rows = rows(count, &mut random);
        let columns: [(&str, ArrayRef, bool); 4] = [
            ("wide", Arc::new(Int64Array::from(rows.wide.clone())), false),
            ("optional", Arc::new(Int64Array::from(rows.optional.clone())), true),
            ("few", Arc::new(Int64Array::from(rows.few.clone())), false),
            ("text", Arc::new(StringArray::from_iter_values(&rows.texts)), false),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let page_rows = 1 + random.below(600) as usize;
        let properties = WriterProperties::builder()
            .set_compression(match draw % 2 {
                0 => Compression::UNCOMPRESSED,
                _ => Compression::ZSTD(ZstdLevel::default()),
            })
            .set_data_page_row_count_limit(page_rows)
            .set_write_batch_size(page_rows)
            .set_column_dictionary_enabled("wide".into(), false)
            .set_column_dictionary_enabled("optional".into(), draw % 5 == 0);
        let delta = Encoding::DELTA_BINARY_PACKED;
        let properties = match draw % 3 {
            0 => properties,
            _ => properties
                .set_column_encoding("wide".into(), delta)
                .set_column_encoding("optional".into(), delta),
        };
        let file = File::create(&path).unwrap();
        let mut writer =
            ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();

        let wanted = (draw % 4 > 0).then(|| ranges(count, &mut random));
        let pages = pages_of(&path, draw % 4 > 1, wanted.as_deref());
        let wanted: Vec<usize> = match wanted {
            Some(ranges) => ranges.into_iter().flatten().collect(),
            None => (0..count).collect(),
        };
        let of = |values: &[i64]| wanted.iter().map(|&row| Some(values[row])).collect::<Vec<_>>();
        assert_eq!(integers(&pages, 0, wanted.len(), &mut random), of(&rows.wide));
        let optional: Vec<_> = wanted.iter().map(|&row| rows.optional[row]).collect();
        assert_eq!(integers(&pages, 1, wanted.len(), &mut random), optional);
        assert_eq!(integers(&pages, 2, wanted.len(), &mut random), of(&rows.few));

        let TextRuns { texts, runs } = pages.texts(3).unwrap();
        assert!(runs.is_sorted_by(|a, b| a.0 != b.0), "neighbours differ");
        let found = runs
            .iter()
            .flat_map(|&(text, rows)| std::iter::repeat_n(texts[text as usize].as_str(), rows));
        assert!(found.eq(wanted.iter().map(|&row| rows.texts[row].as_str())));
    }
}

#[test]
fn columns_of_another_type_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    let rows = rows(100, &mut Random(6));
    let columns: [(&str, ArrayRef, bool); 3] = [
        ("wide", Arc::new(Int64Array::from(rows.wide)), false),
        ("text", Arc::new(StringArray::from_iter_values(&rows.texts)), false),
        ("optional", Arc::new(StringArray::from_iter(rows.texts.iter().map(Some))), true),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let pages = pages_of(&path, false, None);
    assert!(pages.integers(1).is_err());
    assert!(pages.texts(0).is_err());
    assert!(pages.texts(2).is_err(), "it may have nulls");
    assert!(pages.texts(1).is_ok());
}

#[test]
fn ranges_of_wanted_texts_are_joined() {
    let texts = ["a", "b", "c"].map(str::to_owned).to_vec();
    let runs = TextRuns { texts, runs: vec![(0, 3), (1, 2), (2, 4), (0, 1)] };
    assert_eq!(runs.ranges(|text| text != "c"), [0..5, 9..10]);
    assert_eq!(runs.ranges(|text| text == "z"), []);
}
