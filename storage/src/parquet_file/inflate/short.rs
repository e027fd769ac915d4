//! Zstandard frames of many short sequences, as columns of 64-bit numbers give: a few bytes of each
//! value are stored, the others are those of a value before. The library writes both into memory and
//! reads them from there for the next value, 7 to 8 ns for each sequence; here one of up to eight
//! bytes is put together in a register.
//!
//! Frames of another kind are the library's, and so is every frame that is refused here: what is
//! damaged, the library says.

mod bits;
mod entropy;
mod literals;
mod sequences;

use std::ops::Range;

use self::bits::Backward;
use self::literals::{Literals, SLACK};
use self::sequences::{Field, FieldStates, Instructions, Offsets, Sequences};

/// A block's content has at most so many bytes.
const BLOCK_BYTES_MAX: usize = 128 << 10;

/// Fewer sequences are not worth the tables.
const COUNT_MIN: usize = 256;

/// Literals for each sequence, at most: the library decodes literals faster.
const LITERALS_MAX: usize = 9;

/// Such frames have no less than one byte for so many. No damaged one is to ask for much memory.
const LESS_MAX: usize = 32;

/// What goes over from one block of a frame to the next, and memory that serves again.
pub(super) struct Decoder {
    instructions: Instructions,
    literals: Literals,
    states: Box<FieldStates>,
    offsets: Offsets,
}

impl Decoder {
    /// One, where the processor has what it needs.
    pub fn new() -> Option<Self> {
        Some(Self {
            instructions: Instructions::detected()?,
            literals: Literals::default(),
            states: Box::default(),
            offsets: Offsets::default(),
        })
    }

    /// Decompresses a frame into `out` alone, whose content has so many bytes if that is known.
    /// `None` where it is better given to the library, or must be; `out` has anything then.
    pub fn decompress(
        &mut self,
        frame: &[u8],
        length: Option<usize>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let header = FrameHeader::read(frame, length)?;
        is_short(frame, header.bytes)?;
        self.blocks(frame, header, length, out, true)
    }

    /// The same from the first block on, of any frame or of one that has to prove as short.
    fn blocks(
        &mut self,
        frame: &[u8],
        FrameHeader { bytes: first, window }: FrameHeader,
        length: Option<usize>,
        out: &mut Vec<u8>,
        has_to_be_short: bool,
    ) -> Option<()> {
        self.literals.forget();
        self.states.forget();
        self.offsets = Offsets::default();
        let is_whole = |made| length.is_none_or(|length| length == made);
        let block_max = window.min(BLOCK_BYTES_MAX);
        let (mut at, mut made) = (first, 0);
        // The first block that has sequences proves it.
        let mut is_proven = !has_to_be_short;
        loop {
            if has_to_be_short && length.unwrap_or(made) / LESS_MAX > frame.len() {
                return None;
            }
            // Beyond its window the library forgets what it made, where it does not know how much
            // that will be.
            if length.is_none() && made > window {
                return None;
            }
            // What stands in it need not be cleared, for all of it is written anew.
            out.resize(length.unwrap_or(made + BLOCK_BYTES_MAX), 0);
            let block = Block::read(frame, at)?;
            let before = made;
            if block.content.len() > block_max {
                return None;
            }
            match block.form {
                BlockForm::Raw => {
                    let bytes = &frame[block.content.clone()];
                    out.get_mut(made..made + bytes.len())?.copy_from_slice(bytes);
                    made += bytes.len();
                }
                BlockForm::Same(count) => {
                    out.get_mut(made..made + count)?.fill(frame[block.content.start]);
                    made += count;
                }
                BlockForm::Compressed => {
                    let content = block.content.clone();
                    made = self.block(frame, content, out, made, &mut is_proven)?;
                }
            }
            if made - before > block_max {
                return None;
            }
            at = block.content.end;
            if block.is_last {
                out.truncate(made);
                return (at == frame.len() && is_whole(made)).then_some(());
            }
        }
    }

