use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isotick_client::{ClientError, Level, Options, Publisher, Subscriber};
use isotick_model::results::{ResultSchema, Value, WindowRow};
use isotick_model::schema::{Column, Inexact, StreamSchema};
use isotick_model::view::OutputType;
use isotick_model::{
    Key, LogPosition, PublisherId, RejectReason, Rejected, Scale, Ticks, ValueColumn,
};
use isotick_wire::{ALPN, Ack, Code, PublishedWindow, Refusal, VersionReason, WindowBatch};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::*;
use crate::input::{SessionId, Subscription, Welcome};
use crate::sequencer::{Sequencer, Slot};

/// What a test sees of the service behind the edge.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Joined,
    Finished,
    Left,
}

/// A service that keeps everything in memory: a sequencer, and windows on demand.
struct FakeService {
    sequencer: Sequencer,
    sessions: HashMap<SessionId, Publishing>,
    position: u64,
    windows: broadcast::Sender<Arc<WindowBatch>>,
    events: std::sync::mpsc::Sender<Event>,
}

type Publishing = (Slot, watch::Sender<Ack>, Option<oneshot::Sender<Refusal>>);

const WINDOWS_QUEUED: usize = 4;

impl FakeService {
    fn handle(&mut self, input: Input) {
        match input {
            Input::PublisherHello { session, stream, publisher, reply } => {
                let slot = match self.sequencer.slot(&stream, &publisher) {
                    Ok(slot) => slot,
                    Err(error) => return drop(reply.send(Err(error.to_refusal()))),
                };
                let marks = self.sequencer.marks(slot);
                let columns = self.sequencer.schema(slot).columns.len();
                self.sequencer.join(slot);
                let (acks, receiver) = watch::channel(self.sequencer.ack(slot));
                let (refuse, refused) = oneshot::channel();
                self.sessions.insert(session, (slot, acks, Some(refuse)));
                let welcome = Welcome {
                    next_sequence: marks.next_sequence,
                    held: marks.held,
                    definitions: "[stream.trades]".into(),
                    columns,
                    acks: receiver,
                    refuse: refused,
                };
                reply.send(Ok(welcome)).unwrap();
                let _ = self.events.send(Event::Joined);
            }
            Input::Frame { session, ticks, rejected, ts_recv_ns } => {
                let (slot, acks, refuse) = self.sessions.get_mut(&session).unwrap();
                let position = LogPosition(self.position);
                match self.sequencer.accept(*slot, ticks, rejected, ts_recv_ns, position) {
                    Ok(accepted) => {
                        self.position += u64::from(!accepted.is_empty());
                        self.sequencer.written(position);
                        acks.send_replace(self.sequencer.ack(*slot));
                    }
                    Err(error) => {
                        refuse.take().map(|refuse| refuse.send(error.to_refusal()));
                    }
                }
            }
            Input::Finish { session, reply } => {
                let (slot, acks, _) = &self.sessions[&session];
                self.sequencer.durable(LogPosition(self.position));
                self.sequencer.idle(*slot);
                acks.send_replace(self.sequencer.ack(*slot));
                let _ = reply.send(self.sequencer.ack(*slot));
                let _ = self.events.send(Event::Finished);
            }
            Input::Left { session } => {
                let (slot, ..) = self.sessions.remove(&session).unwrap();
                if self.sequencer.leave(slot) {
                    self.sequencer.idle(slot);
                }
                let _ = self.events.send(Event::Left);
            }
            Input::Subscribe { view, reply } => {
                let answer = match view.as_str() {
                    "bars" => Ok(Subscription {
                        schema: schema_of_bars(),
                        batches: self.windows.subscribe(),
                        capacity: WINDOWS_QUEUED,
                    }),
                    _ => Err(Refusal::new(Code::UnknownView, format!("there is no view `{view}`"))),
                };
                let _ = reply.send(answer);
            }
            Input::Status { reply } => drop(reply.send("{\"streams\":[]}".into())),
            Input::Definitions { reply } => drop(reply.send("[stream.trades]".into())),
        }
    }
}

fn schema_of_bars() -> ResultSchema {
    ResultSchema {
        keys: vec!["symbol".into()],
        columns: vec![("trades".into(), OutputType::Count)],
    }
}

