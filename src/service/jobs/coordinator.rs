//! The thread that decides what is scanned next, and keeps the jobs' records.

mod outcomes;
mod showing;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Result;
use isotick_model::definitions::Definitions;
use isotick_scheduler::lanes::{
    Dispatch, JobId, JobSpec, Lanes, LanesConfig, PartCost, Priority, Step,
};
use isotick_storage::{DataFolder, Frozen, Snapshot};
use isotick_wire::Code;

use super::costs::{Costs, DISPATCH_NS, Learned, thread_cpu_ns};
use super::gate::Gate;
use super::job::{Job, Phase};
use super::plan::Group;
use super::record::{Id, Record, ResultOf, State};
use super::store::JobStore;
use super::work::{Bench, PartDone, PlannedJob, Running, Trouble};
use super::{LaneShare, Means, Message, refusal};
use crate::device::Devices;
use crate::scanning;
use crate::service::now_ns;
use crate::service::stats::Shared;

/// How often the live path's load is looked at while there are jobs.
const LOOK: Duration = Duration::from_millis(10);
/// How often it is looked for results that need not be kept any more.
const SWEEP: Duration = Duration::from_secs(1);
/// How often watchers are told, at most.
const TELL: Duration = Duration::from_millis(200);
/// How often the status shows where jobs stand, at least.
const SHOW: Duration = Duration::from_millis(500);
/// How often a job may begin anew because what it read is gone.
const REPLANS_MAX: u32 = 5;
/// Jobs in the status.
const SHOWN: usize = 50;
/// What planning, and bringing pieces together, are taken to need of a core.
const PLAN_NS: u64 = 2_000_000;
const FINISH_NS: u64 = 10_000_000;
/// What having been idle is worth to an owner, of each scanning thread: short scans of people who
/// come now and then run at once, and shares are equal over seconds.
const CREDIT_NS: u64 = 100_000_000;
/// Bytes that a read takes beside what is stored.
const READ_BYTES: u64 = 4 << 20;
/// Bytes that a window which is held takes beside its state, about.
const WINDOW_BYTES: u64 = 96;

/// What a scanning thread is to do.
pub enum Task {
    Plan { record: Box<Record>, fresh: Option<Frozen>, costs: Costs },
    Parts(Vec<(Arc<Running>, u32)>),
    Finish { record: Box<Record>, running: Arc<Running> },
}

/// What came of it.
pub struct Report {
    slot: usize,
    busy: Duration,
    /// Of that, on a core.
    on_core_ns: Option<u64>,
    done: Done,
}

enum Done {
    Planned(Result<PlannedJob, Trouble>),
    Parts(Vec<Result<PartDone, Trouble>>),
    /// `None` when there is more of it to do.
    Finished(Result<Option<Vec<ResultOf>>, Trouble>),
}

/// A scanning thread: task after task, at the lowest priority that there is.
pub fn scan(slot: usize, mut bench: Bench, tasks: &Receiver<Task>, reports: &Sender<Message>) {
    give_way();
    while let Ok(task) = tasks.recv() {
        let (started, cpu_ns) = (Instant::now(), thread_cpu_ns());
        let done = match task {
            Task::Plan { record, fresh, costs } => {
                Done::Planned(unbroken(|| bench.plan(&record, fresh, &costs)).unwrap_or_else(Err))
            }
            Task::Parts(parts) => Done::Parts(
                unbroken(|| bench.parts(&parts))
                    .unwrap_or_else(|_| parts.iter().map(|_| Err(Trouble::broken())).collect()),
            ),
            Task::Finish { record, running } => {
                Done::Finished(unbroken(|| bench.finish(&record, &running)).unwrap_or_else(Err))
            }
        };
        let waited = std::mem::take(&mut bench.waited);
        let on_core_ns = thread_cpu_ns().zip(cpu_ns).map(|(after, before)| after - before);
        let busy = started.elapsed().saturating_sub(waited);
        let report = Report { slot, busy, on_core_ns, done };
        if reports.send(Message::Report(report)).is_err() {
            return;
        }
    }
}

/// A panic is a bug: it costs the job that met it, not the service.
fn unbroken<T>(run: impl FnOnce() -> T) -> Result<T, Trouble> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).map_err(|_| Trouble::broken())
}

/// Runs only when no other thread wants the core: the live path is then woken as fast as on an
/// idle machine.
pub fn give_way() {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id,
    };
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let set = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    if let Err(error) = set {
        tracing::warn!("scans run at the usual priority: {error:?}");
    }
}

