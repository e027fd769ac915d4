//! Ticks in columns: what moves between the edge, the log, history and the engines.

mod concat;

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use arrow_buffer::{NullBuffer, ScalarBuffer};

use crate::{Key, PublisherId};

/// In [`Ticks::seen`]: the tick came on time (`ts_event` was not below the watermark).
pub const ON_TIME: i64 = i64::MIN;
/// In [`Ticks::seen`]: the tick was imported and never passed the live path.
pub const NEVER_SEEN: i64 = i64::MAX;

/// Ticks of one stream, column by column. All row columns have equal length.
///
/// Cloning is cheap: buffers are shared. Rows are in any order; who needs an order says so.
#[derive(Clone, Debug)]
pub struct Ticks {
    /// Event time, nanoseconds UTC.
    pub ts_event: ScalarBuffer<i64>,
    /// Each row's ordinal at its publisher, from 0. Gaps are rows that were rejected or not sent.
    pub sequence: ScalarBuffer<u64>,
    /// The publishers that [`Self::publisher`] refers to, each once.
    pub publishers: Vec<PublisherId>,
    /// Index into [`Self::publishers`] per row; empty when every row is of the first one.
    pub publisher: ScalarBuffer<u32>,
    /// The keys that [`Self::key`] refers to, each once.
    pub keys: Arc<[Key]>,
    /// Index into [`Self::keys`] per row.
    pub key: ScalarBuffer<u32>,
    /// Value columns in schema order. A reader that was asked for some columns only leaves the
    /// others [`ValueColumn::absent`].
    pub values: Vec<ValueColumn>,
    /// How each row met the live path: [`ON_TIME`], [`NEVER_SEEN`], or the watermark at its
    /// arrival when it was late. `None` when every row is on time.
    pub seen: Option<ScalarBuffer<i64>>,
}

/// One value column: scaled integers with optional nulls. A null row's value is 0.
#[derive(Clone, Debug)]
pub struct ValueColumn {
    /// Scaled values.
    pub values: ScalarBuffer<i64>,
    /// Which rows are null; `None` when none is.
    pub nulls: Option<NullBuffer>,
}

impl ValueColumn {
    /// A column that was not read.
    pub fn absent() -> Self {
        Self { values: Vec::new().into(), nulls: None }
    }

    /// The value of a row, `None` when null.
    pub fn get(&self, row: usize) -> Option<i64> {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then(|| self.values[row])
    }
}

impl Ticks {
    /// Rows.
    pub fn len(&self) -> usize {
        self.ts_event.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ts_event.is_empty()
    }

    /// The publisher of a row.
    pub fn publisher_of(&self, row: usize) -> &PublisherId {
        match self.publisher.get(row) {
            Some(&code) => &self.publishers[code as usize],
            None => &self.publishers[0],
        }
    }

    /// The key of a row.
    pub fn key_of(&self, row: usize) -> &Key {
        &self.keys[self.key[row] as usize]
    }

    /// The least and the greatest event time; `None` of no rows.
    pub fn times(&self) -> Option<RangeInclusive<i64>> {
        // The plainest loop is the one that compares many at a time.
        let (least, greatest) = self
            .ts_event
            .iter()
            .fold((i64::MAX, i64::MIN), |(least, greatest), &ts| (least.min(ts), greatest.max(ts)));
        (!self.is_empty()).then_some(least..=greatest)
    }

    /// How a row met the live path.
    pub fn seen_of(&self, row: usize) -> i64 {
        self.seen.as_ref().map_or(ON_TIME, |seen| seen[row])
    }

    /// Rows of `self` in the order of `rows`, with every column gathered.
    pub fn take(&self, rows: &[u32]) -> Self {
        let pick = |row: &u32| *row as usize;
        Self {
            ts_event: rows.iter().map(|row| self.ts_event[pick(row)]).collect(),
            sequence: rows.iter().map(|row| self.sequence[pick(row)]).collect(),
            publishers: self.publishers.clone(),
            publisher: match self.publisher.is_empty() {
                true => self.publisher.clone(),
                false => rows.iter().map(|row| self.publisher[pick(row)]).collect(),
            },
            keys: self.keys.clone(),
            key: rows.iter().map(|row| self.key[pick(row)]).collect(),
            values: self.values.iter().map(|column| column.take(rows)).collect(),
            seen: self.seen.as_ref().map(|seen| rows.iter().map(|row| seen[pick(row)]).collect()),
        }
    }
}

