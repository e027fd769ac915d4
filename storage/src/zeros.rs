//! Zeros for columns in which nothing else stands.

use std::sync::LazyLock;

use arrow_buffer::{ArrowNativeType, Buffer, ScalarBuffer};

use crate::history::read::BATCH_ROWS;

/// One buffer for all: columns refer to it, and nobody writes to it.
static ZEROS: LazyLock<Buffer> = LazyLock::new(|| vec![0_u64; BATCH_ROWS].into());

/// So many zeros.
pub(crate) fn zeros<T: ArrowNativeType>(rows: usize) -> ScalarBuffer<T> {
    match rows * size_of::<T>() <= ZEROS.len() {
        true => ScalarBuffer::new(ZEROS.clone(), 0, rows),
        false => vec![T::default(); rows].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_are_asked_for() {
        for rows in [0, 1, BATCH_ROWS, BATCH_ROWS + 1, 2 * BATCH_ROWS, 2 * BATCH_ROWS + 1] {
            assert_eq!(*zeros::<u64>(rows), *vec![0_u64; rows]);
            assert_eq!(*zeros::<u32>(rows), *vec![0_u32; rows]);
        }
    }
}
