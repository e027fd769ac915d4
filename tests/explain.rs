//! What `explain` says of a scan, against the scan itself.

use crate::program::Place;

const DEFINITIONS: &str = r#"
[stream.trades]
time = "ts"
key = "symbol"
columns = { price = { scale = 2 }, size = { scale = 0 } }

[view.bars]
stream = "trades"
window = { tumbling = "1s" }
aggregates = ["ohlc(price)", "volume = sum(size)", "trades = count()"]

[view.volume]
stream = "trades"
window = { tumbling = "1d" }
aggregates = ["volume = sum(size)"]
"#;

/// A folder with definitions, a file of 6,000 ticks, and the same ticks imported.
fn place() -> Place {
    let place = Place::new(DEFINITIONS);
    let mut csv = "ts,symbol,price,size\n".to_owned();
    for row in 0..6_000_u64 {
        let (ts, symbol) = (1_700_000_000_000_000_000 + row * 1_000_000, row % 7);
        csv += &format!("{ts},S{symbol},{}.25,{}\n", 100 + row % 13, row % 50);
    }
    place.write("trades.csv", csv);
    place.ok("import trades.csv --stream trades --data data");
    place
}

fn explained(place: &Place, arguments: &str) -> serde_json::Value {
    let printed = place.ok(&format!("explain {arguments} --engine cpu --json"));
    serde_json::from_str(&printed.out).expect("explain prints JSON")
}

#[test]
fn explain_measures_what_scan_gives() {
    let place = place();
    for source in ["--data data", "--file trades.csv"] {
        let report = explained(&place, &format!("bars {source} --measure"));
        let hash = place.ok(&format!("scan bars {source} --hash")).out;
        assert_eq!(report["measured"]["hash"], hash.trim(), "{source}");
        assert_eq!(report["measured"]["rows_read"], 6_000);
        assert!(report["predicted"]["seconds"].as_f64().unwrap() > 0.0);
        assert!(report["measured"]["over_predicted"].as_f64().unwrap() > 0.0);
        assert_eq!(report["reads"]["identities"], true, "first and last need them");
        assert_eq!(report["plan"]["words_per_window"], 1 + 5 + 2 + 2 + 5 + 3);
    }
}

#[test]
fn explain_shows_what_stays_unread() {
    let place = place();
    let whole = explained(&place, "volume --data data");
    assert_eq!(whole["reads"]["rows"], 6_000);
    assert_eq!(whole["reads"]["columns"], serde_json::json!(["symbol", "size"]));
    assert_eq!(whole["reads"]["identities"], false);
    let none = explained(&place, "volume --data data --key S9");
    assert_eq!((&none["reads"]["rows"], &none["reads"]["parts"]), (&0.into(), &0.into()));
    let bars = explained(&place, "bars --data data");
    assert!(bars["reads"]["bytes"].as_u64() > whole["reads"]["bytes"].as_u64());
}

#[test]
fn explain_is_readable_and_fails_as_scan_does() {
    let place = place();
    let text = place.ok("explain bars --data data --measure --engine cpu").out;
    for word in ["sum(size)", "words", "columns: symbol, price, size", "predicted", "measured"] {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
    let errors = ["explain", "scan"].map(|command| {
        let ended = place.run(&format!("{command} nope --data data"));
        assert_eq!(ended.code, Some(1));
        ended.err
    });
    assert_eq!(errors[0], errors[1]);
}
