//! Columns of a row group straight from its pages: numbers and texts batch by batch, and texts as the
//! runs they are stored in.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_buffer::{NullBuffer, ScalarBuffer};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;

use super::decode::{self, Run};
use super::inflate::{PageBytes, inflate};
use super::values::{Codes, Coding, DataPage, Gathered, Levels, Numbers, Values, Wanted};
use super::{Chunks, pages};

/// Ascending ranges of rows without overlap.
pub(crate) type Ranges = Arc<[Range<usize>]>;

/// Pages of some columns of a row group, read and checked, and which rows are wanted of them.
pub(crate) struct RowGroupPages {
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) number: usize,
    pub(super) chunks: Arc<Chunks>,
    /// By column, where only pages with wanted rows were read.
    pub(super) pages: Option<Vec<pages::ColumnPages>>,
    /// `None` for all.
    pub(super) rows: Option<Ranges>,
}

impl RowGroupPages {
    /// The values of a column of 64-bit integers.
    ///
    /// # Errors
    ///
    /// For another column.
    pub fn integers(&self, column: usize) -> Result<Integers, ParquetError> {
        let pages = self.column(column, Type::INT64)?;
        let column = ColumnValues::of(pages, Numbers::default());
        Ok(Integers { column, rows: self.wanted_rows() })
    }

    /// The texts of a column without nulls, in the order of rows.
    ///
    /// # Errors
    ///
    /// For another column, and what is wrong with its pages.
    pub fn texts(&self, column: usize) -> Result<TextRuns, ParquetError> {
        let mut pages = self.column(column, Type::BYTE_ARRAY)?;
        if pages.optional {
            return Err(wrong("a text column may have nulls"));
        }
        let mut found = TextRuns { texts: Vec::new(), runs: Vec::new() };
        let mut wanted = self.wanted_rows();
        loop {
            let before = wanted.ahead();
            let mut unwanted = before;
            let next = pages.next(&mut unwanted)?;
            wanted.row += before - unwanted;
            let Some(content) = next else { break };
            let added = match content {
                Content::Dictionary(bytes, texts) => decode::texts(&bytes, texts)
                    .filter(|_| found.texts.is_empty())
                    .map(|texts| found.texts = texts.into_iter().map(str::to_owned).collect()),
                Content::Data(page) => {
                    let added = found.add(&page, &mut wanted);
                    pages.give_back(page.bytes);
                    added
                }
            };
            added.ok_or_else(|| wrong("a text column's pages hold what they cannot"))?;
        }
        let rows = match &self.rows {
            Some(ranges) => ranges.iter().map(Range::len).sum(),
            None => self.metadata.row_group(self.number).num_rows() as usize,
        };
        match found.runs.iter().map(|(_, rows)| rows).sum::<usize>() == rows {
            true => Ok(found),
            false => Err(wrong("a text column has another number of rows than its row group")),
        }
    }

    fn column(&self, column: usize, physical: Type) -> Result<ColumnPages<Chunks>, ParquetError> {
        let group = self.metadata.row_group(self.number);
        let described = group.column(column);
        if described.column_type() != physical || described.column_descr().max_rep_level() > 0 {
            return Err(wrong("a column has another type than its place says"));
        }
        let places = self.pages.as_ref().map(|pages| {
            let index = pages[column].offset_index(described.byte_range().0);
            index.page_locations().clone()
        });
        let rows = group.num_rows() as usize;
        ColumnPages::new(self.chunks.clone(), described, rows, places)
    }

    fn wanted_rows(&self) -> WantedRows {
        WantedRows { ranges: self.rows.clone(), before: 0, row: 0 }
    }
}

