//! Appending.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use isotick_model::LogPosition;

use super::commits::{Commits, Tails};
use super::disk::Disk;
use super::recovery::{self, Recovery};
use super::segment::{self, BLOCK};
use super::spares::Preparing;
use super::state::{LogFaults, Shared, State};
use super::{LogRecord, codec};
use crate::error::{Error, Result};
use crate::folder::DataFolder;

/// A segment is closed before it grows past this many bytes (one batch may be longer).
const SEGMENT_LEN_MAX: u64 = 64 << 20;
/// What is written and not durable is kept in memory up to this many bytes; then appending waits
/// for a sync.
const PENDING_BYTES_MAX: usize = 32 << 20;

/// How segments are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogIo {
    /// What measures best where one commit follows another: [`Plain`](Self::Plain).
    #[default]
    Auto,
    /// Through the page cache, synced by whoever asks.
    Plain,
    /// Past the page cache by io_uring, several commits at a time.
    Uring,
}

impl FromStr for LogIo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            "uring" => Ok(Self::Uring),
            _ => Err(format!("`{text}` is none of auto, uring, plain")),
        }
    }
}

impl fmt::Display for LogIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Plain => "plain",
            Self::Uring => "uring",
        })
    }
}

/// The only appender of a data folder's log.
///
/// When [`append`](Self::append) returns, the record was handed to the operating system: it is
/// *written* and survives the process, not a power failure. [`LogSyncer::sync`] makes it
/// *durable*. Where a write or sync fails, the segment is given up, and what was not durable is
/// written to a new one before anything is acknowledged again ([`faults`](Self::faults) counts
/// it). When that fails as well, nothing is acknowledged any more: every call returns
/// [`Error::LogPoisoned`](crate::Error::LogPoisoned) until the log is opened again.
pub struct LogWriter {
    shared: Arc<Shared>,
    segment_len_max: u64,
    next: u64,
    /// Bytes of frames appended since the log was opened.
    bytes: u64,
    preparing: Preparing,
    /// Keeps the folder's lock.
    _lock: Option<DataFolder>,
}

impl LogWriter {
    /// As [`open_with_io`](Self::open_with_io), through the page cache.
    ///
    /// # Errors and panics
    ///
    /// The same.
    pub fn open(folder: &DataFolder) -> Result<(Self, Recovery)> {
        Self::open_with_io(folder, LogIo::Plain, LogPosition(0))
    }

    /// Opens the log for appending and cuts a torn end off the last segment. Earlier segments
    /// were synced before the next was begun; they are checked when they are read. What is before
    /// position `durable` is known to be durable from elsewhere: it is never taken for a torn end.
    ///
    /// # Errors
    ///
    /// [`Error::LogCorrupt`](crate::Error::LogCorrupt) when a frame that was durable cannot be
    /// read, [`Error::Newer`](crate::Error::Newer), [`Error::Io`](crate::Error::Io).
    ///
    /// # Panics
    ///
    /// If the folder was opened for reading.
    pub fn open_with_io(
        folder: &DataFolder,
        io: LogIo,
        durable: LogPosition,
    ) -> Result<(Self, Recovery)> {
        let disk: Arc<dyn Disk> = match io {
            LogIo::Auto | LogIo::Plain => folder.disk().clone(),
            #[cfg(target_os = "linux")]
            LogIo::Uring => Arc::new(super::uring::UringFiles),
            #[cfg(not(target_os = "linux"))]
            LogIo::Uring => {
                let source = std::io::ErrorKind::Unsupported.into();
                return Err(Error::io("use io_uring for", &folder.log())(source));
            }
        };
        Self::open_with(folder, disk, SEGMENT_LEN_MAX, durable)
    }

    pub(crate) fn open_with(
        folder: &DataFolder,
        disk: Arc<dyn Disk>,
        segment_len_max: u64,
        durable: LogPosition,
    ) -> Result<(Self, Recovery)> {
        folder.assert_writer();
        let (mut writer, recovery) = Self::open_at(&folder.log(), disk, segment_len_max, durable)?;
        writer._lock = Some(folder.clone());
        Ok((writer, recovery))
    }

    /// Opens the log in a folder of any disk; the caller sees to it that nobody else does.
    pub(super) fn open_at(
        folder: &std::path::Path,
        disk: Arc<dyn Disk>,
        segment_len_max: u64,
        durable: LogPosition,
    ) -> Result<(Self, Recovery)> {
        let (mut state, cut) = recovery::recover(&*disk, folder, durable.0)?;
        let next = state.next;
        let direct = disk.direct().map_err(Error::io("use io_uring (see --log-io) for", folder))?;
        if direct.is_some() {
            state.tails = Some(Tails::create(&*disk, folder, segment_len_max / 16)?);
        }
        let commits = direct.map(Commits::new);
        let shared = Arc::new(Shared::new(disk, folder.to_path_buf(), state, commits));
        let writer = Self {
            shared,
            segment_len_max,
            next,
            bytes: 0,
            preparing: Preparing::default(),
            _lock: None,
        };
        Ok((writer, Recovery { next: LogPosition(next), cut }))
    }

