//! Row groups decoded straight from their pages, against the general reader.

use arrow_array::{
    Decimal32Array, Decimal128Array, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::data_type::{
    ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int64Type,
};
use parquet::file::properties::WriterVersion;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

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
    let kind = random.below(9);
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
        6 => {
            let words =
                values(rows, nulls, random, |word| i128::from(small(word).cast_signed() - 3));
            let scale = [0, 2][random.below(2) as usize];
            Arc::new(Decimal128Array::from(words).with_precision_and_scale(18, scale).unwrap())
        }
        7 => {
            let words = values(rows, nulls, random, |word| (word >> 36) as i32 - 9);
            let scale = [0, 2][random.below(2) as usize];
            Arc::new(Decimal32Array::from(words).with_precision_and_scale(9, scale).unwrap())
        }
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

/// A file whose decimals have so many bytes each, the most significant first; every third of the
/// optional ones is null.
fn of_bytes(bytes: usize, digits: u32, values: &[i64], dictionary: bool) -> Sample {
    let decimal = format!("fixed_len_byte_array({bytes}) {{}} (DECIMAL({digits},2));");
    let [price, size, note] = ["price", "size", "note"].map(|name| decimal.replace("{}", name));
    let message = format!(
        "message m {{ required int64 ts; required binary symbol (STRING);
         required {price} required {size} optional {note} }}"
    );
    let sample = Sample::bytes("ticks.parquet", b"");
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(dictionary)
        .set_column_dictionary_enabled("symbol".into(), true)
        .set_data_page_row_count_limit(70)
        .set_write_batch_size(70);
    let mut writer = SerializedFileWriter::new(
        File::create(&sample.path).unwrap(),
        Arc::new(parse_message_type(&message).unwrap()),
        Arc::new(properties.build()),
    )
    .unwrap();
    let word = |value: &i64| {
        let extended = i128::from(*value).to_be_bytes();
        FixedLenByteArray::from(extended[extended.len() - bytes..].to_vec())
    };
    let words: Vec<FixedLenByteArray> = values.iter().map(word).collect();
    let (texts, times) = (["A", "B"].map(ByteArray::from), (0..).take(values.len()));
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&times.collect::<Vec<_>>(), None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let keys: Vec<_> = texts.into_iter().cycle().take(values.len()).collect();
    column.typed::<ByteArrayType>().write_batch(&keys, None, None).unwrap();
    column.close().unwrap();
    for _ in 0..2 {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<FixedLenByteArrayType>().write_batch(&words, None, None).unwrap();
        column.close().unwrap();
    }
    let levels: Vec<i16> = (0..values.len()).map(|row| i16::from(row % 3 > 0)).collect();
    let valid = words.iter().zip(&levels).filter(|(_, level)| **level > 0);
    let valid: Vec<_> = valid.map(|(word, _)| word.clone()).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<FixedLenByteArrayType>().write_batch(&valid, Some(&levels), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    sample
}

#[test]
fn decimals_of_every_number_of_bytes_come_back() {
    let mut random = Random(23);
    for (bytes, digits) in
        [(1, 2), (2, 4), (3, 6), (4, 9), (5, 11), (6, 14), (7, 16), (8, 18), (9, 18)]
    {
        for dictionary in [true, false] {
            let end = 10_i64.pow(digits);
            let mut values: Vec<i64> = (0..997)
                .map(|row| (random.next() >> (row % 40 + 2)).cast_signed() % end * [1, -1][row % 2])
                .collect();
            values[..4].copy_from_slice(&[end - 1, 1 - end, 0, -1]);
            let sample = of_bytes(bytes, digits, &values, dictionary);
            for wanted in [None, Some("A")] {
                let needed = wanted.map(|key| Needed {
                    keys: KeySelection::new(1, &[isotick_model::Key::from_components([key])], None),
                    identity: true,
                    one_window: None,
                    latest_ns: i64::MAX,
                });
                let options = SourceOptions { needed, batch_rows: 300, ..Default::default() };
                let (found, was_straight) = read(&sample, &options, wanted, &(0..u64::MAX), true);
                let found = found.unwrap();
                assert_eq!(was_straight, bytes <= 8, "{bytes} bytes");
                let every = if wanted.is_some() { 2 } else { 1 };
                let expected: Vec<Vec<Option<i64>>> = (0..values.len())
                    .step_by(every)
                    .map(|row| {
                        let value = Some(values[row]);
                        vec![value, value, value.filter(|_| row % 3 > 0)]
                    })
                    .collect();
                let values: Vec<_> = found.ticks.iter().map(|row| row.3.clone()).collect();
                assert_eq!(values, expected, "{bytes} bytes, dictionary {dictionary}");
                assert_eq!(
                    found,
                    read(&sample, &options, wanted, &(0..u64::MAX), false).0.unwrap()
                );
            }
        }
    }
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
