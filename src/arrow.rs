//! Ticks that come as Arrow IPC streams: the payload of a publisher's Arrow message, by a stream's
//! definition.

use isotick_model::{PublisherId, Rejected, StreamSchema, Ticks};
use isotick_storage::source::{BatchError, ticks_of_batch};
use isotick_wire::{DecodeError, arrow};

/// Why a payload is none of a stream. Bad rows are no errors: they are [`Rejected`].
#[derive(Debug, thiserror::Error)]
pub enum ArrowError {
    /// The bytes are no Arrow IPC stream that is read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A record batch is none of the stream.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// The ticks and rejected rows of each record batch of a payload. Rows without a column `sequence`
/// are numbered from `first_sequence` on, through all batches.
///
/// Memory is bounded as [`arrow::read_batches`] says.
///
/// # Errors
///
/// The payload as a whole is none of this stream; nothing of it is taken then.
pub fn ticks_of_payload(
    payload: &[u8],
    schema: &StreamSchema,
    publisher: &PublisherId,
    first_sequence: u64,
) -> Result<Vec<(Ticks, Vec<Rejected>)>, ArrowError> {
    let mut first = first_sequence;
    let batches = arrow::read_batches(payload)?.into_iter().map(|batch| {
        let ticks = ticks_of_batch(&batch, schema, publisher, first)?;
        first = first.saturating_add(batch.num_rows() as u64);
        Ok(ticks)
    });
    batches.collect()
}
