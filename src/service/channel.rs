//! One view's way to its subscribers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use isotick_ingest::{
    Batch, Outlet, QueueLimits, SubscriberCounters, SubscriberQueue, Subscription,
};
use isotick_model::results::{ResultSchema, WindowRow};
use isotick_model::view::{LatenessPolicy, View};
use isotick_scheduler::{LiveCounters, Published, Reason};
use isotick_wire::{
    Code, EncodeError, PublishedWindow, Refusal, Subscribe, VersionReason, WindowBatch, windows,
};
use serde_json::{Value, json};

/// How long the service waits for a subscriber that chose to block.
const BLOCK_MAX: Duration = Duration::from_secs(10);
/// The newest windows that are shown to whoever asks.
const NEWEST: usize = 8;

/// Tells subscribers of a view's windows, in the order published, and keeps the last ones for
/// those that resume.
pub struct ViewChannel {
    pub view: Arc<View>,
    schema: Arc<ResultSchema>,
    /// Bytes that a subscriber may fall behind, and that are kept for resuming.
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Windows published since the log began: the cursor of the next one.
    published: u64,
    kept: VecDeque<Arc<Batch>>,
    kept_bytes: usize,
    subscribers: Vec<Arc<SubscriberQueue>>,
    counts: (LiveCounters, u64),
    newest: Vec<WindowRow>,
}

/// The windows that subscribers may still ask for.
pub struct KeptWindows {
    schema: Arc<ResultSchema>,
    /// Windows published since the log began.
    pub published: u64,
    batches: Vec<Arc<Batch>>,
}

impl KeptWindows {
    /// Each batch in parts that one message of the wire format holds.
    pub fn encode(&self) -> Result<Vec<Vec<u8>>> {
        let mut parts = Vec::new();
        for batch in &self.batches {
            let first = batch.first_cursor();
            encode_parts(batch.windows(), first, self.schema.columns.len(), &mut parts)?;
        }
        Ok(parts)
    }

    /// Reads what was encoded of a view.
    pub fn decode(view: &View, published: u64, parts: &[Vec<u8>]) -> Result<Self> {
        let schema = Arc::new(ResultSchema::of(view));
        let (now, mut batches) = (Instant::now(), Vec::new());
        let mut next: Option<u64> = None;
        for part in parts {
            let WindowBatch { windows, next_cursor } = windows::decode(part, schema.columns.len())?;
            let first = next_cursor.checked_sub(windows.len() as u64);
            ensure!(
                first.is_some_and(|first| next.is_none_or(|next| next == first)),
                "the windows kept of {} do not follow each other",
                view.name
            );
            next = Some(next_cursor);
            batches.push(Arc::new(Batch::new(windows, next_cursor, schema.clone(), now)));
        }
        ensure!(
            next.is_none_or(|next| next == published),
            "the windows kept of {} end at another cursor",
            view.name
        );
        Ok(Self { schema, published, batches })
    }
}

/// Cuts into as many messages as it takes.
fn encode_parts(
    windows: &[PublishedWindow],
    first: u64,
    columns: usize,
    parts: &mut Vec<Vec<u8>>,
) -> Result<()> {
    let mut bytes = Vec::new();
    match windows::encode(windows, first + windows.len() as u64, columns, &mut bytes) {
        Err(EncodeError::TooLarge { rows }) if rows > 1 => {
            let (left, right) = windows.split_at(rows / 2);
            encode_parts(left, first, columns, parts)?;
            encode_parts(right, first + left.len() as u64, columns, parts)
        }
        encoded => {
            encoded?;
            parts.push(bytes);
            Ok(())
        }
    }
}

