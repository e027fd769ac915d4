//! Scans of a service on a GPU that read the same history again.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{DEFINITIONS, Place, SECOND_NS, START_NS, Service, csv, ticks};
use crate::gpu;

const MORE: &str = r#"
[view.minutes]
stream     = "trades"
window     = { tumbling = "1m" }
aggregates = ["high = max(price)", "trades = count()"]
"#;

/// What stays, once the status shows as much as is wanted of it: it is made now and then only.
fn resident(place: &Place, service: &Service, is_shown: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let shown = place.status(service)["lanes"]["resident"][0].clone();
        if !shown.is_null() && is_shown(&shown) {
            return shown;
        }
        assert!(Instant::now() < until, "{shown}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn count(shown: &Value, name: &str) -> u64 {
    shown[name].as_u64().expect("a count")
}

/// Another job over the same files neither reads nor moves what is there, and gives the same hash;
/// what comes since then is read, and within the budget.
#[test]
fn a_second_job_reads_nothing_and_gives_the_same() {
    if !gpu::available() {
        return;
    }
    let place = Place::new(&format!("{DEFINITIONS}{MORE}"));
    let all = ticks(11, 90_000, 200);
    place.write("early.csv", csv(&all[..60_000]));
    place.write("late.csv", csv(&all[60_000..]));
    place.ok("import early.csv --stream trades --data data");
    let service = place.serve_with("data", "--listen 127.0.0.1:0 --device-memory-max 64MiB");
    let at = service.address.clone();
    // Two ranges that hold everything, so that they are two jobs.
    let whole = |range: i64| {
        let to = START_NS + range * 1_000_000 * SECOND_NS;
        format!("bars --to {to} --engine gpu --at {at}")
    };
    let first = place.hash(&whole(1));
    let before = resident(&place, &service, |shown| count(shown, "misses") > 0);
    assert!(count(&before, "bytes_read") > 0 && count(&before, "device_bytes") > 0, "{before}");
    assert_eq!(before["device_bytes_max"], 64 << 20);

    assert_eq!(place.hash(&whole(2)), first);
    let after = resident(&place, &service, |shown| count(shown, "hits") > count(&before, "hits"));
    assert_eq!(after["bytes_read"], before["bytes_read"], "no file was read");
    assert_eq!(after["uploaded_bytes"], before["uploaded_bytes"], "nothing was moved");
    // Another view needs less of the same rows.
    let minutes = place.hash(&format!("minutes --engine gpu --at {at}"));
    let other = resident(&place, &service, |shown| count(shown, "hits") > count(&after, "hits"));
    assert_eq!(other["bytes_read"], before["bytes_read"]);

    place.publish("late.csv", &service, "").end().succeeded();
    let with_late = place.hash(&whole(3));
    let is_read = |shown: &Value| count(shown, "bytes_read") > count(&before, "bytes_read");
    let read = resident(&place, &service, is_read);
    assert!(count(&read, "bytes") <= count(&read, "bytes_max"), "{read}");
    assert!(count(&read, "device_bytes") <= count(&read, "device_bytes_max"), "{read}");
    service.stop();

    // The same by the CPU, of the folder as it is now and as it was.
    assert_ne!(with_late, first);
    assert_eq!(place.hash("bars --data data --engine cpu"), with_late);
    place.ok("import early.csv --stream trades --data early");
    assert_eq!(place.hash("bars --data early --engine cpu"), first);
    assert_eq!(place.hash("minutes --data early --engine cpu"), minutes);
}
