//! Records as bytes: little-endian columns, dictionaries of just the names that occur.

use std::collections::HashMap;

use arrow_buffer::{NullBuffer, ScalarBuffer};
use isotick_model::ticks::ON_TIME;
use isotick_model::{Key, PublisherId, RejectReason, Rejected, Ticks, ValueColumn};

use super::LogRecord;
use super::pack::{pack, unpack};

const TICKS: u8 = 1;
const JOINED: u8 = 2;
const IDLE: u8 = 3;
const LOST: u8 = 4;

/// The most rows, keys or anything else of a record: what a reader is willing to make room for.
const COUNT_MAX: usize = 1 << 24;

/// The most values of a record, in all columns together: columns of equal values take no bytes per
/// row, so the bytes alone would not bound what a reader makes room for. A tick frame has an eighth
/// of it at most.
pub const VALUES_MAX: usize = 1 << 24;

const ABSENT: u8 = 1;
const HAS_NULLS: u8 = 2;

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub &'static str);

/// Appends a record.
///
/// # Panics
///
/// If a tick record has not exactly one publisher, columns of different lengths, or more than
/// [`VALUES_MAX`] values.
pub(super) fn encode(record: &LogRecord, out: &mut Vec<u8>) {
    match record {
        LogRecord::Ticks { stream, ticks, rejected, ts_recv_ns } => {
            let values = values_of(ticks) + rejected.len();
            assert!(values <= VALUES_MAX, "{values} values, a log record holds {VALUES_MAX}");
            out.push(TICKS);
            put_head(stream, *ts_recv_ns, out);
            put_ticks(ticks, out);
            put_count(rejected.len(), out);
            pack(rejected, |row| row.sequence.cast_signed(), out);
            out.extend(rejected.iter().map(|row| row.reason as u8));
        }
        LogRecord::Joined { stream, publisher, ts_recv_ns } => {
            out.push(JOINED);
            put_head(stream, *ts_recv_ns, out);
            put_text(publisher.as_str(), out);
        }
        LogRecord::Idle { stream, publisher, ts_recv_ns } => {
            out.push(IDLE);
            put_head(stream, *ts_recv_ns, out);
            put_text(publisher.as_str(), out);
        }
        LogRecord::Lost { stream, publisher, through, ts_recv_ns } => {
            out.push(LOST);
            put_head(stream, *ts_recv_ns, out);
            put_text(publisher.as_str(), out);
            out.extend_from_slice(&through.to_le_bytes());
        }
    }
}

/// Reads a record that fills `bytes`.
pub(super) fn decode(bytes: &[u8]) -> Result<LogRecord, Malformed> {
    let mut input = Input::new(bytes);
    let kind = input.u8()?;
    let ts_recv_ns = input.i64()?;
    let stream = input.text()?.to_owned();
    let record = match kind {
        TICKS => {
            let ticks = get_ticks(&mut input)?;
            let count = input.count()?;
            let sequences = unpack(&mut input, count)?;
            let reasons = input.bytes(count)?;
            let row = |(sequence, reason): (i64, &u8)| {
                let reason = RejectReason::from_code(*reason)
                    .ok_or(Malformed("a rejection has an unknown reason"))?;
                Ok(Rejected { sequence: sequence.cast_unsigned(), reason })
            };
            let rejected = sequences.into_iter().zip(reasons).map(row).collect::<Result<_, _>>()?;
            LogRecord::Ticks { stream, ticks, rejected, ts_recv_ns }
        }
        JOINED => LogRecord::Joined { stream, publisher: input.publisher()?, ts_recv_ns },
        IDLE => LogRecord::Idle { stream, publisher: input.publisher()?, ts_recv_ns },
        LOST => {
            let publisher = input.publisher()?;
            let through = input.i64()?.cast_unsigned();
            LogRecord::Lost { stream, publisher, through, ts_recv_ns }
        }
        _ => return Err(Malformed("a record is of an unknown kind")),
    };
    if !input.bytes.is_empty() {
        return Err(Malformed("a record has bytes left over"));
    }
    Ok(record)
}

