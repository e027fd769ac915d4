//! Row groups decoded straight from their pages, against the general reader.

use arrow_array::{
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt32Array,
    UInt64Array,
};
use parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterVersion;

use super::*;
use crate::fixtures::Random;

/// Values, of which some are null.
fn values<T>(
    rows: usize,
    nulls: bool,
    random: &mut Random,
    mut value: impl FnMut(u64) -> T,
) -> Vec<Option<T>> {
    let stretch = [1, 9, 300][random.below(3) as usize];
    let mut left = 0;
    let mut is_null = false;
    let mut next = |random: &mut Random| {
        if left == 0 {
            (left, is_null) = (1 + random.below(stretch), nulls && random.below(3) == 0);
        }
        left -= 1;
        (!is_null).then(|| value(random.next()))
    };
    (0..rows).map(|_| next(random)).collect()
}

fn keys(rows: usize, random: &mut Random) -> ArrayRef {
    let distinct = [1, 3, 40, 1_000][random.below(4) as usize];
    let run = [1, 1, 50][random.below(3) as usize];
    let mut key = String::new();
    let texts = (0..rows).map(|_| {
        if random.below(run) == 0 || key.is_empty() {
            key = format!("K{:03}", random.below(distinct) * random.below(2));
        }
        key.clone()
    });
    Arc::new(StringArray::from_iter_values(texts))
}

fn times(rows: usize, random: &mut Random) -> ArrayRef {
    let zone = (random.below(2) == 0).then(|| Arc::from("+02:00"));
    let mut at = 1_700_000_000_000_i64;
    let times: Vec<i64> = (0..rows)
        .map(|_| {
            at += random.below(1_000).cast_signed() - 10;
            at
        })
        .collect();
    match random.below(5) {
        0 => Arc::new(Int64Array::from(times)),
        1 => Arc::new(TimestampNanosecondArray::from(times).with_timezone_opt(zone)),
        2 => Arc::new(TimestampMicrosecondArray::from(times).with_timezone_opt(zone)),
        3 => Arc::new(TimestampMillisecondArray::from(times).with_timezone_opt(zone)),
        _ => Arc::new(UInt64Array::from_iter_values(times.iter().map(|time| time.cast_unsigned()))),
    }
}

/// Of any type that a column may have.
fn numbers(rows: usize, nulls: bool, random: &mut Random) -> ArrayRef {
    let bits = [2, 9, 31, 50][random.below(4) as usize];
    let kind = random.below(7);
    let small = |word: u64| word >> (64 - bits);
    match kind {
        0 | 1 => Arc::new(Int64Array::from(values(rows, nulls, random, |word| {
            small(word).cast_signed() - 3
        }))),
        2 => Arc::new(Int32Array::from(values(rows, nulls, random, |word| small(word) as i32))),
        3 => Arc::new(UInt32Array::from(values(rows, nulls, random, |word| small(word) as u32))),
        4 => Arc::new(Float64Array::from(values(rows, nulls, random, |word| {
            small(word) as i32 as f64 / 4.0
        }))),
        5 => Arc::new(Float32Array::from(values(rows, nulls, random, |word| {
            small(word) as i16 as f32 / 2.0
        }))),
        // Not decoded straight.
        _ => Arc::new(Int16Array::from(values(rows, nulls, random, |word| small(word) as i16))),
    }
}

