//! A subscriber's bounded queue of windows, and what happens when it is full.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use isotick_model::Key;
use isotick_model::results::ResultSchema;
use isotick_wire::{Code, EncodeError, Format, Policy, PublishedWindow, Refusal, Subscribe};

use crate::input::Outlet;
use crate::messages;

/// Windows of one view that were published together. Encoded once, whoever reads it.
#[derive(Debug)]
pub struct Batch {
    windows: Vec<PublishedWindow>,
    next_cursor: u64,
    schema: Arc<ResultSchema>,
    published: Instant,
    /// By format.
    messages: [OnceLock<Result<Vec<Bytes>, EncodeError>>; 2],
}

impl Batch {
    /// Windows of a view with this schema, in the order published. `next_cursor` counts the
    /// windows that the view has published from its beginning to the last of these.
    pub fn new(
        windows: Vec<PublishedWindow>,
        next_cursor: u64,
        schema: Arc<ResultSchema>,
        published: Instant,
    ) -> Self {
        Self { windows, next_cursor, schema, published, messages: Default::default() }
    }

    /// How long ago the windows were published.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.published)
    }

    /// The windows.
    pub fn windows(&self) -> &[PublishedWindow] {
        &self.windows
    }

    /// The cursor after the last window.
    pub fn next_cursor(&self) -> u64 {
        self.next_cursor
    }

    /// The cursor of the first window.
    pub fn first_cursor(&self) -> u64 {
        self.next_cursor - self.windows.len() as u64
    }

    /// The windows from a cursor on, `None` when all are before it.
    pub fn since(self: &Arc<Self>, cursor: u64) -> Option<Arc<Self>> {
        if cursor <= self.first_cursor() {
            return Some(self.clone());
        }
        let skipped = usize::try_from(cursor - self.first_cursor()).ok()?;
        let windows = self.windows.get(skipped..).filter(|windows| !windows.is_empty())?;
        Some(Arc::new(Self::new(
            windows.to_vec(),
            self.next_cursor,
            self.schema.clone(),
            self.published,
        )))
    }

    /// What the windows take in memory, about.
    pub fn bytes(&self) -> usize {
        self.windows.len() * (size_of::<PublishedWindow>() + 32 * self.schema.columns.len())
    }

    /// Whole messages, headers included.
    pub(crate) fn messages(&self, format: Format) -> &Result<Vec<Bytes>, EncodeError> {
        self.messages[format as usize].get_or_init(|| {
            messages::of_windows(&self.windows, self.first_cursor(), &self.schema, format)
        })
    }
}

/// How much a subscriber may fall behind.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Bytes of windows that wait; one batch always fits.
    pub bytes_max: usize,
    /// How long the service waits for a subscriber that chose to block.
    pub block_max: Duration,
}

/// What slow subscribers cost, of all queues together.
#[derive(Debug, Default)]
pub struct SubscriberCounters {
    /// Subscribers that were disconnected because they fell behind.
    pub lagged: AtomicU64,
    /// Windows that a newer one of the same key took the place of.
    pub conflated: AtomicU64,
    /// Batches that waited for a subscriber that chose to block.
    pub blocked: AtomicU64,
}

/// The windows on their way to one subscriber. The live thread offers, the session's ingest
/// thread takes.
#[derive(Debug)]
pub struct SubscriberQueue {
    policy: Policy,
    format: Format,
    schema: Arc<ResultSchema>,
    limits: QueueLimits,
    outlet: Outlet,
    counters: Arc<SubscriberCounters>,
    state: Mutex<State>,
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    /// The newest window of each key, once the batches did not fit.
    newest: Option<Newest>,
    /// No windows come any more; the reason for the client, until it is taken.
    end: Option<Option<Refusal>>,
}

#[derive(Debug)]
struct Newest {
    by_key: HashMap<Key, PublishedWindow>,
    next_cursor: u64,
    /// When the last of them was published.
    since: Instant,
}

/// What a session is to do next.
#[derive(Debug)]
pub(crate) enum Next {
    Send(Arc<Batch>),
    Wait,
    End(Refusal),
}

