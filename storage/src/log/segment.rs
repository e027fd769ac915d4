//! Segments: file names, headers, frames.
//!
//! A segment starts with magic, format version, the position of its first record, and the CRC-32
//! of these; in version 2 then with how many bytes of the file were written beforehand, and the
//! CRC-32 of that. In version 2 a header takes a block of [`BLOCK`] bytes, and frames stand at
//! multiples of [`ALIGN`] behind it:
//!
//! ```text
//! u32  length of the payload, never 0
//! u64  position
//! u32  CRC-32 of the payload
//! u32  how many of the records before this one were not known to be durable when it was written
//! u32  CRC-32 of the 20 bytes before, seeded with the position of the segment's first record
//!      payload, zeros up to the next multiple of ALIGN
//! ```
//!
//! Where a frame could stand and its length is 0, the next one is at the next block, if there is
//! one. Files are reused: what stands behind the last frame may be anything, also whole frames of
//! an earlier segment. Those have another seed, so that none of them can be taken for a frame of
//! this segment.
//!
//! The count of records that were not durable tells damage from a power failure: a frame that
//! cannot be read, with a later one that knew it to be durable, was damaged; without one it may
//! never have reached the disk.
//!
//! In version 1 the header has 24 bytes and frames follow without gaps: length, position, CRC-32
//! of the payload, CRC-32 of these 16 bytes without a seed, payload. Integers are little-endian.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What disks write at once; a segment's header and each commit past the page cache take whole
/// ones.
pub(super) const BLOCK: usize = 4096;
/// Frames start at multiples of it.
pub(super) const ALIGN: usize = 8;
/// A frame's header, in the version that is written.
pub(super) const FRAME_LEN: usize = 24;
/// The longest payload.
pub(super) const PAYLOAD_LEN_MAX: usize = 1 << 30;
/// The header of a segment of version 1.
const HEADER_V1_LEN: usize = 24;
/// The header of a segment without the rest of its block.
const HEADER_LEN: usize = 36;

const MAGIC: [u8; 8] = *b"isotlog\n";
const VERSION: u32 = 2;

/// The path of the segment that starts at a position.
pub(super) fn path_of(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.log"))
}

/// The first positions of the segments among the names of a log's folder, in the names' order.
pub(super) fn firsts_in(names: &[String]) -> impl Iterator<Item = u64> {
    names.iter().filter_map(|name| {
        let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
        digits.parse().ok()
    })
}

/// How the frames of a segment are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    V1,
    V2 {
        /// The segment's first position.
        first: u64,
        /// How many bytes of the file were written before it was begun.
        prewritten: u64,
    },
}

/// What stands at the start of a segment's file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// It is this segment.
    Of(Format),
    /// The segment's own header never reached the disk: nothing, zeros, or the header of the
    /// segment that had the file before.
    NotStarted,
}

/// The header of the segment that starts at a position, in a file of which so many bytes were
/// written beforehand. A whole block.
pub(super) fn header(first: u64, prewritten: u64) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&first.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    bytes[24..32].copy_from_slice(&prewritten.to_le_bytes());
    let crc = crc32fast::hash(&bytes[24..32]);
    bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads the header of the segment whose name has the position `first`.
pub(super) fn read_header(path: &Path, bytes: &[u8], first: u64) -> Result<Header> {
    if bytes.len() < HEADER_V1_LEN || bytes[..HEADER_V1_LEN].iter().all(|&byte| byte == 0) {
        return Ok(Header::NotStarted);
    }
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
        return Ok(Header::NotStarted);
    }
    if found == 1 {
        return Ok(Header::Of(Format::V1));
    }
    match bytes.get(..HEADER_LEN) {
        None => Ok(Header::NotStarted),
        Some(bytes) if u32_at(bytes, 32) != crc32fast::hash(&bytes[24..32]) => {
            corrupt("its header's checksum does not match")
        }
        Some(bytes) => Ok(Header::Of(Format::V2 { first, prewritten: u64_at(bytes, 24) })),
    }
}

/// Starts a frame: leaves room for its header and returns where it starts.
pub(super) fn begin_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + FRAME_LEN, 0);
    start
}

/// Completes the frame that starts at `start` and ends with `out`, but for its seal.
pub(super) fn end_frame(out: &mut Vec<u8>, start: usize) -> Result<()> {
    let (header, payload) = out[start..].split_at_mut(FRAME_LEN);
    if payload.len() > PAYLOAD_LEN_MAX {
        return Err(Error::RecordTooLong { bytes: payload.len(), max: PAYLOAD_LEN_MAX });
    }
    header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[12..16].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    Ok(())
}

