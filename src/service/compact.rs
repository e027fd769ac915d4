//! The compacting thread: merges and states that the flushing thread has planned, beside everything
//! else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use isotick_storage::Error;

use super::messages::{HistoryWork, StoreJob};
use crate::rollups;

/// Tells the thread to give up what it is doing.
#[derive(Clone, Default)]
pub struct Stopping(Arc<AtomicBool>);

impl Stopping {
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The thread's state.
pub struct Compacting {
    /// The share of the time that it may run, above 0 and up to 1: it rests for the remainder.
    pub share: f64,
    pub stopping: Stopping,
    pub done: SyncSender<StoreJob>,
}

impl Compacting {
    /// Does what comes, one after another, until the flushing thread is gone.
    pub fn run(self, work: &Receiver<HistoryWork>) {
        be_nice();
        while let Ok(work) = work.recv() {
            let mut pause = Pause { share: self.share, since: Instant::now() };
            let mut step = |_: u64| {
                pause.rest(&self.stopping);
                if self.stopping.is_asked() { Err(Error::Stopped) } else { Ok(()) }
            };
            let done = match work {
                HistoryWork::Merge(merge) => {
                    let (stream, folder) = (merge.stream().to_owned(), merge.folder().to_owned());
                    let merged = Box::new(merge.run(&mut step));
                    StoreJob::Merged { stream, folder, merged }
                }
                HistoryWork::Rollup(work, schema) => {
                    let (stream, path) = (work.stream().to_owned(), work.path().to_owned());
                    let rolled = Box::new(rollups::reduce(&work, &schema, &mut step));
                    StoreJob::Rolled { stream, path, rolled }
                }
            };
            if self.done.send(done).is_err() {
                return;
            }
        }
    }
}

/// Rests in proportion to the time worked.
struct Pause {
    share: f64,
    since: Instant,
}

impl Pause {
    fn rest(&mut self, stopping: &Stopping) {
        let mut rest = self.since.elapsed().mul_f64(1.0 / self.share - 1.0);
        while !rest.is_zero() && !stopping.is_asked() {
            let some = rest.min(Duration::from_millis(50));
            std::thread::sleep(some);
            rest -= some;
        }
        self.since = Instant::now();
    }
}

/// Lets every other thread go first.
fn be_nice() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(10) {
        tracing::debug!("compaction runs at the usual priority: {error}");
    }
}
