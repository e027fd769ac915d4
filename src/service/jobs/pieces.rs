//! A job's pieces on disk: what each part gave, so that only what was under way is computed again
//! after a restart, and results need not fit into memory.
//!
//! One file per job, appended to. A frame is its length and CRC-32 (`u32` little endian each) and
//! a Protocol Buffers message. Nothing is synced: what a power failure takes is computed again.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use isotick_kernels::{EncodedRows, EngineKind, SavedWindows, SortedRun};
use isotick_model::Key;
use isotick_scheduler::{Piece, PieceOfView};
use prost::Message;

use crate::service::checkpoint::{stored as checkpoint, windows_from_stored, windows_to_stored};

/// A frame's length and checksum.
const HEADER_BYTES: usize = 8;
/// No frame is longer: a length beyond is damage.
const FRAME_BYTES_MAX: usize = 1 << 30;

/// Bytes that are written at a time: the kernel does not let other threads run meanwhile.
const WRITTEN_BYTES: usize = 128 << 10;

/// The piece of the windows that several parts touch: the last one, made when the parts are done.
pub const REST: u32 = u32::MAX;

/// The file, and what it holds.
pub struct Pieces {
    file: Arc<File>,
    state: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Nothing is added any more.
    is_closed: bool,
    end: u64,
    /// Per view: the finished windows of each piece.
    runs: Vec<Vec<Vec<Block>>>,
}

/// Where rows are in the file.
#[derive(Clone, Debug)]
pub struct Block {
    pub offset: u64,
    pub len: u32,
    pub first: (Key, i64),
}

/// What is known of a piece that was found.
pub struct Found {
    pub part: u32,
    pub rows_read: u64,
    pub rows_from_states: u64,
    /// Per view: the states of windows that other parts touch, and the rows by engine.
    pub views: Vec<(SavedWindows, Vec<(EngineKind, u64)>)>,
}

impl Pieces {
    /// An empty file for a scan of so many views.
    pub fn create(path: &Path, views: usize) -> Result<Self> {
        // Another file than an earlier one of this name, which may still be read.
        let _ = std::fs::remove_file(path);
        let mut options = OpenOptions::new();
        options.create_new(true).read(true).write(true);
        let file =
            options.open(path).with_context(|| format!("cannot create {}", path.display()))?;
        let state = Held { runs: vec![Vec::new(); views], ..Held::default() };
        Ok(Self { file: Arc::new(file), state: Mutex::new(state) })
    }

    /// What an earlier run left; what it did not write whole is cut off.
    pub fn open(path: &Path, views: usize) -> Result<(Self, Vec<Found>)> {
        let open = || OpenOptions::new().read(true).write(true).open(path);
        let file = open().with_context(|| format!("cannot open {}", path.display()))?;
        let (mut held, mut found) =
            (Held { runs: vec![Vec::new(); views], ..Held::default() }, Vec::new());
        let mut reader = BufReader::with_capacity(1 << 20, &file);
        while let Some((payload, bytes)) = next_frame(&mut reader)? {
            let piece = stored::Piece::decode(&*payload).context("a piece cannot be read")?;
            ensure!(piece.views.len() == views, "a piece is of another scan");
            if piece.part == REST {
                // It is made again of the others.
                break;
            }
            let at = held.end + HEADER_BYTES as u64;
            let (of_piece, runs) = piece.take(at, &payload)?;
            held.runs.iter_mut().zip(runs).for_each(|(all, run)| all.push(run));
            found.push(of_piece);
            held.end += bytes;
        }
        file.set_len(held.end).with_context(|| format!("cannot cut {}", path.display()))?;
        Ok((Self { file: Arc::new(file), state: Mutex::new(held) }, found))
    }

