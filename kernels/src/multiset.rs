//! Multisets of 64-bit integers: the states that quantiles are selected from.
//!
//! What is in one does not depend on the form it is held in: values as they came while there are
//! few or hardly one comes twice, a count for every integer of a narrow span, or ascending values
//! with their counts. New values wait in a buffer, so that counting touches one multiset's memory
//! at a time however rows are interleaved.

use isotick_model::Quantile;

/// Values that wait before they are counted, at least.
const PENDING_MAX: usize = 512;
/// Integers of a span per value that waits, at most: counting what waits then meets most of the
/// memory that it must bring into the cache more than once.
const SPAN_PER_PENDING: usize = 4;
/// Values as they came, before another form is looked for.
const PLAIN_MAX: usize = 1024;
/// The widest span that is counted integer by integer.
const SPAN_MAX: u64 = 1 << 20;
/// Integers of a span per value in it, at most: so counts take at most twice the values' bytes.
const SPAN_PER_VALUE: u64 = 4;
/// Values that are looked at to see how often values repeat: at least this many, and a share that
/// costs next to nothing of what there is.
const SAMPLE_MIN: usize = 256;
const SAMPLE_STEP: usize = 64;

/// A multiset.
#[derive(Clone, Debug)]
pub(crate) struct Multiset {
    /// Values that are not in `counted`, in no order.
    pending: Vec<i64>,
    /// When `pending` holds this many it is settled.
    pending_max: usize,
    counted: Counted,
}

#[derive(Clone, Debug)]
enum Counted {
    Nothing,
    Dense(Box<Dense>),
    Sorted(Box<Sorted>),
}

/// How often each integer from `base` on occurs.
#[derive(Clone, Debug)]
struct Dense {
    base: i64,
    counts: Vec<u32>,
    /// The sum of the counts: below 2^32, so that none overflows.
    len: u64,
}

/// Ascending values and how often each occurs.
#[derive(Clone, Debug, Default)]
struct Sorted {
    values: Vec<i64>,
    counts: Vec<u64>,
    len: u64,
}

impl Default for Multiset {
    fn default() -> Self {
        Self { pending: Vec::new(), pending_max: PLAIN_MAX, counted: Counted::Nothing }
    }
}

impl Multiset {
    /// Adds a value.
    pub(crate) fn push(&mut self, value: i64) {
        self.pending.push(value);
        if self.pending.len() >= self.pending_max {
            self.settle();
        }
    }

    /// Adds values.
    pub(crate) fn extend(&mut self, mut values: &[i64]) {
        while !values.is_empty() {
            // Less than `pending_max` wait between calls.
            let room = self.pending_max - self.pending.len();
            let (now, later) = values.split_at(room.min(values.len()));
            self.pending.extend_from_slice(now);
            if self.pending.len() >= self.pending_max {
                self.settle();
            }
            values = later;
        }
    }

    /// How many values there are, each as often as it occurs.
    pub(crate) fn len(&self) -> u64 {
        let counted = match &self.counted {
            Counted::Nothing => 0,
            Counted::Dense(dense) => dense.len,
            Counted::Sorted(sorted) => sorted.len,
        };
        counted + self.pending.len() as u64
    }

    /// Counts what is pending, in the form that suits; afterwards less than `pending_max` wait.
    fn settle(&mut self) {
        if let Counted::Dense(dense) = &mut self.counted
            && dense.count(&mut self.pending)
        {
            return;
        }
        if let Some((base, span)) = self.dense_span() {
            let mut dense = Dense { base, counts: vec![0; span], len: 0 };
            if let Counted::Dense(old) = &self.counted {
                let at = old.base.abs_diff(base) as usize;
                dense.counts[at..at + old.counts.len()].copy_from_slice(&old.counts);
                dense.len = old.len;
            }
            let all = dense.count(&mut self.pending);
            assert!(all, "the new span holds all values");
            self.counted = Counted::Dense(Box::new(dense));
            self.pending_max = PENDING_MAX.max(span / SPAN_PER_PENDING);
            self.pending = Vec::with_capacity(self.pending_max);
            return;
        }
        let mut sorted = match std::mem::replace(&mut self.counted, Counted::Nothing) {
            Counted::Nothing if !repeats(&self.pending) => {
                self.pending_max = self.pending.len() * 2;
                return;
            }
            Counted::Nothing => Sorted::default(),
            Counted::Dense(dense) => dense.into(),
            Counted::Sorted(sorted) => *sorted,
        };
        self.pending.sort_unstable();
        let distinct = self.pending.chunk_by(|a, b| a == b).count();
        if sorted.values.is_empty() && distinct * 2 > self.pending.len() {
            self.pending_max = self.pending.len() * 2;
            return;
        }
        sorted.merge(&self.pending);
        self.pending_max = PLAIN_MAX.max(sorted.values.len() / 2);
        self.pending.clear();
        self.pending.shrink_to(self.pending_max);
        self.counted = Counted::Sorted(Box::new(sorted));
    }

