//! What is published: the built-in market or a file, in memory, cut into what goes together.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use isotick_model::definitions::Definitions;
use isotick_model::{StreamSchema, Ticks, ValueColumn};

use crate::cli::FieldArgs;
use crate::files;
use crate::market::{Market, Skew};

/// Ticks made at a time.
const BATCH_ROWS: usize = 1 << 16;
/// The market's columns and their scales; a stream may have the first ones only.
const COLUMNS: [(&str, u8); 3] = [("price", 4), ("size", 0), ("side", 0)];

/// Ticks of one publisher whose sequences count from 0 without a gap.
pub struct Load {
    batches: Vec<Ticks>,
    /// The greatest event time of each tick and all before it.
    peaks: Vec<i64>,
}

/// Ticks that are sent together.
pub struct Part {
    pub ticks: Ticks,
    /// When the last of them is due after the start; `None` when there is no pace.
    pub due: Option<Duration>,
}

impl Load {
    /// The built-in market with `per_second` ticks in a second of event time, and one tick after it
    /// whose time is `close_after_ns` past all others, so that every window of theirs closes.
    pub fn market(
        seed: u64,
        symbols: usize,
        ticks: usize,
        per_second: u64,
        close_after_ns: i64,
        schema: &StreamSchema,
    ) -> Result<Self> {
        let columns = schema.columns.len();
        let fits =
            schema.columns.iter().zip(COLUMNS).all(|(column, (name, scale))| {
                column.name == name && column.scale.digits() == scale
            });
        ensure!(
            fits && (2..=COLUMNS.len()).contains(&columns) && schema.keys.len() == 1,
            "the stream {} cannot take the market: it needs one key column and the columns price \
             (scale 4), size (scale 0) and, if it likes, side (scale 0, optional), in that order",
            schema.name
        );
        let gap_ns = 1_000_000_000 / per_second.max(1);
        let mut market = Market::of(seed, symbols, Skew::Zipf).with_gap(gap_ns);
        let mut batches = Vec::new();
        let mut left = ticks;
        while left > 0 {
            let mut batch = market.next_ticks(left.min(BATCH_ROWS));
            left -= batch.len();
            batch.values.truncate(columns);
            batches.push(batch);
        }
        let greatest = batches.iter().flat_map(|batch| batch.ts_event.iter().copied()).max();
        let mut last = market.next_ticks(1);
        last.values.truncate(columns);
        let end = greatest.map_or(last.ts_event[0], |greatest| greatest + close_after_ns);
        last.ts_event = vec![end].into();
        batches.push(last);
        Ok(Self::of(batches))
    }

    /// A file's rows, all of which must be ticks.
    pub fn file(path: &Path, definitions: &Definitions, schema: &StreamSchema) -> Result<Self> {
        let mut source = files::open(path, &FieldArgs::default(), definitions, schema, None, None)?;
        let mut batches = Vec::new();
        while let Some(batch) = source.next_batch()? {
            if let Some(row) = batch.details.first() {
                bail!("{}: {row}: every row must be a tick here", path.display());
            }
            batches.push(batch.ticks);
        }
        ensure!(!batches.is_empty(), "{} holds no rows", path.display());
        Ok(Self::of(batches))
    }

    fn of(batches: Vec<Ticks>) -> Self {
        let mut peak = i64::MIN;
        let times = batches.iter().flat_map(|batch| batch.ts_event.iter());
        let peaks = times
            .map(|&ts| {
                peak = peak.max(ts);
                peak
            })
            .collect();
        Self { batches, peaks }
    }

    pub fn rows(&self) -> usize {
        self.peaks.len()
    }

    pub fn batches(&self) -> &[Ticks] {
        &self.batches
    }

    /// The watermark when all have come.
    pub fn greatest(&self) -> i64 {
        self.peaks.last().copied().unwrap_or(i64::MIN)
    }

