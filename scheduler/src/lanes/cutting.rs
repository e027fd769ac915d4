//! How work is cut so that each piece is predicted to take no longer than it may.

use std::num::NonZeroU64;
use std::ops::Range;

use crate::placement::{Costs, Work};

/// Into how many dispatches work must be cut for each to take `max_ns` at most, what each
/// dispatch costs by itself left out. At least 1; with a `max_ns` of 0, one for each nanosecond.
pub fn dispatches_within(predicted_ns: u64, max_ns: u64) -> u64 {
    predicted_ns.div_ceil(max_ns.max(1)).max(1)
}

/// The most rows that are predicted to take `max_ns` at most in one dispatch, whatever the rows of
/// `work`. `None` where not even one row is.
pub fn rows_within(costs: &Costs, work: &Work, max_ns: u64) -> Option<NonZeroU64> {
    let one = Work { rows: 1.0, ..*work };
    let row_ns = costs.predict_ns(&one) - costs.dispatch_ns;
    let left_ns = max_ns as f64 - costs.dispatch_ns;
    // Casts go to the nearest that there is: free rows are u64::MAX, what is negative 0.
    let rows = if row_ns > 0.0 { (left_ns / row_ns) as u64 } else { u64::MAX };
    NonZeroU64::new(if left_ns >= 0.0 { rows } else { 0 })
}

/// Cuts rows into the fewest ranges of at most `rows_max` each, which differ by one row at most.
pub fn cut(rows: u64, rows_max: NonZeroU64) -> impl Iterator<Item = Range<u64>> {
    let pieces = rows.div_ceil(rows_max.get());
    // The product is wider than the rows, the quotient is not.
    let at = move |piece: u64| (u128::from(rows) * u128::from(piece) / u128::from(pieces)) as u64;
    (0..pieces).map(move |piece| at(piece)..at(piece + 1))
}
