//! Reaching a service: address, handshake, and what is known of its certificate.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use isotick_wire::message::HEADER_BYTES;
use isotick_wire::{
    Assembler, Code, Control, Hello, Message, REQUEST_BYTES_MAX, Refusal, Role, Token,
};
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, ReadError, RecvStream,
    SendStream, TokioRuntime, TransportConfig, VarInt,
};

use crate::error::ClientError;
use crate::tls::{Authorities, Identity, Trust, Verifier};

/// The longest datagram accepted; loopback and jumbo frames use it, other paths find their own.
const UDP_PAYLOAD_BYTES_MAX: u16 = 6_500;
/// What the socket's receive buffer is asked to hold.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Bytes taken from a stream at once.
const READ_BYTES: usize = 64 << 10;
/// Silence after which the connection is lost; while it is open, something is sent every third.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that are sent and not acknowledged, over all of a connection's streams: what a service on
/// the same continent takes in flight.
const SEND_WINDOW_BYTES: u64 = 16 << 20;
/// Bytes that the service may send before they are read: the longest message, once and again.
const RECEIVE_WINDOW_BYTES: u32 = 16 << 20;
/// Bytes sent at once on a new connection, before anything of the path is known.
const INITIAL_WINDOW_BYTES: u64 = 64 << 10;
/// Bytes of datagrams that wait for the path; who sends more waits.
const DATAGRAM_BUFFER_BYTES: usize = 256 << 10;
/// The round trip that is assumed before one is measured.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// The service's fingerprint, 64 hex digits (colons and upper case allowed). Without it and
    /// without authorities, only services on loopback addresses are accepted.
    pub fingerprint: Option<String>,
    /// Who may have signed the service's certificate; it must be for the host of the address.
    pub authorities: Option<Authorities>,
    /// The certificate to show to a service that asks for one.
    pub identity: Option<Identity>,
    /// The bearer token; empty for none.
    pub token: Token,
    /// How long to wait for an answer when connecting.
    pub timeout: Duration,
    /// The most rows per tick frame, 1 to 32,768.
    pub frame_rows: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fingerprint: None,
            authorities: None,
            identity: None,
            token: Token::default(),
            timeout: Duration::from_secs(5),
            frame_rows: 8_192,
        }
    }
}

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where.
    pub address: SocketAddr,
    /// The fingerprint of its certificate, 64 lowercase hex digits.
    pub fingerprint: String,
    /// Whether the certificate was checked, by its fingerprint or by who signed it; otherwise it
    /// was accepted because the address is loopback.
    pub checked: bool,
}

impl Peer {
    /// What the user should be told: a certificate was accepted unseen.
    pub fn notice(&self) -> Option<String> {
        (!self.checked).then(|| {
            format!(
                "note: the service at {} is on this machine, its certificate is accepted \
                 unchecked (fingerprint {})",
                self.address, self.fingerprint
            )
        })
    }
}

/// One stream of one connection, after the hello is sent.
pub(crate) struct Link {
    pub(crate) endpoint: Endpoint,
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) recv: Inbox,
    pub(crate) peer: Peer,
}

