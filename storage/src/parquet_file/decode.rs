//! Values from the bytes of Parquet pages: what [`encode`](super::encode) writes, and what other
//! writers of the same encodings do. `None` for bytes that are none.

#[cfg(target_arch = "x86_64")]
mod avx512;

use std::iter;

/// Values that are unpacked at a time: parts of a block have a multiple of them.
const LANES: usize = 32;
/// Wider values do not lie within eight bytes wherever they begin.
const NARROW: usize = 57;
/// Bytes behind the last packed ones that unpacking looks at.
const SLACK: usize = 64;

/// Appends a page of `count` values that are stored as `DELTA_BINARY_PACKED`.
pub(super) fn delta_packed(page: &[u8], count: usize, out: &mut Vec<i64>) -> Option<()> {
    let mut rest = page;
    let block = usize::try_from(varint(&mut rest)?).ok()?;
    let parts = usize::try_from(varint(&mut rest)?).ok()?;
    let found = varint(&mut rest)?;
    let first = zigzag(&mut rest)?;
    let part = block.checked_div(parts)?;
    if found != count as u64 || part == 0 || part % LANES != 0 || part * parts != block {
        return None;
    }
    let Some(mut left) = count.checked_sub(1) else { return Some(()) };
    out.reserve(count);
    let mut unpacking = Unpacking::new(first, out);
    while left > 0 {
        let least = zigzag(&mut rest)?;
        let (widths, after) = rest.split_at_checked(parts)?;
        rest = after;
        for &width in widths {
            // Parts behind the last value may say anything.
            if left == 0 {
                break;
            }
            let width = usize::from(width);
            if width > u64::BITS as usize {
                return None;
            }
            // The last part may end behind the last values that count.
            let values = part.min(left);
            let bytes = width * values.next_multiple_of(LANES) / 8;
            if rest.len() < bytes {
                return None;
            }
            unpacking.part(rest, width, least, values);
            rest = &rest[(width.checked_mul(part)? / 8).min(rest.len())..];
            left -= values;
        }
    }
    let deltas = count - 1;
    unpacking.finish(deltas.next_multiple_of(LANES) - deltas);
    Some(())
}

/// Makes values of deltas.
struct Unpacking<'a> {
    out: &'a mut Vec<i64>,
    last: i64,
    /// Values that go to `out` together, and how many there are.
    some: [[i64; LANES]; GATHERED],
    full: usize,
    #[cfg(target_arch = "x86_64")]
    avx512: Option<avx512::Avx512>,
}

/// How many times [`LANES`] values are gathered before they are copied.
const GATHERED: usize = 8;

impl<'a> Unpacking<'a> {
    fn new(first: i64, out: &'a mut Vec<i64>) -> Self {
        out.push(first);
        Self {
            out,
            last: first,
            some: [[0; LANES]; GATHERED],
            full: 0,
            #[cfg(target_arch = "x86_64")]
            avx512: avx512::Avx512::detected(),
        }
    }

    /// Adds values whose deltas over `least` stand at the start of `packed`, which holds all of
    /// them, up to a multiple of [`LANES`].
    fn part(&mut self, packed: &[u8], width: usize, least: i64, values: usize) {
        let bytes = LANES * width / 8;
        for at in (0..values).step_by(LANES) {
            let packed = &packed[at * width / 8..];
            match packed.len() >= bytes + SLACK {
                true => self.lanes(packed, width, least),
                false => {
                    let mut padded = [0; LANES * 8 + SLACK];
                    padded[..bytes].copy_from_slice(&packed[..bytes]);
                    self.lanes(&padded, width, least);
                }
            }
        }
    }

    /// `packed` has [`SLACK`] bytes more than are looked at.
    fn lanes(&mut self, packed: &[u8], width: usize, least: i64) {
        if self.full == GATHERED {
            self.out.extend_from_slice(self.some.as_flattened());
            self.full = 0;
        }
        let lanes = &mut self.some[self.full];
        self.full += 1;
        #[cfg(target_arch = "x86_64")]
        if let Some(avx512) = self.avx512
            && width <= NARROW
        {
            self.last = avx512.unpack(packed, width, least, self.last, lanes);
            return;
        }
        self.last = unpack(packed, width, least, self.last, lanes);
    }

    /// Hands over what is gathered. Only the last values have others behind them that are none.
    fn finish(self, none: usize) {
        let some = self.some[..self.full].as_flattened();
        self.out.extend_from_slice(&some[..some.len() - none]);
    }
}

/// The values whose deltas over `least` are packed, behind the value `last`. Gives the last of them.
fn unpack(packed: &[u8], width: usize, least: i64, last: i64, lanes: &mut [i64; LANES]) -> i64 {
    macro_rules! of_width {
        ($($narrow:literal)*) => {
            match width {
                $($narrow => unpack_narrow::<$narrow>(packed, lanes),)*
                _ => unpack_wide(packed, width, lanes),
            }
        };
    }
    of_width!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30
        31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57);
    lanes.iter_mut().fold(last, |last, lane| {
        *lane = last.wrapping_add(least.wrapping_add(*lane));
        *lane
    })
}

