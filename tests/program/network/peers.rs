//! Peers that send what nobody should: each is told why it is let go, and harms nobody else.

use std::time::{Duration, Instant};

use isotick_wire::{Code, Control, Kind, REQUEST_BYTES_MAX, Refusal};
use serde_json::{Value, json};

use super::WAYS;
use super::raw::{Client, control_bytes, frame, hello, message_bytes};
use crate::program::{DEFINITIONS, Place, SECOND_NS, START_NS, Service, Tick, csv, ticks};

/// Rows that every bad publisher sends before it turns bad.
const GOOD_ROWS: u64 = 10;

/// A service that a good publisher uses before, during and after something bad.
pub fn serving(more: &str, bad: impl FnOnce(&Place, &Service)) {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(211, 12_000, 20)));
    let hash = place.hash("bars --file ticks.csv");
    let service = place.serve_with("data", &format!("--listen 127.0.0.1:0 {more}"));
    let publisher = place.publish("ticks.csv", &service, "--rate 12000/s --no-reconnect");
    bad(&place, &service);
    let report = publisher.end().succeeded().json();
    assert_eq!(report["accepted"], 12_000, "{report}");
    let asked = Instant::now();
    let status = place.status(&service);
    assert!(asked.elapsed() < Duration::from_secs(2), "a status after {:?}", asked.elapsed());
    assert_eq!(status["failure"], Value::Null, "{status}");
    let accepted = status["streams"]["trades"]["accepted"].as_u64();
    service.stop();
    assert_eq!(place.hash("bars --data data --key S0 S1 S2 S3 S4 S5 S6"), hash);
    assert_eq!(Some(place.ticks("data")), accepted);
    place.verified("bars", "data");
}

/// Rows of a symbol that the good publisher has not.
pub fn rows(count: u64) -> Vec<Tick> {
    let row =
        |row: u64| Tick { ts: START_NS + row as i64, symbol: "bad".into(), price: 100, size: 1 };
    (0..count).map(row).collect()
}

/// What the status says of a publisher: rows accepted, rejected and repeated.
pub fn counts(status: &Value, publisher: &str) -> [u64; 3] {
    let publishers = status["streams"]["trades"]["publishers"].as_array();
    let mut publishers = publishers.into_iter().flatten();
    let found = publishers.find(|known| known["publisher"] == publisher);
    let found = found.unwrap_or_else(|| panic!("no publisher {publisher}: {status}"));
    let count = |name: &str| found[name].as_u64().unwrap_or(0);
    let rejected = found["rejected"].as_object().into_iter().flatten();
    let rejected = rejected.filter_map(|(_, rows)| rows.as_u64()).sum();
    [count("accepted"), rejected, count("duplicate") + count("conflicting")]
}

/// A frame's payload under the right checksum, whatever it says.
fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&body);
    body.extend_from_slice(&checksum.to_le_bytes());
    body
}

/// A frame of two value columns whose every packed column is of width 0: a few bytes a block, one
/// key, sequences from `first` on.
fn flat(rows: u32, columns: u16, first: u64) -> Vec<u8> {
    let signed = |value: i64, out: &mut Vec<u8>| {
        let mut value = (value << 1 ^ value >> 63) as u64;
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    };
    let key = isotick_model::Key::from_components(["flat"]);
    let mut body = vec![1, 0];
    body.extend_from_slice(&columns.to_le_bytes());
    for count in [rows, 0, 1] {
        body.extend_from_slice(&count.to_le_bytes());
    }
    body.extend_from_slice(&(key.as_bytes().len() as u16).to_le_bytes());
    body.extend_from_slice(key.as_bytes());
    let blocks = || (0..rows).step_by(256);
    let constant = |value: i64, body: &mut Vec<u8>| {
        blocks().for_each(|_| {
            body.push(0);
            signed(value, body);
        });
    };
    constant(0, &mut body);
    constant(START_NS, &mut body);
    for start in blocks() {
        body.push(0x80);
        signed((first + u64::from(start)) as i64, &mut body);
        signed(1, &mut body);
    }
    for _ in 0..columns {
        body.push(0);
        constant(1, &mut body);
    }
    sealed(body)
}

fn changed(payload: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = payload[..payload.len() - 4].to_vec();
    change(&mut body);
    sealed(body)
}

