//! One GPU for the live path and for scans: live work goes first, and waits for a scan's dispatch
//! no longer than was configured, as far as that can be predicted.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use isotick_kernels::{
    CpuEngine, Engine, EngineError, EngineKind, Group, Groups, Holding, Partials, Plan,
    PublisherTable, Run, Runs, states,
};
use isotick_scheduler::lanes::{DeviceAnswer, DeviceRefused, DeviceStatus, Ticket};
use isotick_scheduler::{Costs, DeviceLane, OnFailure, Work};
use isotick_storage::Part;

use crate::cli::EngineChoice;
use crate::engines::{self, Placed};
use crate::placing::{self, ByForm};
use crate::resident::{Batches, RowGroups, Status};

use slot::Slot;

mod slot;

/// The devices of a service, opened when they are first needed. One that is lost is opened again:
/// at once the first time, then ever more rarely.
pub struct Devices {
    limits: DeviceLimits,
    opener: Opener,
    /// A hardware GPU, where `auto` would use one.
    hardware: Slot,
    /// Any adapter, also a software one.
    any: Slot,
}

/// Opens a device, or says why there is none.
type Opener = Box<dyn Fn(Which, &DeviceLimits) -> Result<Box<dyn Engine>, String> + Send + Sync>;

/// Which device is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// A hardware GPU.
    Hardware,
    /// Any adapter.
    Any,
}

/// What went wrong on a device, also before it was opened again.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    /// Dispatches that failed.
    pub count: u64,
    /// What was said last.
    pub last: Option<String>,
}

/// An open device as the service's status shows it.
pub struct Shown {
    /// What it is, for people.
    pub description: String,
    /// Who uses it and waits for it.
    pub lane: DeviceStatus,
    /// What went wrong.
    pub failures: Failures,
    /// Whether it is gone; then the CPU engine does its work, or nothing does.
    pub is_lost: bool,
}

/// What a device may take.
#[derive(Clone, Copy, Debug)]
pub struct DeviceLimits {
    /// How long live work may wait for a scan's dispatch.
    pub wait_max: Duration,
    /// Bytes of columns that stay on it; what the adapter suggests where nothing is said.
    pub resident_bytes_max: Option<u64>,
    /// Bytes in memory of the row groups whose columns these are.
    pub row_groups_bytes_max: u64,
}

/// Who asks for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Live,
    Scan,
}

/// An engine for one thread, and what happens when it fails.
pub struct Opened {
    pub engine: Box<dyn Engine>,
    pub on_failure: OnFailure,
}

impl Devices {
    pub fn new(limits: DeviceLimits) -> Self {
        Self::opened_by(limits, |which, limits| {
            let bytes_max = limits.resident_bytes_max;
            match which {
                Which::Hardware => engines::hardware_gpu_with(bytes_max)
                    .map(|engine| Box::new(engine) as Box<dyn Engine>)
                    .ok_or_else(|| "no hardware GPU".to_owned()),
                Which::Any => engines::any_gpu_with(bytes_max)
                    .map(|engine| Box::new(engine) as Box<dyn Engine>)
                    .map_err(|error| format!("{error:#}")),
            }
        })
    }

    /// The same with another way to open them.
    pub fn opened_by(
        limits: DeviceLimits,
        open: impl Fn(Which, &DeviceLimits) -> Result<Box<dyn Engine>, String> + Send + Sync + 'static,
    ) -> Self {
        let (hardware, any) = Default::default();
        Self { limits, opener: Box::new(open), hardware, any }
    }

