//! The pages of a row group's columns: where they lie, their rows and their checksums, so that a
//! few can be read and checked without the others. Stored as bytes between a file's row groups and
//! checked by a checksum in the footer.

use std::ops::Range;

use parquet::file::metadata::OffsetIndexBuilder;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use serde::{Deserialize, Serialize};

/// Where a row group's pages are described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub start: u64,
    pub len: u32,
    pub crc32: u32,
}

/// The pages of one column chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ColumnPages {
    /// Those of data, in order, after it a dictionary page where there is one.
    pub data: Vec<Page>,
    pub dictionary: Option<Page>,
}

/// A page with its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub bytes: u32,
    /// 0 for a dictionary.
    pub rows: u32,
    pub crc32: u32,
}

impl ColumnPages {
    /// Where the pages of some rows, given as ascending ranges, lie from the chunk's start on, the
    /// dictionary first: byte ranges with the checksum of each.
    pub fn of_rows(&self, rows: &[Range<usize>]) -> Vec<(Range<u64>, u32)> {
        let mut found = Vec::new();
        let mut start = 0;
        if let Some(page) = self.dictionary {
            start = u64::from(page.bytes);
            found.push((0..start, page.crc32));
        }
        let (mut first, mut ranges) = (0, rows.iter().peekable());
        for page in &self.data {
            let (end, last) = (start + u64::from(page.bytes), first + page.rows as usize);
            while ranges.next_if(|range| range.end <= first).is_some() {}
            if ranges.peek().is_some_and(|range| range.start < last) {
                found.push((start..end, page.crc32));
            }
            (start, first) = (end, last);
        }
        found
    }

    /// The same for the decoder, with a chunk that starts at this byte of the file.
    pub fn offset_index(&self, chunk_start: u64) -> OffsetIndexMetaData {
        let mut index = OffsetIndexBuilder::new();
        let mut start = chunk_start + self.dictionary.map_or(0, |page| u64::from(page.bytes));
        for page in &self.data {
            index.append_row_count(page.rows.into());
            index.append_offset_and_size(start.cast_signed(), page.bytes.cast_signed());
            start += u64::from(page.bytes);
        }
        index.build()
    }
}

/// The description of a row group's columns as bytes.
pub(super) fn encode(columns: &[ColumnPages]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for column in columns {
        for count in [column.data.len() as u32, u32::from(column.dictionary.is_some())] {
            bytes.extend(count.to_le_bytes());
        }
        for page in column.dictionary.iter().chain(&column.data) {
            for word in [page.bytes, page.rows, page.crc32] {
                bytes.extend(word.to_le_bytes());
            }
        }
    }
    bytes
}

/// What [`encode`] wrote; `None` when it did not.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<ColumnPages>> {
    let (words, []) = bytes.as_chunks() else { return None };
    let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
    let mut columns = Vec::new();
    while let Some(count) = words.next() {
        let dictionary = words.next()?;
        let mut page =
            || Some(Page { bytes: words.next()?, rows: words.next()?, crc32: words.next()? });
        let dictionary = if dictionary > 0 { Some(page()?) } else { None };
        let data = (0..count).map(|_| page()).collect::<Option<_>>()?;
        columns.push(ColumnPages { data, dictionary });
    }
    Some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(bytes: u32, rows: u32) -> Page {
        Page { bytes, rows, crc32: bytes * 7 }
    }

    #[test]
    fn pages_come_back_and_are_found_by_rows() {
        let data = vec![page(100, 8), page(50, 8), page(70, 3)];
        let columns = [
            ColumnPages { data: data.clone(), dictionary: Some(page(30, 0)) },
            ColumnPages { data, dictionary: None },
            ColumnPages::default(),
        ];
        let bytes = encode(&columns);
        assert_eq!(decode(&bytes).unwrap(), columns);
        assert_eq!(decode(&bytes[..bytes.len() - 4]), None);
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        let of_rows = |column: usize, rows: &[Range<usize>]| {
            let found = columns[column].of_rows(rows);
            found.into_iter().map(|(bytes, _)| bytes).collect::<Vec<_>>()
        };
        assert_eq!(of_rows(0, &[3..4, 5..6, 18..19]), [0..30, 30..130, 180..250]);
        assert_eq!(of_rows(1, &[3..4, 18..19]), [0..100, 150..220]);
        assert_eq!(of_rows(1, &[7..9, 9..10]), [0..100, 100..150]);
        assert_eq!(of_rows(1, &[8..16, 20..30])[0], 100..150);
        assert_eq!(of_rows(2, &[1..3, 3..4]), []);
        let index = columns[0].offset_index(1_000);
        let places = index.page_locations().iter().map(|page| (page.offset, page.first_row_index));
        assert_eq!(places.collect::<Vec<_>>(), [(1_030, 0), (1_130, 8), (1_180, 16)]);
    }
}
