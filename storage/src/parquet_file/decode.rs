//! Values from the bytes of Parquet pages: what [`encode`](super::encode) writes, and what other
//! writers of the same encodings do. `None` for bytes that are none.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod deltas;

pub(super) use self::deltas::Deltas;
use super::values::Wanted;

/// Values that are unpacked at a time: parts of a block have a multiple of them.
const LANES: usize = 32;
/// Wider values do not lie within eight bytes wherever they begin.
#[cfg(target_arch = "x86_64")]
const NARROW: usize = 57;
/// Small values that are unpacked at a time.
const SMALL_LANES: usize = 8 * LANES;
/// Wider ones do not lie within four bytes wherever they begin.
#[cfg(target_arch = "x86_64")]
const SMALL: usize = 25;
/// Bytes behind the last packed ones that unpacking looks at.
const SLACK: usize = 64;

/// Packed values as they are.
fn unpack_lanes(packed: &[u8], width: usize, lanes: &mut [i64; LANES]) {
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
}

fn unpack_narrow<const WIDTH: usize>(packed: &[u8], lanes: &mut [i64; LANES]) {
    let packed = &packed[..LANES * WIDTH / 8 + 8];
    for (number, lane) in lanes.iter_mut().enumerate() {
        let (byte, shift) = (number * WIDTH / 8, number * WIDTH % 8);
        let word = u64::from_le_bytes(packed[byte..byte + 8].try_into().expect("eight bytes"));
        *lane = ((word >> shift) & ((1 << WIDTH) - 1)).cast_signed();
    }
}

/// Packed values of up to 32 bits, before [`SLACK`] bytes more.
fn unpack_small(packed: &[u8], width: usize, lanes: &mut [u32; SMALL_LANES]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = avx512::Avx512::detected()
        && width <= SMALL
    {
        avx512.unpack_small(packed, width, lanes);
        return;
    }
    let mut wide = [0; LANES];
    for (number, lanes) in lanes.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        unpack_lanes(&packed[number * LANES * width / 8..], width, &mut wide);
        lanes.iter_mut().zip(wide).for_each(|(lane, value)| *lane = value as u32);
    }
}

fn unpack_wide(packed: &[u8], width: usize, lanes: &mut [i64; LANES]) {
    for (number, lane) in lanes.iter_mut().enumerate() {
        let (byte, shift) = (number * width / 8, number * width % 8);
        let word = u128::from_le_bytes(packed[byte..byte + 16].try_into().expect("16 bytes"));
        *lane = ((word >> shift) as u64 & (u64::MAX >> (64 - width))).cast_signed();
    }
}

/// What is still to come of values of up to 32 bits in the hybrid of repeated and packed runs.
#[derive(Debug)]
pub(super) struct Hybrid {
    /// Where the next run begins.
    at: usize,
    width: usize,
    left: usize,
    run: Rest,
}

/// What is still to come of a run.
#[derive(Debug)]
enum Rest {
    Repeated(u32, usize),
    Packed { start: usize, given: usize, left: usize },
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
    /// All of the page from the first value on.
    bytes: &'a [u8],
    width: usize,
    /// The number of the first value.
    first: usize,
}

impl Packed<'_> {
    /// A value of them.
    pub fn get(&self, number: usize) -> u32 {
        let bits = (self.first + number) * self.width;
        let (byte, shift) = (bits / 8, bits % 8);
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

    /// The first `count` values, some at a time.
    pub fn each(&self, count: usize, mut take: impl FnMut(&[u32]) -> Option<()>) -> Option<()> {
        let (mut lanes, mut number) = ([0; SMALL_LANES], 0);
        while number < count {
            let left = count - number;
            let ahead = (self.first + number) % 8;
            let bytes = &self.bytes[(self.first + number) * self.width / 8..];
            let values = if ahead == 0 && bytes.len() >= SMALL_LANES * self.width / 8 + SLACK {
                unpack_small(bytes, self.width, &mut lanes);
                left.min(SMALL_LANES)
            } else {
                let values = left.min(if ahead == 0 { LANES } else { 8 - ahead });
                let some = lanes[..values].iter_mut().zip(number..);
                some.for_each(|(lane, at)| *lane = self.get(at));
                values
            };
            take(&lanes[..values])?;
            number += values;
        }
        Some(())
    }

    /// Those that are wanted, some at a time.
    pub fn each_at(
        &self,
        wanted: Wanted<'_>,
        mut take: impl FnMut(&[u32]) -> Option<()>,
    ) -> Option<()> {
        let (mut lanes, mut places) = ([0; SMALL_LANES], wanted.places());
        while places.len() > 0 {
            let values = places.len().min(SMALL_LANES);
            for (lane, place) in lanes.iter_mut().zip(places.by_ref()) {
                *lane = self.get(place);
            }
            take(&lanes[..values])?;
        }
        Some(())
    }
}

