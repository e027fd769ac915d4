//! Killed in the middle: nothing acknowledged is missing, nothing counts twice.

use std::time::{Duration, Instant};

use super::{DEFINITIONS, Place, Running, Service, csv, ticks};

const ROWS: usize = 24_000;

/// A file that takes two seconds at the rate it is published at, and its hash.
fn place(seed: u64) -> (Place, String) {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(seed, ROWS, 80)));
    let hash = place.hash("bars --file ticks.csv");
    (place, hash)
}

fn publish(place: &Place, service: &Service, more: &str) -> Running {
    place.publish("ticks.csv", service, &format!("--rate 12000/s {more}"))
}

/// Waits until the service has accepted some ticks, by its status.
pub fn wait_for_ticks(place: &Place, service: &Service, more_than: u64) {
    let started = Instant::now();
    loop {
        let status = place.status(service);
        if status["streams"]["trades"]["accepted"].as_u64() > Some(more_than) {
            return;
        }
        assert!(started.elapsed() < super::WITHIN, "no ticks come: {status}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn check(place: &Place, hash: &str, order: &str) {
    assert_eq!(place.hash("bars --data data"), hash);
    assert_eq!(place.ticks("data"), ROWS as u64);
    let windows = place.verified("bars", "data");
    // Where the kills came decides nothing: a run without any publishes the same windows.
    let service = place.serve("calm");
    place.publish("ticks.csv", &service, order).end().succeeded();
    service.stop();
    assert_eq!(windows["hash"], place.verified("bars", "calm")["hash"]);
}

/// Kills the service again and again while a file is published: each time when it has accepted so
/// many more ticks, and some milliseconds later. Returns the last one.
pub fn kill_again_and_again(
    place: &Place,
    mut service: Service,
    publisher: &mut Running,
    (ticks_between, waits_ms): (u64, &[u64]),
    serve_at: impl Fn(&str) -> Service,
) -> Service {
    let mut in_the_middle = 0;
    for (round, wait_ms) in (0..).zip(waits_ms) {
        wait_for_ticks(place, &service, round * ticks_between);
        std::thread::sleep(Duration::from_millis(*wait_ms));
        let address = service.address.clone();
        service.kill();
        // On a machine that stalls, the publisher catches up and is done before the later ones.
        in_the_middle += usize::from(publisher.is_running());
        service = serve_at(&address);
    }
    assert!(in_the_middle > 0, "no kill came in the middle");
    service
}

fn kill_while_published(seed: u64, order: &str) {
    let (place, hash) = place(seed);
    let service = place.serve("data");
    let mut publisher = publish(&place, &service, order);
    let kills = (5_000, &[0, 130, 260][..]);
    let serve_at = |address: &str| place.serve_at("data", address);
    let service = kill_again_and_again(&place, service, &mut publisher, kills, serve_at);
    let report = publisher.end().succeeded().json();
    assert_eq!(report["durable_through"], ROWS, "{report}");
    assert_eq!(report["accepted"], ROWS, "{report}");
    service.stop();
    check(&place, &hash, order);
}

#[test]
fn a_service_killed_again_and_again_loses_nothing() {
    kill_while_published(31, "--order file");
}

/// Rows that are sent by time leave gaps in the file's order where a kill comes.
#[test]
fn a_service_killed_again_and_again_loses_nothing_of_a_file_sent_by_time() {
    kill_while_published(34, "--order time");
}

#[test]
fn a_publisher_that_may_not_reconnect_says_how_far_it_came() {
    let (place, hash) = place(32);
    let service = place.serve("data");
    let publisher = place.publish("ticks.csv", &service, "--rate 4000/s --no-reconnect");
    wait_for_ticks(&place, &service, 2_000);
    service.kill();
    let ended = publisher.end();
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(ended.err.contains("isotick: "), "it says why: {ended}");
    let report = ended.json();
    let through = ["sent", "received_through", "written_through", "durable_through"]
        .map(|count| report[count].as_u64().expect("a count"));
    assert!(through.is_sorted_by(|more, less| more >= less), "{report}");
    let durable = through[3];
    assert!(durable > 0 && durable < ROWS as u64, "{report}");

    let service = place.serve("data");
    let accepted = place.status(&service)["streams"]["trades"]["accepted"].as_u64();
    assert!(accepted >= Some(durable), "{accepted:?} after the restart, {durable} before");
    // A stopped service has brought the log to history.
    service.stop();
    let held = place.ticks("data");
    assert!(held >= durable && held <= through[0], "{held} in history, {report}");
    let service = place.serve("data");
    let resumed = place.publish("ticks.csv", &service, "").end().succeeded().json();
    assert_eq!(resumed["accepted"], ROWS, "{resumed}");
    assert_eq!(resumed["duplicate"], 0, "it goes on where the service stands: {resumed}");
    service.stop();
    check(&place, &hash, "");
}

#[test]
fn a_killed_publisher_goes_on_where_it_stood() {
    let (place, hash) = place(33);
    let service = place.serve("data");
    for more_than in [0, 3_000] {
        let publisher = place.publish("ticks.csv", &service, "--rate 4000/s");
        wait_for_ticks(&place, &service, more_than);
        drop(publisher);
    }
    let report = place.publish("ticks.csv", &service, "").end().succeeded().json();
    assert_eq!(report["durable_through"], ROWS, "{report}");
    assert_eq!(report["accepted"], ROWS, "{report}");
    assert_eq!(report["conflicting"], 0, "{report}");
    service.stop();
    check(&place, &hash, "");
}

/// Killed at random moments of everything that writes: publishing, flushes, checkpoints, merges,
/// segments of the log that come and go. `ISOTICK_KILLS` says how often.
#[test]
fn killed_at_random_moments_everything_acknowledged_is_there_once() {
    let kills: u64 = match std::env::var_os("ISOTICK_KILLS") {
        Some(text) => text.to_str().and_then(|text| text.parse().ok()).expect("a number"),
        None => 12,
    };
    let often = "--checkpoint-every 16KiB --log-kept 0 --compact-share 1";
    let mut numbers = super::Numbers::new(kills);
    // Some hundred ticks for each kill, at a pace at which the kills come in between.
    let rows = 4_000 + 700 * kills as usize;
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(71, rows, 80)));
    let hash = place.hash("bars --file ticks.csv");
    let mut service = place.serve_with("data", &format!("--listen 127.0.0.1:0 {often}"));
    let publisher = place.publish("ticks.csv", &service, "--rate 3000/s --order file");
    let mut durable = 0;
    for _ in 0..kills {
        std::thread::sleep(Duration::from_micros(numbers.below(250_000)));
        let address = service.address.clone();
        let before = place.run(&format!("status --at {address} --json"));
        if before.code == Some(0) {
            let log = &before.json()["log"];
            durable = log["durable_records"].as_u64().expect("a count").max(durable);
        }
        service.kill();
        service = place.serve_with("data", &format!("--listen {address} {often}"));
        let records = place.status(&service)["log"]["records"].as_u64();
        assert!(records >= Some(durable), "{durable} records were durable, {records:?} are there");
    }
    let started = Instant::now();
    while place.status(&service)["streams"]["trades"]["accepted"].as_u64() < Some(rows as u64) {
        assert!(started.elapsed() < Duration::from_secs(60 + rows as u64 / 2_000), "it goes on");
        std::thread::sleep(Duration::from_millis(100));
    }
    let report = publisher.end().succeeded().json();
    assert_eq!(report["durable_through"], rows, "{report}");
    assert_eq!(report["accepted"], rows, "{report}");
    service.stop();
    assert_eq!(place.hash("bars --data data"), hash);
    assert_eq!(place.ticks("data"), rows as u64);
    place.verified("bars", "data");
    let checked = place.ok("fsck --data data --json").json();
    assert_eq!(checked["ticks"], rows, "{checked}");
}
