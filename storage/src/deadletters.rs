//! What was refused, kept for whoever wants to know why: a bounded, append-only store beside the
//! log.
//!
//! Letters are numbered from 0 as they come. They lie in segments named by their first number;
//! when the store would grow beyond its bound, the oldest segment goes, and the numbers say how
//! many letters went with it. Nothing here is part of the contract of the data: letters are not
//! synced one by one, a torn end is cut, and the service goes on when a letter cannot be kept.
//!
//! ```text
//! deadletters/<first number>.letters    records: length u32, CRC-32 u32 (little endian), payload
//! ```

mod codec;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use isotick_model::RejectReason;

use crate::DataFolder;
use crate::disk::Files;
use crate::error::{Error, Result};
use crate::files;

pub use reader::{LetterReader, read};

/// Bytes that a store keeps unless it is told otherwise.
pub const BYTES_MAX_DEFAULT: u64 = 256 << 20;
/// Bytes of one letter at most; a longer one is not kept.
pub const LETTER_BYTES_MAX: usize = 8 << 20;
/// A store is cut into so many segments: the oldest of them goes at once.
const SEGMENTS: u64 = 8;
const SUFFIX: &str = ".letters";
/// Before each payload: its length and its checksum.
const HEADER_BYTES: usize = 8;

/// Something that was refused, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// When it arrived, nanoseconds UTC.
    pub ts_recv_ns: i64,
    /// The stream it was for.
    pub stream: String,
    /// Who sent it.
    pub publisher: String,
    /// What it is.
    pub content: Content,
    /// The bytes: those that came, or for rows a tick frame that holds just them.
    pub bytes: Vec<u8>,
}

/// What a letter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Rows of one frame that are no ticks, in the frame's order: a tick frame.
    Rows {
        /// The least sequence among them.
        first_sequence: u64,
        /// The greatest.
        last_sequence: u64,
        /// Why, row by row.
        reasons: Vec<RejectReason>,
    },
    /// A message that could not be decoded, as it came.
    Undecodable {
        /// What is wrong with it.
        error: String,
    },
}

impl Letter {
    /// Its rows; 0 where they are not known.
    pub fn rows(&self) -> usize {
        match &self.content {
            Content::Rows { reasons, .. } => reasons.len(),
            Content::Undecodable { .. } => 0,
        }
    }

    /// The rows with each reason, in the order of the reasons.
    pub fn reasons(&self) -> Vec<(RejectReason, usize)> {
        let Content::Rows { reasons, .. } = &self.content else { return Vec::new() };
        let count = |reason| (reason, reasons.iter().filter(|known| **known == reason).count());
        RejectReason::ALL.into_iter().map(count).filter(|(_, rows)| *rows > 0).collect()
    }
}

/// How a store stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Letters that are kept.
    pub letters: u64,
    /// Their bytes on disk.
    pub bytes: u64,
    /// Letters that went because of the bound, since the folder began.
    pub dropped: u64,
}

/// What was cut off a torn end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub path: PathBuf,
    /// Where it ends now.
    pub offset: u64,
    /// How many bytes went.
    pub bytes: u64,
}

