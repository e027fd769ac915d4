//! Reaching a service: address, handshake, and what is known of its certificate.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isotick_wire::{ALPN, Assembler, Code, Control, Hello, Message, Refusal, Role};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, ReadError, RecvStream,
    SendStream, TokioRuntime, TransportConfig,
};
use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::ClientError;

/// The longest datagram accepted; loopback and jumbo frames use it, other paths find their own.
const UDP_PAYLOAD_BYTES_MAX: u16 = 6_500;
/// What the socket's receive buffer is asked to hold.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Bytes taken from a stream at once.
const READ_BYTES: usize = 64 << 10;
/// Silence after which the connection is lost; while it is open, something is sent every third.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The name in the handshake. It is not checked: the fingerprint is.
const SERVER_NAME: &str = "isotick";

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// The service's fingerprint, 64 hex digits (colons and upper case allowed). Without one,
    /// only services on loopback addresses are accepted.
    pub fingerprint: Option<String>,
    /// How long to wait for an answer when connecting.
    pub timeout: Duration,
    /// The most rows per tick frame, 1 to 32,768.
    pub frame_rows: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { fingerprint: None, timeout: Duration::from_secs(5), frame_rows: 8_192 }
    }
}

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where.
    pub address: SocketAddr,
    /// The fingerprint of its certificate, 64 lowercase hex digits.
    pub fingerprint: String,
    /// Whether the fingerprint was pinned; otherwise it was accepted because the address is
    /// loopback.
    pub pinned: bool,
}

impl Peer {
    /// What the user should be told: a certificate was accepted unseen.
    pub fn notice(&self) -> Option<String> {
        (!self.pinned).then(|| {
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
        let pinned = options.fingerprint.as_deref().map(normalise).transpose()?;
        let mut last = None;
        for address in resolve(address).await? {
            match Self::open_at(address, pinned.clone(), options.timeout).await {
                Ok(mut link) => {
                    let mut bytes = Vec::new();
                    Control::Hello(Hello::new(role)).put(&mut bytes)?;
                    // When the service closes the stream at once, it says why on it.
                    let _ = link.send.write_all(&bytes).await;
                    return Ok(link);
                }
                Err(error @ ClientError::Unreachable { .. }) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(ClientError::Address { address: address.into(), source: None }))
    }

    async fn open_at(
        address: SocketAddr,
        pinned: Option<String>,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let verifier = Arc::new(Verifier::new(pinned.clone(), address.ip().is_loopback()));
        let endpoint = endpoint(address).map_err(|source| ClientError::Socket { source })?;
        let connecting = endpoint
            .connect_with(client_config(verifier.clone()), address, SERVER_NAME)
            .map_err(|error| handshake(address, error))?;
        let connection = match tokio::time::timeout(timeout, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(connect_error(address, &verifier, pinned, error)),
            Err(_) => return Err(ClientError::Unreachable { address }),
        };
        let found = verifier.seen().unwrap_or_default();
        let peer = Peer { address, fingerprint: found, pinned: pinned.is_some() };
        let (send, recv) =
            connection.open_bi().await.map_err(|error| connection_error(address, error))?;
        let recv = Inbox { recv, assembler: Assembler::default(), address };
        Ok(Self { endpoint, connection, send, recv, peer })
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
        loop {
            if let Some(message) = self.assembler.next().map_err(|source| self.protocol(source))? {
                return Ok(message);
            }
            match self.recv.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => self.assembler.feed(&chunk.bytes),
                Ok(None) => return Err(self.lost("the service closed the stream")),
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
        Err(source) => Err(ClientError::Address { address: text.into(), source: Some(source) }),
    }
}

fn normalise(text: &str) -> Result<String, ClientError> {
    let digits: String = text.chars().filter(|c| *c != ':' && !c.is_whitespace()).collect();
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ClientError::FingerprintText { text: text.into() });
    }
    Ok(digits.to_ascii_lowercase())
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

fn client_config(verifier: Arc<Verifier>) -> ClientConfig {
    let mut tls = rustls::ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider offers TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let tls = QuicClientConfig::try_from(tls).expect("the provider offers QUIC's first cipher");
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().expect("ten seconds fit")))
        .keep_alive_interval(Some(IDLE_TIMEOUT / 3))
        .max_concurrent_bidi_streams(0u32.into())
        .max_concurrent_uni_streams(0u32.into())
        .datagram_receive_buffer_size(None);
    let mut mtu = quinn::MtuDiscoveryConfig::default();
    mtu.upper_bound(UDP_PAYLOAD_BYTES_MAX);
    transport.mtu_discovery_config(Some(mtu));
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    config
}

/// TLS alert `no_application_protocol` as a QUIC error.
const NO_APPLICATION_PROTOCOL: u64 = 0x178;
/// QUIC's own refusal of a connection.
const CONNECTION_REFUSED: u64 = 0x2;

fn connect_error(
    address: SocketAddr,
    verifier: &Verifier,
    pinned: Option<String>,
    error: ConnectionError,
) -> ClientError {
    if let Some(found) = verifier.refused() {
        return match pinned {
            Some(expected) => ClientError::FingerprintMismatch { address, expected, found },
            None => ClientError::FingerprintNeeded { address, found },
        };
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
        other => handshake(address, other),
    }
}

fn handshake(address: SocketAddr, reason: impl ToString) -> ClientError {
    ClientError::Handshake { address, reason: reason.to_string() }
}

/// What the end of an established connection means.
pub(crate) fn connection_error(address: SocketAddr, error: ConnectionError) -> ClientError {
    let lost = |reason: &str| ClientError::Lost { address, reason: reason.into() };
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

/// Accepts the pinned certificate, or any on loopback; keeps what it saw.
#[derive(Debug)]
struct Verifier {
    pinned: Option<String>,
    loopback: bool,
    provider: Arc<CryptoProvider>,
    /// The fingerprint seen, and whether it was accepted.
    seen: Mutex<Option<(String, bool)>>,
}

impl Verifier {
    fn new(pinned: Option<String>, loopback: bool) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Self { pinned, loopback, provider, seen: Mutex::new(None) }
    }

    fn seen(&self) -> Option<String> {
        self.seen.lock().ok()?.as_ref().map(|(fingerprint, _)| fingerprint.clone())
    }

    fn refused(&self) -> Option<String> {
        let seen = self.seen.lock().ok()?;
        seen.as_ref().filter(|(_, accepted)| !accepted).map(|(found, _)| found.clone())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = fingerprint(certificate);
        let accepted = self.pinned.as_ref().map_or(self.loopback, |pinned| *pinned == found);
        if let Ok(mut seen) = self.seen.lock() {
            *seen = Some((found, accepted));
        }
        match accepted {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// SHA-256 over the certificate's DER bytes, as lowercase hex digits.
fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = suite.tls13().expect("the suite's name says TLS 1.3");
    let digest = suite.common.hash_provider.hash(certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_taken_as_people_paste_them() {
        let digits = "0123456789abcdef".repeat(4);
        let pairs: Vec<&str> = (0..32).map(|i| &digits[2 * i..2 * i + 2]).collect();
        let pasted = format!(" {}\n", pairs.join(":").to_uppercase());
        assert_eq!(normalise(&pasted).unwrap(), digits);
        for text in ["", "12", &"g".repeat(64)] {
            assert!(matches!(normalise(text), Err(ClientError::FingerprintText { .. })));
        }
    }
}
