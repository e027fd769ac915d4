//! Which engines run: the user's choice and what this machine has.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use isotick_gpu::{Calibrate, Choice, GpuEngine, Settings};
use isotick_kernels::{CpuEngine, Engine, EngineError, EngineKind, Groups, Partials, Plan, Runs};
use isotick_scheduler::{OnFailure, Work, choose};

use crate::cli::EngineChoice;
use crate::placing::{self, ByForm};

/// Engines for a number of threads.
pub struct Engines {
    /// One per thread. A GPU is shared by all.
    pub workers: Vec<Box<dyn Engine>>,
    /// What happens when one fails.
    pub on_failure: OnFailure,
    /// What runs, for people.
    pub description: String,
}

/// Opens the chosen engine.
///
/// `auto` has both engines measured where there is a hardware GPU and sends each batch to the one
/// that is predicted to be faster; it goes on with the CPU when there is no GPU or it fails. `gpu`
/// takes the adapter that `ISOTICK_ADAPTER` names, or any, and fails when there is none.
pub fn open(choice: EngineChoice, threads: Option<std::num::NonZeroUsize>) -> Result<Engines> {
    let threads = threads.or_else(|| std::thread::available_parallelism().ok());
    let threads = threads.map_or(1, |threads| threads.get());
    let gpu = match choice {
        EngineChoice::Cpu => None,
        EngineChoice::Auto => hardware_gpu(),
        EngineChoice::Gpu => Some(any_gpu()?),
    };
    let on_failure = match choice {
        EngineChoice::Auto => OnFailure::ContinueOnCpu,
        EngineChoice::Cpu | EngineChoice::Gpu => OnFailure::Stop,
    };
    let cpu = || Box::new(CpuEngine) as Box<dyn Engine>;
    let workers: Vec<Box<dyn Engine>> = match gpu {
        None => (0..threads).map(|_| cpu()).collect(),
        Some(gpu) => {
            let mut gpu = Shared(Arc::new(Mutex::new(Box::new(gpu))));
            // Measured here, and not kept: it takes some milliseconds.
            let costs = match choice {
                EngineChoice::Auto => {
                    Some([placing::costs(&mut CpuEngine), placing::costs(&mut gpu)])
                }
                EngineChoice::Cpu | EngineChoice::Gpu => None,
            };
            if let Some([_, Err(error)]) = &costs {
                eprintln!("isotick: {error}; everything runs on the CPU engine");
            }
            let worker = || match costs {
                Some([Ok(cpu), Ok(on_gpu)]) => {
                    Box::new(Placed::new(gpu.clone(), [cpu, on_gpu])) as Box<dyn Engine>
                }
                // An adapter that fails while it is measured is not worth asking again.
                Some(_) => cpu(),
                None => Box::new(gpu.clone()),
            };
            (0..threads).map(|_| worker()).collect()
        }
    };
    let description = workers[0].describe();
    Ok(Engines { workers, on_failure, description })
}

/// A GPU engine whose variants are measured at the first opening on this adapter.
/// `resident_bytes_max` is what may stay on it.
fn open_gpu(choice: Choice, resident_bytes_max: Option<u64>) -> Result<GpuEngine, EngineError> {
    let calibrate = Calibrate::of_environment(|name| std::env::var_os(name));
    GpuEngine::open_with(Settings { choice, calibrate, resident_bytes_max })
}

/// The adapter that `ISOTICK_ADAPTER` names, else any, also a software one.
pub fn any_gpu() -> Result<GpuEngine> {
    any_gpu_with(None)
}

/// The same, with the bytes of columns that may stay on it.
pub fn any_gpu_with(resident_bytes_max: Option<u64>) -> Result<GpuEngine> {
    let choice = Choice::of_environment(|name| std::env::var_os(name));
    open_gpu(choice, resident_bytes_max)
        .context("--engine gpu was asked for; --engine auto or cpu runs without one")
}

/// The hardware GPU that `auto` would use, where there is one.
pub fn hardware_gpu() -> Option<GpuEngine> {
    hardware_gpu_with(None)
}

/// The same, with the bytes of columns that may stay on it.
pub fn hardware_gpu_with(resident_bytes_max: Option<u64>) -> Option<GpuEngine> {
    open_gpu(Choice::HardwareOnly, resident_bytes_max).ok()
}

/// One engine used by several threads in turn.
#[derive(Clone)]
struct Shared(Arc<Mutex<Box<dyn Engine>>>);

impl Engine for Shared {
    fn kind(&self) -> EngineKind {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).kind()
    }

    fn describe(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).describe()
    }

    fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).reduce(plan, runs)
    }

    fn is_lost(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_lost()
    }

    fn takes_groups(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).takes_groups()
    }

    fn groups_ns_per_row(&self) -> Option<f64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).groups_ns_per_row()
    }

    fn reduce_groups(&mut self, plan: &Plan, groups: &Groups) -> Result<Partials, EngineError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).reduce_groups(plan, groups)
    }
}

/// Sends each batch to the engine that is predicted to be faster, be it in runs or, in time order,
/// in groups: the CPU takes those as they come, and the GPU partitions them on the device.
pub struct Placed<G> {
    gpu: G,
    costs: [ByForm; 2],
    /// Whether rows come again, as far as that is known.
    comes_again: Box<dyn Fn(&Runs) -> bool + Send>,
    /// Which engine reduced the last batch.
    last: EngineKind,
}

