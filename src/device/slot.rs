//! A device that is opened once, and again when it was lost.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Failures, Shared, lock};

/// A device, once it was asked for.
#[derive(Default)]
pub(super) struct Slot {
    opened: Mutex<Option<Result<Arc<Shared>, String>>>,
    /// Who opens it holds this.
    reopening: Mutex<Reopening>,
}

/// When a lost device was opened again, or that was tried.
#[derive(Default)]
struct Reopening {
    last: Option<Instant>,
    times: u32,
}

/// Between two openings of a lost device, at least; twice as long after each.
const REOPEN_AFTER: Duration = Duration::from_secs(60);

impl Slot {
    pub fn opened(&self) -> Option<Result<Arc<Shared>, String>> {
        lock(&self.opened).clone()
    }

    /// The device; a lost one is not given.
    pub fn get_or_open(
        &self,
        open: impl FnOnce(Arc<Mutex<Failures>>) -> Result<Arc<Shared>, String>,
    ) -> Result<Arc<Shared>, String> {
        match self.opened() {
            Some(Ok(device)) if device.is_lost() => {}
            Some(opened) => return opened,
            None => {}
        }
        let mut reopening = lock(&self.reopening);
        let lost = match self.opened() {
            Some(Ok(device)) if device.is_lost() => device,
            // Another thread was faster.
            Some(opened) => return opened,
            None => {
                let opened = open(Arc::default());
                *lock(&self.opened) = Some(opened.clone());
                return opened;
            }
        };
        let why = lost.failures().last.clone().unwrap_or_default();
        let wait = REOPEN_AFTER.saturating_mul(1 << reopening.times.min(6));
        if let Some(last) = reopening.last
            && last.elapsed() < wait
        {
            let left = (wait - last.elapsed()).as_secs() + 1;
            return Err(format!("{why}; it is opened again in {left} s at the earliest"));
        }
        *reopening = Reopening { last: Some(Instant::now()), times: reopening.times + 1 };
        let opened = open(lost.failures.clone());
        match &opened {
            Ok(device) => {
                tracing::warn!("{} is open again", device.description);
                *lock(&self.opened) = Some(opened.clone());
            }
            // What is known of the lost one stays.
            Err(error) => tracing::warn!("{} does not open again: {error}", lost.description),
        }
        opened.map_err(|error| format!("{why}; it does not open again: {error}"))
    }
}