fn wrong(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

/// The pages of a column of its row group's own, not of a list in it, one by one.
pub(crate) struct ColumnPages<R: ChunkReader> {
    reader: SerializedPageReader<R>,
    /// Whether the reader gives pages that are still compressed by zstd.
    inflates: bool,
    /// Memory for the next page.
    spare: Vec<u8>,
    optional: bool,
}

enum Content {
    /// So many entries.
    Dictionary(PageBytes, usize),
    Data(DataPage),
}

impl<R: ChunkReader + 'static> ColumnPages<R> {
    /// Those of a chunk. `places` says where pages are, if only some can be read.
    ///
    /// # Errors
    ///
    /// For what the chunk is described as and cannot be.
    pub fn new(
        chunks: Arc<R>,
        described: &ColumnChunkMetaData,
        rows: usize,
        places: Option<Vec<PageLocation>>,
    ) -> Result<Self, ParquetError> {
        let inflates = matches!(described.compression(), Compression::ZSTD(_));
        let as_stored;
        let mut read = described;
        if inflates {
            let builder = described.clone().into_builder();
            as_stored = builder.set_compression(Compression::UNCOMPRESSED).build()?;
            read = &as_stored;
        }
        Ok(Self {
            reader: SerializedPageReader::new(chunks, read, rows, places)?,
            inflates,
            spare: Vec::new(),
            optional: described.column_descr().max_def_level() > 0,
        })
    }

    /// The next page, after those that have none but the next `unwanted` rows. They are counted off.
    fn next(&mut self, unwanted: &mut usize) -> Result<Option<Content>, ParquetError> {
        loop {
            if *unwanted > 0
                && let Some(next) = self.reader.peek_next_page()?
                && !next.is_dict
                // A value is a row.
                && let Some(rows) = next.num_rows.or(next.num_levels)
                && rows <= *unwanted
            {
                self.reader.skip_next_page()?;
                *unwanted -= rows;
                continue;
            }
            let Some(page) = self.reader.get_next_page()? else { return Ok(None) };
            let page = match page {
                Page::DictionaryPage { buf, num_values, .. } => {
                    let bytes = self.inflated(buf, true)?;
                    return Ok(Some(Content::Dictionary(bytes, num_values as usize)));
                }
                Page::DataPage { buf, num_values, encoding, def_level_encoding, .. } => {
                    if self.optional && def_level_encoding != Encoding::RLE {
                        return Err(wrong("a page says in an old form which rows are null"));
                    }
                    let levels = self.optional.then_some(Levels::Before);
                    let bytes = self.inflated(buf, true)?;
                    DataPage { bytes, rows: num_values as usize, values: None, encoding, levels }
                }
                Page::DataPageV2 {
                    buf,
                    num_values,
                    num_nulls,
                    encoding,
                    def_levels_byte_len,
                    rep_levels_byte_len,
                    is_compressed,
                    ..
                } => {
                    let end = def_levels_byte_len as usize;
                    if rep_levels_byte_len > 0 || end > buf.len() {
                        return Err(wrong("a page's values begin where they cannot"));
                    }
                    let levels = self.optional.then(|| Levels::Apart(buf.slice(..end)));
                    let bytes = self.inflated(buf.slice(end..), is_compressed)?;
                    let rows = num_values as usize;
                    let values = rows.checked_sub(num_nulls as usize).ok_or_else(broken)?;
                    DataPage { bytes, rows, values: Some(values), encoding, levels }
                }
            };
            return Ok(Some(Content::Data(page)));
        }
    }

    fn inflated(&mut self, stored: Bytes, is_compressed: bool) -> Result<PageBytes, ParquetError> {
        // Values of which there are none are not compressed either.
        if !self.inflates || !is_compressed || stored.is_empty() {
            return Ok(PageBytes::Stored(stored));
        }
        let mut bytes = std::mem::take(&mut self.spare);
        match inflate(&stored, &mut bytes) {
            Some(()) => Ok(PageBytes::Inflated(bytes)),
            None => Err(wrong("a page is compressed in another way than it should be")),
        }
    }

    /// Takes back the bytes of a page that is done.
    fn give_back(&mut self, page: PageBytes) {
        if let PageBytes::Inflated(bytes) = page {
            self.spare = bytes;
        }
    }
}

/// Which rows are wanted of those that are still to come.
struct WantedRows {
    /// `None` for all.
    ranges: Option<Ranges>,
    /// Ranges that lie before the next row.
    before: usize,
    /// The next row.
    row: usize,
}

impl WantedRows {
    /// How many rows are still to come before a wanted one.
    fn ahead(&mut self) -> usize {
        let next = self.next_range();
        next.map_or(usize::MAX, |range| range.start.saturating_sub(self.row))
    }

    fn next_range(&mut self) -> Option<Range<usize>> {
        let Some(ranges) = &self.ranges else { return Some(self.row..usize::MAX) };
        while ranges.get(self.before).is_some_and(|range| range.end <= self.row) {
            self.before += 1;
        }
        ranges.get(self.before).cloned()
    }

    /// Goes on by some rows of the next `rows`: how many are passed over, and how many that follow,
    /// at most `most`, are wanted.
    fn step(&mut self, rows: usize, most: usize) -> (usize, usize) {
        let end = self.row.saturating_add(rows);
        let (skipped, taken) = match self.next_range() {
            Some(range) if range.start < end => {
                let start = range.start.max(self.row);
                (start - self.row, (range.end.min(end) - start).min(most))
            }
            _ => (rows, 0),
        };
        self.row = self.row.saturating_add(skipped + taken);
        (skipped, taken)
    }
}

/// The wanted values of a column of 64-bit integers, batch by batch.
pub(crate) struct Integers {
    column: ColumnValues<Numbers<i64>, Chunks>,
    rows: WantedRows,
}

impl Integers {
    /// The next values, those of nulls 0, and which are null if some are.
    ///
    /// # Errors
    ///
    /// What is wrong with the pages, also that there are fewer.
    pub fn next(
        &mut self,
        rows: usize,
    ) -> Result<(ScalarBuffer<i64>, Option<NullBuffer>), ParquetError> {
        let mut found = Gathered::with_capacity(rows);
        while found.values.len() < rows {
            let (skipped, taken) = self.rows.step(usize::MAX, rows - found.values.len());
            if taken == 0 {
                return Err(wrong("fewer rows are wanted of a column"));
            }
            self.column.pass(skipped);
            self.column.take(taken, &mut found)?;
        }
        Ok(found.finish())
    }
}

