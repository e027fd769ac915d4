//! One task per connection and per session: thin, all decisions are the session's or the service's.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Buf, BytesMut};
use isotick_wire::message::{self, Kind};
use isotick_wire::{
    Ack, Code, Control, EncodeError, Hello, HelloReply, PublishedWindow, Refusal, Role, windows,
};
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, WriteError};
use rustls::pki_types::CertificateDer;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::{STOPS, Shared, code};
use crate::access::Granted;
use crate::input::{Input, SessionId, Subscription, Welcome};
use crate::session::{Request, Session};

/// Bytes taken from a stream at once.
const READ_BYTES: usize = 64 << 10;
/// How long a client may take to say hello, and to take the last message.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a subscriber that takes nothing is looked at.
const LAG_CHECK: Duration = Duration::from_millis(100);
/// Windows per message at most; a batch may take several messages.
const WINDOWS_PER_MESSAGE: usize = 4_096;

pub(super) async fn accept(endpoint: Endpoint, shared: Arc<Shared>, connections_max: usize) {
    let mut stop = shared.stop.clone();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some(incoming) = incoming else { break };
        if endpoint.open_connections() >= connections_max {
            shared.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
            incoming.refuse();
            continue;
        }
        tokio::spawn(serve(incoming, shared.clone()));
    }
}

/// Counts what is open while it lives.
struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    fn new(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(incoming: Incoming, shared: Arc<Shared>) {
    let address = incoming.remote_address();
    let connection = match incoming.await {
        Ok(connection) => connection,
        Err(error) => {
            shared.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%address, %error, "a handshake failed");
            return;
        }
    };
    shared.counters.connections_accepted.fetch_add(1, Ordering::Relaxed);
    let _open = Open::new(&shared.counters.connections_open);
    while let Ok((send, recv)) = connection.accept_bi().await {
        let (connection, shared) = (connection.clone(), shared.clone());
        tokio::spawn(async move { run(connection, send, recv, &shared).await });
    }
}

/// How a session ends.
enum End {
    /// The client went away, or the connection did.
    Gone,
    /// What was asked for is answered.
    Answered(Control),
    /// Refused before anything was established.
    Refused(Refusal),
    /// Ended by the service or for a broken rule.
    Goodbye(Refusal),
}

async fn run(connection: Connection, send: SendStream, mut recv: RecvStream, shared: &Shared) {
    let _open = Open::new(&shared.counters.sessions_open);
    let id = SessionId(shared.sessions.fetch_add(1, Ordering::Relaxed));
    let mut outbox = Outbox { send, bytes: BytesMut::new() };
    let mut session = Session::default();
    let hello = timeout(PATIENCE, next_request(&mut session, &mut recv)).await;
    let end = match hello {
        Err(_) => End::Refused(Refusal::new(Code::Protocol, "no hello came")),
        Ok(Err(end)) => end,
        Ok(Ok(Request::Hello(hello))) => match admit(shared, &connection, &hello) {
            Ok(granted) => {
                let recv = &mut recv;
                let ask = Ask { id, shared, granted, session, recv, outbox: &mut outbox };
                ask.answer(hello.role).await
            }
            Err(refusal) => End::Refused(refusal),
        },
        Ok(Ok(_)) => unreachable!("a session's first request is a hello"),
    };
    let farewell = match end {
        End::Gone => return,
        End::Answered(control) => control,
        End::Refused(refusal) => {
            count(shared, &refusal, &shared.counters.sessions_refused);
            Control::Refusal(refusal)
        }
        End::Goodbye(refusal) => {
            if refusal.code == Code::Lagged {
                shared.counters.subscribers_lagged.fetch_add(1, Ordering::Relaxed);
            }
            count(shared, &refusal, &AtomicU64::new(0));
            Control::Goodbye(refusal)
        }
    };
    if !outbox.close(&farewell).await
        && let Control::Goodbye(refusal) = farewell
    {
        // The client does not read: a connection's last frame needs no room on the stream.
        connection.close(code(refusal.code), refusal.text.as_bytes());
    }
}

/// The one place where a hello is allowed or refused.
fn admit(shared: &Shared, connection: &Connection, hello: &Hello) -> Result<Granted, Refusal> {
    let identity = connection.peer_identity();
    let chain = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificate = chain.as_ref().and_then(|chain| chain.first());
    shared.gate.check(&hello.token, certificate, &hello.role, now_ns() / 1_000_000_000)
}

fn count(shared: &Shared, refusal: &Refusal, otherwise: &AtomicU64) {
    let counter = match refusal.code {
        Code::Protocol | Code::Version => &shared.counters.protocol_errors,
        _ => otherwise,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The next request of a session. Not to be dropped while it is read, except at the session's end.
async fn next_request(session: &mut Session, recv: &mut RecvStream) -> Result<Request, End> {
    loop {
        if let Some(request) = session.poll().map_err(End::Refused)? {
            return Ok(request);
        }
        match recv.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => session.feed(&chunk.bytes),
            Ok(None) | Err(_) => return Err(End::Gone),
        }
    }
}

/// A session after its hello.
struct Ask<'a> {
    id: SessionId,
    shared: &'a Shared,
    granted: Granted,
    session: Session,
    recv: &'a mut RecvStream,
    outbox: &'a mut Outbox,
}

