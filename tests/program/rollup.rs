//! States beside the history change how fast a scan is, never what it gives: not after more ticks
//! came, not compacted, not damaged, not killed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{DEFINITIONS, Place, csv, ticks};

const MORE: &str = r#"
[view.bars_4s]
stream     = "trades"
window     = { tumbling = "4s" }
aggregates = ["ohlc(price)", "trades = count()"]

[view.volume]
stream     = "trades"
window     = { tumbling = "1d" }
aggregates = ["volume = sum(size)"]

[view.large]
stream     = "trades"
where      = "size > 10"
window     = { tumbling = "2s" }
aggregates = ["last(price)"]

[view.spread]
stream     = "trades"
window     = { tumbling = "1d" }
aggregates = ["median(price)"]

[view.fine]
stream     = "trades"
window     = { tumbling = "1ms" }
aggregates = ["count()"]
"#;

fn place() -> Place {
    let place = Place::new(&format!("{DEFINITIONS}{MORE}"));
    for (name, seed) in [("a.csv", 201), ("b.csv", 202), ("later.csv", 203)] {
        place.write(name, csv(&ticks(seed, 8_000, 80)));
    }
    place.ok("import a.csv b.csv --stream trades --data data");
    place
}

fn states(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).expect("it is a folder") {
        let path = entry.expect("it can be read").path();
        match path.is_dir() {
            true => files.extend(states(&path)),
            false if path.to_string_lossy().contains("rollup=") => files.push(path),
            false => {}
        }
    }
    files
}

fn stats(place: &Place, scan: &str) -> Value {
    let ended = place.ok(&format!("scan {scan} --data data --hash --stats"));
    let line = ended.err.lines().find(|line| line.starts_with(['{', '['])).expect("statistics");
    serde_json::from_str(line).expect("JSON")
}

/// Whether scans give what they gave of ticks; how many states each read.
fn same(place: &Place, files: &str) -> Vec<u64> {
    let views = ["bars", "bars_4s", "volume", "large", "spread", "all"];
    let read = views.map(|view| {
        let of_files = place.hash(&format!("{view} --file {files}"));
        let of_ticks = stats(place, &format!("{view} --no-rollup"));
        assert_eq!((&of_ticks["hash"], &of_ticks["states_read"]), (&of_files.into(), &0.into()));
        let of_states = stats(place, view);
        assert_eq!(of_states["hash"], of_ticks["hash"], "{of_states}");
        let stands_for = of_states["rows_from_states"].as_u64().expect("a count");
        let read = of_states["rows_read"].as_u64().expect("a count");
        if view != "large" {
            assert_eq!(of_ticks["rows_read"], read + stands_for, "{of_states}");
        }
        of_states["states_read"].as_u64().expect("a count")
    });
    read.to_vec()
}

#[test]
fn states_are_read_in_place_of_ticks_and_give_the_same() {
    let place = place();
    assert_eq!(same(&place, "a.csv b.csv"), [0; 6]);
    let said = place.ok("rollup bars --data data").out;
    assert!(said.contains("trades: 1s windows") && said.contains("2 files"), "{said}");
    let read = same(&place, "a.csv b.csv");
    assert!(read[0] > 0 && read[0] == read[1] && read[2] == read[0] && read[5] == read[0]);
    assert_eq!((read[3], read[4]), (0, 0), "another filter, and quantiles");
    let again = place.ok("rollup bars --data data").out;
    assert!(again.contains("nothing was missing"), "{again}");
    let large = place.ok("rollup large --data data --json").json();
    assert_eq!(large["rollups"][0]["kept"]["files"], 2, "{large}");
    assert!(same(&place, "a.csv b.csv")[3] > 0);

    // What is asked for in part, and several views at once.
    for more in ["--key S3", "--from 2024-01-02T14:30:03Z --to 2024-01-02T14:30:07Z"] {
        let scan = format!("bars --data data {more}");
        assert_eq!(place.hash(&scan), place.hash(&format!("{scan} --no-rollup")), "{more}");
    }
    let both = |more: &str| place.ok(&format!("scan bars bars_4s --data data --hash {more}")).out;
    assert_eq!(both(""), both("--no-rollup"));
    let report = stats(&place, "bars spread");
    assert_eq!(report[0]["states_read"], 0, "one of them needs the ticks: {report}");
    place.ok("verify bars --data data");

    // What comes later is read as ticks, beside the states.
    place.ok("import later.csv --stream trades --data data");
    let files = "a.csv b.csv later.csv";
    let mixed = stats(&place, "bars");
    assert_eq!((&mixed["rows_read"], &mixed["rows_from_states"]), (&8_000.into(), &16_000.into()));
    assert!(same(&place, files)[0] > 0);
    let report = place.ok("explain bars_4s --data data --engine cpu --json").json();
    assert_eq!(report["reads"]["rows"], 8_000, "{report}");
    let of = &report["reads"]["states"][0];
    assert_eq!((&of["ticks_spared"], &of["window"]), (&16_000.into(), &"1s".into()), "{report}");
    assert_eq!(of["files"].as_array().map(Vec::len), Some(2), "{report}");
    let text = place.ok("explain bars_4s --data data --engine cpu").out;
    assert!(text.contains("stored states of 1s windows"), "{text}");
    let none = place.ok("explain bars_4s --data data --engine cpu --json --no-rollup").json();
    assert_eq!(
        (&none["reads"]["rows"], none["reads"]["states"][0].is_null()),
        (&24_000.into(), true)
    );

    // States go with what is merged, and come back for all that were asked for once.
    let checked = place.ok("fsck --data data --json").json();
    assert_eq!((&checked["rollup_files"], checked["findings"][0].is_null()), (&4.into(), true));
    place.ok("compact --data data");
    assert_eq!(states(&place.path("data")).len(), 0);
    assert_eq!(same(&place, files), [0; 6]);
    let said = place.ok("rollup --data data --json").json();
    assert_eq!(said["rollups"].as_array().map(Vec::len), Some(2), "{said}");
    assert_eq!(states(&place.path("data")).len(), 2);
    assert!(same(&place, files)[..4].iter().all(|read| *read > 0));
    let exported = |more: &str| {
        place.ok(&format!("export --data data --view volume --format csv -o {more}.csv"));
        std::fs::read_to_string(place.path(&format!("{more}.csv"))).expect("it was written")
    };
    let with = exported("with");
    place.ok("rollup large --data data --drop");
    assert_eq!(states(&place.path("data")).len(), 1);
    assert_eq!(same(&place, files)[3], 0);
    place.ok("rollup --data data --drop");
    assert_eq!((states(&place.path("data")).len(), same(&place, files)), (0, vec![0; 6]));
    assert_eq!(exported("without"), with);
}

