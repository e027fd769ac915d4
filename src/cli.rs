//! The command line: what can be asked and how it is explained.

mod access;
mod connect;
mod deadletters;
mod export;
mod fsck;
mod history;
mod ingest;
mod jobs;
mod lanes;
mod live;
mod log;
mod selection;
mod storage;
mod streams;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::access::{
    AccessAddArgs, AccessArgs, AccessCommand, AccessFileArgs, AccessListArgs, AccessRemoveArgs,
    ClientAuth, Expiry, SecurityArgs,
};
pub use self::connect::{ConnectArgs, ServiceArgs};
pub use self::deadletters::{
    DeadLettersArgs, DeadLettersCommand, LettersArgs, LettersListArgs, LettersReplayArgs,
    LettersShowArgs,
};
pub use self::export::{ExportArgs, ExportCodec, ExportFormat};
pub use self::fsck::FsckArgs;
pub use self::history::{
    CompactArgs, ExplainArgs, ImportArgs, InputArgs, OutputArgs, PlaceArgs, QueryBenchArgs,
    RollupArgs, ScanArgs, VerifyArgs,
};
pub use self::ingest::{DEFAULT_MEMORY, IngestArgs};
pub use self::jobs::{
    JobArgs, JobFetchArgs, JobListArgs, JobSubmitArgs, JobWatchArgs, JobsCommand, JobsCommandArgs,
    RemoteArgs,
};
pub use self::lanes::{JobsArgs, JobsBenchArgs};
pub use self::live::{LiveBenchArgs, PacedRate};
pub use self::log::{LogArgs, LogBenchArgs, LogCheckArgs, LogCommand, LogRepairArgs};
pub use self::selection::{RangeArgs, SelectionArgs};
pub use self::storage::StorageArgs;
pub use self::streams::{StreamsArgs, StreamsCommand, StreamsDropArgs, StreamsListArgs};

/// Market and sensor analytics, live over QUIC and over Parquet history, equal bit for bit.
///
/// Ticks are published over QUIC (or imported from files) into streams. Views aggregate a stream
/// into windows: live as the ticks come, and by scanning the stored history. Both use the same
/// kernels over exact integers, so both give the same bits, and `isotick verify` proves it.
///
/// Start with `isotick demo`: it needs no configuration and shows the whole way of a tick.
#[derive(Debug, Parser)]
#[command(
    name = "isotick",
    version,
    max_term_width = 100,
    after_help = "\
First steps:
  isotick demo                                       everything at once, on built-in ticks
  isotick init --from trades.parquet                 write isotick.toml for your own file
  isotick scan bars_1m --file trades.parquet         bars of a file, nothing stored
  isotick serve --data ./data                        the service; then, in another terminal:
  isotick publish trades.parquet --stream trades --to 127.0.0.1:7400
  isotick verify bars_1m --data ./data               live and history compared, window by window"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole way of a tick: publish, live windows, stored history, scans, one hash
    Demo(DemoArgs),
    /// Run the service: take ticks over QUIC, compute views live, store everything
    Serve(ServeArgs),
    /// Say who may do what: tokens, client certificates and their rights
    Access(AccessArgs),
    /// Show what the service refused, and publish it again
    #[command(name = "deadletters")]
    DeadLetters(DeadLettersArgs),
    /// Ask a running service for rates, watermarks and every counter
    ///
    /// Counters at 0 are only counted; --json names them.
    Status(StatusArgs),
    /// Watch a running service: lanes, queues, memory, lag, latency, rates, jobs
    Top(TopArgs),
    /// Publish files to a running service, from where it stands
    Publish(PublishArgs),
    /// Follow a view's windows as they are published
    Tail(TailArgs),
    /// Bring files into a data folder without a service
    Import(ImportArgs),
    /// Write a stream's ticks or a view's windows to a file for other tools
    Export(ExportArgs),
    /// Merge a data folder's history files into one sorted layout per date
    Compact(CompactArgs),
    /// Keep the exact states of views beside the history, for scans to read in place of ticks
    Rollup(RollupArgs),
    /// Check everything in a data folder, and say what to do about what is wrong
    Fsck(FsckArgs),
    /// Show what is stored of each stream, and drop what is no longer wanted
    Streams(StreamsArgs),
    /// Check the log frame by frame, and repair a damaged one
    Log(LogArgs),
    /// Compute a view over stored history or over foreign files
    Scan(Box<ScanArgs>),
    /// Have a running service scan its history, and see to the scans that it makes
    Jobs(JobsCommandArgs),
    /// Show what a scan would do: plan, reading, engine, predicted and measured cost
    Explain(ExplainArgs),
    /// Compare what live published with a scan of history, window by window
    Verify(VerifyArgs),
    /// Measure engines, batch sizes, scans and the live path on this machine
    Bench(BenchArgs),
    /// List the adapters of this machine, what they offer and which would be used
    Devices(DevicesArgs),
    /// Write a commented configuration
    Init(InitArgs),
}