impl Ask<'_> {
    async fn answer(self, role: Role) -> End {
        match role {
            Role::Publish { stream, publisher, datagrams: _ } => {
                let (reply, welcome) = oneshot::channel();
                let session = self.id;
                let hello =
                    Input::PublisherHello { session, stream, publisher: publisher.clone(), reply };
                match self.ask(hello, welcome).await {
                    Some(Ok(welcome)) => {
                        let inputs = &self.shared.inputs;
                        let mut asked = self;
                        asked.session.welcome(publisher, welcome.columns);
                        let end = asked.publish(welcome).await;
                        // The service is gone when it does not listen any more.
                        let _ = inputs.send(Input::Left { session }).await;
                        end
                    }
                    Some(Err(refusal)) => End::Refused(self.granted.conceal(refusal)),
                    None => End::Refused(unavailable()),
                }
            }
            Role::Subscribe(isotick_wire::Subscribe { view, .. }) => {
                let (reply, subscription) = oneshot::channel();
                match self.ask(Input::Subscribe { view, reply }, subscription).await {
                    Some(Ok(subscription)) => self.subscribe(subscription).await,
                    Some(Err(refusal)) => End::Refused(self.granted.conceal(refusal)),
                    None => End::Refused(unavailable()),
                }
            }
            Role::Status => {
                let (reply, status) = oneshot::channel();
                let json = self.ask(Input::Status { reply }, status).await;
                json.map_or_else(
                    || End::Refused(unavailable()),
                    |j| End::Answered(Control::StatusReply(j)),
                )
            }
            Role::Definitions => {
                let (reply, definitions) = oneshot::channel();
                let text = self.ask(Input::Definitions { reply }, definitions).await;
                text.map_or_else(
                    || End::Refused(unavailable()),
                    |all| End::Answered(Control::DefinitionsReply(self.granted.definitions(all))),
                )
            }
        }
    }

    async fn ask<T>(&self, input: Input, reply: oneshot::Receiver<T>) -> Option<T> {
        self.shared.inputs.send(input).await.ok()?;
        reply.await.ok()
    }

    async fn publish(&mut self, welcome: Welcome) -> End {
        let Welcome { next_sequence, held, definitions, columns: _, mut acks, refuse } = welcome;
        let ack = *acks.borrow_and_update();
        let definitions = self.granted.definitions(definitions);
        let hello = HelloReply { next_sequence, held, definitions, ack, session: self.id.0 };
        if self.outbox.put(&Control::HelloReply(hello)).is_err() {
            return End::Refused(Refusal::new(
                Code::Unavailable,
                "the service's definitions are longer than a message may be",
            ));
        }
        let mut stop = self.shared.stop.clone();
        let read = read_publisher(self.id, self.shared, &mut self.session, self.recv);
        tokio::select! {
            end = read => end,
            end = write_acks(self.outbox, &mut acks) => end,
            refusal = kept(refuse) => End::Goodbye(refusal),
            _ = stop.wait_for(|stop| *stop) => End::Goodbye(stops()),
        }
    }

    async fn subscribe(self, subscription: Subscription) -> End {
        let columns = subscription.schema.columns.len();
        let reply = isotick_wire::SubscribeReply { schema: subscription.schema, cursor: 0 };
        if self.outbox.put(&Control::SubscribeReply(reply)).is_err() {
            return End::Refused(unavailable());
        }
        let mut stop = self.shared.stop.clone();
        let (mut session, stopped) = (self.session, self.outbox.send.stopped());
        let read = async {
            match next_request(&mut session, self.recv).await {
                // The client may close its side at once: it has nothing more to say.
                Err(End::Gone) => pending().await,
                Err(end) => end,
                Ok(_) => unreachable!("a subscriber's session allows no further request"),
            }
        };
        tokio::select! {
            end = write_windows(self.outbox, subscription.batches, subscription.capacity, columns) => end,
            end = read => end,
            _ = stopped => End::Gone,
            _ = stop.wait_for(|stop| *stop) => End::Goodbye(stops()),
        }
    }
}

