//! Compressed pages, decompressed into memory that serves again.

#[cfg(target_arch = "x86_64")]
mod short;

use std::cell::RefCell;
use std::io::Read;
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

/// Decompresses a page that is stored with zstd into `out` alone. `None` where it is not.
pub(super) fn inflate(frame: &[u8], out: &mut Vec<u8>) -> Option<()> {
    thread_local! {
        // Each asks the system for memory, which takes as long as a small page.
        static DECODERS: RefCell<Option<Decoders>> = const { RefCell::new(None) };
    }
    // Writers that compress as they go do not know it before.
    let length = zstd_safe::get_frame_content_size(frame).ok()?;
    if length.is_some_and(|length| length > PAGE_BYTES_MAX) {
        return None;
    }
    DECODERS.with_borrow_mut(|decoders| {
        let decoders = match decoders {
            Some(decoders) => decoders,
            None => decoders.insert(Decoders::new()?),
        };
        #[cfg(target_arch = "x86_64")]
        if let Some(short) = &mut decoders.short
            && short.decompress(frame, length.map(|length| length as usize), out).is_some()
        {
            return Some(());
        }
        out.clear();
        match length {
            Some(length) => {
                out.reserve(length as usize);
                let written = decoders.general.decompress_to_buffer(frame, out).ok()?;
                (written as u64 == length).then_some(())
            }
            None => {
                let decoder = zstd::stream::read::Decoder::with_buffer(frame).ok()?;
                let length = decoder.take(PAGE_BYTES_MAX + 1).read_to_end(out).ok()?;
                (length as u64 <= PAGE_BYTES_MAX).then_some(())
            }
        }
    })
}

struct Decoders {
    general: Decompressor<'static>,
    #[cfg(target_arch = "x86_64")]
    short: Option<short::Decoder>,
}

impl Decoders {
    fn new() -> Option<Self> {
        Some(Self {
            general: Decompressor::new().ok()?,
            #[cfg(target_arch = "x86_64")]
            short: short::Decoder::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_inflated_and_what_is_none_is_told() {
        let mut out = vec![7; 100];
        for content in [&b"a"[..], &[5; 100_000]] {
            let known = zstd::bulk::compress(content, 1).unwrap();
            let unknown = zstd::stream::encode_all(content, 1).unwrap();
            assert_eq!(zstd_safe::get_frame_content_size(&unknown).unwrap(), None);
            for frame in [&known, &unknown] {
                inflate(frame, &mut out).unwrap();
                assert_eq!(out, content);
                assert_eq!(inflate(&frame[..frame.len() - 1], &mut out), None);
            }
            let longer = [&known[..], &known[..]].concat();
            assert_eq!(inflate(&longer, &mut out), None, "longer than it says");
        }
        assert_eq!(inflate(&zstd::bulk::compress(b"", 1).unwrap(), &mut out), Some(()));
        assert_eq!(out, b"");
        assert_eq!(inflate(b"", &mut out), None);
        assert_eq!(inflate(b"no frame at all", &mut out), None);
        // A length that no page has.
        let mut claims = vec![0x28, 0xB5, 0x2F, 0xFD, 0xC0, 0x00];
        claims.extend((1_u64 << 40).to_le_bytes());
        assert_eq!(inflate(&claims, &mut out), None);
    }
}
