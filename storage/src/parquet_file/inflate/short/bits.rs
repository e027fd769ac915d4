//! Bits of a Zstandard frame: forward where it describes, backward where it has content.

use std::ops::Range;

/// Bytes that are loaded at once, and so many stand before every stream that is read backward: a
/// frame and a block have headers.
const WORD: usize = 8;

/// Bits that a word has for certain, wherever the bits in it end.
pub(super) const WORD_BITS: u32 = 56;

/// The lowest `count` bits, fewer than 64.
fn low(word: u64, count: u64) -> u64 {
    word & !(u64::MAX << (count & 63))
}

/// Reads from the first bit of the first byte on.
pub(super) struct Forward<'a> {
    bytes: &'a [u8],
    bit: usize,
}

impl<'a> Forward<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, bit: 0 }
    }

    /// The next bits, at most 16, which stay; behind the end are zeros.
    pub fn peek(&self, count: usize) -> usize {
        let bytes = self.bytes.get(self.bit / 8..).unwrap_or_default();
        let word = (0..3).fold(0, |word, at| {
            word | usize::from(bytes.get(at).copied().unwrap_or(0)) << (8 * at)
        });
        word >> (self.bit % 8) & ((1 << count) - 1)
    }

    pub fn skip(&mut self, count: usize) {
        self.bit += count;
    }

    pub fn take(&mut self, count: usize) -> usize {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// Whole bytes that were read from, if there were so many.
    pub fn bytes_read(&self) -> Option<usize> {
        let read = self.bit.div_ceil(8);
        (read <= self.bytes.len()).then_some(read)
    }
}

/// Reads from the last bit of the last byte back to the first. Positions are bits of the frame.
#[derive(Clone, Copy)]
pub(super) struct Backward<'a> {
    pub frame: &'a [u8],
    /// The first bit of the stream.
    pub start: usize,
    /// Behind the next bit.
    pub end: usize,
}

impl<'a> Backward<'a> {
    /// The stream in these bytes: its highest bit that is set only marks where it begins.
    pub fn new(frame: &'a [u8], bytes: Range<usize>) -> Option<Self> {
        let last = *frame.get(bytes.clone())?.last()?;
        let end = bytes.end * 8 - 1 - last.checked_ilog2().map(|bit| 7 - bit as usize)?;
        (bytes.start >= WORD).then_some(Self { frame, start: bytes.start * 8, end })
    }

    /// The next bits, from the highest of the word on: [`WORD_BITS`] or more.
    pub fn word(&self) -> Option<u64> {
        word(self.frame, self.end)
    }

    pub fn take(&mut self, count: u32) -> Option<u64> {
        let bits = low(self.word()?.wrapping_shr(0_u32.wrapping_sub(count)), count.into());
        self.end -= count as usize;
        (self.end >= self.start).then_some(bits)
    }

    pub fn left(&self) -> usize {
        self.end - self.start
    }
}

/// The bits before `end`, from the highest of the word on.
#[inline(always)]
fn word(frame: &[u8], end: usize) -> Option<u64> {
    let first = (end >> 3).wrapping_sub(WORD - 1);
    let word = u64::from_le_bytes(load(frame, first)?);
    // In two steps: eight bits at most, and a shift by 64 is none.
    Some(word << (!end & 7) << 1)
}

/// Eight bytes from here, if there are so many.
#[inline(always)]
fn load(bytes: &[u8], from: usize) -> Option<[u8; WORD]> {
    let last = bytes.len().checked_sub(WORD)?;
    if from > last {
        return None;
    }
    bytes[from..from + WORD].try_into().ok()
}
