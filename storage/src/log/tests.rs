use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use isotick_model::{LogPosition, RejectReason, Rejected};
use tempfile::TempDir;

use super::pack::{pack, unpack};
use super::segment::{self, Segment, Segments};
use super::*;
use crate::error::Error;
use crate::fixtures::{self, publisher, rows, schema};
use crate::folder::DataFolder;

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

#[test]
fn records_come_back_over_segments_batches_and_reopening() {
    let (_dir, folder) = folder();
    let (mut writer, recovery) =
        LogWriter::open_with(&folder, Box::new(segment::Files), 2_000).unwrap();
    assert_eq!(recovery, Recovery { next: LogPosition(0), cut: None });
    append(&mut writer, 0..40);
    let batch: Vec<_> = (40..60).map(record).collect();
    assert_eq!(writer.append_batch(&batch).unwrap(), LogPosition(40));
    assert_eq!(writer.append_batch(&[]).unwrap(), LogPosition(60));
    drop(writer);
    let (mut writer, recovery) =
        LogWriter::open_with(&folder, Box::new(segment::Files), 2_000).unwrap();
    assert_eq!(recovery, Recovery { next: LogPosition(60), cut: None });
    append(&mut writer, 60..100);
    assert!(segment::list(&folder.log()).unwrap().len() > 3);
    for from in [0, 1, 39, 41, 59, 99, 100] {
        assert_holds(&folder, from, 100);
    }
}

#[test]
fn a_torn_end_is_cut_at_every_byte() {
    let (_dir, whole) = folder();
    let (mut writer, _) = LogWriter::open(&whole).unwrap();
    append(&mut writer, 0..6);
    let path = segment_path(&whole, 0);
    let bytes = fs::read(&path).unwrap();
    let mut ends = vec![segment::HEADER_LEN];
    for position in 0..6 {
        let start = *ends.last().unwrap();
        match segment::frame(&bytes[start..], position, false) {
            segment::Frame::Whole(payload) => ends.push(start + segment::FRAME_LEN + payload.len()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ends[6], bytes.len());
    for cut in 0..=bytes.len() {
        let garbage: &[&[u8]] = match cut % 11 {
            0 => &[&[], &[0; 50], b"what was on the disk before"],
            _ => &[&[]],
        };
        for garbage in garbage {
            let (_dir, torn) = folder();
            let path = segment_path(&torn, 0);
            let content = [&bytes[..cut], garbage].concat();
            fs::write(&path, &content).unwrap();
            // Garbage may happen to be what was cut off.
            let right = content.iter().zip(&bytes).take_while(|(a, b)| a == b).count();
            let (last, &end) =
                ends.iter().enumerate().rev().find(|(_, end)| **end <= right).unwrap_or((0, &0));
            if end == 0 && content.len() >= segment::HEADER_LEN {
                // A header is written and synced before the first frame: not a torn write.
                assert!(matches!(LogWriter::open(&torn), Err(Error::LogCorrupt { offset: 0, .. })));
                continue;
            }
            if end > 0 {
                assert_holds(&torn, 0, last as u64);
            }
            let (mut writer, recovery) = LogWriter::open(&torn).unwrap();
            assert_eq!(recovery.next, LogPosition(last as u64));
            let removed = (content.len() - end) as u64;
            let expected =
                (removed > 0).then_some(Cut { path, offset: end as u64, bytes: removed });
            assert_eq!(recovery.cut, expected);
            append(&mut writer, last as u64..8);
            assert_holds(&torn, 0, 8);
        }
    }
}

#[test]
fn damage_before_whole_frames_is_refused_with_file_and_offset() {
    let (_dir, folder) = folder();
    let (mut writer, _) = LogWriter::open(&folder).unwrap();
    append(&mut writer, 0..2);
    drop(writer);
    let path = segment_path(&folder, 0);
    let start = fs::metadata(&path).unwrap().len();
    let (mut writer, _) = LogWriter::open(&folder).unwrap();
    append(&mut writer, 2..3);
    let end = fs::metadata(&path).unwrap().len();
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
        let read: Vec<_> = LogReader::from(&folder, LogPosition(0)).unwrap().take(3).collect();
        assert!(matches!(read.as_slice(), [Ok(_), Ok(_), Err(Error::LogCorrupt { offset, .. })]
            if *offset == start));
        assert_eq!(fs::read(&path).unwrap(), damaged, "a damaged log is left as it is");
    }
}

#[test]
fn damage_in_an_earlier_segment_and_missing_segments_are_refused() {
    let (_dir, folder) = folder();
    let (mut writer, _) = LogWriter::open_with(&folder, Box::new(segment::Files), 1_000).unwrap();
    append(&mut writer, 0..60);
    let firsts = segment::list(&folder.log()).unwrap();
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
    let open = || LogWriter::open_with(&folder, Box::new(segment::Files), 1_000).unwrap();
    let (mut writer, _) = open();
    append(&mut writer, 0..60);
    let firsts = segment::list(&folder.log()).unwrap();
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
    let (mut writer, recovery) = open();
    assert_eq!(recovery, Recovery { next: LogPosition(60), cut: None });
    assert_eq!(writer.first(), LogPosition(last));
    append(&mut writer, 60..90);
    assert!(writer.bytes() > 0);
    assert_holds(&folder, last, 90);
}

/// A disk with room for so many more bytes, that may also refuse to sync or cut.
#[derive(Clone, Default)]
struct Faults {
    room: Arc<AtomicU64>,
    syncs_fail: Arc<AtomicBool>,
    cuts_fail: Arc<AtomicBool>,
}

struct Faulty {
    faults: Faults,
    file: Arc<dyn Segment>,
}

impl Segments for Faults {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Segment>> {
        Ok(Arc::new(Faulty { faults: self.clone(), file: segment::Files.open(path)? }))
    }
}

impl Segment for Faulty {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let room = self.faults.room.load(Ordering::SeqCst) as usize;
        let taken = bytes.len().min(room);
        self.faults.room.store((room - taken) as u64, Ordering::SeqCst);
        self.file.append(&bytes[..taken])?;
        match taken == bytes.len() {
            true => Ok(()),
            false => Err(ErrorKind::StorageFull.into()),
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        match self.faults.cuts_fail.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the disk is gone")),
            false => self.file.truncate(len),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self.faults.syncs_fail.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the disk is gone")),
            false => self.file.sync(),
        }
    }
}

