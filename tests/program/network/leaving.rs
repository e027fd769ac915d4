//! Clients that end before their work does, and readers of their output that stop reading.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::{DEFINITIONS, Place, Running, Service, WITHIN, csv, ticks};

fn interrupt(running: &Running) {
    let status = Command::new("kill").args(["-INT", &running.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

/// Waits until so many sessions are open beside that of whoever asks.
fn eventually(place: &Place, service: &Service, sessions: u64, within: Duration) {
    let started = Instant::now();
    loop {
        let edge = &place.status(service)["edge"];
        if edge["sessions_open"] == sessions + 1 {
            return;
        }
        assert!(started.elapsed() < within, "{sessions} sessions: {edge}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The service need not wait until it takes them for dead, which is after 10 s.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
fn who_is_interrupted_or_refused_takes_leave() {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(71, 20_000, 10)));
    place.write("broken.parquet", [7; 2_000]);
    let service = place.serve("data");
    let at = &service.address;

    let tail = place.start(&format!("tail bars --at {at} --policy block --format csv"));
    eventually(&place, &service, 1, WITHIN);
    interrupt(&tail);
    let ended = tail.end();
    assert_eq!(ended.code, Some(130), "{ended}");
    assert!(ended.out.starts_with("symbol,window_start"), "{ended}");
    eventually(&place, &service, 0, AT_ONCE);

    let publish = format!("publish ticks.csv --stream trades --to {at} --json");
    let publisher = place.start(&format!("{publish} --rate 4000/s"));
    eventually(&place, &service, 1, WITHIN);
    let started = Instant::now();
    loop {
        let streams = &place.status(&service)["streams"];
        if streams["trades"]["publishers"][0]["durable_through"].as_u64() > Some(0) {
            break;
        }
        assert!(started.elapsed() < WITHIN, "{streams}");
    }
    interrupt(&publisher);
    let ended = publisher.end();
    assert_eq!(ended.code, Some(130), "{ended}");
    assert!(ended.err.contains("the same command goes on"), "{ended}");
    let sent = ended.json()["sent"].as_u64();
    assert!(sent > Some(0) && sent < Some(20_000), "{ended}");
    eventually(&place, &service, 0, AT_ONCE);

    let broken = publish.replace("ticks.csv", "broken.parquet");
    place.refuse(&broken, &["broken.parquet is no readable Parquet file"]);
    place.refuse(&publish.replace("trades", "nothing"), &["there is no stream `nothing`"]);
    place.refuse(&format!("tail nothing --at {at}"), &["there is no view `nothing`", "bars"]);
    let gone = format!("tail bars --at {at} --from-cursor 99999999");
    place.refuse(&gone, &["windows of `bars` were published so far"]);
    eventually(&place, &service, 0, AT_ONCE);

    let report = place.ok(&publish).json();
    assert!(report["resumed_at"].as_u64() >= Some(1), "{report}");
    assert_eq!((&report["accepted"], &report["duplicate"]), (&20_000.into(), &0.into()));
    service.stop();
    place.verified("bars", "data");
}

struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// More windows than a pipe takes, of which nobody reads any for longer than a silent connection
/// lives: one that conflates is still there.
#[test]
fn a_reader_that_pauses_keeps_its_connection() {
    let place = Place::new(&DEFINITIONS.replace("\"1s\"", "\"1ms\""));
    place.write("ticks.csv", csv(&ticks(72, 20_000, 10)));
    let service = place.serve("data");
    let at = &service.address;
    let mut tail = Command::new(env!("CARGO_BIN_EXE_isotick"));
    tail.args(["tail", "bars", "--at", at, "--policy", "conflate", "--format", "csv"]);
    tail.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let _tail = Unread(tail.spawn().expect("the binary runs"));
    eventually(&place, &service, 1, WITHIN);
    place.ok(&format!("publish ticks.csv --stream trades --to {at}"));
    std::thread::sleep(Duration::from_secs(12));
    let views = &place.status(&service)["views"];
    assert_eq!(views["bars"]["subscribers"], 1, "{views}");
    service.stop();
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_nobody_reads_is_no_failure() {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(73, 10, 10)));
    place.ok("import ticks.csv --stream trades --data data");
    for command in ["streams list --data data", "streams list --data data --json", "devices"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut words = Command::new(env!("CARGO_BIN_EXE_isotick"));
        words.args(command.split(' ')).current_dir(place.path("."));
        let output = words.stdout(writer).stderr(Stdio::piped()).output();
        let output = output.expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("panicked"), "{command}: {said}");
    }
}
