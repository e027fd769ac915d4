//! The bytes of a block that repeat nothing before them: as they are, one of them, or by Huffman's
//! code.

use std::ops::Range;

use super::BLOCK_BYTES_MAX;
use super::bits::{Backward, WORD_BITS};
use super::entropy::{Distribution, SYMBOLS, Symbols, next_state};

/// Of a symbol.
const BITS_MAX: u32 = 11;

/// Symbols that a word has for certain.
const AT_ONCE: usize = (WORD_BITS / BITS_MAX) as usize;

const STREAMS: usize = 4;

/// Bytes behind the literals that may be read, whatever they are.
pub(super) const SLACK: usize = 8;

/// The symbol that the next bits begin with, and below it how many they are.
type Codes = [u16; 1 << BITS_MAX];

/// How many states stand for a symbol of the code, by powers of two, from 1 on; 0 for none.
static WEIGHTS: Symbols = {
    let mut weights = [0; SYMBOLS];
    let mut weight = 0;
    while weight < SYMBOLS {
        weights[weight] = (weight as u64) << 32;
        weight += 1;
    }
    weights
};

/// How the literals of a block are stored.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Raw,
    /// One byte, which they all are.
    Same,
    /// By a code, which stands before them or is that of the block before.
    Coded {
        anew: bool,
        streams: usize,
    },
}

/// What stands at the start of a block.
#[derive(Clone, Copy)]
pub(super) struct Header {
    form: Form,
    /// Literals.
    pub count: usize,
    /// Bytes of the header, and of what follows it.
    pub bytes: usize,
    pub stored: usize,
}

impl Header {
    pub fn read(block: &[u8]) -> Option<Self> {
        let first = *block.first()?;
        let size = usize::from(first >> 2 & 3);
        let number = |bytes: usize| {
            let bytes = block.get(..bytes)?;
            Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte)))
        };
        if first & 2 == 0 {
            let (count, bytes) = match size {
                1 => (number(2)? >> 4, 2),
                3 => (number(3)? >> 4, 3),
                _ => (usize::from(first >> 3), 1),
            };
            let (form, stored) = if first & 1 == 0 { (Form::Raw, count) } else { (Form::Same, 1) };
            return Some(Self { form, count, bytes, stored });
        }
        let (bits, bytes) = match size {
            0 | 1 => (10, 3),
            2 => (14, 4),
            _ => (18, 5),
        };
        let sizes = number(bytes)? >> 4;
        let form =
            Form::Coded { anew: first & 1 == 0, streams: if size == 0 { 1 } else { STREAMS } };
        let count = sizes & ((1 << bits) - 1);
        Some(Self { form, count, bytes, stored: sizes >> bits })
    }
}

/// The code of a frame's last block that had one, and memory that serves again.
pub(super) struct Literals {
    codes: Box<Codes>,
    is_set: bool,
    decoded: Vec<u8>,
}

impl Default for Literals {
    fn default() -> Self {
        Self { codes: Box::new([0; _]), is_set: false, decoded: Vec::new() }
    }
}

impl Literals {
    pub fn forget(&mut self) {
        self.is_set = false;
    }

    /// Those of a block, which are stored there in the frame, and [`SLACK`] bytes.
    pub fn read<'a>(
        &'a mut self,
        frame: &'a [u8],
        header: Header,
        stored: Range<usize>,
    ) -> Option<&'a [u8]> {
        if header.count > BLOCK_BYTES_MAX {
            return None;
        }
        if header.form == Form::Raw
            && let Some(with_slack) = frame.get(stored.start..stored.end + SLACK)
        {
            return Some(with_slack);
        }
        // What stands in it need not be cleared, for all literals are written anew.
        self.decoded.resize(header.count + SLACK, 0);
        let literals = &mut self.decoded[..header.count];
        match header.form {
            Form::Raw => literals.copy_from_slice(frame.get(stored)?),
            Form::Same => literals.fill(*frame.get(stored.start)?),
            Form::Coded { anew, streams } => {
                let mut coded = stored.clone();
                if anew {
                    self.is_set = false;
                    coded.start += read_codes(frame, stored, &mut self.codes)?;
                    self.is_set = true;
                }
                self.is_set.then_some(())?;
                decode(frame, coded, streams, &self.codes, literals)?;
            }
        }
        Some(&self.decoded)
    }
}