struct World {
    edge: Edge,
    certificates: Certificates,
    windows: broadcast::Sender<Arc<WindowBatch>>,
    events: std::sync::mpsc::Receiver<Event>,
    client: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

fn world() -> World {
    world_with(|_| ())
}

fn world_with(change: impl FnOnce(&mut EdgeConfig)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let certificates = certificates::load_or_create(dir.path()).unwrap();
    let mut config = EdgeConfig::new((Ipv4Addr::LOCALHOST, 0).into());
    change(&mut config);
    let (inputs, mut received) = mpsc::channel(16);
    let edge = Edge::start(&config, &certificates, inputs).unwrap();
    let (events, seen) = std::sync::mpsc::channel();
    let (windows, _) = broadcast::channel(WINDOWS_QUEUED);
    let mut sequencer = Sequencer::default();
    sequencer.declare(schema(), &[]);
    let mut service = FakeService {
        sequencer,
        sessions: HashMap::new(),
        position: 0,
        windows: windows.clone(),
        events,
    };
    std::thread::spawn(move || {
        while let Some(input) = received.blocking_recv() {
            service.handle(input);
        }
    });
    let client =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    World { edge, certificates, windows, events: seen, client, _dir: dir }
}

impl World {
    fn address(&self) -> String {
        self.edge.local_addr().to_string()
    }

