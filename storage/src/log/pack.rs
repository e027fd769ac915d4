//! Integer columns as a base and offsets of equal byte width, straight or between neighbours.
//!
//! All arithmetic wraps: offsets are taken modulo 2^64, where subtraction and addition undo each
//! other whatever the values are.

use super::codec::{Input, Malformed};

/// Offsets are taken between neighbours.
const DELTA: u8 = 0x80;

/// Appends what `of` gives for `items`; their count is not part of it.
pub(super) fn pack<T: Copy>(items: &[T], of: impl Fn(T) -> i64, out: &mut Vec<u8>) {
    let Some(&first) = items.first() else { return };
    let first = of(first);
    let (mut least, mut greatest) = (first, first);
    for &item in items {
        least = least.min(of(item));
        greatest = greatest.max(of(item));
    }
    let pairs = || items.iter().zip(&items[1..]);
    let delta_of = |(&before, &item): (&T, &T)| of(item).wrapping_sub(of(before));
    let (mut delta_least, mut delta_greatest) = (i64::MAX, i64::MIN);
    for pair in pairs() {
        delta_least = delta_least.min(delta_of(pair));
        delta_greatest = delta_greatest.max(delta_of(pair));
    }
    let straight = width(least, greatest);
    let delta = if items.len() == 1 { 8 } else { width(delta_least, delta_greatest) };
    if delta < straight {
        out.push(DELTA | delta as u8);
        out.extend_from_slice(&delta_least.to_le_bytes());
        out.extend_from_slice(&first.to_le_bytes());
        let deltas = pairs().map(|pair| delta_of(pair).wrapping_sub(delta_least).cast_unsigned());
        put(deltas, delta, out);
    } else {
        out.push(straight as u8);
        out.extend_from_slice(&least.to_le_bytes());
        let offsets = items.iter().map(|&item| of(item).wrapping_sub(least).cast_unsigned());
        put(offsets, straight, out);
    }
}

/// Reads `count` values.
pub(super) fn unpack(input: &mut Input<'_>, count: usize) -> Result<Vec<i64>, Malformed> {
    if count == 0 {
        return Ok(Vec::new());
    }
    input.make_room(count)?;
    let mode = input.u8()?;
    let width = usize::from(mode & !DELTA);
    if width > 8 {
        return Err(Malformed("a column's width is above 8 bytes"));
    }
    let base = input.i64()?;
    if mode & DELTA == 0 {
        let mut values = Vec::with_capacity(count);
        get(input.bytes_of(count, width)?, width, count, |offset| {
            values.push(base.wrapping_add(offset.cast_signed()));
        });
        return Ok(values);
    }
    let mut value = input.i64()?;
    let bytes = input.bytes_of(count - 1, width)?;
    let mut values = Vec::with_capacity(count);
    values.push(value);
    get(bytes, width, count - 1, |offset| {
        value = value.wrapping_add(base).wrapping_add(offset.cast_signed());
        values.push(value);
    });
    Ok(values)
}

/// Bytes that hold every offset from `least` to `greatest`.
fn width(least: i64, greatest: i64) -> usize {
    let span = greatest.wrapping_sub(least).cast_unsigned();
    (64 - span.leading_zeros() as usize).div_ceil(8)
}

fn put(offsets: impl ExactSizeIterator<Item = u64>, width: usize, out: &mut Vec<u8>) {
    /// Of a width known to the compiler, so that the loop is made of whole stores.
    fn put_wide<const WIDTH: usize>(offsets: impl ExactSizeIterator<Item = u64>, out: &mut [u8]) {
        for (bytes, offset) in out.as_chunks_mut::<WIDTH>().0.iter_mut().zip(offsets) {
            bytes.copy_from_slice(&offset.to_le_bytes()[..WIDTH]);
        }
    }
    let start = out.len();
    out.resize(start + offsets.len() * width, 0);
    let out = &mut out[start..];
    match width {
        0 => {}
        1 => put_wide::<1>(offsets, out),
        2 => put_wide::<2>(offsets, out),
        3 => put_wide::<3>(offsets, out),
        4 => put_wide::<4>(offsets, out),
        5 => put_wide::<5>(offsets, out),
        6 => put_wide::<6>(offsets, out),
        7 => put_wide::<7>(offsets, out),
        _ => put_wide::<8>(offsets, out),
    }
}

fn get(bytes: &[u8], width: usize, count: usize, mut take: impl FnMut(u64)) {
    if width == 0 {
        (0..count).for_each(|_| take(0));
        return;
    }
    for offset in bytes.chunks_exact(width) {
        let mut word = [0; 8];
        word[..width].copy_from_slice(offset);
        take(u64::from_le_bytes(word));
    }
}
