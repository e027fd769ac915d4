//! Folders of earlier releases: read whole, checked, gone on with.

use std::fs;
use std::path::Path;

use super::{Place, csv, ticks};

/// What the release that wrote it said of `bars`.
const FOLDER_1: &str = "f288b86305fd5a9555fdc426113fa8a2c922a605abd39ab5d2751850e96d9094";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("readable").path();
        let to = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, &to).expect("writable")),
        }
    }
}

fn fixture(name: &str) -> Place {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let definitions = fs::read_to_string(folder.join("definitions.toml")).expect("there");
    let place = Place::new(&definitions);
    copy(&folder, &place.path("data"));
    place
}

#[test]
fn a_folder_of_the_first_format_is_read_and_gone_on_with() {
    let place = fixture("folder-1");
    let checked = place.ok("fsck --data data --json").json();
    for (what, count) in
        [("ticks", 60), ("history_files", 2), ("windows", 11), ("checkpoints", 2), ("covered", 3)]
    {
        assert_eq!(checked[what], count, "{what}: {checked}");
    }
    assert_eq!(place.hash("bars --data data"), FOLDER_1);
    assert_eq!(place.verified("bars", "data")["windows"], 11);
    // The same import is known.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/imported.csv");
    fs::copy(file, place.path("imported.csv")).expect("writable");
    let again = place.ok("import imported.csv --stream trades --data data --json").json();
    assert_eq!(again["files"][0]["held"], 15, "{again}");

    // A start takes the checkpoint and the log behind it; what comes then is right.
    let service = place.serve("data");
    let status = place.status(&service);
    assert_eq!(status["streams"]["trades"]["accepted"], 53, "{status}");
    place.write("more.csv", csv(&ticks(81, 3_000, 20)));
    place.publish("more.csv", &service, "").end().succeeded();
    service.stop();
    assert_eq!(place.ok("fsck --data data --json").json()["ticks"], 3_068);
    place.verified("bars", "data");
    let before = place.ok("compact --data data --json").json();
    assert_eq!(before["streams"]["trades"]["after"]["rows"], 3_068, "{before}");
    place.verified("bars", "data");
}
