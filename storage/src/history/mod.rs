//! History: ticks as Parquet files, sorted by (key, `ts_event`, publisher, sequence).
//!
//! The columns are the schema's own names in declared order (time, keys, values), then
//! `publisher`, `sequence` and `seen`.

pub(crate) mod keys;
mod merge;
mod order;
pub(crate) mod read;
#[cfg(test)]
mod tests;
mod times;
mod write;

use std::ops::RangeInclusive;

use isotick_model::view::Tumbling;
use isotick_model::{Column, StreamSchema};

pub(crate) use read::plan;
pub use read::{Part, PartName, PartReader, RowsName};
pub(crate) use write::{stage, stage_merged};

/// Every time there is.
pub const ALL_TIME: RangeInclusive<i64> = i64::MIN..=i64::MAX;

/// Which columns of a stream's history to read. Time and key always come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Indices into the schema's value columns; the others come as
    /// [`absent`](isotick_model::ValueColumn::absent).
    pub values: Vec<usize>,
    /// Whether to read publisher and sequence. Without them every sequence is 0 and every
    /// publisher `-`.
    pub identity: bool,
    /// Whether to read how rows met the live path. Without it every row is on time.
    pub seen: bool,
    /// Where all times of a part lie in one window of this, the least of them may stand for each.
    pub one_window: Option<Tumbling>,
}

impl Columns {
    /// Everything.
    pub fn all(schema: &StreamSchema) -> Self {
        let values = (0..schema.columns.len()).collect();
        Self { values, identity: true, seen: true, one_window: None }
    }
}

/// The digits of the decimal annotation: every decimal that 64 bits hold whole.
const DECIMAL_DIGITS: u8 = 18;

/// Whether a column is annotated as decimal: it has decimals, and its bounds keep it within 18
/// digits.
fn is_decimal(column: &Column) -> bool {
    let limit = 10_i64.pow(u32::from(DECIMAL_DIGITS));
    column.scale.digits() > 0 && column.min > -limit && column.max < limit
}

/// The metadata entry that holds a column's scale.
pub(crate) fn scale_entry(column: &str) -> String {
    format!("{column}_scale")
}

/// The names of publisher, sequence and seen, always the last three columns; prefixed where the
/// schema declares one of them itself.
pub(crate) fn identity_names(schema: &StreamSchema) -> [String; 3] {
    let mut names = ["publisher", "sequence", "seen"].map(str::to_owned);
    let declared = |name: &String| {
        *name == schema.time || schema.key(name).is_some() || schema.column(name).is_some()
    };
    while names.iter().any(declared) {
        names = names.map(|name| format!("isotick_{name}"));
    }
    names
}