    /// The least event time.
    pub fn least(&self) -> i64 {
        let times = self.batches.iter().flat_map(|batch| batch.ts_event.iter());
        times.copied().min().unwrap_or(0)
    }

    /// The first tick with which event time reaches `ts`, by its place.
    pub fn reaches(&self, ts: i64) -> usize {
        self.peaks.partition_point(|&peak| peak < ts)
    }

    /// Moves all times.
    pub fn shift(&mut self, by_ns: i64) {
        for batch in &mut self.batches {
            batch.ts_event = batch.ts_event.iter().map(|ts| ts + by_ns).collect();
        }
        self.peaks.iter_mut().for_each(|peak| *peak += by_ns);
    }

    /// Cuts the ticks into frames as full as they may be.
    pub fn whole(&self, rows_max: usize) -> Vec<Part> {
        let cut = |batch: &Ticks, rows| Part { ticks: cut(batch, rows), due: None };
        let parts = self.batches.iter().flat_map(|batch| {
            (0..batch.len())
                .step_by(rows_max)
                .map(move |from| cut(batch, from..batch.len().min(from + rows_max)))
        });
        parts.collect()
    }

    /// Cuts the ticks into what is due within the same `step`, at most `rows_max` each.
    pub fn paced(&self, rate: u64, step: Duration, rows_max: usize) -> Vec<Part> {
        let step_ns = step.as_nanos().max(1);
        let group = |row: usize| due(row, rate).as_nanos().div_ceil(step_ns);
        let (mut parts, mut before) = (Vec::new(), 0);
        for batch in &self.batches {
            let mut from = 0;
            while from < batch.len() {
                let first = group(before + from);
                let rows = (from..batch.len().min(from + rows_max))
                    .take_while(|&row| group(before + row) == first)
                    .count();
                let last = before + from + rows - 1;
                let ticks = cut(batch, from..from + rows);
                parts.push(Part { ticks, due: Some(due(last, rate)) });
                from += rows;
            }
            before += batch.len();
        }
        parts
    }
}

/// When a tick is due after the start, at so many a second.
pub fn due(row: usize, rate: u64) -> Duration {
    // 2^64 ticks times 10^9 fit 128 bits; what remains are nanoseconds of centuries at most.
    let ns = row as u128 * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(ns as u64)
}

/// Some rows with the keys that they have and no others: small parts of a batch with many keys
/// would hold mostly keys.
fn cut(batch: &Ticks, rows: Range<usize>) -> Ticks {
    let (start, len) = (rows.start, rows.len());
    let mut codes = HashMap::new();
    let mut keys = Vec::new();
    let key = batch.key[rows].iter().map(|&code| {
        *codes.entry(code).or_insert_with(|| {
            keys.push(batch.keys[code as usize].clone());
            keys.len() as u32 - 1
        })
    });
    let key = key.collect();
    Ticks {
        ts_event: batch.ts_event.slice(start, len),
        sequence: batch.sequence.slice(start, len),
        publishers: batch.publishers.clone(),
        publisher: batch.publisher.clone(),
        keys: keys.into(),
        key,
        values: batch
            .values
            .iter()
            .map(|column| ValueColumn {
                values: column.values.slice(start, len),
                nulls: column.nulls.as_ref().map(|nulls| nulls.slice(start, len)),
            })
            .collect(),
        seen: None,
    }
}

/// Bytes of the frames, with the header of each message, without QUIC's own.
pub fn frame_bytes(parts: &[Part]) -> Result<u64> {
    let mut encoder = isotick_wire::frame::Encoder::default();
    let (mut bytes, mut total) = (Vec::new(), 0);
    for part in parts {
        bytes.clear();
        isotick_wire::message::put(isotick_wire::Kind::Ticks, &mut bytes, |out| {
            encoder.encode(&part.ticks, 0..part.ticks.len(), &[], out)
        })
        .context("a frame of these ticks does not fit a message: use fewer --frame-rows")?;
        total += bytes.len() as u64;
    }
    Ok(total)
}
