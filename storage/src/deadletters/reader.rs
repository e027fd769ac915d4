//! Letters read back, also while they are written.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::{HEADER_BYTES, LETTER_BYTES_MAX, Letter, codec, segment_path, segments_in};
use crate::DataFolder;
use crate::error::{Error, Result};

/// The letters of a data folder, the oldest first, each with its number. Whether or not a service
/// writes to it: what is not whole yet is not read, and a segment that goes meanwhile is passed.
///
/// # Errors
///
/// [`Error::Io`].
pub fn read(folder: &DataFolder) -> Result<LetterReader> {
    let folder = folder.dead_letters();
    let segments = segments_in(&folder)?.into();
    Ok(LetterReader { folder, segments, open: None, damaged: Vec::new() })
}

/// Letters, the oldest first. See [`read`].
#[derive(Debug)]
pub struct LetterReader {
    folder: PathBuf,
    segments: VecDeque<u64>,
    open: Option<(Records, u64)>,
    damaged: Vec<PathBuf>,
}

impl LetterReader {
    /// Segments that were passed with a part unread, because it is damaged. The last one may be
    /// among them while it is written to.
    pub fn damaged(&self) -> &[PathBuf] {
        &self.damaged
    }

    fn advance(&mut self) -> Result<Option<(u64, Letter)>> {
        loop {
            let Some((records, number)) = &mut self.open else {
                let Some(first) = self.segments.pop_front() else { return Ok(None) };
                let path = segment_path(&self.folder, first);
                match File::open(&path) {
                    Ok(file) => self.open = Some((Records::new(file, path), first)),
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(Error::io("read", &path)(error)),
                }
                continue;
            };
            let number = std::mem::replace(number, *number + 1);
            match records.next()? {
                Next::Letter(letter) => return Ok(Some((number, *letter))),
                Next::End => self.open = None,
                Next::Torn => {
                    self.damaged.push(records.path.clone());
                    self.open = None;
                }
            }
        }
    }
}

impl Iterator for LetterReader {
    type Item = Result<(u64, Letter)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

/// How many whole letters a segment holds, and in how many bytes.
pub(super) fn whole_letters(path: &Path) -> Result<(u64, u64)> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let mut records = Records::new(file, path.to_path_buf());
    let mut letters = 0;
    while let Next::Letter(_) = records.next()? {
        letters += 1;
    }
    Ok((letters, records.whole))
}

#[derive(Debug)]
struct Records {
    input: BufReader<File>,
    path: PathBuf,
    /// Bytes of whole records so far.
    whole: u64,
}

enum Next {
    Letter(Box<Letter>),
    End,
    /// What follows is no whole record.
    Torn,
}

impl Records {
    fn new(file: File, path: PathBuf) -> Self {
        Self { input: BufReader::with_capacity(256 << 10, file), path, whole: 0 }
    }

    fn next(&mut self) -> Result<Next> {
        let mut header = [0; HEADER_BYTES];
        let mut payload = Vec::new();
        match self.fill(&mut header)? {
            0 => return Ok(Next::End),
            HEADER_BYTES => {}
            _ => return Ok(Next::Torn),
        }
        let [a, b, c, d, checksum @ ..] = header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > LETTER_BYTES_MAX {
            return Ok(Next::Torn);
        }
        payload.resize(length, 0);
        if self.fill(&mut payload)? < length
            || crc32fast::hash(&payload) != u32::from_le_bytes(checksum)
        {
            return Ok(Next::Torn);
        }
        let Some(letter) = codec::decode(&payload) else { return Ok(Next::Torn) };
        self.whole += (HEADER_BYTES + length) as u64;
        Ok(Next::Letter(Box::new(letter)))
    }

    /// As many bytes as there are.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", &self.path)(error)),
            }
        }
        Ok(filled)
    }
}
