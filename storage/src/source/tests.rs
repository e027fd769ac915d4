mod damage;
mod dbn;
mod describe;
mod exact;
mod expected;
mod layouts;
mod parquet_types;
mod real;
mod rejects;
mod selected;
mod straight;
mod text;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema};
use isotick_model::{Column, Inexact, RejectReason, Scale, StreamSchema};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

use super::*;

fn scale(digits: u8) -> Scale {
    Scale::new(digits).unwrap()
}

fn column(name: &str, digits: u8) -> Column {
    Column {
        name: name.into(),
        scale: scale(digits),
        min: i64::MIN,
        max: i64::MAX,
        optional: false,
    }
}

fn optional(name: &str, digits: u8) -> Column {
    Column { optional: true, ..column(name, digits) }
}

/// A stream with time `ts` and key `symbol`.
fn stream(columns: Vec<Column>) -> StreamSchema {
    StreamSchema {
        name: "trades".into(),
        time: "ts".into(),
        keys: vec!["symbol".into()],
        columns,
        inexact: Inexact::Reject,
        keys_allowed: None,
        horizon_ns: None,
        retention: Default::default(),
        codec: Default::default(),
    }
}

/// A folder that lives as long as the test, with one file in it.
struct Sample {
    _dir: TempDir,
    path: PathBuf,
}

impl Sample {
    fn bytes(name: &str, content: &[u8]) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        Self { _dir: dir, path }
    }

    fn csv(text: &str) -> Self {
        Self::bytes("ticks.csv", text.as_bytes())
    }

    fn parquet(fields: Vec<(&str, ArrayRef)>) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, array)| (Field::new(name, array.data_type().clone(), true), array));
        Self::parquet_with(Default::default(), fields.collect(), usize::MAX)
    }

    fn parquet_with(
        metadata: std::collections::HashMap<String, String>,
        fields: Vec<(Field, ArrayRef)>,
        group_rows: usize,
    ) -> Self {
        let sample = Self::bytes("ticks.parquet", b"");
        let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = fields.into_iter().unzip();
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
        let properties =
            WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
        let file = File::create(&sample.path).unwrap();
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        sample
    }

    fn read(&self, schema: &StreamSchema) -> Flat {
        self.read_with(schema, &SourceOptions::default())
    }

    fn read_with(&self, schema: &StreamSchema, options: &SourceOptions) -> Flat {
        Flat::of(Source::open(&self.path, options, schema).unwrap())
    }

    fn error(&self, schema: &StreamSchema) -> String {
        self.error_with(schema, &SourceOptions::default())
    }

    /// The message of the error that opening or reading the file ends in.
    fn error_with(&self, schema: &StreamSchema, options: &SourceOptions) -> String {
        error_of(&self.path, schema, options).expect("the file is read without an error")
    }
}

fn error_of(path: &Path, schema: &StreamSchema, options: &SourceOptions) -> Option<String> {
    let mut source = match Source::open(path, options, schema) {
        Ok(source) => source,
        Err(error) => return Some(error.to_string()),
    };
    loop {
        match source.next_batch() {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(error) => return Some(error.to_string()),
        }
    }
}

/// One tick: sequence, time, key, values.
type Row = (u64, i64, String, Vec<Option<i64>>);

/// All of a file, row by row, whatever the batches were.
#[derive(Debug, Default, PartialEq)]
struct Flat {
    ticks: Vec<Row>,
    rejected: Vec<(u64, RejectReason)>,
    messages: Vec<String>,
}

impl Flat {
    fn of(mut source: Source) -> Self {
        let mut flat = Self::default();
        let mut next = None;
        while let Some(batch) = source.next_batch().unwrap() {
            assert!(next.is_none_or(|next| next == batch.first_row), "batches leave no gap");
            next = Some(batch.first_row + batch.rows as u64);
            flat.add(&batch);
        }
        flat
    }

    fn add(&mut self, batch: &SourceBatch) {
        let ticks = &batch.ticks;
        assert_eq!(ticks.len() + batch.rejected.len(), batch.rows);
        assert_eq!(batch.details.len(), batch.rejected.len());
        assert_eq!(ticks.publishers.len(), 1);
        for row in 0..ticks.len() {
            let values = ticks.values.iter().map(|column| match column.values.len() {
                0 => None,
                _ => column.get(row),
            });
            self.ticks.push((
                ticks.sequence[row],
                ticks.ts_event[row],
                ticks.key_of(row).to_string(),
                values.collect(),
            ));
            for column in &ticks.values {
                let null = column.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
                assert!(!null || column.values[row] == 0, "a null row's value is 0");
            }
        }
        let mut keys = ticks.keys.to_vec();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), ticks.keys.len(), "each key once");
        for (rejected, detail) in batch.rejected.iter().zip(&batch.details) {
            assert_eq!((rejected.sequence, rejected.reason), (detail.row, detail.reason));
            self.rejected.push((rejected.sequence, rejected.reason));
            self.messages.push(detail.to_string());
        }
    }
}
