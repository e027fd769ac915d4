//! `isotick bench` at smoke sizes: every figure is there, and equal inputs have equal hashes.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::gpu;
use crate::program::{DEFINITIONS, Place};

#[test]
fn every_figure_has_its_rate_and_its_hash() {
    let place = Place::new(DEFINITIONS);
    let engines = if gpu::engine().is_some() { vec!["cpu", "gpu"] } else { vec!["cpu"] };
    for engine in engines {
        let run = format!("bench --quick --repeat 1 --engine {engine} --json bench.json");
        let printed = place.ok(&run).out;
        assert!(printed.contains("M rows/s") && printed.contains("break-even"), "{printed}");
        let text = std::fs::read_to_string(place.path("bench.json")).expect("it was written");
        let report: Value = serde_json::from_str(&text).expect("it is JSON");
        for name in ["isotick", "date", "processor"] {
            assert!(report[name].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        }
        assert_eq!(report["bandwidth"].is_null(), engine == "cpu");
        let figures = report["figures"].as_array().expect("figures");
        let mut hashes: BTreeMap<&str, &str> = BTreeMap::new();
        for figure in figures {
            let (input, by) = (figure["input"].as_str().unwrap(), figure["by"].as_str().unwrap());
            for rate in ["rows_per_s", "bytes_per_s", "median_s", "p99_s"] {
                assert!(
                    figure[rate].as_f64().is_some_and(|rate| rate > 0.0),
                    "{input}: {by}: {rate}"
                );
            }
            match figure["hash"].as_str() {
                Some(hash) => {
                    assert_eq!(hash.len(), 64);
                    assert_eq!(*hashes.entry(input).or_insert(hash), hash, "{input}: {by}");
                }
                None => assert!(by.starts_with("decoding alone"), "{input}: {by} has no hash"),
            }
        }
        let by = |word: &str| {
            figures.iter().filter(|f| f["by"].as_str().unwrap().contains(word)).count()
        };
        assert!(by("cpu") > 10 && by("decoding alone") == 1);
        assert_eq!(by("gpu resident,"), usize::from(engine == "gpu"));
        assert_eq!(by("partitioned on the device"), usize::from(engine == "gpu"));
        let again = "gpu resident scan, 0 bytes read and 0 moved again";
        assert_eq!(by(again), usize::from(engine == "gpu"), "{printed}");
    }
}

#[test]
fn the_live_bench_gets_every_window_right_and_says_how_long_it_took() {
    let place = Place::new(DEFINITIONS);
    let run = "bench live --quick --ticks 20000 --rate 20000/s --width 100ms --json live.json \
               -o windows.csv -- --engine cpu";
    let printed = place.ok(run).out;
    assert!(printed.contains("flat out") && printed.contains("closing tick due"), "{printed}");
    let text = std::fs::read_to_string(place.path("live.json")).expect("it was written");
    let report: Value = serde_json::from_str(&text).expect("it is JSON");
    let figures = report["figures"].as_array().expect("figures");
    assert_eq!(figures.len(), 2);
    for figure in figures {
        assert_eq!((&figure["missing"], &figure["wrong"]), (&0.into(), &0.into()), "{figure}");
        assert!(figure["windows"].as_u64() > Some(1_000), "{figure}");
        assert!(figure["bytes_per_tick"].as_f64() > Some(1.0), "{figure}");
        assert_eq!(figure["hash"].as_str().map(str::len), Some(64));
    }
    let latency = &figures[1]["latency_ns"];
    assert_eq!(latency["count"], figures[1]["windows"]);
    assert!(latency["p50"].as_u64() <= latency["max"].as_u64());
    let windows = std::fs::read_to_string(place.path("windows.csv")).expect("it was written");
    assert_eq!(windows.lines().count() as u64, 1 + figures[1]["windows"].as_u64().unwrap());
    // A service that runs already can be asked again and again: its time goes on.
    let service = place.serve("data");
    for _ in 0..2 {
        let run = format!(
            "bench live --at {} --view bars --quick --ticks 5000 --rate none --file ticks.csv",
            service.address
        );
        place.write("ticks.csv", ticks_of_a_file());
        let printed = place.ok(&run).out;
        assert!(printed.contains("0 missing, 0 wrong"), "{printed}");
    }
}

/// A few ticks of two symbols in two windows, one out of order, and one tick that closes them.
fn ticks_of_a_file() -> String {
    let mut text = "ts,symbol,price,size\n".to_owned();
    for (ms, symbol, price) in [(10, "A", 101), (20, "B", 202), (15, "A", 99), (1_100, "A", 103)] {
        text += &format!("{},{symbol},{price},3\n", crate::program::START_NS + ms * 1_000_000);
    }
    text + &format!("{},B,1,1\n", crate::program::START_NS + 9_000_000_000)
}

#[test]
fn commits_of_the_log_are_measured_and_read_back() {
    let place = Place::new(DEFINITIONS);
    place.ok("bench log --quick --dir . --json log.json");
    let text = std::fs::read_to_string(place.path("log.json")).expect("it was written");
    let report: Value = serde_json::from_str(&text).expect("it is JSON");
    let figures = report["figures"].as_array().expect("figures");
    let plain: Vec<_> = figures.iter().filter(|figure| figure["io"] == "plain").collect();
    assert_eq!(plain.len(), 3, "{report}");
    for figure in figures {
        assert!(figure["commits_per_s"][0].as_f64().is_some_and(|rate| rate > 0.0), "{figure}");
        assert_eq!(figure["hash"].as_str().map(str::len), Some(64), "{figure}");
        let same = plain.iter().find(|plain| plain["bytes"] == figure["bytes"]);
        assert_eq!(same.expect("of each size")["hash"], figure["hash"]);
    }
}

#[test]
fn every_call_of_a_query_gives_the_hash_of_a_scan() {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", ticks_of_a_file());
    let scanned = place.ok("scan bars --file ticks.csv --hash").out;
    let printed = place.ok("bench query bars --file ticks.csv --calls 3 --json query.json").out;
    assert!(printed.contains("median") && printed.contains(scanned.trim()), "{printed}");
    let text = std::fs::read_to_string(place.path("query.json")).expect("it was written");
    let report: Value = serde_json::from_str(&text).expect("it is JSON");
    let calls = report["calls"].as_array().expect("calls");
    assert_eq!(calls.len(), 3);
    for call in calls {
        let [seconds, reading] = ["seconds", "reading_seconds"].map(|name| call[name].as_f64());
        assert!(reading > Some(0.0) && reading <= seconds, "{call}");
    }
    assert!(report["min_s"].as_f64() <= report["median_s"].as_f64());
    assert_eq!(report["views"][0]["hash"], scanned.trim());
    assert_eq!(report["views"][0]["rows_read"], 5);
    place.refuse("bench query bars --calls 1", &["what to scan?"]);
}