    /// How it writes, for people.
    pub fn io(&self) -> &'static str {
        match self.shared.state().tails {
            Some(_) => "io_uring, past the page cache",
            None => "page cache, synced",
        }
    }

    /// The position of the next record.
    pub fn next(&self) -> LogPosition {
        LogPosition(self.next)
    }

    /// The position of the first record that is kept; [`next`](Self::next) when there is none.
    pub fn first(&self) -> LogPosition {
        LogPosition(*self.shared.state().firsts.front().expect("the segment that grows"))
    }

    /// How many bytes were appended since the log was opened.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the disk refused since the log was opened.
    pub fn faults(&self) -> LogFaults {
        self.shared.faults()
    }

    /// Gives up the segments whose records all lie before a position, the oldest first; the one
    /// that grows stays. Returns how many went. Some files are kept for later segments. A
    /// [`LogReader`](super::LogReader) that is still among them is told so with
    /// [`Error::LogGap`](crate::Error::LogGap).
    ///
    /// The caller promises that nobody needs these records: what they brought is durable
    /// elsewhere. Cost: renaming, and a sync of the folder where anything went.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io); the log is whole then, and what was not given up stays.
    pub fn release(&mut self, before: LogPosition) -> Result<usize> {
        self.shared.release(before.0, self.segment_len_max)
    }

    /// Appends a record: one write to the operating system. Returns its position.
    ///
    /// # Errors
    ///
    /// As for [`append_batch`](Self::append_batch).
    ///
    /// # Panics
    ///
    /// If a tick record has not exactly one publisher, columns of different lengths, or more than
    /// 2^24 rows.
    pub fn append(&mut self, record: &LogRecord) -> Result<LogPosition> {
        self.append_batch(std::slice::from_ref(record))
    }

    /// Appends records in order: one write for all of them. Returns the position of the first.
    /// Waits for a sync when a segment is full, and when too much is not durable yet.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) when neither this segment nor a new one takes them (none
    /// of the batch counts, and the writer is poisoned),
    /// [`Error::LogPoisoned`](crate::Error::LogPoisoned) after that,
    /// [`Error::RecordTooLong`](crate::Error::RecordTooLong) (nothing is written).
    ///
    /// # Panics
    ///
    /// As for [`append`](Self::append).
    pub fn append_batch(&mut self, records: &[LogRecord]) -> Result<LogPosition> {
        let first = self.next;
        let mut frames = {
            let mut state = self.shared.state();
            state.check()?;
            state.buffer()
        };
        for record in records {
            let start = segment::begin_frame(&mut frames);
            codec::encode(record, &mut frames);
            segment::end_frame(&mut frames, start)?;
        }
        if records.is_empty() {
            return Ok(LogPosition(first));
        }
        let bytes = frames.len();
        let mut state = self.shared.state();
        while state.pending_bytes > 0 && state.pending_bytes + bytes > PENDING_BYTES_MAX {
            drop(state);
            self.shared.sync()?;
            state = self.shared.state();
        }
        let is_full = |state: &State| {
            let len = state.len_with_pending();
            len > BLOCK as u64 && len + bytes as u64 > self.segment_len_max
        };
        if is_full(&state) {
            // The old segment is synced first, so that only the last one of a log can have a torn
            // end.
            drop(state);
            self.shared.sync()?;
            state = self.shared.state();
            state.check()?;
            if is_full(&state) {
                self.shared.rotate(&mut state)?;
            }
        }
        state.check()?;
        let durable = state.durable;
        segment::seal(&mut frames, state.current.first, first, Some(durable));
        self.shared.append(&mut state, frames, first + records.len() as u64)?;
        self.next = state.next;
        self.bytes += bytes as u64;
        if state.spares.is_empty() && state.current.len > self.segment_len_max / 4 {
            self.preparing.start(&self.shared, state.current.first, self.segment_len_max);
        }
        Ok(LogPosition(first))
    }

    /// A handle that makes records durable, for another thread.
    pub fn syncer(&self) -> LogSyncer {
        LogSyncer { shared: self.shared.clone() }
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Makes spare files in the caller's thread, or not at all; for tests.
    #[cfg(test)]
    pub(crate) fn never_prepare(&mut self) {
        self.preparing = Preparing::never();
    }
}

/// Makes appended records durable. Clones share the writer's state.
#[derive(Clone)]
pub struct LogSyncer {
    shared: Arc<Shared>,
}

impl LogSyncer {
    /// Syncs the log. Returns the position *after* the last durable record: everything before it
    /// survives a power failure. What is appended meanwhile counts with the next call. When the
    /// sync fails, what it was for is written to a new segment and synced there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) when no new segment took it: the writer is poisoned.
    /// [`Error::LogPoisoned`](crate::Error::LogPoisoned) after that.
    pub fn sync(&self) -> Result<LogPosition> {
        self.shared.sync()
    }

    /// Begins to make durable what is written, and waits so long for any of it to become so.
    /// Returns the position before which everything is durable, and whether more is on its way:
    /// then it is to be asked again. Where commits go one after another this is
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync).
    pub fn advance(&self, wait: Duration) -> Result<(LogPosition, bool)> {
        self.shared.advance(wait)
    }

    /// What the disk refused since the log was opened.
    pub fn faults(&self) -> LogFaults {
        self.shared.faults()
    }
}