/// The thread's state.
pub struct Coordinator {
    pub(super) lanes: Lanes,
    pub(super) store: JobStore,
    pub(super) jobs: BTreeMap<Id, Job>,
    pub(super) shared: Arc<Shared>,
    pub(super) folder: DataFolder,
    pub(super) definitions: Definitions,
    pub(super) definitions_text: String,
    pub(super) kept: Duration,
    pub(super) jobs_max: usize,
    pub(super) results_max: u64,
    tasks: Vec<Sender<Task>>,
    /// What each slot does, by the lanes' numbers.
    under_way: Vec<Vec<(JobId, u32)>>,
    gate: Arc<Gate>,
    devices: Arc<Devices>,
    /// By the lanes' numbers.
    numbers: BTreeMap<JobId, Id>,
    by_id: BTreeMap<Id, JobId>,
    next_number: u64,
    records_max: usize,
    learned: Learned,
    /// Rows that jobs were given, each counted for each of them.
    rows: u64,
    started: Instant,
    told: Instant,
    shown: Instant,
    swept: Instant,
    /// Records that the views had seen, and since when.
    handled: (u64, Instant),
}

impl Coordinator {
    pub fn new(
        store: JobStore,
        tasks: Vec<Sender<Task>>,
        gate: Arc<Gate>,
        means: Means<'_>,
    ) -> Result<Self> {
        let args = means.args;
        let config = LanesConfig {
            slots: tasks.len(),
            host_bytes_max: args.scan_memory_max.0,
            jobs_running_max: args.scans_running_max as usize,
            queue_max: args.jobs_max as usize,
            dispatch_ns_max: DISPATCH_NS,
            credit_ns: CREDIT_NS * tasks.len() as u64,
            ..LanesConfig::default()
        };
        let now = Instant::now();
        let mut coordinator = Self {
            lanes: Lanes::new(config),
            store,
            jobs: BTreeMap::new(),
            shared: means.shared,
            folder: means.folder,
            definitions: Definitions::parse(&means.definitions, "the service's definitions")?,
            definitions_text: means.definitions,
            kept: args.results_kept.to_std(),
            jobs_max: args.jobs_max as usize,
            results_max: args.results_max.0,
            under_way: vec![Vec::new(); tasks.len()],
            tasks,
            gate,
            devices: means.devices,
            numbers: BTreeMap::new(),
            by_id: BTreeMap::new(),
            next_number: 0,
            records_max: crate::service::RECORDS_MAX,
            learned: Learned::default(),
            rows: 0,
            started: now,
            told: now,
            shown: now,
            swept: now,
            handled: (0, now),
        };
        coordinator.take_up()?;
        Ok(coordinator)
    }

    /// Goes on with the jobs that an earlier run left, in the order submitted.
    fn take_up(&mut self) -> Result<()> {
        let mut records = self.store.load(|what| tracing::error!("{what}"))?;
        records.sort_by_key(|record| record.submitted_ns);
        for mut record in records {
            let id = record.id.clone();
            if !record.state.is_over() {
                record.state = State::Queued;
            }
            self.jobs.insert(id.clone(), Job::new(record, None));
            if !self.jobs[&id].is_over() {
                self.enter(&id);
            }
        }
        self.show();
        Ok(())
    }

