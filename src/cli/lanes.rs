//! What `isotick serve` gives to scans.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use isotick_model::ByteSize;

use super::{DurationNs, Rate};
use crate::device::DeviceLimits;

const MEMORY: ByteSize = ByteSize(1 << 30);
const RESULTS: ByteSize = ByteSize(16 << 30);
const ROW_GROUPS: ByteSize = ByteSize(1 << 30);
const RUNNING: u32 = 64;
const JOBS: u32 = 10_000;
const KEPT: &str = "24h";
const WAIT: &str = "500us";

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
    /// How long live work may wait for a scan's work on a GPU that both use
    #[arg(long, default_value = WAIT, value_name = "DURATION")]
    pub device_wait: DurationNs,
    /// Columns of history that stay on a GPU, so that scans that read them again move nothing
    /// [default: a quarter of the adapter's largest buffer, 256 MiB to 16 GiB]
    #[arg(long, value_name = "SIZE")]
    pub device_memory_max: Option<ByteSize>,
    /// Memory for the row groups whose columns stay on a GPU: they are not read again either
    #[arg(long, default_value_t = ROW_GROUPS, value_name = "SIZE")]
    pub row_groups_memory_max: ByteSize,
    /// Jobs that are kept or wait, at most: beyond, the oldest finished ones go first, and what is
    /// submitted when all of them wait is refused
    #[arg(long, default_value_t = JOBS, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs_max: u32,
    /// What kept results may take on disk together: the oldest go first
    #[arg(long, default_value_t = RESULTS, value_name = "SIZE")]
    pub results_max: ByteSize,
    /// How long results are kept
    #[arg(long, default_value = KEPT, value_name = "DURATION")]
    pub results_kept: DurationNs,
}

/// `isotick bench jobs`.
#[derive(Debug, Args)]
#[command(after_help = "\
Phases alternate in one run, so that a noisy machine meets all of them alike: live alone, live with
scans on every core, scans alone. Latency is from when the tick that closes a window was due until
the subscriber has it. The exit code is 1 when a result is wrong, not when a target is missed.

Examples:
  isotick bench jobs                             20 million ticks of history, about two minutes
  isotick bench jobs --quick                     small sizes, in seconds
  isotick bench jobs -- --scan-threads 1         what follows -- goes to `isotick serve`")]
pub struct JobsBenchArgs {
    /// Ticks of history
    #[arg(long, default_value = "20000000", value_name = "N")]
    pub ticks: usize,
    /// The pace of live ticks
    #[arg(long, default_value = "100000/s", value_name = "N/s")]
    pub rate: Rate,
    /// The width of live windows
    #[arg(long, default_value = "10ms", value_name = "DURATION")]
    pub width: DurationNs,
    /// How long each phase takes
    #[arg(long, default_value = "5", value_name = "N")]
    pub seconds: NonZeroUsize,
    /// Rounds of phases; medians count
    #[arg(long, default_value = "5", value_name = "N")]
    pub repeat: NonZeroUsize,
    /// Symbols that are published live
    #[arg(long, default_value = "10", value_name = "N")]
    pub symbols: NonZeroUsize,
    /// Small sizes, in seconds
    #[arg(long)]
    pub quick: bool,
    /// Write every figure to this file as well
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Further arguments of `isotick serve`
    #[arg(last = true)]
    pub serve: Vec<String>,
}

impl JobsArgs {
    /// What scans may take of a GPU.
    pub fn device_limits(&self) -> DeviceLimits {
        DeviceLimits {
            wait_max: self.device_wait.to_std(),
            resident_bytes_max: self.device_memory_max.map(|size| size.0),
            row_groups_bytes_max: self.row_groups_memory_max.0,
        }
    }

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
            results_max: RESULTS,
            jobs_max: JOBS,
            device_wait: WAIT.parse().expect("it is a duration"),
            device_memory_max: None,
            row_groups_memory_max: ROW_GROUPS,
            results_kept: KEPT.parse().expect("it is a duration"),
        }
    }
}