/// Gives frames, the first of which has the position `position`, to the segment that starts at
/// `first`, at a time when everything before `durable` is durable. Frames that were sealed before
/// keep what they know to be durable.
pub(super) fn seal(frames: &mut [u8], first: u64, mut position: u64, durable: Option<u64>) {
    let mut at = 0;
    while at < frames.len() {
        let header = &mut frames[at..at + FRAME_LEN];
        header[4..12].copy_from_slice(&position.to_le_bytes());
        if let Some(durable) = durable {
            let unknown = u32::try_from(position - durable).unwrap_or(u32::MAX);
            header[16..20].copy_from_slice(&unknown.to_le_bytes());
        }
        let crc = seeded(first, &header[..20]);
        header[20..].copy_from_slice(&crc.to_le_bytes());
        at += frame_len(u32_at(header, 0) as usize);
        position += 1;
    }
}

/// A whole frame with its header.
fn frame_len(payload: usize) -> usize {
    (FRAME_LEN + payload).next_multiple_of(ALIGN)
}

/// Checksums of equal bytes differ for any two seeds that differ in their lower 32 bits.
fn seeded(first: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(first as u32);
    hasher.update(bytes);
    hasher.finalize()
}

/// A frame that is all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole<'a> {
    pub payload: &'a [u8],
    /// What the frame takes in the file.
    pub len: usize,
    /// Everything before this position was durable when the frame was written.
    pub durable: u64,
}

/// What stands at the start of some bytes of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// The frame that is due.
    Whole(Whole<'a>),
    /// Nothing, or the beginning of a frame: it may still be written.
    Incomplete,
    /// A length of 0: the next frame is at the next block.
    Gap,
    /// Something else: what was there before, a torn write, or damage.
    Bad(&'static str),
}

impl Format {
    /// Where the first frame stands.
    pub(super) fn header_len(self) -> usize {
        match self {
            Self::V1 => HEADER_V1_LEN,
            Self::V2 { .. } => BLOCK,
        }
    }

    /// Its number.
    pub(super) fn version(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 { .. } => VERSION,
        }
    }

    /// How many bytes of the file were written before the segment was begun.
    pub(super) fn prewritten(self) -> u64 {
        match self {
            Self::V1 => 0,
            Self::V2 { prewritten, .. } => prewritten,
        }
    }

    fn frame_header_len(self) -> usize {
        match self {
            Self::V1 => 20,
            Self::V2 { .. } => FRAME_LEN,
        }
    }

    /// The length of a payload and its checksum, if the bytes start with the header of a frame of
    /// this position.
    fn read_frame_header(self, bytes: &[u8], position: u64) -> Result<(usize, u32), Frame<'_>> {
        let header_len = self.frame_header_len();
        let Some(header) = bytes.get(..header_len) else { return Err(Frame::Incomplete) };
        let (body, crc) = header.split_at(header_len - 4);
        let expected = match self {
            Self::V1 => crc32fast::hash(body),
            Self::V2 { .. } if u32_at(body, 0) == 0 => return Err(Frame::Gap),
            Self::V2 { first, .. } => seeded(first, body),
        };
        if u32_at(crc, 0) != expected {
            return Err(Frame::Bad("a frame header's checksum does not match"));
        }
        if u64_at(body, 4) != position {
            return Err(Frame::Bad("a frame has another position than the one due"));
        }
        Ok((u32_at(body, 0) as usize, u32_at(body, 12)))
    }

    /// How long the frame at the start of the bytes is going to be, if its header is there and
    /// right.
    pub(super) fn promised_len(self, bytes: &[u8], position: u64) -> Option<usize> {
        let (payload, _) = self.read_frame_header(bytes, position).ok()?;
        Some(self.whole_len(payload))
    }

    fn whole_len(self, payload: usize) -> usize {
        match self {
            Self::V1 => 20 + payload,
            Self::V2 { .. } => frame_len(payload),
        }
    }

    /// Reads the frame that should have this position. The payload's checksum is checked unless
    /// `skim`.
    pub(super) fn frame(self, bytes: &[u8], position: u64, skim: bool) -> Frame<'_> {
        let (payload_len, crc) = match self.read_frame_header(bytes, position) {
            Ok(header) => header,
            Err(other) => return other,
        };
        let len = self.whole_len(payload_len);
        let Some(whole) = bytes.get(..len) else { return Frame::Incomplete };
        let (payload, padding) = whole[self.frame_header_len()..].split_at(payload_len);
        if !skim && crc != crc32fast::hash(payload) {
            return Frame::Bad("a frame payload's checksum does not match");
        }
        if padding.iter().any(|&byte| byte != 0) {
            return Frame::Bad("a frame's padding is not zero");
        }
        let durable = match self {
            Self::V1 => position,
            Self::V2 { .. } => position.saturating_sub(u32_at(bytes, 16).into()),
        };
        Frame::Whole(Whole { payload, len, durable })
    }

    /// Looks for whole frames of positions past `position` anywhere in the bytes, which start at
    /// a place where a frame could stand.
    pub(super) fn survey(self, bytes: &[u8], position: u64) -> Survey {
        let mut survey = Survey::default();
        survey.end = self.find_all(bytes, position + 1, |_, whole| {
            survey.frames += 1;
            survey.durable = survey.durable.max(whole.durable);
        });
        survey
    }

    /// Calls `each` with every whole frame of a position from `least` on that is anywhere in the
    /// bytes, and its position. Returns where the last of them ends.
    pub(super) fn find_all<'a>(
        self,
        bytes: &'a [u8],
        least: u64,
        mut each: impl FnMut(u64, Whole<'a>),
    ) -> usize {
        let step = match self {
            Self::V1 => 1,
            Self::V2 { .. } => ALIGN,
        };
        let (mut at, mut end) = (0, 0);
        while at + self.frame_header_len() <= bytes.len() {
            let found = u64_at(bytes, at + 4);
            // Each frame takes more than a byte, which bounds how far positions can have come.
            let plausible = found >= least && found - least <= bytes.len() as u64;
            match plausible.then(|| self.frame(&bytes[at..], found, false)) {
                Some(Frame::Whole(whole)) => {
                    each(found, whole);
                    at += whole.len;
                    end = at;
                }
                _ => at += step,
            }
        }
        end
    }
}

