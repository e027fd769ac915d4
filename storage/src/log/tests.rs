mod faults;
mod repair;
#[cfg(target_os = "linux")]
mod ring;
mod versions;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use isotick_model::{LogPosition, RejectReason, Rejected};
use tempfile::TempDir;

use super::disk::Files;
use super::pack::{pack, unpack};
use super::segment::{BLOCK, Format, Walk};
use super::*;
use crate::error::Error;
use crate::files;
use crate::fixtures::{self, publisher, rows, schema};
use crate::folder::DataFolder;
use faults::Faults;

fn folder() -> (TempDir, DataFolder) {
    let dir = TempDir::new().unwrap();
    let folder = DataFolder::open_writer(dir.path(), "test").unwrap();
    (dir, folder)
}

/// A record of some kind, different for each ordinal.
fn record(ordinal: u64) -> LogRecord {
    let (stream, ts_recv_ns) = (format!("stream {}", ordinal % 3), -(ordinal as i64));
    match ordinal % 6 {
        3 => LogRecord::Joined { stream, publisher: publisher("joined"), ts_recv_ns },
        4 => LogRecord::Idle { stream, publisher: publisher("idle"), ts_recv_ns },
        5 => LogRecord::Lost { stream, publisher: publisher("lost"), through: ordinal, ts_recv_ns },
        _ => LogRecord::Ticks {
            stream,
            ticks: fixtures::ticks(&schema(&["symbol"]), "p", ordinal, ordinal % 20, ordinal),
            rejected: (0..ordinal % 11)
                .map(|n| Rejected {
                    sequence: u64::MAX - n * n,
                    reason: RejectReason::ALL[n as usize % 10],
                })
                .collect(),
            ts_recv_ns,
        },
    }
}

fn text(record: &LogRecord) -> String {
    match record {
        LogRecord::Ticks { stream, ticks, rejected, ts_recv_ns } => {
            format!("{stream} {:?} {:?} {rejected:?} {ts_recv_ns}", ticks.publishers, rows(ticks))
        }
        other => format!("{other:?}"),
    }
}

fn assert_holds(folder: &DataFolder, from: u64, end: u64) {
    let mut next = from;
    for entry in LogReader::from(folder, LogPosition(from)).unwrap() {
        let (position, found) = entry.unwrap();
        assert_eq!(position, LogPosition(next));
        assert_eq!(text(&found), text(&record(next)), "record {next}");
        next += 1;
    }
    assert_eq!(next, end);
}

fn append(writer: &mut LogWriter, range: std::ops::Range<u64>) {
    for ordinal in range {
        assert_eq!(writer.append(&record(ordinal)).unwrap(), LogPosition(ordinal));
    }
}

fn segment_path(folder: &DataFolder, first: u64) -> std::path::PathBuf {
    segment::path_of(&folder.log(), first)
}

/// Takes all of a log away.
fn empty(folder: &DataFolder) {
    for name in files::names_in(&Files, &folder.log()).unwrap() {
        fs::remove_file(folder.log().join(name)).unwrap();
    }
}

fn segments(folder: &DataFolder) -> Vec<u64> {
    recovery::list(&Files, &folder.log()).unwrap()
}

/// With segments of so many bytes, a block of which is the header.
fn open(folder: &DataFolder, segment_len_max: u64) -> (LogWriter, Recovery) {
    LogWriter::open_with(folder, Arc::new(Files), segment_len_max, LogPosition(0)).unwrap()
}

#[test]
fn records_come_back_over_segments_batches_and_reopening() {
    let (_dir, folder) = folder();
    let (mut writer, recovery) = open(&folder, 6_000);
    assert_eq!(recovery, Recovery { next: LogPosition(0), cut: None });
    append(&mut writer, 0..40);
    let batch: Vec<_> = (40..60).map(record).collect();
    assert_eq!(writer.append_batch(&batch).unwrap(), LogPosition(40));
    assert_eq!(writer.append_batch(&[]).unwrap(), LogPosition(60));
    drop(writer);
    let (mut writer, recovery) = open(&folder, 6_000);
    assert_eq!(recovery, Recovery { next: LogPosition(60), cut: None });
    append(&mut writer, 60..100);
    assert!(segments(&folder).len() > 3);
    for from in [0, 1, 39, 41, 59, 99, 100] {
        assert_holds(&folder, from, 100);
    }
}

