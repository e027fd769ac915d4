//! Scans as jobs: asked for over QUIC, kept on disk, run beside the live path without disturbing it.
//!
//! ```text
//! sequence ─requests─▶ jobs ─tasks─▶ scan-0 … scan-n
//!                       ▲  │                │
//!                       │  └─watchers      │ pieces ─▶ disk ─▶ result-N.parquet
//!                       └────reports────────┘                        └─▶ fetch ─▶ feeds
//! ```
//!
//! One thread decides ([`coordinator`]), driving the sans-IO [`Lanes`](isotick_scheduler::lanes);
//! scanning threads of the lowest priority that there is do the work ([`work`]).

mod coordinator;
mod costs;
mod fetch;
mod gate;
mod job;
mod pieces;
mod plan;
mod record;
mod requests;
mod store;
#[cfg(test)]
mod tests;
mod work;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use isotick_ingest::{Feed, JobOwner};
use isotick_model::{LogPosition, time};
use isotick_scheduler::lanes::{LiveLoad, Step};
use isotick_storage::{DataFolder, Frozen, Manifest, Pins};
use isotick_wire::{Code, JobRequest, Refusal};
use serde_json::Value;

use self::coordinator::Coordinator;
use self::gate::Gate;
use self::record::Record;
use self::store::JobStore;
use self::work::Bench;
use super::stats::Shared;
use crate::cli::JobsArgs;
use crate::device::Devices;

/// What the thread that decides is told.
pub enum Message {
    /// By a client.
    Request(Box<Request>),
    /// By a scanning thread.
    Report(coordinator::Report),
    /// The end.
    Stop,
}

/// What a client asks.
pub struct Request {
    pub request: JobRequest,
    pub owner: JobOwner,
    pub feed: Arc<Feed>,
    /// The log's next record when it was asked.
    pub log_end: LogPosition,
    /// By stream, the last record with ticks of it, where this run has written one.
    pub last_ticks: Option<LogPosition>,
}

/// The running threads.
pub struct Jobs {
    sender: Sender<Message>,
    coordinating: JoinHandle<()>,
    scanning: Vec<JoinHandle<()>>,
    gate: Arc<Gate>,
}

/// What jobs need of the service.
pub struct Means<'a> {
    pub data: &'a Path,
    pub folder: DataFolder,
    pub pins: Pins,
    pub devices: Arc<Devices>,
    pub shared: Arc<Shared>,
    pub args: &'a JobsArgs,
    pub definitions: String,
}

impl Jobs {
    /// Takes up the jobs that an earlier run left, and starts the threads.
    pub fn start(means: Means<'_>) -> Result<Self> {
        let (reaper, gone) = channel();
        let store = JobStore::new(means.data, reaper);
        let (sender, messages) = channel();
        let gate = Arc::<Gate>::default();
        let (mut scanning, mut tasks) = (Vec::new(), Vec::new());
        let slots = means.args.threads();
        for slot in 0..slots {
            let bench = Bench {
                folder: means.folder.clone(),
                store: store.clone(),
                pins: means.pins.clone(),
                gate: gate.clone(),
                devices: means.devices.clone(),
                rested: std::time::Instant::now(),
                waited: Duration::ZERO,
            };
            let (task, taken) = channel();
            let reports = sender.clone();
            let run = move || coordinator::scan(slot, bench, &taken, &reports);
            scanning.push(super::spawn(&format!("isotick-scan-{slot}"), run)?);
            tasks.push(task);
        }
        let reaping = super::spawn("isotick-reap", move || {
            coordinator::give_way();
            store::reap(&gone);
        })?;
        scanning.push(reaping);
        let coordinator = Coordinator::new(store, tasks, gate.clone(), means)?;
        let coordinating = super::spawn("isotick-jobs", move || coordinator.run(&messages))?;
        Ok(Self { sender, coordinating, scanning, gate })
    }

    /// How requests get here.
    pub fn sender(&self) -> Sender<Message> {
        self.sender.clone()
    }

