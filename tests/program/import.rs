//! Imports of any format, killed and given again, repeated, mended and mixed with what was
//! published: each tick once, and the hash of an import that nothing disturbed.

use std::fs;
use std::io::Write as _;

use serde_json::Value;

use super::{DEFINITIONS, Place, START_NS, Tick, csv, real_files, ticks};

fn imported(place: &Place, words: &str) -> Value {
    place.ok(&format!("import {words} --stream trades --json")).json()["files"][0].clone()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

/// Ticks as DBN, version 1, by the description of the format: trades of instruments that the file
/// maps to the symbols `S0` to `S6`.
fn dbn(rows: &[Tick]) -> Vec<u8> {
    let name = |text: &str, len: usize| {
        let mut name = text.as_bytes().to_vec();
        name.resize(len, 0);
        name
    };
    let mut metadata = name("TEST", 16);
    metadata.extend(4_u16.to_le_bytes()); // trades
    for word in [START_NS as u64, u64::MAX, 0, u64::MAX] {
        metadata.extend(word.to_le_bytes());
    }
    metadata.extend([1, 0, 0]); // raw symbols to instruments, no times of sending
    metadata.resize(100, 0);
    for count in [0_u32, 0, 0, 0, 7] {
        metadata.extend(count.to_le_bytes());
    }
    for symbol in 0..7 {
        metadata.extend(name(&format!("S{symbol}"), 22));
        for number in [1_u32, 20_240_101, 20_250_101] {
            metadata.extend(number.to_le_bytes());
        }
        metadata.extend(name(&(500 + symbol).to_string(), 22));
    }
    let mut bytes = [b"DBN\x01", &(metadata.len() as u32).to_le_bytes()[..]].concat();
    bytes.extend(metadata);
    for tick in rows {
        let symbol: u32 = tick.symbol[1..].parse().expect("a number");
        bytes.extend([12, 0, 1, 0]);
        bytes.extend((500 + symbol).to_le_bytes());
        bytes.extend(tick.ts.to_le_bytes());
        bytes.extend((tick.price * 10_000_000).to_le_bytes());
        bytes.extend((tick.size as u32).to_le_bytes());
        bytes.extend(*b"TA\0\0");
        bytes.extend((tick.ts + 1_000_000_000).to_le_bytes());
        bytes.extend([0; 8]);
    }
    bytes
}

#[test]
fn dbn_goes_every_way_that_text_goes() {
    let rows = ticks(401, 6_000, 40);
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&rows));
    place.write("ticks.dbn", dbn(&rows));
    place.write("ticks.dbn.zst", zstd::stream::encode_all(&dbn(&rows)[..], 1).expect("memory"));
    let hash = place.hash("bars --file ticks.csv");
    for file in ["ticks.dbn", "ticks.dbn.zst"] {
        assert_eq!(place.hash(&format!("bars --file {file} --map ts=ts_event")), hash, "{file}");
        let explained = place.ok(&format!("explain bars --file {file} --map ts=ts_event --json"));
        assert!(explained.out.contains("6000"), "it says how many rows: {explained}");
    }
    let report = imported(&place, "ticks.dbn.zst --map ts=ts_event --data data");
    assert_eq!(report["imported"], rows.len(), "{report}");
    assert_eq!(place.hash("bars --data data"), hash, "imported");
    let service = place.serve("live");
    let published = place.publish("ticks.dbn", &service, "--map ts=ts_event").end().succeeded();
    assert_eq!(published.json()["accepted"], rows.len(), "{published}");
    service.stop();
    assert_eq!(place.hash("bars --data live"), hash, "published");
    place.verified("bars", "live");
    // The time at which a tick was received is another field.
    assert_ne!(place.hash("bars --file ticks.dbn --map ts=ts_recv"), hash);
    place.refuse("scan bars --file ticks.dbn --hash", &["ticks.dbn", "--map ts=FIELD", "ts_recv"]);
    let cut = dbn(&rows);
    place.write("cut.dbn", &cut[..cut.len() - 7]);
    let at = format!("at byte {} of the file", cut.len() - 48);
    place.refuse("import cut.dbn --stream trades --map ts=ts_event --data none", &["cut.dbn", &at]);
}

