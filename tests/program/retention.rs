//! History that is kept: merged in the background, dropped by age, dropped by hand.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{DEFINITIONS, Numbers, Place, START_NS, Service, Tick, csv, table};

const DAY_NS: i64 = 86_400_000_000_000;

/// Ticks over some days, in order.
fn ticks_over(days: i64, count: usize) -> Vec<Tick> {
    let mut numbers = Numbers::new(5);
    let step = days * DAY_NS / count as i64;
    let tick = |number: usize| Tick {
        ts: START_NS + number as i64 * step,
        symbol: format!("S{}", numbers.below(7)),
        price: 10_000 + numbers.below(500) as i64,
        size: 1 + numbers.below(20) as i64,
    };
    (0..count).map(tick).collect()
}

fn wait_for(place: &Place, service: &Service, what: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let status = place.status(service);
        if what(&status) {
            return status;
        }
        assert!(started.elapsed() < super::WITHIN, "waited in vain: {status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn history_is_merged_while_the_service_runs() {
    let place = Place::new(DEFINITIONS);
    let all = ticks_over(1, 20_000);
    place.write("all.csv", csv(&all));
    let hash = place.hash("bars --file all.csv");
    let service = place.serve_with("data", "--listen 127.0.0.1:0 --compact-share 1");
    // Each end of a publisher brings a file to history.
    for (number, piece) in all.chunks(1_000).enumerate() {
        let file = format!("{number}.csv");
        place.write(&file, csv(piece));
        place.publish(&file, &service, "").end().succeeded();
    }
    let status = wait_for(&place, &service, |status| {
        status["compaction"]["merges"].as_u64() > Some(1)
            && status["history"]["trades"]["files"].as_u64() < Some(16)
    });
    assert_eq!(status["history"]["trades"]["rows"], 20_000, "{status}");
    assert!(status["compaction"]["failure"].is_null(), "{status}");
    // While it runs, what is read is whole.
    assert_eq!(place.hash("bars --data data"), hash);
    service.stop();
    assert_eq!(place.hash("bars --data data"), hash);
    place.verified("bars", "data");
    let streams = place.ok("streams list --data data --json").json();
    assert_eq!(streams["streams"]["trades"]["rows"], 20_000, "{streams}");
    assert_eq!(streams["streams"]["trades"]["views"], serde_json::json!(["bars", "all"]));
}

#[test]
fn a_service_without_compaction_leaves_files_as_they_are() {
    let place = Place::new(DEFINITIONS);
    let service = place.serve_with("data", "--listen 127.0.0.1:0 --compact-share 0");
    for (number, piece) in ticks_over(1, 1_000).chunks(100).enumerate() {
        let file = format!("{number}.csv");
        place.write(&file, csv(piece));
        place.publish(&file, &service, "").end().succeeded();
    }
    let status = place.status(&service);
    assert!(status["history"]["trades"]["files"].as_u64() >= Some(10), "{status}");
    assert_eq!(status["compaction"]["merges"], 0, "{status}");
    service.stop();
}

#[test]
fn a_stream_gives_up_its_oldest_days() {
    let kept = "retention = { age = \"2d\" }\ntime    = \"ts\"";
    let place = Place::new(&DEFINITIONS.replacen("time    = \"ts\"", kept, 1));
    let all = ticks_over(6, 6_000);
    place.write("all.csv", csv(&all));
    let service = place.serve("data");
    place.publish("all.csv", &service, "").end().succeeded();
    let status = wait_for(&place, &service, |status| {
        status["history"]["trades"]["dropped_before"].is_string()
    });
    service.stop();
    // The first tick comes at 14:30, the last one almost six days later.
    let last = all.last().expect("there are ticks").ts;
    let before = (last - 2 * DAY_NS).div_euclid(DAY_NS) * DAY_NS;
    let stays = |tick: &&Tick| tick.ts >= before;
    let rows = all.iter().filter(stays).count() as u64;
    assert_eq!(place.ticks("data"), rows, "{status}");
    let kept: Vec<Tick> = all.iter().filter(stays).cloned().collect();
    place.write("kept.csv", csv(&kept));
    assert_eq!(place.hash("bars --data data"), place.hash("bars --file kept.csv"));
    let said = place.ok("scan bars --data data --hash").err;
    assert!(said.contains("were dropped from this folder"), "{said}");
    let report = place.verified("bars", "data");
    assert!(report["not_compared"] == 0, "{report}");
    let listed = place.ok("streams list --data data").out;
    assert!(listed.contains("retention 2d") && listed.contains("dropped before"), "{listed}");
    // Nothing comes back.
    let service = place.serve("data");
    let again = place.publish("all.csv", &service, "").end().succeeded().json();
    assert_eq!(again["accepted"], 6_000, "{again}");
    service.stop();
    assert_eq!(place.ticks("data"), rows);
}

#[test]
fn streams_are_dropped_by_hand() {
    let place = Place::new(DEFINITIONS);
    place.write("all.csv", csv(&ticks_over(4, 4_000)));
    let service = place.serve("data");
    place.publish("all.csv", &service, "").end().succeeded();
    place.refuse("streams drop trades --data data --yes", &["in use", "isotick serve"]);
    service.stop();
    place.refuse("streams drop quotes --data data", &["no stream quotes", "trades"]);
    let would = place.run("streams drop trades --data data --before 2024-01-04");
    assert_eq!(would.code, Some(1), "{would}");
    assert!(would.out.contains("nothing was changed; --yes does it"), "{would}");
    assert_eq!(place.ticks("data"), 4_000);
    let command = "streams drop trades --data data --before 2024-01-04 --yes --json";
    let dropped = place.ok(command).json();
    let gone = dropped["rows"].as_u64().expect("a count");
    assert!(gone > 0 && gone < 4_000, "{dropped}");
    assert_eq!(place.ticks("data"), 4_000 - gone);
    place.verified("bars", "data");

    place.ok("streams drop trades --data data --yes");
    let listed = place.ok("streams list --data data").out;
    assert_eq!(listed, "no streams\n");
    // A stream of the same name begins anew, although the log still holds the old one.
    place.write("new.csv", csv(&ticks_over(1, 500)));
    let service = place.serve("data");
    assert_eq!(place.status(&service)["streams"]["trades"]["accepted"], 0);
    for file in ["new.csv", "all.csv"] {
        place.publish(file, &service, "").end().succeeded();
    }
    service.stop();
    assert_eq!(place.ticks("data"), 4_500);
    place.verified("bars", "data");
    let scanned = place.ok("scan all --data data --format csv").out;
    assert_eq!(table(&scanned).len(), 7, "a window for each symbol");
}
