//! One ingest thread: its socket, its QUIC endpoint, its connections, in one loop.
//!
//! A turn: take what arrived and what other threads posted; drive the connections that this
//! concerns and those whose time has come; send; sleep until there is something to do.

mod arrivals;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use isotick_wire::{Code, Refusal, datagram};
use quinn_proto::{
    ConnectionHandle, Dir, Endpoint, EndpointConfig, Event, StreamEvent, StreamId, VarInt,
};
use rustc_hash::FxHashMap;

use super::context::{Context, Holding, context};
use super::ids::ConnectionIds;
use super::io::{Io, Received};
use super::mailbox::{Forwarded, Mailbox};
use super::session::{Driven, Driver};
use super::tls::Admission;
use super::{EdgeConfig, STOPS, SharedCounters};
use crate::input::SessionId;
use crate::intake::Intake;
use crate::stages::Stages;

/// Sends of one connection before others get their turn.
const SENDS_PER_TURN: usize = 16;
/// How often is looked whose token or certificate has expired.
const EXPIRY_STEP: Duration = Duration::from_secs(1);
/// The longest sleep.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// What the threads of an edge share.
pub(super) struct Shared {
    pub(super) config: EdgeConfig,
    pub(super) ids: ConnectionIds,
    pub(super) mailboxes: Vec<Arc<Mailbox>>,
    pub(super) intake: Intake,
    pub(super) counters: Arc<SharedCounters>,
    pub(super) stages: Arc<Stages>,
    pub(super) sessions: AtomicU64,
    /// Connections of all threads, handshakes included.
    pub(super) connections: AtomicUsize,
}

struct Connection {
    proto: quinn_proto::Connection,
    drivers: Vec<Driver>,
    is_established: bool,
    /// When its last session ended, or it was established.
    unused_since: Instant,
    deadline: Option<Instant>,
    is_due: bool,
    /// By which admission of the thread its client was let in last, or refused since.
    admission: u64,
    /// Why its client would not be let in any more.
    disowned: Option<Refusal>,
}

pub(super) struct IngestThread {
    index: usize,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    endpoint: Endpoint,
    admission: Admission,
    /// How often other authorities came to vouch for clients.
    admissions: u64,
    io: Box<dyn Io>,
    connections: FxHashMap<ConnectionHandle, Connection>,
    sessions: FxHashMap<SessionId, ConnectionHandle>,
    /// Deadlines of connections, each at most once.
    timers: BTreeSet<(Instant, usize)>,
    /// Connections to be driven in this turn, each at most once.
    due: Vec<ConnectionHandle>,
    /// Connections whose rows wait for room in memory.
    blocked: Vec<ConnectionHandle>,
    handshakes: usize,
    window_bytes: u32,
    holding: Holding,
    /// When it is looked next whose time is over.
    expiry_at: Instant,
    stopping: Option<Instant>,
    /// Kept for its memory.
    arrived: Vec<Forwarded>,
}

impl IngestThread {
    pub(super) fn new(
        index: usize,
        shared: Arc<Shared>,
        endpoint: Arc<EndpointConfig>,
        admission: Admission,
        io: Box<dyn Io>,
    ) -> Self {
        let server = Some(admission.server.clone());
        let threads = shared.mailboxes.len();
        let window_bytes = shared.config.connection_window(0);
        Self {
            index,
            mailbox: shared.mailboxes[index].clone(),
            holding: Holding::new(shared.config.partial_bytes_max() / threads),
            shared,
            endpoint: Endpoint::new(endpoint, server, true, None),
            admission,
            admissions: 0,
            io,
            connections: FxHashMap::default(),
            sessions: FxHashMap::default(),
            timers: BTreeSet::new(),
            due: Vec::new(),
            blocked: Vec::new(),
            handshakes: 0,
            window_bytes,
            expiry_at: Instant::now(),
            stopping: None,
            arrived: Vec::new(),
        }
    }