    fn share(&self) -> &LaneShare {
        &self.shared.lanes
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Runs until it is told to stop.
    pub fn run(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(self.patience()) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(message) => {
                    if !self.handle(message) || !messages.try_iter().all(|m| self.handle(m)) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.look();
            self.dispatch();
            self.tell(false);
        }
        self.leave();
    }

    /// False for the end.
    fn handle(&mut self, message: Message) -> bool {
        match message {
            Message::Request(request) => self.handle_request(*request),
            Message::Report(report) => self.handle_report(report),
            Message::Stop => return false,
        }
        true
    }

    /// How long nothing needs to be done when nothing happens.
    fn patience(&self) -> Duration {
        let least = if self.by_id.is_empty() { SWEEP } else { LOOK };
        let until = self.lanes.poll_timeout().map(|at| at.saturating_sub(self.now_ns()));
        until.map_or(least, |ns| least.min(Duration::from_nanos(ns)))
    }

    /// Looks how the live path fares.
    fn look(&mut self) {
        let load = self.share().load(self.records_max);
        if let Some(change) = self.lanes.handle_live(self.now_ns(), load) {
            tracing::debug!(from = ?change.from, to = ?change.to, "live load");
        }
        // Any call to the lanes may have taken a step back whose time had come.
        let step = self.lanes.step();
        self.gate.set(step >= Step::BatchPaused);
        self.share().set_step(step);
        let handled = self.share().handled.load(Ordering::Relaxed);
        if handled != self.handled.0 {
            self.handled = (handled, Instant::now());
        }
        self.gate.set_live(handled > 0 && self.handled.1.elapsed() < SWEEP);
        if self.swept.elapsed() < SWEEP {
            return;
        }
        self.swept = Instant::now();
        let now_ns = now_ns();
        let over = |job: &Job| job.record.kept_until_ns.is_some_and(|until| until <= now_ns);
        let gone: Vec<Id> =
            self.jobs.iter().filter(|(_, job)| over(job)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.store.remove(&id);
            self.jobs.remove(&id);
        }
    }

    fn dispatch(&mut self) {
        while let Some(Dispatch { slot, parts, .. }) = self.lanes.poll(self.now_ns()) {
            let Some((first, _)) = parts.first() else { return };
            let id = self.numbers[first].clone();
            let job = self.jobs.get_mut(&id).expect("the lanes have jobs that there are");
            if job.since.is_none() {
                job.since = Some(Instant::now());
                job.rows_before = job.rows.done;
            }
            let record = || Box::new(job.record.clone());
            let task = match (job.phase, &job.running) {
                (Phase::Plan, _) => Task::Plan {
                    record: record(),
                    fresh: job.fresh.clone(),
                    costs: self.learned.of(&job.record.asked),
                },
                (phase, Some(running))
                    if phase == Phase::Closing || parts[0].1 as usize == running.groups.len() =>
                {
                    Task::Finish { record: record(), running: running.clone() }
                }
                _ => {
                    let of = |(job, part): &(JobId, u32)| {
                        let running = self.jobs[&self.numbers[job]].running.clone();
                        (running.expect("it was planned"), *part)
                    };
                    Task::Parts(parts.iter().map(of).collect())
                }
            };
            let state = match task {
                Task::Plan { .. } => State::Planning,
                Task::Parts(_) => State::Running,
                Task::Finish { .. } => State::Finishing,
            };
            for (number, _) in &parts {
                self.jobs.get_mut(&self.numbers[number]).expect("it is there").record.state = state;
            }
            self.under_way[slot] = parts;
            // A thread that is gone has panicked: the service ends with it.
            let _ = self.tasks[slot].send(task);
        }
    }

    /// Hands a job to the lanes: first what it reads is looked up.
    pub(super) fn enter(&mut self, id: &Id) {
        let number = JobId(self.next_number);
        self.next_number += 1;
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.phase = Phase::Plan;
        let spec = spec_of(job, vec![alone(number, PLAN_NS)], None);
        let now = self.now_ns();
        self.numbers.insert(number, id.clone());
        self.by_id.insert(id.clone(), number);
        if let Err(refused) = self.lanes.submit(now, number, spec) {
            self.forget_number(id);
            self.fail(id, refused.to_string());
        }
        self.drain_events();
    }

    /// A job goes on with its parts, in the place that it has.
    fn go_on(&mut self, id: &Id) {
        let (Some(&number), now) = (self.by_id.get(id), self.now_ns()) else { return };
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.phase = Phase::Parts;
        let costs = self.learned.of(&job.record.asked);
        let part = |group: &Group| PartCost {
            predicted_ns: costs.predict_ns(group.rows, &group.views),
            host_bytes: group.bytes + READ_BYTES,
            source: group.source,
        };
        let groups = job.running.iter().flat_map(|running| &running.groups);
        let spec = spec_of(job, groups.map(part).collect(), Some(alone(number, FINISH_NS)));
        if let Err(refused) = self.lanes.extend(now, number, spec) {
            self.fail(id, refused.to_string());
        }
    }

    /// Bringing pieces together takes several turns, so that others get theirs between.
    fn go_on_closing(&mut self, id: &Id) {
        let (Some(&number), now) = (self.by_id.get(id), self.now_ns()) else { return };
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.phase = Phase::Closing;
        let spec = spec_of(job, Vec::new(), Some(alone(number, FINISH_NS)));
        if let Err(refused) = self.lanes.extend(now, number, spec) {
            self.fail(id, refused.to_string());
        }
    }

    fn forget_number(&mut self, id: &Id) {
        if let Some(number) = self.by_id.remove(id) {
            self.numbers.remove(&number);
        }
    }

    /// Where a job stands in the queue.
    pub(super) fn position(&self, id: &Id) -> Option<usize> {
        self.lanes.position(*self.by_id.get(id)?)
    }

    /// Plans a job for what is stored now.
    pub(super) fn begin_anew(&mut self, id: &Id) {
        self.withdraw(id);
        let text = "the job began anew, because what it read had been merged: fetch it again";
        let Some(job) = self.jobs.get_mut(id) else { return };
        if let Some(running) = job.running.take() {
            running.end(Err(refusal(Code::Unavailable, text)));
        }
        (job.parts, job.rows, job.bytes) = Default::default();
        let asked = job.record.asked.clone();
        match self.freeze(&asked, None) {
            Ok(frozen) => {
                self.jobs.get_mut(id).expect("it is there").fresh = Some(frozen);
                self.enter(id);
            }
            Err(error) => self.fail(id, format!("{error:#}")),
        }
    }

    /// Notes what a job reads: what is stored now, and the log up to a position.
    pub(super) fn freeze(
        &self,
        asked: &super::record::Asked,
        log_end: Option<isotick_model::LogPosition>,
    ) -> Result<Frozen> {
        let manifest = self.share().manifest();
        let manifest =
            manifest.map_or_else(|| Ok(self.read_manifest()?), Ok::<_, anyhow::Error>)?;
        let snapshot = Snapshot::at(self.folder.clone(), manifest);
        let end = log_end.unwrap_or_else(|| self.shared.log_next());
        let times = scanning::times_of(&self.views_of(asked)?, asked.from_ns, asked.to_ns);
        Ok(snapshot.freeze(&asked.stream, &times, end))
    }

    /// Takes a job from the lanes; what of it is under way comes to nothing.
    pub(super) fn withdraw(&mut self, id: &Id) {
        if let Some(&number) = self.by_id.get(id) {
            let now = self.now_ns();
            if !self.lanes.release(now, number) {
                let _ = self.lanes.cancel(now, number);
            }
            self.forget_number(id);
        }
    }

    pub(super) fn fail(&mut self, id: &Id, error: String) {
        tracing::warn!("job {id} failed: {error}");
        self.withdraw(id);
        self.end(id, State::Failed, Some(error));
    }

    /// A job is over.
    pub(super) fn end(&mut self, id: &Id, state: State, error: Option<String>) {
        let kept_ns = i64::try_from(self.kept.as_nanos()).unwrap_or(i64::MAX);
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.phase = Phase::Over;
        job.record.seconds = job.seconds();
        job.since = None;
        job.record.state = state;
        job.record.error = error;
        job.record.finished_ns = Some(now_ns());
        job.record.kept_until_ns = job.record.finished_ns.map(|ns| ns.saturating_add(kept_ns));
        let json = job.to_json(None, false).to_string();
        if let Some(running) = job.running.take() {
            running.end(match state {
                State::Done => Ok(json),
                _ => Err(why_none(&job.record)),
            });
        }
        self.keep(id);
        // What failed is tried again from its pieces.
        if state != State::Failed {
            self.store.clear(id);
        }
        let waiting = self.jobs.get_mut(id).map(|job| std::mem::take(&mut job.fetches));
        for (fetch, feed) in waiting.into_iter().flatten() {
            self.fetch(id, fetch, feed);
        }
        self.tell(true);
    }

    /// Keeps a job's record as it is.
    pub(super) fn keep(&mut self, id: &Id) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.shown = None;
        if let Err(error) = self.store.put(&job.record) {
            tracing::error!("job {id} would not outlive a restart: {error:#}");
        }
    }

