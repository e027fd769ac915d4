//! Values as the bytes of Parquet pages: integers as deltas, dictionary indices and levels as runs.

use std::iter;

/// Values of a block, as other writers of 64-bit integers have them.
const BLOCK_VALUES: usize = 256;
/// Values of a block's parts, each of a width of its own. Readers unpack 64 values at a time, or 32
/// of up to 32 bits.
const LARGE: usize = 64;
const SMALL: usize = 32;
const SMALL_WIDTH_MAX: u32 = 32;

/// How wide packed values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Widths {
    /// As narrow as they can be.
    Least,
    /// Whole bytes: a byte-wise codec behind it finds what they have in common.
    Bytes,
}

impl Widths {
    /// Of values that have these bits between them.
    fn of(self, bits: u64) -> u32 {
        let least = u64::BITS - bits.leading_zeros();
        match self {
            Self::Least => least,
            Self::Bytes => least.next_multiple_of(8),
        }
    }
}

/// Appends a page's values as `DELTA_BINARY_PACKED`, in parts of the size that makes it shorter. All
/// arithmetic wraps, as the format has it.
pub(super) fn delta_packed(values: &[i64], widths: Widths, out: &mut Vec<u8>) {
    let part = if are_small_parts_shorter(values, widths) { SMALL } else { LARGE };
    put_varint(BLOCK_VALUES as u64, out);
    put_varint((BLOCK_VALUES / part) as u64, out);
    put_varint(values.len() as u64, out);
    put_zigzag(values.first().copied().unwrap_or(0), out);
    each_block(values, |least, offsets| {
        put_zigzag(least, out);
        let at = out.len();
        out.resize(at + BLOCK_VALUES / part, 0);
        for (number, part) in offsets.chunks(part).enumerate() {
            let width = widths.of(bits_of(part));
            out[at + number] = width as u8;
            pack(part, width, out);
        }
    });
}

/// Whether parts of 32 values take less space than those of 64, and readers are as fast with them.
fn are_small_parts_shorter(values: &[i64], widths: Widths) -> bool {
    // Bits that small parts save, and the widest of them.
    let (mut saved, mut widest) = (0, 0);
    each_block(values, |_, offsets| {
        for pair in offsets.chunks(LARGE) {
            let (left, right) = pair.split_at(pair.len().min(SMALL));
            let (left, right) = (widths.of(bits_of(left)), widths.of(bits_of(right)));
            widest = widest.max(left).max(right);
            saved += i64::from(left.abs_diff(right)) * SMALL as i64;
        }
        // There are more widths, of a byte each.
        saved -= 8 * (BLOCK_VALUES / SMALL - BLOCK_VALUES / LARGE) as i64;
    });
    widest <= SMALL_WIDTH_MAX && saved > 0
}

/// Calls with each block's least delta and its deltas over that. The last block's deltas are filled
/// up with zeros to whole large parts.
fn each_block(values: &[i64], mut each: impl FnMut(i64, &[u64])) {
    let mut at = 1;
    while at < values.len() {
        let len = (values.len() - at).min(BLOCK_VALUES);
        let before = &values[at - 1..at - 1 + len];
        let mut deltas = [0_i64; BLOCK_VALUES];
        for ((delta, &value), &before) in deltas.iter_mut().zip(&values[at..at + len]).zip(before) {
            *delta = value.wrapping_sub(before);
        }
        let least = deltas[..len].iter().copied().fold(i64::MAX, i64::min);
        let mut offsets = [0_u64; BLOCK_VALUES];
        for (offset, &delta) in offsets.iter_mut().zip(&deltas[..len]) {
            *offset = delta.wrapping_sub(least).cast_unsigned();
        }
        each(least, &offsets[..len.next_multiple_of(LARGE)]);
        at += len;
    }
}

/// The bits that any of the values has.
fn bits_of(values: &[u64]) -> u64 {
    values.iter().fold(0, |all, &value| all | value)
}

/// Appends a multiple of 32 values of this many bits each, the least significant bit first.
fn pack(values: &[u64], width: u32, out: &mut Vec<u8>) {
    match width {
        0 => {}
        u64::BITS => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        _ => {
            // At most 64 values of w bits are at most w words, the last one perhaps a half.
            let mut words = [0_u64; LARGE];
            let (mut word, mut used, mut next) = (0, 0, 0);
            for &value in values {
                word |= value << used;
                used += width;
                if used >= u64::BITS {
                    words[next] = word;
                    next += 1;
                    used -= u64::BITS;
                    // What of the value did not fit; a shift by all of its bits leaves none.
                    word = value.checked_shr(width - used).unwrap_or(0);
                }
            }
            if used > 0 {
                words[next] = word;
            }
            let start = out.len();
            out.resize(start + values.len() * width as usize / 8, 0);
            for (bytes, word) in out[start..].chunks_mut(8).zip(words) {
                bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
            }
        }
    }
}

/// Appends values of up to 32 bits, given as runs of equal ones, in the hybrid of repeated and
/// packed runs.
pub(super) fn hybrid(runs: impl Iterator<Item = (u32, usize)>, width: u32, out: &mut Vec<u8>) {
    let mut packed: Vec<u32> = Vec::new();
    for (value, mut len) in runs {
        // A packed run has a multiple of eight values: the last eight are filled first.
        let missing = packed.len().next_multiple_of(8) - packed.len();
        let filling = len.min(missing);
        packed.extend(iter::repeat_n(value, filling));
        len -= filling;
        if len < 8 {
            packed.extend(iter::repeat_n(value, len));
            continue;
        }
        put_packed(&mut packed, width, out);
        put_varint((len as u64) << 1, out);
        out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
    }
    put_packed(&mut packed, width, out);
}

/// Appends what is to be packed, and empties it. What is missing of the last eight values is 0:
/// readers know how many values there are.
fn put_packed(values: &mut Vec<u32>, width: u32, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    values.resize(values.len().next_multiple_of(8), 0);
    put_varint((values.len() as u64 / 8) << 1 | 1, out);
    let (mut word, mut used) = (0_u64, 0);
    for value in values.drain(..) {
        word |= u64::from(value) << used;
        used += width;
        while used >= 8 {
            out.push(word as u8);
            word >>= 8;
            used -= 8;
        }
    }
}

/// Appends a page of dictionary indices of this many bits.
pub(super) fn indices(indices: impl ExactSizeIterator<Item = u32>, width: u32, out: &mut Vec<u8>) {
    out.push(width as u8);
    match width {
        0 => hybrid(iter::once((0, indices.len())), width, out),
        _ => hybrid(indices.map(|index| (index, 1)), width, out),
    }
}

/// Appends definition levels of a column that may be null, with their length before them.
pub(super) fn levels(valid: impl Iterator<Item = (u32, usize)>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    hybrid(valid, 1, out);
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_zigzag(value: i64, out: &mut Vec<u8>) {
    put_varint((value << 1 ^ value >> 63).cast_unsigned(), out);
}
