use proptest::prelude::*;

use super::*;

#[test]
fn times_from_text() {
    use RejectReason::{Malformed, TimeOutOfRange};
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", Ok(0)),
        ("1970-01-01t00:00:01z", Ok(1_000_000_000)),
        ("1970-01-01 00:00:00.5+00:00", Ok(500_000_000)),
        ("1970-01-01T01:00:00.000000001+01:00", Ok(1)),
        ("1969-12-31T23:59:59.999999999Z", Ok(-1)),
        ("1969-12-31T19:00:00-05:00", Ok(0)),
        ("2024-02-29T12:34:56.123456789Z", Ok(1_709_210_096_123_456_789)),
        ("2024-02-29T12:34:56.12345678900000Z", Ok(1_709_210_096_123_456_789)),
        ("1677-09-21T00:12:43.145224192Z", Ok(i64::MIN)),
        ("1677-09-21T00:12:43.145224191Z", Err(TimeOutOfRange)),
        ("2262-04-11T23:47:16.854775808Z", Err(TimeOutOfRange)),
        ("9999-12-31T23:59:59Z", Err(TimeOutOfRange)),
        ("0000-01-01T00:00:00Z", Err(TimeOutOfRange)),
        ("2024-02-29T12:34:56.1234567891Z", Err(Malformed)),
        ("2023-02-29T00:00:00Z", Err(Malformed)),
        ("2024-01-01T24:00:00Z", Err(Malformed)),
        ("2024-01-01T00:60:00Z", Err(Malformed)),
        ("2016-12-31T23:59:60Z", Err(Malformed)),
        ("2024-01-01T00:00:00", Err(Malformed)),
        ("2024-01-01T00:00:00.Z", Err(Malformed)),
        ("2024-01-01T00:00:00+24:00", Err(Malformed)),
        ("2024-01-01T00:00:00+0100", Err(Malformed)),
        ("2024-1-1T00:00:00Z", Err(Malformed)),
        ("2024-00-01T00:00:00Z", Err(Malformed)),
        ("+024-01-01T00:00:00Z", Err(Malformed)),
        ("2024-01-01", Err(Malformed)),
        ("2024-01-01T00:00:00Z ", Err(Malformed)),
        ("２024-01-01T00:00:00Z", Err(Malformed)),
        ("", Err(Malformed)),
    ] {
        assert_eq!(parse_rfc3339(text), expected, "{text}");
    }
}

#[test]
fn the_ends_of_the_range() {
    assert_eq!(format_rfc3339(i64::MIN), "1677-09-21T00:12:43.145224192Z");
    assert_eq!(format_rfc3339(i64::MAX), "2262-04-11T23:47:16.854775807Z");
    assert_eq!(format_rfc3339(-1), "1969-12-31T23:59:59.999999999Z");
    assert_eq!(format_rfc3339(0), "1970-01-01T00:00:00.000000000Z");
}

#[test]
fn times_given_by_hand() {
    assert_eq!(parse_time("2024-01-02"), Ok(1_704_153_600_000_000_000));
    assert_eq!(parse_time("2024-01-02T00:00:00Z"), Ok(1_704_153_600_000_000_000));
    assert_eq!(parse_time("-5"), Ok(-5));
    assert_eq!(parse_time(&i64::MIN.to_string()), Ok(i64::MIN));
    for (text, message) in [
        (
            "2024-13-02",
            "`2024-13-02` is no time: write RFC 3339 (2024-01-02T09:30:00Z), a date (2024-01-02) or nanoseconds since 1970 (1704187800000000000)",
        ),
        (
            "9223372036854775808",
            "`9223372036854775808` is out of range: times go from 1677-09-21 to 2262-04-11",
        ),
        ("1600-01-01", "`1600-01-01` is out of range: times go from 1677-09-21 to 2262-04-11"),
    ] {
        assert_eq!(parse_time(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn units() {
    for (text, ns) in [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)] {
        let unit: TimeUnit = text.parse().unwrap();
        assert_eq!(unit.to_string(), text);
        assert_eq!(unit.to_ns(-3), Ok(-3 * ns));
    }
    assert_eq!(TimeUnit::Seconds.to_ns(9_223_372_037), Err(RejectReason::TimeOutOfRange));
    let error = "m".parse::<TimeUnit>().unwrap_err();
    assert_eq!(error.to_string(), "`m` is no time unit: write s, ms, us or ns");
}

#[test]
fn durations() {
    for (text, ns) in [
        ("1s", 1_000_000_000),
        ("50ms", 50_000_000),
        ("250us", 250_000),
        ("250µs", 250_000),
        ("10ns", 10),
        ("5m", 300_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1d", 86_400_000_000_000),
        ("2w", 1_209_600_000_000_000),
        ("0s", 0),
        ("9223372036854775807ns", i64::MAX),
    ] {
        assert_eq!(parse_duration(text), Ok(ns), "{text}");
    }
    for text in ["", "5", "s", "1.5s", "1 s", "1h30", "1y", "+1s", "1sm"] {
        let malformed = DurationError::Malformed { text: text.into() };
        assert_eq!(parse_duration(text), Err(malformed), "{text}");
    }
    assert!(matches!(parse_duration("-1s"), Err(DurationError::Negative { .. })));
    for text in ["9223372036854775807ns1ns", "300000000h", "99999999999999999999s"] {
        assert!(matches!(parse_duration(text), Err(DurationError::OutOfRange { .. })), "{text}");
    }
    assert_eq!(format_duration(5_400_000_000_000), "1h30m");
    assert_eq!(format_duration(0), "0s");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    #[test]
    fn every_time_reads_back(ns: i64) {
        let text = format_rfc3339(ns);
        prop_assert_eq!(text.len(), 30);
        prop_assert_eq!(parse_rfc3339(&text), Ok(ns));
    }

    /// Against chrono's own reading, at any offset.
    #[test]
    fn offsets_agree_with_chrono(ns in -9_000_000_000_000_000_000..9_000_000_000_000_000_000_i64, minutes in -1439..1440_i32) {
        let offset = chrono::FixedOffset::east_opt(minutes * 60).unwrap();
        let text = DateTime::from_timestamp_nanos(ns).with_timezone(&offset).to_rfc3339();
        prop_assert_eq!(parse_rfc3339(&text), Ok(ns), "{}", text);
    }

    #[test]
    fn every_duration_reads_back(ns in 0..i64::MAX) {
        prop_assert_eq!(parse_duration(&format_duration(ns)), Ok(ns));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}") {
        let _ = (parse_time(&text), parse_duration(&text));
    }
}
