//! Integer columns as a base and offsets of equal byte width, straight or between neighbours.
//!
//! All arithmetic wraps: offsets are taken modulo 2^64, where subtraction and addition undo each
//! other whatever the values are.

use super::codec::{Input, Malformed};

/// Offsets are taken between neighbours.
const DELTA: u8 = 0x80;

/// Appends `values`; their count is not part of it.
pub(super) fn pack(values: impl Iterator<Item = i64> + Clone, out: &mut Vec<u8>) {
    let Some(first) = values.clone().next() else { return };
    let (mut least, mut greatest) = (first, first);
    let (mut delta_least, mut delta_greatest) = (i64::MAX, i64::MIN);
    let mut previous = first;
    for value in values.clone().skip(1) {
        least = least.min(value);
        greatest = greatest.max(value);
        let delta = value.wrapping_sub(previous);
        delta_least = delta_least.min(delta);
        delta_greatest = delta_greatest.max(delta);
        previous = value;
    }
    let straight = width(least, greatest);
    let delta = if delta_least > delta_greatest { 8 } else { width(delta_least, delta_greatest) };
    if delta < straight {
        out.push(DELTA | delta as u8);
        out.extend_from_slice(&delta_least.to_le_bytes());
        out.extend_from_slice(&first.to_le_bytes());
        let mut previous = first;
        let deltas = values.skip(1).map(|value| {
            let offset = value.wrapping_sub(previous).wrapping_sub(delta_least);
            previous = value;
            offset.cast_unsigned()
        });
        put(deltas, delta, out);
    } else {
        out.push(straight as u8);
        out.extend_from_slice(&least.to_le_bytes());
        let offsets = values.map(|value| value.wrapping_sub(least).cast_unsigned());
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

fn put(offsets: impl Iterator<Item = u64>, width: usize, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let (least, _) = offsets.size_hint();
    out.reserve(least * width + 8);
    for offset in offsets {
        // Eight bytes are written and the surplus cut again: one store instead of a loop.
        let end = out.len() + width;
        out.extend_from_slice(&offset.to_le_bytes());
        out.truncate(end);
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
