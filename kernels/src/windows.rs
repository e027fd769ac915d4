//! The windows of one view, by key and start: states while they change, rows when asked.

mod absorb;
mod saved;

use std::ops::RangeInclusive;
use std::sync::Arc;

use isotick_model::results::WindowRow;
use isotick_model::view::View;
use isotick_model::{Key, StreamSchema, Ticks};

pub use self::saved::{SavedMultiset, SavedWindows, Unfit};
use crate::base::Base;
use crate::engine::{Engine, EngineError};
use crate::finished::Finished;
use crate::index::WindowIndex;
use crate::lower::Lower;
use crate::multiset::Multiset;
use crate::multisets::Multisets;
use crate::partial::Partials;
pub use crate::partition::Truth;
use crate::partition::{Form, Partitioned, Partitioner};
use crate::plan::Plan;
use crate::runs::Run;
use crate::states;
use crate::tables::{KeyTable, PublisherTable};

/// A window of one [`Windows`]. Ordered by start, then by first sight of the key: an order for
/// collections, not the canonical one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowId {
    start: i64,
    key: u32,
}

impl WindowId {
    /// The window's start, nanoseconds UTC.
    pub fn window_start(self) -> i64 {
        self.start
    }

    /// The key's code in its [`Windows`].
    pub fn key_code(self) -> u32 {
        self.key
    }
}

/// A window that an update touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The window.
    pub id: WindowId,
    /// Where its state stands: below the greatest number of windows held at once, and its own
    /// until it is removed.
    pub place: u32,
    /// Whether it was not held before.
    pub is_new: bool,
}

/// The states of one view's windows. Any split of the same ticks over updates, and over several of
/// these ([`Results`](crate::Results)), gives the same rows.
#[derive(Debug)]
pub struct Windows {
    view: Arc<View>,
    plan: Plan,
    lower: Lower,
    partitioner: Partitioner,
    keys: KeyTable,
    publishers: PublisherTable,
    index: WindowIndex,
    states: StateTable,
    multisets: Multisets,
    /// Per slot, the last update that touched it.
    touched: Vec<u64>,
    /// Slots that were removed.
    free: Vec<u32>,
    /// Windows that are no longer held.
    finished: Vec<Finished>,
    updates: u64,
    passed: u64,
    unrepresentable: u64,
    too_late: u64,
}

impl Windows {
    /// No windows of a view over a stream with this schema (which has the columns' scales).
    ///
    /// # Panics
    /// When the view reads columns that the schema does not have.
    pub fn new(view: Arc<View>, schema: &StreamSchema) -> Self {
        let plan = Plan::over(&view, schema);
        Self::with_plan(view, schema, plan)
    }

    /// No windows of the states that are to be stored: to be saved, not finished.
    pub fn of_base(base: &Base, schema: &StreamSchema) -> Self {
        Self::with_plan(Arc::new(base.view(schema)), schema, base.plan().clone())
    }

    fn with_plan(view: Arc<View>, schema: &StreamSchema, plan: Plan) -> Self {
        Self {
            lower: Lower::new(&view, schema, &plan),
            partitioner: Partitioner::new(&view, &plan),
            states: StateTable::new(plan.words()),
            multisets: Multisets::new(&plan),
            plan,
            index: WindowIndex::new(view.window),
            view,
            keys: KeyTable::default(),
            publishers: PublisherTable::default(),
            touched: Vec::new(),
            free: Vec::new(),
            finished: Vec::new(),
            updates: 0,
            passed: 0,
            unrepresentable: 0,
            too_late: 0,
        }
    }

    /// Only windows that start at or after `from` and before `to`, nanoseconds UTC.
    pub fn with_range(mut self, from: Option<i64>, to: Option<i64>) -> Self {
        self.partitioner = self.partitioner.with_range(from, to);
        self
    }

    /// The same from now on. Windows outside that are held already stay.
    pub fn set_range(&mut self, from: Option<i64>, to: Option<i64>) {
        self.partitioner = self.partitioner.clone().with_range(from, to);
    }

    /// Under a truth; without this, [`Truth::Now`].
    pub fn with_truth(mut self, truth: Truth) -> Self {
        self.partitioner = self.partitioner.with_truth(truth);
        self
    }

    /// The view.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The plan of the view.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes in those ticks for which `select` is true, and that pass filter, range and truth.
    /// Gives each window that they touched, once, in no particular order. Columns that the view
    /// does not read may be absent.
    ///
    /// On an error nothing has changed: the caller may try again with another engine.
    pub fn update(
        &mut self,
        ticks: &Ticks,
        select: &dyn Fn(usize) -> bool,
        engine: &mut dyn Engine,
    ) -> Result<Vec<WindowId>, EngineError> {
        let touched = self.update_with(ticks, Some(select), engine)?;
        Ok(touched.into_iter().map(|touched| touched.id).collect())
    }

