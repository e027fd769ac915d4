//! What an engine does: reduce runs to partials.

use std::fmt;

use crate::{Groups, Partials, Plan, Runs};

/// Reduces rows to exact partials. Any engine gives the same words for the same runs.
pub trait Engine: Send {
    /// Which engine this is.
    fn kind(&self) -> EngineKind;

    /// What it runs on, for people: `cpu`, or the adapter's name and driver.
    fn describe(&self) -> String;

    /// One partial per run. An error leaves nothing half done: the caller may hand the same runs
    /// to another engine.
    fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError>;

    /// The same, of rows that come again: equal numbers must come with equal ticks, while plan and
    /// runs may differ. An engine that has memory of its own may hold their columns there.
    fn reduce_held(
        &mut self,
        _number: u64,
        plan: &Plan,
        runs: &Runs,
    ) -> Result<Partials, EngineError> {
        self.reduce(plan, runs)
    }

    /// Holds nothing of these rows any more.
    fn release(&mut self, _number: u64) {}

    /// What is held; `None` where the engine holds nothing ever.
    fn holding(&self) -> Option<Holding> {
        None
    }

    /// Whether its device is gone: then every further call fails.
    fn is_lost(&self) -> bool {
        false
    }

    /// Whether rows that are not in runs should come as groups, instead of being brought into
    /// runs before.
    fn takes_groups(&self) -> bool {
        false
    }

    /// What rows in groups cost more than rows in runs, nanoseconds per row, where the engine has
    /// measured it before.
    fn groups_ns_per_row(&self) -> Option<f64> {
        None
    }

    /// One partial per group. Only called when [`takes_groups`](Self::takes_groups) says so.
    fn reduce_groups(&mut self, _: &Plan, _: &Groups) -> Result<Partials, EngineError> {
        Err(EngineError { engine: self.kind(), reason: "it takes rows in runs only".to_owned() })
    }
}

/// What an engine holds of rows that come again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Batches of which something is held.
    pub batches: usize,
    /// Bytes that are held.
    pub bytes: u64,
    /// The most that may be.
    pub bytes_max: u64,
    /// Columns and tables that were there when they were wanted.
    pub hits: u64,
    /// Such that were not.
    pub misses: u64,
    /// Batches that made room for others.
    pub evictions: u64,
    /// Bytes that were brought to the device so far, be they held or not.
    pub uploaded_bytes: u64,
}

/// The engines there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineKind {
    /// Native code.
    Cpu,
    /// WGSL through wgpu.
    Gpu,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        })
    }
}

/// Why an engine could not reduce. The text names the device and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{engine} engine: {reason}")]
pub struct EngineError {
    /// The engine.
    pub engine: EngineKind,
    /// What went wrong.
    pub reason: String,
}
