//! A path that loses, reorders, repeats and moves: publishing over it ends as over a good one.

use std::time::{Duration, Instant};

use serde_json::Value;

use isotick_wire::frame::Encoder;
use isotick_wire::{Kind, datagram};

use super::WAYS;
use super::proxy::{Faults, Proxy};
use super::raw::{Client, columns, frame, hello_of, message_bytes};
use crate::program::{DEFINITIONS, Place, Service, Tick, WITHIN, csv, ticks};

const ROWS: usize = 120_000;
/// Every so many rows one is below the least price allowed.
const REJECTED_EVERY: usize = 1_000;

fn rows(seed: u64) -> Vec<Tick> {
    ticks(seed, ROWS, 60)
}

/// CSV with a price below zero in every thousandth row.
fn file(rows: &[Tick]) -> String {
    let text = csv(rows);
    let line = |(number, line): (usize, &str)| match line.split_once(',') {
        Some((ts, _)) if number > 0 && number % REJECTED_EVERY == 0 => format!("{ts},S0,-1.00,1\n"),
        _ => format!("{line}\n"),
    };
    text.lines().enumerate().map(line).collect()
}

/// What an undisturbed run comes to: the scan's hash and that of the live record.
struct Calm {
    place: Place,
    scanned: String,
    live: Value,
}

impl Calm {
    fn new(seed: u64) -> Self {
        let place = Place::new(DEFINITIONS);
        place.write("ticks.csv", file(&rows(seed)));
        let service = place.serve("calm");
        place.publish("ticks.csv", &service, "").end().succeeded();
        service.stop();
        let scanned = place.hash("bars --data calm");
        let live = place.verified("bars", "calm")["hash"].clone();
        Self { place, scanned, live }
    }

    /// Publishes over a path on which `meanwhile` something happens; the connection must last.
    fn disturbed(
        &self,
        (data, way): (&str, &str),
        faults: Faults,
        more: &str,
        meanwhile: impl FnOnce(&Service, &Proxy),
    ) {
        let service = self.place.serve_with(data, &format!("--listen 127.0.0.1:0 --io {way}"));
        let proxy = Proxy::new(&service.address, faults, 7);
        let to = &proxy.address;
        let publisher = self.place.start(&format!(
            "publish ticks.csv --stream trades --to {to} --json --no-reconnect {more}"
        ));
        meanwhile(&service, &proxy);
        let report = publisher.end().succeeded().json();
        let counts = proxy.counts();
        for (fault, of_thousand) in
            [("lost", faults.lost), ("repeated", faults.repeated), ("held_back", faults.held_back)]
        {
            let met = counts[fault];
            assert_eq!(met > 0, of_thousand > 0, "{fault}: {counts:?}");
        }
        let count = |name: &str| report[name].as_u64().unwrap_or(0);
        let rejected = (ROWS / REJECTED_EVERY) as u64;
        assert_eq!(report["rejected"], serde_json::json!({"out_of_bounds": rejected}), "{report}");
        let counted = count("accepted") + rejected + count("duplicate") + count("lost");
        assert_eq!(counted, count("sent"), "{report}");
        assert_eq!(count("sent"), ROWS as u64, "{report}");
        assert_eq!((count("conflicting"), count("durable_through")), (0, ROWS as u64), "{report}");
        let status = self.place.status(&service);
        assert_eq!(status["streams"]["trades"]["accepted"], report["accepted"], "{status}");
        service.stop();
        assert_eq!(self.place.hash(&format!("bars --data {data}")), self.scanned, "{data}");
        assert_eq!(self.place.verified("bars", data)["hash"], self.live, "{data}");
        assert_eq!(self.place.ticks(data), count("accepted"));
    }
}

#[test]
fn loss_reorder_and_repeats_change_nothing() {
    let calm = Calm::new(201);
    let none = Faults::default();
    let cases = [
        ("lost-1", "auto", Faults { lost: 10, ..none }),
        ("lost-5", "socket", Faults { lost: 50, ..none }),
        ("reordered", "auto", Faults { held_back: 100, ..none }),
        ("repeated", "socket", Faults { repeated: 100, ..none }),
        ("all", "auto", Faults { lost: 50, repeated: 50, held_back: 50 }),
        ("all-by-socket", "socket", Faults { lost: 50, repeated: 50, held_back: 50 }),
    ];
    for (data, way, faults) in cases {
        calm.disturbed((data, way), faults, "", |_, _| ());
    }
}

#[test]
fn a_client_whose_address_changes_keeps_its_connection() {
    let calm = Calm::new(202);
    let faults = Faults { lost: 5, ..Faults::default() };
    for way in WAYS {
        calm.disturbed((way, way), faults, "--rate 80000/s", |service, proxy| {
            let started = Instant::now();
            for more_than in [10_000, 40_000, 70_000] {
                while accepted(&calm.place, service) < more_than {
                    assert!(started.elapsed() < WITHIN, "no ticks come");
                    std::thread::sleep(Duration::from_millis(10));
                }
                proxy.migrate();
            }
            assert!(accepted(&calm.place, service) < ROWS as u64, "it moved in the middle");
        });
    }
}

/// Datagrams that are lost are not sent again: their rows are counted as lost.
#[test]
fn lost_datagrams_are_counted() {
    let place = Place::new(DEFINITIONS);
    let rows = ticks(203, 10_000, 20);
    let service = place.serve("data");
    let faults = Faults { lost: 50, repeated: 20, held_back: 50 };
    let proxy = Proxy::new(&service.address, faults, 9);
    let client = Client::new();
    let (mut stream, reply) = client.welcomed(&proxy.address, &hello_of("lossy", true));
    let all = columns(&rows, 0);
    let mut encoder = Encoder::default();
    for start in (0..rows.len()).step_by(10) {
        let mut bytes = Vec::new();
        datagram::put_session(reply.session, &mut bytes);
        encoder.encode(&all, start..start + 10, &[], &mut bytes).expect("ten rows fit");
        client.datagram(&stream.connection, bytes);
    }
    // What belongs to nobody, and what is no frame, is refused and harms nothing.
    let bad: [&[u8]; 4] = [&[], &[0xFF; 11], &[0x7F, 1, 2, 3], b"no session has this number"];
    bad.iter().for_each(|bytes| client.datagram(&stream.connection, bytes.to_vec()));
    std::thread::sleep(Duration::from_millis(300));
    // The last rows come on the stream, and cannot be lost.
    let last = ticks(204, 10, 0);
    stream.send(&message_bytes(Kind::Ticks, &frame(&last, rows.len() as u64)));
    let sent = (rows.len() + last.len()) as u64;
    let ack = stream.finish_at(Some(sent));
    let counted = ack.accepted + ack.rejected.total() + ack.lost;
    assert_eq!((counted, ack.missing, ack.durable_through), (sent, 0, sent), "{ack:?}");
    assert_eq!((ack.duplicate, ack.conflicting), (0, 0), "{ack:?}");
    assert!(ack.lost > 0 && ack.lost < sent / 4, "{ack:?} with {:?}", proxy.counts());
    let status = place.status(&service);
    assert!(status["edge"]["tick_datagrams_refused"].as_u64() > Some(0), "{status}");
    assert_eq!(status["streams"]["trades"]["lost"], ack.lost, "{status}");
    service.stop();
    assert_eq!(place.ticks("data"), ack.accepted);
    place.verified("bars", "data");
}

fn accepted(place: &Place, service: &Service) -> u64 {
    place.status(service)["streams"]["trades"]["accepted"].as_u64().unwrap_or(0)
}
