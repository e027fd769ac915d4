//! Real files through the binary: in place and imported, on every engine, against an independent
//! reading of the same files.

mod given;
mod reading;

use std::fs;
use std::path::{Path, PathBuf};

use crate::canonical;
use crate::command::{hash_of, is_written, isotick, run};
use crate::gpu;
use crate::oracle::{View, Window};
use given::{GIVEN, Given};
use reading::Table;

/// The folder of real files, or why there is none.
fn data() -> Result<PathBuf, String> {
    let folder = match gpu::setting("ISOTICK_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    if folder.is_dir() { Ok(folder) } else { Err(format!("no real files at {}", folder.display())) }
}

/// A real file, or nothing after a line that says why its test is ignored.
fn file(given: &Given) -> Option<PathBuf> {
    let path = match data() {
        Ok(folder) => folder.join(given.file),
        Err(why) => {
            println!("ignored: {why}; set ISOTICK_DATA to their folder");
            return None;
        }
    };
    if !path.is_file() {
        println!("ignored: {} is not among the real files", path.display());
        return None;
    }
    Some(path)
}

/// A result set as CSV with integer times, against the expected windows, cell by cell.
fn check_csv(given: &Given, view: &View, expected: &[Window], csv: &str, how: &str) {
    let mut lines = csv.lines();
    let keys = given.keys.iter().map(|(column, _)| *column);
    let outputs = view.outputs.iter().map(|(name, _)| name.as_str());
    let header: Vec<_> = keys.chain(["window_start", "window_end"]).chain(outputs).collect();
    assert_eq!(lines.next().unwrap_or(""), header.join(","), "{}, {how}: header", given.file);
    for (row, window) in expected.iter().enumerate() {
        let line = lines.next().unwrap_or("");
        let place =
            || format!("{}, {how}, row {row}\nexpected {window}\nfound    {line}", given.file);
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), header.len(), "{}", place());
        let (key, rest) = fields.split_at(window.key.len());
        assert_eq!(key, window.key, "{}", place());
        assert_eq!(rest[..2], [window.start.to_string(), window.end.to_string()], "{}", place());
        for (((name, output), cell), text) in view.outputs.iter().zip(&window.cells).zip(&rest[2..])
        {
            assert!(is_written(view, *output, cell, text), "{}\ncolumn {name}", place());
        }
    }
    assert_eq!(lines.next(), None, "{}, {how}: more rows than expected", given.file);
}

/// The whole comparison for one file.
fn check(given: &Given) {
    let Some(path) = file(given) else { return };
    let path = path.to_str().expect("the path is text");
    let view = given.view();
    let table = Table::read(Path::new(path), given);
    let expected = table.windows(&view, given.passes);
    let hash = canonical::hash(&given.key_names(), &view, &expected);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("isotick.toml");
    fs::write(&config, given.definitions()).expect("the folder is writable");
    let config = config.to_str().expect("the path is text");
    let data = folder.path().join("data");
    let data = data.to_str().expect("the path is text");
    let map = given.map();
    let mapped: Vec<&str> = match map.is_empty() {
        true => vec![],
        false => ["--map"].into_iter().chain(map.iter().map(String::as_str)).collect(),
    };

    let in_place = [&["scan", "bars", "--config", config, "--file", path], &mapped[..]].concat();
    let written = ["--format", "csv", "--time", "ns", "--hash"];
    let output = isotick(&[&in_place[..], &["--engine", "cpu"], &written].concat());
    let csv = String::from_utf8(output.stdout.clone()).expect("CSV is text");
    check_csv(given, &view, &expected, &csv, "in place, cpu");
    assert_eq!(hash_of(&output), hash, "{}: hash, in place, cpu", given.file);

    let into = ["import", path, "--stream", "ticks", "--data", data, "--config", config];
    let import = [&into[..], &mapped].concat();
    isotick(&import);
    let stored = ["scan", "bars", "--data", data];
    let output = isotick(&[&stored[..], &["--engine", "cpu"], &written].concat());
    let csv = String::from_utf8(output.stdout.clone()).expect("CSV is text");
    check_csv(given, &view, &expected, &csv, "imported, cpu");
    assert_eq!(hash_of(&output), hash, "{}: hash, imported, cpu", given.file);

    isotick(&import);
    let alone = ["--engine", "cpu", "--threads", "1", "--hash"];
    let again = isotick(&[&stored[..], &alone].concat());
    assert_eq!(hash_of(&again), hash, "{}: hash, imported twice, one thread", given.file);

    if gpu::available() {
        let on_gpu = ["--engine", "gpu", "--hash"];
        for (how, command) in [("in place", &in_place[..]), ("imported", &stored[..])] {
            let output = isotick(&[command, &on_gpu].concat());
            assert_eq!(hash_of(&output), hash, "{}: hash, {how}, gpu", given.file);
        }
    }
    println!("{}: {} rows, {} windows, {hash}", given.file, table.len(), expected.len());
}

/// One test per file, so that a failure names it and they run beside each other.
macro_rules! files {
    ($($name:ident: $file:literal,)*) => {$(
        #[test]
        fn $name() {
            let given = GIVEN.iter().find(|given| given.file == $file);
            check(given.expect("the file is described in given.rs"));
        }
    )*

    #[test]
    fn every_described_file_has_its_test() {
        let mut named = [$($file),*];
        let mut described: Vec<_> = GIVEN.iter().map(|given| given.file).collect();
        named.sort_unstable();
        described.sort_unstable();
        assert_eq!(described, named);
    }};
}

