//! Checked footers, kept from one opening of a file to the next: as long as one is here it is neither
//! read again nor taken apart. Reading and comparing it each time took some tenth of a scan of one
//! key over ten files; parsing it took two fifths.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::pages::Place;
use crate::manifest::StoredFile;

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

/// Names a footer: its file, and what the manifest says of it. The footer holds the checksums of all
/// that is read of the file: another file in its place that had the same name by chance would be
/// refused as damaged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FooterName {
    path: PathBuf,
    bytes: u64,
    crc32: u32,
}

impl FooterName {
    pub fn new(path: &Path, file: &StoredFile) -> Self {
        Self { path: path.to_path_buf(), bytes: file.bytes, crc32: file.footer_crc32 }
    }
}

static KEPT: LazyLock<Mutex<Kept<FooterName, Footer>>> =
    LazyLock::new(|| Mutex::new(Kept::new(BYTES_MAX)));

fn lock() -> MutexGuard<'static, Kept<FooterName, Footer>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The footer of this name, where it is kept.
pub(super) fn kept(name: &FooterName) -> Option<Arc<Footer>> {
    lock().get(name)
}

/// Keeps a checked footer.
pub(super) fn keep(name: FooterName, footer: Footer) -> Arc<Footer> {
    let metadata = footer.metadata.metadata().memory_size();
    let lists = footer.crcs.iter().map(|crcs| size_of_val(crcs.as_slice())).sum::<usize>();
    let places = size_of_val(footer.places.as_slice());
    let footer = Arc::new(footer);
    lock().put(name, footer.clone(), metadata + lists + places);
    footer
}

/// Keeps none of those kept so far.
#[cfg(test)]
pub(crate) fn forget() {
    *lock() = Kept::new(BYTES_MAX);
}

/// Values by name; those used last, up to a size.
struct Kept<N, T> {
    by_name: HashMap<N, Entry<T>>,
    bytes: usize,
    bytes_max: usize,
    uses: u64,
}

struct Entry<T> {
    value: Arc<T>,
    bytes: usize,
    used: u64,
}

impl<N: Clone + Eq + Hash, T> Kept<N, T> {
    fn new(bytes_max: usize) -> Self {
        Self { by_name: HashMap::new(), bytes: 0, bytes_max, uses: 0 }
    }

    fn get(&mut self, name: &N) -> Option<Arc<T>> {
        let entry = self.by_name.get_mut(name)?;
        self.uses += 1;
        entry.used = self.uses;
        Some(entry.value.clone())
    }

    /// Keeps a value that takes so many bytes.
    fn put(&mut self, name: N, value: Arc<T>, bytes: usize) {
        if bytes > self.bytes_max {
            return;
        }
        self.uses += 1;
        self.bytes += bytes;
        let entry = Entry { value, bytes, used: self.uses };
        if let Some(before) = self.by_name.insert(name, entry) {
            self.bytes -= before.bytes;
        }
        while self.bytes > self.bytes_max {
            let oldest = self.by_name.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else { break };
            if let Some(entry) = self.by_name.remove(&oldest) {
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
        for (name, bytes) in [('a', 40), ('b', 40)] {
            kept.put(name, Arc::new(name), bytes);
        }
        assert_eq!(kept.get(&'a').as_deref(), Some(&'a'));
        kept.put('c', Arc::new('c'), 30);
        assert_eq!(kept.get(&'b'), None, "it was used longest ago");
        assert_eq!(kept.get(&'a').as_deref(), Some(&'a'));
        assert_eq!(kept.get(&'c').as_deref(), Some(&'c'));
        // What comes in its place takes its room.
        kept.put('c', Arc::new('d'), 60);
        assert_eq!(kept.bytes, 100);
        assert_eq!(kept.get(&'c').as_deref(), Some(&'d'));
        kept.put('e', Arc::new('e'), 101);
        assert_eq!(kept.get(&'e'), None, "it alone is too large");
        assert_eq!(kept.by_name.len(), 2);
    }
}
