use isotick_model::results::{ResultSchema, Value, WindowRow};
use isotick_model::view::{DefinitionHash, OutputType};
use isotick_model::{Key, LogPosition, Scale};
use tempfile::TempDir;

use super::*;
use crate::snapshot::Snapshot;
use crate::store::Store;

fn definition() -> DefinitionHash {
    DefinitionHash("cd".repeat(32))
}

fn scale(digits: u8) -> Scale {
    Scale::new(digits).unwrap()
}

fn schema(keys: &[&str]) -> ResultSchema {
    let columns = [
        ("count", OutputType::Count),
        ("low", OutputType::Scaled(scale(18))),
        ("size", OutputType::Scaled(scale(0))),
        ("sum", OutputType::ScaledWide(scale(4))),
        ("reason", OutputType::Float),
    ];
    ResultSchema {
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        columns: columns.map(|(name, output)| (name.to_owned(), output)).into(),
    }
}

fn window(key: Key, start: i64, version: u32, values: [Value; 5]) -> RecordedWindow {
    let window_end = start.saturating_add(10);
    let row = WindowRow { key, window_start: start, window_end, version, values: values.into() };
    RecordedWindow { row, reason: "late".into() }
}

fn values() -> Vec<[Value; 5]> {
    use Value::{Float, Integer, Null};
    let wide = (1_i128 << 126) - 1;
    vec![
        [Integer(0); 4].into_iter().chain([Float(0.0)]).collect::<Vec<_>>().try_into().unwrap(),
        [
            Integer(i64::MAX.into()),
            Integer(i64::MIN.into()),
            Integer(i64::MIN.into()),
            Integer(-wide),
            Float(f64::MIN_POSITIVE),
        ],
        [
            Integer(1),
            Integer(i64::MAX.into()),
            Integer(-1),
            Integer(wide),
            Float(-f64::from_bits(1)),
        ],
        [Integer(2), Null, Null, Null, Null],
        [Integer(3), Integer(-1), Integer(9), Integer(-1), Float(0.1 + 0.2)],
    ]
}

fn commit(store: &mut Store, schema: &ResultSchema, windows: &[RecordedWindow]) {
    let mut commit = store.begin();
    commit.add_windows("a view", &definition(), schema, windows, None).unwrap();
    commit.cover(LogPosition(0), []);
    commit.finish().unwrap();
}

#[test]
fn every_value_comes_back_bit_for_bit() {
    for keys in [&[][..], &["symbol"], &["a", "b"]] {
        let schema = schema(keys);
        let dir = TempDir::new().unwrap();
        let mut store = Store::open(dir.path(), "test").unwrap();
        let key = |n: usize| match keys.len() {
            0 => Key::empty(),
            count => Key::from_components((0..count).map(|part| format!("{part}\0{}", n % 2))),
        };
        let starts = [i64::MIN, -5, 0, 7, i64::MAX - 10];
        let mut windows: Vec<_> = values()
            .into_iter()
            .enumerate()
            .map(|(n, values)| window(key(n), starts[n], 1, values))
            .collect();
        commit(&mut store, &schema, &windows);
        let found = Snapshot::open(dir.path()).unwrap().record(&definition(), &schema).unwrap();
        windows.sort_by_key(|window| (window.row.key.clone(), window.row.window_start));
        let expected: Vec<_> = windows.into_iter().map(|window| window.row).collect();
        assert!(found.iter().zip(&expected).all(|(found, expected)| same(found, expected)));
        assert_eq!(found, expected);
    }
}

#[test]
fn the_last_version_counts_and_repeating_one_changes_nothing() {
    let schema = schema(&["symbol"]);
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path(), "test").unwrap();
    let all = values();
    let key = |name: &str| Key::from_components([name]);
    let a1 = window(key("A"), 0, 1, all[0]);
    let a2 = window(key("A"), 0, 2, all[1]);
    let a3 = window(key("A"), 0, 3, all[2]);
    let b1 = window(key("B"), 0, 1, all[3]);
    let a1_next = window(key("A"), 10, 1, all[4]);
    commit(&mut store, &schema, &[a3.clone(), a1.clone(), b1.clone()]);
    commit(&mut store, &schema, &[a2.clone(), a1.clone(), a1_next.clone()]);
    commit(&mut store, &schema, &[]);
    let found = store.snapshot().record(&definition(), &schema).unwrap();
    assert_eq!(found, [a3.row, a1_next.row, b1.row]);
    commit(&mut store, &schema, &[window(key("A"), 0, 1, all[4])]);
    let error = store.snapshot().record(&definition(), &schema).unwrap_err();
    assert!(matches!(error, Error::RecordConflict { version: 1, window_start: 0, .. }), "{error}");
}

#[test]
fn another_schema_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path(), "test").unwrap();
    let schema = schema(&["symbol"]);
    commit(&mut store, &schema, &[window(Key::from_components(["A"]), 0, 1, values()[0])]);
    let mut other = schema.clone();
    other.columns[3].1 = OutputType::Float;
    let error = store.snapshot().record(&definition(), &other).unwrap_err();
    assert!(matches!(error, Error::Column { .. }), "{error}");
    other.columns.pop();
    let error = store.snapshot().record(&definition(), &other).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn results_are_written_for_users() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("bars.parquet");
    let rows: Vec<_> = values()
        .into_iter()
        .map(|values| window(Key::from_components(["A"]), 0, 0, values).row)
        .collect();
    for _ in 0..2 {
        let mut file = ResultFile::create(&path, &schema(&["symbol"])).unwrap();
        let (first, rest) = rows.split_at(1);
        file.write(first).unwrap();
        file.write(rest).unwrap();
        file.close().unwrap();
    }
    let file = File::open(&path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file);
    let reader = reader.unwrap();
    let names: Vec<_> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    let expected =
        ["symbol", "window_start", "window_end", "count", "low", "size", "sum", "reason"];
    assert_eq!(names, expected);
    let batch = reader.build().unwrap().next().unwrap().unwrap();
    for (row, expected) in rows.iter().enumerate() {
        let found: Vec<_> = batch.columns()[3..].iter().map(|array| value(array, row)).collect();
        assert_eq!(found, expected.values);
    }
    let created = ResultFile::create(&dir.path().join("no/such"), &schema(&[]));
    let error = created.err().expect("the folder is not there");
    assert!(error.to_string().contains("no/such"), "{error}");
    ResultFile::create(&path, &schema(&["symbol"])).unwrap().close().unwrap();
}
