//! The results of one input whose parts were taken in apart: windows of all parts in canonical
//! order, encoded block by block.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use isotick_model::Key;
use isotick_model::results::WindowRow;
use isotick_model::view::View;

use crate::finished::Finished;
use crate::hash::EncodedRows;
use crate::multiset::Multiset;
use crate::states;
use crate::tables::PublisherTable;
use crate::windows::Windows;

/// Rows of a block, about.
const BLOCK_ROWS: usize = 4096;
/// The same where quantiles are selected: some microseconds each, which all threads are to share.
const BLOCK_ROWS_SELECTED: usize = 32;

/// Windows of one part of an input, brought into order: what each thread can do alone, before
/// [`Results`] puts the parts together.
#[derive(Debug)]
pub struct Ordered {
    windows: Windows,
    /// The codes of its keys, in the order of the keys' bytes.
    codes: Vec<u32>,
    /// By key, then start; keys by their places in `codes`.
    stretches: Vec<Stretch>,
}

/// Windows of one view, over all parts of an input. Which rows went into which part does not
/// matter to what comes out.
#[derive(Debug)]
pub struct Results {
    parts: Vec<Windows>,
    publishers: PublisherTable,
    /// Per part, the code in `publishers` of each of its publishers.
    recodes: Vec<Vec<u32>>,
    /// In the order of their bytes.
    keys: Vec<Key>,
    /// By key, then start.
    stretches: Vec<Stretch>,
    blocks: Vec<Range<usize>>,
    windows: usize,
}

/// Windows of one key that lie side by side in one part: some finished ones, or the state of one.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// In [`Results::keys`].
    key: u32,
    part: u32,
    /// The start of the first.
    start: i64,
    source: Source,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Slot(u32),
    Rows { finished: u32, first: u32, len: u32 },
}

impl Stretch {
    fn is_of_window(&self, other: &Self) -> bool {
        (self.key, self.start) == (other.key, other.start)
    }

    fn windows(&self) -> usize {
        match self.source {
            Source::Slot(_) => 1,
            Source::Rows { len, .. } => len as usize,
        }
    }
}

impl Results {
    /// The results of these parts.
    ///
    /// # Panics
    /// When there is no part, two are of different views, or a window that was finished is in two
    /// of them.
    pub fn of(parts: impl IntoIterator<Item: Into<Ordered>>) -> Self {
        let ordered: Vec<Ordered> = parts.into_iter().map(Into::into).collect();
        let view = &ordered.first().expect("a result has a part").windows.view().definition;
        let same = ordered.iter().all(|part| part.windows.view().definition == *view);
        assert!(same, "the parts of a result are of one view");
        let mut keys: Vec<&Key> =
            ordered.iter().flat_map(|part| part.windows.keys().values()).collect();
        keys.sort_unstable();
        keys.dedup();
        // Fresh memory is not for free: no more of it than is needed.
        let mut stretches =
            Vec::with_capacity(ordered.iter().map(|part| part.stretches.len()).sum());
        for (number, part) in ordered.iter().enumerate() {
            let place = |&code: &u32| {
                let found = keys.binary_search(&part.windows.keys().get(code));
                found.expect("all keys are among these") as u32
            };
            let places: Vec<u32> = part.codes.iter().map(place).collect();
            stretches.extend(part.stretches.iter().map(|stretch| Stretch {
                key: places[stretch.key as usize],
                part: number as u32,
                ..*stretch
            }));
        }
        // Ascending pieces one after another.
        stretches.sort_by_key(|stretch| (stretch.key, stretch.start));
        let keys = keys.into_iter().cloned().collect();
        let parts: Vec<Windows> = ordered.into_iter().map(|part| part.windows).collect();
        let mut publishers = PublisherTable::default();
        let recodes = parts.iter().map(|part| {
            part.publishers().values().iter().map(|name| publishers.intern(name)).collect()
        });
        let recodes = recodes.collect();
        let mut results =
            Self { parts, publishers, recodes, keys, stretches, blocks: Vec::new(), windows: 0 };
        results.disentangle();
        results.cut();
        results
    }

    fn finished(&self, part: u32, finished: u32) -> &Finished {
        &self.parts[part as usize].finished()[finished as usize]
    }

    /// The start of a stretch's last window.
    fn last_start(&self, stretch: &Stretch) -> i64 {
        match stretch.source {
            Source::Slot(_) => stretch.start,
            Source::Rows { finished, first, len } => {
                self.finished(stretch.part, finished).start((first + len - 1) as usize)
            }
        }
    }

