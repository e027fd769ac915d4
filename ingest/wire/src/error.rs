//! What can be wrong with bytes, and with what is to become bytes.

use crate::{VERSION, frame, windows};

/// Bytes that are no valid message. Decoders return this for any input that they do not accept;
/// they never panic and never allocate beyond the bounds stated on them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The declared length is above the limit.
    #[error("a message of {bytes} bytes is announced, at most {limit} are allowed")]
    MessageTooLong {
        /// The announced length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The kind byte is none of the known ones.
    #[error("unknown message kind {0}")]
    UnknownKind(u8),
    /// The bytes end before the value does.
    #[error("the bytes end inside {what}")]
    Truncated {
        /// The part that is cut.
        what: &'static str,
    },
    /// There is more after the end.
    #[error("{bytes} bytes are left over at the end")]
    LeftOver {
        /// How many.
        bytes: usize,
    },
    /// The checksum at the end does not match.
    #[error("the checksum does not match: the bytes were changed on their way")]
    Checksum,
    /// The first byte names another layout.
    #[error("layout {found} is not known, this side reads layout {expected}")]
    Layout {
        /// What this side reads.
        expected: u8,
        /// What the bytes say.
        found: u8,
    },
    /// More rows or values than one frame may hold.
    #[error(
        "{rows} rows of {columns} columns in one message, at most {} rows and {} values are allowed",
        frame::ROWS_MAX,
        frame::CELLS_MAX.max(windows::VALUES_MAX)
    )]
    TooManyRows {
        /// Rows announced, ticks and rejected ones.
        rows: usize,
        /// Value columns announced.
        columns: usize,
    },
    /// The number of value columns is not the schema's.
    #[error(
        "{found} value columns, the definition has {expected}: fetch the definitions again and \
         convert with them"
    )]
    Columns {
        /// What the schema has.
        expected: usize,
        /// What the bytes have.
        found: usize,
    },
    /// A value that is not allowed where it stands.
    #[error("{what} is not valid")]
    Invalid {
        /// What it is.
        what: &'static str,
    },
    /// No valid Arrow IPC stream.
    #[error("no valid Arrow IPC stream: {reason}")]
    Arrow {
        /// What the reader says.
        reason: String,
    },
    /// No valid Protocol Buffers message.
    #[error("no valid control message: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// The other side speaks another version of the protocol.
    #[error("the client speaks version {found}, this service speaks version {VERSION}")]
    Version {
        /// What it speaks.
        found: u32,
    },
}

/// Values that do not fit one message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Too many rows, values or bytes: cut into smaller pieces.
    #[error("{rows} rows do not fit one message: cut them")]
    TooLarge {
        /// Rows that were to be encoded.
        rows: usize,
    },
    /// The rows come from more than one publisher.
    #[error("a tick frame holds rows of one publisher, these come from {publishers}")]
    SeveralPublishers {
        /// How many.
        publishers: usize,
    },
    /// A key longer than any may be.
    #[error("a key takes {bytes} bytes, at most {} are allowed", isotick_model::Key::LEN_MAX)]
    KeyTooLong {
        /// Its encoded bytes.
        bytes: usize,
    },
    /// A window's value is not of its column's type.
    #[error("a value of column {column} is not of the column's type")]
    Value {
        /// The column's index.
        column: usize,
    },
    /// A record batch that no receiver would read.
    #[error("the record batch cannot be sent: {reason}")]
    Arrow {
        /// What is wrong with it.
        reason: String,
    },
    /// A column has not one value per row.
    #[error("value column {column} has {values} values for {rows} rows")]
    ColumnLength {
        /// The column's index.
        column: usize,
        /// Its values.
        values: usize,
        /// The rows.
        rows: usize,
    },
}
