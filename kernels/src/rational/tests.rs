use super::*;
use crate::testing::is_nearest;
use num_bigint::BigInt;
use proptest::prelude::*;

fn check(n: &BigUint, d: &BigUint) {
    let (big_n, big_d) = (BigInt::from(n.clone()), BigInt::from(d.clone()));
    let float = quotient_big(n, d);
    assert!(is_nearest(float, &big_n, &big_d, false), "{n}/{d} is not {float:e}");
    if let (Some(n), Some(d)) = (n.to_u128(), d.to_u128()) {
        assert_eq!(quotient(n, d).to_bits(), float.to_bits(), "{n}/{d}");
    }
    let root = root_big(n, d);
    assert!(is_nearest(root, &big_n, &big_d, true), "√({n}/{d}) is not {root:e}");
}

fn any_natural() -> impl Strategy<Value = BigUint> {
    (proptest::collection::vec(any::<u32>(), 8), 0_u32..256)
        .prop_map(|(digits, drop)| BigUint::new(digits) >> drop)
}

proptest! {
    #[test]
    fn quotients_and_roots_are_nearest(n in any_natural(), d in any_natural()) {
        check(&n, &(d + 1_u32));
    }

    /// n/d halfway between two floats, and a hair beside.
    #[test]
    fn ties_go_to_even(mantissa in 1_u64 << 52..1 << 53, d in 1_u64.., shift in 0_u32..60) {
        let tie = (BigUint::from(mantissa) * 2_u32 + 1_u32) * d;
        check(&tie, &(BigUint::from(d) << shift));
        check(&((&tie << 70) + 1_u32), &(BigUint::from(d) << (shift + 70)));
        check(&((&tie << 70) - 1_u32), &(BigUint::from(d) << (shift + 70)));
        // The root of a halfway value squared.
        let half = BigUint::from(mantissa) * 2_u32 + 1_u32;
        let square = &half * &half;
        check(&square, &BigUint::from(1_u32));
        check(&(&square * d), &BigUint::from(d));
        check(&(&square + 1_u32), &BigUint::from(1_u32));
        check(&(&square - 1_u32), &BigUint::from(1_u32));
    }
}

#[test]
fn the_ends_of_the_range() {
    let one = BigUint::from(1_u32);
    let largest = (&one << 256) - 1_u32;
    for (n, d) in [(&one, &largest), (&largest, &one), (&largest, &largest), (&one, &one)] {
        check(n, d);
    }
    for n in [0, 1, EXACT_MAX - 1, EXACT_MAX, EXACT_MAX + 1, u64::MAX.into(), u128::MAX] {
        for d in [1, 3, EXACT_MAX, EXACT_MAX + 1, u64::MAX.into(), 1 << 64, u128::MAX] {
            check(&n.into(), &d.into());
        }
    }
}
