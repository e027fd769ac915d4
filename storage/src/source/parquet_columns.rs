//! Row groups whose columns are of the usual kinds, decoded straight from their pages: numbers of up
//! to 64 bits, and key texts that have a dictionary. What the general reader gives, in less time.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::types::{
    Date32Type, Decimal32Type, Decimal64Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt32Type, UInt64Type,
};
use arrow_array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch, RecordBatchOptions};
use arrow_buffer::{ArrowNativeType, NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use isotick_model::KeySelection;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::{ConvertedType, Encoding, LogicalType, TimeUnit as ParquetUnit, Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescriptor;

use super::array::TextCodes;
use super::pieces::Pieces;
use super::proven::leaf_of;
use super::selected::WantedTexts;
use crate::parquet_file::{BigEndian, Codes, ColumnPages, ColumnValues, Gathered, Numbers, Wanted};

/// Rows whose keys are looked at together: their codes stay in the nearest cache.
const SELECT_ROWS: usize = 32_768;

/// Some columns of a row group, batch by batch.
pub(super) struct RowGroupColumns {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// The key columns, where nothing else is made of them.
    keys: Vec<Texts>,
    batch_rows: usize,
    /// The next row.
    row: usize,
    /// The row after the last one.
    end: usize,
}

type Texts = ColumnValues<Codes, Pieces>;

/// Rows of a row group.
pub(super) struct Rows {
    pub(super) batch: RecordBatch,
    /// Their places in the row group.
    pub(super) places: Places,
    /// The key columns, where the batch does not have them.
    pub(super) keys: Option<Vec<TextCodes>>,
}

/// Places of rows in a row group.
pub(super) enum Places {
    All(Range<usize>),
    Some(Vec<usize>),
}

/// A column of this width or kind, and what was taken of it for the next batch.
enum Column {
    Long(ColumnValues<Numbers<i64>, Pieces>, Gathered<i64>),
    Short(ColumnValues<Numbers<i32>, Pieces>, Gathered<i32>),
    Bytes(ColumnValues<BigEndian, Pieces>, Gathered<i64>),
    Text(Texts, Gathered<i32>),
}

impl RowGroupColumns {
    /// These rows of a row group, in columns of these fields. `None` where one is of another kind.
    ///
    /// # Errors
    ///
    /// For columns that are described as what they cannot be.
    pub(super) fn open(
        pieces: Pieces,
        metadata: &ArrowReaderMetadata,
        group: usize,
        fields: &[usize],
        batch_rows: usize,
        rows: Range<usize>,
    ) -> Result<Option<Self>, ParquetError> {
        let Ok(schema) = metadata.schema().project(fields) else { return Ok(None) };
        let (pieces, mut columns) = (Arc::new(pieces), Vec::new());
        for (number, field) in fields.iter().zip(schema.fields()) {
            match Column::open(&pieces, metadata, group, *number, field.data_type())? {
                Some(column) => columns.push(column),
                None => return Ok(None),
            }
        }
        columns.iter_mut().for_each(|column| column.pass(rows.start));
        let schema = Arc::new(schema);
        Ok(Some(Self {
            schema,
            columns,
            keys: Vec::new(),
            batch_rows,
            row: rows.start,
            end: rows.end,
        }))
    }

    /// The same with the columns of keys by themselves; `None` where one is no text.
    pub(super) fn with_keys(mut self, of_keys: Self) -> Option<Self> {
        for column in of_keys.columns {
            match column {
                Column::Text(texts, _) => self.keys.push(texts),
                _ => return None,
            }
        }
        Some(self)
    }

    /// The next batch: all of the next rows, or those of them that have wanted keys.
    ///
    /// # Errors
    ///
    /// For pages that hold what they cannot, or what only the general reader knows.
    pub(super) fn next(
        &mut self,
        texts: &mut WantedTexts,
        wanted: Option<&KeySelection>,
    ) -> Result<Option<Rows>, ParquetError> {
        match wanted {
            Some(wanted) if !self.keys.is_empty() => self.next_wanted(texts, wanted),
            _ => self.next_all(),
        }
    }

    /// The row of the row group that comes next.
    pub(super) fn row(&self) -> usize {
        self.row
    }

    fn next_all(&mut self) -> Result<Option<Rows>, ParquetError> {
        let rows = self.row..self.end.min(self.row + self.batch_rows);
        if rows.is_empty() {
            return Ok(None);
        }
        let keys = (!self.keys.is_empty()).then(|| self.next_keys(rows.len())).transpose()?;
        self.all(rows, keys).map(Some)
    }

    fn all(
        &mut self,
        rows: Range<usize>,
        keys: Option<Vec<TextCodes>>,
    ) -> Result<Rows, ParquetError> {
        self.columns.iter_mut().try_for_each(|column| column.take(rows.len()))?;
        self.row = rows.end;
        let batch = self.batch(rows.len())?;
        Ok(Rows { batch, places: Places::All(rows), keys })
    }

    /// The key columns of the next rows.
    fn next_keys(&mut self, rows: usize) -> Result<Vec<TextCodes>, ParquetError> {
        let next = |texts: &mut Texts| {
            let mut codes = Gathered::default();
            texts.take(rows, &mut codes)?;
            text_codes(texts, codes)
        };
        self.keys.iter_mut().map(next).collect()
    }

    fn next_wanted(
        &mut self,
        texts: &mut WantedTexts,
        wanted: &KeySelection,
    ) -> Result<Option<Rows>, ParquetError> {
        let mut places: Vec<usize> = Vec::new();
        let mut codes = vec![Vec::new(); self.keys.len()];
        while self.row < self.end && places.len() < self.batch_rows {
            let rows = self.row..self.end.min(self.row + SELECT_ROWS.min(self.batch_rows));
            let keys = self.next_keys(rows.len())?;
            let mask = texts.passing(&keys, wanted).ok_or_else(unknown)?;
            let wanted_rows = mask.count_set_bits();
            // Others are not worth picking from.
            if places.is_empty() && 2 * wanted_rows > rows.len() {
                return self.all(rows, Some(keys)).map(Some);
            }
            let mut found = Vec::with_capacity(wanted_rows);
            found.extend(mask.set_indices_u32());
            texts.gather(&keys, &found, &mut codes);
            places.extend(found.iter().map(|row| rows.start + *row as usize));
            let found = Wanted::new(&found, rows.len());
            self.columns.iter_mut().try_for_each(|column| column.pick(found))?;
            self.row = rows.end;
        }
        if places.is_empty() {
            return Ok(None);
        }
        let batch = self.batch(places.len())?;
        let keys = Some(texts.columns(codes));
        Ok(Some(Rows { batch, places: Places::Some(places), keys }))
    }

    /// What was taken of all columns.
    fn batch(&mut self, rows: usize) -> Result<RecordBatch, ParquetError> {
        let columns = self.columns.iter_mut().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| column.array(field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        // There may be no column.
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

impl Column {
    fn open(
        pieces: &Arc<Pieces>,
        metadata: &ArrowReaderMetadata,
        group: usize,
        field: usize,
        data_type: &DataType,
    ) -> Result<Option<Self>, ParquetError> {
        let group = metadata.metadata().row_group(group);
        let Some(leaf) = leaf_of(metadata, field) else { return Ok(None) };
        let chunk = group.column(leaf);
        let pages = || ColumnPages::new(Arc::clone(pieces), chunk, group.num_rows() as usize, None);
        macro_rules! column {
            ($width:ident, $coding:expr) => {
                Self::$width(ColumnValues::of(pages()?, $coding), Gathered::default())
            };
        }
        Ok(match width_of(chunk, data_type) {
            Some(Width::Long) => Some(column!(Long, Numbers::default())),
            Some(Width::Short) => Some(column!(Short, Numbers::default())),
            Some(Width::Bytes(coding)) => Some(column!(Bytes, coding)),
            Some(Width::Text) => Some(column!(Text, Codes::default())),
            None => None,
        })
    }

    fn pass(&mut self, rows: usize) {
        match self {
            Self::Long(values, _) => values.pass(rows),
            Self::Short(values, _) => values.pass(rows),
            Self::Bytes(values, _) => values.pass(rows),
            Self::Text(codes, _) => codes.pass(rows),
        }
    }

    fn take(&mut self, rows: usize) -> Result<(), ParquetError> {
        match self {
            Self::Long(values, out) => values.take(rows, out),
            Self::Short(values, out) => values.take(rows, out),
            Self::Bytes(values, out) => values.take(rows, out),
            Self::Text(codes, out) => codes.take(rows, out),
        }
    }

    fn pick(&mut self, wanted: Wanted<'_>) -> Result<(), ParquetError> {
        match self {
            Self::Long(values, out) => values.pick(wanted, out),
            Self::Short(values, out) => values.pick(wanted, out),
            Self::Bytes(values, out) => values.pick(wanted, out),
            Self::Text(codes, out) => codes.pick(wanted, out),
        }
    }

    /// What was taken, as this type.
    fn array(&mut self, data_type: &DataType) -> Result<ArrayRef, ParquetError> {
        match self {
            Self::Long(_, out) | Self::Bytes(_, out) => {
                let (values, nulls) = std::mem::take(out).finish();
                long(values, nulls, data_type)
            }
            Self::Short(_, out) => {
                let (values, nulls) = std::mem::take(out).finish();
                short(values, nulls, data_type)
            }
            Self::Text(codes, out) => Ok(text_codes(codes, std::mem::take(out))?.array()?),
        }
    }
}

/// Codes with the texts for which they stand.
fn text_codes(texts: &Texts, codes: Gathered<i32>) -> Result<TextCodes, ParquetError> {
    let (codes, nulls) = codes.finish();
    let texts = texts.texts().ok_or_else(unknown)?;
    Ok(TextCodes { texts: Arc::clone(texts), codes, nulls })
}

fn unknown() -> ParquetError {
    ParquetError::NYI("only the general reader knows these values".to_owned())
}

enum Width {
    Long,
    Short,
    Bytes(BigEndian),
    Text,
}

/// How a column is decoded that becomes this type; `None` where it is not known here.
fn width_of(chunk: &ColumnChunkMetaData, data_type: &DataType) -> Option<Width> {
    let column = chunk.column_descr();
    let known = |encoding| {
        matches!(
            encoding,
            Encoding::PLAIN
                | Encoding::RLE
                | Encoding::PLAIN_DICTIONARY
                | Encoding::RLE_DICTIONARY
                | Encoding::DELTA_BINARY_PACKED
        )
    };
    let is_nested = column.max_rep_level() > 0 || column.max_def_level() > 1;
    if is_nested || column.path().parts().len() > 1 || !chunk.encodings().all(known) {
        return None;
    }
    match (column.physical_type(), data_type) {
        (Type::INT64, DataType::Int64 | DataType::UInt64 | DataType::Decimal64(..)) => {
            Some(Width::Long)
        }
        (Type::INT64, DataType::Timestamp(unit, _)) => {
            (unit_of(column) == Some(*unit)).then_some(Width::Long)
        }
        (Type::DOUBLE, DataType::Float64) => Some(Width::Long),
        (
            Type::INT32,
            DataType::Int32 | DataType::UInt32 | DataType::Date32 | DataType::Decimal32(..),
        ) => Some(Width::Short),
        (Type::FLOAT, DataType::Float32) => Some(Width::Short),
        (Type::FIXED_LEN_BYTE_ARRAY, DataType::Decimal64(..)) => {
            let bytes = usize::try_from(column.type_length()).ok()?;
            BigEndian::of_bytes(bytes).map(Width::Bytes)
        }
        (Type::BYTE_ARRAY, DataType::Dictionary(codes, texts)) => {
            let is_text = **codes == DataType::Int32 && **texts == DataType::Utf8;
            is_text.then_some(Width::Text)
        }
        _ => None,
    }
}

/// The unit in which a column counts time.
fn unit_of(column: &ColumnDescriptor) -> Option<TimeUnit> {
    match (column.logical_type_ref(), column.converted_type()) {
        (Some(LogicalType::Timestamp(time)), _) => Some(match time.unit {
            ParquetUnit::MILLIS => TimeUnit::Millisecond,
            ParquetUnit::MICROS => TimeUnit::Microsecond,
            ParquetUnit::NANOS => TimeUnit::Nanosecond,
        }),
        (None, ConvertedType::TIMESTAMP_MILLIS) => Some(TimeUnit::Millisecond),
        (None, ConvertedType::TIMESTAMP_MICROS) => Some(TimeUnit::Microsecond),
        _ => None,
    }
}

/// Words of 64 bits as what they mean.
fn long(
    values: ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef, ParquetError> {
    Ok(match data_type {
        DataType::Int64 => array::<_, Int64Type>(values, nulls, data_type),
        DataType::UInt64 => array::<_, UInt64Type>(values, nulls, data_type),
        DataType::Decimal64(..) => array::<_, Decimal64Type>(values, nulls, data_type),
        DataType::Float64 => array::<_, Float64Type>(values, nulls, data_type),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => array::<_, TimestampSecondType>(values, nulls, data_type),
            TimeUnit::Millisecond => array::<_, TimestampMillisecondType>(values, nulls, data_type),
            TimeUnit::Microsecond => array::<_, TimestampMicrosecondType>(values, nulls, data_type),
            TimeUnit::Nanosecond => array::<_, TimestampNanosecondType>(values, nulls, data_type),
        },
        _ => return Err(unknown()),
    })
}

/// Words of 32 bits as what they mean.
fn short(
    values: ScalarBuffer<i32>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef, ParquetError> {
    Ok(match data_type {
        DataType::Int32 => array::<_, Int32Type>(values, nulls, data_type),
        DataType::UInt32 => array::<_, UInt32Type>(values, nulls, data_type),
        DataType::Decimal32(..) => array::<_, Decimal32Type>(values, nulls, data_type),
        DataType::Float32 => array::<_, Float32Type>(values, nulls, data_type),
        DataType::Date32 => array::<_, Date32Type>(values, nulls, data_type),
        _ => return Err(unknown()),
    })
}

/// Words as an array of values of the same width.
fn array<W: ArrowNativeType, T: ArrowPrimitiveType>(
    words: ScalarBuffer<W>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> ArrayRef {
    const { assert!(size_of::<W>() == size_of::<T::Native>()) };
    let rows = words.len();
    let values = ScalarBuffer::new(words.into_inner(), 0, rows);
    Arc::new(PrimitiveArray::<T>::new(values, nulls).with_data_type(data_type.clone()))
}