/// The values of a column, from the first row to the last.
pub(crate) struct ColumnValues<C: Coding, R: ChunkReader> {
    pages: ColumnPages<R>,
    coding: C,
    /// The page under way.
    page: Option<Values>,
    /// The next rows, which nobody wants.
    unwanted: usize,
}

impl<C: Coding, R: ChunkReader + 'static> ColumnValues<C, R> {
    pub fn of(pages: ColumnPages<R>, coding: C) -> Self {
        Self { pages, coding, page: None, unwanted: 0 }
    }

    /// Passes over the next rows. Their pages are not decoded if they hold no others.
    pub fn pass(&mut self, rows: usize) {
        self.unwanted = self.unwanted.saturating_add(rows);
    }

    /// Takes the next rows.
    ///
    /// # Errors
    ///
    /// What is wrong with the pages, also that there are fewer.
    pub fn take(&mut self, rows: usize, out: &mut Gathered<C::Item>) -> Result<(), ParquetError> {
        out.values.reserve(rows);
        let mut left = rows;
        while left > 0 {
            let (page, coding) = self.page()?;
            let rows = left.min(page.left);
            page.take(coding, rows, out).ok_or_else(broken)?;
            left -= rows;
        }
        Ok(())
    }

    /// Takes those of the next rows that are wanted.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub fn pick(
        &mut self,
        mut wanted: Wanted<'_>,
        out: &mut Gathered<C::Item>,
    ) -> Result<(), ParquetError> {
        out.values.reserve(wanted.count());
        while let Some(first) = wanted.places().next() {
            self.pass(first);
            (_, wanted) = wanted.split_at(first);
            let (page, coding) = self.page()?;
            let (of_page, rest) = wanted.split_at(page.left.min(wanted.rows()));
            page.pick(coding, of_page, out).ok_or_else(broken)?;
            wanted = rest;
        }
        self.pass(wanted.rows());
        Ok(())
    }

    /// The page of the next wanted row, at that row.
    fn page(&mut self) -> Result<(&mut Values, &C), ParquetError> {
        loop {
            if let Some(page) = &mut self.page {
                let unwanted = self.unwanted.min(page.left);
                page.skip(&self.coding, unwanted).ok_or_else(broken)?;
                self.unwanted -= unwanted;
            }
            if self.page.as_ref().is_some_and(|page| page.left > 0) {
                break;
            }
            if let Some(done) = self.page.take() {
                self.pages.give_back(done.into_bytes());
            }
            match self.pages.next(&mut self.unwanted)?.ok_or_else(broken)? {
                Content::Dictionary(bytes, entries) => {
                    self.coding.take_dictionary(&bytes, entries).ok_or_else(broken)?;
                    self.pages.give_back(bytes);
                }
                Content::Data(page) => self.page = Some(Values::of(page).ok_or_else(broken)?),
            }
        }
        Ok((self.page.as_mut().ok_or_else(broken)?, &self.coding))
    }
}

fn broken() -> ParquetError {
    wrong("a column's pages hold what they cannot")
}

impl<R: ChunkReader + 'static> ColumnValues<Codes, R> {
    /// What the codes stand for that were given.
    pub fn texts(&self) -> Option<&ArrayRef> {
        self.coding.texts()
    }
}

/// A text column of one row group without nulls: its wanted rows in runs of one text each. Rows are
/// sorted by key, so that keys have few, and none of their rows need decoding.
pub(crate) struct TextRuns {
    /// The texts that runs refer to.
    pub texts: Vec<String>,
    /// `(text, rows)`, in the order of rows; neighbours differ.
    pub runs: Vec<(u32, usize)>,
}

impl TextRuns {
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

    /// Adds the wanted rows of a page of codes.
    fn add(&mut self, page: &DataPage, wanted: &mut WantedRows) -> Option<()> {
        if !matches!(page.encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY) {
            return None;
        }
        let mut codes = decode::indices(&page.bytes, page.rows)?;
        while let Some(run) = codes.next(&page.bytes, usize::MAX)? {
            let (Run::Repeated(_, rows) | Run::Packed(_, rows)) = run;
            let mut done = 0;
            while done < rows {
                let (skipped, taken) = wanted.step(rows - done, usize::MAX);
                match &run {
                    Run::Repeated(code, _) if taken > 0 => self.push(*code, taken)?,
                    Run::Repeated(..) => {}
                    Run::Packed(codes, _) => {
                        for at in done + skipped..done + skipped + taken {
                            self.push(codes.get(at), 1)?;
                        }
                    }
                }
                done += skipped + taken;
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

#[cfg(test)]
mod tests;