/// The store, open for writing. One per data folder: it takes the writer's handle.
#[derive(Debug)]
pub struct DeadLetters {
    folder: PathBuf,
    bytes_max: u64,
    /// The oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    file: File,
    next: u64,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Segment {
    first: u64,
    bytes: u64,
}

impl DeadLetters {
    /// Opens the store of a data folder, makes it where there is none, and cuts a torn end.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    ///
    /// # Panics
    ///
    /// If the folder was opened for reading.
    pub fn open(folder: &DataFolder, bytes_max: u64) -> Result<(Self, Option<Cut>)> {
        folder.assert_writer();
        let folder = folder.dead_letters();
        files::create_folder(&Files, &folder)?;
        let mut segments = VecDeque::new();
        for first in segments_in(&folder)? {
            let path = segment_path(&folder, first);
            let bytes = path.metadata().map_err(Error::io("read", &path))?.len();
            segments.push_back(Segment { first, bytes });
        }
        let mut cut = None;
        let mut next = 0;
        if let Some(last) = segments.back_mut() {
            let path = segment_path(&folder, last.first);
            let (letters, whole) = reader::whole_letters(&path)?;
            next = last.first + letters;
            if whole < last.bytes {
                let file = File::options().write(true).open(&path);
                file.and_then(|file| file.set_len(whole)).map_err(Error::io("cut", &path))?;
                cut = Some(Cut { path, offset: whole, bytes: last.bytes - whole });
                last.bytes = whole;
            }
        } else {
            segments.push_back(Segment { first: 0, bytes: 0 });
        }
        let last = segments.back().expect("a store has a segment");
        let file = append_to(&segment_path(&folder, last.first))?;
        let mut store = Self { folder, bytes_max, segments, file, next, scratch: Vec::new() };
        // The bound may have become tighter.
        store.make_room(0)?;
        Ok((store, cut))
    }

    /// Keeps a letter, at the cost of the oldest where there is no room. Its number; `None` when
    /// it is longer than the bounds allow.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; the letter is not kept then, and what was written of it is cut off.
    pub fn append(&mut self, letter: &Letter) -> Result<Option<u64>> {
        self.scratch.clear();
        self.scratch.resize(HEADER_BYTES, 0);
        codec::encode(letter, &mut self.scratch);
        let payload = &self.scratch[HEADER_BYTES..];
        let (length, bytes) = (payload.len(), self.scratch.len() as u64);
        if length > LETTER_BYTES_MAX || bytes > self.bytes_max / 2 {
            return Ok(None);
        }
        let checksum = crc32fast::hash(payload);
        self.scratch[..4].copy_from_slice(&(length as u32).to_le_bytes());
        self.scratch[4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.make_room(bytes)?;
        let last = self.segments.back_mut().expect("a store has a segment");
        let path = segment_path(&self.folder, last.first);
        if let Err(source) = self.file.write_all(&self.scratch) {
            // What stays if this fails too is a torn end for the next one who opens.
            let _ = self.file.set_len(last.bytes);
            return Err(Error::io("write", &path)(source));
        }
        last.bytes += bytes;
        self.next += 1;
        Ok(Some(self.next - 1))
    }

    /// How the store stands.
    pub fn standing(&self) -> Standing {
        let first = self.segments.front().map_or(0, |segment| segment.first);
        Standing {
            letters: self.next - first,
            bytes: self.segments.iter().map(|segment| segment.bytes).sum(),
            dropped: first,
        }
    }

    /// Begins a segment when the last one is full, and lets the oldest go until `bytes` more fit.
    fn make_room(&mut self, bytes: u64) -> Result<()> {
        let last = self.segments.back().expect("a store has a segment");
        if last.bytes > 0 && last.bytes + bytes > self.bytes_max / SEGMENTS {
            self.file = append_to(&segment_path(&self.folder, self.next))?;
            self.segments.push_back(Segment { first: self.next, bytes: 0 });
        }
        let total = |segments: &VecDeque<Segment>| segments.iter().map(|s| s.bytes).sum::<u64>();
        while self.segments.len() > 1 && total(&self.segments) + bytes > self.bytes_max {
            let path = segment_path(&self.folder, self.segments[0].first);
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            self.segments.pop_front();
        }
        Ok(())
    }
}

fn append_to(path: &Path) -> Result<File> {
    File::options().create(true).append(true).open(path).map_err(Error::io("create", path))
}

fn segment_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}{SUFFIX}"))
}

/// The first numbers of the segments, ascending.
fn segments_in(folder: &Path) -> Result<Vec<u64>> {
    let names = files::names_in(&Files, folder)?;
    let first = |name: &String| name.strip_suffix(SUFFIX)?.parse().ok();
    Ok(names.iter().filter_map(first).collect())
}
