//! What a session has to say, and has not said yet.

use bytes::Bytes;
use isotick_wire::{Control, EncodeError};
use quinn_proto::{Connection, StreamId, WriteError};

/// The writing side of a session.
#[derive(Default)]
pub(super) struct Outbox {
    chunks: Vec<Bytes>,
    /// Chunks that are written.
    done: usize,
    /// Bytes that are not written yet.
    pub(super) bytes: usize,
    /// The stream ends with what is put now.
    pub(super) is_last: bool,
}

impl Outbox {
    pub(super) fn put(&mut self, control: &Control) -> Result<(), EncodeError> {
        let mut bytes = Vec::new();
        control.put(&mut bytes)?;
        self.push(bytes.into());
        Ok(())
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.chunks.push(bytes);
    }

    /// Writes as much as there is room for. True when everything is written, an error when the
    /// client wants nothing more.
    pub(super) fn flush(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
    ) -> Result<bool, ()> {
        while self.bytes > 0 {
            match connection.send_stream(stream).write_chunks(&mut self.chunks[self.done..]) {
                Ok(written) => {
                    self.done += written.chunks;
                    self.bytes -= written.bytes;
                }
                Err(WriteError::Blocked) => return Ok(false),
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return Err(()),
            }
        }
        self.chunks.clear();
        self.done = 0;
        if std::mem::take(&mut self.is_last) {
            connection.send_stream(stream).finish().map_err(|_| ())?;
        }
        Ok(true)
    }
}
