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
    /// A file that was named holds no certificate or key.
    #[error("{} holds no valid {what}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The certificate's time is over.
    #[error(
        "the certificate in {} expired at {at}: clients would refuse it; renew it, then start the \
         service, or send SIGHUP to one that runs",
        path.display()
    )]
    Expired {
        /// The file.
        path: PathBuf,
        /// When, RFC 3339.
        at: String,
    },
    /// The certificate's time has not come.
    #[error(
        "the certificate in {} holds from {at} on: clients would refuse it until then; is this \
         machine's clock right?",
        path.display()
    )]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// When, RFC 3339.
        at: String,
    },
    /// The certificate names no host.
    #[error(
        "the certificate in {} has no subject alternative name: clients check the name that they \
         connect to against those; have it issued with the service's DNS names or addresses",
        path.display()
    )]
    NoNames {
        /// The file.
        path: PathBuf,
    },
    /// The key belongs to another certificate.
    #[error(
        "the key in {} does not belong to the certificate in {}: give the two of one pair, the \
         service's own certificate first in its file",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate could not be made.
    #[error("cannot make a development certificate")]
    Generate {
        /// Why.
        source: rcgen::Error,
    },
}

/// What is wrong with an access file, or with a change to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// It could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// It holds something that is not right.
    #[error("{file}:{line}: {message}")]
    Invalid {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Nothing can be called this.
    #[error("`{name}` is no name for an entry: {rule}")]
    Name {
        /// The name given.
        name: String,
        /// What names look like.
        rule: &'static str,
    },
    /// The name is given already.
    #[error(
        "`{name}` is in {file} already: choose another name, or `isotick access remove {name}` first"
    )]
    Taken {
        /// The name.
        name: String,
        /// The file.
        file: String,
    },
    /// There is no such entry.
    #[error("`{name}` is not in {file}: `isotick access list` shows who is")]
    NoSuchEntry {
        /// The name.
        name: String,
        /// The file.
        file: String,
    },
    /// The entry cannot be cut out by its lines.
    #[error(
        "`{name}` does not stand as a table of its own in {file}: remove it there with an editor"
    )]
    NotATable {
        /// The name.
        name: String,
        /// The file.
        file: String,
    },
    /// No random bytes.
    #[error("the operating system gives no random bytes: no token can be made")]
    Random,
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
