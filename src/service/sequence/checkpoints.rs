//! When checkpoints are due, and what of the log may go behind them.

use std::collections::VecDeque;

use isotick_model::LogPosition;

/// When the next checkpoint is due, and what of the log may go.
pub(super) struct Checkpoints {
    /// Positions and bytes of the log where checkpoints were asked for, ascending, from the last
    /// one behind which enough is kept.
    pub(super) asked: VecDeque<(LogPosition, u64)>,
    /// Bytes that the log had when it was opened, about.
    pub(super) earlier_bytes: u64,
    /// Log from one to the next, at least.
    pub(super) bytes_min: u64,
    /// Log from the last one to the next: as much as that took, so that checkpoints write no more
    /// than the log itself.
    pub(super) due_after: u64,
    /// Log to keep behind them.
    pub(super) kept_bytes: u64,
    /// Whether one is being written.
    pub(super) is_under_way: bool,
    /// The position from which a start needs the log, once one was written by this run.
    pub(super) needed: Option<LogPosition>,
}

impl Checkpoints {
    /// The log's bytes where the last one was asked for.
    pub(super) fn last_bytes(&self) -> u64 {
        self.asked.back().map_or(0, |asked| asked.1)
    }

    /// The position before which no start needs the log, when one needs it from `needed` on, and
    /// enough is kept behind that.
    pub(super) fn releasable(&mut self, needed: LogPosition) -> LogPosition {
        let at = self.asked.iter().rfind(|asked| asked.0 <= needed);
        let kept_from = at.map_or(0, |asked| asked.1.saturating_sub(self.kept_bytes));
        while self.asked.get(1).is_some_and(|asked| asked.1 <= kept_from) {
            self.asked.pop_front();
        }
        self.asked.front().map_or(LogPosition(0), |asked| asked.0.min(needed))
    }
}
