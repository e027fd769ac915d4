//! What the edge hands to the service, and what it gets back.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use isotick_model::results::ResultSchema;
use isotick_model::{PublisherId, Rejected, Ticks};
use isotick_wire::{Ack, Code, Frame, JobRequest, Refusal, Subscribe};

use crate::access::JobOwner;
use crate::edge::Mailbox;
use crate::feed::Feed;
use crate::intake::Permit;
use crate::subscriber::SubscriberQueue;

/// A session of a client: one QUIC stream. Never used again within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// One thing that a client did.
///
/// Per session: [`Input::PublisherHello`], then, if it was answered with a welcome, frames in the
/// order received, at most one [`Input::Finish`], and exactly one [`Input::Left`] as the last.
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
        /// How to reach the session later.
        outlet: Outlet,
        /// The answer.
        reply: Reply<Welcome>,
    },
    /// Rows of a welcomed publisher.
    Frame {
        /// Its session.
        session: SessionId,
        /// Rows that are ticks, of this publisher only; not validated against the schema yet.
        ticks: Ticks,
        /// Rows that failed at the client.
        rejected: Vec<Rejected>,
        /// When the frame came and how far it got.
        stamps: Stamps,
        /// The memory that the rows take; to be kept as long as they are.
        permit: Permit,
    },
    /// Bytes of a welcomed publisher that could not be decoded. Its session ends.
    Undecodable {
        /// Its session.
        session: SessionId,
        /// The message's payload.
        bytes: Bytes,
        /// What is wrong with it.
        reason: String,
        /// When it came, nanoseconds UTC.
        ts_recv_ns: i64,
    },
    /// A welcomed publisher is done: it becomes idle, and is answered when all it sent is durable.
    Finish {
        /// Its session.
        session: SessionId,
        /// How many rows it has numbered, if it said so: what is missing below is lost.
        rows: Option<u64>,
        /// The answer.
        reply: Reply<Ack>,
    },
    /// A welcomed publisher's session is over, after a Finish or without one.
    Left {
        /// Its session.
        session: SessionId,
    },
    /// A subscriber wants a view's windows.
    Subscribe {
        /// What it wants.
        request: Subscribe,
        /// How to reach the session later.
        outlet: Outlet,
        /// The answer.
        reply: Reply<Subscription>,
    },
    /// Someone asks for a scan, or about one.
    Jobs {
        /// What is asked.
        request: JobRequest,
        /// Who asks.
        owner: JobOwner,
        /// Where the answer is put. Dropping it unfinished tells the client that the service
        /// cannot answer.
        feed: Arc<Feed>,
    },
    /// Someone asks for the counters: one JSON object.
    Status {
        /// The answer.
        reply: Reply<String>,
    },
    /// Someone asks for the definitions: TOML.
    Definitions {
        /// The answer.
        reply: Reply<String>,
    },
}

/// When a frame came and how far it got, for the stages' histograms.
#[derive(Clone, Copy, Debug)]
pub struct Stamps {
    /// When the frame had arrived, nanoseconds UTC: the ticks' `ts_recv`.
    pub ts_recv_ns: i64,
    /// When it had arrived whole.
    pub received: Instant,
    /// When it was handed to the service.
    pub queued: Instant,
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
    /// Where the publisher stands.
    pub ack: Ack,
    /// Reads its rows where they come as Arrow.
    pub arrow: ArrowDecoder,
}

/// Reads the payload of an Arrow message of one publisher; rows without a sequence are numbered
/// from the one given on. The text says what is wrong with the payload as a whole. Pure, and
/// called on ingest threads.
#[derive(Clone)]
pub struct ArrowDecoder(pub Arc<DecodeArrow>);

/// See [`ArrowDecoder`].
pub type DecodeArrow = dyn Fn(&[u8], u64) -> Result<Vec<Frame>, String> + Send + Sync;

impl fmt::Debug for ArrowDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrowDecoder").finish_non_exhaustive()
    }
}

/// What a subscriber is let in with.
#[derive(Debug)]
pub struct Subscription {
    /// The columns of the view.
    pub schema: ResultSchema,
    /// The cursor of the first window that will be sent.
    pub cursor: u64,
    /// Where its windows are put.
    pub queue: Arc<SubscriberQueue>,
}

/// The answer to one question of one session. Dropping it tells the client that the service
/// cannot answer.
pub struct Reply<T> {
    to: Option<(SessionId, Arc<Mailbox>)>,
    wrap: fn(Result<T, Refusal>) -> Answer,
}

/// What an ingest thread is told for one of its sessions.
#[derive(Debug)]
pub(crate) enum Answer {
    Welcome(Result<Welcome, Refusal>),
    Subscription(Result<Subscription, Refusal>),
    Status(Result<String, Refusal>),
    Definitions(Result<String, Refusal>),
    Finished(Result<Ack, Refusal>),
    /// A newer ack is in the session's outlet.
    Acked,
    /// The session's queue has something to send, or an end.
    Queued,
    /// The service ends the session.
    Ended(Refusal),
}

impl<T> Reply<T> {
    pub(crate) fn new(
        session: SessionId,
        mailbox: &Arc<Mailbox>,
        wrap: fn(Result<T, Refusal>) -> Answer,
    ) -> Self {
        Self { to: Some((session, mailbox.clone())), wrap }
    }

    /// Answers.
    pub fn send(mut self, answer: Result<T, Refusal>) {
        if let Some((session, mailbox)) = self.to.take() {
            mailbox.post(session, (self.wrap)(answer));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some((session, mailbox)) = self.to.take() {
            mailbox.post(session, (self.wrap)(Err(unavailable())));
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

pub(crate) fn unavailable() -> Refusal {
    Refusal::new(Code::Unavailable, "the service cannot answer now; its own output says why")
}

/// The service's end of a session that stays open.
#[derive(Clone, Debug)]
pub struct Outlet(Arc<OutletState>);

#[derive(Debug)]
struct OutletState {
    session: SessionId,
    mailbox: Arc<Mailbox>,
    /// The newest ack, while the thread has not taken it.
    ack: Mutex<Option<Ack>>,
}

impl Outlet {
    pub(crate) fn new(session: SessionId, mailbox: &Arc<Mailbox>) -> Self {
        Self(Arc::new(OutletState { session, mailbox: mailbox.clone(), ack: Mutex::default() }))
    }

    /// Tells the publisher where it stands. Only the newest ack is kept: a slow client costs
    /// nothing.
    pub fn ack(&self, ack: Ack) {
        let before = self.slot().replace(ack);
        if before.is_none() {
            self.0.mailbox.post(self.0.session, Answer::Acked);
        }
    }

    /// Ends the session, with the reason for the client.
    pub fn end(&self, refusal: Refusal) {
        self.0.mailbox.post(self.0.session, Answer::Ended(refusal));
    }

    pub(crate) fn take_ack(&self) -> Option<Ack> {
        self.slot().take()
    }

    pub(crate) fn post_queued(&self) {
        self.0.mailbox.post(self.0.session, Answer::Queued);
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Ack>> {
        self.0.ack.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