/// Where the frames of a segment's bytes end, the header first.
fn ends(bytes: &[u8], first: u64) -> Vec<usize> {
    let mut walk = Walk::new(Format::V2 { first, prewritten: 0 }, bytes, first);
    let mut ends = vec![walk.offset];
    while walk.step().is_ok() {
        ends.push(walk.offset);
    }
    ends
}

#[test]
fn a_torn_end_is_cut_at_every_byte() {
    let (_dir, whole) = folder();
    let (mut writer, _) = LogWriter::open(&whole).unwrap();
    append(&mut writer, 0..6);
    let path = segment_path(&whole, 0);
    let bytes = fs::read(&path).unwrap();
    let ends = ends(&bytes, 0);
    assert_eq!((ends.len(), ends[6]), (7, bytes.len()));
    let (_dir, torn) = folder();
    let in_header = (0..BLOCK - 8).filter(|cut| *cut < 48 || cut % 97 == 0);
    for cut in in_header.chain(BLOCK - 8..=bytes.len()) {
        let garbage: &[&[u8]] = match cut % 11 {
            0 => &[&[], &[0; 50], b"what was on the disk before, and some more of the same"],
            _ => &[&[]],
        };
        for garbage in garbage {
            empty(&torn);
            let path = segment_path(&torn, 0);
            let content = [&bytes[..cut], garbage].concat();
            fs::write(&path, &content).unwrap();
            // Garbage may happen to be what was cut off.
            let right = content.iter().zip(&bytes).take_while(|(a, b)| a == b).count();
            let has_header = right >= 36;
            let opened =
                LogWriter::open_with(&torn, Arc::new(Faults::quick()), 1 << 20, LogPosition(0));
            let is_foreign = content.len() >= 24 && (right < 24 || content.len() >= 36);
            if !has_header && is_foreign && content[..24] != [0; 24] {
                // A header is in one sector, and sectors are written whole.
                assert!(matches!(opened, Err(Error::LogCorrupt { offset: 0, .. })), "{cut}");
                continue;
            }
            let (mut writer, recovery) = opened.unwrap();
            let whole = ends.iter().copied().enumerate().rfind(|(_, end)| *end <= right);
            let (last, end) = match has_header {
                true => whole.unwrap_or((0, BLOCK)),
                false => (0, 0),
            };
            assert_eq!(recovery.next, LogPosition(last as u64));
            let removed = content.len().saturating_sub(end) as u64;
            let expected =
                (removed > 0).then_some(Cut { path, offset: end as u64, bytes: removed });
            assert_eq!(recovery.cut, expected, "{cut}");
            assert_holds(&torn, 0, last as u64);
            append(&mut writer, last as u64..8);
            assert_holds(&torn, 0, 8);
        }
    }
}

#[test]
fn damage_of_what_was_durable_is_refused_with_file_and_offset() {
    let (_dir, folder) = folder();
    let path = segment_path(&folder, 0);
    let (mut writer, _) = LogWriter::open(&folder).unwrap();
    append(&mut writer, 0..2);
    let start = fs::metadata(&path).unwrap().len();
    append(&mut writer, 2..3);
    let end = fs::metadata(&path).unwrap().len();
    writer.syncer().sync().unwrap();
    append(&mut writer, 3..5);
    drop(writer);
    let bytes = fs::read(&path).unwrap();
    for at in start..end {
        let mut damaged = bytes.clone();
        damaged[at as usize] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let Err(error) = LogWriter::open(&folder) else { panic!("byte {at} is damaged") };
        assert!(matches!(&error, Error::LogCorrupt { offset, .. } if *offset == start), "{error}");
        assert!(error.to_string().contains("00000000000000000000.log is damaged at byte"));
        let mut reader = LogReader::from(&folder, LogPosition(0)).unwrap();
        let read: Vec<_> = reader.by_ref().take(3).collect();
        assert!(matches!(read.as_slice(), [Ok(_), Ok(_), Err(Error::LogCorrupt { offset, .. })]
            if *offset == start));
        assert!(matches!(reader.next(), Some(Err(Error::LogCorrupt { .. }))), "asked again");
        assert_eq!(fs::read(&path).unwrap(), damaged, "a damaged log is left as it is");
    }
    let mut headless = bytes.clone();
    headless[..BLOCK].fill(0);
    fs::write(&path, &headless).unwrap();
    assert!(matches!(LogWriter::open(&folder), Err(Error::LogCorrupt { offset: 0, .. })));
}

