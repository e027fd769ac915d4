//! The arguments of what reads and writes history: import, compact, scan, explain, verify.

use std::path::PathBuf;

use clap::Args;
use isotick_storage::StoreUrl;

use super::{
    DefinitionArgs, EngineChoice, FieldArgs, RangeArgs, RemoteArgs, ScanFormat, SelectionArgs,
    TimeFormat,
};

/// `isotick import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Imported ticks go straight to history; they were never seen live, so `verify` and
`scan --truth seen` leave them out. Importing the same file again, or a file that was published,
changes nothing: its content names its publisher, and rows that the folder holds already are told by
publisher and row number. Under a --publisher of your own the content of such rows is compared, and
rows that differ are counted as conflicting and left out.

A file of any size is read in pieces of --piece-rows, each committed when it is sorted and written.
An import that was killed goes on behind the last of them when the same command is given again.

Formats are told by content, not by name: Parquet; CSV and TSV with a header line; DBN (trades,
tbbo, mbp-1, mbp-10, mbo, bbo, cmbp-1, tcbbo, cbbo and ohlcv, versions 1 to 3). CSV and DBN may be
compressed with gzip or Zstandard. DBN's fields have the names of its schemas, `symbol` comes from
the file's own mappings; take them as they are or with --map:

Examples:
  isotick import trades.parquet --stream trades --data ./data
  isotick import day1.csv.gz day2.csv.zst --stream trades --data ./data
  isotick import glbx.trades.dbn.zst --stream trades --data ./data --map ts=ts_event
  isotick import dump.csv --stream trades --data ./data --dry-run --rejects bad.csv")]
pub struct ImportArgs {
    /// Parquet, CSV or DBN files; the latter two also as .gz or .zst
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The stream to import into
    #[arg(long, value_name = "NAME")]
    pub stream: String,
    /// The data folder, made if it is not there
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// The publisher's name [default: the hash of the file's content]
    #[arg(long, value_name = "ID")]
    pub publisher: Option<String>,
    /// Ticks that are sorted, written and committed together: more make fewer and larger files and
    /// take more memory, some 200 bytes a tick
    #[arg(long, default_value = "1048576", value_name = "N")]
    pub piece_rows: std::num::NonZeroUsize,
    /// Read and check everything, store nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Write every rejected row with its reason to this CSV file
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// Print the outcome as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub definitions: DefinitionArgs,
    #[command(flatten)]
    pub fields: FieldArgs,
}

/// Where a new data folder keeps its history.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Keep history, record, checkpoints and the manifest in this bucket instead of in the data
    /// folder; said when the folder is made, remembered from then on. Credentials and endpoint
    /// come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
    /// AWS_ENDPOINT_URL, AWS_ALLOW_HTTP)
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    pub store: Option<StoreUrl>,
}

/// `isotick compact`.
#[derive(Debug, Args)]
#[command(after_help = "\
Imports and the service write a file for every piece of ticks that they bring: quick to write, but
the ticks of one key then lie in many files. Compacting merges the files of each date into a few
large ones, sorted by key, time, publisher and sequence, so that a scan of some keys reads little
else and a scan of all keys meets each key once. Results do not change, not by a bit.

Run it while no service uses the folder, after an import or once a day is over; dates that are
compact already stay as they are. It needs free space for the largest date once more. Killed at any
point, it leaves the old or the new files in force; the next command that writes to the folder
removes the others. Scans that are running meanwhile go on.

Examples:
  isotick compact --data ./data               every stream
  isotick compact trades --data ./data        one stream")]
