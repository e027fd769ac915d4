//! Windows that no more ticks can reach: their states give way to their values, which take less
//! than half the memory.

use std::ops::{Range, RangeInclusive};

use isotick_model::{Key, Ticks};

use super::{WindowId, Windows};
use crate::engine::{Engine, EngineError};
use crate::finished::Finished;
use crate::lower::Lower;
use crate::partial::Partials;
use crate::partition::Form;
use crate::runs::Run;
use crate::states;

/// The batches of a part that is under way.
#[derive(Debug)]
pub(super) enum Part {
    /// Their windows are not held yet.
    Waits(Vec<Batch>),
    /// Those of some batches are, so those of others are as well.
    Held,
}

impl Default for Part {
    fn default() -> Self {
        Self::Waits(Vec::new())
    }
}

/// The windows of a batch, with their states in it.
#[derive(Debug)]
pub(super) struct Batch {
    windows: Vec<WindowId>,
    states: Partials,
}

/// Windows of one start that lie side by side in a batch.
struct Stretch {
    start: i64,
    batch: u32,
    windows: Range<usize>,
}

/// A window of some batches, whose state stands in one of them.
struct Waiting {
    id: WindowId,
    batch: u32,
    place: u32,
}

/// The words of states that wait, at most: 128 MiB.
pub(super) const WAITING_WORDS_MAX: usize = 1 << 24;

impl Windows {
    /// Takes in a batch of several that together are sorted by key, then time, so that a window is in
    /// none of the others unless the first or the last tick of this one is in it. Those that no
    /// other ticks can reach either, as [`finish`](Self::finish) has it, are finished without being
    /// held.
    ///
    /// On an error nothing has changed, as for [`update`](Self::update).
    pub fn update_sorted(
        &mut self,
        ticks: &Ticks,
        select: Option<&dyn Fn(usize) -> bool>,
        engine: &mut dyn Engine,
        reachable: impl Fn(&Key) -> Vec<RangeInclusive<i64>>,
    ) -> Result<(), EngineError> {
        let reduced = self.reduce(ticks, select, engine)?;
        match &reduced.batch.form {
            Form::Runs(runs) if self.multisets.is_empty() => {
                let window = self.view.window;
                let edge = |row: usize| {
                    let key = &ticks.keys[ticks.key[row] as usize];
                    (window.start_of(ticks.ts_event[row]), key)
                };
                let edges = ticks.len().checked_sub(1).map(|last| [edge(0), edge(last)]);
                let is_edge = |key: &Key, start: i64| {
                    edges.iter().flatten().any(|edge| *edge == (Some(start), key))
                };
                self.hold_waiting();
                self.finish_inner(&runs.runs, &reduced.partials, is_edge, reachable);
                self.count(&reduced.batch);
            }
            _ => {
                self.hold(&reduced);
            }
        }
        Ok(())
    }

    /// Takes in a batch of a part, in any order, at whose end [`finish`](Self::finish) is called:
    /// until then its windows may be missing here.
    ///
    /// Where batches follow one another in time, each with several windows, most windows have ticks
    /// in one of them alone: states wait for the end of the part, and are finished without being
    /// held.
    ///
    /// On an error nothing has changed, as for [`update`](Self::update).
    pub fn update_part(
        &mut self,
        ticks: &Ticks,
        select: Option<&dyn Fn(usize) -> bool>,
        engine: &mut dyn Engine,
    ) -> Result<(), EngineError> {
        let reduced = self.reduce(ticks, select, engine)?;
        if reduced.batch.form.ticks().is_empty() {
            self.count(&reduced.batch);
            return Ok(());
        }
        let windows = reduced.windows();
        if !self.can_wait(&windows, &reduced.partials) {
            self.hold(&reduced);
            return Ok(());
        }
        self.check_partials(windows.len(), &reduced.partials);
        self.count(&reduced.batch);
        if let Part::Waits(batches) = &mut self.part {
            batches.push(Batch { windows, states: reduced.partials });
        }
        Ok(())
    }

    /// Finishes the windows that no more ticks can reach: those in which none of the times lies
    /// that `reachable` gives for their key. They are held no longer, take less than half the memory
    /// from here on, and come out of [`Results`](crate::Results) only. Ticks that come for one of
    /// them after all would make it a second window there, which is refused as a bug.
    pub fn finish(&mut self, reachable: impl Fn(&Key) -> Vec<RangeInclusive<i64>>) {
        if let Part::Waits(batches) = std::mem::take(&mut self.part) {
            self.finish_waiting(batches, &reachable);
        }
        let Self { index, keys, view, lower, states, multisets, free, .. } = self;
        let window = view.window;
        let mut done = Vec::with_capacity(index.len());
        index.remove_where(
            |key| {
                let reachable = reachable(keys.get(key));
                move |start| !is_reached(start, window.end_of(start), &reachable)
            },
            |key, start, slot| done.push((key, start, slot)),
        );
        let mut finished = Finished::with_capacity(view.aggregates.len(), done.len());
        for some in done.chunks(states::FETCHED) {
            let states: Vec<&[u64]> = some.iter().map(|&(_, _, slot)| states.get(slot)).collect();
            states::fetch(states.iter().copied());
            let rows = some.iter().map(|&(key, start, _)| finished.add(key, start));
            let rows: Vec<usize> = rows.collect();
            if multisets.is_empty() {
                finished.put_lowered(lower, rows.iter().copied(), states.iter().copied());
                continue;
            }
            for ((row, &(_, _, slot)), state) in rows.into_iter().zip(some).zip(states) {
                finished.put_values(row, lower.values(state, &[multisets.of(slot)]));
                multisets.clear(slot);
            }
        }
        free.extend(done.iter().map(|&(_, _, slot)| slot));
        if !finished.is_empty() {
            self.finished.push(finished);
            // Windows that come next take slots from the front, side by side.
            let mut is_free = vec![false; self.touched.len()];
            self.free.drain(..).for_each(|slot| is_free[slot as usize] = true);
            let slots = (0..self.touched.len() as u32).rev();
            self.free.extend(slots.filter(|&slot| is_free[slot as usize]));
        }
    }

