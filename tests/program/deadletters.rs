//! What the service refused: kept, shown, sent again.

use super::{DEFINITIONS, Place, START_NS};

/// Far beyond the horizon, and in a window of every view.
const FUTURE_NS: i64 = 5_000_000_000_000_000_000;

#[test]
fn refused_rows_are_kept_shown_and_sent_again() {
    let place = Place::new(DEFINITIONS);
    let rows = format!(
        "ts,symbol,price,size\n{START_NS},A,1.25,3\n{FUTURE_NS},B,7.50,4\n{START_NS},A,1.26,5\n"
    );
    place.write("ticks.csv", rows);
    let service = place.serve("data");
    let report = place.publish("ticks.csv", &service, "--publisher p").end().succeeded().json();
    assert_eq!(report["rejected"]["beyond_horizon"], 1, "{report}");

    // While the service runs.
    let letters = |more: &str| {
        let listed = place.ok(&format!("deadletters list --data data --json {more}"));
        let line = |line| serde_json::from_str::<serde_json::Value>(line).expect("one object");
        listed.out.lines().map(line).collect::<Vec<_>>()
    };
    let all = letters("");
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["reasons"]["beyond_horizon"], 1, "{all:?}");
    assert_eq!((&all[0]["first_sequence"], &all[0]["rows"]), (&1.into(), &1.into()), "{all:?}");
    assert_eq!(letters("--stream trades --publisher p --reason beyond_horizon"), all);
    for other in
        ["--stream quotes", "--publisher q", "--reason inexact", "--since 2100-01-01T00:00:00Z"]
    {
        assert_eq!(letters(other), Vec::<serde_json::Value>::new(), "{other}");
    }
    let status = place.status(&service);
    assert_eq!(status["deadletters"]["letters"], 1, "{status}");
    assert_eq!(status["deadletters"]["dropped_by_rate"], 0, "{status}");
    let shown = place.ok("deadletters show 0 --data data").out;
    for said in ["beyond_horizon", "2128-06-11", "B", "7.50", "000000  01"] {
        assert!(shown.contains(said), "no `{said}`: {shown}");
    }
    place.refuse("deadletters show 1 --data data", &["there is no letter 1"]);
    let replay = |more: &str| {
        let at = &service.address;
        let ended = place.ok(&format!("deadletters replay --data data --at {at} --json {more}"));
        ended.json()["publishers"][0].clone()
    };
    for more in ["--dry-run", ""] {
        let kept = replay(more);
        assert_eq!((&kept["sent"], &kept["kept_back"]["beyond_horizon"]), (&0.into(), &1.into()));
    }
    service.stop();

    place.write("isotick.toml", DEFINITIONS.replace("key     =", "horizon = \"none\"\nkey     ="));
    let service = place.serve("data");
    for (accepted, duplicate) in [(1, 0), (0, 1)] {
        let at = &service.address;
        let replay = format!("deadletters replay --data data --at {at} --json");
        let sent = &place.ok(&replay).json()["publishers"][0];
        assert_eq!(sent["sent"], 1, "{sent}");
        assert_eq!((&sent["accepted"], &sent["duplicate"]), (&accepted.into(), &duplicate.into()));
    }
    let streams = &place.status(&service)["streams"]["trades"]["publishers"];
    assert!(streams.to_string().contains("p/replayed"), "{streams}");
    service.stop();
    assert_eq!(place.ticks("data"), 3);
}

#[test]
fn keys_outside_the_closed_set_are_rejected_on_every_way_in() {
    let closed = DEFINITIONS.replace("key     =", "keys_allowed = [\"A\", \"C\"]\nkey     =");
    let place = Place::new(&closed);
    let row = |symbol: &str| format!("{START_NS},{symbol},1.25,3\n");
    let rows: String = ["A", "B", "C", "A", "b"].map(row).concat();
    place.write("ticks.csv", format!("ts,symbol,price,size\n{rows}"));
    let scanned = place.hash("bars --file ticks.csv");
    let service = place.serve("data");
    let report = place.publish("ticks.csv", &service, "").end().succeeded().json();
    assert_eq!((&report["accepted"], &report["rejected"]["unknown_key"]), (&3.into(), &2.into()));
    service.stop();
    let imported = place.ok("import ticks.csv --stream trades --data other --json").json();
    assert_eq!(imported["files"][0]["rejected"]["unknown_key"], 2, "{imported}");
    for data in ["data", "other"] {
        assert_eq!(place.hash(&format!("bars --data {data}")), scanned);
    }
    let shrunk = closed.replace("\"A\", \"C\"", "\"A\"");
    place.write("isotick.toml", &shrunk);
    place.refuse("serve --data data", &["the key \"C\" of `keys_allowed`"]);
    place.write("isotick.toml", closed.replace("\"C\"]", "\"C\", \"B\"]"));
    let service = place.serve("data");
    let report = place.publish("ticks.csv", &service, "--publisher again").end().succeeded().json();
    assert_eq!((&report["accepted"], &report["rejected"]["unknown_key"]), (&4.into(), &1.into()));
    service.stop();
    place.verified("bars", "data");
}
