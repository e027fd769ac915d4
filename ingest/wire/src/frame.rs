//! Tick frames: a run of rows of one publisher, column by column.

use std::collections::HashMap;
use std::ops::Range;

use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer};
use isotick_model::{Key, PublisherId, RejectReason, Rejected, Ticks, ValueColumn};

use crate::pack::{Cursor, put_column, read_column};
use crate::{DecodeError, EncodeError, REQUEST_BYTES_MAX};

/// The layout described in the crate's documentation.
const LAYOUT: u8 = 1;
/// The most rows of one frame, ticks and rejected ones together.
pub const ROWS_MAX: usize = 65_536;
/// The most 64-bit values of one frame: rows × (value columns + time, sequence and key). It
/// bounds what a decoder allocates, 16 MiB, however small the bytes are.
pub const CELLS_MAX: usize = 1 << 21;
/// The most value columns.
pub const COLUMNS_MAX: usize = 1_024;
/// Key bytes that a decoder remembers between frames.
const REMEMBERED_KEY_BYTES_MAX: usize = 1 << 20;

/// What a tick frame holds: rows of one publisher of one stream.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Rows that are ticks, in the order sent. `seen` is `None`: it is the service's to fill.
    pub ticks: Ticks,
    /// Rows that failed at the publisher; they keep their place in the sequence.
    pub rejected: Vec<Rejected>,
}

/// Makes tick frames; keeps its scratch memory between them.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Per key of the input: its code in the frame, [`u32::MAX`] while it has none.
    codes: Vec<u32>,
    /// Keys of the frame, as codes of the input.
    used: Vec<u32>,
}

impl Encoder {
    /// Appends the payload of one frame: `rows` of `ticks`, and `rejected`. The columns `seen`
    /// and `publisher` are not sent. Equal input gives equal bytes.
    ///
    /// # Errors
    ///
    /// Rows of several publishers, a column that was not read, or more than fits one message; then
    /// nothing is appended.
    pub fn encode(
        &mut self,
        ticks: &Ticks,
        rows: Range<usize>,
        rejected: &[Rejected],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        let all = rows.len() + rejected.len();
        if !fits(all, ticks.values.len()) {
            return Err(EncodeError::TooLarge { rows: all });
        }
        if ticks.publishers.len() > 1 && !ticks.publisher.is_empty() {
            return Err(EncodeError::SeveralPublishers { publishers: ticks.publishers.len() });
        }
        for (column, values) in ticks.values.iter().enumerate() {
            if values.values.len() != ticks.len() {
                let values = values.values.len();
                return Err(EncodeError::ColumnLength { column, values, rows: ticks.len() });
            }
        }
        let long = |key: &&Key| key.as_bytes().len() > Key::LEN_MAX;
        if let Some(key) = ticks.keys.iter().find(long) {
            return Err(EncodeError::KeyTooLong { bytes: key.as_bytes().len() });
        }
        let key = &ticks.key[rows.clone()];
        self.codes.resize(ticks.keys.len().max(self.codes.len()), u32::MAX);
        for &code in key {
            let slot = &mut self.codes[code as usize];
            if *slot == u32::MAX {
                *slot = self.used.len() as u32;
                self.used.push(code);
            }
        }
        out.extend_from_slice(&[LAYOUT, 0]);
        out.extend_from_slice(&(ticks.values.len() as u16).to_le_bytes());
        for count in [rows.len(), rejected.len(), self.used.len()] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for &code in &self.used {
            let bytes = ticks.keys[code as usize].as_bytes();
            out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        put_column(rows.len(), |row| i64::from(self.codes[key[row] as usize]), out);
        for code in self.used.drain(..) {
            self.codes[code as usize] = u32::MAX;
        }
        let (time, sequence) = (&ticks.ts_event[rows.clone()], &ticks.sequence[rows.clone()]);
        put_column(rows.len(), |row| time[row], out);
        put_column(rows.len(), |row| sequence[row] as i64, out);
        for column in &ticks.values {
            put_values(column, rows.clone(), out);
        }
        put_column(rejected.len(), |row| rejected[row].sequence as i64, out);
        out.extend(rejected.iter().map(|row| row.reason as u8));
        let checksum = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
        if out.len() - start > REQUEST_BYTES_MAX {
            out.truncate(start);
            return Err(EncodeError::TooLarge { rows: all });
        }
        Ok(())
    }
}

fn fits(rows: usize, columns: usize) -> bool {
    rows <= ROWS_MAX && columns <= COLUMNS_MAX && rows * (columns + 3) <= CELLS_MAX
}

fn put_values(column: &ValueColumn, rows: Range<usize>, out: &mut Vec<u8>) {
    let values = &column.values[rows.clone()];
    let nulls = column.nulls.as_ref().map(|nulls| nulls.slice(rows.start, rows.len()));
    let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else {
        out.push(0);
        put_column(values.len(), |row| values[row], out);
        return;
    };
    out.push(1);
    let start = out.len();
    out.resize(start + rows.len().div_ceil(8), 0);
    for row in nulls.valid_indices() {
        out[start + row / 8] |= 1 << (row % 8);
    }
    // A null repeats the value before it, which costs least; the reader puts 0 there.
    let mut before = nulls.valid_indices().next().map_or(0, |row| values[row]);
    let value = |row| {
        if nulls.is_valid(row) {
            before = values[row];
        }
        before
    };
    put_column(values.len(), value, out);
}

/// Reads tick frames of one session; remembers keys between frames, at most 1 MiB of them beyond
/// one frame's own.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Keys by their bytes, with the frame that used each last.
    known: HashMap<Box<[u8]>, (Key, u64)>,
    known_bytes: usize,
    frame: u64,
}

