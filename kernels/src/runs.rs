//! Rows in runs of one (key, window): the form in which engines take them.

use isotick_model::Ticks;

/// Filtered rows, gathered so that each run holds one (key, window) in canonical order
/// `(ts_event, publisher, sequence)`. Runs cover all rows, one after another; the same
/// (key, window) may come in several runs.
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
    pub fn end_words(&self, column: usize, row: usize) -> [u64; 5] {
        let ticks = &self.ticks;
        let publisher = ticks.publisher.get(row).map_or(0, |&code| code as usize);
        [
            1,
            ticks.ts_event[row].cast_unsigned(),
            u64::from(self.publisher_codes[publisher]),
            ticks.sequence[row],
            ticks.values[column].values[row].cast_unsigned(),
        ]
    }
}
