//! The command line apart from the service: definitions, formats, selections, devices.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use crate::program::{DEFINITIONS, Place, SECOND_NS, START_NS, csv, real_files, table, ticks};

fn place() -> Place {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(5, 5_000, 0)));
    place
}

#[test]
fn every_command_explains_itself() {
    let place = place();
    let commands = [
        "demo", "serve", "status", "publish", "tail", "import", "scan", "explain", "verify",
        "devices", "init",
    ];
    let help = place.ok("--help").out;
    for command in commands {
        assert!(help.contains(&format!("\n  {command}")), "{command}: {help}");
        let help = place.ok(&format!("{command} --help")).out;
        assert!(help.contains("Usage: isotick "), "{help}");
    }
    assert!(place.ok("--version").out.starts_with("isotick "));
    for wrong in ["", "nope", "scan", "publish ticks.csv", "demo --speed fast"] {
        let ended = place.run(wrong);
        assert!(ended.code == Some(2) && ended.out.is_empty() && !ended.err.is_empty(), "{ended}");
    }
    place.refuse("scan bars", &["--data", "--file"]);
}

#[test]
fn init_writes_definitions_that_work() {
    let place = place();
    std::fs::remove_file(place.path("isotick.toml")).expect("it was written");
    place.refuse("scan bars_1s --file ticks.csv", &["isotick init", "isotick.toml"]);
    place.ok("init");
    let written = std::fs::read_to_string(place.path("isotick.toml")).expect("it was written");
    assert!(written.contains("# ") && written.contains("[stream.trades]"), "{written}");
    let hash = place.hash("bars_1s --file ticks.csv");
    place.refuse("init", &["isotick.toml", "--force"]);
    place.refuse("init --from ticks.csv", &["isotick.toml", "--force"]);
    place.ok("init --from ticks.csv --force");
    let read = std::fs::read_to_string(place.path("isotick.toml")).expect("it was written");
    assert_ne!(read, written);
    assert!(read.contains("scale = 2"), "prices have two decimals: {read}");
    place.ok("scan bars_1s --file ticks.csv");
    place.ok("init --from ticks.csv --config other.toml");
    place.ok("scan bars_1m --file ticks.csv --config other.toml");
    place.ok("init --force");
    assert_eq!(place.hash("bars_1s --file ticks.csv"), hash);

    // What a scan writes as Parquet can be read off again.
    place.ok("scan bars_1s --file ticks.csv -o bars.parquet");
    place.ok("init --from bars.parquet --config bars.toml");
    let Some(file) = real_files().map(|folder| folder.join("ticks/lean_comex_gc_trades.parquet"))
    else {
        eprintln!("ignored: no real files below ISOTICK_DATA or ../shared/data");
        return;
    };
    place.ok(&format!("init --from {} --config real.toml", file.display()));
    place.ok(&format!("scan bars_1m --file {} --config real.toml --hash", file.display()));
}

#[test]
fn definitions_that_are_wrong_point_at_the_line() {
    let place = place();
    let cases = [
        ("scale = 2, ", "scale = 99, ", "99"),
        ("ohlc(price)", "ohlc(prize)", "prize"),
        ("lateness   =", "latenes =", "latenes"),
        ("\"50ms\"", "\"50 parsecs\"", "50 parsecs"),
        ("trades = count()", "volume = count()", "volume"),
        ("stream     = \"trades\"", "stream = \"nope\"", "nope"),
        ("{ tumbling = \"1s\" }", "{ tumbling = \"0s\" }", "tumbling"),
        ("[view.bars]", "[view.bars", "view.bars"),
    ];
    for (right, wrong, word) in cases {
        assert!(DEFINITIONS.contains(right), "{right} is there to be replaced");
        let text = DEFINITIONS.replacen(right, wrong, 1);
        let at = 1 + text.lines().position(|line| line.contains(wrong)).expect("it was replaced");
        place.write("wrong.toml", text);
        let line = format!("wrong.toml:{at}:");
        for command in ["scan bars --file ticks.csv", "serve --data d --listen 127.0.0.1:0"] {
            place.refuse(&format!("{command} --config wrong.toml"), &[&line, word]);
        }
    }
    assert!(!place.path("d").exists(), "nothing is made of wrong definitions");
    place.refuse("scan bars --file ticks.csv --config absent.toml", &["absent.toml"]);

    // A folder's streams keep their meaning.
    place.ok("import ticks.csv --stream trades --data data");
    for (right, wrong) in [("scale = 2, ", "scale = 3, "), ("\"symbol\"", "[]")] {
        place.write("changed.toml", DEFINITIONS.replacen(right, wrong, 1));
        let serve = "serve --data data --listen 127.0.0.1:0 --config changed.toml";
        place.refuse(serve, &["trades"]);
    }
    assert_eq!(place.ticks("data"), 5_000);
}

