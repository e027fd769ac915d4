//! A full disk: said, nothing more acknowledged, and what was acknowledged is there afterwards.

use std::path::PathBuf;
use std::process::Command;

use super::{DEFINITIONS, Place, csv, ticks};

/// A file system of its own, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(path: PathBuf, size: &str) -> Result<Self, String> {
        std::fs::create_dir(&path).map_err(|error| error.to_string())?;
        mount(&path, size).map(|()| Self(path))
    }

    fn grow(&self, size: &str) {
        mount(&self.0, &format!("{size},remount")).expect("what was mounted can be remounted");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(path: &PathBuf, size: &str) -> Result<(), String> {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path);
    let output = command.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

#[test]
fn a_full_disk_stops_acknowledgements_and_loses_none() {
    let place = Place::new(DEFINITIONS);
    let mounted = Mount::new(place.path("small"), "1m");
    let disk = match mounted {
        Ok(disk) => disk,
        Err(reason) => {
            eprintln!("ignored: a file system of one megabyte needs root: {reason}");
            return;
        }
    };
    let rows = 200_000;
    place.write("ticks.csv", csv(&ticks(81, rows, 20)));
    let hash = place.hash("bars --file ticks.csv");

    let service = place.serve("small/data");
    let failed = place.publish("ticks.csv", &service, "--rate 150000/s --no-reconnect").end();
    assert_eq!(failed.code, Some(1), "{failed}");
    assert!(failed.err.contains("No space left"), "the publisher is told why: {failed}");
    let report = failed.json();
    let durable = report["durable_through"].as_u64().expect("a count");
    assert!(durable > 0 && durable < rows as u64, "{report}");
    let status = place.status(&service);
    let failure = status["failure"].as_str().unwrap_or_default();
    assert!(failure.contains("No space left"), "status says so: {status}");
    let refused = place.publish("ticks.csv", &service, "").end();
    assert_eq!(refused.code, Some(1), "nothing more is accepted: {refused}");
    assert!(refused.err.contains("No space left"), "{refused}");
    let said = service.running.err_so_far();
    service.running.terminate();
    let ended = service.running.end();
    assert_ne!(ended.code, Some(0), "not everything is in history: {ended}");

    // An import that does not fit changes nothing.
    let held = place.run("scan all --data small/data --hash");
    place.refuse("import ticks.csv --stream trades --data small/data", &["No space left"]);
    assert_eq!(place.run("scan all --data small/data --hash").out, held.out, "{held}");

    disk.grow("300m");
    let service = place.serve("small/data");
    let accepted = place.status(&service)["streams"]["trades"]["accepted"].as_u64();
    assert!(accepted >= Some(durable), "{accepted:?} are left of {durable}");
    let resumed = place.publish("ticks.csv", &service, "").end().succeeded().json();
    assert_eq!(resumed["durable_through"], rows, "{resumed}");
    service.stop();
    assert_eq!(place.hash("bars --data small/data"), hash);
    place.verified("bars", "small/data");
    assert!(said.contains("No space left"), "the service says so when it happens: {said}");
}
