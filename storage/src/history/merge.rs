//! Sorted runs of history brought into one, batch by batch: memory is bounded by a row group and a
//! batch per run, however many rows there are.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::HashMap;

use arrow_buffer::NullBufferBuilder;
use isotick_model::ticks::ON_TIME;
use isotick_model::{Key, PublisherId, StreamSchema, Ticks, ValueColumn};

use super::read::{Part, PartReader};
use crate::error::Result;

/// Rows decoded at a time of each run.
const RUN_BATCH_ROWS: usize = 1 << 14;

/// Ticks of several runs in the order (key, `ts_event`, publisher, sequence), in batches of a given
/// number of rows but for the last. Every row comes once for each time that it is in a run; rows of
/// equal rank come in the order of runs.
pub(super) struct Merge {
    schema: StreamSchema,
    runs: Vec<Run>,
    /// The runs whose next row has the key that is being merged, and that row's time.
    active: Vec<(usize, i64)>,
    publishers: Publishers,
    batch_rows: usize,
}

/// The publishers so far; their order is the codes in all batches.
#[derive(Default)]
struct Publishers {
    names: Vec<PublisherId>,
    codes: HashMap<PublisherId, u32>,
}

impl Publishers {
    /// The codes of a batch's publishers.
    fn codes_of(&mut self, batch: &Ticks) -> Vec<u32> {
        let code = |publisher: &PublisherId| match self.codes.get(publisher) {
            Some(&code) => code,
            None => {
                let code = self.names.len() as u32;
                self.names.push(publisher.clone());
                self.codes.insert(publisher.clone(), code);
                code
            }
        };
        batch.publishers.iter().map(code).collect()
    }
}

/// Parts that follow each other in order, and the batch that is being read.
struct Run {
    parts: std::vec::IntoIter<Part>,
    reader: Option<PartReader>,
    batch: Ticks,
    /// The codes of the batch's publishers in what comes out.
    publishers: Vec<u32>,
    at: usize,
    /// Where the rows of the key at `at` end in the batch.
    key_end: usize,
}

impl Merge {
    /// `runs` are the parts of each, in order.
    pub fn new(schema: &StreamSchema, runs: Vec<Vec<Part>>, batch_rows: usize) -> Result<Self> {
        let mut merge = Self {
            schema: schema.clone(),
            runs: Vec::new(),
            active: Vec::new(),
            publishers: Publishers::default(),
            batch_rows,
        };
        for parts in runs {
            merge.runs.extend(Run::new(parts, &mut merge.publishers)?);
        }
        Ok(merge)
    }

    /// `None` when there is no row left.
    fn next_batch(&mut self) -> Result<Option<Ticks>> {
        let mut out = Output::new(&self.schema, self.batch_rows);
        let mut new_key = true;
        while out.ts_event.len() < self.batch_rows {
            if self.active.is_empty() {
                if !self.next_key() {
                    break;
                }
                new_key = true;
            }
            let (position, limit) = self.least();
            let (number, _) = self.active[position];
            let run = &self.runs[number];
            let wanted = (self.batch_rows - out.ts_event.len()).min(run.key_end - run.at);
            let count = match limit {
                Some(limit) => self.rows_before(number, limit, wanted),
                None => wanted,
            };
            let run = &mut self.runs[number];
            if std::mem::take(&mut new_key) {
                out.keys.push(run.key().clone());
            }
            out.append(run, count);
            match run.advance(count, &mut self.publishers)? {
                true => self.active[position].1 = run.batch.ts_event[run.at],
                false => drop(self.active.remove(position)),
            }
        }
        Ok((!out.ts_event.is_empty()).then(|| out.into_ticks(self.publishers.names.clone())))
    }

