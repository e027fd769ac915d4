//! Results as Parquet: the record of live windows, and files for users.

mod columns;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Float64Type, Int64Type, TimestampNanosecondType, UInt32Type,
};
use arrow_array::{
    Array, ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use isotick_model::results::{ResultSchema, Value, WindowRow};
use isotick_model::view::{DefinitionHash, OutputType};
use isotick_model::{Key, Scale};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::Encoding;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use self::columns::{Columns, sorted};
use crate::error::{Error, Result};
use crate::files;
use crate::folder::DataFolder;
use crate::manifest::{RecordFiles, StoredFile};
use crate::objects::StagedObject;
use crate::parquet_file::{self, Stored, entry};

/// A published version of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedWindow {
    /// The window; its version is at least 1.
    pub row: WindowRow,
    /// Why this version was published, e.g. `closed` or `late`.
    pub reason: Cow<'static, str>,
}

/// Rows of a row group of the record, and rows read at a time.
const CHUNK_ROWS: usize = 1 << 16;
/// Files that are opened together: in a store, each takes a request.
const OPENED_AT_ONCE: usize = 32;
/// Digits of a 64-bit and of a 128-bit decimal.
const NARROW_DIGITS: u8 = 19;
const WIDE_DIGITS: u8 = 38;

/// Writes windows under a temporary name, sorted by (key, window start, version).
pub(crate) fn stage(
    folder: &DataFolder,
    view: &str,
    definition: &DefinitionHash,
    schema: &ResultSchema,
    windows: &[RecordedWindow],
    id: &str,
) -> Result<(StagedObject, StoredFile)> {
    folder.assert_writer();
    let view_folder = format!("view={}/{}", files::path_component(view), definition.0);
    let arrow = Arc::new(arrow_schema(schema, true));
    let sorted = sorted(windows);
    let groups = sorted.chunks(CHUNK_ROWS).map(|chunk| Ok(Columns::of(schema, chunk)));
    let mut metadata = metadata(schema);
    metadata.push(entry("isotick.view", view));
    metadata.push(entry("isotick.definition", &definition.0));
    let relative = format!("{view_folder}/{id}.parquet");
    parquet_file::stage_columns(
        folder.objects(),
        relative,
        arrow.clone(),
        properties(&arrow),
        metadata,
        groups,
        Columns::row_group,
    )
}

/// A file of results for users: key columns, `window_start`, `window_end`, then the aggregates.
pub struct ResultFile {
    path: PathBuf,
    schema: ResultSchema,
    arrow: Arc<Schema>,
    writer: ArrowWriter<File>,
}

impl ResultFile {
    /// Begins a file, replaced if it is there. It is incomplete until it is closed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Parquet`].
    pub fn create(path: &Path, schema: &ResultSchema) -> Result<Self> {
        let arrow = Arc::new(arrow_schema(schema, false));
        let file = File::create(path).map_err(Error::io("create", path))?;
        let (properties, metadata) = (properties(&arrow), metadata(schema));
        let writer = parquet_file::writer(path, file, arrow.clone(), properties, metadata)?;
        Ok(Self { path: path.to_path_buf(), schema: schema.clone(), arrow, writer })
    }

    /// Adds rows.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn write(&mut self, rows: &[WindowRow]) -> Result<()> {
        let batch = batch(&self.schema, &self.arrow, rows);
        self.writer.write(&batch).map_err(Error::parquet("write", &self.path))
    }

    /// Adds an entry to the file's metadata.
    pub fn note(&mut self, key: &str, value: impl Into<String>) {
        self.writer.append_key_value_metadata(entry(key, value.into()));
    }

    /// Completes the file.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn close(self) -> Result<()> {
        self.writer.close().map_err(Error::parquet("write", &self.path))?;
        Ok(())
    }
}

/// The rows of a file of results, some at a time, in the order written, with version 0.
///
/// # Errors
///
/// [`Error::Io`], [`Error::Parquet`], [`Error::Column`] when the file has other columns; of each
/// batch, [`Error::Damaged`].
pub fn read_results(
    path: &Path,
    schema: &ResultSchema,
) -> Result<impl Iterator<Item = Result<Vec<WindowRow>>> + use<>> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(Error::parquet("read", path))?
        .with_batch_size(CHUNK_ROWS);
    let expected = arrow_schema(schema, false);
    check_columns(path, reader.schema(), &expected)?;
    let reader = reader.build().map_err(Error::parquet("read", path))?;
    let (path, schema) = (path.to_path_buf(), schema.clone());
    Ok(reader.map(move |batch| {
        let batch = batch
            .map_err(|error| Error::Damaged { path: path.clone(), what: error.to_string() })?;
        let mut rows = Vec::new();
        window_rows(&batch, &schema, false, &mut rows);
        Ok(rows)
    }))
}

