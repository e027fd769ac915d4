//! Files as users have them, read as a stream's ticks.
//!
//! Publishing, importing and scanning in place all read through [`Source`], so one file gives the
//! same ticks, with the same identities, whichever way it goes in. Every row of a file becomes
//! either a tick or a [`Rejected`] with its reason; a row's ordinal in the file is its sequence.
//!
//! Parquet (integers, decimals, floats, timestamps, text, dictionaries), CSV or TSV with a header
//! (one line per row) and DBN are read, the latter two also compressed with gzip or Zstandard. How
//! values become scaled integers stands with [`Scale`](isotick_model::Scale); how a Parquet file
//! states the scale of its integers with [`SourceField::scale`]; what the fields of a DBN file are
//! with [`Format::Dbn`].

mod array;
mod batch;
mod caught;
mod compressed;
mod dbn_file;
mod describe;
mod error;
mod fields;
pub mod fuzzing;
mod lines;
mod parquet_columns;
mod parquet_file;
mod parquet_reader;
mod parquet_types;
mod pieces;
mod proven;
mod record_batch;
mod selected;
mod text;
mod text_file;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isotick_model::time::TimeUnit;
use isotick_model::view::Tumbling;
use isotick_model::{KeySelection, PublisherId, RejectReason, Rejected, StreamSchema, Ticks};

use batch::TimeRange;
use compressed::{Compression, Content};
use dbn_file::DbnFile;
use fields::Bindings;
use parquet_file::ParquetFile;
use text_file::TextFile;

pub use caught::panics_become_errors;
pub use describe::{SourceField, SourceSchema, Suggestion};
pub use error::SourceError;
pub use record_batch::{BatchError, SEQUENCE, ticks_of_batch};

/// How a file is to be read.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Pairs of a declared column (time, key or value) and the file's field that feeds it. A
    /// column that is not named here is fed by the field of its own name.
    pub map: Vec<(String, String)>,
    /// The unit of integer times, nanoseconds when `None`. Timestamp types know their own.
    pub time_unit: Option<TimeUnit>,
    /// The file's format; `None` finds it by the first bytes, then by the name.
    pub format: Option<Format>,
    /// The most rows of a batch, at least 1. It changes nothing but the cut.
    pub batch_rows: usize,
    /// The ticks' publisher; `None` takes [`Source::publisher_default`], which reads the whole
    /// file once.
    pub publisher: Option<PublisherId>,
    /// The value columns to deliver, by index in the stream's schema; the others stay absent.
    /// `None` delivers all. Every declared column is checked all the same, so that a row is
    /// rejected whichever columns are wanted: a column that is not wanted is left unread only
    /// where the file's statistics prove that it rejects nothing.
    pub columns: Option<Vec<usize>>,
    /// What may stay unread where the file's statistics prove that every row is a tick; nothing
    /// when `None`.
    pub needed: Option<Needed>,
    /// Windows that every tick must fit: a tick whose window in one of them is not representable
    /// is rejected.
    pub windows: Vec<Tumbling>,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            map: Vec::new(),
            time_unit: None,
            format: None,
            batch_rows: 131_072,
            publisher: None,
            columns: None,
            needed: None,
            windows: Vec::new(),
        }
    }
}

/// What a reader needs of ticks that are all good. Its batches may have keys that no row has.
#[derive(Clone, Debug)]
pub struct Needed {
    /// Rows of other keys may be left out.
    pub keys: KeySelection,
    /// Whether ticks are told apart by publisher and sequence: else the sequences may be 0.
    pub identity: bool,
    /// Where all times of a row group lie in one window of this, the least of them may stand for
    /// each.
    pub one_window: Option<Tumbling>,
    /// Ticks after this are looked at by the caller: they count as not good.
    pub latest_ns: i64,
}

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Text with fields separated by commas and a header line, plain or compressed.
    Csv,
    /// Text with fields separated by tabs and a header line, plain or compressed.
    Tsv,
    /// Databento's binary form, versions 1 to 3, plain or compressed: trades, books by price and
    /// by order, quotes and bars.
    ///
    /// Its fields have the names of DBN's schemas (`ts_event`, `ts_recv`, `instrument_id`,
    /// `price`, `size`, `bid_px_00`, `open`, …), and `symbol` is what the file's mappings say of
    /// the instrument at that time. Prices have nine decimals, all other numbers none; undefined
    /// prices, sizes and times are null. `action` and `side` are letters as keys and the letters'
    /// codes (66 is B) as values. A row is a record of the file's schema; mappings and messages
    /// among them are no rows.
    Dbn,
}

