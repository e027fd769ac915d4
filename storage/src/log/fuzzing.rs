//! What only fuzzing reaches from outside: records as bytes, without the log around them.

use super::{LogRecord, codec};

pub use super::codec::VALUES_MAX;

/// The record that fills `bytes`, if they are one.
pub fn decode(bytes: &[u8]) -> Option<LogRecord> {
    codec::decode(bytes).ok()
}

/// A record as bytes.
///
/// # Panics
///
/// When the record holds more than a record can: none that was decoded does.
pub fn encode(record: &LogRecord) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(record, &mut bytes);
    bytes
}
