//! The windows of one view, by key and start: states while they change, rows when asked.

mod absorb;
mod finish;
mod saved;

use std::sync::Arc;

use isotick_model::results::WindowRow;
use isotick_model::view::View;
use isotick_model::{Key, StreamSchema, Ticks};

use self::finish::Part;
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
    /// The batches of the part that is under way.
    part: Part,
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
            part: Part::default(),
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
    fn hold(&mut self, reduced: &Reduced) -> Vec<Touched> {
        self.hold_waiting();
        self.updates += 1;
        let windows = reduced.windows();
        let mut touched = Vec::with_capacity(windows.len());
        let mut slots = (!self.multisets.is_empty()).then(|| Vec::with_capacity(windows.len()));
        self.combine_all(&windows, &reduced.partials, &mut touched, slots.as_mut());
        if let Some(slots) = slots {
            self.multisets.add(&reduced.batch.form, &slots);
        }
        self.count(&reduced.batch);
        touched
    }

    fn count(&mut self, batch: &Partitioned) {
        self.passed += batch.form.ticks().len() as u64;
        self.unrepresentable += batch.unrepresentable;
        self.too_late += batch.too_late;
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
        windows: &[WindowId],
        partials: &Partials,
        touched: &mut Vec<Touched>,
        mut slots: Option<&mut Vec<u32>>,
    ) {
        self.check_partials(windows.len(), partials);
        self.index.begin_batch();
        let mut partials = windows.iter().zip(partials.words.chunks_exact(self.plan.words()));
        let mut some = Vec::with_capacity(states::FETCHED);
        loop {
            // What they are combined into is looked for first, and brought together.
            for (&id, words) in partials.by_ref().take(states::FETCHED) {
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
            part: Part::default(),
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

impl Reduced {
    /// The window of each partial.
    fn windows(&self) -> Vec<WindowId> {
        let window = |key, start| WindowId { start, key };
        match &self.batch.form {
            Form::Runs(runs) => {
                runs.runs.iter().map(|run| window(run.key, run.window_start)).collect()
            }
            Form::Groups(groups) => {
                let groups = groups.groups.iter();
                groups.map(|group| window(group.key, group.window_start)).collect()
            }
        }
    }
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