#[test]
fn what_no_later_frame_knew_to_be_durable_is_cut() {
    let (_dir, folder) = folder();
    let path = segment_path(&folder, 0);
    let (mut writer, _) = LogWriter::open(&folder).unwrap();
    append(&mut writer, 0..3);
    writer.syncer().sync().unwrap();
    append(&mut writer, 3..9);
    drop(writer);
    let bytes = fs::read(&path).unwrap();
    let ends = ends(&bytes, 0);
    // The power fails, and of the last six records the second never reached the disk.
    let mut left = bytes.clone();
    left[ends[4]..ends[5]].fill(0);
    fs::write(&path, &left).unwrap();
    assert_holds(&folder, 0, 4);
    // Whoever knows that it was durable is told of damage, and nothing is changed.
    let known = LogPosition(5);
    let opened = LogWriter::open_with_io(&folder, LogIo::Plain, known).map(|_| ());
    assert!(
        matches!(&opened, Err(Error::LogCorrupt { offset, .. }) if *offset == ends[4] as u64),
        "{opened:?}"
    );
    assert_eq!(fs::read(&path).unwrap(), left);
    let report = check::check(&folder, known).unwrap();
    let damage = report.damage.expect("a durable record is missing");
    assert_eq!((damage.position, damage.records_behind), (LogPosition(4), 4));
    assert_eq!(check::check(&folder, LogPosition(4)).unwrap().damage, None);
    let (mut writer, recovery) = LogWriter::open(&folder).unwrap();
    let bytes = (bytes.len() - ends[4]) as u64;
    let cut = Some(Cut { path, offset: ends[4] as u64, bytes });
    assert_eq!(recovery, Recovery { next: LogPosition(4), cut });
    append(&mut writer, 4..5);
    drop(writer);
    // What came after it is not found again behind new records.
    assert_eq!(LogWriter::open(&folder).unwrap().1.next, LogPosition(5));
    assert_holds(&folder, 0, 5);
}

#[test]
fn damage_in_an_earlier_segment_and_missing_segments_are_refused() {
    let (_dir, folder) = folder();
    let (mut writer, _) = open(&folder, 5_000);
    append(&mut writer, 0..60);
    let firsts = segments(&folder);
    let path = segment_path(&folder, firsts[1]);
    let bytes = fs::read(&path).unwrap();
    let last_error = |folder: &DataFolder| {
        let mut reader = LogReader::from(folder, LogPosition(0)).unwrap();
        reader.find_map(Result::err).expect("the log is not whole")
    };
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(last_error(&folder), Error::LogCorrupt { path: of, .. } if of == path));
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&path, damaged).unwrap();
    assert!(matches!(last_error(&folder), Error::LogCorrupt { path: of, .. } if of == path));
    fs::remove_file(&path).unwrap();
    assert!(matches!(last_error(&folder), Error::LogGap { position, .. } if position == firsts[1]));
    fs::remove_file(segment_path(&folder, 0)).unwrap();
    let gap = LogReader::from(&folder, LogPosition(0));
    assert!(matches!(gap, Err(Error::LogGap { position: 0, .. })));
}

