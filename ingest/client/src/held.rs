//! Rows that the service holds already.

use std::ops::RangeInclusive;

/// What a service held when it was asked: everything below a mark, and ranges beyond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// All rows below it are held.
    pub next: u64,
    /// More rows that are held, ascending.
    pub ranges: Vec<RangeInclusive<u64>>,
}

impl Held {
    /// Whether a row is held.
    pub fn contains(&self, sequence: u64) -> bool {
        if sequence < self.next {
            return true;
        }
        let after = self.ranges.partition_point(|range| *range.start() <= sequence);
        after > 0 && self.ranges[after - 1].contains(&sequence)
    }

    /// How many rows are held.
    pub fn rows(&self) -> u64 {
        self.next + self.ranges.iter().map(|range| range.end() - range.start() + 1).sum::<u64>()
    }

    /// One past the greatest row held.
    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(self.next, |range| range.end() + 1)
    }
}
