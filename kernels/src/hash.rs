//! The canonical encoding of a result set and the hash over it. The bytes are given in the
//! README, so that any language can recompute them.

use std::fmt;
use std::ops::Range;

use isotick_model::Key;
use isotick_model::results::{ResultSchema, Value, WindowRow};
use isotick_model::view::OutputType;

use crate::finished::Finished;

/// The first bytes of every encoding; the number is raised when the encoding changes.
const FORMAT_TAG: &[u8; 16] = b"isotick.result.1";

/// The BLAKE3 hash of a result set, displayed as 64 lowercase hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResultHash(pub [u8; 32]);

impl fmt::Display for ResultHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

/// The hash of rows in canonical order: by key bytes, then window start, each once. Versions do
/// not enter it.
///
/// # Panics
/// As [`EncodedRows::push`] and [`ResultHasher::push`].
pub fn result_hash<'a>(
    schema: &ResultSchema,
    rows: impl IntoIterator<Item = &'a WindowRow>,
) -> ResultHash {
    let mut hasher = ResultHasher::new(schema);
    let mut block = EncodedRows::new(hasher.columns);
    for row in rows {
        block.push_row(row);
        if block.bytes.len() >= HASHED_BYTES {
            hasher.push(&block);
            block.clear();
        }
    }
    hasher.push(&block);
    hasher.finish()
}

/// Bytes that are hashed at a time: many, so that the hash runs at full width.
const HASHED_BYTES: usize = 1 << 16;

/// The same block by block.
#[derive(Clone, Debug)]
pub struct ResultHasher {
    hasher: blake3::Hasher,
    columns: usize,
    rows: u64,
    last: Option<(Key, i64)>,
}

/// Rows that are written before the room that they left is given back.
const WRITTEN_TOGETHER: usize = 64;

/// Room that is made at once, at most.
const ROOM_BYTES_MAX: usize = 1 << 20;

/// The most that a row takes: no value takes more than 17 bytes.
const fn row_bytes_max(columns: usize, key_bytes: usize) -> usize {
    head_bytes(key_bytes) + 17 * columns
}

/// What comes before a row's values.
const fn head_bytes(key_bytes: usize) -> usize {
    5 + key_bytes + TIMES_BYTES
}

/// The last of it.
const TIMES_BYTES: usize = 16;

/// Rows in canonical order, as their encoding.
#[derive(Clone, Debug)]
pub struct EncodedRows {
    columns: usize,
    bytes: Vec<u8>,
    rows: u64,
    first: Option<(Key, i64)>,
    last: Option<(Key, i64)>,
}

impl EncodedRows {
    /// No rows yet, of so many values each.
    pub fn new(columns: usize) -> Self {
        Self { columns, bytes: Vec::new(), rows: 0, first: None, last: None }
    }

    /// The same, with room for so many rows whose keys have at most so many bytes.
    pub(crate) fn with_room(columns: usize, rows: usize, key_bytes: usize) -> Self {
        let room = rows.saturating_mul(row_bytes_max(columns, key_bytes)).min(ROOM_BYTES_MAX);
        Self { bytes: Vec::with_capacity(room), ..Self::new(columns) }
    }

    /// These rows.
    ///
    /// # Panics
    /// As [`Self::push`].
    pub fn of(columns: usize, rows: &[WindowRow]) -> Self {
        let mut encoded = Self::new(columns);
        rows.iter().for_each(|row| encoded.push_row(row));
        encoded
    }

    fn push_row(&mut self, row: &WindowRow) {
        let times = row.window_start..row.window_end;
        self.push(&row.key, times, row.values.iter().copied());
    }

