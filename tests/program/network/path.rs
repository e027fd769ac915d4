//! A path that loses, reorders, repeats and moves: publishing over it ends as over a good one.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::proxy::{Faults, Proxy};
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
        data: &str,
        faults: Faults,
        more: &str,
        meanwhile: impl FnOnce(&Service, &Proxy),
    ) {
        let service = self.place.serve(data);
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
        ("lost-1", Faults { lost: 10, ..none }),
        ("lost-5", Faults { lost: 50, ..none }),
        ("reordered", Faults { held_back: 100, ..none }),
        ("repeated", Faults { repeated: 100, ..none }),
        ("all", Faults { lost: 30, repeated: 50, held_back: 50 }),
    ];
    for (data, faults) in cases {
        calm.disturbed(data, faults, "", |_, _| ());
    }
}

#[test]
fn a_client_whose_address_changes_keeps_its_connection() {
    let calm = Calm::new(202);
    let faults = Faults { lost: 5, ..Faults::default() };
    calm.disturbed("moved", faults, "--rate 80000/s", |service, proxy| {
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

fn accepted(place: &Place, service: &Service) -> u64 {
    place.status(service)["streams"]["trades"]["accepted"].as_u64().unwrap_or(0)
}
