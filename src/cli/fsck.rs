//! `isotick fsck`.

use std::path::PathBuf;

use clap::Args;

/// `isotick fsck`.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads everything once: the manifest, every byte of every file of history and record, the
checkpoints and the log. It looks at checksums, order, statistics and counts, and that no tick is
there twice; nothing is changed. Each finding says what to do.

The exit code is 1 when something is wrong.

Examples:
  isotick fsck --data ./data
  isotick fsck --data ./data --json | jq .findings")]
pub struct FsckArgs {
    /// The data folder; a service may be running in it
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}
