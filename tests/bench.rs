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
        assert_eq!(by("gpu resident"), usize::from(engine == "gpu"));
    }
}
