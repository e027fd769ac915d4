use proptest::prelude::*;

use super::*;
use crate::testing::{billionths, naive_quantile};

const QUANTILES: [Quantile; 6] = [
    billionths(1),
    billionths(10_000_000),
    billionths(333_333_333),
    Quantile::MEDIAN,
    billionths(999_000_000),
    billionths(1_000_000_000),
];

fn of(values: &[i64]) -> Multiset {
    let mut set = Multiset::default();
    set.extend(values);
    set
}

/// Every quantile of the union is that of the values, sorted.
fn assert_selects(parts: &[&Multiset], values: &[i64]) {
    let len: u64 = parts.iter().map(|part| part.len()).sum();
    assert_eq!(len, values.len() as u64);
    let selected = select(parts, &QUANTILES);
    let expected: Option<Vec<i64>> =
        QUANTILES.iter().map(|&q| naive_quantile(values.iter().copied(), q)).collect();
    assert_eq!(selected, expected);
}

fn form(set: &Multiset) -> &'static str {
    match set.counted {
        Counted::Nothing => "plain",
        Counted::Dense(_) => "dense",
        Counted::Sorted(_) => "sorted",
    }
}

/// Uniform below `below`, times `step`.
fn random(len: usize, below: u64, step: i64, seed: u64) -> Vec<i64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) % below).cast_signed().wrapping_mul(step)
    };
    (0..len).map(|_| next()).collect()
}

/// As codes, where the chunk has some.
fn extend_by_codes(set: &mut Multiset, values: &[i64]) {
    let base = base_around(values.first().copied().unwrap_or_default());
    let distances: Vec<u64> = values.iter().map(|&value| distance(value, base)).collect();
    match are_codes(distances.iter().fold(0, |all, distance| all | distance)) {
        true => {
            let codes: Vec<u16> = distances.iter().map(|&distance| distance as u16).collect();
            set.extend_codes(base, &codes);
        }
        false => set.extend(values),
    }
}

/// Values that come to every form, by name.
fn cases() -> Vec<(&'static str, Vec<i64>)> {
    let ends = [i64::MIN, i64::MAX, 0, -1, i64::MIN + 1];
    let mut wanders = random(30_000, 900, 1, 5);
    wanders.iter_mut().enumerate().for_each(|(place, value)| *value += place as i64 / 10 - 1500);
    let mut leaves = random(20_000, 1000, 1, 6);
    leaves[15_000] = i64::MAX;
    vec![
        ("plain", vec![]),
        ("plain", vec![i64::MIN]),
        ("plain", random(1023, 10, 1, 1)),
        ("dense", random(1024, 10, 1, 1)),
        ("dense", random(20_000, 10_000, 1, 2)),
        ("dense", random(5_000, 3, 1, 2).iter().map(|v| i64::MAX - v).collect()),
        ("dense", random(5_000, 3, 1, 2).iter().map(|v| i64::MIN + v).collect()),
        ("dense", wanders),
        ("plain", random(100_000, 1 << 53, 1 << 10, 3)),
        ("sorted", random(50_000, 2_000, 1 << 40, 4)),
        ("sorted", (0..20_000).map(|place| ends[place % 5]).collect()),
        ("sorted", leaves),
        ("dense", random(70_000, 300, 1, 7).iter().map(|v| v - 150).collect()),
        ("dense", random(40_000, 65_536, 1, 9).iter().map(|v| v - 70_000).collect()),
        ("plain", random(1023, 65_536, 1, 10)),
        ("plain", vec![-32_768, 32_767, 0, -32_768]),
        ("plain", vec![i64::MAX, i64::MAX - 65_535, i64::MAX, i64::MIN]),
        ("sorted", random(20_000, 6, 10_000, 11)),
    ]
}

#[test]
fn each_form_is_met_and_selects_the_same() {
    for (expected, values) in cases() {
        let whole = of(&values);
        assert_eq!(form(&whole), expected, "{} values", values.len());
        assert_selects(&[&whole], &values);
        let mut one_by_one = Multiset::default();
        values.iter().rev().for_each(|&value| one_by_one.push(value));
        assert_selects(&[&one_by_one], &values);
    }
}

/// The union of any two forms, each with values that wait.
#[test]
fn unions_of_all_forms() {
    let cases = cases();
    for (_, a) in &cases {
        for (_, b) in &cases {
            let (a_set, b_set) = (of(a), of(b));
            let both = [a.as_slice(), b.as_slice()].concat();
            assert_selects(&[&a_set, &b_set], &both);
            assert_selects(&[&b_set, &Multiset::default(), &a_set], &both);
        }
    }
}

