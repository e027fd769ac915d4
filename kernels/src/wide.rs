//! 192-bit two's complement integers in three words, low word first.

use num_bigint::BigInt;

/// The words of a 128-bit integer, sign extended.
pub(crate) fn from_i128(value: i128) -> [u64; 3] {
    let sign = if value < 0 { u64::MAX } else { 0 };
    let bits = value.cast_unsigned();
    [bits as u64, (bits >> 64) as u64, sign]
}

/// `high`·2^64 + `low`, for |high| < 2^126.
pub(crate) fn from_parts(high: i128, low: u128) -> [u64; 3] {
    let high = high + (low >> 64).cast_signed();
    let bits = high.cast_unsigned();
    [low as u64, bits as u64, (bits >> 64) as u64]
}

/// Adds in place, modulo 2^192. The sums of fewer than 2^64 products of two 64-bit integers stay
/// below 2^(126+64) in magnitude, so that for states nothing is lost.
pub(crate) fn add(into: &mut [u64], from: &[u64]) {
    let mut carry = false;
    for (a, &b) in into[..3].iter_mut().zip(&from[..3]) {
        let (sum, over) = a.overflowing_add(b);
        let (sum, over_carry) = sum.overflowing_add(u64::from(carry));
        *a = sum;
        carry = over | over_carry;
    }
}

/// The value, when it fits 128 bits.
pub(crate) fn to_i128(words: &[u64]) -> Option<i128> {
    let value = (u128::from(words[1]) << 64 | u128::from(words[0])).cast_signed();
    (from_i128(value)[2] == words[2]).then_some(value)
}

/// The value.
pub(crate) fn to_bigint(words: &[u64]) -> BigInt {
    match to_i128(words) {
        Some(value) => value.into(),
        None => {
            let low = u128::from(words[1]) << 64 | u128::from(words[0]);
            (BigInt::from(words[2].cast_signed()) << 128) + low
        }
    }
}