/// What a welcomed publisher sends, and what it is told.
fn bad_messages() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = frame(&rows(20)[10..], GOOD_ROWS);
    let ticks = |payload: &[u8]| message_bytes(Kind::Ticks, payload);
    let announced = |bytes: u32, kind: u8| [&bytes.to_le_bytes()[..], &[kind]].concat();
    let mut broken = good.clone();
    broken[20] ^= 1;
    vec![
        ("oversized", announced(REQUEST_BYTES_MAX as u32 + 1, 2), "at most"),
        ("boundless", announced(u32::MAX, 2), "at most"),
        ("unknown kind", announced(4, 9), "kind"),
        ("windows", message_bytes(Kind::Windows, &good), "order"),
        ("checksum", ticks(&broken), "checksum"),
        ("truncated", ticks(&good[..good.len() / 2]), "checksum"),
        ("nothing", ticks(&[]), "end inside"),
        ("cut but sealed", ticks(&changed(&good, |body| body.truncate(30))), "end inside"),
        ("longer", ticks(&changed(&good, |body| body.push(0))), "left over"),
        ("another layout", ticks(&changed(&good, |body| body[0] = 77)), "layout 77"),
        ("columns", ticks(&flat(10, 3, GOOD_ROWS)), "definition has 2"),
        ("too many rows", ticks(&flat(65_537, 2, GOOD_ROWS)), "65537 rows"),
        ("too many values", ticks(&flat(65_536, 1_000, GOOD_ROWS)), "1000 columns"),
        ("no rows but says so", ticks(&changed(&good, |b| b[4..8].fill(0xFF))), "rows"),
        ("more keys than rows", ticks(&changed(&good, |b| b[12..16].fill(0xFF))), "keys"),
        ("a second hello", control_bytes(&hello("again")), "order"),
        ("an ack", control_bytes(&Control::Ack(Default::default())), "order"),
        ("empty control", message_bytes(Kind::Control, &[]), "empty"),
        ("no protobuf", message_bytes(Kind::Control, &[0xFF; 40]), "control"),
    ]
}

#[test]
fn broken_messages_end_their_session_with_a_reason() {
    WAYS.iter().for_each(|way| send_broken_messages(&format!("--io {way}")));
}

fn send_broken_messages(more: &str) {
    serving(more, |place, service| {
        let client = Client::new();
        let before = errors(&place.status(service));
        let cases = bad_messages();
        for (name, bytes, word) in &cases {
            let (mut stream, reply) = client.publisher(&service.address, name);
            assert_eq!(reply.next_sequence, 0, "{name}");
            stream.send(&message_bytes(Kind::Ticks, &frame(&rows(GOOD_ROWS), 0)));
            stream.received(GOOD_ROWS);
            stream.send(bytes);
            let Refusal { code, text } = stream.ended();
            assert_eq!(code, Code::Protocol, "{name}: {text}");
            assert!(text.contains(word), "{name}: no `{word}` in: {text}");
        }
        let status = place.status(service);
        assert_eq!(errors(&status) - before, cases.len() as u64, "{status}");
        for (name, ..) in &cases {
            assert_eq!(counts(&status, name), [GOOD_ROWS, 0, 0], "{name}: {status}");
        }
    });
}

fn errors(status: &Value) -> u64 {
    status["edge"]["protocol_errors"].as_u64().expect("a count")
}

#[test]
fn a_session_begins_with_a_hello_of_this_version() {
    serving("", |_, service| {
        let client = Client::new();
        let first = |bytes: &[u8]| {
            let mut stream = client.open(&client.connect(&service.address));
            stream.send(bytes);
            stream.ended()
        };
        // Control { hello: Hello { version: 9 } }
        let refusal = first(&message_bytes(Kind::Control, &[0x0A, 2, 0x08, 9]));
        assert_eq!(refusal.code, Code::Version, "{refusal}");
        assert!(refusal.text.contains("version 9"), "{refusal}");
        let refusal = first(&message_bytes(Kind::Ticks, &frame(&rows(3), 0)));
        assert_eq!(refusal.code, Code::Protocol, "{refusal}");
        assert!(refusal.text.contains("hello"), "{refusal}");
        let refusal = first(&control_bytes(&Control::Finish(None)));
        assert_eq!(refusal.code, Code::Protocol, "{refusal}");
        let refusal = first(b"GET / HTTP/1.1\r\nHost: isotick\r\n\r\n");
        assert_eq!(refusal.code, Code::Protocol, "{refusal}");
        // Another protocol fails in the handshake.
        let error = Client::speaking(b"h3").refused(&service.address);
        assert!(error.to_string().contains("protocol"), "{error}");
    });
}