#[test]
fn every_format_says_the_same() {
    let place = place();
    let scan = "scan bars --file ticks.csv";
    let csv = place.ok(&format!("{scan} --format csv --time ns"));
    let rows = table(&csv.out);
    let names = ["symbol", "window_start", "window_end", "open", "high", "low", "close", "volume"];
    assert_eq!(csv.out.lines().next(), Some(&*(names.join(",") + ",vwap,trades")));
    assert!(rows.len() > 20);

    let json = place.ok(&format!("{scan} --format json --time ns")).out;
    assert_eq!(json.lines().count(), rows.len());
    let header = csv.out.lines().next().expect("a header").split(',');
    for (json, csv) in json.lines().zip(csv.out.lines().skip(1)) {
        // As text: a number says exactly what the field says.
        let fields = header.clone().zip(csv.split(',')).map(|(name, field)| match name {
            "symbol" => format!("\"{name}\":\"{field}\""),
            _ if field.is_empty() => format!("\"{name}\":null"),
            _ => format!("\"{name}\":{field}"),
        });
        assert_eq!(json, format!("{{{}}}", fields.collect::<Vec<_>>().join(",")));
        serde_json::from_str::<Value>(json).expect("a JSON object a line");
    }
    let text = place.ok(scan).out;
    assert_eq!(text.lines().count(), rows.len() + 1);
    for (line, row) in text.lines().skip(1).zip(&rows) {
        let fields: Vec<_> = line.split_whitespace().collect();
        assert_eq!((fields[0], fields[3]), (&*row["symbol"], &*row["open"]));
        assert!(fields[1].starts_with("2024-01-02T14:3") && fields[1].ends_with(".000000000Z"));
    }
    place.ok(&format!("{scan} --format csv --time ns -o out.csv"));
    let out = std::fs::read_to_string(place.path("out.csv")).expect("it was written");
    assert_eq!(out, csv.out);

    place.refuse(&format!("{scan} --format parquet"), &["-o"]);
    let ended = place.ok(&format!("{scan} --format parquet -o out.parquet --hash"));
    assert_eq!(ended.out.trim(), place.hash("bars --file ticks.csv"), "{ended}");
    let file = File::open(place.path("out.parquet")).expect("it was written");
    let metadata = SerializedFileReader::new(file).expect("Parquet").metadata().clone();
    assert_eq!(metadata.file_metadata().num_rows(), rows.len() as i64);
    let columns = metadata.file_metadata().schema_descr().columns();
    assert_eq!(columns[..8].iter().map(|c| c.name()).collect::<Vec<_>>(), names);
}

#[test]
fn keys_and_times_select_whole_windows() {
    let place = place();
    place.ok("import ticks.csv --stream trades --data data");
    for from in ["--file ticks.csv", "--data data"] {
        let scan = |more: &str| {
            table(&place.ok(&format!("scan bars {from} --format csv --time ns {more}")).out)
        };
        let all = scan("");
        let of_key = |row: &&_, keys: &[&str]| {
            let row: &std::collections::BTreeMap<String, String> = row;
            keys.contains(&&*row["symbol"])
        };
        let expected: Vec<_> =
            all.iter().filter(|row| of_key(row, &["S2", "S5"])).cloned().collect();
        assert_eq!(scan("--key S2 S5"), expected);
        assert!(scan("--key S9").is_empty());
        let (start, end) = (START_NS + SECOND_NS, START_NS + 3 * SECOND_NS);
        let within = |row: &&std::collections::BTreeMap<String, String>| {
            let at: i64 = row["window_start"].parse().expect("a time");
            (start..end).contains(&at)
        };
        let expected: Vec<_> = all.iter().filter(within).cloned().collect();
        assert!(!expected.is_empty() && expected.len() < all.len());
        assert_eq!(scan(&format!("--from {start} --to {end}")), expected);
        let text = "--from 2024-01-02T14:30:01Z --to 2024-01-02T14:30:03Z";
        assert_eq!(scan(text), expected);
        let middle = format!("--from {} --to {}", start - 1, end - SECOND_NS + 1);
        assert_eq!(scan(&middle), expected, "a window belongs to its start");
        assert!(scan("--from 2024-01-03").is_empty());
        let engines = ["1", "2"].map(|n| place.hash(&format!("bars {from} --threads {n}")));
        assert_eq!(engines[0], engines[1]);
    }
    assert_eq!(place.run("scan bars --data data --from noon").code, Some(2));
}

#[test]
fn devices_are_listed() {
    let place = place();
    let report = place.ok("devices --json").json();
    assert!(report["cpu"]["threads"].as_u64() > Some(0), "{report}");
    for adapter in report["adapters"].as_array().expect("a list") {
        for field in ["name", "backend", "used", "reason"] {
            assert!(adapter[field].is_string(), "{field}: {report}");
        }
        assert!(adapter["features"].is_object() && adapter["limits"].is_object(), "{report}");
    }
    assert!(place.ok("devices").out.contains("--engine auto uses"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = place();
    // More than a pipe holds.
    place.write("ticks.csv", csv(&ticks(6, 60_000, 0)));
    let narrow = DEFINITIONS.replacen("tumbling = \"1s\"", "tumbling = \"1ms\"", 1);
    place.write("isotick.toml", narrow);
    for format in ["table", "csv", "json"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_isotick"))
            .args(["scan", "bars", "--file", "ticks.csv", "--format", format])
            .current_dir(place.path(""))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("there is a line");
        drop(out);
        let mut errors = String::new();
        child.stderr.take().expect("it is piped").read_to_string(&mut errors).expect("text");
        let status = child.wait().expect("it ends");
        assert!(status.success() && errors.is_empty(), "{format}: {status} {errors}");
    }
}
