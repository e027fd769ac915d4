//! As what values are kept for quantiles: themselves, or the cell of a log-linear grid.
//!
//! The grid keeps a value's sign and its [`BITS`] most significant bits. Cells are numbered in the
//! order of the values in them, without gaps, so that ranks among cells are ranks among values:
//! the cell at a rank is the cell of the value at that rank. A magnitude below 2^BITS has a cell
//! of its own; a cell above is as wide as 2^−(BITS−1) of its least magnitude, and stands for its
//! middle, at most half a width from every value in it.

/// Significant bits that the grid keeps.
const BITS: u32 = 8;
/// Cells per power of two, above 2^BITS.
const PER_POWER: u64 = 1 << (BITS - 1);
/// Magnitudes below this are exact.
const EXACT: u64 = 1 << BITS;

/// The number of the cell of `i64::MIN`, but for the sign; `i64::MAX` is in the one before.
const CELL_MAX: u64 = PER_POWER * (64 - BITS as u64) + PER_POWER;

/// As what values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grid {
    /// As themselves.
    Exact,
    /// By their cell: within 2^-8 of their magnitude, in at most 14,592 cells.
    LogLinear,
}

const _: () = assert!(2 * CELL_MAX == 14_592, "cells of both signs, and 0");

impl Grid {
    /// What is kept for a value: monotone in the value.
    pub(crate) fn code(self, value: i64) -> i64 {
        match self {
            Self::Exact => value,
            Self::LogLinear => {
                let magnitude = value.unsigned_abs();
                let cell = match magnitude {
                    0..EXACT => magnitude,
                    _ => {
                        let shift = u64::BITS - BITS - magnitude.leading_zeros();
                        // The kept bits are PER_POWER to below 2·PER_POWER.
                        PER_POWER * u64::from(shift) + (magnitude >> shift)
                    }
                };
                // At most CELL_MAX.
                let cell = cell.cast_signed();
                if value < 0 { -cell } else { cell }
            }
        }
    }

    /// The value that a code stands for.
    pub(crate) fn value(self, code: i64) -> i64 {
        match self {
            Self::Exact => code,
            Self::LogLinear => {
                let cell = code.unsigned_abs();
                if cell < EXACT {
                    return code;
                }
                let shift = cell / PER_POWER - 1;
                let least = u128::from(cell - PER_POWER * shift) << shift;
                let middle = (least + (1 << (shift - 1))).cast_signed();
                // Only the cell of i64::MIN alone has its middle outside 64 bits.
                i64::try_from(if code < 0 { -middle } else { middle }).unwrap_or(i64::MIN)
            }
        }
    }
}

#[cfg(test)]
mod tests;