#[test]
fn databentos_files_go_in_as_suggested() {
    let folder = real_files().map(|folder| folder.join("vectors/databento-dbn/tests/data"));
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        eprintln!("ignored: no vectors/databento-dbn below ISOTICK_DATA or ../shared/data");
        return;
    };
    for name in
        ["test_data.trades.v3.dbn.zst", "test_data.mbp-1.v1.dbn.zst", "test_data.ohlcv-1s.dbn"]
    {
        let place = Place::new("");
        let file = folder.join(name).display().to_string();
        place.ok(&format!("init --from {file} --force"));
        let text = fs::read_to_string(place.path("isotick.toml")).expect("it was written");
        assert!(text.contains("ts_event") && text.contains("symbol"), "{text}");
        let stream = if text.contains("[stream.trades]") { "trades" } else { "ticks" };
        for again in [false, true] {
            let command = format!("import {file} --stream {stream} --data data --json");
            let report = place.ok(&command).json()["files"][0].clone();
            let rows = report["rows"].as_u64().expect("a number");
            assert!(rows > 0, "{report}");
            assert_eq!(report["imported"], if again { 0 } else { rows }, "{report}");
        }
    }
}

#[test]
fn an_import_that_is_killed_goes_on_where_it_was() {
    let rows = ticks(402, 60_000, 60);
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&rows));
    place.write("ticks.csv.gz", gzip(csv(&rows).as_bytes()));
    place.write("ticks.dbn", dbn(&rows));
    place.ok("import ticks.csv --stream trades --data whole");
    let hash = place.hash("bars --data whole");
    place.ok("export --data whole --stream trades -o ticks.parquet");
    for (file, map) in [
        ("ticks.csv", ""),
        ("ticks.csv.gz", ""),
        ("ticks.dbn", "--map ts=ts_event"),
        ("ticks.parquet", ""),
    ] {
        let data = format!("{file}-data");
        let command = format!("{file} {map} --data {data} --piece-rows 500");
        let manifest = place.path(&data).join("manifest.json");
        let version = || {
            let text = fs::read_to_string(&manifest).ok()?;
            let json: Value = serde_json::from_str(&text).ok()?;
            json["manifest"]["version"].as_u64()
        };
        let (mut resumed, mut kills) = (0, 0);
        for target in [2, 9, 30] {
            let mut running = place.start(&format!("import {command} --stream trades"));
            while version() < Some(target) && running.is_running() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            kills += u32::from(running.is_running());
            drop(running);
            // Whatever is there is whole: as many ticks as the manifest says.
            let text = fs::read_to_string(&manifest).expect("a commit happened");
            let json: Value = serde_json::from_str(&text).expect("it is JSON");
            let marks = json["manifest"]["streams"]["trades"]["imported"].as_object().cloned();
            let (_, mark) = marks.expect("it is noted").into_iter().next().expect("one file");
            let there = mark["rows"].as_u64().expect("a number");
            assert_eq!(place.ticks(&data), there, "{file}: {mark}");
            assert!(there > resumed && there <= rows.len() as u64, "{file}: {mark}");
            resumed = there;
        }
        assert!(kills > 0, "{file}: it was too fast to be killed");
        let report = imported(&place, &command);
        assert_eq!(report["resumed_at"], resumed, "{file}: {report}");
        assert_eq!(report["rows"], rows.len(), "{file}: {report}");
        assert_eq!(report["imported"].as_u64(), Some(rows.len() as u64 - resumed), "{report}");
        assert_eq!(place.hash(&format!("bars --data {data}")), hash, "{file}");
        assert_eq!(place.ticks(&data), rows.len() as u64, "{file}");
        let before = fs::read(&manifest).expect("it is there");
        let again = imported(&place, &command);
        assert_eq!(again["imported"], 0, "{again}");
        assert_eq!(again["held"], rows.len(), "{again}");
        assert_eq!(again["resumed_at"], rows.len(), "it was not compared: {again}");
        assert_eq!(fs::read(&manifest).expect("it is there"), before, "nothing changed");
    }
}

#[test]
fn rejected_rows_are_told_of_again_after_a_kill() {
    let rows = ticks(403, 4_000, 0);
    let place = Place::new(DEFINITIONS);
    let mut text = csv(&rows);
    for row in 0..40 {
        text += &format!("{},S1,1.{row:03},1\n", START_NS + row);
    }
    place.write("ticks.csv", &text);
    let whole = imported(&place, "ticks.csv --data whole --rejects whole.rejects.csv");
    let mut running = place.start("import ticks.csv --stream trades --data data --piece-rows 100");
    let manifest = place.path("data/manifest.json");
    while !manifest.exists() && running.is_running() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    drop(running);
    let report = imported(&place, "ticks.csv --data data --rejects rejects.csv");
    for count in ["rows", "rejected"] {
        assert_eq!(report[count], whole[count], "{report}");
    }
    assert!(whole["rejected"]["inexact"].as_u64() > Some(0), "{whole}");
    let read = |name: &str| fs::read_to_string(place.path(name)).expect("it was written");
    assert_eq!(read("rejects.csv"), read("whole.rejects.csv"));
    let again = imported(&place, "ticks.csv --data data --rejects again.csv");
    assert_eq!((&again["imported"], &again["rejected"]), (&0.into(), &whole["rejected"]));
    assert_eq!(read("again.csv"), read("whole.rejects.csv"));
    assert_eq!(place.hash("bars --data data"), place.hash("bars --data whole"));
}

