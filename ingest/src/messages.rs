//! Windows as whole messages, each small enough for a stream.

use bytes::Bytes;
use isotick_model::results::ResultSchema;
use isotick_wire::message::{self, Kind};
use isotick_wire::{Control, EncodeError, Format, PublishedWindow, arrow, windows};

/// Windows per message at most.
const WINDOWS_PER_MESSAGE: usize = 4_096;

/// Whole messages, headers included, as many as it takes. `first_cursor` counts what was sent of
/// the view before these windows.
///
/// # Errors
///
/// A window that fits no message, or does not go with the schema.
pub(crate) fn of_windows(
    windows: &[PublishedWindow],
    first_cursor: u64,
    schema: &ResultSchema,
    format: Format,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut messages = Vec::new();
    let mut cursor = first_cursor;
    for part in windows.chunks(WINDOWS_PER_MESSAGE) {
        encode(part, cursor, schema, format, &mut messages)?;
        cursor += part.len() as u64;
    }
    Ok(messages)
}

/// A whole control message.
///
/// # Errors
///
/// A text that fits no message.
pub(crate) fn of_control(control: &Control) -> Result<Bytes, EncodeError> {
    let mut bytes = Vec::new();
    control.put(&mut bytes)?;
    Ok(bytes.into())
}

/// Cuts into halves until they fit.
fn encode(
    part: &[PublishedWindow],
    first: u64,
    schema: &ResultSchema,
    format: Format,
    messages: &mut Vec<Bytes>,
) -> Result<(), EncodeError> {
    let mut bytes = Vec::new();
    let next = first + part.len() as u64;
    let put = match format {
        Format::Windows => message::put(Kind::Windows, &mut bytes, |out| {
            windows::encode(part, next, schema.columns.len(), out)
        }),
        Format::Arrow => message::put(Kind::Arrow, &mut bytes, |out| {
            arrow::encode_windows(part, next, schema, out)
        }),
    };
    match put {
        Err(EncodeError::TooLarge { rows }) if rows > 1 => {
            let (left, right) = part.split_at(rows / 2);
            encode(left, first, schema, format, messages)?;
            encode(right, first + left.len() as u64, schema, format, messages)
        }
        Err(error) => Err(error),
        Ok(()) => {
            messages.push(bytes.into());
            Ok(())
        }
    }
}
