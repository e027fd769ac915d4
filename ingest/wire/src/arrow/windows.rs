//! Windows as record batches: columns as `isotick scan --format parquet` writes them.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringArray, TimestampNanosecondArray, UInt32Array,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use isotick_model::Scale;
use isotick_model::results::{ResultSchema, Value};
use isotick_model::view::OutputType;

use crate::windows::{PublishedWindow, ROWS_MAX, VALUES_MAX};
use crate::{EncodeError, MESSAGE_BYTES_MAX};

/// Digits that hold every 64-bit value, and every 128-bit one that a window can have.
const NARROW_DIGITS: u8 = 19;
const WIDE_DIGITS: u8 = 38;

/// The Arrow schema of a view's windows: key columns (text), `window_start` and `window_end`
/// (timestamps in nanoseconds, UTC), `version`, `reason` (text; `isotick_reason` where a column of
/// the view has that name), then the aggregates: counts and whole numbers as 64-bit integers,
/// decimals at the column's scale, quotients as 64-bit floats, each null where a window has none.
pub fn windows_schema(schema: &ResultSchema) -> Schema {
    let time = || DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let mut reason = "reason".to_owned();
    while schema.keys.contains(&reason) || schema.columns.iter().any(|(name, _)| *name == reason) {
        reason.insert_str(0, "isotick_");
    }
    let mut fields: Vec<_> =
        schema.keys.iter().map(|key| Field::new(key, DataType::Utf8, false)).collect();
    fields.push(Field::new("window_start", time(), false));
    fields.push(Field::new("window_end", time(), false));
    fields.push(Field::new("version", DataType::UInt32, false));
    fields.push(Field::new(reason, DataType::Utf8, false));
    let digits = |scale: Scale| scale.digits().cast_signed();
    fields.extend(schema.columns.iter().map(|(name, output)| {
        let data_type = match output {
            OutputType::Count => DataType::Int64,
            OutputType::Scaled(scale) if scale.digits() == 0 => DataType::Int64,
            OutputType::Scaled(scale) => DataType::Decimal128(NARROW_DIGITS, digits(*scale)),
            OutputType::ScaledWide(scale) => DataType::Decimal128(WIDE_DIGITS, digits(*scale)),
            OutputType::Float => DataType::Float64,
        };
        Field::new(name, data_type, true)
    }));
    Schema::new(fields)
}

/// Appends the payload of a message of kind [`Arrow`](crate::Kind::Arrow) to a subscriber:
/// `next_cursor` as 8 bytes, little endian, then one IPC stream with one record batch.
///
/// # Errors
///
/// [`EncodeError::TooLarge`] when the windows do not fit one message, [`EncodeError::ColumnLength`]
/// when a window has another number of keys or values than `schema`, and
/// [`EncodeError::Value`] when a value is not of its column's type; then nothing is appended.
pub fn encode_windows(
    windows: &[PublishedWindow],
    next_cursor: u64,
    schema: &ResultSchema,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let too_large = EncodeError::TooLarge { rows: windows.len() };
    if windows.len() > ROWS_MAX || windows.len() * schema.columns.len() > VALUES_MAX {
        return Err(too_large);
    }
    let batch = record_batch(windows, schema)?;
    let start = out.len();
    out.extend_from_slice(&next_cursor.to_le_bytes());
    let written = StreamWriter::try_new(&mut *out, &batch.schema()).and_then(|mut writer| {
        writer.write(&batch)?;
        writer.finish()
    });
    written.expect(WRITABLE);
    if out.len() - start > MESSAGE_BYTES_MAX {
        out.truncate(start);
        return Err(too_large);
    }
    Ok(())
}

/// One IPC stream of a view's windows, a record batch at a time: for files and pipes.
///
/// The bytes that [`take`](Self::take) hands out, one after the other, are the stream: first the
/// schema, as [`windows_schema`] gives it, at the end the end mark of [`finish`](Self::finish).
pub struct WindowStream {
    schema: ResultSchema,
    writer: StreamWriter<Vec<u8>>,
}

