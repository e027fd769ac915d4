use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type};
use arrow_array::{
    ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float64Array, Int16Array, Int64Array,
    LargeStringArray, ListArray, NullArray, StringArray, TimestampNanosecondArray,
};
use isotick_model::results::{ResultSchema, Value, WindowRow};
use isotick_model::view::OutputType;
use isotick_model::{Key, Scale};
use proptest::prelude::*;

use super::*;
use crate::frame;
use crate::windows::{PublishedWindow, VersionReason};

/// Every type that is read, with nulls.
fn batch(rows: i64) -> RecordBatch {
    let symbols: DictionaryArray<Int32Type> =
        (0..rows).map(|n| (n % 5 > 0).then(|| ["A", "B", "C"][n as usize % 3])).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(TimestampNanosecondArray::from_iter_values(0..rows).with_timezone("UTC"))),
        ("symbol", Arc::new(symbols)),
        ("name", Arc::new(StringArray::from_iter_values((0..rows).map(|n| format!("n{n}"))))),
        (
            "long",
            Arc::new(LargeStringArray::from_iter((0..rows).map(|n| (n % 3 > 0).then_some("x")))),
        ),
        (
            "price",
            Arc::new((0..rows).map(|n| (n % 2 > 0).then_some(n as f64)).collect::<Float64Array>()),
        ),
        ("size", Arc::new(Int16Array::from_iter_values((0..rows).map(|n| n as i16)))),
        ("wide", Arc::new(Decimal128Array::from_iter_values((0..rows).map(i128::from)))),
        (
            "flag",
            Arc::new((0..rows).map(|n| (n % 7 > 0).then_some(n % 2 > 0)).collect::<BooleanArray>()),
        ),
        ("none", Arc::new(NullArray::new(rows as usize))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))
        .unwrap()
}

use encode_batches as stream;

#[test]
fn batches_come_back() {
    for rows in [0, 1, 7, 8, 1_000] {
        let sent = [batch(rows), batch(rows)];
        assert_eq!(read_batches(&stream(&sent)).unwrap(), sent);
        // Whatever place the payload has in memory.
        let mut moved = vec![0; 3];
        moved.extend(stream(&sent));
        assert_eq!(read_batches(&moved[3..]).unwrap(), sent);
    }
}

#[test]
fn what_would_take_too_much_or_is_not_read_is_refused() {
    let many = |rows: usize| {
        let column: ArrayRef = Arc::new(NullArray::new(rows));
        RecordBatch::try_from_iter_with_nullable([("none", column, true)]).unwrap()
    };
    assert!(read_batches(&stream(&[many(frame::ROWS_MAX)])).is_ok());
    for batches in [vec![many(1 << 40)], vec![many(40_000), many(40_000)]] {
        let error = read_batches(&stream(&batches)).unwrap_err();
        assert!(matches!(error, DecodeError::TooManyRows { .. }), "{error}");
    }
    let nested: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]));
    let nested = RecordBatch::try_from_iter([("list", nested)]).unwrap();
    assert!(read_batches(&stream(&[nested])).is_err());
    assert!(read_batches(&[]).is_err());
    let whole = stream(&[batch(100)]);
    // Without its last eight bytes a stream has no end mark, which is allowed.
    for cut in (0..whole.len() - 8).step_by(7) {
        let _ = read_batches(&whole[..cut]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        words in prop::collection::vec((any::<prop::sample::Index>(), any::<i64>()), 0..3),
        rows in 0..40i64,
    ) {
        let mut bytes = stream(&[batch(rows)]);
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        for (at, to) in words {
            let at = at.index(bytes.len() / 8) * 8;
            let to = if to % 3 == 0 { to } else { to % 3_000 };
            bytes[at..at + 8].copy_from_slice(&to.to_le_bytes());
        }
        let _ = read_batches(&bytes);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_batches(&bytes);
        let mut framed = vec![0xFF; 4];
        framed.extend((bytes.len() as u32).to_le_bytes());
        framed.extend(bytes);
        let _ = read_batches(&framed);
    }
}

fn schema() -> ResultSchema {
    let scale = |digits| Scale::new(digits).unwrap();
    let column = |name: &str, output| (name.to_owned(), output);
    ResultSchema {
        keys: vec!["venue".into(), "symbol".into()],
        columns: vec![
            column("trades", OutputType::Count),
            column("high", OutputType::Scaled(scale(2))),
            column("notional", OutputType::ScaledWide(scale(4))),
            column("vwap", OutputType::Float),
            column("reason", OutputType::Scaled(scale(0))),
        ],
    }
}

fn window(n: i64) -> PublishedWindow {
    PublishedWindow {
        row: WindowRow {
            key: Key::from_components(["X", "A"]),
            window_start: n * 1_000,
            window_end: n * 1_000 + 1_000,
            version: 2,
            values: vec![
                Value::Integer(n.into()),
                if n % 2 == 0 { Value::Null } else { Value::Integer(i64::MAX.into()) },
                Value::Integer(i128::from(i64::MIN) * 1_000),
                Value::Float(n as f64 / 3.0),
                Value::Integer(-1),
            ],
        },
        reason: VersionReason::Late,
    }
}