/// `isotick demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
The exit code is 1 when any two paths differ; the first differing windows are then shown.

Examples:
  isotick demo                              the built-in market, as fast as it goes
  isotick demo --speed 10x --ticks 300000   paced at ten times real time, with latencies
  isotick demo --data trades.parquet        your own ticks; columns are read off the file")]
pub struct DemoArgs {
    /// Publish these files instead of the built-in market
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Compute only this view [default: bars_1s and bars_1m]
    #[arg(long)]
    pub view: Option<String>,
    /// How many ticks to publish; of files, the first rows of each [default: 2000000 of the market,
    /// all of the files]
    #[arg(long, value_name = "N")]
    pub ticks: Option<u64>,
    /// Publish as fast as it goes (`max`) or at a multiple of the ticks' own pace (`10x`)
    #[arg(long, default_value = "max", value_name = "max|Nx")]
    pub speed: Speed,
    /// Keep the data in this new or empty folder [default: a temporary one, removed at the end]
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub definitions: DefinitionArgs,
    #[command(flatten)]
    pub fields: FieldArgs,
}

/// `isotick serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
The service keeps an append-only log, Parquet history, the live windows and a development
certificate below DIR. Stop it with Ctrl-C or SIGTERM; after a crash start it again with the same
folder: it replays the log and goes on where it stood.

On 127.0.0.1 everybody on this machine may do everything until there is an access file. On an
address that others can reach, `isotick access add` says who may do what first. SIGHUP reads
certificates and access file again; a broken one changes nothing and is named on standard error.
Sessions that new rules no longer allow end, and those of clients whose certificate nothing in a new
--client-ca vouches for: name the old and the new authority in it until all have moved.

Examples:
  isotick serve --data ./data
  isotick serve --data ./data --ingest-threads 2 --memory-max 4GiB
  isotick serve --data ./data --listen 0.0.0.0:7400 --cert chain.pem --key key.pem
  isotick serve --data ./data --store s3://bucket/ticks
  isotick serve --data ./data --client-ca ca.pem --client-auth required")]
pub struct ServeArgs {
    /// The data folder, made if it is not there
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// The UDP address to listen on
    #[arg(long, default_value = "127.0.0.1:7400", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// The engine for live windows
    #[arg(long, default_value = "auto")]
    pub engine: EngineChoice,
    /// A publisher that is silent for this long no longer holds the watermark back; with no active
    /// publisher it stays where it is, and open windows wait for the next one
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    pub idle_after: DurationNs,
    #[command(flatten)]
    pub definitions: DefinitionArgs,
    #[command(flatten)]
    pub ingest: IngestArgs,
    #[command(flatten)]
    pub storage: StorageArgs,
    #[command(flatten)]
    pub jobs: JobsArgs,
    #[command(flatten)]
    pub security: SecurityArgs,
}

/// `isotick status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `isotick top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Refreshed every second from what `isotick status --json` prints; q ends it. Where standard output
is no terminal, one frame is printed as text.

  lag    how far a stream's watermark is behind the clock: ticks of older times are late
  step   what the service does to keep up: none; batch_paused, scans wait; larger_batches, live
         ticks are taken in larger groups; backpressure, publishers wait

Examples:
  isotick top --at 127.0.0.1:7400
  isotick top --once | grep p99")]
pub struct TopArgs {
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Print one frame as text and end
    #[arg(long)]
    pub once: bool,
}

/// `isotick publish`.
#[derive(Debug, Args)]
#[command(after_help = "\
A file's publisher defaults to the hash of its content and a tick's sequence to its row number, so
publishing the same file twice changes nothing, and importing it gives the same result. Interrupted,
or after a crash of either side, the same command goes on where the service then stands.

With --datagrams nothing is sent twice: what the network drops is lost, counted by the service, and
holds up nothing that comes after it. That suits telemetry whose newest value counts; at the end
`lost` says how much did not arrive. Bars over such ticks are exact over what did.

