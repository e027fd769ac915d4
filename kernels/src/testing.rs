//! What the tests of this crate share: ticks row by row, random ones, and plain references over
//! big integers that use nothing of what they check.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use isotick_model::expr::Expr;
use isotick_model::results::{Value, WindowRow};
use isotick_model::ticks::ON_TIME;
use isotick_model::view::{
    Aggregate, DefinitionHash, Lateness, NamedAggregate, OutputType, Tumbling, View,
};
use isotick_model::{
    Column, Inexact, Key, PublisherId, Quantile, Scale, StreamSchema, Ticks, ValueColumn,
};
use num_bigint::{BigInt, BigUint};
use num_traits::{Signed, Zero};
use proptest::prelude::*;

/// One tick. Keys and publishers are numbers into [`KEYS`] and [`PUBLISHERS`].
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub ts: i64,
    pub publisher: usize,
    pub sequence: u64,
    pub key: usize,
    pub values: Vec<Option<i64>>,
    pub seen: i64,
}

/// Not in the order of their bytes.
pub const PUBLISHERS: [&str; 3] = ["m", "z", "aa"];
pub const KEYS: [&str; 4] = ["B", "A", "", "AA"];

pub fn key(number: usize) -> Key {
    Key::from_components([KEYS[number]])
}

/// Columns of these rows; dictionaries in the order of first sight.
pub fn ticks_of(rows: &[Row]) -> Ticks {
    let columns = 2;
    let mut keys: Vec<Key> = Vec::new();
    let mut publishers: Vec<PublisherId> = Vec::new();
    let (mut key_codes, mut publisher_codes) = (Vec::new(), Vec::new());
    for row in rows {
        key_codes.push(code_of(&mut keys, key(row.key)));
        let name = PublisherId::new(PUBLISHERS[row.publisher]).unwrap();
        publisher_codes.push(code_of(&mut publishers, name));
    }
    if publishers.len() < 2 {
        publisher_codes.clear();
    }
    Ticks {
        ts_event: rows.iter().map(|row| row.ts).collect(),
        sequence: rows.iter().map(|row| row.sequence).collect(),
        publishers,
        publisher: publisher_codes.into(),
        keys: keys.into(),
        key: key_codes.into(),
        values: (0..columns)
            .map(|column| ValueColumn {
                values: rows.iter().map(|row| row.values[column].unwrap_or(0)).collect(),
                nulls: rows
                    .iter()
                    .any(|row| row.values[column].is_none())
                    .then(|| rows.iter().map(|row| row.values[column].is_some()).collect()),
            })
            .collect(),
        seen: rows
            .iter()
            .any(|row| row.seen != ON_TIME)
            .then(|| rows.iter().map(|row| row.seen).collect()),
    }
}

fn code_of<T: PartialEq>(table: &mut Vec<T>, value: T) -> u32 {
    let code = table.iter().position(|other| *other == value).unwrap_or_else(|| {
        table.push(value);
        table.len() - 1
    });
    code as u32
}

pub fn schema(scales: [u8; 2]) -> StreamSchema {
    let column = |name: &str, digits: u8| Column {
        name: name.into(),
        scale: Scale::new(digits).unwrap(),
        min: i64::MIN,
        max: i64::MAX,
        optional: true,
    };
    StreamSchema {
        name: "trades".into(),
        time: "ts".into(),
        keys: vec!["symbol".into()],
        columns: vec![column("price", scales[0]), column("size", scales[1])],
        inexact: Inexact::Reject,
        keys_allowed: None,
        horizon_ns: None,
        retention: Default::default(),
        codec: Default::default(),
    }
}

pub const EVERY_AGGREGATE: [Aggregate; 19] = [
    Aggregate::Count,
    Aggregate::CountOf(0),
    Aggregate::CountOf(1),
    Aggregate::Sum(0),
    Aggregate::Min(0),
    Aggregate::Max(1),
    Aggregate::First(0),
    Aggregate::Last(0),
    Aggregate::Last(1),
    Aggregate::Mean(1),
    Aggregate::Var(0),
    Aggregate::Stddev(1),
    Aggregate::Vwap { price: 0, size: 1 },
    Aggregate::Quantile { column: 0, q: Quantile::MEDIAN },
    Aggregate::Quantile { column: 1, q: billionths(990_000_000) },
    Aggregate::Quantile { column: 0, q: billionths(1) },
    Aggregate::ApproxQuantile { column: 0, q: billionths(1_000_000_000) },
    Aggregate::ApproxQuantile { column: 0, q: billionths(333_333_333) },
    Aggregate::ApproxQuantile { column: 1, q: Quantile::MEDIAN },
];

pub const fn billionths(billionths: u32) -> Quantile {
    Quantile::from_billionths(billionths).expect("billionths are 1 to 10^9")
}