fn check_columns(path: &Path, found: &Schema, expected: &Schema) -> Result<()> {
    let damaged = || Error::Damaged {
        path: path.to_path_buf(),
        what: "it has other columns than the view's definition".to_owned(),
    };
    if found.fields().len() != expected.fields().len() {
        return Err(damaged());
    }
    for (found, expected) in found.fields().iter().zip(expected.fields()) {
        if found.name() != expected.name() || found.data_type() != expected.data_type() {
            return Err(Error::Column {
                path: path.to_path_buf(),
                column: found.name().clone(),
                what: format!("the view has {} of type {}", expected.name(), expected.data_type()),
            });
        }
    }
    Ok(())
}

/// The final version of every recorded window, sorted by (key, window start). Windows recorded
/// twice under one version count once.
pub(crate) fn read(
    folder: &DataFolder,
    record: &RecordFiles,
    schema: &ResultSchema,
) -> Result<Vec<WindowRow>> {
    let mut windows: BTreeMap<(Key, i64, u32), WindowRow> = BTreeMap::new();
    let opened = record.files.chunks(OPENED_AT_ONCE).flat_map(|files| {
        files.iter().zip(folder.objects().open_all(&files.iter().collect::<Vec<_>>()))
    });
    for (file, opened) in opened {
        let stored = Stored::open(opened?, file, true)?;
        for row in read_file(&stored, schema)? {
            match windows.entry((row.key.clone(), row.window_start, row.version)) {
                Entry::Vacant(place) => {
                    place.insert(row);
                }
                Entry::Occupied(known) if same(known.get(), &row) => {}
                Entry::Occupied(_) => {
                    return Err(Error::RecordConflict {
                        path: stored.path().to_path_buf(),
                        view: record.view.clone(),
                        key: row.key.to_string(),
                        window_start: row.window_start,
                        version: row.version,
                    });
                }
            }
        }
    }
    let mut last: Vec<WindowRow> = Vec::new();
    for row in windows.into_values() {
        match last.last_mut() {
            // Versions ascend within a window.
            Some(known) if known.key == row.key && known.window_start == row.window_start => {
                *known = row;
            }
            _ => last.push(row),
        }
    }
    Ok(last)
}

/// Equal bit for bit.
fn same(a: &WindowRow, b: &WindowRow) -> bool {
    let bits = |value: &Value| match value {
        Value::Float(float) => (1, i128::from(float.to_bits())),
        Value::Integer(integer) => (2, *integer),
        Value::Null => (0, 0),
    };
    a.window_end == b.window_end && a.values.iter().map(bits).eq(b.values.iter().map(bits))
}

fn read_file(stored: &Stored, schema: &ResultSchema) -> Result<Vec<WindowRow>> {
    check_columns(stored.path(), stored.schema(), &arrow_schema(schema, true))?;
    let mut rows = Vec::new();
    for row_group in 0..stored.metadata().num_row_groups() {
        for batch in stored.batches(row_group, CHUNK_ROWS)? {
            let batch = batch.map_err(|error| stored.damaged(&error.to_string()))?;
            window_rows(&batch, schema, true, &mut rows);
        }
    }
    Ok(rows)
}

fn window_rows(
    batch: &RecordBatch,
    schema: &ResultSchema,
    record: bool,
    rows: &mut Vec<WindowRow>,
) {
    let keys = schema.keys.len();
    let texts: Vec<_> =
        batch.columns()[..keys].iter().map(|keys| keys.as_string::<i32>()).collect();
    let times = |column: usize| batch.column(column).as_primitive::<TimestampNanosecondType>();
    let (starts, ends) = (times(keys), times(keys + 1));
    let versions = record.then(|| batch.column(keys + 2).as_primitive::<UInt32Type>());
    let values = &batch.columns()[keys + if record { 4 } else { 2 }..];
    for row in 0..batch.num_rows() {
        rows.push(WindowRow {
            key: match keys {
                0 => Key::empty(),
                _ => Key::from_components(texts.iter().map(|texts| texts.value(row))),
            },
            window_start: starts.value(row),
            window_end: ends.value(row),
            version: versions.map_or(0, |versions| versions.value(row)),
            values: values.iter().map(|array| value(array, row)).collect(),
        });
    }
}

fn value(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Int64 => Value::Integer(array.as_primitive::<Int64Type>().value(row).into()),
        DataType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row)),
        _ => Value::Integer(array.as_primitive::<Decimal128Type>().value(row)),
    }
}

