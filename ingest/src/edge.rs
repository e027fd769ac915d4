//! The server on quinn: listens, lets clients in, and moves bytes between streams and sessions.

mod connection;
mod socket;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use isotick_wire::Code;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::access::{Access, Gate};
use crate::certificates::{self, Certificates};
use crate::error::EdgeError;
use crate::input::Input;

/// The longest datagram accepted; loopback and jumbo frames use it, other paths find their own.
const UDP_PAYLOAD_BYTES_MAX: u16 = 6_500;
/// What the socket's receive buffer is asked to hold.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// What a client may have in flight on one stream, and on one connection, before it is read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;

/// How the edge listens.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// The UDP address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Threads of the edge's own runtime, at least 1.
    pub threads: usize,
    /// Open connections; further ones are refused and counted.
    pub connections_max: usize,
    /// Streams, that is sessions, open per connection; further ones wait.
    pub sessions_per_connection_max: u32,
    /// A connection without a sign of life for this long is closed.
    pub idle_timeout: Duration,
    /// Who may do what.
    pub gate: Gate,
}

impl EdgeConfig {
    /// One thread, 1,024 connections of 4 sessions, 10 s, everything for everyone.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            threads: 1,
            connections_max: 1024,
            sessions_per_connection_max: 4,
            idle_timeout: Duration::from_secs(10),
            gate: Gate::new(Access::open()),
        }
    }
}

/// What the edge has met since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections open now.
    pub connections_open: u64,
    /// Connections whose handshake succeeded.
    pub connections_accepted: u64,
    /// Connections refused because too many are open.
    pub connections_refused: u64,
    /// Handshakes that failed: another protocol, a fingerprint the client refused, silence.
    pub handshakes_failed: u64,
    /// Datagrams that belong to no connection and cannot begin one.
    pub datagrams_refused: u64,
    /// Sessions open now.
    pub sessions_open: u64,
    /// Sessions refused by the service, e.g. for an unknown stream.
    pub sessions_refused: u64,
    /// Sessions ended because the client broke the protocol.
    pub protocol_errors: u64,
    /// Subscribers disconnected because they fell behind.
    pub subscribers_lagged: u64,
}

impl Counters {
    /// Every counter with its name, for status and metrics.
    pub fn named(&self) -> [(&'static str, u64); 9] {
        [
            ("connections_open", self.connections_open),
            ("connections_accepted", self.connections_accepted),
            ("connections_refused", self.connections_refused),
            ("handshakes_failed", self.handshakes_failed),
            ("datagrams_refused", self.datagrams_refused),
            ("sessions_open", self.sessions_open),
            ("sessions_refused", self.sessions_refused),
            ("protocol_errors", self.protocol_errors),
            ("subscribers_lagged", self.subscribers_lagged),
        ]
    }
}

/// Reads the edge's counters from any thread.
#[derive(Clone, Debug, Default)]
pub struct CounterReader(Arc<SharedCounters>);

impl CounterReader {
    /// The counters now.
    pub fn read(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            connections_open: get(&self.0.connections_open),
            connections_accepted: get(&self.0.connections_accepted),
            connections_refused: get(&self.0.connections_refused),
            handshakes_failed: get(&self.0.handshakes_failed),
            datagrams_refused: get(&self.0.datagrams_refused),
            sessions_open: get(&self.0.sessions_open),
            sessions_refused: get(&self.0.sessions_refused),
            protocol_errors: get(&self.0.protocol_errors),
            subscribers_lagged: get(&self.0.subscribers_lagged),
        }
    }
}

#[derive(Debug, Default)]
struct SharedCounters {
    connections_open: AtomicU64,
    connections_accepted: AtomicU64,
    connections_refused: AtomicU64,
    handshakes_failed: AtomicU64,
    datagrams_refused: AtomicU64,
    sessions_open: AtomicU64,
    sessions_refused: AtomicU64,
    protocol_errors: AtomicU64,
    subscribers_lagged: AtomicU64,
}

/// A running edge. It owns its runtime's threads and stops when dropped, without farewells;
/// [`shutdown`](Self::shutdown) takes leave of the clients.
#[derive(Debug)]
pub struct Edge {
    local_addr: SocketAddr,
    endpoint: Endpoint,
    config: EdgeConfig,
    stop: watch::Sender<bool>,
    counters: Arc<SharedCounters>,
    runtime: Option<Runtime>,
}

/// What every connection of an edge shares.
struct Shared {
    gate: Gate,
    inputs: mpsc::Sender<Input>,
    stop: watch::Receiver<bool>,
    counters: Arc<SharedCounters>,
    sessions: AtomicU64,
}