fn sample(random: &mut Random) -> Sample {
    let rows = 1 + random.below(6_000) as usize;
    let columns: [(&str, ArrayRef); 5] = [
        ("ts", times(rows, random)),
        ("symbol", keys(rows, random)),
        ("price", numbers(rows, false, random)),
        ("size", numbers(rows, false, random)),
        ("note", numbers(rows, true, random)),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.map(|(name, array)| (name, array, name == "note" || random.below(4) == 0)),
    );
    let codec = match random.below(5) {
        0 => Compression::UNCOMPRESSED,
        1 => Compression::SNAPPY,
        2 => Compression::GZIP(GzipLevel::default()),
        3 => Compression::LZ4_RAW,
        _ => Compression::ZSTD(ZstdLevel::default()),
    };
    let page_rows = 1 + random.below(2_000) as usize;
    let mut properties = WriterProperties::builder()
        .set_compression(codec)
        .set_max_row_group_row_count(Some(1 + random.below(4_000) as usize))
        .set_data_page_row_count_limit(page_rows)
        .set_write_batch_size(page_rows)
        .set_dictionary_page_size_limit([100, 5_000, 1 << 20][random.below(3) as usize])
        .set_writer_version(match random.below(2) {
            0 => WriterVersion::PARQUET_1_0,
            _ => WriterVersion::PARQUET_2_0,
        });
    for name in ["ts", "price", "size", "note"] {
        if random.below(2) == 0 {
            properties = properties.set_column_dictionary_enabled(name.into(), false);
        }
        let data_type = batch.as_ref().unwrap().column_by_name(name).unwrap().data_type().clone();
        if random.below(3) == 0 && !data_type.is_floating() {
            properties = properties.set_column_encoding(name.into(), Encoding::DELTA_BINARY_PACKED);
        }
    }
    let (batch, sample) = (batch.unwrap(), Sample::bytes("ticks.parquet", b""));
    let file = File::create(&sample.path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    sample
}

/// The ticks of wanted keys, and what is refused, or the error; and whether no row group had to be
/// read with the general reader.
fn read(
    sample: &Sample,
    options: &SourceOptions,
    wanted: Option<&str>,
    rows: &Range<u64>,
    straight: bool,
) -> (Result<Flat, String>, bool) {
    let schema = stream(vec![column("price", 2), column("size", 2), optional("note", 2)]);
    let mut source = match Source::open(&sample.path, options, &schema) {
        Ok(source) => source.part(rows.clone()).unwrap(),
        Err(error) => return (Err(error.to_string()), false),
    };
    if let AnyFile::Parquet(file) = &mut source.file
        && !straight
    {
        file.read_generally();
    }
    let mut flat = Flat::default();
    let mut was_straight = true;
    loop {
        match source.next_batch() {
            Ok(Some(batch)) => flat.add(&batch),
            Ok(None) => break,
            Err(error) => return (Err(error.to_string()), false),
        }
        if let AnyFile::Parquet(file) = &source.file {
            was_straight &= file.is_read_straight();
        }
    }
    flat.ticks.retain(|row| wanted.is_none_or(|wanted| row.2 == wanted));
    (Ok(flat), was_straight)
}

fn options(random: &mut Random) -> (SourceOptions, Option<&'static str>) {
    let wanted = ["K000", "K001", "K017"][random.below(3) as usize];
    let wanted = (random.below(2) == 0).then_some(wanted);
    let needed = wanted.map(|key| {
        let keys = [isotick_model::Key::from_components([key])];
        let keys = KeySelection::new(1, &keys, None);
        Needed { keys, identity: true, one_window: None, latest_ns: i64::MAX }
    });
    let batch_rows = [1, 100, 700, 1 << 16][random.below(4) as usize];
    (SourceOptions { needed, batch_rows, ..Default::default() }, wanted)
}

fn part(sample: &Sample, random: &mut Random) -> Range<u64> {
    let bytes = std::fs::metadata(&sample.path).unwrap().len();
    match random.below(3) {
        0 => random.below(bytes / 20 + 1)..random.below(bytes / 10 + 1),
        _ => 0..u64::MAX,
    }
}

#[test]
fn both_readers_give_the_same_of_any_columns() {
    let mut random = Random(21);
    let mut straight = 0;
    for draw in 0..400 {
        let sample = sample(&mut random);
        let (options, wanted) = options(&mut random);
        let rows = part(&sample, &mut random);
        let (found, was_straight) = read(&sample, &options, wanted, &rows, true);
        let (expected, _) = read(&sample, &options, wanted, &rows, false);
        assert_eq!(found, expected, "draw {draw}: {wanted:?}, rows {rows:?}");
        straight += usize::from(was_straight);
    }
    assert!((150..350).contains(&straight), "{straight}");
}

#[test]
fn both_readers_give_the_same_of_damaged_files() {
    let mut random = Random(22);
    let mut errors = 0;
    for draw in 0..600 {
        let sample = sample(&mut random);
        let mut bytes = std::fs::read(&sample.path).unwrap();
        for _ in 0..=random.below(3) {
            // The footer is another matter.
            let at = random.below(bytes.len() as u64 * 3 / 4) as usize;
            bytes[at] = match random.below(3) {
                0 => random.next() as u8,
                _ => bytes[at] ^ 1 << random.below(8),
            };
        }
        std::fs::write(&sample.path, bytes).unwrap();
        let (options, wanted) = options(&mut random);
        let (found, _) = read(&sample, &options, wanted, &(0..u64::MAX), true);
        let (expected, _) = read(&sample, &options, wanted, &(0..u64::MAX), false);
        errors += usize::from(expected.is_err());
        // Where keys are wanted, pages without them are not looked at.
        let unseen = wanted.is_some() && expected.is_err();
        assert!(found == expected || unseen, "draw {draw}: {found:?} against {expected:?}");
    }
    assert!(errors > 100, "{errors}");
}
