//! What only fuzzing reaches from outside: formats as bytes, without files around them.

/// Reads bytes as DBN, every field of every record; the rows, or what the error says.
///
/// # Errors
///
/// As [`Source::open`](super::Source::open) and [`next_batch`](super::Source::next_batch).
pub fn dbn(bytes: &[u8]) -> Result<u64, super::SourceError> {
    super::dbn_file::read_bytes(bytes)
}
