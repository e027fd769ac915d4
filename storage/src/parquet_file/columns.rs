//! Columns of a row group straight from its checked pages: integers batch by batch, texts as the
//! runs they are stored in.

use std::ops::Range;
use std::sync::Arc;

use arrow_buffer::{NullBuffer, NullBufferBuilder, ScalarBuffer};
use bytes::Bytes;
use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use super::decode::{self, Hybrid, Run};
use super::{Chunks, pages};

/// Pages of some columns of a row group, read and checked, and which rows are wanted of them.
pub(crate) struct RowGroupPages {
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) number: usize,
    pub(super) chunks: Arc<Chunks>,
    /// By column, where only pages with wanted rows were read.
    pub(super) pages: Option<Vec<pages::ColumnPages>>,
    /// Ascending, without overlap; `None` for all.
    pub(super) rows: Option<Arc<[Range<usize>]>>,
}

impl RowGroupPages {
    /// The values of a column of 64-bit integers.
    ///
    /// # Errors
    ///
    /// For another column.
    pub fn integers(&self, column: usize) -> Result<Integers, ParquetError> {
        let pages = self.column(column, Type::INT64)?;
        Ok(Integers { pages, dictionary: Vec::new(), waiting: Waiting::default() })
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
        while let Some(content) = pages.next()? {
            let added = match content {
                Content::Dictionary(bytes, texts) => decode::texts(&bytes, texts)
                    .filter(|_| found.texts.is_empty())
                    .map(|texts| found.texts = texts),
                Content::Data(page) => found.add(&page),
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

    fn column(&self, column: usize, physical: Type) -> Result<ColumnPages, ParquetError> {
        let group = self.metadata.row_group(self.number);
        let described = group.column(column);
        let descriptor = described.column_descr();
        if described.column_type() != physical || descriptor.max_rep_level() > 0 {
            return Err(wrong("a column has another type than its place says"));
        }
        let places = self.pages.as_ref().map(|pages| {
            let index = pages[column].offset_index(described.byte_range().0);
            index.page_locations().clone()
        });
        let rows = group.num_rows() as usize;
        let can_skip = places.is_some();
        let reader = SerializedPageReader::new(self.chunks.clone(), described, rows, places)?;
        Ok(ColumnPages {
            reader,
            optional: descriptor.max_def_level() > 0,
            wanted: self.rows.clone(),
            can_skip,
            before: 0,
            row: 0,
        })
    }
}

fn wrong(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

/// The pages of a column that have wanted rows, one by one.
struct ColumnPages {
    reader: SerializedPageReader<Chunks>,
    optional: bool,
    wanted: Option<Arc<[Range<usize>]>>,
    /// Whether pages without wanted rows were not read.
    can_skip: bool,
    /// How many wanted ranges lie before the next page.
    before: usize,
    /// The first row of the next page.
    row: usize,
}

enum Content {
    /// So many entries.
    Dictionary(Bytes, usize),
    Data(DataPage),
}

struct DataPage {
    bytes: Bytes,
    rows: usize,
    encoding: Encoding,
    /// Which of its rows are wanted; `None` for all.
    wanted: Option<Vec<Range<usize>>>,
}

impl ColumnPages {
    fn next(&mut self) -> Result<Option<Content>, ParquetError> {
        loop {
            if self.can_skip
                && let Some(next) = self.reader.peek_next_page()?
                && let Some(rows) = next.num_rows.filter(|_| !next.is_dict)
                && self.wanted_of(rows).is_some_and(|wanted| wanted.is_empty())
            {
                self.reader.skip_next_page()?;
                self.row += rows;
                continue;
            }
            return Ok(Some(match self.reader.get_next_page()? {
                None => return Ok(None),
                Some(Page::DictionaryPage { buf, num_values, .. }) => {
                    Content::Dictionary(buf, num_values as usize)
                }
                Some(Page::DataPage { buf, num_values, encoding, .. }) => {
                    let rows = num_values as usize;
                    let wanted = self.wanted_of(rows);
                    self.row += rows;
                    if wanted.as_ref().is_some_and(Vec::is_empty) {
                        continue;
                    }
                    Content::Data(DataPage { bytes: buf, rows, encoding, wanted })
                }
                Some(Page::DataPageV2 { .. }) => {
                    return Err(wrong("a page has a form that is never written"));
                }
            }));
        }
    }

    /// Which of the next rows are wanted, counted from the first of them; `None` for all.
    fn wanted_of(&mut self, rows: usize) -> Option<Vec<Range<usize>>> {
        let all = self.wanted.as_ref()?;
        let (first, end) = (self.row, self.row + rows);
        while all.get(self.before).is_some_and(|range| range.end <= first) {
            self.before += 1;
        }
        let inside = all[self.before..].iter().take_while(|range| range.start < end);
        let inside: Vec<_> = inside
            .map(|range| range.start.max(first) - first..range.end.min(end) - first)
            .collect();
        let is_all = inside.first().is_some_and(|range| range.len() == rows);
        (!is_all).then_some(inside)
    }
}

/// The wanted values of a column of integers.
pub(crate) struct Integers {
    pages: ColumnPages,
    dictionary: Vec<i64>,
    waiting: Waiting,
}

/// Values that were decoded with others and not given yet.
#[derive(Default)]
struct Waiting {
    values: Vec<i64>,
    nulls: Option<NullBuffer>,
    given: usize,
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
        let broken = || wrong("a column's pages hold what they cannot");
        let mut values = Vec::with_capacity(rows);
        let mut nulls = NullBufferBuilder::new(rows);
        let mut add = |of: Option<&NullBuffer>, rows: usize| match of {
            Some(of) => nulls.append_buffer(of),
            None => nulls.append_n_non_nulls(rows),
        };
        loop {
            let waiting = &mut self.waiting;
            let taken = (waiting.values.len() - waiting.given).min(rows - values.len());
            if taken > 0 {
                values.extend_from_slice(&waiting.values[waiting.given..waiting.given + taken]);
                let nulls = waiting.nulls.as_ref().map(|nulls| nulls.slice(waiting.given, taken));
                add(nulls.as_ref(), taken);
                waiting.given += taken;
            }
            if values.len() == rows {
                break;
            }
            match self.pages.next()?.ok_or_else(broken)? {
                Content::Dictionary(bytes, entries) => {
                    self.dictionary.clear();
                    decode::plain(&bytes, entries, &mut self.dictionary).ok_or_else(broken)?;
                }
                Content::Data(page)
                    if page.wanted.is_none() && page.rows <= rows - values.len() =>
                {
                    let nulls = self.decode(&page, &mut values).ok_or_else(broken)?;
                    add(nulls.as_ref(), page.rows);
                }
                Content::Data(page) => {
                    let mut all = std::mem::take(&mut self.waiting.values);
                    all.clear();
                    let nulls = self.decode(&page, &mut all).ok_or_else(broken)?;
                    self.waiting = match &page.wanted {
                        None => Waiting { values: all, nulls, given: 0 },
                        Some(ranges) => Waiting::of(&all, nulls.as_ref(), ranges),
                    };
                }
            }
        }
        Ok((values.into(), nulls.finish().filter(|nulls| nulls.null_count() > 0)))
    }

    /// Appends a page's values, 0 where they are null, and says which are if some are.
    fn decode(&self, page: &DataPage, out: &mut Vec<i64>) -> Option<Option<NullBuffer>> {
        let mut bytes: &[u8] = &page.bytes;
        let decode = |bytes: &[u8], count: usize, out: &mut Vec<i64>| match page.encoding {
            Encoding::DELTA_BINARY_PACKED => decode::delta_packed(bytes, count, out),
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => {
                decode::indexed(bytes, count, &self.dictionary, out)
            }
            Encoding::PLAIN => decode::plain(bytes, count, out),
            _ => None,
        };
        let nulls = match self.pages.optional {
            true => nulls(decode::levels(&mut bytes, page.rows)?, page.rows)?,
            false => None,
        };
        let Some(nulls) = nulls else {
            decode(bytes, page.rows, out)?;
            return Some(None);
        };
        let mut valid = Vec::new();
        decode(bytes, page.rows - nulls.null_count(), &mut valid)?;
        let start = out.len();
        out.resize(start + page.rows, 0);
        let mut valid = valid.as_slice();
        for (from, to) in nulls.valid_slices() {
            let (of_slice, after) = valid.split_at_checked(to - from)?;
            out[start + from..start + to].copy_from_slice(of_slice);
            valid = after;
        }
        Some(Some(nulls))
    }
}

impl Waiting {
    /// Those in ascending ranges.
    fn of(all: &[i64], nulls: Option<&NullBuffer>, ranges: &[Range<usize>]) -> Self {
        let rows = ranges.iter().map(Range::len).sum();
        let mut values = Vec::with_capacity(rows);
        ranges.iter().for_each(|range| values.extend_from_slice(&all[range.clone()]));
        let nulls = nulls.and_then(|nulls| {
            let mut wanted = NullBufferBuilder::new(rows);
            for range in ranges {
                wanted.append_buffer(&nulls.slice(range.start, range.len()));
            }
            wanted.finish()
        });
        Self { values, nulls, given: 0 }
    }
}

/// Which of so many rows are null, if some are.
fn nulls(mut levels: Hybrid<'_>, rows: usize) -> Option<Option<NullBuffer>> {
    let mut nulls = NullBufferBuilder::new(rows);
    while let Some(run) = levels.next()? {
        match run {
            Run::Repeated(0, rows) => nulls.append_n_nulls(rows),
            Run::Repeated(_, rows) => nulls.append_n_non_nulls(rows),
            Run::Packed(packed, rows) => {
                (0..rows).for_each(|row| nulls.append(packed.get(row) == 1));
            }
        }
    }
    Some(nulls.finish())
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
    fn add(&mut self, page: &DataPage) -> Option<()> {
        if !matches!(page.encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY) {
            return None;
        }
        let whole = 0..page.rows;
        let mut wanted = page.wanted.as_deref().unwrap_or(std::slice::from_ref(&whole)).iter();
        let mut range = wanted.next()?.clone();
        let mut runs = decode::indices(&page.bytes, page.rows)?;
        let mut row = 0;
        while let Some(run) = runs.next()? {
            let (Run::Repeated(_, rows) | Run::Packed(_, rows)) = run;
            let end = row + rows;
            // What of the run is wanted, range by range.
            while range.start < end {
                let inside = range.start.max(row)..range.end.min(end);
                match &run {
                    Run::Repeated(code, _) => self.push(*code, inside.len())?,
                    Run::Packed(codes, _) => {
                        for at in inside.clone() {
                            self.push(codes.get(at - row), 1)?;
                        }
                    }
                }
                if range.end > end {
                    break;
                }
                match wanted.next() {
                    Some(next) => range = next.clone(),
                    None => return Some(()),
                }
            }
            row = end;
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
