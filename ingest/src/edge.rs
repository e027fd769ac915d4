//! The server: pinned ingest threads that let clients in and move bytes between streams and
//! sessions.

mod clock;
mod context;
mod counters;
mod fed;
mod ids;
mod io;
mod mailbox;
mod outbox;
mod plan;
mod publishing;
mod session;
mod thread;
mod tls;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::access::{Access, Gate};
use crate::certificates::Certificates;
use crate::error::EdgeError;
use crate::feed::FeedLimits;
use crate::intake::Intake;
use crate::stages::Stages;
use counters::SharedCounters;
pub use counters::{CounterReader, Counters};
use ids::ConnectionIds;
pub use io::IoChoice;
pub use mailbox::Mailbox;
#[cfg(test)]
pub(crate) use mailbox::mailbox;
pub use plan::CorePlan;
use thread::{IngestThread, Shared};
use tls::Admission;

/// What clients are told at the end.
const STOPS: &str = "the service stops";
/// How long an address may take to become free.
const ADDRESS_FREE_WITHIN: Duration = Duration::from_secs(2);
/// What a connection may have unread, whatever the load.
const CONNECTION_WINDOW_BYTES_MIN: usize = 64 << 10;
/// And when the memory would allow more.
const CONNECTION_WINDOW_BYTES_MAX: usize = 2 << 20;

/// How the edge listens.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// The UDP address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Ingest threads, at least 1.
    pub threads: usize,
    /// Whether each is pinned to a core of its own.
    pub pin: bool,
    /// Whether they never sleep: only for cores that nothing else needs.
    pub spin: bool,
    /// Which way datagrams go.
    pub io: IoChoice,
    /// Open connections; further ones are refused and counted.
    pub connections_max: usize,
    /// Streams, that is sessions, open per connection; further ones wait.
    pub sessions_per_connection_max: u32,
    /// Handshakes under way on one thread above which clients must prove their address first.
    pub handshakes_unproven_max: usize,
    /// A connection without a sign of life for this long is closed.
    pub idle_timeout: Duration,
    /// How long a stream may take to say hello.
    pub hello_timeout: Duration,
    /// How long a message may take from its first byte to its last, and a connection may have no
    /// stream.
    pub message_timeout: Duration,
    /// Bytes that clients may have sent and the service not have read, of all connections
    /// together; half of it again for messages that are not whole.
    pub unread_bytes_max: usize,
    /// Requests about jobs that are answered at a time; further ones are refused as busy.
    pub job_sessions_max: usize,
    /// Bytes of such answers that wait for their clients, above which each holds one message.
    pub job_bytes_max: usize,
    /// How long a client may read nothing of such an answer while there is something to read.
    pub job_timeout: Duration,
    /// Who may do what.
    pub gate: Gate,
}

impl EdgeConfig {
    /// One pinned thread, 4,096 connections of 4 sessions, 10 s, 256 MiB unread,
    /// 4,096 requests about jobs, everything for everyone.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            threads: 1,
            pin: true,
            spin: false,
            io: IoChoice::Auto,
            connections_max: 4_096,
            sessions_per_connection_max: 4,
            handshakes_unproven_max: 64,
            idle_timeout: Duration::from_secs(10),
            hello_timeout: Duration::from_secs(5),
            message_timeout: Duration::from_secs(10),
            unread_bytes_max: 256 << 20,
            job_sessions_max: 4_096,
            job_bytes_max: 64 << 20,
            job_timeout: Duration::from_secs(30),
            gate: Gate::new(Access::open()),
        }
    }

    /// What each of `open` connections may have unread: less in steps, the more there are.
    fn connection_window(&self, open: usize) -> u32 {
        let share = self.unread_bytes_max / open.max(1).next_power_of_two();
        let window = share.clamp(CONNECTION_WINDOW_BYTES_MIN, CONNECTION_WINDOW_BYTES_MAX);
        window as u32
    }

    fn feed_limits(&self) -> FeedLimits {
        FeedLimits {
            open_max: self.job_sessions_max,
            bytes_max: self.job_bytes_max,
            patience: self.job_timeout,
        }
    }

    /// Bytes of messages that are not whole yet, of all threads.
    fn partial_bytes_max(&self) -> usize {
        self.unread_bytes_max / 2
    }
}

/// A running edge. It owns its threads and stops when dropped, without farewells;
/// [`shutdown`](Self::shutdown) takes leave of the clients.
#[derive(Debug)]
pub struct Edge {
    local_addr: SocketAddr,
    config: EdgeConfig,
    mailboxes: Vec<Arc<Mailbox>>,
    intake: Intake,
    counters: Arc<SharedCounters>,
    notices: Vec<String>,
    io: &'static str,
    plan: CorePlan,
    threads: Vec<JoinHandle<()>>,
}

/// What a thread reports before its first turn.
struct Started {
    io: &'static str,
    notice: Option<String>,
}

