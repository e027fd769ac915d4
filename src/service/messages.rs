//! What the service's threads say to each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use isotick_ingest::sequencer::SavedSequencer;
use isotick_ingest::{Batch, Notifier, Permit};
use isotick_model::{LogPosition, StreamSchema, Ticks};
use isotick_storage::log::LogRecord;
use isotick_storage::{Merge, Merged, Rolled, RollupWork, Unrecorded};

use super::checkpoint::LivePath;

/// What the live thread is told, in log order.
pub enum LiveMessage {
    /// A record that is written.
    Record(Box<Logged>),
    /// A publisher waits for what it sent to be in history.
    Flush,
    /// What the sequencer holds before this position, which is the next record's: to be kept with
    /// what the views hold.
    Checkpoint(LogPosition, Box<SavedSequencer>),
    /// The end: flush, and give back what is open.
    Stop,
}

/// A log record with what follows from the log up to it.
pub struct Logged {
    pub position: LogPosition,
    pub record: LogRecord,
    /// W of its stream after it.
    pub watermark: Option<i64>,
    /// When it was written; `None` for what is replayed.
    pub written: Option<Instant>,
    /// The memory that its rows take, until the views have seen them.
    pub permit: Option<Permit>,
}

/// Tells the sequencing thread of events, and wakes it.
#[derive(Clone)]
pub struct Events {
    pub sender: mpsc::Sender<Event>,
    pub notifier: Notifier,
}

impl Events {
    /// False when the thread is gone.
    pub fn send(&self, event: Event) -> bool {
        let sent = self.sender.send(event).is_ok();
        self.notifier.notify();
        sent
    }
}

/// What the flushing thread is told.
pub enum StoreJob {
    /// By the live thread.
    Flush(Box<FlushJob>),
    /// By the compacting thread, of a merge in a folder of a stream.
    Merged { stream: String, folder: String, merged: Box<isotick_storage::Result<Merged>> },
    /// By the compacting thread, of states of a file of a stream.
    Rolled { stream: String, path: String, rolled: Box<isotick_storage::Result<Rolled>> },
    /// The end.
    Stop,
}

/// What the compacting thread is to do.
pub enum HistoryWork {
    Merge(Merge),
    /// To store the states of a view beside a file.
    Rollup(RollupWork, Arc<StreamSchema>),
}

/// What the live thread hands to the flushing thread: everything that the log records `from..covered` brought.
#[derive(Default)]
pub struct FlushJob {
    pub from: LogPosition,
    pub covered: LogPosition,
    /// By stream.
    pub ticks: BTreeMap<String, Vec<Ticks>>,
    /// Published windows by the definition's hash.
    pub windows: BTreeMap<String, Vec<Arc<Batch>>>,
    /// W of each stream at `covered`, where a record changed it.
    pub watermarks: BTreeMap<String, Option<i64>>,
    /// By the definition's hash, windows that the record does not have and will not get.
    pub unrecorded: BTreeMap<String, Unrecorded>,
    /// The live path at `covered`.
    pub checkpoint: Option<LivePath>,
}

/// What the syncing and flushing threads tell the sequencing thread.
#[derive(Debug)]
pub enum Event {
    /// Everything before this position is synced.
    Durable(LogPosition),
    /// Everything before this position is in history and live record.
    Covered(LogPosition),
    /// A checkpoint of so many bytes is in place; a start reads the log from `needed` on, whichever
    /// of those kept it finds readable.
    Checkpointed { needed: LogPosition, bytes: u64 },
    /// Something broke that acknowledgements depend on: nothing more is accepted.
    Failed(String),
}