    /// The chosen engine for a thread of a lane.
    pub fn open(&self, choice: EngineChoice, lane: Lane) -> Result<Opened> {
        let cpu = || Box::new(CpuEngine) as Box<dyn Engine>;
        let engine = match choice {
            EngineChoice::Cpu => cpu(),
            EngineChoice::Auto => match self.hardware() {
                Some(device) => {
                    let gpu = OnDevice { device: device.clone(), lane };
                    let placed = Placed::new(gpu, [device.cpu_costs, device.costs]);
                    let device = device.clone();
                    let again = move |runs: &Runs| device.rows.number_of(&runs.ticks).is_some();
                    Box::new(placed.with_rows_again(again))
                }
                None => cpu(),
            },
            EngineChoice::Gpu => Box::new(OnDevice { device: self.any()?, lane }),
        };
        let on_failure = match choice {
            EngineChoice::Auto => OnFailure::ContinueOnCpu,
            EngineChoice::Cpu | EngineChoice::Gpu => OnFailure::Stop,
        };
        Ok(Opened { engine, on_failure })
    }

    fn hardware(&self) -> Option<Arc<Shared>> {
        self.hardware.get_or_open(|failures| self.shared(Which::Hardware, failures)).ok()
    }

    fn any(&self) -> Result<Arc<Shared>> {
        if let Some(Ok(device)) = self.hardware.opened()
            && !device.is_lost()
        {
            return Ok(device);
        }
        let opened = self.any.get_or_open(|failures| self.shared(Which::Any, failures));
        opened.map_err(|error| anyhow!(error))
    }

    fn shared(&self, which: Which, failures: Arc<Mutex<Failures>>) -> Result<Arc<Shared>, String> {
        let engine = (self.opener)(which, &self.limits)?;
        match Shared::new(engine, &self.limits, failures) {
            Ok(shared) => Ok(Arc::new(shared)),
            // An adapter that fails while it is measured is not worth asking again.
            Err(error) => {
                if which == Which::Hardware {
                    tracing::warn!("{error}; everything runs on the CPU engine");
                }
                Err(error.to_string())
            }
        }
    }

    /// Reads a row group for scans of these choices. Where one of them has a device, the row group
    /// is held, and comes from memory the next time.
    ///
    /// # Errors
    /// Those of [`Part::read`].
    pub fn read(
        &self,
        part: &Part,
        choices: impl IntoIterator<Item = EngineChoice>,
    ) -> isotick_storage::Result<Batches> {
        let device = choices.into_iter().find_map(|choice| match choice {
            EngineChoice::Cpu => None,
            EngineChoice::Auto => self.hardware(),
            EngineChoice::Gpu => self.any().ok(),
        });
        match device {
            Some(device) => device.rows.read(part),
            None => Ok(Box::new(part.read()?)),
        }
    }

    fn opened(&self) -> impl Iterator<Item = Arc<Shared>> {
        [&self.hardware, &self.any].into_iter().filter_map(|slot| slot.opened()?.ok())
    }

    /// The devices that are open, or were.
    pub fn status(&self) -> Vec<Shown> {
        let shown = |device: Arc<Shared>| Shown {
            description: device.description.clone(),
            lane: device.state().lane.status(),
            failures: device.failures().clone(),
            is_lost: device.is_lost(),
        };
        self.opened().map(shown).collect()
    }

    /// What stays on the open devices, and of their row groups in memory.
    pub fn resident(&self) -> Vec<(Holding, Status)> {
        self.opened().map(|device| (*device.holding(), device.rows.status())).collect()
    }
}

/// A device and its queue.
struct Shared {
    engine: Mutex<Box<dyn Engine>>,
    description: String,
    /// Of a dispatch, and of the same on the CPU.
    costs: ByForm,
    cpu_costs: ByForm,
    takes_groups: bool,
    rows: RowGroups,
    /// As it was after the last dispatch.
    holding: Mutex<Holding>,
    failures: Arc<Mutex<Failures>>,
    is_lost: AtomicBool,
    state: Mutex<State>,
    /// Someone else has the device now.
    passed: Condvar,
    started: Instant,
}

struct State {
    lane: DeviceLane,
    holder: Option<Ticket>,
}

