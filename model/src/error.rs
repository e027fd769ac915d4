//! What goes wrong with text that people write: times, durations, filters, definitions.

use thiserror::Error;

/// A time or time unit that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TimeError {
    /// Not one of the accepted forms.
    #[error(
        "`{text}` is no time: write RFC 3339 (2024-01-02T09:30:00Z), a date (2024-01-02) or \
         nanoseconds since 1970 (1704187800000000000)"
    )]
    Malformed {
        /// What was given.
        text: String,
    },
    /// No 64-bit nanosecond count.
    #[error("`{text}` is out of range: times go from 1677-09-21 to 2262-04-11")]
    OutOfRange {
        /// What was given.
        text: String,
    },
    /// Not a unit.
    #[error("`{text}` is no time unit: write s, ms, us or ns")]
    Unit {
        /// What was given.
        text: String,
    },
}

/// A duration that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not whole numbers with units.
    #[error(
        "`{text}` is no duration: write whole numbers with units (w d h m s ms us ns), such as \
         1s, 50ms or 1h30m"
    )]
    Malformed {
        /// What was given.
        text: String,
    },
    /// Below zero.
    #[error("`{text}` is negative: durations start at 0s")]
    Negative {
        /// What was given.
        text: String,
    },
    /// No 64-bit nanosecond count.
    #[error("`{text}` is too long: durations end at 292 years")]
    OutOfRange {
        /// What was given.
        text: String,
    },
}
