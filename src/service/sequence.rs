//! The sequencing thread: every input in one order, into the log, then on to the live thread.
//!
//! It owns the sequencer and the log. Inputs come through one bounded channel: while this thread
//! is behind (the log is slow, or the live thread's queue is full), the edge does not read and
//! QUIC stops the publishers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use isotick_ingest::sequencer::{Sequencer, Slot};
use isotick_ingest::{Input, SessionId, Subscription, Welcome};
use isotick_model::{LogPosition, PublisherId, Rejected, Ticks};
use isotick_storage::log::{LogRecord, LogWriter};
use isotick_wire::{Ack, Code, Refusal};
use tokio::sync::{mpsc, oneshot, watch};

use super::messages::{Event, LiveMessage, Logged};
use super::now_ns;
use super::stats::{Shared, StreamRates};

/// Inputs that are logged with one write, at most.
const BATCH_INPUTS_MAX: usize = 256;

/// The thread's state.
pub struct Sequencing {
    pub sequencer: Sequencer,
    pub log: LogWriter,
    pub live: SyncSender<LiveMessage>,
    /// Wakes the syncing thread; a wake that is pending already covers this one.
    pub wake_sync: SyncSender<()>,
    pub shared: Arc<Shared>,
    /// How long an active publisher may be silent before it no longer holds the watermark.
    pub idle_after: Duration,
    sessions: HashMap<SessionId, Session>,
    by_slot: HashMap<Slot, Vec<SessionId>>,
    /// When active publishers were last heard.
    heard: BTreeMap<Slot, Instant>,
    /// Records of the batch in hand.
    batch: Vec<LogRecord>,
    /// W after each of them.
    watermarks: Vec<Option<i64>>,
    /// Publishers whose acknowledgement changed in the batch in hand.
    moved: Vec<Slot>,
    finishing: Vec<Finishing>,
    /// Whether the batch in hand holds the end of a publisher that waits for it to be stored.
    flush_wanted: bool,
    durable: LogPosition,
    covered: LogPosition,
    failure: Option<String>,
    rates: StreamRates,
}

struct Session {
    slot: Slot,
    stream: String,
    acks: watch::Sender<Ack>,
    refuse: Option<oneshot::Sender<Refusal>>,
}

/// A publisher that waits for everything it sent to be stored.
struct Finishing {
    slot: Slot,
    /// The position that must be durable and covered.
    through: LogPosition,
    reply: oneshot::Sender<Ack>,
}

impl Sequencing {
    pub fn new(
        sequencer: Sequencer,
        log: LogWriter,
        covered: LogPosition,
        live: SyncSender<LiveMessage>,
        wake_sync: SyncSender<()>,
        shared: Arc<Shared>,
        idle_after: Duration,
    ) -> Self {
        let now = Instant::now();
        // After a crash: publishers that the log left active hold the watermark until they come
        // back, or are silent for too long.
        let heard = sequencer.abandoned().into_iter().map(|slot| (slot, now)).collect();
        let durable = log.next();
        Self {
            sequencer,
            log,
            live,
            wake_sync,
            shared,
            idle_after,
            sessions: HashMap::new(),
            by_slot: HashMap::new(),
            heard,
            batch: Vec::new(),
            watermarks: Vec::new(),
            moved: Vec::new(),
            finishing: Vec::new(),
            flush_wanted: false,
            durable,
            covered,
            failure: None,
            rates: StreamRates::default(),
        }
    }