impl Shared {
    /// Measured here, and not kept: it takes some milliseconds.
    fn new(
        mut engine: Box<dyn Engine>,
        limits: &DeviceLimits,
        failures: Arc<Mutex<Failures>>,
    ) -> Result<Self, EngineError> {
        let costs = placing::costs(&mut *engine)?;
        let wait_ns_max = u64::try_from(limits.wait_max.as_nanos()).unwrap_or(u64::MAX);
        let holding = engine.holding();
        // Of an engine that holds nothing there is nothing to gain.
        let row_groups_bytes_max = if holding.is_some() { limits.row_groups_bytes_max } else { 0 };
        // What a dispatch takes is bounded by its rows; the engine keeps to the adapter's limits.
        let lane = DeviceLane::new(u64::MAX, wait_ns_max);
        Ok(Self {
            description: engine.describe(),
            takes_groups: engine.takes_groups(),
            rows: RowGroups::new(row_groups_bytes_max),
            holding: Mutex::new(holding.unwrap_or_default()),
            failures,
            is_lost: AtomicBool::new(false),
            engine: Mutex::new(engine),
            costs,
            cpu_costs: placing::costs(&mut CpuEngine)?,
            state: Mutex::new(State { lane, holder: None }),
            passed: Condvar::new(),
            started: Instant::now(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        lock(&self.failures)
    }

    /// Whether it was found to be gone.
    fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Waits for the device. A scan is told when it must be cut first, if it can be.
    fn acquire(
        &self,
        lane: Lane,
        can_be_cut: bool,
        predicted_ns: u64,
        bytes: u64,
    ) -> Result<Ticket, DeviceRefused> {
        let mut state = self.state();
        let now_ns = self.now_ns();
        let answer = match lane {
            Lane::Live => {
                let deadline_ns = now_ns.saturating_add(predicted_ns);
                state.lane.request_live(now_ns, deadline_ns, predicted_ns, bytes)
            }
            Lane::Scan if can_be_cut => state.lane.request_batch(now_ns, predicted_ns, bytes),
            Lane::Scan => state.lane.request_undivided(now_ns, predicted_ns, bytes),
        };
        match answer {
            DeviceAnswer::Refused(why) => Err(why),
            DeviceAnswer::Granted(ticket) => {
                state.holder = Some(ticket);
                Ok(ticket)
            }
            DeviceAnswer::Wait { ticket, .. } => {
                let waits = |state: &mut State| state.holder != Some(ticket);
                drop(self.passed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner));
                Ok(ticket)
            }
        }
    }

    fn release(&self, ticket: Ticket) {
        let mut state = self.state();
        let now_ns = self.now_ns();
        state.holder = state.lane.release(now_ns, ticket);
        if state.holder.is_some() {
            self.passed.notify_all();
        }
    }

    /// Lets the engine do its work, and passes the device on. An engine that failed holds nothing:
    /// neither do we.
    fn run(&self, ticket: Ticket, work: impl FnOnce(&mut dyn Engine) -> Reduced) -> Reduced {
        // Whatever becomes of the work, others wait.
        let turn = Turn { device: self, ticket };
        let mut engine = lock(&self.engine);
        for number in self.rows.take_gone() {
            engine.release(number);
        }
        let reduced = work(&mut **engine);
        *self.holding() = engine.holding().unwrap_or_default();
        let is_lost = engine.is_lost();
        drop(engine);
        drop(turn);
        if let Err(error) = &reduced {
            match is_lost {
                true => self.rows.close(),
                false => self.rows.clear(),
            }
            let mut failures = self.failures();
            failures.count += 1;
            failures.last = Some(error.reason.clone());
            if is_lost && !self.is_lost.swap(true, Ordering::Relaxed) {
                tracing::error!("{error}");
            }
        }
        reduced
    }

    fn holding(&self) -> MutexGuard<'_, Holding> {
        lock(&self.holding)
    }
}

/// A device that is someone's until this goes.
struct Turn<'a> {
    device: &'a Shared,
    ticket: Ticket,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.device.release(self.ticket);
    }
}

/// What is behind these locks is whole at any moment, but for an engine that panicked: it is asked
/// again.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

type Reduced = Result<Partials, EngineError>;