    /// The service stops: jobs stay as they are on disk, whoever waits is told.
    fn leave(&mut self) {
        let stops = || {
            refusal(Code::ShuttingDown, "the service stops; the job goes on when it starts again")
        };
        for job in self.jobs.values_mut() {
            if let Some(running) = &job.running {
                running.end(Err(stops()));
            }
            job.watchers.drain(..).for_each(|watcher| watcher.feed.refuse(stops()));
            job.fetches.drain(..).for_each(|(_, feed)| feed.refuse(stops()));
            if !job.is_over() {
                job.record.seconds = job.seconds();
                let _ = self.store.put(&job.record);
            }
        }
        self.tasks.clear();
    }
}

/// Why a job has no result.
pub(super) fn why_none(record: &Record) -> isotick_wire::Refusal {
    match record.state {
        State::Cancelled => refusal(
            Code::JobFailed,
            format!("job {} was cancelled; `jobs retry` begins it anew", record.id),
        ),
        _ => {
            let error = record.error.as_deref().unwrap_or("it has no result");
            refusal(Code::JobFailed, format!("job {} failed: {error}", record.id))
        }
    }
}

/// A dispatch that no other job can share.
fn alone(number: JobId, predicted_ns: u64) -> PartCost {
    PartCost { predicted_ns, host_bytes: READ_BYTES, source: u64::MAX - number.0 }
}

fn spec_of(job: &Job, parts: Vec<PartCost>, closing: Option<PartCost>) -> JobSpec {
    JobSpec {
        owner: job.record.owners[0].as_str().into(),
        priority: Priority::new(job.record.priority).unwrap_or_default(),
        held_bytes: job.running.as_ref().map_or(0, |running| held_bytes(running)),
        parts_finished: match job.phase {
            Phase::Parts => job.parts_finished.clone(),
            _ => Vec::new(),
        },
        parts,
        closing,
    }
}

/// What a job holds in memory, about.
fn held_bytes(running: &Running) -> u64 {
    running.open_windows() as u64 * (running.state_bytes + WINDOW_BYTES)
}
