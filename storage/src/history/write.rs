//! Writing history.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use chrono::DateTime;
use isotick_model::ticks::ON_TIME;
use isotick_model::{Column, KeySelection, StreamSchema, Ticks};
use parquet::file::metadata::KeyValue;

use super::merge::Merge;
use super::{ALL_TIME, Columns, DECIMAL_DIGITS, identity_names, is_decimal, order, scale_entry};
use crate::error::Result;
use crate::files;
use crate::folder::DataFolder;
use crate::manifest::{HistoryFile, Origin};
use crate::objects::StagedObject;
use crate::parquet_file::{self, RowGroup, Run, entry, sorted};

/// Rows of a row group: large enough to decode at full speed, small enough that a scan of one key
/// reads little else.
const ROW_GROUP_ROWS: usize = 1 << 17;
/// Rows of a page: what a scan of one key reads too much at either end of its rows.
pub(super) const PAGE_ROWS: usize = 1 << 14;
/// Rows of a merged file, at most: a whole number of row groups. Its footer, which every scan of it
/// reads, stays below some 100 KiB.
const FILE_ROWS_MAX: usize = 1 << 24;
/// A batch that spans more dates than this goes into one file instead of one per date.
const DATES_MAX: usize = 31;
const DAY_NS: i64 = 86_400_000_000_000;

