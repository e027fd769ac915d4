//! Writing history.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, Decimal64Array, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use chrono::DateTime;
use isotick_model::ticks::ON_TIME;
use isotick_model::{Column, KeySelection, StreamSchema, Ticks, ValueColumn};
use parquet::basic::Encoding;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::merge::Merge;
use super::{ALL_TIME, Columns, DECIMAL_DIGITS, identity_names, is_decimal, order, scale_entry};
use crate::error::Result;
use crate::files::{self, Staged};
use crate::folder::DataFolder;
use crate::manifest::{HistoryFile, Origin};
use crate::parquet_file::{self, entry};

/// Rows of a row group: large enough to decode at full speed, small enough that a scan of one key
/// reads little else.
const ROW_GROUP_ROWS: usize = 1 << 17;
/// Rows of a page: what a scan of one key reads too much at either end of its rows.
const PAGE_ROWS: usize = 1 << 13;
/// Rows handed to the writer at a time.
const CHUNK_ROWS: usize = 1 << 16;
/// Rows of a merged file, at most: a whole number of row groups. Its footer, which every scan of it
/// reads, stays below some 100 KiB.
const FILE_ROWS_MAX: usize = 1 << 24;
/// A batch that spans more dates than this goes into one file instead of one per date.
const DATES_MAX: usize = 31;
const DAY_NS: i64 = 86_400_000_000_000;
/// Dictionaries may grow to this many bytes before a column falls back to plain text.
const DICTIONARY_BYTES_MAX: usize = 16 << 20;

/// Writes ticks as files under temporary names: one per UTC date, or a single one under
/// `date=mixed` when they span more than 31 dates. `id` is unique among the commits.
pub(crate) fn stage(
    folder: &DataFolder,
    schema: &StreamSchema,
    batches: &[Ticks],
    origin: Origin,
    id: &str,
) -> Result<Vec<(Staged, HistoryFile)>> {
    folder.assert_writer();
    let ticks = order::sorted(schema, batches);
    let stream = format!("stream={}", files::path_component(&schema.name));
    let mut staged = Vec::new();
    for (date, rows) in by_date(&ticks) {
        let relative = format!("{stream}/date={date}/{id}.parquet");
        files::create_folder(folder.path().join(&relative).parent().expect("it lies in folders"))?;
        let (ts_min, ts_max) = match &rows {
            None => extremes(ticks.ts_event.iter()),
            Some(rows) => extremes(rows.iter().map(|&row| &ticks.ts_event[row as usize])),
        };
        let (file, stored) = parquet_file::stage(
            folder.path(),
            relative,
            Arc::new(arrow_schema(schema)),
            properties(schema),
            metadata(schema),
            Batches::new(schema, &ticks, rows.as_deref()).map(Ok),
        )?;
        let file_entry = HistoryFile { file: stored, ts_min, ts_max, origin };
        staged.push((file, file_entry));
    }
    Ok(staged)
}

/// Merges files of a stream that lie in one folder, given in runs, and writes what they hold under
/// temporary names into the same folder: as files that follow each other in the order of history.
/// `id` names each. `progress` is told of rows.
pub(crate) fn stage_merged(
    folder: &DataFolder,
    schema: &StreamSchema,
    runs: &[Vec<&HistoryFile>],
    origin: Origin,
    id: &mut dyn FnMut() -> String,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<(Staged, HistoryFile)>> {
    folder.assert_writer();
    let (columns, all) = (Columns::all(schema), KeySelection::default());
    let parts = |files: &Vec<&HistoryFile>| {
        super::plan(folder, schema, files.iter().copied(), &columns, &ALL_TIME, &all)
    };
    let parts = runs.iter().map(parts).collect::<Result<_>>()?;
    let path = &runs[0][0].file.path;
    let (inner, _) = path.rsplit_once('/').expect("a file of history lies in folders");
    let arrow = Arc::new(arrow_schema(schema));
    let mut merged = Merge::new(schema, parts, CHUNK_ROWS)?.peekable();
    let mut staged = Vec::new();
    while merged.peek().is_some() {
        let (mut ts_min, mut ts_max) = (i64::MAX, i64::MIN);
        let batches = merged.by_ref().take(FILE_ROWS_MAX / CHUNK_ROWS).map(|ticks| {
            let ticks = ticks?;
            for &ts in ticks.ts_event.iter() {
                (ts_min, ts_max) = (ts_min.min(ts), ts_max.max(ts));
            }
            progress(ticks.len() as u64);
            Ok(record_batch(schema, &arrow, &ticks, &Texts::of(schema, &ticks)))
        });
        let (file, stored) = parquet_file::stage(
            folder.path(),
            format!("{inner}/{}.parquet", id()),
            arrow.clone(),
            properties(schema),
            metadata(schema),
            batches,
        )?;
        staged.push((file, HistoryFile { file: stored, ts_min, ts_max, origin }));
    }
    Ok(staged)
}

/// The least and the greatest of some times.
fn extremes<'a>(times: impl Iterator<Item = &'a i64>) -> (i64, i64) {
    times.fold((i64::MAX, i64::MIN), |(least, greatest), &ts| (least.min(ts), greatest.max(ts)))
}

