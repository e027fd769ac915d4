//! A client that may send anything: QUIC as it should be, whatever bytes on its streams.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use isotick_model::{Key, PublisherId, Rejected, Ticks, ValueColumn};
use isotick_wire::frame::Encoder;
use isotick_wire::{
    ALPN, Ack, Assembler, Code, Control, Hello, HelloReply, Kind, Message, Refusal, Role, message,
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream,
    TransportConfig,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::runtime::Runtime;

use crate::program::{Tick, WITHIN};

/// What a client that reads nothing takes before it is full.
const SMALL_WINDOW_BYTES: u32 = 16 << 10;

pub struct Client {
    // Before the runtime: it ends first.
    endpoint: Endpoint,
    runtime: Runtime,
}

impl Client {
    pub fn new() -> Self {
        Self::speaking(ALPN)
    }

    pub fn speaking(protocol: &[u8]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("there are threads");
        let _inside = runtime.enter();
        let any = "127.0.0.1:0".parse().expect("an address");
        let mut endpoint = Endpoint::client(any).expect("there are ports");
        endpoint.set_default_client_config(config(protocol));
        drop(_inside);
        Self { endpoint, runtime }
    }

    /// Waits for anything of QUIC's, a bounded time.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(WITHIN, future).await };
        self.runtime.block_on(bounded).expect("the service answers")
    }

    /// Begins to connect to an address.
    pub fn dial(&self, service: &str) -> quinn::Connecting {
        let _inside = self.runtime.enter();
        let address = service.parse().expect("an address");
        self.endpoint.connect(address, "isotick").expect("the endpoint is open")
    }

    pub fn connect(&self, service: &str) -> Connection {
        self.wait(self.dial(service)).expect("the service lets clients in")
    }

    pub fn refused(&self, service: &str) -> ConnectionError {
        self.wait(self.dial(service)).expect_err("the service does not let this client in")
    }

    pub fn open(&self, connection: &Connection) -> Stream<'_> {
        let (send, recv) = self.wait(connection.open_bi()).expect("the connection is open");
        Stream {
            client: self,
            connection: connection.clone(),
            send,
            recv,
            assembler: Assembler::default(),
        }
    }

    /// Sends a datagram, as soon as there is room for it.
    pub fn datagram(&self, connection: &Connection, bytes: Vec<u8>) {
        self.wait(connection.send_datagram_wait(bytes.into()))
            .expect("the service takes datagrams");
    }

    /// A publisher of `trades` that was let in, on a connection of its own.
    pub fn publisher(&self, service: &str, name: &str) -> (Stream<'_>, HelloReply) {
        self.welcomed(service, &hello(name))
    }

    /// A publisher that was let in with this hello.
    pub fn welcomed(&self, service: &str, hello: &Control) -> (Stream<'_>, HelloReply) {
        let mut stream = self.open(&self.connect(service));
        stream.control(hello);
        match stream.next() {
            Some(Control::HelloReply(reply)) => (stream, reply),
            other => panic!("no welcome: {hello:?}, {other:?}"),
        }
    }
}

/// A stream of one connection.
pub struct Stream<'a> {
    client: &'a Client,
    pub connection: Connection,
    send: SendStream,
    recv: RecvStream,
    assembler: Assembler,
}

impl Stream<'_> {
    /// Sends bytes. When the service has ended the session already, they are lost.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.client.wait(self.send.write_all(bytes));
    }

    pub fn control(&mut self, control: &Control) {
        self.send(&control_bytes(control));
    }

    /// The next message; `None` at the end of the stream.
    pub fn message(&mut self) -> Result<Option<Message>, ReadError> {
        self.client.wait(next(&mut self.recv, &mut self.assembler))
    }

    /// The next message if it comes soon.
    pub fn message_within(
        &mut self,
        limit: Duration,
    ) -> Option<Result<Option<Message>, ReadError>> {
        let next = next(&mut self.recv, &mut self.assembler);
        self.client.wait(async { tokio::time::timeout(limit, next).await.ok() })
    }

    /// The next control message; `None` when there is none.
    pub fn next(&mut self) -> Option<Control> {
        let message = self.message().ok()??;
        assert_eq!(message.kind, Kind::Control, "{message:?}");
        Some(Control::decode(&message.payload).expect("the service speaks the protocol"))
    }

    /// Waits for the acknowledgement of this many rows.
    pub fn received(&mut self, rows: u64) -> Ack {
        loop {
            match self.next() {
                Some(Control::Ack(ack)) if ack.received_through >= rows => return ack,
                Some(Control::Ack(_)) => {}
                other => panic!("no acknowledgement of {rows} rows: {other:?}"),
            }
        }
    }

    /// Waits for the end of the session, with the reason that the service gives for it.
    pub fn ended(&mut self) -> Refusal {
        loop {
            let message = self.message();
            if let Some(refusal) = end(message) {
                return refusal;
            }
        }
    }

    /// The reason for the end of the session, if it ends soon.
    pub fn ended_within(&mut self, limit: Duration) -> Option<Refusal> {
        end(self.message_within(limit)?)
    }

    /// Finishes; the last acknowledgement.
    pub fn finish(self) -> Ack {
        self.finish_at(None)
    }

    /// Finishes after so many rows: those that are missing are lost.
    pub fn finish_at(mut self, rows: Option<u64>) -> Ack {
        self.control(&Control::Finish(rows));
        loop {
            match self.next() {
                Some(Control::FinishReply(ack)) => return ack,
                Some(Control::Ack(_)) => {}
                other => panic!("no answer to a finish: {other:?}"),
            }
        }
    }

    /// Ends this side of the stream, within a message or not.
    pub fn hang_up(&mut self) {
        let _ = self.send.finish();
    }
}