#[test]
fn released_segments_are_gone_and_the_rest_reads_and_grows() {
    let (_dir, folder) = folder();
    let (mut writer, _) = open(&folder, 5_000);
    append(&mut writer, 0..60);
    let firsts = segments(&folder);
    assert_eq!(writer.first(), LogPosition(0));
    let mut behind = LogReader::from(&folder, LogPosition(0)).unwrap();
    assert_eq!(behind.next().unwrap().unwrap().0, LogPosition(0));
    // A record of the second segment is needed: the second segment stays.
    assert_eq!(writer.release(LogPosition(firsts[1] + 1)).unwrap(), 1);
    assert_eq!(writer.release(LogPosition(firsts[1] + 1)).unwrap(), 0);
    assert_eq!(writer.first(), LogPosition(firsts[1]));
    assert_holds(&folder, firsts[1], 60);
    let gone = LogReader::from(&folder, LogPosition(firsts[1] - 1));
    assert!(matches!(gone, Err(Error::LogGap { position, .. }) if position == firsts[1] - 1));
    // The reader has what it has read, and is told where it misses the rest.
    let position = behind.find_map(Result::err).expect("its segment is gone");
    assert!(matches!(position, Error::LogGap { .. }), "{position}");
    // The one that grows stays.
    assert_eq!(writer.release(LogPosition(60)).unwrap(), firsts.len() - 2);
    let last = *firsts.last().unwrap();
    assert_eq!(writer.first(), LogPosition(last));
    drop(writer);
    let (mut writer, recovery) = open(&folder, 5_000);
    assert_eq!(recovery, Recovery { next: LogPosition(60), cut: None });
    assert_eq!(writer.first(), LogPosition(last));
    append(&mut writer, 60..90);
    assert!(writer.bytes() > 0);
    assert_holds(&folder, last, 90);
}

#[test]
fn files_are_used_again_and_nothing_of_what_they_held_comes_back() {
    let (_dir, folder) = folder();
    let len = 20_000;
    let (mut writer, _) = open(&folder, len);
    writer.never_prepare();
    append(&mut writer, 0..10);
    spares::prepare(writer.shared(), len, &AtomicBool::new(false)).unwrap();
    let mut next = 10;
    let mut reader = LogReader::from(&folder, LogPosition(0)).unwrap();
    let mut gaps = 0;
    while next < 3_000 {
        append(&mut writer, next..next + 7);
        next += 7;
        if next % 5 == 0 {
            writer.syncer().sync().unwrap();
            writer.release(LogPosition(next - 3)).unwrap();
            assert_holds(&folder, writer.first().0, next);
            let names = files::names_in(&Files, &folder.log()).unwrap();
            assert!(names.len() <= 4, "{names:?}");
        }
        // A reader that falls behind is told so, and reads nothing else.
        if next % 11 == 0 {
            match reader.by_ref().take(40).find_map(Result::err) {
                None => {}
                Some(Error::LogGap { .. }) => {
                    gaps += 1;
                    reader = LogReader::from(&folder, writer.first()).unwrap();
                }
                Some(other) => panic!("{other}"),
            }
        }
    }
    assert!(gaps > 0);
    // One of the files was used over and over.
    let lens = segments(&folder)
        .into_iter()
        .map(|first| fs::metadata(segment_path(&folder, first)).unwrap().len());
    assert!(lens.chain([0]).any(|of| of == len) || !writer.shared().state().spares.is_empty());
    drop(writer);
    let (_, recovery) = open(&folder, len);
    assert_eq!(recovery, Recovery { next: LogPosition(next), cut: None });
    assert_eq!(files::names_in(&Files, &folder.log()).unwrap().len(), segments(&folder).len());
}

