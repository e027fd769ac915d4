//! The answer to a request about jobs on its way to the client: the service puts messages, the
//! session sends them as the client reads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use isotick_model::results::ResultSchema;
use isotick_wire::{Control, EncodeError, Format, PublishedWindow, Refusal};

use crate::input::{Outlet, unavailable};
use crate::messages;

/// Bytes that wait in one feed before [`Feed::put`] does; one message always fits.
pub const FEED_BYTES_MAX: usize = 256 << 10;

/// The client does not listen any more: it ended its session, vanished, or did not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub struct Closed;

/// Why something could not be put.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The client does not listen any more.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// What was to be put does not fit a message.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The service's end of one answer. Messages leave in the order put; several threads may put.
///
/// When it is dropped without [`finish`](Self::finish) or [`refuse`](Self::refuse), the client is
/// told that the service cannot answer.
#[derive(Debug)]
pub struct Feed {
    queue: Arc<FeedQueue>,
}

/// What waits between the service and a session.
#[derive(Debug)]
pub(crate) struct FeedQueue {
    /// `None` where nobody sends: in tests of what comes after the edge.
    outlet: Option<Outlet>,
    limits: FeedLimits,
    counters: Arc<FeedCounters>,
    state: Mutex<State>,
    room: Condvar,
}

/// What feeds may take, all together, and how long one may wait for its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedLimits {
    /// Feeds open at a time.
    pub(crate) open_max: usize,
    /// Bytes that wait in all of them, above which each holds one message.
    pub(crate) bytes_max: usize,
    /// How long a client may read nothing while something waits for it.
    pub(crate) patience: Duration,
}

/// The feeds of an edge.
#[derive(Debug, Default)]
pub(crate) struct FeedCounters {
    pub(crate) open: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
    /// Requests refused because too many were open.
    pub(crate) refused: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Bytes>,
    bytes: usize,
    end: Option<End>,
    /// The session is over.
    is_closed: bool,
}

#[derive(Debug)]
enum End {
    Finished,
    Refused(Refusal),
}

/// What a session sends next.
#[derive(Debug)]
pub(crate) enum FeedNext {
    /// Nothing now.
    Wait,
    Send(Bytes),
    /// Everything was sent.
    Finished,
    Refused(Refusal),
}

impl Feed {
    /// A feed and its session's end. `None` when too many are open.
    pub(crate) fn open(
        outlet: Outlet,
        limits: FeedLimits,
        counters: &Arc<FeedCounters>,
    ) -> Option<(Arc<Self>, Arc<FeedQueue>)> {
        if counters.open.fetch_add(1, Ordering::Relaxed) >= limits.open_max {
            counters.open.fetch_sub(1, Ordering::Relaxed);
            counters.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Self::with(Some(outlet), limits, counters.clone()))
    }

    fn with(
        outlet: Option<Outlet>,
        limits: FeedLimits,
        counters: Arc<FeedCounters>,
    ) -> (Arc<Self>, Arc<FeedQueue>) {
        let (state, room) = (Mutex::default(), Condvar::new());
        let queue = Arc::new(FeedQueue { outlet, limits, counters, state, room });
        (Arc::new(Self { queue: queue.clone() }), queue)
    }

    /// A feed without a client, and what is put into it: for tests of what comes after the edge.
    pub fn detached() -> (Arc<Self>, Detached) {
        let limits = FeedLimits { open_max: 1, bytes_max: FEED_BYTES_MAX, patience: Duration::MAX };
        let counters = Arc::new(FeedCounters { open: 1.into(), ..FeedCounters::default() });
        let (feed, queue) = Self::with(None, limits, counters);
        (feed, Detached(queue))
    }

    /// Puts a whole message, header included. Waits while [`FEED_BYTES_MAX`] bytes wait already,
    /// until the client has read some or is gone; one that reads nothing for long is sent away.
    ///
    /// # Errors
    ///
    /// [`Closed`]: put nothing more.
    pub fn put(&self, message: Bytes) -> Result<(), Closed> {
        let state = self.queue.state();
        let full = |state: &mut State| !state.is_over() && !self.queue.fits(state, message.len());
        let waited = self.queue.room.wait_while(state, full);
        self.queue.push(waited.unwrap_or_else(PoisonError::into_inner), message)
    }

    /// Puts a control message, as [`put`](Self::put) does.
    ///
    /// # Errors
    ///
    /// As `put`, or a text that fits no message.
    pub fn put_control(&self, control: &Control) -> Result<(), FeedError> {
        Ok(self.put(messages::of_control(control)?)?)
    }