impl Edge {
    /// Listens, and hands what clients do to `inputs`. While `inputs` is full the streams are not
    /// read. When its receiver is dropped, every session ends.
    ///
    /// Makes its own tokio runtime; can be called on any thread, also inside another runtime.
    ///
    /// # Errors
    ///
    /// An address that cannot be listened on, or a certificate that does not go with its key.
    pub fn start(
        config: &EdgeConfig,
        certificates: &Certificates,
        inputs: mpsc::Sender<Input>,
    ) -> Result<Self, EdgeError> {
        let server =
            server_config(config, certificates).map_err(|source| EdgeError::Tls { source })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.threads.max(1))
            .thread_name("isotick-edge")
            .enable_all()
            .build()
            .map_err(|source| EdgeError::Threads { source })?;
        let _context = runtime.enter();
        let address = config.listen;
        let counters = Arc::<SharedCounters>::default();
        let endpoint = listen(address, server, certificates, &counters)
            .map_err(|source| listen_error(address, source))?;
        let local_addr =
            endpoint.local_addr().map_err(|source| EdgeError::Listen { address, source })?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            gate: config.gate.clone(),
            inputs,
            stop: stopped,
            counters: counters.clone(),
            sessions: AtomicU64::new(0),
        });
        runtime.spawn(connection::accept(endpoint.clone(), shared, config.connections_max));
        tracing::info!(%local_addr, "the edge listens");
        drop(_context);
        Ok(Self {
            local_addr,
            endpoint,
            config: config.clone(),
            stop,
            counters,
            runtime: Some(runtime),
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The counters now.
    pub fn counters(&self) -> Counters {
        self.counter_reader().read()
    }

    /// Reads the counters from another thread.
    pub fn counter_reader(&self) -> CounterReader {
        CounterReader(self.counters.clone())
    }

    /// Connections made from now on get these certificates.
    ///
    /// # Errors
    ///
    /// A certificate that does not go with its key; the old ones stay then.
    pub fn replace_certificates(&self, certificates: &Certificates) -> Result<(), EdgeError> {
        let server = server_config(&self.config, certificates)
            .map_err(|source| EdgeError::Tls { source })?;
        self.endpoint.set_server_config(Some(server));
        Ok(())
    }

    /// Lets nobody in any more, tells every client that the service stops, and waits until they
    /// are gone, at most `patience`. Meanwhile the service must go on taking inputs, or have
    /// dropped their receiver.
    pub fn shutdown(mut self, patience: Duration) {
        self.stop.send_replace(true);
        let (endpoint, counters) = (self.endpoint.clone(), self.counters.clone());
        let (done, gone) = std::sync::mpsc::channel();
        let Some(runtime) = self.runtime.take() else { return };
        runtime.spawn(async move {
            let deadline = tokio::time::Instant::now() + patience;
            while counters.sessions_open.load(Ordering::Relaxed) > 0
                && tokio::time::Instant::now() < deadline
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            endpoint.close(code(Code::ShuttingDown), STOPS.as_bytes());
            let _ = tokio::time::timeout_at(deadline, endpoint.wait_idle()).await;
            let _ = done.send(());
        });
        let _ = gone.recv_timeout(patience + Duration::from_millis(100));
        runtime.shutdown_background();
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            self.endpoint.close(code(Code::ShuttingDown), STOPS.as_bytes());
            runtime.shutdown_background();
        }
    }
}

/// What clients are told at the end.
const STOPS: &str = "the service stops";

fn code(code: Code) -> VarInt {
    VarInt::from_u32(code.number())
}

fn server_config(
    config: &EdgeConfig,
    certificates: &Certificates,
) -> Result<ServerConfig, rustls::Error> {
    let tls = certificates::server_tls(certificates)?;
    let tls = QuicServerConfig::try_from(tls)
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut transport = TransportConfig::default();
    let idle = config.idle_timeout.try_into().unwrap_or(VarInt::from_u32(10_000).into());
    transport
        .max_concurrent_bidi_streams(config.sessions_per_connection_max.into())
        .max_concurrent_uni_streams(0u32.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .max_idle_timeout(Some(idle));
    let mut mtu = quinn::MtuDiscoveryConfig::default();
    mtu.upper_bound(UDP_PAYLOAD_BYTES_MAX);
    transport.mtu_discovery_config(Some(mtu));
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(Arc::new(transport));
    Ok(server)
}

fn listen(
    address: SocketAddr,
    server: ServerConfig,
    certificates: &Certificates,
    counters: &Arc<SharedCounters>,
) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(address)?;
    if let Ok(state) = quinn::udp::UdpSocketState::new((&socket).into()) {
        // A smaller buffer than asked for only costs throughput.
        let _ = state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES);
    }
    let ids = socket::ConnectionIds::default();
    let mut config = EndpointConfig::new(Arc::new(socket::ResetKey::of(&certificates.key)));
    config.max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX).expect("the bound is a valid datagram size");
    let for_endpoint = ids.clone();
    config.cid_generator(move || Box::new(for_endpoint.clone()));
    let runtime = Arc::new(TokioRuntime);
    let socket = quinn::Runtime::wrap_udp_socket(&*runtime, socket)?;
    let socket = Arc::new(socket::CountingSocket::new(socket, ids, counters.clone()));
    Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)
}

fn listen_error(address: SocketAddr, source: io::Error) -> EdgeError {
    match source.kind() {
        io::ErrorKind::AddrInUse => EdgeError::AddressInUse { address },
        io::ErrorKind::AddrNotAvailable => EdgeError::AddressNotAvailable { address },
        io::ErrorKind::PermissionDenied => EdgeError::AddressForbidden { address },
        _ => EdgeError::Listen { address, source },
    }
}

#[cfg(test)]
mod tests;
