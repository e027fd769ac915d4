//! `isotick demo`: every path gives the same hash, and the numbers add up.

use serde_json::Value;

use super::{Place, csv, late, real_files, ticks};

/// Each view has a live and a scanned result, all of the same hash and over the same ticks.
fn check(report: &Value, views: &[&str]) {
    assert_eq!(report["equal"], true, "{report}");
    assert_eq!(report["differences"].as_array().map(Vec::len), Some(0), "{report}");
    let ticks = &report["ticks"];
    let rejected = ticks["rejected"].as_object().expect("reasons");
    let rejected: u64 = rejected.values().filter_map(Value::as_u64).sum();
    let count = |name: &str| ticks[name].as_u64().expect("a count");
    let met = count("accepted") + count("duplicate") + count("conflicting") + rejected;
    assert_eq!(count("sent"), met, "{report}");
    assert_eq!(count("durable_through"), count("sent"), "{report}");
    let results = report["results"].as_array().expect("results");
    for view in views {
        let of: Vec<_> = results.iter().filter(|result| result["view"] == *view).collect();
        let paths: Vec<_> = of.iter().filter_map(|result| result["path"].as_str()).collect();
        assert_eq!(paths[..2], ["live", "scan"], "{report}");
        assert!(paths[2..].iter().all(|path| *path == "scan"), "{report}");
        for result in &of {
            assert!(["cpu", "gpu"].iter().any(|kind| result["engine"] == *kind), "{report}");
            for same in ["hash", "windows", "rows"] {
                assert_eq!(result[same], of[0][same], "{same} of {view}: {report}");
            }
        }
        assert_eq!(of[0]["hash"].as_str().map(str::len), Some(64), "{report}");
    }
    assert!(results.iter().all(|result| views.iter().any(|view| result["view"] == *view)));
}

#[test]
fn of_the_built_in_market() {
    // No configuration: not even the one that lies there.
    let place = Place::new("this is no configuration");
    std::fs::remove_file(place.path("isotick.toml")).expect("it was written");
    let first = place.ok("demo --json --ticks 200000 --dir kept").json();
    check(&first, &["bars_1s", "bars_1m"]);
    assert_eq!(first["ticks"]["accepted"], 200_000, "{first}");
    let rows = |view: usize| first["results"][view]["rows"].as_u64().expect("a count");
    assert!(rows(0) > 190_000 && rows(0) <= 200_000, "most sizes are positive: {first}");
    let late = first["ticks"]["late"].as_u64().expect("a count");
    assert!((200..4_000).contains(&late), "about one in a hundred is behind: {first}");

    let again = place.ok("demo --json --ticks 200000").json();
    assert_eq!(again["results"][0]["hash"], first["results"][0]["hash"], "always the same market");
    let verified = place.verified("bars_1s", "kept");
    let windows = verified["windows"].as_u64().zip(verified["open"].as_u64());
    assert_eq!(
        windows.map(|(closed, open)| closed + open),
        first["results"][0]["windows"].as_u64()
    );
    let scanned = place.hash("bars_1s --data kept --truth seen");
    assert_eq!(first["results"][0]["hash"], scanned.as_str());
    place.refuse("demo --dir kept", &["kept is not empty"]);
    let one = place.ok("demo --json --ticks 20000 --view bars_1m --speed 100x").json();
    check(&one, &["bars_1m"]);
    assert!(one["latency_us"]["p50"].is_number(), "paced runs measure: {one}");
    let told = place.ok("demo --ticks 20000");
    assert!(told.out.contains("equal"), "there is a verdict: {told}");
}

#[test]
fn of_a_file() {
    let place = Place::new("");
    std::fs::remove_file(place.path("isotick.toml")).expect("it was written");
    let rows = ticks(71, 10_000, 100);
    assert!(late(&rows) > 0);
    place.write("ticks.csv", csv(&rows) + "nonsense\n");
    let report = place.ok("demo --data ticks.csv --json").json();
    check(&report, &["bars_1s", "bars_1m"]);
    assert_eq!(report["ticks"]["sent"], rows.len() + 1, "{report}");
    assert_eq!(report["ticks"]["rejected"]["malformed"], 1, "{report}");
    assert_eq!(report["ticks"]["late"], 0, "a file is sent by time: {report}");
    let some = place.ok("demo --data ticks.csv --ticks 500 --json").json();
    check(&some, &["bars_1s", "bars_1m"]);
    assert_eq!(some["ticks"]["sent"], 500, "{some}");
}

#[test]
fn a_column_that_is_left_out_is_told() {
    let place = Place::new("");
    std::fs::remove_file(place.path("isotick.toml")).expect("it was written");
    place.write("ticks.csv", "ts,symbol,price,size\n1,A,1.5,1\n2,A,x,1\n3,A,1.5,1\n");
    let told = place.ok("demo --data ticks.csv");
    assert!(told.err.contains("price"), "one wrong price, and no prices at all: {told}");
}

#[test]
fn of_a_real_file() {
    let name = "ticks/binance_btc_spot_coinm_trades.parquet";
    let Some(file) = real_files().map(|folder| folder.join(name)).filter(|file| file.exists())
    else {
        eprintln!("ignored: no {name} below ISOTICK_DATA or ../shared/data");
        return;
    };
    let place = Place::new("");
    let report = place.ok(&format!("demo --data {} --json", file.display())).json();
    check(&report, &["bars_1s", "bars_1m"]);
}
