//! Files for other tools: ticks and windows as Parquet or Arrow IPC, without anything that only
//! we can read.

mod order;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, Decimal128Array, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use isotick_model::results::{ResultSchema, WindowRow};
use isotick_model::ticks::ON_TIME;
use isotick_model::{Column, StreamSchema, Ticks, ValueColumn};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, Encoding};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::error::{Error, Result};
use crate::history::{identity_names, scale_entry};
use crate::parquet_file::entry;
use crate::record;

pub use order::{InOrder, SLICE_ROWS};

/// Rows of a row group: what other engines read at once.
const ROW_GROUP_ROWS: usize = 1 << 17;
/// The digits of a decimal that 64 bits hold whole, and of one that holds every 64-bit integer.
const DECIMAL_DIGITS: u8 = 18;
const WIDE_DIGITS: u8 = 19;

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// Apache Parquet.
    Parquet,
    /// An Arrow IPC file.
    Arrow,
    /// An Arrow IPC stream: for pipes.
    ArrowStream,
}

/// What is done to a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Nothing.
    None,
    /// Zstandard, column by column.
    Zstd,
}

/// A file of ticks: time, keys and values as the stream declares them, then publisher, sequence
/// and `seen` as in history. Values with decimals are decimals, at every bound.
pub struct TickFile<W: Write + Send> {
    schema: StreamSchema,
    table: Table<W>,
}

impl<W: Write + Send> TickFile<W> {
    /// Begins a file. `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// [`Error::Parquet`], which stands for Arrow's writer as well.
    pub fn new(
        out: W,
        name: &Path,
        schema: &StreamSchema,
        format: TableFormat,
        codec: Codec,
    ) -> Result<Self> {
        let arrow = tick_schema(schema, format);
        let mut metadata = vec![entry("isotick.stream", &schema.name)];
        let scales = schema.columns.iter();
        metadata.extend(
            scales
                .map(|column| entry(scale_entry(&column.name), column.scale.digits().to_string())),
        );
        let table = Table::new(out, name, arrow, metadata, format, codec)?;
        Ok(Self { schema: schema.clone(), table })
    }

    /// Adds ticks, in their order.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn write(&mut self, ticks: &Ticks) -> Result<()> {
        let batch = tick_batch(&self.schema, &self.table.schema, ticks);
        self.table.write(&batch)
    }

    /// Completes the file.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn finish(self) -> Result<W> {
        self.table.finish()
    }
}

/// A file of windows: keys, `window_start`, `window_end`, aggregates.
pub struct WindowFile<W: Write + Send> {
    schema: ResultSchema,
    table: Table<W>,
}

impl<W: Write + Send> WindowFile<W> {
    /// Begins a file. `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// As [`TickFile::new`].
    pub fn new(
        out: W,
        name: &Path,
        schema: &ResultSchema,
        format: TableFormat,
        codec: Codec,
    ) -> Result<Self> {
        let (arrow, metadata) = (record::arrow_schema(schema, false), record::metadata(schema));
        let table = Table::new(out, name, arrow, metadata, format, codec)?;
        Ok(Self { schema: schema.clone(), table })
    }

    /// Adds windows, in their order.
    ///
    /// # Errors
    ///
    /// As [`TickFile::new`].
    pub fn write(&mut self, rows: &[WindowRow]) -> Result<()> {
        let batch = record::batch(&self.schema, &self.table.schema, rows);
        self.table.write(&batch)
    }

    /// Completes the file.
    ///
    /// # Errors
    ///
    /// As [`TickFile::new`].
    pub fn finish(self) -> Result<W> {
        self.table.finish()
    }
}

/// Record batches on their way into a file.
struct Table<W: Write + Send> {
    name: PathBuf,
    schema: Arc<Schema>,
    sink: Sink<W>,
}

enum Sink<W: Write + Send> {
    Parquet(Box<ArrowWriter<W>>),
    Arrow(Box<FileWriter<W>>),
    Stream(Box<StreamWriter<W>>),
}

impl<W: Write + Send> Table<W> {
    fn new(
        out: W,
        name: &Path,
        schema: Schema,
        metadata: Vec<KeyValue>,
        format: TableFormat,
        codec: Codec,
    ) -> Result<Self> {
        let failed = Error::parquet("write", name);
        let sink = match format {
            TableFormat::Parquet => {
                // The types of the file say all there is: an embedded Arrow schema would only
                // tell readers of dictionaries.
                let options = ArrowWriterOptions::new()
                    .with_skip_arrow_metadata(true)
                    .with_properties(properties(&schema, metadata, codec));
                let writer =
                    ArrowWriter::try_new_with_options(out, Arc::new(schema.clone()), options);
                Sink::Parquet(Box::new(writer.map_err(failed)?))
            }
            TableFormat::Arrow | TableFormat::ArrowStream => {
                let text = |entry: KeyValue| (entry.key, entry.value.unwrap_or_default());
                let schema = schema.clone().with_metadata(metadata.into_iter().map(text).collect());
                let options = IpcWriteOptions::default().try_with_compression(match codec {
                    Codec::None => None,
                    Codec::Zstd => Some(CompressionType::ZSTD),
                });
                let sink = options.and_then(|options| match format {
                    TableFormat::Arrow => {
                        let writer = FileWriter::try_new_with_options(out, &schema, options)?;
                        Ok(Sink::Arrow(Box::new(writer)))
                    }
                    _ => {
                        let writer = StreamWriter::try_new_with_options(out, &schema, options)?;
                        Ok(Sink::Stream(Box::new(writer)))
                    }
                });
                sink.map_err(|error| failed(error.into()))?
            }
        };
        Ok(Self { name: name.to_owned(), schema: Arc::new(schema), sink })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let written = match &mut self.sink {
            Sink::Parquet(writer) => writer.write(batch),
            Sink::Arrow(writer) => writer.write(batch).map_err(ParquetError::from),
            Sink::Stream(writer) => writer.write(batch).map_err(ParquetError::from),
        };
        written.map_err(Error::parquet("write", &self.name))
    }

