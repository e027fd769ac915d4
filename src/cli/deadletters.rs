//! Arguments about dead letters.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use isotick_model::RejectReason;

use super::{ServiceArgs, TimeNs};

/// `isotick deadletters`.
#[derive(Debug, Args)]
#[command(after_help = "\
Rows that the service rejects, and messages that it cannot decode, are kept as they came in
DIR/deadletters, up to a bound: the oldest go first. Rows that fail at the publisher never reach the
service; they are counted, not kept. All of this works while a service runs on the folder.

Examples:
  isotick deadletters list --data ./data --reason out_of_bounds
  isotick deadletters show 17 --data ./data
  isotick deadletters replay --data ./data --stream trades --dry-run
  isotick deadletters replay --data ./data --stream trades --at 127.0.0.1:7400")]
pub struct DeadLettersArgs {
    /// What to do
    #[command(subcommand)]
    pub command: DeadLettersCommand,
}

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Show what is kept, one line a letter, the oldest first
    List(LettersListArgs),
    /// Show one letter: its rows with reasons and values, and its bytes
    Show(LettersShowArgs),
    /// Publish the rows again, after what was wrong with them has changed
    Replay(LettersReplayArgs),
}

/// Which letters.
#[derive(Clone, Debug, Args)]
pub struct LettersArgs {
    /// The data folder
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Only those for this stream
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,
    /// Only those of this publisher
    #[arg(long, value_name = "ID")]
    pub publisher: Option<String>,
    /// Only rows with this reason, e.g. out_of_bounds
    #[arg(long, value_name = "REASON", value_parser = reason)]
    pub reason: Option<RejectReason>,
    /// Only those that came at or after this time
    #[arg(long, value_name = "T")]
    pub since: Option<TimeNs>,
}

/// `isotick deadletters list`.
#[derive(Debug, Args)]
pub struct LettersListArgs {
    #[command(flatten)]
    pub letters: LettersArgs,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `isotick deadletters show`.
#[derive(Debug, Args)]
pub struct LettersShowArgs {
    /// The letter's number, as `list` shows it
    pub number: u64,
    /// The data folder
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Write the letter's bytes to this file instead of showing the first of them
    #[arg(long, value_name = "FILE")]
    pub raw: Option<PathBuf>,
}

/// `isotick deadletters replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Rows that the stream's definition would still reject stay where they are. The others are published
as `PUBLISHER/replayed` with their own sequences: replaying twice changes nothing. Messages that
could not be decoded are tried again, and left out while they still cannot.")]
pub struct LettersReplayArgs {
    #[command(flatten)]
    pub letters: LettersArgs,
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Only say what would be published, by the definitions that the folder remembers
    #[arg(long)]
    pub dry_run: bool,
    /// Print the outcome as one JSON object
    #[arg(long)]
    pub json: bool,
}

fn reason(text: &str) -> Result<RejectReason, String> {
    let found = RejectReason::ALL.into_iter().find(|reason| reason.name() == text);
    found.ok_or_else(|| {
        let names: Vec<_> = RejectReason::ALL.into_iter().map(RejectReason::name).collect();
        format!("the reasons are {}", names.join(", "))
    })
}
