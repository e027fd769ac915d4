//! How a running service is reached.

use std::path::PathBuf;

use clap::Args;

/// Which service to ask, and how it is told from others.
#[derive(Clone, Debug, Args)]
pub struct ServiceArgs {
    /// The service's address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    pub at: String,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Whose certificate is accepted, and what the service is shown.
///
/// On loopback addresses any certificate is accepted, with a notice. Elsewhere pass `--ca` (the
/// service's certificate must be signed by it and be for the host of the address), or
/// `--fingerprint` (it must be that very certificate), or both.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
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
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The key (PEM) of --cert
    #[arg(long, visible_alias = "cert-key", value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}
