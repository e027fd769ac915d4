use isotick_shaders::PRODUCT_REDUCE;
use isotick_shaders::layout::ProductPartial;
use num_bigint::BigInt;

use super::dispatch::{Case, POISON, cases, dispatch, kernels, malformed_case};

/// What a segment comes to, in plain Rust.
fn reference(case: &Case, segment: usize) -> ProductPartial {
    let rows: Vec<usize> = case.rows(segment).filter(|&row| case.is_valid(row)).collect();
    let (a, b) = (&case.columns[0], &case.columns[case.columns.len() - 1]);
    let products = rows.iter().map(|&row| BigInt::from(a[row]) * BigInt::from(b[row])).sum();
    let sums = rows.iter().map(|&row| BigInt::from(b[row])).sum();
    ProductPartial { count: rows.len() as u32, product_sum: limbs(&products), b_sum: limbs(&sums) }
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
fn equals_the_reference() {
    let Some(device) = super::device() else { return };
    let kernels = kernels(&device, PRODUCT_REDUCE);
    for (number, case) in cases(2, 2).iter().enumerate() {
        let (partials, status) = dispatch::<ProductPartial>(&device, &kernels, case);
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
    let (case, sound) = malformed_case(2);
    let kernels = kernels(&device, PRODUCT_REDUCE);
    let (partials, status) = dispatch::<ProductPartial>(&device, &kernels, &case);
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
