//! Appending, syncing, and recovery of the log's end.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use isotick_model::LogPosition;

use super::segment::{self, Frame, Segment, Segments};
use super::{LogRecord, codec};
use crate::error::{Error, Result};
use crate::files;
use crate::folder::DataFolder;

/// A segment is closed before it grows past this many bytes (one batch may be longer).
const SEGMENT_LEN_MAX: u64 = 64 << 20;

/// The only appender of a data folder's log.
///
/// When [`append`](Self::append) returns, the record was handed to the operating system: it is
/// *written* and survives the process, not a power failure. [`LogSyncer::sync`] makes it
/// *durable*. After a failed write or sync nothing is acknowledged any more: every call returns
/// [`Error::LogPoisoned`] until the log is opened again.
pub struct LogWriter {
    segments: Box<dyn Segments>,
    folder: PathBuf,
    segment_len_max: u64,
    segment: Arc<dyn Segment>,
    path: PathBuf,
    len: u64,
    next: u64,
    /// The first positions of the segments that are kept, ascending; the last one grows.
    firsts: VecDeque<u64>,
    /// Bytes of frames appended since the log was opened.
    bytes: u64,
    frames: Vec<u8>,
    shared: Arc<Shared>,
    /// Keeps the folder's lock.
    _lock: DataFolder,
}

/// What opening the log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The position of the next record.
    pub next: LogPosition,
    /// What was cut off the end, `None` when the log ended with a whole frame.
    pub cut: Option<Cut>,
}

/// A torn end that was cut off: what was being written when the process or machine stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub path: PathBuf,
    /// Its length now.
    pub offset: u64,
    /// Bytes removed.
    pub bytes: u64,
}

/// What appender and syncer share.
struct Shared {
    written: Mutex<Written>,
    poison: OnceLock<Arc<str>>,
}

struct Written {
    segment: Arc<dyn Segment>,
    path: PathBuf,
    next: u64,
}

