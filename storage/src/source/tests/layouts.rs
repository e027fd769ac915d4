//! Files as other writers lay them out: rows of selected keys are those that reading all gives.

use std::collections::BTreeSet;

use arrow_array::{Int64Array, StringArray};
use arrow_schema::DataType;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnPath;

use super::*;

const ROWS: i64 = 150_000;

/// One row in 500 has the key `rare`; the others have so many keys in turn.
fn key(row: i64, usual: i64) -> String {
    match row % 500 {
        123 => "rare".to_owned(),
        _ => format!("usual {}", row % usual),
    }
}

fn write(usual: i64, key_type: &DataType, properties: WriterPropertiesBuilder) -> Sample {
    let keys = StringArray::from_iter_values((0..ROWS).map(|row| key(row, usual)));
    let price = |row: i64| (row * 7_919) % 100_003 - 50_000;
    let columns: [(&str, ArrayRef); 4] = [
        ("ts", Arc::new(Int64Array::from_iter_values((0..ROWS).map(|row| row * 1_000 - row % 3)))),
        ("symbol", arrow_cast::cast(&keys, key_type).unwrap()),
        ("price", Arc::new(Int64Array::from_iter_values((0..ROWS).map(price)))),
        ("size", Arc::new(Int64Array::from_iter_values((0..ROWS).map(|row| row % 5)))),
    ];
    let fields = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), *name == "size"));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let arrays = columns.iter().map(|(_, array)| Arc::clone(array)).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
    let sample = Sample::bytes("ticks.parquet", b"");
    let file = File::create(&sample.path).unwrap();
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties.build())).unwrap();
    for start in (0..ROWS as usize).step_by(10_000) {
        writer.write(&batch.slice(start, 10_000)).unwrap();
    }
    writer.close().unwrap();
    sample
}

/// The ticks of the rare key as they were written.
fn expected(columns: &BTreeSet<&str>) -> Vec<Row> {
    let value = |name: &str, value: i64| columns.contains(name).then_some(value);
    let row = |row: i64| {
        let values = vec![value("price", (row * 7_919) % 100_003 - 50_000), value("size", row % 5)];
        (row as u64, row * 1_000 - row % 3, "rare".to_owned(), values)
    };
    (0..ROWS).filter(|row| row % 500 == 123).map(row).collect()
}

/// Reads the rare key, its rows alone and all rows with it; `skips` tells whether rows of others
/// must have stayed unread.
fn check(what: &str, sample: &Sample, skips: bool) {
    let schema = stream(vec![column("price", 2), optional("size", 0)]);
    for columns in [&[0, 1][..], &[1], &[]] {
        let names: BTreeSet<&str> =
            columns.iter().map(|&column| schema.columns[column].name.as_str()).collect();
        let keys = [isotick_model::Key::from_components(["rare"])];
        for selected in [false, true] {
            let keys = match selected {
                true => KeySelection::new(1, &keys, None),
                false => KeySelection::default(),
            };
            let needed =
                Some(Needed { keys, identity: true, one_window: None, latest_ns: i64::MAX });
            let columns = Some(columns.to_vec());
            let batch_rows = if selected { 70 } else { 10_000 };
            let options = SourceOptions { needed, columns, batch_rows, ..Default::default() };
            let mut source = Source::open(&sample.path, &options, &schema).unwrap();
            let (mut flat, mut read) = (Flat::default(), 0);
            while let Some(batch) = source.next_batch().unwrap() {
                read += batch.rows;
                flat.add(&batch);
            }
            assert_eq!(flat.rejected, [], "{what}");
            flat.ticks.retain(|row| row.2 == "rare");
            assert!(flat.ticks == expected(&names), "{what}: selected {selected}, {names:?}");
            assert_eq!(read < ROWS as usize, selected && skips, "{what}: {read} rows were read");

            // Cut anywhere, also within row groups, the parts hold the same rows.
            let mut parts = Flat::default();
            for cut in [0, 17_001, 60_000, 60_001, 119_999, u64::MAX].windows(2) {
                let mut part = source.part(cut[0]..cut[1]).unwrap();
                while let Some(batch) = part.next_batch().unwrap() {
                    parts.add(&batch);
                }
            }
            parts.ticks.retain(|row| row.2 == "rare");
            assert!(parts == flat, "{what}: selected {selected}, {names:?}, in parts");
        }
    }
}

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_max_row_group_row_count(Some(60_000))
}