#[test]
fn what_is_not_worth_it_or_not_possible_is_said() {
    let place = place();
    place.refuse("rollup spread --data data", &["spread has quantiles", "scans of it read ticks"]);
    place.refuse("rollup --data data", &["no states are kept in data", "isotick rollup bars_1m"]);
    place.refuse("rollup nothing --data data", &["nothing"]);
    place.refuse("rollup bars --data elsewhere", &["elsewhere"]);
    let said = place.ok("rollup fine --data data").out;
    assert!(said.contains("2 files have none: there would be hardly fewer than ticks"), "{said}");
    assert_eq!(states(&place.path("data")).len(), 0);
    let again = place.ok("rollup fine --data data").out;
    assert!(again.contains("nothing was missing"), "{again}");
    let service = place.serve("data");
    place.refuse("rollup bars --data data", &["data is in use by process", "isotick serve"]);
    service.stop();
}

#[test]
fn a_service_goes_on_beside_states() {
    let place = place();
    place.ok("rollup bars --data data");
    let service = place.serve("data");
    place.publish("later.csv", &service, "").end().succeeded();
    let files = "a.csv b.csv later.csv";
    let of_files = place.hash(&format!("bars --file {files}"));
    assert_eq!(place.hash("bars --data data"), of_files, "while it runs");
    service.stop();
    assert!(same(&place, files)[0] > 0);
    place.verified("bars", "data");
    let seen = |more: &str| place.hash(&format!("bars --data data --truth seen {more}"));
    assert_eq!(seen(""), seen("--no-rollup"));
    assert_eq!(stats(&place, "bars --truth seen")["states_read"], 0, "states hold late ticks too");
}

#[test]
fn damaged_states_are_named_and_can_be_made_anew() {
    let place = place();
    let hash = place.hash("bars --data data");
    place.ok("rollup bars --data data");
    for path in states(&place.path("data")) {
        let name = path.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
        let content = std::fs::read(&path).expect("readable");
        let mut damaged = content.clone();
        damaged[100] ^= 4;
        for bad in [damaged, content[..content.len() / 2].to_vec()] {
            std::fs::write(&path, bad).expect("writable");
            let words = [&name, "is damaged", "`isotick scan --no-rollup` reads the ticks"];
            place.refuse("scan bars --data data --hash", &words);
            let found = place.run("fsck --data data --json").json();
            assert!(found["findings"][0]["place"].to_string().contains(&name), "{found}");
            assert_eq!(place.hash("bars --data data --no-rollup"), hash);
            assert_eq!(place.hash("bars --data data --skip-damaged"), hash);
        }
        std::fs::remove_file(&path).expect("writable");
        place.refuse("scan bars --data data --hash", &[&name]);
        std::fs::write(&path, content).expect("writable");
    }
    assert!(stats(&place, "bars")["states_read"].as_u64() > Some(0), "they are whole again");
    place.ok("rollup --data data --drop");
    assert_eq!(place.hash("bars --data data"), hash);
    place.ok("rollup bars --data data");
    assert_eq!(stats(&place, "bars")["hash"], hash);
    assert!(stats(&place, "bars")["states_read"].as_u64() > Some(0));
}

#[test]
fn killed_at_any_point_it_goes_on_where_it_was() {
    let place = place();
    // Files of a few ticks: many states to be made, and commits.
    place.ok("import later.csv --stream trades --data data --piece-rows 160");
    let files = "a.csv b.csv later.csv";
    let hash = place.hash(&format!("bars --file {files}"));
    let (mut in_the_middle, mut before) = (0, 0);
    for wait_ms in [0, 3, 6, 10, 15, 20, 30, 45, 60, 90] {
        let mut rolling = place.start("rollup bars_4s --data data --threads 1");
        std::thread::sleep(Duration::from_millis(wait_ms));
        in_the_middle += usize::from(rolling.is_running());
        // SIGKILL.
        drop(rolling);
        assert_eq!(place.hash("bars --data data"), hash, "after {wait_ms} ms");
        let of_states = stats(&place, "bars_4s");
        assert_eq!(of_states["hash"], stats(&place, "bars_4s --no-rollup")["hash"]);
        let read = of_states["states_read"].as_u64().expect("a count");
        assert!(read >= before, "what was committed stays");
        before = read;
    }
    assert!(in_the_middle > 0, "no kill came in the middle");
    place.ok("rollup bars_4s --data data");
    let report = place.ok("fsck --data data --json").json();
    assert_eq!(
        (&report["orphans"], &report["findings"]),
        (&Value::Array(vec![]), &Value::Array(vec![]))
    );
    same(&place, files);
}