/// Rows by the name of their date, each in the order given; `None` for all of them.
fn by_date(ticks: &Ticks) -> Vec<(String, Option<Vec<u32>>)> {
    let day = |ts: i64| ts.div_euclid(DAY_NS);
    let name = |day: i64| {
        // Days of 64-bit nanoseconds lie between the years 1677 and 2262.
        let date = DateTime::from_timestamp_secs(day * (DAY_NS / 1_000_000_000));
        date.expect("the day is in range").format("%Y-%m-%d").to_string()
    };
    if ticks.is_empty() {
        return Vec::new();
    }
    let (least, greatest) = extremes(ticks.ts_event.iter());
    if day(least) == day(greatest) {
        return vec![(name(day(least)), None)];
    }
    let mut days: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (&ts, row) in ticks.ts_event.iter().zip(0..) {
        days.entry(day(ts)).or_default().push(row);
        if days.len() > DATES_MAX {
            return vec![("mixed".to_owned(), None)];
        }
    }
    days.into_iter().map(|(day, rows)| (name(day), Some(rows))).collect()
}

fn arrow_schema(schema: &StreamSchema) -> Schema {
    let text = || DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into());
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let mut fields = vec![Field::new(&schema.time, time, false)];
    fields.extend(schema.keys.iter().map(|key| Field::new(key, text(), false)));
    fields.extend(
        schema
            .columns
            .iter()
            .map(|column| Field::new(&column.name, value_type(column), column.optional)),
    );
    let [publisher, sequence, seen] = identity_names(schema);
    fields.push(Field::new(publisher, text(), false));
    fields.push(Field::new(sequence, DataType::UInt64, false));
    fields.push(Field::new(seen, DataType::Int64, true));
    Schema::new(fields)
}

fn value_type(column: &Column) -> DataType {
    match is_decimal(column) {
        true => DataType::Decimal64(DECIMAL_DIGITS, column.scale.digits().cast_signed()),
        false => DataType::Int64,
    }
}

fn properties(schema: &StreamSchema) -> WriterPropertiesBuilder {
    let sorting = |column: usize| SortingColumn {
        column_idx: column as i32,
        descending: false,
        nulls_first: false,
    };
    let keys = 1..=schema.keys.len();
    let mut properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::DELTA_BINARY_PACKED)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_sorting_columns(Some(keys.chain([0]).map(sorting).collect()));
    let [publisher, ..] = identity_names(schema);
    for text in schema.keys.iter().chain([&publisher]) {
        let path = ColumnPath::from(text.clone());
        properties = properties
            .set_column_dictionary_enabled(path.clone(), true)
            .set_column_dictionary_page_size_limit(path.clone(), DICTIONARY_BYTES_MAX)
            .set_column_encoding(path, Encoding::PLAIN);
    }
    properties
}

fn metadata(schema: &StreamSchema) -> Vec<KeyValue> {
    let mut metadata = vec![entry("isotick.stream", &schema.name)];
    metadata.extend(
        schema
            .columns
            .iter()
            .map(|column| entry(scale_entry(&column.name), column.scale.digits().to_string())),
    );
    metadata
}

