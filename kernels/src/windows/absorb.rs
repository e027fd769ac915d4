//! States that were saved elsewhere, combined into windows: of the same view, or of one whose
//! windows nest in these.

use isotick_model::Key;

use super::{SavedWindows, Unfit, WindowId, Windows};
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
}

#[cfg(test)]
mod tests;
