//! Reading the log: replay, and the tail while a writer appends.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;

use isotick_model::LogPosition;

use super::segment::{self, Frame};
use super::{LogRecord, codec};
use crate::error::{Error, Result};
use crate::folder::DataFolder;

/// Records from a position on, in order. Needs no lock. `None` means that no further whole
/// record is there now: the end, or a record still being written. Asking again later continues.
/// Memory: the rest of one segment.
pub struct LogReader {
    folder: PathBuf,
    /// The first position of the segment being read, `None` before there is one.
    first: Option<u64>,
    /// The position of the record at `offset`.
    at: u64,
    /// Records before this one are passed over.
    from: u64,
    /// Where in the file `bytes` begins.
    base: u64,
    /// A part of the segment, read but not all used.
    bytes: Vec<u8>,
    /// How much of `bytes` is used.
    used: usize,
}

impl LogReader {
    /// Reads from a position on.
    ///
    /// # Errors
    ///
    /// [`Error::LogGap`] when the log begins after it, [`Error::Io`].
    pub fn from(folder: &DataFolder, position: LogPosition) -> Result<Self> {
        let folder = folder.log();
        let mut reader = Self {
            folder,
            first: None,
            at: 0,
            from: position.0,
            base: 0,
            bytes: Vec::new(),
            used: 0,
        };
        reader.find_segment()?;
        Ok(reader)
    }

    /// The position of the record that comes next.
    pub fn position(&self) -> LogPosition {
        LogPosition(self.at.max(self.from))
    }

    fn find_segment(&mut self) -> Result<()> {
        let segments = segment::list(&self.folder)?;
        let at_or_before = segments.iter().rev().find(|first| **first <= self.from);
        match (at_or_before, segments.first()) {
            (Some(&first), _) => self.enter(first),
            (None, None) => {}
            (None, Some(_)) => {
                return Err(Error::LogGap { path: self.folder.clone(), position: self.from });
            }
        }
        Ok(())
    }

    fn enter(&mut self, first: u64) {
        self.first = Some(first);
        self.at = first;
        self.base = 0;
        self.bytes.clear();
        self.used = 0;
    }

    /// Reads what the segment holds past the used bytes. Returns whether that is more than was
    /// known, or different.
    fn refill(&mut self, first: u64) -> Result<bool> {
        let path = segment::path_of(&self.folder, first);
        let offset = self.base + self.used as u64;
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.released()),
            file => file.map_err(Error::io("open", &path))?,
        };
        file.seek(SeekFrom::Start(offset)).map_err(Error::io("read", &path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        let more = bytes != self.bytes[self.used..];
        (self.base, self.bytes, self.used) = (offset, bytes, 0);
        if offset == 0 && segment::check_header(&path, &self.bytes, first)? {
            self.used = segment::HEADER_LEN;
        }
        Ok(more)
    }

    /// The segment being read was given up by the writer.
    fn released(&self) -> Error {
        Error::LogGap { path: self.folder.clone(), position: self.position().0 }
    }

    fn corrupt(&self, first: u64, what: &'static str) -> Error {
        let path = segment::path_of(&self.folder, first);
        Error::LogCorrupt { path, offset: self.base + self.used as u64, what }
    }

    fn advance(&mut self) -> Result<Option<(LogPosition, LogRecord)>> {
        let mut fresh = false;
        loop {
            let Some(first) = self.first else {
                self.find_segment()?;
                if self.first.is_none() {
                    return Ok(None);
                }
                continue;
            };
            let in_header = self.base + (self.used as u64) < segment::HEADER_LEN as u64;
            let skim = self.at < self.from;
            let frame = match in_header {
                true => Frame::Incomplete,
                false => segment::frame(&self.bytes[self.used..], self.at, skim),
            };
            let bad = match frame {
                Frame::Whole(payload) => {
                    let record = match skim {
                        true => None,
                        false => Some(codec::decode(payload)),
                    };
                    let used = segment::FRAME_LEN + payload.len();
                    let record = match record {
                        Some(Err(codec::Malformed(what))) => return Err(self.corrupt(first, what)),
                        Some(Ok(record)) => Some((LogPosition(self.at), record)),
                        None => None,
                    };
                    self.used += used;
                    self.at += 1;
                    match record {
                        Some(record) => return Ok(Some(record)),
                        None => continue,
                    }
                }
                Frame::Incomplete => None,
                Frame::Bad(what) => Some(what),
            };
            // What looks torn may have been written since it was read.
            if !fresh {
                fresh = true;
                if self.refill(first)? {
                    continue;
                }
            }
            // The writer closes a segment only after its last whole frame.
            let segments = segment::list(&self.folder)?;
            let Some(&later) = segments.iter().find(|later| **later > first) else {
                return match bad {
                    Some(what)
                        if segment::whole_frame_follows(&self.bytes[self.used..], self.at) =>
                    {
                        Err(self.corrupt(first, what))
                    }
                    _ => Ok(None),
                };
            };
            if self.refill(first)? {
                continue;
            }
            let left = self.bytes.len() - self.used;
            if left > 0 {
                return Err(self.corrupt(first, bad.unwrap_or("a frame is cut short")));
            }
            if later != self.at {
                return Err(Error::LogGap { path: self.folder.clone(), position: self.at });
            }
            self.enter(later);
            fresh = false;
        }
    }
}

impl Iterator for LogReader {
    type Item = Result<(LogPosition, LogRecord)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
