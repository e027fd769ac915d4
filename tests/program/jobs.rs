//! `isotick jobs` and `isotick scan --at` as a user types them.

use std::process::Command;
use std::time::Duration;

use super::{DEFINITIONS, Place, SECOND_NS, START_NS, Service, csv, table, ticks};

const MORE: &str = r#"
[view.minutes]
stream     = "trades"
window     = { tumbling = "1m" }
aggregates = ["high = max(price)", "trades = count()"]
"#;

/// A folder with imported ticks and a service over it that has more of them live.
fn served() -> (Place, Service) {
    let place = Place::new(&format!("{DEFINITIONS}{MORE}"));
    let all = ticks(7, 60_000, 200);
    place.write("early.csv", csv(&all[..40_000]));
    place.write("late.csv", csv(&all[40_000..]));
    place.ok("import early.csv --stream trades --data data");
    let service = place.serve("data");
    place.publish("late.csv", &service, "").end().succeeded();
    (place, service)
}

#[test]
fn a_service_scans_as_its_folder_is_scanned() {
    let (place, service) = served();
    let at = &service.address;
    let key = "bars --key S1 S3";
    let range = format!("bars --from {} --to {}", START_NS, START_NS + 30 * SECOND_NS);
    let hashes: Vec<_> = [key, &range, "bars", "all", "minutes --truth seen", "bars --engine cpu"]
        .map(|scan| (scan, place.hash(&format!("{scan} --at {at}"))))
        .into();
    let both = place.ok(&format!("scan bars minutes --hash --at {at}")).out;
    for (format, name) in [("csv", "far.csv"), ("parquet", "far.parquet")] {
        place.ok(&format!("scan bars --at {at} --format {format} -o {name}"));
    }
    let told = place.ok(&format!("scan bars --at {at} --format csv"));
    assert_eq!(told.out, std::fs::read_to_string(place.path("far.csv")).unwrap());
    assert!(told.err.contains("from 60000 ticks"), "{told}");
    let stats = place.ok(&format!("scan minutes --at {at} --hash --stats"));
    let stats: serde_json::Value = serde_json::from_str(&stats.err).unwrap();
    assert_eq!((&stats["rows_read"], &stats["view"]), (&60_000.into(), &"minutes".into()));
    place.ok(&format!("scan bars minutes --at {at} --format csv -o far-{{view}}.csv"));
    service.stop();

    for (scan, hash) in hashes {
        assert_eq!(place.hash(&format!("{scan} --data data")), hash, "{scan}");
    }
    assert_eq!(place.ok("scan bars minutes --hash --data data").out, both);
    let read = |name: &str| std::fs::read(place.path(name)).unwrap();
    place.ok("scan bars --data data -o near.csv");
    place.ok("scan bars --data data -o near.parquet");
    assert_eq!(read("near.csv"), read("far.csv"));
    assert_eq!(read("near.parquet"), read("far.parquet"));
    assert_eq!(read("near.csv"), read("far-bars.csv"));
    place.ok("scan minutes --data data -o near.csv");
    assert_eq!(read("near.csv"), read("far-minutes.csv"));
}

#[test]
fn a_job_is_submitted_listed_watched_and_fetched() {
    let (place, service) = served();
    let at = service.address.clone();
    let submitted = place.ok(&format!("jobs submit bars --at {at}"));
    let id = submitted.out.trim().to_owned();
    assert!(submitted.err.contains(&format!("isotick jobs watch {id} --at {at}")), "{submitted}");
    let again = place.ok(&format!("scan bars --detach --at {at}"));
    assert_eq!(again.out.trim(), id, "the same submission is the same job");

    let watched = place.ok(&format!("jobs watch {id} --at {at}"));
    assert!(watched.out.lines().last().unwrap().starts_with("bars: "), "{watched}");
    let listed = place.ok(&format!("jobs list --at {at}"));
    let line = listed.out.lines().find(|line| line.starts_with(&id)).unwrap();
    assert!(line.contains("done") && line.contains("bars") && line.contains("100 %"), "{listed}");
    let list = place.ok(&format!("jobs list --json --at {at}")).json();
    assert_eq!(
        (&list["jobs"][0]["id"], list["jobs"].as_array().unwrap().len()),
        (&id[..].into(), 1)
    );
    let shown = place.ok(&format!("jobs show {id} --json --at {at}")).json();
    let hash = place.ok(&format!("jobs fetch {id} --hash --at {at}")).out;
    assert_eq!(shown["views"][0]["hash"], hash.trim());
    let shown = place.ok(&format!("jobs show {id} --at {at}"));
    assert!(shown.out.contains(hash.trim()) && shown.out.contains("engines"), "{shown}");

    let whole = place.ok(&format!("jobs fetch {id} --format csv --at {at}")).out;
    assert_eq!(table(&whole).len() as u64, shown_windows(&place, &id, &at));
    let parts = place.ok(&format!("jobs fetch {id} --partial --format csv --at {at}")).out;
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(&parts), sorted(&whole));

    let none = ["there is no job", "jobs list"];
    for what in ["show", "watch", "cancel", "retry", "fetch"] {
        place.refuse(&format!("jobs {what} 0123456789abcdef --at {at}"), &none);
    }
    let done = place.ok(&format!("jobs cancel {id} --at {at}"));
    assert!(done.out.contains("is done"), "{done}");
    place.refuse(&format!("jobs retry {id} --at {at}"), &["is done", "fetched"]);
    place.refuse(&format!("scan nothing --at {at}"), &["there is no view `nothing`", "bars"]);
    place.refuse(&format!("scan bars --at {at} --from 5 --to 5"), &["--from is not before --to"]);
    service.stop();
    place.refuse(&format!("scan bars --at {at}"), &["no answer", "isotick serve"]);
}

