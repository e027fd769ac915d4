//! What is wrong is refused or counted, with a message that helps, and harms nothing else.

use std::fs::File;
use std::net::UdpSocket;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::json;

use super::{DEFINITIONS, Numbers, Place, START_NS, Service, csv, ticks};

/// Prices as floats: what is exact, then what is not.
fn write_parquet(place: &Place, name: &str, times: &[i64], prices: &[f64]) {
    let rows = times.len();
    let columns: [(&str, ArrayRef); 4] = [
        ("ts", Arc::new(Int64Array::from(times.to_vec()))),
        ("symbol", Arc::new(StringArray::from(vec!["A"; rows]))),
        ("price", Arc::new(Float64Array::from(prices.to_vec()))),
        ("size", Arc::new(Int64Array::from(vec![1; rows]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("the columns are equally long");
    let file = File::create(place.path(name)).expect("the folder is writable");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a Parquet schema");
    writer.write(&batch).expect("the folder is writable");
    writer.close().expect("the folder is writable");
}

/// A service that everything wrong meets; at the end it must be as good as new.
fn serving(wrong: impl FnOnce(&Place, &Service)) {
    let place = Place::new(DEFINITIONS);
    let rows = ticks(91, 4_000, 20);
    place.write("ticks.csv", csv(&rows));
    let hash = place.hash("bars --file ticks.csv");
    let service = place.serve("data");
    place.publish("ticks.csv", &service, "").end().succeeded();
    wrong(&place, &service);
    let status = place.status(&service);
    assert_eq!(status["failure"], serde_json::Value::Null, "{status}");
    place.publish("ticks.csv", &service, "").end().succeeded();
    service.stop();
    let own = "bars --data data --key S0 S1 S2 S3 S4 S5 S6";
    assert_eq!(place.hash(own), hash);
    place.verified("bars", "data");
}

#[test]
fn rows_that_are_wrong_are_counted_and_named() {
    serving(|place, service| {
        let good = format!("{},A,1.25,3\n", START_NS);
        let text = format!(
            "ts,symbol,price,size\n{good}{START_NS},A,1.255,3\n{START_NS},A,NaN,3\nnonsense\n\
             {START_NS},A,-1.00,3\n,A,1.00,3\n{START_NS},A,1.00,\n5000000000000000000,A,1.00,3\n{good}"
        );
        place.write("wrong.csv", text);
        let expected = json!({
            "inexact": 1, "not_finite": 1, "malformed": 1, "out_of_bounds": 1, "null_time": 1,
            "null_value": 1, "beyond_horizon": 1
        });
        let published = place.publish("wrong.csv", service, "").end().succeeded();
        let report = published.json();
        assert_eq!(report["rejected"], expected, "{report}");
        assert_eq!((&report["accepted"], &report["sent"]), (&2.into(), &9.into()), "{report}");
        for said in ["wrong.csv", "row 1", "line 3", "price", "1.255 has more than 2 decimals"] {
            assert!(published.err.contains(said), "no `{said}`: {published}");
        }
        let status = place.status(service);
        assert_eq!(status["streams"]["trades"]["rejected"], expected, "{status}");

        let import = "import wrong.csv --stream trades --data other --json";
        let dry = place.ok(&format!("{import} --dry-run --rejects rejects.csv")).json();
        assert_eq!(dry["files"][0]["rejected"], expected, "{dry}");
        assert!(!place.path("other").exists(), "a dry run stores nothing");
        let rejects = std::fs::read_to_string(place.path("rejects.csv")).expect("written");
        assert_eq!(rejects.lines().count(), 1 + 7, "{rejects}");
        assert!(rejects.contains("wrong.csv,1,3,price,inexact,"), "{rejects}");
        let imported = place.ok(import).json();
        assert_eq!(imported["files"][0]["rejected"], expected, "{imported}");
        assert_eq!(place.ticks("other"), 2);
    });
}

#[test]
fn floats_that_are_no_decimals_are_counted() {
    serving(|place, service| {
        let times = [1, 2, 3, 4, 5].map(|second| START_NS + second);
        let prices = [1.25, 0.1, 1.0 / 3.0, f64::NAN, f64::INFINITY];
        write_parquet(place, "floats.parquet", &times, &prices);
        let report = place.publish("floats.parquet", service, "").end().succeeded().json();
        assert_eq!(report["accepted"], 2, "{report}");
        let rejected = report["rejected"].as_object().expect("reasons");
        assert_eq!(rejected.get("inexact"), Some(&1.into()), "{report}");
        let total: u64 = rejected.values().filter_map(serde_json::Value::as_u64).sum();
        assert_eq!(total, 3, "{report}");
    });
}

#[test]
fn files_that_cannot_be_read_are_named() {
    serving(|place, service| {
        write_parquet(place, "whole.parquet", &[START_NS; 1000], &[1.25; 1000]);
        let whole = std::fs::read(place.path("whole.parquet")).expect("it was written");
        place.write("cut.parquet", &whole[..whole.len() / 2]);
        place.write("other.csv", "time,symbol,prix,size\n1,A,1.00,1\n");
        place.write("empty.csv", "");
        let to = &service.address;
        let cases = [
            ("cut.parquet", ["cut.parquet", "Parquet"]),
            ("other.csv", ["other.csv", "--map"]),
            ("empty.csv", ["empty.csv", "header"]),
            ("absent.csv", ["absent.csv", "No such file"]),
        ];
        for (file, words) in cases {
            place.refuse(&format!("scan bars --file {file}"), &words);
            place.refuse(&format!("import {file} --stream trades --data other"), &words);
            place.refuse(&format!("publish {file} --stream trades --to {to}"), &words);
            // For a new stream every name is right.
            if file != "other.csv" {
                place.refuse(&format!("init --from {file} --config x.toml"), &words[..1]);
            }
        }
    });
}

#[test]
fn names_that_are_unknown_are_answered_with_those_there_are() {
    serving(|place, service| {
        let to = &service.address;
        let stream = ["nope", "trades"];
        place.refuse(&format!("publish ticks.csv --stream nope --to {to}"), &stream);
        place.refuse("import ticks.csv --stream nope --data other", &stream);
        let view = ["nope", "bars", "all"];
        place.refuse(&format!("tail nope --at {to}"), &view);
        place.refuse("scan nope --data data", &view);
        place.refuse("scan nope --file ticks.csv", &view);
        place.refuse("verify nope --data data", &view);
        place.refuse("demo --view nope --data ticks.csv", &["nope", "bars_1s"]);
        let own = "verify bars --data absent";
        place.refuse(own, &["absent", "data folder"]);
        assert!(!place.path("absent").exists(), "reading makes nothing");
    });
}

#[test]
fn a_certificate_that_is_not_the_pinned_one_is_refused() {
    serving(|place, service| {
        let to = &service.address;
        let wrong = "0".repeat(64);
        for pin in [wrong.as_str(), "00ff"] {
            let words = ["fingerprint"];
            let publish =
                format!("publish ticks.csv --stream trades --to {to} --fingerprint {pin}");
            place.refuse(&publish, &words);
            place.refuse(&format!("status --at {to} --fingerprint {pin}"), &words);
            place.refuse(&format!("tail bars --at {to} --fingerprint {pin}"), &words);
        }
    });
    let place = Place::new(DEFINITIONS);
    let mut service = place.serve("data");
    let fingerprint = service.running.wait_for(|text| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix("certificate fingerprint: ")).map(str::to_owned)
    });
    let status = place.ok(&format!("status --at {} --fingerprint {fingerprint}", service.address));
    assert!(!status.err.contains("unchecked"), "a pinned certificate needs no notice: {status}");
    let status = place.ok(&format!("status --at {}", service.address));
    assert!(status.out.contains("stream trades"), "{status}");
}

#[test]
fn a_port_or_a_folder_in_use_is_refused() {
    serving(|place, service| {
        let to = &service.address;
        let port = to.rsplit(':').next().expect("a port");
        place.refuse(&format!("serve --data second --listen {to}"), &[port, "port"]);
        let words = ["data", "in use", "isotick serve"];
        place.refuse("serve --data data --listen 127.0.0.1:0", &words);
        place.refuse("import ticks.csv --stream trades --data data", &words);
        // A file where the folder should be: nobody, not even root, can write there.
        place.refuse("serve --data ticks.csv --listen 127.0.0.1:0", &["ticks.csv"]);
        place.refuse("serve --data ticks.csv/below --listen 127.0.0.1:0", &["ticks.csv/below"]);
        place.refuse("import ticks.csv --stream trades --data ticks.csv", &["ticks.csv"]);
        place.refuse("scan bars --file ticks.csv -o ticks.csv/out.csv", &["ticks.csv/out.csv"]);
        let free = UdpSocket::bind("127.0.0.1:0").expect("there are ports");
        let nobody = free.local_addr().expect("it is bound");
        drop(free);
        for command in ["status", "tail bars"] {
            place.refuse(&format!("{command} --at {nobody}"), &["isotick serve", "no answer"]);
        }
    });
}

#[test]
fn garbage_on_the_port_is_counted() {
    serving(|place, service| {
        place.write("more.csv", csv(&ticks(92, 4_000, 20)).replace(",S", ",T"));
        let publisher = place.publish("more.csv", service, "--rate 8000/s");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("there are ports");
        let mut numbers = Numbers::new(93);
        for _ in 0..400 {
            let bytes: Vec<u8> =
                (0..numbers.below(1400)).map(|_| numbers.below(256) as u8).collect();
            socket.send_to(&bytes, &service.address).expect("loopback takes it");
            std::thread::sleep(std::time::Duration::from_micros(500));
        }
        let report = publisher.end().succeeded().json();
        assert_eq!(report["accepted"], 4_000, "{report}");
        let status = place.status(service);
        let refused = status["edge"]["datagrams_refused"].as_u64().expect("a count");
        assert!((300..=400).contains(&refused), "{refused} of 400 were refused: {status}");
    });
}
