//! Reading the log: replay, and the tail while a writer appends.

use std::path::PathBuf;
use std::sync::Arc;

use isotick_model::LogPosition;

use super::disk::{self, Disk};
use super::segment::{self, BLOCK, Format, Frame, Header, Whole};
use super::{LogRecord, codec, recovery};
use crate::error::{Error, Result};
use crate::folder::DataFolder;

/// Bytes that are read at a time; more for a longer frame.
const CHUNK: usize = 1 << 20;

/// Records from a position on, in order. Needs no lock. `None` means that no further whole
/// record is there now: the end, or a record still being written. Asking again later continues.
/// Memory: a mebibyte, or one record where that is longer.
///
/// When the writer gives up the segment that is being read, the next record is
/// [`Error::LogGap`]: what its file is used for next is not taken for what it held.
pub struct LogReader {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// The segment being read, `None` before there is one.
    segment: Option<Entered>,
    /// The position of the record that comes next in the segment.
    at: u64,
    /// Records before this one are passed over.
    from: u64,
    /// Where in the file `bytes` begins.
    base: u64,
    /// A part of the segment, read but not all used.
    bytes: Vec<u8>,
    /// How much of `bytes` is used.
    used: usize,
    /// The position at which what follows was last searched for frames to its end.
    surveyed_at: Option<u64>,
}

#[derive(Clone, Copy)]
struct Entered {
    first: u64,
    /// `None` until its header was read.
    format: Option<Format>,
}

impl LogReader {
    /// Reads from a position on. Segments before it are not read.
    ///
    /// # Errors
    ///
    /// [`Error::LogGap`] when the log begins after it, [`Error::Io`].
    pub fn from(folder: &DataFolder, position: LogPosition) -> Result<Self> {
        Self::from_with(folder.disk().clone(), folder.log(), position)
    }

    pub(super) fn from_with(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        position: LogPosition,
    ) -> Result<Self> {
        let mut reader = Self {
            disk,
            folder,
            segment: None,
            at: 0,
            from: position.0,
            base: 0,
            bytes: Vec::new(),
            used: 0,
            surveyed_at: None,
        };
        reader.find_segment()?;
        Ok(reader)
    }

    /// The position of the record that comes next.
    pub fn position(&self) -> LogPosition {
        LogPosition(self.due())
    }

    fn due(&self) -> u64 {
        self.at.max(self.from)
    }

    /// The log does not hold the position that comes next.
    fn gap(&self) -> Error {
        Error::LogGap { path: self.folder.clone(), position: self.due() }
    }

    fn find_segment(&mut self) -> Result<()> {
        let firsts = recovery::list(&*self.disk, &self.folder)?;
        let position = self.due();
        match firsts.iter().rev().find(|first| **first <= position) {
            Some(&first) => self.enter(first),
            None if firsts.is_empty() => {}
            None => return Err(self.gap()),
        }
        Ok(())
    }

    fn enter(&mut self, first: u64) {
        self.from = self.due();
        self.segment = Some(Entered { first, format: None });
        self.at = first;
        self.base = 0;
        self.bytes.clear();
        self.used = 0;
    }

    fn path(&self, first: u64) -> PathBuf {
        segment::path_of(&self.folder, first)
    }

    /// Reads the segment from the used bytes on: a chunk, or the whole frame that begins there.
    /// Returns whether that is more than was known, or different.
    fn refill(&mut self, segment: &mut Entered) -> Result<bool> {
        let path = self.path(segment.first);
        let Some(file) = recovery::open(&*self.disk, &path)? else { return Err(self.gap()) };
        let mut want = CHUNK;
        let offset = self.base + self.used as u64;
        let bytes = loop {
            let mut bytes = vec![0; want];
            let read = file.read_at(offset, &mut bytes).map_err(Error::io("read", &path))?;
            bytes.truncate(read);
            let promised = |format: Format| {
                let gap = self.gap_len(offset);
                let frame = |skip: usize| {
                    format.promised_len(bytes.get(skip..)?, self.at).map(|len| skip + len)
                };
                frame(0).or_else(|| frame(gap))
            };
            match segment.format.and_then(promised) {
                Some(len) if len > want && read == want => want = len,
                _ => break bytes,
            }
        };
        let more = bytes != self.bytes[self.used..];
        (self.base, self.bytes, self.used) = (offset, bytes, 0);
        if segment.format.is_none()
            && let Header::Of(format) = segment::read_header(&path, &self.bytes, segment.first)?
        {
            segment.format = Some(format);
            self.used = format.header_len().min(self.bytes.len());
        }
        Ok(more)
    }

