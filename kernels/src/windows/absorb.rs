//! States that were saved elsewhere, combined into windows: of the same view, or of one whose
//! windows nest in these.

use std::ops::Range;

use isotick_model::Key;

use super::{SavedWindows, Truth, Unfit, WindowId, Windows};
use crate::base::Base;
use crate::states;

impl Windows {
    /// Combines windows that were [saved](Self::save) into these, which are of the same view over
    /// the same schema. Ticks that are in both count twice, so nobody may have taken them in here.
    /// Afterwards these are as if they had been updated with the others' ticks too; windows outside
    /// the range are taken in as well.
    ///
    /// Cost: one look-up for each window.
    ///
    /// # Errors
    ///
    /// [`Unfit`] when lengths, places or counts do not fit together; nothing has changed then.
    ///
    /// # Panics
    ///
    /// [`Results`](crate::Results) of these do, later, when one of the windows had been
    /// [finished](Self::finish) here: as for ticks that come too late.
    pub fn absorb(&mut self, saved: &SavedWindows) -> Result<(), Unfit> {
        saved.check(&self.plan, self.view.window)?;
        let too_many = Unfit("it counts more than 64 bits hold");
        let add = |to: u64, more: u64| to.checked_add(more).ok_or(too_many);
        let passed = add(self.passed, saved.passed)?;
        let unrepresentable = add(self.unrepresentable, saved.unrepresentable)?;
        let too_late = add(self.too_late, saved.too_late)?;
        let keys: Vec<u32> = saved.keys.iter().map(|key: &Key| self.keys.intern(key)).collect();
        let publishers = saved.publishers.iter();
        let publishers: Vec<u32> = publishers.map(|name| self.publishers.intern(name)).collect();
        self.hold_waiting();
        let kinds = self.plan.values().len();
        let windows = saved.key.iter().zip(&saved.start);
        let states = saved.words.chunks_exact(self.plan.words());
        let mut words = Vec::new();
        for (number, ((&key, &start), state)) in windows.zip(states).enumerate() {
            words.clear();
            words.extend_from_slice(state);
            states::recode_publishers(&self.plan, &mut words, &publishers);
            let (slot, _) = self.combine(WindowId { start, key: keys[key as usize] }, &words);
            if kinds > 0 {
                self.multisets.combine(slot, &saved.multisets[number * kinds..][..kinds]);
            }
        }
        (self.passed, self.unrepresentable, self.too_late) = (passed, unrepresentable, too_late);
        Ok(())
    }

    /// Combines states that stand for ticks into these windows: those of keys that are `wanted`, in
    /// the range. Afterwards these are as if they had been updated with those ticks. Gives how
    /// many ticks the states hold in all, wanted or not.
    ///
    /// Cost: one look-up for each run of states of one window.
    ///
    /// # Errors
    ///
    /// [`Unfit`] when they are no states of the base; nothing has changed then.
    ///
    /// # Panics
    ///
    /// When the base does not [cover](Base::covers) the view, or the truth is another than
    /// [`Truth::Now`]; and as for [`absorb`](Self::absorb).
    pub fn absorb_states(
        &mut self,
        states: &SavedWindows,
        base: &Base,
        wanted: impl Fn(&Key) -> bool,
    ) -> Result<u64, Unfit> {
        assert!(base.covers(&self.view, &self.plan), "states stand for a view that they cover");
        assert_eq!(self.partitioner.truth(), Truth::Now, "states hold ticks however late");
        states.check(base.plan(), base.window())?;
        let stride = base.plan().words();
        let held = states.words.iter().step_by(stride).try_fold(0_u64, |a, b| a.checked_add(*b));
        let held = held.ok_or(Unfit("it counts more than 64 bits hold"))?;
        self.hold_waiting();
        let keys = states.keys.iter().map(|key| wanted(key).then(|| self.keys.intern(key)));
        let keys: Vec<Option<u32>> = keys.collect();
        let publishers = states.publishers.iter();
        let publishers: Vec<u32> = publishers.map(|name| self.publishers.intern(name)).collect();
        // Of each term of these: its words there.
        let offset = |term| base.plan().offset(term).expect("the base covers the view");
        let terms = self.plan.terms().iter();
        let terms: Vec<_> = terms.map(|&(term, _)| (offset(term), term.words())).collect();
        let mut words = Vec::with_capacity(self.plan.words());
        // Those of one window follow each other.
        let mut current: Option<(u32, Range<i64>, u32)> = None;
        let windows = states.key.iter().zip(&states.start).zip(states.words.chunks_exact(stride));
        for ((&key, &start), state) in windows {
            let Some(key) = keys[key as usize] else { continue };
            if !self.partitioner.has_window(start) {
                self.unrepresentable += state[0];
                continue;
            }
            if !self.partitioner.is_wanted(start) {
                continue;
            }
            words.clear();
            for &(from, len) in &terms {
                words.extend_from_slice(&state[from..from + len]);
            }
            states::recode_publishers(&self.plan, &mut words, &publishers);
            self.passed += state[0];
            match &current {
                Some((of, within, slot)) if *of == key && within.contains(&start) => {
                    let into = self.states.get_mut(*slot);
                    states::combine(&self.plan, into, &words, &self.publishers);
                }
                _ => {
                    let window = self.view.window;
                    let first = window.start_of(start).expect("the window is representable");
                    let (slot, _) = self.combine(WindowId { start: first, key }, &words);
                    current = Some((key, first..window.end_of(first), slot));
                }
            }
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests;
