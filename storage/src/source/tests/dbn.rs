//! DBN files: written here byte by byte from the format's description, and Databento's own.

use std::io::Write;

use ::dbn::decode::{DbnMetadata, DecodeRecordRef, DynDecoder};
use ::dbn::{Mbp1Msg, OhlcvMsg, Record, TradeMsg, VersionUpgradePolicy};
use flate2::write::GzEncoder;

use super::real::data;
use super::*;

const DAY_NS: u64 = 86_400_000_000_000;
/// 2024-01-02 UTC.
const DAY: u64 = 19_724 * DAY_NS;
const TRADES: u16 = 4;
const OHLCV_1M: u16 = 6;
const NO_SCHEMA: u16 = u16::MAX;

/// Which instrument has which symbol from one date (as 20240102) to before another.
type Mapping<'a> = (&'a str, u32, u32, &'a str);

fn metadata(version: u8, schema: u16, mappings: &[Mapping]) -> Vec<u8> {
    let name = |text: &str, len: usize| {
        let mut name = text.as_bytes().to_vec();
        name.resize(len, 0);
        name
    };
    let symbol_len = if version == 1 { 22 } else { 71 };
    let mut body = name("GLBX.MDP3", 16);
    body.extend(schema.to_le_bytes());
    for word in [DAY, u64::MAX, 0] {
        body.extend(word.to_le_bytes());
    }
    if version == 1 {
        body.extend(u64::MAX.to_le_bytes());
    }
    body.extend([1, 0, 0]); // raw symbols to instrument numbers, no times of sending
    if version > 1 {
        body.extend((symbol_len as u16).to_le_bytes());
    }
    body.resize(100, 0);
    for empty in [0_u32; 4] {
        body.extend(empty.to_le_bytes());
    }
    body.extend((mappings.len() as u32).to_le_bytes());
    for (symbol, from, to, instrument) in mappings {
        body.extend(name(symbol, symbol_len));
        body.extend(1_u32.to_le_bytes());
        body.extend(from.to_le_bytes());
        body.extend(to.to_le_bytes());
        body.extend(name(instrument, symbol_len));
    }
    let mut bytes = [b"DBN".as_slice(), &[version], &(body.len() as u32).to_le_bytes()].concat();
    bytes.extend(body);
    bytes
}

fn header(words: u8, kind: u8, instrument: u32, ts: u64) -> Vec<u8> {
    let publisher = 1_u16.to_le_bytes();
    [&[words, kind], &publisher[..], &instrument.to_le_bytes(), &ts.to_le_bytes()].concat()
}

fn trade(instrument: u32, ts: u64, price: i64, size: u32) -> Vec<u8> {
    let mut record = header(12, 0, instrument, ts);
    record.extend(price.to_le_bytes());
    record.extend(size.to_le_bytes());
    record.extend([b'T', b'B', 0x80, 0]);
    record.extend((ts.wrapping_add(7)).to_le_bytes());
    record.extend((-3_i32).to_le_bytes());
    record.extend(1234_u32.to_le_bytes());
    record
}

/// From some time on an instrument has this symbol, in the form of version 2 and later.
fn mapping(instrument: u32, symbol: &str) -> Vec<u8> {
    let mut record = header(44, 0x16, instrument, DAY);
    record.resize(16 + 1 + 71 + 1, 0);
    record.extend(symbol.as_bytes());
    record.resize(16 + 2 * 72, 0);
    record.extend(u64::MAX.to_le_bytes());
    record.extend(u64::MAX.to_le_bytes());
    record
}

fn trades() -> StreamSchema {
    let mut schema = stream(vec![column("price", 2), optional("size", 0), column("side", 0)]);
    schema.time = "ts_event".into();
    schema
}

const MAPPINGS: [Mapping; 2] =
    [("ESH4", 20240102, 20240103, "77"), ("ESM4", 20240103, 20240105, "77")];

fn sample(version: u8) -> Vec<u8> {
    [
        metadata(version, TRADES, &MAPPINGS),
        trade(77, DAY + 5, 101_250_000_000, 3),
        trade(77, DAY + DAY_NS, -1_000_000_000, u32::MAX),
        trade(78, DAY, 1, 1),
        trade(77, DAY, i64::MAX, 1),
        trade(77, DAY, 1_001_000_000, 1),
        trade(77, u64::MAX, 1_000_000_000, 1),
        trade(77, 1 << 63, 1_000_000_000, 1),
        trade(77, DAY + 2 * DAY_NS - 8, 2_000_000_000, 9),
    ]
    .concat()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::stream::encode_all(bytes, 3).unwrap()
}