impl WindowStream {
    /// A stream of windows with these columns, none yet.
    pub fn new(schema: ResultSchema) -> Self {
        let writer = StreamWriter::try_new(Vec::new(), &windows_schema(&schema));
        Self { schema, writer: writer.expect(WRITABLE) }
    }

    /// Appends windows as one record batch; none append nothing.
    ///
    /// # Errors
    ///
    /// [`EncodeError::ColumnLength`] and [`EncodeError::Value`] as [`encode_windows`]; then nothing
    /// is appended.
    pub fn write(&mut self, windows: &[PublishedWindow]) -> Result<(), EncodeError> {
        if !windows.is_empty() {
            self.writer.write(&record_batch(windows, &self.schema)?).expect(WRITABLE);
        }
        Ok(())
    }

    /// Appends the end mark: there is no more.
    pub fn finish(&mut self) {
        self.writer.finish().expect(WRITABLE);
    }

    /// The bytes since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }
}

const WRITABLE: &str =
    "a vector grows as needed, and the schema has only types that can be written";

fn record_batch(
    windows: &[PublishedWindow],
    schema: &ResultSchema,
) -> Result<RecordBatch, EncodeError> {
    let keys: Vec<_> = windows.iter().map(|window| window.row.key.components()).collect();
    for (window, keys) in windows.iter().zip(&keys) {
        let (values, rows) = (window.row.values.len(), schema.columns.len());
        if values != rows || keys.len() != schema.keys.len() {
            return Err(EncodeError::ColumnLength { column: 0, values, rows });
        }
    }
    let arrow = Arc::new(windows_schema(schema));
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(arrow.fields().len());
    for key in 0..schema.keys.len() {
        let texts = keys.iter().map(|keys| keys[key].as_str());
        columns.push(Arc::new(StringArray::from_iter_values(texts)));
    }
    for time in [
        |window: &PublishedWindow| window.row.window_start,
        |window: &PublishedWindow| window.row.window_end,
    ] {
        let times = TimestampNanosecondArray::from_iter_values(windows.iter().map(time));
        columns.push(Arc::new(times.with_timezone("UTC")));
    }
    let versions = windows.iter().map(|window| window.row.version);
    columns.push(Arc::new(UInt32Array::from_iter_values(versions)));
    let reasons = windows.iter().map(|window| window.reason.name());
    columns.push(Arc::new(StringArray::from_iter_values(reasons)));
    let values = arrow.fields().iter().skip(columns.len()).enumerate();
    for (column, field) in values {
        let values = windows.iter().map(|window| window.row.values[column]);
        let array = value_array(values, field.data_type());
        columns.push(array.ok_or(EncodeError::Value { column })?);
    }
    let rows = RecordBatchOptions::new().with_row_count(Some(windows.len()));
    Ok(RecordBatch::try_new_with_options(arrow, columns, &rows)
        .expect("the columns follow the schema"))
}

/// `None` when a value is of another type.
fn value_array(values: impl Iterator<Item = Value>, to: &DataType) -> Option<ArrayRef> {
    let integer = |value| match value {
        Value::Null => Some(None),
        Value::Integer(integer) => Some(Some(integer)),
        Value::Float(_) => None,
    };
    Some(match to {
        DataType::Int64 => {
            let narrow = |value| match integer(value)? {
                None => Some(None),
                Some(wide) => i64::try_from(wide).ok().map(Some),
            };
            Arc::new(values.map(narrow).collect::<Option<Int64Array>>()?)
        }
        DataType::Float64 => {
            let float = |value| match value {
                Value::Null => Some(None),
                Value::Float(float) => Some(Some(float)),
                Value::Integer(_) => None,
            };
            Arc::new(values.map(float).collect::<Option<Float64Array>>()?)
        }
        decimal => {
            let array = values.map(integer).collect::<Option<Decimal128Array>>()?;
            Arc::new(array.with_data_type(decimal.clone()))
        }
    })
}