At its end, also a failed one, --json prints counts of ticks from the start:
  {\"sent\":…,\"received_through\":…,\"written_through\":…,\"durable_through\":…,\"accepted\":…,
   \"late\":…,\"duplicate\":…,\"conflicting\":…,\"lost\":…,\"missing\":…,\"rejected\":{…}}

Examples:
  isotick publish trades.parquet --stream trades --to 127.0.0.1:7400 --rate 100000/s
  isotick publish trades.parquet --stream trades --to ticks.example.com:7400 \\
    --ca authority.pem --token @token.txt
  isotick publish readings.csv --stream sensors --to 127.0.0.1:7400 --datagrams")]
pub struct PublishArgs {
    /// Parquet, CSV or DBN files (the latter two also as .gz or .zst), published one after another
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The stream to publish to
    #[arg(long, value_name = "NAME")]
    pub stream: String,
    /// The service's address
    #[arg(long, value_name = "ADDR")]
    pub to: String,
    /// The publisher's name, one for one content: rows that the service holds under it are not
    /// sent again [default: the hash of the file's content]
    #[arg(long, value_name = "ID")]
    pub publisher: Option<String>,
    /// Send rows as they stand in the file, or by time (several files are then merged)
    #[arg(long, default_value = "file")]
    pub order: Order,
    /// Send so many ticks a second on average, e.g. 50000/s; after a stall what was due by then
    /// goes at once
    #[arg(long, value_name = "N/s", conflicts_with = "speed")]
    pub rate: Option<Rate>,
    /// Send at a multiple of the ticks' own pace, caught up with in the same way, e.g. 10x, or
    /// `max`
    #[arg(long, value_name = "Nx")]
    pub speed: Option<Speed>,
    /// What to wait for before reporting success
    #[arg(long, default_value = "durable")]
    pub ack: AckLevel,
    /// Fail at the first lost connection instead of resuming
    #[arg(long)]
    pub no_reconnect: bool,
    /// Send rows as datagrams: what is lost on the way is not sent again, and is counted
    #[arg(long)]
    pub datagrams: bool,
    /// Print the outcome as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub fields: FieldArgs,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// `isotick tail`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every window has a place in the order in which its view published: its cursor. --from-cursor N
starts with window N (0 is the first one ever) if the service still keeps it; when `tail` ends with
an error, it says at which cursor to go on.

A subscriber that reads more slowly than windows are published
  disconnect  is told to go: resume at the cursor, by hand or with --resume
  conflate    gets the newest window of each key, and not the ones before it
  block       is waited for, and with it every publisher of the stream, for a bounded time

Examples:
  isotick tail bars_1s --format csv
  isotick tail bars_1s --from-cursor 0 --until-idle 2s --format json
  isotick tail bars_1s --at ticks.example.com:7400 --ca authority.pem --token @token.txt --resume
  isotick tail bars_1s --format arrow -o bars.arrows       pyarrow.ipc.open_stream reads it
  isotick tail bars_1s --format arrow | python3 consume.py")]
pub struct TailArgs {
    /// The view
    pub view: String,
    #[command(flatten)]
    pub service: ServiceArgs,
    /// How to print windows
    #[arg(long, default_value = "table")]
    pub format: TailFormat,
    /// Write to this file, anew, instead of standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How to print times; in Arrow they are timestamps
    #[arg(long, default_value = "rfc3339")]
    pub time: TimeFormat,
    /// End, with success, when nothing came for this long, e.g. 2s
    #[arg(long, value_name = "DURATION")]
    pub until_idle: Option<DurationNs>,
    /// What the service does when this reader does not keep up
    #[arg(long, default_value = "disconnect")]
    pub policy: PolicyChoice,
    /// Start with this window of the view's order [default: the next one published]
    #[arg(long, value_name = "N")]
    pub from_cursor: Option<u64>,
    /// Connect again when the connection is lost, and go on where it was
    #[arg(long)]
    pub resume: bool,
}

/// `isotick bench`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Ticks are made from a seed: the same on every machine. Every figure comes with the hash of its
result; the exit code is 1 when two engines or variants disagree on the same ticks.

  kernels   ticks in memory to finished windows on one thread: rows, keys, skew, order, engine
  batches   one batch at a time: p50 and p99, and from how many rows on which engine is faster
  scan      a stored market: reading and reducing it, against reading it alone
  live      publisher, service and subscriber over QUIC: ticks a second, latency (not in `all`)
  log       durable commits a second and their latency, against fio (not in `all`)
  query     your own view over your own ticks, again and again in one process (not in `all`)

Examples:
  isotick bench --quick
  isotick bench live
  isotick bench kernels --rows 1000000 64000000 --keys 1 1000 100000
  isotick bench all --engine gpu --json gpu.json")]
pub struct BenchArgs {
    /// The live path
    #[command(subcommand)]
    pub other: Option<OtherBench>,
    /// What to measure
    #[arg(default_value = "all")]
    pub what: BenchKind,
    /// Small sizes, in seconds
    #[arg(long)]
    pub quick: bool,
    /// Ticks of the kernel benches [default: 1024 65536 2097152]
    #[arg(long, num_args = 1.., value_name = "N")]
    pub rows: Vec<std::num::NonZeroUsize>,
    /// Keys of the kernel benches [default: 1 1000 100000]
    #[arg(long, num_args = 1.., value_name = "N")]
    pub keys: Vec<std::num::NonZeroUsize>,
    /// `auto`: the CPU, and a hardware GPU where there is one; `gpu`: also a software adapter
    #[arg(long, default_value = "auto")]
    pub engine: EngineChoice,
    /// Threads of the scan [default: one per core]
    #[arg(long, value_name = "N")]
    pub threads: Option<std::num::NonZeroUsize>,
    /// Runs of each; the median counts
    #[arg(long, default_value = "5", value_name = "N")]
    pub repeat: std::num::NonZeroUsize,
    /// Write all figures to this file as well, with machine, driver and date
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Benches with settings of their own.
#[derive(Debug, Subcommand)]
pub enum OtherBench {
    /// Measure publisher, service and subscriber together, over QUIC
    Live(Box<LiveBenchArgs>),
    /// Measure scans as jobs beside the live path: latency, shares, small behind huge, overhead
    Jobs(JobsBenchArgs),
    /// Measure durable commits of the log, against fio
    Log(LogBenchArgs),
    /// Measure your own view over your own ticks, again and again in one process
    Query(Box<QueryBenchArgs>),
}

/// A part of the benches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchKind {
    /// All of them
    All,
    /// Ticks in memory to windows
    Kernels,
    /// Latency by batch size, and the break-even
    Batches,
    /// A stored market
    Scan,
}

/// `isotick devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `isotick init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Read columns, scales and keys off this Parquet, CSV or DBN file
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Where to write
    #[arg(long, default_value = "isotick.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,
}

/// Where the definitions of streams and views come from.
#[derive(Clone, Debug, Args)]
pub struct DefinitionArgs {
    /// Definitions of streams and views [default: ./isotick.toml where it exists, else what the
    /// data folder remembers]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How a file's fields become columns.
#[derive(Clone, Debug, Default, Args)]
pub struct FieldArgs {
    /// Take a declared column from a field of another name
    #[arg(long, value_name = "COLUMN=FIELD", num_args = 1..)]
    pub map: Vec<String>,
    /// The unit of integer times without one of their own: s, ms, us or ns [default: ns]
    #[arg(long, value_name = "UNIT")]
    pub time_unit: Option<isotick_model::time::TimeUnit>,
}

/// An engine by choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// A hardware GPU where there is one, else the CPU
    Auto,
    /// Native code
    Cpu,
    /// WGSL on the best adapter, also a software one
    Gpu,
}

/// Which ticks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TruthChoice {
    /// All ticks, however late
    Now,
    /// What live could know under the view's lateness
    Seen,
    /// What came too late for live, set aside or dropped there
    Late,
}

