//! Host memory: what running jobs hold, and what the reads under way take.

use std::collections::BTreeSet;

use super::job::Serial;

#[derive(Debug)]
pub(super) struct Memory {
    pub max: u64,
    /// By jobs that run, or have ended and not stopped.
    pub held: u128,
    /// By dispatches under way.
    pub reading: u64,
    /// The largest part of each running job.
    largest: BTreeSet<(u64, Serial)>,
}

impl Memory {
    pub(super) fn new(max: u64) -> Self {
        Self { max, held: 0, reading: 0, largest: BTreeSet::new() }
    }

    /// Whether a further read fits.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        self.held + u128::from(self.reading) + u128::from(bytes) <= u128::from(self.max)
    }

    /// Whether each part of each running job fits, with nothing else read.
    pub(super) fn fits_any_part(&self) -> bool {
        let largest = self.largest.last().map_or(0, |(bytes, _)| *bytes);
        self.held + u128::from(largest) <= u128::from(self.max)
    }

    /// Whether a job may run beside those that do: then each part of each of them fits, and as
    /// long as that leaves half of the memory for jobs, one for each worker.
    pub(super) fn admits(&self, held: u64, largest_part: u64, slots: usize) -> bool {
        let largest = self.largest.last().map_or(0, |(bytes, _)| *bytes).max(largest_part);
        let for_reads = match self.held {
            0 => largest,
            _ => largest.max(largest.saturating_mul(slots as u64).min(self.max / 2)),
        };
        self.held + u128::from(held) + u128::from(for_reads) <= u128::from(self.max)
    }

    pub(super) fn start(&mut self, serial: Serial, held: u64, largest_part: u64) {
        self.held += u128::from(held);
        self.largest.insert((largest_part, serial));
    }

    /// No part of the job starts any more.
    pub(super) fn end_parts(&mut self, serial: Serial, largest_part: u64) {
        self.largest.remove(&(largest_part, serial));
    }
}
