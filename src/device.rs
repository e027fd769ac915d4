//! One GPU for the live path and for scans: live work goes first, and waits for a scan's dispatch
//! no longer than was configured, as far as that can be predicted.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use isotick_kernels::{CpuEngine, Engine, EngineError, EngineKind, Partials, Plan, Run, Runs};
use isotick_scheduler::lanes::{DeviceAnswer, DeviceRefused, DeviceStatus, Ticket};
use isotick_scheduler::{Costs, DeviceLane, OnFailure};

use crate::cli::EngineChoice;
use crate::engines::{self, Placed};
use crate::placing;

/// The devices of a service, opened when they are first needed.
pub struct Devices {
    /// How long live work may wait for a scan's dispatch.
    wait_max: Duration,
    /// A hardware GPU, where `auto` would use one.
    hardware: OnceLock<Option<Arc<Shared>>>,
    /// Any adapter, also a software one; or why there is none.
    any: OnceLock<Result<Arc<Shared>, String>>,
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
    pub fn new(wait_max: Duration) -> Self {
        Self { wait_max, hardware: OnceLock::new(), any: OnceLock::new() }
    }

    /// The chosen engine for a thread of a lane.
    pub fn open(&self, choice: EngineChoice, lane: Lane) -> Result<Opened> {
        let cpu = || Box::new(CpuEngine) as Box<dyn Engine>;
        let engine = match choice {
            EngineChoice::Cpu => cpu(),
            EngineChoice::Auto => match self.hardware() {
                Some(device) => {
                    let gpu = OnDevice { device: device.clone(), lane };
                    Box::new(Placed::new(gpu, [device.cpu_costs, device.costs]))
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
            let engine = engines::hardware_gpu()?;
            match Shared::new(Box::new(engine), self.wait_max) {
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
            let engine = engines::any_gpu().map_err(|error| format!("{error:#}"))?;
            let shared = Shared::new(Box::new(engine), self.wait_max);
            Ok(Arc::new(shared.map_err(|error| error.to_string())?))
        };
        self.any.get_or_init(open).clone().map_err(|error| anyhow!(error))
    }

    /// The devices that are open.
    pub fn status(&self) -> Vec<DeviceStatus> {
        let hardware = self.hardware.get().and_then(Option::as_ref);
        let any = self.any.get().and_then(|any| any.as_ref().ok());
        hardware.into_iter().chain(any).map(|device| device.state().lane.status()).collect()
    }
}

/// A device and its queue.
struct Shared {
    engine: Mutex<Box<dyn Engine>>,
    description: String,
    /// Of a dispatch, and of the same on the CPU.
    costs: Costs,
    cpu_costs: Costs,
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
    fn new(mut engine: Box<dyn Engine>, wait_max: Duration) -> Result<Self, EngineError> {
        let costs = placing::costs(&mut *engine)?;
        let wait_ns_max = u64::try_from(wait_max.as_nanos()).unwrap_or(u64::MAX);
        // What a dispatch takes is bounded by its rows; the engine keeps to the adapter's limits.
        let lane = DeviceLane::new(u64::MAX, wait_ns_max);
        Ok(Self {
            description: engine.describe(),
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

    fn reduce(&self, ticket: Ticket, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
        let reduced = self.engine.lock().unwrap_or_else(PoisonError::into_inner).reduce(plan, runs);
        self.release(ticket);
        reduced
    }
}

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

    fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
        let rows = runs.ticks.len();
        let predicted_ns = self.device.costs.predict_ns(&placing::work(plan, runs)) as u64;
        let bytes = (rows * placing::bytes_per_row(plan)) as u64;
        // One run is not cut: its partial is one.
        let can_be_cut = runs.runs.len() > 1;
        match self.device.acquire(self.lane, can_be_cut, predicted_ns, bytes) {
            Ok(ticket) => self.device.reduce(ticket, plan, runs),
            Err(DeviceRefused::TooLong { dispatches, .. }) => {
                let pieces = usize::try_from(dispatches).unwrap_or(usize::MAX);
                let rows_max = rows.div_ceil(pieces.max(2));
                let mut all = Partials { words: Vec::new(), stride: plan.words() };
                for place in cut(&runs.runs, rows_max as u32) {
                    all.words.extend(self.reduce(plan, &piece(runs, place))?.words);
                }
                Ok(all)
            }
            Err(why) => Err(refused(&why)),
        }
    }
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
    use isotick_model::definitions::{Definitions, template};

    use super::*;
    use crate::market::Market;

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
            assert!(!self.busy.swap(true, Ordering::SeqCst), "one dispatch at a time");
            let rows = runs.ticks.len() as u64;
            std::thread::sleep(Duration::from_nanos(rows * 200));
            self.largest.fetch_max(rows, Ordering::SeqCst);
            let reduced = CpuEngine.reduce(plan, runs);
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
        let shared = Arc::new(Shared::new(Box::new(slow), Duration::from_millis(1)).unwrap());
        largest.store(0, Ordering::SeqCst);
        let expected = CpuEngine.reduce(&plan, &runs).unwrap();
        std::thread::scope(|scope| {
            for lane in [Lane::Scan, Lane::Scan, Lane::Live] {
                let mut engine = OnDevice { device: shared.clone(), lane };
                let (plan, runs, expected) = (&plan, &runs, &expected);
                scope.spawn(move || {
                    for _ in 0..3 {
                        match lane {
                            Lane::Scan => {
                                assert_eq!(engine.reduce(plan, runs).unwrap(), *expected);
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
