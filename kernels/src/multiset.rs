//! Multisets of 64-bit integers: the states that quantiles are selected from.
//!
//! What is in one does not depend on the form it is held in: values as they came while there are
//! few or hardly one comes twice, a count for every integer of a narrow span, or ascending values
//! with their counts. New values wait in a buffer, so that counting touches one multiset's memory
//! at a time however rows are interleaved; many at once are counted where they are. What waits
//! takes 16 bits a value where all are near each other, and a count 16 bits with carries beside it:
//! a thousand windows' states have to share the cache.

mod dense;
mod waiting;

use isotick_model::Quantile;

use self::dense::Dense;
use self::waiting::{Waiting, value};
pub(crate) use self::waiting::{are_codes, base_around, distance};
use crate::windows::SavedMultiset;

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
/// The same before anything is counted, of values that wait in 16 bits.
const SPAN_PER_CODE: u64 = 2;
/// Values in 16 bits, before it is looked whether they repeat.
const CODES_MAX: u64 = 4096;
/// Values that are looked at to see how often values repeat: at least this many, and a share that
/// costs next to nothing of what there is.
const SAMPLE_MIN: usize = 256;
const SAMPLE_STEP: usize = 64;

/// A multiset.
#[derive(Clone, Debug)]
pub(crate) struct Multiset {
    /// Values that are not in `counted`.
    waiting: Waiting,
    /// When so many wait, they are settled.
    waiting_max: usize,
    counted: Counted,
}

#[derive(Clone, Debug)]
enum Counted {
    Nothing,
    Dense(Box<Dense>),
    Sorted(Box<Sorted>),
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
        Self { waiting: Waiting::new(), waiting_max: PLAIN_MAX, counted: Counted::Nothing }
    }
}

impl Multiset {
    /// Adds a value.
    pub(crate) fn push(&mut self, value: i64) {
        self.waiting.push(value);
        if self.waiting.len() >= self.waiting_max {
            self.settle();
        }
    }

    /// Adds values.
    pub(crate) fn extend(&mut self, values: &[i64]) {
        if !self.count_at_once(values.iter().copied()) {
            self.wait(values, Waiting::extend);
        }
    }

    /// Adds values that are given as distances from a base.
    pub(crate) fn extend_codes(&mut self, base: i64, codes: &[u16]) {
        if !self.count_at_once(codes.iter().map(|&code| value(base, code))) {
            self.wait(codes, |waiting, codes| waiting.extend_codes(base, codes));
        }
    }

    /// Counts values that are many enough to meet most of the memory they bring into the cache
    /// more than once, if they are; whether all were added.
    fn count_at_once(&mut self, values: impl ExactSizeIterator<Item = i64>) -> bool {
        let Counted::Dense(dense) = &mut self.counted else { return false };
        if values.len() * 2 < self.waiting_max {
            return false;
        }
        let mut outside = Vec::new();
        dense.count(values, |value| outside.push(value));
        self.wait(&outside, Waiting::extend);
        true
    }

    /// Lets values wait, settling in between.
    fn wait<T>(&mut self, mut values: &[T], extend: impl Fn(&mut Waiting, &[T])) {
        while !values.is_empty() {
            // Less than `waiting_max` wait between calls.
            let room = self.waiting_max - self.waiting.len();
            let (now, later) = values.split_at(room.min(values.len()));
            extend(&mut self.waiting, now);
            if self.waiting.len() >= self.waiting_max {
                self.settle();
            }
            values = later;
        }
    }

    /// How many values there are, each as often as it occurs.
    pub(crate) fn len(&self) -> u64 {
        let counted = match &self.counted {
            Counted::Nothing => 0,
            Counted::Dense(dense) => dense.len(),
            Counted::Sorted(sorted) => sorted.len,
        };
        counted + self.waiting.len() as u64
    }

    /// All values with their counts.
    pub(crate) fn save(&self) -> SavedMultiset {
        let mut sorted = match &self.counted {
            Counted::Nothing => Sorted::default(),
            Counted::Dense(dense) => Sorted::from(dense.clone()),
            Counted::Sorted(sorted) => Sorted::clone(sorted),
        };
        sorted.merge(with_counts(&self.waiting.clone().sorted()));
        SavedMultiset { values: sorted.values, counts: sorted.counts }
    }

    /// Whether values ascend and counts suit them, so that it can be taken back.
    pub(crate) fn is_sound(saved: &SavedMultiset) -> bool {
        let SavedMultiset { values, counts } = saved;
        values.is_sorted_by(|a, b| a < b)
            && values.len() == counts.len()
            && !counts.contains(&0)
            && counts.iter().try_fold(0_u64, |sum, &count| sum.checked_add(count)).is_some()
    }

