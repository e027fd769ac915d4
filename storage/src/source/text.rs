//! Text fields: times and values as users write them.

use isotick_model::time::{TimeUnit, parse_rfc3339};
use isotick_model::{Column, Inexact, RejectReason, Scale};

use super::batch::{Refusal, shown};

/// The time in a field: a number of `unit`s since the epoch (fractions too, as far as they are
/// whole nanoseconds), or RFC 3339, where a missing zone means UTC and a missing time midnight.
pub(super) fn time(text: &[u8], unit: TimeUnit) -> Result<i64, Refusal> {
    let integer = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    if let Some(count) = integer {
        return unit.to_ns(count).map_err(|reason| (reason, time_out_of_range(text)));
    }
    let number = nanoseconds(unit).parse_decimal(text);
    let parsed = match number {
        Err(RejectReason::Malformed) => parse_rfc3339(text).or_else(|reason| match reason {
            RejectReason::Malformed if text.len() == 10 => {
                parse_rfc3339([text, b"T00:00:00Z"].concat())
            }
            RejectReason::Malformed => parse_rfc3339([text, b"Z"].concat()),
            reason => Err(reason),
        }),
        Err(RejectReason::OutOfBounds) => Err(RejectReason::TimeOutOfRange),
        parsed => parsed,
    };
    parsed.map_err(|reason| match reason {
        RejectReason::TimeOutOfRange => (reason, time_out_of_range(text)),
        RejectReason::Inexact => {
            (reason, format!("{} is no whole number of nanoseconds", lossy(text)))
        }
        reason => (reason, format!("{} is no time: expected {unit} or RFC 3339", lossy(text))),
    })
}

/// The scale at which a number of this unit is nanoseconds.
fn nanoseconds(unit: TimeUnit) -> Scale {
    let digits = match unit {
        TimeUnit::Seconds => 9,
        TimeUnit::Milliseconds => 6,
        TimeUnit::Microseconds => 3,
        TimeUnit::Nanoseconds => 0,
    };
    Scale::new(digits).expect("at most 9 digits are below the limit")
}

fn time_out_of_range(text: &[u8]) -> String {
    format!("{} lies outside the years 1677 to 2262 of 64-bit nanoseconds", lossy(text))
}

/// The value in a field at the column's scale, bounds not yet looked at.
///
/// Decimal text is exact. Where the stream says `inexact = "round"`, text with more digits than the
/// scale holds becomes the nearest scaled integer, ties to even, by the decimal itself.
pub(super) fn value(text: &[u8], column: &Column, inexact: Inexact) -> Result<i64, Refusal> {
    column.scale.parse_decimal_as(text, inexact).map_err(|reason| {
        let digits = column.scale.digits();
        match reason {
            RejectReason::Inexact => {
                (reason, format!("{} has more than {digits} decimals", plain(text)))
            }
            RejectReason::OutOfBounds => (reason, out_of_range(plain(text), column)),
            _ if is_not_finite(text) => {
                (RejectReason::NotFinite, format!("{} is not finite", plain(text)))
            }
            reason => (reason, format!("{} is no decimal number", lossy(text))),
        }
    })
}

/// What to say of a value that has no 64 bits at the column's scale.
pub(super) fn out_of_range(value: impl std::fmt::Display, column: &Column) -> String {
    format!("{value} does not fit 64 bits at {} decimals", column.scale.digits())
}

fn is_not_finite(text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    ["nan", "inf", "infinity"].iter().any(|name| unsigned.eq_ignore_ascii_case(name.as_bytes()))
}

/// Bytes that are a number, as they are.
fn plain(text: &[u8]) -> String {
    let quoted = lossy(text);
    quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(&quoted).to_string()
}

/// Bytes that may be anything, quoted.
pub(super) fn lossy(text: &[u8]) -> String {
    shown(&String::from_utf8_lossy(text))
}
