//! Operating errors of the edge. Bad data is no error: it is a counted outcome.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use isotick_model::PublisherId;
use isotick_wire::{Code, Refusal};

/// Why the edge did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EdgeError {
    /// Another process listens there.
    #[error(
        "cannot listen on {address}: another process uses this UDP port; stop it or choose \
         another port"
    )]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The machine has no such address.
    #[error(
        "cannot listen on {address}: this machine has no such address; use one of its own, \
         127.0.0.1 for this machine only or 0.0.0.0 for all"
    )]
    AddressNotAvailable {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The port is reserved.
    #[error("cannot listen on {address}: not permitted; ports below 1024 usually need rights")]
    AddressForbidden {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The socket could not be made.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The certificate and its key are not usable together.
    #[error("the certificate and its key cannot be used: are both from one pair?")]
    Tls {
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// The way of IO that was asked for does not work here.
    #[error("datagrams cannot go by `{choice}` on this system: take `--io auto` or `--io socket`")]
    Io {
        /// As asked for.
        choice: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// No threads.
    #[error("cannot start the edge's threads")]
    Threads {
        /// What the operating system says.
        source: io::Error,
    },
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file or the folder could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A file is there and holds no certificate or key.
    #[error(
        "{} holds no valid {what}: {reason}; remove the folder to get a new development \
         certificate, and give its fingerprint to the clients",
        path.display()
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Only one of the two files is there.
    #[error(
        "{} is missing while the other half of the pair is there: put it back, or remove both to \
         get a new development certificate",
        path.display()
    )]
    Half {
        /// The file that is missing.
        path: PathBuf,
    },
    /// The certificate could not be made.
    #[error("cannot make a development certificate")]
    Generate {
        /// Why.
        source: rcgen::Error,
    },
}

/// What the sequencer refuses. Nothing was changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SequencerError {
    /// No such stream is declared.
    #[error("there is no stream `{stream}`; declared are: {declared}")]
    UnknownStream {
        /// The name asked for.
        stream: String,
        /// The names there are.
        declared: String,
    },
    /// Too many publishers.
    #[error("{publishers} publishers are known already, which is the most that fit")]
    TooManyPublishers {
        /// How many.
        publishers: usize,
    },
    /// More rows wait beyond a gap in the sequence than are remembered.
    #[error(
        "publisher `{publisher}` sent {held} rows beyond the missing row {next_sequence}, more \
         than are remembered: send from {next_sequence} again"
    )]
    TooManyGaps {
        /// Whose rows.
        publisher: PublisherId,
        /// The first row that is missing.
        next_sequence: u64,
        /// Rows that would be held beyond it.
        held: u64,
    },
    /// A row lies further beyond a gap than is remembered.
    #[error(
        "publisher `{publisher}` sent row {sequence} while row {next_sequence} is missing, \
         further ahead than is remembered: send from {next_sequence} again"
    )]
    TooFarAhead {
        /// Whose row.
        publisher: PublisherId,
        /// The first row that is missing.
        next_sequence: u64,
        /// The row.
        sequence: u64,
    },
}

impl SequencerError {
    /// The same, as the client is told.
    pub fn to_refusal(&self) -> Refusal {
        let code = match self {
            Self::UnknownStream { .. } => Code::UnknownStream,
            Self::TooManyPublishers { .. } => Code::Busy,
            Self::TooManyGaps { .. } | Self::TooFarAhead { .. } => Code::TooManyGaps,
        };
        Refusal::new(code, self.to_string())
    }
}