    /// Stops: what is under way is left, and taken up by the next start.
    pub fn stop(self) {
        let _ = self.sender.send(Message::Stop);
        // Nobody waits behind a gate for a service that stops.
        self.gate.set(false);
        super::join(self.coordinating);
        self.scanning.into_iter().for_each(super::join);
    }
}

/// What jobs and the live path tell each other without waiting.
#[derive(Default)]
pub struct LaneShare {
    /// The longest that a record waited for the views since it was last asked, nanoseconds.
    lag_ns: AtomicU64,
    /// Records that wait for the views.
    waiting: AtomicUsize,
    /// Records that the views have seen.
    handled: AtomicU64,
    /// Whether frames are to be joined to larger records.
    larger_batches: AtomicBool,
    manifest: Mutex<Option<Arc<Manifest>>>,
    status: Mutex<Shown>,
}

/// The lanes, the jobs' numbers, and some of them.
type Shown = (Value, Value, Vec<Arc<Value>>);

impl LaneShare {
    /// A record was handed to the views.
    pub fn queued(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// The views have seen a record that waited so long.
    pub fn handled(&self, waited: Duration) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.lag_ns.fetch_max(ns, Ordering::Relaxed);
        self.handled.fetch_add(1, Ordering::Relaxed);
    }

    fn load(&self, records_max: usize) -> LiveLoad {
        let waiting = self.waiting.load(Ordering::Relaxed).min(records_max);
        LiveLoad {
            lag_ns: self.lag_ns.swap(0, Ordering::Relaxed),
            queue_permille: (waiting * 1000 / records_max) as u16,
        }
    }

    /// Whether frames are to be joined to larger records.
    pub fn wants_larger_batches(&self) -> bool {
        self.larger_batches.load(Ordering::Relaxed)
    }

    fn set_step(&self, step: Step) {
        self.larger_batches.store(step >= Step::LargerBatches, Ordering::Relaxed);
    }

    /// The last manifest that was committed.
    pub fn set_manifest(&self, manifest: Arc<Manifest>) {
        *self.manifest.lock().unwrap_or_else(PoisonError::into_inner) = Some(manifest);
    }

    fn manifest(&self) -> Option<Arc<Manifest>> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lanes, and the jobs, as the status shows them.
    pub fn status(&self) -> (Value, Value) {
        let shown = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (lanes, mut jobs, list) = shown;
        if jobs.is_object() {
            jobs["list"] = list.iter().map(|job| Value::clone(job)).collect();
        }
        (lanes, jobs)
    }

    fn set_status(&self, lanes: Value, jobs: Value, list: Vec<Arc<Value>>) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = (lanes, jobs, list);
    }
}

/// Where a result came from, as its file says.
fn provenance(
    record: &Record,
    frozen: &Frozen,
    view: usize,
    hash: &str,
) -> Vec<(&'static str, String)> {
    let time = |ns: Option<i64>| ns.map_or_else(String::new, time::format_rfc3339);
    let asked = &record.asked;
    vec![
        ("isotick.job", record.id.to_string()),
        ("isotick.view", asked.views[view].view.clone()),
        ("isotick.definition", asked.views[view].definition.clone()),
        ("isotick.definitions", record.definitions.clone()),
        ("isotick.from", time(asked.from_ns)),
        ("isotick.to", time(asked.to_ns)),
        ("isotick.truth", format!("{:?}", asked.truth).to_lowercase()),
        ("isotick.manifest_version", frozen.version.to_string()),
        ("isotick.log_end", frozen.end.to_string()),
        ("isotick.engines", serde_json::json!(record.engines).to_string()),
        ("isotick.kernels", kernels_hash().to_owned()),
        ("isotick.result_hash", hash.to_owned()),
    ]
}

/// Which kernels compute: a hash over this version's name and the source of every shader.
pub fn kernels_hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
        for permutation in isotick_shaders::ALL.iter().flat_map(|shader| shader.permutations) {
            hasher.update(permutation.source.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    })
}

fn refusal(code: Code, text: impl Into<String>) -> Refusal {
    Refusal::new(code, text)
}
