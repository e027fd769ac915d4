//! The arguments of scans that a running service makes: `isotick jobs`, and `isotick scan --at`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use isotick_client::JobId;

use super::{ConnectArgs, EngineChoice, OutputArgs, SelectionArgs, ServiceArgs};

/// `isotick jobs`.
#[derive(Debug, Args)]
#[command(after_help = "\
A job is a scan that the service makes of its own history, up to the moment of the submission. It
goes on without anybody waiting, through restarts of the service too, and its result is kept for a
while. The same submission is the same job: nothing is computed twice. Live windows do not wait for
jobs; jobs of different owners get equal shares of what is left.

A job is queued, planning, running, finishing; then done, failed or cancelled.

Where the service asks for tokens, submitting needs the right to scan; one sees and changes one's
own jobs, and all of them with the right to administer.

Examples:
  isotick jobs submit bars_1m --from 2024-01-02        prints the job's id
  isotick jobs list
  isotick jobs watch 3f9c2ab04d5e6f71
  isotick jobs fetch 3f9c2ab04d5e6f71 -o bars.parquet
  isotick scan bars_1m --at 127.0.0.1:7400             the same in one: submit, wait, fetch")]
pub struct JobsCommandArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: JobsCommand,
}

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// Have the service scan views, and print the job's id
    Submit(Box<JobSubmitArgs>),
    /// List the jobs, newest first
    List(JobListArgs),
    /// Show everything about a job
    Show(JobArgs),
    /// Follow a job until it is over; the exit code says whether it is done
    Watch(JobWatchArgs),
    /// End a job
    Cancel(JobArgs),
    /// Try the failed parts of a failed job again, or begin a cancelled one anew
    Retry(JobArgs),
    /// Write a job's windows, waiting until it is done
    Fetch(Box<JobFetchArgs>),
}

/// `isotick jobs submit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Times are RFC 3339 (2024-01-02T14:30:00Z), dates (2024-01-02) or integer nanoseconds; --from and
--to select whole windows by their start, --to is exclusive.

The id is printed on standard output, for scripts:
  id=$(isotick jobs submit bars_1m bars_1h) && isotick jobs fetch $id -o '{view}.parquet'")]
pub struct JobSubmitArgs {
    /// The views, all of one stream
    #[arg(required = true, value_name = "VIEW")]
    pub views: Vec<String>,
    /// The service's address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    pub at: String,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// The engine; `gpu` runs there or fails
    #[arg(long, default_value = "auto")]
    pub engine: EngineChoice,
    /// Read ticks, whatever states of windows and earlier results there are
    #[arg(long)]
    pub no_rollup: bool,
    /// Which of your jobs goes first: 9 before 0
    #[arg(long, value_name = "0-9", default_value = "5", value_parser = clap::value_parser!(u8).range(0..=9))]
    pub priority: u8,
    /// Print the job as one JSON object instead of its id
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub connect: ScanConnectArgs,
}

/// `isotick jobs list`.
#[derive(Debug, Args)]
pub struct JobListArgs {
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `isotick jobs show`, `cancel` and `retry`.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// The job, as `submit` and `list` name it
    #[arg(value_parser = job_id)]
    pub id: JobId,
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `isotick jobs watch`.
#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal a bar shows how far the job is; elsewhere a line is printed whenever it got on. A
lost connection is tried again. Ctrl-C ends the watching, not the job.")]
pub struct JobWatchArgs {
    /// The job, as `submit` and `list` name it
    #[arg(value_parser = job_id)]
    pub id: JobId,
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Print one JSON object a line whenever the job got on
    #[arg(long)]
    pub json: bool,
}

/// `isotick jobs fetch`.
#[derive(Debug, Args)]
#[command(after_help = "\
What arrives is hashed here as well: a result whose hash is not the job's is an error.

With --partial windows are written while the scan runs, each once, with its final values, in the
order in which they become ready; there is no hash then.")]
pub struct JobFetchArgs {
    /// The job, as `submit` and `list` name it
    #[arg(value_parser = job_id)]
    pub id: JobId,
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Write windows as parts of the scan finish, in no promised order
    #[arg(long, conflicts_with = "hash")]
    pub partial: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `isotick scan` needs for a service's scan.
#[derive(Debug, Args)]
#[command(next_help_heading = "By a service")]
pub struct RemoteArgs {
    /// Have the service at this address scan its history, and wait for the result
    #[arg(
        long,
        value_name = "ADDR",
        conflicts_with_all = ["data", "file", "config", "map", "time_unit", "skip_damaged", "threads"]
    )]
    pub at: Option<String>,
    /// Which of your jobs goes first: 9 before 0
    #[arg(
        long,
        value_name = "0-9",
        default_value = "5",
        requires = "at",
        conflicts_with_all = ["data", "file"],
        value_parser = clap::value_parser!(u8).range(0..=9)
    )]
    pub priority: u8,
    /// Submit only, and print the job's id
    #[arg(long, requires = "at", conflicts_with_all = ["data", "file"])]
    pub detach: bool,
    #[command(flatten)]
    pub connect: ScanConnectArgs,
}

/// As [`ConnectArgs`], where `--key` is a key of the stream.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ScanConnectArgs {
    /// The fingerprint of the service's certificate, printed by `isotick serve`; this or --ca is
    /// needed for addresses other than loopback
    #[arg(long, value_name = "F")]
    pub fingerprint: Option<String>,
    /// The certificates (PEM) of who may have signed the service's, which must then be for the
    /// host of the address
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The bearer token, or @FILE to read it from a file [default: ISOTICK_TOKEN of the
    /// environment]
    #[arg(long, value_name = "TOKEN|@FILE")]
    pub token: Option<String>,
    /// This client's certificate (PEM), for a service that asks for one
    #[arg(long, value_name = "FILE", requires = "cert_key")]
    pub cert: Option<PathBuf>,
    /// The key (PEM) of --cert
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub cert_key: Option<PathBuf>,
}

impl From<ScanConnectArgs> for ConnectArgs {
    fn from(args: ScanConnectArgs) -> Self {
        let ScanConnectArgs { fingerprint, ca, token, cert, cert_key } = args;
        Self { fingerprint, ca, token, cert, key: cert_key }
    }
}

fn job_id(text: &str) -> Result<JobId, String> {
    let wrong = "a job's id has letters, digits, `-` and `_`: `isotick jobs list` shows them";
    JobId::new(text).ok_or_else(|| wrong.to_owned())
}