files! {
    trades_of_a_stock: "ticks/lean_us_trades_spy.parquet",
    trades_of_another_stock: "ticks/lean_us_trades_bac.parquet",
    trades_of_futures_with_zero_sizes: "ticks/lean_comex_gc_trades.parquet",
    trades_with_long_fractions: "ticks/binance_btc_spot_coinm_trades.parquet",
    trades_and_quotes_out_of_order: "ticks/binance_btc_spot_coinm_arrival.parquet",
    quotes_of_a_currency: "ticks/lean_oanda_quotes_eurusd.parquet",
    one_sided_quotes: "ticks/lean_us_quotes_bac.parquet",
    quote_bars_of_a_currency: "bars/lean_oanda_minute_quote_eurusd.parquet",
    quote_bars_of_a_stock: "bars/lean_us_minute_quote_bac.parquet",
    minute_bars: "bars/lean_us_minute_trade_bac.parquet",
    minute_bars_of_another_stock: "bars/lean_us_minute_trade_spy.parquet",
    second_bars: "bars/lean_us_second_trade_bac.parquet",
    many_series_of_raw_floats: "sensors/nab_a.parquet",
    wide_sensors_with_nulls: "sensors/nyc_airport_weather.parquet",
    long_sensors_of_a_flight: "sensors/px4_flight_a.parquet",
    a_feed_in_reverse: "sensors/usgs_earthquakes_week.parquet",
}

/// Times print as RFC 3339 with nanoseconds unless integers are asked for.
#[test]
fn times_are_rfc_3339() {
    let given = GIVEN.iter().find(|given| given.file.ends_with("minute_trade_bac.parquet"));
    let given = given.expect("described");
    let Some(path) = file(given) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("isotick.toml");
    fs::write(&config, given.definitions()).expect("the folder is writable");
    let (path, config) = (path.to_str().expect("text"), config.to_str().expect("text"));
    let scan = ["scan", "bars", "--config", config, "--file", path, "--format", "csv"];
    let text = |arguments: &[&str]| {
        String::from_utf8(isotick(&[&scan[..], arguments].concat()).stdout).expect("CSV is text")
    };
    let (readable, integers) = (text(&[]), text(&["--time", "ns"]));
    assert!(readable.lines().count() > 1, "there are windows");
    for (readable, integers) in readable.lines().zip(integers.lines()).skip(1) {
        let (readable, integers): (Vec<_>, Vec<_>) =
            (readable.split(',').collect(), integers.split(',').collect());
        for (time, ns) in readable[1..3].iter().zip(&integers[1..3]) {
            assert_eq!(*time, rfc3339(ns.parse().expect("an integer")));
        }
        assert_eq!(readable[3..], integers[3..]);
    }
}

/// Counts days from 1970 on: only for times after that.
fn rfc3339(ns: i64) -> String {
    let (mut days, second) = (ns / 86_400_000_000_000, ns / 1_000_000_000 % 86_400);
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut year = 1970;
    while days >= 365 + i64::from(leap(year)) {
        days -= 365 + i64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}-{:02}-{:02}T{hour:02}:{minute:02}:{:02}.{:09}Z",
        month + 1,
        days + 1,
        second % 60,
        ns % 1_000_000_000
    )
}

/// The same ticks as decimal text give the same windows.
#[test]
fn csv_gives_what_parquet_gives() {
    let given = GIVEN.iter().find(|given| given.file.ends_with("coinm_trades.parquet"));
    let given = given.expect("described");
    let Some(path) = file(given) else { return };
    let table = Table::read(&path, given);
    let view = given.view();
    let expected = table.windows(&view, given.passes);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (config, csv) = (folder.path().join("isotick.toml"), folder.path().join("ticks.csv"));
    fs::write(&config, given.definitions()).expect("the folder is writable");
    fs::write(&csv, table.csv(given)).expect("the folder is writable");
    let (config, csv) = (config.to_str().expect("text"), csv.to_str().expect("text"));
    let output =
        isotick(&["scan", "bars", "--config", config, "--file", csv, "--engine", "cpu", "--hash"]);
    assert_eq!(hash_of(&output), canonical::hash(&given.key_names(), &view, &expected));
}

/// A file that cannot be read is named in the message, and nothing else is harmed.
#[test]
fn a_bad_parquet_file_is_named() {
    let given = &GIVEN[0];
    let Some(good) = file(given) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("isotick.toml");
    fs::write(&config, given.definitions()).expect("the folder is writable");
    let config = config.to_str().expect("text");
    let cut = folder.path().join("cut.parquet");
    let bytes = fs::read(&good).expect("the file is readable");
    fs::write(&cut, &bytes[..bytes.len() / 2]).expect("the folder is writable");
    let mut bad = vec![cut];
    let vectors = good.join("../../vectors/parquet-testing");
    let mut folders = vec![vectors];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if name.contains("PARQUET-1481") || name.contains("ARROW-GH-45185") {
                bad.push(entry.path());
            }
        }
    }
    for path in bad {
        let path = path.to_str().expect("text");
        let output = run(&["scan", "bars", "--config", config, "--file", path, "--hash"]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{path}: {errors}");
        let name = Path::new(path).file_name().and_then(|name| name.to_str()).expect("text");
        assert!(errors.contains(name), "{path} is not named: {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
}
