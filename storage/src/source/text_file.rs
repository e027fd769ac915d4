//! CSV and TSV files: row by row, a field at a time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_buffer::NullBufferBuilder;
use isotick_model::{Key, RejectReason, ValueColumn};

use super::batch::{Columns, Refusal, Refusals, TimeRange, finish, key_too_long, unknown_key};
use super::lines::{Line, Records};
use super::{
    Format, Plan, Progress, ProgressUnit, SourceBatch, SourceError, array, read_error, text,
};

/// A text file being read.
pub(super) struct TextFile {
    records: Records,
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

/// The fields that the header names.
pub(super) fn header(path: &Path, format: Format) -> Result<Vec<String>, SourceError> {
    Records::open(path, format, Arc::default())?.header(path)
}

impl TextFile {
    pub(super) fn open(plan: &Plan, format: Format) -> Result<Self, SourceError> {
        let path = &plan.path;
        let bytes_done = Arc::default();
        let mut records = Records::open(path, format, Arc::clone(&bytes_done))?;
        let width = records.header(path)?.len();
        let bytes_total = std::fs::metadata(path).map_err(read_error(path))?.len();
        Ok(Self { records, width, bytes_total, bytes_done, next_row: 0, end_row: u64::MAX })
    }

    pub(super) fn progress(&self) -> Progress {
        let done = self.bytes_done.load(Ordering::Relaxed);
        Progress { done, total: self.bytes_total, unit: ProgressUnit::Bytes }
    }

    pub(super) fn end_at(&mut self, row: u64) {
        self.end_row = self.end_row.min(row);
    }

    pub(super) fn skip_to(&mut self, plan: &Plan, row: u64) -> Result<(), SourceError> {
        while self.next_row < row.min(self.end_row) && self.records.pass(&plan.path)? {
            self.next_row += 1;
        }
        Ok(())
    }

    fn advance(&mut self, plan: &Plan) -> Result<Option<Line>, SourceError> {
        let line = self.records.next(&plan.path)?;
        self.next_row += u64::from(line.is_some());
        Ok(line)
    }

    pub(super) fn next_batch(&mut self, plan: &Plan) -> Result<Option<SourceBatch>, SourceError> {
        let first_row = self.next_row;
        let mut rows = Rows::new(plan);
        while rows.time.len() < plan.batch_rows && self.next_row < self.end_row {
            let Some(line) = self.advance(plan)? else { break };
            rows.push(plan, line, &self.records, self.width);
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

    fn push(&mut self, plan: &Plan, line: Line, record: &Records, width: usize) {
        let read = match line {
            Line::Fields => self.read(plan, record, width),
            Line::Broken(why) => Err(("", (RejectReason::Malformed, why.to_string()))),
        };
        let (time, code) = read.unwrap_or_else(|(column, refusal)| {
            self.refusals.push(self.time.len(), column, refusal);
            self.row.clear();
            self.row.resize(plan.schema.columns.len(), None);
            (0, 0)
        });
        self.time.push(time);
        self.codes.push(code);
        self.lines.push(record.number());
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
        record: &Records,
        width: usize,
    ) -> Result<(i64, u32), Fault<'a>> {
        if record.len() != width {
            let text = format!("the row has {} fields, the header {width}", record.len());
            return Err(("", (RejectReason::Malformed, text)));
        }
        let schema = &plan.schema;
        let time = match record.field(plan.bindings.time).trim_ascii() {
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
            let field = field.map_or(&b""[..], |field| record.field(field).trim_ascii());
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

    fn key_code<'a>(&mut self, plan: &'a Plan, record: &Records) -> Result<u32, Fault<'a>> {
        self.key.clear();
        let mut whole = true;
        for &field in &plan.bindings.keys {
            let field = record.field(field);
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
            let text = match record.field(field) {
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
        if plan.schema.keys_allowed.as_ref().is_some_and(|allowed| !allowed.contains(&key)) {
            let column = plan.schema.keys.first().map_or("", String::as_str);
            return Err((column, unknown_key(&key)));
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
        let columns = Columns {
            time: self.time.into(),
            codes: self.codes.into(),
            keys: self.keys.into(),
            values,
        };
        let ordinals = first_row..first_row + columns.time.len() as u64;
        finish(&plan.publisher, ordinals.collect(), columns, self.refusals, &self.lines)
    }
}