#[test]
fn rows_of_a_key_are_the_same_in_any_layout() {
    let text = DataType::Utf8;
    let encoded = |properties: WriterPropertiesBuilder, encoding| {
        let column = |name: &str| ColumnPath::from(name);
        properties
            .set_column_dictionary_enabled(column("ts"), false)
            .set_column_dictionary_enabled(column("price"), false)
            .set_column_encoding(column("ts"), encoding)
            .set_column_encoding(column("price"), encoding)
    };
    let plain_keys = properties().set_column_dictionary_enabled(ColumnPath::from("symbol"), false);
    let layouts = [
        ("pages of version 1", properties().set_writer_version(WriterVersion::PARQUET_1_0)),
        ("pages of version 2", properties().set_writer_version(WriterVersion::PARQUET_2_0)),
        ("snappy", properties().set_compression(Compression::SNAPPY)),
        ("gzip", properties().set_compression(Compression::GZIP(Default::default()))),
        ("LZ4", properties().set_compression(Compression::LZ4_RAW)),
        (
            "zstd, version 2",
            properties()
                .set_writer_version(WriterVersion::PARQUET_2_0)
                .set_compression(Compression::ZSTD(Default::default())),
        ),
        ("deltas", encoded(properties(), Encoding::DELTA_BINARY_PACKED)),
        ("split bytes", encoded(properties(), Encoding::BYTE_STREAM_SPLIT)),
        ("plain", properties().set_dictionary_enabled(false)),
        (
            "keys as deltas",
            plain_keys
                .clone()
                .set_column_encoding(ColumnPath::from("symbol"), Encoding::DELTA_BYTE_ARRAY),
        ),
        ("plain keys", plain_keys),
        ("tiny pages", properties().set_data_page_row_count_limit(7).set_write_batch_size(7)),
        ("no page statistics", properties().set_statistics_enabled(EnabledStatistics::Chunk)),
        ("small groups", properties().set_max_row_group_row_count(Some(77))),
        ("one group", properties().set_max_row_group_row_count(Some(1_000_000))),
    ];
    for (what, properties) in layouts {
        check(what, &write(50, &text, properties), true);
    }
    // Without statistics some row may be no tick.
    let none = properties().set_statistics_enabled(EnabledStatistics::None);
    check("no statistics", &write(50, &text, none), false);
}

#[test]
fn a_dictionary_that_ends_within_a_chunk_changes_nothing() {
    for limit in [100, 2_000, 100_000] {
        let properties = properties()
            .set_dictionary_page_size_limit(limit)
            .set_data_page_row_count_limit(500)
            .set_write_batch_size(500);
        let sample = write(20_000, &DataType::Utf8, properties);
        check(&format!("dictionaries of {limit} bytes"), &sample, true);
    }
}

#[test]
fn keys_of_any_text_type_are_selected() {
    let dictionary = |key: DataType| DataType::Dictionary(Box::new(key), Box::new(DataType::Utf8));
    for data_type in [
        DataType::LargeUtf8,
        DataType::Utf8View,
        dictionary(DataType::Int32),
        dictionary(DataType::Int8),
        dictionary(DataType::UInt16),
    ] {
        // Codes of other widths are not looked into: such a file is read whole.
        let narrow =
            [dictionary(DataType::Int8), dictionary(DataType::UInt16)].contains(&data_type);
        check(&data_type.to_string(), &write(50, &data_type, properties()), !narrow);
    }
}
