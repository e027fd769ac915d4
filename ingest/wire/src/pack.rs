//! Columns of 64-bit integers in blocks of 256: a base and bit-packed differences. And the
//! variable-length integers and cursor that all layouts share.

use crate::DecodeError;

/// Values per block; the last block of a column may be shorter.
const BLOCK: usize = 256;
/// In a block's first byte: the values are differences to the one before.
const DELTA: u8 = 0x80;

/// Reads through bytes without ever going past their end.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::Truncated { what })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        Ok(self.take(N, what)?.try_into().expect("as many bytes as were taken"))
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// LEB128 of at most `bits` bits.
    fn varint(&mut self, bits: u32, what: &'static str) -> Result<u128, DecodeError> {
        let mut value = 0u128;
        let mut shift = 0;
        loop {
            let byte = self.byte(what)?;
            let part = u128::from(byte & 0x7F);
            if shift >= bits || (bits - shift < 7 && part >> (bits - shift) != 0) {
                return Err(DecodeError::Invalid { what });
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    pub(crate) fn unsigned(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(self.varint(64, what)? as u64)
    }

    pub(crate) fn signed(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        let value = self.unsigned(what)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn signed_wide(&mut self, what: &'static str) -> Result<i128, DecodeError> {
        let value = self.varint(128, what)?;
        Ok((value >> 1) as i128 ^ -((value & 1) as i128))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(DecodeError::LeftOver { bytes }),
        }
    }
}

pub(crate) fn put_unsigned(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_signed(value: i64, out: &mut Vec<u8>) {
    put_unsigned((value << 1 ^ value >> 63) as u64, out);
}

pub(crate) fn put_signed_wide(value: i128, out: &mut Vec<u8>) {
    let mut value = (value << 1 ^ value >> 127) as u128;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `rows` values, asked for in order.
///
/// Per block the smaller of two forms: offsets from the least value, or differences to the value
/// before as offsets from the least difference. All arithmetic is modulo 2^64, so every value
/// comes back whatever the spans are.
pub(crate) fn put_column(rows: usize, mut value: impl FnMut(usize) -> i64, out: &mut Vec<u8>) {
    let mut block = [0i64; BLOCK];
    let mut start = 0;
    while start < rows {
        let count = BLOCK.min(rows - start);
        let block = &mut block[..count];
        for (i, slot) in block.iter_mut().enumerate() {
            *slot = value(start + i);
        }
        put_block(block, out);
        start += count;
    }
}

fn put_block(block: &mut [i64], out: &mut Vec<u8>) {
    let (least, greatest) = span(block.iter().copied());
    let (least_step, greatest_step) =
        span(block.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])));
    let width = width_of(greatest.wrapping_sub(least));
    let step_width = match block.len() {
        1 => u32::MAX,
        _ => width_of(greatest_step.wrapping_sub(least_step)),
    };
    if step_width < width {
        out.push(DELTA | step_width as u8);
        put_signed(block[0], out);
        put_signed(least_step, out);
        let mut before = block[0];
        for slot in &mut block[1..] {
            let step = slot.wrapping_sub(before).wrapping_sub(least_step);
            before = std::mem::replace(slot, step);
        }
        put_bits(&block[1..], step_width, out);
    } else {
        out.push(width as u8);
        put_signed(least, out);
        block.iter_mut().for_each(|slot| *slot = slot.wrapping_sub(least));
        put_bits(block, width, out);
    }
}

fn span(values: impl Iterator<Item = i64>) -> (i64, i64) {
    values.fold((i64::MAX, i64::MIN), |(least, greatest), value| {
        (least.min(value), greatest.max(value))
    })
}

/// Bits needed for an offset up to `span`, taken as unsigned.
fn width_of(span: i64) -> u32 {
    64 - span.leading_zeros()
}

/// Appends the low `width` bits of each value, first value in the lowest bits. The other bits of
/// each value are zero: offsets were taken from the least one.
fn put_bits(values: &[i64], width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let mut packed = [0u8; BLOCK * 8];
    let (mut at, mut word, mut filled) = (0, 0u64, 0u32);
    for &value in values {
        let value = value as u64;
        word |= value << filled;
        filled += width;
        if filled >= 64 {
            packed[at..at + 8].copy_from_slice(&word.to_le_bytes());
            at += 8;
            filled -= 64;
            word = value.checked_shr(width - filled).unwrap_or(0);
        }
    }
    if filled > 0 {
        packed[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&packed[..bytes_of(values.len(), width)]);
}

fn bytes_of(values: usize, width: u32) -> usize {
    (values * width as usize).div_ceil(8)
}

/// Reads `rows` values, handing them to `each` in order, block by block.
pub(crate) fn read_column(
    cursor: &mut Cursor<'_>,
    rows: usize,
    what: &'static str,
    mut each: impl FnMut(&[i64]),
) -> Result<(), DecodeError> {
    let mut block = [0i64; BLOCK];
    let mut left = rows;
    while left > 0 {
        let block = &mut block[..BLOCK.min(left)];
        left -= block.len();
        let head = cursor.byte(what)?;
        let width = u32::from(head & !DELTA);
        if width > 64 {
            return Err(DecodeError::Invalid { what });
        }
        let first = cursor.signed(what)?;
        if head & DELTA != 0 {
            let least_step = cursor.signed(what)?;
            block[0] = first;
            let steps = &mut block[1..];
            read_bits(cursor.take(bytes_of(steps.len(), width), what)?, width, steps);
            let mut value = first;
            for slot in steps {
                value = value.wrapping_add(least_step).wrapping_add(*slot);
                *slot = value;
            }
        } else {
            read_bits(cursor.take(bytes_of(block.len(), width), what)?, width, block);
            block.iter_mut().for_each(|slot| *slot = slot.wrapping_add(first));
        }
        each(block);
    }
    Ok(())
}

fn read_bits(bytes: &[u8], width: u32, values: &mut [i64]) {
    if width == 0 {
        values.fill(0);
        return;
    }
    // Sixteen bytes more than a full block, so that a whole word can be loaded at every value.
    let mut padded = [0u8; BLOCK * 8 + 16];
    padded[..bytes.len()].copy_from_slice(bytes);
    let width = width as usize;
    if width <= 56 {
        let mask = (1u64 << width) - 1;
        for (i, value) in values.iter_mut().enumerate() {
            let bit = i * width;
            let word: [u8; 8] = padded[bit / 8..bit / 8 + 8].try_into().expect("eight bytes");
            *value = (u64::from_le_bytes(word) >> (bit % 8) & mask) as i64;
        }
    } else {
        let mask = (1u128 << width) - 1;
        for (i, value) in values.iter_mut().enumerate() {
            let bit = i * width;
            let word: [u8; 16] = padded[bit / 8..bit / 8 + 16].try_into().expect("sixteen bytes");
            *value = (u128::from_le_bytes(word) >> (bit % 8) & mask) as i64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roundtrip(values: &[i64]) -> usize {
        let mut bytes = Vec::new();
        put_column(values.len(), |i| values[i], &mut bytes);
        let mut cursor = Cursor::new(&bytes);
        let mut back = Vec::new();
        read_column(&mut cursor, values.len(), "test", |block| back.extend_from_slice(block))
            .unwrap();
        cursor.end().unwrap();
        assert_eq!(back, values);
        bytes.len()
    }

    #[test]
    fn every_width_and_the_extremes_come_back() {
        for width in 0..=64 {
            for rows in [1, 2, 255, 256, 257, 700] {
                let mask = if width == 64 { u64::MAX } else { (1u64 << width) - 1 };
                let noise = |i: usize| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                roundtrip(&(0..rows).map(|i| (noise(i) & mask) as i64).collect::<Vec<_>>());
            }
        }
        roundtrip(&[i64::MIN, i64::MAX, 0, -1, i64::MAX, i64::MIN]);
        roundtrip(&[]);
    }

    #[test]
    fn a_steady_sequence_takes_a_few_bytes_per_block() {
        let values: Vec<i64> = (0..1024).map(|i| 1_000_000 + i).collect();
        assert!(roundtrip(&values) <= 4 * 6);
    }

    #[test]
    fn variable_lengths_are_bounded() {
        for value in [0, 1, -1, 63, -64, 64, i64::MIN, i64::MAX] {
            let mut bytes = Vec::new();
            put_signed(value, &mut bytes);
            assert_eq!(Cursor::new(&bytes).signed("test").unwrap(), value);
        }
        for value in [0, -1, i128::MIN, i128::MAX] {
            let mut bytes = Vec::new();
            put_signed_wide(value, &mut bytes);
            assert_eq!(Cursor::new(&bytes).signed_wide("test").unwrap(), value);
        }
        assert!(Cursor::new(&[0xFF; 20]).signed("test").is_err());
        assert!(Cursor::new(&[0xFF; 40]).signed_wide("test").is_err());
        assert!(Cursor::new(&[0x80; 3]).signed("test").is_err());
    }
}