#[test]
fn windows_are_columns_named_and_typed_as_in_a_scan() {
    let windows: Vec<_> = (0..10).map(window).collect();
    let mut bytes = vec![9];
    encode_windows(&windows, 77, &schema(), &mut bytes).unwrap();
    assert_eq!(bytes[1..9], 77u64.to_le_bytes());
    let batches: Vec<_> =
        StreamReader::try_new(&bytes[9..], None).unwrap().collect::<Result<_, _>>().unwrap();
    let [batch] = &batches[..] else { panic!("one batch") };
    let fields = batch.schema_ref().fields().iter();
    let fields: Vec<_> = fields.map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    let expected = [
        "venue Utf8",
        "symbol Utf8",
        "window_start Timestamp(ns, \"UTC\")",
        "window_end Timestamp(ns, \"UTC\")",
        "version UInt32",
        "isotick_reason Utf8",
        "trades Int64",
        "high Decimal128(19, 2)",
        "notional Decimal128(38, 4)",
        "vwap Float64",
        "reason Int64",
    ];
    assert_eq!(fields, expected);
    assert_eq!(batch.column(5).as_string::<i32>().value(0), "late");
    assert_eq!(batch.column(6).as_primitive::<Int64Type>(), &Int64Array::from_iter_values(0..10));
    assert!(batch.column(7).is_null(4) && batch.column(7).is_valid(3));
    let notional = batch.column(8).as_primitive::<Decimal128Type>();
    assert_eq!(notional.value(1), i128::from(i64::MIN) * 1_000);
}

#[test]
fn a_stream_of_windows_grows_batch_by_batch_and_ends_with_a_mark() {
    let mut stream = WindowStream::new(schema());
    let mut bytes = stream.take();
    assert!(!bytes.is_empty() && stream.take().is_empty(), "the schema comes first");
    assert_eq!(StreamReader::try_new(&bytes[..], None).unwrap().count(), 0);
    let windows: Vec<_> = (0..10).map(window).collect();
    for part in [&windows[..3], &[], &windows[3..]] {
        stream.write(part).unwrap();
        bytes.extend(stream.take());
    }
    let mut odd = window(1);
    odd.row.values[0] = Value::Float(1.0);
    assert!(stream.write(&[odd]).is_err() && stream.take().is_empty());
    let read = |bytes: &[u8]| -> Vec<RecordBatch> {
        StreamReader::try_new(bytes, None).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let unended = read(&bytes);
    stream.finish();
    let end = stream.take();
    assert_eq!(end, [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
    bytes.extend(end);
    let batches = read(&bytes);
    assert_eq!((batches.len(), &batches), (2, &unended));
    let mut once = Vec::new();
    encode_windows(&windows[3..], 0, &schema(), &mut once).unwrap();
    assert_eq!(read(&once[8..]), batches[1..]);
}

#[test]
fn rows_to_be_sent_fit_a_message_or_are_refused_before() {
    let ticks = batch(1_000);
    let sent = encode_ticks(&ticks.slice(100, 50)).unwrap();
    assert_eq!(read_batches(&sent).unwrap(), [ticks.slice(100, 50)]);
    let long = |rows: usize, bytes: usize| {
        let texts: ArrayRef =
            Arc::new(StringArray::from_iter_values(vec!["x".repeat(bytes); rows]));
        RecordBatch::try_from_iter([("text", texts)]).unwrap()
    };
    for (batch, fits) in
        [(long(65_536, 0), true), (long(65_537, 0), false), (long(3, 400_000), false)]
    {
        let encoded = encode_ticks(&batch);
        assert_eq!(encoded.is_ok(), fits);
        let rows = batch.num_rows();
        assert!(fits || matches!(encoded, Err(EncodeError::TooLarge { rows: all }) if all == rows));
    }
    assert!(encode_ticks(&long(2, 400_000)).is_ok());
    let nested: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]));
    let nested = RecordBatch::try_from_iter([("list", nested)]).unwrap();
    let error = encode_ticks(&nested).unwrap_err().to_string();
    assert!(error.contains("type"), "{error}");
}

#[test]
fn windows_of_another_view_are_refused() {
    let mut bytes = Vec::new();
    let mut odd = window(1);
    odd.row.values[0] = Value::Float(1.0);
    let refused = encode_windows(&[odd.clone()], 0, &schema(), &mut bytes);
    assert!(matches!(refused, Err(EncodeError::Value { column: 0 })));
    odd.row.values.pop();
    let refused = encode_windows(&[odd], 0, &schema(), &mut bytes);
    assert!(matches!(refused, Err(EncodeError::ColumnLength { .. })));
    let many: Vec<_> = (0..ROWS_TOO_MANY).map(window).collect();
    let refused = encode_windows(&many, 0, &schema(), &mut bytes);
    assert!(matches!(refused, Err(EncodeError::TooLarge { .. })));
    assert!(bytes.is_empty());
    encode_windows(&[], 0, &schema(), &mut bytes).unwrap();
}

const ROWS_TOO_MANY: i64 = crate::windows::ROWS_MAX as i64 + 1;
