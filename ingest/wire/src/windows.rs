//! Window batches: what a subscriber gets.

use std::collections::HashMap;

use isotick_model::Key;
use isotick_model::results::{Value, WindowRow};

use crate::pack::{Cursor, put_signed, put_signed_wide, put_unsigned};
use crate::{DecodeError, EncodeError, MESSAGE_BYTES_MAX};

/// The layout described in the crate's documentation.
const LAYOUT: u8 = 1;
/// The most windows of one message.
pub const ROWS_MAX: usize = 65_536;
/// The most values of one message: windows × value columns. It bounds what a decoder allocates.
pub const VALUES_MAX: usize = 1 << 19;

/// The least bytes of a window: key code, start, width, version, reason.
const WINDOW_BYTES_MIN: usize = 5;

/// Why a window has the version it has. The discriminants are stable: they go to the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum VersionReason {
    /// The window closed: its first publication.
    Closed = 1,
    /// Late ticks within the allowed lateness changed it.
    Late = 2,
    /// A reconciliation with all ticks known now changed it.
    Reconciled = 3,
}

impl VersionReason {
    /// The reason with this discriminant.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Closed, Self::Late, Self::Reconciled].into_iter().find(|r| *r as u8 == code)
    }

    /// The reason's name in output and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Late => "late",
            Self::Reconciled => "reconciled",
        }
    }
}

/// One version of one window.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedWindow {
    /// The window. Values in the order of the view's columns.
    pub row: WindowRow,
    /// Why this version exists.
    pub reason: VersionReason,
}

/// Windows of one view that were published together, in the order of publication.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WindowBatch {
    /// The windows.
    pub windows: Vec<PublishedWindow>,
    /// Where to resume after this batch: the number of windows that the view had published, from
    /// its beginning, when the last one of the batch was.
    pub next_cursor: u64,
}

/// Appends the payload of one message. Equal input gives equal bytes.
///
/// # Errors
///
/// [`EncodeError::TooLarge`] when the windows do not fit one message, and
/// [`EncodeError::ColumnLength`] when a window has another number of values than `columns`;
/// then nothing is appended.
pub fn encode(
    windows: &[PublishedWindow],
    next_cursor: u64,
    columns: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let too_large = EncodeError::TooLarge { rows: windows.len() };
    if !fits(windows.len(), columns) {
        return Err(too_large);
    }
    if let Some(odd) = windows.iter().find(|window| window.row.values.len() != columns) {
        let values = odd.row.values.len();
        return Err(EncodeError::ColumnLength { column: 0, values, rows: columns });
    }
    let mut known = HashMap::with_capacity(windows.len());
    let mut keys: Vec<&Key> = Vec::with_capacity(windows.len());
    let codes = windows.iter().map(|window| {
        *known.entry(&window.row.key).or_insert_with(|| {
            keys.push(&window.row.key);
            keys.len() as u64 - 1
        })
    });
    let codes: Vec<u64> = codes.collect();
    out.reserve(windows.len() * (WINDOW_BYTES_MIN + 8 * columns));
    out.extend_from_slice(&[LAYOUT, 0]);
    out.extend_from_slice(&(columns as u16).to_le_bytes());
    for count in [windows.len(), keys.len()] {
        out.extend_from_slice(&(count as u32).to_le_bytes());
    }
    out.extend_from_slice(&next_cursor.to_le_bytes());
    for key in &keys {
        out.extend_from_slice(&(key.as_bytes().len() as u16).to_le_bytes());
        out.extend_from_slice(key.as_bytes());
    }
    let mut before = 0i64;
    for (PublishedWindow { row, reason }, code) in windows.iter().zip(codes) {
        put_unsigned(code, out);
        put_signed(row.window_start.wrapping_sub(before), out);
        put_unsigned(row.window_end.wrapping_sub(row.window_start) as u64, out);
        before = row.window_start;
        put_unsigned(u64::from(row.version), out);
        out.push(*reason as u8);
        for value in &row.values {
            match value {
                Value::Null => out.push(0),
                Value::Integer(value) => {
                    out.push(1);
                    put_signed_wide(*value, out);
                }
                Value::Float(value) => {
                    out.push(2);
                    out.extend_from_slice(&value.to_bits().to_le_bytes());
                }
            }
        }
    }
    let checksum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&checksum.to_le_bytes());
    if out.len() - start > MESSAGE_BYTES_MAX {
        out.truncate(start);
        return Err(too_large);
    }
    Ok(())
}

