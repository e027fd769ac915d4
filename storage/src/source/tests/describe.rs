use arrow_array::{
    Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use isotick_model::time::TimeUnit;

use super::*;

#[test]
fn a_parquet_file() {
    let prices = Decimal128Array::from(vec![1, 2, 3]).with_precision_and_scale(10, 4).unwrap();
    let sample = Sample::parquet(vec![
        ("when", Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3]))),
        ("note", Arc::new(StringArray::from(vec!["x", "y", "z"]))),
        ("ticker", Arc::new(StringArray::from(vec!["A", "A", "B"]))),
        ("price", Arc::new(prices)),
        ("Weird name", Arc::new(Float64Array::from(vec![Some(0.5), None, Some(-1.25)]))),
        ("raw", Arc::new(Float64Array::from(vec![0.1 + 0.2, 1.0 / 3.0, 0.5]))),
        ("count", Arc::new(Int64Array::from(vec![1, 2, 3]))),
    ]);
    let schema = Source::describe(&sample.path).unwrap();
    assert_eq!((schema.format, schema.rows), (Format::Parquet, Some(3)));
    let field = |name: &str| schema.fields.iter().find(|field| field.name == name).unwrap();
    assert_eq!(field("price").scale, Some(scale(4)));
    assert_eq!(field("price").data_type, "Decimal128(10, 4)");
    assert!(field("Weird name").nulls && !field("raw").nulls);

    let suggestion = Source::suggest(&sample.path, "trades").unwrap();
    let mut expected = stream(vec![
        column("price", 4),
        optional("Weird_name", 2),
        column("raw", 6),
        column("count", 0),
    ]);
    (expected.time, expected.keys) = ("when".into(), vec!["ticker".into()]);
    expected.inexact = Inexact::Round;
    expected.horizon_ns = Some(isotick_model::StreamSchema::HORIZON_NS_DEFAULT);
    assert_eq!(suggestion.schema, expected);
    assert_eq!(suggestion.map, [("Weird_name".into(), "Weird name".into())]);
    assert_eq!(suggestion.skipped.len(), 1);
    assert_eq!(suggestion.skipped[0].0, "note");
    assert_eq!(suggestion.notes.len(), 1);
    let options = SourceOptions { map: suggestion.map, ..Default::default() };
    assert_eq!(sample.read_with(&suggestion.schema, &options).ticks.len(), 3);
}

#[test]
fn a_text_file() {
    let rows: String = (0..50)
        .map(|row| {
            format!("17000000{row:02}000,S{},{}.{:03},{}\n", row % 3, row, row, ["", "5"][row % 2])
        })
        .collect();
    let sample = Sample::csv(&format!("timestamp,station,temp,gust\n{rows}"));
    let suggestion = Source::suggest(&sample.path, "weather").unwrap();
    assert_eq!(suggestion.time_unit, TimeUnit::Milliseconds);
    assert_eq!(suggestion.schema.time, "timestamp");
    assert_eq!(suggestion.schema.keys, ["station"]);
    assert_eq!(suggestion.schema.columns, [column("temp", 3), optional("gust", 0)]);
    assert_eq!(suggestion.schema.inexact, Inexact::Reject);

    let sample = Sample::csv("when,value\n2014-04-10 00:04:00,1.5\n2014-04-10 00:09:00,91.25\n");
    let suggestion = Source::suggest(&sample.path, "series").unwrap();
    assert_eq!(suggestion.schema.time, "when");
    assert_eq!(suggestion.schema.keys, [""; 0]);
    assert_eq!(suggestion.schema.columns, [column("value", 2)]);
    assert_eq!(sample.read(&suggestion.schema).ticks.len(), 2);

    let sample =
        Sample::csv("time,symbol,price\n1617235200.1234,A,58763.1\n1617235201,A,58763.25\n");
    let suggestion = Source::suggest(&sample.path, "trades").unwrap();
    assert_eq!(suggestion.time_unit, TimeUnit::Seconds);
    assert_eq!(suggestion.schema.columns, [column("price", 2)]);

    let message = Source::suggest(&Sample::csv("a,b\nx,1\n").path, "s").unwrap_err().to_string();
    assert!(message.contains("none of its fields looks like a time; it has: a, b"), "{message}");
}
