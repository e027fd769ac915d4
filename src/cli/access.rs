//! Arguments about who may do what.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{DurationNs, TimeNs};

/// What `serve` is told about certificates and rights.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Security")]
pub struct SecurityArgs {
    /// Who may do what [default: DIR/access.toml where it exists]; see `isotick access --help`
    #[arg(long, value_name = "FILE")]
    pub access: Option<PathBuf>,
    /// Let everybody do everything, on an address that others can reach too
    #[arg(long, conflicts_with = "access")]
    pub open: bool,
    /// The service's certificate chain, PEM [default: a development certificate below DIR]
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The key of --cert, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Ask clients for a certificate that one in this PEM file vouches for
    #[arg(long, value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is let in by its token
    #[arg(long, default_value = "optional", requires = "client_ca")]
    pub client_auth: ClientAuth,
}

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ClientAuth {
    /// They may; a token does as well
    #[default]
    Optional,
    /// They must; the handshake refuses others
    Required,
}

/// `isotick access`.
#[derive(Debug, Args)]
#[command(after_help = "\
The rules are a file, DIR/access.toml: one table per token or client certificate with its rights.
It holds hashes of tokens, never a token. Names end in `*` to stand for all that begin so. While the
file exists, nothing is allowed that it does not allow. A running service reads it again on SIGHUP,
and ends the sessions that it no longer allows.

Examples:
  isotick access add feed-a --publish trades --publisher 'feed-a*' --data ./data
  isotick access add desk --subscribe 'bars_*' --scan --expires 30d --data ./data
  isotick access add gateway --publish '*' --certificate-name gateway.example --data ./data
  isotick access add ops --admin --data ./data
  isotick access list --data ./data
  isotick access remove desk --data ./data && kill -HUP $(pidof isotick)")]
pub struct AccessArgs {
    /// What to do
    #[command(subcommand)]
    pub command: AccessCommand,
}

/// What can be done with the rules.
#[derive(Debug, Subcommand)]
pub enum AccessCommand {
    /// Let someone in: make a token and print it once, or name a client certificate
    Add(AccessAddArgs),
    /// Show who may do what
    List(AccessListArgs),
    /// Take someone's rights away
    Remove(AccessRemoveArgs),
}

/// `isotick access add`.
#[derive(Debug, Args)]
#[command(after_help = "\
The token goes to standard output and is kept nowhere: what is lost is replaced with `remove` and
`add`. Clients show it with --token @FILE or in the environment variable ISOTICK_TOKEN.")]
pub struct AccessAddArgs {
    /// What operators call them: letters, digits, `-` and `_`
    pub name: String,
    /// Streams to publish to; `*` for all, `fx_*` for those that begin so
    #[arg(long, value_name = "STREAM", num_args = 1.., value_delimiter = ',')]
    pub publish: Vec<String>,
    /// Names to publish under [default: any]
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    pub publisher: Vec<String>,
    /// Views to subscribe to
    #[arg(long, value_name = "VIEW", num_args = 1.., value_delimiter = ',')]
    pub subscribe: Vec<String>,
    /// Allow to read all history and definitions
    #[arg(long)]
    pub scan: bool,
    /// Allow everything, the service's status included
    #[arg(long)]
    pub admin: bool,
    /// When the rights end: after a duration such as 30d, or at a time
    #[arg(long, value_name = "DURATION|TIME")]
    pub expires: Option<Expiry>,
    /// Instead of a token: the common or an alternative name in a client certificate
    #[arg(long, value_name = "NAME", conflicts_with = "certificate_fingerprint")]
    pub certificate_name: Option<String>,
    /// Instead of a token: the SHA-256 fingerprint of a client certificate
    #[arg(long, value_name = "F")]
    pub certificate_fingerprint: Option<String>,
    #[command(flatten)]
    pub file: AccessFileArgs,
}

/// `isotick access list`.
#[derive(Debug, Args)]
pub struct AccessListArgs {
    #[command(flatten)]
    pub file: AccessFileArgs,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

/// `isotick access remove`.
#[derive(Debug, Args)]
pub struct AccessRemoveArgs {
    /// Who
    pub name: String,
    #[command(flatten)]
    pub file: AccessFileArgs,
}

/// Which file.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct AccessFileArgs {
    /// The data folder: its access.toml
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The file itself
    #[arg(long, value_name = "FILE")]
    pub access: Option<PathBuf>,
}

/// An end, from now or at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// After this long.
    In(DurationNs),
    /// Then.
    At(TimeNs),
}

impl std::str::FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = text.parse().map(Self::In);
        duration.or_else(|_: String| text.parse().map(Self::At)).map_err(|_: String| {
            "write a duration such as `30d`, or a time such as `2027-01-01T00:00:00Z`".into()
        })
    }
}
