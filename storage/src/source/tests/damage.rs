//! Files that are not what they say: an error that names them, and never a panic.

use std::io::Write;

use arrow_array::{Int64Array, StringArray};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter};

use super::*;

fn prices() -> StreamSchema {
    stream(vec![column("price", 2)])
}

fn healthy() -> Vec<u8> {
    let rows = 0..2000_i64;
    let sample = Sample::parquet(vec![
        ("ts", Arc::new(rows.clone().collect::<Int64Array>())),
        (
            "symbol",
            Arc::new(
                rows.clone().map(|row| Some(format!("K{}", row % 7))).collect::<StringArray>(),
            ),
        ),
        ("price", Arc::new(rows.collect::<Int64Array>())),
    ]);
    std::fs::read(&sample.path).unwrap()
}

#[test]
fn cut_parquet_files() {
    let bytes = healthy();
    for len in [0, 3, 4, 100, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
        let sample = Sample::bytes("cut.parquet", &bytes[..len]);
        let message = sample.error(&prices());
        assert!(message.contains("cut.parquet is no readable Parquet file"), "{len}: {message}");
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let bytes = healthy();
    for at in (0..bytes.len()).step_by(11) {
        let mut broken = bytes.clone();
        broken[at] ^= 0xA5;
        // Data that decode are taken: Parquet pages carry no checksum by default.
        if let Some(message) =
            error_of(&Sample::bytes("x.parquet", &broken).path, &prices(), &Default::default())
        {
            assert!(message.contains("x.parquet"), "{message}");
        }
    }
}

#[test]
fn unreadable_texts() {
    assert!(Sample::csv("").error(&prices()).contains("has no header line"));
    assert!(Sample::csv("\n\n").error(&prices()).contains("has no header line"));
    assert!(Sample::csv(",,\n1,2,3\n").error(&prices()).contains("has no header line"));
    assert!(Sample::bytes("a.csv", b"ts,\xFF\n").error(&prices()).contains("not UTF-8"));
    assert!(Sample::bytes("a.csv", b"ts,\0\n").error(&prices()).contains("binary data"));
    let cut = Sample::bytes("a.zst", &[0x28, 0xB5, 0x2F, 0xFD, 0]).error(&prices());
    assert!(cut.contains("cut off or damaged near byte 5 of the file"), "{cut}");
    let twice =
        ::zstd::stream::encode_all(&::zstd::stream::encode_all(&b"ts"[..], 1).unwrap()[..], 1);
    assert!(Sample::bytes("a.zst", &twice.unwrap()).error(&prices()).contains("compressed twice"));
    let inner = ::zstd::stream::encode_all(&healthy()[..], 1).unwrap();
    let message = Sample::bytes("a.parquet.zst", &inner).error(&prices());
    assert!(message.contains("a compressed Parquet file"), "{message}");
    assert!(
        Sample::bytes("a.parquet", b"ts,symbol\n").error(&prices()).contains("no readable Parquet")
    );
    let missing =
        error_of(Path::new("/nonexistent/a.csv"), &prices(), &Default::default()).unwrap();
    assert!(missing.contains("cannot read /nonexistent/a.csv"), "{missing}");
    let folder = TempDir::new().unwrap();
    let message = error_of(folder.path(), &prices(), &Default::default()).unwrap();
    assert!(message.contains("cannot read"), "{message}");
}

#[test]
fn a_cut_stream_is_an_error_that_names_file_and_place() {
    let rows: String =
        (0..5000).map(|row| format!("{row},A,{}.{}\n", row * 7919 % 1000, row % 10)).collect();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(format!("ts,symbol,price\n{rows}").as_bytes()).unwrap();
    let bytes = encoder.finish().unwrap();
    let packed = ::zstd::stream::encode_all(format!("ts,symbol,price\n{rows}").as_bytes(), 1);
    let (packed, half) = (packed.unwrap(), bytes.len() / 2);
    for (name, cut) in [
        ("cut.csv.gz", &bytes[..half]),
        ("cut.csv.zst", &packed[..packed.len() / 2]),
        ("members.csv.gz", &[&bytes[..], &bytes[..half]].concat()),
        ("frames.csv.zst", &[&packed[..], &packed[..packed.len() - 1]].concat()),
    ] {
        let message = Sample::bytes(name, cut).error(&prices());
        let place = format!("near byte {} of the file", cut.len());
        assert!(message.contains("cannot read") && message.contains(name), "{message}");
        assert!(message.contains(&place), "{message}");
        assert!(message.contains(", after line ") || name == "cut.csv.zst", "{message}");
    }
    let mut broken = bytes.clone();
    let at = bytes.len() / 2;
    broken[at] ^= 0xFF;
    let message = Sample::bytes("bad.csv.gz", &broken).error(&prices());
    assert!(message.contains("bad.csv.gz"), "{message}");
}

/// Unlike the rest of the Parquet reader, the decoder of the Arrow schema that writers embed
/// panics on types it does not know.
#[test]
fn a_damaged_arrow_schema_is_an_error() {
    let bytes = healthy();
    let name = b"ARROW:schema";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    let mut panics = 0;
    for at in at..bytes.len() - 8 {
        let mut broken = bytes.clone();
        broken[at] = if broken[at] == b'8' { b'A' } else { b'8' };
        let sample = Sample::bytes("x.parquet", &broken);
        if let Some(message) = error_of(&sample.path, &prices(), &Default::default()) {
            assert!(message.contains("x.parquet"), "{message}");
            panics += usize::from(message.contains("is a damaged Parquet file"));
        }
    }
    assert!(panics > 0, "no byte made the decoder panic: the border may have become needless");
}

/// Row groups that state more rows than can be counted, fewer than none, or more than they hold.
#[test]
fn absurd_numbers_of_rows_are_an_error() {
    let bytes = healthy();
    let file = Sample::bytes("healthy.parquet", &bytes);
    let metadata = ParquetMetaDataReader::new()
        .parse_and_finish(&std::fs::File::open(&file.path).unwrap())
        .unwrap();
    let stating = |numbers: &[i64]| {
        let group = |&rows: &i64| {
            let group = metadata.row_group(0).clone().into_builder();
            group.set_num_rows(rows).build().unwrap()
        };
        let groups = numbers.iter().map(group).collect();
        let metadata = metadata.clone().into_builder().set_row_groups(groups).build();
        let mut bytes = bytes.clone();
        ParquetMetaDataWriter::new(&mut bytes, &metadata).finish().unwrap();
        // The writer adds them up: some are written as the least number, and become the greatest.
        let [least, greatest] = [0xFF, 0xFE].map(|first| {
            let mut bytes = [0xFF; 10];
            (bytes[0], bytes[9]) = (first, 1);
            bytes
        });
        while let Some(at) = bytes.windows(10).position(|window| *window == least) {
            bytes[at..at + 10].copy_from_slice(&greatest);
        }
        Sample::bytes("x.parquet", &bytes)
    };
    assert_eq!(error_of(&stating(&[2000]).path, &prices(), &Default::default()), None);
    let many = [i64::MAX, i64::MIN, i64::MAX];
    for numbers in [&many[..], &[-7], &[2000, -1], &[i64::MAX], &[2001], &[1999]] {
        let error = error_of(&stating(numbers).path, &prices(), &Default::default());
        match error {
            Some(message) => assert!(message.contains("x.parquet is a damaged"), "{message}"),
            // Rows behind the stated ones are not looked at.
            None => assert_eq!(numbers, [1999]),
        }
    }
}
