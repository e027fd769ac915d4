use proptest::prelude::*;

use super::*;

const COLUMNS: usize = 2;

fn publisher() -> PublisherId {
    PublisherId::new("p").unwrap()
}

/// Integers of every magnitude.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -3..3i64,
        1_000_000..1_000_100i64,
        prop::sample::select(vec![i64::MIN, i64::MAX])
    ]
}

type Row = (i64, u64, u32, [Option<i64>; COLUMNS]);

fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    let value = || prop_oneof![3 => number().prop_map(Some), 1 => Just(None)];
    let row = (number(), any::<u64>(), 0..5u32, [value(), value()]);
    prop::collection::vec(row, 0..most)
}

fn rejected(most: usize) -> impl Strategy<Value = Vec<Rejected>> {
    let row = (any::<u64>(), prop::sample::select(RejectReason::ALL.to_vec()))
        .prop_map(|(sequence, reason)| Rejected { sequence, reason });
    prop::collection::vec(row, 0..most)
}

fn ticks(rows: &[Row]) -> Ticks {
    let column = |column: usize| ValueColumn {
        values: rows.iter().map(|row| row.3[column].unwrap_or(0)).collect(),
        nulls: rows
            .iter()
            .any(|row| row.3[column].is_none())
            .then(|| rows.iter().map(|row| row.3[column].is_some()).collect()),
    };
    Ticks {
        ts_event: rows.iter().map(|row| row.0).collect(),
        sequence: rows.iter().map(|row| row.1).collect(),
        publishers: vec![publisher()],
        publisher: Vec::new().into(),
        keys: ["AAPL", "MSFT", "", "Ж", "\0"]
            .map(|key| Key::from_components([key]))
            .to_vec()
            .into(),
        key: rows.iter().map(|row| row.2).collect(),
        values: (0..COLUMNS).map(column).collect(),
        seen: None,
    }
}

fn same(a: &Ticks, b: &Ticks) {
    assert_eq!(a.ts_event, b.ts_event);
    assert_eq!(a.sequence, b.sequence);
    assert_eq!(a.values.len(), b.values.len());
    for row in 0..a.len() {
        assert_eq!(a.key_of(row), b.key_of(row));
        assert_eq!(a.publisher_of(row), b.publisher_of(row));
    }
    for (a, b) in a.values.iter().zip(&b.values) {
        assert_eq!(a.values, b.values);
        assert_eq!(a.nulls, b.nulls);
    }
}

fn encode(ticks: &Ticks, rows: Range<usize>, rejected: &[Rejected]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::default().encode(ticks, rows, rejected, &mut bytes).unwrap();
    bytes
}

