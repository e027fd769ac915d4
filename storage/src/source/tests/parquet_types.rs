use std::collections::HashMap;

use arrow_array::types::{Float16Type, Int32Type, UInt8Type};
use arrow_array::{
    Array, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal32Array, Decimal64Array,
    Decimal128Array, Decimal256Array, DictionaryArray, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, LargeStringArray, ListArray, NullArray, PrimitiveArray,
    StringArray, StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt8Array, UInt16Array, UInt32Array,
    UInt64Array,
};
use arrow_buffer::i256;
use isotick_model::time::TimeUnit;
use parquet::data_type::{ByteArray, ByteArrayType, Int96, Int96Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;

/// A file with times 0, 1, … and one key, and this value column.
fn with_value(array: ArrayRef) -> Sample {
    Sample::parquet(vec![
        ("ts", Arc::new(Int64Array::from_iter_values(0..array.len() as i64))),
        ("symbol", Arc::new(StringArray::from(vec!["A"; array.len()]))),
        ("v", array),
    ])
}

/// What each row of a value column becomes.
fn values(array: ArrayRef, digits: u8) -> Vec<Result<Option<i64>, RejectReason>> {
    let rows = array.len();
    let (sample, schema) = (with_value(array), stream(vec![optional("v", digits)]));
    let flat = sample.read(&schema);
    let unread = SourceOptions { columns: Some(Vec::new()), ..Default::default() };
    let unread = sample.read_with(&schema, &unread);
    assert_eq!(unread.rejected, flat.rejected, "a column that is not wanted still rejects");
    let mut values = vec![Ok(None); rows];
    for (row, .., value) in flat.ticks {
        values[row as usize] = Ok(value[0]);
    }
    for (row, reason) in flat.rejected {
        values[row as usize] = Err(reason);
    }
    values
}

#[test]
fn integers_are_taken_as_scaled() {
    let cases: Vec<(ArrayRef, Vec<i64>)> = vec![
        (Arc::new(Int8Array::from(vec![-128, 127])), vec![-128, 127]),
        (Arc::new(Int16Array::from(vec![-32768, 32767])), vec![-32768, 32767]),
        (
            Arc::new(Int32Array::from(vec![i32::MIN, i32::MAX])),
            vec![i32::MIN.into(), i32::MAX.into()],
        ),
        (Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX])), vec![i64::MIN, i64::MAX]),
        (Arc::new(UInt8Array::from(vec![0, 255])), vec![0, 255]),
        (Arc::new(UInt16Array::from(vec![0, 65535])), vec![0, 65535]),
        (Arc::new(UInt32Array::from(vec![0, u32::MAX])), vec![0, u32::MAX.into()]),
    ];
    for (array, expected) in cases {
        let expected: Vec<_> = expected.into_iter().map(|value| Ok(Some(value))).collect();
        assert_eq!(values(array, 4), expected);
    }
    let wide = UInt64Array::from(vec![Some(1 << 63), Some((1 << 63) - 1), None]);
    assert_eq!(
        values(Arc::new(wide), 0),
        [Err(RejectReason::OutOfBounds), Ok(Some(i64::MAX)), Ok(None)]
    );
}