    fn event(&self) -> Event {
        self.events.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    async fn publisher(&self) -> (Publisher, isotick_client::HelloReply) {
        Publisher::connect(&self.address(), "trades", &publisher(), &Options::default())
            .await
            .unwrap()
    }
}

fn publisher() -> PublisherId {
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
        horizon_ns: None,
    }
}

/// Rows of the sequences given; the price of row `s` is `s + shift`.
fn ticks(sequences: std::ops::Range<u64>, shift: i64) -> Ticks {
    let rows: Vec<u64> = sequences.collect();
    let column = |values: Vec<i64>| ValueColumn { values: values.into(), nulls: None };
    Ticks {
        ts_event: rows.iter().map(|&s| s as i64 * 1_000).collect(),
        sequence: rows.clone().into(),
        publishers: vec![publisher()],
        publisher: Vec::new().into(),
        keys: vec![Key::from_components(["A"]), Key::from_components(["B"])],
        key: rows.iter().map(|s| (s % 2) as u32).collect(),
        values: vec![
            column(rows.iter().map(|&s| s as i64 + shift).collect()),
            column(rows.iter().map(|_| 7).collect()),
        ],
        seen: None,
    }
}

#[test]
fn publishes_resumes_and_tells_repeats_from_conflicts() {
    let world = world();
    world.client.block_on(async {
        let (mut first, reply) = world.publisher().await;
        assert_eq!((reply.next_sequence, reply.definitions.as_str()), (0, "[stream.trades]"));
        assert!(first.peer().notice().unwrap().contains(&world.certificates.fingerprint));
        let rejected = [Rejected { sequence: 20_000, reason: RejectReason::Inexact }];
        first.send(&ticks(0..20_000, 0), &rejected).await.unwrap();
        let ack = first.wait(Level::Written, 20_001).await.unwrap();
        assert_eq!((ack.accepted, ack.received_through, ack.durable_through), (20_000, 20_001, 0));
        assert_eq!(ack.rejected.get(RejectReason::Inexact), 1);
        drop(first);

        let (mut second, reply) = world.publisher().await;
        assert_eq!(reply.next_sequence, 20_001);
        second.send(&ticks(19_000..20_000, 0), &rejected).await.unwrap();
        second.send(&ticks(19_500..20_000, 1), &[]).await.unwrap();
        second.send(&ticks(20_001..20_011, -100_000), &[]).await.unwrap();
        second.send(&ticks(20_011..20_021, 0), &[]).await.unwrap();
        let ack = second.finish().await.unwrap();
        assert_eq!((ack.duplicate, ack.conflicting), (1_001, 500));
        assert_eq!(ack.rejected.get(RejectReason::OutOfBounds), 10);
        assert_eq!((ack.accepted, ack.durable_through), (20_010, 20_021));

        let mut other = PublisherId::new("late").unwrap();
        let address = world.address();
        let (mut late, _) =
            Publisher::connect(&address, "trades", &other, &Options::default()).await.unwrap();
        late.send(&ticks(0..10, 0), &[]).await.unwrap();
        assert_eq!(late.finish().await.unwrap().late, 10, "the first publisher was far ahead");
        other = PublisherId::new("gaps").unwrap();
        let (mut gaps, _) =
            Publisher::connect(&address, "trades", &other, &Options::default()).await.unwrap();
        gaps.send(&ticks(10..20, 0), &[]).await.unwrap();
        gaps.send(&ticks(0..5, 0), &[]).await.unwrap();
        gaps.wait(Level::Received, 5).await.unwrap();
        let (gaps, reply) =
            Publisher::connect(&address, "trades", &other, &Options::default()).await.unwrap();
        assert_eq!((reply.next_sequence, reply.held), (5, vec![10..=19]));
        drop(gaps);
    });
}

#[test]
fn a_dropped_connection_leaves_and_a_finish_comes_before_it() {
    let world = world();
    world.client.block_on(async {
        let (mut dropped, _) = world.publisher().await;
        dropped.send(&ticks(0..10, 0), &[]).await.unwrap();
        dropped.wait(Level::Received, 10).await.unwrap();
    });
    assert_eq!(world.event(), Event::Joined);
    assert_eq!(world.event(), Event::Left);
    world.client.block_on(async { world.publisher().await.0.finish().await.unwrap() });
    assert_eq!(world.event(), Event::Joined);
    assert_eq!(world.event(), Event::Finished);
    assert_eq!(world.event(), Event::Left);
}

#[test]
fn what_is_unknown_is_refused_with_a_reason() {
    let world = world();
    world.client.block_on(async {
        let (address, options) = (world.address(), Options::default());
        let refused = Publisher::connect(&address, "quotes", &publisher(), &options).await;
        let error = refused.unwrap_err();
        assert!(error.to_string().contains("`quotes`") && error.to_string().contains("trades"));
        assert!(!error.is_retryable());
        let refused = Subscriber::connect(&address, "nothing", &options).await;
        assert!(matches!(refused, Err(ClientError::Refused(r)) if r.code == Code::UnknownView));
        let status = isotick_client::status(&address, &options).await.unwrap();
        assert_eq!(status, "{\"streams\":[]}");
        let definitions = isotick_client::definitions(&address, &options).await.unwrap();
        assert_eq!(definitions, "[stream.trades]");
    });
    assert_eq!(world.edge.counters().sessions_refused, 2);
}

#[test]
fn a_frame_that_breaks_the_protocol_ends_the_session_with_the_reason() {
    let world = world();
    world.client.block_on(async {
        let (mut publisher, _) = world.publisher().await;
        let mut strange = ticks(0..10, 0);
        strange.values.pop();
        publisher.send(&strange, &[]).await.unwrap();
        let error = publisher.wait(Level::Received, 10).await.unwrap_err();
        assert!(matches!(&error, ClientError::Ended(r) if r.code == Code::Protocol), "{error:?}");
        assert!(error.to_string().contains("value columns"), "{error}");
        let (mut publisher, reply) = world.publisher().await;
        assert_eq!(reply.next_sequence, 0);
        publisher.send(&ticks(1 << 40..(1 << 40) + 1, 0), &[]).await.unwrap();
        let error = publisher.wait(Level::Received, 1).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::Ended(r) if r.code == Code::TooManyGaps),
            "{error:?}"
        );
    });
    assert_eq!(world.edge.counters().protocol_errors, 1);
}

#[test]
fn garbage_datagrams_are_counted_and_harm_nothing() {
    let world = world();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut noise = 1u64;
    for length in 0..300usize {
        let garbage: Vec<u8> = (0..length * 4)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect();
        socket.send_to(&garbage, world.edge.local_addr()).unwrap();
    }
    world.client.block_on(async {
        let (mut publisher, _) = world.publisher().await;
        publisher.send(&ticks(0..1_000, 0), &[]).await.unwrap();
        assert_eq!(publisher.finish().await.unwrap().accepted, 1_000);
    });
    let refused = world.edge.counters().datagrams_refused;
    assert!((250..=300).contains(&refused), "{refused} of 300 datagrams counted");
}