#[test]
fn a_spare_is_made_beside_the_work() {
    let (_dir, folder) = folder();
    let (mut writer, _) = open(&folder, 40_000);
    let mut next = 0;
    let began = std::time::Instant::now();
    while writer.shared().state().spares.is_empty() {
        assert!(began.elapsed().as_secs() < 20, "no spare is made");
        append(&mut writer, next..next + 1);
        next += 1;
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    append(&mut writer, next..next + 400);
    assert_holds(&folder, 0, next + 400);
    let lens = segments(&folder)
        .into_iter()
        .map(|first| fs::metadata(segment_path(&folder, first)).unwrap().len());
    assert!(lens.into_iter().any(|len| len == 40_000));
}

#[test]
fn a_reader_follows_a_writer() {
    let (_dir, folder) = folder();
    let (mut writer, _) = open(&folder, 8_000);
    let end = 600;
    let read_along = || {
        let mut reader = LogReader::from(&folder, LogPosition(0)).unwrap();
        let mut next = 0;
        while next < end {
            match reader.next() {
                Some(entry) => {
                    let (position, found) = entry.unwrap();
                    assert_eq!(position, LogPosition(next));
                    assert_eq!(text(&found), text(&record(next)));
                    next += 1;
                }
                None => std::thread::yield_now(),
            }
        }
    };
    std::thread::scope(|scope| {
        let readers = [scope.spawn(read_along), scope.spawn(read_along)];
        let syncer = writer.syncer();
        let durable = scope.spawn(move || while syncer.sync().unwrap() < LogPosition(end) {});
        append(&mut writer, 0..end);
        for reader in readers {
            reader.join().unwrap();
        }
        durable.join().unwrap();
    });
}

#[test]
fn records_are_found_wherever_a_chunk_ends() {
    let (_dir, folder) = folder();
    let (mut writer, _) = open(&folder, 64 << 20);
    let record = |position: u64| {
        // The longest takes more than one chunk of the reader.
        let rows = if position == 700 || position == 0 { 200_000 } else { 200 + position % 90 };
        LogRecord::Ticks {
            stream: "s".to_owned(),
            ticks: fixtures::ticks(&schema(&["symbol"]), "p", position, rows, position),
            rejected: Vec::new(),
            ts_recv_ns: 0,
        }
    };
    for position in 0..1_000 {
        writer.append(&record(position)).unwrap();
        if position % 100 == 0 {
            writer.syncer().sync().unwrap();
        }
    }
    assert!(writer.bytes() > 5 << 20);
    for from in [0, 1, 250, 699, 700, 701, 990, 1_000] {
        let mut next = from;
        for entry in LogReader::from(&folder, LogPosition(from)).unwrap() {
            let (position, found) = entry.unwrap();
            assert_eq!(position, LogPosition(next));
            assert_eq!(text(&found), text(&record(next)));
            next += 1;
        }
        assert_eq!(next, 1_000, "from {from}");
    }
}

#[test]
fn a_reader_before_the_first_record_waits() {
    let (_dir, folder) = folder();
    let mut reader = LogReader::from(&folder, LogPosition(2)).unwrap();
    assert!(reader.next().is_none());
    let (mut writer, _) = LogWriter::open(&folder).unwrap();
    assert!(reader.next().is_none());
    append(&mut writer, 0..2);
    assert!(reader.next().is_none());
    append(&mut writer, 2..3);
    assert_eq!(reader.next().unwrap().unwrap().0, LogPosition(2));
    assert!(reader.next().is_none());
}

#[test]
fn broken_payloads_are_errors_not_panics() {
    let mut bytes = Vec::new();
    codec::encode(&record(7), &mut bytes);
    for end in 0..bytes.len() {
        assert!(codec::decode(&bytes[..end]).is_err());
    }
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let _ = codec::decode(&damaged);
        }
    }
}

#[test]
fn a_typical_record_is_compact() {
    let mut ticks = fixtures::ticks(&schema(&["symbol"]), "p", 0, 4_096, 2);
    ticks.ts_event = (0..4_096).map(|row| 1_700_000_000_000_000_000 + row * 10_000).collect();
    ticks.values[0].values = (0..4_096).map(|row| 1_000_000 + row % 977).collect();
    ticks.values[1].values = (0..4_096).map(|row| row % 100).collect();
    ticks.values[1].nulls = None;
    let record =
        LogRecord::Ticks { stream: "t".into(), ticks, rejected: Vec::new(), ts_recv_ns: 0 };
    let mut bytes = Vec::new();
    codec::encode(&record, &mut bytes);
    // Key, price (two bytes), size; time and sequence rise evenly.
    assert!(bytes.len() < 4_096 * 4 + 300, "{}", bytes.len());
}

proptest::proptest! {
    #[test]
    fn packed_columns_come_back(
        values in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::num::i64::ANY,
                -300_i64..300,
                proptest::sample::select(vec![i64::MIN, i64::MIN + 1, 0, i64::MAX]),
            ],
            0..40,
        )
    ) {
        let mut bytes = Vec::new();
        pack(&values, |value| value, &mut bytes);
        let mut input = codec::Input::new(&bytes);
        proptest::prop_assert_eq!(unpack(&mut input, values.len()).unwrap(), values);
        proptest::prop_assert!(input.bytes(0).is_ok() && input.bytes(1).is_err());
    }
}
