//! How scanning threads make way for the live path.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a scanning thread works in one go while ticks come, and how long it rests then, at
/// least: the system adds its timers' slack.
const BREATH_EVERY: Duration = Duration::from_millis(1);
const BREATH: Duration = Duration::from_micros(1);

/// Stops scanning threads between two batches while the live path needs the machine.
#[derive(Default)]
pub struct Gate {
    /// Whether ticks come.
    is_live: AtomicBool,
    is_shut: AtomicBool,
    state: Mutex<()>,
    changed: Condvar,
}

impl Gate {
    pub fn set(&self, shut: bool) {
        if self.is_shut.swap(shut, Ordering::AcqRel) != shut {
            drop(self.state.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }

    /// Says whether ticks come.
    pub fn set_live(&self, live: bool) {
        self.is_live.store(live, Ordering::Relaxed);
    }

    /// Leaves the core for a moment, once in a while, as long as ticks come. A core that scans is
    /// not idle to the system: live threads that wait behind each other for another core are moved
    /// to this one only when it becomes so.
    pub fn breathe(&self, last: &mut Instant) {
        if self.is_live.load(Ordering::Relaxed) && last.elapsed() >= BREATH_EVERY {
            std::thread::sleep(BREATH);
            *last = Instant::now();
        }
    }

    /// Waits while it is shut, unless nobody wants what is being done any more. Says for how long.
    pub fn pass(&self, is_wanted: impl Fn() -> bool) -> Duration {
        if !self.is_shut.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let since = Instant::now();
        while self.is_shut.load(Ordering::Acquire) && is_wanted() {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if self.is_shut.load(Ordering::Acquire) {
                // Those who cancel do not knock.
                let _ = self.changed.wait_timeout(state, Duration::from_millis(20));
            }
        }
        since.elapsed()
    }
}
