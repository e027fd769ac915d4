//! What can go wrong between a client and the service.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use isotick_model::{Key, PublisherId};
use isotick_wire::{Code, DecodeError, EncodeError, JobId, REQUEST_BYTES_MAX, Refusal};

/// Why a call failed. [`is_retryable`](Self::is_retryable) says whether connecting again may help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is no address.
    #[error("`{address}` is no address: write HOST:PORT, e.g. 127.0.0.1:7400")]
    Address {
        /// As given.
        address: String,
    },
    /// The address names a host that is not found.
    #[error("the host of `{address}` is not found: check its name, and this machine's network")]
    Host {
        /// As given.
        address: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// A fingerprint that cannot be one.
    #[error("`{text}` is no fingerprint: it has 64 hex digits, as `isotick serve` prints it")]
    FingerprintText {
        /// As given.
        text: String,
    },
    /// Nothing answers.
    #[error("no answer from {address}: is `isotick serve` running there?")]
    Unreachable {
        /// Where.
        address: SocketAddr,
    },
    /// The service's certificate is another one than pinned.
    #[error(
        "the service at {address} has the fingerprint {found}, expected was {expected}: either \
         the service has a new certificate, or something else answers in its place; nothing was \
         sent"
    )]
    FingerprintMismatch {
        /// Where.
        address: SocketAddr,
        /// What was pinned.
        expected: String,
        /// What the service showed.
        found: String,
    },
    /// Not loopback, and nothing pinned.
    #[error(
        "the service at {address} is not on this machine and its certificate is not known here: \
         compare with what `isotick serve` printed and pass `--fingerprint {found}`; nothing was \
         sent"
    )]
    FingerprintNeeded {
        /// Where.
        address: SocketAddr,
        /// What the service showed.
        found: String,
    },
    /// The service's certificate was checked against the authorities and failed.
    #[error(
        "the certificate of the service at {address} {problem} (its fingerprint is {found}); \
         nothing was sent"
    )]
    Certificate {
        /// Where.
        address: SocketAddr,
        /// The fingerprint of what the service showed.
        found: String,
        /// What is wrong with it.
        problem: CertificateProblem,
    },
    /// The service does not accept this client's certificate.
    #[error("the service at {address} refused this client's certificate: {reason}")]
    IdentityRefused {
        /// Where.
        address: SocketAddr,
        /// What the service said of it.
        reason: &'static str,
    },
    /// The client's certificate and key, or the authorities, cannot be used.
    #[error("the certificates given cannot be used: {reason}")]
    Identity {
        /// What is wrong.
        reason: String,
    },
    /// A certificate's or key's file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A file that should hold a certificate or key holds none.
    #[error("{} holds no {what} in PEM form: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Something answers that is no service of ours, or of another version.
    #[error("{address} answers, but not as an Isotick service of this version: {reason}")]
    Handshake {
        /// Where.
        address: SocketAddr,
        /// What it said.
        reason: String,
    },
    /// The service refused what was asked.
    #[error("refused: {0}{hint}", hint = hint(.0))]
    Refused(Refusal),
    /// The service ended the session.
    #[error("the service ended the session: {0}")]
    Ended(Refusal),
    /// The connection broke.
    #[error("the connection to {address} was lost: {reason}")]
    Lost {
        /// Where.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// The service sent bytes that are not understood.
    #[error("the service at {address} sent what this client cannot read")]
    Protocol {
        /// Where.
        address: SocketAddr,
        /// What is wrong with them.
        source: DecodeError,
    },
    /// Rows have another number of values than the stream has columns.
    #[error("stream `{stream}` has {expected} value columns, these rows have {found}")]
    Columns {
        /// The stream.
        stream: String,
        /// Its value columns.
        expected: usize,
        /// The values of the rows.
        found: usize,
    },
    /// A key longer than any may be.
    #[error("a key takes {bytes} bytes, at most {} are allowed", Key::LEN_MAX)]
    KeyTooLong {
        /// Its encoded bytes.
        bytes: usize,
    },
    /// The service's definitions cannot be read, or lack the stream.
    #[error(
        "the service's definitions of stream `{stream}` are not understood: this program is older \
         or newer than the service"
    )]
    Definitions {
        /// The stream.
        stream: String,
    },
    /// The service holds rows beyond missing ones, from an earlier session.
    #[error(
        "publisher `{publisher}` left out row {missing} and sent rows from {held} on: send the \
         missing rows first, or publish under another name"
    )]
    Gap {
        /// The publisher.
        publisher: PublisherId,
        /// The first missing row.
        missing: u64,
        /// The first row held beyond it.
        held: u64,
    },
    /// The service lacks rows that it once acknowledged as durable.
    #[error(
        "the service holds {held} rows of publisher `{publisher}`, but once acknowledged \
         {durable} as durable: it runs on another data folder now"
    )]
    Forgotten {
        /// The publisher.
        publisher: PublisherId,
        /// Rows acknowledged as durable; they are not kept here any more.
        durable: u64,
        /// Rows that the service holds now.
        held: u64,
    },
    /// Somebody else publishes under this publisher's name.
    #[error(
        "the service holds {held} rows of publisher `{publisher}`, of which {sent} come from \
         here: somebody else publishes under this name"
    )]
    Overtaken {
        /// The publisher.
        publisher: PublisherId,
        /// Rows sent from here, or held when this writer began.
        sent: u64,
        /// Rows that the service holds.
        held: u64,
    },
    /// The windows that were asked for are no longer kept for subscribers, or there are none yet.
    #[error(
        "the service cannot send view `{view}` from cursor {cursor} on: {refusal}; what it does \
         not keep any more `isotick scan {view}` computes from history"
    )]
    CursorGone {
        /// The view.
        view: String,
        /// The cursor that was asked for.
        cursor: u64,
        /// What the service says.
        refusal: Refusal,
    },
    /// A view has other columns than before the connection was lost.
    #[error("view `{view}` was changed while the connection was lost: its columns are others now")]
    ViewChanged {
        /// The view.
        view: String,
    },
    /// A job is over without a result.
    #[error("job {id} {how}; `isotick jobs retry {id}` tries it again")]
    JobEnded {
        /// The job.
        id: JobId,
        /// That it failed and why, or that it was cancelled.
        how: String,
    },
    /// What is asked for takes more bytes than a service reads.
    #[error(
        "the request takes {bytes} bytes, at most {REQUEST_BYTES_MAX} are allowed: name fewer keys"
    )]
    RequestTooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// Rows cannot be sent as datagrams.
    #[error(
        "the session with {address} takes no datagrams: ask for them when connecting, from a \
         service that takes them"
    )]
    NoDatagrams {
        /// Where.
        address: SocketAddr,
    },
    /// The ticks cannot be sent.
    #[error("these ticks cannot be sent")]
    Encode(#[from] EncodeError),
    /// The machine gave no socket.
    #[error("cannot open a UDP socket")]
    Socket {
        /// What the operating system says.
        source: io::Error,
    },
}