    /// Puts windows of one view, as many messages as they take. `first_cursor` counts the windows
    /// of the view that were put before.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), or a window that fits no message or does not go with the schema.
    pub fn put_windows(
        &self,
        windows: &[PublishedWindow],
        first_cursor: u64,
        schema: &ResultSchema,
        format: Format,
    ) -> Result<(), FeedError> {
        for message in messages::of_windows(windows, first_cursor, schema, format)? {
            self.put(message)?;
        }
        Ok(())
    }

    /// Puts a whole message if there is room for it now; says whether there was.
    ///
    /// # Errors
    ///
    /// [`Closed`]: put nothing more.
    pub fn try_put(&self, message: Bytes) -> Result<bool, Closed> {
        let state = self.queue.state();
        if !state.is_over() && !self.queue.fits(&state, message.len()) {
            return Ok(false);
        }
        self.queue.push(state, message).map(|()| true)
    }

    /// Puts a control message if there is room for it now; says whether there was.
    ///
    /// # Errors
    ///
    /// As [`put_control`](Self::put_control).
    pub fn try_put_control(&self, control: &Control) -> Result<bool, FeedError> {
        Ok(self.try_put(messages::of_control(control)?)?)
    }

    /// Whether nothing that is put will be sent any more.
    pub fn is_closed(&self) -> bool {
        self.queue.state().is_over()
    }

    /// Ends the answer after what waits.
    pub fn finish(&self) {
        self.queue.end(End::Finished);
    }

    /// Ends the answer with a reason, instead of what waits.
    pub fn refuse(&self, refusal: Refusal) {
        self.queue.end(End::Refused(refusal));
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // Without effect when it was ended.
        self.refuse(unavailable());
    }
}

impl FeedQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, state: &State, bytes: usize) -> bool {
        let all = self.counters.bytes.load(Ordering::Relaxed);
        state.messages.is_empty()
            || (state.bytes + bytes <= FEED_BYTES_MAX && all + bytes <= self.limits.bytes_max)
    }

    fn push(&self, mut state: MutexGuard<'_, State>, message: Bytes) -> Result<(), Closed> {
        if state.is_over() {
            return Err(Closed);
        }
        let was_empty = state.messages.is_empty();
        state.bytes += message.len();
        self.counters.bytes.fetch_add(message.len(), Ordering::Relaxed);
        state.messages.push_back(message);
        drop(state);
        if was_empty {
            self.post();
        }
        Ok(())
    }

    fn end(&self, end: End) {
        let mut state = self.state();
        if state.is_over() {
            return;
        }
        if matches!(end, End::Refused(_)) {
            self.clear(&mut state);
        }
        state.end = Some(end);
        drop(state);
        self.room.notify_all();
        self.post();
    }

    fn clear(&self, state: &mut State) {
        state.messages.clear();
        self.counters.bytes.fetch_sub(std::mem::take(&mut state.bytes), Ordering::Relaxed);
    }

    fn post(&self) {
        if let Some(outlet) = &self.outlet {
            outlet.post_queued();
        }
    }

    /// How long the client may read nothing.
    pub(crate) fn patience(&self) -> Duration {
        self.limits.patience
    }

    /// The session is over: nothing is taken any more.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.is_closed, true) {
            self.counters.open.fetch_sub(1, Ordering::Relaxed);
            self.clear(&mut state);
        }
        drop(state);
        self.room.notify_all();
    }

    /// The next message, when there is room on the stream.
    pub(crate) fn next(&self) -> FeedNext {
        let mut state = self.state();
        if let Some(message) = state.messages.pop_front() {
            state.bytes -= message.len();
            self.counters.bytes.fetch_sub(message.len(), Ordering::Relaxed);
            drop(state);
            self.room.notify_all();
            return FeedNext::Send(message);
        }
        match &state.end {
            None => FeedNext::Wait,
            Some(End::Finished) => FeedNext::Finished,
            Some(End::Refused(refusal)) => FeedNext::Refused(refusal.clone()),
        }
    }
}

impl State {
    /// Nothing can be put any more.
    fn is_over(&self) -> bool {
        self.is_closed || self.end.is_some()
    }
}

/// The other end of [`Feed::detached`]. Dropping it is the client's leaving.
#[derive(Debug)]
pub struct Detached(Arc<FeedQueue>);

/// What a client would see next.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing now.
    Nothing,
    /// A whole message, header included.
    Message(Bytes),
    /// The end, after everything.
    End,
    /// The end, for this reason.
    Refused(Refusal),
}

impl Detached {
    /// Takes the next message.
    pub fn next(&self) -> Seen {
        match self.0.next() {
            FeedNext::Wait => Seen::Nothing,
            FeedNext::Send(message) => Seen::Message(message),
            FeedNext::Finished => Seen::End,
            FeedNext::Refused(refusal) => Seen::Refused(refusal),
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests;