    /// A multiset as it was saved, which is sound.
    pub(crate) fn restore(saved: SavedMultiset) -> Self {
        let mut set = Self::default();
        match saved.counts.iter().sum::<u64>() <= PLAIN_MAX as u64 {
            true => set.combine(&saved),
            false => set.count_sorted(saved.into()),
        }
        set
    }

    /// Adds all values of another one, as it was saved, which is sound.
    pub(crate) fn combine(&mut self, saved: &SavedMultiset) {
        let SavedMultiset { values, counts } = saved;
        if counts.iter().sum::<u64>() <= PLAIN_MAX as u64 {
            let times = values.iter().zip(counts);
            times.for_each(|(&value, &count)| (0..count).for_each(|_| self.push(value)));
        } else {
            let mut sorted = Sorted::from(self.save());
            sorted.merge(values.iter().copied().zip(counts.iter().copied()));
            self.waiting = Waiting::new();
            self.count_sorted(sorted);
        }
    }

    /// Takes these in place of all that was counted; what waits stays.
    fn count_sorted(&mut self, sorted: Sorted) {
        self.waiting_max = PLAIN_MAX.max(sorted.values.len() / 2);
        self.counted = Counted::Sorted(Box::new(sorted));
    }

    /// Counts what waits, in the form that suits; afterwards less than `waiting_max` wait.
    fn settle(&mut self) {
        if let Counted::Dense(dense) = &mut self.counted
            && self.waiting.count_into(dense)
        {
            return;
        }
        let Some((least, greatest)) = self.waiting.range() else { return };
        if let Some((base, span)) = self.dense_span(least, greatest) {
            let mut dense = match &self.counted {
                Counted::Dense(old) => old.within(base, span),
                _ => Dense::new(base, span),
            };
            let all = self.waiting.count_into(&mut dense);
            assert!(all, "the new span holds all values");
            self.counted = Counted::Dense(Box::new(dense));
            self.waiting_max = PENDING_MAX.max(span / SPAN_PER_PENDING);
            self.waiting.clear(self.waiting_max);
            return;
        }
        let len = self.waiting.len();
        let mut sorted = match std::mem::replace(&mut self.counted, Counted::Nothing) {
            Counted::Nothing => match self.until_dense(least.abs_diff(greatest)) {
                Some(enough) => return self.wait_for(enough.min(len * 2)),
                None if !self.repeats() => return self.wait_for(len * 2),
                None => Sorted::default(),
            },
            Counted::Dense(dense) => dense.into(),
            Counted::Sorted(sorted) => *sorted,
        };
        let ascending = self.waiting.sorted();
        let distinct = ascending.chunk_by(|a, b| a == b).count();
        if sorted.values.is_empty() && distinct * 2 > len {
            return self.wait_for(len * 2);
        }
        sorted.merge(with_counts(&ascending));
        self.waiting_max = PLAIN_MAX.max(sorted.values.len() / 2);
        self.waiting.clear(self.waiting_max);
        self.counted = Counted::Sorted(Box::new(sorted));
    }

    /// Lets so many values wait, more than do.
    fn wait_for(&mut self, len: usize) {
        self.waiting_max = len;
        self.waiting.make_room(len);
    }

    /// The first integer and the number of integers of a span that holds all values, where they
    /// may be counted one by one.
    fn dense_span(&self, least: i64, greatest: i64) -> Option<(i64, usize)> {
        let (mut from, mut to) = (least, greatest);
        let mut per_value = SPAN_PER_VALUE;
        match &self.counted {
            Counted::Nothing if self.waiting.is_narrow() => per_value = SPAN_PER_CODE,
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
        let narrow = distance < SPAN_MAX.min(len.saturating_mul(per_value));
        narrow.then(|| (from, distance as usize + 1))
    }

    /// How many values must wait to be counted in a span, its last integer so far from its first:
    /// of values in 16 bits, while they are few or that is soon.
    fn until_dense(&self, distance: u64) -> Option<usize> {
        let len = self.waiting.len() as u64;
        // What is just enough for the span, as `dense_span` has it.
        let enough = distance / SPAN_PER_CODE + 1;
        let soon = len < CODES_MAX || enough <= 2 * len;
        (self.waiting.is_narrow() && soon).then_some(enough as usize)
    }

    /// Whether values that wait seem to occur four times or more each, on average. Of s values
    /// drawn from d that are equally frequent, some s²/2d are repetitions.
    fn repeats(&self) -> bool {
        let len = self.waiting.len();
        let mut sample = self.waiting.sample((len / SAMPLE_MIN).clamp(1, SAMPLE_STEP));
        sample.sort_unstable();
        let repetitions = sample.windows(2).filter(|pair| pair[0] == pair[1]).count();
        len * repetitions >= 2 * sample.len() * sample.len()
    }
}

impl From<Box<Dense>> for Sorted {
    fn from(dense: Box<Dense>) -> Self {
        let (values, counts) = dense.iter().unzip();
        Self { values, counts, len: dense.len() }
    }
}

impl From<SavedMultiset> for Sorted {
    fn from(SavedMultiset { values, counts }: SavedMultiset) -> Self {
        let len = counts.iter().sum();
        Self { values, counts, len }
    }
}

/// Each of ascending values with how often it is there.
fn with_counts(ascending: &[i64]) -> impl Iterator<Item = (i64, u64)> {
    ascending.chunk_by(|a, b| a == b).map(|equal| (equal[0], equal.len() as u64))
}

impl Sorted {
    /// Merges ascending values with their counts into itself.
    fn merge(&mut self, ascending: impl Iterator<Item = (i64, u64)>) {
        let old = std::mem::take(self);
        let mut into = Self { len: old.len, ..Self::default() };
        into.values.reserve(old.values.len());
        into.counts.reserve(old.values.len());
        let mut held = old.values.into_iter().zip(old.counts).peekable();
        for (value, count) in ascending {
            while let Some((before, count)) = held.next_if(|held| held.0 < value) {
                into.put(before, count);
            }
            let also = held.next_if(|held| held.0 == value).map_or(0, |held| held.1);
            into.put(value, also + count);
            into.len += count;
        }
        held.for_each(|(value, count)| into.put(value, count));
        *self = into;
    }