    /// The first integer and the number of integers of a span that holds all values, where they
    /// may be counted one by one.
    fn dense_span(&self) -> Option<(i64, usize)> {
        let (least, greatest) = range(&self.pending)?;
        let (mut from, mut to) = (least, greatest);
        match &self.counted {
            Counted::Nothing => {}
            Counted::Sorted(_) => return None,
            Counted::Dense(dense) => {
                let last = dense.last();
                (from, to) = (from.min(dense.base), to.max(last));
                // Room on the side where values left the span.
                let room = (to.abs_diff(from) / 4) as i64;
                if from < dense.base {
                    from = from.saturating_sub(room);
                }
                if to > last {
                    to = to.saturating_add(room);
                }
            }
        }
        let distance = to.abs_diff(from);
        let len = self.len();
        let narrow = distance < SPAN_MAX.min(len.saturating_mul(SPAN_PER_VALUE));
        (narrow && len <= u32::MAX.into()).then(|| (from, distance as usize + 1))
    }
}

impl Dense {
    fn last(&self) -> i64 {
        // The span was measured between two 64-bit integers, and is never empty.
        self.base.wrapping_add((self.counts.len() - 1) as i64)
    }

    /// Counts those values that are in the span, and leaves the others; whether all were.
    fn count(&mut self, values: &mut Vec<i64>) -> bool {
        if self.len + values.len() as u64 > u32::MAX.into() {
            return false;
        }
        let before = values.len();
        let mut left = 0;
        for place in 0..before {
            let value = values[place];
            // Below the base it wraps to more than any span.
            let from_base = value.wrapping_sub(self.base).cast_unsigned();
            match usize::try_from(from_base).ok().and_then(|at| self.counts.get_mut(at)) {
                Some(count) => *count += 1,
                None => {
                    values[left] = value;
                    left += 1;
                }
            }
        }
        values.truncate(left);
        self.len += (before - left) as u64;
        left == 0
    }

    fn iter(&self) -> impl Iterator<Item = (i64, u64)> {
        let values = (self.base..=self.last()).zip(&self.counts);
        values.filter(|(_, count)| **count > 0).map(|(value, &count)| (value, count.into()))
    }
}

impl From<Box<Dense>> for Sorted {
    fn from(dense: Box<Dense>) -> Self {
        let (values, counts) = dense.iter().unzip();
        Self { values, counts, len: dense.len }
    }
}

impl Sorted {
    /// Merges ascending values into itself.
    fn merge(&mut self, ascending: &[i64]) {
        let old = std::mem::take(self);
        let mut into = Self { len: old.len + ascending.len() as u64, ..Self::default() };
        into.values.reserve(old.values.len());
        into.counts.reserve(old.values.len());
        let mut held = old.values.into_iter().zip(old.counts).peekable();
        for equal in ascending.chunk_by(|a, b| a == b) {
            let value = equal[0];
            while let Some((before, count)) = held.next_if(|held| held.0 < value) {
                into.put(before, count);
            }
            let also = held.next_if(|held| held.0 == value).map_or(0, |held| held.1);
            into.put(value, also + equal.len() as u64);
        }
        held.for_each(|(value, count)| into.put(value, count));
        *self = into;
    }

    fn put(&mut self, value: i64, count: u64) {
        self.values.push(value);
        self.counts.push(count);
    }
}

/// The least and the greatest.
fn range(values: &[i64]) -> Option<(i64, i64)> {
    Some((*values.iter().min()?, *values.iter().max()?))
}

