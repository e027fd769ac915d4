use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use isotick_model::time::TimeUnit;

use super::*;

const PLAIN: &str = "ts,symbol,price\n1,A,1.5\n2,\"B,C\",2.25\n";

fn prices() -> StreamSchema {
    stream(vec![column("price", 2)])
}

fn plain_ticks() -> Vec<Row> {
    vec![(0, 1, "A".into(), vec![Some(150)]), (1, 2, "B,C".into(), vec![Some(225)])]
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    ::zstd::stream::encode_all(text, 1).unwrap()
}

#[test]
fn forms_of_one_file() {
    let members = [gzip(&PLAIN.as_bytes()[..20]), gzip(&PLAIN.as_bytes()[20..])].concat();
    let frames = [zstd(&PLAIN.as_bytes()[..20]), zstd(b""), zstd(&PLAIN.as_bytes()[20..])].concat();
    let forms: [(&str, Vec<u8>); 12] = [
        ("a.csv", PLAIN.into()),
        ("a.csv", PLAIN.replace('\n', "\r\n").into()),
        ("a.csv", format!("\u{FEFF}{PLAIN}").into()),
        ("a.csv", PLAIN.trim_end().into()),
        ("a.csv", PLAIN.replace(",1.5", ", 1.5 ").replace("symbol,", " symbol ,").into()),
        ("a.csv.gz", gzip(PLAIN.as_bytes())),
        ("noname", members),
        ("a.csv.zst", zstd(PLAIN.as_bytes())),
        ("noname", frames),
        (
            "a.tsv.zst",
            zstd(PLAIN.replace("B,C", "B;C").replace(',', "\t").replace(';', ",").as_bytes()),
        ),
        ("a.tsv", "ts\tsymbol\tprice\n1\tA\t1.5\n2\tB,C\t2.25\n".into()),
        ("a.csv", "note,price,symbol,ts\n\u{e9},1.5,A,1\n,2.25,\"B,C\",2\n".into()),
    ];
    for (name, bytes) in forms {
        let flat = Sample::bytes(name, &bytes).read(&prices());
        assert_eq!(flat.ticks, plain_ticks(), "{name}");
        assert_eq!(flat.rejected, []);
    }
}

#[test]
fn a_field_that_does_not_matter_may_hold_any_bytes() {
    let sample = Sample::bytes(
        "a.csv",
        b"ts,symbol,price,note\n1,A,1.5,\xFF\n2,\xFF,1,x\n3,A,\xFF,x\n\xFF,A,1,x\n4,A,2,x\n",
    );
    let flat = sample.read(&prices());
    assert_eq!(flat.ticks.iter().map(|row| row.0).collect::<Vec<_>>(), [0, 4]);
    let malformed = |row| (row, RejectReason::Malformed);
    assert_eq!(flat.rejected, [malformed(1), malformed(2), malformed(3)]);
}

#[test]
fn times_as_they_are_written() {
    let day_ns = 86_400_000_000_000;
    let cases = [
        (TimeUnit::Nanoseconds, "1723161254087891268", 1_723_161_254_087_891_268),
        (TimeUnit::Microseconds, "-7", -7_000),
        (TimeUnit::Milliseconds, "1723161254087", 1_723_161_254_087_000_000),
        (TimeUnit::Seconds, "1723161254.087891268", 1_723_161_254_087_891_268),
        (TimeUnit::Seconds, "1970-01-02T00:00:00Z", day_ns),
        (TimeUnit::Nanoseconds, "1970-01-02T01:00:00.000000001+01:00", day_ns + 1),
        (TimeUnit::Nanoseconds, "1970-01-02 00:00:00", day_ns),
        (TimeUnit::Nanoseconds, "1970-01-02", day_ns),
    ];
    for (unit, text, expected) in cases {
        let options = SourceOptions { time_unit: Some(unit), ..Default::default() };
        let flat =
            Sample::csv(&format!("ts,symbol\n{text},A\n")).read_with(&stream(vec![]), &options);
        assert_eq!(flat.ticks[0].1, expected, "{text}");
    }
    let flat = Sample::csv("ts,symbol\n1.5,A\n1700-13-01,A\n1600-01-01,A\n").read(&stream(vec![]));
    use RejectReason::*;
    assert_eq!(flat.rejected, [(0, Inexact), (1, Malformed), (2, TimeOutOfRange)]);
}

