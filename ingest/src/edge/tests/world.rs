//! A service in memory behind a real edge, and clients.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use isotick_client::{Options, Publisher};
use isotick_model::results::{ResultSchema, Value, WindowRow};
use isotick_model::schema::{Column, Inexact, StreamSchema};
use isotick_model::view::OutputType;
use isotick_model::{Key, LogPosition, PublisherId, Scale, Ticks, ValueColumn};
use isotick_wire::{Code, JobRequest, PublishedWindow, Refusal, VersionReason};

use crate::access::JobOwner;
use crate::certificates::{self, Certificates, ClientAuthorities};
use crate::edge::{Edge, EdgeConfig};
use crate::feed::Feed;
use crate::input::{ArrowDecoder, Input, Outlet, SessionId, Subscription, Welcome};
use crate::intake::intake;
use crate::sequencer::{Sequencer, Slot};
use crate::stages::Stages;
use crate::subscriber::{Batch, QueueLimits, SubscriberCounters, SubscriberQueue};

/// What a test sees of the service behind the edge.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Joined,
    Finished,
    Left,
    Undecodable,
}

/// A service that keeps everything in memory: a sequencer, and windows on demand.
struct FakeService {
    sequencer: Sequencer,
    sessions: HashMap<SessionId, (Slot, Outlet)>,
    position: u64,
    windows: Arc<Windows>,
    counters: Arc<SubscriberCounters>,
    events: std::sync::mpsc::Sender<Event>,
    asked: std::sync::mpsc::Sender<Asked>,
}

/// A request about jobs; the test is the service that answers it.
#[derive(Debug)]
pub struct Asked {
    pub request: JobRequest,
    pub owner: JobOwner,
    pub feed: Arc<Feed>,
}

pub const QUEUE_BYTES: usize = 4 << 20;

/// The subscribers of the one view, `bars`.
#[derive(Default)]
pub struct Windows {
    queues: Mutex<Vec<Arc<SubscriberQueue>>>,
    published: Mutex<u64>,
}

impl Windows {
    /// Publishes windows that begin at `start`, one per key.
    pub fn publish(&self, start: i64, windows: usize) -> Vec<PublishedWindow> {
        let all = batch(start, windows);
        let cursor = {
            let mut published = self.published.lock().unwrap();
            *published += windows as u64;
            *published
        };
        let batch =
            Arc::new(Batch::new(all.clone(), cursor, Arc::new(schema_of_bars()), Instant::now()));
        self.queues.lock().unwrap().retain(|queue| queue.offer(&batch));
        all
    }

    pub fn subscribers(&self) -> usize {
        self.queues.lock().unwrap().len()
    }
}