#[test]
fn certificates_are_pinned() {
    let world = world();
    world.client.block_on(async {
        let address = world.address();
        let pin = |fingerprint: &str| Options {
            fingerprint: Some(fingerprint.into()),
            ..Options::default()
        };
        let right = pin(&world.certificates.fingerprint);
        let (pinned, _) =
            Publisher::connect(&address, "trades", &publisher(), &right).await.unwrap();
        assert_eq!(pinned.peer().notice(), None);
        let wrong = "ab".repeat(32);
        let refused = isotick_client::status(&address, &pin(&wrong)).await.unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(&wrong) && text.contains(&world.certificates.fingerprint), "{text}");
        assert!(!refused.is_retryable());
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.edge.counters().handshakes_failed == 0 {
        assert!(Instant::now() < deadline, "a failed handshake is counted");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn addresses_that_cannot_be_listened_on_are_named() {
    let world = world();
    let start = |listen| {
        let (inputs, _receiver) = mpsc::channel(1);
        Edge::start(&EdgeConfig::new(listen), &world.certificates, inputs).unwrap_err()
    };
    let taken = world.edge.local_addr();
    let error = start(taken);
    assert!(matches!(error, EdgeError::AddressInUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    let error = start("192.0.2.1:7100".parse().unwrap());
    assert!(matches!(error, EdgeError::AddressNotAvailable { .. }), "{error:?}");
}

#[test]
fn nobody_there_is_said_so() {
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = Options { timeout: Duration::from_millis(300), ..Options::default() };
    let error = runtime.block_on(isotick_client::status(&free.to_string(), &options)).unwrap_err();
    assert!(error.to_string().contains("is `isotick serve` running there?"), "{error}");
    assert!(error.is_retryable());
    let error = runtime.block_on(isotick_client::status("nonsense", &options)).unwrap_err();
    assert!(matches!(error, ClientError::Address { .. }));
}

fn batch(window_start: i64, windows: usize) -> WindowBatch {
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
    WindowBatch { windows: (0..windows).map(window).collect(), next_cursor: 0 }
}

#[test]
fn subscribers_get_every_batch_and_a_farewell() {
    let World { edge, windows, client, .. } = world();
    let address = edge.local_addr().to_string();
    client.block_on(async move {
        let options = Options::default();
        let mut bars = Subscriber::connect(&address, "bars", &options).await.unwrap();
        assert_eq!(*bars.schema(), schema_of_bars());
        for start in 0..20 {
            let sent = batch(start, 10_000);
            windows.send(Arc::new(sent.clone())).unwrap();
            let mut got = Vec::new();
            while got.len() < sent.windows.len() {
                got.extend(bars.next().await.unwrap().windows);
            }
            assert_eq!(got, sent.windows);
        }
        std::thread::spawn(move || edge.shutdown(Duration::from_secs(5)));
        let error = bars.next().await.unwrap_err();
        assert!(matches!(&error, ClientError::Ended(r) if r.code == Code::ShuttingDown), "{error}");
        assert!(error.is_retryable());
    });
}

#[test]
fn a_subscriber_that_does_not_read_is_disconnected_and_counted() {
    let world = world();
    world.client.block_on(async {
        let options = Options::default();
        let mut slow = Subscriber::connect(&world.address(), "bars", &options).await.unwrap();
        // What the client's stream window takes, and then more than the queue.
        for start in 0..200 {
            let _ = world.windows.send(Arc::new(batch(start, 10_000)));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let error = loop {
            if let Err(error) = slow.next().await {
                break error;
            }
        };
        assert!(matches!(&error, ClientError::Ended(r) if r.code == Code::Lagged), "{error:?}");
        assert!(error.to_string().contains("batches"), "{error}");
    });
    assert_eq!(world.edge.counters().subscribers_lagged, 1);
}

#[test]
fn a_full_queue_stops_the_publisher() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = certificates::load_or_create(dir.path()).unwrap();
    let (inputs, mut received) = mpsc::channel(2);
    let config = EdgeConfig::new((Ipv4Addr::LOCALHOST, 0).into());
    let edge = Edge::start(&config, &certificates, inputs).unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let address = edge.local_addr().to_string();
        let sending = tokio::spawn(async move {
            let (mut sender, _) =
                Publisher::connect(&address, "trades", &publisher(), &Options::default())
                    .await
                    .unwrap();
            let block = ticks(0..8_192, 0);
            let mut sent = 0u64;
            while tokio::time::timeout(Duration::from_millis(500), sender.send(&block, &[]))
                .await
                .is_ok()
            {
                sent += 1;
                assert!(sent < 1_000_000, "the publisher was never stopped");
            }
            sent
        });
        let Some(Input::PublisherHello { reply, .. }) = received.recv().await else { panic!() };
        let (_acks, receiver) = watch::channel(Ack::default());
        let (_refuse, refused) = oneshot::channel();
        let welcome = Welcome {
            next_sequence: 0,
            held: vec![],
            definitions: String::new(),
            columns: 2,
            acks: receiver,
            refuse: refused,
        };
        reply.send(Ok(welcome)).unwrap();
        // Nothing is taken from the queue now: the windows fill up and the publisher waits.
        assert!(sending.await.unwrap() > 0);
    });
}

#[test]
fn too_many_connections_are_refused_as_busy() {
    let world = world_with(|config| config.connections_max = 1);
    world.client.block_on(async {
        let (first, _) = world.publisher().await;
        let error =
            isotick_client::status(&world.address(), &Options::default()).await.unwrap_err();
        assert!(matches!(&error, ClientError::Refused(r) if r.code == Code::Busy), "{error:?}");
        assert!(error.is_retryable());
        drop(first);
    });
    assert_eq!(world.edge.counters().connections_refused, 1);
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

async fn stranger(
    world: &World,
    alpn: &[u8],
) -> (Endpoint, Result<quinn::Connection, quinn::ConnectionError>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Careless))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let connecting = endpoint.connect_with(config, world.edge.local_addr(), "localhost").unwrap();
    let connection = connecting.await;
    (endpoint, connection)
}

#[test]
fn another_protocol_and_garbage_on_a_stream_are_refused() {
    let world = world();
    world.client.block_on(async {
        let (_endpoint, refused) = stranger(&world, b"h3").await;
        let error = refused.unwrap_err();
        assert!(matches!(error, quinn::ConnectionError::ConnectionClosed(_)), "{error:?}");
        let (_endpoint, connection) = stranger(&world, ALPN).await;
        let connection = connection.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&[0x55; 1_000]).await.unwrap();
        let answer = recv.read_to_end(10_000).await.unwrap();
        let mut assembler = isotick_wire::Assembler::default();
        assembler.feed(&answer);
        let message = assembler.next().unwrap().unwrap();
        let answer = isotick_wire::Control::decode(&message.payload).unwrap();
        assert!(
            matches!(&answer, isotick_wire::Control::Refusal(r) if r.code == Code::Protocol),
            "{answer:?}"
        );
        let (mut publisher, _) = world.publisher().await;
        publisher.send(&ticks(0..10, 0), &[]).await.unwrap();
        assert_eq!(publisher.finish().await.unwrap().accepted, 10);
    });
    let counters = world.edge.counters();
    assert_eq!((counters.handshakes_failed, counters.protocol_errors), (1, 1));
}

#[test]
fn clients_of_a_service_that_was_killed_learn_it_when_it_is_back() {
    let mut world = world();
    let address = world.edge.local_addr();
    let (mut publisher, _) = world.client.block_on(world.publisher());
    // As a kill does: no farewell, the socket is gone.
    world.edge.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
    let config = EdgeConfig::new(address);
    let (inputs, _received) = mpsc::channel(1);
    let deadline = Instant::now() + Duration::from_secs(5);
    let again = loop {
        match Edge::start(&config, &world.certificates, inputs.clone()) {
            Ok(edge) => break edge,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        // The endpoint's own handle keeps the socket until it is dropped.
        world.edge.endpoint = spare_endpoint(&world.client);
    };
    let started = Instant::now();
    let error = world.client.block_on(async {
        loop {
            if let Err(error) = publisher.send(&ticks(0..10, 0), &[]).await {
                break error;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(matches!(error, ClientError::Lost { .. }) && error.is_retryable(), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(8), "sooner than by silence");
    drop(again);
}

fn spare_endpoint(runtime: &tokio::runtime::Runtime) -> Endpoint {
    let _context = runtime.enter();
    Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

/// Prints rows per second through client, QUIC and sequencer; run with `--ignored --nocapture`.
#[test]
#[ignore = "measures; it checks nothing"]
fn speed() {
    let world = world();
    let rows = 5_000_000;
    let all = ticks(0..rows, 0);
    let started = Instant::now();
    world.client.block_on(async {
        let (mut publisher, _) = world.publisher().await;
        publisher.send(&all, &[]).await.unwrap();
        assert_eq!(publisher.finish().await.unwrap().accepted, rows);
    });
    println!("{:.2} M rows/s", rows as f64 / started.elapsed().as_secs_f64() / 1e6);
}
