//! The shared files, against what Python computed from them; left out where they are absent.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::expected::{EXPECTED, Expected};
use super::*;

/// The folder with the shared files, or `None` with a word on stderr.
pub(super) fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("ISOTICK_DATA").map_or(beside, PathBuf::from);
    if !folder.is_dir() {
        eprintln!("left out: there is no folder {}; set ISOTICK_DATA", folder.display());
        return None;
    }
    Some(folder)
}

/// A stream for a file, its time and key under names of its own.
fn declared(expected: &Expected) -> (StreamSchema, SourceOptions) {
    let mut schema = stream(
        expected
            .columns
            .iter()
            .map(|&(name, digits, nulls, _)| match nulls {
                0 => column(name, digits),
                _ => optional(name, digits),
            })
            .collect(),
    );
    schema.time = "ts_event".into();
    schema.keys = vec!["instrument".into()];
    if expected.round {
        schema.inexact = Inexact::Round;
    }
    let map = vec![("ts_event".into(), "ts".into()), ("instrument".into(), "symbol".into())];
    (schema, SourceOptions { map, ..Default::default() })
}

#[test]
fn every_file_gives_the_ticks_that_python_sees() {
    let Some(folder) = data() else { return };
    for expected in EXPECTED {
        let (schema, options) = declared(expected);
        let mut source = Source::open(folder.join(expected.file), &options, &schema).unwrap();
        assert_eq!(source.rows_total(), Some(expected.rows as u64));
        let (mut ticks, mut rejected, mut ts_sum) = (0, 0, 0_i128);
        let mut keys = HashSet::new();
        let mut sums = vec![(0, 0_i128); schema.columns.len()];
        while let Some(batch) = source.next_batch().unwrap() {
            assert_eq!(batch.ticks.len() + batch.rejected.len(), batch.rows);
            ticks += batch.ticks.len();
            rejected += batch.rejected.len();
            ts_sum += batch.ticks.ts_event.iter().map(|&ts| i128::from(ts)).sum::<i128>();
            for (sum, column) in sums.iter_mut().zip(&batch.ticks.values) {
                sum.0 += column.nulls.as_ref().map_or(0, |nulls| nulls.null_count());
                sum.1 += column.values.iter().map(|&value| i128::from(value)).sum::<i128>();
            }
            keys.extend(batch.ticks.keys.iter().cloned());
        }
        let file = expected.file;
        assert_eq!((ticks + rejected, rejected), (expected.rows, expected.rejected), "{file}");
        assert_eq!((keys.len(), ts_sum), (expected.keys, expected.ts_sum), "{file}");
        for (sum, &(name, _, nulls, total)) in sums.into_iter().zip(expected.columns) {
            assert_eq!(sum, (nulls, total), "{file} {name}");
        }
    }
}

#[test]
fn another_scale_is_exact_or_rejected() {
    let Some(folder) = data() else { return };
    let path = folder.join("ticks/lean_us_trades_spy.parquet");
    let flat = |digits| {
        Flat::of(
            Source::open(&path, &Default::default(), &stream(vec![column("price", digits)]))
                .unwrap(),
        )
    };
    let sum = |flat: &Flat| flat.ticks.iter().map(|row| row.3[0].unwrap()).sum::<i64>();
    let (one, two, six) = (flat(1), flat(2), flat(6));
    assert_eq!((one.rejected.len(), sum(&one)), (1_028_003, 189_348_353));
    assert_eq!(
        one.messages[0],
        "row 0, column price: 167.4100 is not exactly a value of 1 decimals"
    );
    assert_eq!((two.rejected.len(), sum(&two)), (0, 18_998_133_670));
    assert_eq!((six.rejected.len(), sum(&six)), (0, 189_981_336_700_000));
}

#[test]
fn every_file_goes_in_as_suggested() {
    let Some(folder) = data() else { return };
    let files: HashSet<&str> = EXPECTED.iter().map(|expected| expected.file).collect();
    for file in files {
        let path = folder.join(file);
        let suggestion = Source::suggest(&path, "ticks").unwrap();
        assert_eq!(suggestion.schema.keys, ["symbol"], "{file}");
        let options = SourceOptions {
            map: suggestion.map,
            time_unit: Some(suggestion.time_unit),
            ..Default::default()
        };
        let mut source = Source::open(&path, &options, &suggestion.schema).unwrap();
        let mut reasons: HashMap<RejectReason, usize> = HashMap::new();
        while let Some(batch) = source.next_batch().unwrap() {
            for rejected in batch.rejected {
                *reasons.entry(rejected.reason).or_default() += 1;
            }
        }
        // One file holds NaN and floats that no 64 bits hold at six decimals.
        match file {
            "sensors/px4_flight_a.parquet" => assert_eq!(reasons.values().sum::<usize>(), 3372),
            _ => assert_eq!(reasons, HashMap::new(), "{file}"),
        }
    }
}