/// Key columns, `window_start`, `window_end`, in a record `version` and `reason`, then the
/// aggregates.
pub(crate) fn arrow_schema(schema: &ResultSchema, record: bool) -> Schema {
    let time = || DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let mut fields: Vec<_> =
        schema.keys.iter().map(|key| Field::new(key, DataType::Utf8, false)).collect();
    fields.push(Field::new("window_start", time(), false));
    fields.push(Field::new("window_end", time(), false));
    if record {
        fields.push(Field::new("version", DataType::UInt32, false));
        let taken = |name: &str| {
            schema.keys.iter().any(|key| key == name)
                || schema.columns.iter().any(|(column, _)| column == name)
        };
        let mut reason = "reason".to_owned();
        while taken(&reason) {
            reason.insert_str(0, "isotick_");
        }
        fields.push(Field::new(reason, DataType::Utf8, false));
    }
    fields.extend(
        schema.columns.iter().map(|(name, output)| Field::new(name, value_type(*output), true)),
    );
    Schema::new(fields)
}

fn value_type(output: OutputType) -> DataType {
    let digits = |scale: Scale| scale.digits().cast_signed();
    match output {
        OutputType::Count => DataType::Int64,
        OutputType::Scaled(scale) if scale.digits() == 0 => DataType::Int64,
        OutputType::Scaled(scale) => DataType::Decimal128(NARROW_DIGITS, digits(scale)),
        OutputType::ScaledWide(scale) => DataType::Decimal128(WIDE_DIGITS, digits(scale)),
        OutputType::Float => DataType::Float64,
    }
}

pub(crate) fn batch(schema: &ResultSchema, arrow: &Arc<Schema>, rows: &[WindowRow]) -> RecordBatch {
    let components: Vec<_> = rows.iter().map(|row| row.key.components()).collect();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for key in 0..schema.keys.len() {
        let texts = components.iter().map(|components| components[key].as_str());
        columns.push(Arc::new(StringArray::from_iter_values(texts)));
    }
    let time = |of: fn(&WindowRow) -> i64| -> ArrayRef {
        let times = TimestampNanosecondArray::from_iter_values(rows.iter().map(of));
        Arc::new(times.with_timezone("UTC"))
    };
    columns.push(time(|row| row.window_start));
    columns.push(time(|row| row.window_end));
    for (index, (name, output)) in schema.columns.iter().enumerate() {
        let values = rows.iter().map(|row| row.values[index]);
        columns.push(value_array(name, value_type(*output), values));
    }
    RecordBatch::try_new(arrow.clone(), columns).expect("the arrays follow the schema")
}

/// # Panics
///
/// If a value is not of the column's type: it comes from the function that also gave the type.
fn value_array(name: &str, to: DataType, values: impl Iterator<Item = Value>) -> ArrayRef {
    let integer = |value: Value| match value {
        Value::Null => None,
        Value::Integer(integer) => Some(integer),
        Value::Float(_) => panic!("aggregate {name} is an integer, not a quotient"),
    };
    match to {
        DataType::Int64 => {
            let narrow = |wide| i64::try_from(wide).expect("the output type holds every value");
            Arc::new(values.map(|value| integer(value).map(narrow)).collect::<Int64Array>())
        }
        DataType::Float64 => {
            let float = |value| match value {
                Value::Null => None,
                Value::Float(float) => Some(float),
                Value::Integer(_) => panic!("aggregate {name} is a quotient, not an integer"),
            };
            Arc::new(values.map(float).collect::<Float64Array>())
        }
        decimal => {
            let array: Decimal128Array = values.map(integer).collect();
            Arc::new(array.with_data_type(decimal))
        }
    }
}

fn properties(schema: &Schema) -> WriterPropertiesBuilder {
    let mut properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Page);
    for field in schema.fields() {
        let path = ColumnPath::from(field.name().clone());
        properties = match field.data_type() {
            DataType::Utf8 => properties.set_column_dictionary_enabled(path, true),
            DataType::Int64 | DataType::UInt32 | DataType::Timestamp(..) => {
                properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
            }
            _ => properties,
        };
    }
    properties
}

pub(crate) fn metadata(schema: &ResultSchema) -> Vec<KeyValue> {
    let scaled = schema.columns.iter().filter_map(|(name, output)| match output {
        OutputType::Scaled(scale) | OutputType::ScaledWide(scale) => {
            Some(entry(format!("{name}_scale"), scale.digits().to_string()))
        }
        _ => None,
    });
    scaled.collect()
}