#[test]
fn rounded_text_is_the_nearest_decimal_ties_to_even() {
    let mut schema = stream(vec![column("value", 3)]);
    let text = "ts,symbol,value\n1,A,0.30000001192092896\n2,A,10.357019999999999\n3,A,-0.0005\n\
                4,A,0.0015\n5,A,-12345678901234.56750000001\n6,A,1e-400\n7,A,1e400\n";
    assert_eq!(Sample::csv(text).read(&schema).rejected.len(), 7);
    schema.inexact = Inexact::Round;
    let flat = Sample::csv(text).read(&schema);
    let values: Vec<_> = flat.ticks.iter().map(|row| row.3[0].unwrap()).collect();
    assert_eq!(values, [300, 10_357, 0, 2, -12_345_678_901_234_568, 0]);
    assert_eq!(flat.rejected, [(6, RejectReason::OutOfBounds)]);
}

#[test]
fn keys_of_several_columns_or_none() {
    let text = "ts,venue,symbol\n1,X,A\n2,,A\n3,X,A\n4,Y,A\n";
    let mut schema = stream(vec![]);
    schema.keys = vec!["symbol".into(), "venue".into()];
    let flat = Sample::csv(text).read(&schema);
    assert_eq!(
        flat.ticks.iter().map(|row| row.2.as_str()).collect::<Vec<_>>(),
        ["A,X", "A,X", "A,Y"]
    );
    assert_eq!(flat.rejected, [(1, RejectReason::NullKey)]);
    schema.keys = Vec::new();
    let flat = Sample::csv(text).read(&schema);
    assert_eq!(flat.ticks.len(), 4);
    assert!(flat.ticks.iter().all(|row| row.2.is_empty()));
}

#[test]
fn maps_and_missing_fields() {
    let sample = Sample::csv("t,sym,px\n1,A,1.5\n");
    let map = |pairs: &[(&str, &str)]| SourceOptions {
        map: pairs.iter().map(|(column, field)| (column.to_string(), field.to_string())).collect(),
        ..Default::default()
    };
    let all = map(&[("ts", "t"), ("symbol", "sym"), ("price", "px")]);
    let mut schema = stream(vec![column("price", 2), optional("size", 0)]);
    assert_eq!(sample.read_with(&schema, &all).ticks, [(0, 1, "A".into(), vec![Some(150), None])]);
    let missing = sample.error_with(&schema, &map(&[("ts", "t"), ("symbol", "sym")]));
    assert!(missing.contains("no field \"price\" for column \"price\""), "{missing}");
    assert!(missing.contains("the file has: t, sym, px"), "{missing}");
    assert!(missing.contains("--map price=FIELD"), "{missing}");
    let named = sample.error_with(
        &schema,
        &map(&[("ts", "t"), ("symbol", "sym"), ("price", "px"), ("size", "qty")]),
    );
    assert!(named.contains("no field \"qty\" for column \"size\""), "{named}");
    let unknown = sample.error_with(&schema, &map(&[("t", "ts")]));
    assert!(unknown.contains("declares no column \"t\""), "{unknown}");
    assert!(unknown.contains("ts, symbol, price, size"), "{unknown}");
    let twice = sample.error_with(&schema, &map(&[("ts", "t"), ("ts", "px")]));
    assert!(twice.contains("more than once"), "{twice}");
    schema.columns.clear();
    let repeated = Sample::csv("ts,symbol,symbol\n1,A,B\n").error(&schema);
    assert!(repeated.contains("\"symbol\" stands in the file more than once"), "{repeated}");
}

#[test]
fn skipping_resumes_at_a_row() {
    let rows: String = (0..100).map(|row| format!("{row},A,{row}\n")).collect();
    let sample = Sample::csv(&format!("ts,symbol,price\n{rows}"));
    let options = SourceOptions { batch_rows: 7, ..Default::default() };
    let whole = sample.read_with(&prices(), &options);
    for row in [0, 1, 50, 99, 100, 1000] {
        let mut source = Source::open(&sample.path, &options, &prices()).unwrap();
        source.skip_to(row).unwrap();
        let rest = Flat::of(source);
        assert_eq!(rest.ticks, whole.ticks[(row as usize).min(100)..]);
    }
    let source = Source::open(&sample.path, &options, &prices()).unwrap();
    assert_eq!(Flat::of(source.part(10..20).unwrap()).ticks, whole.ticks[10..20]);
    assert_eq!(source.parts(4).len(), 1);
    assert_eq!(source.rows_total(), None);
    assert_eq!(source.progress().unit, ProgressUnit::Bytes);
}