impl Link {
    /// Connects and says hello.
    pub(crate) async fn open(
        address: &str,
        role: Role,
        options: &Options,
    ) -> Result<Self, ClientError> {
        let trust = Trust::new(address, options)?;
        let bytes = hello(role, options)?;
        let mut last = None;
        for address in resolve(address).await? {
            match Self::open_at(address, &trust, options.timeout).await {
                Ok(mut link) => {
                    // When the service closes the stream at once, it says why on it.
                    let _ = link.send.write_all(&bytes).await;
                    return Ok(link);
                }
                Err(error @ ClientError::Unreachable { .. }) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(ClientError::Address { address: address.into() }))
    }

    /// Says hello on a new stream of the same connection, in place of the one before.
    pub(crate) async fn ask_again(
        &mut self,
        role: &Role,
        options: &Options,
    ) -> Result<(), ClientError> {
        let bytes = hello(role.clone(), options)?;
        let address = self.peer.address;
        let opened = tokio::time::timeout(options.timeout, self.connection.open_bi()).await;
        let opened = opened.map_err(|_| ClientError::Unreachable { address })?;
        let (send, recv) = opened.map_err(|error| connection_error(address, error))?;
        self.send = send;
        self.recv = Inbox { recv, assembler: Assembler::default(), address };
        // When the service closes the stream at once, it says why on it.
        let _ = self.send.write_all(&bytes).await;
        Ok(())
    }

    async fn open_at(
        address: SocketAddr,
        trust: &Trust,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let (tls, verifier) = trust.config(address)?;
        let endpoint = endpoint(address).map_err(|source| ClientError::Socket { source })?;
        let connecting = endpoint
            .connect_with(client_config(tls), address, trust.name())
            .map_err(|error| handshake(address, error))?;
        let connection = match tokio::time::timeout(timeout, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(connect_error(address, &verifier, error)),
            Err(_) => return Err(ClientError::Unreachable { address }),
        };
        let (fingerprint, checked) = (verifier.fingerprint(), verifier.checks());
        let peer = Peer { address, fingerprint, checked };
        let (send, recv) =
            connection.open_bi().await.map_err(|error| connection_error(address, error))?;
        let recv = Inbox { recv, assembler: Assembler::default(), address };
        Ok(Self { endpoint, connection, send, recv, peer })
    }
}

/// The first message of a stream.
fn hello(role: Role, options: &Options) -> Result<Vec<u8>, ClientError> {
    let hello = Control::Hello(Hello { role, token: options.token.clone() });
    let mut bytes = Vec::new();
    hello.put(&mut bytes)?;
    match bytes.len() - HEADER_BYTES {
        bytes if bytes > REQUEST_BYTES_MAX => Err(ClientError::RequestTooLarge { bytes }),
        _ => Ok(bytes),
    }
}

/// The reading side of a stream.
pub(crate) struct Inbox {
    recv: RecvStream,
    assembler: Assembler,
    address: SocketAddr,
}

impl Inbox {
    /// The next message; giving up waiting loses nothing.
    pub(crate) async fn message(&mut self) -> Result<Message, ClientError> {
        self.message_or_end().await?.ok_or_else(|| self.lost("the service closed the stream"))
    }

    /// The next message, `None` when the service has ended the stream after the last one. Giving
    /// up waiting loses nothing.
    pub(crate) async fn message_or_end(&mut self) -> Result<Option<Message>, ClientError> {
        loop {
            if let Some(message) = self.assembler.next().map_err(|source| self.protocol(source))? {
                return Ok(Some(message));
            }
            match self.recv.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => self.assembler.feed(&chunk.bytes),
                Ok(None) if self.assembler.is_inside_message() => {
                    return Err(self.lost("the service closed the stream inside a message"));
                }
                Ok(None) => return Ok(None),
                Err(ReadError::ConnectionLost(error)) => {
                    return Err(connection_error(self.address, error));
                }
                Err(ReadError::Reset(code)) => {
                    let code = Code::from_number(code.into_inner());
                    return Err(ClientError::Ended(Refusal::new(code, "the stream was reset")));
                }
                Err(error) => return Err(self.lost(error)),
            }
        }
    }

    /// The next control message; refusals and farewells become errors.
    pub(crate) fn control(&self, message: &Message) -> Result<Control, ClientError> {
        match Control::decode(&message.payload).map_err(|source| self.protocol(source))? {
            Control::Refusal(refusal) => Err(ClientError::Refused(refusal)),
            Control::Goodbye(refusal) => Err(ClientError::Ended(refusal)),
            control => Ok(control),
        }
    }

    /// The answer to a hello or another question, within the time given.
    pub(crate) async fn answer(&mut self, timeout: Duration) -> Result<Control, ClientError> {
        match tokio::time::timeout(timeout, self.message()).await {
            Ok(message) => {
                let message = message?;
                self.control(&message)
            }
            Err(_) => Err(ClientError::Unreachable { address: self.address }),
        }
    }

    pub(crate) fn protocol(&self, source: isotick_wire::DecodeError) -> ClientError {
        ClientError::Protocol { address: self.address, source }
    }

    pub(crate) fn unexpected(&self) -> ClientError {
        self.protocol(isotick_wire::DecodeError::Invalid { what: "the order of its messages" })
    }

    pub(crate) fn lost(&self, reason: impl ToString) -> ClientError {
        ClientError::Lost { address: self.address, reason: reason.to_string() }
    }
}

async fn resolve(text: &str) -> Result<Vec<SocketAddr>, ClientError> {
    match tokio::net::lookup_host(text).await {
        Ok(found) => {
            let mut addresses: Vec<_> = found.collect();
            // Services listen on IPv4 unless told otherwise, and a wrong guess costs a timeout.
            addresses.sort_by_key(SocketAddr::is_ipv6);
            addresses.dedup();
            Ok(addresses)
        }
        // Not of the form HOST:PORT.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            Err(ClientError::Address { address: text.into() })
        }
        Err(source) => Err(ClientError::Host { address: text.into(), source }),
    }
}

