//! Serve, publish, tail, stop, scan, verify, import: one answer.

use std::collections::BTreeMap;

use super::{DEFINITIONS, Place, csv, late, real_files, table, ticks};

/// Key and window start, then the fields of a row besides the version.
type Windows = BTreeMap<(String, String), Vec<(String, String)>>;

fn windows(csv: &str) -> Windows {
    let mut windows = Windows::new();
    for mut row in table(csv) {
        let version = row.remove("version");
        let at = (row["symbol"].clone(), row["window_start"].clone());
        let earlier = windows.insert(at, row.into_iter().collect());
        assert!(earlier.is_none() || version.is_some(), "a scan says each window once");
    }
    windows
}

#[test]
fn a_tick_goes_the_whole_way() {
    let place = Place::new(DEFINITIONS);
    let rows = ticks(1, 20_000, 40);
    place.write("ticks.csv", csv(&rows));
    let hash = place.hash("bars --file ticks.csv");

    let service = place.serve("data");
    let tail = |view: &str| {
        let at = &service.address;
        let mut tail =
            place.start(&format!("tail {view} --at {at} --format csv --time ns --until-idle 3s"));
        // A subscriber has seen the notice of the certificate when it is connected; the header
        // comes with the subscription.
        tail.wait_for(|text| text.contains("certificate").then_some(()));
        while tail.out_so_far().is_empty() {
            assert!(tail.is_running(), "{}", tail.end());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        tail
    };
    let tailed = tail("bars");
    let published = place.publish("ticks.csv", &service, "").end().succeeded().json();
    for count in ["sent", "received_through", "written_through", "durable_through", "accepted"] {
        assert_eq!(published[count], rows.len(), "{count}: {published}");
    }
    assert_eq!(published["late"], late(&rows), "{published}");
    assert!(published["rejected"].as_object().is_some_and(|reasons| reasons.is_empty()));
    assert_eq!(place.verified("bars", "data")["rows"], rows.len(), "while the service runs");
    let tailed = windows(&tailed.end().succeeded().out);

    // Again: nothing changes, and nobody is told anything.
    let quiet = tail("bars");
    let again = place.publish("ticks.csv", &service, "").end().succeeded().json();
    assert_eq!(again["accepted"], published["accepted"], "{again}");
    assert_eq!(again["durable_through"], rows.len(), "{again}");
    assert_eq!(quiet.end().succeeded().out.lines().count(), 1, "only a header");
    let status = place.status(&service);
    let stream = &status["streams"]["trades"];
    assert_eq!(stream["accepted"], rows.len(), "{status}");
    assert_eq!(stream["late"], late(&rows), "{status}");
    assert_eq!(stream["watermark_ns"], rows.iter().map(|tick| tick.ts).max().expect("rows"));
    let view = &status["views"]["bars"];
    assert_eq!(view["windows"], tailed.len(), "{status}");
    assert_eq!(view["ticks"], rows.len(), "{status}");
    service.stop();

    assert_eq!(place.hash("bars --data data"), hash, "published");
    let verified = place.verified("bars", "data");
    assert_eq!(verified["windows"], tailed.len(), "{verified}");
    let scanned = place.ok("scan bars --data data --truth seen --format csv --time ns");
    let scanned = windows(&scanned.out);
    let open = scanned.len() - tailed.len();
    assert_eq!(verified["open"], open, "{verified}");
    assert!((1..=7).contains(&open), "the last second of each symbol is open, at most");
    for (at, fields) in &tailed {
        assert_eq!(scanned.get(at), Some(fields), "the last version told of {at:?}");
    }

    // Importing what was published, and publishing what was imported.
    let report = place.ok("import ticks.csv --stream trades --data data --json").json();
    assert_eq!(report["files"][0]["imported"], 0, "{report}");
    assert_eq!(report["files"][0]["held"], rows.len(), "{report}");
    assert_eq!(place.hash("bars --data data"), hash, "published, then imported");
    assert_eq!(place.verified("bars", "data")["hash"], verified["hash"]);
    for imported in [rows.len(), 0] {
        let report = place.ok("import ticks.csv --stream trades --data other --json").json();
        assert_eq!(report["files"][0]["imported"], imported, "{report}");
        assert_eq!(place.hash("bars --data other"), hash, "imported");
    }
    let service = place.serve("other");
    place.publish("ticks.csv", &service, "").end().succeeded();
    service.stop();
    assert_eq!(place.hash("bars --data other"), hash, "imported, then published");
    assert_eq!(place.ticks("other"), rows.len() as u64);
    place.verified("bars", "other");
}

#[test]
fn a_real_file_goes_the_whole_way() {
    let name = "ticks/binance_btc_spot_coinm_arrival.parquet";
    let Some(file) = real_files().map(|folder| folder.join(name)).filter(|file| file.exists())
    else {
        eprintln!("ignored: no {name} below ISOTICK_DATA or ../shared/data");
        return;
    };
    let place = Place::new("");
    let file = file.display();
    place.ok(&format!("init --from {file} --force"));
    let hash =
        |from: &str| ["bars_1s", "bars_1m"].map(|view| place.hash(&format!("{view} {from}")));
    let expected = hash(&format!("--file {file}"));
    let service = place.serve("data");
    place.publish(&file.to_string(), &service, "").end().succeeded();
    let status = place.status(&service);
    assert!(status["streams"]["trades"]["late"].as_u64() > Some(1000), "{status}");
    service.stop();
    assert_eq!(hash("--data data"), expected, "published");
    place.verified("bars_1s", "data");
    place.verified("bars_1m", "data");
    place.ok(&format!("import {file} --stream trades --data other"));
    assert_eq!(hash("--data other"), expected, "imported");
}
