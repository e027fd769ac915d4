//! The sequencing thread: every input in one order, into the log, then on to the live thread.
//!
//! It owns the sequencer and the log. Inputs come through one bounded channel: while this thread
//! is behind (the log is slow, or the live thread's queue is full), the edge does not read and
//! QUIC stops the publishers.

mod checkpoints;
mod joining;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use isotick_ingest::sequencer::{Sequencer, Slot};
use isotick_ingest::{
    ArrowDecoder, Feed, Input, Inputs, JobOwner, Outlet, Permit, Reply, SessionId, Stage, Stamps,
    Subscription, Welcome,
};
use isotick_model::{LogPosition, PublisherId, Rejected, StreamSchema, Ticks};
use isotick_storage::log::{LogRecord, LogWriter};
use isotick_wire::{Ack, Code, Frame, JobRequest, Refusal, Subscribe};

use crate::arrow::ticks_of_payload;
use crate::cli::StorageArgs;

use super::deadletters::DeadLetterSink;
use super::jobs;
use super::messages::{Event, LiveMessage, Logged};
use super::now_ns;
use super::stats::{LogMarks, Shared, StreamRates};

use self::checkpoints::Checkpoints;
use self::joining::join_frames;

/// Inputs that are logged with one write, at most.
const BATCH_INPUTS_MAX: usize = 256;
/// Sessions of one publisher of one stream, at most.
const PUBLISHER_SESSIONS_MAX: usize = 16;

/// Between two rounds of acknowledgements: each wakes an ingest thread and sends a packet.
const ACKS_SPACING: Duration = Duration::from_micros(500);
/// How often silent publishers are looked for.
const SECOND: Duration = Duration::from_secs(1);

/// The thread's state.
pub struct Sequencing {
    pub sequencer: Sequencer,
    pub log: LogWriter,
    pub live: SyncSender<LiveMessage>,
    /// Wakes the syncing thread; a wake that is pending already covers this one.
    pub wake_sync: SyncSender<()>,
    pub shared: Arc<Shared>,
    /// Where refused rows go.
    pub letters: DeadLetterSink,
    /// How long an active publisher may be silent before it no longer holds the watermark.
    pub idle_after: Duration,
    sessions: HashMap<SessionId, Session>,
    by_slot: HashMap<Slot, Vec<SessionId>>,
    /// When active publishers were last heard.
    heard: BTreeMap<Slot, Instant>,
    /// Records of the batch in hand.
    batch: Vec<LogRecord>,
    /// What goes with each of them.
    beside: Vec<Beside>,
    /// Publishers whose marks moved since they were told.
    moved: Vec<Slot>,
    /// When they were told last.
    acknowledged: Instant,
    finishing: Vec<Finishing>,
    /// Whether the batch in hand holds the end of a publisher that waits for it to be stored.
    flush_wanted: bool,
    durable: LogPosition,
    covered: LogPosition,
    failure: Option<String>,
    rates: StreamRates,
    checkpoints: Checkpoints,
    /// Takes requests about scans.
    jobs: mpsc::Sender<jobs::Message>,
    /// Such requests that came with the batch in hand: they see what came before them.
    asked: Vec<(JobRequest, JobOwner, Arc<Feed>)>,
    /// By stream, the last record with ticks of it that this run has pushed.
    last_ticks: HashMap<String, LogPosition>,
    /// The first record of this run.
    first: LogPosition,
}

struct Session {
    slot: Slot,
    stream: String,
    outlet: Outlet,
    /// Whether it was told that it ends.
    is_ended: bool,
}

/// What goes with a record of the batch in hand.
struct Beside {
    /// W after it.
    watermark: Option<i64>,
    /// When its rows were taken, and the memory they are in.
    rows: Option<(Instant, Permit)>,
}

impl Session {
    fn end(&mut self, refusal: Refusal) {
        if !std::mem::replace(&mut self.is_ended, true) {
            self.outlet.end(refusal);
        }
    }
}

/// A publisher that waits for everything it sent to be stored.
struct Finishing {
    slot: Slot,
    /// The position that must be durable and covered.
    through: LogPosition,
    reply: Reply<Ack>,
}

