//! `verify` can fail: whatever is changed in live record or history, it says which window.

use std::fs;

use isotick_model::definitions::Definitions;
use isotick_model::results::{ResultSchema, Value, WindowRow};
use isotick_model::view::View;
use isotick_model::{Key, PublisherId, Ticks, ValueColumn, time};
use isotick_storage::{RecordedWindow, Snapshot, Store};

use super::{DEFINITIONS, Place, START_NS, csv, ticks};

/// A folder that was published to, `verify` content with it.
fn published() -> Place {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(61, 3_000, 20)));
    let service = place.serve("data");
    place.publish("ticks.csv", &service, "").end().succeeded();
    service.stop();
    place.verified("bars", "data");
    place
}

fn definitions(place: &Place) -> Definitions {
    let snapshot = Snapshot::open(&place.path("data")).expect("a folder");
    let text = snapshot.folder().definitions().expect("readable").expect("remembered");
    Definitions::parse(&text, "remembered").expect("definitions")
}

fn recorded(place: &Place, view: &View) -> Vec<WindowRow> {
    let snapshot = Snapshot::open(&place.path("data")).expect("a folder");
    snapshot.record(&view.definition, &ResultSchema::of(view)).expect("the record is readable")
}

/// Adds a window to the record that live never published.
fn record(place: &Place, view: &View, row: WindowRow) {
    let mut store = Store::open(&place.path("data"), "a test").expect("nobody holds the folder");
    let mut commit = store.begin();
    let windows = [RecordedWindow { row, reason: "late".into() }];
    let schema = ResultSchema::of(view);
    commit.add_windows(&view.name, &view.definition, &schema, &windows, None).expect("writable");
    commit.finish().expect("writable");
}

#[test]
fn a_wrong_value_in_the_live_record() {
    let place = published();
    let view = definitions(&place).view("bars").expect("it is defined").clone();
    let mut row = recorded(&place, &view).swap_remove(7);
    let volume = view.aggregates.iter().position(|a| a.name == "volume").expect("declared");
    let Value::Integer(right) = row.values[volume] else { panic!("a sum is an integer") };
    row.values[volume] = Value::Integer(right + 1);
    row.version += 1;
    record(&place, &view, row.clone());
    let start = time::format_rfc3339(row.window_start);
    let (wrong, right) = ((right + 1).to_string(), right.to_string());
    let key = row.key.components()[0].clone();
    let ended = place
        .refuse("verify bars --data data", &[&start, &key, "volume", &wrong, &right, "history"]);
    assert!(ended.out.contains(" 1 differences"), "{ended}");
    let report = place.run("verify bars --data data --json");
    assert_eq!((report.code, &report.json()["differences"]), (Some(1), &1.into()), "{report}");
    // A range without the window has no difference; the other view has none at all.
    place.ok(&format!("verify bars --data data --to {}", row.window_start));
    place.ok("verify all --data data");
}

#[test]
fn a_window_in_the_live_record_that_history_has_not() {
    let place = published();
    let view = definitions(&place).view("bars").expect("it is defined").clone();
    let row = recorded(&place, &view).swap_remove(0);
    let key = Key::from_components(["GHOST"]);
    record(&place, &view, WindowRow { key, version: 1, ..row });
    place.refuse("verify bars --data data", &["GHOST", "no window"]);
}

/// A damaged file ends a scan, which names it; asked to, a scan goes on without it and says so.
#[test]
fn a_damaged_file_is_named_and_left_out_only_when_asked() {
    let place = published();
    let report = place.ok("fsck --data data --json").json();
    assert_eq!(report["findings"], serde_json::json!([]), "{report}");
    assert_eq!(report["ticks"], 3_000, "{report}");
    let hash = place.hash("bars --data data");
    place.write("more.csv", csv(&ticks(62, 500, 20)));
    place.ok("import more.csv --stream trades --data data");
    assert_eq!(place.ok("fsck --data data --json").json()["ticks"], 3_500);
    let files = fs::read_dir(place.path("data/stream=trades/date=2024-01-02")).expect("there");
    let newest = files.map(|file| file.expect("readable").path()).max().expect("a file");
    let mut bytes = fs::read(&newest).expect("readable");
    let whole = bytes.clone();
    bytes[40] ^= 1;
    let name = newest.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
    for content in [&bytes[..], &whole[..whole.len() / 2], b"PAR1"] {
        fs::write(&newest, content).expect("writable");
        place.refuse("scan bars --data data", &[&name]);
        let found = place.run("fsck --data data");
        assert_eq!(found.code, Some(1), "{found}");
        assert!(found.out.contains(&name) && found.out.contains("1 findings"), "{found}");
        let scanned = place.ok("scan bars --data data --skip-damaged --hash");
        assert_eq!(scanned.out.trim(), hash, "{scanned}");
        assert!(scanned.err.contains("left out") && scanned.err.contains(&name), "{scanned}");
    }
    // The same of files that are scanned in place.
    fs::write(&newest, &whole).expect("writable");
    fs::copy(&newest, place.path("good.parquet")).expect("writable");
    place.write("bad.parquet", &whole[..whole.len() - 9]);
    let alone = place.hash("bars --file good.parquet");
    place.refuse("scan bars --file good.parquet bad.parquet", &["bad.parquet"]);
    let scanned = place.ok("scan bars --file good.parquet bad.parquet --skip-damaged --hash");
    assert_eq!(scanned.out.trim(), alone, "{scanned}");
    assert!(scanned.err.contains("left out") && scanned.err.contains("bad.parquet"), "{scanned}");
}

#[test]
fn a_tick_in_history_that_live_never_saw() {
    let place = published();
    let definitions = definitions(&place);
    let schema = definitions.stream("trades").expect("it is defined");
    let mut store = Store::open(&place.path("data"), "a test").expect("nobody holds the folder");
    let covered = store.manifest().covered();
    let watermark = store.snapshot().watermark("trades");
    let column = |value: i64| ValueColumn { values: vec![value].into(), nulls: None };
    let tick = Ticks {
        ts_event: vec![START_NS + 1].into(),
        sequence: vec![0].into(),
        publishers: vec![PublisherId::new("nobody").expect("a name")],
        publisher: Vec::new().into(),
        keys: vec![Key::from_components(["S1"])].into(),
        key: vec![0].into(),
        values: vec![column(10_100), column(3)],
        seen: None,
    };
    let mut commit = store.begin();
    commit.add_ticks(schema, &[tick], covered..covered.next()).expect("writable");
    commit.cover(covered.next(), [("trades".to_owned(), watermark)]);
    commit.finish().expect("writable");
    drop(store);
    place.refuse("verify bars --data data", &["S1", &time::format_rfc3339(START_NS), "trades"]);
}

#[test]
fn files_that_were_damaged_or_removed() {
    let place = published();
    let mut files = Vec::new();
    let mut folders = vec![place.path("data")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                files.push(path);
            }
        }
    }
    assert!(files.len() >= 2, "history and record: {files:?}");
    let of_all = |path: &std::path::PathBuf| path.to_string_lossy().contains("view=all");
    for path in files.iter().filter(|path| !of_all(path)) {
        let name = path.file_name().expect("a file").to_str().expect("text");
        let content = fs::read(path).expect("readable");
        fs::write(path, &content[..content.len() / 2]).expect("writable");
        place.refuse("verify bars --data data", &[name]);
        fs::remove_file(path).expect("writable");
        place.refuse("verify bars --data data", &[name]);
        fs::write(path, content).expect("writable");
    }
    place.verified("bars", "data");
}
