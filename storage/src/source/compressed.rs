//! Files as they lie on disk, decompressed on the way: gzip and Zstandard, by their first bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use super::{SourceError, open, read_error};

const BUFFER_BYTES: usize = 256 * 1024;
/// Windows up to 128 MiB, what `zstd` makes without `--ultra` or a larger `--long`: it bounds the
/// memory that a file can ask for.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    /// Any number of members.
    Gzip,
    /// Any number of frames.
    Zstd,
}

impl Compression {
    /// By a file's first bytes.
    pub(super) fn of(head: &[u8]) -> Self {
        match head {
            [0x1F, 0x8B, ..] => Self::Gzip,
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// A file's content, and how much of the file itself was taken for it.
pub(super) struct Content {
    input: Box<dyn BufRead + Send>,
    compression: Compression,
    taken: Arc<AtomicU64>,
}

/// Counts the bytes taken from the file itself.
struct Counted {
    file: File,
    taken: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Content {
    /// Opens a file, adding to `taken` the bytes taken from it.
    pub(super) fn open(path: &Path, taken: Arc<AtomicU64>) -> Result<Self, SourceError> {
        let mut magic = Vec::new();
        open(path)?.take(4).read_to_end(&mut magic).map_err(read_error(path))?;
        let compression = Compression::of(&magic);
        let counted = Counted { file: open(path)?, taken: taken.clone() };
        let buffered = BufReader::with_capacity(BUFFER_BYTES, counted);
        let input: Box<dyn BufRead + Send> = match compression {
            Compression::None => Box::new(buffered),
            Compression::Gzip => {
                Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(buffered)))
            }
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(buffered);
                let mut decoder = decoder.map_err(read_error(path))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(read_error(path))?;
                Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
            }
        };
        Ok(Self { input, compression, taken })
    }

    /// Bytes in memory, as they are.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let input = Box::new(io::Cursor::new(bytes.to_vec()));
        Self { input, compression: Compression::None, taken: Arc::default() }
    }

    /// The first bytes of the content, at most `bytes`.
    pub(super) fn head(path: &Path, bytes: u64) -> Result<Vec<u8>, SourceError> {
        let mut content = Self::open(path, Arc::default())?;
        let mut head = Vec::new();
        let read = content.by_ref().take(bytes).read_to_end(&mut head);
        read.map_err(|source| content.failed(path, String::new(), source))?;
        Ok(head)
    }

    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// What to say of a failed read: where in the file, and behind what (as in `after line 7`).
    pub(super) fn failed(&self, path: &Path, behind: String, source: io::Error) -> SourceError {
        match self.compression {
            Compression::None => read_error(path)(source),
            Compression::Gzip | Compression::Zstd => SourceError::Compressed {
                path: path.into(),
                offset: self.taken.load(Ordering::Relaxed),
                behind,
                source,
            },
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl BufRead for Content {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.input.consume(count);
    }
}