    /// Adds the row of the window of these times.
    ///
    /// # Panics
    /// When it does not come after the last one in canonical order, has another number of values,
    /// or holds a float that is NaN, infinite or −0: each is a bug of whoever made the row.
    pub(crate) fn push(
        &mut self,
        key: &Key,
        times: Range<i64>,
        values: impl ExactSizeIterator<Item = Value>,
    ) {
        assert_eq!(values.len(), self.columns, "a result row has one value per column");
        match &mut self.last {
            Some((last, start)) if last == key && *start < times.start => *start = times.start,
            last => {
                check_order(last.as_ref(), (key, times.start));
                *last = Some((key.clone(), times.start));
            }
        }
        self.first.get_or_insert_with(|| (key.clone(), times.start));
        self.rows += 1;
        self.write(row_bytes_max(self.columns, key.as_bytes().len()), |fields| {
            fields.head(key, times);
            values.for_each(|value| fields.value(value));
        });
    }

    /// Adds finished windows of one key, from a first to a last one, each with its end.
    ///
    /// # Panics
    /// As [`Self::push`].
    pub(crate) fn push_finished(
        &mut self,
        key: &Key,
        finished: &Finished,
        windows: Range<usize>,
        end_of: impl Fn(i64) -> i64,
    ) {
        assert_eq!(finished.columns(), self.columns, "a result row has one value per column");
        if windows.is_empty() {
            return;
        }
        let starts = finished.starts(windows.clone());
        let (first, last) = (starts[0], starts[starts.len() - 1]);
        check_order(self.last.as_ref(), (key, first));
        assert!(starts.is_sorted_by(|a, b| a < b), "windows of one key come by start, each once");
        self.first.get_or_insert_with(|| (key.clone(), first));
        self.last = Some((key.clone(), last));
        self.rows += starts.len() as u64;
        let key_bytes = key.as_bytes().len();
        let head_bytes = head_bytes(key_bytes);
        // Mostly all rows have one length: then they are written column by column.
        let row_bytes = finished.values_bytes().map(|bytes| head_bytes + bytes);
        let mut next = windows.start;
        for starts in starts.chunks(WRITTEN_TOGETHER) {
            let these = next..next + starts.len();
            next = these.end;
            let Some(row_bytes) = row_bytes else {
                let row_bytes = row_bytes_max(self.columns, key_bytes);
                self.write(starts.len() * row_bytes, |fields| {
                    for (&start, window) in starts.iter().zip(these) {
                        fields.head(key, start..end_of(start));
                        finished.put(window, fields);
                    }
                });
                continue;
            };
            // They begin alike.
            let begun = self.bytes.len();
            self.bytes.resize(begun + row_bytes, 0);
            Fields { bytes: &mut self.bytes[begun..], at: 0 }.head(key, 0..0);
            (1..starts.len()).for_each(|_| self.bytes.extend_from_within(begun..begun + row_bytes));
            let rows = &mut self.bytes[begun..];
            for (row, &start) in rows.chunks_exact_mut(row_bytes).zip(starts) {
                Fields { bytes: row, at: head_bytes - TIMES_BYTES }.times(start..end_of(start));
            }
            finished.put_columns(these, rows, row_bytes, head_bytes);
        }
    }

