//! Datagrams: a tick frame that may be lost.

use crate::DecodeError;
use crate::pack::{Cursor, put_unsigned};

/// Appends what a datagram of a session begins with; a tick frame's payload follows.
pub fn put_session(session: u64, out: &mut Vec<u8>) {
    put_unsigned(session, out);
}

/// The session of a datagram, and the tick frame's payload.
///
/// # Errors
///
/// Bytes that end before a session does.
pub fn split(datagram: &[u8]) -> Result<(u64, &[u8]), DecodeError> {
    let mut cursor = Cursor::new(datagram);
    let session = cursor.unsigned("a datagram's session")?;
    Ok((session, cursor.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_a_session_and_a_payload() {
        for session in [0, 127, 128, u64::MAX] {
            let mut bytes = Vec::new();
            put_session(session, &mut bytes);
            bytes.extend_from_slice(b"frame");
            assert_eq!(split(&bytes).unwrap(), (session, &b"frame"[..]));
            for cut in 0..bytes.len() - 5 {
                assert!(split(&bytes[..cut]).is_err());
            }
        }
    }
}