impl Decoder {
    /// Reads the payload of one frame of a stream with this many value columns.
    ///
    /// Allocates at most [`CELLS_MAX`] 64-bit values, and memory in proportion to `bytes`.
    ///
    /// # Errors
    ///
    /// Any bytes that [`Encoder::encode`] does not make for such a stream.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        publisher: &PublisherId,
        columns: usize,
    ) -> Result<Frame, DecodeError> {
        let (body, checksum) =
            bytes.split_last_chunk::<4>().ok_or(DecodeError::Truncated { what: "a tick frame" })?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return Err(DecodeError::Checksum);
        }
        let mut cursor = Cursor::new(body);
        let cursor = &mut cursor;
        let what = "a tick frame's header";
        let [layout, flags] = cursor.array(what)?;
        if layout != LAYOUT {
            return Err(DecodeError::Layout { expected: LAYOUT, found: layout });
        }
        if flags != 0 {
            return Err(DecodeError::Invalid { what: "a tick frame's flags byte" });
        }
        let found = usize::from(cursor.u16(what)?);
        let [rows, rejected, keys] =
            [cursor.u32(what)?, cursor.u32(what)?, cursor.u32(what)?].map(|n| n as usize);
        if rows > ROWS_MAX || rejected > ROWS_MAX || !fits(rows + rejected, found) {
            return Err(DecodeError::TooManyRows {
                rows: rows.saturating_add(rejected),
                columns: found,
            });
        }
        if found != columns {
            return Err(DecodeError::Columns { expected: columns, found });
        }
        if keys > rows {
            return Err(DecodeError::Invalid { what: "a tick frame's number of keys" });
        }
        let keys = self.read_keys(cursor, keys)?;
        let key = read_codes(cursor, rows, keys.len())?;
        let ts_event = read_values(cursor, rows, "the times of a tick frame")?;
        let mut sequence = Vec::with_capacity(rows);
        let what = "the sequences of a tick frame";
        read_column(cursor, rows, what, |block| {
            sequence.extend(block.iter().map(|&value| value as u64))
        })?;
        let values =
            (0..columns).map(|_| read_value_column(cursor, rows)).collect::<Result<_, _>>()?;
        let rejected = read_rejected(cursor, rejected)?;
        cursor.end()?;
        let ticks = Ticks {
            ts_event: ts_event.into(),
            sequence: sequence.into(),
            publishers: vec![publisher.clone()],
            publisher: Vec::new().into(),
            keys: keys.into(),
            key: key.into(),
            values,
            seen: None,
        };
        Ok(Frame { ticks, rejected })
    }

    fn read_keys(
        &mut self,
        cursor: &mut Cursor<'_>,
        count: usize,
    ) -> Result<Vec<Key>, DecodeError> {
        let what = "a key of a tick frame";
        if self.known_bytes > REMEMBERED_KEY_BYTES_MAX {
            self.known.clear();
            self.known_bytes = 0;
        }
        self.frame += 1;
        // Room is made for what the bytes may hold, not for what they say: a key takes two at least.
        let mut keys = Vec::with_capacity(count.min(cursor.left() / 2));
        for _ in 0..count {
            let length = usize::from(cursor.u16(what)?);
            let bytes = cursor.take(length, what)?;
            if let Some((key, frame)) = self.known.get_mut(bytes) {
                if *frame == self.frame {
                    return Err(DecodeError::Invalid { what: "a key that a tick frame repeats" });
                }
                *frame = self.frame;
                keys.push(key.clone());
                continue;
            }
            let key = Key::from_bytes(bytes).ok_or(DecodeError::Invalid { what })?;
            // A key's entry costs some hundred bytes beside its own.
            self.known_bytes += 128 + 2 * length;
            self.known.insert(bytes.into(), (key.clone(), self.frame));
            keys.push(key);
        }
        Ok(keys)
    }
}