impl Ticks {
    /// Adjacent rows, with every column: buffers are shared.
    ///
    /// # Panics
    ///
    /// When the rows are not all there.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let (start, len) = (rows.start, rows.len());
        Self {
            ts_event: self.ts_event.slice(start, len),
            sequence: self.sequence.slice(start, len),
            publishers: self.publishers.clone(),
            publisher: match self.publisher.is_empty() {
                true => self.publisher.clone(),
                false => self.publisher.slice(start, len),
            },
            keys: self.keys.clone(),
            key: self.key.slice(start, len),
            values: self.values.iter().map(|column| column.slice(rows.clone())).collect(),
            seen: self.seen.as_ref().map(|seen| seen.slice(start, len)),
        }
    }
}

impl ValueColumn {
    /// Adjacent rows; an absent column stays absent.
    fn slice(&self, rows: Range<usize>) -> Self {
        if self.values.is_empty() {
            return Self::absent();
        }
        Self {
            values: self.values.slice(rows.start, rows.len()),
            nulls: self.nulls.as_ref().map(|nulls| nulls.slice(rows.start, rows.len())),
        }
    }

    /// Rows of `self` in the order of `rows`; an absent column stays absent.
    pub fn take(&self, rows: &[u32]) -> Self {
        if self.values.is_empty() {
            return Self::absent();
        }
        Self {
            values: rows.iter().map(|&row| self.values[row as usize]).collect(),
            nulls: self
                .nulls
                .as_ref()
                .map(|nulls| rows.iter().map(|&row| nulls.is_valid(row as usize)).collect()),
        }
    }
}

/// A row that did not become a tick. It keeps its place in its publisher's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The row's ordinal at its publisher.
    pub sequence: u64,
    /// Why.
    pub reason: RejectReason,
}

/// Why a row was rejected. The discriminants are stable: they go to the wire and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RejectReason {
    /// The time is null.
    NullTime = 1,
    /// A key column is null.
    NullKey = 2,
    /// A value column that is not optional is null.
    NullValue = 3,
    /// A value lies outside its column's bounds, or outside the scaled 64-bit range.
    OutOfBounds = 4,
    /// A float or decimal is not exactly a value at the column's scale.
    Inexact = 5,
    /// A float is NaN or infinite.
    NotFinite = 6,
    /// A text field is no number, time or valid text of its column, or a row has too few or too
    /// many fields.
    Malformed = 7,
    /// The time lies beyond the stream's horizon.
    BeyondHorizon = 8,
    /// A time that fits no window or no 64-bit nanosecond count.
    TimeOutOfRange = 9,
    /// A key longer than allowed.
    KeyTooLong = 10,
    /// A key that is not in the stream's closed set.
    UnknownKey = 11,
}

impl RejectReason {
    /// Every reason, in the order of the discriminants.
    pub const ALL: [Self; 11] = [
        Self::NullTime,
        Self::NullKey,
        Self::NullValue,
        Self::OutOfBounds,
        Self::Inexact,
        Self::NotFinite,
        Self::Malformed,
        Self::BeyondHorizon,
        Self::TimeOutOfRange,
        Self::KeyTooLong,
        Self::UnknownKey,
    ];

    /// The reason with this discriminant.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == code)
    }

    /// The reason's name in counters, JSON and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::NullTime => "null_time",
            Self::NullKey => "null_key",
            Self::NullValue => "null_value",
            Self::OutOfBounds => "out_of_bounds",
            Self::Inexact => "inexact",
            Self::NotFinite => "not_finite",
            Self::Malformed => "malformed",
            Self::BeyondHorizon => "beyond_horizon",
            Self::TimeOutOfRange => "time_out_of_range",
            Self::KeyTooLong => "key_too_long",
            Self::UnknownKey => "unknown_key",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