#[test]
fn decimals_and_floats_are_numbers() {
    use RejectReason::{Inexact, NotFinite, OutOfBounds};
    let small =
        Decimal32Array::from(vec![Some(12345), None]).with_precision_and_scale(9, 3).unwrap();
    assert_eq!(values(Arc::new(small.clone()), 3), [Ok(Some(12345)), Ok(None)]);
    assert_eq!(values(Arc::new(small), 2), [Err(Inexact), Ok(None)]);
    let medium = Decimal64Array::from(vec![1000, 1001]).with_precision_and_scale(18, 3).unwrap();
    assert_eq!(values(Arc::new(medium), 0), [Ok(Some(1)), Err(Inexact)]);
    let large = Decimal128Array::from(vec![i128::from(i64::MAX), i128::from(i64::MAX) + 1, -50]);
    let large = large.with_precision_and_scale(38, 1).unwrap();
    assert_eq!(values(Arc::new(large), 1), [Ok(Some(i64::MAX)), Err(OutOfBounds), Ok(Some(-50))]);
    let huge: Vec<i256> = ["1", "-2", "1000000000000000000000000000000000000000000"]
        .iter()
        .map(|text| format!("{text}00000000000000000000").parse().unwrap())
        .collect();
    let huge = Decimal256Array::from(huge).with_precision_and_scale(76, 20).unwrap();
    assert_eq!(values(Arc::new(huge), 2), [Ok(Some(100)), Ok(Some(-200)), Err(OutOfBounds)]);

    let doubles = vec![101.25, 0.1 + 0.2, -0.0, f64::NAN, 1e300, 9_007_199_254_740_992.0];
    assert_eq!(
        values(Arc::new(Float64Array::from(doubles)), 2),
        [Ok(Some(10_125)), Err(Inexact), Ok(Some(0)), Err(NotFinite), Err(Inexact), Err(Inexact)]
    );
    let singles = vec![Some(101.3_f32), Some(16_777_216.0), None, Some(f32::INFINITY)];
    assert_eq!(
        values(Arc::new(Float32Array::from(singles)), 1),
        [Ok(Some(1013)), Err(Inexact), Ok(None), Err(NotFinite)]
    );
    let flags = BooleanArray::from(vec![Some(true), Some(false), None]);
    assert_eq!(values(Arc::new(flags), 1), [Ok(Some(10)), Ok(Some(0)), Ok(None)]);
    let texts = StringViewArray::from(vec![Some("1.25"), Some("x"), None]);
    assert_eq!(values(Arc::new(texts), 2), [Ok(Some(125)), Err(RejectReason::Malformed), Ok(None)]);
    assert_eq!(values(Arc::new(NullArray::new(2)), 2), [Ok(None), Ok(None)]);
    let codes = UInt8Array::from(vec![Some(1), None, Some(0), Some(2)]);
    let entries = Arc::new(Int64Array::from(vec![Some(7), Some(-9), None]));
    let dictionary = DictionaryArray::<UInt8Type>::new(codes, entries);
    assert_eq!(values(Arc::new(dictionary), 0), [Ok(Some(-9)), Ok(None), Ok(Some(7)), Ok(None)]);
}

#[test]
fn stated_scales() {
    let of = |file: &[(&str, &str)], field: &[(&str, &str)], name: &str, declared: u8| {
        let map = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
        };
        let int = |name: &str, values: Vec<i64>| {
            (
                Field::new(name, arrow_schema::DataType::Int64, true),
                Arc::new(Int64Array::from(values)) as ArrayRef,
            )
        };
        let (value, array) = int(name, vec![1500, 1501]);
        let fields = vec![int("ts", vec![1, 2]), (value.with_metadata(map(field)), array)];
        let sample = Sample::parquet_with(map(file), fields, usize::MAX);
        let mut schema = stream(vec![column("v", declared)]);
        schema.keys.clear();
        let options = SourceOptions { map: vec![("v".into(), name.into())], ..Default::default() };
        Source::open(&sample.path, &options, &schema).map(|source| {
            let flat = Flat::of(source);
            let values: Vec<_> = flat.ticks.iter().map(|row| row.3[0].unwrap()).collect();
            (values, flat.rejected)
        })
    };
    let price = [("price_scale", "3"), ("size_scale", "1")];
    let inexact = vec![(1, RejectReason::Inexact)];
    let whole = |values: [i64; 2]| (values.to_vec(), Vec::new());
    assert_eq!(of(&price, &[], "price", 3).unwrap(), whole([1500, 1501]));
    assert_eq!(of(&price, &[], "bid_open", 4).unwrap(), whole([15000, 15010]));
    assert_eq!(of(&price, &[], "lastPrice", 1).unwrap(), (vec![15], inexact));
    assert_eq!(of(&price, &[], "bid_size", 2).unwrap(), whole([15000, 15010]));
    assert_eq!(of(&price, &[], "trade_id", 4).unwrap(), whole([1500, 1501]));
    assert_eq!(of(&[], &[], "price", 4).unwrap(), whole([1500, 1501]));
    assert_eq!(of(&price, &[("scale", "4")], "price", 4).unwrap(), whole([1500, 1501]));
    assert_eq!(of(&[("odd_scale", "0")], &[], "odd", 1).unwrap(), whole([15000, 15010]));
    let message = of(&[("price_scale", "many")], &[], "price", 4).unwrap_err().to_string();
    assert!(message.contains("state the scale \"many\" for field \"price\""), "{message}");
}

