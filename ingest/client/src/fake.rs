//! A service for the client's tests: the wire format over quinn, everything in memory, kept when
//! it is killed and started again.

mod jobs;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isotick_model::results::{ResultSchema, Value, WindowRow};
use isotick_model::view::OutputType;
use isotick_model::{Key, PublisherId};
use isotick_wire::control::{Ack, HelloReply, Role, SubscribeReply};
use isotick_wire::frame::Decoder;
use isotick_wire::{
    ALPN, Assembler, Code, Control, Kind, Message, PublishedWindow, Refusal, SubmitJob,
    VersionReason, datagram, message, windows,
};
use quinn::crypto::rustls::QuicServerConfig;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

pub const DEFINITIONS: &str = r#"
[stream.trades]
time    = "ts"
key     = "symbol"
columns = { price = { scale = 2 }, size = { scale = 0 } }
"#;

/// A row as it was published: time, key, values.
pub type Row = (i64, Vec<String>, Vec<Option<i64>>);

/// What outlives a kill.
#[derive(Default)]
pub struct Kept {
    pub rows: BTreeMap<u64, Row>,
    /// Rows that came again with the same content, and with another.
    pub duplicate: u64,
    pub conflicting: u64,
    /// Rows of closed gaps.
    pub lost: u64,
    pub lost_below: u64,
    pub windows: Vec<PublishedWindow>,
    /// The first window that is still kept.
    pub windows_from: u64,
    pub datagrams: u64,
    pub hellos: u64,
    /// Every submission, once; its place is the job's id.
    pub jobs: Vec<SubmitJob>,
    /// Jobs that were cancelled, by place.
    pub cancelled: Vec<usize>,
}

impl Kept {
    fn next_sequence(&self) -> u64 {
        (self.lost_below..).find(|sequence| !self.rows.contains_key(sequence)).unwrap_or(0)
    }

    fn ack(&self) -> Ack {
        let next = self.next_sequence();
        let end = self.rows.keys().next_back().map_or(0, |last| last + 1);
        Ack {
            received_through: next,
            written_through: next,
            durable_through: next,
            accepted: self.rows.len() as u64,
            duplicate: self.duplicate,
            conflicting: self.conflicting,
            lost: self.lost,
            missing: end.saturating_sub(self.rows.len() as u64 + self.lost),
            ..Ack::default()
        }
    }
}

/// How it behaves.
#[derive(Clone, Default)]
pub struct Manners {
    pub token: Option<&'static str>,
    /// After so many messages of a session the connection is cut, what came last unanswered.
    pub cut_after: Option<u64>,
    /// Acks are never sent.
    pub silent: bool,
    /// Results end after their first windows, without a word.
    pub cut_result: bool,
}

pub struct Fake {
    endpoint: quinn::Endpoint,
    pub address: SocketAddr,
    pub kept: Arc<Mutex<Kept>>,
}

/// A certificate with its key.
pub struct Made {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// A self-signed certificate.
pub fn made() -> Made {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    Made {
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    }
}

impl Fake {
    /// A service that is nothing special.
    pub fn start() -> Self {
        Self::with(made(), None, Manners::default())
    }

    pub fn with(made: Made, clients: Option<RootCertStore>, manners: Manners) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::at(any, made, clients, manners, Arc::default()).expect("any port will do")
    }