impl Sequencing {
    #[allow(clippy::too_many_arguments, reason = "called once: the ends of its neighbours")]
    pub fn new(
        sequencer: Sequencer,
        log: LogWriter,
        covered: LogPosition,
        live: SyncSender<LiveMessage>,
        wake_sync: SyncSender<()>,
        shared: Arc<Shared>,
        letters: DeadLetterSink,
        idle_after: Duration,
        storage: &StorageArgs,
        earlier_bytes: u64,
        jobs: mpsc::Sender<jobs::Message>,
    ) -> Self {
        let now = Instant::now();
        // After a crash: publishers that the log left active hold the watermark until they come
        // back, or are silent for too long.
        let heard = sequencer.abandoned().into_iter().map(|slot| (slot, now)).collect();
        let durable = log.next();
        let first = durable;
        let asked = VecDeque::from([(log.first(), 0), (log.next(), earlier_bytes)]);
        Self {
            sequencer,
            log,
            live,
            wake_sync,
            shared,
            letters,
            idle_after,
            sessions: HashMap::new(),
            by_slot: HashMap::new(),
            heard,
            batch: Vec::new(),
            beside: Vec::new(),
            moved: Vec::new(),
            acknowledged: now,
            finishing: Vec::new(),
            flush_wanted: false,
            durable,
            covered,
            failure: None,
            rates: StreamRates::default(),
            checkpoints: Checkpoints {
                asked,
                earlier_bytes,
                bytes_min: storage.checkpoint_every.0,
                due_after: storage.checkpoint_every.0,
                kept_bytes: storage.log_kept.0,
                is_under_way: false,
                needed: None,
            },
            jobs,
            asked: Vec::new(),
            last_ticks: HashMap::new(),
            first,
        }
    }

    /// Runs until the edge has hung up.
    pub fn run(mut self, mut inputs: Inputs, events: &Receiver<Event>) {
        let mut taken = Vec::new();
        let mut second = Instant::now();
        loop {
            let until_acks = match self.moved.is_empty() {
                true => SECOND,
                false => ACKS_SPACING.saturating_sub(self.acknowledged.elapsed()),
            };
            let until_next = SECOND.saturating_sub(second.elapsed()).min(until_acks);
            let is_open = inputs.take(&mut taken, until_next);
            events.try_iter().for_each(|event| self.handle_event(event));
            if self.shared.lanes.wants_larger_batches() {
                join_frames(&mut taken);
            }
            let mut taken = taken.drain(..).peekable();
            while taken.peek().is_some() {
                taken.by_ref().take(BATCH_INPUTS_MAX).for_each(|input| self.handle_input(input));
                self.commit();
                self.hand_on();
            }
            self.acknowledge();
            if second.elapsed() >= SECOND {
                second = Instant::now();
                self.handle_second();
                self.commit();
            }
            if !is_open {
                break;
            }
        }
        // A clean end: whoever was still active is gone now.
        for slot in self.heard.keys().copied().collect::<Vec<_>>() {
            self.make_idle(slot);
        }
        self.commit();
        if self.logged_bytes() > self.checkpoints.last_bytes() {
            self.ask_for_checkpoint();
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Durable(before) => {
                self.durable = self.durable.max(before);
                if let Some(last) = before.0.checked_sub(1) {
                    self.moved.extend(self.sequencer.durable(LogPosition(last)));
                }
            }
            Event::Covered(before) => {
                self.covered = self.covered.max(before);
                self.publish_marks();
            }
            Event::Checkpointed { needed, bytes } => {
                self.checkpoints.is_under_way = false;
                self.checkpoints.due_after = bytes.max(self.checkpoints.bytes_min);
                self.checkpoints.needed = Some(needed);
                let before = self.checkpoints.releasable(needed);
                if let Err(error) = self.log.release(before) {
                    tracing::warn!("old log segments stay: {error}");
                }
            }
            Event::Failed(reason) => self.fail(reason),
        }
        let (durable, covered) = (self.durable, self.covered);
        for done in self.finishing.extract_if(.., |f| f.through < durable && f.through < covered) {
            done.reply.send(Ok(self.sequencer.ack(done.slot)));
        }
    }

    fn handle_input(&mut self, input: Input) {
        match input {
            Input::PublisherHello { session, stream, publisher, outlet, reply } => {
                reply.send(self.welcome(session, stream, &publisher, outlet));
            }
            Input::Frame { session, ticks, rejected, stamps, permit } => {
                self.handle_frame(session, ticks, rejected, stamps, permit);
            }
            // The edge has counted it and ends the session.
            Input::Undecodable { session, bytes, reason, ts_recv_ns } => {
                if let Some(known) = self.sessions.get(&session) {
                    let publisher = self.sequencer.publisher(known.slot).as_str();
                    self.letters.undecodable(&known.stream, publisher, ts_recv_ns, bytes, reason);
                }
            }
            Input::Finish { session, rows, reply } => self.handle_finish(session, rows, reply),
            Input::Left { session } => self.handle_left(session),
            Input::Subscribe { request, outlet, reply } => {
                reply.send(self.subscribe(&request, outlet));
            }
            Input::Jobs { request, owner, feed } => self.asked.push((request, owner, feed)),
            Input::Status { reply } => reply.send(Ok(self.status())),
            Input::Definitions { reply } => reply.send(Ok(self.shared.definitions_text.clone())),
        }
    }

