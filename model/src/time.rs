//! Nanoseconds UTC and durations, from and to text.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, SecondsFormat};

use crate::error::{DurationError, TimeError};
use crate::ticks::RejectReason;

const NS_PER_SECOND: i64 = 1_000_000_000;

/// The unit of an integer time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    #[default]
    Nanoseconds,
}

impl TimeUnit {
    /// Nanoseconds in one unit.
    pub fn ns(self) -> i64 {
        match self {
            Self::Seconds => NS_PER_SECOND,
            Self::Milliseconds => 1_000_000,
            Self::Microseconds => 1_000,
            Self::Nanoseconds => 1,
        }
    }

    /// A count of this unit since the epoch, as nanoseconds UTC.
    ///
    /// # Errors
    ///
    /// [`RejectReason::TimeOutOfRange`] when that has no 64 bits.
    pub fn to_ns(self, count: i64) -> Result<i64, RejectReason> {
        count.checked_mul(self.ns()).ok_or(RejectReason::TimeOutOfRange)
    }
}

impl fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Nanoseconds => "ns",
        })
    }
}

impl FromStr for TimeUnit {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        match text {
            "s" => Ok(Self::Seconds),
            "ms" => Ok(Self::Milliseconds),
            "us" | "µs" => Ok(Self::Microseconds),
            "ns" => Ok(Self::Nanoseconds),
            _ => Err(TimeError::Unit { text: text.into() }),
        }
    }
}

/// Nanoseconds UTC of an RFC 3339 time such as `2024-01-02T09:30:00.123456789+01:00`: the date
/// and the time separated by `T`, `t` or a blank, an optional fraction, then `Z`, `z` or an offset.
/// Digits behind the ninth of the fraction must be zeros; leap seconds do not exist.
///
/// # Errors
///
/// [`RejectReason::Malformed`], or [`RejectReason::TimeOutOfRange`] outside 64 bits (the years
/// 1677 to 2262).
pub fn parse_rfc3339(text: impl AsRef<[u8]>) -> Result<i64, RejectReason> {
    let (ns, rest) = parse_local(text.as_ref()).ok_or(RejectReason::Malformed)?;
    let offset_s = parse_offset(rest).ok_or(RejectReason::Malformed)?;
    let ns = ns - i128::from(offset_s) * i128::from(NS_PER_SECOND);
    i64::try_from(ns).map_err(|_| RejectReason::TimeOutOfRange)
}

/// Date and time without the offset, as nanoseconds, and what follows.
fn parse_local(text: &[u8]) -> Option<(i128, &[u8])> {
    let (date, rest) = text.split_at_checked(10)?;
    let days = parse_date(date)?;
    let (time, mut rest) = rest.split_at_checked(9)?;
    if !matches!(time[0], b'T' | b't' | b' ') || time[3] != b':' || time[6] != b':' {
        return None;
    }
    let hour = number(&time[1..3], 23)?;
    let minute = number(&time[4..6], 59)?;
    let second = number(&time[7..9], 59)?;
    let mut fraction_ns = 0;
    if let [b'.', after @ ..] = rest {
        let count = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, after) = after.split_at(count);
        if count == 0 || digits.iter().skip(9).any(|&byte| byte != b'0') {
            return None;
        }
        for place in 0..9 {
            fraction_ns = fraction_ns * 10 + digits.get(place).map_or(0, |byte| byte - b'0') as i64;
        }
        rest = after;
    }
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((i128::from(seconds) * i128::from(NS_PER_SECOND) + i128::from(fraction_ns), rest))
}

/// Days since the epoch of `YYYY-MM-DD`.
fn parse_date(text: &[u8]) -> Option<i64> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = i32::try_from(number(&text[..4], 9999)?).ok()?;
    let month = u32::try_from(number(&text[5..7], 12)?).ok()?;
    let day = u32::try_from(number(&text[8..], 31)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, month, day)?;
    Some(date.signed_duration_since(NaiveDate::default()).num_days())
}

/// Seconds east of UTC.
fn parse_offset(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let seconds = number(&[*h1, *h2], 23)? * 3_600 + number(&[*m1, *m2], 59)? * 60;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn number(digits: &[u8], max: i64) -> Option<i64> {
    let value = digits.iter().try_fold(0_i64, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
    })?;
    (value <= max).then_some(value)
}

/// Nanoseconds UTC as RFC 3339 with nine fraction digits and `Z`, for the whole range of `i64`.
pub fn format_rfc3339(ns: i64) -> String {
    DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// A time given by hand (`--from`, `origin`): RFC 3339, a date (its midnight UTC), or an integer
/// of nanoseconds.
///
/// # Errors
///
/// A [`TimeError`] that shows the text and what is expected.
pub fn parse_time(text: &str) -> Result<i64, TimeError> {
    let malformed = || TimeError::Malformed { text: text.into() };
    let out_of_range = || TimeError::OutOfRange { text: text.into() };
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| out_of_range());
    }
    if let Some(days) = parse_date(text.as_bytes()) {
        return days.checked_mul(86_400 * NS_PER_SECOND).ok_or_else(out_of_range);
    }
    parse_rfc3339(text).map_err(|reason| match reason {
        RejectReason::TimeOutOfRange => out_of_range(),
        _ => malformed(),
    })
}

/// Units of durations, longest first.
const UNITS: [(&str, i64); 8] = [
    ("w", 7 * 86_400 * NS_PER_SECOND),
    ("d", 86_400 * NS_PER_SECOND),
    ("h", 3_600 * NS_PER_SECOND),
    ("m", 60 * NS_PER_SECOND),
    ("s", NS_PER_SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Nanoseconds of a duration: whole numbers with a unit each (`w d h m s ms us ns`), added up:
/// `1s`, `50ms`, `1h30m`. Never negative.
///
/// # Errors
///
/// A [`DurationError`] that shows the text and what is expected.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let malformed = || DurationError::Malformed { text: text.into() };
    let out_of_range = || DurationError::OutOfRange { text: text.into() };
    if text.starts_with('-') {
        return Err(DurationError::Negative { text: text.into() });
    }
    let (mut rest, mut total) = (text, 0_i64);
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (count, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit = if unit == "µs" { "us" } else { unit };
        let (_, ns) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        if count.is_empty() {
            return Err(malformed());
        }
        let part = count.parse::<i64>().ok().and_then(|count| count.checked_mul(*ns));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(out_of_range)?;
        rest = after;
    }
    Ok(total)
}

/// A duration as [`parse_duration`] reads it, e.g. `1h30m`; `0s` for none.
///
/// # Panics
///
/// For a negative duration.
pub fn format_duration(ns: i64) -> String {
    assert!(ns >= 0, "durations are not negative, this one is {ns} ns");
    if ns == 0 {
        return "0s".into();
    }
    let (mut text, mut rest) = (String::new(), ns);
    for (unit, unit_ns) in &UNITS[1..] {
        if rest / unit_ns > 0 {
            text += &format!("{}{unit}", rest / unit_ns);
            rest %= unit_ns;
        }
    }
    text
}

#[cfg(test)]
mod tests;
