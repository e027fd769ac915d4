//! Every reason, from text and from Parquet alike.

use arrow_array::{Float64Array, Int64Array, StringArray};
use isotick_model::view::Tumbling;

use super::*;

fn bounded() -> StreamSchema {
    let price = Column { min: 0, max: 2_000_000, ..column("price", 4) };
    stream(vec![price, optional("size", 0)])
}

#[test]
fn each_reason_from_text() {
    let long = "k".repeat(5000);
    let text = format!(
        "ts,symbol,price,size\n\
         1,A,101.25,5\n\
         ,A,101.25,5\n\
         2,,101.25,5\n\
         3,A,,5\n\
         4,A,-0.0001,5\n\
         5,A,200.0001,5\n\
         6,A,101.23456,5\n\
         7,A,NaN,5\n\
         8,A,-inf,\n\
         9,A,abc,5\n\
         10,A,1\n\
         11,A,1,2,3\n\
         noon,A,1,2\n\
         99999999999999999999,A,1,2\n\
         12,{long},1,2\n\
         13,A,1e30,2\n\
         14,A,1,\n"
    );
    let flat = Sample::csv(&text).read(&bounded());
    use RejectReason::*;
    let reasons = [
        NullTime,
        NullKey,
        NullValue,
        OutOfBounds,
        OutOfBounds,
        Inexact,
        NotFinite,
        NotFinite,
        Malformed,
        Malformed,
        Malformed,
        Malformed,
        TimeOutOfRange,
        KeyTooLong,
        OutOfBounds,
    ];
    let expected: Vec<_> = (1..).zip(reasons).collect();
    assert_eq!(flat.rejected, expected);
    assert_eq!(
        flat.ticks,
        [
            (0, 1, "A".into(), vec![Some(1_012_500), Some(5)]),
            (16, 14, "A".into(), vec![Some(10_000), None])
        ]
    );
    assert_eq!(
        flat.messages[5],
        "row 6 (line 8), column price: 101.23456 has more than 4 decimals"
    );
    assert_eq!(flat.messages[4], "row 5 (line 7), column price: 200.0001 is above max = 200.0000");
    assert_eq!(flat.messages[9], "row 10 (line 12): the row has 3 fields, the header 4");
    assert!(flat.messages[11].contains("\"noon\" is no time"), "{}", flat.messages[11]);
}

#[test]
fn a_broken_line_spoils_no_other() {
    let long = "x".repeat(3 << 20);
    let text = format!(
        "ts,symbol,price,size,note\n1,A,1,1,\"a \"\"b\"\", c\"\n2,A,1,1,\"open\n3,A,1,1,\n\n\
         4,A,1,1,{long}\n5,\"A,1,1,\n6,A,1\r,1,\n7,A,1,1,\"z\"\r\n8,A,1,1,\"open at the end"
    );
    let flat = Sample::csv(&text).read(&bounded());
    assert_eq!(flat.ticks.iter().map(|row| row.1).collect::<Vec<_>>(), [1, 3, 7]);
    let malformed: Vec<_> = [1, 3, 4, 5, 7].map(|row| (row, RejectReason::Malformed)).into();
    assert_eq!(flat.rejected, malformed);
    assert_eq!(flat.messages[0], "row 1 (line 3): a quotation mark is not closed on its line");
    assert!(flat.messages[1].starts_with("row 3 (line 6): the line is longer than 1 MiB"));
}

#[test]
fn each_reason_from_parquet() {
    let long = "k".repeat(5000);
    let rows: Vec<(Option<i64>, Option<&str>, Option<f64>)> = vec![
        (Some(1), Some("A"), Some(101.25)),
        (None, Some("A"), Some(101.25)),
        (Some(2), None, Some(101.25)),
        (Some(3), Some("A"), None),
        (Some(4), Some("A"), Some(-0.0001)),
        (Some(5), Some("A"), Some(200.0001)),
        (Some(6), Some("A"), Some(101.23456)),
        (Some(7), Some("A"), Some(f64::NAN)),
        (Some(8), Some("A"), Some(f64::NEG_INFINITY)),
        (Some(12), Some(&long), Some(1.0)),
        (Some(14), Some("B"), Some(-0.0)),
    ];
    let sample = Sample::parquet(vec![
        ("ts", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>())),
        ("symbol", Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>())),
        ("price", Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>())),
    ]);
    use RejectReason::*;
    let reasons = [
        NullTime,
        NullKey,
        NullValue,
        OutOfBounds,
        OutOfBounds,
        Inexact,
        NotFinite,
        NotFinite,
        KeyTooLong,
    ];
    let flat = sample.read(&bounded());
    assert_eq!(flat.rejected, (1..).zip(reasons).collect::<Vec<_>>());
    assert_eq!(
        flat.ticks,
        [
            (0, 1, "A".into(), vec![Some(1_012_500), None]),
            (10, 14, "B".into(), vec![Some(0), None])
        ]
    );
    assert_eq!(
        flat.messages[5],
        "row 6, column price: 101.23456 is not exactly a value of 4 decimals"
    );

    // The whole of it in batches of one row, and with no column wanted, is the same.
    for rows in [1, 2, 3, 7] {
        let options = SourceOptions { batch_rows: rows, ..Default::default() };
        assert_eq!(sample.read_with(&bounded(), &options), flat);
    }
    let none = SourceOptions { columns: Some(Vec::new()), ..Default::default() };
    let unread = sample.read_with(&bounded(), &none);
    assert_eq!((unread.rejected, unread.messages), (flat.rejected, flat.messages));
    assert!(unread.ticks.iter().all(|row| row.3 == [None, None]));
}

