//! One session on one QUIC stream: requests in, answers and windows out.
//!
//! Driven by its thread: [`Driver::drive`] whenever the stream may be read or written, something
//! was answered, or a deadline passed. Never waits.

mod asking;

use std::sync::Arc;
use std::time::{Duration, Instant};

use isotick_model::PublisherId;
use isotick_wire::{Code, Control, Refusal};
use quinn_proto::{Connection, ReadError, ReadableError, StreamId, VarInt};

use super::clock::Clock;
use super::context::Context;
use super::fed::{Fed, FedNext};
use super::outbox::Outbox;
use super::publishing::{Publishing, frame_bytes, frame_input};
use crate::access::{Admitted, Granted};
use crate::input::{Input, Outlet, SessionId, Stamps};
use crate::session::{Broken, Request, Session};
use crate::stages::Stage;
use crate::subscriber::{Next, SubscriberQueue};

/// What a session reads at most before others get their turn.
const READ_BYTES_PER_TURN: usize = 256 << 10;
/// What waits to be written at most before no more windows are taken from the queue.
const OUTBOX_BYTES: usize = 256 << 10;
/// How long a client may take for the last message.
const FAREWELL: Duration = Duration::from_secs(5);

/// What became of a session after it was driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driven {
    /// It waits: for the client, the service, or room.
    Waits,
    /// There is more to do at once; others first.
    Busy,
    /// It is over.
    Over,
}

/// A session and its stream.
pub(super) struct Driver {
    pub(super) id: SessionId,
    pub(super) stream: StreamId,
    requests: Session,
    /// What it was let in for, until it ends.
    admitted: Option<Admitted>,
    phase: Phase,
    outbox: Outbox,
    /// The client's side may have bytes for us.
    is_readable: bool,
    /// Bytes of unfinished messages that the thread knows of.
    held_bytes: usize,
    /// Of the hello, then of the message in hand.
    clock: Clock,
    /// The client sent more than the thread has memory for.
    is_starved: bool,
}

enum Phase {
    /// Nothing was said yet.
    New,
    /// The service was asked.
    Asked {
        publisher: Option<(PublisherId, bool)>,
        outlet: Outlet,
        granted: Granted,
    },
    Publishing(Publishing),
    /// The publisher is done, the service answers when everything is stored.
    Finishing {
        outlet: Outlet,
    },
    Subscribed {
        queue: Arc<SubscriberQueue>,
    },
    /// The service puts what is asked of its jobs.
    Fed(Fed),
    /// The last message is on its way.
    Closing {
        until: Instant,
        goodbye: Option<Refusal>,
    },
}

impl Driver {
    pub(super) fn new(id: SessionId, stream: StreamId, now: Instant, patience: Duration) -> Self {
        Self {
            id,
            stream,
            requests: Session::default(),
            admitted: None,
            phase: Phase::New,
            outbox: Outbox::default(),
            is_readable: true,
            held_bytes: 0,
            clock: Clock::started(now, patience),
            is_starved: false,
        }
    }

    /// The client sent something, or ended its side.
    pub(super) fn readable(&mut self) {
        self.is_readable = true;
    }

    /// Whether rows wait for room in memory.
    pub(super) fn is_blocked(&self) -> bool {
        matches!(&self.phase, Phase::Publishing(publishing) if publishing.is_blocked())
    }

    /// Whether the service leaves unread what the client sent.
    pub(super) fn is_withheld(&self) -> bool {
        match &self.phase {
            Phase::Publishing(publishing) => publishing.is_blocked() || self.is_starved,
            Phase::New => self.is_starved,
            _ => false,
        }
    }

    /// The time that the client may take stands still until it is driven again.
    pub(super) fn hold_clock(&mut self, now: Instant) {
        self.clock.hold(true, now);
    }

    /// The session is over: its stream and its share of memory are given back.
    pub(super) fn forget(&mut self, connection: &mut Connection, cx: &mut Context<'_>) {
        let _ = connection.recv_stream(self.stream).stop(VarInt::from_u32(0));
        // Without effect when the last message was taken.
        let _ = connection.send_stream(self.stream).reset(VarInt::from_u32(0));
        cx.holding.changed(self.id, self.held_bytes, 0);
        self.held_bytes = 0;
    }

