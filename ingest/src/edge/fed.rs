//! A session whose answer the service puts piece by piece: what is sent next, and how long the
//! client may read nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use isotick_wire::Refusal;

use crate::feed::{FeedNext, FeedQueue};

/// The sending side of one answer.
pub(super) struct Fed {
    queue: Arc<FeedQueue>,
    /// Whether anything was sent.
    is_answered: bool,
    /// When the client last made room, or something new was sent.
    progress: Option<Instant>,
}

/// What is sent next.
pub(super) enum FedNext {
    /// Nothing now.
    Wait,
    Send(Bytes),
    /// Everything was put; the client may take so long to read the rest.
    Complete {
        patience: Duration,
    },
    /// Refused before anything was sent.
    Refused(Refusal),
    /// Ended in the middle.
    Goodbye(Refusal),
}

impl Fed {
    pub(super) fn new(queue: Arc<FeedQueue>) -> Self {
        Self { queue, is_answered: false, progress: None }
    }

    /// The client read something.
    pub(super) fn went_on(&mut self, now: Instant) {
        self.progress = Some(now);
    }

    /// When the client, which has something to read, must have read.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.progress?.checked_add(self.queue.patience())
    }

    /// The next of what the service has put; everything before is on its way.
    pub(super) fn next(&mut self, now: Instant) -> FedNext {
        match self.queue.next() {
            FeedNext::Wait => FedNext::Wait,
            FeedNext::Send(message) => {
                self.is_answered = true;
                self.progress = Some(now);
                FedNext::Send(message)
            }
            FeedNext::Finished => FedNext::Complete { patience: self.queue.patience() },
            FeedNext::Refused(refusal) if self.is_answered => FedNext::Goodbye(refusal),
            FeedNext::Refused(refusal) => FedNext::Refused(refusal),
        }
    }

    /// The session is over.
    pub(super) fn close(&self) {
        self.queue.close();
    }
}
