//! Parsed footers, kept from one opening of a file to the next: a footer is read and checked each
//! time, but taken apart only once as long as it is here. That takes some tenths of a millisecond,
//! two fifths of what a scan of one key spent on a file.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::pages::Place;

/// What footers take in memory, at most, as far as they are kept.
const BYTES_MAX: usize = 64 << 20;

/// A footer.
#[derive(Debug)]
pub(super) struct Footer {
    pub metadata: ArrowReaderMetadata,
    /// By row group and column.
    pub crcs: Vec<Vec<u32>>,
    /// By row group; empty in files that do not describe their pages.
    pub places: Vec<Place>,
}

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(|| Mutex::new(Kept::new(BYTES_MAX)));

/// The footer of these bytes with this checksum, parsed by `parse` where it is not kept.
pub(super) fn parsed<E>(
    bytes: &[u8],
    crc32: u32,
    parse: impl FnOnce() -> Result<Footer, E>,
) -> Result<Arc<Footer>, E> {
    let lock = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = lock().get(crc32, bytes) {
        return Ok(kept);
    }
    let footer = parse()?;
    let metadata = footer.metadata.metadata().memory_size();
    let lists = footer.crcs.iter().map(|crcs| size_of_val(crcs.as_slice())).sum::<usize>();
    let footer = Arc::new(footer);
    lock().put(crc32, bytes, footer.clone(), bytes.len() + metadata + lists);
    Ok(footer)
}

/// Values by the bytes that they were made of, one for a checksum; those used last, up to a size.
struct Kept<T = Footer> {
    by_crc32: HashMap<u32, Entry<T>>,
    bytes: usize,
    bytes_max: usize,
    uses: u64,
}

struct Entry<T> {
    of: Box<[u8]>,
    value: Arc<T>,
    bytes: usize,
    used: u64,
}

impl<T> Kept<T> {
    fn new(bytes_max: usize) -> Self {
        Self { by_crc32: HashMap::new(), bytes: 0, bytes_max, uses: 0 }
    }

    fn get(&mut self, crc32: u32, of: &[u8]) -> Option<Arc<T>> {
        let entry = self.by_crc32.get_mut(&crc32).filter(|entry| *entry.of == *of)?;
        self.uses += 1;
        entry.used = self.uses;
        Some(entry.value.clone())
    }

    /// Keeps a value that takes so many bytes.
    fn put(&mut self, crc32: u32, of: &[u8], value: Arc<T>, bytes: usize) {
        if bytes > self.bytes_max {
            return;
        }
        self.uses += 1;
        self.bytes += bytes;
        let entry = Entry { of: of.into(), value, bytes, used: self.uses };
        if let Some(before) = self.by_crc32.insert(crc32, entry) {
            self.bytes -= before.bytes;
        }
        while self.bytes > self.bytes_max {
            let oldest = self.by_crc32.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(&crc32, _)| crc32) else { break };
            if let Some(entry) = self.by_crc32.remove(&oldest) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let mut kept = Kept::new(100);
        for (crc32, of, bytes) in [(1, b"a", 40), (2, b"b", 40)] {
            kept.put(crc32, of, Arc::new(of[0]), bytes);
        }
        assert_eq!(kept.get(1, b"a").as_deref(), Some(&b'a'));
        assert_eq!(kept.get(1, b"b"), None, "other bytes of that checksum");
        kept.put(3, b"c", Arc::new(b'c'), 30);
        assert_eq!(kept.get(2, b"b"), None, "it was used longest ago");
        assert_eq!(kept.get(1, b"a").as_deref(), Some(&b'a'));
        assert_eq!(kept.get(3, b"c").as_deref(), Some(&b'c'));
        // What comes in its place takes its room.
        kept.put(3, b"d", Arc::new(b'd'), 60);
        assert_eq!(kept.bytes, 100);
        assert_eq!(kept.get(3, b"d").as_deref(), Some(&b'd'));
        assert_eq!(kept.get(3, b"c"), None);
        kept.put(5, b"e", Arc::new(b'e'), 101);
        assert_eq!(kept.get(5, b"e"), None, "it alone is too large");
        assert_eq!(kept.by_crc32.len(), 2);
    }
}