#[test]
fn the_publisher_is_the_content() {
    let sample = Sample::csv("ts,symbol\n1,A\n");
    let publisher = Source::publisher_default(&sample.path).unwrap();
    let hash = blake3::hash(b"ts,symbol\n1,A\n").to_hex();
    assert_eq!(publisher.as_str(), hash.as_str());
    let source = Source::open(&sample.path, &Default::default(), &stream(vec![])).unwrap();
    assert_eq!(*source.publisher(), publisher);
    let named = PublisherId::new("me").unwrap();
    let options = SourceOptions { publisher: Some(named.clone()), ..Default::default() };
    let mut source = Source::open(&sample.path, &options, &stream(vec![])).unwrap();
    assert_eq!(source.next_batch().unwrap().unwrap().ticks.publishers, [named]);
}

#[test]
fn known_good_and_bad_parquet_files() {
    let Some(folder) = data() else { return };
    let folder = folder.join("vectors/parquet-testing");
    let error = |file: &str, schema: &StreamSchema| {
        error_of(&folder.join(file), schema, &Default::default()).unwrap()
    };
    let mut schema = stream(vec![]);
    (schema.time, schema.keys) = ("x".into(), vec![]);
    let message = error("PARQUET-1481.parquet", &schema);
    assert!(message.contains("PARQUET-1481.parquet is no readable Parquet file"), "{message}");
    let message = error("ARROW-GH-45185.parquet", &schema);
    assert!(message.contains("ARROW-GH-45185.parquet"), "{message}");
    assert!(message.contains("\"x\" has type List"), "{message}");
    for file in ["PARQUET-1481.parquet", "ARROW-GH-45185.parquet"] {
        let message = Source::suggest(folder.join(file), "s").unwrap_err().to_string();
        assert!(message.contains(file), "{message}");
    }

    let read = |file: &str, schema: &StreamSchema, map: &[(&str, &str)]| {
        let map = map.iter().map(|(column, field)| (column.to_string(), field.to_string()));
        let options = SourceOptions { map: map.collect(), ..Default::default() };
        Flat::of(Source::open(folder.join(file), &options, schema).unwrap())
    };
    let mut schema =
        stream(vec![column("float_col", 1), column("double_col", 1), column("bool_col", 0)]);
    schema.time = "timestamp_col".into();
    let plain = read("alltypes_plain.parquet", &schema, &[("symbol", "string_col")]);
    assert_eq!(plain.ticks.len(), 8);
    let row = (1, 1_235_865_660_000_000_000, "1".into(), vec![Some(11), Some(101), Some(0)]);
    assert_eq!(plain.ticks[1], row);
    let mut schema = stream(vec![]);
    (schema.time, schema.keys) = ("n".into(), vec![]);
    schema.columns = vec![column("value", 2)];
    for file in ["int32_decimal.parquet", "int64_decimal.parquet"] {
        let message = error(file, &schema);
        assert!(message.contains("no field \"n\""), "{message}");
        // No such file has a time; the decimal itself is none.
        let options =
            SourceOptions { map: vec![("n".into(), "value".into())], ..Default::default() };
        let message = error_of(&folder.join(file), &schema, &options).unwrap();
        assert!(message.contains("cannot be read as the time column"), "{message}");
    }
    schema.columns = vec![column("float_plain", 3), column("decimal_plain", 3)];
    schema.inexact = Inexact::Round;
    let spread = read("byte_stream_split_extended.gzip.parquet", &schema, &[("n", "int64_plain")]);
    assert_eq!(spread.ticks.len(), 200);
    assert_eq!(
        spread.ticks[0],
        (0, 293_650_000_000, "".into(), vec![Some(10_338), Some(1_003_858)])
    );
    assert_eq!(spread.ticks[1].3, [Some(11_407), Some(968_825)]);
}

#[test]
#[ignore = "measures; run it alone with --nocapture"]
fn throughput() {
    let Some(folder) = data() else { return };
    let expected = EXPECTED.iter().find(|expected| expected.file.contains("trades_spy")).unwrap();
    let (schema, options) = declared(expected);
    let options = SourceOptions { publisher: PublisherId::new("p"), ..options };
    for _ in 0..5 {
        let start = Instant::now();
        let mut source = Source::open(folder.join(expected.file), &options, &schema).unwrap();
        let mut rows = 0;
        while let Some(batch) = source.next_batch().unwrap() {
            rows += batch.rows;
        }
        eprintln!("parquet {:.1} M rows/s", rows as f64 / start.elapsed().as_secs_f64() / 1e6);
    }
    let rows: String = (0..1_000_000)
        .map(|row| {
            format!(
                "{},SYM{},{}.{:04},{}\n",
                1_700_000_000_000_000_000_i64 + row,
                row % 1000,
                100 + row % 7,
                row % 10_000,
                row % 100
            )
        })
        .collect();
    let sample = Sample::csv(&format!("ts,symbol,price,size\n{rows}"));
    let schema = stream(vec![column("price", 4), column("size", 0)]);
    let options = SourceOptions { publisher: PublisherId::new("p"), ..Default::default() };
    for _ in 0..3 {
        let start = Instant::now();
        let mut source = Source::open(&sample.path, &options, &schema).unwrap();
        while source.next_batch().unwrap().is_some() {}
        eprintln!("csv {:.2} M rows/s", 1.0 / start.elapsed().as_secs_f64());
    }
}
