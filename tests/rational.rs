//! Rounding whole rationals and their roots to binary64, once, by comparison alone.
//!
//! The positive finite binary64 numbers ascend with their bit patterns. So the greatest one not
//! above an exact target is found by bisection over bit patterns, each step an exact comparison,
//! and one more comparison with the midpoint above it decides. Slow, and with nothing in common
//! with a shift-and-divide implementation.

use std::cmp::Ordering;

use num_bigint::{BigInt, BigUint, Sign};

/// The binary64 nearest to `numerator / denominator`, ties to even; zero is +0. The quotient must
/// lie below the greatest finite binary64, and the denominator must not be 0.
pub fn quotient(numerator: &BigInt, denominator: &BigInt) -> f64 {
    assert_ne!(denominator.sign(), Sign::NoSign, "a quotient over zero");
    let negative = (numerator.sign() == Sign::Minus) != (denominator.sign() == Sign::Minus);
    let (n, d) = (numerator.magnitude(), denominator.magnitude());
    if n.bits() == 0 {
        return 0.0;
    }
    // x = m·2^e against n/d is m·2^e·d against n.
    let magnitude = nearest(|m, e| compare_scaled(&(BigUint::from(m) * d), e, n));
    if negative { -magnitude } else { magnitude }
}

/// The binary64 nearest to the square root of `numerator / denominator`, which must not be
/// negative; ties to even.
pub fn root(numerator: &BigInt, denominator: &BigInt) -> f64 {
    assert_eq!(denominator.sign(), Sign::Plus, "a root over a positive denominator");
    assert_ne!(numerator.sign(), Sign::Minus, "a root of a negative number");
    let (n, d) = (numerator.magnitude(), denominator.magnitude());
    if n.bits() == 0 {
        return 0.0;
    }
    // x² = m²·4^e against n/d.
    nearest(|m, e| {
        let m = BigUint::from(m);
        compare_scaled(&(&m * &m * d), 2 * e, n)
    })
}

/// `a·2^e` against `b`.
fn compare_scaled(a: &BigUint, e: i64, b: &BigUint) -> Ordering {
    if e >= 0 { (a << e.unsigned_abs()).cmp(b) } else { a.cmp(&(b << e.unsigned_abs())) }
}

/// The positive binary64 nearest to a target that is known by comparison only: `compare(m, e)`
/// orders m·2^e against it.
fn nearest(compare: impl Fn(u64, i64) -> Ordering) -> f64 {
    let at = |bits: u64| {
        let (m, e) = parts(bits);
        compare(m, e)
    };
    // Invariant: the number at `low` is not above the target, the one at `high` is.
    let (mut low, mut high) = (0_u64, f64::INFINITY.to_bits());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match at(middle) {
            Ordering::Greater => high = middle,
            _ => low = middle,
        }
    }
    assert!(high < f64::INFINITY.to_bits(), "beyond binary64");
    // The next number above m·2^e is always (m+1)·2^e, so the midpoint is (2m+1)·2^(e−1).
    let (m, e) = parts(low);
    let up = match compare(2 * m + 1, e - 1) {
        Ordering::Less => true,
        Ordering::Greater => false,
        Ordering::Equal => low % 2 == 1,
    };
    f64::from_bits(if up { high } else { low })
}

/// A positive finite binary64 as m·2^e.
fn parts(bits: u64) -> (u64, i64) {
    let fraction = bits & ((1 << 52) - 1);
    match i64::try_from(bits >> 52).expect("12 bits") {
        0 => (fraction, -1074),
        exponent => (fraction | 1 << 52, exponent - 1075),
    }
}

mod tests {
    use super::*;
    use crate::random::Rng;

    #[test]
    fn agrees_with_the_processor_where_that_is_exact() {
        let mut rng = Rng::new(1);
        for _ in 0..2_000 {
            let (a, b) = (rng.bits(53), rng.bits(53).max(1));
            #[allow(clippy::cast_precision_loss)] // both are below 2^53
            let (x, y) = (a as f64, b as f64);
            assert_eq!(quotient(&a.into(), &b.into()), x / y, "{a} / {b}");
            assert_eq!(quotient(&-BigInt::from(a), &b.into()), 0.0 - x / y, "-{a} / {b}");
            assert_eq!(root(&a.into(), &1.into()), x.sqrt(), "root of {a}");
        }
    }

    #[test]
    fn agrees_with_decimal_text() {
        let mut rng = Rng::new(2);
        for _ in 0..2_000 {
            let (digits, scale) = (rng.next(), rng.below(40) as u32);
            let text = format!("{digits}e-{scale}");
            let ten = BigInt::from(10).pow(scale);
            assert_eq!(quotient(&digits.into(), &ten), text.parse::<f64>().unwrap(), "{text}");
        }
    }

    #[test]
    fn ties_go_to_even() {
        let halfway = |m: u64| quotient(&(2 * m + 1).into(), &2.into());
        let even = 1_u64 << 52;
        #[allow(clippy::cast_precision_loss)] // at most 2^53
        for m in [even, even + 1, even + 2, even + 7] {
            assert_eq!(halfway(m), (m + m % 2) as f64);
            let square = BigInt::from(2 * m + 1).pow(2);
            assert_eq!(root(&square, &4.into()), (m + m % 2) as f64);
        }
        assert!(quotient(&0.into(), &(-3).into()).is_sign_positive());
    }
}
