//! What `isotick serve` gives to scans.

use std::num::NonZeroUsize;

use clap::Args;
use isotick_model::ByteSize;

use super::DurationNs;

const MEMORY: ByteSize = ByteSize(1 << 30);
const RUNNING: u32 = 64;
const JOBS: u32 = 10_000;
const KEPT: &str = "24h";

/// Bounds of the scans that clients submit.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Scans")]
pub struct JobsArgs {
    /// Threads that scan, at the lowest priority that there is: live work always goes first
    /// [default: one per core]
    #[arg(long, value_name = "N")]
    pub scan_threads: Option<NonZeroUsize>,
    /// Memory that scans may take together; what does not fit waits in a queue
    #[arg(long, default_value_t = MEMORY, value_name = "SIZE")]
    pub scan_memory_max: ByteSize,
    /// Scans that run at a time; further ones wait in a queue
    #[arg(long, default_value_t = RUNNING, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub scans_running_max: u32,
    /// Jobs that are kept or wait, at most: beyond, the oldest finished ones go first, and what is
    /// submitted when all of them wait is refused
    #[arg(long, default_value_t = JOBS, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs_max: u32,
    /// How long results are kept
    #[arg(long, default_value = KEPT, value_name = "DURATION")]
    pub results_kept: DurationNs,
}

impl JobsArgs {
    /// How many threads scan.
    pub fn threads(&self) -> usize {
        let threads = self.scan_threads.or_else(|| std::thread::available_parallelism().ok());
        threads.map_or(1, NonZeroUsize::get)
    }
}

impl Default for JobsArgs {
    /// What the command line says where nothing is said.
    fn default() -> Self {
        Self {
            scan_threads: None,
            scan_memory_max: MEMORY,
            scans_running_max: RUNNING,
            jobs_max: JOBS,
            results_kept: KEPT.parse().expect("it is a duration"),
        }
    }
}
