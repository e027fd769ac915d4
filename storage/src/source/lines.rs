//! Text taken apart: lines into fields.
//!
//! One row is one line. A quoted field may hold the delimiter and quotes, but no line break: so a
//! quotation mark that is never closed spoils its own row and not the rest of the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv_core::ReadRecordResult;
use flate2::read::MultiGzDecoder;

use super::{Format, SourceError, open, read_error};

const BUFFER_BYTES: usize = 256 * 1024;
/// Longer lines are no rows.
const LINE_BYTES_MAX: usize = 1 << 20;

/// The lines of a text file, a record at a time.
pub(super) struct Records {
    input: Box<dyn BufRead + Send>,
    parser: csv_core::Reader,
    line: Vec<u8>,
    /// The fields' bytes one after another, quotes taken off, and where each ends.
    fields: Vec<u8>,
    ends: Vec<usize>,
    len: usize,
    number: u64,
}

/// Counts the bytes taken from the file itself.
struct Counted {
    file: File,
    done: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// What a line turned out to be.
pub(super) enum Line {
    /// Fields, to be had from [`Records::field`].
    Fields,
    /// No row, for this reason.
    Broken(&'static str),
}

impl Records {
    /// Opens a file, adding to `done` the bytes taken from it. Gzip, a byte order mark and either
    /// kind of line end are accepted.
    pub(super) fn open(
        path: &Path,
        format: Format,
        done: Arc<AtomicU64>,
    ) -> Result<Self, SourceError> {
        let mut magic = Vec::new();
        open(path)?.take(2).read_to_end(&mut magic).map_err(read_error(path))?;
        let counted = Counted { file: open(path)?, done };
        let buffered = BufReader::with_capacity(BUFFER_BYTES, counted);
        let input: Box<dyn BufRead + Send> = match magic.as_slice() {
            [0x1F, 0x8B] => {
                Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(buffered)))
            }
            _ => Box::new(buffered),
        };
        let delimiter = if format == Format::Tsv { b'\t' } else { b',' };
        Ok(Self {
            input,
            parser: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            line: Vec::new(),
            fields: Vec::new(),
            ends: Vec::new(),
            len: 0,
            number: 0,
        })
    }

    /// Reads the first line as the names of the fields.
    pub(super) fn header(&mut self, path: &Path) -> Result<Vec<String>, SourceError> {
        let line = self.next().map_err(read_error(path))?;
        let named =
            |records: &Self| (0..records.len).any(|at| !records.field(at).trim_ascii().is_empty());
        if !matches!(line, Some(Line::Fields)) || !named(self) {
            return Err(SourceError::NoHeader { path: path.into() });
        }
        (0..self.len)
            .map(|at| Ok(std::str::from_utf8(self.field(at))?.trim().to_string()))
            .collect::<Result<_, std::str::Utf8Error>>()
            .map_err(|_| SourceError::HeaderNotText { path: path.into() })
    }

    /// Fields of the line read last.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A field of the line read last.
    pub(super) fn field(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.fields[start..self.ends[at]]
    }

    /// The number of the line read last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line that is not empty; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            self.line.clear();
            self.len = 0;
            if self.read_line()? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.line.len() >= LINE_BYTES_MAX && self.line.last() != Some(&b'\n') {
                self.pass_line()?;
                return Ok(Some(Line::Broken("the line is longer than 1 MiB")));
            }
            while self.line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                self.line.pop();
            }
            if !self.line.is_empty() {
                return Ok(Some(self.take_apart()));
            }
        }
    }

    fn read_line(&mut self) -> io::Result<usize> {
        self.input.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut self.line)
    }

    /// Reads to the end of a line that is too long to keep.
    fn pass_line(&mut self) -> io::Result<()> {
        loop {
            self.line.clear();
            if self.read_line()? == 0 || self.line.last() == Some(&b'\n') {
                return Ok(());
            }
        }
    }

    fn take_apart(&mut self) -> Line {
        self.line.push(b'\n');
        // No line has more fields, or longer ones, than it has bytes.
        if self.fields.len() < self.line.len() {
            self.fields.resize(self.line.len(), 0);
            self.ends.resize(self.line.len() + 1, 0);
        }
        let (result, taken, _, len) =
            self.parser.read_record(&self.line, &mut self.fields, &mut self.ends);
        match result {
            ReadRecordResult::Record if taken == self.line.len() => {
                self.len = len;
                Line::Fields
            }
            ReadRecordResult::Record => {
                self.parser.reset();
                Line::Broken("a carriage return stands in the middle of the line")
            }
            _ => {
                self.parser.reset();
                Line::Broken("a quotation mark is not closed on its line")
            }
        }
    }
}