/// Decodes literals that stand at `at` in the frame into all of `out`.
fn decode(
    frame: &[u8],
    at: Range<usize>,
    streams: usize,
    codes: &Codes,
    out: &mut [u8],
) -> Option<()> {
    if streams == 1 {
        return one(Backward::new(frame, at)?, codes, out);
    }
    let sizes = frame.get(at.clone())?.first_chunk::<6>()?;
    let size =
        |number: usize| usize::from(u16::from_le_bytes([sizes[2 * number], sizes[2 * number + 1]]));
    let mut ends = [at.start + sizes.len(); STREAMS + 1];
    for number in 1..STREAMS {
        ends[number] = ends[number - 1] + size(number - 1);
    }
    ends[STREAMS] = at.end;
    // The library takes no fewer in four streams.
    (out.len() >= 6).then_some(())?;
    let part = out.len().div_ceil(STREAMS);
    let (a, rest) = out.split_at_mut_checked(part)?;
    let (b, rest) = rest.split_at_mut_checked(part)?;
    let (c, d) = rest.split_at_mut_checked(part)?;
    let stream = |number: usize| Backward::new(frame, ends[number]..ends[number + 1]);
    four([stream(0)?, stream(1)?, stream(2)?, stream(3)?], codes, [a, b, c, d])
}

/// Four streams in turns, so that none waits for another's table.
fn four(mut streams: [Backward; STREAMS], codes: &Codes, outs: [&mut [u8]; STREAMS]) -> Option<()> {
    let [a, b, c, d] = outs;
    let (pieces_a, rest_a) = a.as_chunks_mut::<AT_ONCE>();
    let (pieces_b, rest_b) = b.as_chunks_mut::<AT_ONCE>();
    let (pieces_c, rest_c) = c.as_chunks_mut::<AT_ONCE>();
    let (pieces_d, rest_d) = d.as_chunks_mut::<AT_ONCE>();
    let together = pieces_d.len();
    let each = pieces_a.iter_mut().zip(pieces_b.iter_mut()).zip(pieces_c.iter_mut()).zip(pieces_d);
    for (((a, b), c), d) in each {
        let [at_a, at_b, at_c, at_d] = &mut streams;
        some(at_a, codes, a)?;
        some(at_b, codes, b)?;
        some(at_c, codes, c)?;
        some(at_d, codes, d)?;
    }
    for (stream, pieces) in streams.iter_mut().zip([pieces_a, pieces_b, pieces_c]) {
        for piece in &mut pieces[together..] {
            some(stream, codes, piece)?;
        }
    }
    for (stream, rest) in streams.into_iter().zip([rest_a, rest_b, rest_c, rest_d]) {
        one(stream, codes, rest)?;
    }
    Some(())
}

/// All literals of a stream, which must end with them.
fn one(mut stream: Backward, codes: &Codes, out: &mut [u8]) -> Option<()> {
    let (pieces, rest) = out.as_chunks_mut::<AT_ONCE>();
    for piece in pieces {
        some(&mut stream, codes, piece)?;
    }
    some(&mut stream, codes, rest)?;
    (stream.left() == 0).then_some(())
}

/// Decodes at most [`AT_ONCE`] literals.
#[inline(always)]
fn some(stream: &mut Backward, codes: &Codes, out: &mut [u8]) -> Option<()> {
    let mut word = stream.word()?;
    let mut bits = 0;
    for out in out {
        let code = codes[(word >> (64 - BITS_MAX)) as usize];
        *out = (code >> 8) as u8;
        word = word.wrapping_shl(code.into());
        bits += usize::from(code & 15);
    }
    stream.end -= bits;
    (stream.end >= stream.start).then_some(())
}

