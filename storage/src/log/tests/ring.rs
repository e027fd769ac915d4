//! The log past the page cache, where this machine allows it.

use std::time::Duration;

use super::super::uring::{Ring, UringFiles};
use super::*;

/// `None` where io_uring is barred; the tests have nothing to say then.
fn open_ring(folder: &DataFolder, len_max: u64) -> Option<(LogWriter, Recovery)> {
    if let Err(error) = Ring::new() {
        eprintln!("io_uring is barred here: {error}");
        return None;
    }
    match LogWriter::open_with(folder, Arc::new(UringFiles), len_max, LogPosition(0)) {
        Ok(opened) => Some(opened),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_is_durable_is_read_and_what_is_written_survives_the_process() {
    let (_dir, folder) = folder();
    let Some((mut writer, _)) = open_ring(&folder, 50_000) else { return };
    let mut next = 0;
    for round in 0..60 {
        append(&mut writer, next..next + 3 + round % 5);
        next += 3 + round % 5;
        if round % 3 == 0 {
            assert_eq!(writer.syncer().sync().unwrap(), LogPosition(next));
            assert_holds(&folder, 0, next);
        }
    }
    assert!(segments(&folder).len() > 2);
    append(&mut writer, next..next + 4);
    // As if killed: what is in the tail alone is recovered.
    drop(writer);
    let (mut writer, recovery) = open_ring(&folder, 50_000).unwrap();
    assert_eq!(recovery, Recovery { next: LogPosition(next + 4), cut: None });
    assert_holds(&folder, 0, next + 4);
    append(&mut writer, next + 4..next + 6);
    drop(writer);
    // And by a writer of the other kind.
    let (mut writer, recovery) = open(&folder, 50_000);
    assert_eq!(recovery, Recovery { next: LogPosition(next + 6), cut: None });
    append(&mut writer, next + 6..next + 9);
    assert_holds(&folder, 0, next + 9);
    drop(writer);
    let (mut writer, recovery) = open_ring(&folder, 50_000).unwrap();
    assert_eq!(recovery, Recovery { next: LogPosition(next + 9), cut: None });
    append(&mut writer, next + 9..next + 12);
    writer.syncer().sync().unwrap();
    assert_holds(&folder, 0, next + 12);
}

#[test]
fn commits_go_on_while_others_are_under_way() {
    let (_dir, folder) = folder();
    let Some((mut writer, _)) = open_ring(&folder, 1 << 20) else { return };
    let syncer = writer.syncer();
    let (mut next, mut durable) = (0, 0);
    while next < 2_000 {
        append(&mut writer, next..next + 10);
        next += 10;
        let (before, _) = syncer.advance(Duration::ZERO).unwrap();
        assert!(durable <= before.0 && before.0 <= next);
        durable = before.0;
    }
    while durable < next {
        let (before, more) = syncer.advance(Duration::from_millis(100)).unwrap();
        durable = before.0;
        assert_eq!(more, durable < next);
    }
    assert_holds(&folder, 0, next);
}

#[test]
fn a_record_longer_than_the_ring_is_written_too() {
    let (_dir, folder) = folder();
    let Some((mut writer, _)) = open_ring(&folder, 64 << 20) else { return };
    let ticks = |rows| LogRecord::Ticks {
        stream: "s".to_owned(),
        ticks: fixtures::ticks(&schema(&["symbol"]), "p", 0, rows, 5),
        rejected: Vec::new(),
        ts_recv_ns: 1,
    };
    for rows in [10, 300_000, 20_000, 10] {
        writer.append(&ticks(rows)).unwrap();
    }
    assert_eq!(writer.syncer().sync().unwrap(), LogPosition(4));
    drop(writer);
    let read = LogReader::from(&folder, LogPosition(0)).unwrap();
    let rows = read.map(|entry| match entry.unwrap().1 {
        LogRecord::Ticks { ticks, .. } => ticks.len() as u64,
        other => panic!("{other:?}"),
    });
    assert_eq!(rows.collect::<Vec<_>>(), [10, 300_000, 20_000, 10]);
}
