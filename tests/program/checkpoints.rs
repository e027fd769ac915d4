//! Starts from checkpoints: what follows is what would have followed without the stop.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::crash::{kill_again_and_again, wait_for_ticks};
use super::{DEFINITIONS, Place, Row, Service, csv, table, ticks};

/// Many checkpoints, and no log kept for its own sake.
const OFTEN: &str = "--checkpoint-every 8KiB --log-kept 0";
const ROWS: usize = 24_000;

fn serve(place: &Place, listen: &str) -> Service {
    place.serve_with("data", &format!("--listen {listen} {OFTEN}"))
}

/// Where a start would begin with the log, once this run has written a checkpoint.
fn needed_from(place: &Place, service: &Service) -> Option<u64> {
    place.status(service)["log"]["needed_from"].as_u64()
}

fn checkpoints(place: &Place) -> Vec<PathBuf> {
    let files = fs::read_dir(place.path("data/checkpoint")).expect("there are checkpoints");
    let mut files: Vec<_> = files.map(|file| file.expect("it can be read").path()).collect();
    files.sort();
    files
}

/// Killed at many moments while ticks come, late ones among them, and checkpoints are written.
#[test]
fn a_service_killed_between_checkpoints_loses_nothing() {
    let place = Place::new(DEFINITIONS);
    let rows = ticks(61, ROWS + 4_000, 80);
    place.write("ticks.csv", csv(&rows[..ROWS]));
    place.write("more.csv", csv(&rows[ROWS..]));
    let hash = place.hash("bars --file ticks.csv more.csv");
    let service = serve(&place, "127.0.0.1:0");
    // A subscriber that is there before the first window and takes up where it was sees every one.
    let tail = format!("tail bars --at {} --resume --format csv --time ns", service.address);
    let tail = place.start(&tail);
    let started = Instant::now();
    while place.status(&service)["views"]["bars"]["subscribers"] != 1 {
        assert!(started.elapsed() < super::WITHIN, "the subscriber does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut publisher = place.publish("ticks.csv", &service, "--rate 12000/s --order file");
    let kills = (3_500, &[0, 70, 140, 210, 280][..]);
    let serve_at = |address: &str| serve(&place, address);
    let service = kill_again_and_again(&place, service, &mut publisher, kills, serve_at);
    let report = publisher.end().succeeded().json();
    assert_eq!(report["durable_through"], ROWS, "{report}");
    assert_eq!(report["accepted"], ROWS, "{report}");
    // The last run has ticks of its own, however slow the kills were.
    place.publish("more.csv", &service, "").end().succeeded();
    // Until all is counted, a checkpoint is written and the subscriber was told.
    let started = Instant::now();
    let told = loop {
        let status = place.status(&service);
        let (bars, out) = (&status["views"]["bars"], tail.out_so_far());
        let told = table(&out[..out.rfind('\n').expect("a header") + 1]);
        let needed_from = status["log"]["needed_from"].as_u64();
        let seen: Option<u64> = ["ticks", "too_late"].iter().map(|name| bars[name].as_u64()).sum();
        let all = seen == Some(rows.len() as u64) && bars["cursor"] == told.len();
        if all && needed_from > Some(0) {
            break told;
        }
        assert!(started.elapsed() < super::WITHIN, "told of {}: {status}", told.len());
        std::thread::sleep(Duration::from_millis(20));
    };
    drop(tail);
    service.stop();
    assert!(checkpoints(&place).len() <= 2, "old checkpoints go");
    assert_eq!(place.hash("bars --data data"), hash);
    assert_eq!(place.ticks("data"), rows.len() as u64);
    let verified = place.verified("bars", "data");
    // The last version of each window that the subscriber was told is that of history.
    let scanned = place.ok("scan bars --data data --truth seen --format csv --time ns");
    let window = |row: &Row| (row["symbol"].clone(), row["window_start"].clone());
    let last: BTreeMap<_, _> = told.iter().map(|row| (window(row), &row["vwap"])).collect();
    assert_eq!(last.len() as u64, verified["windows"].as_u64().expect("a count"));
    let scanned = table(&scanned.out);
    let scanned: BTreeMap<_, _> = scanned.iter().map(|row| (window(row), &row["vwap"])).collect();
    for (window, vwap) in last {
        assert_eq!(scanned.get(&window), Some(&vwap), "{window:?}");
    }
}

/// A view that is added later begins with the windows that are still open, whole.
#[test]
fn a_view_that_is_added_holds_its_open_windows_whole() {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(62, ROWS, 40)));
    let service = serve(&place, "127.0.0.1:0");
    let publisher = place.publish("ticks.csv", &service, "--rate 12000/s --order file");
    wait_for_ticks(&place, &service, 9_000);
    let (address, started) = (service.address.clone(), Instant::now());
    while needed_from(&place, &service) < Some(2) {
        assert!(started.elapsed() < super::WITHIN, "no checkpoint is written");
    }
    service.kill();
    let more = "[view.slow]\nstream = \"trades\"\nwindow = { tumbling = \"7s\" }\n\
                aggregates = [\"count()\", \"last(price)\", \"quantile(size, 0.5)\"]\n\
                lateness = { allowed = \"20ms\" }\n";
    place.write("isotick.toml", format!("{DEFINITIONS}\n{more}"));
    let service = serve(&place, &address);
    wait_for_ticks(&place, &service, 14_000);
    // And once more, so that it comes out of a checkpoint too.
    service.kill();
    let service = serve(&place, &address);
    publisher.end().succeeded();
    service.stop();
    let report = place.verified("slow", "data");
    assert!(report["windows"].as_u64() > Some(7), "{report}");
    assert!(report["not_compared"].as_u64() > Some(0), "{report}");
    assert_eq!(place.verified("bars", "data")["not_compared"], 0);
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_two_are_refused_by_name() {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(63, 6_000, 40)));
    let hash = place.hash("bars --file ticks.csv");
    let service = serve(&place, "127.0.0.1:0");
    let publisher = place.publish("ticks.csv", &service, "--rate 6000/s --order file");
    wait_for_ticks(&place, &service, 3_000);
    service.kill();
    drop(publisher);
    let damage = |path: &PathBuf| {
        let mut bytes = fs::read(path).expect("it can be read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).expect("it can be written");
    };
    // The kill may have come between two of them: what counts is in the manifest.
    let manifest = fs::read(place.path("data/manifest.json")).expect("it can be read");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    let kept = manifest["manifest"]["checkpoints"].as_array().expect("checkpoints are kept");
    let newest = kept.last().and_then(|kept| kept["path"].as_str()).expect("one is the newest");
    assert_eq!(kept.len(), 2, "two checkpoints are kept");
    damage(&place.path("data").join(newest));
    let mut service = serve(&place, "127.0.0.1:0");
    service.running.wait_for(|said| said.contains("the checkpoint before it").then_some(()));
    place.publish("ticks.csv", &service, "--order file").end().succeeded();
    service.stop();
    assert_eq!(place.hash("bars --data data"), hash);
    place.verified("bars", "data");
    let both = checkpoints(&place);
    // One of them may be the one that was damaged before.
    both.iter().for_each(|path| fs::write(path, "no checkpoint").expect("it can be written"));
    let name = both[1].file_name().and_then(|name| name.to_str()).expect("text");
    place.refuse("serve --data data --listen 127.0.0.1:0", &["checkpoint", name]);
}