pub fn view(aggregates: &[Aggregate], window: Tumbling, filter: Option<Expr>) -> View {
    View {
        name: "bars".into(),
        stream: "trades".into(),
        keys: vec!["symbol".into()],
        filter,
        window,
        aggregates: aggregates
            .iter()
            .map(|&aggregate| NamedAggregate {
                name: format!("{aggregate:?}"),
                aggregate,
                output: OutputType::Float,
            })
            .collect(),
        lateness: Lateness::default(),
        definition: DefinitionHash("test".into()),
    }
}

/// A value that a test expects.
#[derive(Debug)]
pub enum Expected {
    Null,
    Integer(BigInt),
    /// Any integer within 2^-8 of the magnitude of this one.
    Near(i64),
    /// The binary64 nearest to n/d, d > 0.
    Quotient(BigInt, BigInt),
    /// The binary64 nearest to √(n/d), d > 0.
    Root(BigInt, BigInt),
}

impl Expected {
    pub fn is(&self, value: Value) -> bool {
        match (self, value) {
            (Self::Null, Value::Null) => true,
            (Self::Integer(expected), Value::Integer(integer)) => {
                *expected == BigInt::from(integer)
            }
            (Self::Near(exact), Value::Integer(integer)) => {
                (integer - i128::from(*exact)).unsigned_abs() << 8 <= exact.unsigned_abs().into()
            }
            (Self::Quotient(n, d), Value::Float(float)) => is_nearest(float, n, d, false),
            (Self::Root(n, d), Value::Float(float)) => is_nearest(float, n, d, true),
            _ => false,
        }
    }
}

/// Whether no other binary64 is nearer to n/d (or its root), and a tie went to the even one: by
/// comparing with the midpoints to both neighbours.
pub fn is_nearest(float: f64, n: &BigInt, d: &BigInt, root: bool) -> bool {
    if !float.is_finite() || (float == 0.0 && float.is_sign_negative()) {
        return false;
    }
    if float == 0.0 || n.is_zero() {
        return float == 0.0 && n.is_zero();
    }
    if (float < 0.0) != n.is_negative() {
        return false;
    }
    let bits = float.abs().to_bits();
    let even = bits.is_multiple_of(2);
    // Against the midpoint (a + b) / 2: (a + b)·d with 2n, or (a + b)²·d with 4n.
    let compare_midpoint = |a: u64, b: u64| -> Ordering {
        let sum = scaled(a) + scaled(b);
        let (left, power) = match root {
            true => (n.magnitude() * 4_u32, (&sum * &sum) * d.magnitude()),
            false => (n.magnitude() * 2_u32, sum * d.magnitude()),
        };
        (left << (SHIFT * if root { 2 } else { 1 })).cmp(&power)
    };
    let above = compare_midpoint(bits - 1, bits);
    let below = compare_midpoint(bits, bits + 1);
    (above.is_gt() || (above.is_eq() && even)) && (below.is_lt() || (below.is_eq() && even))
}

const SHIFT: u32 = 1100;

/// A positive float times 2^SHIFT.
fn scaled(bits: u64) -> BigUint {
    let exponent = (bits >> 52) as u32;
    assert!(exponent > 0, "no quotient of states is subnormal");
    BigUint::from((bits & ((1 << 52) - 1)) | 1 << 52) << (exponent + SHIFT - 1075)
}

/// The windows of rows, one row at a time over big integers.
pub fn naive(
    rows: &[Row],
    aggregates: &[Aggregate],
    window: Tumbling,
    scales: [u8; 2],
) -> BTreeMap<(Vec<u8>, i64), Vec<Expected>> {
    let mut windows: BTreeMap<(Vec<u8>, i64), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let (ts, width, origin) =
            (i128::from(row.ts), i128::from(window.width_ns), i128::from(window.origin_ns));
        let mut start = (ts - origin) / width * width + origin;
        if start > ts {
            start -= width;
        }
        if start >= i64::MIN.into() && start + width <= i64::MAX.into() {
            let id = (key(row.key).as_bytes().to_vec(), start as i64);
            windows.entry(id).or_default().push(row);
        }
    }
    windows
        .into_iter()
        .map(|(id, mut rows)| {
            rows.sort_by_key(|row| (row.ts, PUBLISHERS[row.publisher].as_bytes(), row.sequence));
            let expected = aggregates.iter().map(|&a| naive_value(&rows, a, scales)).collect();
            (id, expected)
        })
        .collect()
}