fn shown_windows(place: &Place, id: &str, at: &str) -> u64 {
    let shown = place.ok(&format!("jobs show {id} --json --at {at}")).json();
    shown["views"][0]["windows"].as_u64().unwrap()
}

#[test]
fn what_contradicts_itself_is_told_before_anything_is_asked() {
    let place = Place::new(DEFINITIONS);
    for (words, told) in [
        ("scan bars --at 127.0.0.1:1 --data data", "cannot be used with"),
        ("scan bars --at 127.0.0.1:1 --threads 2", "cannot be used with"),
        ("scan bars --data data --detach", "cannot be used with"),
        ("scan bars --detach", "--at"),
        ("scan bars --at 127.0.0.1:1 --priority 10", "0..=9"),
        ("jobs show a/b", "letters, digits"),
        ("jobs", "Usage"),
    ] {
        let ended = place.run(words);
        assert_eq!(ended.code, Some(2), "{ended}");
        assert!(ended.err.contains(told), "no `{told}`: {ended}");
    }
    place.refuse("scan bars", &["--data DIR", "--at ADDR"]);
}

/// Ctrl-C leaves the job running and says how to go on.
#[test]
fn interrupting_a_scan_leaves_its_job() {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(3, 1_000_000, 0)));
    place.ok("import ticks.csv --stream trades --data data");
    let service = place.serve_with("data", "--listen 127.0.0.1:0 --scan-threads 1");
    let at = &service.address;
    // How long a scan takes is not known: each try is a job of its own, interrupted after less.
    for attempt in 0..40u64 {
        let from = START_NS - 1 - attempt as i64;
        let scan = place.start(&format!("scan bars --at {at} --hash --from {from}"));
        std::thread::sleep(Duration::from_millis(200 - attempt * 5));
        let status = Command::new("kill").args(["-INT", &scan.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
        let ended = scan.end();
        if ended.code == Some(130) && ended.err.contains("the job goes on") {
            let id = ended.err.split("jobs watch ").nth(1).unwrap().split(' ').next().unwrap();
            let watched = place.ok(&format!("jobs watch {id} --json --at {at}"));
            let last: serde_json::Value =
                serde_json::from_str(watched.out.lines().last().unwrap()).unwrap();
            assert_eq!((&last["id"], &last["state"]), (&id.into(), &"done".into()));
            service.stop();
            return;
        }
    }
    panic!("no scan was interrupted in its middle");
}

#[test]
fn top_prints_a_frame_where_there_is_no_terminal() {
    let (place, service) = served();
    let at = &service.address;
    let id = place.ok(&format!("jobs submit bars --at {at}")).out.trim().to_owned();
    place.ok(&format!("jobs watch {id} --at {at}"));
    let told = |words: &str| place.ok(&format!("top --at {at} {words}")).out;
    // The service tells of its jobs now and then.
    let started = std::time::Instant::now();
    let frame = loop {
        let frame = told("--once");
        if frame.contains("1 done") || started.elapsed() > super::WITHIN {
            break frame;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    for shown in [at.as_str(), "trades", "20,000", "kernel", "p99", "slots", "1 done", &id, "100 %"]
    {
        assert!(frame.contains(shown), "no `{shown}`:\n{frame}");
    }
    assert!(!frame.contains('\u{1b}'), "no escape sequences in a pipe");
    assert!(told("").contains("trades"), "a pipe is no terminal");
    service.stop();
    place.refuse("top --once --at 127.0.0.1:1", &["no answer"]);
}
