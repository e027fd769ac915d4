//! One GPU for the live path and for scans: live work goes first, and waits for a scan's dispatch
//! no longer than was configured, as far as that can be predicted.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
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

/// The devices of a service, opened when they are first needed.
pub struct Devices {
    limits: DeviceLimits,
    /// A hardware GPU, where `auto` would use one.
    hardware: OnceLock<Option<Arc<Shared>>>,
    /// Any adapter, also a software one; or why there is none.
    any: OnceLock<Result<Arc<Shared>, String>>,
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
        Self { limits, hardware: OnceLock::new(), any: OnceLock::new() }
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

    fn hardware(&self) -> Option<&Arc<Shared>> {
        let open = || {
            let engine = engines::hardware_gpu_with(self.limits.resident_bytes_max)?;
            match Shared::new(Box::new(engine), &self.limits) {
                Ok(shared) => Some(Arc::new(shared)),
                // An adapter that fails while it is measured is not worth asking again.
                Err(error) => {
                    tracing::warn!("{error}; everything runs on the CPU engine");
                    None
                }
            }
        };
        self.hardware.get_or_init(open).as_ref()
    }

    fn any(&self) -> Result<Arc<Shared>> {
        if let Some(Some(device)) = self.hardware.get() {
            return Ok(device.clone());
        }
        let open = || {
            let engine = engines::any_gpu_with(self.limits.resident_bytes_max);
            let engine = engine.map_err(|error| format!("{error:#}"))?;
            let shared = Shared::new(Box::new(engine), &self.limits);
            Ok(Arc::new(shared.map_err(|error| error.to_string())?))
        };
        self.any.get_or_init(open).clone().map_err(|error| anyhow!(error))
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
            EngineChoice::Auto => self.hardware().cloned(),
            EngineChoice::Gpu => self.any().ok(),
        });
        match device {
            Some(device) => device.rows.read(part),
            None => Ok(Box::new(part.read()?)),
        }
    }

    fn opened(&self) -> impl Iterator<Item = &Arc<Shared>> {
        let hardware = self.hardware.get().and_then(Option::as_ref);
        let any = self.any.get().and_then(|any| any.as_ref().ok());
        hardware.into_iter().chain(any)
    }

    /// The devices that are open.
    pub fn status(&self) -> Vec<DeviceStatus> {
        self.opened().map(|device| device.state().lane.status()).collect()
    }

    /// What stays on the open devices, and of their row groups in memory.
    pub fn resident(&self) -> Vec<(Holding, Status)> {
        let holding = |device: &Shared| *device.holding();
        self.opened().map(|device| (holding(device), device.rows.status())).collect()
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
    fn new(mut engine: Box<dyn Engine>, limits: &DeviceLimits) -> Result<Self, EngineError> {
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
            engine: Mutex::new(engine),
            costs,
            cpu_costs: placing::costs(&mut CpuEngine)?,
            state: Mutex::new(State { lane, holder: None }),
            passed: Condvar::new(),
            started: Instant::now(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        for number in self.rows.take_gone() {
            engine.release(number);
        }
        let reduced = work(&mut **engine);
        *self.holding() = engine.holding().unwrap_or_default();
        drop(engine);
        self.release(ticket);
        if reduced.is_err() {
            self.rows.clear();
        }
        reduced
    }

    fn holding(&self) -> MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use isotick_kernels::Partitioner;
    use isotick_model::PublisherId;
    use isotick_model::definitions::{Definitions, template};

    use super::*;
    use crate::market::Market;

    const LIMITS: DeviceLimits = DeviceLimits {
        wait_max: Duration::from_millis(1),
        resident_bytes_max: None,
        row_groups_bytes_max: 1 << 20,
    };

    /// The CPU engine, slowly, one at a time; notes the largest dispatch of scans.
    struct Slow {
        busy: Arc<AtomicBool>,
        largest: Arc<AtomicU64>,
    }

    impl Engine for Slow {
        fn kind(&self) -> EngineKind {
            EngineKind::Gpu
        }

        fn describe(&self) -> String {
            "slow".to_owned()
        }

        fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
            self.slowly(runs.ticks.len(), || CpuEngine.reduce(plan, runs))
        }

        fn takes_groups(&self) -> bool {
            true
        }

        fn reduce_groups(&mut self, plan: &Plan, groups: &Groups) -> Reduced {
            self.slowly(groups.ticks.len(), || CpuEngine.reduce_groups(plan, groups))
        }
    }

    impl Slow {
        fn slowly(&self, rows: usize, reduce: impl FnOnce() -> Reduced) -> Reduced {
            assert!(!self.busy.swap(true, Ordering::SeqCst), "one dispatch at a time");
            let rows = rows as u64;
            std::thread::sleep(Duration::from_nanos(rows * 200));
            self.largest.fetch_max(rows, Ordering::SeqCst);
            let reduced = reduce();
            self.busy.store(false, Ordering::SeqCst);
            reduced
        }
    }

    #[test]
    fn scans_are_cut_for_live_work_and_give_the_same_words() {
        let definitions = Definitions::parse(template::EXAMPLE, "example").unwrap();
        let view = &definitions.views[0];
        let plan = Plan::over(view, definitions.stream(&view.stream).unwrap());
        let partitioner = Partitioner::new(view, &plan);
        let runs = placing::runs(&partitioner, &Market::new(1).next_ticks(40_000));
        let (busy, largest) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let slow = Slow { busy, largest: largest.clone() };
        let shared = Arc::new(Shared::new(Box::new(slow), &LIMITS).unwrap());
        largest.store(0, Ordering::SeqCst);
        let mut in_time_order = Market::new(2).next_ticks(40_000);
        // Two publishers, in turns, of the names that come last and first.
        in_time_order.publishers = ["z", "a"].map(|name| PublisherId::new(name).unwrap()).to_vec();
        in_time_order.publisher = (0..40_000).map(|row| row % 2).collect();
        let mut groups = placing::groups(&partitioner, &in_time_order).unwrap();
        groups.publisher_codes = vec![7, 3];
        let expected = CpuEngine.reduce(&plan, &runs).unwrap();
        let expected_of_groups = CpuEngine.reduce_groups(&plan, &groups).unwrap();
        std::thread::scope(|scope| {
            for lane in [Lane::Scan, Lane::Scan, Lane::Live] {
                let mut engine = OnDevice { device: shared.clone(), lane };
                let (plan, runs, expected) = (&plan, &runs, &expected);
                let (groups, expected_of_groups) = (&groups, &expected_of_groups);
                scope.spawn(move || {
                    for _ in 0..3 {
                        match lane {
                            Lane::Scan => {
                                assert_eq!(engine.reduce(plan, runs).unwrap(), *expected);
                                let of_groups = engine.reduce_groups(plan, groups).unwrap();
                                assert_eq!(of_groups, *expected_of_groups);
                            }
                            Lane::Live => {
                                let few = piece(runs, 0..20);
                                let alone = CpuEngine.reduce(plan, &few).unwrap();
                                assert_eq!(engine.reduce(plan, &few).unwrap(), alone);
                            }
                        }
                    }
                });
            }
        });
        let largest = largest.load(Ordering::SeqCst);
        assert!(largest < 20_000, "{largest} rows went in one dispatch");
        let status = shared.state().lane.status();
        assert_eq!(status.live_grants, 3);
        assert!(status.batch_grants > 6, "{status:?}");
    }
}
