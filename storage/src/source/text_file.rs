//! CSV and TSV files, plain or gzip-compressed: row by row, a field at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_buffer::NullBufferBuilder;
use csv::ByteRecord;
use flate2::read::MultiGzDecoder;
use isotick_model::{Key, RejectReason, ValueColumn};

use super::batch::{Columns, Refusal, Refusals, TimeRange, finish, key_too_long};
use super::read_error;
use super::{Format, Plan, Progress, ProgressUnit, SourceBatch, SourceError, array, open, text};

const BUFFER_BYTES: usize = 256 * 1024;

/// A text file being read.
pub(super) struct TextFile {
    reader: csv::Reader<Box<dyn Read + Send>>,
    record: ByteRecord,
    /// Fields of the header.
    width: usize,
    bytes_total: u64,
    bytes_done: Arc<AtomicU64>,
    next_row: u64,
    end_row: u64,
}

impl std::fmt::Debug for TextFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextFile").field("next_row", &self.next_row).finish_non_exhaustive()
    }
}

/// Counts the bytes taken from the file itself.
struct Counted {
    file: File,
    done: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The fields that the header names.
pub(super) fn header(path: &Path, format: Format) -> Result<Vec<String>, SourceError> {
    header_of(path, &mut reader(path, format, Arc::default())?)
}

pub(super) fn header_of(
    path: &Path,
    reader: &mut csv::Reader<Box<dyn Read + Send>>,
) -> Result<Vec<String>, SourceError> {
    let header = reader.byte_headers().map_err(|error| csv_error(path, error))?;
    if header.iter().all(|field| field.trim_ascii().is_empty()) {
        return Err(SourceError::NoHeader { path: path.into() });
    }
    header
        .iter()
        .map(|field| Ok(std::str::from_utf8(field)?.trim().to_string()))
        .collect::<Result<_, std::str::Utf8Error>>()
        .map_err(|_| SourceError::HeaderNotText { path: path.into() })
}

/// A reader of the file's records. A byte order mark and either kind of line end are accepted;
/// records may have any number of fields.
pub(super) fn reader(
    path: &Path,
    format: Format,
    done: Arc<AtomicU64>,
) -> Result<csv::Reader<Box<dyn Read + Send>>, SourceError> {
    let mut magic = Vec::new();
    open(path)?.take(2).read_to_end(&mut magic).map_err(read_error(path))?;
    let counted = Counted { file: open(path)?, done };
    let text: Box<dyn Read + Send> = match magic.as_slice() {
        [0x1F, 0x8B] => {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, counted)))
        }
        _ => Box::new(counted),
    };
    Ok(csv::ReaderBuilder::new()
        .delimiter(if format == Format::Tsv { b'\t' } else { b',' })
        .flexible(true)
        .buffer_capacity(BUFFER_BYTES)
        .from_reader(text))
}

/// Reading text of any width fails only where reading bytes does.
pub(super) fn csv_error(path: &Path, error: csv::Error) -> SourceError {
    read_error(path)(error.into())
}

impl TextFile {
    pub(super) fn open(plan: &Plan, format: Format) -> Result<Self, SourceError> {
        let path = &plan.path;
        let bytes_done = Arc::default();
        let mut reader = reader(path, format, Arc::clone(&bytes_done))?;
        let width = header_of(path, &mut reader)?.len();
        let bytes_total = std::fs::metadata(path).map_err(read_error(path))?.len();
        Ok(Self {
            reader,
            record: ByteRecord::new(),
            width,
            bytes_total,
            bytes_done,
            next_row: 0,
            end_row: u64::MAX,
        })
    }

    pub(super) fn progress(&self) -> Progress {
        let done = self.bytes_done.load(Ordering::Relaxed);
        Progress { done, total: self.bytes_total, unit: ProgressUnit::Bytes }
    }

    pub(super) fn end_at(&mut self, row: u64) {
        self.end_row = self.end_row.min(row);
    }

    pub(super) fn skip_to(&mut self, plan: &Plan, row: u64) -> Result<(), SourceError> {
        while self.next_row < row.min(self.end_row) && self.advance(plan)? {}
        Ok(())
    }

    /// Reads the next record; false at the end.
    fn advance(&mut self, plan: &Plan) -> Result<bool, SourceError> {
        let more = self
            .reader
            .read_byte_record(&mut self.record)
            .map_err(|error| csv_error(&plan.path, error))?;
        self.next_row += u64::from(more);
        Ok(more)
    }

    pub(super) fn next_batch(&mut self, plan: &Plan) -> Result<Option<SourceBatch>, SourceError> {
        let first_row = self.next_row;
        let mut rows = Rows::new(plan);
        while rows.time.len() < plan.batch_rows && self.next_row < self.end_row {
            if !self.advance(plan)? {
                break;
            }
            let line = self.record.position().map_or(0, csv::Position::line);
            rows.push(plan, &self.record, self.width, line);
        }
        Ok((!rows.time.is_empty()).then(|| rows.finish(plan, first_row)))
    }
}

