//! What is exported is what is there, in any form; what is imported again gives the same hashes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{DEFINITIONS, Place, SECOND_NS, START_NS, Tick, csv, table, ticks};

fn exported(place: &Place, words: &str) -> Value {
    place.ok(&format!("export --data data {words} --json")).json()
}

/// The canonical order of one publisher's ticks: by time, then as they came.
fn canonical(rows: &[Tick]) -> Vec<Tick> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|tick| tick.ts);
    rows
}

fn place_with(rows: &[Tick]) -> Place {
    place_as(DEFINITIONS, rows)
}

fn place_as(definitions: &str, rows: &[Tick]) -> Place {
    let place = Place::new(definitions);
    place.write("ticks.csv", csv(rows));
    place.ok("import ticks.csv --stream trades --data data");
    place
}

fn content_hash(path: &Path) -> String {
    let bytes = fs::read(path).expect("it was written");
    isotick_storage::source::Source::publisher_default(path)
        .map(|publisher| publisher.as_str().to_owned())
        .unwrap_or_else(|error| panic!("{error}; {} bytes", bytes.len()))
}

#[test]
fn what_is_exported_and_imported_again_gives_the_same_hash() {
    let rows = ticks(301, 20_000, 80);
    let place = place_with(&rows);
    let hash = place.hash("bars --data data");
    for (number, file) in
        ["out.parquet", "out.csv", "out.csv.zst", "plain.parquet"].into_iter().enumerate()
    {
        let codec = if file == "plain.parquet" { "--codec none" } else { "" };
        let report = exported(&place, &format!("--stream trades -o {file} {codec}"));
        assert_eq!(report["rows"], rows.len(), "{report}");
        let path = place.path(file);
        assert_eq!(report["bytes"], fs::metadata(&path).expect("it is there").len(), "{report}");
        assert_eq!(report["hash"], content_hash(&path), "{report}");
        place.ok(&format!("import {file} --stream trades --data again{number}"));
        assert_eq!(place.hash(&format!("bars --data again{number}")), hash, "{file}");
        assert_eq!(place.hash(&format!("bars --file {file}")), hash, "{file} in place");
        // The same ticks give the same bytes, also out of the other folder, but for the publisher.
        if file.contains(".csv") {
            let again =
                format!("export --data again{number} --stream trades -o again-{file} --json");
            assert_eq!(place.ok(&again).json()["hash"], report["hash"], "{file}");
        }
    }
    let text = fs::read_to_string(place.path("out.csv")).expect("it is text");
    place.ok("export --data data --stream trades --time ns -o ns.csv");
    let ns = fs::read_to_string(place.path("ns.csv")).expect("it is text");
    assert_eq!(ns, csv(&canonical(&rows)), "the same ticks by time");
    assert_eq!(text.lines().count(), ns.lines().count());
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("2024-01-02T14:")));
    let leftovers = fs::read_dir(place.path(".")).expect("it is a folder");
    let leftovers = leftovers.filter(|entry| {
        entry.as_ref().expect("it can be read").file_name().to_string_lossy().starts_with(".iso")
    });
    assert_eq!(leftovers.count(), 0, "nothing unfinished is left");
}

#[test]
fn a_range_and_keys_are_what_the_ticks_say() {
    let rows = canonical(&ticks(302, 8_000, 40));
    let place = place_with(&rows);
    let (from, to) = (START_NS + 2 * SECOND_NS, START_NS + 7 * SECOND_NS);
    let wanted =
        |tick: &&Tick| (from..to).contains(&tick.ts) && ["S1", "S4"].contains(&&*tick.symbol);
    let expected: Vec<Tick> = rows.iter().filter(wanted).cloned().collect();
    let range = format!("--from {from} --to {to} --key S1 S4");
    let report = exported(&place, &format!("--stream trades {range} --time ns -o some.csv"));
    assert_eq!(report["rows"], expected.len(), "{report}");
    let text = fs::read_to_string(place.path("some.csv")).expect("it is text");
    assert!(!expected.is_empty() && text == csv(&expected));
    let out = place
        .ok(&format!("export --data data --stream trades {range} --time ns --format csv -o -"));
    assert_eq!(out.out, text, "on standard output");
    assert!(out.err.contains("standard output: "), "{out}");
}

