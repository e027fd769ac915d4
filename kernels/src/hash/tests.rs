use super::*;
use isotick_model::Scale;

fn schema() -> ResultSchema {
    ResultSchema {
        keys: vec!["symbol".into()],
        columns: vec![
            ("n".into(), OutputType::Count),
            ("high".into(), OutputType::Scaled(Scale::new(4).unwrap())),
            ("vwap".into(), OutputType::Float),
        ],
    }
}

fn row(key: &str, window_start: i64) -> WindowRow {
    WindowRow {
        key: Key::from_components([key]),
        window_start,
        window_end: window_start + 10,
        version: 0,
        values: vec![Value::Integer(3), Value::Null, Value::Float(1.5)],
    }
}

/// The encoding, written out.
#[test]
fn bytes_are_those_of_the_readme() {
    let mut bytes = b"isotick.result.1".to_vec();
    bytes.extend([1, 0, 0, 0, 6, 0, 0, 0]);
    bytes.extend(b"symbol");
    bytes.extend([3, 0, 0, 0]);
    bytes.extend([1, 0, 0, 0, b'n', 0, 0]);
    bytes.extend([4, 0, 0, 0, b'h', b'i', b'g', b'h', 1, 4]);
    bytes.extend([4, 0, 0, 0, b'v', b'w', b'a', b'p', 3, 0]);
    bytes.extend([1, 3, 0, 0, 0, b'A', 0, 0]);
    bytes.extend([0xF6, 255, 255, 255, 255, 255, 255, 255]);
    bytes.extend([0; 8]);
    bytes.extend([1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([0]);
    bytes.extend([2, 0, 0, 0, 0, 0, 0, 0xF8, 0x3F]);
    bytes.extend([0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let expected = blake3::hash(&bytes).to_hex().to_string();
    let hash = result_hash(&schema(), &[row("A", -10)]).to_string();
    assert_eq!(hash, expected);
    assert_eq!(hash.len(), 64);
}

#[test]
fn versions_do_not_matter_and_all_else_does() {
    let base = result_hash(&schema(), &[row("A", 0)]);
    assert_eq!(result_hash(&schema(), &[WindowRow { version: 7, ..row("A", 0) }]), base);
    let mut other_schema = schema();
    other_schema.columns[0].0 = "m".into();
    let mut null = row("A", 0);
    null.values[0] = Value::Null;
    let others = [
        result_hash(&schema(), &[]),
        result_hash(&schema(), &[row("B", 0)]),
        result_hash(&schema(), &[row("A", 1)]),
        result_hash(&schema(), &[WindowRow { window_end: 11, ..row("A", 0) }]),
        result_hash(&schema(), &[null]),
        result_hash(&schema(), &[row("A", 0), row("A", 1)]),
        result_hash(&other_schema, &[row("A", 0)]),
    ];
    assert!(others.iter().all(|other| *other != base));
}

#[test]
fn block_by_block_is_the_same() {
    let rows = [row("A", -5), row("A", 3), row("B", -9)];
    let mut hasher = ResultHasher::new(&schema());
    for block in [&rows[..2], &[], &rows[2..]] {
        let block = EncodedRows::of(3, block);
        assert_eq!(EncodedRows::of(3, &block.rows()).bytes, block.bytes);
        hasher.push(&block);
    }
    assert_eq!(hasher.finish(), result_hash(&schema(), &rows));
}

#[test]
#[should_panic(expected = "result rows come by key bytes, then window start, each once")]
fn rows_out_of_order_are_a_bug() {
    result_hash(&schema(), &[row("A", 3), row("A", -5)]);
}

#[test]
#[should_panic(expected = "each once")]
fn rows_twice_are_a_bug() {
    result_hash(&schema(), &[row("A", 3), row("A", 3)]);
}

#[test]
#[should_panic(expected = "never NaN, infinite or -0")]
fn negative_zero_is_a_bug() {
    let mut row = row("A", 3);
    row.values[2] = Value::Float(-0.0);
    result_hash(&schema(), &[row]);
}

#[test]
fn an_encoding_gives_its_rows_back() {
    let mut rows = [row("A", -5), row("A", 3), row("B\0", i64::MIN), row("\u{e9}", 7)];
    rows[1].values = vec![Value::Integer(i128::MIN), Value::Integer(i128::MAX), Value::Float(0.0)];
    assert_eq!(EncodedRows::of(3, &rows).rows(), rows);
}