    fn finish(self) -> Result<W> {
        let out = match self.sink {
            Sink::Parquet(writer) => writer.into_inner(),
            // Both finish the file first.
            Sink::Arrow(writer) => writer.into_inner().map_err(ParquetError::from),
            Sink::Stream(writer) => writer.into_inner().map_err(ParquetError::from),
        };
        out.map_err(Error::parquet("write", &self.name))
    }
}

fn properties(schema: &Schema, metadata: Vec<KeyValue>, codec: Codec) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata(Some(metadata))
        .set_compression(match codec {
            Codec::None => Compression::UNCOMPRESSED,
            Codec::Zstd => Compression::ZSTD(Default::default()),
        });
    for field in schema.fields() {
        let path = ColumnPath::from(field.name().clone());
        properties = match field.data_type() {
            DataType::Utf8 | DataType::Dictionary(..) => {
                properties.set_column_dictionary_enabled(path, true)
            }
            DataType::Decimal128(digits, _) if *digits > DECIMAL_DIGITS => properties,
            DataType::Float64 => properties,
            _ => properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
        };
    }
    properties.build()
}

fn tick_schema(schema: &StreamSchema, format: TableFormat) -> Schema {
    // Parquet has no dictionaries of its own type, and Arrow files allow one for all batches only.
    let text = || match format {
        TableFormat::Parquet => DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into()),
        TableFormat::Arrow | TableFormat::ArrowStream => DataType::Utf8,
    };
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let mut fields = vec![Field::new(&schema.time, time, false)];
    fields.extend(schema.keys.iter().map(|key| Field::new(key, text(), false)));
    let values = schema.columns.iter();
    fields
        .extend(values.map(|column| Field::new(&column.name, value_type(column), column.optional)));
    let [publisher, sequence, seen] = identity_names(schema);
    fields.push(Field::new(publisher, text(), false));
    fields.push(Field::new(sequence, DataType::UInt64, false));
    fields.push(Field::new(seen, DataType::Int64, true));
    Schema::new(fields)
}

fn value_type(column: &Column) -> DataType {
    let limit = 10_i64.pow(u32::from(DECIMAL_DIGITS));
    let scale = column.scale.digits().cast_signed();
    match scale {
        0 => DataType::Int64,
        _ if column.min > -limit && column.max < limit => {
            DataType::Decimal128(DECIMAL_DIGITS, scale)
        }
        _ => DataType::Decimal128(WIDE_DIGITS, scale),
    }
}

fn tick_batch(schema: &StreamSchema, arrow: &Arc<Schema>, ticks: &Ticks) -> RecordBatch {
    let times = TimestampNanosecondArray::new(ticks.ts_event.clone(), None);
    let mut columns: Vec<ArrayRef> = vec![Arc::new(times.with_timezone("UTC"))];
    let components: Vec<_> = ticks.keys.iter().map(|key| key.components()).collect();
    let text_type = |column: usize| arrow.field(column).data_type();
    for key in 0..schema.keys.len() {
        let texts = components.iter().map(|components| components[key].as_str());
        columns.push(texts_of(text_type(1 + key), &texts.collect::<Vec<_>>(), &ticks.key));
    }
    for (column, declared) in ticks.values.iter().zip(&schema.columns) {
        columns.push(value_array(declared, column));
    }
    let publishers: Vec<_> = ticks.publishers.iter().map(|publisher| publisher.as_str()).collect();
    let first = vec![0; ticks.len()];
    let codes = if ticks.publisher.is_empty() { &first[..] } else { &ticks.publisher };
    columns.push(texts_of(text_type(columns.len()), &publishers, codes));
    columns.push(Arc::new(UInt64Array::new(ticks.sequence.clone(), None)));
    let seen = (0..ticks.len()).map(|row| Some(ticks.seen_of(row)).filter(|&seen| seen != ON_TIME));
    columns.push(Arc::new(seen.collect::<Int64Array>()));
    RecordBatch::try_new(arrow.clone(), columns).expect("the arrays follow the schema")
}

/// The texts of codes, as a dictionary or spelt out.
fn texts_of(data_type: &DataType, texts: &[&str], codes: &[u32]) -> ArrayRef {
    match data_type {
        DataType::Dictionary(..) => {
            let codes: Int32Array = codes.iter().map(|&code| Some(code.cast_signed())).collect();
            let texts = Arc::new(StringArray::from_iter_values(texts));
            let array = DictionaryArray::<Int32Type>::try_new(codes, texts);
            Arc::new(array.expect("every code has its text"))
        }
        _ => {
            let spelt = codes.iter().map(|&code| texts[code as usize]);
            Arc::new(StringArray::from_iter_values(spelt))
        }
    }
}

fn value_array(declared: &Column, column: &ValueColumn) -> ArrayRef {
    let (values, nulls) = (&column.values, column.nulls.clone());
    match value_type(declared) {
        decimal @ DataType::Decimal128(..) => {
            let values = values.iter().map(|&value| i128::from(value)).collect();
            Arc::new(Decimal128Array::new(values, nulls).with_data_type(decimal))
        }
        _ => Arc::new(Int64Array::new(values.clone(), nulls)),
    }
}