#[test]
fn the_first_column_at_fault_gives_the_reason() {
    let csv = Sample::csv("ts,symbol,price,size\n,,,x\n1,,,x\n1,A,,x\n1,A,1,x\n");
    use RejectReason::*;
    let expected = [(0, NullTime), (1, NullKey), (2, NullValue), (3, Malformed)];
    assert_eq!(csv.read(&bounded()).rejected, expected);
    let parquet = Sample::parquet(vec![
        ("ts", Arc::new(Int64Array::from(vec![None, Some(1), Some(1), Some(1)]))),
        ("symbol", Arc::new(StringArray::from(vec![None, None, Some("A"), Some("A")]))),
        ("price", Arc::new(Int64Array::from(vec![None, None, None, Some(1)]))),
        ("size", Arc::new(StringArray::from(vec!["x"; 4]))),
    ]);
    assert_eq!(parquet.read(&bounded()).rejected, expected);
}

#[test]
fn times_without_a_representable_window_are_rejected() {
    let times = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    let windows = vec![
        Tumbling { width_ns: 10, origin_ns: 3 },
        Tumbling { width_ns: 1_000_000_007, origin_ns: -5 },
    ];
    let expected: Vec<u64> = (0..)
        .zip(times)
        .filter(|(_, ts)| windows.iter().all(|window| window.start_of(*ts).is_some()))
        .map(|(row, _)| row)
        .collect();
    assert!(expected.len() < times.len());
    let options = SourceOptions { windows, ..Default::default() };
    let keys = vec!["A"; times.len()];
    let parquet = Sample::parquet(vec![
        ("ts", Arc::new(Int64Array::from(times.to_vec()))),
        ("symbol", Arc::new(StringArray::from(keys))),
    ]);
    let lines: String = times.iter().map(|ts| format!("{ts},A\n")).collect();
    let csv = Sample::csv(&format!("ts,symbol\n{lines}"));
    for sample in [parquet, csv] {
        let flat = sample.read_with(&stream(vec![]), &options);
        assert_eq!(flat.ticks.iter().map(|row| row.0).collect::<Vec<_>>(), expected);
        assert!(flat.rejected.iter().all(|row| row.1 == RejectReason::TimeOutOfRange));
    }
}

#[test]
fn a_closed_set_of_keys_holds_on_every_way() {
    let allowed = ["A", "C"].map(|text| isotick_model::Key::from_components([text]));
    let closed = StreamSchema { keys_allowed: Some(allowed.into_iter().collect()), ..bounded() };
    let symbols = [Some("A"), Some("B"), None, Some("C"), Some("B"), Some("a"), Some("A")];
    let prices = [1, 1, 1, 1, -1, 1, 1];
    let lines: String = (0..)
        .zip(symbols.iter().zip(prices))
        .map(|(ts, (symbol, price))| format!("{ts},{},{price}\n", symbol.unwrap_or("")))
        .collect();
    let csv = Sample::csv(&format!("ts,symbol,price\n{lines}"));
    let times = || Arc::new(Int64Array::from_iter_values(0..7)) as ArrayRef;
    let prices = || Arc::new(Int64Array::from_iter_values(prices.map(i64::from))) as ArrayRef;
    let plain = Arc::new(StringArray::from(symbols.to_vec())) as ArrayRef;
    let parquet = Sample::parquet(vec![("ts", times()), ("symbol", plain), ("price", prices())]);
    use RejectReason::*;
    let expected = [(1, UnknownKey), (2, NullKey), (4, UnknownKey), (5, UnknownKey)];
    for sample in [&csv, &parquet] {
        let flat = sample.read(&closed);
        assert_eq!(flat.rejected, expected);
        let ticks: Vec<_> = flat.ticks.iter().map(|row| (row.0, row.2.as_str())).collect();
        assert_eq!(ticks, [(0, "A"), (3, "C"), (6, "A")]);
        assert!(flat.messages[0].contains("\"B\" is not among the stream's"), "{flat:?}");
    }

    // Keys straight from a dictionary, and a scan that could leave other keys unread.
    let symbols = ["A", "B", "C", "B", "A", "A", "A"];
    let whole = Arc::new(StringArray::from(symbols.to_vec())) as ArrayRef;
    let good = Arc::new(Int64Array::from_iter_values([1; 7])) as ArrayRef;
    let sample = Sample::parquet(vec![("ts", times()), ("symbol", whole), ("price", good)]);
    let needed = Needed {
        keys: isotick_model::KeySelection::new(
            1,
            &[isotick_model::Key::from_components(["A"])],
            None,
        ),
        identity: true,
        one_window: None,
        latest_ns: i64::MAX,
    };
    for needed in [None, Some(needed)] {
        let options = SourceOptions { needed, ..Default::default() };
        let flat = sample.read_with(&closed, &options);
        assert_eq!(flat.rejected, [(1, UnknownKey), (3, UnknownKey)]);
        assert_eq!(flat.ticks.len(), 5);
    }
}
