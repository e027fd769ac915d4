use std::iter;

use super::*;
use crate::fixtures::Random;
#[cfg(target_arch = "x86_64")]
use crate::parquet_file::decode::NARROW;
use crate::parquet_file::encode::{self, Widths};

/// Values whose deltas are of this many bits at most.
pub(in crate::parquet_file::decode) fn of_width(
    width: u32,
    count: usize,
    random: &mut Random,
) -> Vec<i64> {
    let mut value = random.next().cast_signed();
    let mut next = || {
        let delta = random.next().checked_shr(64 - width).unwrap_or(0);
        value = value.wrapping_add(delta.cast_signed());
        value
    };
    (0..count).map(|_| next()).collect()
}

/// All values of a page that has at most `most`.
fn all(page: &[u8], most: usize, widest: u32) -> Option<Vec<i64>> {
    let (mut deltas, mut values) = (Deltas::new(page, most, widest)?, Vec::new());
    deltas.take(page, deltas.left(), &mut values).map(|()| values)
}

/// Those of a page in pieces of about `most`, every fourth of them passed over and left out; with the
/// ranges that were not.
pub(in crate::parquet_file::decode) fn some(
    page: &[u8],
    values_max: usize,
    most: u64,
    random: &mut Random,
) -> Option<(Vec<i64>, Vec<Range<usize>>)> {
    let mut deltas = Deltas::new(page, values_max, 64)?;
    let (mut found, mut ranges, mut at) = (Vec::new(), Vec::new(), 0);
    while deltas.left() > 0 {
        let count = (1 + random.below(most) as usize).min(deltas.left());
        if random.below(4) == 0 {
            deltas.skip(page, count)?;
        } else {
            deltas.take(page, count, &mut found)?;
            ranges.push(at..at + count);
        }
        at += count;
    }
    Some((found, ranges))
}

#[test]
fn deltas_of_every_width_come_back() {
    let mut random = Random(1);
    for width in 0..=64 {
        for count in [0, 1, 2, 31, 32, 33, 34, 64, 65, 66, 256, 257, 258, 320, 1_000, 3_000] {
            let values = of_width(width, count, &mut random);
            for widths in [Widths::Least, Widths::Bytes] {
                let mut page = Vec::new();
                encode::delta_packed(&values, widths, &mut page);
                assert_eq!(all(&page, count, 64).as_ref(), Some(&values), "{width}, {count}");
                for most in [1, 5, 40, 300, 3_000] {
                    let (found, ranges) = some(&page, count, most, &mut random).unwrap();
                    let expected: Vec<i64> =
                        ranges.into_iter().flat_map(|range| &values[range]).copied().collect();
                    assert_eq!(found, expected, "{width} bits, {count} values by {most}");
                }
            }
        }
    }
}

#[test]
fn no_more_are_given_than_there_are() {
    let mut page = Vec::new();
    encode::delta_packed(&[4, 5, 7], Widths::Least, &mut page);
    let mut values = vec![7];
    let mut deltas = Deltas::new(&page, 3, 64).unwrap();
    assert_eq!(deltas.take(&page, 4, &mut values), None);
    assert_eq!(deltas.skip(&page, 4), None);
    deltas.skip(&page, 1).unwrap();
    deltas.take(&page, 1, &mut values).unwrap();
    assert_eq!((deltas.left(), deltas.skip(&page, 2)), (1, None));
    deltas.take(&page, 1, &mut values).unwrap();
    assert_eq!(values, [7, 5, 7], "what was there stays");
}

#[test]
fn parts_end_where_their_values_do_and_may_say_anything_behind() {
    // Blocks of 128 values in four parts: a first value, then 33 deltas of 4 bits over 1.
    let mut page = vec![0x80, 0x01, 4, 34, 0, 2, 4, 4, 200, 255];
    page.extend([0x21; 16]);
    page.push(0x03);
    assert_eq!(all(&page, 34, 64), None, "32 values of the second part are packed, or none");
    page.extend([0; 15]);
    let found = all(&page, 34, 64).unwrap();
    let deltas = [2, 3].repeat(16).into_iter().chain([4]);
    let expected = iter::once(0).chain(deltas.scan(0, |sum, delta| {
        *sum += delta;
        Some(*sum)
    }));
    assert_eq!(found, expected.collect::<Vec<i64>>());
    assert_eq!(all(&page, 33, 64), None, "more values");
    assert_eq!(all(&page, 34, 3), None, "wider deltas");
    for (at, byte) in [(0, 0x81), (1, 0), (2, 3), (2, 0), (6, 65)] {
        let mut damaged = page.clone();
        damaged[at] = byte;
        assert_eq!(all(&damaged, 34, 64), None, "byte {at}");
    }
    // Asked again, a page that was refused is refused.
    page[7] = 65;
    let mut deltas = Deltas::new(&page, 34, 64).unwrap();
    deltas.take(&page, 33, &mut Vec::new()).unwrap();
    for _ in 0..3 {
        assert_eq!(deltas.take(&page, 1, &mut Vec::new()), None);
        deltas.left += 1;
    }
}

/// One by one, from the bits: the values and the sum of what is packed.
fn naive(packed: &[u8], width: usize, least: i64, last: i64, count: usize) -> (Vec<i64>, i64) {
    let bit = |at: usize| u64::from(packed[at / 8] >> (at % 8) & 1);
    let offset = |value: usize| (0..width).map(|at| bit(value * width + at) << at).sum::<u64>();
    let (mut last, mut sum) = (last, 0_i64);
    let mut next = |value| {
        let offset = offset(value).cast_signed();
        sum = sum.wrapping_add(offset);
        last = last.wrapping_add(least).wrapping_add(offset);
        last
    };
    let values = (0..count).map(&mut next).collect();
    (values, sum)
}

#[test]
fn all_ways_of_unpacking_give_the_same() {
    let mut random = Random(2);
    for width in 0..=64 {
        for draw in 0..20 {
            let count = LANES * (1 + random.below(8) as usize);
            let bytes = count * width / 8 + SLACK;
            let mut packed: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
            if draw == 0 {
                packed.fill(0xFF);
            }
            let (least, last) = match draw {
                0 => (i64::MIN, i64::MAX),
                1 => (-1, i64::MIN),
                _ => (random.next().cast_signed(), random.next().cast_signed()),
            };
            let (expected, expected_sum) = naive(&packed, width, least, last, count);
            let end = expected[count - 1];
            let mut values = vec![0x5555; count];
            assert_eq!(unpack_plainly(&packed, width, least, last, &mut values), end);
            assert_eq!(values, expected, "{width} bits");
            assert_eq!(sum_plainly(&packed, width, count), expected_sum, "{width} bits");
            #[cfg(target_arch = "x86_64")]
            if let Some(avx512) = Avx512::of_deltas(width) {
                let mut values = vec![0x5555; count];
                assert_eq!(avx512.unpack(&packed, width, least, last, &mut values), end);
                assert_eq!(values, expected, "{width} bits with AVX-512");
                assert_eq!(avx512.sum(&packed, width, count), expected_sum, "{width} bits");
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn wide_deltas_are_unpacked_plainly() {
    assert!(Avx512::of_deltas(NARROW + 1).is_none());
    assert_eq!(Avx512::of_deltas(NARROW).is_some(), Avx512::detected().is_some());
}