#[test]
fn what_only_the_log_holds_is_exported_too() {
    let rows = ticks(303, 5_000, 60);
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&rows));
    let service = place.serve("data");
    place.publish("ticks.csv", &service, "").end().succeeded();
    let report = exported(&place, "--stream trades --time ns -o live.csv");
    assert_eq!(report["rows"], rows.len(), "{report}");
    let live = fs::read_to_string(place.path("live.csv")).expect("it is text");
    assert_eq!(live, csv(&canonical(&rows)));
    service.stop();
    place.ok("export --data data --stream trades --time ns -o flushed.csv");
    assert_eq!(fs::read_to_string(place.path("flushed.csv")).expect("it is text"), live);
}

#[test]
fn windows_are_those_of_a_scan() {
    let rows = ticks(304, 8_000, 40);
    let place = place_with(&rows);
    let scanned = place.ok("scan bars --data data --format csv").out;
    let report = exported(&place, "--view bars -o bars.csv");
    assert_eq!(report["result_hash"], place.hash("bars --data data"), "{report}");
    assert_eq!(fs::read_to_string(place.path("bars.csv")).expect("it is text"), scanned);
    assert_eq!(report["rows"], table(&scanned).len(), "{report}");
    let to = START_NS + 5 * SECOND_NS;
    let scanned = place.ok(&format!("scan bars --data data --format csv --key S2 --to {to}")).out;
    let out =
        place.ok(&format!("export --data data --view bars --key S2 --to {to} --format csv -o -"));
    assert_eq!(out.out, scanned);
    exported(&place, "--view bars -o bars.parquet");
    exported(&place, "--view bars -o bars.arrow --codec zstd");
}

#[test]
fn refusals_say_what_to_do_and_leave_what_was_there() {
    let place = place_with(&ticks(305, 1_000, 0));
    place.write("keep.csv", "what was there");
    place.refuse("export --data data --stream nobody -o keep.csv", &["nobody"]);
    place.refuse("export --data nowhere --stream trades -o keep.csv", &["nowhere"]);
    place.refuse("export --data data --stream trades -o what.dat", &["--format"]);
    place.refuse("export --data data --stream trades -o what.parquet.zst", &["--codec zstd"]);
    place.refuse("export --data data --stream trades -o no/such/folder.csv", &["cannot write"]);
    place.refuse(
        "export --data data --stream trades --from 2025-01-01 --to 2024-01-01 -o keep.csv",
        &["--from"],
    );
    let ended = place.run("export --data data -o keep.csv");
    assert_eq!(ended.code, Some(2), "{ended}");
    // A damaged file of history.
    let file = find_history(&place.path("data/stream=trades"));
    let mut bytes = fs::read(&file).expect("it is there");
    bytes[100] ^= 0x55;
    fs::write(&file, bytes).expect("it can be written");
    place.refuse("export --data data --stream trades -o keep.csv", &["damaged"]);
    assert_eq!(fs::read(place.path("keep.csv")).expect("it is there"), b"what was there");
}

fn find_history(folder: &Path) -> PathBuf {
    let dates = fs::read_dir(folder).expect("it is a folder");
    let date = dates.map(|date| date.expect("it can be read").path()).next().expect("a date");
    let mut files = fs::read_dir(date).expect("it is a folder");
    files.next().expect("a file").expect("it can be read").path()
}

