use arrow_array::{Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt32Array};
use isotick_model::definitions::Definitions;
use isotick_model::{Key, RejectReason};

use super::*;

fn schema() -> StreamSchema {
    let text = r#"
        [stream.trades]
        time    = "ts"
        key     = "symbol"
        columns = { price = { scale = 2, min = 0 }, size = { scale = 0, optional = true } }
    "#;
    Definitions::parse(text, "test").unwrap().streams.remove(0)
}

fn publisher() -> PublisherId {
    PublisherId::new("p").unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap()
}

fn columns() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("symbol", Arc::new(StringArray::from(vec![Some("A"), Some("B"), None, Some("A")]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![5, 6, 7, 8]))),
        ("price", Arc::new(Float64Array::from(vec![1.25, -1.0, 3.0, 1.001]))),
    ]
}

#[test]
fn rows_become_ticks_or_are_rejected_as_a_file_s_are() {
    let (ticks, rejected) = ticks_of_batch(&batch(columns()), &schema(), &publisher(), 10).unwrap();
    assert_eq!(&ticks.ts_event[..], [5_000]);
    assert_eq!(&ticks.sequence[..], [10]);
    assert_eq!(ticks.key_of(0), &Key::from_components(["A"]));
    assert_eq!(ticks.values[0].get(0), Some(125));
    assert_eq!(ticks.values[1].get(0), None);
    let reasons: Vec<_> = rejected.iter().map(|row| (row.sequence, row.reason)).collect();
    let expected =
        [(11, RejectReason::OutOfBounds), (12, RejectReason::NullKey), (13, RejectReason::Inexact)];
    assert_eq!(reasons, expected);
}

#[test]
fn a_sequence_column_numbers_rows() {
    let mut with = columns();
    with.push(("sequence", Arc::new(UInt32Array::from(vec![4, 2, 9, 1]))));
    let (ticks, rejected) = ticks_of_batch(&batch(with), &schema(), &publisher(), 10).unwrap();
    assert_eq!(&ticks.sequence[..], [4]);
    assert_eq!(rejected.iter().map(|row| row.sequence).collect::<Vec<_>>(), [2, 9, 1]);
    for bad in [vec![Some(-1), Some(0), Some(1), Some(2)], vec![None, Some(0), Some(1), Some(2)]] {
        let mut with = columns();
        with.push(("sequence", Arc::new(Int64Array::from(bad))));
        let error = ticks_of_batch(&batch(with), &schema(), &publisher(), 0).unwrap_err();
        assert!(matches!(error, BatchError::Sequence), "{error}");
    }
    assert!(ticks_of_batch(&batch(columns()), &schema(), &publisher(), u64::MAX).is_err());
}

#[test]
fn columns_that_are_missing_or_of_another_kind_are_named() {
    let mut without = columns();
    without.remove(1);
    let error = ticks_of_batch(&batch(without), &schema(), &publisher(), 0).unwrap_err();
    assert!(error.to_string().contains("\"ts\""), "{error}");
    let mut other = columns();
    other[1].1 = Arc::new(Float64Array::from(vec![0.0; 4]));
    let error = ticks_of_batch(&batch(other), &schema(), &publisher(), 0).unwrap_err();
    assert!(error.to_string().contains("cannot be a time"), "{error}");
}
