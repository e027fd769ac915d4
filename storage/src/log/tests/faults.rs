//! A disk that refuses.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::disk::{Disk, DiskFile};
use super::*;

/// A disk with room for so many bytes, that may also refuse to write, sync or cut.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    room: Arc<AtomicU64>,
    /// Writes and syncs of files that fail from now on.
    writes_fail: Arc<AtomicU64>,
    syncs_fail: Arc<AtomicU64>,
    cuts_fail: Arc<AtomicBool>,
    /// Says that it synced, and did not: for tests that open logs by the thousand.
    pretends: bool,
}

impl Faults {
    fn none() -> Self {
        let faults = Self::default();
        faults.room.store(u64::MAX, Ordering::SeqCst);
        faults
    }

    /// A disk that never fails and never waits.
    pub(super) fn quick() -> Self {
        Self { pretends: true, ..Self::none() }
    }
}

#[derive(Debug)]
struct Faulty {
    faults: Faults,
    file: Arc<dyn DiskFile>,
}

/// Whether this one fails.
fn fails(left: &AtomicU64) -> io::Result<()> {
    match left.load(Ordering::SeqCst) {
        0 => Ok(()),
        more => {
            left.store(more - 1, Ordering::SeqCst);
            Err(io::Error::other("the disk is gone"))
        }
    }
}