impl ViewChannel {
    pub fn new(view: Arc<View>, bytes_max: usize) -> Self {
        let schema = Arc::new(ResultSchema::of(&view));
        Self { view, schema, bytes_max, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a subscriber in: from its cursor on, or from the next window published.
    pub fn subscribe(
        &self,
        request: &Subscribe,
        outlet: Outlet,
        counters: Arc<SubscriberCounters>,
    ) -> std::result::Result<Subscription, Refusal> {
        let mut state = self.state();
        let cursor = request.cursor.unwrap_or(state.published);
        let oldest = state.kept.front().map_or(state.published, |batch| batch.first_cursor());
        let name = &self.view.name;
        if cursor < oldest {
            let text = format!(
                "the windows of `{name}` from {oldest} on are kept: subscribe from there, or \
                 without a cursor"
            );
            return Err(Refusal::new(Code::CursorGone, text));
        }
        if cursor > state.published {
            let text = format!(
                "only {} windows of `{name}` were published so far: subscribe from there, or \
                 without a cursor",
                state.published
            );
            return Err(Refusal::new(Code::CursorGone, text));
        }
        let limits = QueueLimits { bytes_max: self.bytes_max, block_max: BLOCK_MAX };
        let schema = self.schema.clone();
        let queue = Arc::new(SubscriberQueue::new(outlet, request, schema, limits, counters));
        queue.fill(state.kept.iter().filter_map(|batch| batch.since(cursor)));
        state.subscribers.retain(|known| !known.is_closed());
        state.subscribers.push(queue.clone());
        Ok(Subscription { schema: (*self.schema).clone(), cursor, queue })
    }

    /// What a start needs to go on as if it had not stopped.
    pub fn kept(&self) -> KeptWindows {
        let state = self.state();
        let batches = state.kept.iter().cloned().collect();
        KeptWindows { schema: self.schema.clone(), published: state.published, batches }
    }

    /// Before anything else: what an earlier run kept.
    pub fn restore(&self, kept: KeptWindows) {
        let mut state = self.state();
        state.published = kept.published;
        state.kept_bytes = kept.batches.iter().map(|batch| batch.bytes()).sum();
        state.kept = kept.batches.into();
        let newest = state.kept.iter().rev().flat_map(|batch| batch.windows().iter().rev());
        state.newest = newest.take(NEWEST).map(|window| window.row.clone()).collect();
    }

    /// Tells subscribers. Nobody listening is no error. May wait for those that chose to block.
    pub fn publish(&self, published: Vec<Published>) -> Arc<Batch> {
        let batch = self.keep(published);
        let subscribers = self.state().subscribers.clone();
        for queue in subscribers {
            queue.offer(&batch);
        }
        batch
    }

    /// Keeps windows for those that will resume, without telling anybody.
    pub fn keep(&self, published: Vec<Published>) -> Arc<Batch> {
        let mut state = self.state();
        state.newest =
            published.iter().rev().take(NEWEST).map(|window| window.row.clone()).collect();
        state.published += published.len() as u64;
        let windows = published.into_iter().map(|Published { row, reason }| {
            let reason = match reason {
                Reason::Closed => VersionReason::Closed,
                Reason::Late => VersionReason::Late,
            };
            PublishedWindow { row, reason }
        });
        let (windows, cursor) = (windows.collect(), state.published);
        let batch = Arc::new(Batch::new(windows, cursor, self.schema.clone(), Instant::now()));
        state.kept_bytes += batch.bytes();
        state.kept.push_back(batch.clone());
        while state.kept_bytes > self.bytes_max
            && let Some(oldest) = state.kept.pop_front()
        {
            state.kept_bytes -= oldest.bytes();
        }
        batch
    }

    pub fn count(&self, counters: LiveCounters, open: u64) {
        self.state().counts = (counters, open);
    }

    /// The newest published windows, the last one first.
    pub fn newest(&self) -> Vec<WindowRow> {
        self.state().newest.clone()
    }

    /// What the view has done, and how many windows are open.
    pub fn counts(&self) -> (LiveCounters, u64) {
        self.state().counts
    }

    pub fn to_json(&self) -> Value {
        let too_late = match self.view.lateness.policy {
            LatenessPolicy::Correct => "beyond_allowance",
            LatenessPolicy::Side => "set_aside",
            LatenessPolicy::Drop => "dropped",
        };
        let mut state = self.state();
        state.subscribers.retain(|queue| !queue.is_closed());
        let (counters, open) = state.counts;
        json!({
            "stream": self.view.stream,
            "definition": self.view.definition.0,
            "ticks": counters.ticks,
            "too_late": counters.too_late,
            "too_late_are": too_late,
            "windows": counters.windows,
            "corrections": counters.corrections,
            "open": open,
            "cursor": state.published,
            "subscribers": state.subscribers.len(),
        })
    }
}