    /// When the session wants to be driven even if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Closing { until, .. } => Some(*until),
            Phase::New | Phase::Publishing(_) => self.clock.deadline(),
            // The client has something to read.
            Phase::Fed(fed) if self.outbox.bytes > 0 => fed.deadline(),
            _ => None,
        }
    }

    /// Moves everything that can be moved.
    pub(super) fn drive(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Driven {
        let mut busy = false;
        let mut read = 0;
        loop {
            let end = match &mut self.phase {
                Phase::Publishing(publishing) if publishing.is_blocked() => {
                    match publishing.hand_over(self.id, cx) {
                        Ok(true) => {
                            match self.requests.is_inside_message() {
                                true => self.clock.start(now, cx.message_timeout),
                                false => self.clock.stop(),
                            }
                            continue;
                        }
                        Ok(false) => break,
                        Err(refusal) => End::Goodbye(refusal),
                    }
                }
                Phase::New | Phase::Publishing(_) => match self.poll(cx) {
                    Ok(Some(request)) => match self.handle(request, connection, cx) {
                        Ok(()) => continue,
                        Err(end) => end,
                    },
                    Ok(None) if read >= READ_BYTES_PER_TURN => {
                        busy = true;
                        break;
                    }
                    Ok(None) => match self.read(connection, cx, now) {
                        Ok(0) => break,
                        Ok(bytes) => {
                            read += bytes;
                            continue;
                        }
                        Err(end) => end,
                    },
                    Err(broken) => {
                        if let Some(bytes) = broken.payload {
                            self.undecodable(bytes, &broken.refusal, cx);
                        }
                        match self.phase {
                            Phase::New => End::Refused(broken.refusal),
                            _ => End::Goodbye(broken.refusal),
                        }
                    }
                },
                Phase::Subscribed { .. } | Phase::Fed(_) => match self.watch_reader(connection) {
                    Ok(()) => break,
                    Err(end) => end,
                },
                Phase::Asked { .. } | Phase::Finishing { .. } | Phase::Closing { .. } => break,
            };
            self.end(end, connection, cx, now);
            if matches!(self.phase, Phase::New) {
                return Driven::Over;
            }
        }
        self.clock.hold(self.is_withheld(), now);
        if let Some(end) = self.overdue(now) {
            self.end(end, connection, cx, now);
        }
        let held_bytes = self.requests.held_bytes();
        cx.holding.changed(self.id, self.held_bytes, held_bytes);
        self.held_bytes = held_bytes;
        match self.write(connection, cx, now) {
            Driven::Waits if busy => Driven::Busy,
            driven => driven,
        }
    }

    /// The session is to end, whatever it does: the service stops.
    pub(super) fn dismiss(
        &mut self,
        refusal: Refusal,
        connection: &mut Connection,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        if !matches!(self.phase, Phase::Closing { .. }) {
            self.end(End::Goodbye(refusal), connection, cx, now);
        }
    }

    /// The connection, or the client's interest, is gone.
    pub(super) fn leave(&mut self, cx: &mut Context<'_>) {
        match std::mem::replace(&mut self.phase, Phase::New) {
            Phase::Publishing(_) | Phase::Finishing { .. } => {
                // A service that is gone does not listen any more.
                cx.intake.push(Input::Left { session: self.id });
            }
            Phase::Asked { publisher: Some(_), .. } => {
                // The service may have let the publisher in; if not it knows of no such session.
                cx.intake.push(Input::Left { session: self.id });
            }
            Phase::Subscribed { queue } => queue.close(),
            Phase::Fed(fed) => fed.close(),
            Phase::New | Phase::Asked { .. } | Phase::Closing { .. } => {}
        }
    }

    /// Rows that came as a datagram of this session.
    pub(super) fn datagram(&mut self, payload: &[u8], cx: &mut Context<'_>, now: Instant) {
        let refused = &cx.counters.tick_datagrams_refused;
        let takes = matches!(&self.phase, Phase::Publishing(Publishing { takes_datagrams, .. }) if *takes_datagrams);
        if !takes {
            return super::SharedCounters::add(refused);
        }
        let Ok(Some(frame)) = self.requests.datagram(payload) else {
            return super::SharedCounters::add(refused);
        };
        match cx.intake.reserve(frame_bytes(&frame.ticks, frame.rejected.len()), cx.mailbox) {
            None => super::SharedCounters::add(&cx.counters.tick_datagrams_dropped),
            Some(permit) => {
                let stamps = Stamps { ts_recv_ns: cx.now_ns(), received: now, queued: now };
                cx.intake.push(frame_input(self.id, frame, stamps, permit));
            }
        }
    }

    /// The next request, with the time that its frame took.
    fn poll(&mut self, cx: &Context<'_>) -> Result<Option<Request>, Broken> {
        let start = Instant::now();
        let polled = self.requests.poll();
        if let (Ok(Some(Request::Frame(_) | Request::Arrow(_))), Some(first_byte)) =
            (&polled, self.clock.first_byte())
        {
            cx.stages.record(Stage::Receive, start.saturating_duration_since(first_byte));
            cx.stages.record(Stage::Decode, start.elapsed());
        }
        polled
    }

    /// Feeds what the stream has, up to one chunk. Zero when there is nothing now.
    fn read(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<usize, End> {
        self.is_starved = self.is_readable && !cx.holding.may_read(self.id);
        if !self.is_readable || self.is_starved {
            return Ok(0);
        }
        let before = self.requests.held_bytes();
        let mut stream = connection.recv_stream(self.stream);
        let mut chunks = match stream.read(true) {
            Ok(chunks) => chunks,
            Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => {
                self.is_readable = false;
                return Err(End::Gone);
            }
        };
        let mut fed = 0;
        let read = chunks.next(READ_BYTES_PER_TURN);
        if let Ok(Some(chunk)) = &read {
            fed = chunk.bytes.len();
            self.requests.feed(&chunk.bytes);
        }
        // More of the flow control window is announced with the next packet.
        let _ = chunks.finalize().should_transmit();
        match read {
            Ok(Some(_)) => {
                if before == 0 {
                    self.clock.start(now, cx.message_timeout);
                }
                Ok(fed)
            }
            Err(ReadError::Blocked) => {
                self.is_readable = false;
                // Between messages a publisher may be silent for as long as it likes.
                if before == 0 && !matches!(self.phase, Phase::New) {
                    self.clock.stop();
                }
                Ok(0)
            }
            Ok(None) | Err(ReadError::Reset(_)) => Err(End::Gone),
        }
    }

    /// Who only reads says nothing more, but may end its side.
    fn watch_reader(&mut self, connection: &mut Connection) -> Result<(), End> {
        if !std::mem::take(&mut self.is_readable) {
            return Ok(());
        }
        let mut stream = connection.recv_stream(self.stream);
        let Ok(mut chunks) = stream.read(true) else { return Ok(()) };
        let read = chunks.next(1);
        let _ = chunks.finalize().should_transmit();
        match read {
            Ok(Some(_)) => Err(End::Goodbye(Refusal::new(
                Code::Protocol,
                "a message out of order: this session sends nothing more",
            ))),
            Err(ReadError::Reset(_)) => Err(End::Gone),
            Ok(None) | Err(ReadError::Blocked) => Ok(()),
        }
    }

    fn overdue(&self, now: Instant) -> Option<End> {
        if matches!(self.phase, Phase::Closing { .. }) || self.deadline()? > now {
            return None;
        }
        let text = match self.phase {
            Phase::New => "no hello came in time",
            Phase::Fed(_) => "the answer was not read in time",
            _ => "a message was begun and not ended in time",
        };
        Some(match self.phase {
            Phase::New => End::Refused(Refusal::new(Code::TooSlow, text)),
            _ => End::Goodbye(Refusal::new(Code::TooSlow, text)),
        })
    }

    /// Ends the session: says the last message and lets go of everything else.
    fn end(&mut self, end: End, connection: &mut Connection, cx: &mut Context<'_>, now: Instant) {
        self.leave(cx);
        self.clock.stop();
        self.admitted = None;
        // What the client still sends is of no use, nor is what came of a message.
        self.requests = Session::default();
        let _ = connection.recv_stream(self.stream).stop(VarInt::from_u32(0));
        let (farewell, goodbye) = match end {
            End::Gone => return,
            End::Complete { patience } => {
                self.outbox.is_last = true;
                self.phase = Phase::Closing { until: now + patience, goodbye: None };
                return;
            }
            End::Answered(control) => (*control, None),
            End::Refused(refusal) => {
                cx.count_refusal(&refusal, true);
                (Control::Refusal(refusal), None)
            }
            End::Goodbye(refusal) => {
                cx.count_refusal(&refusal, false);
                (Control::Goodbye(refusal.clone()), Some(refusal))
            }
            End::Revoked(refusal) => {
                super::SharedCounters::add(&cx.counters.sessions_revoked);
                (Control::Goodbye(refusal.clone()), Some(refusal))
            }
        };
        // A text that fits no message is the service's own mistake; the code still says why.
        let _ = self.outbox.put(&farewell);
        self.outbox.is_last = true;
        self.phase = Phase::Closing { until: now + FAREWELL, goodbye };
    }

    /// Writes what is to be written and there is room for.
    fn write(&mut self, connection: &mut Connection, cx: &mut Context<'_>, now: Instant) -> Driven {
        loop {
            let before = self.outbox.bytes;
            let flushed = self.outbox.flush(connection, self.stream);
            if let Phase::Fed(fed) = &mut self.phase
                && self.outbox.bytes < before
            {
                fed.went_on(now);
            }
            match flushed {
                Ok(true) => {}
                Ok(false) => return self.wait_for_room(connection, now),
                Err(()) => {
                    self.leave(cx);
                    return Driven::Over;
                }
            }
            match &mut self.phase {
                Phase::Publishing(Publishing { outlet, .. }) | Phase::Finishing { outlet } => {
                    let Some(ack) = outlet.take_ack() else { return Driven::Waits };
                    self.outbox.put(&Control::Ack(ack)).expect("an ack is short");
                }
                Phase::Subscribed { queue } => {
                    let queue = queue.clone();
                    while self.outbox.bytes < OUTBOX_BYTES {
                        match queue.next() {
                            Next::Wait => break,
                            Next::Send(batch) => match batch.messages(queue.format()) {
                                Ok(messages) => {
                                    messages.iter().for_each(|m| self.outbox.push(m.clone()));
                                    cx.stages.record(Stage::Publish, batch.age(now));
                                }
                                Err(_) => {
                                    let text = "a window is longer than a message may be";
                                    let end = End::Goodbye(Refusal::new(Code::Unavailable, text));
                                    self.end(end, connection, cx, now);
                                    break;
                                }
                            },
                            Next::End(refusal) => {
                                self.end(End::Goodbye(refusal), connection, cx, now);
                                break;
                            }
                        }
                    }
                    if self.outbox.bytes == 0 {
                        return Driven::Waits;
                    }
                }
                Phase::Fed(fed) => {
                    let end = match fed.next(now) {
                        FedNext::Wait => return Driven::Waits,
                        FedNext::Send(message) => {
                            self.outbox.push(message);
                            continue;
                        }
                        FedNext::Complete { patience } => End::Complete { patience },
                        FedNext::Refused(refusal) => End::Refused(refusal),
                        FedNext::Goodbye(refusal) => End::Goodbye(refusal),
                    };
                    self.end(end, connection, cx, now);
                }
                Phase::Closing { .. } => return self.wait_for_room(connection, now),
                Phase::New | Phase::Asked { .. } => return Driven::Waits,
            }
        }
    }

    /// The client's window is full, or the last message is on its way.
    fn wait_for_room(&mut self, connection: &mut Connection, now: Instant) -> Driven {
        let Phase::Closing { until, goodbye } = &mut self.phase else { return Driven::Waits };
        if *until > now {
            return Driven::Waits;
        }
        if let Some(refusal) = goodbye.take() {
            // The client does not read: a connection's last frame needs no room on the stream.
            let code = VarInt::from_u32(refusal.code.number());
            connection.close(now, code, refusal.text.into_bytes().into());
        }
        Driven::Over
    }
}

/// How a session ends.
enum End {
    /// The client went away, or the connection did.
    Gone,
    /// What was asked for is answered.
    Answered(Box<Control>),
    /// Everything was said; the client may take so long to read it.
    Complete { patience: Duration },
    /// Refused before anything was established.
    Refused(Refusal),
    /// Ended by the service or for a broken rule.
    Goodbye(Refusal),
    /// Ended because what it does is no longer allowed.
    Revoked(Refusal),
}
