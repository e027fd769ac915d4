use std::cmp::Ordering;

use num_bigint::BigInt;
use proptest::prelude::*;

use super::*;
use crate::schema::{Column, Inexact};
use crate::units::Scale;

fn schema() -> StreamSchema {
    let column = |name: &str, digits, optional| Column {
        name: name.into(),
        scale: Scale::new(digits).unwrap(),
        min: i64::MIN,
        max: i64::MAX,
        optional,
    };
    StreamSchema {
        name: "trades".into(),
        time: "ts".into(),
        keys: vec!["symbol".into(), "the venue".into()],
        columns: vec![column("price", 4, false), column("size", 0, false), column("in", 1, true)],
        inexact: Inexact::Reject,
        keys_allowed: None,
        horizon_ns: None,
        retention: Default::default(),
        codec: Default::default(),
    }
}

fn parse(text: &str) -> Expr {
    Expr::parse(text, &schema()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn literals_become_exact_integers() {
    use Comparison::{Eq, Ge, Gt, Le, Lt, Ne};
    let price = |comparison, value| Expr::Compare(0, comparison, value);
    let constant = |holds| Expr::Constant(Some(0), holds);
    for (text, expected) in [
        ("price = 1.5", price(Eq, 15_000)),
        ("price == 1.5e1", price(Eq, 150_000)),
        ("1.5 < price", price(Gt, 15_000)),
        ("-1 >= price", price(Le, -10_000)),
        ("price <> .5", price(Ne, 5_000)),
        ("price > 1.00005", price(Ge, 10_001)),
        ("price >= 1.00005", price(Ge, 10_001)),
        ("price < 1.00005", price(Le, 10_000)),
        ("price <= 1.00005", price(Le, 10_000)),
        ("price > -1.00005", price(Ge, -10_000)),
        ("price < -1.00005", price(Le, -10_001)),
        ("price < -0.00001", price(Le, -1)),
        ("price > 1e-999999999999", price(Ge, 1)),
        ("price = 1.00005", constant(false)),
        ("price != 1.00005", constant(true)),
        ("price < 922337203685477.5807", price(Lt, i64::MAX.into())),
        ("price > 922337203685477.58071", constant(false)),
        ("price < 922337203685477.5808", constant(true)),
        ("price <= 922337203685477.58075", price(Le, i64::MAX.into())),
        ("price >= -922337203685477.5808", price(Ge, i64::MIN.into())),
        ("price < -922337203685477.58081", constant(false)),
        ("price > -1e400", constant(true)),
        ("price = 1e999999999999", constant(false)),
        ("price != -123456789012345678901234567890123456789012345678901", constant(true)),
        ("price in (2, 1.5, 1.00005, 2.0, 1e30)", Expr::In(0, vec![15_000, 20_000])),
        ("price in (1.00005)", constant(false)),
        ("ts >= 1.5", Expr::CompareTime(Ge, 2)),
        ("ts < 1e30", Expr::Constant(None, true)),
        ("ts = '1970-01-01T00:00:01Z'", Expr::CompareTime(Eq, 1_000_000_000)),
        ("ts < \"1970-01-02\"", Expr::CompareTime(Lt, 86_400_000_000_000)),
    ] {
        assert_eq!(parse(text), expected, "{text}");
    }
}

#[test]
fn structure() {
    let size = |value| Box::new(Expr::Compare(1, Comparison::Eq, value));
    let and = |left, right| Box::new(Expr::And(left, right));
    let or = |left, right| Box::new(Expr::Or(left, right));
    for (text, expected) in [
        ("size=1 or size=2 and size=3", or(size(1), and(size(2), size(3)))),
        ("(size=1 OR size=2) AND size=3", and(or(size(1), size(2)), size(3))),
        ("size=1 and size=2 and size=3", and(and(size(1), size(2)), size(3))),
        ("size=1 and (size=2 and size=3)", and(size(1), and(size(2), size(3)))),
        ("not size=1 and size=2", and(Box::new(Expr::Not(size(1))), size(2))),
        ("Not Not size=1", Box::new(Expr::Not(Box::new(Expr::Not(size(1)))))),
        ("size not in (1)", Box::new(Expr::Not(Box::new(Expr::In(1, vec![1]))))),
        ("`in` is null", Box::new(Expr::IsNull(2, true))),
        ("`in` IS NOT NULL", Box::new(Expr::IsNull(2, false))),
        (
            "true or false",
            or(Box::new(Expr::Constant(None, true)), Box::new(Expr::Constant(None, false))),
        ),
        ("price < size", Box::new(Expr::CompareColumns((0, 0), Comparison::Lt, (1, 4)))),
        ("symbol >= \"it's\"", Box::new(Expr::CompareKey(0, Comparison::Ge, "it's".into()))),
        ("'it''s' < symbol", Box::new(Expr::CompareKey(0, Comparison::Gt, "it's".into()))),
        ("`the venue` in ('b', 'a', 'b')", Box::new(Expr::KeyIn(1, vec!["a".into(), "b".into()]))),
        (
            "ts in (5, 1e40, '1970-01-01')",
            or(
                Box::new(Expr::CompareTime(Comparison::Eq, 5)),
                Box::new(Expr::CompareTime(Comparison::Eq, 0)),
            ),
        ),
    ] {
        assert_eq!(parse(text), *expected, "{text}");
        assert_eq!(parse(&expected.to_text(&schema())), *expected, "{text}");
    }
    assert_eq!(parse("size > price and not `in` is null").columns(), [0, 1, 2]);
    assert_eq!(parse("ts > 5 or symbol = ''").columns(), []);
}

#[test]
fn errors_say_where_and_what() {
    let deep = format!("{}size = 1{}", "(".repeat(100), ")".repeat(100));
    let long = vec!["size = 1"; 1001].join(" or ");
    for (text, expected) in [
        (
            "prise > 1",
            "at byte 0: unknown column \"prise\"; the stream has price, size, in, symbol (key), the venue (key), ts (time)",
        ),
        ("size > 0 and", "at byte 12: expected a column or a literal, found the end"),
        ("size > 0 size", "at byte 9: expected `and`, `or` or the end, found `size`"),
        ("size >", "at byte 6: expected a column or a literal, found the end"),
        (
            "size",
            "at byte 4: expected a comparison (= != < <= > >=), `in`, `not in` or `is null`, found the end",
        ),
        ("size not 5", "at byte 9: expected `in`, found `5`"),
        ("(size > 0", "at byte 9: expected `)`, `and` or `or`, found the end"),
        ("size in 5", "at byte 8: expected `(`, found `5`"),
        ("size in ()", "at byte 9: expected a number or quoted text, found `)`"),
        ("size in (1 2)", "at byte 11: expected `,` or `)`, found `2`"),
        ("5 in (5)", "at byte 0: expected a column before `in`, found `5`"),
        ("size is 5", "at byte 8: expected `null` or `not null`, found `5`"),
        ("symbol is null", "at byte 0: \"symbol\" is never null: only value columns can be"),
        ("symbol = 5", "at byte 9: the key column \"symbol\" is text: write it in quotes, '5'"),
        ("size = 'five'", "at byte 7: the column \"size\" is a number; 'five' is text"),
        ("size in (1, 'x')", "at byte 12: the column \"size\" is a number; 'x' is text"),
        (
            "1 = 1",
            "at byte 0: `1` and `1` cannot be compared; compare a column with a literal, or two value columns",
        ),
        (
            "symbol = size",
            "at byte 0: `symbol` and `size` cannot be compared; compare a column with a literal, or two value columns",
        ),
        ("size > 12abc", "at byte 7: `12abc` is no number"),
        (
            "size > 5 & size < 6",
            "at byte 9: `&` has no meaning here; names with such characters stand between backticks",
        ),
        ("symbol = 'x", "at byte 9: the quote ' has no end"),
        (
            "ts > 'noon'",
            "at byte 5: `noon` is no time: write RFC 3339 (2024-01-02T09:30:00Z), a date (2024-01-02) or nanoseconds since 1970 (1704187800000000000)",
        ),
        (
            "ts > '2300-01-01'",
            "at byte 5: `2300-01-01` is out of range: times go from 1677-09-21 to 2262-04-11",
        ),
        (&deep, "at byte 64: the filter is too large: at most 64 levels of parentheses and `not`"),
        (&long, "at byte 12000: the filter is too large: at most 1000 comparisons"),
    ] {
        assert_eq!(Expr::parse(text, &schema()).unwrap_err().to_string(), expected, "{text}");
    }
}

fn comparison() -> impl Strategy<Value = Comparison> {
    use Comparison::{Eq, Ge, Gt, Le, Lt, Ne};
    prop::sample::select(vec![Eq, Ne, Lt, Le, Gt, Ge])
}

/// Filters as [`Expr::parse`] makes them.
fn expr() -> impl Strategy<Value = Expr> {
    let sorted = prop::collection::btree_set(any::<i64>(), 1..4);
    let texts = prop::collection::btree_set("\\PC{0,4}", 1..4);
    let leaf = prop_oneof![
        (0..3_usize, comparison(), any::<i64>()).prop_map(|(column, c, value)| Expr::Compare(
            column,
            c,
            value.into()
        )),
        comparison().prop_map(|c| Expr::CompareColumns((0, 0), c, (2, 3))),
        (comparison(), any::<i64>()).prop_map(|(c, ns)| Expr::CompareTime(c, ns.into())),
        (0..2_usize, comparison(), "\\PC{0,4}").prop_map(|(k, c, t)| Expr::CompareKey(k, c, t)),
        (0..3_usize, sorted).prop_map(|(column, set)| Expr::In(column, Vec::from_iter(set))),
        (0..2_usize, texts).prop_map(|(key, set)| Expr::KeyIn(key, Vec::from_iter(set))),
        (0..3_usize, any::<bool>()).prop_map(|(column, null)| Expr::IsNull(column, null)),
        (prop::option::of(0..3_usize), any::<bool>()).prop_map(|(c, b)| Expr::Constant(c, b)),
    ];
    leaf.prop_recursive(5, 24, 2, |inner| {
        let pair = (inner.clone(), inner.clone()).prop_map(|(a, b)| (Box::new(a), Box::new(b)));
        prop_oneof![
            pair.clone().prop_map(|(left, right)| Expr::And(left, right)),
            pair.prop_map(|(left, right)| Expr::Or(left, right)),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn canonical_text_reads_back(expr in expr()) {
        prop_assert_eq!(parse(&expr.to_text(&schema())), expr);
    }

    /// A column's value against a literal of any length: the folded comparison agrees with the
    /// comparison of the exact numbers.
    #[test]
    fn folding_is_exact(
        value: i64,
        near in -2..=2_i64,
        whole_shift in 0..20_u32,
        tail in "[0-9]{0,6}",
        c in comparison(),
    ) {
        // A literal near the value, at price's scale 4, with more digits behind.
        let base = BigInt::from(value) + near * 10_i64.pow(whole_shift.min(18));
        let negative = base < BigInt::ZERO;
        let digits = format!("{:0>5}", base.magnitude().to_string());
        let (whole, fraction) = digits.split_at(digits.len() - 4);
        let sign = if negative { "-" } else { "" };
        let text = format!("price {} {sign}{whole}.{fraction}{tail}", c.symbol());
        let shift = BigInt::from(10).pow(tail.len() as u32);
        let rest = if tail.is_empty() { BigInt::ZERO } else { tail.parse().unwrap() };
        let literal = base * &shift + if negative { -rest } else { rest };
        let ordering: Ordering = (BigInt::from(value) * shift).cmp(&literal);
        let found = match parse(&text) {
            Expr::Compare(0, c, bound) => c.holds(i128::from(value).cmp(&bound)),
            Expr::Constant(Some(0), holds) => holds,
            other => panic!("{text} became {other:?}"),
        };
        prop_assert_eq!(found, c.holds(ordering), "{}", text);
    }
}
