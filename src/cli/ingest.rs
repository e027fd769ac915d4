//! How `isotick serve` lets clients in.

use std::net::SocketAddr;

use clap::Args;
use isotick_ingest::{EdgeConfig, IoChoice};
use isotick_model::ByteSize;

use super::DurationNs;

/// The memory that clients can make a service hold, if nothing else is said.
pub const DEFAULT_MEMORY: ByteSize = ByteSize(1 << 30);

/// Threads, cores and bounds of the ingest edge.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Ingest")]
pub struct IngestArgs {
    /// Threads that receive, decode and answer; each has a socket, and a core of its own
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub ingest_threads: u16,
    /// Leave ingest threads to the operating system instead of pinning each to a core
    #[arg(long)]
    pub no_pin: bool,
    /// Never let ingest threads sleep: least latency, for cores that nothing else needs
    #[arg(long)]
    pub spin: bool,
    /// How datagrams go: `uring`, `socket`, or `auto` for io_uring where the kernel allows it
    #[arg(long, default_value = "auto", value_name = "auto|uring|socket")]
    pub io: IoChoice,
    /// Connections open at a time; further ones are refused and counted
    #[arg(long, default_value_t = 4096, value_name = "N")]
    pub connections_max: usize,
    /// How long a client may take for one message, and keep a connection open without a stream
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    pub message_timeout: DurationNs,
    /// Bytes that clients can make the service hold: sent and unread, in flight to log and
    /// windows, and waiting for subscribers; further ones wait at the clients
    #[arg(long, default_value_t = DEFAULT_MEMORY, value_name = "SIZE")]
    pub memory_max: ByteSize,
}

impl IngestArgs {
    /// The edge's settings.
    pub fn config(&self, listen: SocketAddr) -> EdgeConfig {
        EdgeConfig {
            threads: self.ingest_threads.into(),
            pin: !self.no_pin,
            spin: self.spin,
            io: self.io,
            connections_max: self.connections_max,
            message_timeout: self.message_timeout.to_std(),
            ..EdgeConfig::new(listen)
        }
    }
}
