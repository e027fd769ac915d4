//! Arguments about the log.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `isotick log`.
#[derive(Debug, Args)]
#[command(after_help = "\
The log holds what the service accepted, in DIR/log. It mends torn ends by itself: what was being
written when process or machine stopped is cut off at the next start, and reported. What was durable
and cannot be read is damage, and no command that writes opens such a log.

  1. `isotick log check` names the file, the byte, and what whole records are left behind it.
  2. Restore that file from a copy if there is one; check again.
  3. Else `isotick log repair` says what would be lost, and does it with --yes. It loses nothing where
     the damage lies before the last checkpoint. What it takes out of the log stays in files beside.

Examples:
  isotick log check --data ./data
  isotick log repair --data ./data
  isotick log repair --data ./data --yes")]
pub struct LogArgs {
    /// What to do
    #[command(subcommand)]
    pub command: LogCommand,
}

/// What can be done with a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Read every frame; the exit code is 1 when the log is damaged
    Check(LogCheckArgs),
    /// Make a damaged log one that can be opened; without --yes only say what it costs
    Repair(LogRepairArgs),
}

/// `isotick log check`.
#[derive(Debug, Args)]
pub struct LogCheckArgs {
    /// The data folder; a service may be at work on it
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `isotick log repair`.
#[derive(Debug, Args)]
pub struct LogRepairArgs {
    /// The data folder; no service may be at work on it
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Do it
    #[arg(long)]
    pub yes: bool,
}

/// `isotick bench log`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each commit is records of 4 KiB, 64 KiB or 1 MiB together, handed to the log and made durable before
they count; next to nothing is spent on encoding them. Files are warm, that is, used again. `plain`
is one commit after another through the page cache; `uring` is past it, with so many commits under
way. Beside each run stands one of fio, if it is installed, on a file in the same folder with the
same size, sync mode and depth: the ratio is that of neighbouring rounds. `amplif` is what the disk
wrote meanwhile, for whichever process, over the bytes of the frames.

Examples:
  isotick bench log
  isotick bench log --dir /mnt/data --repeat 9 --json log.json")]
pub struct LogBenchArgs {
    /// A folder on the disk to measure; what is made there is removed
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Rounds of a second; medians count
    #[arg(long, default_value = "5", value_name = "N")]
    pub repeat: std::num::NonZeroUsize,
    /// One short round of each, without fio and on new files
    #[arg(long)]
    pub quick: bool,
    /// Write all figures to this file as well
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