impl Edge {
    /// Listens, and hands what clients do to `intake`. While there is no room the streams are not
    /// read. When the service's end of it is dropped, every session ends.
    ///
    /// # Errors
    ///
    /// An address that cannot be listened on, a certificate that does not go with its key, or a
    /// way of IO that this system does not offer.
    pub fn start(
        config: &EdgeConfig,
        certificates: &Certificates,
        intake: Intake,
        stages: Arc<Stages>,
    ) -> Result<Self, EdgeError> {
        let admission =
            Admission::new(config, certificates).map_err(|source| EdgeError::Tls { source })?;
        let plan = CorePlan::of_this_machine(config.threads, config.pin);
        let threads = plan.cores.len();
        let sockets = listen(config.listen, threads)?;
        let local_addr = sockets[0]
            .local_addr()
            .map_err(|source| EdgeError::Listen { address: config.listen, source })?;
        let system = |source| EdgeError::Threads { source };
        let (mailboxes, wakes): (Vec<_>, Vec<_>) = (0..threads)
            .map(|_| mailbox::mailbox())
            .collect::<Result<Vec<_>, _>>()
            .map_err(system)?
            .into_iter()
            .unzip();
        let counters = Arc::<SharedCounters>::default();
        let shared = Arc::new(Shared {
            config: config.clone(),
            ids: ConnectionIds::default(),
            mailboxes: mailboxes.clone(),
            intake: intake.clone(),
            counters: counters.clone(),
            stages,
            sessions: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
        });
        let mut edge = Self {
            local_addr,
            config: config.clone(),
            mailboxes,
            intake,
            counters,
            notices: plan.notice.clone().into_iter().collect(),
            io: "",
            threads: Vec::new(),
            plan,
        };
        for (index, (socket, wake)) in sockets.into_iter().zip(wakes).enumerate() {
            let ids_of = u8::try_from(index).expect("the plan bounds the threads");
            let endpoint = tls::endpoint_config(certificates, &shared.ids, ids_of);
            let (admission, shared) = (admission.clone(), shared.clone());
            let (core, choice) = (edge.plan.cores[index], config.io);
            let (report, started) = mpsc::sync_channel(1);
            let run = move || {
                let unpinned = core.filter(|core| !plan::pin(*core));
                // The ring belongs to the thread that makes it.
                let (io, notice) = match io::open(choice, socket, wake) {
                    Ok(opened) => opened,
                    Err(error) => return drop(report.send(Err(error))),
                };
                let unpinned = unpinned.map(|core| {
                    format!("this system does not let an ingest thread be pinned to core {core}")
                });
                let _ = report.send(Ok(Started { io: io.name(), notice: notice.or(unpinned) }));
                let thread = IngestThread::new(index, shared, endpoint, admission, io);
                if let Err(error) = thread.run() {
                    tracing::error!(%error, "an ingest thread cannot go on: restart the service");
                }
            };
            let thread = std::thread::Builder::new()
                .name(format!("isotick-edge-{index}"))
                .spawn(run)
                .map_err(system)?;
            edge.threads.push(thread);
            let started = started.recv().map_err(|_| system(std::io::ErrorKind::Other.into()))?;
            let Started { io, notice } =
                started.map_err(|source| EdgeError::Io { choice: choice.to_string(), source })?;
            edge.io = io;
            edge.notices.extend(notice.filter(|_| index == 0));
        }
        tracing::info!(%local_addr, "the edge listens");
        Ok(edge)
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// How it runs, for people: threads, cores, the way of IO.
    pub fn description(&self) -> String {
        let spins = if self.config.spin { ", spinning" } else { "" };
        format!("{}, {}{spins}", self.plan, self.io)
    }

    /// What is not as it was asked for.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The counters now.
    pub fn counters(&self) -> Counters {
        self.counters.read()
    }

    /// Reads the counters from another thread.
    pub fn counter_reader(&self) -> CounterReader {
        CounterReader(self.counters.clone())
    }

    /// New connections are let in with these certificates from now on. Where other authorities
    /// vouch for clients than before, the sessions of clients for whom they do not end: each is
    /// told why, and counted. Soon, not at once.
    ///
    /// # Errors
    ///
    /// A certificate that does not go with its key; nothing changes then.
    pub fn replace_certificates(&self, certificates: &Certificates) -> Result<(), EdgeError> {
        let admission = Admission::new(&self.config, certificates)
            .map_err(|source| EdgeError::Tls { source })?;
        self.mailboxes.iter().for_each(|mailbox| mailbox.post_admission(admission.clone()));
        Ok(())
    }

    /// Ends the sessions that the rules of the gate, replaced meanwhile, no longer allow: each is
    /// told why, and counted. Soon, not at once.
    pub fn recheck(&self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.post_recheck());
    }

    /// Lets nobody in any more, tells every client that the service stops, and waits until they
    /// are gone, at most `patience`. Meanwhile the service must go on taking inputs, or have
    /// dropped its end.
    pub fn shutdown(mut self, patience: Duration) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.post_stop(patience));
        let deadline = Instant::now() + patience + Duration::from_millis(100);
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.post_stop(Duration::ZERO));
        self.intake.end();
    }
}

/// One socket per thread on the same address; the system spreads clients over them.
fn listen(address: SocketAddr, threads: usize) -> Result<Vec<UdpSocket>, EdgeError> {
    let error = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => EdgeError::AddressInUse { address },
        std::io::ErrorKind::AddrNotAvailable => EdgeError::AddressNotAvailable { address },
        std::io::ErrorKind::PermissionDenied => EdgeError::AddressForbidden { address },
        _ => EdgeError::Listen { address, source },
    };
    // Alone first: another service that shares its address would share its clients as well.
    let alone = bind_soon(address).map_err(error)?;
    if threads == 1 {
        return Ok(vec![alone]);
    }
    let address = alone.local_addr().map_err(error)?;
    drop(alone);
    (0..threads).map(|_| bind_shared(address).map_err(error)).collect()
}

/// Takes an address that nobody else has, or is about to have no more: after a kill the kernel
/// keeps a ring's socket for a moment.
fn bind_soon(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let deadline = Instant::now() + ADDRESS_FREE_WITHIN;
    loop {
        match UdpSocket::bind(address) {
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
}

fn bind_shared(address: SocketAddr) -> std::io::Result<UdpSocket> {
    use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family, SocketType::DGRAM, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests;
