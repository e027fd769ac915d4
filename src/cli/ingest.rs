//! How `isotick serve` lets clients in.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use clap::Args;
use isotick_ingest::{EdgeConfig, IoChoice};

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

/// A number of bytes, written `512MiB`, `1GiB`, `65536`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub usize);

const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("", 0)];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("`{text}` is no size: write 65536, 64KiB, 512MiB or 1GiB");
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text[digits.len()..].trim();
        let shift = UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name));
        let (_, shift) = shift.ok_or_else(invalid)?;
        let count: usize = digits.parse().map_err(|_| invalid())?;
        count.checked_mul(1 << shift).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, shift)| self.0.is_multiple_of(1 << shift));
        let (unit, shift) = whole.copied().unwrap_or(("", 0));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [("0", 0), ("65536", 1 << 16), ("3MiB", 3 << 20), ("1gib", 1 << 30)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
        }
        for text in ["", "MiB", "1.5GiB", "1GB", "-1", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert_eq!(ByteSize(3 << 20).to_string(), "3MiB");
        assert_eq!(ByteSize(1000).to_string(), "1000");
    }
}
