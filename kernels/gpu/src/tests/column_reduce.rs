use isotick_shaders::layout::ColumnPartial;

use super::dispatch::{
    Case, Numbers, assert_malformed, assert_noticed, first_difference, permutations, sound,
};

/// What a segment comes to, in plain Rust.
fn reference(case: &Case, segment: usize) -> ColumnPartial {
    let rows: Vec<usize> = case.rows(segment).filter(|&row| case.is_valid(row)).collect();
    let values = || rows.iter().map(|&row| case.columns[0][row]);
    if rows.is_empty() {
        return ColumnPartial::default();
    }
    let sum: i128 = values().map(i128::from).sum();
    let split = |value: i64| [value as u32, (value >> 32) as u32];
    ColumnPartial {
        count: rows.len() as u32,
        first_row: rows[0] as u32,
        last_row: rows[rows.len() - 1] as u32,
        sum: [sum as u32, (sum >> 32) as u32, (sum >> 64) as u32],
        least: split(values().min().unwrap()),
        greatest: split(values().max().unwrap()),
    }
}

#[test]
fn every_permutation_equals_the_reference() {
    for device in super::devices() {
        for compiled in &permutations(&device, false, sound) {
            assert_eq!(first_difference(&device, compiled, 1, reference), None);
            assert_malformed(&device, compiled, reference);
        }
    }
}

#[test]
fn a_lost_carry_is_noticed_in_every_variant() {
    let Some(device) = super::device() else { return };
    use Numbers::{Any, Frame, Wide};
    let plants = [
        // The second limb's carry, as the first one's.
        ("a.z + b.z + y_carry", "a.z + b.z", Wide),
        ("a.y + b.y + carry_of(x, b.x)", "a.y + b.y", Frame),
        // 64-bit integers: the carry of the low word, where rows and where states are added.
        ("sign_word(number) + carry_of(low, addend)", "sign_word(number)", Wide),
        ("return sum + u64(number);", "return u64(u32(sum)) + u64(number);", Frame),
        // A state of another lane that is lost.
        ("states[lane], states[lane + half]", "states[lane], states[lane]", Any),
    ];
    assert_noticed(&device, false, &plants, reference);
}
