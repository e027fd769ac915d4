//! The service: the edge's inputs through log, views and history, on one thread each.
//!
//! ```text
//! ingest threads ─inputs─▶ sequence ─records─▶ live ─jobs─▶ flush
//!                          ▲  │wake            (all bounded)  │
//!                          │  └──▶ sync ─Durable─┐            │
//!                          └────────events───────┴──Covered───┘
//! ```
//!
//! Scans that clients submit run beside it: see [`jobs`].

mod channel;
mod checkpoint;
mod compact;
mod deadletters;
mod flush;
mod jobs;
mod live;
mod messages;
mod recovery;
mod sequence;
mod stats;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use isotick_ingest::{Edge, EdgeConfig, Gate, Stages, intake};
use isotick_model::LogPosition;
use isotick_model::definitions::Definitions;
use isotick_model::results::WindowRow;
use isotick_scheduler::OnFailure;
use isotick_storage::log::{LogSyncer, Recovery};
use isotick_storage::{DataFolder, DeadLetters, Opening, Store, StoreUrl};

pub use channel::ViewChannel;
pub use stats::{IngestSide, Shared, Totals, rejections_json};

use crate::cli::{EngineChoice, JobsArgs, StorageArgs};
use crate::device::{Devices, Lane, Opened};
use crate::memory::use_ordinary_pages;
use crate::security::Security;
use compact::{Compacting, Stopping};
use flush::Flushing;
use jobs::Jobs;
use live::Live;
use messages::{Event, Events, LiveMessage, StoreJob};
use recovery::Recovered;
use sequence::Sequencing;

/// Between two syncs of the log; ten times as much changes nothing that the live path notices.
const SYNC_SPACING: Duration = Duration::from_millis(1);
/// Records between the sequencing and the live thread.
const RECORDS_MAX: usize = 256;
/// Flushes between the live and the flushing thread, besides the one under way.
const FLUSHES_MAX: usize = 1;
/// How long clients are given to take leave at the end.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// How to run a service.
pub struct Options {
    pub data: PathBuf,
    /// Where a new data folder keeps its history, if not in itself.
    pub store: Option<StoreUrl>,
    pub edge: EdgeConfig,
    /// Bytes that clients can make the service hold: unread, in flight, and for subscribers.
    pub memory_bytes_max: usize,
    pub engine: EngineChoice,
    pub definitions: Definitions,
    pub idle_after: Duration,
    pub storage: StorageArgs,
    pub jobs: JobsArgs,
    pub security: Security,
    /// The command's name, for the folder's lock.
    pub command: &'static str,
}

/// A running service.
pub struct Service {
    edge: Edge,
    security: Security,
    gate: Gate,
    /// What was said of rules and certificates at start.
    described: Vec<String>,
    pub fingerprint: String,
    pub shared: Arc<Shared>,
    pub notices: Vec<String>,
    /// How the log is written, for people.
    pub log_io: &'static str,
    live: SyncSender<LiveMessage>,
    sequencing: JoinHandle<()>,
    living: JoinHandle<BTreeMap<String, Vec<WindowRow>>>,
    flushing: JoinHandle<()>,
    compacting: Option<JoinHandle<()>>,
    /// Ends the merge under way.
    stopping: Stopping,
    jobs: SyncSender<StoreJob>,
    syncing: JoinHandle<()>,
    lettering: JoinHandle<()>,
    scans: Jobs,
}

impl Service {
    /// Opens the data folder, replays its log, and listens.
    pub fn start(options: Options) -> Result<Self> {
        let devices = Devices::new(options.jobs.device_limits());
        Self::start_on(options, Arc::new(devices))
    }

