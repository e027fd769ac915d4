//! Late ticks: by the order rows are sent in, and by a view's policy.

use super::{DEFINITIONS, Place, SECOND_NS, csv, late, ticks, too_late};

#[test]
fn a_file_that_runs_backwards() {
    let place = Place::new(DEFINITIONS);
    let mut rows = ticks(41, 12_000, 0);
    rows.reverse();
    place.write("ticks.csv", csv(&rows));
    let hash = place.hash("bars --file ticks.csv");
    let mut seen = Vec::new();
    for (order, late) in [("time", 0), ("file", late(&rows))] {
        let service = place.serve(order);
        let published = place.publish("ticks.csv", &service, &format!("--order {order}"));
        let report = published.end().succeeded().json();
        assert_eq!(report["late"], late, "--order {order}: {report}");
        let status = place.status(&service);
        assert_eq!(status["streams"]["trades"]["late"], late, "--order {order}: {status}");
        service.stop();
        assert_eq!(place.hash(&format!("bars --data {order} --truth now")), hash);
        seen.push(place.hash(&format!("bars --data {order} --truth seen")));
        place.verified("bars", order);
    }
    assert_eq!(seen[0], hash, "in order, live sees everything");
    assert_ne!(seen[1], hash, "backwards, live misses what comes after its window");
}

#[test]
fn every_policy_counts_what_comes_too_late() {
    let mut definitions: String = DEFINITIONS.split("[view.").next().expect("streams").into();
    let views = ["correct", "side", "drop"].map(|policy| {
        [("0s", 0), ("50ms", 50), ("700ms", 700)].map(|(allowed, ms)| {
            let view = format!("{policy}_{ms}");
            definitions += &format!(
                "[view.{view}]\nstream = \"trades\"\nwindow = {{ tumbling = \"1s\" }}\n\
                 aggregates = [\"ohlc(price)\", \"count()\"]\n\
                 lateness = {{ allowed = \"{allowed}\", policy = \"{policy}\" }}\n"
            );
            (view, ms * 1_000_000)
        })
    });
    let views = views.as_flattened();
    let place = Place::new(&definitions);
    let rows = ticks(42, 15_000, 900);
    place.write("ticks.csv", csv(&rows));
    let service = place.serve("data");
    place.publish("ticks.csv", &service, "").end().succeeded();
    let status = place.status(&service);
    assert_eq!(status["streams"]["trades"]["late"], late(&rows), "{status}");
    for (view, allowed_ns) in views {
        let expected = too_late(&rows, SECOND_NS, *allowed_ns);
        assert!(expected > 0, "the case means something for {view}");
        let counts = &status["views"][view];
        assert_eq!(counts["too_late"], expected, "{view}: {status}");
        // Every tick is in the view or too late for it.
        let ticks = rows.len() as u64;
        let counted = counts["ticks"].as_u64().expect("a count");
        assert!(counted == ticks || counted == ticks - expected, "{view}: {status}");
        if !view.starts_with("correct") {
            assert_eq!(counts["corrections"], 0, "{view} publishes once: {status}");
        }
    }
    assert!(status["views"]["correct_700"]["corrections"].as_u64() > Some(0), "{status}");
    service.stop();
    for (view, allowed_ns) in views {
        place.verified(view, "data");
        let seen = place.ok(&format!("scan {view} --data data --truth seen --format csv"));
        let count = |row: &std::collections::BTreeMap<String, String>| {
            row["count"].parse::<u64>().expect("a count")
        };
        let seen: u64 = super::table(&seen.out).iter().map(count).sum();
        assert_eq!(seen, rows.len() as u64 - too_late(&rows, SECOND_NS, *allowed_ns), "{view}");
    }
}