/// What is wrong with a service's certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// Its time is over.
    #[error("has expired: the service needs a new one")]
    Expired,
    /// Its time has not begun.
    #[error("is not valid yet: compare the clocks of both machines")]
    NotYetValid,
    /// None of the authorities has signed it.
    #[error(
        "is signed by none of the authorities given: pass the file of the one that signed it with \
         `--ca`, or compare the fingerprint and pass that"
    )]
    UnknownAuthority,
    /// It is for another name.
    #[error("is not for the name `{name}`: connect by a name that is in it")]
    OtherName {
        /// The name that was connected to.
        name: String,
    },
    /// Anything else.
    #[error("is not accepted: {reason}")]
    Other {
        /// What TLS says.
        reason: String,
    },
}

/// What to do about a refusal, where the client knows more than the service.
fn hint(refusal: &Refusal) -> &'static str {
    match refusal.code {
        Code::Unauthenticated => " (a token is passed with `--token @FILE` or in ISOTICK_TOKEN)",
        Code::Forbidden => ", or pass another token",
        _ => "",
    }
}

impl ClientError {
    /// Whether the same call may succeed later without a change: wait a little, connect again,
    /// resume where the service then says it stands.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } => true,
            Self::Refused(refusal) | Self::Ended(refusal) => refusal.code.is_retryable(),
            _ => false,
        }
    }
}
