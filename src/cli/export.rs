//! The arguments of `isotick export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::history::EngineArgs;
use super::{DefinitionArgs, TimeFormat, TimeNs, TruthChoice};

/// `isotick export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Ticks come in their canonical order: by time, then publisher and sequence, whatever the order in
which they arrived or are stored. So the same ticks give the same bytes, and importing an exported
file gives every view the same hash. They come from history and, while a service runs or before it
has flushed, from its log. Parquet and Arrow have each tick's publisher, its sequence and `seen`
(null: on time; 9223372036854775807: imported; else the watermark that a late tick met); CSV has
time, keys and values only.

Windows come by key and start, as `isotick scan` has them, with the hash of the result.

Values with decimals are decimals (never floats), times are nanoseconds UTC. The file appears when
it is whole: until then it has another name beside its own, and an export that fails or is killed
leaves what was there before.

Examples:
  isotick export --data ./data --stream trades -o trades.parquet
  isotick export --data ./data --stream trades --from 2024-01-02 --to 2024-01-03 --key AAPL \\
    -o aapl.csv.zst
  isotick export --data ./data --view bars_1m -o bars.arrow --json
  isotick export --data ./data --stream trades --format arrow -o - | python3 model.py")]
#[group(id = "what", required = true, multiple = false, args = ["stream", "view"])]
pub struct ExportArgs {
    /// The data folder
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Export the ticks of this stream
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,
    /// Export the windows of this view
    #[arg(long, value_name = "NAME")]
    pub view: Option<String>,
    /// The file to write, replaced if it is there; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// The form of the file [default: by its name: .parquet, .csv, .csv.zst, .arrow]
    #[arg(long)]
    pub format: Option<ExportFormat>,
    /// Compression [default: zstd for Parquet, Arrow files and .csv.zst, none for others]
    #[arg(long)]
    pub codec: Option<ExportCodec>,
    /// Only ticks, or windows that start, at or after this time
    #[arg(long, value_name = "T")]
    pub from: Option<TimeNs>,
    /// Only ticks, or windows that start, before this time
    #[arg(long, value_name = "T")]
    pub to: Option<TimeNs>,
    /// Only these keys (of a key with several columns: its parts as a line of CSV)
    #[arg(long, value_name = "K", num_args = 1..)]
    pub key: Vec<String>,
    /// Of a view: over all ticks as known now, only what live could know, or what came too late
    #[arg(long, default_value = "now", conflicts_with = "stream")]
    pub truth: TruthChoice,
    /// How to print times in CSV
    #[arg(long, default_value = "rfc3339")]
    pub time: TimeFormat,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Print the outcome as one JSON object (on standard error where the file goes to standard
    /// output)
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub definitions: DefinitionArgs,
}

/// How `export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Apache Parquet
    Parquet,
    /// Comma-separated values with a header
    Csv,
    /// An Arrow IPC file; on standard output an Arrow IPC stream
    Arrow,
}

/// How an export is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportCodec {
    /// Not at all
    None,
    /// With Zstandard: Parquet and Arrow column by column, CSV as a whole
    Zstd,
}