    fn welcome(
        &mut self,
        session: SessionId,
        stream: String,
        publisher: &PublisherId,
        outlet: Outlet,
    ) -> Result<Welcome, Refusal> {
        if let Some(reason) = &self.failure {
            return Err(Refusal::new(Code::Unavailable, reason.clone()));
        }
        let slot = match self.sequencer.slot(&stream, publisher) {
            Ok(slot) => slot,
            Err(error) => return Err(error.to_refusal()),
        };
        if self.by_slot.get(&slot).is_some_and(|open| open.len() >= PUBLISHER_SESSIONS_MAX) {
            let text = format!(
                "publisher {publisher} has {PUBLISHER_SESSIONS_MAX} sessions open already, as many \
                 as are allowed: end one of them"
            );
            return Err(Refusal::new(Code::Busy, text));
        }
        if self.sequencer.join(slot) {
            let (stream, publisher) = (stream.clone(), publisher.clone());
            self.push(LogRecord::Joined { stream, publisher, ts_recv_ns: now_ns() });
        }
        self.heard.insert(slot, Instant::now());
        let marks = self.sequencer.marks(slot);
        let columns = self.sequencer.schema(slot).columns.len();
        self.by_slot.entry(slot).or_default().push(session);
        self.sessions.insert(session, Session { slot, stream, outlet, is_ended: false });
        Ok(Welcome {
            next_sequence: marks.next_sequence,
            held: marks.held,
            definitions: self.shared.definitions_text.clone(),
            columns,
            ack: self.sequencer.ack(slot),
            arrow: arrow_decoder(self.sequencer.schema(slot).clone(), publisher.clone()),
        })
    }

    fn handle_frame(
        &mut self,
        session: SessionId,
        ticks: Ticks,
        rejected: Vec<Rejected>,
        stamps: Stamps,
        permit: Permit,
    ) {
        let Some(known) = self.sessions.get(&session) else { return };
        if self.failure.is_some() {
            return;
        }
        let taken = Instant::now();
        self.shared
            .ingest
            .stages
            .record(Stage::Queue, taken.saturating_duration_since(stamps.queued));
        let (slot, stream) = (known.slot, known.stream.clone());
        self.heard.insert(slot, taken);
        while let Some(end) = self.sequencer.gap_in_the_way(slot, &ticks, &rejected) {
            self.close_gaps(slot, end);
        }
        let (position, ts_recv_ns) = (self.next_position(), stamps.ts_recv_ns);
        match self.sequencer.accept(slot, ticks, rejected, ts_recv_ns, position) {
            Ok(mut accepted) => {
                if let Some(letters) = accepted.letters.take() {
                    self.letters.rows(&stream, ts_recv_ns, letters, &accepted.rejected);
                }
                if !accepted.is_empty() {
                    let (ticks, rejected) = (accepted.ticks, accepted.rejected);
                    self.push(LogRecord::Ticks { stream, ticks, rejected, ts_recv_ns });
                    if let Some(beside) = self.beside.last_mut() {
                        beside.rows = Some((taken, permit));
                    }
                }
                self.moved.push(slot);
            }
            Err(error) => {
                if let Some(known) = self.sessions.get_mut(&session) {
                    known.end(error.to_refusal());
                }
            }
        }
    }

    /// Takes the rows below `through` that are not held as lost.
    fn close_gaps(&mut self, slot: Slot, through: u64) {
        let position = self.next_position();
        if self.sequencer.close_gaps(slot, through, position) {
            let stream = self.sequencer.schema(slot).name.clone();
            let publisher = self.sequencer.publisher(slot).clone();
            self.push(LogRecord::Lost { stream, publisher, through, ts_recv_ns: now_ns() });
            self.moved.push(slot);
        }
    }

