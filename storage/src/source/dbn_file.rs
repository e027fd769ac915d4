//! DBN files, Databento's binary form of market data: record by record, a column at a time.
//!
//! Versions 1 to 3, plain or compressed. The metadata are decoded by the `dbn` crate, and its
//! structures say where a record's fields stand. Records are taken apart here, so that a message
//! can name the byte at which a file is damaged.

mod records;
mod symbols;

use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::types::{Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, Int32Array, PrimitiveArray, StringArray, new_null_array,
};
use arrow_schema::{ArrowError, DataType};
use dbn::decode::dbn::MetadataDecoder;
use dbn::{FIXED_PRICE_SCALE, Metadata, UNDEF_ORDER_SIZE, UNDEF_PRICE, UNDEF_TIMESTAMP, rtype};
use isotick_model::time::TimeUnit;
use isotick_model::{RejectReason, Scale, ValueColumn};

use super::array::{self, Site};
use super::batch::{Columns, Refusals, finish, keys_of, refuse_unknown_keys};
use super::caught;
use super::compressed::{Compression, Content};
use super::{Plan, Progress, ProgressUnit, SourceBatch, SourceError, open, read_error};
use records::{Field, Kind, Layout, READ, is_control};
use symbols::{Symbols, instrument_of, u64_at};

/// What a file begins with, before its version.
pub(super) const MAGIC: &[u8; 3] = b"DBN";
const VERSIONS: std::ops::RangeInclusive<u8> = 1..=3;
const PRELUDE_BYTES: usize = 8;
/// A record's length is a byte of four-byte words.
const WORD_BYTES: usize = 4;
const HEADER_BYTES: usize = size_of::<dbn::RecordHeader>();
/// Bytes of the records of a batch, at most: ten levels take as much room as a hundred prices.
const BATCH_BYTES: usize = 16 << 20;

/// A DBN file being read.
pub(super) struct DbnFile {
    records: Records,
    layout: Layout,
    /// All of a record's fields.
    fields: Vec<Field>,
    symbols: Option<Symbols>,
    bytes_total: u64,
    bytes_done: Arc<AtomicU64>,
    next_row: u64,
    end_row: u64,
}

impl std::fmt::Debug for DbnFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DbnFile").field("next_row", &self.next_row).finish_non_exhaustive()
    }
}

/// What a file says of itself.
pub(super) struct Described {
    metadata: Metadata,
    layout: Layout,
}

impl Described {
    /// Reads a file's metadata, and its first record where they name no schema.
    pub(super) fn of(path: &Path) -> Result<Self, SourceError> {
        Self::in_content(path, Content::open(path, Arc::default())?)
    }

    fn in_content(path: &Path, mut content: Content) -> Result<Self, SourceError> {
        let (metadata, offset) = read_metadata(path, &mut content)?;
        let unread = |name: &str| SourceError::DbnSchema {
            path: path.into(),
            found: name.to_owned(),
            readable: READ,
        };
        let layout = match metadata.schema {
            Some(schema) => Layout::of(schema).ok_or_else(|| unread(schema.as_str()))?,
            None => {
                let mut records = Records { content, offset, record: Vec::new() };
                loop {
                    if !records.next(path)? {
                        return Err(unread("no schema and no records"));
                    }
                    let record_type = records.record[1];
                    if !is_control(record_type) {
                        let name = || format!("records of type 0x{record_type:02x}");
                        break Layout::of_type(record_type).ok_or_else(|| unread(&name()))?;
                    }
                }
            }
        };
        Ok(Self { metadata, layout })
    }

    /// The names of the fields, in order.
    pub(super) fn field_names(&self) -> Vec<String> {
        self.read().into_iter().map(|field| field.name).collect()
    }

    /// Names, types and scales of the fields.
    pub(super) fn fields(&self) -> Vec<(String, DataType, Option<Scale>)> {
        let fields = self.read().into_iter();
        fields
            .map(|field| (field.name.clone(), field.kind.data_type(), price_scale(&field)))
            .collect()
    }

    fn read(&self) -> Vec<Field> {
        let mapped = Symbols::of(&self.metadata).is_some();
        let fields = self.layout.fields.iter().cloned();
        fields.filter(|field| mapped || field.kind != Kind::Symbol).collect()
    }

