use super::*;

#[test]
fn the_ends_of_the_range() {
    assert_eq!(format_rfc3339(i64::MIN), "1677-09-21T00:12:43.145224192Z");
    assert_eq!(format_rfc3339(i64::MAX), "2262-04-11T23:47:16.854775807Z");
    for ns in [i64::MIN, -1, 0, 1, i64::MAX] {
        assert_eq!(parse_rfc3339(format_rfc3339(ns)), Ok(ns));
    }
}