#[test]
fn rows_are_records_and_refused_ones_say_why() {
    let expected = vec![
        (0, (DAY + 5) as i64, "ESH4".into(), vec![Some(10_125), Some(3), Some(66)]),
        (1, (DAY + DAY_NS) as i64, "ESM4".into(), vec![Some(-100), None, Some(66)]),
        (7, (DAY + 2 * DAY_NS - 8) as i64, "ESM4".into(), vec![Some(200), Some(9), Some(66)]),
    ];
    for version in 1..=3 {
        let plain = sample(version);
        let mut gzip = GzEncoder::new(Vec::new(), Default::default());
        gzip.write_all(&plain).unwrap();
        let frames = [zstd(&plain[..500]), zstd(&plain[500..])].concat();
        let forms = [
            ("a.dbn", plain.clone()),
            ("noname", plain.clone()),
            ("a.dbn.zst", zstd(&plain)),
            ("frames", frames),
            ("a.dbn.gz", gzip.finish().unwrap()),
        ];
        for (name, bytes) in forms {
            for batch_rows in [1, 3, 1000] {
                let options = SourceOptions { batch_rows, ..Default::default() };
                let flat = Sample::bytes(name, &bytes).read_with(&trades(), &options);
                assert_eq!(flat.ticks, expected, "{name} of version {version}");
                use RejectReason::{Inexact, NullKey, NullTime, NullValue, TimeOutOfRange};
                let reasons = [NullKey, NullValue, Inexact, NullTime, TimeOutOfRange];
                let rejected: Vec<_> = (2..).zip(reasons).collect();
                assert_eq!(flat.rejected, rejected, "{name} of version {version}");
                assert!(flat.messages[0].contains("no symbol to instrument 78"));
                assert!(flat.messages[2].contains("1.001000000 is not exactly"), "{flat:?}");
            }
        }
    }
}

#[test]
fn every_field_is_offered_under_its_name() {
    let bytes = [metadata(3, TRADES, &MAPPINGS), trade(77, DAY, 5_000_000_000, 4)].concat();
    let sample = Sample::bytes("a.dbn", &bytes);
    let names = [
        ("depth", 0),
        ("flags", 128),
        ("instrument_id", 77),
        ("publisher_id", 1),
        ("rtype", 0),
        ("sequence", 1234),
        ("ts_in_delta", -3),
        ("ts_recv", DAY as i64 + 7),
        ("action", 84),
    ];
    let mut schema = stream(names.map(|(name, _)| column(name, 0)).to_vec());
    schema.time = "ts_recv_time".into();
    schema.keys = ["side", "instrument_id", "symbol"].map(Into::into).to_vec();
    let map = vec![
        ("ts_recv_time".into(), "ts_recv".into()),
        ("instrument_id".into(), "instrument_id".into()),
    ];
    let options = SourceOptions { map, ..Default::default() };
    let flat = sample.read_with(&schema, &options);
    let key = isotick_model::Key::from_components(["B", "77", "ESH4"]).to_string();
    let values = names.map(|(_, value)| Some(value)).to_vec();
    assert_eq!(flat.ticks, [(0, DAY as i64 + 7, key, values)]);

    // A number of the file counts whole ones, whatever scale the column has.
    let mut scaled = trades();
    scaled.columns = vec![column("size", 3), column("price", 9)];
    assert_eq!(sample.read(&scaled).ticks[0].3, [Some(4_000), Some(5_000_000_000)]);
    for (wrong, message) in [
        ("symbol", "\"symbol\" has type symbol, which cannot be read as the value column"),
        ("nothing", "the file has: ts_recv, ts_event, rtype, publisher_id, instrument_id, action"),
    ] {
        let mut schema = trades();
        schema.columns = vec![column(wrong, 0)];
        schema.keys = Vec::new();
        let error = sample.error(&schema);
        assert!(error.contains(message), "{error}");
    }
    let mut priced = trades();
    priced.keys = vec!["price".into()];
    assert!(sample.error(&priced).contains("cannot be read as the key column"));
}

