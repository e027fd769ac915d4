//! Ticks in the canonical order: by time, publisher and sequence, in bounded memory.
//!
//! History is sorted by key first. So its times are cut into slices that hold few enough ticks,
//! and of each slice all ticks are read and sorted. Counting comes first, of times alone.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_buffer::{BooleanBufferBuilder, NullBuffer};
use isotick_model::{Key, KeySelection, PublisherId, StreamSchema, Ticks, ValueColumn};

use crate::error::Result;
use crate::history::Columns;
use crate::snapshot::Snapshot;

/// Ticks of a slice: some 450 MB of a stream with two columns, 32 MB more for each further one.
pub const SLICE_ROWS: u64 = 1 << 22;
/// Rows of a batch that is given out.
const BATCH_ROWS: usize = 1 << 16;
/// Counters of a counting pass, as a power of two.
const COUNTERS_LOG: u32 = 20;

/// A stream's ticks, in the canonical order, batch by batch. History and what only the log holds
/// are one.
///
/// Memory: the ticks of a slice twice, and those of the log. A slice grows beyond its bound only
/// where more ticks have one and the same time.
pub struct InOrder {
    snapshot: Snapshot,
    schema: StreamSchema,
    keys: BTreeSet<Key>,
    selection: KeySelection,
    tail: Vec<Ticks>,
    slices: VecDeque<RangeInclusive<i64>>,
    rows: u64,
    slice: Slice,
}

impl InOrder {
    /// Plans the reading of a stream's ticks with times in a range, of some keys or of all where
    /// none is named. `slice_rows` bounds a slice; it changes nothing but the memory.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::ticks`] and [`Snapshot::tail`].
    pub fn new(
        snapshot: &Snapshot,
        schema: &StreamSchema,
        range: RangeInclusive<i64>,
        keys: &[Key],
        slice_rows: u64,
    ) -> Result<Self> {
        let mut order = Self {
            snapshot: snapshot.clone(),
            schema: schema.clone(),
            keys: keys.iter().cloned().collect(),
            selection: KeySelection::new(schema.keys.len(), keys, None),
            tail: Vec::new(),
            slices: VecDeque::new(),
            rows: 0,
            slice: Slice::default(),
        };
        for ticks in snapshot.tail(&schema.name)? {
            let ticks = order.wanted(&range, ticks);
            order.rows += ticks.len() as u64;
            order.tail.extend((!ticks.is_empty()).then_some(ticks));
        }
        let parts =
            snapshot.ticks_of(schema, &Columns::default(), range.clone(), &order.selection)?;
        order.rows += parts.iter().map(|part| part.rows() as u64).sum::<u64>();
        match order.rows > slice_rows.max(1) {
            true => order.rows = order.cut(range, slice_rows.max(1))?,
            false => order.slices.push_back(range),
        }
        Ok(order)
    }

    /// How many ticks there are, at most.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Cuts a range into slices behind those that are there; how many ticks it has.
    fn cut(&mut self, range: RangeInclusive<i64>, slice_rows: u64) -> Result<u64> {
        let parts = self.snapshot.ticks_of(
            &self.schema,
            &Columns::default(),
            range.clone(),
            &self.selection,
        )?;
        let times = parts.iter().map(|part| part.times());
        let tail = self.tail.iter().flat_map(|ticks| ticks.ts_event.iter().copied());
        let tail = tail.filter(|ts| range.contains(ts));
        let (least, greatest) = times
            .flat_map(|times| [*times.start(), *times.end()])
            .chain(tail)
            .fold((i64::MAX, i64::MIN), |(least, greatest), ts| (least.min(ts), greatest.max(ts)));
        if least > greatest {
            return Ok(0);
        }
        let mut counts = Counts::new(least, greatest);
        for part in &parts {
            for ticks in part.read()? {
                counts.add(&self.wanted(&range, ticks?));
            }
        }
        for ticks in &self.tail {
            counts.add(&self.wanted(&range, ticks.clone()));
        }
        let mut start = *range.start();
        let mut rows = 0;
        for (index, &count) in counts.counts.iter().enumerate() {
            let bucket = counts.bucket(index, greatest);
            if rows > 0 && rows + count > slice_rows {
                self.slices.push_back(start..=bucket.start() - 1);
                (start, rows) = (*bucket.start(), 0);
            }
            if count > slice_rows && bucket.start() < bucket.end() {
                self.cut(bucket.clone(), slice_rows)?;
                start = bucket.end().saturating_add(1);
            } else {
                rows += count;
            }
        }
        if rows > 0 {
            self.slices.push_back(start..=*range.end());
        }
        Ok(counts.counts.iter().sum())
    }

    /// The ticks in a range of times and of the keys that are asked for.
    fn wanted(&self, range: &RangeInclusive<i64>, ticks: Ticks) -> Ticks {
        let keys: Vec<_> =
            ticks.keys.iter().map(|key| self.keys.is_empty() || self.keys.contains(key)).collect();
        let wanted =
            |row: usize| range.contains(&ticks.ts_event[row]) && keys[ticks.key[row] as usize];
        let rows: Vec<u32> =
            (0..ticks.len()).filter(|&row| wanted(row)).map(|row| row as u32).collect();
        if rows.len() == ticks.len() { ticks } else { ticks.take(&rows) }
    }

    fn read(&self, range: RangeInclusive<i64>) -> Result<Slice> {
        let mut batches = Vec::new();
        let columns = Columns::all(&self.schema);
        for part in
            self.snapshot.ticks_of(&self.schema, &columns, range.clone(), &self.selection)?
        {
            for ticks in part.read()? {
                batches.push(self.wanted(&range, ticks?));
            }
        }
        batches.extend(self.tail.iter().map(|ticks| self.wanted(&range, ticks.clone())));
        Ok(Slice::new(batches))
    }
}

