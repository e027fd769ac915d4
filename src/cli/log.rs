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