#[test]
fn a_capture_without_schema_is_read_by_its_first_record() {
    let mut system = header(80, 0x17, 0, DAY);
    system.resize(320, 0);
    let mut status = header(10, 0x12, 77, DAY);
    status.resize(40, 0);
    let bytes = [
        metadata(3, NO_SCHEMA, &[]),
        system.clone(),
        mapping(77, "ESH4"),
        trade(77, DAY + 1, 1_000_000_000, 1),
        system,
        mapping(77, "ESM4"),
        status,
        trade(77, DAY + 2, 2_000_000_000, 1),
        trade(77, DAY + 3, 3_000_000_000, 1)[..40].to_vec(),
    ];
    let mut bytes = bytes.concat();
    // The last record states that it is short: it is whole, but no trade.
    let at = bytes.len() - 40;
    bytes[at] = 10;
    let flat = Sample::bytes("live.dbn", &bytes).read(&trades());
    let keys: Vec<_> = flat.ticks.iter().map(|row| (row.0, row.2.as_str())).collect();
    assert_eq!(keys, [(0, "ESH4"), (2, "ESM4")]);
    let malformed = |row| (row, RejectReason::Malformed);
    assert_eq!(flat.rejected, [malformed(1), malformed(3)]);
    assert!(flat.messages[0].contains("type 0x12 stands among those of trades"), "{flat:?}");
}

#[test]
fn what_cannot_be_read_is_named_with_its_place() {
    let whole = sample(3);
    let start = metadata(3, TRADES, &MAPPINGS).len();
    let error = |name: &str, bytes: &[u8]| Sample::bytes(name, bytes).error(&trades());
    for cut in start + 1..start + 48 {
        let message = error("cut.dbn", &whole[..cut]);
        let there =
            format!("at byte {start} of the file: it ends within a record: {} of 48", cut - start);
        assert!(message.contains("cut.dbn") && message.contains(&there), "{message}");
    }
    for cut in [4, 8, 100, start - 1] {
        let message = error("cut.dbn", &whole[..cut]);
        let there = format!("at byte {cut} of the file: it ends within its metadata");
        assert!(message.contains(&there), "{message}");
    }
    let mut broken = whole.clone();
    broken[start + 48] = 3;
    let message = error("a.dbn", &broken);
    assert!(message.contains(&format!("at byte {}", start + 48)), "{message}");
    assert!(error("a.dbn.zst", &zstd(&broken)).contains("of its decompressed content"));
    let packed = zstd(&whole);
    let message = error("a.dbn.zst", &packed[..packed.len() - 5]);
    assert!(message.contains("cut off or damaged near byte"), "{message}");
    let mut newer = whole.clone();
    newer[3] = 4;
    assert!(error("a.dbn", &newer).contains("version 4, and versions 1 to 3 can be read"));
    assert!(error("a.dbn", &whole[start..]).contains("a fragment without metadata"));
    assert!(error("a.dbn", &metadata(3, 9, &[])).contains("no ticks"), "definitions");
    // Lengths that nothing stands behind.
    let mut long = whole[..200].to_vec();
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(error("a.dbn", &long).contains("at byte 200 of the file: it ends within"));
    for at in 0..start {
        let mut broken = whole.clone();
        broken[at] ^= 0x5A;
        if let Some(message) =
            error_of(&Sample::bytes("a.dbn", &broken).path, &trades(), &Default::default())
        {
            assert!(message.contains("a.dbn"), "{message}");
        }
    }
}

#[test]
fn bars_are_described() {
    let mut bar = header(14, 0x21, 77, DAY);
    for price in [4_i64, 6, 3, 5] {
        bar.extend((price * 1_000_000_000).to_le_bytes());
    }
    bar.extend(90_u64.to_le_bytes());
    let sample = Sample::bytes("bars.dbn", &[metadata(2, OHLCV_1M, &MAPPINGS), bar].concat());
    let described = Source::describe(&sample.path).unwrap();
    assert_eq!(described.format, Format::Dbn);
    let names: Vec<_> = described.fields.iter().map(|field| field.name.as_str()).collect();
    let expected = ["ts_event", "rtype", "publisher_id", "instrument_id", "open", "high", "low"];
    assert_eq!(names[..7], expected);
    assert_eq!(names[7..], ["close", "volume", "symbol"]);
    let suggested = Source::suggest(&sample.path, "bars").unwrap();
    assert_eq!(suggested.schema.time, "ts_event");
    assert_eq!(suggested.schema.keys, ["symbol"]);
    let open = suggested.schema.column("open").unwrap();
    assert_eq!(suggested.schema.columns[open].scale, scale(9));
    let flat = sample.read(&suggested.schema);
    let prices = [4, 6, 3, 5].map(|price| Some(price * 1_000_000_000));
    assert_eq!(flat.ticks[0].3[3..7], prices);
    assert_eq!(flat.ticks[0].3[7], Some(90));
}