#[test]
fn a_frame_cut_by_a_hang_up_counts_nothing() {
    serving("", |place, service| {
        let client = Client::new();
        let whole = message_bytes(Kind::Ticks, &frame(&rows(40)[10..], GOOD_ROWS));
        for cut in [0, 3, 5, 6, whole.len() / 2, whole.len() - 1] {
            let (mut stream, reply) = client.publisher(&service.address, "cut");
            if reply.next_sequence == 0 {
                stream.send(&message_bytes(Kind::Ticks, &frame(&rows(GOOD_ROWS), 0)));
                stream.received(GOOD_ROWS);
            } else {
                assert_eq!(reply.next_sequence, GOOD_ROWS, "cut at {cut}");
            }
            stream.send(&whole[..cut]);
            stream.hang_up();
            stream.connection.close(0u32.into(), b"");
        }
        assert_eq!(counts(&place.status(service), "cut"), [GOOD_ROWS, 0, 0]);
        let (mut stream, _) = client.publisher(&service.address, "cut");
        stream.send(&whole);
        let ack = stream.finish();
        assert_eq!((ack.accepted, ack.duplicate, ack.durable_through), (40, 0, 40), "{ack:?}");
    });
}

/// As many rows as a frame may have, in some bytes a block of 256: legal, and each counted.
#[test]
fn a_frame_that_unpacks_to_all_a_frame_may_hold_is_taken() {
    serving("", |place, service| {
        let client = Client::new();
        let (mut stream, _) = client.publisher(&service.address, "flat");
        let payload = flat(65_536, 2, 0);
        assert!(payload.len() < 16 << 10, "{} bytes", payload.len());
        // The second time every row is a repeat.
        for _ in 0..2 {
            stream.send(&message_bytes(Kind::Ticks, &payload));
        }
        let ack = stream.finish();
        let counted = ack.accepted + ack.rejected.total() + ack.duplicate + ack.conflicting;
        assert_eq!((ack.accepted, counted), (65_536, 2 * 65_536), "{ack:?}");
        assert_eq!(counts(&place.status(service), "flat"), [65_536, 0, 65_536]);
    });
}

/// Clocks that jump: no tick beyond the horizon moves the watermark, and one from the past is late.
#[test]
fn clocks_that_jump_move_nobody_else() {
    let place = Place::new(DEFINITIONS);
    let service = place.serve("data");
    let client = Client::new();
    let (mut stream, _) = client.publisher(&service.address, "jumps");
    let year_ns = 365 * 86_400 * SECOND_NS;
    let at = |ts: i64| Tick { ts, symbol: "jump".into(), price: 100, size: 1 };
    let times = [
        START_NS,
        i64::MAX,
        START_NS + 1,
        START_NS + 100 * year_ns,
        i64::MIN,
        START_NS + 2,
        0,
        i64::MAX - 1,
        i64::MIN + 1,
        START_NS + SECOND_NS,
    ];
    let rows: Vec<Tick> = times.into_iter().map(at).collect();
    stream.send(&message_bytes(Kind::Ticks, &frame(&rows, 0)));
    let ack = stream.received(times.len() as u64);
    let rejected: Value =
        ack.rejected.iter().map(|(reason, rows)| (reason.name().to_owned(), json!(rows))).collect();
    assert_eq!(rejected, json!({"time_out_of_range": 4, "beyond_horizon": 1}), "{ack:?}");
    assert_eq!((ack.accepted, ack.late), (5, 1), "{ack:?}");
    assert_eq!(ack.accepted + ack.rejected.total(), times.len() as u64, "{ack:?}");
    let status = place.status(&service);
    assert_eq!(status["streams"]["trades"]["watermark_ns"], START_NS + SECOND_NS, "{status}");
    stream.finish();
    service.stop();
    assert_eq!(place.ticks("data"), 5);
    place.verified("bars", "data");
}