/// The times of a file with this time column, and the reasons of the others.
fn times(array: ArrayRef, unit: Option<TimeUnit>) -> (Vec<i64>, Vec<(u64, RejectReason)>) {
    let sample = Sample::parquet(vec![("ts", array)]);
    let mut schema = stream(vec![]);
    schema.keys.clear();
    let flat = sample.read_with(&schema, &SourceOptions { time_unit: unit, ..Default::default() });
    (flat.ticks.iter().map(|row| row.1).collect(), flat.rejected)
}

#[test]
fn times_of_every_unit() {
    let out = RejectReason::TimeOutOfRange;
    let seconds = TimestampSecondArray::from(vec![-3, i64::MAX]);
    assert_eq!(times(Arc::new(seconds), None), (vec![-3_000_000_000], vec![(1, out)]));
    let millis = TimestampMillisecondArray::from(vec![5]).with_timezone("Europe/Berlin");
    assert_eq!(times(Arc::new(millis), Some(TimeUnit::Seconds)).0, [5_000_000]);
    let micros = TimestampMicrosecondArray::from(vec![Some(5), None]).with_timezone("UTC");
    assert_eq!(times(Arc::new(micros), None), (vec![5_000], vec![(1, RejectReason::NullTime)]));
    let nanos = TimestampNanosecondArray::from(vec![5, -5]);
    assert_eq!(times(Arc::new(nanos), None).0, [5, -5]);
    assert_eq!(times(Arc::new(Date32Array::from(vec![1])), None).0, [86_400_000_000_000]);
    assert_eq!(times(Arc::new(Date64Array::from(vec![86_400_000])), None).0, [86_400_000_000_000]);
    assert_eq!(times(Arc::new(Int64Array::from(vec![7])), None).0, [7]);
    assert_eq!(
        times(Arc::new(Int32Array::from(vec![7])), Some(TimeUnit::Seconds)).0,
        [7_000_000_000]
    );
    let unsigned = UInt64Array::from(vec![7, u64::MAX]);
    assert_eq!(times(Arc::new(unsigned), None), (vec![7], vec![(1, out)]));
    let texts = StringArray::from(vec!["1970-01-01T00:00:01Z", "2"]);
    assert_eq!(times(Arc::new(texts), Some(TimeUnit::Seconds)).0, [1_000_000_000, 2_000_000_000]);
}