impl Format {
    /// The format of a file, by its first bytes, then by its name.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is neither Parquet nor text.
    pub fn of(path: &Path) -> Result<Self, SourceError> {
        let mut head = Vec::new();
        open(path)?.take(HEAD_BYTES).read_to_end(&mut head).map_err(read_error(path))?;
        let name = path.to_string_lossy().to_lowercase();
        let plain = [".gz", ".zst", ".zstd"].iter().find_map(|end| name.strip_suffix(end));
        let tabs = plain.unwrap_or(&name).ends_with(".tsv");
        let text = if tabs { Self::Tsv } else { Self::Csv };
        let unknown = |found| SourceError::UnknownFormat { path: path.into(), found };
        if head.starts_with(b"PAR1") {
            return Ok(Self::Parquet);
        }
        if head.starts_with(dbn_file::MAGIC) {
            return Ok(Self::Dbn);
        }
        if Compression::of(&head) != Compression::None {
            let content = Content::head(path, HEAD_BYTES)?;
            return match content.as_slice() {
                [b'D', b'B', b'N', ..] => Ok(Self::Dbn),
                [b'P', b'A', b'R', b'1', ..] => {
                    Err(unknown("a compressed Parquet file: decompress it first"))
                }
                _ if name.contains(".dbn") => Ok(Self::Dbn),
                content if Compression::of(content) != Compression::None => {
                    Err(unknown("compressed twice: decompress it once"))
                }
                content if content.contains(&0) => Err(unknown("compressed binary data")),
                _ => Ok(text),
            };
        }
        match head.as_slice() {
            // So that a file that is named so and is none gets its reader's message.
            _ if name.ends_with(".parquet") || name.ends_with(".pq") => Ok(Self::Parquet),
            _ if name.ends_with(".dbn") || name.contains(".dbn.") => Ok(Self::Dbn),
            [0x50..=0x5F, 0x2A, 0x4D, 0x18, _, _, _, _, b'D', b'B', b'Z', ..] => {
                Err(unknown("DBZ, which came before DBN: convert it with Databento's `dbn` tool"))
            }
            [b'P', b'K', 3, 4, ..] => Err(unknown("a zip archive: unpack it first")),
            head if head.contains(&0) => Err(unknown("binary data")),
            _ => Ok(text),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Dbn => "dbn",
        })
    }
}

/// A file being read as a stream's ticks, in the order of its rows.
#[derive(Debug)]
pub struct Source {
    plan: Arc<Plan>,
    format: Format,
    file: AnyFile,
}

#[derive(Debug)]
enum AnyFile {
    Parquet(Box<ParquetFile>),
    Text(Box<TextFile>),
    Dbn(Box<DbnFile>),
}

/// Bytes of a file that are hashed before that is told of.
const HASHED_AT_ONCE: u64 = 64 << 20;
/// Bytes that tell a format.
const HEAD_BYTES: u64 = 4096;

/// What was decided when the file was opened.
#[derive(Debug)]
struct Plan {
    path: PathBuf,
    schema: StreamSchema,
    bindings: Bindings,
    publisher: PublisherId,
    time_unit: TimeUnit,
    range: TimeRange,
    batch_rows: usize,
    needed: Option<Needed>,
    /// Per value column: whether it is delivered.
    wanted: Vec<bool>,
}

/// Some rows of a file: what became ticks and what did not.
#[derive(Clone, Debug)]
pub struct SourceBatch {
    /// The ticks, in file order; `seen` is `None`, for the caller to fill when they never pass
    /// the live path. `ticks.len() + rejected.len() == rows`.
    pub ticks: Ticks,
    /// The rows that became no tick, in file order.
    pub rejected: Vec<Rejected>,
    /// The same rows with what was wrong, for messages.
    pub details: Vec<RejectedRow>,
    /// The first row's ordinal in the file.
    pub first_row: u64,
    /// Rows of the file in this batch.
    pub rows: usize,
    /// Whether the ticks all have one time, which the file's statistics say is in their window.
    pub one_time: bool,
}