    fn handle_finish(&mut self, session: SessionId, rows: Option<u64>, reply: Reply<Ack>) {
        let Some(known) = self.sessions.get(&session) else { return };
        let slot = known.slot;
        if let Some(rows) = rows {
            self.close_gaps(slot, rows);
        }
        self.make_idle(slot);
        let Some(through) = self.next_position().0.checked_sub(1).map(LogPosition) else {
            return reply.send(Ok(self.sequencer.ack(slot)));
        };
        if through < self.durable && through < self.covered {
            reply.send(Ok(self.sequencer.ack(slot)));
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
        let watermark = self.sequencer.watermark(record.stream());
        if let LogRecord::Ticks { stream, .. } = &record {
            let position = self.next_position();
            match self.last_ticks.get_mut(stream) {
                Some(last) => *last = position,
                None => drop(self.last_ticks.insert(stream.clone(), position)),
            }
        }
        self.beside.push(Beside { watermark, rows: None });
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
                    let written = Instant::now();
                    let records = self.batch.drain(..).zip(self.beside.drain(..));
                    for ((record, Beside { watermark, rows }), position) in records.zip(first.0..) {
                        let position = LogPosition(position);
                        let permit = rows.map(|(taken, permit)| {
                            let took = written.saturating_duration_since(taken);
                            self.shared.ingest.stages.record(Stage::Log, took);
                            permit
                        });
                        let written = Some(written);
                        let logged = Logged { position, record, watermark, written, permit };
                        self.shared.lanes.queued();
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
        self.beside.clear();
        let logged = self.logged_bytes() - self.checkpoints.last_bytes();
        if logged >= self.checkpoints.due_after && !self.checkpoints.is_under_way {
            self.ask_for_checkpoint();
        } else if std::mem::take(&mut self.flush_wanted) {
            let _ = self.live.send(LiveMessage::Flush);
        }
    }

    /// Hands requests about scans on, when everything before them is in the log.
    fn hand_on(&mut self) {
        let log_end = self.log.next();
        for (request, owner, feed) in self.asked.drain(..) {
            let last_ticks = match &request {
                JobRequest::Submit(submit) => {
                    let view = |name: &String| self.shared.stream_of(name);
                    let known = submit.views.first().and_then(view);
                    let last = known.and_then(|stream| self.last_ticks.get(stream).copied());
                    // What an earlier run wrote may have had ticks until the end.
                    last.or_else(|| self.first.0.checked_sub(1).map(LogPosition))
                }
                _ => None,
            };
            let request = jobs::Request { request, owner, feed, log_end, last_ticks };
            // Dropped when the service stops: its feed says so.
            let _ = self.jobs.send(jobs::Message::Request(Box::new(request)));
        }
    }

    fn logged_bytes(&self) -> u64 {
        self.checkpoints.earlier_bytes + self.log.bytes()
    }

    /// Has what this thread and the live thread hold stored, with a flush. Between two records:
    /// everything that the sequencer took is in the log.
    fn ask_for_checkpoint(&mut self) {
        if self.failure.is_some() {
            return;
        }
        self.flush_wanted = false;
        self.checkpoints.is_under_way = true;
        let asked = (self.log.next(), self.logged_bytes());
        self.checkpoints.asked.push_back(asked);
        let saved = Box::new(self.sequencer.save());
        let _ = self.live.send(LiveMessage::Checkpoint(self.log.next(), saved));
    }

    /// Tells publishers whose marks moved where they stand, if the last time is not too close.
    fn acknowledge(&mut self) {
        if self.moved.is_empty() || self.acknowledged.elapsed() < ACKS_SPACING {
            return;
        }
        self.acknowledged = Instant::now();
        self.moved.sort_unstable();
        self.moved.dedup();
        for slot in self.moved.drain(..) {
            for session in self.by_slot.get(&slot).into_iter().flatten() {
                self.sessions[session].outlet.ack(self.sequencer.ack(slot));
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
            session.end(Refusal::new(Code::Unavailable, reason.clone()));
        }
        self.finishing.clear();
        self.shared.fail(&reason);
        self.failure = Some(reason);
    }

    fn subscribe(&self, request: &Subscribe, outlet: Outlet) -> Result<Subscription, Refusal> {
        let view = &request.view;
        match self.shared.views.iter().find(|known| known.view.name == *view) {
            Some(known) => known.subscribe(request, outlet, self.shared.ingest.edge.subscribers()),
            None => {
                let names: Vec<_> =
                    self.shared.views.iter().map(|known| known.view.name.as_str()).collect();
                let text = format!("there is no view `{view}`; declared are: {}", names.join(", "));
                Err(Refusal::new(Code::UnknownView, text))
            }
        }
    }

    fn publish_marks(&self) {
        self.shared.set_streams(self.sequencer.status(), &self.rates);
        self.shared.set_log(LogMarks {
            first: self.log.first(),
            next: self.log.next(),
            durable: self.durable,
            covered: self.covered,
            needed: self.checkpoints.needed,
            faults: self.log.faults(),
            io: self.log.io(),
        });
    }

    fn status(&mut self) -> String {
        self.publish_marks();
        self.shared.to_json().to_string()
    }
}

/// Reads a publisher's rows where they come as Arrow.
fn arrow_decoder(schema: StreamSchema, publisher: PublisherId) -> ArrowDecoder {
    ArrowDecoder(Arc::new(move |payload, first_sequence| {
        let read = ticks_of_payload(payload, &schema, &publisher, first_sequence);
        let frame = |(ticks, rejected)| Frame { ticks, rejected };
        read.map(|batches| batches.into_iter().map(frame).collect()).map_err(|e| e.to_string())
    }))
}
