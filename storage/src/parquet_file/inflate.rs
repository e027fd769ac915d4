//! Compressed pages, decompressed into memory that serves again.

use std::cell::RefCell;
use std::ops::Deref;

use bytes::Bytes;
use zstd::bulk::Decompressor;
use zstd::zstd_safe;

/// A page's header counts bytes in 31 bits.
const PAGE_BYTES_MAX: u64 = i32::MAX as u64;

/// Bytes of a page.
pub(super) enum PageBytes {
    /// As they are stored.
    Stored(Bytes),
    Inflated(Vec<u8>),
}

impl Deref for PageBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Stored(bytes) => bytes,
            Self::Inflated(bytes) => bytes,
        }
    }
}

/// Decompresses a page, which is a frame of zstd that says how long it becomes, into `out` alone.
/// `None` where it is not.
pub(super) fn inflate(frame: &[u8], out: &mut Vec<u8>) -> Option<()> {
    thread_local! {
        // Each asks the system for memory, which takes as long as a small page.
        static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    out.clear();
    let length = zstd_safe::get_frame_content_size(frame).ok()??;
    if length > PAGE_BYTES_MAX {
        return None;
    }
    out.reserve(length as usize);
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let decompressor = match decompressor {
            Some(decompressor) => decompressor,
            None => decompressor.insert(Decompressor::new().ok()?),
        };
        let written = decompressor.decompress_to_buffer(frame, out).ok()?;
        (written as u64 == length).then_some(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_inflated_and_what_is_none_is_told() {
        let mut out = vec![7; 100];
        for content in [&b""[..], b"a", &[5; 100_000]] {
            let frame = zstd::bulk::compress(content, 1).unwrap();
            inflate(&frame, &mut out).unwrap();
            assert_eq!(out, content);
            assert_eq!(inflate(&frame[..frame.len() - 1], &mut out), None);
            assert_eq!(
                inflate(&[&frame[..], &frame[..]].concat(), &mut out),
                None.or(
                    // Twice nothing is nothing.
                    content.is_empty().then_some(())
                )
            );
        }
        assert_eq!(inflate(b"", &mut out), None);
        assert_eq!(inflate(b"no frame at all", &mut out), None);
        let unsized_frame = zstd::stream::encode_all(&b"of unknown length"[..], 1).unwrap();
        assert_eq!(inflate(&unsized_frame, &mut out), None);
        // A length that no page has.
        let mut claims = vec![0x28, 0xB5, 0x2F, 0xFD, 0xC0, 0x00];
        claims.extend((1_u64 << 40).to_le_bytes());
        assert_eq!(inflate(&claims, &mut out), None);
    }
}
