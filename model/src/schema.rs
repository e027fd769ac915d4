//! What a stream's ticks look like.

use crate::key::KeySet;
use crate::units::Scale;

/// A declared stream: its time column, key columns and value columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSchema {
    /// The stream's name.
    pub name: String,
    /// The name of the event time column, `i64` nanoseconds UTC.
    pub time: String,
    /// The names of the key columns, text; none means the stream is one series.
    pub keys: Vec<String>,
    /// The keys that are allowed; `None` for any. Ticks of others are rejected.
    pub keys_allowed: Option<KeySet>,
    /// The value columns, in declared order.
    pub columns: Vec<Column>,
    /// What to do with a float that is not exactly a value at the column's scale.
    pub inexact: Inexact,
    /// How far `ts_event` may lie ahead of the service's clock at arrival; `None` for any
    /// distance. Ticks beyond are rejected, so that one bad clock cannot make all others late.
    pub horizon_ns: Option<i64>,
    /// What of its history is kept.
    pub retention: Retention,
    /// How its history is compressed.
    pub codec: Codec,
}

/// How history is compressed, on top of its encodings. Files of both kinds may lie side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// Not at all: the least time to read.
    #[default]
    None,
    /// Zstandard: the least space.
    Zstd,
}

/// What of a stream's history is kept, in whole days by event time; both may be said. It decides
/// nothing that a view makes of the ticks that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Days that end this long before the stream's watermark may go, nanoseconds.
    pub age_ns: Option<i64>,
    /// The oldest days go while the stream's files take more than this many bytes.
    pub bytes: Option<u64>,
}

/// One value column: scaled integers within bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The column's name.
    pub name: String,
    /// Decimal digits after the point: the stored integer is the value times ten to this power.
    pub scale: Scale,
    /// The least allowed scaled value.
    pub min: i64,
    /// The greatest allowed scaled value.
    pub max: i64,
    /// Whether null is allowed.
    pub optional: bool,
}

/// What to do with a float input that is not exactly a value at its column's scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inexact {
    /// Reject the tick.
    #[default]
    Reject,
    /// Take the nearest scaled integer, ties to even.
    Round,
}

impl StreamSchema {
    /// The horizon of a stream that declares none: an hour.
    pub const HORIZON_NS_DEFAULT: i64 = 3_600_000_000_000;

    /// The index of a value column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The index of a key column.
    pub fn key(&self, name: &str) -> Option<usize> {
        self.keys.iter().position(|key| key == name)
    }
}
