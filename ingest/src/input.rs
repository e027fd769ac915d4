//! What the edge hands to the service, and what it gets back.

use std::ops::RangeInclusive;
use std::sync::Arc;

use isotick_model::results::ResultSchema;
use isotick_model::{PublisherId, Rejected, Ticks};
use isotick_wire::{Ack, Refusal, WindowBatch};
use tokio::sync::{broadcast, oneshot, watch};

/// A session of a client: one QUIC stream. Never used again within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// One thing that a client did. All inputs go through one bounded channel; while it is full, the
/// edge does not read the streams and QUIC's flow control stops the publishers.
///
/// Per session: [`Input::PublisherHello`], then, if it was answered with a welcome, frames in the
/// order sent, at most one [`Input::Finish`], and exactly one [`Input::Left`] as the last.
#[derive(Debug)]
pub enum Input {
    /// A publisher wants in.
    PublisherHello {
        /// Its session.
        session: SessionId,
        /// The stream's name, as the client wrote it.
        stream: String,
        /// Who publishes.
        publisher: PublisherId,
        /// The answer.
        reply: oneshot::Sender<Result<Welcome, Refusal>>,
    },
    /// Rows of a welcomed publisher.
    Frame {
        /// Its session.
        session: SessionId,
        /// Rows that are ticks, of this publisher only; not validated against the schema yet.
        ticks: Ticks,
        /// Rows that failed at the client.
        rejected: Vec<Rejected>,
        /// When the frame had arrived, nanoseconds UTC.
        ts_recv_ns: i64,
    },
    /// A welcomed publisher is done: it becomes idle, and is answered when all it sent is durable.
    Finish {
        /// Its session.
        session: SessionId,
        /// The answer. Dropping it tells the client that the service is unavailable.
        reply: oneshot::Sender<Ack>,
    },
    /// A welcomed publisher's session is over, after a Finish or without one.
    Left {
        /// Its session.
        session: SessionId,
    },
    /// A subscriber wants a view's windows.
    Subscribe {
        /// The view's name, as the client wrote it.
        view: String,
        /// The answer.
        reply: oneshot::Sender<Result<Subscription, Refusal>>,
    },
    /// Someone asks for the counters.
    Status {
        /// The answer: one JSON object.
        reply: oneshot::Sender<String>,
    },
    /// Someone asks for the definitions.
    Definitions {
        /// The answer: TOML.
        reply: oneshot::Sender<String>,
    },
}

/// What a publisher is let in with.
#[derive(Debug)]
pub struct Welcome {
    /// Every row below this sequence is held.
    pub next_sequence: u64,
    /// Rows beyond that are held too.
    pub held: Vec<RangeInclusive<u64>>,
    /// The definitions, TOML.
    pub definitions: String,
    /// The stream's value columns: frames with another number are refused.
    pub columns: usize,
    /// Where the publisher stands. The edge sends the newest value whenever it can, so a slow
    /// client costs nothing. When the sender is dropped, or [`refuse`](Self::refuse) is set, the
    /// session ends.
    pub acks: watch::Receiver<Ack>,
    /// Resolves when the service ends the session, with the reason for the client. Dropping the
    /// sender without a value leaves the session open.
    pub refuse: oneshot::Receiver<Refusal>,
}

/// What a subscriber is let in with.
#[derive(Debug)]
pub struct Subscription {
    /// The columns of the view.
    pub schema: ResultSchema,
    /// The view's windows from now on. Who falls behind the channel's capacity is disconnected,
    /// told how many batches it missed, and counted. When the sender is dropped, the session ends.
    pub batches: broadcast::Receiver<Arc<WindowBatch>>,
    /// The capacity that the channel was made with.
    pub capacity: usize,
}
