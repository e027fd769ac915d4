//! Values as the bytes of Parquet pages: integers as deltas, dictionary indices and levels as runs.

use std::iter;

/// Values of a block and of each of its parts, as other writers of 64-bit integers have them.
const BLOCK_VALUES: usize = 256;
const PART_VALUES: usize = 64;
const PARTS: usize = BLOCK_VALUES / PART_VALUES;

/// How wide packed values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Widths {
    /// As narrow as they can be.
    Least,
    /// Whole bytes: a byte-wise codec behind it finds what they have in common.
    Bytes,
}

/// Appends a page's values as `DELTA_BINARY_PACKED`. All arithmetic wraps, as the format has it.
pub(super) fn delta_packed(values: &[i64], widths_are: Widths, out: &mut Vec<u8>) {
    put_varint(BLOCK_VALUES as u64, out);
    put_varint(PARTS as u64, out);
    put_varint(values.len() as u64, out);
    put_zigzag(values.first().copied().unwrap_or(0), out);
    let mut deltas = [0_i64; BLOCK_VALUES];
    let mut at = 1;
    while at < values.len() {
        let len = (values.len() - at).min(BLOCK_VALUES);
        let before = &values[at - 1..at - 1 + len];
        for ((delta, &value), &before) in deltas.iter_mut().zip(&values[at..at + len]).zip(before) {
            *delta = value.wrapping_sub(before);
        }
        let least = deltas[..len].iter().copied().fold(i64::MAX, i64::min);
        put_zigzag(least, out);
        let widths = out.len();
        out.extend_from_slice(&[0; PARTS]);
        for (number, part) in deltas[..len].chunks(PART_VALUES).enumerate() {
            let mut offsets = [0_u64; PART_VALUES];
            let mut all = 0;
            for (offset, &delta) in offsets.iter_mut().zip(part) {
                *offset = delta.wrapping_sub(least).cast_unsigned();
                all |= *offset;
            }
            let least = u64::BITS - all.leading_zeros();
            let width = match widths_are {
                Widths::Least => least,
                Widths::Bytes => least.next_multiple_of(8),
            };
            out[widths + number] = width as u8;
            pack(&offsets, width, out);
        }
        at += len;
    }
}

/// Appends 64 values of this many bits each, the least significant bit first.
fn pack(values: &[u64; PART_VALUES], width: u32, out: &mut Vec<u8>) {
    match width {
        0 => {}
        u64::BITS => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        _ => {
            // 64 values of w bits are w words.
            let mut words = [0_u64; PART_VALUES];
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
            let start = out.len();
            out.resize(start + width as usize * 8, 0);
            for (bytes, word) in out[start..].chunks_exact_mut(8).zip(words) {
                bytes.copy_from_slice(&word.to_le_bytes());
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
pub(super) fn indices(indices: impl Iterator<Item = u32>, width: u32, out: &mut Vec<u8>) {
    out.push(width as u8);
    hybrid(indices.map(|index| (index, 1)), width, out);
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
