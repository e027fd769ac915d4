//! How many rows a datagram holds.

use isotick_model::{Rejected, Ticks};

/// How rows are cut into datagrams.
#[derive(Debug)]
pub(crate) struct Datagrams {
    pub(crate) session: u64,
    /// The space of the connection's send buffer while nothing waits in it.
    pub(crate) buffer_bytes: usize,
    /// How many rows to try next.
    pub(crate) rows: usize,
}

impl Datagrams {
    pub(crate) fn new(session: u64, buffer_bytes: usize) -> Self {
        Self { session, buffer_bytes, rows: 64 }
    }

    /// The end of the ticks from `start` on, and how many rejected rows, to try as one datagram.
    pub(crate) fn cut(&self, ticks: &Ticks, start: usize, rejected: &[Rejected]) -> (usize, usize) {
        let end = ticks.len().min(start + self.rows);
        let between = match ticks.sequence.get(end) {
            Some(&next) => rejected.iter().take_while(|row| row.sequence < next).count(),
            None => rejected.len(),
        };
        let between = between.min(self.rows);
        (end.min(start + self.rows - between), between)
    }

    /// Whether so many rows fit one datagram; tries fewer or more rows next.
    pub(crate) fn fits(&mut self, rows: usize, bytes: usize, bytes_max: usize) -> bool {
        let fits = bytes <= bytes_max;
        if !fits {
            self.rows = (rows * bytes_max / bytes).clamp(1, rows.saturating_sub(1).max(1));
        } else if rows == self.rows && bytes < bytes_max / 16 * 15 {
            self.rows = rows + rows / 16 + 1;
        }
        fits
    }
}