impl Disk for Faults {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(Faulty { faults: self.clone(), file: Files.open(path, create)? }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Files.open_to_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Files.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Files.remove(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        Files.list(folder)
    }

    fn is_folder(&self, path: &Path) -> bool {
        Files.is_folder(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        Files.create_folder(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        match self.pretends {
            true => Ok(()),
            false => Files.sync_folder(folder),
        }
    }
}

impl DiskFile for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        fails(&self.faults.writes_fail)?;
        let room = self.faults.room.load(Ordering::SeqCst);
        let taken = (bytes.len() as u64).min(room);
        self.faults.room.store(room - taken, Ordering::SeqCst);
        self.file.write_at(offset, &bytes[..taken as usize])?;
        match taken as usize == bytes.len() {
            true => Ok(()),
            false => Err(ErrorKind::StorageFull.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.faults.cuts_fail.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the disk is gone")),
            false => self.file.set_len(len),
        }
    }

    fn sync(&self) -> io::Result<()> {
        fails(&self.faults.syncs_fail)?;
        match self.faults.pretends {
            true => Ok(()),
            false => self.file.sync(),
        }
    }
}

fn open_faulty(folder: &DataFolder, faults: &Faults, len_max: u64) -> crate::Result<LogWriter> {
    let opened = LogWriter::open_with(folder, Arc::new(faults.clone()), len_max, LogPosition(0));
    opened.map(|(mut writer, _)| {
        writer.never_prepare();
        writer
    })
}

#[test]
fn a_full_disk_poisons_the_writer_and_harms_nothing() {
    let (_dir, folder) = folder();
    for cuts_fail in [false, true] {
        for segment_len_max in [5_500, u64::MAX] {
            for room in (1..3_000).step_by(61).map(|room| room + BLOCK as u64) {
                empty(&folder);
                let faults = Faults::quick();
                faults.room.store(room, Ordering::SeqCst);
                faults.cuts_fail.store(cuts_fail, Ordering::SeqCst);
                let mut next = 0;
                match open_faulty(&folder, &faults, segment_len_max) {
                    Ok(mut writer) => {
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
                let quick = Arc::new(Faults::quick());
                let (mut writer, recovery) =
                    LogWriter::open_with(&folder, quick, u64::MAX, LogPosition(0)).unwrap();
                assert_eq!(recovery.next, LogPosition(next));
                append(&mut writer, next..next + 3);
                assert_holds(&folder, 0, next + 3);
            }
        }
    }
}

#[test]
fn a_failed_write_retires_the_segment_and_the_record_counts() {
    let (_dir, folder) = folder();
    let faults = Faults::none();
    let mut writer = open_faulty(&folder, &faults, 1 << 20).unwrap();
    append(&mut writer, 0..4);
    assert_eq!(writer.syncer().sync().unwrap(), LogPosition(4));
    append(&mut writer, 4..6);
    faults.writes_fail.store(1, Ordering::SeqCst);
    append(&mut writer, 6..8);
    assert_eq!(writer.faults().retired_segments, 1);
    assert_eq!(segments(&folder), [0, 4]);
    assert_holds(&folder, 0, 8);
    assert_eq!(writer.syncer().sync().unwrap(), LogPosition(8));
    drop(writer);
    let (_, recovery) = LogWriter::open(&folder).unwrap();
    assert_eq!(recovery, Recovery { next: LogPosition(8), cut: None });
}

#[test]
fn a_sync_that_fails_for_good_ends_all_acknowledgement() {
    let (_dir, folder) = folder();
    let faults = Faults::none();
    let mut writer = open_faulty(&folder, &faults, 10_000).unwrap();
    let syncer = writer.syncer();
    assert_eq!(syncer.sync().unwrap(), LogPosition(0));
    append(&mut writer, 0..3);
    assert_eq!(syncer.sync().unwrap(), LogPosition(3));
    append(&mut writer, 3..5);
    faults.syncs_fail.store(u64::MAX, Ordering::SeqCst);
    assert!(matches!(syncer.sync(), Err(Error::Io { .. })));
    faults.syncs_fail.store(0, Ordering::SeqCst);
    assert!(matches!(syncer.sync(), Err(Error::LogPoisoned { .. })));
    assert!(matches!(writer.append(&record(5)), Err(Error::LogPoisoned { .. })));
    drop(writer);
    assert_holds(&folder, 0, 5);
}

#[test]
fn a_failed_sync_retires_the_segment_and_writes_again_what_was_not_durable() {
    for synced in [0, 3] {
        let (_dir, folder) = folder();
        let faults = Faults::none();
        let mut writer = open_faulty(&folder, &faults, 1 << 20).unwrap();
        let syncer = writer.syncer();
        append(&mut writer, 0..synced);
        syncer.sync().unwrap();
        append(&mut writer, synced..synced + 4);
        faults.syncs_fail.store(1, Ordering::SeqCst);
        // The new segment takes it, so whoever asked is not told of a failure.
        assert_eq!(syncer.sync().unwrap(), LogPosition(synced + 4));
        let seen = syncer.faults();
        assert_eq!(seen.retired_segments, 1);
        assert!(seen.last.unwrap().contains("the disk is gone"));
        let firsts = if synced == 0 { vec![0] } else { vec![0, synced] };
        assert_eq!(segments(&folder), firsts);
        // Whatever the old segment holds now of what was not durable does not count.
        if synced > 0 {
            let path = segment_path(&folder, 0);
            let mut bytes = fs::read(&path).unwrap();
            let end = ends(&bytes, 0)[synced as usize];
            bytes[end..].fill(0xEE);
            fs::write(&path, &bytes).unwrap();
        }
        append(&mut writer, synced + 4..synced + 9);
        assert_holds(&folder, 0, synced + 9);
        assert_eq!(syncer.sync().unwrap(), LogPosition(synced + 9));
        drop(writer);
        let (mut writer, recovery) = LogWriter::open(&folder).unwrap();
        let next = LogPosition(synced + 9);
        assert_eq!(recovery, Recovery { next, cut: None });
        append(&mut writer, synced + 9..synced + 10);
        assert_holds(&folder, 0, synced + 10);
    }
}

#[test]
fn a_reader_in_a_segment_that_is_given_up_goes_on_in_the_next() {
    let (_dir, folder) = folder();
    let faults = Faults::none();
    let mut writer = open_faulty(&folder, &faults, 1 << 20).unwrap();
    append(&mut writer, 0..3);
    writer.syncer().sync().unwrap();
    append(&mut writer, 3..7);
    let mut reader = LogReader::from(&folder, LogPosition(0)).unwrap();
    assert_eq!(reader.by_ref().take(6).filter(Result::is_ok).count(), 6);
    faults.syncs_fail.store(1, Ordering::SeqCst);
    writer.syncer().sync().unwrap();
    append(&mut writer, 7..9);
    let rest: Vec<_> = reader.map(|entry| entry.unwrap().0.0).collect();
    assert_eq!(rest, [6, 7, 8]);
}