fn naive_value(rows: &[&Row], aggregate: Aggregate, scales: [u8; 2]) -> Expected {
    let values = |c: usize| rows.iter().filter_map(move |row| row.values[c]);
    let sum = |c: usize| values(c).map(BigInt::from).sum::<BigInt>();
    let ten = |digits: u8| BigInt::from(10).pow(digits.into());
    let integer = |value: Option<i64>| match value {
        Some(value) => Expected::Integer(value.into()),
        None => Expected::Null,
    };
    let spread = |c: usize| {
        let n = values(c).count();
        (n > 1).then(|| {
            let squares: BigInt = values(c).map(|v| BigInt::from(v) * v).sum();
            let numerator = squares * n - sum(c) * sum(c);
            (numerator, BigInt::from(n) * (n - 1) * ten(scales[c]) * ten(scales[c]))
        })
    };
    match aggregate {
        Aggregate::Count => Expected::Integer(rows.len().into()),
        Aggregate::CountOf(c) => Expected::Integer(values(c).count().into()),
        Aggregate::Sum(c) | Aggregate::Mean(c) if values(c).next().is_none() => Expected::Null,
        Aggregate::Sum(c) => Expected::Integer(sum(c)),
        Aggregate::Mean(c) => Expected::Quotient(sum(c), ten(scales[c]) * values(c).count()),
        Aggregate::Min(c) => integer(values(c).min()),
        Aggregate::Max(c) => integer(values(c).max()),
        Aggregate::First(c) => integer(values(c).next()),
        Aggregate::Last(c) => integer(values(c).next_back()),
        Aggregate::Var(c) => spread(c).map_or(Expected::Null, |(n, d)| Expected::Quotient(n, d)),
        Aggregate::Stddev(c) => spread(c).map_or(Expected::Null, |(n, d)| Expected::Root(n, d)),
        Aggregate::Quantile { column, q } => integer(naive_quantile(values(column), q)),
        Aggregate::ApproxQuantile { column, q } => {
            naive_quantile(values(column), q).map_or(Expected::Null, Expected::Near)
        }
        Aggregate::Notional { price, size } => {
            let pairs = rows.iter().filter_map(|row| row.values[price].zip(row.values[size]));
            let products = pairs.map(|(p, s)| BigInt::from(p) * s);
            products.reduce(|a, b| a + b).map_or(Expected::Null, Expected::Integer)
        }
        Aggregate::Vwap { price, size } => {
            let pairs = || rows.iter().filter_map(|row| row.values[price].zip(row.values[size]));
            let products: BigInt = pairs().map(|(p, s)| BigInt::from(p) * s).sum();
            let sizes: BigInt = pairs().map(|(_, s)| BigInt::from(s)).sum();
            match sizes.is_zero() {
                true => Expected::Null,
                false => {
                    Expected::Quotient(products * sizes.signum(), sizes.abs() * ten(scales[price]))
                }
            }
        }
    }
}

/// The first of the sorted values that so many, at least, do not exceed: q of all.
pub fn naive_quantile(values: impl Iterator<Item = i64>, q: Quantile) -> Option<i64> {
    let mut sorted: Vec<i64> = values.collect();
    sorted.sort_unstable();
    let wanted = sorted.len() as u128 * u128::from(q.billionths());
    let reaches = |place: &usize| (*place as u128 + 1) * 1_000_000_000 >= wanted;
    (0..sorted.len()).find(reaches).map(|place| sorted[place])
}

/// Rows against the reference, value by value.
pub fn assert_rows(
    rows: &[WindowRow],
    expected: &BTreeMap<(Vec<u8>, i64), Vec<Expected>>,
    window: Tumbling,
) {
    let ids: Vec<_> =
        rows.iter().map(|row| (row.key.as_bytes().to_vec(), row.window_start)).collect();
    assert_eq!(ids, expected.keys().cloned().collect::<Vec<_>>());
    for (row, (id, expected)) in rows.iter().zip(expected) {
        assert_eq!(row.window_end, row.window_start + window.width_ns);
        assert_eq!(row.version, 0);
        for (column, (value, expected)) in row.values.iter().zip(expected).enumerate() {
            assert!(expected.is(*value), "{id:?}, column {column}: {value:?} is not {expected:?}");
        }
    }
}

/// Values: small, ordinary, large, and the ends.
pub fn any_value() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        4 => (-3_i64..4).prop_map(Some),
        4 => (0_i64..10_000_000).prop_map(Some),
        2 => any::<i64>().prop_map(Some),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0)].prop_map(Some),
        1 => Just(None),
    ]
}

/// Rows with many ties in time; identities differ by sequence.
pub fn any_rows(rows_max: usize) -> impl Strategy<Value = Vec<Row>> {
    let tick = (-30_i64..30, 0..PUBLISHERS.len(), 0..KEYS.len(), any_value(), any_value());
    proptest::collection::vec(tick, 0..rows_max).prop_map(|ticks| {
        let row = |(sequence, (ts, publisher, key, price, size))| Row {
            ts,
            publisher,
            sequence: sequence as u64,
            key,
            values: vec![price, size],
            seen: ON_TIME,
        };
        ticks.into_iter().enumerate().map(row).collect()
    })
}