proptest! {
    #[test]
    fn frames_come_back(rows in rows(600), rejected in rejected(300), cut in 0..600usize) {
        let ticks = ticks(&rows);
        let cut = cut.min(rows.len());
        let mut decoder = Decoder::default();
        for part in [0..cut, cut..rows.len()] {
            let bytes = encode(&ticks, part.clone(), &rejected);
            let frame = decoder.decode(&bytes, &publisher(), COLUMNS).unwrap();
            let picked: Vec<u32> = part.map(|row| row as u32).collect();
            let mut expected = ticks.take(&picked);
            for column in &mut expected.values {
                column.nulls = column.nulls.take().filter(|nulls| nulls.null_count() > 0);
            }
            same(&frame.ticks, &expected);
            prop_assert_eq!(&frame.rejected, &rejected);
        }
    }

    #[test]
    fn changed_and_cut_bytes_are_refused(
        rows in rows(50),
        rejected in rejected(10),
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let mut bytes = encode(&ticks(&rows), 0..rows.len(), &rejected);
        let at = at.index(bytes.len());
        let decode = |bytes: &[u8]| Decoder::default().decode(bytes, &publisher(), COLUMNS);
        prop_assert!(decode(&bytes[..at]).is_err());
        bytes[at] ^= 1 << bit;
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn valid_checksums_over_garbage_never_panic(
        rows in rows(300),
        rejected in rejected(20),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        head in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(&ticks(&rows), 0..rows.len(), &rejected);
        bytes.truncate(bytes.len() - 4);
        let reach = if head { 16 } else { bytes.len() };
        for (at, to) in changes {
            bytes[at.index(reach)] = to;
        }
        for cut in [bytes.len(), cut.index(bytes.len())] {
            let mut bytes = bytes[..cut].to_vec();
            let checksum = crc32fast::hash(&bytes);
            bytes.extend_from_slice(&checksum.to_le_bytes());
            let _ = Decoder::default().decode(&bytes, &publisher(), COLUMNS);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Decoder::default().decode(&bytes, &publisher(), COLUMNS);
        let mut bytes = bytes;
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        let _ = Decoder::default().decode(&bytes, &publisher(), COLUMNS);
    }
}

/// Market-like rows: 1,000 keys, rising times, prices that wander.
fn market(rows: usize) -> Ticks {
    let noise = |i: usize| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let column = |values: Vec<i64>| ValueColumn { values: values.into(), nulls: None };
    Ticks {
        ts_event: (0..rows as i64)
            .map(|i| 1_700_000_000_000_000_000 + i * 10_000 + i % 7 * 900)
            .collect(),
        sequence: (0..rows as u64).collect(),
        publishers: vec![publisher()],
        publisher: Vec::new().into(),
        keys: (0..1_000).map(|i| Key::from_components([format!("SYM{i}")])).collect(),
        key: (0..rows).map(|i| (noise(i) % 1_000) as u32).collect(),
        values: vec![
            column((0..rows).map(|i| 1_000_000 + (noise(i + 7) % 4_000) as i64).collect()),
            column((0..rows).map(|i| (noise(i + 9) % 100) as i64 * 100).collect()),
        ],
        seen: None,
    }
}

#[test]
fn market_ticks_take_about_seven_bytes() {
    let ticks = market(8_192);
    let bytes = encode(&ticks, 0..8_192, &[]);
    assert!(bytes.len() < 8_192 * 8, "{} bytes per tick", bytes.len() as f64 / 8_192.0);
}

#[test]
fn bounds_hold_on_both_sides() {
    let rejected = Rejected { sequence: 1, reason: RejectReason::Malformed };
    let empty = ticks(&[]);
    let mut bytes = Vec::new();
    let too_many = vec![rejected; ROWS_MAX + 1];
    let refused = Encoder::default().encode(&empty, 0..0, &too_many, &mut bytes);
    assert!(matches!(refused, Err(EncodeError::TooLarge { .. })));
    assert!(bytes.is_empty());
    let most = encode(&empty, 0..0, &too_many[1..]);
    let frame = Decoder::default().decode(&most, &publisher(), COLUMNS).unwrap();
    assert_eq!(frame.rejected.len(), ROWS_MAX);
    let other = Decoder::default().decode(&most, &publisher(), COLUMNS + 1);
    assert!(matches!(other, Err(DecodeError::Columns { expected: 3, found: 2 })));
}

#[test]
fn a_column_that_was_not_read_is_an_error() {
    let mut ticks = market(10);
    ticks.values[1] = ValueColumn::absent();
    let refused = Encoder::default().encode(&ticks, 0..10, &[], &mut Vec::new());
    assert!(matches!(refused, Err(EncodeError::ColumnLength { column: 1, .. })));
}

/// Prints nanoseconds per row; run with `--ignored --nocapture`.
#[test]
#[ignore = "measures; it checks nothing"]
fn speed() {
    let ticks = market(65_536);
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    let mut frames = Vec::new();
    let started = std::time::Instant::now();
    for _ in 0..20 {
        frames.clear();
        for start in (0..65_536).step_by(8_192) {
            let mut bytes = Vec::new();
            encoder.encode(&ticks, start..start + 8_192, &[], &mut bytes).unwrap();
            frames.push(bytes);
        }
    }
    let rows = 20.0 * 65_536.0;
    println!("encode {:.1} ns/row", started.elapsed().as_nanos() as f64 / rows);
    println!("{:.2} bytes/row", frames.iter().map(Vec::len).sum::<usize>() as f64 / 65_536.0);
    let started = std::time::Instant::now();
    for _ in 0..20 {
        for bytes in &frames {
            std::hint::black_box(decoder.decode(bytes, &publisher(), 2).unwrap());
        }
    }
    println!("decode {:.1} ns/row", started.elapsed().as_nanos() as f64 / rows);
}

/// The bytes of the documentation's examples, in order.
fn documented() -> Vec<Vec<u8>> {
    let page = include_str!("../../README.md");
    let (_, section) = page.split_once("### An example, byte by byte").unwrap();
    let blocks = section.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let bytes = |block: &str| {
        let hex = block.lines().filter_map(|line| line.split("  ").next());
        let digits = hex.flat_map(str::split_ascii_whitespace);
        digits.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    };
    blocks.take(2).map(bytes).collect()
}

#[test]
fn the_documented_example_is_what_goes_over_the_wire() {
    use crate::control::{Control, Hello, Role};
    use crate::message::{self, Assembler, Kind};

    let role = Role::Publish { stream: "trades".into(), publisher: publisher(), datagrams: false };
    let mut bytes = Vec::new();
    Control::Hello(Hello::new(role)).put(&mut bytes).unwrap();
    let start = 1_700_000_000_000_000_000;
    let rows: [Row; 3] = [
        (start, 0, 0, [Some(1_012_500), Some(200)]),
        (start + 1_000_000, 1, 1, [Some(1_012_600), None]),
        (start + 2_000_000, 2, 0, [Some(1_012_500), Some(50)]),
    ];
    let mut sent = ticks(&rows);
    sent.keys = ["A", "B"].map(|key| Key::from_components([key])).to_vec().into();
    let rejected = [Rejected { sequence: 3, reason: RejectReason::NullValue }];
    let hello = bytes.len();
    message::put(Kind::Ticks, &mut bytes, |out| {
        Encoder::default().encode(&sent, 0..3, &rejected, out)
    })
    .unwrap();
    let documented = documented();
    assert_eq!(documented, [&bytes[..hello], &bytes[hello..]]);

    let mut assembler = Assembler::default();
    assembler.feed(&documented[1]);
    let message = assembler.next().unwrap().unwrap();
    let frame = Decoder::default().decode(&message.payload, &publisher(), COLUMNS).unwrap();
    same(&frame.ticks, &sent);
    assert_eq!(frame.rejected, rejected);
}