    fn at(
        address: SocketAddr,
        made: Made,
        clients: Option<RootCertStore>,
        manners: Manners,
        kept: Arc<Mutex<Kept>>,
    ) -> Option<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap();
        let tls = match clients {
            None => tls.with_no_client_auth(),
            Some(roots) => tls.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .build()
                    .unwrap(),
            ),
        };
        let mut tls = tls.with_single_cert(made.chain, made.key).unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let tls = QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let endpoint = quinn::Endpoint::server(config, address).ok()?;
        let address = endpoint.local_addr().unwrap();
        let fake = Self { endpoint: endpoint.clone(), address, kept: kept.clone() };
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let (kept, manners) = (kept.clone(), manners.clone());
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        let _ = serve(connection, kept, manners).await;
                    }
                });
            }
        });
        Some(fake)
    }

    /// Ends without a word to anybody, and starts again where it was with what it kept.
    pub async fn restart(self, after: Duration, manners: Manners) -> Self {
        let (address, kept) = (self.address, self.kept.clone());
        self.kill();
        tokio::time::sleep(after).await;
        loop {
            // The address becomes free when the connections have been forgotten.
            match Self::at(address, made(), None, manners.clone(), kept.clone()) {
                Some(fake) => return fake,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    pub fn kill(self) {
        self.endpoint.close(9u32.into(), b"killed");
    }
}

async fn serve(
    connection: quinn::Connection,
    kept: Arc<Mutex<Kept>>,
    manners: Manners,
) -> Option<()> {
    let (mut send, mut recv) = connection.accept_bi().await.ok()?;
    let mut assembler = Assembler::default();
    let Control::Hello(hello) = control(&next(&mut recv, &mut assembler).await?) else {
        return None;
    };
    kept.lock().unwrap().hellos += 1;
    if manners.token.is_some_and(|token| token != hello.token.reveal()) {
        let refusal = Refusal::new(Code::Unauthenticated, "this service asks for a token");
        say(&mut send, Control::Refusal(refusal)).await;
        connection.closed().await;
        return None;
    }
    match hello.role {
        Role::Publish { publisher, .. } => {
            let reply = {
                let kept = kept.lock().unwrap();
                let next = kept.next_sequence();
                let beyond = kept.rows.range(next..).map(|(&sequence, _)| sequence..=sequence);
                HelloReply {
                    next_sequence: next,
                    held: beyond.collect(),
                    definitions: DEFINITIONS.into(),
                    ack: kept.ack(),
                    session: 7,
                }
            };
            say(&mut send, Control::HelloReply(reply)).await;
            let datagrams =
                tokio::spawn(take_datagrams(connection.clone(), kept.clone(), publisher.clone()));
            let done = take_frames(
                &connection,
                &mut send,
                &mut recv,
                assembler,
                &kept,
                &manners,
                publisher,
            )
            .await;
            datagrams.abort();
            done
        }
        Role::Subscribe(subscribe) => {
            let (mut at, from) = {
                let kept = kept.lock().unwrap();
                (subscribe.cursor.unwrap_or(kept.windows.len() as u64), kept.windows_from)
            };
            if at < from {
                let refusal =
                    Refusal::new(Code::CursorGone, format!("windows from {from} on are kept"));
                say(&mut send, Control::Refusal(refusal)).await;
                connection.closed().await;
                return None;
            }
            say(
                &mut send,
                Control::SubscribeReply(SubscribeReply { schema: schema(), cursor: at }),
            )
            .await;
            let mut sent = 0;
            loop {
                let batch: Vec<_> = {
                    let kept = kept.lock().unwrap();
                    kept.windows.iter().skip(at as usize).take(3).cloned().collect()
                };
                if connection.close_reason().is_some() {
                    return None;
                }
                if batch.is_empty() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    continue;
                }
                at += batch.len() as u64;
                sent += 1;
                if manners.cut_after == Some(sent) {
                    // What was sent arrives before the connection ends.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    connection.close(Code::Lagged.number().into(), b"fell behind");
                    return None;
                }
                let mut bytes = Vec::new();
                message::put(Kind::Windows, &mut bytes, |out| windows::encode(&batch, at, 1, out))
                    .unwrap();
                send.write_all(&bytes).await.ok()?;
            }
        }
        Role::Jobs(request) => jobs::answer(request, &connection, &mut send, &kept, &manners).await,
        Role::Status | Role::Definitions => {
            say(&mut send, Control::StatusReply("{}".into())).await;
            connection.closed().await;
            Some(())
        }
    }
}

async fn take_frames(
    connection: &quinn::Connection,
    send: &mut quinn::SendStream,
    recv: &mut quinn::RecvStream,
    mut assembler: Assembler,
    kept: &Mutex<Kept>,
    manners: &Manners,
    publisher: PublisherId,
) -> Option<()> {
    let mut decoder = Decoder::default();
    let mut messages = 0;
    loop {
        let message = next(recv, &mut assembler).await?;
        messages += 1;
        let cut = manners.cut_after == Some(messages);
        // What came with the cut is half kept: its first half of rows.
        if message.kind == Kind::Ticks {
            let frame = decoder.decode(&message.payload, &publisher, 2).unwrap();
            let rows = if cut { frame.ticks.len() / 2 } else { frame.ticks.len() };
            keep(&mut kept.lock().unwrap(), &frame.ticks, rows);
        }
        if cut {
            connection.close(9u32.into(), b"cut");
            return None;
        }
        let finished = match message.kind {
            Kind::Control => match control(&message) {
                Control::Finish(rows) => Some(rows),
                _ => return None,
            },
            _ => None,
        };
        if let Some(Some(_)) = finished {
            // Datagrams that have arrived are read by another task.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let ack = {
            let mut kept = kept.lock().unwrap();
            if let Some(Some(rows)) = finished {
                let below = kept.rows.range(..rows).count() as u64;
                kept.lost = rows - below;
                kept.lost_below = rows;
            }
            kept.ack()
        };
        match finished {
            None if manners.silent => (),
            None => say(send, Control::Ack(ack)).await,
            Some(_) => {
                say(send, Control::FinishReply(ack)).await;
                connection.closed().await;
                return Some(());
            }
        }
    }
}

async fn take_datagrams(
    connection: quinn::Connection,
    kept: Arc<Mutex<Kept>>,
    publisher: PublisherId,
) {
    let mut decoder = Decoder::default();
    while let Ok(bytes) = connection.read_datagram().await {
        let (session, payload) = datagram::split(&bytes).unwrap();
        assert_eq!(session, 7);
        let frame = decoder.decode(payload, &publisher, 2).unwrap();
        let mut kept = kept.lock().unwrap();
        kept.datagrams += 1;
        // Every seventh is lost.
        if kept.datagrams % 7 != 3 {
            keep(&mut kept, &frame.ticks, frame.ticks.len());
        }
    }
}

fn keep(kept: &mut Kept, ticks: &isotick_model::Ticks, rows: usize) {
    for row in 0..rows {
        let values = ticks.values.iter().map(|column| column.get(row)).collect();
        let content = (ticks.ts_event[row], ticks.key_of(row).components(), values);
        match kept.rows.get(&ticks.sequence[row]) {
            None => drop(kept.rows.insert(ticks.sequence[row], content)),
            Some(held) if *held == content => kept.duplicate += 1,
            Some(_) => kept.conflicting += 1,
        }
    }
}

pub fn schema() -> ResultSchema {
    ResultSchema {
        keys: vec!["symbol".into()],
        columns: vec![("trades".into(), OutputType::Count)],
    }
}

/// The n-th window ever published.
pub fn window(n: i64) -> PublishedWindow {
    PublishedWindow {
        row: WindowRow {
            key: Key::from_components(["AAPL"]),
            window_start: n * 1_000,
            window_end: (n + 1) * 1_000,
            version: 1,
            values: vec![Value::Integer(n.into())],
        },
        reason: VersionReason::Closed,
    }
}

async fn next(recv: &mut quinn::RecvStream, assembler: &mut Assembler) -> Option<Message> {
    loop {
        if let Some(message) = assembler.next().unwrap() {
            return Some(message);
        }
        let chunk = recv.read_chunk(1 << 16, true).await.ok()??;
        assembler.feed(&chunk.bytes);
    }
}

fn control(message: &Message) -> Control {
    assert_eq!(message.kind, Kind::Control);
    Control::decode(&message.payload).unwrap()
}

async fn say(send: &mut quinn::SendStream, control: Control) {
    let mut bytes = Vec::new();
    control.put(&mut bytes).unwrap();
    let _ = send.write_all(&bytes).await;
}