/// Writes a file with one INT96 column, and a column of bytes without a text annotation.
fn legacy_file(days_and_nanos: &[(u32, u64)], keys: &[&[u8]]) -> Sample {
    let sample = Sample::bytes("legacy.parquet", b"");
    let message = "message m { required int96 ts; required binary symbol; }";
    let schema = Arc::new(parse_message_type(message).unwrap());
    let file = File::create(&sample.path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let times: Vec<Int96> = days_and_nanos
        .iter()
        .map(|&(days, nanos)| {
            let mut time = Int96::new();
            time.set_data(nanos as u32, (nanos >> 32) as u32, days);
            time
        })
        .collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int96Type>().write_batch(&times, None, None).unwrap();
    column.close().unwrap();
    let keys: Vec<ByteArray> = keys.iter().map(|key| ByteArray::from(key.to_vec())).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&keys, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    sample
}

#[test]
fn old_timestamps_that_do_not_fit_are_rejected() {
    const EPOCH_DAY: u32 = 2_440_588;
    // One day and 1 ns; the year 9999; a day before the epoch; the bytes of a key that is no text.
    let sample = legacy_file(
        &[(EPOCH_DAY + 1, 1), (5_373_484, 0), (EPOCH_DAY - 1, 5), (EPOCH_DAY, 0)],
        &[b"A", b"A", b"B", b"\xFF"],
    );
    let flat = sample.read(&stream(vec![]));
    let times: Vec<_> = flat.ticks.iter().map(|row| (row.1, row.2.as_str())).collect();
    assert_eq!(times, [(86_400_000_000_001, "A"), (-86_399_999_999_995, "B")]);
    let reasons = [(1, RejectReason::TimeOutOfRange), (3, RejectReason::Malformed)];
    assert_eq!(flat.rejected, reasons);
}

#[test]
fn keys_of_every_type() {
    let text = vec![Some("B"), Some("A"), None, Some("B")];
    let expected = ["B", "A", "", "B"];
    let codes = Int32Array::from(vec![Some(2), Some(1), None, Some(0)]);
    let repeated = StringArray::from(vec!["B", "A", "B"]);
    let bytes: BinaryArray = text.iter().map(|text| text.map(str::as_bytes)).collect();
    let arrays: [(ArrayRef, [&str; 4]); 8] = [
        (Arc::new(StringArray::from(text.clone())), expected),
        (Arc::new(LargeStringArray::from(text.clone())), expected),
        (Arc::new(StringViewArray::from(text.clone())), expected),
        (Arc::new(DictionaryArray::<Int32Type>::new(codes, Arc::new(repeated))), expected),
        (Arc::new(bytes), expected),
        (
            Arc::new(Int64Array::from(vec![Some(-7), Some(5), None, Some(-7)])),
            ["-7", "5", "", "-7"],
        ),
        (Arc::new(UInt8Array::from(vec![Some(7), Some(5), None, Some(7)])), ["7", "5", "", "7"]),
        (
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)])),
            ["true", "false", "", "true"],
        ),
    ];
    for (array, expected) in arrays {
        let data_type = array.data_type().clone();
        let sample = Sample::parquet(vec![
            ("ts", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
            ("symbol", array),
            ("venue", Arc::new(StringArray::from(vec!["X", "X", "X", "Y"]))),
        ]);
        let flat = sample.read(&stream(vec![]));
        let keys: Vec<_> = flat.ticks.iter().map(|row| row.2.as_str()).collect();
        assert_eq!(keys, [expected[0], expected[1], expected[3]], "{data_type}");
        assert_eq!(flat.rejected, [(2, RejectReason::NullKey)], "{data_type}");

        let mut schema = stream(vec![]);
        schema.keys.insert(0, "venue".into());
        let flat = sample.read(&schema);
        let keys: Vec<_> = flat.ticks.iter().map(|row| row.2.clone()).collect();
        let pair = |venue: &str, row: usize| format!("{venue},{}", expected[row]);
        assert_eq!(keys, [pair("X", 0), pair("X", 1), pair("Y", 3)], "{data_type}");
    }
}

#[test]
fn types_that_cannot_be_read() {
    let lists: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]));
    let halves: ArrayRef =
        Arc::new(PrimitiveArray::<Float16Type>::from_iter_values([Default::default()]));
    let stamps: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1]));
    for array in [lists, halves, stamps] {
        let data_type = array.data_type().to_string();
        let message = with_value(array).error(&stream(vec![column("v", 2)]));
        let expected = format!(
            "field \"v\" has type {data_type}, which cannot be read as the value column \"v\""
        );
        assert!(message.contains(&expected), "{message}");
    }
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let options = SourceOptions { map: vec![("ts".into(), "v".into())], ..Default::default() };
    let message = with_value(Arc::clone(&floats)).error_with(&stream(vec![]), &options);
    assert!(message.contains("the time column \"ts\""), "{message}");
    let options = SourceOptions { map: vec![("symbol".into(), "v".into())], ..Default::default() };
    let message = with_value(floats).error_with(&stream(vec![]), &options);
    assert!(message.contains("the key column \"symbol\""), "{message}");
}

#[test]
fn one_field_may_feed_several_columns() {
    let sample = with_value(Arc::new(Int64Array::from(vec![5])));
    let mut schema = stream(vec![column("a", 0), column("b", 0)]);
    schema.keys = vec!["series".into()];
    let map = [("a", "v"), ("b", "v"), ("series", "v"), ("ts", "v")];
    let options = SourceOptions {
        map: map.iter().map(|(column, field)| (column.to_string(), field.to_string())).collect(),
        ..Default::default()
    };
    assert_eq!(
        sample.read_with(&schema, &options).ticks,
        [(0, 5, "5".into(), vec![Some(5), Some(5)])]
    );
    // A text field as key and value at once.
    let sample = with_value(Arc::new(StringArray::from(vec!["5"])));
    assert_eq!(
        sample.read_with(&schema, &options).ticks,
        [(0, 5, "5".into(), vec![Some(5), Some(5)])]
    );
}