/// The order in which rows are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// As they stand in the file
    File,
    /// By time, ties as they stand in the file
    Time,
}

/// What a publisher waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum AckLevel {
    /// In the service's memory
    Received,
    /// Handed to the operating system
    Written,
    /// Synced to disk
    Durable,
}

/// What happens to a subscriber that does not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyChoice {
    /// Its session ends; it may resume at its cursor
    Disconnect,
    /// It gets the newest window of each key
    Conflate,
    /// The service waits for it, for a bounded time
    Block,
}

/// How `tail` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TailFormat {
    /// Aligned columns
    Table,
    /// Comma-separated values with a header
    Csv,
    /// One JSON object a line
    Json,
    /// One Arrow IPC stream, a record batch at a time, for programs: not to a terminal
    Arrow,
}

/// How `scan` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScanFormat {
    /// Aligned columns
    Table,
    /// Comma-separated values with a header
    Csv,
    /// One JSON object a line
    Json,
    /// A Parquet file (needs -o)
    Parquet,
}

/// How times are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TimeFormat {
    /// 2024-01-02T14:30:00.000000000Z
    Rfc3339,
    /// Integer nanoseconds UTC
    Ns,
}

/// A pace relative to the ticks' own time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as it goes.
    Max,
    /// A multiple of real time.
    Times(f64),
}

impl std::str::FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.strip_suffix('x').and_then(|number| number.parse().ok());
        match times {
            Some(times) if f64::is_finite(times) && times > 0.0 => Ok(Self::Times(times)),
            _ => Err("write `max`, or a multiple of real time such as `1x` or `0.5x`".into()),
        }
    }
}

/// Ticks per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub u64);

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix("/s").unwrap_or(text).parse() {
            Ok(rate) if rate > 0 => Ok(Self(rate)),
            _ => Err("write ticks a second such as `50000/s`".into()),
        }
    }
}

/// A duration such as `2s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationNs(pub i64);

impl std::str::FromStr for DurationNs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        isotick_model::time::parse_duration(text).map(Self).map_err(|error| error.to_string())
    }
}

impl DurationNs {
    /// As the standard library's type; negative durations are zero.
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.try_into().unwrap_or(0))
    }
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeNs(pub i64);

impl std::str::FromStr for TimeNs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        isotick_model::time::parse_time(text).map(Self).map_err(|error| error.to_string())
    }
}