#[test]
fn a_full_disk_poisons_the_writer_and_harms_nothing() {
    for cuts_fail in [false, true] {
        for segment_len_max in [1_500, u64::MAX] {
            for room in (1..3_000).step_by(61) {
                let (_dir, folder) = folder();
                let faults = Faults::default();
                faults.room.store(room, Ordering::SeqCst);
                faults.cuts_fail.store(cuts_fail, Ordering::SeqCst);
                let opened =
                    LogWriter::open_with(&folder, Box::new(faults.clone()), segment_len_max);
                let mut next = 0;
                match opened {
                    Ok((mut writer, _)) => {
                        let error = loop {
                            match writer.append(&record(next)) {
                                Ok(position) => next = position.0 + 1,
                                Err(error) => break error,
                            }
                        };
                        assert!(error.is_disk_full(), "{error}");
                        faults.room.store(u64::MAX, Ordering::SeqCst);
                        let again = writer.append(&record(next)).unwrap_err();
                        assert!(matches!(again, Error::LogPoisoned { .. }));
                        assert!(again.to_string().contains("free space"), "{again}");
                        assert!(matches!(writer.syncer().sync(), Err(Error::LogPoisoned { .. })));
                    }
                    Err(error) => assert!(error.is_disk_full(), "{error}"),
                }
                let (mut writer, recovery) = LogWriter::open(&folder).unwrap();
                assert_eq!(recovery.next, LogPosition(next));
                append(&mut writer, next..next + 3);
                assert_holds(&folder, 0, next + 3);
            }
        }
    }
}

#[test]
fn a_failed_sync_ends_all_acknowledgement() {
    let (_dir, folder) = folder();
    let faults = Faults::default();
    faults.room.store(u64::MAX, Ordering::SeqCst);
    let (mut writer, _) = LogWriter::open_with(&folder, Box::new(faults.clone()), 10_000).unwrap();
    let syncer = writer.syncer();
    assert_eq!(syncer.sync().unwrap(), LogPosition(0));
    append(&mut writer, 0..3);
    assert_eq!(syncer.sync().unwrap(), LogPosition(3));
    faults.syncs_fail.store(true, Ordering::SeqCst);
    assert!(matches!(syncer.sync(), Err(Error::Io { .. })));
    faults.syncs_fail.store(false, Ordering::SeqCst);
    assert!(matches!(syncer.sync(), Err(Error::LogPoisoned { .. })));
    assert!(matches!(writer.append(&record(3)), Err(Error::LogPoisoned { .. })));
}

#[test]
fn a_reader_follows_a_writer() {
    let (_dir, folder) = folder();
    let (mut writer, _) = LogWriter::open_with(&folder, Box::new(segment::Files), 4_000).unwrap();
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