    /// Shows the columns of the first rows.
    pub(super) fn look(
        self,
        path: &Path,
        rows: usize,
        mut look: impl FnMut(&[ArrayRef]),
    ) -> Result<(), SourceError> {
        let fields = self.read();
        let mut file = DbnFile::new(path, self, fields)?;
        let mut left = rows;
        while left > 0 {
            let batch = file.read(path, left.min(65_536))?;
            if batch.rows == 0 {
                break;
            }
            left -= batch.rows;
            let columns: Vec<_> = file.fields.iter().map(|field| batch.key(field)).collect();
            look(&columns);
        }
        Ok(())
    }
}

/// The scale of a field's integers.
fn price_scale(field: &Field) -> Option<Scale> {
    const DIGITS: u8 = FIXED_PRICE_SCALE.ilog10() as u8;
    (field.kind == Kind::Price).then(|| Scale::new(DIGITS).expect("prices have nine decimals"))
}

/// Reads what stands before the first record, and how many bytes it took.
fn read_metadata(path: &Path, content: &mut Content) -> Result<(Metadata, u64), SourceError> {
    let damaged = |content: &Content, offset: usize, what: String| SourceError::Dbn {
        path: path.into(),
        offset: offset as u64,
        of: of(content),
        what,
    };
    let mut head = Vec::new();
    let take = |content: &mut Content, head: &mut Vec<u8>, bytes: usize| {
        let read = content.by_ref().take(bytes as u64).read_to_end(head);
        read.map_err(|source| content.failed(path, "in its metadata".to_owned(), source))
    };
    take(content, &mut head, PRELUDE_BYTES)?;
    if !head.starts_with(MAGIC) {
        let what = "it does not begin as DBN does: a fragment without metadata, or another format";
        return Err(damaged(content, 0, what.to_owned()));
    }
    if head.len() < PRELUDE_BYTES {
        return Err(damaged(content, head.len(), "it ends within its metadata".to_owned()));
    }
    let version = head[MAGIC.len()];
    if !VERSIONS.contains(&version) {
        let what = format!(
            "it is DBN version {version}, and versions {} to {} can be read: convert it with \
             Databento's `dbn` tool",
            VERSIONS.start(),
            VERSIONS.end()
        );
        return Err(damaged(content, MAGIC.len(), what));
    }
    let length = u32::from_le_bytes(head[4..PRELUDE_BYTES].try_into().expect("four bytes"));
    let end = PRELUDE_BYTES + length as usize;
    // Grows with what is there, whatever length is announced.
    take(content, &mut head, length as usize)?;
    if head.len() < end {
        let what = format!("it ends within its metadata, which take {end} bytes");
        return Err(damaged(content, head.len(), what));
    }
    // The decoder returns errors; arithmetic on bytes that are no metadata may still panic inside.
    let decoded = caught::catch(|| MetadataDecoder::new(&head[..]).decode());
    match decoded {
        Ok(Ok(metadata)) => Ok((metadata, end as u64)),
        Ok(Err(error)) => Err(damaged(content, PRELUDE_BYTES, error.to_string())),
        Err(_) => {
            let what = "its metadata are damaged".to_owned();
            Err(damaged(content, PRELUDE_BYTES, what))
        }
    }
}

/// What an offset counts bytes of.
fn of(content: &Content) -> &'static str {
    match content.compression() {
        Compression::None => "the file",
        Compression::Gzip | Compression::Zstd => "its decompressed content",
    }
}

/// The records of a file, one at a time.
struct Records {
    content: Content,
    /// Bytes of the content before the next record.
    offset: u64,
    /// The record under way.
    record: Vec<u8>,
}

