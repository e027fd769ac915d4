use super::*;
use crate::testing::*;
use isotick_model::view::Tumbling;
use num_traits::Signed;
use proptest::prelude::*;

const WINDOW: Tumbling = Tumbling { width_ns: 1, origin_ns: 0 };

fn lower(aggregate: Aggregate, scales: [u8; 2], states: &[(Term, &[u64])]) -> Value {
    let view = view(&[aggregate], WINDOW, None);
    let plan = Plan::of(&view);
    let mut words = vec![0; plan.words()];
    for (term, state) in states {
        let offset = plan.offset(*term).unwrap();
        words[offset..offset + state.len()].copy_from_slice(state);
    }
    Lower::new(&view, &schema(scales), &plan).values(&words, &[])[0]
}

fn any_wide() -> impl Strategy<Value = [u64; 3]> {
    (any::<[u64; 2]>(), -1000_i64..1000, 0_u32..190).prop_map(|(low, high, shift)| {
        let value = (BigInt::from(high) << 128) + (u128::from(low[1]) << 64 | u128::from(low[0]));
        words_of(&(value >> shift))
    })
}

fn words_of(value: &BigInt) -> [u64; 3] {
    let two_complement: BigInt = (value + (BigInt::from(1) << 192)) % (BigInt::from(1) << 192);
    let mut digits = two_complement.to_biguint().unwrap().to_u64_digits();
    digits.resize(3, 0);
    [digits[0], digits[1], digits[2]]
}

proptest! {
    /// States as long runs would leave them, not only those of a few ticks.
    #[test]
    fn quotients_of_any_states_are_nearest(
        products in any_wide(),
        sizes: i128,
        sizes_shift in 0_u32..128,
        count in 1_u64..,
        count_shift in 0_u32..63,
        scale in 0_u8..=18,
    ) {
        let ten = BigInt::from(10).pow(scale.into());
        let sizes = (sizes >> 1) >> sizes_shift.min(126);
        let count = (count >> count_shift).max(1);
        let vwap = lower(Aggregate::Vwap { price: 0, size: 1 }, [scale, 0], &[
            (Term::Rows, &[count]),
            (Term::SumProduct(0, 1), &products),
            (Term::SumPaired { of: 1, with: 0 }, &wide::from_i128(sizes)),
        ]);
        let sign = BigInt::from(sizes.signum());
        let expected = match sizes {
            0 => Expected::Null,
            _ => Expected::Quotient(wide::to_bigint(&products) * sign, BigInt::from(sizes).abs() * &ten),
        };
        prop_assert!(expected.is(vwap), "{vwap:?} {expected:?}");
        let sum = wide::from_i128(sizes);
        let mean = lower(Aggregate::Mean(0), [scale, 0], &[
            (Term::Count(0), &[count]),
            (Term::Sum(0), &sum),
        ]);
        let expected = Expected::Quotient(sizes.into(), ten * count);
        prop_assert!(expected.is(mean), "{mean:?} {expected:?}");
    }

    #[test]
    fn spreads_of_any_states_are_nearest(
        sum: i64,
        more: u64,
        count in 2_u64..,
        shifts in (0_u32..63, 0_u32..64, 0_u32..62),
        scale in 0_u8..=18,
    ) {
        // Σp² that is at least (Σp)²/n, as Cauchy-Schwarz has it.
        let (sum, count) = (i128::from(sum >> shifts.0), (count >> shifts.2).max(2));
        let least = (BigInt::from(sum) * sum + count - 1) / count;
        let squares = least + BigInt::from(more >> shifts.1) * more;
        let n = &squares * count - BigInt::from(sum) * sum;
        let d = BigInt::from(count) * (count - 1) * BigInt::from(10).pow(2 * u32::from(scale));
        let words = words_of(&squares);
        let states: [(Term, &[u64]); 3] = [
            (Term::Count(0), &[count]),
            (Term::Sum(0), &wide::from_i128(sum)),
            (Term::SumProduct(0, 0), &words),
        ];
        let var = lower(Aggregate::Var(0), [scale, 0], &states);
        prop_assert!(Expected::Quotient(n.clone(), d.clone()).is(var), "{var:?} {n}/{d}");
        let stddev = lower(Aggregate::Stddev(0), [scale, 0], &states);
        prop_assert!(Expected::Root(n.clone(), d.clone()).is(stddev), "{stddev:?} √({n}/{d})");
    }
}

#[test]
fn zero_is_never_negative() {
    let vwap = lower(
        Aggregate::Vwap { price: 0, size: 1 },
        [4, 0],
        &[(Term::SumPaired { of: 1, with: 0 }, &wide::from_i128(-3))],
    );
    assert!(matches!(vwap, Value::Float(zero) if zero.to_bits() == 0));
    let mean = lower(Aggregate::Mean(0), [4, 0], &[(Term::Count(0), &[3])]);
    assert!(matches!(mean, Value::Float(zero) if zero.to_bits() == 0));
}

#[test]
fn the_smallest_and_the_greatest_spread() {
    let spread = |scale: u8, values: [i64; 2]| {
        let sum = i128::from(values[0]) + i128::from(values[1]);
        let square = |value: i64| BigInt::from(value) * value;
        let squares = words_of(&(square(values[0]) + square(values[1])));
        let states: [(Term, &[u64]); 3] = [
            (Term::Count(0), &[2]),
            (Term::Sum(0), &wide::from_i128(sum)),
            (Term::SumProduct(0, 0), &squares),
        ];
        let stddev = lower(Aggregate::Stddev(0), [scale, 0], &states);
        (lower(Aggregate::Var(0), [scale, 0], &states), stddev)
    };
    assert_eq!(spread(18, [0, 1]).0, Value::Float(5e-37));
    assert_eq!(spread(0, [0, 2]).1, Value::Float(f64::sqrt(2.0)));
    assert_eq!(spread(18, [7, 7]), (Value::Float(0.0), Value::Float(0.0)));
    // (2^64 − 1)² / 2 rounds to 2^127, its root to 2^63.5.
    let (var, stddev) = spread(0, [i64::MIN, i64::MAX]);
    assert_eq!(var, Value::Float(2_f64.powi(127)));
    assert_eq!(stddev, Value::Float(2_f64.powi(63) * f64::sqrt(2.0)));
}