/// Writes ticks as files under temporary names: one per UTC date, or a single one under
/// `date=mixed` when they span more than 31 dates. `id` is unique among the commits.
pub(crate) fn stage(
    folder: &DataFolder,
    schema: &StreamSchema,
    batches: &[Ticks],
    origin: Origin,
    id: &str,
) -> Result<Vec<(StagedObject, HistoryFile)>> {
    folder.assert_writer();
    let ticks = order::sorted(schema, batches);
    let stream = format!("stream={}", files::path_component(&schema.name));
    let mut staged = Vec::new();
    for (date, rows) in by_date(&ticks) {
        let relative = format!("{stream}/date={date}/{id}.parquet");
        let (ts_min, ts_max) = match &rows {
            None => extremes(ticks.ts_event.iter()),
            Some(rows) => extremes(rows.iter().map(|&row| &ticks.ts_event[row as usize])),
        };
        let (file, stored) = parquet_file::stage_columns(
            folder.objects(),
            relative,
            Arc::new(arrow_schema(schema)),
            sorted(schema, PAGE_ROWS),
            metadata(schema),
            RowGroups::new(schema, &ticks, rows.as_deref()).map(Ok),
            |group| group.columns(schema),
        )?;
        let file_entry = HistoryFile::new(stored, (ts_min, ts_max), origin);
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
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Vec<(StagedObject, HistoryFile)>> {
    folder.assert_writer();
    let (columns, all) = (Columns::all(schema), KeySelection::default());
    let parts = |files: &Vec<&HistoryFile>| {
        super::plan(folder, schema, files.iter().copied(), &columns, &ALL_TIME, &all)
    };
    let parts = runs.iter().map(parts).collect::<Result<_>>()?;
    let path = &runs[0][0].file.path;
    let (inner, _) = path.rsplit_once('/').expect("a file of history lies in folders");
    let arrow = Arc::new(arrow_schema(schema));
    let mut merged = Merge::new(schema, parts, ROW_GROUP_ROWS)?.peekable();
    let mut staged = Vec::new();
    while merged.peek().is_some() {
        let (mut ts_min, mut ts_max) = (i64::MAX, i64::MIN);
        let batches = merged.by_ref().take(FILE_ROWS_MAX / ROW_GROUP_ROWS).map(|ticks| {
            let ticks = ticks?;
            for &ts in ticks.ts_event.iter() {
                (ts_min, ts_max) = (ts_min.min(ts), ts_max.max(ts));
            }
            progress(ticks.len() as u64)?;
            let texts = key_texts(schema, &ticks).into();
            Ok(HistoryRows::new(ticks, texts))
        });
        let (file, stored) = parquet_file::stage_columns(
            folder.objects(),
            format!("{inner}/{}.parquet", id()),
            arrow.clone(),
            sorted(schema, PAGE_ROWS),
            metadata(schema),
            batches,
            |group| group.columns(schema),
        )?;
        staged.push((file, HistoryFile::new(stored, (ts_min, ts_max), origin)));
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

/// Rows of sorted ticks as row groups.
struct RowGroups<'a> {
    ticks: &'a Ticks,
    /// Which rows; `None` for all.
    rows: Option<&'a [u32]>,
    /// How many of them are done.
    done: usize,
    texts: Arc<[Vec<String>]>,
}

impl<'a> RowGroups<'a> {
    fn new(schema: &StreamSchema, ticks: &'a Ticks, rows: Option<&'a [u32]>) -> Self {
        Self { ticks, rows, done: 0, texts: key_texts(schema, ticks).into() }
    }
}

impl Iterator for RowGroups<'_> {
    type Item = HistoryRows;

    fn next(&mut self) -> Option<HistoryRows> {
        let rows = self.rows.map_or(self.ticks.len(), <[u32]>::len);
        let group = self.done..rows.min(self.done + ROW_GROUP_ROWS);
        if group.is_empty() {
            return None;
        }
        self.done = group.end;
        let ticks = match self.rows {
            Some(rows) => self.ticks.take(&rows[group]),
            None => self.ticks.slice(group),
        };
        Some(HistoryRows::new(ticks, self.texts.clone()))
    }
}

/// Per key column the texts of ticks' key codes.
fn key_texts(schema: &StreamSchema, ticks: &Ticks) -> Vec<Vec<String>> {
    let mut texts = vec![Vec::with_capacity(ticks.keys.len()); schema.keys.len()];
    for key in ticks.keys.iter() {
        for (texts, component) in texts.iter_mut().zip(key.components()) {
            texts.push(component);
        }
    }
    texts
}

/// The rows of a row group. Their publishers' codes are there.
struct HistoryRows {
    ticks: Ticks,
    texts: Arc<[Vec<String>]>,
    /// The same 64 bits.
    sequence: ScalarBuffer<i64>,
    /// Rows that were late or never seen are valid.
    late: NullBuffer,
}

impl HistoryRows {
    fn new(ticks: Ticks, texts: Arc<[Vec<String>]>) -> Self {
        let sequence = ScalarBuffer::new(ticks.sequence.clone().into_inner(), 0, ticks.len());
        let late = match &ticks.seen {
            Some(seen) => {
                NullBuffer::new(BooleanBuffer::collect_bool(seen.len(), |row| seen[row] != ON_TIME))
            }
            None => NullBuffer::new_null(ticks.len()),
        };
        Self { ticks, texts, sequence, late }
    }

    fn columns(&self, schema: &StreamSchema) -> RowGroup<'_> {
        let ticks = &self.ticks;
        let integers = |values| parquet_file::Column::Integers {
            values,
            nulls: None,
            optional: false,
            unsigned: false,
        };
        let mut columns = vec![integers(&ticks.ts_event)];
        for texts in self.texts.iter() {
            columns.push(parquet_file::Column::Texts(runs(&ticks.key, |code| &texts[code])));
        }
        for (column, declared) in ticks.values.iter().zip(&schema.columns) {
            columns.push(parquet_file::Column::Integers {
                values: &column.values,
                nulls: column.nulls.as_ref(),
                optional: declared.optional,
                unsigned: false,
            });
        }
        let publisher = |code: usize| ticks.publishers[code].as_str();
        columns.push(parquet_file::Column::Texts(runs(&ticks.publisher, publisher)));
        columns.push(parquet_file::Column::Integers {
            values: &self.sequence,
            nulls: None,
            optional: false,
            unsigned: true,
        });
        columns.push(parquet_file::Column::Integers {
            // Where all are on time, all are null, and no value is looked at.
            values: ticks.seen.as_ref().unwrap_or(&ticks.ts_event),
            nulls: Some(&self.late),
            optional: true,
            unsigned: false,
        });
        RowGroup { rows: ticks.len(), columns }
    }
}

/// Codes by their texts, as runs.
fn runs<'a>(codes: &[u32], text: impl Fn(usize) -> &'a str) -> Vec<Run<'a>> {
    let runs = codes.chunk_by(|a, b| a == b);
    runs.map(|run| Run { text: text(run[0] as usize), rows: run.len() }).collect()
}