/// Whether values seem to occur four times or more each, on average. Of s values drawn from d
/// that are equally frequent, some s²/2d are repetitions.
fn repeats(values: &[i64]) -> bool {
    let step = (values.len() / SAMPLE_MIN).clamp(1, SAMPLE_STEP);
    let mut sample: Vec<i64> = values.iter().step_by(step).copied().collect();
    sample.sort_unstable();
    let repetitions = sample.windows(2).filter(|pair| pair[0] == pair[1]).count();
    values.len() * repetitions >= 2 * sample.len() * sample.len()
}

/// The values at the ranks of some quantiles, ascending, in the union of some multisets; `None`
/// when there is no value.
pub(crate) fn select(parts: &[&Multiset], quantiles: &[Quantile]) -> Option<Vec<i64>> {
    let len = parts.iter().map(|part| part.len()).sum::<u64>();
    if len == 0 {
        return None;
    }
    let ranks = quantiles.iter().map(|q| q.rank(len));
    if parts.iter().all(|part| matches!(part.counted, Counted::Nothing)) {
        let values = parts.iter().flat_map(|part| &part.pending).copied().collect();
        return Some(select_plain(values, ranks));
    }
    Some(match union_span(parts) {
        Some((base, span)) => {
            let mut counts = vec![0_u64; span];
            for part in parts {
                if let Counted::Dense(dense) = &part.counted {
                    let at = dense.base.abs_diff(base) as usize;
                    for (sum, &count) in counts[at..].iter_mut().zip(&dense.counts) {
                        *sum += u64::from(count);
                    }
                }
                part.pending.iter().for_each(|value| counts[value.abs_diff(base) as usize] += 1);
            }
            // The span ends at a 64-bit integer.
            let values = (0..).map(|place: i64| base.wrapping_add(place));
            walk(values.zip(counts), ranks)
        }
        None => {
            let mut entries: Vec<(i64, u64)> = Vec::new();
            for part in parts {
                match &part.counted {
                    Counted::Nothing => {}
                    Counted::Dense(dense) => entries.extend(dense.iter()),
                    Counted::Sorted(sorted) => {
                        let counts = sorted.counts.iter().copied();
                        entries.extend(sorted.values.iter().copied().zip(counts));
                    }
                }
                let pending = entries.len();
                entries.extend(part.pending.iter().map(|&value| (value, 1)));
                entries[pending..].sort_unstable();
            }
            // A stable sort merges what is ascending already.
            entries.sort_by_key(|entry| entry.0);
            walk(entries.into_iter(), ranks)
        }
    })
}

/// By selection: ranks ascend, so each one is looked for behind the one before.
fn select_plain(mut values: Vec<i64>, ranks: impl Iterator<Item = u64>) -> Vec<i64> {
    let mut from = 0;
    let at_rank = |rank: u64| {
        let place = rank as usize - 1;
        if place >= from {
            values[from..].select_nth_unstable(place - from);
            from = place + 1;
        }
        values[place]
    };
    ranks.map(at_rank).collect()
}

/// Along ascending values with their counts.
fn walk(
    mut entries: impl Iterator<Item = (i64, u64)>,
    ranks: impl Iterator<Item = u64>,
) -> Vec<i64> {
    let (mut value, mut below) = (0, 0);
    let at_rank = |rank: u64| {
        while below < rank {
            let (next, count) = entries.next().expect("a rank is at most the number of values");
            value = next;
            below += count;
        }
        value
    };
    ranks.map(at_rank).collect()
}

/// The first integer and the number of integers of a span that holds everything, where no part
/// is in another form than dense and the span is not too wide.
fn union_span(parts: &[&Multiset]) -> Option<(i64, usize)> {
    let mut union: Option<(i64, i64)> = None;
    for part in parts {
        let dense = match &part.counted {
            Counted::Nothing => None,
            Counted::Dense(dense) => Some((dense.base, dense.last())),
            Counted::Sorted(_) => return None,
        };
        for (from, to) in dense.into_iter().chain(range(&part.pending)) {
            union = Some(union.map_or((from, to), |(least, most)| (from.min(least), to.max(most))));
        }
    }
    let (from, to) = union?;
    let distance = to.abs_diff(from);
    (distance < 2 * SPAN_MAX).then(|| (from, distance as usize + 1))
}

#[cfg(test)]
mod tests;
