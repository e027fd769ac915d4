//! Segments: file names, frames, and the seam to the file system.
//!
//! A segment starts with a header of [`HEADER_LEN`] bytes: magic, version, first position, CRC-32
//! of these. A frame is a header of [`FRAME_LEN`] bytes (payload length, position, CRC-32 of the
//! payload, CRC-32 of the header before it) and the payload. Integers are little-endian.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::files;

pub(super) const HEADER_LEN: usize = 24;
pub(super) const FRAME_LEN: usize = 20;
/// The longest payload.
pub(super) const PAYLOAD_LEN_MAX: usize = 1 << 30;

const MAGIC: [u8; 8] = *b"isotlog\n";
const VERSION: u32 = 1;

/// Where a segment's bytes go. The seam at which tests make the disk fail, and where another
/// backend (pre-written segments, `O_DIRECT`) takes its place.
pub(super) trait Segment: Send + Sync {
    /// Writes at the end, all or an error; after an error part of it may be there.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
}

/// Opens segments for appending.
pub(super) trait Segments: Send {
    /// Opens a segment, made if it is missing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Segment>>;
}

/// Segments as plain files.
pub(super) struct Files;

impl Segments for Files {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Segment>> {
        Ok(Arc::new(File::options().create(true).append(true).open(path)?))
    }
}

impl Segment for File {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self;
        file.write_all(bytes)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The path of the segment that starts at a position.
pub(super) fn path_of(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.log"))
}

/// The first positions of the segments in a log's folder, ascending.
pub(super) fn list(folder: &Path) -> Result<Vec<u64>> {
    let names = files::names_in(folder)?;
    let first = |name: &String| {
        let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
        digits.parse().ok()
    };
    Ok(names.iter().filter_map(first).collect())
}

/// A segment's header.
pub(super) fn header(first: u64) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&first.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Checks a segment's header. `false` when it is not all there yet.
pub(super) fn check_header(path: &Path, bytes: &[u8], first: u64) -> Result<bool> {
    let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(false) };
    let corrupt = |what| Err(Error::LogCorrupt { path: path.to_path_buf(), offset: 0, what });
    if bytes[..8] != MAGIC {
        return corrupt("it is no log segment");
    }
    if u32_at(bytes, 20) != crc32fast::hash(&bytes[..20]) {
        return corrupt("its header's checksum does not match");
    }
    let found = u32_at(bytes, 8);
    if found > VERSION {
        return Err(Error::Newer { path: path.to_path_buf(), found, supported: VERSION });
    }
    if u64_at(bytes, 12) != first {
        return corrupt("its header names another position than the file's name");
    }
    Ok(true)
}

/// Starts a frame: leaves room for its header and returns where it starts.
pub(super) fn begin_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + FRAME_LEN, 0);
    start
}

/// Completes the frame that starts at `start` and ends with `out`.
pub(super) fn end_frame(out: &mut [u8], start: usize, position: u64) -> Result<()> {
    let (header, payload) = out[start..].split_at_mut(FRAME_LEN);
    if payload.len() > PAYLOAD_LEN_MAX {
        return Err(Error::RecordTooLong { bytes: payload.len(), max: PAYLOAD_LEN_MAX });
    }
    header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[4..12].copy_from_slice(&position.to_le_bytes());
    header[12..16].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let crc = crc32fast::hash(&header[..16]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// What stands at the start of some bytes of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A whole frame's payload.
    Whole(&'a [u8]),
    /// Nothing, or the beginning of a frame: it may still be written.
    Incomplete,
    /// Something else. A torn write when no whole frame follows it, damage otherwise.
    Bad(&'static str),
}

/// Reads the frame that should have this position. The payload's checksum is checked unless
/// `skim`.
pub(super) fn frame(bytes: &[u8], position: u64, skim: bool) -> Frame<'_> {
    let Some(header) = bytes.first_chunk::<FRAME_LEN>() else { return Frame::Incomplete };
    if u32_at(header, 16) != crc32fast::hash(&header[..16]) {
        return Frame::Bad("a frame header's checksum does not match");
    }
    if u64_at(header, 4) != position {
        return Frame::Bad("a frame has another position than the one due");
    }
    let Some(payload) = bytes[FRAME_LEN..].get(..u32_at(header, 0) as usize) else {
        return Frame::Incomplete;
    };
    if !skim && u32_at(header, 12) != crc32fast::hash(payload) {
        return Frame::Bad("a frame payload's checksum does not match");
    }
    Frame::Whole(payload)
}

/// Whether a whole frame of a position past `position` starts anywhere in the bytes.
pub(super) fn whole_frame_follows(bytes: &[u8], position: u64) -> bool {
    bytes.windows(FRAME_LEN).enumerate().any(|(start, header)| {
        let found = u64_at(header, 4);
        // Each frame takes more than a byte, which bounds how far positions can have come.
        let plausible = found > position && found - position <= bytes.len() as u64;
        plausible && matches!(frame(&bytes[start..], found, false), Frame::Whole(_))
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