    /// Writes a compressed block behind the first `at` bytes of `out`. Gives how many there are then.
    /// Where it is not proven that sequences are short, those of this block have to be, if it has
    /// some.
    fn block(
        &mut self,
        frame: &[u8],
        block: Range<usize>,
        out: &mut [u8],
        mut at: usize,
        is_proven: &mut bool,
    ) -> Option<usize> {
        let header = literals::Header::read(&frame[block.clone()])?;
        let stored = block.start + header.bytes..block.start + header.bytes + header.stored;
        let (count, bytes) = sequence_count(frame.get(stored.end..block.end)?)?;
        let mut start = stored.end + bytes;
        if count > 0 {
            let modes = *frame[..block.end].get(start)?;
            start += 1;
            for (field, mode) in [
                (Field::Literals, modes >> 6),
                (Field::Offset, modes >> 4),
                (Field::Match, modes >> 2),
            ] {
                start += self.states.set(field, mode & 3, frame.get(start..block.end)?)?;
            }
            // The lowest bits are reserved.
            if modes & 3 != 0 || !*is_proven && !self.states.are_short() {
                return None;
            }
        } else if start != block.end {
            return None;
        }
        let mut literals = self.literals.read(frame, header, stored)?;
        if count > 0 {
            let bits = Backward::new(frame, start..block.end)?;
            let sequences = Sequences::new(count, bits, &self.states, literals, out, at)?;
            let must_be_short = !std::mem::replace(is_proven, true);
            (at, literals) =
                sequences.write(self.instructions, &mut self.offsets, must_be_short)?;
        }
        let rest = &literals[..literals.len() - SLACK];
        out.get_mut(at..at + rest.len())?.copy_from_slice(rest);
        Some(at + rest.len())
    }
}

enum BlockForm {
    Raw,
    /// One byte, so many times.
    Same(usize),
    Compressed,
}

struct Block {
    form: BlockForm,
    is_last: bool,
    /// What stands in the frame behind its header.
    content: Range<usize>,
}

impl Block {
    fn read(frame: &[u8], at: usize) -> Option<Self> {
        let &[a, b, c] = frame.get(at..)?.first_chunk::<3>()?;
        let header = u32::from_le_bytes([a, b, c, 0]);
        let size = (header >> 3) as usize;
        let (form, bytes) = match header >> 1 & 3 {
            0 => (BlockForm::Raw, size),
            1 => (BlockForm::Same(size), 1),
            2 => (BlockForm::Compressed, size),
            _ => return None,
        };
        let content = at + 3..at + 3 + bytes;
        (content.end <= frame.len()).then_some(Self { form, is_last: header & 1 == 1, content })
    }
}

/// What stands at the start of a frame.
#[derive(Clone, Copy)]
struct FrameHeader {
    /// Its own.
    bytes: usize,
    /// How far a match reaches back.
    window: usize,
}

/// The library asks to be told before it decompresses frames of larger windows.
const WINDOW_MAX: usize = 128 << 20;

impl FrameHeader {
    /// That of a frame that has neither a dictionary nor a checksum, with the length of its content
    /// if that is known.
    fn read(frame: &[u8], length: Option<usize>) -> Option<Self> {
        let &[0x28, 0xB5, 0x2F, 0xFD, described] = frame.first_chunk::<5>()? else { return None };
        // A dictionary, a checksum, or what is reserved.
        if described & 0b1111 != 0 {
            return None;
        }
        let is_single = described >> 5 & 1 == 1;
        let content_size = match described >> 6 {
            0 => usize::from(is_single),
            size => 1 << size,
        };
        let bytes = 5 + usize::from(!is_single) + content_size;
        let window = if is_single {
            length?
        } else {
            let window = usize::from(*frame.get(5)?);
            let least = 1 << (10 + (window >> 3));
            least + least / 8 * (window & 7)
        };
        (is_single || window <= WINDOW_MAX).then_some(Self { bytes, window })
    }
}

/// How many sequences there are, and in how many bytes that stands.
fn sequence_count(bytes: &[u8]) -> Option<(usize, usize)> {
    let number = |at: usize| bytes.get(at).copied().map(usize::from);
    Some(match number(0)? {
        few @ 0..128 => (few, 1),
        255 => (number(1)? + (number(2)? << 8) + 0x7F00, 3),
        high => (((high - 128) << 8) + number(1)?, 2),
    })
}

/// Whether sequences can be short, by how many they and the literals of all blocks are. The first
/// blocks may have none: compressing fast, the library looks for matches the less often the longer it
/// finds none.
fn is_short(frame: &[u8], first: usize) -> Option<()> {
    let (mut at, mut sequences, mut literals) = (first, 0, 0);
    loop {
        let block = Block::read(frame, at)?;
        at = block.content.end;
        if let BlockForm::Compressed = block.form {
            let content = &frame[block.content];
            let header = literals::Header::read(content)?;
            let (count, _) = sequence_count(content.get(header.bytes + header.stored..)?)?;
            sequences += count;
            literals += header.count;
        }
        if block.is_last {
            return (sequences >= COUNT_MIN && literals <= sequences * LITERALS_MAX).then_some(());
        }
    }
}

#[cfg(test)]
mod tests;
