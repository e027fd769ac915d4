//! Scans in parts: several views from one reading, and windows that are finished when the part
//! that they lie in has been read.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;

use crate::program::{DEFINITIONS, Place, START_NS, csv, ticks};

const VIEWS: &str = r#"
[view.slow]
stream     = "trades"
window     = { tumbling = "7s" }
aggregates = ["first(price)", "last(price)", "median(size)"]
where      = "size > 3"

[stream.other]
time    = "ts"
key     = "symbol"
columns = { price = { scale = 2 } }

[view.strange]
stream     = "other"
window     = { tumbling = "1s" }
aggregates = ["count()"]
"#;

/// A view that asks for no order of ticks.
const VOLUMES: &str = r#"
[view.volumes]
stream     = "trades"
window     = { tumbling = "1s" }
aggregates = ["volume = sum(size)"]
"#;

#[test]
fn several_views_of_one_reading_are_those_of_one_each() {
    let place = Place::new(&format!("{DEFINITIONS}{VIEWS}"));
    place.write("ticks.csv", csv(&ticks(9, 5_000, 30)));
    place.ok("import ticks.csv --stream trades --data data");
    for source in ["--data data", "--file ticks.csv", "--data data --key S1"] {
        let alone = ["bars", "slow", "all"]
            .map(|view| format!("{view} {}\n", place.hash(&format!("{view} {source}"))));
        let together = place.ok(&format!("scan bars slow all {source} --hash")).out;
        assert_eq!(together, alone.concat(), "{source}");
        place.ok(&format!("scan slow bars {source} -o {{view}}.csv"));
        for view in ["slow", "bars"] {
            let alone = place.ok(&format!("scan {view} {source} --format csv")).out;
            let written = std::fs::read_to_string(place.path(&format!("{view}.csv")));
            assert_eq!(written.expect("the file is there"), alone, "{view} {source}");
        }
        let stats = place.run(&format!("scan all bars {source} --hash --stats"));
        let stats: serde_json::Value = serde_json::from_str(stats.err.trim()).expect("JSON");
        assert_eq!(stats[1]["view"], "bars", "{stats}");
        assert_eq!(stats[0]["rows_read"], stats[1]["rows_read"], "{stats}");
    }
    let tables = place.ok("scan bars all --data data").out;
    let headings: Vec<_> = tables.lines().filter(|line| line.starts_with("view ")).collect();
    assert_eq!(headings, ["view bars", "view all"]);
    place.refuse("scan bars slow --data data -o out.csv", &["{view}"]);
    place.refuse("scan bars slow --data data --format csv", &["{view}"]);
    place.refuse("scan bars strange --data data", &["trades", "other"]);
}

/// Parquet of row groups that each hold `rows` of one symbol, a tick a millisecond, the first at
/// `starts`.
fn parquet(starts: &[i64], rows: i64) -> Vec<u8> {
    let mut file = Vec::new();
    let utc_ns = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let schema = Schema::new(vec![
        Field::new("ts", utc_ns, false),
        Field::new("symbol", DataType::Utf8, false),
        Field::new("price", DataType::Int64, false),
        Field::new("size", DataType::Int64, false),
    ]);
    let schema = Arc::new(schema);
    let mut writer = ArrowWriter::try_new(&mut file, schema.clone(), None).expect("a writer");
    for start in starts {
        let times = (0..rows).map(|row| start + row * 1_000_000);
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC")),
            Arc::new(StringArray::from_iter_values((0..rows).map(|_| "A"))),
            values.clone(),
            values,
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).expect("equal lengths");
        writer.write(&batch).expect("the batch is written");
        writer.flush().expect("the row group ends");
    }
    writer.close().expect("the file ends");
    file
}

#[test]
fn statistics_that_are_wrong_are_no_wrong_result() {
    let place = Place::new(&format!("{DEFINITIONS}{VOLUMES}"));
    // The first two row groups share a window, the third lies between them.
    let starts = [0, 3_700_000_000, 2_500_000_000].map(|start| START_NS + start);
    let mut file = parquet(&starts, 3_000);
    place.write("right.parquet", &file);
    let windows = place.ok("scan bars --file right.parquet --format csv").out;
    let counts = windows.lines().skip(1).map(|line| line.rsplit(',').next().expect("a field"));
    let counts: Vec<u64> = counts.map(|count| count.parse().expect("a count")).collect();
    assert_eq!(counts, [1000, 1000, 1500, 1300, 2000, 1500, 700]);

    // The footer says that the third row group begins later than it does.
    misstate(&mut file, starts[2], starts[2] + 2_000_000_000);
    place.write("wrong.parquet", &file);
    let words = ["wrong.parquet", "statistics", "row group"];
    place.refuse("scan bars --file wrong.parquet", &words);

    // The footer hides times beyond any horizon: no row is rejected under a number it does not have.
    let far = START_NS + 100 * 365 * 86_400 * 1_000_000_000;
    let mut file = parquet(&[START_NS, far], 3_000);
    place.write("far.parquet", &file);
    let scanned = place.run("scan all --file far.parquet --format csv");
    assert!(scanned.err.contains("row 3000, column ts: 2123"), "{scanned}");
    let last = 2_999_000_000;
    misstate(&mut file, far, START_NS);
    misstate(&mut file, far + last, START_NS + last);
    place.write("hidden.parquet", &file);
    for view in ["volumes", "bars"] {
        let words = ["hidden.parquet", "statistics", "row group"];
        place.refuse(&format!("scan {view} --file hidden.parquet"), &words);
    }
}

/// Writes another number over a number of the footer.
fn misstate(file: &mut [u8], number: i64, other: i64) {
    let footer = u32::from_le_bytes(file[file.len() - 8..][..4].try_into().expect("4 bytes"));
    let footer = file.len() - 8 - footer as usize;
    let number = number.to_le_bytes();
    let found = file[footer..].windows(8).enumerate().filter(|(_, bytes)| *bytes == number);
    let found: Vec<usize> = found.map(|(at, _)| footer + at).collect();
    assert!(!found.is_empty(), "the footer has the number");
    for at in found {
        file[at..at + 8].copy_from_slice(&other.to_le_bytes());
    }
}
