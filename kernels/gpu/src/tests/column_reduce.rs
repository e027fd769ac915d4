use isotick_shaders::COLUMN_REDUCE;
use isotick_shaders::layout::ColumnPartial;

use super::dispatch::{Case, POISON, cases, dispatch, kernels, malformed_case};

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
fn equals_the_reference() {
    let Some(device) = super::device() else { return };
    let kernels = kernels(&device, COLUMN_REDUCE);
    for (number, case) in cases(1, 1).iter().enumerate() {
        let (partials, status) = dispatch::<ColumnPartial>(&device, &kernels, case);
        assert_eq!(status.segments_done as usize, case.segments.len(), "case {number}");
        assert_eq!((status.segments_malformed, status.malformed_end), (0, 0), "case {number}");
        for (segment, partial) in partials.iter().enumerate() {
            assert_eq!(*partial, reference(case, segment), "case {number}, segment {segment}");
        }
    }
}

#[test]
fn malformed_segments_are_counted_and_left_alone() {
    let Some(device) = super::device() else { return };
    let (case, sound) = malformed_case(1);
    let kernels = kernels(&device, COLUMN_REDUCE);
    let (partials, status) = dispatch::<ColumnPartial>(&device, &kernels, &case);
    assert_eq!(status.segments_done as usize, sound.len());
    assert_eq!(status.segments_malformed as usize, case.segments.len() - sound.len());
    assert_eq!(status.malformed_end, 6);
    for (segment, partial) in partials.iter().enumerate() {
        match sound.contains(&segment) {
            true => assert_eq!(*partial, reference(&case, segment)),
            false => assert!(bytemuck::cast_slice(&[*partial]).iter().all(|&w: &u32| w == POISON)),
        }
    }
}
