use std::fs;

use tempfile::TempDir;

use super::*;

#[test]
fn one_writer_at_a_time_and_readers_beside_it() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("new/data");
    let missing = DataFolder::open_reader(&path).unwrap_err();
    assert!(matches!(missing, Error::NotADataFolder { .. }));
    assert!(missing.to_string().contains("isotick import"), "{missing}");
    let writer = DataFolder::open_writer(&path, "isotick serve").unwrap();
    let clone = writer.clone();
    drop(writer);
    let error = DataFolder::open_writer(&path, "isotick import").unwrap_err();
    let expected = format!(
        "{} is in use by process {} (isotick serve); stop it or use another --data",
        path.display(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
    let reader = DataFolder::open_reader(&path).unwrap();
    assert_eq!(reader.definitions().unwrap(), None);
    clone.put_definitions("[stream.a]\n").unwrap();
    clone.put_definitions("[stream.b]\n").unwrap();
    assert_eq!(reader.definitions().unwrap().as_deref(), Some("[stream.b]\n"));
    drop(clone);
    DataFolder::open_writer(&path, "isotick import").unwrap();
}

#[cfg(unix)]
#[test]
fn another_process_is_named() {
    let dir = TempDir::new().unwrap();
    drop(DataFolder::open_writer(dir.path(), "test").unwrap());
    let lock = dir.path().join("isotick.lock");
    // flock(1) takes the same kind of lock.
    let child = std::process::Command::new("flock")
        .arg(&lock)
        .args(["sh", "-c", "echo; exec sleep 60"])
        .stdout(std::process::Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return };
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    fs::write(&lock, "4242\nisotick serve --data x\n").unwrap();
    let error = DataFolder::open_writer(dir.path(), "test");
    child.kill().unwrap();
    child.wait().unwrap();
    let text = error.unwrap_err().to_string();
    assert!(text.contains("in use by process 4242 (isotick serve --data x)"), "{text}");
}

#[test]
fn folders_of_others_and_newer_ones_are_refused() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("stream=trades")).unwrap();
    let error = DataFolder::open_writer(dir.path(), "test").unwrap_err();
    assert!(error.to_string().contains("holds stream=trades"), "{error}");

    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("notes.txt"), "").unwrap();
    drop(DataFolder::open_writer(dir.path(), "test").unwrap());
    fs::write(dir.path().join("format"), "format = 3\n").unwrap();
    for opened in [DataFolder::open_writer(dir.path(), "t"), DataFolder::open_reader(dir.path())] {
        assert!(matches!(opened, Err(Error::Newer { found: 3, .. })));
    }
    fs::write(dir.path().join("format"), "?").unwrap();
    assert!(matches!(DataFolder::open_reader(dir.path()), Err(Error::Damaged { .. })));
}

#[test]
fn paths_that_cannot_be_folders_are_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = DataFolder::open_writer(&path, "test").unwrap_err();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
    assert!(matches!(DataFolder::open_reader(&file), Err(Error::NotADataFolder { .. })));
}

#[test]
fn names_as_path_components_never_meet() {
    use crate::files::path_component;
    assert_eq!(path_component("trades_1-a.b"), "trades_1-a.b");
    assert_eq!(path_component("../é %"), "%2E.%2F%C3%A9%20%25");
    assert_eq!(path_component("."), "%2E");
}