impl<G> Placed<G> {
    /// With the costs of the CPU and of the GPU.
    pub fn new(gpu: G, costs: [ByForm; 2]) -> Self {
        Self { gpu, costs, comes_again: Box::new(|_| false), last: EngineKind::Cpu }
    }

    /// The same, told which rows come again.
    pub fn with_rows_again(self, comes_again: impl Fn(&Runs) -> bool + Send + 'static) -> Self {
        Self { comes_again: Box::new(comes_again), ..self }
    }

    fn comes_again(&self, runs: &Runs) -> bool {
        (self.comes_again)(runs)
    }
}

/// Where a batch in groups is predicted to be faster. A GPU that takes runs only gets none.
pub fn choose_for_groups([cpu, gpu]: &[ByForm; 2], work: &Work) -> EngineKind {
    match (cpu.groups, gpu.groups) {
        (Some(cpu), Some(gpu)) if choose(&[cpu, gpu], work) == 1 => EngineKind::Gpu,
        _ => EngineKind::Cpu,
    }
}

impl<G: Engine> Engine for Placed<G> {
    fn kind(&self) -> EngineKind {
        self.last
    }

    fn describe(&self) -> String {
        format!("cpu and {}, by predicted cost", self.gpu.describe())
    }

    fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
        let work = placing::work(plan, runs);
        let [cpu, gpu] = &self.costs;
        // Of rows that come again the device has the columns, from the second time on.
        let gpu = if self.comes_again(runs) { gpu.held.unwrap_or(gpu.runs) } else { gpu.runs };
        match choose(&[cpu.runs, gpu], &work) {
            0 => {
                self.last = EngineKind::Cpu;
                CpuEngine.reduce(plan, runs)
            }
            _ => {
                self.last = EngineKind::Gpu;
                self.gpu.reduce(plan, runs)
            }
        }
    }

    fn takes_groups(&self) -> bool {
        true
    }

    fn reduce_groups(&mut self, plan: &Plan, groups: &Groups) -> Result<Partials, EngineError> {
        self.last = choose_for_groups(&self.costs, &placing::work_of_groups(plan, groups));
        match self.last {
            EngineKind::Cpu => CpuEngine.reduce_groups(plan, groups),
            EngineKind::Gpu => self.gpu.reduce_groups(plan, groups),
        }
    }
}

#[cfg(test)]
mod tests {
    use isotick_kernels::Windows;
    use isotick_model::definitions::{Definitions, template};
    use isotick_scheduler::Costs;

    use super::*;
    use crate::market::Market;

    /// The CPU engine under another name.
    struct Other;

    impl Engine for Other {
        fn kind(&self) -> EngineKind {
            EngineKind::Gpu
        }

        fn describe(&self) -> String {
            "other".to_owned()
        }

        fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
            CpuEngine.reduce(plan, runs)
        }

        fn takes_groups(&self) -> bool {
            true
        }

        fn reduce_groups(&mut self, plan: &Plan, groups: &Groups) -> Result<Partials, EngineError> {
            CpuEngine.reduce_groups(plan, groups)
        }
    }

    #[test]
    fn batches_go_where_they_are_predicted_to_be_fast() {
        let definitions = Definitions::parse(template::EXAMPLE, "example").unwrap();
        let view = Arc::new(definitions.views[0].clone());
        let schema = definitions.stream(&view.stream).unwrap();
        let line =
            |dispatch_ns, row_ns| Costs { dispatch_ns, row_ns, window_ns: 0.0, byte_ns: 0.0 };
        let form = |runs, groups| ByForm { runs, groups, held: None };
        let costs = [
            form(line(0.0, 2.0), Some(line(0.0, 3.0))),
            form(line(1_000.0, 1.0), Some(line(1_000.0, 2.9))),
        ];
        let mut placed = Placed::new(Other, costs);
        let mut alone = Windows::new(view.clone(), schema);
        let mut both = Windows::new(view, schema);
        let mut market = Market::new(1);
        let (cpu, gpu) = (EngineKind::Cpu, EngineKind::Gpu);
        let cases = [
            (900, true, cpu),
            (5_000, true, gpu),
            (5_000, false, cpu),
            (10, true, cpu),
            (20_000, false, gpu),
        ];
        for (rows, by_key, kind) in cases {
            let mut ticks = market.next_ticks(rows);
            if by_key {
                let mut order: Vec<u32> = (0..rows as u32).collect();
                order.sort_by_key(|&row| {
                    let row = row as usize;
                    (ticks.key[row], ticks.ts_event[row], ticks.sequence[row])
                });
                ticks = ticks.take(&order);
            }
            both.update_all(&ticks, &mut placed).unwrap();
            assert_eq!(placed.kind(), kind, "{rows} rows, by key: {by_key}");
            alone.update_all(&ticks, &mut CpuEngine).unwrap();
        }
        assert_eq!(both.rows(), alone.rows());
        // A GPU that takes runs only.
        let costs = [costs[0], form(line(0.0, 0.0), None)];
        let work = Work { rows: 1e9, bytes_per_row: 8.0, windows_per_row: 0.1, resident: false };
        assert_eq!(choose_for_groups(&costs, &work), cpu);
    }
}
