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
/// As [`ResultHasher::push`].
pub fn result_hash<'a>(
    schema: &ResultSchema,
    rows: impl IntoIterator<Item = &'a WindowRow>,
) -> ResultHash {
    let mut hasher = ResultHasher::new(schema);
    rows.into_iter().for_each(|row| hasher.push(row));
    hasher.finish()
}

/// The same row by row.
#[derive(Clone, Debug)]
pub struct ResultHasher {
    hasher: blake3::Hasher,
    columns: usize,
    rows: u64,
    last: Option<(Key, i64)>,
    row: Vec<u8>,
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
        Self { hasher, columns: schema.columns.len(), rows: 0, last: None, row: Vec::new() }
    }

    /// Adds the next row.
    ///
    /// # Panics
    /// When the row does not come after the last one in canonical order, has another number of
    /// values than the schema, or holds a float that is NaN, infinite or −0: each is a bug of
    /// whoever made the row.
    pub fn push(&mut self, row: &WindowRow) {
        assert_eq!(row.values.len(), self.columns, "a result row has one value per column");
        if let Some((key, start)) = &self.last {
            assert!(
                (key, *start) < (&row.key, row.window_start),
                "result rows come by key bytes, then window start, each once: ({}, {}) came after ({key}, {start})",
                row.key,
                row.window_start,
            );
        }
        let bytes = &mut self.row;
        bytes.clear();
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
        self.hasher.update(bytes);
        self.rows += 1;
        self.last = Some((row.key.clone(), row.window_start));
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
