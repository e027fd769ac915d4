//! Values that are stored as `DELTA_BINARY_PACKED`: as many at a time as are asked for.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::avx512::Avx512;
use super::{LANES, SLACK, unpack_lanes, varint, zigzag};

/// Values for which room is made together.
const TOGETHER: usize = 16 * LANES;

/// What is still to come of a page of such values. `page` is the same each time.
#[derive(Debug)]
pub(crate) struct Deltas {
    /// Values to come.
    left: usize,
    /// The last values that were unpacked, and how many of them are to come.
    some: [i64; LANES],
    ahead: usize,
    packed: Packed,
}

/// What of a page is still packed.
#[derive(Debug)]
struct Packed {
    /// Where the next deltas begin, or the next block does.
    at: usize,
    /// The value before them.
    last: i64,
    /// Parts of a block, and deltas of a part.
    parts: usize,
    part: usize,
    /// The least delta of the block, and where the widths of its parts are that are to come.
    least: i64,
    widths: Range<usize>,
    widest: usize,
    /// Deltas to come of parts that follow one another and have this width.
    of_width: usize,
    width: usize,
}

impl Deltas {
    /// Those of a page that says it has at most `most` values, their deltas of at most `widest` bits.
    pub fn new(page: &[u8], most: usize, widest: u32) -> Option<Self> {
        let mut rest = page;
        let block = usize::try_from(varint(&mut rest)?).ok()?;
        let parts = usize::try_from(varint(&mut rest)?).ok()?;
        let left = usize::try_from(varint(&mut rest)?).ok()?;
        let first = zigzag(&mut rest)?;
        let part = block.checked_div(parts)?;
        if left > most || part == 0 || part % LANES != 0 || part * parts != block {
            return None;
        }
        let packed = Packed {
            at: page.len() - rest.len(),
            last: first,
            parts,
            part,
            least: 0,
            widths: 0..0,
            widest: widest as usize,
            of_width: 0,
            width: 0,
        };
        Some(Self { left, some: [first; LANES], ahead: 1, packed })
    }

    /// How many values are to come.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Appends the next `count` values.
    pub fn take(&mut self, page: &[u8], count: usize, out: &mut Vec<i64>) -> Option<()> {
        self.left = self.left.checked_sub(count)?;
        let mut left = count - self.take_ahead(count, out);
        while left >= LANES {
            let some = left.min(TOGETHER) / LANES * LANES;
            let start = out.len();
            out.resize(start + some, 0);
            self.packed.unpack(page, &mut out[start..])?;
            left -= some;
        }
        if left > 0 {
            self.unpack_ahead(page)?;
            self.take_ahead(left, out);
        }
        Some(())
    }

    /// Passes over the next `count` values, whose deltas are but summed up.
    pub fn skip(&mut self, page: &[u8], count: usize) -> Option<()> {
        self.left = self.left.checked_sub(count)?;
        let ahead = self.ahead.min(count);
        self.ahead -= ahead;
        let left = count - ahead;
        let last = left % LANES;
        self.packed.skip(page, left - last)?;
        if last > 0 {
            self.unpack_ahead(page)?;
            self.ahead -= last;
        }
        Some(())
    }

    /// Appends what is unpacked already of the next `count` values; says how many they are.
    fn take_ahead(&mut self, count: usize, out: &mut Vec<i64>) -> usize {
        let (start, values) = (LANES - self.ahead, self.ahead.min(count));
        out.extend_from_slice(&self.some[start..start + values]);
        self.ahead -= values;
        values
    }

    fn unpack_ahead(&mut self, page: &[u8]) -> Option<()> {
        self.packed.unpack(page, &mut self.some)?;
        self.ahead = LANES;
        Some(())
    }
}

impl Packed {
    /// Makes the next values, a multiple of [`LANES`].
    fn unpack(&mut self, page: &[u8], mut values: &mut [i64]) -> Option<()> {
        let mut padded = Padded::default();
        while !values.is_empty() {
            let (packed, count) = self.next(page, values.len(), &mut padded)?;
            let (some, rest) = values.split_at_mut(count);
            self.last = unpack(packed, self.width, self.least, self.last, some);
            values = rest;
        }
        Some(())
    }

