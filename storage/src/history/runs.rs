//! Runs of equal text in a stored column, read off its run-length encoded pages: rows are sorted by
//! key, so a row group has few, and none of its rows need decoding to find those of a key.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;

/// A text column of one row group without nulls: its rows in runs of one text each.
pub(super) struct TextRuns {
    /// The texts that runs refer to.
    pub texts: Vec<String>,
    /// `(text, rows)`, in the order of rows; neighbours differ.
    pub runs: Vec<(u32, usize)>,
}

impl TextRuns {
    /// Reads a column's runs; `None` where it is not stored as one dictionary and codes of it.
    ///
    /// # Errors
    ///
    /// What the decoder finds wrong with the pages.
    pub fn read<R: ChunkReader>(
        chunk: R,
        column: &ColumnChunkMetaData,
        rows: usize,
    ) -> Result<Option<Self>, ParquetError> {
        let descriptor = column.column_descr();
        if descriptor.max_def_level() > 0 || descriptor.max_rep_level() > 0 {
            return Ok(None);
        }
        let mut pages = SerializedPageReader::new(Arc::new(chunk), column, rows, None)?;
        let mut found = Self { texts: Vec::new(), runs: Vec::new() };
        while let Some(page) = pages.get_next_page()? {
            match page {
                Page::DictionaryPage { buf, num_values, .. } => {
                    found.texts = texts(&buf, num_values as usize).ok_or_else(wrong)?;
                }
                Page::DataPage { buf, num_values, encoding, .. } => {
                    // Named either way by format versions.
                    let coded =
                        matches!(encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
                    if !coded {
                        return Ok(None);
                    }
                    found.add(&buf, num_values as usize).ok_or_else(wrong)?;
                }
                Page::DataPageV2 { .. } => return Ok(None),
            }
        }
        match found.runs.iter().map(|(_, rows)| rows).sum::<usize>() == rows {
            true => Ok(Some(found)),
            false => Err(wrong()),
        }
    }

    /// The rows whose text is wanted, as ascending ranges that do not touch.
    pub fn ranges(&self, wanted: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
        let wanted: Vec<bool> = self.texts.iter().map(|text| wanted(text)).collect();
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut row = 0;
        for &(text, rows) in &self.runs {
            if wanted[text as usize] {
                match ranges.last_mut() {
                    Some(last) if last.end == row => last.end += rows,
                    _ => ranges.push(row..row + rows),
                }
            }
            row += rows;
        }
        ranges
    }

    /// Adds a page of `values` codes: a byte with their width in bits, then runs and packed
    /// groups of eight. `None` when it is none.
    fn add(&mut self, page: &Bytes, values: usize) -> Option<()> {
        let (&width, mut rest) = page.split_first()?;
        let mut left = values;
        while left > 0 {
            let header = varint(&mut rest)?;
            let count = usize::try_from(header >> 1).ok()?;
            if header & 1 == 0 {
                let (code, after) = rest.split_at_checked(usize::from(width).div_ceil(8))?;
                rest = after;
                let code = code.iter().rev().fold(0_u64, |code, &byte| code << 8 | u64::from(byte));
                let rows = count.min(left);
                if rows == 0 {
                    return None;
                }
                self.push(u32::try_from(code).ok()?, rows)?;
                left -= rows;
            } else {
                let bytes = count.checked_mul(usize::from(width))?;
                let (packed, after) = rest.split_at_checked(bytes)?;
                rest = after;
                let rows = count.checked_mul(8)?.min(left);
                if rows == 0 || width > 32 {
                    return None;
                }
                for row in 0..rows {
                    self.push(bits(packed, row * usize::from(width), width), 1)?;
                }
                left -= rows;
            }
        }
        Some(())
    }

    fn push(&mut self, code: u32, rows: usize) -> Option<()> {
        if code as usize >= self.texts.len() {
            return None;
        }
        match self.runs.last_mut() {
            Some((last, sum)) if *last == code => *sum += rows,
            _ => self.runs.push((code, rows)),
        }
        Some(())
    }
}

fn wrong() -> ParquetError {
    ParquetError::General("a text column's pages hold what they cannot".to_owned())
}

/// Ranges that lie in both, each ascending and without overlap.
pub(super) fn intersect(a: &[Range<usize>], b: &[Range<usize>]) -> Vec<Range<usize>> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut both = Vec::new();
    while let (Some(left), Some(right)) = (a.peek(), b.peek()) {
        let (start, end) = (left.start.max(right.start), left.end.min(right.end));
        if start < end {
            both.push(start..end);
        }
        match left.end < right.end {
            true => a.next(),
            false => b.next(),
        };
    }
    both
}

