//! From exact rationals to binary64 in one rounding, to nearest, ties to even.
//!
//! Numerators are below 2^256 and denominators below 2^256 wherever states come from (sums of
//! fewer than 2^64 products of 64-bit integers, times counts, times at most 10^36 < 2^120). So a
//! quotient or root that is not zero lies within 2^±256: nowhere near the subnormal numbers or
//! the overflow of binary64, and scaling by a power of two is exact.

use num_bigint::BigUint;
use num_integer::Integer;
use num_traits::{ToPrimitive, Zero};

/// Integers up to this are exact in binary64.
const EXACT_MAX: u128 = 1 << f64::MANTISSA_DIGITS;

/// A bound on the exponents that can occur, with room.
const EXPONENT_MAX: i64 = 600;
const _: () = assert!(EXPONENT_MAX < f64::MAX_EXP as i64 && -EXPONENT_MAX > f64::MIN_EXP as i64);

/// n / d for d > 0.
pub(crate) fn quotient(n: u128, d: u128) -> f64 {
    if n <= EXACT_MAX && d <= EXACT_MAX {
        // Both operands are exact, so the one rounding is the division's.
        return n as u64 as f64 / d as u64 as f64;
    }
    if n == 0 {
        return 0.0;
    }
    if d > u128::from(u64::MAX) {
        return quotient_big(&n.into(), &d.into());
    }
    // n moved to 128 bits over d of at most 64 leaves a whole part of at least 64 bits.
    let shift = n.leading_zeros();
    let (whole, rest) = (n << shift).div_rem(&d);
    round(whole, rest != 0, -i64::from(shift))
}

/// n / d for d > 0, of any size.
pub(crate) fn quotient_big(n: &BigUint, d: &BigUint) -> f64 {
    if n.is_zero() {
        return 0.0;
    }
    // The whole part of the moved quotient has 66 or 67 bits.
    let shift = 66 - (n.bits() as i64 - d.bits() as i64);
    let (whole, inexact) = divide_moved(n, d, shift);
    round(whole, inexact, -shift)
}

/// √(n / d) for d > 0, of any size.
pub(crate) fn root_big(n: &BigUint, d: &BigUint) -> f64 {
    if n.is_zero() {
        return 0.0;
    }
    // An even move to a quotient of 126 to 128 bits, whose root has at least 63. The root of the
    // whole part is the whole part of the root.
    let shift = 126 - (n.bits() as i64 - d.bits() as i64);
    let shift = shift + shift.rem_euclid(2);
    let (whole, inexact) = divide_moved(n, d, shift);
    let root = whole.isqrt();
    round(root, inexact || root * root != whole, -shift / 2)
}

/// ⌊n·2^shift / d⌋, and whether a remainder is left.
fn divide_moved(n: &BigUint, d: &BigUint, shift: i64) -> (u128, bool) {
    let (whole, rest) = match shift >= 0 {
        true => (n << shift).div_rem(d),
        false => n.div_rem(&(d << -shift)),
    };
    (whole.to_u128().expect("the move leaves at most 128 bits"), !rest.is_zero())
}

/// `whole`·2^`exponent`, plus less than one unit of `whole` where `inexact`. `whole` has at least
/// 55 bits, or is exact: then its lowest bit lies below the rounding one and can stand for all
/// that follows.
fn round(whole: u128, inexact: bool, exponent: i64) -> f64 {
    assert!(exponent.abs() <= EXPONENT_MAX, "quotients of states lie within 2^±256");
    let power = f64::from_bits(((1023 + exponent) as u64) << (f64::MANTISSA_DIGITS - 1));
    // The conversion rounds to nearest, ties to even; the product is exact.
    (whole | u128::from(inexact)) as f64 * power
}

#[cfg(test)]
mod tests;