impl FakeService {
    fn handle(&mut self, input: Input) {
        match input {
            Input::PublisherHello { session, stream, publisher, outlet, reply } => {
                let slot = match self.sequencer.slot(&stream, &publisher) {
                    Ok(slot) => slot,
                    Err(error) => return reply.send(Err(error.to_refusal())),
                };
                let marks = self.sequencer.marks(slot);
                self.sequencer.join(slot);
                self.sessions.insert(session, (slot, outlet));
                reply.send(Ok(Welcome {
                    next_sequence: marks.next_sequence,
                    held: marks.held,
                    definitions: "[stream.trades]".into(),
                    columns: self.sequencer.schema(slot).columns.len(),
                    ack: self.sequencer.ack(slot),
                    arrow: no_arrow(),
                }));
                let _ = self.events.send(Event::Joined);
            }
            Input::Frame { session, ticks, rejected, stamps, permit: _ } => {
                let Some((slot, outlet)) = self.sessions.get(&session) else { return };
                let position = LogPosition(self.position);
                let now = stamps.ts_recv_ns;
                match self.sequencer.accept(*slot, ticks, rejected, now, position) {
                    Ok(accepted) => {
                        self.position += u64::from(!accepted.is_empty());
                        self.sequencer.written(position);
                        outlet.ack(self.sequencer.ack(*slot));
                    }
                    Err(error) => outlet.end(error.to_refusal()),
                }
            }
            Input::Undecodable { .. } => drop(self.events.send(Event::Undecodable)),
            Input::Finish { session, rows, reply } => {
                let (slot, _) = &self.sessions[&session];
                if let Some(rows) = rows {
                    self.sequencer.close_gaps(*slot, rows, LogPosition(self.position));
                }
                self.sequencer.durable(LogPosition(self.position));
                self.sequencer.idle(*slot);
                reply.send(Ok(self.sequencer.ack(*slot)));
                let _ = self.events.send(Event::Finished);
            }
            Input::Left { session } => {
                let Some((slot, _)) = self.sessions.remove(&session) else { return };
                if self.sequencer.leave(slot) {
                    self.sequencer.idle(slot);
                }
                let _ = self.events.send(Event::Left);
            }
            Input::Subscribe { request, outlet, reply } => {
                if request.view != "bars" {
                    let text = format!("there is no view `{}`", request.view);
                    return reply.send(Err(Refusal::new(Code::UnknownView, text)));
                }
                let limits =
                    QueueLimits { bytes_max: QUEUE_BYTES, block_max: Duration::from_secs(1) };
                let counters = self.counters.clone();
                let schema = Arc::new(schema_of_bars());
                let queue = SubscriberQueue::new(outlet, &request, schema, limits, counters);
                let queue = Arc::new(queue);
                self.windows.queues.lock().unwrap().push(queue.clone());
                let cursor = *self.windows.published.lock().unwrap();
                reply.send(Ok(Subscription { schema: schema_of_bars(), cursor, queue }));
            }
            Input::Jobs { request, owner, feed } => {
                let _ = self.asked.send(Asked { request, owner, feed });
            }
            Input::Status { reply } => reply.send(Ok("{\"streams\":[]}".into())),
            Input::Definitions { reply } => reply.send(Ok("[stream.trades]".into())),
        }
    }
}

/// Says no, with what it was given.
pub fn no_arrow() -> ArrowDecoder {
    ArrowDecoder(Arc::new(|payload, first| {
        Err(format!("{} bytes of Arrow from row {first} on", payload.len()))
    }))
}

pub fn schema_of_bars() -> ResultSchema {
    ResultSchema {
        keys: vec!["symbol".into()],
        columns: vec![("trades".into(), OutputType::Count)],
    }
}

pub struct World {
    pub edge: Edge,
    pub certificates: Certificates,
    pub windows: Arc<Windows>,
    pub stages: Arc<Stages>,
    pub client: tokio::runtime::Runtime,
    events: std::sync::mpsc::Receiver<Event>,
    asked: std::sync::mpsc::Receiver<Asked>,
    _dir: tempfile::TempDir,
}

pub fn world() -> World {
    world_with(|_| ())
}

pub fn world_with(change: impl FnOnce(&mut EdgeConfig)) -> World {
    world_of(change, None)
}

pub fn world_of(change: impl FnOnce(&mut EdgeConfig), clients: Option<ClientAuthorities>) -> World {
    let dir = tempfile::tempdir().unwrap();
    let mut certificates = certificates::load_or_create(dir.path()).unwrap();
    certificates.clients = clients;
    let mut config = EdgeConfig { pin: false, ..EdgeConfig::new((Ipv4Addr::LOCALHOST, 0).into()) };
    change(&mut config);
    let (intake, mut inputs) = intake(8 << 20);
    let stages = Arc::<Stages>::default();
    let edge = Edge::start(&config, &certificates, intake, stages.clone()).unwrap();
    let (events, seen) = std::sync::mpsc::channel();
    let (asked, asks) = std::sync::mpsc::channel();
    let windows = Arc::<Windows>::default();
    let mut sequencer = Sequencer::default();
    sequencer.declare(schema(), &[]);
    let mut service = FakeService {
        sequencer,
        sessions: HashMap::new(),
        position: 0,
        windows: windows.clone(),
        counters: edge.counter_reader().subscribers(),
        events,
        asked,
    };
    std::thread::spawn(move || {
        let mut taken = Vec::new();
        while inputs.take(&mut taken, Duration::from_secs(60)) {
            taken.drain(..).for_each(|input| service.handle(input));
        }
    });
    let client =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    World { edge, certificates, windows, stages, client, events: seen, asked: asks, _dir: dir }
}