pub struct CompactArgs {
    /// Only this stream [default: all]
    #[arg(value_name = "STREAM")]
    pub stream: Option<String>,
    /// The data folder
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Print the outcome as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `isotick scan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Times are RFC 3339 (2024-01-02T14:30:00Z), dates (2024-01-02) or integer nanoseconds; --from and
--to select whole windows by their start, --to is exclusive.

Several views of one stream are computed from one reading of its ticks: --hash prints a line for
each, and -o names a file for each with {view} in its name.

With --at a running service scans its own history, up to this moment, as a job: the windows and the
hash are those of a scan of its folder. Ctrl-C leaves the job running; `isotick jobs --help` says
what can be done with it.

Examples:
  isotick scan bars_1m --at 127.0.0.1:7400 --from 2024-01-02 -o bars.parquet
  isotick scan bars_1m --data ./data --from 2024-01-02 --to 2024-01-03 --key AAPL
  isotick scan bars_1m --data ./data --format parquet -o bars.parquet
  isotick scan bars_1m bars_1h --data ./data -o '{view}.parquet'
  isotick scan bars_1m --file trades.parquet --map ts=time --hash")]
pub struct ScanArgs {
    /// The views, all of one stream
    #[arg(required = true, value_name = "VIEW")]
    pub views: Vec<String>,
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// `isotick bench query`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each call opens the folder or the files anew, reads, reduces, finishes and hashes every window. None
keeps anything for the next one but the process: threads, and memory that it has already. The exit
code is 1 when two calls gave different hashes.

Examples:
  isotick bench query bars_1m --data ./data --no-rollup
  isotick bench query bars_1m bars_1h --file trades.parquet --threads 2 --calls 20 --json query.json")]
pub struct QueryBenchArgs {
    /// The views, all of one stream
    #[arg(required = true, value_name = "VIEW")]
    pub views: Vec<String>,
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// How often to ask
    #[arg(long, default_value = "5", value_name = "N")]
    pub calls: std::num::NonZeroUsize,
    /// Write all figures to this file as well
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Where the windows of a scan go.
#[derive(Clone, Debug, Args)]
pub struct OutputArgs {
    /// How to write the windows [default: table, or parquet for `-o FILE.parquet`]
    #[arg(long)]
    pub format: Option<ScanFormat>,
    /// How to print times
    #[arg(long, default_value = "rfc3339")]
    pub time: TimeFormat,
    /// Write to this file instead of standard output; `{view}` in its name stands for the view's
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print the hash of the result alone; beside an explicit --format the rows are written too
    /// and the hash goes to standard error
    #[arg(long)]
    pub hash: bool,
    /// Print what was read, by which engine and how fast, as JSON on standard error
    #[arg(long)]
    pub stats: bool,
}

/// `isotick rollup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Keeps the exact states of views beside the history: one for each key and window, for every file of
history. A scan whose filter is the same and whose windows are made of whole ones of these then
reads states in place of ticks, of which there are many more, and gives the same bits: bars of an
hour or a day come from the states of bars of a minute. `isotick explain` says what a scan reads;
`isotick scan --no-rollup` reads ticks.

States stand for the ticks of one file, which never changes: what comes later is read as ticks, and
what is merged or dropped takes its states along. Give the command again, without views, to bring
what was asked for once up to date. Where there would be hardly fewer states than ticks, none are
kept. Views with quantiles have no states of fixed size, and read ticks.

Run it while no service uses the folder. Killed at any point, it goes on where it was.

Examples:
  isotick rollup bars_1m --data ./data        the states of one view, for all of its history
  isotick rollup --data ./data                whatever is asked for and not there yet
  isotick rollup bars_1m --data ./data --drop")]
pub struct RollupArgs {
    /// The views [default: those that states were asked for before]
    #[arg(value_name = "VIEW")]
    pub views: Vec<String>,
    /// The data folder
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Remove the states of these views, or of all, and keep none of them any more
    #[arg(long)]
    pub drop: bool,
    /// CPU threads [default: one per core]
    #[arg(long, value_name = "N")]
    pub threads: Option<std::num::NonZeroUsize>,
    /// Print the outcome as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub definitions: DefinitionArgs,
}

/// What a scan is over.
#[derive(Debug, Args)]
pub struct InputArgs {
    /// The data folder
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    pub data: Option<PathBuf>,
    /// Scan these Parquet, CSV or DBN files in place, importing nothing
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub file: Vec<PathBuf>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Read ticks everywhere, also where stored states of them would give the same (`isotick
    /// rollup`)
    #[arg(long)]
    pub no_rollup: bool,
    /// Leave out files that are damaged, after reading everything once to find them; each is named
    /// [default: a damaged file ends the scan]
    #[arg(long)]
    pub skip_damaged: bool,
    #[command(flatten)]
    pub definitions: DefinitionArgs,
    #[command(flatten)]
    pub fields: FieldArgs,
}

/// What computes.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// The engine; `gpu` runs there or fails
    #[arg(long, default_value = "auto")]
    pub engine: EngineChoice,
    /// CPU threads [default: one per core]
    #[arg(long, value_name = "N")]
    pub threads: Option<std::num::NonZeroUsize>,
}

/// `isotick explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows what `isotick scan` with the same arguments would do: the plan of exact states, what is read
and what stays unread, the engine and what each engine is predicted to cost, from one part that is
read as a sample (a text file is one part). With --measure the scan runs, and what it took stands
beside the prediction.

Examples:
  isotick explain bars_1m --data ./data --key AAPL
  isotick explain bars_1m --file trades.parquet --measure")]
pub struct ExplainArgs {
    /// The view
    pub view: String,
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Run the scan, and show what it took beside what was predicted
    #[arg(long)]
    pub measure: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `isotick verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Scans history for what live could know and compares every closed window with what live published.
Exit code 0 means 0 differences; windows still open are counted apart.")]
pub struct VerifyArgs {
    /// The view
    pub view: String,
    /// The data folder
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    #[command(flatten)]
    pub range: RangeArgs,
    /// The engine of the scan
    #[arg(long, default_value = "auto")]
    pub engine: EngineChoice,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