impl Records {
    /// Reads the next record; `false` at the end.
    fn next(&mut self, path: &Path) -> Result<bool, SourceError> {
        let buffered = match self.content.fill_buf() {
            Ok(buffered) => buffered,
            Err(source) => return Err(self.failed(path, source)),
        };
        let Some(&words) = buffered.first() else { return Ok(false) };
        let length = usize::from(words) * WORD_BYTES;
        if length < HEADER_BYTES {
            let what = format!("a record of {length} bytes stands there, which none can have");
            return Err(self.damaged(path, what));
        }
        self.record.clear();
        if buffered.len() >= length {
            self.record.extend_from_slice(&buffered[..length]);
            self.content.consume(length);
        } else {
            let read = self.content.by_ref().take(length as u64).read_to_end(&mut self.record);
            read.map_err(|source| self.failed(path, source))?;
            if self.record.len() < length {
                let there = self.record.len();
                let what = format!("it ends within a record: {there} of {length} bytes are there");
                return Err(self.damaged(path, what));
            }
        }
        self.offset += length as u64;
        Ok(true)
    }

    fn failed(&self, path: &Path, source: std::io::Error) -> SourceError {
        let behind = format!("after {} bytes of its content", self.offset);
        self.content.failed(path, behind, source)
    }

    fn damaged(&self, path: &Path, what: String) -> SourceError {
        SourceError::Dbn { path: path.into(), offset: self.offset, of: of(&self.content), what }
    }
}

/// Rows on their way into columns.
#[derive(Default)]
struct Rows {
    rows: usize,
    /// Their records one after another, each cut to the layout's length.
    bytes: Vec<u8>,
    len: usize,
    /// The symbols, where they are asked for.
    symbols: Option<ArrayRef>,
    /// Rows that are no record of the layout.
    broken: Vec<(usize, String)>,
}

impl DbnFile {
    pub(super) fn open(plan: &Plan) -> Result<Self, SourceError> {
        let path = &plan.path;
        let described = Described::of(path)?;
        let all = described.read();
        let schema = &plan.schema;
        let bound = |place: usize, fits: fn(&DataType) -> bool, kind: &str, column: &str| {
            let field = all[place].clone();
            let data_type = match (kind, field.kind) {
                // A letter as a value is its code.
                ("value", Kind::Letter) => DataType::UInt8,
                ("value", Kind::Symbol) => DataType::Binary,
                // A price as a key would have as many texts as a scale has ways to write it.
                ("key", Kind::Price) => DataType::Float64,
                (_, kind) => kind.data_type(),
            };
            match fits(&data_type) {
                true => Ok(()),
                false => Err(SourceError::Unsupported {
                    path: path.clone(),
                    field: field.name,
                    data_type: format!("{:?}", field.kind).to_lowercase(),
                    purpose: format!("the {kind} column {column:?}"),
                }),
            }
        };
        bound(plan.bindings.time, |of| *of == DataType::UInt64, "time", &schema.time)?;
        for (&place, column) in plan.bindings.keys.iter().zip(&schema.keys) {
            bound(place, array::is_key, "key", column)?;
        }
        for (place, column) in plan.bindings.values.iter().zip(&schema.columns) {
            if let Some(place) = *place {
                bound(place, array::is_value, "value", &column.name)?;
            }
        }
        let symbol = |place: &usize| all[*place].kind == Kind::Symbol;
        let asked = plan.bindings.keys.iter().any(symbol);
        let mut file = Self::new(path, described, all)?;
        file.symbols.take_if(|_| !asked);
        Ok(file)
    }

    fn new(path: &Path, described: Described, fields: Vec<Field>) -> Result<Self, SourceError> {
        let bytes_done = Arc::default();
        let content = Content::open(path, Arc::clone(&bytes_done))?;
        let bytes_total = open(path)?.metadata().map_err(read_error(path))?.len();
        let file = Self::in_content(path, described, fields, content)?;
        Ok(Self { bytes_total, bytes_done, ..file })
    }