/// The texts of a plain dictionary page: a length and bytes each.
fn texts(page: &Bytes, count: usize) -> Option<Vec<String>> {
    let mut rest = page.as_ref();
    let mut texts = Vec::with_capacity(count.min(rest.len()));
    for _ in 0..count {
        let (len, after) = rest.split_first_chunk()?;
        let (text, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        texts.push(std::str::from_utf8(text).ok()?.to_owned());
        rest = after;
    }
    Some(texts)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// `width` bits from bit `at` on, least first.
fn bits(packed: &[u8], at: usize, width: u8) -> u32 {
    let (first, shift) = (at / 8, at % 8);
    let bytes = packed[first..].iter().take(8).enumerate();
    let word = bytes.fold(0_u64, |word, (index, &byte)| word | u64::from(byte) << (8 * index));
    // At most 7 bits of shift and 32 of width: they lie within the eight bytes.
    ((word >> shift) & ((1_u64 << width) - 1)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(codes: usize, page: &[u8], values: usize) -> Option<Vec<(u32, usize)>> {
        let texts = (0..codes).map(|code| code.to_string()).collect();
        let mut found = TextRuns { texts, runs: Vec::new() };
        found.add(&Bytes::copy_from_slice(page), values)?;
        Some(found.runs)
    }

    #[test]
    fn runs_and_packed_groups_are_read() {
        // Width 3: 300 rows of code 5, then a packed group of eight.
        let packed = [0x88, 0xC6, 0xFA]; // 0 1 2 3 4 5 6 7
        let page = [&[3, 0xD8, 0x04, 5, 0x03][..], &packed].concat();
        let runs: Vec<_> = std::iter::once((5, 300)).chain((0..8).map(|code| (code, 1))).collect();
        assert_eq!(of(8, &page, 308), Some(runs.clone()));
        assert_eq!(of(8, &page, 302), Some(runs[..3].to_vec()), "the last group may be cut short");
        assert_eq!(of(5, &page, 308), None, "code 5 of a table of five");
        assert_eq!(of(8, &page[..4], 300), Some(vec![(5, 300)]));
        assert_eq!(of(8, &page[..4], 301), None, "the page ends");
        assert_eq!(of(1, &[0, 0x14], 10), Some(vec![(0, 10)]), "one text needs no bits");
        assert_eq!(of(1, &[0, 0x00], 10), None, "an empty run");
        assert_eq!(of(1, &[], 1), None);
    }

    #[test]
    fn ranges_of_wanted_texts_are_joined_and_intersected() {
        let texts = ["a", "b", "c"].map(str::to_owned).to_vec();
        let runs = TextRuns { texts, runs: vec![(0, 3), (1, 2), (2, 4), (0, 1)] };
        assert_eq!(runs.ranges(|text| text != "c"), [0..5, 9..10]);
        assert_eq!(runs.ranges(|text| text == "z"), []);
        assert_eq!(intersect(&[0..5, 9..10], &[2..3, 4..12]), [2..3, 4..5, 9..10]);
        let apart = [0..5, 9..10];
        assert_eq!(intersect(&apart, &[5..6, 7..9]), []);
    }
}
