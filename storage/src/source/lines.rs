//! Text taken apart: lines into fields.
//!
//! One row is one line. A quoted field may hold the delimiter and quotes, but no line break: so a
//! quotation mark that is never closed spoils its own row and not the rest of the file.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use csv_core::ReadRecordResult;

use super::compressed::Content;
use super::{Format, SourceError};

/// Longer lines are no rows.
const LINE_BYTES_MAX: usize = 1 << 20;

/// The lines of a text file, a record at a time.
pub(super) struct Records {
    input: Content,
    parser: csv_core::Reader,
    line: Vec<u8>,
    /// The fields' bytes one after another, quotes taken off, and where each ends.
    fields: Vec<u8>,
    ends: Vec<usize>,
    len: usize,
    number: u64,
}

/// What a line turned out to be.
pub(super) enum Line {
    /// Fields, to be had from [`Records::field`].
    Fields,
    /// No row, for this reason.
    Broken(&'static str),
}

/// Whether a line was short enough to be kept.
enum Whole {
    Yes,
    No,
}

impl Records {
    /// Opens a file, adding to `done` the bytes taken from it. Compression, a byte order mark and
    /// either kind of line end are accepted.
    pub(super) fn open(
        path: &Path,
        format: Format,
        done: Arc<AtomicU64>,
    ) -> Result<Self, SourceError> {
        let input = Content::open(path, done)?;
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
        let line = self.next(path)?;
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
    pub(super) fn next(&mut self, path: &Path) -> Result<Option<Line>, SourceError> {
        Ok(match self.next_line(path)? {
            None => None,
            Some(Whole::Yes) => Some(self.take_apart()),
            Some(Whole::No) => Some(Line::Broken("the line is longer than 1 MiB")),
        })
    }

    /// Passes the next line that is not empty; `false` at the end.
    pub(super) fn pass(&mut self, path: &Path) -> Result<bool, SourceError> {
        Ok(self.next_line(path)?.is_some())
    }

    /// Reads the next line that is not empty, as it is.
    fn next_line(&mut self, path: &Path) -> Result<Option<Whole>, SourceError> {
        let read = self.try_next_line();
        read.map_err(|source| {
            let behind = match self.number {
                0 => "before the end of the first line".to_owned(),
                number => format!("after line {number}"),
            };
            self.input.failed(path, behind, source)
        })
    }

    fn try_next_line(&mut self) -> io::Result<Option<Whole>> {
        loop {
            self.line.clear();
            self.len = 0;
            if self.read_line()? == 0 {
                return Ok(None);
            }
            if self.line.len() >= LINE_BYTES_MAX && self.line.last() != Some(&b'\n') {
                self.pass_line()?;
                self.number += 1;
                return Ok(Some(Whole::No));
            }
            self.number += 1;
            while self.line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                self.line.pop();
            }
            if !self.line.is_empty() {
                return Ok(Some(Whole::Yes));
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
