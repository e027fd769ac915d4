//! Which rows of a publisher are held: a contiguous mark and what lies beyond it.

use isotick_model::PublisherId;
use isotick_wire::control::HELD_RANGES_MAX;
use roaring::RoaringTreemap;

use super::Marks;
use crate::error::SequencerError;

/// The most rows held beyond the mark.
pub(super) const BEYOND_MAX: u64 = 1 << 22;
/// How far beyond the mark a row may lie. With [`BEYOND_MAX`] it bounds the bitmap to about 16 MiB.
pub(super) const AHEAD_MAX: u64 = 1 << 32;

#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// Every row below is held.
    next: u64,
    /// Rows above `next` that are held too; never `next` itself.
    beyond: RoaringTreemap,
}

impl Held {
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Whether so many rows more might be too many.
    pub(super) fn is_crowded(&self, rows: usize) -> bool {
        self.beyond.len() + rows as u64 > BEYOND_MAX
    }

    /// Whether these rows can be inserted within the bounds.
    pub(super) fn check<I: Iterator<Item = u64>>(
        &self,
        publisher: &PublisherId,
        rows: usize,
        sequences: impl Fn() -> I,
    ) -> Result<(), SequencerError> {
        let (publisher, next_sequence) = (|| publisher.clone(), self.next);
        let last = next_sequence.saturating_add(AHEAD_MAX).min(u64::MAX - 1);
        // Without an early exit, so that the loop is vectorised: such rows are rare.
        let too_far = sequences().fold(false, |any, sequence| any | (sequence > last));
        if too_far && let Some(sequence) = sequences().find(|&sequence| sequence > last) {
            let publisher = publisher();
            return Err(SequencerError::TooFarAhead { publisher, next_sequence, sequence });
        }
        if !self.is_crowded(rows) {
            return Ok(());
        }
        // Close to the bound: the rows may fill the gap, so try.
        let mut tried = self.clone();
        sequences().for_each(|sequence| {
            tried.insert(sequence);
        });
        match tried.beyond.len() {
            held if held > BEYOND_MAX => {
                Err(SequencerError::TooManyGaps { publisher: publisher(), next_sequence, held })
            }
            _ => Ok(()),
        }
    }

    /// Holds a row. False when it is held already.
    pub(super) fn insert(&mut self, sequence: u64) -> bool {
        if sequence != self.next {
            return sequence > self.next && self.beyond.insert(sequence);
        }
        self.next += 1;
        self.close_gap();
        true
    }

    /// Holds the rows if they are the next ones in order and nothing is held beyond them. False,
    /// and nothing changed, otherwise.
    pub(super) fn extend(&mut self, sequences: &[u64]) -> bool {
        let next = self.next;
        let end = next.checked_add(sequences.len() as u64);
        let expected = (0..sequences.len() as u64).map(|row| next.wrapping_add(row));
        let follow = sequences.iter().zip(expected).fold(true, |all, (&s, next)| all & (s == next));
        match end {
            Some(end) if follow && self.beyond.is_empty() => {
                self.next = end;
                true
            }
            _ => false,
        }
    }

    /// Rows below the greatest held one that are not held.
    pub(super) fn missing(&self) -> u64 {
        self.beyond.max().map_or(0, |greatest| greatest + 1 - self.next - self.beyond.len())
    }

    /// Where the first gap ends: the least row that is held beyond it.
    pub(super) fn first_beyond(&self) -> Option<u64> {
        self.beyond.min()
    }

    /// Holds every row below `rows`. Returns how many were not held before.
    pub(super) fn raise(&mut self, rows: u64) -> u64 {
        let before = self.next;
        if rows > self.next {
            let held = self.beyond.rank(rows - 1);
            self.next = rows;
            self.beyond.remove_range(..rows);
            self.close_gap();
            return rows - before - held;
        }
        0
    }

    fn close_gap(&mut self) {
        while !self.beyond.is_empty() && self.beyond.remove(self.next) {
            self.next += 1;
        }
    }

    /// The mark, and the rows beyond it as serialized by the bitmap's own portable format.
    pub(super) fn save(&self) -> (u64, Vec<u8>) {
        let mut beyond = Vec::new();
        if !self.beyond.is_empty() {
            self.beyond.serialize_into(&mut beyond).expect("memory takes what is written");
        }
        (self.next, beyond)
    }

    /// What was saved; `None` where it is not such.
    pub(super) fn restore(next: u64, beyond: &[u8]) -> Option<Self> {
        let beyond = match beyond {
            [] => RoaringTreemap::new(),
            bytes => RoaringTreemap::deserialize_from(bytes).ok()?,
        };
        let is_beyond = beyond.min().is_none_or(|least| least > next);
        (is_beyond && beyond.len() <= BEYOND_MAX).then_some(Self { next, beyond })
    }

    pub(super) fn marks(&self) -> Marks {
        let mut held: Vec<std::ops::RangeInclusive<u64>> = Vec::new();
        for sequence in &self.beyond {
            match held.last_mut() {
                Some(range) if range.end() + 1 == sequence => *range = *range.start()..=sequence,
                _ => held.push(sequence..=sequence),
            }
            if held.len() > HELD_RANGES_MAX {
                held.pop();
                break;
            }
        }
        Marks { next_sequence: self.next, held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(held: &mut Held, sequences: &[u64]) -> Result<(), SequencerError> {
        let publisher = PublisherId::new("p").unwrap();
        held.check(&publisher, sequences.len(), || sequences.iter().copied())?;
        sequences.iter().for_each(|&sequence| {
            held.insert(sequence);
        });
        Ok(())
    }

    #[test]
    fn gaps_are_kept_and_closed() {
        let mut held = Held::default();
        insert(&mut held, &[0, 1, 4, 5, 9]).unwrap();
        assert_eq!(held.marks(), Marks { next_sequence: 2, held: vec![4..=5, 9..=9] });
        assert!(!held.insert(5) && !held.insert(1));
        insert(&mut held, &[3, 2]).unwrap();
        assert_eq!(held.marks(), Marks { next_sequence: 6, held: vec![9..=9] });
        held.raise(9);
        assert_eq!(held.marks(), Marks { next_sequence: 10, held: vec![] });
        held.raise(4);
        assert_eq!(held.next(), 10);
    }

    #[test]
    fn what_is_held_beyond_a_gap_is_bounded() {
        let mut held = Held::default();
        let all: Vec<u64> = (1..=BEYOND_MAX).collect();
        insert(&mut held, &all).unwrap();
        let refused = insert(&mut held, &[BEYOND_MAX + 1]);
        assert!(matches!(refused, Err(SequencerError::TooManyGaps { next_sequence: 0, .. })));
        insert(&mut held, &[0, BEYOND_MAX + 1]).unwrap();
        assert_eq!(held.marks(), Marks { next_sequence: BEYOND_MAX + 2, held: vec![] });
        for far in [held.next() + AHEAD_MAX + 1, u64::MAX] {
            let refused = insert(&mut held, &[far]);
            assert!(matches!(refused, Err(SequencerError::TooFarAhead { .. })));
        }
    }
}
