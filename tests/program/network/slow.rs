//! Peers that are slow, or silent, or do not read: none is waited for longer than it may be.

use std::time::{Duration, Instant};

use isotick_wire::{Code, Control, Hello, Kind, Policy, Role, Subscribe, windows};

use super::peers::{counts, rows, serving};
use super::raw::{Client, Stream, frame, hello, message_bytes, reason};
use crate::program::{DEFINITIONS, Place, SECOND_NS, START_NS, Tick, csv};

/// A peer that begins sessions and says no hello, or nothing at all, is let go after some seconds.
#[test]
fn peers_that_say_nothing_are_let_go() {
    serving("--message-timeout 3s", |place, service| {
        let client = Client::new();
        let started = Instant::now();
        let alone = client.connect(&service.address);
        let connection = client.connect(&service.address);
        let mut silent: Vec<Stream<'_>> = (0..3).map(|_| client.open(&connection)).collect();
        // A stream exists for the other side when there is something on it.
        silent.iter_mut().for_each(|stream| stream.send(&[0]));
        let refusal = reason(&client.wait(alone.closed()));
        assert_eq!(refusal.code, Code::TooSlow, "{refusal}");
        for stream in &mut silent {
            let refusal = stream.ended();
            assert_eq!(refusal.code, Code::TooSlow, "{refusal}");
        }
        assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
        assert_eq!(place.status(service)["edge"]["too_slow"], 4);
        // The good publisher, if it is not done yet, and who asks; the others are gone when their
        // last words have been acknowledged.
        while place.status(service)["edge"]["sessions_open"].as_u64() > Some(2) {
            assert!(started.elapsed() < Duration::from_secs(14), "{}", place.status(service));
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

/// A message of which a byte comes every now and then is not waited for, and nothing of it counts.
#[test]
fn a_message_that_comes_byte_by_byte_is_not_waited_for() {
    serving("--message-timeout 2s", |place, service| {
        let client = Client::new();
        let (mut stream, _) = client.publisher(&service.address, "slow");
        stream.send(&message_bytes(Kind::Ticks, &frame(&rows(10), 0)));
        stream.received(10);
        let message = message_bytes(Kind::Ticks, &frame(&rows(40)[10..], 10));
        let started = Instant::now();
        let mut bytes = message.chunks(1);
        let refusal = loop {
            stream.send(bytes.next().expect("the service ends this before the message ends"));
            if let Some(refusal) = stream.ended_within(Duration::from_millis(100)) {
                break refusal;
            }
        };
        assert_eq!(refusal.code, Code::TooSlow, "{refusal}");
        let took = started.elapsed();
        assert!((2..8).contains(&took.as_secs()), "{took:?}");
        assert_eq!(counts(&place.status(service), "slow"), [10, 0, 0]);
        // A publisher that is silent between messages may be so for longer than a message may take.
        let (mut stream, reply) = client.publisher(&service.address, "slow");
        assert_eq!(reply.next_sequence, 10);
        std::thread::sleep(Duration::from_secs(3));
        stream.send(&message);
        assert_eq!(stream.finish().accepted, 40);
    });
}

/// What a connection's session took does not count against it when it is over: the next one may
/// come on the same connection.
#[test]
fn a_connection_may_be_used_again_after_a_long_session() {
    let place = Place::new(DEFINITIONS);
    let service = place.serve_with("data", "--listen 127.0.0.1:0 --message-timeout 1s");
    let client = Client::new();
    let connection = client.connect(&service.address);
    for again in 0..2 {
        let mut stream = client.open(&connection);
        stream.control(&hello("long"));
        assert!(matches!(stream.next(), Some(Control::HelloReply(_))), "session {again}");
        std::thread::sleep(Duration::from_millis(1_500));
        let part = &rows(20)[again * 10..][..10];
        stream.send(&message_bytes(Kind::Ticks, &frame(part, again as u64 * 10)));
        assert_eq!(stream.finish().accepted, 10 * (again as u64 + 1));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(place.status(&service)["edge"]["too_slow"], 0);
    service.stop();
    assert_eq!(place.ticks("data"), 20);
}

/// Three subscribers that read nothing, one of each policy: publishers wait for one of them, for a
/// bounded time, and each is told what became of it.
#[test]
fn subscribers_that_never_read_get_what_they_chose() {
    const WINDOWS: i64 = 40_000;
    let place = Place::new(DEFINITIONS);
    // A window each.
    let tick = |at: i64| Tick {
        ts: START_NS + at * SECOND_NS,
        symbol: "S0".into(),
        price: 100 + at % 7,
        size: 1,
    };
    place.write("ticks.csv", csv(&(0..WINDOWS).map(tick).collect::<Vec<_>>()));
    let service = place.serve_with("data", "--listen 127.0.0.1:0 --memory-max 4MiB");
    let client = Client::new();
    let subscribe = |policy| {
        let mut stream = client.open(&client.connect(&service.address));
        let wanted = Subscribe { policy, ..Subscribe::new("bars") };
        stream.control(&Control::Hello(Hello::new(Role::Subscribe(wanted))));
        match stream.next() {
            Some(Control::SubscribeReply(reply)) => (stream, reply.schema.columns.len()),
            other => panic!("no answer to a subscription: {other:?}"),
        }
    };
    let [(mut lagging, _), (mut conflating, columns), (mut blocking, _)] =
        [Policy::Disconnect, Policy::Conflate, Policy::Block].map(subscribe);
    let started = Instant::now();
    let report = place.publish("ticks.csv", &service, "--no-reconnect").end().succeeded().json();
    assert_eq!(report["accepted"], WINDOWS, "{report}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let status = place.status(&service);
    let edge = |name: &str| status["edge"][name].as_u64().expect("a count");
    assert_eq!(edge("subscribers_lagged"), 2, "{status}");
    assert!(edge("batches_blocked") > 0, "{status}");
    for stream in [&mut lagging, &mut blocking] {
        let refusal = stream.ended();
        assert_eq!(refusal.code, Code::Lagged, "{refusal}");
    }
    // The conflating one reads now: what it was not sent was counted, and the newest is there.
    let published = status["views"]["bars"]["cursor"].as_u64().expect("a count");
    let (mut read, mut cursor) = (0, 0);
    while cursor < published {
        let message = conflating.message().expect("it stays").expect("it stays");
        assert_eq!(message.kind, Kind::Windows);
        let batch = windows::decode(&message.payload, columns).expect("it is a batch");
        read += batch.windows.len() as u64;
        cursor = batch.next_cursor;
    }
    assert!(edge("windows_conflated") > 0, "{status}");
    assert_eq!(read + edge("windows_conflated"), published, "{status}");
    drop((lagging, conflating, blocking));
    service.stop();
    assert_eq!(place.ticks("data"), WINDOWS as u64);
    place.verified("bars", "data");
}