/// Rows on their way into columns.
struct Rows {
    time: Vec<i64>,
    codes: Vec<u32>,
    keys: Vec<Key>,
    known: HashMap<Box<[u8]>, u32>,
    values: Vec<Vec<i64>>,
    nulls: Vec<NullBufferBuilder>,
    lines: Vec<u64>,
    refusals: Refusals,
    /// The key of the row under way, encoded.
    key: Vec<u8>,
    /// The values of the row under way.
    row: Vec<Option<i64>>,
}

/// A refusal and the column at fault.
type Fault<'a> = (&'a str, Refusal);

impl Rows {
    fn new(plan: &Plan) -> Self {
        let columns = plan.schema.columns.len();
        Self {
            time: Vec::new(),
            codes: Vec::new(),
            keys: Vec::new(),
            known: HashMap::new(),
            values: vec![Vec::new(); columns],
            nulls: (0..columns).map(|_| NullBufferBuilder::new(0)).collect(),
            lines: Vec::new(),
            refusals: Refusals::default(),
            key: Vec::new(),
            row: Vec::new(),
        }
    }

    fn push(&mut self, plan: &Plan, record: &ByteRecord, width: usize, line: u64) {
        let (time, code) = self.read(plan, record, width).unwrap_or_else(|(column, refusal)| {
            self.refusals.push(self.time.len(), column, refusal);
            self.row.clear();
            self.row.resize(plan.schema.columns.len(), None);
            (0, 0)
        });
        self.time.push(time);
        self.codes.push(code);
        self.lines.push(line);
        for (index, value) in self.row.iter().enumerate() {
            if plan.wanted[index] {
                self.values[index].push(value.unwrap_or(0));
                self.nulls[index].append(value.is_some());
            }
        }
    }

    /// Time and key code of a record; its values go to `self.row`.
    fn read<'a>(
        &mut self,
        plan: &'a Plan,
        record: &ByteRecord,
        width: usize,
    ) -> Result<(i64, u32), Fault<'a>> {
        if record.len() != width {
            let text = format!("the row has {} fields, the header {width}", record.len());
            return Err(("", (RejectReason::Malformed, text)));
        }
        let schema = &plan.schema;
        let time = match record[plan.bindings.time].trim_ascii() {
            b"" => Err((RejectReason::NullTime, "the time is empty".to_string())),
            field => text::time(field, plan.time_unit),
        };
        let time = time.and_then(|time| match plan.range.holds(time) {
            true => Ok(time),
            false => Err(TimeRange::refusal(time)),
        });
        let time = time.map_err(|refusal| (schema.time.as_str(), refusal))?;
        let code = self.key_code(plan, record)?;
        self.row.clear();
        for (column, field) in schema.columns.iter().zip(&plan.bindings.values) {
            let field = field.map_or(&b""[..], |field| record[field].trim_ascii());
            let value = match field {
                b"" if column.optional => Ok(None),
                b"" => Err((RejectReason::NullValue, array::NULL_VALUE.to_string())),
                field => text::value(field, column, schema.inexact)
                    .and_then(|value| array::in_bounds(value, column))
                    .map(Some),
            };
            self.row.push(value.map_err(|refusal| (column.name.as_str(), refusal))?);
        }
        Ok((time, code))
    }

    fn key_code<'a>(&mut self, plan: &'a Plan, record: &ByteRecord) -> Result<u32, Fault<'a>> {
        self.key.clear();
        let mut whole = true;
        for &field in &plan.bindings.keys {
            let field = &record[field];
            whole &= !field.is_empty();
            for &byte in field {
                self.key.push(byte);
                if byte == 0 {
                    self.key.push(0xFF);
                }
            }
            self.key.extend_from_slice(&[0, 0]);
        }
        if whole && let Some(&code) = self.known.get(self.key.as_slice()) {
            return Ok(code);
        }
        // The rare way: each key once a batch, and keys that are refused.
        let mut texts = Vec::new();
        for (&field, column) in plan.bindings.keys.iter().zip(&plan.schema.keys) {
            let text = match &record[field] {
                b"" => Err(array::null_key()),
                bytes => std::str::from_utf8(bytes).map_err(|_| array::not_text(bytes)),
            };
            texts.push(text.map_err(|refusal| (column.as_str(), refusal))?);
        }
        let key = Key::from_components(texts);
        if key.as_bytes().len() > Key::LEN_MAX {
            let column = plan.schema.keys.first().map_or("", String::as_str);
            return Err((column, key_too_long(key.as_bytes().len())));
        }
        let code = self.keys.len() as u32;
        self.known.insert(key.as_bytes().into(), code);
        self.keys.push(key);
        Ok(code)
    }

    fn finish(self, plan: &Plan, first_row: u64) -> SourceBatch {
        let values = self
            .values
            .into_iter()
            .zip(self.nulls)
            .zip(&plan.wanted)
            .map(|((values, mut nulls), wanted)| match wanted {
                true => ValueColumn { values: values.into(), nulls: nulls.finish() },
                false => ValueColumn::absent(),
            })
            .collect();
        let columns =
            Columns { time: self.time.into(), codes: self.codes, keys: self.keys, values };
        finish(&plan.publisher, first_row, columns, self.refusals, &self.lines)
    }
}