fn read_codes(cursor: &mut Cursor<'_>, rows: usize, keys: usize) -> Result<Vec<u32>, DecodeError> {
    let what = "the key codes of a tick frame";
    let mut codes = Vec::with_capacity(rows);
    let mut valid = true;
    read_column(cursor, rows, what, |block| {
        valid &= block.iter().fold(true, |valid, &code| valid & ((code as u64) < keys as u64));
        codes.extend(block.iter().map(|&code| code as u32));
    })?;
    valid.then_some(codes).ok_or(DecodeError::Invalid { what })
}

fn read_values(
    cursor: &mut Cursor<'_>,
    rows: usize,
    what: &'static str,
) -> Result<Vec<i64>, DecodeError> {
    let mut values = Vec::with_capacity(rows);
    read_column(cursor, rows, what, |block| values.extend_from_slice(block))?;
    Ok(values)
}

fn read_value_column(cursor: &mut Cursor<'_>, rows: usize) -> Result<ValueColumn, DecodeError> {
    let what = "a value column of a tick frame";
    let nulls = match cursor.byte(what)? {
        0 => None,
        1 => {
            let bits = Buffer::from(cursor.take(rows.div_ceil(8), what)?);
            Some(NullBuffer::new(BooleanBuffer::new(bits, 0, rows)))
        }
        _ => return Err(DecodeError::Invalid { what }),
    };
    let mut values = read_values(cursor, rows, what)?;
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
    if let Some(nulls) = &nulls {
        for (row, value) in values.iter_mut().enumerate() {
            if nulls.is_null(row) {
                *value = 0;
            }
        }
    }
    Ok(ValueColumn { values: values.into(), nulls })
}

fn read_rejected(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<Rejected>, DecodeError> {
    let what = "the rejected rows of a tick frame";
    let sequences = read_values(cursor, count, what)?;
    let reasons = cursor.take(count, what)?;
    let rows = sequences.into_iter().zip(reasons).map(|(sequence, &reason)| {
        let reason = RejectReason::from_code(reason).ok_or(DecodeError::Invalid { what })?;
        Ok(Rejected { sequence: sequence as u64, reason })
    });
    rows.collect()
}

#[cfg(test)]
mod tests;
