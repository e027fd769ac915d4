//! Files written before they are needed: overwriting takes no new blocks and no entry in the
//! file system's journal, so that a sync costs half of what it does in a file that grows.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::state::{Shared, unfinished};

/// Bytes that are written and synced at a time, so that the log's own syncs get their turn.
const STEP: usize = 1 << 20;

/// The thread that makes a spare file, and for which segment it last did.
#[derive(Default)]
pub(super) struct Preparing {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    asked_at: Option<u64>,
    never: bool,
}

impl Preparing {
    #[cfg(test)]
    pub(super) fn never() -> Self {
        let mut preparing = Self::default();
        preparing.never = true;
        preparing
    }

    /// Makes a spare of `len` bytes beside the work, once per segment: where the disk has no room
    /// for one, the log goes on without.
    pub(super) fn start(&mut self, shared: &Arc<Shared>, segment: u64, len: u64) {
        if self.never || self.asked_at == Some(segment) {
            return;
        }
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        self.asked_at = Some(segment);
        let (shared, stop) = (shared.clone(), self.stop.clone());
        let make = move || {
            // Where it fails, the next segment grows as it is written: that costs speed alone.
            let _ = prepare(&shared, len, &stop);
        };
        let thread = std::thread::Builder::new().name("isotick-spare".into()).spawn(make);
        self.thread = thread.ok();
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; the log does not depend on it.
            let _ = thread.join();
        }
    }
}

/// Makes a spare of `len` bytes of zeros.
pub(super) fn prepare(shared: &Shared, len: u64, stop: &AtomicBool) -> io::Result<()> {
    let path = shared.state().name_spare(&shared.folder);
    let unfinished = unfinished(&path);
    let made = (|| {
        let file = shared.disk.open(&unfinished, true)?;
        let zeros = vec![0; STEP.min(len as usize)];
        let mut at = 0;
        while at < len {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let step = zeros.len().min((len - at) as usize);
            file.write_at(at, &zeros[..step])?;
            file.sync()?;
            at += step as u64;
        }
        shared.disk.rename(&unfinished, &path)?;
        shared.disk.sync_folder(&shared.folder)?;
        Ok(true)
    })();
    if !matches!(made, Ok(true)) {
        // What stays goes when the log is next opened.
        let _ = shared.disk.remove(&unfinished);
        return made.map(|_| ());
    }
    shared.state().spares.push(path);
    Ok(())
}