    /// Splits stretches between whose windows others lie, so that the windows of stretches follow
    /// one another: the windows at the edges of batches lie around those inside.
    fn disentangle(&mut self) {
        let tangled = |pair: &[Stretch]| {
            pair[0].key == pair[1].key && self.last_start(&pair[0]) > pair[1].start
        };
        if !self.stretches.windows(2).any(tangled) {
            return;
        }
        let mut apart = Vec::with_capacity(2 * self.stretches.len());
        for of_key in self.stretches.chunk_by(|a, b| a.key == b.key) {
            if !of_key.windows(2).any(tangled) {
                apart.extend_from_slice(of_key);
                continue;
            }
            // What is left of each, by its start.
            let mut left = of_key.to_vec();
            let mut next: BinaryHeap<_> =
                (0..left.len()).map(|at| Reverse((left[at].start, at))).collect();
            while let Some(Reverse((_, at))) = next.pop() {
                let before = next.peek().map(|Reverse((start, _))| *start);
                let (first, rest) = self.split(left[at], before);
                apart.push(first);
                if let Some(rest) = rest {
                    left[at] = rest;
                    next.push(Reverse((rest.start, at)));
                }
            }
        }
        self.stretches = apart;
    }

    /// The windows of a stretch that start before a time, the first at least, and the others.
    fn split(&self, stretch: Stretch, before: Option<i64>) -> (Stretch, Option<Stretch>) {
        let (Source::Rows { finished, first, len }, Some(before)) = (stretch.source, before) else {
            return (stretch, None);
        };
        let rows = self.finished(stretch.part, finished);
        let starts = rows.starts(first as usize..(first + len) as usize);
        let count = starts.partition_point(|start| *start < before).max(1) as u32;
        let piece = |first: u32, len: u32| Stretch {
            start: rows.start(first as usize),
            source: Source::Rows { finished, first, len },
            ..stretch
        };
        let rest = (count < len).then(|| piece(first + count, len - count));
        (piece(first, count), rest)
    }

    /// Cuts the stretches into blocks, between windows.
    fn cut(&mut self) {
        let selects = !self.parts[0].plan().values().is_empty();
        let rows_of_block = if selects { BLOCK_ROWS_SELECTED } else { BLOCK_ROWS };
        let mut start = 0;
        let mut rows = 0;
        for (at, stretch) in self.stretches.iter().enumerate() {
            if at > 0 && stretch.is_of_window(&self.stretches[at - 1]) {
                continue;
            }
            if rows >= rows_of_block {
                self.blocks.push(start..at);
                (start, rows) = (at, 0);
            }
            rows += stretch.windows();
            self.windows += stretch.windows();
        }
        if rows > 0 {
            self.blocks.push(start..self.stretches.len());
        }
    }

    /// The view.
    pub fn view(&self) -> &View {
        self.parts[0].view()
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.windows
    }

    /// Whether there is no window.
    pub fn is_empty(&self) -> bool {
        self.windows == 0
    }

    /// How many blocks the windows are in.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The windows of a block, finished and encoded. Blocks follow one another in canonical
    /// order: by key bytes, then start.
    ///
    /// # Panics
    /// When there is no such block.
    pub fn block(&self, block: usize) -> EncodedRows {
        let stretches = &self.stretches[self.blocks[block].clone()];
        let view = self.view();
        let key_bytes =
            stretches.iter().map(|of| self.keys[of.key as usize].as_bytes().len()).max();
        let windows = stretches.iter().map(Stretch::windows).sum();
        let mut rows =
            EncodedRows::with_room(view.aggregates.len(), windows, key_bytes.unwrap_or(0));
        let mut state = Vec::new();
        let (mut at, mut fetched) = (0, 0);
        let times = |start: i64| start..view.window.end_of(start);
        for of_window in stretches.chunk_by(Stretch::is_of_window) {
            at += of_window.len();
            if at > fetched {
                let ahead = stretches.len().min(at + states::FETCHED);
                let next = &stretches[fetched..ahead];
                states::fetch(next.iter().filter_map(|stretch| self.state(stretch)));
                fetched = ahead;
            }
            let &Stretch { key, start, part, source } = &of_window[0];
            let key = &self.keys[key as usize];
            match source {
                Source::Rows { finished, first, len } => {
                    assert_eq!(of_window.len(), 1, "a finished window is in one part");
                    let finished = self.finished(part, finished);
                    let windows = first as usize..(first + len) as usize;
                    rows.push_finished(key, finished, windows, |start| view.window.end_of(start));
                }
                Source::Slot(slot) => {
                    let state = match of_window {
                        [_] => self.parts[part as usize].state(slot),
                        several => {
                            self.combine(several, &mut state);
                            &state
                        }
                    };
                    let values = self.parts[0].lower().values(state, &self.multisets(of_window));
                    rows.push(key, times(start), values.into_iter());
                }
            }
        }
        rows
    }

    /// The state of a window that is not finished.
    fn state(&self, stretch: &Stretch) -> Option<&[u64]> {
        match stretch.source {
            Source::Slot(slot) => Some(self.parts[stretch.part as usize].state(slot)),
            Source::Rows { .. } => None,
        }
    }

