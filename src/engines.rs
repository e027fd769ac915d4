//! Which engines run: the user's choice and what this machine has.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use isotick_gpu::{Calibrate, Choice, GpuEngine, Settings};
use isotick_kernels::{CpuEngine, Engine, EngineError, EngineKind, Partials, Plan, Runs};
use isotick_scheduler::OnFailure;

use crate::cli::EngineChoice;

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
/// `auto` takes a hardware GPU and goes on with the CPU when there is none or it fails; `gpu`
/// takes any adapter and fails when there is none.
pub fn open(choice: EngineChoice, threads: Option<std::num::NonZeroUsize>) -> Result<Engines> {
    let threads = threads.or_else(|| std::thread::available_parallelism().ok());
    let threads = threads.map_or(1, |threads| threads.get());
    let gpu = match choice {
        EngineChoice::Cpu => None,
        EngineChoice::Auto => open_gpu(Choice::HardwareOnly).ok(),
        EngineChoice::Gpu => Some(
            open_gpu(Choice::Any)
                .context("--engine gpu was asked for; --engine auto or cpu runs without one")?,
        ),
    };
    let on_failure = match choice {
        EngineChoice::Auto => OnFailure::ContinueOnCpu,
        EngineChoice::Cpu | EngineChoice::Gpu => OnFailure::Stop,
    };
    let workers: Vec<Box<dyn Engine>> = match gpu {
        Some(gpu) => {
            let gpu = Shared(Arc::new(Mutex::new(Box::new(gpu))));
            (0..threads).map(|_| Box::new(gpu.clone()) as Box<dyn Engine>).collect()
        }
        None => (0..threads).map(|_| Box::new(CpuEngine) as Box<dyn Engine>).collect(),
    };
    let description = workers[0].describe();
    Ok(Engines { workers, on_failure, description })
}

/// A GPU engine whose variants are measured at the first opening on this adapter.
fn open_gpu(choice: Choice) -> Result<GpuEngine, EngineError> {
    let calibrate = Calibrate::of_environment(|name| std::env::var_os(name));
    GpuEngine::open_with(Settings { choice, calibrate, ..Settings::default() })
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
}
