use std::iter;
use std::ops::Range;

use super::super::encode::{self, Widths};
use super::deltas::tests::{of_width, some};
use super::*;
use crate::fixtures::Random;

#[test]
fn all_ways_of_unpacking_small_values_give_the_same() {
    let mut random = Random(7);
    for width in 0..=32 {
        let bytes = SMALL_LANES * width / 8;
        let packed: Vec<u8> = (0..bytes + SLACK).map(|_| random.next() as u8).collect();
        let all = Packed { bytes: &packed, width, first: 0 };
        let expected: Vec<u32> = (0..SMALL_LANES).map(|at| all.get(at)).collect();
        let mut lanes = [0x5555; SMALL_LANES];
        unpack_small(&packed, width, &mut lanes);
        assert_eq!(lanes, *expected, "{width} bits");
        let mut wide = [0x5555; LANES];
        unpack_lanes(&packed, width, &mut wide);
        assert!(wide.iter().zip(&expected).all(|(a, b)| *a == i64::from(*b)), "{width} bits");
        for first in [0, 8, 3, 200] {
            let some = Packed { bytes: &packed, width, first };
            let mut found = Vec::new();
            some.each(SMALL_LANES - first, |values| {
                found.extend_from_slice(values);
                Some(())
            });
            assert_eq!(found, expected[first..], "{width} bits from {first} on");
        }
    }
}

/// All values, so many at a time.
fn all(page: &[u8], mut runs: Hybrid, most: usize) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    while let Some(run) = runs.next(page, most)? {
        match run {
            Run::Repeated(value, count) => found.extend(iter::repeat_n(value, count)),
            Run::Packed(packed, count) => {
                let before = found.len();
                found.extend((0..count).map(|at| packed.get(at)));
                let mut expected = found[before..].iter().copied();
                packed.each(count, |some| {
                    assert!(some.iter().all(|value| Some(*value) == expected.next()));
                    Some(())
                })?;
                assert_eq!(expected.next(), None);
            }
        }
    }
    Some(found)
}

#[test]
fn runs_and_packed_groups_are_read() {
    // Width 3: 300 values of 5, then a packed group of eight.
    let packed = [0x88, 0xC6, 0xFA]; // 0 1 2 3 4 5 6 7
    let page = [&[3, 0xD8, 0x04, 5, 0x03][..], &packed].concat();
    let of = |page: &[u8], count| all(page, indices(page, count)?, usize::MAX);
    let expected: Vec<u32> = iter::repeat_n(5, 300).chain(0..8).collect();
    assert_eq!(of(&page, 308), Some(expected.clone()));
    assert_eq!(of(&page, 302), Some(expected[..302].to_vec()), "the last group may be cut short");
    assert_eq!(of(&page[..4], 300), Some(vec![5; 300]));
    assert_eq!(of(&page[..4], 301), None, "the page ends");
    assert_eq!(of(&[0, 0x14], 10), Some(vec![0; 10]), "one value needs no bits");
    assert_eq!(of(&[0, 0x00], 10), None, "an empty run");
    assert_eq!(of(&[33, 0x14, 0, 0, 0, 0, 0], 10), None, "wider than any index");
    assert_eq!(of(&[], 1), None);
    assert_eq!(of(&[], 0), Some(vec![]));
}

#[test]
fn hybrids_of_every_width_come_back() {
    let mut random = Random(3);
    for width in 0..=32 {
        for _ in 0..20 {
            let runs: Vec<(u32, usize)> = (0..random.below(20))
                .map(|_| {
                    let value = (random.next() >> 32).checked_shr(32 - width).unwrap_or(0) as u32;
                    (value, 1 + random.below(40) as usize)
                })
                .collect();
            let expected: Vec<u32> =
                runs.iter().flat_map(|&(value, count)| iter::repeat_n(value, count)).collect();
            let mut bytes = Vec::new();
            encode::hybrid(runs.into_iter(), width, &mut bytes);
            for most in [usize::MAX, 1, 3, 8, 32, 100] {
                let runs = Hybrid::new(0, width as u8, expected.len()).unwrap();
                let found = all(&bytes, runs, most);
                assert_eq!(found.as_ref(), Some(&expected), "{width} bits, {most} at a time");
            }
        }
    }
}

#[test]
fn damaged_pages_are_values_or_none() {
    let mut random = Random(4);
    let mut refused = 0;
    for draw in 0..20_000 {
        let count = random.below(400) as usize;
        let mut page = Vec::new();
        let width = random.below(65) as u32;
        match draw % 3 {
            0 => {
                let values = of_width(width, count, &mut random);
                encode::delta_packed(&values, Widths::Least, &mut page);
            }
            1 => encode::indices((0..count as u32).map(|at| at % 8), 3, &mut page),
            _ => encode::levels([(1, count / 2), (0, count - count / 2)].into_iter(), &mut page),
        }
        for _ in 0..=random.below(4) {
            match random.below(3) {
                0 => page.truncate(random.below(page.len() as u64 + 1) as usize),
                _ if page.is_empty() => {}
                // Headers are where most goes wrong.
                1 => {
                    let at = random.below(page.len().min(12) as u64) as usize;
                    page[at] = random.next() as u8;
                }
                _ => {
                    let at = random.below(page.len() as u64) as usize;
                    page[at] = random.next() as u8;
                }
            }
        }
        let mut found = Vec::new();
        let decoded = match draw % 3 {
            0 => some(&page, count, 200, &mut random).map(|(values, ranges)| {
                found = values;
                ranges.iter().map(Range::len).sum()
            }),
            1 => indices(&page, count).and_then(|runs| all(&page, runs, 50)).map(|indices| {
                found = indices.into_iter().map(i64::from).collect();
                count
            }),
            _ => levels(&page, count).and_then(|(runs, _)| all(&page, runs, 50)).map(|levels| {
                found = levels.into_iter().map(i64::from).collect();
                count
            }),
        };
        match decoded {
            Some(decoded) => assert!(found.len() == decoded && decoded <= count),
            None => refused += 1,
        }
    }
    assert!(refused > 2_000, "{refused}");
}