impl Hybrid {
    /// `count` values of `width` bits that begin at this byte of a page.
    pub fn new(at: usize, width: u8, count: usize) -> Option<Self> {
        let width = usize::from(width);
        (width <= 32).then_some(Self { at, width, left: count, run: Rest::Repeated(0, 0) })
    }

    /// The next values that are of one run, `most` of them at most; `Some(None)` behind the last
    /// one. `page` is the same each time.
    pub fn next<'a>(&mut self, page: &'a [u8], most: usize) -> Option<Option<Run<'a>>> {
        if self.left == 0 || most == 0 {
            return Some(None);
        }
        if let Rest::Repeated(_, 0) | Rest::Packed { left: 0, .. } = self.run {
            self.run = self.begin(page)?;
        }
        let most = most.min(self.left);
        let (run, values) = match &mut self.run {
            Rest::Repeated(value, left) => {
                let values = most.min(*left);
                *left -= values;
                (Run::Repeated(*value, values), values)
            }
            Rest::Packed { start, given, left } => {
                let values = most.min(*left);
                let packed = Packed { bytes: &page[*start..], width: self.width, first: *given };
                (*given, *left) = (*given + values, *left - values);
                (Run::Packed(packed, values), values)
            }
        };
        self.left -= values;
        (values > 0).then_some(Some(run))
    }

    /// The header of a run, and its value if it is one.
    fn begin(&mut self, page: &[u8]) -> Option<Rest> {
        let mut rest = page.get(self.at..)?;
        let header = varint(&mut rest)?;
        let count = usize::try_from(header >> 1).ok()?;
        let start = page.len() - rest.len();
        let bytes = match header & 1 {
            0 => self.width.div_ceil(8),
            _ => count.checked_mul(self.width)?,
        };
        let held = rest.get(..bytes)?;
        self.at = start + bytes;
        Some(match header & 1 {
            0 => {
                let value = held.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
                Rest::Repeated(value, count)
            }
            _ => Rest::Packed { start, given: 0, left: count.checked_mul(8)? },
        })
    }
}

/// The indices of a page of them.
pub(super) fn indices(page: &[u8], count: usize) -> Option<Hybrid> {
    match page.first() {
        Some(&width) => Hybrid::new(1, width, count),
        None => Hybrid::new(0, 0, count).filter(|_| count == 0),
    }
}

/// The definition levels before the values of a page of a column that may be null, and the byte at
/// which they end.
pub(super) fn levels(page: &[u8], count: usize) -> Option<(Hybrid, usize)> {
    let (len, rest) = page.split_first_chunk()?;
    let len = u32::from_le_bytes(*len) as usize;
    rest.get(..len)?;
    let start = size_of::<u32>();
    Some((Hybrid::new(start, 1, count)?, start + len))
}

/// `count` texts of a dictionary page: a length and bytes each.
pub(super) fn texts(page: &[u8], count: usize) -> Option<Vec<&str>> {
    let mut rest = page;
    let mut texts = Vec::with_capacity(count.min(rest.len()));
    for _ in 0..count {
        let (len, after) = rest.split_first_chunk()?;
        let (text, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        texts.push(std::str::from_utf8(text).ok()?);
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