    /// Those that were [finished](Self::finish), alone: these hold them no longer.
    pub fn take_finished(&mut self) -> Self {
        let mut taken = Self::like(self);
        taken.keys.clone_from(&self.keys);
        taken.finished = std::mem::take(&mut self.finished);
        taken
    }

    /// Finishes the windows of runs, one each, that are no edge and that no other ticks can reach;
    /// holds the others.
    fn finish_inner(
        &mut self,
        runs: &[Run],
        partials: &Partials,
        is_edge: impl Fn(&Key, i64) -> bool,
        reachable: impl Fn(&Key) -> Vec<RangeInclusive<i64>>,
    ) {
        self.check_partials(runs.len(), partials);
        self.updates += 1;
        let window = self.view.window;
        let mut finished = Finished::with_capacity(self.view.aggregates.len(), runs.len());
        let stride = self.plan.words();
        // Of the windows added last, which lie side by side, those whose values are to follow.
        let mut added = 0..0;
        let put = |finished: &mut Finished, lower: &Lower, added: Range<usize>| {
            let mut row = finished.len() - added.len();
            let words = &partials.words[added.start * stride..added.end * stride];
            for states in words.chunks(states::FETCHED * stride) {
                let states = states.chunks_exact(stride);
                let rows = row..row + states.len();
                row = rows.end;
                finished.put_lowered(lower, rows, states);
            }
        };
        let mut at = 0;
        for of_key in runs.chunk_by(|a, b| a.key == b.key) {
            let key = of_key[0].key;
            let reachable = reachable(self.keys.get(key));
            for run in of_key {
                let start = run.window_start;
                let held = is_edge(self.keys.get(key), start)
                    || is_reached(start, window.end_of(start), &reachable);
                if held {
                    put(&mut finished, &self.lower, std::mem::replace(&mut added, at + 1..at + 1));
                    self.combine(WindowId { start, key }, &partials.words[at * stride..][..stride]);
                } else {
                    finished.add(key, start);
                    added.end = at + 1;
                }
                at += 1;
            }
        }
        put(&mut finished, &self.lower, added);
        self.keep(finished);
    }

    fn keep(&mut self, mut finished: Finished) {
        if !finished.is_empty() {
            finished.give_back();
            self.finished.push(finished);
        }
    }

    /// Whether the states of a batch can wait for the end of the part, and it is of use: batches
    /// that do not follow one another in time would give the same windows again and again.
    fn can_wait(&self, windows: &[WindowId], states: &Partials) -> bool {
        let Part::Waits(batches) = &self.part else { return false };
        let waiting: usize = batches.iter().map(|batch| batch.states.words.len()).sum();
        let has_room = waiting + states.words.len() <= WAITING_WORDS_MAX;
        let is_next = || match batches.last() {
            None => self.is_spread(windows),
            Some(last) => late(&last.windows) <= early(windows),
        };
        self.multisets.is_empty() && has_room && is_next()
    }

    /// Whether windows lie between the first and the last, and a table of all keys is not much
    /// longer than these.
    fn is_spread(&self, windows: &[WindowId]) -> bool {
        let starts = || windows.iter().map(|window| i128::from(window.start));
        let span = starts().max().unwrap_or(0) - starts().min().unwrap_or(0);
        span >= 2 * i128::from(self.view.window.width_ns)
            && self.keys.len() <= 4 * windows.len() + 1024
    }

    /// Whether the batches of a part wait for its end.
    pub(crate) fn has_waiting(&self) -> bool {
        matches!(&self.part, Part::Waits(batches) if !batches.is_empty())
    }

    /// Holds the windows of batches that wait, and from here on those of the part's others.
    pub(super) fn hold_waiting(&mut self) {
        let Part::Waits(batches) = std::mem::replace(&mut self.part, Part::Held) else { return };
        for batch in &batches {
            for (place, &window) in batch.windows.iter().enumerate() {
                self.combine(window, batch.state(place));
            }
        }
    }