fn fits(windows: usize, columns: usize) -> bool {
    windows <= ROWS_MAX && columns <= usize::from(u16::MAX) && windows * columns <= VALUES_MAX
}

/// Reads the payload of one message of a view with this many value columns.
///
/// Allocates at most [`VALUES_MAX`] values, and memory in proportion to `bytes`.
///
/// # Errors
///
/// Any bytes that [`encode`] does not make for such a view.
pub fn decode(bytes: &[u8], columns: usize) -> Result<WindowBatch, DecodeError> {
    let (body, checksum) =
        bytes.split_last_chunk::<4>().ok_or(DecodeError::Truncated { what: "a window batch" })?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err(DecodeError::Checksum);
    }
    let mut cursor = Cursor::new(body);
    let cursor = &mut cursor;
    let what = "a window batch's header";
    let [layout, flags] = cursor.array(what)?;
    if layout != LAYOUT {
        return Err(DecodeError::Layout { expected: LAYOUT, found: layout });
    }
    if flags != 0 {
        return Err(DecodeError::Invalid { what: "a window batch's flags byte" });
    }
    let found = usize::from(cursor.u16(what)?);
    let (rows, keys) = (cursor.u32(what)? as usize, cursor.u32(what)? as usize);
    let next_cursor = u64::from_le_bytes(cursor.array(what)?);
    if rows > ROWS_MAX || !fits(rows, found) {
        return Err(DecodeError::TooManyRows { rows, columns: found });
    }
    if found != columns {
        return Err(DecodeError::Columns { expected: columns, found });
    }
    if keys > rows {
        return Err(DecodeError::Invalid { what: "a window batch's number of keys" });
    }
    let what = "a key of a window batch";
    let keys = (0..keys).map(|_| {
        let length = usize::from(cursor.u16(what)?);
        Key::from_bytes(cursor.take(length, what)?).ok_or(DecodeError::Invalid { what })
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    // Room is made for what the bytes may hold, not for what they say.
    let mut windows = Vec::with_capacity(rows.min(cursor.left() / WINDOW_BYTES_MIN));
    let mut before = 0i64;
    for _ in 0..rows {
        let window = read_window(cursor, &keys, before, columns)?;
        before = window.row.window_start;
        windows.push(window);
    }
    cursor.end()?;
    Ok(WindowBatch { windows, next_cursor })
}

fn read_window(
    cursor: &mut Cursor<'_>,
    keys: &[Key],
    before: i64,
    columns: usize,
) -> Result<PublishedWindow, DecodeError> {
    let what = "a window";
    let invalid = DecodeError::Invalid { what };
    let code = usize::try_from(cursor.unsigned(what)?).unwrap_or(usize::MAX);
    let Some(key) = keys.get(code).cloned() else { return Err(invalid) };
    let window_start = before.wrapping_add(cursor.signed(what)?);
    let window_end = window_start.wrapping_add(cursor.unsigned(what)? as i64);
    let Ok(version) = u32::try_from(cursor.unsigned(what)?) else { return Err(invalid) };
    let Some(reason) = VersionReason::from_code(cursor.byte(what)?) else { return Err(invalid) };
    let values = (0..columns).map(|_| read_value(cursor)).collect::<Result<_, _>>()?;
    Ok(PublishedWindow {
        row: WindowRow { key, window_start, window_end, version, values },
        reason,
    })
}

fn read_value(cursor: &mut Cursor<'_>) -> Result<Value, DecodeError> {
    let what = "a window's value";
    match cursor.byte(what)? {
        0 => Ok(Value::Null),
        1 => cursor.signed_wide(what).map(Value::Integer),
        2 => {
            let value = f64::from_bits(u64::from_le_bytes(cursor.array(what)?));
            let allowed = value.is_finite() && (value != 0.0 || value.is_sign_positive());
            allowed.then_some(Value::Float(value)).ok_or(DecodeError::Invalid { what })
        }
        _ => Err(DecodeError::Invalid { what }),
    }
}

#[cfg(test)]
mod tests;
