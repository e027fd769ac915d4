//! Which windows and ticks are asked for: the same flags wherever windows are scanned.

use anyhow::{Result, bail};
use clap::Args;

use super::{TimeNs, TruthChoice};

/// Windows by their start.
#[derive(Clone, Copy, Debug, Args)]
pub struct RangeArgs {
    /// Only windows that start at or after this time
    #[arg(long, value_name = "T")]
    pub from: Option<TimeNs>,
    /// Only windows that start before this time
    #[arg(long, value_name = "T")]
    pub to: Option<TimeNs>,
}

impl RangeArgs {
    /// The bounds, in nanoseconds UTC.
    ///
    /// # Errors
    /// Nothing lies between them.
    pub fn bounds_ns(&self) -> Result<(Option<i64>, Option<i64>)> {
        let (from, to) = (self.from.map(|from| from.0), self.to.map(|to| to.0));
        if from.zip(to).is_some_and(|(from, to)| from >= to) {
            bail!("--from is not before --to: no window can lie between them");
        }
        Ok((from, to))
    }
}

/// What of the history a scan is over.
#[derive(Clone, Debug, Args)]
pub struct SelectionArgs {
    #[command(flatten)]
    pub range: RangeArgs,
    /// Only these keys (of a key with several columns: its parts as a line of CSV)
    #[arg(long, value_name = "K", num_args = 1..)]
    pub key: Vec<String>,
    /// All ticks as known now, or only what live could know, or only what came too late for it
    #[arg(long, default_value = "now")]
    pub truth: TruthChoice,
}