/// A row of a file that became no tick. Displayed as
/// `row 17 (line 19), column price: 101.23456 has more than 4 decimals`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRow {
    /// The row's ordinal in the file, from 0: its sequence.
    pub row: u64,
    /// The line in a text file, from 1.
    pub line: Option<u64>,
    /// Why.
    pub reason: RejectReason,
    /// The declared column at fault; empty when the row as a whole is.
    pub column: String,
    /// What is wrong with it.
    pub text: String,
}

impl fmt::Display for RejectedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}", self.row)?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        if !self.column.is_empty() {
            write!(f, ", column {}", self.column)?;
        }
        write!(f, ": {}", self.text)
    }
}

/// How far a file has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What has been read.
    pub done: u64,
    /// What there is.
    pub total: u64,
    /// What is counted.
    pub unit: ProgressUnit,
}

/// What [`Progress`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressUnit {
    /// Rows.
    Rows,
    /// Bytes of the file as it lies on disk.
    Bytes,
}

impl Source {
    /// Opens a file and finds the declared columns in it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read as what it is, a required column has no field, an optional
    /// one has not the field that `map` names for it, or a field's type cannot become its column.
    pub fn open(
        path: impl AsRef<Path>,
        options: &SourceOptions,
        schema: &StreamSchema,
    ) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let format = match options.format {
            Some(format) => format,
            None => Format::of(path)?,
        };
        let fields = match format {
            Format::Parquet => parquet_reader::field_names(&parquet_reader::load(path)?.1),
            Format::Csv | Format::Tsv => text_file::header(path, format)?,
            Format::Dbn => dbn_file::Described::of(path)?.field_names(),
        };
        let plan = Arc::new(Plan {
            path: path.into(),
            bindings: Bindings::new(path, schema, &options.map, &fields)?,
            publisher: match &options.publisher {
                Some(publisher) => publisher.clone(),
                None => Self::publisher_default(path)?,
            },
            time_unit: options.time_unit.unwrap_or_default(),
            range: TimeRange::of(&options.windows),
            batch_rows: options.batch_rows.max(1),
            needed: options.needed.clone(),
            wanted: (0..schema.columns.len())
                .map(|index| options.columns.as_ref().is_none_or(|wanted| wanted.contains(&index)))
                .collect(),
            schema: schema.clone(),
        });
        Self::of_plan(plan, format)
    }

    fn of_plan(plan: Arc<Plan>, format: Format) -> Result<Self, SourceError> {
        let file = match format {
            Format::Parquet => AnyFile::Parquet(Box::new(ParquetFile::open(&plan)?)),
            Format::Csv | Format::Tsv => AnyFile::Text(Box::new(TextFile::open(&plan, format)?)),
            Format::Dbn => AnyFile::Dbn(Box::new(DbnFile::open(&plan)?)),
        };
        Ok(Self { plan, format, file })
    }

    /// The publisher of a file's ticks unless one is named: the BLAKE3 hash of its content, 64
    /// lowercase hex digits.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn publisher_default(path: impl AsRef<Path>) -> Result<PublisherId, SourceError> {
        Self::publisher_default_told(path, &mut |_| {})
    }

    /// The same; `told` hears how many bytes of the file have been read.
    ///
    /// # Errors
    ///
    /// As [`publisher_default`](Self::publisher_default).
    pub fn publisher_default_told(
        path: impl AsRef<Path>,
        told: &mut dyn FnMut(u64),
    ) -> Result<PublisherId, SourceError> {
        let path = path.as_ref();
        let mut hasher = blake3::Hasher::new();
        let mut file = open(path)?;
        let mut done = 0;
        loop {
            let before = done;
            let mut piece = file.by_ref().take(HASHED_AT_ONCE);
            hasher.update_reader(&mut piece).map_err(read_error(path))?;
            done += HASHED_AT_ONCE - piece.limit();
            told(done);
            if done == before {
                break;
            }
        }
        let hex = hasher.finalize().to_hex();
        Ok(PublisherId::new(&hex).expect("64 digits are a publisher's name"))
    }

    /// Optional columns that the file has no field for: null in every row.
    pub fn missing(&self) -> Vec<&str> {
        let columns = self.plan.schema.columns.iter().zip(&self.plan.bindings.values);
        columns.filter(|(_, field)| field.is_none()).map(|(c, _)| c.name.as_str()).collect()
    }

    /// The publisher of this file's ticks.
    pub fn publisher(&self) -> &PublisherId {
        &self.plan.publisher
    }

    /// The file's format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The next rows, at most [`SourceOptions::batch_rows`]; `None` behind the last one. A batch
    /// may hold rejected rows only.
    ///
    /// # Errors
    ///
    /// When the file turns out to be damaged or cut off. Batches delivered before stand.
    pub fn next_batch(&mut self) -> Result<Option<SourceBatch>, SourceError> {
        match &mut self.file {
            AnyFile::Parquet(file) => file.next_batch(&self.plan),
            AnyFile::Text(file) => file.next_batch(&self.plan),
            AnyFile::Dbn(file) => file.next_batch(&self.plan),
        }
    }

    /// Continues with the row of this ordinal; behind the last row nothing comes any more. A row
    /// that has been passed already changes nothing. Parquet skips by row group; of others the rows
    /// between are read, and not converted.
    ///
    /// # Errors
    ///
    /// As [`next_batch`](Self::next_batch).
    pub fn skip_to(&mut self, row: u64) -> Result<(), SourceError> {
        match &mut self.file {
            AnyFile::Parquet(file) => file.skip_to(row),
            AnyFile::Text(file) => file.skip_to(&self.plan, row),
            AnyFile::Dbn(file) => file.skip_to(&self.plan.path, row),
        }
    }

    /// How far the file has been read: rows of a Parquet file, bytes of others.
    pub fn progress(&self) -> Progress {
        match &self.file {
            AnyFile::Parquet(file) => file.progress(),
            AnyFile::Text(file) => file.progress(),
            AnyFile::Dbn(file) => file.progress(),
        }
    }

    /// Rows in the file, where it says so.
    pub fn rows_total(&self) -> Option<u64> {
        match &self.file {
            AnyFile::Parquet(file) => Some(file.rows_total()),
            AnyFile::Text(_) | AnyFile::Dbn(_) => None,
        }
    }

    /// Stored bytes of what is read: of the columns of a Parquet file that are, of others all.
    pub fn bytes_read(&self) -> Option<u64> {
        match &self.file {
            AnyFile::Parquet(file) => Some(file.bytes_read(&self.plan)),
            AnyFile::Text(_) | AnyFile::Dbn(_) => Some(self.progress().total),
        }
    }

    /// Ranges of rows that can be read apart from each other, for so many threads, without decoding what
    /// lies between: the row groups of a Parquet file, the whole of others. Where one thread would have
    /// more of them to read than another, large ones are cut; what is decoded for a piece beside its
    /// rows is a dictionary and two pages a column. See [`part`](Self::part).
    pub fn parts(&self, threads: usize) -> Vec<Range<u64>> {
        match &self.file {
            AnyFile::Parquet(file) => file.parts(threads),
            AnyFile::Text(_) | AnyFile::Dbn(_) => vec![Range { start: 0, end: u64::MAX }],
        }
    }

    /// Between which times the ticks in one of [`Self::parts`] lie, nanoseconds UTC, where the file
    /// states that of their row group. It may state them wrongly.
    pub fn times_of(&self, part: &Range<u64>) -> Option<RangeInclusive<i64>> {
        match &self.file {
            AnyFile::Parquet(file) => file.times_of(&self.plan, part.start),
            AnyFile::Text(_) | AnyFile::Dbn(_) => None,
        }
    }

    /// A reader of its own for some rows of the same file, e.g. for another thread. The rows keep
    /// their ordinals.
    ///
    /// # Errors
    ///
    /// When the file can no longer be opened.
    pub fn part(&self, rows: Range<u64>) -> Result<Self, SourceError> {
        let mut part = Self::of_plan(Arc::clone(&self.plan), self.format)?;
        match &mut part.file {
            AnyFile::Parquet(file) => file.end_at(rows.end),
            AnyFile::Text(file) => file.end_at(rows.end),
            AnyFile::Dbn(file) => file.end_at(rows.end),
        }
        part.skip_to(rows.start)?;
        Ok(part)
    }
}

fn open(path: &Path) -> Result<File, SourceError> {
    File::open(path).map_err(read_error(path))
}

fn read_error(path: &Path) -> impl FnOnce(std::io::Error) -> SourceError {
    move |source| SourceError::Read { path: path.into(), source }
}
