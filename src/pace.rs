//! When rows are due: as fast as it goes, so many a second, or at a multiple of their own pace.

use std::time::Duration;

use tokio::time::Instant;

use crate::cli::{Rate, Speed};

/// The shortest sleep: rows due within it go together.
const STEP: Duration = Duration::from_millis(1);

/// Holds rows back until they are due.
pub struct Pacer {
    pace: Pace,
    started: Option<Instant>,
    /// Rows let go.
    rows: u64,
    /// The first row's time, and the greatest one let go.
    first_ns: i64,
    greatest_ns: i64,
}

#[derive(Clone, Copy)]
enum Pace {
    Max,
    PerSecond(u64),
    Times(f64),
}

impl Pacer {
    /// A pacer by rate or speed; without either, as fast as it goes.
    pub fn new(rate: Option<Rate>, speed: Option<Speed>) -> Self {
        let pace = match (rate, speed) {
            (Some(Rate(rate)), _) => Pace::PerSecond(rate),
            (None, Some(Speed::Times(times))) => Pace::Times(times),
            (None, Some(Speed::Max) | None) => Pace::Max,
        };
        Self { pace, started: None, rows: 0, first_ns: 0, greatest_ns: i64::MIN }
    }

    /// Waits until the first of these rows is due, then says how many are. Times that run
    /// backwards are due at once.
    pub async fn due(&mut self, ts_event: &[i64]) -> usize {
        let Some(&first) = ts_event.first() else { return 0 };
        if matches!(self.pace, Pace::Max) {
            return ts_event.len();
        }
        let started = *self.started.get_or_insert_with(|| {
            self.first_ns = first;
            Instant::now()
        });
        tokio::time::sleep_until(started + self.offset(0, first)).await;
        let elapsed = started.elapsed() + STEP;
        let mut due = 0;
        for (row, &ts) in ts_event.iter().enumerate() {
            if row > 0 && self.offset(row as u64, ts) > elapsed {
                break;
            }
            self.greatest_ns = self.greatest_ns.max(ts);
            due = row + 1;
        }
        self.rows += due as u64;
        due
    }

    /// When a row is due after the start, given how many rows come before it from here.
    fn offset(&self, rows_before: u64, ts: i64) -> Duration {
        match self.pace {
            Pace::Max => Duration::ZERO,
            Pace::PerSecond(rate) => {
                Duration::from_secs_f64((self.rows + rows_before) as f64 / rate as f64)
            }
            Pace::Times(times) => {
                let ahead = i128::from(ts.max(self.greatest_ns)) - i128::from(self.first_ns);
                Duration::from_secs_f64((ahead.max(0) as f64 / 1e9 / times).min(1e9))
            }
        }
    }
}
