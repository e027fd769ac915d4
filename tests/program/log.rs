//! A damaged log: refused, described, repaired.

use std::fs;
use std::path::PathBuf;

use super::{DEFINITIONS, Place, csv, ticks};

fn first_segment(place: &Place) -> PathBuf {
    let names = fs::read_dir(place.path("data/log")).expect("a log");
    let paths = names.map(|entry| entry.expect("readable").path());
    let mut segments: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    segments.sort();
    segments.swap_remove(0)
}

/// Flips a bit of the first record.
fn damage(place: &Place) {
    let path = first_segment(place);
    let mut bytes = fs::read(&path).expect("a segment");
    bytes[4_096 + 24 + 5] ^= 4;
    fs::write(&path, bytes).expect("writable");
}

fn publish(place: &Place, name: &str, seed: u64) {
    place.write(name, csv(&ticks(seed, 20_000, 20)));
    let service = place.serve("data");
    place.refuse("log repair --data data --yes", &["in use by process", "isotick serve"]);
    place.publish(name, &service, "").end().succeeded();
    let whole = place.ok("log check --data data --json").json();
    assert!(whole["damage"].is_null(), "{whole}");
    service.stop();
}

#[test]
fn damage_before_the_last_checkpoint_costs_nothing() {
    let place = Place::new(DEFINITIONS);
    publish(&place, "one.csv", 71);
    let whole = place.ok("log check --data data");
    assert!(whole.out.contains("whole: it ends before record"), "{whole}");
    let ticks = place.ticks("data");
    damage(&place);
    let words = ["is damaged at byte 4096", "isotick log check", "isotick log repair"];
    place.refuse("serve --data data --listen 127.0.0.1:0", &words);
    let checked = place.run("log check --data data --json");
    assert_eq!(checked.code, Some(1), "{checked}");
    let found = checked.json();
    assert_eq!(
        (&found["damage"]["offset"], &found["damage"]["position"]),
        (&4096.into(), &0.into())
    );
    assert!(found["damage"]["records_behind"].as_u64() > Some(2), "{found}");
    let before = fs::read(first_segment(&place)).expect("a segment");
    let asked = place.run("log repair --data data");
    assert_eq!(asked.code, Some(1), "{asked}");
    assert!(asked.out.contains("loses nothing") && asked.out.contains("--yes"), "{asked}");
    assert_eq!(fs::read(first_segment(&place)).expect("a segment"), before);
    let repaired = place.ok("log repair --data data --yes");
    assert!(repaired.out.contains("kept in") && repaired.out.contains("repaired"), "{repaired}");
    place.ok("log check --data data");
    assert!(place.ok("log repair --data data").out.contains("nothing to repair"));
    assert_eq!(place.ticks("data"), ticks);
    publish(&place, "two.csv", 72);
    assert_eq!(place.ticks("data"), ticks + 20_000);
    place.verified("bars", "data");
}