    /// Runs until the edge has hung up.
    pub async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut events: mpsc::UnboundedReceiver<Event>,
    ) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                biased;
                Some(event) = events.recv() => self.handle_event(event),
                input = inputs.recv() => {
                    let Some(input) = input else { break };
                    self.handle_input(input);
                    for _ in 1..BATCH_INPUTS_MAX {
                        let Ok(input) = inputs.try_recv() else { break };
                        self.handle_input(input);
                    }
                    self.commit();
                }
                _ = second.tick() => {
                    self.handle_second();
                    self.commit();
                }
            }
        }
        // A clean end: whoever was still active is gone now.
        for slot in self.heard.keys().copied().collect::<Vec<_>>() {
            self.make_idle(slot);
        }
        self.commit();
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Durable(before) => {
                self.durable = self.durable.max(before);
                if let Some(last) = before.0.checked_sub(1) {
                    let moved = self.sequencer.durable(LogPosition(last));
                    self.acknowledge(moved);
                }
            }
            Event::Covered(before) => self.covered = self.covered.max(before),
            Event::Failed(reason) => self.fail(reason),
        }
        let (durable, covered) = (self.durable, self.covered);
        for done in self.finishing.extract_if(.., |f| f.through < durable && f.through < covered) {
            let _ = done.reply.send(self.sequencer.ack(done.slot));
        }
        self.publish_marks();
    }

    fn handle_input(&mut self, input: Input) {
        match input {
            Input::PublisherHello { session, stream, publisher, reply } => {
                let _ = reply.send(self.welcome(session, stream, &publisher));
            }
            Input::Frame { session, ticks, rejected, ts_recv_ns } => {
                self.handle_frame(session, ticks, rejected, ts_recv_ns);
            }
            Input::Finish { session, reply } => self.handle_finish(session, reply),
            Input::Left { session } => self.handle_left(session),
            Input::Subscribe { view, reply } => {
                let _ = reply.send(self.subscribe(&view));
            }
            Input::Status { reply } => {
                let _ = reply.send(self.status());
            }
            Input::Definitions { reply } => {
                let _ = reply.send(self.shared.definitions_text.clone());
            }
        }
    }

    fn welcome(
        &mut self,
        session: SessionId,
        stream: String,
        publisher: &PublisherId,
    ) -> Result<Welcome, Refusal> {
        if let Some(reason) = &self.failure {
            return Err(Refusal::new(Code::Unavailable, reason.clone()));
        }
        let slot = match self.sequencer.slot(&stream, publisher) {
            Ok(slot) => slot,
            Err(error) => return Err(error.to_refusal()),
        };
        if self.sequencer.join(slot) {
            let (stream, publisher) = (stream.clone(), publisher.clone());
            self.push(LogRecord::Joined { stream, publisher, ts_recv_ns: now_ns() });
        }
        self.heard.insert(slot, Instant::now());
        let (acks, acks_seen) = watch::channel(self.sequencer.ack(slot));
        let (refuse, refused) = oneshot::channel();
        let marks = self.sequencer.marks(slot);
        let columns = self.sequencer.schema(slot).columns.len();
        self.by_slot.entry(slot).or_default().push(session);
        self.sessions.insert(session, Session { slot, stream, acks, refuse: Some(refuse) });
        Ok(Welcome {
            next_sequence: marks.next_sequence,
            held: marks.held,
            definitions: self.shared.definitions_text.clone(),
            columns,
            acks: acks_seen,
            refuse: refused,
        })
    }

    fn handle_frame(
        &mut self,
        session: SessionId,
        ticks: Ticks,
        rejected: Vec<Rejected>,
        ts_recv_ns: i64,
    ) {
        let Some(known) = self.sessions.get(&session) else { return };
        if self.failure.is_some() {
            return;
        }
        let (slot, stream) = (known.slot, known.stream.clone());
        self.heard.insert(slot, Instant::now());
        let position = self.next_position();
        match self.sequencer.accept(slot, ticks, rejected, ts_recv_ns, position) {
            Ok(accepted) => {
                if !accepted.is_empty() {
                    let (ticks, rejected) = (accepted.ticks, accepted.rejected);
                    self.push(LogRecord::Ticks { stream, ticks, rejected, ts_recv_ns });
                }
                self.moved.push(slot);
            }
            Err(error) => {
                let known = self.sessions.get_mut(&session);
                if let Some(refuse) = known.and_then(|known| known.refuse.take()) {
                    let _ = refuse.send(error.to_refusal());
                }
            }
        }
    }

    fn handle_finish(&mut self, session: SessionId, reply: oneshot::Sender<Ack>) {
        let Some(known) = self.sessions.get(&session) else { return };
        let slot = known.slot;
        self.make_idle(slot);
        let Some(through) = self.next_position().0.checked_sub(1).map(LogPosition) else {
            let _ = reply.send(self.sequencer.ack(slot));
            return;
        };
        if through < self.durable && through < self.covered {
            let _ = reply.send(self.sequencer.ack(slot));
        } else if self.failure.is_none() {
            self.finishing.push(Finishing { slot, through, reply });
            self.flush_wanted = true;
        }
    }

    /// A session is over. A publisher that finished is idle already; one that was cut off may come
    /// back, so it holds the watermark until it has been silent for too long.
    fn handle_left(&mut self, session: SessionId) {
        let Some(known) = self.sessions.remove(&session) else { return };
        if let Some(sessions) = self.by_slot.get_mut(&known.slot) {
            sessions.retain(|other| *other != session);
        }
        self.sequencer.leave(known.slot);
    }

    /// A publisher no longer holds the watermark.
    fn make_idle(&mut self, slot: Slot) {
        self.heard.remove(&slot);
        let stream = self.sequencer.schema(slot).name.clone();
        let publisher = self.sequencer.publisher(slot).clone();
        if self.sequencer.idle(slot) {
            self.push(LogRecord::Idle { stream, publisher, ts_recv_ns: now_ns() });
        }
    }

    fn handle_second(&mut self) {
        let silent = |heard: &Instant| heard.elapsed() >= self.idle_after;
        let silent: Vec<_> =
            self.heard.iter().filter(|(_, heard)| silent(heard)).map(|(slot, _)| *slot).collect();
        for slot in silent {
            self.make_idle(slot);
        }
        self.rates.sample(&self.sequencer.status());
        self.publish_marks();
    }

    fn next_position(&self) -> LogPosition {
        LogPosition(self.log.next().0 + self.batch.len() as u64)
    }

    /// Adds a record to the batch in hand, with W after it.
    fn push(&mut self, record: LogRecord) {
        self.watermarks.push(self.sequencer.watermark(record.stream()));
        self.batch.push(record);
    }

    /// Writes the batch in hand; then, and only then, acknowledges it as written and hands it on.
    fn commit(&mut self) {
        let mut stopped = false;
        if !self.batch.is_empty() && self.failure.is_none() {
            match self.log.append_batch(&self.batch) {
                Ok(first) => {
                    let last = LogPosition(first.0 + self.batch.len() as u64 - 1);
                    self.moved.extend(self.sequencer.written(last));
                    let _ = self.wake_sync.try_send(());
                    let records = self.batch.drain(..).zip(self.watermarks.drain(..));
                    for ((record, watermark), position) in records.zip(first.0..) {
                        let position = LogPosition(position);
                        let logged = Logged { position, record, watermark };
                        // Bounded: waits while the live thread is behind.
                        if self.live.send(LiveMessage::Record(Box::new(logged))).is_err() {
                            stopped = true;
                            break;
                        }
                    }
                }
                Err(error) => self.fail(error.to_string()),
            }
        }
        if stopped {
            self.fail("the live thread has stopped".into());
        }
        self.batch.clear();
        self.watermarks.clear();
        if std::mem::take(&mut self.flush_wanted) {
            let _ = self.live.send(LiveMessage::Flush);
        }
        let moved = std::mem::take(&mut self.moved);
        self.acknowledge(moved);
    }

    fn acknowledge(&self, moved: Vec<Slot>) {
        for slot in moved {
            for session in self.by_slot.get(&slot).into_iter().flatten() {
                self.sessions[session].acks.send_replace(self.sequencer.ack(slot));
            }
        }
    }

    /// Nothing more is accepted or acknowledged; sessions are told why.
    fn fail(&mut self, reason: String) {
        if self.failure.is_some() {
            return;
        }
        tracing::error!(
            "{reason}; nothing more is accepted: mend the cause and restart the service"
        );
        for session in self.sessions.values_mut() {
            if let Some(refuse) = session.refuse.take() {
                let _ = refuse.send(Refusal::new(Code::Unavailable, reason.clone()));
            }
        }
        self.finishing.clear();
        self.shared.fail(&reason);
        self.failure = Some(reason);
    }

    fn subscribe(&self, view: &str) -> Result<Subscription, Refusal> {
        match self.shared.views.iter().find(|known| known.view.name == view) {
            Some(known) => Ok(known.subscribe()),
            None => {
                let names: Vec<_> =
                    self.shared.views.iter().map(|known| known.view.name.as_str()).collect();
                let text = format!("unknown view {view}; this service has {}", names.join(", "));
                Err(Refusal::new(Code::UnknownView, text))
            }
        }
    }

    fn publish_marks(&self) {
        self.shared.set_streams(self.sequencer.status(), &self.rates);
        self.shared.set_log(self.log.next(), self.durable, self.covered);
    }

    fn status(&mut self) -> String {
        self.publish_marks();
        self.shared.to_json().to_string()
    }
}
