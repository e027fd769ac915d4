//! 192-bit sums out of 32-bit limbs.

/// Adds a two's complement number in 32-bit limbs (low first, at most 6) to one in 64-bit words
/// (low first), modulo 2^192. Sums of fewer than 2^64 values of 127 bits never wrap.
pub(crate) fn add(words: &mut [u64], limbs: &[u32]) {
    let negative = limbs.last().is_some_and(|&high| high >> 31 == 1);
    let fill = if negative { u32::MAX } else { 0 };
    let limb = |index: usize| u64::from(limbs.get(index).copied().unwrap_or(fill));
    let mut carry = false;
    for (index, word) in words.iter_mut().enumerate() {
        let addend = limb(2 * index) | limb(2 * index + 1) << 32;
        let (sum, carry_a) = word.overflowing_add(addend);
        let (sum, carry_b) = sum.overflowing_add(u64::from(carry));
        *word = sum;
        carry = carry_a | carry_b;
    }
}

/// Adds factor · value, |value| < 2^100, modulo 2^192.
pub(crate) fn add_multiple(words: &mut [u64], factor: i64, value: i128) {
    // value = high · 2^64 + low; neither product reaches 2^127.
    let low = i128::from(factor) * i128::from(value as u64);
    let high = i128::from(factor) * (value >> 64);
    add(words, &limbs(low));
    add(&mut words[1..], &limbs(high));
}

/// The limbs of a number.
pub(crate) fn limbs(value: i128) -> [u32; 4] {
    [0, 32, 64, 96].map(|shift| (value >> shift) as u32)
}

/// A number from its limbs.
pub(crate) fn signed_96(limbs: [u32; 3]) -> i128 {
    let low = u64::from(limbs[0]) | u64::from(limbs[1]) << 32;
    i128::from(limbs[2].cast_signed()) << 64 | i128::from(low)
}

/// A 64-bit number from its limbs.
pub(crate) fn signed(limbs: [u32; 2]) -> i64 {
    (u64::from(limbs[0]) | u64::from(limbs[1]) << 32).cast_signed()
}
