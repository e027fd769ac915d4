//! `isotick streams`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::TimeNs;

/// `isotick streams`.
#[derive(Debug, Args)]
pub struct StreamsArgs {
    #[command(subcommand)]
    pub command: StreamsCommand,
}

/// What to do with a data folder's streams.
#[derive(Debug, Subcommand)]
pub enum StreamsCommand {
    /// Show what is stored of each stream
    List(StreamsListArgs),
    /// Drop a stream, or its oldest days
    Drop(StreamsDropArgs),
}

/// `isotick streams list`.
#[derive(Debug, Args)]
pub struct StreamsListArgs {
    /// The data folder; a service may be running in it
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `isotick streams drop`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is dropped is gone: no scan sees it again. Without --yes nothing is done, and what would go is
shown. A service must be stopped before; it brings the log to history when it stops.

With --before only files go whose ticks all lie before that time; a stream whose `retention` is
declared gives up its oldest days by itself while a service runs.

Without it the stream goes with its history, the live records of its views, and its definition and
theirs; a stream of the same name may be declared again.

Examples:
  isotick streams drop trades --data ./data --before 2024-01-01
  isotick streams drop trades --data ./data --yes")]
pub struct StreamsDropArgs {
    /// The stream
    #[arg(value_name = "STREAM")]
    pub stream: String,
    /// The data folder
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Only files whose ticks all lie before this time; the rest stays
    #[arg(long, value_name = "TIME")]
    pub before: Option<TimeNs>,
    /// Do it, instead of showing what would go
    #[arg(long)]
    pub yes: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}