impl SubscriberQueue {
    /// An empty queue of windows of a view with this schema, as the subscriber asked for them.
    pub fn new(
        outlet: Outlet,
        request: &Subscribe,
        schema: Arc<ResultSchema>,
        limits: QueueLimits,
        counters: Arc<SubscriberCounters>,
    ) -> Self {
        let (state, room) = (Mutex::default(), Condvar::new());
        Self {
            policy: request.policy,
            format: request.format,
            schema,
            limits,
            outlet,
            counters,
            state,
            room,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How its windows are sent.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Puts what was published before the subscriber came, in full, however much it is.
    pub fn fill(&self, batches: impl IntoIterator<Item = Arc<Batch>>) {
        let mut state = self.state();
        batches.into_iter().for_each(|batch| state.push(batch));
        drop(state);
        self.outlet.post_queued();
    }

    /// Offers the next windows. Under [`Policy::Block`] this waits for room. False when the
    /// subscriber is gone: offer nothing more.
    pub fn offer(&self, batch: &Arc<Batch>) -> bool {
        let mut state = self.state();
        if state.end.is_some() {
            return false;
        }
        if !state.fits(batch, self.limits.bytes_max) {
            match self.policy {
                Policy::Disconnect => return self.disconnect(state, batch),
                Policy::Conflate => {
                    let replaced = state.conflate(batch);
                    self.counters.conflated.fetch_add(replaced, Ordering::Relaxed);
                    return true;
                }
                Policy::Block => {
                    self.counters.blocked.fetch_add(1, Ordering::Relaxed);
                    let full = |state: &mut State| {
                        state.end.is_none() && !state.fits(batch, self.limits.bytes_max)
                    };
                    let waited = self.room.wait_timeout_while(state, self.limits.block_max, full);
                    let timeout;
                    (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    if state.end.is_some() {
                        return false;
                    }
                    if timeout.timed_out() {
                        return self.disconnect(state, batch);
                    }
                }
            }
        }
        let was_empty = state.batches.is_empty();
        state.push(batch.clone());
        drop(state);
        if was_empty {
            self.outlet.post_queued();
        }
        true
    }

    fn disconnect(&self, mut state: MutexGuard<'_, State>, batch: &Batch) -> bool {
        let waiting = state.batches.iter().map(|batch| batch.windows.len()).sum::<usize>();
        let first =
            state.batches.front().map_or(batch.first_cursor(), |first| first.first_cursor());
        let text = format!(
            "this subscriber fell behind: {} windows were published and not sent to it; read \
             faster, or subscribe again from cursor {first} or with the policy `conflate`",
            waiting + batch.windows.len()
        );
        state.end(Refusal::new(Code::Lagged, text));
        drop(state);
        self.counters.lagged.fetch_add(1, Ordering::Relaxed);
        self.outlet.post_queued();
        false
    }

    /// The view ends, with the reason for the client.
    pub fn end(&self, refusal: Refusal) {
        self.state().end(refusal);
        self.room.notify_all();
        self.outlet.post_queued();
    }

    /// The session is over: nothing is taken any more.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.end = Some(None);
        state.clear();
        drop(state);
        self.room.notify_all();
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.state().end.is_some()
    }

    /// The next windows, when there is room on the stream.
    pub(crate) fn next(&self) -> Next {
        let mut state = self.state();
        if let Some(end) = &mut state.end {
            return end.take().map_or(Next::Wait, Next::End);
        }
        if let Some(batch) = state.batches.pop_front() {
            state.bytes -= batch.bytes();
            drop(state);
            self.room.notify_all();
            return Next::Send(batch);
        }
        match state.newest.take() {
            None => Next::Wait,
            Some(newest) => {
                let mut windows: Vec<_> = newest.by_key.into_values().collect();
                windows.sort_unstable_by(|a, b| {
                    (a.row.window_start, &a.row.key).cmp(&(b.row.window_start, &b.row.key))
                });
                // Fewer windows than were published: the cursor is that of the last one.
                let (cursor, since) = (newest.next_cursor, newest.since);
                Next::Send(Arc::new(Batch::new(windows, cursor, self.schema.clone(), since)))
            }
        }
    }
}

impl State {
    fn fits(&self, batch: &Batch, bytes_max: usize) -> bool {
        self.newest.is_none()
            && (self.batches.is_empty() || self.bytes + batch.bytes() <= bytes_max)
    }

    fn push(&mut self, batch: Arc<Batch>) {
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
    }

    fn clear(&mut self) {
        self.batches.clear();
        self.newest = None;
        self.bytes = 0;
    }

    fn end(&mut self, refusal: Refusal) {
        if self.end.is_none() {
            self.clear();
            self.end = Some(Some(refusal));
        }
    }

    /// Keeps the newest window of each key of what waits and of this batch: the one that starts
    /// last, of those the highest version. Returns how many were given up.
    fn conflate(&mut self, batch: &Arc<Batch>) -> u64 {
        let mut newest = self.newest.take().unwrap_or_else(|| Newest {
            by_key: HashMap::new(),
            next_cursor: 0,
            since: batch.published,
        });
        // The first batch may be on its way already; what waits behind it is conflated.
        let waiting = self.batches.split_off(self.batches.len().min(1));
        self.bytes = self.batches.iter().map(|batch| batch.bytes()).sum();
        let mut replaced = 0;
        for batch in waiting.iter().chain([batch]) {
            for window in &batch.windows {
                let order = |w: &PublishedWindow| (w.row.window_start, w.row.version);
                match newest.by_key.get_mut(&window.row.key) {
                    None => {
                        newest.by_key.insert(window.row.key.clone(), window.clone());
                        continue;
                    }
                    Some(known) if order(known) <= order(window) => *known = window.clone(),
                    Some(_) => {}
                }
                replaced += 1;
            }
            newest.next_cursor = batch.next_cursor;
            newest.since = batch.published;
        }
        self.newest = Some(newest);
        replaced
    }
}

#[cfg(test)]
mod tests;
