//! What only fuzzing reaches from outside: packed columns on their own.

use crate::DecodeError;
use crate::pack::{self, Cursor};

/// Reads a packed column of `rows` values. Returns them and how many bytes are left over.
///
/// # Errors
///
/// Bytes that are no packed column of so many values.
pub fn read_column(bytes: &[u8], rows: usize) -> Result<(Vec<i64>, usize), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let mut values = Vec::new();
    pack::read_column(&mut cursor, rows, "a column", |block| values.extend_from_slice(block))?;
    Ok((values, cursor.rest().len()))
}

/// Packs values.
pub fn put_column(values: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack::put_column(values.len(), |row| values[row], &mut bytes);
    bytes
}
