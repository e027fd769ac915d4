//! Messages on a stream: a length, a kind, a payload.

use bytes::{Buf, Bytes, BytesMut};

use crate::{DecodeError, MESSAGE_BYTES_MAX};

/// Bytes before each payload: the payload's length as `u32` little endian, then the kind.
pub const HEADER_BYTES: usize = 5;

/// What a message's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A control message in Protocol Buffers ([`crate::control`]).
    Control = 1,
    /// A tick frame ([`crate::frame`]).
    Ticks = 2,
    /// A batch of windows ([`crate::windows`]).
    Windows = 3,
    /// An Arrow IPC stream: ticks from a publisher, windows to a subscriber.
    Arrow = 4,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What the payload is.
    pub kind: Kind,
    /// The payload, at most [`MESSAGE_BYTES_MAX`] bytes.
    pub payload: Bytes,
}

/// Appends a message whose payload `write` appends. Nothing is appended when `write` fails.
///
/// # Panics
///
/// When `write` appends more than [`MESSAGE_BYTES_MAX`] bytes: encoders check that themselves.
pub fn put<E>(
    kind: Kind,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind as u8]);
    if let Err(error) = write(out) {
        out.truncate(start);
        return Err(error);
    }
    let bytes = out.len() - start - HEADER_BYTES;
    assert!(bytes <= MESSAGE_BYTES_MAX, "an encoder exceeded the bound of a message");
    out[start..start + 4].copy_from_slice(&(bytes as u32).to_le_bytes());
    Ok(())
}

/// Cuts the bytes of a stream into messages. Sans-IO: feed what arrived, then call
/// [`next`](Self::next) until it returns `None`.
///
/// Holds at most one message's bytes and what was fed after it.
#[derive(Debug)]
pub struct Assembler {
    bytes: BytesMut,
    limit: usize,
}

impl Default for Assembler {
    /// For a client: messages up to [`MESSAGE_BYTES_MAX`].
    fn default() -> Self {
        Self::with_limit(MESSAGE_BYTES_MAX)
    }
}

impl Assembler {
    /// Accepts payloads of up to `limit` bytes, e.g. [`REQUEST_BYTES_MAX`](crate::REQUEST_BYTES_MAX) from clients.
    pub fn with_limit(limit: usize) -> Self {
        Self { bytes: BytesMut::new(), limit }
    }

    /// Appends what the stream brought next.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, `None` while it is incomplete.
    ///
    /// # Errors
    ///
    /// An announced length above the limit, or an unknown kind. The stream is useless then.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Message>, DecodeError> {
        if self.bytes.len() < HEADER_BYTES {
            return Ok(None);
        }
        let length: [u8; 4] = self.bytes[..4].try_into().expect("four bytes");
        let bytes = u32::from_le_bytes(length) as usize;
        if bytes > self.limit {
            return Err(DecodeError::MessageTooLong { bytes, limit: self.limit });
        }
        let kind = match self.bytes[4] {
            1 => Kind::Control,
            2 => Kind::Ticks,
            3 => Kind::Windows,
            4 => Kind::Arrow,
            other => return Err(DecodeError::UnknownKind(other)),
        };
        if self.bytes.len() < HEADER_BYTES + bytes {
            return Ok(None);
        }
        self.bytes.advance(HEADER_BYTES);
        Ok(Some(Message { kind, payload: self.bytes.split_to(bytes).freeze() }))
    }

    /// Bytes fed and not yet taken.
    pub fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a message has begun that is not whole yet.
    pub fn is_inside_message(&self) -> bool {
        !self.bytes.is_empty()
    }
}