    /// Begins the least key that is left; false when none is.
    fn next_key(&mut self) -> bool {
        let left = self.runs.iter().enumerate().filter(|(_, run)| run.at < run.batch.len());
        let Some(least) = left.clone().map(|(_, run)| run.key()).min() else { return false };
        let same = left.filter(|(_, run)| run.key() == least);
        self.active = same.map(|(number, run)| (number, run.batch.ts_event[run.at])).collect();
        true
    }

    /// The active run with the least row, and the one with the least row of the others.
    fn least(&self) -> (usize, Option<usize>) {
        let mut least = 0;
        for position in 1..self.active.len() {
            if self.before(position, least) {
                least = position;
            }
        }
        let mut second = None;
        for position in (0..self.active.len()).filter(|&position| position != least) {
            if second.is_none_or(|second| self.before(position, second)) {
                second = Some(position);
            }
        }
        (least, second.map(|position| self.active[position].0))
    }

    /// Whether one active run's row comes before another's that stands before it in the list.
    fn before(&self, position: usize, other: usize) -> bool {
        let ((number, ts), (other, other_ts)) = (self.active[position], self.active[other]);
        match ts.cmp(&other_ts) {
            Ordering::Equal => {
                let (run, other) = (&self.runs[number], &self.runs[other]);
                run.order(run.at, other) == Ordering::Less
            }
            order => order == Ordering::Less,
        }
    }

