//! Checking and repairing a log.

use super::super::check::{LogReport, check};
use super::super::repair::{LogRepair, plan, repair};
use super::*;

/// A log of several segments, synced throughout; where each segment starts.
fn several(folder: &DataFolder) -> Vec<u64> {
    let (mut writer, _) = open(folder, 8_000);
    writer.never_prepare();
    for first in (0..60).step_by(5) {
        append(&mut writer, first..first + 5);
        writer.syncer().sync().unwrap();
    }
    segments(folder)
}

fn damage(folder: &DataFolder, first: u64, at: impl FnOnce(&[u8]) -> usize) {
    let path = segment_path(folder, first);
    let mut bytes = fs::read(&path).unwrap();
    let at = at(&bytes);
    bytes[at] ^= 0x40;
    fs::write(&path, bytes).unwrap();
}

/// In the third frame of a segment.
fn third(first: u64) -> impl FnOnce(&[u8]) -> usize {
    move |bytes| ends(bytes, first)[2] + 30
}

fn ticks_in(range: std::ops::Range<u64>) -> u64 {
    range.map(|ordinal| super::super::check::ticks_of(&record(ordinal))).sum()
}

fn found(report: &LogReport) -> (u64, u64) {
    let damage = report.damage.as_ref().expect("the log is damaged");
    (damage.position.0, damage.records_behind)
}

#[test]
fn a_whole_log_is_described() {
    let (_dir, folder) = folder();
    let firsts = several(&folder);
    let report = check(&folder, LogPosition(0)).unwrap();
    assert_eq!((report.end, &report.torn, &report.damage), (LogPosition(60), &None, &None));
    let starts: Vec<_> = report.segments.iter().map(|segment| segment.first.0).collect();
    assert_eq!(starts, firsts);
    let ticks: u64 = report.segments.iter().map(|segment| segment.ticks).sum();
    assert_eq!(ticks, ticks_in(0..60));
    assert!(report.segments.iter().all(|segment| segment.version == Some(2)));
    let path = segment_path(&folder, *firsts.last().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 3);
    fs::write(&path, bytes).unwrap();
    let torn = check(&folder, LogPosition(0)).unwrap();
    assert_eq!((torn.end, &torn.damage), (LogPosition(59), &None));
    let (_, recovery) = open(&folder, 8_000);
    assert_eq!(torn.torn, recovery.cut);
    assert!(torn.torn.is_some());
}

#[test]
fn a_damaged_log_is_cut_and_goes_on() {
    let (_dir, folder) = folder();
    let firsts = several(&folder);
    let first = firsts[1];
    damage(&folder, first, third(first));
    let report = check(&folder, LogPosition(0)).unwrap();
    assert_eq!(found(&report), (first + 2, 60 - first - 3));
    let damage = report.damage.as_ref().unwrap();
    assert_eq!(damage.ticks_behind, ticks_in(first + 3..60));
    assert_eq!(damage.end_behind, LogPosition(60));
    let covered = LogPosition(first + 2);
    let way = plan(damage, LogPosition(0), covered).unwrap();
    assert_eq!(way, LogRepair::Cut);
    let before = fs::read(&damage.path).unwrap();
    let kept = repair(&folder, &report, &way).unwrap();
    assert_eq!(kept.len(), firsts.len() - 1);
    let tail = fs::read(kept.last().unwrap()).unwrap();
    assert!(before[damage.offset as usize..].starts_with(&tail) && tail.len() > 30);
    let whole = check(&folder, LogPosition(0)).unwrap();
    assert_eq!((whole.end, whole.damage), (LogPosition(first + 2), None));
    let (mut writer, recovery) = open(&folder, 8_000);
    assert_eq!(recovery, Recovery { next: LogPosition(first + 2), cut: None });
    append(&mut writer, first + 2..first + 20);
    assert_holds(&folder, 0, first + 20);
}

#[test]
fn damage_before_what_a_start_needs_costs_nothing() {
    for (ahead, in_same) in [(1, false), (4, true)] {
        let (_dir, folder) = folder();
        let firsts = several(&folder);
        let first = firsts[1];
        damage(&folder, first, third(first));
        let report = check(&folder, LogPosition(0)).unwrap();
        let needed = if in_same { first + ahead } else { firsts[2] + ahead };
        let damage = report.damage.as_ref().unwrap();
        let way = plan(damage, LogPosition(needed), LogPosition(58)).unwrap();
        assert_eq!(way, LogRepair::Forget { before: LogPosition(needed) });
        let kept = repair(&folder, &report, &way).unwrap();
        assert!(kept.len() >= 2);
        assert_holds(&folder, needed, 60);
        let (mut writer, recovery) = open(&folder, 8_000);
        assert_eq!(recovery, Recovery { next: LogPosition(60), cut: None });
        assert_eq!(writer.first(), LogPosition(needed));
        append(&mut writer, 60..70);
        assert_holds(&folder, needed, 70);
        assert_eq!(check(&folder, LogPosition(0)).unwrap().damage, None);
    }
}

#[test]
fn what_a_start_needs_is_not_given_up_where_history_goes_on() {
    let (_dir, folder) = folder();
    let firsts = several(&folder);
    damage(&folder, firsts[1], third(firsts[1]));
    let report = check(&folder, LogPosition(0)).unwrap();
    let refused = plan(report.damage.as_ref().unwrap(), LogPosition(0), LogPosition(50));
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("restore the file from a copy"), "{text}");
}

#[test]
fn a_damaged_header_and_missing_segments_are_found_and_repaired() {
    let (_dir, folder) = folder();
    let firsts = several(&folder);
    damage(&folder, firsts[2], |_| 3);
    let report = check(&folder, LogPosition(0)).unwrap();
    assert_eq!(found(&report), (firsts[2], 60 - firsts[2]));
    let way = plan(report.damage.as_ref().unwrap(), LogPosition(0), LogPosition(0)).unwrap();
    repair(&folder, &report, &way).unwrap();
    let (mut writer, recovery) = open(&folder, 8_000);
    assert_eq!(recovery, Recovery { next: LogPosition(firsts[2]), cut: None });
    append(&mut writer, firsts[2]..60);
    assert_holds(&folder, 0, 60);
    drop(writer);
    fs::remove_file(segment_path(&folder, firsts[1])).unwrap();
    let report = check(&folder, LogPosition(0)).unwrap();
    assert_eq!(found(&report).0, firsts[1]);
    assert!(report.damage.as_ref().unwrap().what.contains("missing"));
    let way = plan(report.damage.as_ref().unwrap(), LogPosition(0), LogPosition(0)).unwrap();
    repair(&folder, &report, &way).unwrap();
    assert_eq!(open(&folder, 8_000).1.next, LogPosition(firsts[1]));
    assert_holds(&folder, 0, firsts[1]);
}

#[test]
fn a_damaged_log_of_version_1_is_repaired() {
    let (_dir, folder) = folder();
    let mut bytes = versions::version_1();
    bytes[100] ^= 1;
    fs::write(segment_path(&folder, 0), &bytes).unwrap();
    let report = check(&folder, LogPosition(0)).unwrap();
    let (position, behind) = found(&report);
    assert_eq!(position + 1 + behind, 6);
    let way = plan(report.damage.as_ref().unwrap(), LogPosition(0), LogPosition(0)).unwrap();
    repair(&folder, &report, &way).unwrap();
    let (mut writer, recovery) = open(&folder, 8_000);
    assert_eq!(recovery.next.0, position);
    append(&mut writer, position..9);
    assert_holds(&folder, 0, 9);
}
