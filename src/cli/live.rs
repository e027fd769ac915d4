//! The arguments of `isotick bench live`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::{DurationNs, Rate};

/// `isotick bench live`.
#[derive(Debug, Args)]
#[command(after_help = "\
A service is started as a process of its own for each measurement, in a temporary folder, on
loopback; a publisher and a subscriber of one view, both in this process, use the client library as
any program would. Ticks are made, and the windows they must give are computed by a plain loop,
before anything is timed.

  flat out  from before the first tick is handed to the client until the last window is decoded
  paced     tick i is due at start + i / rate; each window's latency runs from when the tick that
            closes it was due until the window is decoded by the subscriber, so that every stall
            counts, the publisher's own too (`sent late` shows those apart)

The exit code is 1 when a window is missing or any of its values is wrong.

Examples:
  isotick bench live                             flat out, then paced at 10,000/s and 100,000/s
  isotick bench live --rate 100000/s --width 100ms --seconds 20
  isotick bench live --at 127.0.0.1:7400 --view bars_1s --stream trades
  isotick bench live -- --engine cpu             what follows -- goes to `isotick serve`")]
pub struct LiveBenchArgs {
    /// Ticks of the measurement flat out; 0 leaves it out
    #[arg(long, default_value = "2000000", value_name = "N")]
    pub ticks: usize,
    /// Runs flat out; the median counts
    #[arg(long, default_value = "3", value_name = "N")]
    pub repeat: NonZeroUsize,
    /// The paced measurements, by ticks a second; `none` for none
    #[arg(long, num_args = 1.., value_name = "N/s", default_values = ["10000/s", "100000/s"])]
    pub rate: Vec<PacedRate>,
    /// How long each paced measurement takes
    #[arg(long, default_value = "10", value_name = "N")]
    pub seconds: NonZeroUsize,
    /// The windows' width
    #[arg(long, default_value = "1s", value_name = "DURATION")]
    pub width: DurationNs,
    /// How often the publisher looks what is due: so long a tick may wait for others to go with
    #[arg(long, default_value = "100us", value_name = "DURATION")]
    pub step: DurationNs,
    /// The most ticks of one frame
    #[arg(long, default_value = "8192", value_name = "N")]
    pub frame_rows: NonZeroUsize,
    /// The seed of the market
    #[arg(long, default_value = "1", value_name = "N")]
    pub seed: u64,
    /// Small sizes, in seconds
    #[arg(long)]
    pub quick: bool,
    /// Publish the rows of this Parquet or CSV file (columns ts, symbol, price, size) instead of
    /// the market; its last tick closes every window before it that is to be measured
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Measure a running service instead of starting one: its stream must have the columns that are
    /// published, and its view be of windows by symbol
    #[arg(long, value_name = "ADDR")]
    pub at: Option<SocketAddr>,
    /// The fingerprint of the service's certificate; needed for addresses other than loopback
    #[arg(long, value_name = "F", requires = "at")]
    pub fingerprint: Option<String>,
    /// The running service's stream
    #[arg(long, value_name = "NAME", default_value = "trades", requires = "at")]
    pub stream: String,
    /// The running service's view
    #[arg(long, value_name = "NAME", default_value = "bars", requires = "at")]
    pub view: String,
    /// Write every figure to this file as well
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the windows of the last measurement to this CSV file, with when each was received, in
    /// nanoseconds since the first tick was due
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Further arguments of `isotick serve`
    #[arg(last = true, conflicts_with = "at")]
    pub serve: Vec<String>,
}

/// A rate, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacedRate {
    /// No paced measurement.
    None,
    /// At this rate.
    At(Rate),
}

impl std::str::FromStr for PacedRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            rate => rate.parse().map(Self::At),
        }
    }
}
