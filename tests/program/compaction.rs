//! Compacting changes files, never a result: not of scans, not of `verify`, not of what comes
//! after, and not when it is killed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{DEFINITIONS, Place, SECOND_NS, START_NS, csv, table, ticks};

const DAY_NS: i64 = 86_400 * SECOND_NS;

fn parquet_files(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).expect("it is a folder") {
        let path = entry.expect("it can be read").path();
        match path.is_dir() {
            true => files.extend(parquet_files(&path)),
            false if path.extension().is_some_and(|extension| extension == "parquet") => {
                files.push(path);
            }
            false => {}
        }
    }
    files
}

fn history(place: &Place, data: &str) -> Vec<PathBuf> {
    parquet_files(&place.path(data).join("stream=trades"))
}

#[test]
fn what_was_published_and_imported_is_the_same_after_compacting() {
    let place = Place::new(DEFINITIONS);
    for (name, seed) in [("a.csv", 101), ("b.csv", 102), ("c.csv", 103), ("later.csv", 104)] {
        place.write(name, csv(&ticks(seed, 6_000, 80)));
    }
    let service = place.serve("data");
    place.publish("a.csv", &service, "").end().succeeded();
    place.refuse("compact --data data", &["data is in use by process", "isotick serve"]);
    service.stop();
    place.ok("import b.csv c.csv --stream trades --data data");
    let all = place.hash("bars --file a.csv b.csv c.csv");
    let seen = place.hash("bars --data data --truth seen");
    let one = place.hash("bars --data data --key S3");
    let live = place.verified("bars", "data");
    assert_eq!(place.hash("bars --data data"), all);
    let files = history(&place, "data").len();
    assert!(files > 2, "{files}");

    let report = place.ok("compact --data data --json").json();
    let trades = &report["streams"]["trades"];
    assert_eq!(trades["before"]["files"], files, "{report}");
    assert_eq!(trades["after"]["files"], 1, "{report}");
    assert_eq!(
        (&trades["before"]["rows"], &trades["after"]["rows"]),
        (&18_000.into(), &18_000.into())
    );
    assert_eq!(history(&place, "data").len(), 1);
    let same = |what: &str| {
        assert_eq!(place.hash("bars --data data"), all, "{what}");
        assert_eq!(place.hash("bars --data data --truth seen"), seen, "{what}");
        assert_eq!(place.hash("bars --data data --key S3"), one, "{what}");
        assert_eq!(place.verified("bars", "data")["hash"], live["hash"], "{what}");
    };
    same("compacted");
    let again = place.ok("compact trades --data data");
    assert!(again.out.contains("trades: compact already: 18000 rows in 1 files"), "{again}");

    // Each tick once, wherever it comes from again.
    let report = place.ok("import a.csv b.csv --stream trades --data data --json").json();
    for file in report["files"].as_array().expect("a list") {
        assert_eq!((&file["held"], &file["imported"]), (&6_000.into(), &0.into()), "{file}");
    }
    let service = place.serve("data");
    let report = place.publish("a.csv", &service, "").end().succeeded().json();
    assert_eq!(report["resumed_at"], 6_000, "{report}");
    let report = place.publish("later.csv", &service, "").end().succeeded().json();
    assert_eq!(report["accepted"], 6_000, "{report}");
    service.stop();
    let with_later = place.hash("bars --file a.csv b.csv c.csv later.csv");
    assert_eq!(place.hash("bars --data data"), with_later);
    place.ok("compact --data data");
    assert_eq!(history(&place, "data").len(), 1);
    assert_eq!(place.hash("bars --data data"), with_later);
    place.verified("bars", "data");
}