    fn corrupt(&self, first: u64, what: &'static str) -> Error {
        let path = self.path(first);
        Error::LogCorrupt { path, offset: self.base + self.used as u64, what }
    }

    /// From an offset in the file to the next block.
    fn gap_len(&self, offset: u64) -> usize {
        let block = BLOCK as u64;
        (offset.next_multiple_of(block) - offset) as usize
    }

    /// The frame that is due, and how many bytes before it are skipped.
    fn frame(&self, format: Option<Format>, skim: bool) -> (usize, Frame<'_>) {
        let Some(format) = format else { return (0, Frame::Incomplete) };
        match format.frame(&self.bytes[self.used..], self.at, skim) {
            Frame::Gap => {}
            frame => return (0, frame),
        }
        let skip = self.gap_len(self.base + self.used as u64);
        let behind = self.bytes.get(self.used + skip..).unwrap_or_default();
        match format.frame(behind, self.at, skim) {
            frame @ Frame::Whole(_) => (skip, frame),
            // Until there is one, the writer may also go on before the gap.
            _ => (0, Frame::Gap),
        }
    }

    fn advance(&mut self) -> Result<Option<(LogPosition, LogRecord)>> {
        loop {
            let Some(mut segment) = self.segment else {
                self.find_segment()?;
                if self.segment.is_none() {
                    return Ok(None);
                }
                continue;
            };
            let first = segment.first;
            let skim = self.at < self.from;
            let bad = match self.frame(segment.format, skim) {
                (skip, Frame::Whole(Whole { payload, len, .. })) => {
                    let record = match skim {
                        true => None,
                        false => match codec::decode(payload) {
                            Ok(record) => Some((LogPosition(self.at), record)),
                            Err(codec::Malformed(what)) => return Err(self.corrupt(first, what)),
                        },
                    };
                    self.used += skip + len;
                    self.at += 1;
                    match record {
                        Some(record) => return Ok(Some(record)),
                        None => continue,
                    }
                }
                (_, Frame::Incomplete | Frame::Gap) => None,
                (_, Frame::Bad(what)) => Some(what),
            };
            // What looks torn may have been written since it was read, or the chunk ends here.
            let more = self.refill(&mut segment)?;
            self.segment = Some(segment);
            if more {
                continue;
            }
            let firsts = recovery::list(&*self.disk, &self.folder)?;
            match firsts.iter().rev().find(|other| **other <= self.at.max(first)) {
                // The segment goes on in a later one.
                Some(&later) if later > first => {
                    self.enter(later);
                    continue;
                }
                Some(&here) if here == first => {}
                _ => return Err(self.gap()),
            }
            let is_last = firsts.last() == Some(&first);
            if is_last {
                return match self.is_damaged(&segment)? {
                    true => Err(self.corrupt(first, bad.unwrap_or("a frame is missing"))),
                    false => Ok(None),
                };
            }
            // The writer closes a segment only after its last whole frame.
            let more = self.refill(&mut segment)?;
            self.segment = Some(segment);
            if more {
                continue;
            }
            let promised = segment
                .format
                .and_then(|format| format.promised_len(&self.bytes[self.used..], self.at));
            return Err(match (bad, promised) {
                (Some(what), _) => self.corrupt(first, what),
                (None, Some(_)) => self.corrupt(first, "a frame is cut short"),
                (None, None) => self.gap(),
            });
        }
    }

    /// Whether a later frame of the last segment knew the one that is due, and cannot be read, to
    /// be durable. Looks through all that follows once per position, and after that in what was
    /// read.
    fn is_damaged(&mut self, segment: &Entered) -> Result<bool> {
        let Some(format) = segment.format else { return Ok(false) };
        let follows = &self.bytes[self.used..];
        if follows.is_empty() {
            return Ok(false);
        }
        if self.surveyed_at == Some(self.at) {
            return Ok(format.survey(follows, self.at).durable > self.at);
        }
        let path = self.path(segment.first);
        let Some(file) = recovery::open(&*self.disk, &path)? else { return Err(self.gap()) };
        let offset = self.base + self.used as u64;
        let bytes = disk::read_from(&*file, offset).map_err(Error::io("read", &path))?;
        self.surveyed_at = Some(self.at);
        Ok(format.survey(&bytes, self.at).durable > self.at)
    }
}

impl Iterator for LogReader {
    type Item = Result<(LogPosition, LogRecord)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
