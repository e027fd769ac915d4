use proptest::prelude::*;

use super::*;

fn cell(value: i64) -> i64 {
    Grid::LogLinear.code(value)
}

fn estimate(value: i64) -> i64 {
    Grid::LogLinear.value(cell(value))
}

fn error(value: i64) -> u128 {
    (i128::from(estimate(value)) - i128::from(value)).unsigned_abs()
}

/// The stated bound: |estimate − value| ≤ |value|·2^-8.
fn assert_bound(value: i64) {
    let bound = u128::from(value.unsigned_abs());
    assert!(error(value) << 8 <= bound, "{value} is taken for {}", estimate(value));
}

#[test]
fn cells_are_numbered_without_gaps_in_the_order_of_values() {
    for code in -(CELL_MAX.cast_signed())..CELL_MAX.cast_signed() - 1 {
        let value = Grid::LogLinear.value(code);
        assert_eq!(cell(value), code, "the estimate lies in its own cell");
        assert!(value < Grid::LogLinear.value(code + 1));
    }
    assert_eq!(cell(i64::MIN), -CELL_MAX.cast_signed());
    assert_eq!(cell(i64::MAX), CELL_MAX.cast_signed() - 1);
}

#[test]
fn the_bound_holds_at_the_edges_of_cells() {
    for value in -70_000..70_000 {
        assert_bound(value);
        assert!(cell(value) <= cell(value + 1));
    }
    for value in -257_i64..=257 {
        let exact = value.abs() != 256;
        assert_eq!(error(value) == 0, exact, "{value}");
    }
    for bit in 8..=62 {
        for least in (128..256).map(|bits: i64| bits << (bit - 7)) {
            for value in [least.saturating_sub(1), least, least.saturating_add(1)] {
                assert_bound(value);
                assert_bound(-value);
                assert_eq!(estimate(-value), -estimate(value));
            }
        }
    }
    [i64::MIN, i64::MIN + 1, i64::MAX].into_iter().for_each(assert_bound);
    assert_eq!(estimate(i64::MIN), i64::MIN);
    // No better bound holds: the first of a cell is half a width off.
    assert_eq!((estimate(1 << 40), error(1 << 40)), ((1 << 40) + (1 << 32), 1 << 32));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn cells_follow_values(a: i64, b: i64, shift in 0_u32..64) {
        let (a, b) = (a >> shift, b >> shift);
        assert_bound(a);
        prop_assert!((cell(a) < cell(b)) <= (a < b) && (cell(a) > cell(b)) <= (a > b));
        prop_assert!(cell(a).unsigned_abs() <= CELL_MAX);
    }
}