/// A device as one thread of a lane uses it.
struct OnDevice {
    device: Arc<Shared>,
    lane: Lane,
}

impl Engine for OnDevice {
    fn kind(&self) -> EngineKind {
        EngineKind::Gpu
    }

    fn describe(&self) -> String {
        self.device.description.clone()
    }

    fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Reduced {
        let rows = runs.ticks.len();
        let held = self.device.rows.number_of(&runs.ticks);
        let costs = &self.device.costs;
        let costs = held.and(costs.held).unwrap_or(costs.runs);
        let rows_in_runs: usize = runs.runs.iter().map(|run| run.len as usize).sum();
        let work = Work { rows: rows_in_runs as f64, ..placing::work(plan, runs) };
        let predicted_ns = costs.predict_ns(&work);
        let pieces_max = pieces_max(&costs, predicted_ns);
        let bytes = (rows * placing::bytes_per_row(plan)) as u64;
        // One run is not cut: its partial is one.
        let can_be_cut = runs.runs.len() > 1 && pieces_max > 1;
        match self.device.acquire(self.lane, can_be_cut, predicted_ns as u64, bytes) {
            Ok(ticket) => self.device.run(ticket, |engine| match held {
                Some(number) => engine.reduce_held(number, plan, runs),
                None => engine.reduce(plan, runs),
            }),
            Err(DeviceRefused::TooLong { dispatches, .. }) => {
                let mut all = Partials { words: Vec::new(), stride: plan.words() };
                let rows_max = rows_max(rows_in_runs, dispatches.min(pieces_max));
                for place in cut(&runs.runs, rows_max as u32) {
                    let piece = match held {
                        // The rows stay where they are on the device.
                        Some(_) => Runs { runs: runs.runs[place].to_vec(), ..runs.clone() },
                        None => piece(runs, place),
                    };
                    all.words.extend(self.reduce(plan, &piece)?.words);
                }
                Ok(all)
            }
            Err(why) => Err(refused(&why)),
        }
    }

    fn is_lost(&self) -> bool {
        self.device.is_lost()
    }

    fn takes_groups(&self) -> bool {
        self.device.takes_groups
    }

    fn reduce_groups(&mut self, plan: &Plan, groups: &Groups) -> Reduced {
        let rows = groups.ticks.len();
        let work = placing::work_of_groups(plan, groups);
        let costs = self.device.costs.groups.unwrap_or(self.device.costs.runs);
        // A time, a key, the group and its order.
        let bytes = (rows * (placing::bytes_per_row(plan) + 12)) as u64;
        let predicted_ns = costs.predict_ns(&work);
        let pieces_max = pieces_max(&costs, predicted_ns);
        let can_be_cut = rows > 1 && pieces_max > 1;
        match self.device.acquire(self.lane, can_be_cut, predicted_ns as u64, bytes) {
            Ok(ticket) => self.device.run(ticket, |engine| engine.reduce_groups(plan, groups)),
            Err(DeviceRefused::TooLong { dispatches, .. }) => {
                let mut joined = Joined::new(plan, groups);
                let rows_max = rows_max(rows, dispatches.min(pieces_max));
                for first in (0..rows).step_by(rows_max) {
                    let of = first..rows.min(first + rows_max);
                    let (piece, of_groups) = piece_of_groups(groups, of, &joined.codes);
                    let partials = self.reduce_groups(plan, &piece)?;
                    joined.add(plan, &of_groups, &partials);
                }
                Ok(joined.into_partials(plan, &groups.publisher_codes))
            }
            Err(why) => Err(refused(&why)),
        }
    }
}

/// Rows of a piece, where so many pieces are wanted.
fn rows_max(rows: usize, pieces: u64) -> usize {
    rows.div_ceil(usize::try_from(pieces).unwrap_or(usize::MAX).max(2))
}

/// Partials of the groups of a batch, from those of its pieces.
struct Joined {
    partials: Partials,
    /// The batch's publishers; pieces have their codes here.
    publishers: PublisherTable,
    /// Of each of the batch's publishers, its code here.
    codes: Vec<u32>,
}

