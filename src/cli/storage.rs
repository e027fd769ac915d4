//! What `isotick serve` keeps of what comes in, and how.

use clap::Args;

use isotick_model::ByteSize;
use isotick_storage::log::LogIo;

/// Bounds of log, checkpoints and dead letters.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Storage")]
pub struct StorageArgs {
    /// Log from one checkpoint to the next, at least: a start replays no more than that, or the
    /// size of a checkpoint where that is larger
    #[arg(long, default_value = "16MiB", value_name = "SIZE")]
    pub checkpoint_every: ByteSize,
    /// Log to keep behind the checkpoints: a repeat of a tick that is in it is told from a conflict
    /// after a restart too
    #[arg(long, default_value = "64MiB", value_name = "SIZE")]
    pub log_kept: ByteSize,
    /// How the log is written: `plain` through the page cache, `uring` past it with several commits
    /// under way, for machines that write little else; `auto` is plain
    #[arg(long, default_value = "auto", value_name = "auto|uring|plain")]
    pub log_io: LogIo,
    /// The share of one core that merging history files in the background may take: 0 for none, 1
    /// for all of it
    #[arg(long, default_value = "0.25", value_name = "SHARE", value_parser = share)]
    pub compact_share: f64,
    /// Do not store the views' states beside history: scans of them then read ticks. States are
    /// made in the background, within the share of merging
    #[arg(long)]
    pub no_rollups: bool,
    /// Bytes of refused rows and messages to keep; the oldest go first
    #[arg(long, default_value = "256MiB", value_name = "SIZE")]
    pub dead_letters_max: ByteSize,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is no share: write a number from 0 to 1, e.g. 0.25"))
}

impl Default for StorageArgs {
    /// What the command line says where nothing is said.
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            storage: StorageArgs,
        }
        <Defaults as clap::Parser>::parse_from(["isotick"]).storage
    }
}