    /// Adds what `put` writes, of at most so many bytes.
    fn write(&mut self, bytes_max: usize, put: impl FnOnce(&mut Fields<'_>)) {
        let start = self.bytes.len();
        self.bytes.resize(start + bytes_max, 0);
        let mut fields = Fields { bytes: &mut self.bytes[start..], at: 0 };
        put(&mut fields);
        let written = fields.at;
        self.bytes.truncate(start + written);
    }

    /// The encoding, as the README gives it: what enters the hash of a result.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Rows from their [encoding](Self::bytes), with so many values each; `None` when it is none,
    /// or they are not in canonical order.
    pub fn from_bytes(columns: usize, bytes: Vec<u8>) -> Option<Self> {
        let mut rows = Self { bytes, ..Self::new(columns) };
        let mut last: Option<(Key, i64)> = None;
        let (mut at, mut count) = (0, 0);
        while at < rows.bytes.len() {
            let head = rows.head(at)?;
            let is_next = match &last {
                None => true,
                Some((key, start)) => (key.as_bytes(), *start) < (head.key, head.start),
            };
            if !is_next {
                return None;
            }
            match &mut last {
                Some((key, start)) if key.as_bytes() == head.key => *start = head.start,
                last => *last = Some((Key::from_bytes(head.key)?, head.start)),
            }
            at = head.end;
            if count == 0 {
                rows.first.clone_from(&last);
            }
            count += 1;
        }
        rows.rows = count;
        rows.last = last;
        Some(rows)
    }

    /// How many rows there are.
    pub fn len(&self) -> u64 {
        self.rows
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Key and start of the first row.
    pub fn first(&self) -> Option<(&Key, i64)> {
        self.first.as_ref().map(|(key, start)| (key, *start))
    }

    /// The row whose encoding begins there.
    pub(crate) fn head(&self, at: usize) -> Option<Head<'_>> {
        let mut bytes = self.bytes.get(at..)?;
        let [1] = take(&mut bytes)? else { return None };
        let len = u32::from_le_bytes(take(&mut bytes)?);
        let (key, mut bytes) = bytes.split_at_checked(len as usize)?;
        let start = i64::from_le_bytes(take(&mut bytes)?);
        let _window_end: [u8; 8] = take(&mut bytes)?;
        for _ in 0..self.columns {
            let [kind] = take(&mut bytes)?;
            let width = *VALUE_BYTES.get(usize::from(kind))?;
            bytes = bytes.get(width..)?;
        }
        Some(Head { key, start, end: self.bytes.len() - bytes.len() })
    }

    /// Adds a stretch of the rows of others, from the row that begins at a byte to one that begins
    /// at a later one. `last` is the last of them.
    ///
    /// # Panics
    /// As [`Self::push`].
    pub(crate) fn extend(&mut self, of: &Self, bytes: Range<usize>, rows: u64, last: (Key, i64)) {
        let Some(head) = of.head(bytes.start).filter(|_| rows > 0) else { return };
        let key = Key::from_bytes(head.key).expect("what was encoded can be decoded");
        check_order(self.last.as_ref(), (&key, head.start));
        self.first.get_or_insert((key, head.start));
        self.bytes.extend_from_slice(&of.bytes[bytes]);
        self.rows += rows;
        self.last = Some(last);
    }

    /// Forgets the rows; what is added next must still come after them.
    fn clear(&mut self) {
        self.bytes.clear();
        self.rows = 0;
        self.first = None;
    }

    /// The rows, with version 0.
    pub fn rows(&self) -> Vec<WindowRow> {
        let mut bytes = &self.bytes[..];
        (0..self.rows)
            .map(|_| self.decode(&mut bytes).expect("what was encoded can be decoded"))
            .collect()
    }

    fn decode(&self, bytes: &mut &[u8]) -> Option<WindowRow> {
        let [1] = take(bytes)? else { return None };
        let len = u32::from_le_bytes(take(bytes)?);
        let (key, rest) = bytes.split_at_checked(len as usize)?;
        *bytes = rest;
        Some(WindowRow {
            key: Key::from_bytes(key)?,
            window_start: i64::from_le_bytes(take(bytes)?),
            window_end: i64::from_le_bytes(take(bytes)?),
            version: 0,
            values: (0..self.columns).map(|_| take_value(bytes)).collect::<Option<_>>()?,
        })
    }
}

/// Where a row stands, and what it is ordered by.
pub(crate) struct Head<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) start: i64,
    /// Where the next one begins.
    pub(crate) end: usize,
}

/// Bytes of a value behind the one that says what it is.
const VALUE_BYTES: [usize; 3] = [0, 16, 8];

fn check_order(last: Option<&(Key, i64)>, next: (&Key, i64)) {
    let Some((key, start)) = last else { return };
    assert!(
        (key, *start) < next,
        "result rows come by key bytes, then window start, each once: ({}, {}) came after ({key}, \
         {start})",
        next.0,
        next.1,
    );
}