/// Reads a code, and tells how many bytes it took. `at` is what may hold it.
fn read_codes(frame: &[u8], at: Range<usize>, codes: &mut Codes) -> Option<usize> {
    let bytes = frame.get(at.clone())?;
    let (&header, described) = bytes.split_first()?;
    let header = usize::from(header);
    let mut weights = [0_u8; 256];
    let mut count = 0;
    let mut push = |weight: u8| {
        // The last symbol's weight is not stored.
        *weights[..255].get_mut(count)? = weight;
        count += 1;
        Some(())
    };
    let read;
    if header >= 128 {
        let plain = header - 127;
        read = 1 + plain.div_ceil(2);
        let nibbles = described.get(..plain.div_ceil(2))?.iter().flat_map(|&b| [b >> 4, b & 15]);
        nibbles.take(plain).try_for_each(&mut push)?;
    } else {
        read = 1 + header;
        let (distribution, start) = Distribution::read(described.get(..header)?, 6, 12)?;
        let mut states = [0; _];
        distribution.spread(&WEIGHTS, &mut states);
        let first = at.start + 1;
        let mut bits = Backward::new(frame, first + start..first + header)?;
        // Two in turns, until the bits do not suffice for the next state of one.
        let mut now = bits.take(distribution.log)?;
        let mut other = bits.take(distribution.log)?;
        loop {
            let state = states[now as usize];
            push((state >> 32) as u8)?;
            if bits.left() < (state & 255) as usize {
                push((states[other as usize] >> 32) as u8)?;
                break;
            }
            now = next_state(state, &mut bits)?;
            std::mem::swap(&mut now, &mut other);
        }
    }
    fill(&mut weights, count, codes)?;
    Some(read)
}

/// Each symbol takes as much of the table as its weight says; the last one takes what is left.
fn fill(weights: &mut [u8; 256], count: usize, codes: &mut Codes) -> Option<()> {
    let share = |weight: u8| if weight == 0 { 0 } else { 1_usize << (weight - 1) };
    let taken: usize = weights[..count].iter().map(|&weight| share(weight)).sum();
    let log = taken.checked_ilog2()? + 1;
    let left = (1 << log) - taken;
    if log > BITS_MAX || !left.is_power_of_two() {
        return None;
    }
    weights[count] = left.ilog2() as u8 + 1;
    // Without the longest codes all would be longer than they have to be, which no code is.
    weights[..=count].contains(&1).then_some(())?;
    let wide = BITS_MAX - log;
    let mut at = 0;
    for weight in 1..=log as u8 {
        for (symbol, _) in weights[..=count].iter().enumerate().filter(|(_, of)| **of == weight) {
            let code = (symbol as u16) << 8 | (log as u16 + 1 - u16::from(weight));
            let until = at + (share(weight) << wide);
            codes.get_mut(at..until)?.fill(code);
            at = until;
        }
    }
    (at == codes.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_and_what_is_none_is_refused() {
        let mut codes = [0; _];
        let mut read = |plain: &[u8]| {
            let mut frame = vec![0; 8];
            frame.extend_from_slice(plain);
            read_codes(&frame, 8..frame.len(), &mut codes)
        };
        // One weight, and the last symbol's, which is not stored.
        assert_eq!(read(&[128, 0x10]), Some(2));
        assert_eq!(read(&[129, 0x21]), Some(2));
        assert_eq!(read(&[130, 0x21, 0x10]), Some(3));
        assert_eq!(read(&[129, 0x31]), None, "what is left for the last symbol is no share");
        assert_eq!(read(&[129, 0x22]), None, "no symbol of the longest code");
        assert_eq!(read(&[128, 0x00]), None, "no symbol");
        assert_eq!(read(&[128, 0xC0]), None, "a code of twelve bits");
        assert_eq!(read(&[130, 0x21]), None, "cut off");
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn four_streams_have_six_literals_or_more() {
        let mut codes = [0; _];
        let mut frame = vec![0; 8];
        frame.extend_from_slice(&[128, 0x10]);
        assert_eq!(read_codes(&frame, 8..10, &mut codes), Some(2));
        // Streams of a byte each, of which the highest bit that is set only marks the start.
        frame.extend_from_slice(&[1, 0, 1, 0, 1, 0]);
        for (bytes, count, is_taken) in [([2, 2, 2, 2], 4, false), ([4, 4, 4, 4], 8, true)] {
            let mut with_streams = frame.clone();
            with_streams.extend_from_slice(&bytes);
            let mut out = vec![9; count];
            let got = decode(&with_streams, 10..with_streams.len(), STREAMS, &codes, &mut out);
            assert_eq!(got.is_some(), is_taken, "{count} literals");
        }
    }
}