    /// Runs until the edge stops.
    ///
    /// # Errors
    ///
    /// The socket, or the ring, does not work any more.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            let mut now = Instant::now();
            let arrived = self.receive(now)?;
            self.open_mail(now);
            self.expire(now);
            let busy = self.drive_due(now);
            self.follow_load();
            if let Some(until) = self.stopping {
                now = Instant::now();
                if self.connections.is_empty() || now >= until {
                    return self.say_goodbye(now);
                }
            }
            let idle = !arrived && !busy && self.due.is_empty();
            let sleep = match idle && !self.shared.config.spin {
                true => self.sleep(),
                false => Duration::ZERO,
            };
            match !sleep.is_zero() && self.mailbox.fall_asleep() {
                true => {
                    let waited = self.io.wait(sleep);
                    self.mailbox.wake_up();
                    waited?;
                }
                false => self.io.wait(Duration::ZERO)?,
            }
        }
    }

    fn sleep(&self) -> Duration {
        let until = self.timers.first().map(|(deadline, _)| *deadline);
        let until = until.into_iter().chain(self.stopping).min();
        until.map_or(SLEEP_MAX, |until| {
            until
                .saturating_duration_since(Instant::now())
                .clamp(Duration::from_micros(1), SLEEP_MAX)
        })
    }

    fn receive(&mut self, now: Instant) -> io::Result<bool> {
        let mut arrived = std::mem::take(&mut self.arrived);
        let some = self.io.receive(&mut |received| {
            let Received { remote, local_ip, ecn, stride, data } = received;
            let mut all = BytesMut::from(data);
            while !all.is_empty() {
                let data = all.split_to(stride.min(all.len()));
                arrived.push(Forwarded { remote, local_ip, ecn, data });
            }
        })?;
        arrived.drain(..).for_each(|datagram| self.route(datagram, now));
        self.arrived = arrived;
        Ok(some)
    }

    fn make_due(&mut self, handle: ConnectionHandle) {
        if let Some(connection) = self.connections.get_mut(&handle)
            && !std::mem::replace(&mut connection.is_due, true)
        {
            self.due.push(handle);
        }
    }

    fn open_mail(&mut self, now: Instant) {
        let mail = self.mailbox.take();
        for datagram in mail.forwarded {
            self.handle(datagram, now);
        }
        for (session, answer) in mail.answers {
            let Some(&handle) = self.sessions.get(&session) else { continue };
            self.make_due(handle);
            let Some(connection) = self.connections.get_mut(&handle) else { continue };
            let Connection { proto, drivers, .. } = connection;
            if let Some(driver) = drivers.iter_mut().find(|driver| driver.id == session) {
                let mut cx = context(&self.shared, &self.mailbox, &mut self.holding);
                driver.answer(answer, proto, &mut cx, now);
            }
        }
        if mail.room {
            for handle in std::mem::take(&mut self.blocked) {
                self.make_due(handle);
            }
        }
        if let Some(admission) = mail.admission {
            self.admit_by(admission, now);
        }
        if mail.recheck {
            self.for_sessions_of(|_| true, |driver, proto, cx| driver.recheck(proto, cx, now));
        }
        if let Some(patience) = mail.stop {
            self.stop(now, patience);
        }
    }

    fn stop(&mut self, now: Instant, patience: Duration) {
        self.stopping = Some(now + patience);
        self.for_sessions_of(
            |_| true,
            |driver, proto, cx| {
                driver.dismiss(Refusal::new(Code::ShuttingDown, STOPS), proto, cx, now);
            },
        );
    }

    /// Who was let in for a time that is over is told so.
    fn end_expired(&mut self, now: Instant) {
        if now < self.expiry_at {
            return;
        }
        self.expiry_at = now + EXPIRY_STEP;
        let now_s = context(&self.shared, &self.mailbox, &mut self.holding).now_s();
        self.for_sessions_of(
            |connection| connection.drivers.iter().any(|driver| driver.has_expired(now_s)),
            |driver, proto, cx| driver.recheck(proto, cx, now),
        );
    }

    /// Every session of some connections has something to say now, it may be.
    fn for_sessions_of(
        &mut self,
        which: impl Fn(&Connection) -> bool,
        mut change: impl FnMut(&mut Driver, &mut quinn_proto::Connection, &mut Context<'_>),
    ) {
        let chosen = self.connections.iter().filter(|(_, connection)| which(connection));
        let handles: Vec<_> = chosen.map(|(handle, _)| *handle).collect();
        for handle in handles {
            self.make_due(handle);
            let Some(Connection { proto, drivers, .. }) = self.connections.get_mut(&handle) else {
                continue;
            };
            let mut cx = context(&self.shared, &self.mailbox, &mut self.holding);
            drivers.iter_mut().for_each(|driver| change(driver, proto, &mut cx));
        }
    }

    /// Connections whose time has come are due.
    fn expire(&mut self, now: Instant) {
        while let Some(&(deadline, handle)) = self.timers.first() {
            if deadline > now {
                break;
            }
            self.timers.pop_first();
            let handle = ConnectionHandle(handle);
            if let Some(connection) = self.connections.get_mut(&handle) {
                connection.deadline = None;
            }
            self.make_due(handle);
        }
        self.end_expired(now);
        for session in self.holding.relieved() {
            if let Some(&handle) = self.sessions.get(&session) {
                self.make_due(handle);
            }
        }
    }

    /// Drives every connection that is due once. True when one of them has more to do.
    fn drive_due(&mut self, now: Instant) -> bool {
        let due = std::mem::take(&mut self.due);
        let mut busy = false;
        for handle in due {
            if let Some(mut connection) = self.connections.remove(&handle) {
                connection.is_due = false;
                let more = self.drive(handle, &mut connection, now);
                match connection.proto.is_drained() {
                    true => self.remove(handle, connection),
                    false => {
                        self.connections.insert(handle, connection);
                        if more {
                            busy = true;
                            self.make_due(handle);
                        }
                    }
                }
            }
        }
        busy
    }

    fn drive(
        &mut self,
        handle: ConnectionHandle,
        connection: &mut Connection,
        now: Instant,
    ) -> bool {
        if connection.proto.poll_timeout().is_some_and(|timeout| timeout <= now) {
            connection.proto.handle_timeout(now);
        }
        self.take_events(handle, connection, now);
        let mut more = false;
        let Connection { proto, drivers, .. } = connection;
        let had = drivers.len();
        let mut cx = context(&self.shared, &self.mailbox, &mut self.holding);
        let mut is_blocked = false;
        drivers.retain_mut(|driver| {
            let driven = driver.drive(proto, &mut cx, now);
            more |= driven == Driven::Busy;
            is_blocked |= driver.is_blocked();
            if driven == Driven::Over {
                driver.forget(proto, &mut cx);
                self.sessions.remove(&driver.id);
                SharedCounters::sub(&cx.counters.sessions_open);
            }
            driven != Driven::Over
        });
        // What is left unread of one session takes the connection's window from the others. But
        // whom all others wait for has no more than its time.
        if drivers.len() > 1 && drivers.iter().any(Driver::is_withheld) {
            for driver in drivers.iter_mut().filter(|d| !cx.holding.is_favourite(d.id)) {
                driver.hold_clock(now);
            }
        }
        if is_blocked && !self.blocked.contains(&handle) {
            self.blocked.push(handle);
        }
        if drivers.is_empty() {
            if had > 0 {
                connection.unused_since = now;
            }
            self.close_unused(connection, now);
        }
        while let Some(event) = connection.proto.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(handle, event) {
                connection.proto.handle_event(event);
            }
        }
        more |= self.transmit(connection, now);
        self.set_timer(handle, connection);
        more
    }

    /// A connection that is held open for nothing makes room for others.
    fn close_unused(&mut self, connection: &mut Connection, now: Instant) {
        let closes = connection.unused_since + self.shared.config.message_timeout;
        if connection.is_established && !connection.proto.is_closed() {
            if self.stopping.is_some() {
                connection.proto.close(now, code(Code::ShuttingDown), STOPS.as_bytes().into());
            } else if now >= closes {
                SharedCounters::add(&self.shared.counters.too_slow);
                let text = Bytes::from_static(b"the connection was not used");
                connection.proto.close(now, code(Code::TooSlow), text);
            }
        }
    }

    fn take_events(&mut self, handle: ConnectionHandle, connection: &mut Connection, now: Instant) {
        while let Some(event) = connection.proto.poll() {
            match event {
                Event::Connected => {
                    connection.is_established = true;
                    connection.unused_since = now;
                    self.handshakes -= 1;
                    SharedCounters::add(&self.shared.counters.connections_accepted);
                    SharedCounters::add(&self.shared.counters.connections_open);
                    connection.proto.set_receive_window(self.window_bytes.into());
                    // The authorities were replaced during the handshake.
                    self.hold_against_authorities(connection);
                }
                Event::ConnectionLost { reason } => {
                    if !connection.is_established {
                        tracing::debug!(%reason, "a handshake failed");
                    }
                    self.lose(connection);
                }
                Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                    while let Some(stream) = connection.proto.streams().accept(Dir::Bi) {
                        self.open_session(handle, connection, stream, now);
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) => {
                    if let Some(driver) = connection.drivers.iter_mut().find(|d| d.stream == id) {
                        driver.readable();
                    }
                }
                Event::Stream(StreamEvent::Finished { id } | StreamEvent::Stopped { id, .. }) => {
                    self.end_session(connection, id, now)
                }
                Event::DatagramReceived => self.take_datagrams(connection, now),
                Event::HandshakeDataReady
                | Event::DatagramsUnblocked
                | Event::Stream(
                    StreamEvent::Opened { dir: Dir::Uni }
                    | StreamEvent::Writable { .. }
                    | StreamEvent::Available { .. },
                ) => {}
            }
        }
    }

    fn open_session(
        &mut self,
        handle: ConnectionHandle,
        connection: &mut Connection,
        stream: StreamId,
        now: Instant,
    ) {
        let id = SessionId(self.shared.sessions.fetch_add(1, Ordering::Relaxed));
        SharedCounters::add(&self.shared.counters.sessions_open);
        self.sessions.insert(id, handle);
        let patience = self.shared.config.hello_timeout;
        let mut driver = Driver::new(id, stream, now, patience);
        let stops = self.stopping.map(|_| Refusal::new(Code::ShuttingDown, STOPS));
        if let Some(refusal) = stops.or_else(|| connection.disowned.clone()) {
            let mut cx = context(&self.shared, &self.mailbox, &mut self.holding);
            driver.dismiss(refusal, &mut connection.proto, &mut cx, now);
        }
        connection.drivers.push(driver);
    }

    fn end_session(&mut self, connection: &mut Connection, stream: StreamId, now: Instant) {
        let Connection { proto, drivers, unused_since, .. } = connection;
        if let Some(place) = drivers.iter().position(|driver| driver.stream == stream) {
            let mut driver = drivers.swap_remove(place);
            *unused_since = now;
            let mut cx = context(&self.shared, &self.mailbox, &mut self.holding);
            driver.leave(&mut cx);
            driver.forget(proto, &mut cx);
            self.sessions.remove(&driver.id);
            SharedCounters::sub(&self.shared.counters.sessions_open);
        }
    }

    fn take_datagrams(&mut self, connection: &mut Connection, now: Instant) {
        let mut cx = context(&self.shared, &self.mailbox, &mut self.holding);
        while let Some(bytes) = connection.proto.datagrams().recv() {
            let split = datagram::split(&bytes).ok();
            let driver = split.and_then(|(session, payload)| {
                let driver = connection.drivers.iter_mut().find(|d| d.id.0 == session)?;
                Some((driver, payload))
            });
            match driver {
                Some((driver, payload)) => driver.datagram(payload, &mut cx, now),
                None => SharedCounters::add(&cx.counters.tick_datagrams_refused),
            }
        }
    }

    /// Sends what the connection has. True when it has more.
    fn transmit(&mut self, connection: &mut Connection, now: Instant) -> bool {
        for _ in 0..SENDS_PER_TURN {
            if !self.io.has_room() {
                return true;
            }
            let segments = self.io.segments_max(connection.proto.current_mtu());
            let proto = &mut connection.proto;
            if !self.io.send(&mut |bytes| proto.poll_transmit(now, segments, bytes)) {
                return false;
            }
        }
        true
    }

    fn set_timer(&mut self, handle: ConnectionHandle, connection: &mut Connection) {
        let unused = (connection.is_established && connection.drivers.is_empty())
            .then(|| connection.unused_since + self.shared.config.message_timeout)
            .filter(|_| !connection.proto.is_closed());
        let sessions = connection.drivers.iter().filter_map(Driver::deadline);
        let deadline = sessions.chain(unused).chain(connection.proto.poll_timeout()).min();
        if deadline != connection.deadline {
            if let Some(before) = connection.deadline {
                self.timers.remove(&(before, handle.0));
            }
            if let Some(deadline) = deadline {
                self.timers.insert((deadline, handle.0));
            }
            connection.deadline = deadline;
        }
    }

    /// The client is gone; the connection remains for a moment, for packets that are under way.
    fn lose(&mut self, connection: &mut Connection) {
        let Connection { proto, drivers, .. } = connection;
        let mut cx = context(&self.shared, &self.mailbox, &mut self.holding);
        for mut driver in drivers.drain(..) {
            driver.leave(&mut cx);
            driver.forget(proto, &mut cx);
            self.sessions.remove(&driver.id);
            SharedCounters::sub(&self.shared.counters.sessions_open);
        }
    }

    fn remove(&mut self, handle: ConnectionHandle, mut connection: Connection) {
        self.lose(&mut connection);
        if let Some(deadline) = connection.deadline {
            self.timers.remove(&(deadline, handle.0));
        }
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        match connection.is_established {
            true => SharedCounters::sub(&self.shared.counters.connections_open),
            false => {
                self.handshakes -= 1;
                SharedCounters::add(&self.shared.counters.handshakes_failed);
            }
        }
    }

    /// The more connections share the memory for what is not read yet, the less each may have.
    fn follow_load(&mut self) {
        let open = self.shared.connections.load(Ordering::Relaxed);
        let window = self.shared.config.connection_window(open);
        if window != self.window_bytes {
            self.window_bytes = window;
            for connection in self.connections.values_mut() {
                connection.proto.set_receive_window(window.into());
            }
        }
    }

    /// The end: every client is told, as far as one packet does.
    fn say_goodbye(mut self, now: Instant) -> io::Result<()> {
        let handles: Vec<_> = self.connections.keys().copied().collect();
        for handle in handles {
            let Some(mut connection) = self.connections.remove(&handle) else { continue };
            if !connection.proto.is_closed() {
                connection.proto.close(now, code(Code::ShuttingDown), STOPS.as_bytes().into());
            }
            self.transmit(&mut connection, now);
            self.remove(handle, connection);
        }
        self.io.wait(Duration::from_millis(1))
    }
}

fn code(code: Code) -> VarInt {
    VarInt::from_u32(code.number())
}