impl Joined {
    fn new(plan: &Plan, groups: &Groups) -> Self {
        let stride = plan.words();
        let words = vec![0; groups.groups.len() * stride];
        let mut publishers = PublisherTable::default();
        let codes = groups.ticks.publishers.iter().map(|name| publishers.intern(name)).collect();
        Self { partials: Partials { words, stride }, publishers, codes }
    }

    /// Combines the partials of a piece into those of the batch's groups.
    fn add(&mut self, plan: &Plan, of_groups: &[u32], partials: &Partials) {
        let stride = plan.words();
        for (&group, from) in of_groups.iter().zip(partials.words.chunks_exact(stride)) {
            let into = &mut self.partials.words[group as usize * stride..][..stride];
            states::combine(plan, into, from, &self.publishers);
        }
    }

    /// The partials, with the codes that the batch's publishers have for the caller.
    fn into_partials(mut self, plan: &Plan, callers: &[u32]) -> Partials {
        let mut publisher_codes = vec![0; self.codes.len()];
        for (&code, &of_caller) in self.codes.iter().zip(callers) {
            publisher_codes[code as usize] = of_caller;
        }
        for words in self.partials.words.chunks_exact_mut(plan.words()) {
            states::recode_publishers(plan, words, &publisher_codes);
        }
        self.partials
    }
}

/// Some rows of a batch, with their groups and these groups' places in it. Publishers have other
/// codes.
fn piece_of_groups(
    groups: &Groups,
    rows: Range<usize>,
    publisher_codes: &[u32],
) -> (Groups, Vec<u32>) {
    const NONE: u32 = u32::MAX;
    let mut place_of = vec![NONE; groups.groups.len()];
    let (mut of_groups, mut pieces) = (Vec::new(), Vec::<Group>::new());
    let group_of = groups.group_of[rows.clone()].iter().map(|&group| {
        let place = &mut place_of[group as usize];
        if *place == NONE {
            *place = pieces.len() as u32;
            of_groups.push(group);
            pieces.push(Group { rows: 0, ..groups.groups[group as usize] });
        }
        pieces[*place as usize].rows += 1;
        *place
    });
    let group_of = group_of.collect();
    let piece = Groups {
        ticks: groups.ticks.slice(rows),
        group_of,
        groups: pieces,
        publisher_codes: publisher_codes.to_vec(),
        publisher_ranks: groups.publisher_ranks.clone(),
    };
    (piece, of_groups)
}

/// Into how many dispatches work is cut at most: pieces that take less than starting them does are
/// not waited for less, and where the machine is slower than it was when it was measured, all that
/// shrinks is what gets done.
fn pieces_max(costs: &Costs, predicted_ns: f64) -> u64 {
    ((predicted_ns - costs.dispatch_ns) / costs.dispatch_ns.max(1.0)) as u64
}

fn refused(why: &DeviceRefused) -> EngineError {
    EngineError { engine: EngineKind::Gpu, reason: why.to_string() }
}

/// Ranges of runs with about so many rows each, and at least one run.
fn cut(runs: &[Run], rows_max: u32) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut from, mut rows) = (0, 0);
    for (at, run) in runs.iter().enumerate() {
        if at > from && rows + run.len > rows_max {
            ranges.push(from..at);
            (from, rows) = (at, 0);
        }
        rows += run.len;
    }
    ranges.push(from..runs.len());
    ranges
}

fn piece(runs: &Runs, place: Range<usize>) -> Runs {
    let of = &runs.runs[place];
    let first = of[0].start;
    let end = of.last().map_or(first, |last| last.start + last.len);
    Runs {
        ticks: runs.ticks.slice(first as usize..end as usize),
        runs: of.iter().map(|run| Run { start: run.start - first, ..*run }).collect(),
        publisher_codes: runs.publisher_codes.clone(),
    }
}

#[cfg(test)]
mod tests;