/// Values of one window drawn from several kinds in turn, so that forms change on the way.
fn any_values() -> impl Strategy<Value = Vec<i64>> {
    let piece = (0_usize..3000, 0_usize..5, any::<u64>(), -5000_i64..5000).prop_map(
        |(len, kind, seed, offset)| {
            let (below, step) =
                [(1, 1), (50, 1), (5000, 1), (300, 1 << 45), (1 << 53, 1 << 11)][kind];
            random(len, below, step, seed).iter().map(|value| value.wrapping_add(offset)).collect()
        },
    );
    proptest::collection::vec(piece, 0..4)
        .prop_map(|pieces: Vec<Vec<i64>>| pieces.into_iter().flatten().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Any order, any split over any number of parts, pushed singly or as slices.
    #[test]
    fn order_and_splits_do_not_matter(values in any_values(), seed: u64, parts in 1_usize..5) {
        let mut shuffled: Vec<(i64, i64)> =
            values.iter().copied().zip(random(values.len(), 1 << 40, 1, seed)).collect();
        shuffled.sort_unstable_by_key(|pair| pair.1);
        let mut sets = vec![Multiset::default(); parts];
        for (number, chunk) in shuffled.chunks(1 + (seed % 700) as usize).enumerate() {
            let set = &mut sets[(seed as usize).wrapping_add(number) % parts];
            let chunk: Vec<i64> = chunk.iter().map(|pair| pair.0).collect();
            match number % 3 {
                0 => set.extend(&chunk),
                1 => chunk.iter().for_each(|&value| set.push(value)),
                _ => extend_by_codes(set, &chunk),
            }
        }
        let mut sets: Vec<&Multiset> = sets.iter().collect();
        assert_selects(&sets, &values);
        sets.reverse();
        assert_selects(&sets, &values);
    }
}

/// The comparison above notices what must not happen.
#[test]
fn a_lost_and_a_doubled_value_are_noticed() {
    let least: Vec<i64> = (0..10_000).map(|value| value * 7).collect();
    let expected = select(&[&of(&least)], &QUANTILES);
    assert_ne!(select(&[&of(&least[1..])], &QUANTILES), expected, "the least value lost");
    let (a, b) = (of(&least[..5000]), of(&least[5000..]));
    assert_eq!(select(&[&a, &b], &QUANTILES), expected);
    assert_ne!(select(&[&a, &a, &b], &QUANTILES), expected, "a part merged twice");
}

/// What waits takes 16 bits exactly while the values are less than 2^16 apart, wherever they lie.
#[test]
fn values_near_each_other_wait_in_16_bits() {
    for least in [i64::MIN, i64::MIN + 1, -65_536, -1, 0, 1 << 40, i64::MAX - 65_536] {
        for (apart, narrow) in [(65_534, true), (65_535, true), (65_536, false)] {
            let values = [least, least + apart, least + 1, least + apart - 1];
            for at in 0..values.len() {
                let mut values = values;
                values.rotate_left(at);
                let mut pushed = Multiset::default();
                values.iter().for_each(|&value| pushed.push(value));
                let mut by_codes = Multiset::default();
                values.chunks(1).for_each(|chunk| extend_by_codes(&mut by_codes, chunk));
                for set in [&of(&values), &pushed, &by_codes] {
                    assert_eq!(set.waiting.is_narrow(), narrow, "{least} and {apart} more");
                    assert_selects(&[set], &values);
                }
            }
        }
    }
}

/// Counts go on past 16 bits, however the values come.
#[test]
fn counts_carry_past_16_bits() {
    const FULL: usize = 1 << 16;
    for more in [0, 1, 2, FULL - 1, FULL, FULL + 1, 2 * FULL] {
        let mut values = vec![7; FULL - 1 + more];
        values[0] = 6;
        for pieces in [1, 1000, FULL] {
            let mut set = Multiset::default();
            values.chunks(pieces).for_each(|chunk| set.extend(chunk));
            set.settle();
            assert_eq!(form(&set), "dense", "{more}, {pieces}");
            assert_selects(&[&set], &values);
            assert_selects(&[&set, &set], &[&values[..], &values].concat());
            let saved = set.save();
            assert_eq!(
                (saved.values, saved.counts),
                (vec![6, 7], vec![1, values.len() as u64 - 1])
            );
            // A wider span takes the carries along.
            set.extend(&vec![-500; PENDING_MAX]);
            let wider = [&values[..], &[-500; PENDING_MAX]].concat();
            assert_selects(&[&set], &wider);
        }
    }
}

/// A value far from a span: before and after it, waiting, then counted.
#[test]
fn one_value_far_from_the_others() {
    for far in [i64::MIN, -1_000_000, -70_000, 70_000, 1 << 21, i64::MAX] {
        for at in [0, 500, 1023, 4000, 5999] {
            let mut values = random(6000, 1000, 1, 12);
            values[at] = far;
            for pieces in [1, 100, 6000] {
                let mut set = Multiset::default();
                values.chunks(pieces).for_each(|chunk| extend_by_codes(&mut set, chunk));
                assert_selects(&[&set, &of(&[far])], &[&values[..], &[far]].concat());
            }
        }
    }
}

/// Counts of more than 32 bits.
#[test]
fn counts_do_not_overflow() {
    let mut set = of(&random(5000, 10, 1, 8));
    let Counted::Dense(dense) = &mut set.counted else { panic!("dense") };
    dense.carry(3, 1 << 16);
    set.extend(&vec![3; 3 * PENDING_MAX]);
    assert_eq!(form(&set), "dense");
    assert_eq!(set.len(), (1 << 32) + 5000 + 3 * PENDING_MAX as u64);
    assert_eq!(select(&[&set], &[Quantile::MEDIAN]), Some(vec![3]));
    assert_eq!(select(&[&set, &set], &[billionths(1)]).unwrap(), [0]);
    assert_eq!(select(&[&set, &set], &[billionths(1_000_000_000)]).unwrap(), [9]);
    let saved = set.save();
    assert!(saved.counts[3] > 1 << 32 && saved.counts.iter().sum::<u64>() == set.len());
}

/// The approximate form's memory does not grow with what it has seen.
#[test]
fn memory_is_bounded_by_the_cells() {
    const CELLS: usize = 14_592;
    let mut set = Multiset::default();
    for seed in 0..40 {
        set.extend(&random(50_000, CELLS as u64, 1, seed));
    }
    let Counted::Dense(dense) = &set.counted else { panic!("dense") };
    let bytes = dense.bytes() + set.waiting.bytes();
    assert!(bytes < 180_000, "{bytes}");
}
