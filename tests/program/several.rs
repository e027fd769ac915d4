//! Several publishers at once.

use std::time::Duration;

use super::{DEFINITIONS, Place, csv, ticks};

#[test]
fn the_slower_publisher_holds_the_watermark() {
    let place = Place::new(DEFINITIONS);
    let (slow, fast) = (ticks(51, 8_000, 30), ticks(52, 8_000, 30));
    place.write("slow.csv", csv(&slow));
    place.write("fast.csv", csv(&fast));
    let hash = place.hash("bars --file slow.csv fast.csv");
    assert_eq!(place.hash("bars --file fast.csv slow.csv"), hash, "the order of files is nothing");

    let service = place.serve("data");
    let slow_publisher = place.publish("slow.csv", &service, "--publisher slow --rate 4000/s");
    let accepted = |status: &serde_json::Value, name: &str| {
        let publishers = status["streams"]["trades"]["publishers"].as_array();
        let mut publishers = publishers.into_iter().flatten();
        let found = publishers.find(|publisher| publisher["publisher"] == name);
        found.map_or(0, |publisher| publisher["accepted"].as_u64().expect("a count")) as usize
    };
    while accepted(&place.status(&service), "slow") == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let fast_publisher = place.publish("fast.csv", &service, "--publisher fast --rate 16000/s");
    let (mut ahead, mut looks) = (0, 0);
    loop {
        let status = place.status(&service);
        let (slow_rows, fast_rows) = (accepted(&status, "slow"), accepted(&status, "fast"));
        if slow_rows == slow.len() {
            break;
        }
        let w = status["streams"]["trades"]["watermark_ns"].as_i64().expect("there are ticks");
        let reached = slow[..slow_rows].iter().map(|tick| tick.ts).max().expect("there are ticks");
        assert!(w <= reached, "W {w} past the slower one's {reached}: {status}");
        ahead += usize::from(fast_rows > slow_rows);
        looks += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(ahead > 0, "in {looks} looks the fast publisher was never ahead");
    let reports = [slow_publisher, fast_publisher].map(|publisher| {
        let report = publisher.end().succeeded().json();
        assert_eq!(report["accepted"], 8_000, "{report}");
        report
    });
    let status = place.status(&service);
    let late: u64 = reports.iter().map(|report| report["late"].as_u64().expect("a count")).sum();
    assert_eq!(status["streams"]["trades"]["late"], late, "{status}");
    service.stop();
    place.verified("bars", "data");
    assert_eq!(place.ticks("data"), 16_000);
}

#[test]
fn two_publishers_give_what_a_scan_of_both_files_gives() {
    let place = Place::new(DEFINITIONS);
    place.write("a.csv", csv(&ticks(53, 9_000, 30)));
    place.write("b.csv", csv(&ticks(54, 9_000, 30)));
    let hash = place.hash("bars --file a.csv b.csv");
    let service = place.serve("data");
    let publishers = ["a.csv", "b.csv"]
        .map(|file| place.publish(file, &service, "--rate 15000/s --ack written"));
    for publisher in publishers {
        publisher.end().succeeded();
    }
    service.stop();
    assert_eq!(place.hash("bars --data data"), hash, "two processes");
    place.verified("bars", "data");

    // One process, merged by time: nothing is late.
    let service = place.serve("merged");
    let report = place.publish("a.csv b.csv", &service, "--order time").end().succeeded().json();
    assert_eq!(report["accepted"], 18_000, "{report}");
    assert_eq!(report["late"], 0, "{report}");
    assert_eq!(report["files"].as_array().map(Vec::len), Some(2), "{report}");
    service.stop();
    assert_eq!(place.hash("bars --data merged"), hash, "merged by time");
    place.verified("bars", "merged");
}

/// The first of each pair of rows that arrives is the tick; the other one is counted.
#[test]
fn the_same_publisher_twice_at_once() {
    let place = Place::new(DEFINITIONS);
    let rows = ticks(55, 6_000, 0);
    let changed = rows.iter().cloned().enumerate().map(|(row, mut tick)| {
        tick.price += i64::from(row >= 3_000);
        tick
    });
    place.write("rows.csv", csv(&rows));
    place.write("changed.csv", csv(&changed.collect::<Vec<_>>()));
    let service = place.serve("data");
    let publishers = ["rows.csv", "changed.csv"]
        .map(|file| place.publish(file, &service, "--publisher me --rate 6000/s"));
    for publisher in publishers {
        let report = publisher.end().succeeded().json();
        assert_eq!(report["durable_through"], 6_000, "{report}");
    }
    let status = place.status(&service);
    let stream = &status["streams"]["trades"];
    assert_eq!(stream["accepted"], 6_000, "{status}");
    let count = |name: &str| stream[name].as_u64().expect("a count");
    let (duplicate, conflicting) = (count("duplicate"), count("conflicting"));
    assert!(duplicate > 0 && duplicate <= 3_000, "{status}");
    assert!(conflicting > 0 && conflicting <= 3_000, "{status}");
    service.stop();
    assert_eq!(place.ticks("data"), 6_000);
    place.verified("bars", "data");
}

#[test]
fn a_file_that_has_grown_adds_its_new_rows() {
    let place = Place::new(DEFINITIONS);
    let rows = ticks(56, 4_000, 20);
    let service = place.serve("data");
    for (rows, accepted) in [(&rows[..1_500], 1_500), (&rows[..], 4_000), (&rows[..], 4_000)] {
        place.write("ticks.csv", csv(rows));
        let report = place.publish("ticks.csv", &service, "--publisher me").end().succeeded();
        assert_eq!(report.json()["accepted"], accepted, "{report}");
        assert_eq!(report.json()["duplicate"], 0, "{report}");
    }
    service.stop();
    assert_eq!(place.hash("bars --data data"), place.hash("bars --file ticks.csv"));
    place.verified("bars", "data");
}