    /// All windows in canonical order.
    pub fn rows(&self) -> Vec<WindowRow> {
        (0..self.blocks()).flat_map(|block| self.block(block).rows()).collect()
    }

    /// Combines the states of a window in several parts.
    fn combine(&self, stretches: &[Stretch], into: &mut Vec<u64>) {
        let plan = self.parts[0].plan();
        into.clear();
        into.resize(plan.words(), 0);
        let mut words = Vec::new();
        for stretch in stretches {
            words.clear();
            words.extend(self.state(stretch).expect("a finished window is in one part"));
            states::recode_publishers(plan, &mut words, &self.recodes[stretch.part as usize]);
            states::combine(plan, into, &words, &self.publishers);
        }
    }

    /// A window's multisets in each part.
    fn multisets(&self, stretches: &[Stretch]) -> Vec<&[Multiset]> {
        if self.parts[0].plan().values().is_empty() {
            return Vec::new();
        }
        let of = |stretch: &Stretch| match stretch.source {
            Source::Slot(slot) => Some(self.parts[stretch.part as usize].multisets(slot)),
            Source::Rows { .. } => None,
        };
        stretches.iter().filter_map(of).collect()
    }

    /// Rows that entered windows.
    pub fn passed(&self) -> u64 {
        self.parts.iter().map(Windows::passed).sum()
    }

    /// Rows that passed the filter, whose window is not representable.
    pub fn unrepresentable(&self) -> u64 {
        self.parts.iter().map(Windows::unrepresentable).sum()
    }

    /// Rows that the truth left out.
    pub fn too_late(&self) -> u64 {
        self.parts.iter().map(Windows::too_late).sum()
    }
}

impl From<Windows> for Ordered {
    /// # Panics
    /// When a part of the windows has not been [finished](Windows::finish).
    fn from(windows: Windows) -> Self {
        assert!(!windows.has_waiting(), "the last part was finished");
        let keys = windows.keys();
        let mut codes: Vec<u32> = (0..keys.len() as u32).collect();
        codes.sort_unstable_by_key(|&code| keys.get(code));
        let mut places = vec![0; codes.len()];
        for (place, &code) in codes.iter().enumerate() {
            places[code as usize] = place as u32;
        }
        let finished = windows.finished().iter().map(|finished| finished.keys().len());
        let mut stretches = Vec::with_capacity(windows.len() + finished.sum::<usize>());
        for (place, &code) in codes.iter().enumerate() {
            stretches.extend(windows.of_key(code).map(|(start, slot)| Stretch {
                key: place as u32,
                part: 0,
                start,
                source: Source::Slot(slot),
            }));
        }
        for (number, finished) in windows.finished().iter().enumerate() {
            for (code, rows) in finished.keys() {
                let mut first = rows.start;
                while first < rows.end {
                    let len = (rows.end - first).min(BLOCK_ROWS);
                    stretches.push(Stretch {
                        key: places[*code as usize],
                        part: 0,
                        start: finished.start(first),
                        source: Source::Rows {
                            finished: number as u32,
                            first: first as u32,
                            len: len as u32,
                        },
                    });
                    first += len;
                }
            }
        }
        // Mostly ascending pieces one after another.
        stretches.sort_by_key(|stretch| (stretch.key, stretch.start));
        Self { windows, codes, stretches }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use isotick_model::ticks::ON_TIME;
    use isotick_model::view::{Aggregate, Tumbling};

    use super::*;
    use crate::CpuEngine;
    use crate::testing::{Row, schema, ticks_of, view};

    #[test]
    fn windows_inside_a_batch_stay_together_between_those_at_its_edges() {
        let window = Tumbling { width_ns: 10, origin_ns: 0 };
        let view = Arc::new(view(&[Aggregate::Count], window, None));
        let mut windows = Windows::new(view, &schema([0, 0]));
        let row = |ts: i64| {
            let values = vec![Some(ts), Some(1)];
            Row { ts, publisher: 0, sequence: ts as u64, key: 0, values, seen: ON_TIME }
        };
        for batch in [0..500, 500..900, 900..2000] {
            let rows: Vec<Row> = batch.map(row).collect();
            let reached = |_: &Key| Vec::new();
            windows.update_sorted(&ticks_of(&rows), None, &mut CpuEngine, reached).unwrap();
        }
        windows.finish(|_| Vec::new());
        let results = Results::of([windows]);
        // The first window, those inside, the last one, which with the next batch's first is two.
        let lens: Vec<usize> = results.stretches.iter().map(Stretch::windows).collect();
        assert_eq!(lens, [1, 48, 2, 38, 2, 108, 1]);
        assert_eq!(results.rows().len(), 200);
    }
}