    /// Adds a part's piece. Gives the states that others have to be combined with.
    pub fn add(&self, part: u32, piece: Piece) -> Result<Vec<SavedWindows>> {
        let encoded = encode(part, &piece);
        let mut frame = Vec::with_capacity(encoded.payload.len() + HEADER_BYTES);
        frame.extend((encoded.payload.len() as u32).to_le_bytes());
        frame.extend(crc32fast::hash(&encoded.payload).to_le_bytes());
        frame.extend(&encoded.payload);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(!state.is_closed, "the job has ended");
        for (some, at) in frame.chunks(WRITTEN_BYTES).zip((state.end..).step_by(WRITTEN_BYTES)) {
            self.file.write_all_at(some, at).context("cannot write a piece")?;
        }
        let at = state.end + HEADER_BYTES as u64;
        for (all, blocks) in state.runs.iter_mut().zip(encoded.runs) {
            let moved =
                blocks.into_iter().map(|block| Block { offset: at + block.offset, ..block });
            all.push(moved.collect());
        }
        state.end += frame.len() as u64;
        Ok(piece.views.into_iter().map(|of| of.open).collect())
    }

    /// Takes no more pieces: from here on the file can be opened anew.
    pub fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
    }

    /// The finished windows of a view as sorted runs, those of some pieces in the order added.
    pub fn runs(
        &self,
        view: usize,
        columns: usize,
        pieces: Range<usize>,
    ) -> Vec<SortedRun<impl Iterator<Item = Result<EncodedRows>> + use<>>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = state.runs[view][pieces].iter().filter_map(|blocks| {
            let first = blocks.first()?.first.clone();
            let file = self.file.clone();
            let blocks = blocks.clone().into_iter().map(move |block| {
                let mut bytes = vec![0; block.len as usize];
                file.read_exact_at(&mut bytes, block.offset).context("cannot read a piece")?;
                EncodedRows::from_bytes(columns, bytes).context("a piece is damaged")
            });
            Some(SortedRun { first, blocks })
        });
        runs.collect()
    }

    /// How many pieces there are.
    pub fn len(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.runs.first().map_or(0, Vec::len)
    }
}

struct Encoded {
    payload: Vec<u8>,
    /// Per view, with offsets in the payload.
    runs: Vec<Vec<Block>>,
}

/// The blocks' bytes come last and outside of the message's own fields' order, so that their places
/// are known: a view's message holds their lengths.
fn encode(part: u32, piece: &Piece) -> Encoded {
    let view = |of: &PieceOfView| stored::View {
        blocks: of.finished.iter().map(|block| block.bytes().len() as u32).collect(),
        firsts: of
            .finished
            .iter()
            .filter_map(|block| {
                let (key, start) = block.first()?;
                Some(stored::First { key: key.as_bytes().to_vec(), start })
            })
            .collect(),
        open: Some(windows_to_stored(&of.open)),
        engines: of.rows.iter().map(|(kind, _)| *kind as u32).collect(),
        rows: of.rows.iter().map(|(_, rows)| *rows).collect(),
    };
    let message = stored::Piece {
        part,
        rows_read: piece.rows_read,
        rows_from_states: piece.rows_from_states,
        views: piece.views.iter().map(view).collect(),
        bytes: Vec::new(),
    };
    let mut payload = message.encode_to_vec();
    let total: usize =
        piece.views.iter().flat_map(|of| &of.finished).map(|block| block.bytes().len()).sum();
    // The last field by hand: its content is not copied together first.
    prost::encoding::encode_key(
        BYTES_TAG,
        prost::encoding::WireType::LengthDelimited,
        &mut payload,
    );
    prost::encoding::encode_varint(total as u64, &mut payload);
    payload.reserve(total);
    let runs = piece.views.iter().map(|of| {
        let blocks = of.finished.iter().filter_map(|block| {
            let (key, start) = block.first()?;
            let offset = payload.len() as u64;
            payload.extend_from_slice(block.bytes());
            let len = block.bytes().len() as u32;
            Some(Block { offset, len, first: (key.clone(), start) })
        });
        blocks.collect()
    });
    let runs = runs.collect();
    Encoded { payload, runs }
}