    fn in_content(
        path: &Path,
        described: Described,
        fields: Vec<Field>,
        mut content: Content,
    ) -> Result<Self, SourceError> {
        let Described { metadata, layout } = described;
        let (_, offset) = read_metadata(path, &mut content)?;
        Ok(Self {
            symbols: Symbols::of(&metadata),
            records: Records { content, offset, record: Vec::new() },
            layout,
            fields,
            bytes_total: 0,
            bytes_done: Arc::default(),
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

    pub(super) fn skip_to(&mut self, path: &Path, row: u64) -> Result<(), SourceError> {
        while self.next_row < row.min(self.end_row) && self.advance(path)? {}
        Ok(())
    }

    /// Reads up to the next record that is a row; `false` at the end.
    fn advance(&mut self, path: &Path) -> Result<bool, SourceError> {
        while self.records.next(path)? {
            let record = &self.records.record;
            if !is_control(record[1]) {
                self.next_row += 1;
                return Ok(true);
            }
            if record[1] == rtype::SYMBOL_MAPPING
                && let Some(symbols) = &mut self.symbols
            {
                symbols.learn(record);
            }
        }
        Ok(false)
    }

    /// The next rows, at most so many.
    fn read(&mut self, path: &Path, rows_max: usize) -> Result<Rows, SourceError> {
        let len = self.layout.len;
        let rows_max = rows_max.min(BATCH_BYTES / len).max(1);
        let mut rows = Rows { len, ..Rows::default() };
        let mut codes = Vec::new();
        while rows.rows < rows_max && self.next_row < self.end_row && self.advance(path)? {
            let record = &self.records.record;
            let broken = match (self.layout.has(record[1]), record.len() >= len) {
                (true, true) => None,
                (false, _) => Some(format!("a record of type 0x{:02x}", record[1])),
                (true, false) => Some(format!("a record of {} bytes, not {len}", record.len())),
            };
            let code = match (&mut self.symbols, &broken) {
                (Some(symbols), None) => {
                    symbols.code(instrument_of(record), u64_at(record, self.layout.index_at))
                }
                _ => None,
            };
            codes.push(code);
            match broken {
                None => rows.bytes.extend_from_slice(&record[..len]),
                Some(what) => {
                    rows.bytes.resize(rows.bytes.len() + len, 0);
                    let text = format!("{what} stands among those of {}", self.layout.name);
                    rows.broken.push((rows.rows, text));
                }
            }
            rows.rows += 1;
        }
        let symbols = self.symbols.as_mut();
        rows.symbols = symbols.map(|symbols| symbols.column(Int32Array::from(codes)));
        Ok(rows)
    }

    pub(super) fn next_batch(&mut self, plan: &Plan) -> Result<Option<SourceBatch>, SourceError> {
        let first_row = self.next_row;
        let rows = self.read(&plan.path, plan.batch_rows)?;
        if rows.rows == 0 {
            return Ok(None);
        }
        self.convert(plan, &rows, first_row).map(Some).map_err(|source: ArrowError| {
            SourceError::Damaged { path: plan.path.clone(), message: source.to_string() }
        })
    }

    fn convert(&self, plan: &Plan, rows: &Rows, first_row: u64) -> Result<SourceBatch, ArrowError> {
        let schema = &plan.schema;
        let mut refusals = Refusals::default();
        for (row, text) in &rows.broken {
            refusals.refuse(*row, rows.rows, "", (RejectReason::Malformed, text.clone()));
        }
        let time = array::times(
            &rows.key(&self.fields[plan.bindings.time]),
            TimeUnit::Nanoseconds,
            plan.range,
            Site { refusals: &mut refusals, column: &schema.time },
        )?;
        let mut texts = Vec::with_capacity(schema.keys.len());
        for (&place, column) in plan.bindings.keys.iter().zip(&schema.keys) {
            let field = &self.fields[place];
            let array = rows.key(field);
            if field.kind == Kind::Symbol {
                for row in (0..rows.rows).filter(|&row| array.is_null(row)) {
                    let instrument = instrument_of(rows.record(row));
                    let text = format!("the file maps no symbol to instrument {instrument} then");
                    let refusal = (RejectReason::NullKey, text);
                    refusals.refuse(row, rows.rows, column, refusal);
                }
            }
            let site = Site { refusals: &mut refusals, column };
            texts.push(array::key_texts(&array, site)?);
        }
        let (codes, keys) = keys_of(rows.rows, &schema.keys, &texts, &mut refusals);
        refuse_unknown_keys(schema, &codes, &keys, &mut refusals);
        let nothing = new_null_array(&DataType::Null, rows.rows);
        let mut values = Vec::with_capacity(schema.columns.len());
        for (index, column) in schema.columns.iter().enumerate() {
            let field = plan.bindings.values[index].map(|place| &self.fields[place]);
            let (array, stated) = match field {
                None => (nothing.clone(), None),
                Some(field) => (rows.value(field), Some(price_scale(field).unwrap_or_default())),
            };
            let converted = array::values(&array, column, stated, schema.inexact, &mut refusals)?;
            values.push(if plan.wanted[index] { converted } else { ValueColumn::absent() });
        }
        let columns = Columns { time, codes: codes.into(), keys: keys.into(), values };
        let ordinals = first_row..first_row + rows.rows as u64;
        Ok(finish(&plan.publisher, ordinals.collect(), columns, refusals, &[]))
    }
}

impl Rows {
    fn record(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.len..(row + 1) * self.len]
    }

    /// A field of all rows as a value column takes it.
    fn value(&self, field: &Field) -> ArrayRef {
        match field.kind {
            Kind::Letter => self.numbers::<UInt8Type, 1>(field, u8::from_le_bytes, None),
            _ => self.key(field),
        }
    }

    /// The same as a key column takes it.
    fn key(&self, field: &Field) -> ArrayRef {
        match field.kind {
            Kind::Time => {
                self.numbers::<UInt64Type, 8>(field, u64::from_le_bytes, Some(UNDEF_TIMESTAMP))
            }
            Kind::Price => {
                self.numbers::<Int64Type, 8>(field, i64::from_le_bytes, Some(UNDEF_PRICE))
            }
            Kind::Size => {
                self.numbers::<UInt32Type, 4>(field, u32::from_le_bytes, Some(UNDEF_ORDER_SIZE))
            }
            Kind::U64 => self.numbers::<UInt64Type, 8>(field, u64::from_le_bytes, None),
            Kind::U32 => self.numbers::<UInt32Type, 4>(field, u32::from_le_bytes, None),
            Kind::U16 => self.numbers::<UInt16Type, 2>(field, u16::from_le_bytes, None),
            Kind::U8 => self.numbers::<UInt8Type, 1>(field, u8::from_le_bytes, None),
            Kind::I32 => self.numbers::<Int32Type, 4>(field, i32::from_le_bytes, None),
            Kind::Letter => {
                let letters = (0..self.rows).map(|row| char::from(self.record(row)[field.at]));
                let letters = letters.map(|letter| letter.to_string());
                Arc::new(StringArray::from_iter_values(letters))
            }
            Kind::Symbol => match &self.symbols {
                Some(symbols) => symbols.clone(),
                None => new_null_array(&field.kind.data_type(), self.rows),
            },
        }
    }

    /// A column of numbers of `N` bytes, where one of them may stand for null.
    fn numbers<T: ArrowPrimitiveType, const N: usize>(
        &self,
        field: &Field,
        number: fn([u8; N]) -> T::Native,
        null: Option<T::Native>,
    ) -> ArrayRef {
        let numbers = (0..self.rows).map(|row| {
            let bytes = &self.record(row)[field.at..field.at + N];
            number(bytes.try_into().expect("as many bytes as it has"))
        });
        let column: PrimitiveArray<T> = match null {
            None => PrimitiveArray::from_iter_values(numbers),
            Some(null) => numbers.map(|number| (number != null).then_some(number)).collect(),
        };
        Arc::new(column)
    }
}

/// Reads bytes as a DBN file through to the end, every field as a key and as a value. Returns the
/// rows, or why it stopped.
pub(super) fn read_bytes(bytes: &[u8]) -> Result<u64, SourceError> {
    let path = Path::new("bytes");
    let described = Described::in_content(path, Content::of_bytes(bytes))?;
    let fields = described.read();
    let content = Content::of_bytes(bytes);
    let mut file = DbnFile::in_content(path, described, fields, content)?;
    loop {
        let rows = file.read(path, usize::MAX)?;
        if rows.rows == 0 {
            return Ok(file.next_row);
        }
        for field in &file.fields {
            assert_eq!((rows.key(field).len(), rows.value(field).len()), (rows.rows, rows.rows));
        }
    }
}
