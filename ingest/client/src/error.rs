//! What can go wrong between a client and the service.

use std::io;
use std::net::SocketAddr;

use isotick_wire::{DecodeError, EncodeError, Refusal};

/// Why a call failed. [`is_retryable`](Self::is_retryable) says whether connecting again may help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is no address.
    #[error("`{address}` is no address: write HOST:PORT, e.g. 127.0.0.1:7400")]
    Address {
        /// As given.
        address: String,
        /// What the resolver says.
        source: Option<io::Error>,
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
    /// Something answers that is no service of ours, or of another version.
    #[error("{address} answers, but not as an Isotick service of this version: {reason}")]
    Handshake {
        /// Where.
        address: SocketAddr,
        /// What it said.
        reason: String,
    },
    /// The service refused what was asked.
    #[error("refused: {0}")]
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