/// Hands frames to the service until the publisher finishes or goes.
async fn read_publisher(
    id: SessionId,
    shared: &Shared,
    session: &mut Session,
    recv: &mut RecvStream,
) -> End {
    loop {
        match next_request(session, recv).await {
            Ok(Request::Frame(frame)) => {
                let input = Input::Frame {
                    session: id,
                    ticks: frame.ticks,
                    rejected: frame.rejected,
                    ts_recv_ns: now_ns(),
                };
                if shared.inputs.send(input).await.is_err() {
                    return End::Goodbye(unavailable());
                }
            }
            Ok(Request::Finish) => {
                let (reply, finished) = oneshot::channel();
                let sent = shared.inputs.send(Input::Finish { session: id, reply }).await;
                return match (sent, finished.await) {
                    (Ok(()), Ok(ack)) => End::Answered(Control::FinishReply(ack)),
                    _ => End::Goodbye(unavailable()),
                };
            }
            Ok(Request::Hello(_)) => unreachable!("a session allows one hello"),
            Err(End::Refused(refusal)) => return End::Goodbye(refusal),
            Err(end) => return end,
        }
    }
}

/// Sends the newest ack whenever there is a newer one and room for it.
async fn write_acks(outbox: &mut Outbox, acks: &mut watch::Receiver<Ack>) -> End {
    loop {
        if outbox.flush().await.is_err() {
            return End::Gone;
        }
        if acks.changed().await.is_err() {
            // The service let the session go: its answer to a finish, or why it refuses, is on
            // the way. If neither comes, it is gone.
            sleep(PATIENCE).await;
            return End::Goodbye(unavailable());
        }
        let ack = *acks.borrow_and_update();
        outbox.put(&Control::Ack(ack)).expect("an ack is short");
    }
}

async fn write_windows(
    outbox: &mut Outbox,
    mut batches: broadcast::Receiver<Arc<isotick_wire::WindowBatch>>,
    capacity: usize,
    columns: usize,
) -> End {
    loop {
        // Blocked on a client that does not read, the queue may pass its bound meanwhile.
        loop {
            tokio::select! {
                flushed = outbox.flush() => match flushed {
                    Ok(()) => break,
                    Err(_) => return End::Gone,
                },
                () = sleep(LAG_CHECK) => if batches.len() > capacity {
                    return End::Goodbye(lagged((batches.len() - capacity) as u64));
                },
            }
        }
        match batches.recv().await {
            Ok(batch) => {
                for part in batch.windows.chunks(WINDOWS_PER_MESSAGE) {
                    if outbox.put_windows(part, columns).is_err() {
                        return End::Goodbye(Refusal::new(
                            Code::Unavailable,
                            "a window is longer than a message may be",
                        ));
                    }
                }
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                return End::Goodbye(lagged(missed));
            }
            Err(broadcast::error::RecvError::Closed) => return End::Goodbye(stops()),
        }
    }
}

async fn kept(refuse: oneshot::Receiver<Refusal>) -> Refusal {
    match refuse.await {
        Ok(refusal) => refusal,
        Err(_) => pending().await,
    }
}

fn unavailable() -> Refusal {
    Refusal::new(Code::Unavailable, "the service cannot answer now; its own output says why")
}

fn stops() -> Refusal {
    Refusal::new(Code::ShuttingDown, STOPS)
}

fn lagged(missed: u64) -> Refusal {
    let text = format!(
        "this subscriber fell behind: {missed} batches of windows were published and not sent to \
         it; read faster, or subscribe again and take the missed windows from a scan"
    );
    Refusal::new(Code::Lagged, text)
}

/// The writing side of a session. Flushing can be given up at any point without losing the place.
struct Outbox {
    send: SendStream,
    bytes: BytesMut,
}

impl Outbox {
    fn put(&mut self, control: &Control) -> Result<(), EncodeError> {
        let mut bytes = Vec::new();
        control.put(&mut bytes)?;
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    /// Cuts into as many messages as it takes.
    fn put_windows(&mut self, part: &[PublishedWindow], columns: usize) -> Result<(), EncodeError> {
        let mut bytes = Vec::new();
        let put =
            message::put(Kind::Windows, &mut bytes, |out| windows::encode(part, 0, columns, out));
        match put {
            Err(EncodeError::TooLarge { rows }) if rows > 1 => {
                let (first, second) = part.split_at(rows / 2);
                self.put_windows(first, columns)?;
                self.put_windows(second, columns)
            }
            Err(error) => Err(error),
            Ok(()) => {
                self.bytes.extend_from_slice(&bytes);
                Ok(())
            }
        }
    }

    async fn flush(&mut self) -> Result<(), WriteError> {
        while !self.bytes.is_empty() {
            let written = self.send.write(&self.bytes).await?;
            self.bytes.advance(written);
        }
        Ok(())
    }

    /// The last message. False when the client does not take it.
    async fn close(&mut self, farewell: &Control) -> bool {
        self.put(farewell).is_ok()
            && matches!(timeout(Duration::from_secs(1), self.flush()).await, Ok(Ok(())))
            && self.send.finish().is_ok()
            && matches!(timeout(PATIENCE, self.send.stopped()).await, Ok(Ok(_)))
    }
}

/// The clock of `ts_recv`: read here, at the edge, and an argument everywhere behind it.
#[allow(clippy::disallowed_methods, reason = "this is where the clock is read")]
fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
