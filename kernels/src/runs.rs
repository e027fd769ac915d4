//! Rows by (key, window): the two forms in which engines take them.

use std::cmp::Ordering;

use arrow_buffer::ScalarBuffer;
use isotick_model::Ticks;

/// Filtered rows, gathered so that each run holds one (key, window), in canonical order
/// `(ts_event, publisher, sequence)` where the plan has first or last values. Runs cover all rows,
/// one after another; the same (key, window) may come in several runs.
#[derive(Clone, Debug)]
pub struct Runs {
    /// The rows.
    pub ticks: Ticks,
    /// The runs, in row order, none empty.
    pub runs: Vec<Run>,
    /// For each of `ticks.publishers`, its code in the caller's publisher table: what partials
    /// hold.
    pub publisher_codes: Vec<u32>,
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first row.
    pub start: u32,
    /// Rows, at least 1.
    pub len: u32,
    /// The key's code in the caller's key table.
    pub key: u32,
    /// The window's start, nanoseconds UTC.
    pub window_start: i64,
}

impl Runs {
    /// The words of a `First` or `Last` state that stands at this row: 1, ts_event, publisher
    /// code, sequence, the column's value.
    #[inline]
    pub fn end_words(&self, column: usize, row: usize) -> [u64; 5] {
        end_words(&self.ticks, &self.publisher_codes, column, row, self.ticks.ts_event[row])
    }
}

/// Filtered rows in any order, each in a group of one (key, window): what an engine can take
/// instead of [`Runs`] where bringing rows into runs costs more than it gains.
#[derive(Clone, Debug)]
pub struct Groups {
    /// The rows.
    pub ticks: Ticks,
    /// Per row, its group's place in `groups`.
    pub group_of: ScalarBuffer<u32>,
    /// The groups, none without rows; no two of one (key, window).
    pub groups: Vec<Group>,
    /// As in [`Runs`].
    pub publisher_codes: Vec<u32>,
    /// For each of `ticks.publishers`, its place in the order of their names.
    pub publisher_ranks: Vec<u32>,
}

/// One group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The key's code in the caller's key table.
    pub key: u32,
    /// Rows, at least 1.
    pub rows: u32,
    /// The window's start, nanoseconds UTC.
    pub window_start: i64,
}

impl Groups {
    /// As [`Runs::end_words`].
    pub fn end_words(&self, column: usize, row: usize) -> [u64; 5] {
        self.end_words_at(column, row, self.ticks.ts_event[row])
    }

    /// The same of a row whose time is at hand: it is not fetched again.
    pub(crate) fn end_words_at(&self, column: usize, row: usize, ts_event: i64) -> [u64; 5] {
        end_words(&self.ticks, &self.publisher_codes, column, row, ts_event)
    }

    /// The canonical order of two rows of equal `ts_event`: by publisher, then sequence.
    pub fn compare_ties(&self, a: usize, b: usize) -> Ordering {
        compare_ties(&self.ticks, &self.publisher_ranks, a, b)
    }
}

#[inline]
fn end_words(
    ticks: &Ticks,
    publisher_codes: &[u32],
    column: usize,
    row: usize,
    ts_event: i64,
) -> [u64; 5] {
    let publisher = ticks.publisher.get(row).map_or(0, |&code| code as usize);
    [
        1,
        ts_event.cast_unsigned(),
        u64::from(publisher_codes[publisher]),
        ticks.sequence[row],
        ticks.values[column].values[row].cast_unsigned(),
    ]
}

pub(crate) fn compare_ties(ticks: &Ticks, ranks: &[u32], a: usize, b: usize) -> Ordering {
    let rank = |row: usize| ticks.publisher.get(row).map_or(0, |&code| ranks[code as usize]);
    rank(a).cmp(&rank(b)).then_with(|| ticks.sequence[a].cmp(&ticks.sequence[b]))
}