    /// Finishes the windows of batches that no other ticks can reach; holds the others.
    fn finish_waiting(
        &mut self,
        mut batches: Vec<Batch>,
        reachable: impl Fn(&Key) -> Vec<RangeInclusive<i64>>,
    ) {
        let waiting = self.combine_batches(&mut batches);
        let state = |of: &Waiting| batches[of.batch as usize].state(of.place as usize);
        let mut finished = Finished::with_capacity(self.view.aggregates.len(), waiting.len());
        // For each of those that wait, its row there; none for those that are held.
        let mut rows = vec![None; waiting.len()];
        let key = |at: &u32| waiting[*at as usize].id.key;
        for of_key in by_key(&waiting, self.keys.len()).chunk_by(|a, b| key(a) == key(b)) {
            let reachable = reachable(self.keys.get(key(&of_key[0])));
            for &at in of_key {
                let WindowId { start, key } = waiting[at as usize].id;
                if !is_reached(start, self.view.window.end_of(start), &reachable) {
                    rows[at as usize] = Some(finished.add(key, start));
                }
            }
        }
        // In the order in which states lie in memory.
        for (some, rows) in waiting.chunks(states::FETCHED).zip(rows.chunks(states::FETCHED)) {
            states::fetch(some.iter().map(state));
            let of_rows = || some.iter().zip(rows);
            let alone = of_rows().filter_map(|(of, row)| Some(((*row)?, state(of))));
            let (alone, states): (Vec<usize>, Vec<&[u64]>) = alone.unzip();
            finished.put_lowered(&self.lower, alone.iter().copied(), states.iter().copied());
            for (of, _) in of_rows().filter(|(_, row)| row.is_none()) {
                self.combine(of.id, state(of));
            }
        }
        self.keep(finished);
    }

    /// Combines what batches have of the same windows. Each window once, by start.
    fn combine_batches(&self, batches: &mut [Batch]) -> Vec<Waiting> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            batch.stretches(|start, windows| {
                stretches.push(Stretch { start, batch: number as u32, windows });
            });
        }
        stretches.sort_by_key(|stretch| stretch.start);
        let windows = batches.iter().map(|batch| batch.windows.len()).sum();
        let mut waiting: Vec<Waiting> = Vec::with_capacity(windows);
        // By key: which of these is that of the start under way.
        let mut met = vec![None; self.keys.len()];
        let mut words = Vec::new();
        for of_start in stretches.chunk_by(|a, b| a.start == b.start) {
            let first = waiting.len();
            for &Stretch { batch, ref windows, .. } in of_start {
                for place in windows.clone() {
                    let of_batch = &batches[batch as usize];
                    let id = of_batch.windows[place];
                    let Some(other) = met[id.key as usize] else {
                        met[id.key as usize] = Some(waiting.len() as u32);
                        waiting.push(Waiting { id, batch, place: place as u32 });
                        continue;
                    };
                    words.clear();
                    words.extend_from_slice(of_batch.state(place));
                    let Waiting { batch, place, .. } = waiting[other as usize];
                    let into = batches[batch as usize].state_mut(place as usize);
                    states::combine(&self.plan, into, &words, &self.publishers);
                }
            }
            waiting[first..].iter().for_each(|of| met[of.id.key as usize] = None);
        }
        waiting
    }
}

impl Batch {
    fn state(&self, place: usize) -> &[u64] {
        &self.states.words[place * self.states.stride..][..self.states.stride]
    }

    fn state_mut(&mut self, place: usize) -> &mut [u64] {
        &mut self.states.words[place * self.states.stride..][..self.states.stride]
    }

    /// Hands over the windows of one start that lie side by side.
    fn stretches(&self, mut take: impl FnMut(i64, Range<usize>)) {
        let mut first = 0;
        for of_start in self.windows.chunk_by(|a, b| a.start == b.start) {
            take(of_start[0].start, first..first + of_start.len());
            first += of_start.len();
        }
    }
}

/// The places of windows that are sorted by start, by key, then start. There are so many keys.
fn by_key(windows: &[Waiting], keys: usize) -> Vec<u32> {
    let mut ends = vec![0_u32; keys + 1];
    windows.iter().for_each(|of| ends[of.id.key as usize + 1] += 1);
    for key in 1..=keys {
        ends[key] += ends[key - 1];
    }
    let mut places = vec![0; windows.len()];
    for (at, of) in windows.iter().enumerate() {
        // Where the keys before end, at first.
        let end = &mut ends[of.id.key as usize];
        places[*end as usize] = at as u32;
        *end += 1;
    }
    places
}

/// The start of a window before which about a quarter of these lie, by which a few ticks out of order
/// go unnoticed. There is one at least.
fn early(windows: &[WindowId]) -> i64 {
    windows[windows.len() / 4].start
}

/// The same of the last quarter.
fn late(windows: &[WindowId]) -> i64 {
    windows[windows.len() - 1 - windows.len() / 4].start
}

/// Whether any of these times lies in a window.
fn is_reached(start: i64, end: i64, times: &[RangeInclusive<i64>]) -> bool {
    times.iter().any(|times| *times.start() < end && start <= *times.end())
}