/// What room a reader makes: key, time and sequence of each row, its values, and for a late one
/// which row it is and the watermark it met.
fn values_of(ticks: &Ticks) -> usize {
    let late = ticks.seen.iter().flatten().filter(|&&seen| seen != ON_TIME).count();
    let values: usize = ticks.values.iter().map(|column| column.values.len()).sum();
    3 * ticks.len() + values + 2 * late
}

fn put_ticks(ticks: &Ticks, out: &mut Vec<u8>) {
    let rows = ticks.len();
    assert_eq!(ticks.publishers.len(), 1, "a log record holds the ticks of one publisher");
    put_text(ticks.publishers[0].as_str(), out);
    put_count(rows, out);

    let put_key = |key: &Key, out: &mut Vec<u8>| {
        // Key::LEN_MAX is 4096.
        out.extend_from_slice(&(key.as_bytes().len() as u16).to_le_bytes());
        out.extend_from_slice(key.as_bytes());
    };
    let compacted;
    let codes: &[u32] = if is_compact(&ticks.key, ticks.keys.len()) {
        put_count(ticks.keys.len(), out);
        ticks.keys.iter().for_each(|key| put_key(key, out));
        &ticks.key
    } else {
        let (used, codes) = used_keys(&ticks.key, ticks.keys.len());
        put_count(used.len(), out);
        used.iter().for_each(|&code| put_key(&ticks.keys[code as usize], out));
        compacted = codes;
        &compacted
    };
    let lengths = [ticks.key.len(), ticks.sequence.len()];
    assert_eq!(lengths, [rows; 2], "the columns of ticks have equal length");
    pack(codes, |code| code.into(), out);
    pack(&ticks.ts_event, |ts| ts, out);
    pack(&ticks.sequence, u64::cast_signed, out);

    put_count(ticks.values.len(), out);
    for column in &ticks.values {
        if column.values.is_empty() && rows > 0 {
            out.push(ABSENT);
            continue;
        }
        assert_eq!(column.values.len(), rows, "the columns of ticks have equal length");
        match &column.nulls {
            Some(nulls) => {
                out.push(HAS_NULLS);
                out.extend((0..rows).step_by(8).map(|start| {
                    (start..rows.min(start + 8)).fold(0, |byte, row| {
                        byte | (u8::from(nulls.is_valid(row)) << (row - start))
                    })
                }));
            }
            None => out.push(0),
        }
        pack(&column.values, |value| value, out);
    }

    let late: Vec<u32> = match &ticks.seen {
        Some(seen) => (0..rows as u32).filter(|&row| seen[row as usize] != ON_TIME).collect(),
        None => Vec::new(),
    };
    put_count(late.len(), out);
    pack(&late, |row| row.into(), out);
    pack(&late, |row| ticks.seen_of(row as usize), out);
}

fn get_ticks(input: &mut Input<'_>) -> Result<Ticks, Malformed> {
    let publishers = vec![input.publisher()?];
    let rows = input.count()?;
    let key_count = input.count()?;
    // Counts are not trusted with memory before the bytes behind them are seen.
    let mut keys = Vec::new();
    for _ in 0..key_count {
        let length = input.u16()?;
        let key = Key::from_bytes(input.bytes(length.into())?);
        keys.push(key.ok_or(Malformed("a key is no encoding of text"))?);
    }
    let codes = unpack_bounded(input, rows, keys.len())?;
    let ts_event = unpack(input, rows)?;
    let sequence = unpack(input, rows)?.into_iter().map(i64::cast_unsigned).collect();
    let column_count = input.count()?;
    let mut values = Vec::new();
    for _ in 0..column_count {
        values.push(get_column(input, rows)?);
    }
    let late = input.count()?;
    let late_rows = unpack_bounded(input, late, rows)?;
    let late_seen = unpack(input, late)?;
    let seen = (late > 0).then(|| {
        let mut seen = vec![ON_TIME; rows];
        for (row, w) in late_rows.into_iter().zip(late_seen) {
            seen[row as usize] = w;
        }
        ScalarBuffer::from(seen)
    });
    Ok(Ticks {
        ts_event: ts_event.into(),
        sequence,
        publishers,
        publisher: Vec::new().into(),
        keys: keys.into(),
        key: codes.into(),
        values,
        seen,
    })
}