    /// Passes over so many, a multiple of [`LANES`].
    fn skip(&mut self, page: &[u8], mut left: usize) -> Option<()> {
        let mut padded = Padded::default();
        while left > 0 {
            let (packed, count) = self.next(page, left, &mut padded)?;
            let least = self.least.wrapping_mul(count as i64);
            self.last = self.last.wrapping_add(least).wrapping_add(sum(packed, self.width, count));
            left -= count;
        }
        Some(())
    }

    /// The next deltas of one width over the least, at most `most` and a multiple of [`LANES`]: how
    /// many, and their bytes with [`SLACK`] more behind them.
    fn next<'a>(
        &mut self,
        page: &'a [u8],
        most: usize,
        padded: &'a mut Padded,
    ) -> Option<(&'a [u8], usize)> {
        if self.of_width == 0 {
            self.begin(page)?;
        }
        let (rest, bytes) = (page.get(self.at..)?, self.width * LANES / 8);
        let (mut packed, mut count) = (rest, self.of_width.min(most));
        if rest.len() < count / LANES * bytes + SLACK {
            match rest.len().saturating_sub(SLACK).checked_div(bytes) {
                None => packed = &padded.0,
                Some(0) => {
                    padded.0[..bytes].copy_from_slice(rest.get(..bytes)?);
                    (packed, count) = (&padded.0, LANES);
                }
                Some(fit) => count = fit * LANES,
            }
        }
        self.at += count / LANES * bytes;
        self.of_width -= count;
        Some((packed, count))
    }

    /// Goes on to the next parts, those that have the same width.
    fn begin(&mut self, page: &[u8]) -> Option<()> {
        if self.widths.is_empty() {
            let mut rest = page.get(self.at..)?;
            self.least = zigzag(&mut rest)?;
            let start = page.len() - rest.len();
            self.at = start.checked_add(self.parts)?;
            self.widths = start..self.at;
        }
        let widths = page.get(self.widths.clone())?;
        let width = *widths.first()?;
        let same = widths.iter().take_while(|other| **other == width).count();
        let width = Some(usize::from(width)).filter(|width| *width <= self.widest)?;
        self.widths.start += same;
        (self.of_width, self.width) = (same.checked_mul(self.part)?, width);
        Some(())
    }
}

/// Room for the last deltas of a page, with something behind them.
struct Padded([u8; LANES * 8 + SLACK]);

impl Default for Padded {
    fn default() -> Self {
        Self([0; _])
    }
}

/// The values whose deltas over `least` are packed, behind the value `last`. Gives the last of them.
fn unpack(packed: &[u8], width: usize, least: i64, last: i64, values: &mut [i64]) -> i64 {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = Avx512::of_deltas(width) {
        return avx512.unpack(packed, width, least, last, values);
    }
    unpack_plainly(packed, width, least, last, values)
}

fn unpack_plainly(
    packed: &[u8],
    width: usize,
    least: i64,
    mut last: i64,
    values: &mut [i64],
) -> i64 {
    for (number, lanes) in values.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        unpack_lanes(&packed[number * LANES * width / 8..], width, lanes);
        last = lanes.iter_mut().fold(last, |last, lane| {
            *lane = last.wrapping_add(least.wrapping_add(*lane));
            *lane
        });
    }
    last
}

/// The sum of packed values, a multiple of [`LANES`].
fn sum(packed: &[u8], width: usize, count: usize) -> i64 {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = Avx512::of_deltas(width) {
        return avx512.sum(packed, width, count);
    }
    sum_plainly(packed, width, count)
}

fn sum_plainly(packed: &[u8], width: usize, count: usize) -> i64 {
    let (mut lanes, mut sum) = ([0; LANES], 0_i64);
    if width > 0 {
        for number in 0..count / LANES {
            unpack_lanes(&packed[number * LANES * width / 8..], width, &mut lanes);
            sum = lanes.iter().fold(sum, |sum, &lane| sum.wrapping_add(lane));
        }
    }
    sum
}

#[cfg(test)]
pub(super) mod tests;