    fn put(&mut self, value: i64, count: u64) {
        self.values.push(value);
        self.counts.push(count);
    }
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
        return Some(select_plain(parts, ranks));
    }
    Some(match union_span(parts) {
        Some((base, span)) => match u32::try_from(len) {
            Ok(_) => {
                let add = |sum: &mut u32, count: u32| *sum = sum.wrapping_add(count);
                walk_span(base, &counts(parts, base, span, add), ranks)
            }
            Err(_) => {
                let add = |sum: &mut u64, count: u32| *sum = sum.wrapping_add(count.into());
                walk_span(base, &counts(parts, base, span, add), ranks)
            }
        },
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
                let waiting = entries.len();
                part.waiting.for_each(|value| entries.push((value, 1)));
                entries[waiting..].sort_unstable();
            }
            // A stable sort merges what is ascending already.
            entries.sort_by_key(|entry| entry.0);
            walk(entries.into_iter(), ranks)
        }
    })
}

/// How often each integer of a span that holds everything occurs. No sum passes the number of
/// values, which one holds.
fn counts<T: Clone + Default>(
    parts: &[&Multiset],
    base: i64,
    span: usize,
    add: impl Fn(&mut T, u32),
) -> Vec<T> {
    let mut counts = vec![T::default(); span];
    for part in parts {
        if let Counted::Dense(dense) = &part.counted {
            let at = dense.base.abs_diff(base) as usize;
            dense.add_to(&mut counts[at..], &add);
        }
        part.waiting.for_each(|value| add(&mut counts[value.abs_diff(base) as usize], 1));
    }
    counts
}

/// Along the counts of the integers from `base` on: a chunk is summed as a whole before a rank is
/// looked for in it.
fn walk_span<T: Copy + Into<u64>>(
    base: i64,
    counts: &[T],
    ranks: impl Iterator<Item = u64>,
) -> Vec<i64> {
    const CHUNK: usize = 64;
    let of_chunk = |chunk: &[T]| chunk.iter().map(|&count| count.into()).sum::<u64>();
    let mut chunks = counts.chunks(CHUNK);
    let mut chunk = chunks.next().unwrap_or_default();
    let (mut start, mut below, mut within) = (0, 0, of_chunk(chunk));
    let at_rank = |rank: u64| {
        while below + within < rank {
            below += within;
            start += chunk.len();
            chunk = chunks.next().expect("a rank is at most the number of values");
            within = of_chunk(chunk);
        }
        let mut up_to = below;
        let place = chunk.iter().position(|&count| {
            up_to += count.into();
            up_to >= rank
        });
        let place = start + place.expect("the rank is in this chunk");
        // The span ends at a 64-bit integer.
        base.wrapping_add(place as i64)
    };
    ranks.map(at_rank).collect()
}

/// By selection: ranks ascend, so each one is looked for behind the one before.
fn select_plain(parts: &[&Multiset], ranks: impl Iterator<Item = u64>) -> Vec<i64> {
    let mut values = Vec::with_capacity(parts.iter().map(|part| part.waiting.len()).sum());
    parts.iter().for_each(|part| part.waiting.for_each(|value| values.push(value)));
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
        for (from, to) in dense.into_iter().chain(part.waiting.range()) {
            union = Some(union.map_or((from, to), |(least, most)| (from.min(least), to.max(most))));
        }
    }
    let (from, to) = union?;
    let distance = to.abs_diff(from);
    (distance < 2 * SPAN_MAX).then(|| (from, distance as usize + 1))
}

#[cfg(test)]
mod tests;