    /// The same on devices of the caller.
    pub fn start_on(options: Options, devices: Arc<Devices>) -> Result<Self> {
        use_ordinary_pages();
        let mut notices = Vec::new();
        let opening =
            Opening { command: options.command, store: options.store.as_ref(), now_ns: now_ns() };
        let store = open_soon(&options.data, opening)?;
        notices.extend(store.folder().store().map(|store| format!("history in {store}")));
        notices.extend(store.leftovers_notice());
        let definitions = Arc::new(options.definitions);
        let text = definitions.to_toml();
        store.folder().put_definitions(&text)?;
        let security = options.security;
        let access = security.access(options.edge.listen)?;
        let certificates = security.certificates()?;
        let said = security.describe(&access, &certificates);
        let gate = Gate::new(access);
        let Opened { engine, on_failure } = devices.open(options.engine, Lane::Live)?;
        let described = engine.describe();

        let shares = Shares::of(options.memory_bytes_max, definitions.views.len());
        let channels: Vec<_> = definitions
            .views
            .iter()
            .map(|view| Arc::new(ViewChannel::new(Arc::new(view.clone()), shares.view_bytes)))
            .collect();
        let (log, recovery) = store.open_log_with(options.storage.log_io)?;
        let log_io = log.io();
        notices.extend(recovery_notice(&recovery));
        let (kept, cut) = DeadLetters::open(store.folder(), options.storage.dead_letters_max.0)?;
        notices.extend(cut.map(|cut| {
            format!(
                "a torn end of {} bytes was cut off the dead letters in {}",
                cut.bytes,
                cut.path.display()
            )
        }));
        let (letters, lettering) = deadletters::dead_letters(kept);

        let (intake, inputs) = intake(shares.in_flight_bytes);
        let stages = Arc::<Stages>::default();
        let config = EdgeConfig {
            unread_bytes_max: shares.unread_bytes,
            gate: gate.clone(),
            ..options.edge
        };
        let edge = Edge::start(&config, &certificates, intake.clone(), stages.clone())?;
        notices.extend_from_slice(edge.notices());
        let ingest = IngestSide {
            description: edge.description(),
            edge: edge.counter_reader(),
            stages,
            gate: gate.clone(),
            intake,
            letters: letters.counters(),
        };
        let shared =
            Arc::new(Shared::new(text.clone(), channels, ingest, engine.kind(), described));
        shared.set_history(store.manifest());
        let (sender, events_taken) = mpsc::channel();
        let events = Events { sender, notifier: inputs.notifier() };
        let (live, records) = sync_channel(RECORDS_MAX);
        let (jobs, jobs_taken) = sync_channel(FLUSHES_MAX);
        let (wake_sync, woken) = sync_channel(1);

        let covered = store.manifest().covered();
        let mut recovered = Recovered::read(&store, &definitions, &shared.views, &mut notices)?;
        let mut living = Live::new(
            std::mem::take(&mut recovered.views),
            engine,
            on_failure == OnFailure::ContinueOnCpu,
            covered,
            jobs.clone(),
            shared.clone(),
        );
        let sequencer = recovered.replay(&store, log.first(), &mut living)?;
        let syncer = log.syncer();
        shared.set_log_next(log.next());
        let scans = Jobs::start(jobs::Means {
            data: &options.data,
            folder: DataFolder::open_reader(&options.data)?,
            pins: store.pins(),
            devices,
            shared: shared.clone(),
            args: &options.jobs,
            definitions: text,
        })?;
        let sequencing = Sequencing::new(
            sequencer,
            log,
            covered,
            live.clone(),
            wake_sync,
            shared.clone(),
            letters,
            options.idle_after,
            &options.storage,
            closed_bytes(&store.folder().log()),
            scans.sender(),
        );
        let stopping = Stopping::default();
        let (work, work_taken) = sync_channel(1);
        let compacting = (options.storage.compact_share > 0.0).then(|| Compacting {
            share: options.storage.compact_share.min(1.0),
            stopping: stopping.clone(),
            done: jobs.clone(),
        });
        let flushing = Flushing {
            store,
            definitions,
            views: shared.views.clone(),
            events: events.clone(),
            syncer: syncer.clone(),
            shared: shared.clone(),
            work: compacting.as_ref().map(|_| work),
            working: Default::default(),
            rolls_up: !options.storage.no_rollups,
        };

        Ok(Self {
            fingerprint: certificates.fingerprint,
            security,
            gate,
            described: said,
            shared,
            notices,
            log_io,
            live,
            sequencing: spawn("isotick-sequence", move || sequencing.run(inputs, &events_taken))?,
            living: spawn("isotick-live", move || living.run(&records))?,
            flushing: spawn("isotick-flush", move || flushing.run(&jobs_taken))?,
            compacting: compacting
                .map(|compacting| spawn("isotick-compact", move || compacting.run(&work_taken)))
                .transpose()?,
            stopping,
            jobs,
            syncing: spawn("isotick-sync", move || sync(&syncer, &woken, &events))?,
            lettering: spawn("isotick-letters", move || lettering.run())?,
            scans,
            edge,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.edge.local_addr()
    }

    /// What rules and certificates it was started with, a line each.
    pub fn describe_security(&self) -> &[String] {
        &self.described
    }

    /// Reads access rules and certificates again; what is broken stays as it was. What came of
    /// it, a line each. Sessions and connections that there are stay.
    pub fn reload(&self) -> Vec<String> {
        let access = self.security.access_again(&self.gate.access());
        let certificates = self.security.certificates().and_then(|certificates| {
            self.edge.replace_certificates(&certificates)?;
            Ok(certificates)
        });
        let access = match access {
            Ok(access) => {
                let entries = access.entries().len();
                self.gate.replace(access);
                self.edge.recheck();
                format!("the access rules were read again: {entries} entries")
            }
            Err(error) => format!("the access rules stay as they were: {error:#}"),
        };
        let certificates = match certificates {
            Ok(found) => format!("the certificates were read again: {}", found.fingerprint),
            Err(error) => format!("the certificates stay as they were: {error:#}"),
        };
        vec![access, certificates]
    }

    /// Stops cleanly: takes leave of the clients, brings everything to history, and gives back
    /// the windows that are still open, by view.
    pub fn stop(self) -> Result<BTreeMap<String, Vec<WindowRow>>> {
        // Those who wait for scans are told by the jobs themselves.
        self.scans.stop();
        self.edge.shutdown(LEAVE_WITHIN);
        join(self.sequencing);
        let _ = self.live.send(LiveMessage::Stop);
        let open = join(self.living);
        self.stopping.stop();
        let _ = self.jobs.send(StoreJob::Stop);
        join(self.flushing);
        self.compacting.map(join);
        join(self.syncing);
        join(self.lettering);
        match self.shared.failure() {
            Some(reason) => bail!("{reason}"),
            None => Ok(open),
        }
    }
}

/// How long a data folder may take to become free.
const FOLDER_FREE_WITHIN: Duration = Duration::from_secs(2);

/// Opens a folder that nobody else has, or is about to have no more: a busy system takes a moment
/// to bury a service that was killed, and whoever watches over it starts the next one at once.
fn open_soon(data: &Path, opening: Opening<'_>) -> isotick_storage::Result<Store> {
    let deadline = Instant::now() + FOLDER_FREE_WITHIN;
    loop {
        match Store::open_with(data, opening) {
            Err(isotick_storage::Error::InUse { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            opened => return opened,
        }
    }
}

/// How the memory that clients can make the service hold is shared out.
struct Shares {
    /// What clients have sent and the edge has not read; half of it again for unfinished messages.
    unread_bytes: usize,
    /// Rows between the edge and the views.
    in_flight_bytes: usize,
    /// Per view, windows on their way to subscribers and kept for resuming.
    view_bytes: usize,
}

impl Shares {
    fn of(memory_bytes_max: usize, views: usize) -> Self {
        let eighth = memory_bytes_max / 8;
        // A view's windows are shared by the queues of all its subscribers.
        let view_bytes = (eighth / views.max(1)).clamp(64 << 10, 16 << 20);
        Self { unread_bytes: 2 * eighth, in_flight_bytes: eighth, view_bytes }
    }
}

/// Bytes of the log's segments but the last, which is not full.
fn closed_bytes(log: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(log).into_iter().flatten().flatten();
    let mut segments: Vec<_> = files
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "log"))
        .map(|file| (file.file_name(), file.metadata().map_or(0, |metadata| metadata.len())))
        .collect();
    segments.sort_unstable();
    segments.pop();
    segments.iter().map(|(_, bytes)| bytes).sum()
}

fn recovery_notice(recovery: &Recovery) -> Option<String> {
    let cut = recovery.cut.as_ref()?;
    Some(format!(
        "the service did not stop cleanly: a torn end of {} bytes was cut off {} at offset {}; \
         nothing in it had been acknowledged as written",
        cut.bytes,
        cut.path.display(),
        cut.offset
    ))
}

/// The syncing thread: one commit for everything written since the last one, and the next while
/// it is under way where the log allows it.
fn sync(syncer: &LogSyncer, woken: &Receiver<()>, events: &Events) {
    let mut last = Instant::now();
    let (mut retired, mut told, mut more) = (0, LogPosition(0), false);
    loop {
        if more {
            // What was written meanwhile goes with the next one.
            let _ = woken.try_recv();
        } else {
            if woken.recv().is_err() {
                break;
            }
            // What is written meanwhile goes with it; a record alone does not wait.
            std::thread::sleep(SYNC_SPACING.saturating_sub(last.elapsed()));
        }
        last = Instant::now();
        let advanced = syncer.advance(SYNC_SPACING);
        let faults = syncer.faults();
        if faults.retired_segments > retired {
            retired = faults.retired_segments;
            tracing::warn!(
                "{}; the log goes on in a new segment, which holds all that was not durable: \
                 {retired} segments were given up so far",
                faults.last.as_deref().unwrap_or("a write failed")
            );
        }
        let event = match advanced {
            Ok((before, goes_on)) => {
                more = goes_on;
                if before <= told {
                    continue;
                }
                told = before;
                Event::Durable(before)
            }
            Err(error) => {
                more = false;
                Event::Failed(error.to_string())
            }
        };
        if !events.send(event) {
            break;
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.into()).spawn(run).context("cannot start a thread")
}

/// A panic of one of the service's threads is a bug and becomes the caller's.
fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The service's clock, nanoseconds UTC.
#[allow(clippy::disallowed_methods, reason = "the edge of the system is where the clock is read")]
pub fn now_ns() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_about_to_be_free_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let opening = Opening { command: "isotick serve", store: None, now_ns: 0 };
        let before = Store::open_with(dir.path(), opening).unwrap();
        let buried = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(before);
        });
        let after = open_soon(dir.path(), opening).unwrap();
        buried.join().unwrap();
        let error = open_soon(dir.path(), opening).map(drop).unwrap_err();
        assert!(error.to_string().contains("is in use by process"), "{error}");
        drop(after);
    }
}
