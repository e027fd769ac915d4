//! Arrow IPC streams: ticks from publishers of any language, windows to their subscribers.

mod check;
mod windows;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;

use crate::frame::{CELLS_MAX, ROWS_MAX};
use crate::{DecodeError, EncodeError, REQUEST_BYTES_MAX};
pub use windows::{WindowStream, encode_windows, windows_schema};

/// Reads the payload of a publisher's message of kind [`Arrow`](crate::Kind::Arrow): one IPC
/// stream of any number of record batches.
///
/// Columns are integers, floats, booleans, decimals, dates, timestamps, text, nulls, or text by
/// dictionary; buffers are not compressed. All batches together have at most
/// [`ROWS_MAX`](crate::frame::ROWS_MAX) rows and [`CELLS_MAX`](crate::frame::CELLS_MAX) values,
/// and so have all dictionaries. Everything that is stated about lengths is checked before
/// anything is made of it: memory is in proportion to the bytes.
///
/// # Errors
///
/// Any other bytes.
pub fn read_batches(payload: &[u8]) -> Result<Vec<RecordBatch>, DecodeError> {
    check::check(payload)?;
    StreamReader::try_new(payload, None)
        .and_then(Iterator::collect)
        .map_err(|source| DecodeError::Arrow { reason: source.to_string() })
}

/// The payload of a publisher's message with the rows of this batch, checked as a service will
/// check it.
///
/// # Errors
///
/// [`EncodeError::TooLarge`] when they do not fit one message: slice the batch.
/// [`EncodeError::Arrow`] when a column is of a type that [`read_batches`] does not read.
pub fn encode_ticks(batch: &RecordBatch) -> Result<Vec<u8>, EncodeError> {
    let rows = batch.num_rows();
    if rows > ROWS_MAX || rows * batch.num_columns() > CELLS_MAX {
        return Err(EncodeError::TooLarge { rows });
    }
    let refused = |reason: String| EncodeError::Arrow { reason };
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, batch.schema_ref())
        .and_then(|mut writer| {
            writer.write(batch)?;
            writer.finish()
        })
        .map_err(|error| refused(error.to_string()))?;
    if bytes.len() > REQUEST_BYTES_MAX {
        return Err(EncodeError::TooLarge { rows });
    }
    check::check(&bytes).map_err(|error| refused(error.to_string()))?;
    Ok(bytes)
}

/// The payload of a publisher's message: an IPC stream of these batches.
///
/// # Panics
///
/// If the batches have not all the same schema, or there is none.
pub fn encode_batches(batches: &[RecordBatch]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let schema = batches.first().expect("at least one record batch").schema();
    let written = StreamWriter::try_new(&mut bytes, &schema).and_then(|mut writer| {
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()
    });
    written.expect("the batches have one schema, and a vector grows as needed");
    bytes
}

#[cfg(test)]
mod tests;