#[test]
fn a_name_stands_for_one_content() {
    let rows = ticks(404, 5_000, 20);
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&rows));
    let mut other = rows.clone();
    for tick in &mut other[100..110] {
        tick.price += 1;
    }
    place.write("other.csv", csv(&other));
    place.write("longer.csv", csv(&[&rows[..], &ticks(405, 50, 0)].concat()));
    let named = |file: &str| imported(&place, &format!("{file} --publisher me --data data"));
    assert_eq!(named("ticks.csv")["imported"], rows.len());
    let hash = place.hash("bars --data data");
    for compacted in [false, true] {
        let report = named("other.csv");
        assert_eq!(report["conflicting"], 10, "{report}");
        assert_eq!(report["held"], rows.len() - 10, "{report}");
        assert_eq!(report["imported"], 0, "{report}");
        assert_eq!(place.hash("bars --data data"), hash);
        // The first content again is known as that, and compared where it is read otherwise.
        let report = named("ticks.csv");
        assert_eq!((&report["held"], &report["imported"]), (&rows.len().into(), &0.into()));
        let mapped = named("ticks.csv --map price=size");
        assert!(mapped["conflicting"].as_u64() > Some(4_000), "{mapped}");
        if !compacted {
            place.ok("compact --data data");
        }
    }
    let report = named("longer.csv");
    assert_eq!((&report["held"], &report["imported"]), (&rows.len().into(), &50.into()));
    assert_eq!(report["conflicting"], 0, "{report}");
    assert_eq!(named("longer.csv")["resumed_at"], rows.len() + 50, "known by its content now");
}

#[test]
fn what_was_published_in_part_is_completed() {
    let rows = ticks(406, 6_000, 30);
    let place = Place::new(DEFINITIONS);
    place.write("half.csv", csv(&rows[..3_000]));
    place.write("ticks.csv", csv(&rows));
    place.write("stranger.csv", csv(&ticks(407, 500, 0)));
    let service = place.serve("data");
    place.publish("half.csv", &service, "--publisher me").end().succeeded();
    place.publish("stranger.csv", &service, "--publisher you").end().succeeded();
    let dry = "import ticks.csv --stream trades --publisher me --data data --json --dry-run";
    let report = place.ok(dry).json();
    assert_eq!(report["files"][0]["held"], 3_000, "from the log: {report}");
    service.stop();
    let report = imported(&place, "ticks.csv --publisher me --data data --piece-rows 700");
    assert_eq!((&report["held"], &report["imported"]), (&3_000.into(), &3_000.into()));
    place.ok("import ticks.csv stranger.csv --stream trades --data other");
    assert_eq!(place.hash("bars --data data"), place.hash("bars --data other"));
    assert_eq!(place.ticks("data"), 6_500);
    place.verified("bars", "data");
}

#[test]
fn a_file_that_is_cut_off_is_mended_under_its_name() {
    let rows = ticks(408, 30_000, 0);
    let place = Place::new(DEFINITIONS);
    let whole = gzip(csv(&rows).as_bytes());
    place.write("cut.csv.gz", &whole[..whole.len() - 100]);
    place.write("whole.csv.gz", &whole);
    let command = "import cut.csv.gz --stream trades --data data --piece-rows 4000";
    let ended = place.refuse(command, &["cut.csv.gz", "near byte", "after line", "--publisher "]);
    let name = ended.err.split("--publisher ").nth(1).expect("it was said");
    let name: String = name.chars().take_while(char::is_ascii_hexdigit).collect();
    let report = imported(&place, &format!("whole.csv.gz --publisher {name} --data data"));
    assert!(report["held"].as_u64() >= Some(4_000), "{report}");
    assert_eq!(place.ticks("data"), rows.len() as u64);
    place.write("ticks.csv", csv(&rows));
    assert_eq!(place.hash("bars --data data"), place.hash("bars --file ticks.csv"));
}