async fn next(
    recv: &mut RecvStream,
    assembler: &mut Assembler,
) -> Result<Option<Message>, ReadError> {
    loop {
        if let Some(message) = assembler.next().expect("the service speaks the protocol") {
            return Ok(Some(message));
        }
        match recv.read_chunk(1 << 16, true).await? {
            Some(chunk) => assembler.feed(&chunk.bytes),
            None => return Ok(None),
        }
    }
}

/// The reason, when this is the end of a session.
fn end(message: Result<Option<Message>, ReadError>) -> Option<Refusal> {
    match message {
        Ok(Some(Message { kind: Kind::Control, payload })) => {
            match Control::decode(&payload).expect("the service speaks the protocol") {
                Control::Refusal(refusal) | Control::Goodbye(refusal) => Some(refusal),
                _ => None,
            }
        }
        Ok(Some(_)) => None,
        Ok(None) => panic!("the session ended without a reason"),
        Err(ReadError::Reset(code)) => {
            Some(Refusal::new(Code::from_number(code.into_inner()), "reset"))
        }
        Err(ReadError::ConnectionLost(error)) => Some(reason(&error)),
        Err(error) => panic!("the stream broke: {error}"),
    }
}

/// Why the service closed a connection.
pub fn reason(error: &ConnectionError) -> Refusal {
    let ConnectionError::ApplicationClosed(close) = error else {
        panic!("the connection ended without a reason: {error}")
    };
    let code = Code::from_number(close.error_code.into_inner());
    Refusal::new(code, String::from_utf8_lossy(&close.reason))
}

pub fn hello(publisher: &str) -> Control {
    hello_of(publisher, false)
}

pub fn hello_of(publisher: &str, datagrams: bool) -> Control {
    let publisher = PublisherId::new(publisher).expect("a name");
    let role = Role::Publish { stream: "trades".into(), publisher, datagrams };
    Control::Hello(Hello::new(role))
}

pub fn control_bytes(control: &Control) -> Vec<u8> {
    let mut bytes = Vec::new();
    control.put(&mut bytes).expect("short texts");
    bytes
}

/// A whole message of any kind.
pub fn message_bytes(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let put = |out: &mut Vec<u8>| {
        out.extend_from_slice(payload);
        Ok::<(), ()>(())
    };
    message::put(kind, &mut bytes, put).expect("it fits");
    bytes
}

/// The payload of a tick frame: rows from `first` on.
pub fn frame(rows: &[Tick], first: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    let ticks = columns(rows, first);
    let no_rows: [Rejected; 0] = [];
    Encoder::default().encode(&ticks, 0..rows.len(), &no_rows, &mut payload).expect("it fits");
    payload
}

pub fn columns(rows: &[Tick], first: u64) -> Ticks {
    let mut symbols: Vec<&str> = rows.iter().map(|row| row.symbol.as_str()).collect();
    symbols.sort_unstable();
    symbols.dedup();
    let code = |row: &Tick| symbols.binary_search(&row.symbol.as_str()).expect("it is one") as u32;
    let column = |value: fn(&Tick) -> i64| ValueColumn {
        values: rows.iter().map(value).collect(),
        nulls: None,
    };
    Ticks {
        ts_event: rows.iter().map(|row| row.ts).collect(),
        sequence: (first..first + rows.len() as u64).collect(),
        publishers: vec![PublisherId::new("anyone").expect("a name")],
        publisher: Vec::new().into(),
        key: rows.iter().map(code).collect(),
        keys: symbols.iter().map(|symbol| Key::from_components([symbol])).collect(),
        values: vec![column(|row| row.price), column(|row| row.size)],
        seen: None,
    }
}

fn config(protocol: &[u8]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider offers TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    tls.alpn_protocols = vec![protocol.to_vec()];
    let tls = QuicClientConfig::try_from(tls).expect("the provider offers QUIC's first cipher");
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(Duration::from_secs(2)))
        .stream_receive_window(SMALL_WINDOW_BYTES.into())
        .receive_window(SMALL_WINDOW_BYTES.into());
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    config
}

/// Takes any certificate: it is the service that is on trial.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("QUIC has TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
    }
}