/// Rows of merged ticks as record batches.
struct Batches<'a> {
    arrow: Arc<Schema>,
    schema: &'a StreamSchema,
    ticks: &'a Ticks,
    /// Which rows; `None` for all.
    rows: Option<&'a [u32]>,
    /// How many of them are done.
    done: usize,
    texts: Texts,
}

/// What codes of ticks stand for.
struct Texts {
    /// The text of every key, per key column.
    keys: Vec<Arc<StringArray>>,
    publishers: Arc<StringArray>,
}

impl Texts {
    fn of(schema: &StreamSchema, ticks: &Ticks) -> Self {
        let components: Vec<_> = ticks.keys.iter().map(|key| key.components()).collect();
        let keys = (0..schema.keys.len()).map(|column| {
            let texts = components.iter().map(|components| components[column].as_str());
            Arc::new(StringArray::from_iter_values(texts))
        });
        let publishers = ticks.publishers.iter().map(|publisher| publisher.as_str());
        Self {
            keys: keys.collect(),
            publishers: Arc::new(StringArray::from_iter_values(publishers)),
        }
    }
}

impl<'a> Batches<'a> {
    fn new(schema: &'a StreamSchema, ticks: &'a Ticks, rows: Option<&'a [u32]>) -> Self {
        Self {
            arrow: arrow_schema(schema).into(),
            schema,
            ticks,
            rows,
            done: 0,
            texts: Texts::of(schema, ticks),
        }
    }
}

impl Iterator for Batches<'_> {
    type Item = RecordBatch;

    fn next(&mut self) -> Option<RecordBatch> {
        let rows = self.rows.map_or(self.ticks.len(), <[u32]>::len);
        let chunk = self.done..rows.min(self.done + CHUNK_ROWS);
        if chunk.is_empty() {
            return None;
        }
        self.done = chunk.end;
        let ticks = match self.rows {
            Some(rows) => self.ticks.take(&rows[chunk]),
            None => self.ticks.slice(chunk),
        };
        Some(record_batch(self.schema, &self.arrow, &ticks, &self.texts))
    }
}

/// Ticks whose publisher codes are there, as columns of a file.
fn record_batch(
    schema: &StreamSchema,
    arrow: &Arc<Schema>,
    ticks: &Ticks,
    texts: &Texts,
) -> RecordBatch {
    let time = TimestampNanosecondArray::new(ticks.ts_event.clone(), None).with_timezone("UTC");
    let mut columns: Vec<ArrayRef> = vec![Arc::new(time)];
    columns.extend(texts.keys.iter().map(|texts| dictionary(&ticks.key, texts)));
    let values = ticks.values.iter().zip(&schema.columns);
    columns.extend(values.map(|(values, column)| value_array(values, column)));
    columns.push(dictionary(&ticks.publisher, &texts.publishers));
    columns.push(Arc::new(UInt64Array::new(ticks.sequence.clone(), None)));
    columns.push(match &ticks.seen {
        Some(seen) => {
            let late: NullBuffer = seen.iter().map(|&seen| seen != ON_TIME).collect();
            Arc::new(Int64Array::new(seen.clone(), Some(late)))
        }
        None => Arc::new(Int64Array::new_null(ticks.len())),
    });
    let batch = RecordBatch::try_new(arrow.clone(), columns);
    batch.expect("the arrays follow the schema")
}

fn value_array(values: &ValueColumn, column: &Column) -> ArrayRef {
    let (values, nulls) = (values.values.clone(), values.nulls.clone());
    match is_decimal(column) {
        true => {
            let array = Decimal64Array::new(values, nulls);
            let array =
                array.with_precision_and_scale(DECIMAL_DIGITS, column.scale.digits().cast_signed());
            Arc::new(array.expect("a scale has at most 18 digits"))
        }
        false => Arc::new(Int64Array::new(values, nulls)),
    }
}

fn dictionary(codes: &[u32], texts: &Arc<StringArray>) -> ArrayRef {
    // A table has fewer than 2^31 entries: each is at least a byte of memory several times over.
    let codes: Int32Array =
        Int32Array::from_iter_values(codes.iter().map(|&code| code.cast_signed()));
    let array = DictionaryArray::<Int32Type>::try_new(codes, texts.clone() as ArrayRef);
    Arc::new(array.expect("codes lie within their table"))
}