/// Fields of rows, written to bytes that have room for them.
pub(crate) struct Fields<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Fields<'_> {
    #[inline]
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        self.bytes[self.at..self.at + N].copy_from_slice(&field);
        self.at += N;
    }

    /// What a row begins with.
    #[inline]
    fn head(&mut self, key: &Key, times: Range<i64>) {
        let key = key.as_bytes();
        self.put([1]);
        self.put(len_bytes(key.len()));
        self.bytes[self.at..self.at + key.len()].copy_from_slice(key);
        self.at += key.len();
        self.times(times);
    }

    #[inline]
    fn times(&mut self, times: Range<i64>) {
        self.put(times.start.to_le_bytes());
        self.put(times.end.to_le_bytes());
    }

    #[inline]
    pub(crate) fn null(&mut self) {
        self.put(NULL_FIELD);
    }

    #[inline]
    pub(crate) fn integer(&mut self, integer: i128) {
        self.put(integer_field(integer));
    }

    #[inline]
    pub(crate) fn float(&mut self, float: f64) {
        self.put(float_field(float));
    }

    #[inline]
    fn value(&mut self, value: Value) {
        match value {
            Value::Null => self.null(),
            Value::Integer(integer) => self.integer(integer),
            Value::Float(float) => self.float(float),
        }
    }
}

/// A value that is none.
pub(crate) const NULL_FIELD: [u8; 1] = [0];

/// An integer's field.
#[inline]
pub(crate) fn integer_field(integer: i128) -> [u8; 17] {
    let mut field = [1; 17];
    field[1..].copy_from_slice(&integer.to_le_bytes());
    field
}

/// A float's field.
///
/// # Panics
/// When it is NaN, infinite or −0: a bug of whoever made it.
#[inline]
pub(crate) fn float_field(float: f64) -> [u8; 9] {
    assert!(
        float.is_finite() && (float != 0.0 || float.is_sign_positive()),
        "a result is never NaN, infinite or -0"
    );
    let mut field = [2; 9];
    field[1..].copy_from_slice(&float.to_bits().to_le_bytes());
    field
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (field, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*field)
}

fn take_value(bytes: &mut &[u8]) -> Option<Value> {
    match take(bytes)? {
        [0] => Some(Value::Null),
        [1] => Some(Value::Integer(i128::from_le_bytes(take(bytes)?))),
        [2] => Some(Value::Float(f64::from_bits(u64::from_le_bytes(take(bytes)?)))),
        _ => None,
    }
}

impl ResultHasher {
    /// The hash of no rows yet.
    pub fn new(schema: &ResultSchema) -> Self {
        let mut header = FORMAT_TAG.to_vec();
        put_len(&mut header, schema.keys.len());
        for name in &schema.keys {
            put_bytes(&mut header, name.as_bytes());
        }
        put_len(&mut header, schema.columns.len());
        for (name, output) in &schema.columns {
            put_bytes(&mut header, name.as_bytes());
            header.extend(match output {
                OutputType::Count => [0, 0],
                OutputType::Scaled(scale) => [1, scale.digits()],
                OutputType::ScaledWide(scale) => [2, scale.digits()],
                OutputType::Float => [3, 0],
            });
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&header);
        Self { hasher, columns: schema.columns.len(), rows: 0, last: None }
    }

    /// Adds the next rows.
    ///
    /// # Panics
    /// When they do not come after the last ones in canonical order, or have another number of
    /// values than the schema: a bug of whoever made the rows.
    pub fn push(&mut self, block: &EncodedRows) {
        let Some((key, start)) = &block.first else { return };
        assert_eq!(block.columns, self.columns, "a result row has one value per column");
        check_order(self.last.as_ref(), (key, *start));
        self.hasher.update(&block.bytes);
        self.rows += block.rows;
        self.last.clone_from(&block.last);
    }

    /// The hash of all rows so far.
    pub fn finish(&self) -> ResultHash {
        let mut hasher = self.hasher.clone();
        hasher.update(&[0]);
        hasher.update(&self.rows.to_le_bytes());
        ResultHash(*hasher.finalize().as_bytes())
    }
}

fn len_bytes(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("lengths in a result set fit 32 bits").to_le_bytes()
}

fn put_len(bytes: &mut Vec<u8>, len: usize) {
    bytes.extend_from_slice(&len_bytes(len));
}

fn put_bytes(bytes: &mut Vec<u8>, field: &[u8]) {
    put_len(bytes, field.len());
    bytes.extend_from_slice(field);
}

#[cfg(test)]
mod tests;
