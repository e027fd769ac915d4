//! A thousand connections at once: each is served, or told why not; memory stays bounded.

use std::time::{Duration, Instant};

use isotick_wire::{Control, Hello, Kind, Role, Subscribe};
use quinn::{Connection, ConnectionError};

use super::WAYS;
use super::peers::counts;
use super::raw::{Client, Stream, frame, hello, message_bytes};
use crate::program::{DEFINITIONS, Place, Service, Tick, csv, ticks};

const CONNECTIONS: usize = 1_000;
const FRAMES_EACH: usize = 3;
const ROWS_EACH: usize = 300;
/// What the service may hold resident with all of them open: what clients can make it hold, what
/// sequences and contents it remembers, and itself.
const RESIDENT_BYTES_MAX: u64 = 400 << 20;
/// QUIC's own code of a refused connection.
const CONNECTION_REFUSED: u64 = 2;

fn resident_bytes(service: &Service) -> u64 {
    let path = format!("/proc/{}/status", service.running.id());
    let text = std::fs::read_to_string(path).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes << 10
}

/// Dials all at once. Returns those that were let in, and how many were refused.
fn dial(client: &Client, service: &Service) -> (Vec<Connection>, u64) {
    let dialled: Vec<_> = (0..CONNECTIONS).map(|_| client.dial(&service.address)).collect();
    let (mut open, mut refused) = (Vec::new(), 0);
    for connecting in dialled {
        match client.wait(connecting) {
            Ok(connection) => open.push(connection),
            Err(ConnectionError::ConnectionClosed(close))
                if u64::from(close.error_code) == CONNECTION_REFUSED =>
            {
                refused += 1;
            }
            Err(error) => panic!("neither served nor refused: {error}"),
        }
    }
    assert_eq!(open.len() as u64 + refused, CONNECTIONS as u64);
    (open, refused)
}

/// Everyone publishes at once, one subscriber never reads, and others are served meanwhile.
fn crowd(way: &str) {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(221, 30_000, 20)));
    let service =
        place.serve_with("data", &format!("--listen 127.0.0.1:0 --memory-max 128MiB --io {way}"));
    let client = Client::new();
    let mut deaf = client.open(&client.connect(&service.address));
    deaf.control(&Control::Hello(Hello::new(Role::Subscribe(Subscribe::new("bars")))));
    let (open, refused) = dial(&client, &service);
    assert_eq!(refused, 0, "the service lets 4,096 in");

    let publisher = place.publish("ticks.csv", &service, "--no-reconnect");
    let rows: Vec<Tick> = ticks(222, FRAMES_EACH * ROWS_EACH, 0);
    let frames: Vec<Vec<u8>> = rows
        .chunks(ROWS_EACH)
        .enumerate()
        .map(|(at, rows)| message_bytes(Kind::Ticks, &frame(rows, (at * ROWS_EACH) as u64)))
        .collect();
    let mut streams: Vec<Stream<'_>> = open.iter().map(|known| client.open(known)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.control(&hello(&format!("crowd-{number}")));
    }
    for frame in &frames {
        streams.iter_mut().for_each(|stream| stream.send(frame));
    }
    let asked = Instant::now();
    place.status(&service);
    assert!(asked.elapsed() < Duration::from_secs(3), "a status after {:?}", asked.elapsed());
    for stream in &mut streams {
        assert!(matches!(stream.next(), Some(Control::HelloReply(_))));
        stream.received(rows.len() as u64);
    }
    let status = place.status(&service);
    let edge = |name: &str| status["edge"][name].as_u64().expect("a count");
    assert!(edge("connections_open") > open.len() as u64, "{status}");
    assert!(edge("connections_accepted") > open.len() as u64, "{status}");
    assert_eq!([edge("connections_refused"), edge("handshakes_failed")], [0, 0], "{status}");
    for number in 0..streams.len() {
        assert_eq!(counts(&status, &format!("crowd-{number}")), [rows.len() as u64, 0, 0]);
    }
    for stream in streams {
        let ack = stream.finish();
        assert_eq!(ack.durable_through, rows.len() as u64, "{ack:?}");
    }
    assert_eq!(publisher.end().succeeded().json()["accepted"], 30_000);
    let resident = resident_bytes(&service);
    println!("{way}: at most {} MiB resident", resident >> 20);
    assert!(resident < RESIDENT_BYTES_MAX, "{resident} bytes were resident");
    open.iter().for_each(|connection| connection.close(0u32.into(), b""));
    drop(deaf);
    drop(client);
    service.stop();
    assert_eq!(place.ticks("data"), (30_000 + CONNECTIONS * rows.len()) as u64);
    place.verified("bars", "data");
}

#[test]
fn a_thousand_publishers_at_once_are_served() {
    WAYS.iter().for_each(|way| crowd(way));
}

#[test]
fn a_thousand_connections_where_a_hundred_may_be_are_refused_or_served() {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(223, 3_000, 20)));
    let service = place.serve_with("data", "--listen 127.0.0.1:0 --connections-max 100");
    let client = Client::new();
    let (open, refused) = dial(&client, &service);
    assert_eq!(open.len(), 100);
    // Who was let in can publish.
    let mut stream = client.open(&open[99]);
    stream.control(&hello("one"));
    stream.send(&message_bytes(Kind::Ticks, &frame(&ticks(224, 50, 0), 0)));
    assert!(matches!(stream.next(), Some(Control::HelloReply(_))));
    assert_eq!(stream.finish().accepted, 50);
    open.iter().for_each(|connection| connection.close(0u32.into(), b""));
    // And the next ones find room again, within the time that closing takes.
    let report = place.publish("ticks.csv", &service, "").end().succeeded().json();
    assert_eq!(report["accepted"], 3_000, "{report}");
    let status = place.status(&service);
    assert!(status["edge"]["connections_refused"].as_u64() >= Some(refused), "{status}");
    service.stop();
    assert_eq!(place.ticks("data"), 3_050);
    place.verified("bars", "data");
}