/// What was found behind the end of a segment's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// How many whole frames.
    pub frames: u64,
    /// Where the last of them ends.
    pub end: usize,
    /// Before which position everything was durable when they were written.
    pub durable: u64,
}

/// The frames of a segment in order.
pub(super) struct Walk<'a> {
    pub format: Format,
    bytes: &'a [u8],
    /// Where the next frame should be; past the last whole one.
    pub offset: usize,
    /// The position that is due.
    pub position: u64,
    /// Everything before this position was known to be durable.
    pub durable: u64,
}

impl<'a> Walk<'a> {
    /// From the start of a segment that is all in `bytes`.
    pub(super) fn new(format: Format, bytes: &'a [u8], first: u64) -> Self {
        Self { format, bytes, offset: format.header_len(), position: first, durable: first }
    }

    /// Through frames of the segment that starts at `first` without its header, whatever the
    /// position of the first of them.
    pub(super) fn of_tail(bytes: &'a [u8], first: u64) -> Self {
        let position = if bytes.len() < FRAME_LEN { 0 } else { u64_at(bytes, 4) };
        let format = Format::V2 { first, prewritten: 0 };
        Self { format, bytes, offset: 0, position, durable: first }
    }

    /// The next whole frame, or why there is none.
    pub(super) fn step(&mut self) -> Result<Whole<'a>, Option<&'static str>> {
        let mut offset = self.offset;
        loop {
            let bytes = self.bytes.get(offset..).unwrap_or_default();
            match self.format.frame(bytes, self.position, false) {
                Frame::Whole(whole) => {
                    self.offset = offset + whole.len;
                    self.position += 1;
                    self.durable = self.durable.max(whole.durable);
                    return Ok(whole);
                }
                Frame::Gap if !offset.is_multiple_of(BLOCK) => {
                    offset = offset.next_multiple_of(BLOCK);
                }
                Frame::Gap | Frame::Incomplete => return Err(None),
                Frame::Bad(what) => return Err(Some(what)),
            }
        }
    }

    /// Looks at what stands behind the end.
    pub(super) fn survey(&self) -> Survey {
        let mut survey =
            self.format.survey(self.bytes.get(self.offset..).unwrap_or_default(), self.position);
        survey.end += self.offset;
        survey
    }

    /// How far a frame that is due was going to reach, if its header is there.
    pub(super) fn promised(&self) -> Option<usize> {
        let bytes = self.bytes.get(self.offset..)?;
        let len = self.format.promised_len(bytes, self.position)?;
        Some((self.offset + len).min(self.bytes.len()))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