    /// How many of the next `wanted` rows of a run come before the next row of another: at least
    /// the first, which is known to.
    fn rows_before(&self, number: usize, limit: usize, wanted: usize) -> usize {
        let (run, limit_run) = (&self.runs[number], &self.runs[limit]);
        // The order of runs decides between equal rows.
        let inside = |row: usize| match run.order(run.at + row, limit_run) {
            Ordering::Less => true,
            Ordering::Equal => number < limit,
            Ordering::Greater => false,
        };
        // Ever larger steps, then halving the last.
        let (mut from, mut step) = (1, 1);
        while from + step <= wanted && inside(from + step - 1) {
            from += step;
            step *= 2;
        }
        let mut to = (from + step - 1).min(wanted);
        while from < to {
            let middle = from.midpoint(to);
            match inside(middle) {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        from
    }
}

impl Iterator for Merge {
    type Item = Result<Ticks>;

    fn next(&mut self) -> Option<Result<Ticks>> {
        self.next_batch().transpose()
    }
}

impl Run {
    /// `None` where there is no row.
    fn new(parts: Vec<Part>, publishers: &mut Publishers) -> Result<Option<Self>> {
        let (mut parts, mut reader) = (parts.into_iter(), None);
        let Some(batch) = next_batch(&mut parts, &mut reader)? else { return Ok(None) };
        let publishers = publishers.codes_of(&batch);
        let mut run = Self { parts, reader, batch, publishers, at: 0, key_end: 0 };
        run.find_key_end();
        Ok(Some(run))
    }

    fn key(&self) -> &Key {
        self.batch.key_of(self.at)
    }

    fn find_key_end(&mut self) {
        let code = self.batch.key[self.at];
        // Rows of a key stand together.
        let same = self.batch.key[self.at..].partition_point(|&other| other == code);
        self.key_end = self.at + same;
    }

    /// Passes over rows of the current key; whether the next row has that key as well.
    fn advance(&mut self, rows: usize, publishers: &mut Publishers) -> Result<bool> {
        self.at += rows;
        if self.at < self.key_end {
            return Ok(true);
        }
        if self.at < self.batch.len() {
            self.find_key_end();
            return Ok(false);
        }
        match next_batch(&mut self.parts, &mut self.reader)? {
            Some(batch) => {
                let same = batch.key_of(0) == self.batch.key_of(self.at - 1);
                self.publishers = publishers.codes_of(&batch);
                (self.batch, self.at) = (batch, 0);
                self.find_key_end();
                Ok(same)
            }
            None => Ok(false),
        }
    }

    /// How a row of this run's key compares with the next row of another run of the same key.
    fn order(&self, row: usize, other: &Self) -> Ordering {
        let (ticks, others) = (&self.batch, &other.batch);
        ticks.ts_event[row]
            .cmp(&others.ts_event[other.at])
            .then_with(|| ticks.publisher_of(row).cmp(others.publisher_of(other.at)))
            .then_with(|| ticks.sequence[row].cmp(&others.sequence[other.at]))
    }
}

/// The next batch of parts in turn; none is empty.
fn next_batch(
    parts: &mut std::vec::IntoIter<Part>,
    reader: &mut Option<PartReader>,
) -> Result<Option<Ticks>> {
    loop {
        if let Some(batch) = reader.as_mut().and_then(Iterator::next) {
            return batch.map(Some);
        }
        match parts.next() {
            Some(part) => *reader = Some(part.read_in(RUN_BATCH_ROWS)?),
            None => return Ok(None),
        }
    }
}

/// A batch that is being filled.
struct Output {
    ts_event: Vec<i64>,
    sequence: Vec<u64>,
    publisher: Vec<u32>,
    keys: Vec<Key>,
    key: Vec<u32>,
    values: Vec<(Vec<i64>, NullBufferBuilder)>,
    /// Filled from the first row on that is not on time.
    seen: Option<Vec<i64>>,
    rows: usize,
}

impl Output {
    fn new(schema: &StreamSchema, rows: usize) -> Self {
        let column = |_| (Vec::with_capacity(rows), NullBufferBuilder::new(rows));
        Self {
            ts_event: Vec::with_capacity(rows),
            sequence: Vec::with_capacity(rows),
            publisher: Vec::with_capacity(rows),
            keys: Vec::new(),
            key: Vec::with_capacity(rows),
            values: (0..schema.columns.len()).map(column).collect(),
            seen: None,
            rows,
        }
    }

    /// Appends the next rows of a run, which all have the last key.
    fn append(&mut self, run: &Run, rows: usize) {
        let (ticks, range) = (&run.batch, run.at..run.at + rows);
        let before = self.ts_event.len();
        self.ts_event.extend_from_slice(&ticks.ts_event[range.clone()]);
        self.sequence.extend_from_slice(&ticks.sequence[range.clone()]);
        self.key.resize(before + rows, self.keys.len() as u32 - 1);
        match ticks.publisher.is_empty() {
            true => self.publisher.resize(before + rows, run.publishers[0]),
            false => {
                let codes = ticks.publisher[range.clone()].iter();
                self.publisher.extend(codes.map(|&code| run.publishers[code as usize]));
            }
        }
        for ((values, nulls), column) in self.values.iter_mut().zip(&ticks.values) {
            values.extend_from_slice(&column.values[range.clone()]);
            match &column.nulls {
                Some(of_batch) => nulls.append_buffer(&of_batch.slice(range.start, rows)),
                None => nulls.append_n_non_nulls(rows),
            }
        }
        if let Some(of_batch) = &ticks.seen {
            let capacity = self.rows;
            let seen = self.seen.get_or_insert_with(|| {
                let mut seen = Vec::with_capacity(capacity);
                seen.resize(before, ON_TIME);
                seen
            });
            seen.extend_from_slice(&of_batch[range]);
        } else if let Some(seen) = &mut self.seen {
            seen.resize(before + rows, ON_TIME);
        }
    }

    fn into_ticks(self, publishers: Vec<PublisherId>) -> Ticks {
        let column = |(values, mut nulls): (Vec<i64>, NullBufferBuilder)| ValueColumn {
            values: values.into(),
            nulls: nulls.finish().filter(|nulls| nulls.null_count() > 0),
        };
        Ticks {
            ts_event: self.ts_event.into(),
            sequence: self.sequence.into(),
            publishers,
            publisher: self.publisher.into(),
            keys: self.keys.into(),
            key: self.key.into(),
            values: self.values.into_iter().map(column).collect(),
            seen: self.seen.map(Into::into),
        }
    }
}
