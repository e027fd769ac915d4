use super::*;
use crate::testing::*;
use num_bigint::BigInt;
use proptest::prelude::*;

fn value(words: [u64; 3]) -> BigInt {
    wide::to_bigint(&words)
}

fn products(a: &[i64], b: &[i64]) -> BigInt {
    a.iter().zip(b).map(|(&a, &b)| BigInt::from(a) * b).sum()
}

proptest! {
    #[test]
    fn every_width_is_exact_where_its_proof_allows_it(
        pairs in proptest::collection::vec((any::<i64>(), any::<i64>()), 1..40),
        shifts in (0_u32..64, 0_u32..64),
    ) {
        let a: Vec<i64> = pairs.iter().map(|pair| pair.0 >> shifts.0).collect();
        let b: Vec<i64> = pairs.iter().map(|pair| pair.1 >> shifts.1).collect();
        let len_bits = u32::BITS - (a.len() as u32).leading_zeros();
        let (a_bits, b_bits) = (magnitude_bits(&a), magnitude_bits(&b));
        let sum: BigInt = a.iter().map(|&value| BigInt::from(value)).sum();
        if width(a_bits + len_bits) == Width::W64 {
            prop_assert_eq!(BigInt::from(sum64(&a)), sum.clone());
        }
        prop_assert_eq!(BigInt::from(sum128(a.iter())), sum);
        let expected = products(&a, &b);
        let width = width(a_bits + b_bits + len_bits);
        if width == Width::W64 {
            prop_assert_eq!(BigInt::from(dot64(&a, &b)), expected.clone());
        }
        if width != Width::W192 {
            prop_assert_eq!(BigInt::from(dot128(&a, &b)), expected.clone());
        }
        prop_assert_eq!(value(dot192(a.iter().zip(&b))), expected);
        prop_assert_eq!(Some(least(&a)), a.iter().copied().min());
        prop_assert_eq!(Some(greatest(&a)), a.iter().copied().max());
    }

    #[test]
    fn wide_addition_is_that_of_integers(a: i128, b: i128, shift in 0_u32..64) {
        let words = |value: i128| {
            let mut words = wide::from_i128(value);
            for _ in 0..shift {
                let twice = words;
                wide::add(&mut words, &twice);
            }
            words
        };
        let (mut sum, other) = (words(a), words(b));
        wide::add(&mut sum, &other);
        // Below 2^192 in magnitude the sum is exact; the rest is cut at both alike.
        let bits = (BigInt::from(a) << shift).bits().max((BigInt::from(b) << shift).bits());
        prop_assume!(bits < 190);
        prop_assert_eq!(value(sum), (BigInt::from(a) + b) << shift);
    }
}

/// The widths' borders: the greatest magnitudes that each proof lets through.
#[test]
fn the_borders_of_the_widths_hold() {
    for (len, bits) in [(1_usize, 62), (3, 61), (7, 60), (1023, 53)] {
        for extreme in [1_i64 << bits, -(1 << bits), (1 << bits) - 1] {
            let values = vec![extreme; len];
            let len_bits = u32::BITS - (len as u32).leading_zeros();
            let sum = BigInt::from(extreme) * len;
            if width(magnitude_bits(&values) + len_bits) == Width::W64 {
                assert_eq!(BigInt::from(sum64(&values)), sum);
            } else {
                assert!(bits == 62 || extreme == 1 << bits, "{len} × {extreme} fits 64 bits");
            }
        }
    }
    let least = vec![i64::MIN; 4097];
    assert_eq!(magnitude_bits(&least), 63);
    assert_eq!(value(dot192(least.iter().zip(&least))), products(&least, &least));
    let greatest = vec![i64::MAX; 4097];
    assert_eq!(value(dot192(least.iter().zip(&greatest))), products(&least, &greatest));
    assert_eq!(magnitude_bits(&[0, -1]), 0);
    assert_eq!(magnitude_bits(&[1, -2]), 1);
}

/// Blocks of runs and one run that is longer than a block.
#[test]
fn blocks_cover_all_runs() {
    let rows: Vec<Row> = (0..9000_i64)
        .map(|row| Row {
            ts: row,
            publisher: 0,
            sequence: row as u64,
            key: 0,
            values: vec![Some(row), Some(1)],
            seen: 0,
        })
        .collect();
    for lens in [vec![9000], vec![1; 9000], vec![1, 2047, 1, 5000, 1951], vec![2048, 2048, 4904]] {
        let mut start = 0;
        let runs = lens
            .iter()
            .map(|&len| {
                start += len;
                Run { start: start - len, len, key: 0, window_start: 0 }
            })
            .collect();
        let runs = Runs { ticks: ticks_of(&rows), runs, publisher_codes: vec![0] };
        let plan = Plan::of_terms([Term::Sum(0), Term::First(0)]);
        let partials = CpuEngine.reduce(&plan, &runs).unwrap();
        assert_eq!(partials.words.len(), lens.len() * partials.stride);
        let mut first = 0_u64;
        for (&len, words) in lens.iter().zip(partials.words.chunks_exact(partials.stride)) {
            let len = u64::from(len);
            let sum = (first..first + len).sum::<u64>();
            assert_eq!(words, [len, sum, 0, 0, 1, first, 0, first, first]);
            first += len;
        }
    }
}

/// Wherever the extreme stands, in slices of every length around those of the chunks.
#[test]
fn extremes_are_found_at_every_place() {
    for len in 0..70_usize {
        for at in 0..len {
            let mut values: Vec<i64> = (0..len as i64).map(|value| value % 7).collect();
            values[at] = -1;
            assert_eq!(least(&values), -1, "{len}, {at}");
            values[at] = 7;
            assert_eq!(greatest(&values), 7, "{len}, {at}");
        }
    }
    assert_eq!((least(&[]), greatest(&[])), (i64::MAX, i64::MIN));
}