    /// The same for all ticks: what spares a call per row.
    pub fn update_all(
        &mut self,
        ticks: &Ticks,
        engine: &mut dyn Engine,
    ) -> Result<Vec<WindowId>, EngineError> {
        let touched = self.update_touched(ticks, engine)?;
        Ok(touched.into_iter().map(|touched| touched.id).collect())
    }

    /// As [`update_all`](Self::update_all), with where the windows stand.
    pub fn update_touched(
        &mut self,
        ticks: &Ticks,
        engine: &mut dyn Engine,
    ) -> Result<Vec<Touched>, EngineError> {
        self.update_with(ticks, None, engine)
    }

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
                self.finish_inner(&runs.runs, &reduced.partials, is_edge, reachable);
                self.count(&reduced.batch);
            }
            _ => {
                self.hold(&reduced);
            }
        }
        Ok(())
    }

    fn update_with(
        &mut self,
        ticks: &Ticks,
        select: Option<&dyn Fn(usize) -> bool>,
        engine: &mut dyn Engine,
    ) -> Result<Vec<Touched>, EngineError> {
        let reduced = self.reduce(ticks, select, engine)?;
        Ok(self.hold(&reduced))
    }

    /// A batch by window, and the partial of each. Nothing changes but the tables.
    fn reduce(
        &mut self,
        ticks: &Ticks,
        select: Option<&dyn Fn(usize) -> bool>,
        engine: &mut dyn Engine,
    ) -> Result<Reduced, EngineError> {
        let Self { partitioner, keys, publishers, .. } = self;
        let takes_groups = engine.takes_groups();
        let batch = partitioner.partition(ticks, select, takes_groups, keys, publishers);
        let partials = match &batch.form {
            form if form.ticks().is_empty() => Partials::default(),
            Form::Runs(runs) => engine.reduce(&self.plan, runs)?,
            Form::Groups(groups) => engine.reduce_groups(&self.plan, groups)?,
        };
        Ok(Reduced { batch, partials })
    }

    /// Combines what a batch gave into the windows that are held.
    fn hold(&mut self, Reduced { batch, partials }: &Reduced) -> Vec<Touched> {
        let groups = match &batch.form {
            Form::Runs(runs) => runs.runs.len(),
            Form::Groups(groups) => groups.groups.len(),
        };
        let mut touched = Vec::with_capacity(groups);
        let mut slots = (!self.multisets.is_empty()).then(|| Vec::with_capacity(groups));
        self.updates += 1;
        match &batch.form {
            Form::Runs(runs) => {
                let ids = runs.runs.iter().map(|run| (run.key, run.window_start));
                self.combine_all(ids, partials, &mut touched, slots.as_mut());
            }
            Form::Groups(groups) => {
                let ids = groups.groups.iter().map(|group| (group.key, group.window_start));
                self.combine_all(ids, partials, &mut touched, slots.as_mut());
            }
        }
        if let Some(slots) = slots {
            self.multisets.add(&batch.form, &slots);
        }
        self.count(batch);
        touched
    }

    fn count(&mut self, batch: &Partitioned) {
        self.passed += batch.form.ticks().len() as u64;
        self.unrepresentable += batch.unrepresentable;
        self.too_late += batch.too_late;
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
        let mut words = partials.words.chunks_exact(self.plan.words());
        let mut alone = Vec::with_capacity(states::FETCHED);
        for of_key in runs.chunk_by(|a, b| a.key == b.key) {
            let key = of_key[0].key;
            let reachable = reachable(self.keys.get(key));
            for (run, words) in of_key.iter().zip(&mut words) {
                let start = run.window_start;
                let held = is_edge(self.keys.get(key), start)
                    || is_reached(start, window.end_of(start), &reachable);
                if held {
                    self.combine(WindowId { start, key }, words);
                    continue;
                }
                finished.add(key, start);
                alone.push(words);
                if alone.len() == states::FETCHED {
                    finished.add_lowered(&self.lower, &alone);
                    alone.clear();
                }
            }
        }
        finished.add_lowered(&self.lower, &alone);
        if !finished.is_empty() {
            finished.give_back();
            self.finished.push(finished);
        }
    }

    fn check_partials(&self, count: usize, partials: &Partials) {
        assert_eq!(
            partials.words.len(),
            self.plan.words() * count,
            "an engine writes one partial of the plan's words per run or group"
        );
    }

    /// Combines partials into windows, and adds each window that was not touched by this update
    /// before; and each partial's slot to `slots`.
    fn combine_all(
        &mut self,
        ids: impl ExactSizeIterator<Item = (u32, i64)>,
        partials: &Partials,
        touched: &mut Vec<Touched>,
        mut slots: Option<&mut Vec<u32>>,
    ) {
        self.check_partials(ids.len(), partials);
        let mut partials = ids.zip(partials.words.chunks_exact(self.plan.words()));
        let mut some = Vec::with_capacity(states::FETCHED);
        loop {
            // What they are combined into is looked for first, and brought together.
            for ((key, start), words) in partials.by_ref().take(states::FETCHED) {
                let id = WindowId { start, key };
                let (place, is_new) = self.place(id, words);
                some.push((Touched { id, place, is_new }, words));
            }
            if some.is_empty() {
                return;
            }
            let held = some.iter().filter(|(window, _)| !window.is_new);
            states::fetch(held.map(|(window, _)| self.states.get(window.place)));
            for (window, words) in some.drain(..) {
                let Touched { place, is_new, .. } = window;
                if !is_new {
                    self.combine_at(place, words);
                }
                if let Some(slots) = &mut slots {
                    slots.push(place);
                }
                let update = &mut self.touched[place as usize];
                if std::mem::replace(update, self.updates) != self.updates {
                    touched.push(window);
                }
            }
        }
    }

    /// Combines a state into a window; its slot, and whether it is new.
    fn combine(&mut self, id: WindowId, words: &[u64]) -> (u32, bool) {
        let (slot, is_new) = self.place(id, words);
        if !is_new {
            self.combine_at(slot, words);
        }
        (slot, is_new)
    }

    fn combine_at(&mut self, slot: u32, words: &[u64]) {
        states::combine(&self.plan, self.states.get_mut(slot), words, &self.publishers);
    }

    /// The slot of a window, and whether it is new: then it has these words.
    fn place(&mut self, id: WindowId, words: &[u64]) -> (u32, bool) {
        let mut new = false;
        let slot = self.index.get_or_insert(id.key, id.start, || {
            new = true;
            if let Some(slot) = self.free.pop() {
                self.states.get_mut(slot).copy_from_slice(words);
                self.touched[slot as usize] = 0;
                return slot;
            }
            let slot = u32::try_from(self.touched.len());
            self.touched.push(0);
            self.states.push(words);
            slot.expect("fewer than 2^32 windows are held")
        });
        (slot, new)
    }

    pub(crate) fn state(&self, slot: u32) -> &[u64] {
        self.states.get(slot)
    }

    /// A slot's multisets, in the order of [`Plan::values`].
    pub(crate) fn multisets(&self, slot: u32) -> &[Multiset] {
        self.multisets.of(slot)
    }

    /// The windows of a key as (start, slot), by start.
    pub(crate) fn of_key(&self, key: u32) -> impl Iterator<Item = (i64, u32)> {
        self.index.of_key(key)
    }

    pub(crate) fn keys(&self) -> &KeyTable {
        &self.keys
    }

    pub(crate) fn publishers(&self) -> &PublisherTable {
        &self.publishers
    }

    pub(crate) fn lower(&self) -> &Lower {
        &self.lower
    }

    /// The window as a result, with version 0.
    ///
    /// # Panics
    /// When there is no such window.
    pub fn row(&self, id: WindowId) -> WindowRow {
        let slot = self.index.get(id.key, id.start).expect("the window is held");
        self.row_of_slot(id, slot)
    }

    /// The same of a window that stands there, without looking for it.
    pub fn row_at(&self, id: WindowId, place: u32) -> WindowRow {
        self.row_of_slot(id, place)
    }

    fn row_of_slot(&self, id: WindowId, slot: u32) -> WindowRow {
        WindowRow {
            key: self.keys.get(id.key).clone(),
            window_start: id.start,
            window_end: self.view.window.end_of(id.start),
            version: 0,
            values: self.lower.values(self.state(slot), &[self.multisets(slot)]),
        }
    }

    /// Forgets a window; whether there was one. Ticks that come for it later begin it anew.
    pub fn remove(&mut self, id: WindowId) -> bool {
        let slot = self.index.remove(id.key, id.start);
        self.free.extend(slot);
        if let Some(slot) = slot {
            self.multisets.clear(slot);
        }
        slot.is_some()
    }

    /// Finishes the windows that no more ticks can reach: those in which none of the times lies
    /// that `reachable` gives for their key. They are held no longer, take less than half the memory
    /// from here on, and come out of [`Results`](crate::Results) only. Ticks that come for one of
    /// them after all would make it a second window there, which is refused as a bug.
    pub fn finish(&mut self, reachable: impl Fn(&Key) -> Vec<RangeInclusive<i64>>) {
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
            some.iter().for_each(|&(key, start, _)| finished.add(key, start));
            if multisets.is_empty() {
                finished.add_lowered(lower, &states);
                continue;
            }
            for (&(_, _, slot), state) in some.iter().zip(states) {
                finished.add_values(lower.values(state, &[multisets.of(slot)]));
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

    /// No windows, of the same view, range and truth.
    fn like(other: &Self) -> Self {
        Self {
            view: other.view.clone(),
            lower: other.lower.clone(),
            partitioner: other.partitioner.clone(),
            keys: KeyTable::default(),
            publishers: PublisherTable::default(),
            index: WindowIndex::new(other.view.window),
            states: StateTable::new(other.plan.words()),
            multisets: Multisets::new(&other.plan),
            plan: other.plan.clone(),
            touched: Vec::new(),
            free: Vec::new(),
            finished: Vec::new(),
            updates: 0,
            passed: 0,
            unrepresentable: 0,
            too_late: 0,
        }
    }

    pub(crate) fn finished(&self) -> &[Finished] {
        &self.finished
    }

    /// All windows as results in canonical order: by key bytes, then start.
    pub fn rows(&self) -> Vec<WindowRow> {
        let mut by_key: Vec<u32> = (0..self.keys.len() as u32).collect();
        by_key.sort_unstable_by_key(|&code| self.keys.get(code));
        let of_key = |code| self.of_key(code).map(move |window| (code, window));
        let row = |(key, (start, slot))| self.row_of_slot(WindowId { start, key }, slot);
        by_key.into_iter().flat_map(of_key).map(row).collect()
    }

    /// The windows, in no particular order.
    pub fn ids(&self) -> impl Iterator<Item = WindowId> {
        self.index.iter().map(|(key, start, _)| WindowId { start, key })
    }

    /// Whether there is this window.
    pub fn contains(&self, id: WindowId) -> bool {
        self.index.get(id.key, id.start).is_some()
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no window.
    pub fn is_empty(&self) -> bool {
        self.index.len() == 0
    }

    /// The key of a window.
    pub fn key(&self, id: WindowId) -> &Key {
        self.keys.get(id.key)
    }

    /// Rows that entered windows, so far.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Rows that passed the filter, whose window is not representable.
    pub fn unrepresentable(&self) -> u64 {
        self.unrepresentable
    }

    /// Rows that the truth left out.
    pub fn too_late(&self) -> u64 {
        self.too_late
    }
}

/// A batch by window, and the partial of each run or group.
struct Reduced {
    batch: Partitioned,
    partials: Partials,
}

/// Whether any of these times lies in a window.
fn is_reached(start: i64, end: i64, times: &[RangeInclusive<i64>]) -> bool {
    times.iter().any(|times| *times.start() < end && start <= *times.end())
}

/// States, slot by slot, in pages that never move.
#[derive(Debug)]
struct StateTable {
    stride: usize,
    len: usize,
    pages: Vec<Vec<u64>>,
}

impl StateTable {
    const PAGE_LEN: usize = 1024;

    fn new(stride: usize) -> Self {
        Self { stride, len: 0, pages: Vec::new() }
    }

    /// One more slot, behind the last, with this state.
    fn push(&mut self, words: &[u64]) {
        if self.len.is_multiple_of(Self::PAGE_LEN) {
            // Small at first: most live views have few windows.
            self.pages.push(Vec::with_capacity(match self.len {
                0 => 0,
                _ => Self::PAGE_LEN * self.stride,
            }));
        }
        let page = self.pages.last_mut().expect("a page was added");
        page.extend_from_slice(words);
        self.len += 1;
    }

    fn get(&self, slot: u32) -> &[u64] {
        let (page, start) = self.place(slot);
        &self.pages[page][start..start + self.stride]
    }

    fn get_mut(&mut self, slot: u32) -> &mut [u64] {
        let (page, start) = self.place(slot);
        &mut self.pages[page][start..start + self.stride]
    }

    fn place(&self, slot: u32) -> (usize, usize) {
        (slot as usize / Self::PAGE_LEN, slot as usize % Self::PAGE_LEN * self.stride)
    }
}

#[cfg(test)]
mod tests;
