//! Rows that wait to become a frame, and frames that wait to be durable.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_buffer::BooleanBufferBuilder;
use bytes::Bytes;
use isotick_model::{Key, PublisherId, Ticks, ValueColumn};
use isotick_wire::frame::{CELLS_MAX, Decoder, Encoder};
use isotick_wire::message::HEADER_BYTES;
use isotick_wire::{DecodeError, EncodeError, Kind, message};

/// Keys that are remembered from batch to batch.
const KEYS_REMEMBERED_MAX: usize = 65_536;

/// The most rows of one frame of a stream with so many value columns, however many are asked for.
pub(super) fn frame_rows(asked: usize, columns: usize) -> usize {
    asked.clamp(1, 32_768).min(CELLS_MAX / (columns + 3))
}

/// Consecutive rows as one message, ready to be sent and sent again.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub first: u64,
    pub rows: u64,
    pub message: Bytes,
}

impl Frame {
    pub fn end(&self) -> u64 {
        self.first + self.rows
    }

    /// The same rows without those that are held already, as a message of their own.
    pub fn without(
        &self,
        held: impl Fn(u64) -> bool,
        columns: usize,
        publisher: &PublisherId,
    ) -> Result<Bytes, DecodeError> {
        let payload = &self.message[HEADER_BYTES..];
        let ticks = Decoder::default().decode(payload, publisher, columns)?.ticks;
        let wanted: Vec<u32> =
            (0..ticks.len() as u32).filter(|&row| !held(ticks.sequence[row as usize])).collect();
        let ticks = ticks.take(&wanted);
        let mut bytes = Vec::with_capacity(self.message.len());
        message::put(Kind::Ticks, &mut bytes, |out| {
            Encoder::default().encode(&ticks, 0..ticks.len(), &[], out)
        })
        .expect("fewer rows than were in a frame fit one");
        Ok(bytes.into())
    }
}

/// Rows in columns, appended one by one.
#[derive(Debug)]
pub(super) struct Batch {
    publisher: PublisherId,
    encoder: Encoder,
    ts_event: Vec<i64>,
    key: Vec<u32>,
    keys: Vec<Key>,
    /// The same as ticks have them, up to date when rows are taken.
    shared: Arc<[Key]>,
    codes: HashMap<Key, u32>,
    /// Values and which are not null; the latter is empty while none is.
    values: Vec<(Vec<i64>, BooleanBufferBuilder)>,
}

impl Batch {
    pub fn new(publisher: PublisherId, columns: usize) -> Self {
        Self {
            publisher,
            encoder: Encoder::default(),
            ts_event: Vec::new(),
            key: Vec::new(),
            keys: Vec::new(),
            shared: Arc::default(),
            codes: HashMap::new(),
            values: (0..columns).map(|_| (Vec::new(), BooleanBufferBuilder::new(0))).collect(),
        }
    }

    pub fn len(&self) -> usize {
        self.ts_event.len()
    }

    /// Appends a row with one value per column.
    pub fn push(&mut self, ts_event: i64, key: &Key, values: &[Option<i64>]) {
        let code = match self.codes.get(key) {
            Some(&code) => code,
            None => {
                let code = self.keys.len() as u32;
                self.keys.push(key.clone());
                self.codes.insert(key.clone(), code);
                code
            }
        };
        let row = self.ts_event.len();
        self.ts_event.push(ts_event);
        self.key.push(code);
        for ((column, valid), &value) in self.values.iter_mut().zip(values) {
            column.push(value.unwrap_or(0));
            if value.is_none() && valid.is_empty() {
                valid.append_n(row, true);
            }
            if value.is_none() || !valid.is_empty() {
                valid.append(value.is_some());
            }
        }
    }

    /// Takes all rows, numbered from `first`, as frames.
    pub fn close(&mut self, first: u64, out: &mut Vec<Frame>) -> Result<(), EncodeError> {
        let rows = self.len();
        let empty = |column: &mut Vec<i64>| std::mem::replace(column, Vec::with_capacity(rows));
        let values = self.values.iter_mut().map(|(values, valid)| ValueColumn {
            values: empty(values).into(),
            nulls: (!valid.is_empty()).then(|| valid.finish().into()),
        });
        // Keys only come, or all go.
        if self.shared.len() != self.keys.len() {
            self.shared = self.keys.as_slice().into();
        }
        let ticks = Ticks {
            values: values.collect(),
            ts_event: empty(&mut self.ts_event).into(),
            sequence: (first..first + rows as u64).collect(),
            publishers: vec![self.publisher.clone()],
            publisher: Vec::new().into(),
            keys: Arc::clone(&self.shared),
            key: std::mem::replace(&mut self.key, Vec::with_capacity(rows)).into(),
            seen: None,
        };
        let encoded = self.encode(&ticks, 0..rows, out);
        if self.keys.len() > KEYS_REMEMBERED_MAX {
            self.keys.clear();
            self.shared = Arc::default();
            self.codes.clear();
        }
        encoded
    }

    /// Encodes rows that are numbered one after another, as several frames where one message
    /// cannot hold them.
    pub fn encode(
        &mut self,
        ticks: &Ticks,
        rows: std::ops::Range<usize>,
        out: &mut Vec<Frame>,
    ) -> Result<(), EncodeError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 16 * rows.len());
        let encode = |out: &mut Vec<u8>| self.encoder.encode(ticks, rows.clone(), &[], out);
        match message::put(Kind::Ticks, &mut bytes, encode) {
            Err(EncodeError::TooLarge { rows: all }) if all > 1 => {
                let middle = rows.start + rows.len().div_ceil(2);
                self.encode(ticks, rows.start..middle, out)?;
                self.encode(ticks, middle..rows.end, out)
            }
            Err(error) => Err(error),
            Ok(()) => {
                let first = ticks.sequence[rows.start];
                out.push(Frame { first, rows: rows.len() as u64, message: bytes.into() });
                Ok(())
            }
        }
    }
}
