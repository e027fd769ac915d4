//! What `isotick serve` keeps of what comes in, and how.

use clap::Args;

use super::ingest::ByteSize;

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
    /// Bytes of refused rows and messages to keep; the oldest go first
    #[arg(long, default_value = "256MiB", value_name = "SIZE")]
    pub dead_letters_max: ByteSize,
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