fn endpoint(address: SocketAddr) -> std::io::Result<Endpoint> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    if let Ok(state) = quinn::udp::UdpSocketState::new((&socket).into()) {
        // A smaller buffer than asked for only costs throughput.
        let _ = state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES);
    }
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX).expect("the bound is a valid datagram size");
    Endpoint::new(config, None, socket, Arc::new(TokioRuntime))
}

fn client_config(tls: QuicClientConfig) -> ClientConfig {
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);
    let mut mtu = quinn::MtuDiscoveryConfig::default();
    mtu.upper_bound(UDP_PAYLOAD_BYTES_MAX);
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().expect("ten seconds fit")))
        .keep_alive_interval(Some(IDLE_TIMEOUT / 3))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .send_window(SEND_WINDOW_BYTES)
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .initial_rtt(INITIAL_ROUND_TRIP)
        .congestion_controller_factory(Arc::new(congestion))
        .mtu_discovery_config(Some(mtu))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
        // None are wanted, but without room for one none can be sent either.
        .datagram_receive_buffer_size(Some(1));
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    config
}

/// TLS alert `no_application_protocol` as a QUIC error.
const NO_APPLICATION_PROTOCOL: u64 = 0x178;
/// QUIC's own refusal of a connection.
const CONNECTION_REFUSED: u64 = 0x2;

fn connect_error(address: SocketAddr, verifier: &Verifier, error: ConnectionError) -> ClientError {
    if let Some(refusal) = verifier.refusal() {
        return refusal;
    }
    match error {
        ConnectionError::TimedOut => ClientError::Unreachable { address },
        ConnectionError::ConnectionClosed(close)
            if u64::from(close.error_code) == CONNECTION_REFUSED =>
        {
            let text = format!("the service at {address} has as many connections as it allows");
            ClientError::Refused(Refusal::new(Code::Busy, text))
        }
        ConnectionError::ConnectionClosed(close)
            if u64::from(close.error_code) == NO_APPLICATION_PROTOCOL =>
        {
            handshake(address, "it does not speak the protocol isotick/1")
        }
        ConnectionError::ApplicationClosed(_) => connection_error(address, error),
        other => match identity_refusal(address, &other) {
            Some(refusal) => refusal,
            None => handshake(address, other),
        },
    }
}

fn handshake(address: SocketAddr, reason: impl ToString) -> ClientError {
    ClientError::Handshake { address, reason: reason.to_string() }
}

/// What the end of an established connection means.
pub(crate) fn connection_error(address: SocketAddr, error: ConnectionError) -> ClientError {
    let lost = |reason: &str| ClientError::Lost { address, reason: reason.into() };
    if let Some(refusal) = identity_refusal(address, &error) {
        return refusal;
    }
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let code = Code::from_number(close.error_code.into_inner());
            let text = String::from_utf8_lossy(&close.reason).into_owned();
            ClientError::Ended(Refusal::new(code, text))
        }
        ConnectionError::TimedOut => lost("nothing came from it any more"),
        ConnectionError::Reset => lost("the service was restarted"),
        ConnectionError::LocallyClosed => lost("this side closed it"),
        other => lost(&other.to_string()),
    }
}

/// What TLS alerts say of this client's certificate: RFC 8446, 6.2.
const ALERTS: [(u8, &str); 8] = [
    (42, "it is damaged"),
    (43, "it is of a kind that the service does not take"),
    (44, "it is revoked"),
    (45, "it has expired"),
    (46, "it is not valid for a client"),
    (48, "the service does not know the authority that signed it"),
    (51, "an authority of the same name, but with another key, has signed it"),
    (116, "there is none: pass one with `--cert` and `--key`"),
];

/// The service looks at this client's certificate when the handshake is over for the client: its
/// refusal ends the connection then.
fn identity_refusal(address: SocketAddr, error: &ConnectionError) -> Option<ClientError> {
    let ConnectionError::ConnectionClosed(close) = error else { return None };
    let code = u64::from(close.error_code);
    let (_, reason) = ALERTS.iter().find(|(alert, _)| code == 0x100 + u64::from(*alert))?;
    Some(ClientError::IdentityRefused { address, reason })
}