fn unpack_narrow<const WIDTH: usize>(packed: &[u8], lanes: &mut [i64; LANES]) {
    let packed = &packed[..LANES * WIDTH / 8 + 8];
    for (number, lane) in lanes.iter_mut().enumerate() {
        let (byte, shift) = (number * WIDTH / 8, number * WIDTH % 8);
        let word = u64::from_le_bytes(packed[byte..byte + 8].try_into().expect("eight bytes"));
        *lane = ((word >> shift) & ((1 << WIDTH) - 1)).cast_signed();
    }
}

fn unpack_wide(packed: &[u8], width: usize, lanes: &mut [i64; LANES]) {
    for (number, lane) in lanes.iter_mut().enumerate() {
        let (byte, shift) = (number * width / 8, number * width % 8);
        let word = u128::from_le_bytes(packed[byte..byte + 16].try_into().expect("16 bytes"));
        *lane = ((word >> shift) as u64 & (u64::MAX >> (64 - width))).cast_signed();
    }
}

/// Values of up to 32 bits in the hybrid of repeated and packed runs.
pub(super) struct Hybrid<'a> {
    rest: &'a [u8],
    width: usize,
    left: usize,
}

/// Values of a hybrid.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Run<'a> {
    /// One value, so many times.
    Repeated(u32, usize),
    /// So many values, of equal width one behind the other.
    Packed(Packed<'a>, usize),
}

/// Packed values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packed<'a> {
    bytes: &'a [u8],
    width: usize,
}

impl Packed<'_> {
    /// A value of them.
    pub fn get(&self, number: usize) -> u32 {
        let (byte, shift) = (number * self.width / 8, number * self.width % 8);
        let word = match self.bytes[byte..].first_chunk() {
            Some(word) => u64::from_le_bytes(*word),
            None => {
                let mut word = [0; 8];
                let bytes = &self.bytes[byte..];
                word[..bytes.len()].copy_from_slice(bytes);
                u64::from_le_bytes(word)
            }
        };
        // At most 7 bits of shift and 32 of width: they lie within the eight bytes.
        ((word >> shift) & ((1 << self.width) - 1)) as u32
    }
}

impl<'a> Hybrid<'a> {
    /// `count` values of `width` bits.
    pub fn new(bytes: &'a [u8], width: u8, count: usize) -> Option<Self> {
        let width = usize::from(width);
        (width <= 32).then_some(Self { rest: bytes, width, left: count })
    }

    /// The next run; `Some(None)` behind the last value.
    pub fn next(&mut self) -> Option<Option<Run<'a>>> {
        if self.left == 0 {
            return Some(None);
        }
        let header = varint(&mut self.rest)?;
        let count = usize::try_from(header >> 1).ok()?;
        let run = if header & 1 == 0 {
            let (value, after) = self.rest.split_at_checked(self.width.div_ceil(8))?;
            self.rest = after;
            let value = value.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
            Run::Repeated(value, count.min(self.left))
        } else {
            let (bytes, after) = self.rest.split_at_checked(count.checked_mul(self.width)?)?;
            self.rest = after;
            let packed = Packed { bytes, width: self.width };
            Run::Packed(packed, count.checked_mul(8)?.min(self.left))
        };
        let (Run::Repeated(_, values) | Run::Packed(_, values)) = run;
        self.left -= values;
        (values > 0).then_some(Some(run))
    }
}

/// Appends a page of `count` values that are stored as indices of a dictionary.
pub(super) fn indexed(
    page: &[u8],
    count: usize,
    dictionary: &[i64],
    out: &mut Vec<i64>,
) -> Option<()> {
    let mut runs = indices(page, count)?;
    while let Some(run) = runs.next()? {
        match run {
            Run::Repeated(index, values) => {
                out.extend(iter::repeat_n(*dictionary.get(index as usize)?, values));
            }
            Run::Packed(packed, values) => {
                for number in 0..values {
                    out.push(*dictionary.get(packed.get(number) as usize)?);
                }
            }
        }
    }
    Some(())
}

/// The indices of a page of them.
pub(super) fn indices(page: &[u8], count: usize) -> Option<Hybrid<'_>> {
    match page.split_first() {
        Some((&width, rest)) => Hybrid::new(rest, width, count),
        None => Hybrid::new(page, 0, count).filter(|_| count == 0),
    }
}

/// The definition levels before the values of a page of a column that may be null.
pub(super) fn levels<'a>(page: &mut &'a [u8], count: usize) -> Option<Hybrid<'a>> {
    let (len, rest) = page.split_first_chunk()?;
    let (levels, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *page = rest;
    Hybrid::new(levels, 1, count)
}

/// Appends a page of `count` values of eight bytes each.
pub(super) fn plain(page: &[u8], count: usize, out: &mut Vec<i64>) -> Option<()> {
    let (values, _) = page.as_chunks();
    out.extend(values.get(..count)?.iter().map(|value| i64::from_le_bytes(*value)));
    Some(())
}

/// `count` texts of a dictionary page: a length and bytes each.
pub(super) fn texts(page: &[u8], count: usize) -> Option<Vec<String>> {
    let mut rest = page;
    let mut texts = Vec::with_capacity(count.min(rest.len()));
    for _ in 0..count {
        let (len, after) = rest.split_first_chunk()?;
        let (text, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        texts.push(std::str::from_utf8(text).ok()?.to_owned());
        rest = after;
    }
    Some(texts)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        // Bits that 64 have no room for are none.
        value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn zigzag(rest: &mut &[u8]) -> Option<i64> {
    let value = varint(rest)?;
    Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

#[cfg(test)]
mod tests;