#[test]
fn rows_can_be_skipped() {
    let bytes: Vec<u8> =
        (0..100).flat_map(|row| trade(77, DAY + row, row as i64 * 1_000_000_000, 1)).collect();
    let bytes = [metadata(3, TRADES, &MAPPINGS), bytes].concat();
    let sample = Sample::bytes("a.dbn", &bytes);
    let whole = sample.read(&trades());
    let mut source = Source::open(&sample.path, &Default::default(), &trades()).unwrap();
    source.skip_to(60).unwrap();
    assert_eq!(Flat::of(source).ticks, whole.ticks[60..]);
    let source = Source::open(&sample.path, &Default::default(), &trades()).unwrap();
    assert_eq!(Flat::of(source.part(20..30).unwrap()).ticks, whole.ticks[20..30]);
}

/// Every file that Databento tests its own reader with is read as that reader reads it, or
/// refused with a reason.
#[test]
fn databentos_own_files() {
    let Some(folder) = data() else { return };
    let folder = folder.join("vectors/databento-dbn/tests/data");
    let (mut read, mut refused) = (0, 0);
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match Source::describe(&path) {
            Ok(_) => {
                as_databento_reads_it(&path, &name);
                read += 1;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(&name), "{text}");
                let why = match () {
                    () if name.contains(".frag") => "a fragment without metadata",
                    () if name.ends_with(".dbz") => "DBZ, which came before DBN",
                    () => "which are no ticks",
                };
                assert!(text.contains(why), "{text}");
                refused += 1;
            }
        }
    }
    assert_eq!((read, refused), (49, 32));
}

fn as_databento_reads_it(path: &Path, name: &str) {
    let mut decoder = DynDecoder::from_file(path, VersionUpgradePolicy::AsIs).unwrap();
    let symbols = decoder.metadata().symbol_map().unwrap();
    let bars = name.contains("ohlcv");
    let columns = if bars { ["open", "close", "volume"] } else { ["price", "size", "flags"] };
    let mut schema = trades();
    schema.columns = columns.map(|name| optional(name, 9)).to_vec();
    if name.contains("mbp-1.") || name.contains("tbbo") {
        schema.columns.extend([optional("bid_px_00", 9), optional("ask_sz_00", 0)]);
    }
    let unmapped = symbols.is_empty();
    if unmapped {
        schema.keys = vec!["instrument_id".into()];
    }
    let flat = Flat::of(Source::open(path, &Default::default(), &schema).unwrap());
    assert_eq!(flat.rejected, [], "{name}: {:?}", flat.messages);
    let mut rows = flat.ticks.iter();
    let price = |price: i64| (price != i64::MAX).then_some(price);
    let number = |number: u64| Some(number as i64 * 1_000_000_000);
    while let Some(record) = decoder.decode_record_ref().unwrap() {
        let row = rows.next().unwrap_or_else(|| panic!("{name} has more records"));
        let instrument = record.header().instrument_id;
        assert_eq!(row.1, record.header().ts_event as i64, "{name}");
        let symbol = symbols.get_for_ts(record.raw_index_ts(), instrument);
        let key = if unmapped { instrument.to_string() } else { symbol.unwrap().clone() };
        assert_eq!(row.2, key, "{name}");
        if let Some(bar) = record.get::<OhlcvMsg>() {
            assert_eq!(row.3, [price(bar.open), price(bar.close), number(bar.volume)], "{name}");
        }
        if let Some(trade) = record.get::<TradeMsg>() {
            let (size, flags) = (trade.size.into(), trade.flags.raw().into());
            assert_eq!(row.3, [price(trade.price), number(size), number(flags)], "{name}");
        }
        if let Some(book) = record.get::<Mbp1Msg>() {
            let level = &book.levels[0];
            let sizes = number(book.size.into());
            assert_eq!(row.3[..2], [price(book.price), sizes], "{name}");
            let ask_sz = Some(i64::from(level.ask_sz));
            assert_eq!(row.3[3..], [price(level.bid_px), ask_sz], "{name}");
        }
    }
    assert_eq!(rows.next(), None, "{name}");
}