/// The next whole frame's payload and its length with the header; `None` at the end, or where the
/// last one is torn.
fn next_frame(reader: &mut impl Read) -> Result<Option<(Vec<u8>, u64)>> {
    let mut header = [0; HEADER_BYTES];
    if !read_whole(reader, &mut header)? {
        return Ok(None);
    }
    let [length, crc] = [0, 4]
        .map(|at| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
    if length as usize > FRAME_BYTES_MAX {
        return Ok(None);
    }
    let mut payload = Vec::new();
    reader.take(u64::from(length)).read_to_end(&mut payload).context("cannot read the pieces")?;
    let is_whole = payload.len() == length as usize && crc32fast::hash(&payload) == crc;
    let bytes = (payload.len() + HEADER_BYTES) as u64;
    Ok(is_whole.then_some((payload, bytes)))
}

fn read_whole(reader: &mut impl Read, into: &mut [u8]) -> Result<bool> {
    match reader.read_exact(into) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error).context("cannot read the pieces"),
    }
}

/// The number of the field that holds the blocks.
const BYTES_TAG: u32 = 15;

impl stored::Piece {
    /// The piece, and its blocks: `at` is where the payload begins in the file.
    fn take(mut self, at: u64, payload: &[u8]) -> Result<(Found, Vec<Vec<Block>>)> {
        let total = self.bytes.len();
        // The field is the last one: its content ends the payload.
        let mut offset = at + (payload.len() - total) as u64;
        let (mut views, mut runs) = (Vec::new(), Vec::new());
        for view in &mut self.views {
            ensure!(view.blocks.len() == view.firsts.len(), "a piece does not fit itself");
            let mut blocks = Vec::new();
            for (&len, first) in view.blocks.iter().zip(&view.firsts) {
                let key = Key::from_bytes(&first.key).context("a piece holds a malformed key")?;
                blocks.push(Block { offset, len, first: (key, first.start) });
                offset += u64::from(len);
            }
            runs.push(blocks);
            let mut open = view.open.take().context("a piece lacks its states")?;
            let engine = |&kind: &u32| match kind {
                kind if kind == EngineKind::Cpu as u32 => Ok(EngineKind::Cpu),
                kind if kind == EngineKind::Gpu as u32 => Ok(EngineKind::Gpu),
                _ => anyhow::bail!("a piece names an unknown engine"),
            };
            let engines = view.engines.iter().map(engine).collect::<Result<Vec<_>>>()?;
            let rows = engines.into_iter().zip(view.rows.iter().copied()).collect();
            views.push((windows_from_stored(&mut open)?, rows));
        }
        ensure!(offset == at + payload.len() as u64, "a piece does not fit itself");
        let Self { part, rows_read, rows_from_states, .. } = self;
        Ok((Found { part, rows_read, rows_from_states, views }, runs))
    }
}

/// The messages. Fields are added with new numbers; what a number means never changes.
mod stored {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Piece {
        #[prost(uint32, tag = "1")]
        pub part: u32,
        #[prost(uint64, tag = "2")]
        pub rows_read: u64,
        #[prost(message, repeated, tag = "3")]
        pub views: Vec<View>,
        #[prost(uint64, tag = "4")]
        pub rows_from_states: u64,
        /// The blocks of all views, one after another; always last.
        #[prost(bytes = "vec", tag = "15")]
        pub bytes: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct View {
        #[prost(uint32, repeated, tag = "1")]
        pub blocks: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        pub firsts: Vec<First>,
        #[prost(message, optional, tag = "3")]
        pub open: Option<super::checkpoint::View>,
        #[prost(uint32, repeated, tag = "4")]
        pub engines: Vec<u32>,
        #[prost(uint64, repeated, tag = "5")]
        pub rows: Vec<u64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct First {
        #[prost(bytes = "vec", tag = "1")]
        pub key: Vec<u8>,
        #[prost(sint64, tag = "2")]
        pub start: i64,
    }
}
