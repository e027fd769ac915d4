use super::*;
use crate::adapters::AdapterKind;
use crate::engine::Settings;

fn open(calibrate: Calibrate) -> GpuEngine {
    let choice = crate::tests::choice();
    GpuEngine::open_with(Settings { choice, calibrate, ..Default::default() }).unwrap()
}

#[test]
fn a_measurement_is_made_once_and_read_again() {
    if crate::tests::engine().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let nested = folder.path().join("isotick");
    let begin = Instant::now();
    let first = open(Calibrate::Cached(nested.clone())).calibration();
    let took = begin.elapsed();
    assert_eq!(first.origin, Origin::Measured);
    let base = first.ns_per_row[&Variant::BASE];
    assert!(base.iter().all(|cost| cost.unwrap() > 0.0), "{base:?}");
    for (variant, costs) in &first.ns_per_row {
        println!("{variant}: {costs:.1?}");
    }
    println!("opened in {took:?}, chose {:?}", first.chosen.map(|variant| variant.to_string()));

    let second = open(Calibrate::Cached(nested.clone())).calibration();
    assert_eq!(second.origin, Origin::Cached);
    assert_eq!((second.ns_per_row, second.chosen), (first.ns_per_row, first.chosen));
    println!("partition: {:.2?} ns a row", first.partition_ns_per_row);
    assert!(first.partition_ns_per_row.is_some_and(|ns| ns > 0.0));
    assert_eq!(second.partition_ns_per_row, first.partition_ns_per_row);

    // A file that is not whole is measured again and replaced.
    let files: Vec<_> = fs::read_dir(&nested).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    fs::write(&files[0], "{ \"ns_per_row\": {").unwrap();
    assert_eq!(open(Calibrate::Cached(nested.clone())).calibration().origin, Origin::Measured);
    assert_eq!(open(Calibrate::Cached(nested)).calibration().origin, Origin::Cached);
}

#[test]
fn a_folder_that_cannot_be_written_changes_nothing_else() {
    if crate::tests::engine().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    fs::write(&blocked, "").unwrap();
    let engine = open(Calibrate::Cached(blocked.join("below")));
    assert_eq!(engine.calibration().origin, Origin::Measured);
    assert_eq!(open(Calibrate::Off).calibration().origin, Origin::Assumed);
}

#[test]
fn only_a_whole_table_is_read() {
    let base = Variant::BASE;
    let parsed = parse(&format!("{{\"ns_per_row\": {{\"{base}\": [1.5, null, 2]}}}}")).unwrap();
    assert_eq!(parsed.ns_per_row[&base], [Some(1.5), None, Some(2.0)]);
    for text in ["", "{}", "{\"ns_per_row\": {}}", "{\"ns_per_row\": {\"segment/frame/limbs\": 1}}"]
    {
        assert_eq!(parse(text), None, "{text}");
    }
}

#[test]
fn a_new_driver_is_measured_anew() {
    let old = crate::adapters::tests::info("card", AdapterKind::Discrete, "");
    let mut new = old.clone();
    assert_eq!(identity(&old), identity(&new));
    new.driver = "test 2".into();
    assert_ne!(identity(&old), identity(&new));
}

#[cfg(target_os = "linux")]
#[test]
fn the_folder_follows_the_environment() {
    let of = |variables: &[(&str, &str)]| {
        Calibrate::of_environment(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    };
    let cached = |path: &str| Calibrate::Cached(path.into());
    assert_eq!(of(&[]), Calibrate::Always);
    assert_eq!(of(&[("HOME", "/home/a")]), cached("/home/a/.cache/isotick"));
    let both = [("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c")];
    assert_eq!(of(&both), cached("/c/isotick"));
    assert_eq!(
        of(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "c")]),
        cached("/home/a/.cache/isotick")
    );
    assert_eq!(of(&[("HOME", "/home/a"), (Calibrate::VARIABLE, "off")]), Calibrate::Off);
    assert_eq!(of(&[("HOME", "/home/a"), (Calibrate::VARIABLE, "/x")]), cached("/x"));
    assert_eq!(
        of(&[("HOME", "/home/a"), (Calibrate::VARIABLE, "")]),
        cached("/home/a/.cache/isotick")
    );
}