impl Shared {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().expect("no holder of this lock panics")
    }

    fn check(&self) -> Result<()> {
        match self.poison.get() {
            Some(reason) => Err(Error::LogPoisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// The first failure is the one that later calls report.
    fn poison(&self, error: Error) -> Error {
        let _ = self.poison.set(error.to_string().into());
        error
    }
}

impl LogWriter {
    /// Opens the log for appending and cuts a torn end off the last segment. Earlier segments
    /// were synced before the next was begun; they are checked when they are read.
    ///
    /// # Errors
    ///
    /// [`Error::LogCorrupt`] when a damaged frame is followed by a whole one, [`Error::Newer`],
    /// [`Error::Io`].
    ///
    /// # Panics
    ///
    /// If the folder was opened for reading.
    pub fn open(folder: &DataFolder) -> Result<(Self, Recovery)> {
        Self::open_with(folder, Box::new(segment::Files), SEGMENT_LEN_MAX)
    }

    pub(super) fn open_with(
        folder: &DataFolder,
        segments: Box<dyn Segments>,
        segment_len_max: u64,
    ) -> Result<(Self, Recovery)> {
        folder.assert_writer();
        let log = folder.log();
        let mut firsts = VecDeque::from(segment::list(&log)?);
        let first = firsts.back().copied();
        if first.is_none() {
            firsts.push_back(0);
        }
        let path = segment::path_of(&log, first.unwrap_or(0));
        let end = match first {
            Some(first) => find_end(&path, first)?,
            None => End { next: 0, len: 0, file_len: 0 },
        };
        let file = segments.open(&path).map_err(Error::io("open", &path))?;
        let cut = (end.len < end.file_len).then(|| Cut {
            path: path.clone(),
            offset: end.len,
            bytes: end.file_len - end.len,
        });
        if cut.is_some() {
            file.truncate(end.len).map_err(Error::io("truncate", &path))?;
        }
        let mut len = end.len;
        if len == 0 {
            len = start_segment(file.as_ref(), &path, end.next)?;
        }
        // What recovery kept may sit in memory only; from here on it counts as durable.
        file.sync().map_err(Error::io("sync", &path))?;
        files::sync_folder(&log)?;
        let shared = Shared {
            written: Mutex::new(Written {
                segment: file.clone(),
                path: path.clone(),
                next: end.next,
            }),
            poison: OnceLock::new(),
        };
        let writer = Self {
            segments,
            folder: log,
            segment_len_max,
            segment: file,
            path,
            len,
            next: end.next,
            firsts,
            bytes: 0,
            frames: Vec::new(),
            shared: Arc::new(shared),
            _lock: folder.clone(),
        };
        Ok((writer, Recovery { next: LogPosition(end.next), cut }))
    }

    /// The position of the next record.
    pub fn next(&self) -> LogPosition {
        LogPosition(self.next)
    }

    /// The position of the first record that is kept; [`next`](Self::next) when there is none.
    pub fn first(&self) -> LogPosition {
        LogPosition(*self.firsts.front().expect("the segment that grows"))
    }

    /// How many bytes were appended since the log was opened.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives up the segments whose records all lie before a position, the oldest first; the one
    /// that grows stays. Returns how many went. A [`LogReader`](super::LogReader) that is still
    /// among them is told so with [`Error::LogGap`].
    ///
    /// The caller promises that nobody needs these records: what they brought is durable
    /// elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; the log is whole then, and what was not given up stays.
    pub fn release(&mut self, before: LogPosition) -> Result<usize> {
        let mut released = 0;
        while self.firsts.get(1).is_some_and(|next| *next <= before.0) {
            let path = segment::path_of(&self.folder, self.firsts[0]);
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            self.firsts.pop_front();
            released += 1;
        }
        if released > 0 {
            files::sync_folder(&self.folder)?;
        }
        Ok(released)
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
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the write fails (none of the batch counts, and the writer is poisoned),
    /// [`Error::LogPoisoned`] after that, [`Error::RecordTooLong`] (nothing is written).
    ///
    /// # Panics
    ///
    /// As for [`append`](Self::append).
    pub fn append_batch(&mut self, records: &[LogRecord]) -> Result<LogPosition> {
        self.shared.check()?;
        let first = self.next;
        self.frames.clear();
        let mut next = first;
        for record in records {
            let start = segment::begin_frame(&mut self.frames);
            codec::encode(record, &mut self.frames);
            segment::end_frame(&mut self.frames, start, next)?;
            next += 1;
        }
        let bytes = self.frames.len() as u64;
        let has_frames = self.len > segment::HEADER_LEN as u64;
        if has_frames && self.len + bytes > self.segment_len_max {
            self.next_segment().map_err(|error| self.shared.poison(error))?;
        }
        if let Err(source) = self.segment.append(&self.frames) {
            // A full disk may have taken a part. Whether or not it can be cut off here, nothing
            // follows it: the writer is poisoned, and opening the log again cuts it.
            let _ = self.segment.truncate(self.len);
            return Err(self.shared.poison(Error::io("write", &self.path)(source)));
        }
        self.len += bytes;
        self.bytes += bytes;
        self.next = next;
        self.shared.written().next = next;
        Ok(LogPosition(first))
    }

    /// A handle that makes records durable, for another thread.
    pub fn syncer(&self) -> LogSyncer {
        LogSyncer { shared: self.shared.clone() }
    }

    /// Closes the segment and begins the next. The old one is synced first, so that only the
    /// last segment of a log can have a torn end.
    fn next_segment(&mut self) -> Result<()> {
        self.segment.sync().map_err(Error::io("sync", &self.path))?;
        let path = segment::path_of(&self.folder, self.next);
        let file = self.segments.open(&path).map_err(Error::io("create", &path))?;
        self.len = start_segment(file.as_ref(), &path, self.next)?;
        files::sync_folder(&self.folder)?;
        self.segment = file.clone();
        self.path = path.clone();
        self.firsts.push_back(self.next);
        *self.shared.written() = Written { segment: file, path, next: self.next };
        Ok(())
    }
}

/// Makes appended records durable. Clones share the writer's state.
#[derive(Clone)]
pub struct LogSyncer {
    shared: Arc<Shared>,
}

impl LogSyncer {
    /// Syncs the log. Returns the position *after* the last durable record: everything before it
    /// survives a power failure. What is appended meanwhile counts with the next call.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the sync fails: the operating system may have dropped what it could not
    /// write, so the writer is poisoned. [`Error::LogPoisoned`] after that.
    pub fn sync(&self) -> Result<LogPosition> {
        self.shared.check()?;
        let (segment, path, next) = {
            let written = self.shared.written();
            (written.segment.clone(), written.path.clone(), written.next)
        };
        match segment.sync() {
            Ok(()) => Ok(LogPosition(next)),
            Err(source) => Err(self.shared.poison(Error::io("sync", &path)(source))),
        }
    }
}

/// Where a segment's whole frames end.
struct End {
    next: u64,
    len: u64,
    file_len: u64,
}

fn find_end(path: &Path, first: u64) -> Result<End> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let file_len = bytes.len() as u64;
    if !segment::check_header(path, &bytes, first)? {
        return Ok(End { next: first, len: 0, file_len });
    }
    let (mut offset, mut next) = (segment::HEADER_LEN, first);
    loop {
        match segment::frame(&bytes[offset..], next, false) {
            Frame::Whole(payload) => {
                offset += segment::FRAME_LEN + payload.len();
                next += 1;
            }
            Frame::Bad(what) if segment::whole_frame_follows(&bytes[offset..], next) => {
                return Err(Error::LogCorrupt {
                    path: path.to_path_buf(),
                    offset: offset as u64,
                    what,
                });
            }
            Frame::Bad(_) | Frame::Incomplete => {
                return Ok(End { next, len: offset as u64, file_len });
            }
        }
    }
}

/// Writes a new segment's header. Returns its length.
fn start_segment(file: &dyn Segment, path: &Path, first: u64) -> Result<u64> {
    if let Err(source) = file.append(&segment::header(first)) {
        let _ = file.truncate(0);
        return Err(Error::io("write", path)(source));
    }
    file.sync().map_err(Error::io("sync", path))?;
    Ok(segment::HEADER_LEN as u64)
}
