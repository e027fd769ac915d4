//! The canonical encoding of a result set and the hash over it. The bytes are given in the
//! README, so that any language can recompute them.

use std::fmt;

use isotick_model::Key;
use isotick_model::results::{ResultSchema, Value, WindowRow};
use isotick_model::view::OutputType;

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
/// As [`encode_rows`] and [`ResultHasher::push`].
pub fn result_hash<'a>(
    schema: &ResultSchema,
    rows: impl IntoIterator<Item = &'a WindowRow>,
) -> ResultHash {
    let mut hasher = ResultHasher::new(schema);
    let (mut bytes, mut last) = (Vec::new(), None);
    for row in rows {
        assert_eq!(row.values.len(), hasher.columns, "a result row has one value per column");
        if let Some((key, start)) = last {
            check_order((key, start), row);
        }
        last = Some((&row.key, row.window_start));
        encode(row, &mut bytes);
        hasher.rows += 1;
        if bytes.len() >= HASHED_BYTES {
            hasher.hasher.update(&bytes);
            bytes.clear();
        }
    }
    hasher.hasher.update(&bytes);
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

/// Rows in canonical order, with their encoding.
#[derive(Clone, Debug)]
pub struct EncodedRows {
    rows: Vec<WindowRow>,
    bytes: Vec<u8>,
}

impl EncodedRows {
    /// The rows.
    pub fn rows(&self) -> &[WindowRow] {
        &self.rows
    }

    /// The rows.
    pub fn into_rows(self) -> Vec<WindowRow> {
        self.rows
    }
}

/// Encodes rows for a [`ResultHasher`].
///
/// # Panics
/// When a row does not come after the last one in canonical order, has another number of values
/// than the first, or holds a float that is NaN, infinite or −0: each is a bug of whoever made
/// the row.
pub fn encode_rows(rows: Vec<WindowRow>) -> EncodedRows {
    let mut bytes = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            check_order((&rows[at - 1].key, rows[at - 1].window_start), row);
            assert_eq!(row.values.len(), rows[0].values.len(), "rows have the same columns");
        }
        encode(row, &mut bytes);
    }
    EncodedRows { rows, bytes }
}

fn check_order(last: (&Key, i64), next: &WindowRow) {
    assert!(
        last < (&next.key, next.window_start),
        "result rows come by key bytes, then window start, each once: ({}, {}) came after ({}, {})",
        next.key,
        next.window_start,
        last.0,
        last.1,
    );
}

fn encode(row: &WindowRow, bytes: &mut Vec<u8>) {
    bytes.push(1);
    put_bytes(bytes, row.key.as_bytes());
    bytes.extend(row.window_start.to_le_bytes());
    bytes.extend(row.window_end.to_le_bytes());
    for value in &row.values {
        match value {
            Value::Null => bytes.push(0),
            Value::Integer(integer) => {
                bytes.push(1);
                bytes.extend(integer.to_le_bytes());
            }
            Value::Float(float) => {
                assert!(
                    float.is_finite() && (*float != 0.0 || float.is_sign_positive()),
                    "a result is never NaN, infinite or -0"
                );
                bytes.push(2);
                bytes.extend(float.to_bits().to_le_bytes());
            }
        }
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
        let (Some(first), Some(last)) = (block.rows.first(), block.rows.last()) else { return };
        assert_eq!(first.values.len(), self.columns, "a result row has one value per column");
        if let Some((key, start)) = &self.last {
            check_order((key, *start), first);
        }
        self.hasher.update(&block.bytes);
        self.rows += block.rows.len() as u64;
        self.last = Some((last.key.clone(), last.window_start));
    }

    /// The hash of all rows so far.
    pub fn finish(&self) -> ResultHash {
        let mut hasher = self.hasher.clone();
        hasher.update(&[0]);
        hasher.update(&self.rows.to_le_bytes());
        ResultHash(*hasher.finalize().as_bytes())
    }
}

fn put_len(bytes: &mut Vec<u8>, len: usize) {
    let len = u32::try_from(len).expect("lengths in a result set fit 32 bits");
    bytes.extend(len.to_le_bytes());
}

fn put_bytes(bytes: &mut Vec<u8>, field: &[u8]) {
    put_len(bytes, field.len());
    bytes.extend(field);
}

#[cfg(test)]
mod tests;