fn get_column(input: &mut Input<'_>, rows: usize) -> Result<ValueColumn, Malformed> {
    let nulls = match input.u8()? {
        ABSENT => return Ok(ValueColumn::absent()),
        HAS_NULLS => {
            let bits = input.bytes(rows.div_ceil(8))?;
            Some((0..rows).map(|row| bits[row / 8] >> (row % 8) & 1 == 1).collect::<NullBuffer>())
        }
        0 => None,
        _ => return Err(Malformed("a column has unknown flags")),
    };
    Ok(ValueColumn { values: unpack(input, rows)?.into(), nulls })
}

fn unpack_bounded(input: &mut Input<'_>, count: usize, end: usize) -> Result<Vec<u32>, Malformed> {
    let codes = unpack(input, count)?.into_iter().map(|code| match u32::try_from(code) {
        Ok(code) if (code as usize) < end => Ok(code),
        _ => Err(Malformed("a code lies outside its table")),
    });
    codes.collect()
}

/// Whether every entry of a table occurs, in order of first appearance: as decoded frames have it.
fn is_compact(codes: &[u32], table: usize) -> bool {
    let mut next = 0;
    for &code in codes {
        if code >= next {
            if code > next {
                return false;
            }
            next += 1;
        }
    }
    next as usize == table
}

/// The codes that occur, in order of first appearance, and each row's index among them. A
/// publisher's table may be far longer than one record.
fn used_keys(codes: &[u32], table: usize) -> (Vec<u32>, Vec<u32>) {
    fn compact(codes: &[u32], mut slot: impl FnMut(u32, u32) -> u32) -> (Vec<u32>, Vec<u32>) {
        let mut used = Vec::new();
        let local = codes.iter().map(|&code| {
            let local = slot(code, used.len() as u32);
            if local as usize == used.len() {
                used.push(code);
            }
            local
        });
        let local = local.collect();
        (used, local)
    }
    if table > 8 * codes.len() {
        let mut slots = HashMap::new();
        return compact(codes, |code, next| *slots.entry(code).or_insert(next));
    }
    let mut slots = vec![u32::MAX; table];
    compact(codes, |code, next| {
        let slot = &mut slots[code as usize];
        if *slot == u32::MAX {
            *slot = next;
        }
        *slot
    })
}

fn put_head(stream: &str, ts_recv_ns: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&ts_recv_ns.to_le_bytes());
    put_text(stream, out);
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    assert!(count <= COUNT_MAX, "a log record holds at most {COUNT_MAX} rows, not {count}");
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("names are shorter than 64 KiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Bytes yet to be read.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    /// How many more values room is made for.
    values_left: usize,
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, values_left: VALUES_MAX }
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) =
            self.bytes.split_at_checked(count).ok_or(Malformed("a record ends too early"))?;
        self.bytes = rest;
        Ok(bytes)
    }

    /// Asks to make room for values.
    pub fn make_room(&mut self, values: usize) -> Result<(), Malformed> {
        let left = self.values_left.checked_sub(values);
        self.values_left =
            left.ok_or(Malformed("a record has more values than a record can have"))?;
        Ok(())
    }

    pub fn bytes_of(&mut self, count: usize, width: usize) -> Result<&'a [u8], Malformed> {
        let bytes = count.checked_mul(width).ok_or(Malformed("a record ends too early"))?;
        self.bytes(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        Ok(self.bytes(N)?.try_into().expect("as many bytes were taken"))
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    fn count(&mut self) -> Result<usize, Malformed> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        match count <= COUNT_MAX {
            true => Ok(count),
            false => Err(Malformed("a record has more rows than a record can have")),
        }
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.u16()?;
        str::from_utf8(self.bytes(length.into())?).map_err(|_| Malformed("a name is no text"))
    }

    fn publisher(&mut self) -> Result<PublisherId, Malformed> {
        PublisherId::new(self.text()?).ok_or(Malformed("a publisher's name is empty or too long"))
    }
}
