//! Column chunks read piece by piece, as their pages are asked for.
//!
//! Pages are many and small, chunks can be large: a piece spares system calls, and holds little
//! memory, which is used again for the next one.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use parquet::arrow::ProjectionMask;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};

/// Bytes that are read at once, unless a page has more.
const PIECE_BYTES: u64 = 512 << 10;
/// Bytes that are read for a page's header alone: the page may be passed over.
const HEAD_BYTES: u64 = 4 << 10;
/// Pages have many lengths, memory for them few: it can serve again.
const ROUND_BYTES: usize = 64 << 10;

/// The chosen column chunks of one row group.
pub(super) struct Pieces {
    shared: Arc<Shared>,
}

struct Shared {
    file: File,
    /// The end of the file: a damaged footer may claim more than there is.
    end: u64,
    chunks: Vec<Chunk>,
}

struct Chunk {
    range: Range<u64>,
    /// The piece that was read last.
    piece: Mutex<Piece>,
}

#[derive(Clone, Default)]
struct Piece {
    start: u64,
    bytes: Bytes,
    /// All of the memory that the bytes are in.
    memory: Bytes,
}

impl Piece {
    /// What it holds from this place of the file on.
    fn from(&self, start: u64) -> Option<Bytes> {
        let skipped = start.checked_sub(self.start)?;
        (skipped < self.bytes.len() as u64).then(|| self.bytes.slice(skipped as usize..))
    }
}

impl Pieces {
    pub(super) fn new(
        file: &File,
        metadata: &ParquetMetaData,
        group: usize,
        mask: &ProjectionMask,
    ) -> Result<Self, ParquetError> {
        let columns = metadata.row_group(group).columns().iter().enumerate();
        let chunk = |column: &parquet::file::metadata::ColumnChunkMetaData| {
            let (start, len) = column.byte_range();
            Chunk { range: start..start.saturating_add(len), piece: Mutex::default() }
        };
        let chosen = columns.filter(|(leaf, _)| mask.leaf_included(*leaf));
        let chunks = chosen.map(|(_, column)| chunk(column)).collect();
        let shared = Shared { file: file.try_clone()?, end: file.metadata()?.len(), chunks };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Shared {
    /// The bytes of a chunk from this place on: at least so many, or all that are left. Where they
    /// have to be read, about `most` are.
    fn from(&self, start: u64, least: u64, most: u64) -> io::Result<Bytes> {
        let chunk = self.chunks.iter().find(|chunk| chunk.range.contains(&start));
        let Some(chunk) = chunk else { return Ok(Bytes::new()) };
        let left = chunk.range.end.min(self.end).saturating_sub(start);
        let least = least.min(left);
        let mut piece = chunk.piece.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = piece.from(start)
            && held.len() as u64 >= least
        {
            return Ok(held);
        }
        let length = least.max(most.min(left)) as usize;
        // The memory of the piece before, unless some of it is still in use.
        let Piece { bytes, memory, .. } = std::mem::take(&mut *piece);
        drop(bytes);
        let mut memory = memory.try_into_mut().unwrap_or_default();
        if memory.len() < length {
            let whole = (chunk.range.end - chunk.range.start).min(PIECE_BYTES) as usize;
            memory = BytesMut::zeroed(length.max(whole).next_multiple_of(ROUND_BYTES));
        }
        self.file.read_exact_at(&mut memory[..length], start)?;
        let memory = memory.freeze();
        *piece = Piece { start, bytes: memory.slice(..length), memory };
        Ok(piece.bytes.clone())
    }
}

impl Length for Pieces {
    fn len(&self) -> u64 {
        self.shared.end
    }
}

impl ChunkReader for Pieces {
    type T = PieceReader;

    fn get_read(&self, start: u64) -> Result<PieceReader, ParquetError> {
        Ok(PieceReader { shared: Arc::clone(&self.shared), next: start, bytes: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.shared.from(start, length as u64, PIECE_BYTES)?;
        match length <= bytes.len() {
            true => Ok(bytes.slice(..length)),
            false => {
                Err(ParquetError::General(format!("a column chunk ends before {length} bytes")))
            }
        }
    }
}

/// Reads on from some place of a chunk to its end.
pub(super) struct PieceReader {
    shared: Arc<Shared>,
    /// The place behind `bytes`.
    next: u64,
    bytes: Bytes,
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            self.bytes = self.shared.from(self.next, 1, HEAD_BYTES)?;
            self.next += self.bytes.len() as u64;
        }
        let length = buffer.len().min(self.bytes.len());
        self.bytes.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chunk of so many bytes in the middle of a file, each byte told by its place.
    fn pieces(range: Range<u64>, end: u64) -> Pieces {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..end).map(byte).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let chunks = vec![Chunk { range, piece: Mutex::default() }];
        Pieces { shared: Arc::new(Shared { file, end, chunks }) }
    }

    fn byte(place: u64) -> u8 {
        (place % 251) as u8
    }

    fn expected(range: Range<u64>) -> Vec<u8> {
        range.map(byte).collect()
    }

    #[test]
    fn any_part_of_a_chunk_is_read_in_any_order() {
        let pieces = pieces(100..3 * PIECE_BYTES, 4 * PIECE_BYTES);
        for (start, length) in [
            (100, 10),
            (110, 1),
            (100 + PIECE_BYTES - 5, 10),
            (200, 2 * PIECE_BYTES),
            (3 * PIECE_BYTES - 1, 1),
            (100, 0),
        ] {
            let read = pieces.get_bytes(start, length as usize).unwrap();
            assert_eq!(read, expected(start..start + length), "{length} bytes at {start}");
        }
        let mut all = Vec::new();
        pieces.get_read(100).unwrap().read_to_end(&mut all).unwrap();
        assert_eq!(all, expected(100..3 * PIECE_BYTES), "over the ends of pieces");
    }

    #[test]
    fn nothing_is_read_past_a_chunk_or_the_file() {
        let whole = pieces(100..200, 1_000);
        assert!(whole.get_bytes(199, 2).is_err());
        assert!(whole.get_bytes(200, 1).is_err());
        assert!(whole.get_bytes(99, 1).is_err());
        let cut = pieces(100..u64::MAX, 150);
        assert_eq!(cut.get_bytes(140, 10).unwrap(), expected(140..150));
        assert!(cut.get_bytes(140, 11).is_err());
        assert!(cut.get_bytes(160, usize::MAX).is_err());
        let mut rest = Vec::new();
        cut.get_read(145).unwrap().read_to_end(&mut rest).unwrap();
        assert_eq!(rest, expected(145..150));
    }

    #[test]
    fn bytes_that_were_handed_out_stand() {
        let pieces = pieces(0..3 * PIECE_BYTES, 3 * PIECE_BYTES);
        let first = pieces.get_bytes(0, 100).unwrap();
        pieces.get_bytes(2 * PIECE_BYTES, 100).unwrap();
        assert_eq!(first, expected(0..100));
    }
}