impl World {
    pub fn address(&self) -> String {
        self.edge.local_addr().to_string()
    }

    pub fn event(&self) -> Event {
        self.events.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    pub fn asked(&self) -> Asked {
        self.asked.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    pub async fn publisher(&self) -> (Publisher, isotick_client::HelloReply) {
        Publisher::connect(&self.address(), "trades", &publisher(), &Options::default())
            .await
            .unwrap()
    }

    /// Waits until the condition holds.
    pub fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.edge.counters());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub fn publisher() -> PublisherId {
    PublisherId::new("p").unwrap()
}

fn schema() -> StreamSchema {
    let column = |name: &str, optional| Column {
        name: name.into(),
        scale: Scale::new(2).unwrap(),
        min: 0,
        max: i64::MAX,
        optional,
    };
    StreamSchema {
        name: "trades".into(),
        time: "ts".into(),
        keys: vec!["symbol".into()],
        columns: vec![column("price", false), column("size", true)],
        inexact: Inexact::Reject,
        keys_allowed: None,
        horizon_ns: None,
        retention: Default::default(),
        codec: Default::default(),
    }
}

/// Rows of the sequences given; the price of row `s` is `s + shift`.
pub fn ticks(sequences: std::ops::Range<u64>, shift: i64) -> Ticks {
    let rows: Vec<u64> = sequences.collect();
    let column = |values: Vec<i64>| ValueColumn { values: values.into(), nulls: None };
    Ticks {
        ts_event: rows.iter().map(|&s| s as i64 * 1_000).collect(),
        sequence: rows.clone().into(),
        publishers: vec![publisher()],
        publisher: Vec::new().into(),
        keys: vec![Key::from_components(["A"]), Key::from_components(["B"])].into(),
        key: rows.iter().map(|s| (s % 2) as u32).collect(),
        values: vec![
            column(rows.iter().map(|&s| s as i64 + shift).collect()),
            column(rows.iter().map(|_| 7).collect()),
        ],
        seen: None,
    }
}

pub fn batch(window_start: i64, windows: usize) -> Vec<PublishedWindow> {
    let window = |i: usize| PublishedWindow {
        row: WindowRow {
            key: Key::from_components([format!("S{i}")]),
            window_start,
            window_end: window_start + 1,
            version: 1,
            values: vec![Value::Integer(i as i128)],
        },
        reason: VersionReason::Closed,
    };
    (0..windows).map(window).collect()
}

/// Accepts anything: what a stranger's client might do.
#[derive(Debug)]
struct Careless;

impl rustls::client::danger::ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A client's chain and the key of its first certificate.
pub type ClientCertificate =
    (Vec<rustls::pki_types::CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>);

pub async fn stranger(
    world: &World,
    alpn: &[u8],
) -> (quinn::Endpoint, Result<quinn::Connection, quinn::ConnectionError>) {
    stranger_with(world, alpn, None).await
}

pub async fn stranger_with(
    world: &World,
    alpn: &[u8],
    shown: Option<ClientCertificate>,
) -> (quinn::Endpoint, Result<quinn::Connection, quinn::ConnectionError>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Careless));
    let mut tls = match shown {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let connecting = endpoint.connect_with(config, world.edge.local_addr(), "localhost").unwrap();
    let connection = connecting.await;
    (endpoint, connection)
}