#[test]
fn killed_at_any_point_a_folder_opens_with_the_same_results() {
    let place = Place::new(DEFINITIONS);
    // Many dates: a commit each, so that a kill finds some done and one under way.
    let dates = 40;
    for (file, name) in ["a.csv", "b.csv"].into_iter().enumerate() {
        let mut text = "ts,symbol,price,size\n".to_owned();
        for row in 0..20_000_i64 {
            let ts = START_NS + row % dates * DAY_NS + row * 1_000_000 + file as i64;
            let (symbol, price, size) = (row % 7, 100 + row % 13, row % 5 + 1);
            writeln!(text, "{ts},S{symbol},{price}.25,{size}").expect("text grows");
        }
        place.write(name, text);
    }
    let hash = place.hash("bars --file a.csv b.csv");
    // One after the other: a span of more than 31 dates would make one file.
    for month in 0..2 {
        for name in ["a.csv", "b.csv"] {
            let text = std::fs::read_to_string(place.path(name)).expect("it was written");
            let days = |line: &str| {
                let ts: i64 = line.split(',').next().and_then(|ts| ts.parse().ok()).unwrap_or(0);
                (ts - START_NS) / DAY_NS / 25
            };
            let mut lines = text.lines();
            let mut part = lines.next().map(|header| format!("{header}\n")).unwrap_or_default();
            lines.filter(|line| days(line) == month).for_each(|line| {
                part.push_str(line);
                part.push('\n');
            });
            let part_name = format!("{month}-{name}");
            place.write(&part_name, part);
            place.ok(&format!("import {part_name} --stream trades --data data"));
        }
    }
    let before = history(&place, "data").len();
    assert_eq!(place.hash("bars --data data"), hash);
    assert_eq!(before, 2 * dates as usize);

    let (mut in_the_middle, mut collected) = (0, 0);
    for wait_ms in [0, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 140, 200, 300] {
        let mut compacting = place.start("compact --data data");
        std::thread::sleep(Duration::from_millis(wait_ms));
        in_the_middle += usize::from(compacting.is_running());
        let said = compacting.err_so_far();
        collected += usize::from(said.contains("files that an interrupted command had left"));
        // SIGKILL.
        drop(compacting);
        assert_eq!(place.hash("bars --data data"), hash, "after {wait_ms} ms");
    }
    assert!(in_the_middle > 0, "no kill came in the middle");
    let last = place.ok("compact --data data");
    collected += usize::from(last.err.contains("files that an interrupted command had left"));
    assert!(collected > 0, "a kill leaves files: {last}");
    assert_eq!(history(&place, "data").len(), dates as usize, "nothing is left of the others");
    assert_eq!(place.hash("bars --data data"), hash);
    assert_eq!(place.ticks("data"), 40_000);
    let service = place.serve("data");
    service.stop();
    assert_eq!(place.hash("bars --data data"), hash);
}

#[test]
fn what_cannot_be_compacted_is_said() {
    let place = Place::new(DEFINITIONS);
    place.refuse("compact --data nowhere", &["nowhere is no Isotick data folder"]);
    assert!(!place.path("nowhere").exists());
    place.write("ticks.csv", csv(&ticks(105, 100, 0)));
    place.ok("import ticks.csv --stream trades --data data");
    place.refuse("compact quotes --data data", &["no history of stream quotes", "trades"]);
}

/// By time and publisher, the first price and the last.
type Ends<'a> = BTreeMap<(i64, &'a str), [u64; 2]>;

/// Many ticks of one time, so that batches and row groups begin and end among them.
#[test]
fn first_and_last_among_ticks_of_one_time_are_the_same_from_any_files() {
    const TICKS: u64 = 180_000;
    const OF_ONE_TIME: u64 = 24_000;
    let place = Place::new(DEFINITIONS);
    // By symbol and window.
    let mut ends: BTreeMap<(String, i64), Ends<'_>> = BTreeMap::new();
    for (publisher, seed) in [("one", 7), ("two", 11)] {
        let mut text = "ts,symbol,price,size\n".to_owned();
        for row in 0..TICKS {
            let ts = START_NS + (row / OF_ONE_TIME) as i64 * SECOND_NS * 2 / 5;
            let symbol = if row % 9 == 0 { "B" } else { "A" };
            let price = row.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(seed) % 90_000 + 10_000;
            writeln!(text, "{ts},{symbol},{}.{:02},1", price / 100, price % 100).unwrap();
            let window = ts - ts.rem_euclid(SECOND_NS);
            let of_window = ends.entry((symbol.to_owned(), window)).or_default();
            of_window.entry((ts, publisher)).or_insert([price; 2])[1] = price;
        }
        place.write(&format!("{publisher}.csv"), text);
    }
    let expected: Vec<_> = ends
        .into_iter()
        .map(|((symbol, start), ends)| {
            let [first, last] = [ends.first_key_value(), ends.last_key_value()].map(Option::unwrap);
            let text = |price: u64| format!("{}.{:02}", price / 100, price % 100);
            (symbol, start.to_string(), text(first.1[0]), text(last.1[1]))
        })
        .collect();
    let scanned = |more: &str| {
        let ended = place.ok(&format!("scan bars --data data --format csv --time ns {more}"));
        let row = |row: &BTreeMap<String, String>| {
            let [symbol, start, open, close] =
                ["symbol", "window_start", "open", "close"].map(|name| row[name].clone());
            (symbol, start, open, close)
        };
        table(&ended.out).iter().map(row).collect::<Vec<_>>()
    };
    // Two files of the same windows, whose ticks of one time are told apart by their publishers.
    for publisher in ["one", "two"] {
        let import = "import --stream trades --data data --publisher";
        place.ok(&format!("{import} {publisher} {publisher}.csv"));
    }
    assert_eq!(scanned(""), expected);
    place.ok("compact --data data");
    assert_eq!(history(&place, "data").len(), 1);
    assert_eq!(scanned(""), expected, "one file, by the order of its rows");
    assert_eq!(scanned("--threads 1"), expected);
    assert_eq!(scanned("--key B"), expected[expected.len() / 2..], "some of its rows");
    let later: Vec<_> = expected.iter().filter(|row| row.1 != expected[0].1).cloned().collect();
    let from = place.ok("scan bars --data data --format csv --time ns --key A");
    let from = table(&from.out)[1]["window_start"].clone();
    assert_eq!(scanned(&format!("--from {from}")), later, "pages that begin among them");
}
