use isotick_shaders::layout::ProductPartial;
use num_bigint::BigInt;

use super::dispatch::{
    Case, Numbers, assert_malformed, assert_noticed, first_difference, permutations, sound,
};

/// What a segment comes to, in plain Rust.
fn reference(case: &Case, segment: usize) -> ProductPartial {
    let rows: Vec<usize> = case.rows(segment).filter(|&row| case.is_valid(row)).collect();
    let (a, b) = (&case.columns[0], &case.columns[case.columns.len() - 1]);
    let products = rows.iter().map(|&row| BigInt::from(a[row]) * BigInt::from(b[row])).sum();
    let [a_sum, b_sum] = [a, b].map(|c| rows.iter().map(|&row| BigInt::from(c[row])).sum());
    ProductPartial {
        count: rows.len() as u32,
        product_sum: limbs(&products),
        a_sum: limbs(&a_sum),
        b_sum: limbs(&b_sum),
    }
}

/// Two's complement limbs, low first.
fn limbs<const N: usize>(value: &BigInt) -> [u32; N] {
    let fill = if value.sign() == num_bigint::Sign::Minus { 0xFF } else { 0 };
    let mut bytes = value.to_signed_bytes_le();
    assert!(bytes.len() <= 4 * N, "{value} fits {N} limbs");
    bytes.resize(4 * N, fill);
    let mut limbs = [0; N];
    for (limb, bytes) in limbs.iter_mut().zip(bytes.chunks_exact(4)) {
        *limb = u32::from_le_bytes(bytes.try_into().unwrap());
    }
    limbs
}

#[test]
fn every_permutation_equals_the_reference() {
    for device in super::devices() {
        for compiled in &permutations(&device, true, sound) {
            assert_eq!(first_difference(&device, compiled, 2, reference), None);
            assert_malformed(&device, compiled, reference);
        }
    }
}

#[test]
fn a_lost_carry_is_noticed_in_every_variant() {
    let Some(device) = super::device() else { return };
    use Numbers::{Any, Frame, Wide};
    let plants = [
        ("a.high + b.high + w_carry", "a.high + b.high", Wide),
        ("a.z + b.z + y_carry", "a.z + b.z", Any),
        ("a.high + b.high + middle_carry", "a.high + b.high", Wide),
        ("a.high + b.high + carry_of(low, b.low)", "a.high + b.high", Frame),
        ("(cross_b >> 16u) + (middle >> 16u)", "(cross_b >> 16u)", Any),
        ("(hl >> 32u) + (cross >> 32u)", "(hl >> 32u)", Wide),
        ("states[lane], states[lane + half]", "states[lane], states[lane]", Any),
    ];
    assert_noticed(&device, true, &plants, reference);
}