impl Iterator for InOrder {
    type Item = Result<Ticks>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(ticks) = self.slice.next() {
                return Some(Ok(ticks));
            }
            let range = self.slices.pop_front()?;
            // What was given out goes before more is read.
            self.slice = Slice::default();
            match self.read(range) {
                Ok(slice) => self.slice = slice,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// How many ticks have which time, roughly.
struct Counts {
    least: i64,
    shift: u32,
    counts: Vec<u64>,
}

impl Counts {
    fn new(least: i64, greatest: i64) -> Self {
        let span = greatest.abs_diff(least);
        let shift = (u64::BITS - span.leading_zeros()).saturating_sub(COUNTERS_LOG);
        Self { least, shift, counts: vec![0; (span >> shift) as usize + 1] }
    }

    fn add(&mut self, ticks: &Ticks) {
        let last = self.counts.len() - 1;
        for &ts in ticks.ts_event.iter() {
            let bucket = ts.abs_diff(self.least) >> self.shift;
            self.counts[last.min(bucket as usize)] += 1;
        }
    }

    /// The times that a counter counts.
    fn bucket(&self, index: usize, greatest: i64) -> RangeInclusive<i64> {
        let start = self.least.wrapping_add_unsigned((index as u64) << self.shift);
        // No start lies past the greatest time, which cuts the last bucket.
        let end = start.saturating_add_unsigned((1 << self.shift) - 1);
        start..=end.min(greatest)
    }
}

/// All ticks of a slice, with the order in which they are given out.
#[derive(Default)]
struct Slice {
    batches: Vec<Ticks>,
    /// Of all batches, sorted.
    publishers: Vec<PublisherId>,
    keys: Arc<[Key]>,
    /// Per batch and key of its own: the place among `keys`.
    key_codes: Vec<Vec<u32>>,
    order: Vec<Place>,
    given: usize,
}

/// Time, publisher's rank, sequence; then batch and row.
type Place = (i64, u32, u64, u32, u32);

impl Slice {
    fn new(mut batches: Vec<Ticks>) -> Self {
        batches.retain(|ticks| !ticks.is_empty());
        let publishers: BTreeSet<_> = batches.iter().flat_map(|ticks| &ticks.publishers).collect();
        let publishers: Vec<PublisherId> = publishers.into_iter().cloned().collect();
        let (mut keys, mut known) = (Vec::new(), HashMap::new());
        let mut code = |key: &Key| {
            *known.entry(key.clone()).or_insert_with(|| {
                keys.push(key.clone());
                keys.len() as u32 - 1
            })
        };
        let key_codes = batches.iter().map(|ticks| ticks.keys.iter().map(&mut code).collect());
        let key_codes = key_codes.collect();
        let mut order = Vec::with_capacity(batches.iter().map(Ticks::len).sum());
        for (batch, ticks) in batches.iter().enumerate() {
            let rank = |publisher| {
                publishers.binary_search(publisher).expect("they are those of all batches") as u32
            };
            let ranks: Vec<_> = ticks.publishers.iter().map(rank).collect();
            order.extend((0..ticks.len()).map(|row| {
                let publisher = ticks.publisher.get(row).map_or(0, |&code| code as usize);
                let (ts, sequence) = (ticks.ts_event[row], ticks.sequence[row]);
                (ts, ranks[publisher], sequence, batch as u32, row as u32)
            }));
        }
        order.sort_unstable();
        Self { batches, publishers, keys: keys.into(), key_codes, order, given: 0 }
    }

    fn next(&mut self) -> Option<Ticks> {
        let rows = self.given..self.order.len().min(self.given + BATCH_ROWS);
        self.given = rows.end;
        let order = &self.order[rows];
        let columns = self.batches.first()?.values.len();
        let seen = |&(.., batch, row): &Place| self.batches[batch as usize].seen_of(row as usize);
        (!order.is_empty()).then(|| Ticks {
            ts_event: order.iter().map(|place| place.0).collect(),
            sequence: order.iter().map(|place| place.2).collect(),
            publishers: self.publishers.clone(),
            publisher: match self.publishers.len() {
                1 => Vec::new().into(),
                _ => order.iter().map(|place| place.1).collect(),
            },
            keys: Arc::clone(&self.keys),
            key: order
                .iter()
                .map(|&(.., batch, row)| {
                    let code = self.batches[batch as usize].key[row as usize];
                    self.key_codes[batch as usize][code as usize]
                })
                .collect(),
            values: (0..columns).map(|column| self.values(order, column)).collect(),
            seen: match self.batches.iter().any(|ticks| ticks.seen.is_some()) {
                true => Some(order.iter().map(seen).collect()),
                false => None,
            },
        })
    }

    fn values(&self, order: &[Place], column: usize) -> ValueColumn {
        let columns: Vec<_> = self.batches.iter().map(|ticks| &ticks.values[column]).collect();
        let value = |&(.., batch, row): &Place| {
            // A column that is declared since the batch was written is null in it.
            columns[batch as usize].values.get(row as usize).copied().unwrap_or(0)
        };
        let values = order.iter().map(value).collect();
        if columns.iter().all(|column| column.nulls.is_none() && !column.values.is_empty()) {
            return ValueColumn { values, nulls: None };
        }
        let mut valid = BooleanBufferBuilder::new(order.len());
        for &(.., batch, row) in order {
            let column = columns[batch as usize];
            let nulls = column.nulls.as_ref();
            let null = nulls.is_some_and(|nulls| nulls.is_null(row as usize));
            valid.append(!null && !column.values.is_empty());
        }
        let nulls = NullBuffer::new(valid.finish());
        ValueColumn { values, nulls: (nulls.null_count() > 0).then_some(nulls) }
    }
}
