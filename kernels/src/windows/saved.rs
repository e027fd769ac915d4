//! Windows as plain data: what outlives the process, and back.

use std::sync::Arc;

use isotick_model::view::{Tumbling, View};
use isotick_model::{Key, PublisherId, StreamSchema};
use rustc_hash::FxHashSet;

use super::{Truth, WindowId, Windows};
use crate::multiset::Multiset;
use crate::plan::Plan;

/// All that [`Windows`] hold beyond their view, schema, range and truth. Two plain copies of equal windows may
/// differ; windows made from either go on alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedWindows {
    /// Every key met, in the order of first sight.
    pub keys: Vec<Key>,
    /// Every publisher met, in the order of first sight: the words say which one by its place.
    pub publishers: Vec<PublisherId>,
    /// Per window: the key's place in `keys`. Windows ascend by this, then by start.
    pub key: Vec<u32>,
    /// Per window: its start, nanoseconds UTC.
    pub start: Vec<i64>,
    /// The windows' states one after another, each of the plan's words.
    pub words: Vec<u64>,
    /// Per window, a multiset for each of the plan's values.
    pub multisets: Vec<SavedMultiset>,
    /// As [`Windows::passed`].
    pub passed: u64,
    /// As [`Windows::unrepresentable`].
    pub unrepresentable: u64,
    /// As [`Windows::too_late`].
    pub too_late: u64,
}

/// Values and how often each occurs, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedMultiset {
    /// Each once.
    pub values: Vec<i64>,
    /// As many as values, each at least 1.
    pub counts: Vec<u64>,
}

/// What was saved does not fit the view, or itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("saved windows do not fit their view: {0}")]
pub struct Unfit(pub &'static str);

impl Windows {
    /// Copies everything out. `with` is told of each window in the order of [`SavedWindows::key`],
    /// with where it stands.
    ///
    /// # Panics
    ///
    /// When windows were [finished](Self::finish), or a [part](Self::update_part) was not.
    pub fn save(&self, mut with: impl FnMut(WindowId, u32)) -> SavedWindows {
        assert!(self.finished.is_empty(), "finished windows are not saved");
        assert!(!self.has_waiting(), "the last part was finished");
        let mut saved = SavedWindows {
            keys: self.keys.values().to_vec(),
            publishers: self.publishers.values().to_vec(),
            key: Vec::with_capacity(self.len()),
            start: Vec::with_capacity(self.len()),
            words: Vec::with_capacity(self.len() * self.plan.words()),
            multisets: Vec::new(),
            passed: self.passed,
            unrepresentable: self.unrepresentable,
            too_late: self.too_late,
        };
        for (key, start, slot) in self.index.iter() {
            with(WindowId { start, key }, slot);
            saved.key.push(key);
            saved.start.push(start);
            saved.words.extend_from_slice(self.states.get(slot));
            if !self.multisets.is_empty() {
                saved.multisets.extend(self.multisets.of(slot).iter().map(Multiset::save));
            }
        }
        saved
    }

    /// Windows as they were saved, of the same view. `with` is told of each in the order of
    /// [`SavedWindows::key`], with where it stands.
    ///
    /// # Errors
    ///
    /// [`Unfit`] when lengths, places or counts do not fit together.
    pub fn restore(
        view: Arc<View>,
        schema: &StreamSchema,
        truth: Truth,
        saved: SavedWindows,
        mut with: impl FnMut(WindowId, u32),
    ) -> Result<Self, Unfit> {
        let mut windows = Self::new(view, schema).with_truth(truth);
        saved.check(&windows.plan, windows.view.window)?;
        for key in &saved.keys {
            windows.keys.intern(key);
        }
        for publisher in &saved.publishers {
            windows.publishers.intern(publisher);
        }
        let (stride, kinds) = (windows.plan.words(), windows.plan.values().len());
        let mut multisets = saved.multisets.into_iter();
        for ((&key, &start), words) in
            saved.key.iter().zip(&saved.start).zip(saved.words.chunks_exact(stride))
        {
            let id = WindowId { start, key };
            let (slot, _) = windows.combine(id, words);
            if kinds > 0 {
                let sets = multisets.by_ref().take(kinds).map(Multiset::restore).collect();
                windows.multisets.put(slot, sets);
            }
            with(id, slot);
        }
        windows.passed = saved.passed;
        windows.unrepresentable = saved.unrepresentable;
        windows.too_late = saved.too_late;
        Ok(windows)
    }
}

impl SavedWindows {
    /// Whether these are windows of a plan: lengths, places and order fit together. What is
    /// combined after this needs no more looking at.
    pub(crate) fn check(&self, plan: &Plan, window: Tumbling) -> Result<(), Unfit> {
        let (stride, count) = (plan.words(), self.key.len());
        let lengths = self.start.len() == count
            && self.words.len() == count * stride
            && self.multisets.len() == count * plan.values().len();
        if !lengths {
            return Err(Unfit("its parts have other lengths than the view's windows"));
        }
        let keys: FxHashSet<&Key> = self.keys.iter().collect();
        let publishers: FxHashSet<&PublisherId> = self.publishers.iter().collect();
        if keys.len() < self.keys.len() || publishers.len() < self.publishers.len() {
            return Err(Unfit("a key or publisher is there twice"));
        }
        let ids = || self.key.iter().zip(&self.start);
        if !ids().is_sorted_by(|a, b| a < b) {
            return Err(Unfit("windows do not ascend by key and start"));
        }
        for ((&key, &start), words) in ids().zip(self.words.chunks_exact(stride)) {
            if key as usize >= self.keys.len() {
                return Err(Unfit("a window's key is not there"));
            }
            if window.start_of(start) != Some(start) {
                return Err(Unfit("a window does not start where the view's windows do"));
            }
            if !plan.has_publishers_below(words, self.publishers.len()) {
                return Err(Unfit("a state names a publisher that is not there"));
            }
        }
        match self.multisets.iter().all(Multiset::is_sound) {
            true => Ok(()),
            false => Err(Unfit("values do not ascend")),
        }
    }
}
