//! One record batch as a stream's ticks: what comes over the wire as Arrow.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, NullArray, RecordBatch};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{ArrowError, DataType};
use isotick_model::time::TimeUnit;
use isotick_model::{PublisherId, Rejected, StreamSchema, Ticks};

use super::array::{self, Site};
use super::batch::{Columns, Refusals, TimeRange, finish, keys_of};

/// The column that numbers rows, where the stream has no column of that name itself.
pub const SEQUENCE: &str = "sequence";

/// Why a record batch is none of a stream. Bad rows are no errors: they are
/// [`Rejected`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A declared column is not there.
    #[error("no column {column:?}, which the stream declares; there are: {found}")]
    Missing {
        /// The declared column.
        column: String,
        /// The columns that are there.
        found: String,
    },
    /// A column has a type that cannot be what it is declared as.
    #[error("column {column:?} has the type {found}, which cannot be {wanted}")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        found: DataType,
        /// What it is declared as.
        wanted: &'static str,
    },
    /// The rows' numbers are no numbers.
    #[error("the column \"sequence\" has nulls or negative values: number rows from 0 on")]
    Sequence,
    /// Arrow cannot convert a column.
    #[error("column {column:?} cannot be read: {source}")]
    Convert {
        /// The column.
        column: String,
        /// What Arrow says.
        source: ArrowError,
    },
}

/// Converts a record batch by a stream's definition: columns by their declared names, values as
/// from a Parquet file (integers are taken as scaled already). Rows are numbered by their column
/// `sequence`, or without one from `first_sequence` on. An optional column may be left out.
///
/// Returns the ticks, and the rows that are none, both in the batch's order.
///
/// # Errors
///
/// The batch as a whole is none of this stream.
pub fn ticks_of_batch(
    batch: &RecordBatch,
    schema: &StreamSchema,
    publisher: &PublisherId,
    first_sequence: u64,
) -> Result<(Ticks, Vec<Rejected>), BatchError> {
    let rows = batch.num_rows();
    let (ordinals, mut refusals) = (sequences(batch, schema, first_sequence)?, Refusals::default());
    let wrap = |column: &str| {
        let column = column.to_owned();
        move |source| BatchError::Convert { column, source }
    };

    let time = find(batch, &schema.time, "a time", array::is_time)?;
    let site = Site { refusals: &mut refusals, column: &schema.time };
    let time = array::times(time, TimeUnit::Nanoseconds, TimeRange::of(&[]), site)
        .map_err(wrap(&schema.time))?;

    let mut texts = Vec::with_capacity(schema.keys.len());
    for key in &schema.keys {
        let array = find(batch, key, "a key", array::is_key)?;
        let site = Site { refusals: &mut refusals, column: key };
        texts.push(array::key_texts(array, site).map_err(wrap(key))?);
    }
    let (codes, keys) = keys_of(rows, &schema.keys, &texts, &mut refusals);

    let mut values = Vec::with_capacity(schema.columns.len());
    for column in &schema.columns {
        let array: ArrayRef = match find(batch, &column.name, "a value", array::is_value) {
            Err(BatchError::Missing { .. }) if column.optional => Arc::new(NullArray::new(rows)),
            found => Arc::clone(found?),
        };
        let converted = array::values(&array, column, None, schema.inexact, &mut refusals);
        values.push(converted.map_err(wrap(&column.name))?);
    }
    let columns = Columns { time, codes: codes.into(), keys: keys.into(), values };
    let parted = finish(publisher, ordinals, columns, refusals, &[]);
    Ok((parted.ticks, parted.rejected))
}

fn find<'a>(
    batch: &'a RecordBatch,
    column: &str,
    wanted: &'static str,
    fits: impl Fn(&DataType) -> bool,
) -> Result<&'a ArrayRef, BatchError> {
    let Some(array) = batch.column_by_name(column) else {
        let names = batch.schema_ref().fields().iter().map(|field| field.name().as_str());
        let found = names.collect::<Vec<_>>().join(", ");
        return Err(BatchError::Missing { column: column.into(), found });
    };
    match fits(array.data_type()) {
        true => Ok(array),
        false => {
            let (column, found) = (column.into(), array.data_type().clone());
            Err(BatchError::Type { column, found, wanted })
        }
    }
}

fn sequences(
    batch: &RecordBatch,
    schema: &StreamSchema,
    first: u64,
) -> Result<ScalarBuffer<u64>, BatchError> {
    let taken = schema.time == SEQUENCE
        || schema.key(SEQUENCE).is_some()
        || schema.column(SEQUENCE).is_some();
    let Some(array) = batch.column_by_name(SEQUENCE).filter(|_| !taken) else {
        let numbered = (0..batch.num_rows() as u64).map(|row| first.checked_add(row));
        return numbered.collect::<Option<_>>().ok_or(BatchError::Sequence);
    };
    if !array.data_type().is_integer() {
        let (column, found) = (SEQUENCE.into(), array.data_type().clone());
        return Err(BatchError::Type { column, found, wanted: "a number" });
    }
    let exact = arrow_cast::CastOptions { safe: false, ..Default::default() };
    match arrow_cast::cast_with_options(array, &DataType::UInt64, &exact) {
        Ok(cast) if cast.null_count() == 0 => {
            Ok(cast.as_primitive::<UInt64Type>().values().clone())
        }
        _ => Err(BatchError::Sequence),
    }
}

#[cfg(test)]
mod tests;
