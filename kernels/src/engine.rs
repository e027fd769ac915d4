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