/// DuckDB, Polars and pyarrow see the values that went in: in exported files, and in history.
#[test]
fn other_engines_see_the_same_values() {
    let Some(python) = python() else {
        eprintln!(
            "ignored: no Python with duckdb, polars and pyarrow; name one with ISOTICK_PYTHON, or \
             run benches/peers once"
        );
        return;
    };
    let rows = ticks(306, 4_000, 40);
    // History has decimals where the bounds leave room for them, else scaled integers.
    let place = place_as(&DEFINITIONS.replace("min = 0", "min = 0, max = 1000000"), &rows);
    exported(&place, "--stream trades -o ticks.parquet");
    exported(&place, "--stream trades -o plain.parquet --codec none");
    exported(&place, "--stream trades -o ticks.arrow --codec none");
    exported(&place, "--stream trades -o packed.arrow");
    exported(&place, "--view bars -o bars.parquet");
    exported(&place, "--view bars -o bars.arrow");
    exported(&place, "--stream trades --time ns -o expected.csv");
    exported(&place, "--view bars --time ns -o bars.csv");
    let history = find_history(&place.path("data/stream=trades"));
    fs::copy(history, place.path("history.parquet")).expect("it can be copied");
    place.write("see.py", SEE);
    let mut see = Command::new(python);
    see.arg("see.py").current_dir(place.path("."));
    let output = see.output().expect("Python runs");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.trim() == "seen", "{out}{err}");
}

/// A Python that has all three.
fn python() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_isotick")).ancestors().nth(2)?;
    let python = match std::env::var_os("ISOTICK_PYTHON") {
        Some(python) => python.into(),
        None => beside.join("peers/venv/bin/python"),
    };
    let mut probe = Command::new(&python);
    let probed = probe.args(["-c", "import duckdb, polars, pyarrow"]).output();
    probed.is_ok_and(|probed| probed.status.success()).then_some(python)
}

const SEE: &str = r#"
import csv
from decimal import Decimal

import duckdb
import polars
import pyarrow.feather
import pyarrow.parquet


def expected(name):
    with open(name, newline="") as file:
        return list(csv.DictReader(file))


def text(value):
    if value is None:
        return ""
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def same(what, found, wanted, columns):
    found = [tuple(text(value) for value in row) for row in found]
    wanted = [tuple(row[column] for column in columns) for row in wanted]
    assert len(found) == len(wanted), (what, len(found), len(wanted))
    for at, (a, b) in enumerate(zip(found, wanted)):
        assert a == b, (what, at, a, b)


def check(name, wanted, columns, times, order):
    names = [f"epoch_ns({c}) as {c}" if c in times else c for c in columns]
    if name.endswith(".parquet"):
        query = f"select {', '.join(names)} from '{name}' {order}"
        same(f"duckdb {name}", duckdb.sql(query).fetchall(), wanted, columns)
        frame = polars.read_parquet(name)
        table = pyarrow.parquet.read_table(name)
    else:
        frame = polars.read_ipc(name)
        table = pyarrow.feather.read_table(name)
    if order:
        by = order.removeprefix("order by ").split(", ")
        frame = frame.sort(by)
        table = table.sort_by([(column, "ascending") for column in by])
    frame = frame.select(
        [polars.col(c).dt.epoch("ns") if c in times else polars.col(c) for c in columns]
    )
    same(f"polars {name}", frame.rows(), wanted, columns)
    lists = [
        table[c].cast("int64").to_pylist() if c in times else table[c].to_pylist() for c in columns
    ]
    same(f"pyarrow {name}", zip(*lists), wanted, columns)
    return table


ticks = expected("expected.csv")
columns = ["ts", "symbol", "price", "size"]
for name in ["ticks.parquet", "plain.parquet", "ticks.arrow", "packed.arrow"]:
    table = check(name, ticks, columns, ["ts"], "")
    assert set(table["seen"].to_pylist()) == {2**63 - 1}, "all were imported"
    assert sorted(table["sequence"].to_pylist()) == list(range(len(ticks)))
check("history.parquet", ticks, columns, ["ts"], "order by ts, publisher, sequence")
bars = expected("bars.csv")
exact = [column for column in bars[0] if column != "vwap"]
for name in ["bars.parquet", "bars.arrow"]:
    table = check(name, bars, exact, ["window_start", "window_end"], "")
    quotients = [float(row["vwap"]) if row["vwap"] else None for row in bars]
    assert table["vwap"].to_pylist() == quotients, name
print("seen")
"#;
