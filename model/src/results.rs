//! Windows as results: what a subscriber, a scan and `verify` see.

use crate::Key;
use crate::view::{OutputType, View};

/// One output value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// No contributing value.
    Null,
    /// A count, or an integer at the column's scale.
    Integer(i128),
    /// A quotient. Never NaN, infinite or −0.
    Float(f64),
}

/// One window of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowRow {
    /// The series.
    pub key: Key,
    /// Start, inclusive, nanoseconds UTC.
    pub window_start: i64,
    /// End, exclusive, nanoseconds UTC.
    pub window_end: i64,
    /// 1 for a closed window's first publication, then one more per change; 0 for a window that
    /// is still open, and for scans, which have no versions.
    pub version: u32,
    /// One value per output column.
    pub values: Vec<Value>,
}

/// The columns of a view's results: key columns, `window_start`, `window_end`, (live: `version`),
/// then these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultSchema {
    /// The key columns' names.
    pub keys: Vec<String>,
    /// The aggregates' names and types, in order.
    pub columns: Vec<(String, OutputType)>,
}

impl ResultSchema {
    /// The results of a view.
    pub fn of(view: &View) -> Self {
        Self {
            keys: view.keys.clone(),
            columns: view
                .aggregates
                .iter()
                .map(|aggregate| (aggregate.name.clone(), aggregate.output))
                .collect(),
        }
    }
}
