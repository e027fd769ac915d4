//! Column chunks of a row group, encoded straight from columns: what a general writer would find
//! out value by value (texts that repeat, what is null) is known here by runs.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;
use std::ops::Range;

use arrow_buffer::NullBuffer;
use bytes::Bytes;
use isotick_model::Codec;
use parquet::basic::{BoundaryOrder, Compression, Encoding, PageType, Type, ZstdLevel};
use parquet::column::page::{CompressedPage, Page as DataPage, PageWriteSpec, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats,
};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::encode::{self, Widths};
use super::pages::{ColumnPages, Page};

/// Levels above take several times as long for a few hundredths less.
const ZSTD_LEVEL: i32 = 1;

/// A column of a row group.
pub(crate) enum Column<'a> {
    /// 64-bit integers.
    Integers {
        /// A null row's value is not looked at.
        values: &'a [i64],
        nulls: Option<&'a NullBuffer>,
        /// Whether the file's schema lets rows be null.
        optional: bool,
        /// Whether they compare as unsigned ones.
        unsigned: bool,
    },
    /// Texts, none null, as runs that hold all rows.
    Texts(Vec<Run<'a>>),
    /// Unsigned integers of 32 bits, none null.
    Small(&'a [u32]),
    /// Decimals of this many bytes, which may be null. A null row's value is not looked at.
    Decimals { values: &'a [i128], nulls: &'a NullBuffer, width: usize },
    /// Floats, none of them NaN, which may be null. A null row's value is not looked at.
    Floats { values: &'a [f64], nulls: &'a NullBuffer },
}

/// Rows that follow each other and have the same text.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub text: &'a str,
    pub rows: usize,
}

/// An encoded chunk, its offsets from its own start.
pub(super) struct Chunk {
    pub bytes: Bytes,
    pub close: ColumnCloseResult,
    pub pages: ColumnPages,
}

/// Encodes a column with pages of `page_rows` rows, each compressed by itself.
pub(super) fn encode(
    column: &Column<'_>,
    descr: ColumnDescPtr,
    rows: usize,
    page_rows: usize,
    codec: Codec,
) -> Result<Chunk, ParquetError> {
    let mut writing = Writing {
        codec,
        widths: None,
        uncompressed: 0,
        sink: TrackedWrite::new(Vec::new()),
        dictionary: None,
        data: Vec::new(),
        rows: Vec::new(),
    };
    let pages = (0..rows).step_by(page_rows).map(|start| start..rows.min(start + page_rows));
    let (bounds, encoding) = match column {
        Column::Integers { values, nulls, optional, unsigned } => {
            let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
            let few = Few::of(values, nulls);
            let encoding = match &few {
                Some(few) => {
                    writing.dictionary(few)?;
                    Encoding::RLE_DICTIONARY
                }
                None => Encoding::DELTA_BINARY_PACKED,
            };
            let mut bounds = Bounds::default();
            for page in pages {
                let bounds_of_page =
                    writing.integers(values, nulls, *optional, *unsigned, few.as_ref(), page)?;
                bounds.pages.push(bounds_of_page);
            }
            (bounds.of_integers(*unsigned), encoding)
        }
        Column::Texts(runs) => {
            let bounds = writing.texts(runs, pages)?;
            (bounds.of_texts(), Encoding::RLE_DICTIONARY)
        }
        Column::Small(values) => {
            let mut bounds = Bounds::default();
            for page in pages {
                let put = |value: u32, out: &mut Vec<u8>| {
                    out.extend_from_slice(&value.to_le_bytes());
                };
                bounds.pages.push(writing.plain(values, None, page, |value| value, put)?);
            }
            (bounds.of_small(), Encoding::PLAIN)
        }
        Column::Decimals { values, nulls, width } => {
            let mut bounds = Bounds::default();
            for page in pages {
                let put = |value: i128, out: &mut Vec<u8>| {
                    out.extend_from_slice(&value.to_be_bytes()[16 - width..]);
                };
                bounds.pages.push(writing.plain(values, Some(nulls), page, |value| value, put)?);
            }
            (bounds.of_decimals(*width), Encoding::PLAIN)
        }
        Column::Floats { values, nulls } => {
            let mut bounds = Bounds::default();
            for page in pages {
                let put = |value: f64, out: &mut Vec<u8>| {
                    out.extend_from_slice(&value.to_le_bytes());
                };
                bounds.pages.push(writing.plain(values, Some(nulls), page, Total, put)?);
            }
            (bounds.of_floats(), Encoding::PLAIN)
        }
    };
    writing.finish(descr, rows, bounds, encoding)
}

/// The least and the greatest value of a page, `None` where all are null; and its nulls.
struct PageBounds<T> {
    values: Option<(T, T)>,
    nulls: usize,
}

struct Bounds<T> {
    pages: Vec<PageBounds<T>>,
}

impl<T> Default for Bounds<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

/// What goes to the file's indexes.
struct Indexed {
    /// Of each page, as bytes.
    pages: Vec<PageBounds<Vec<u8>>>,
    order: BoundaryOrder,
    statistics: Statistics,
    physical: Type,
}

impl<T: Ord + Copy> Bounds<T> {
    fn order(&self) -> BoundaryOrder {
        let known = || self.pages.iter().filter_map(|page| page.values);
        let pairs = || known().zip(known().skip(1));
        if pairs().all(|(a, b)| a.0 <= b.0 && a.1 <= b.1) {
            BoundaryOrder::ASCENDING
        } else if pairs().all(|(a, b)| a.0 >= b.0 && a.1 >= b.1) {
            BoundaryOrder::DESCENDING
        } else {
            BoundaryOrder::UNORDERED
        }
    }

    fn ends(&self) -> (Option<T>, Option<T>) {
        let known = || self.pages.iter().filter_map(|page| page.values);
        (known().map(|(least, _)| least).min(), known().map(|(_, greatest)| greatest).max())
    }

    fn nulls(&self) -> u64 {
        self.pages.iter().map(|page| page.nulls as u64).sum()
    }

    fn bytes(&self, of: impl Fn(T) -> Vec<u8>) -> Vec<PageBounds<Vec<u8>>> {
        let page = |page: &PageBounds<T>| PageBounds {
            values: page.values.map(|(least, greatest)| (of(least), of(greatest))),
            nulls: page.nulls,
        };
        self.pages.iter().map(page).collect()
    }
}

impl Bounds<i64> {
    /// The bounds are of values whose order is that of signed integers, see [`flipped`].
    fn of_integers(self, unsigned: bool) -> Indexed {
        let plain = |value: i64| value ^ flipped(unsigned);
        let (least, greatest) = self.ends();
        let (least, greatest) = (least.map(plain), greatest.map(plain));
        let statistics = ValueStatistics::new(least, greatest, None, Some(self.nulls()), false);
        Indexed {
            pages: self.bytes(|value| plain(value).to_le_bytes().to_vec()),
            order: self.order(),
            statistics: statistics.with_backwards_compatible_min_max(!unsigned).into(),
            physical: Type::INT64,
        }
    }
}

impl Bounds<&str> {
    fn of_texts(self) -> Indexed {
        let (least, greatest) = self.ends();
        let text = |text: &str| ByteArray::from(text.as_bytes().to_vec());
        let (least, greatest) = (least.map(text), greatest.map(text));
        let statistics = ValueStatistics::new(least, greatest, None, Some(0), false);
        Indexed {
            pages: self.bytes(|text| text.as_bytes().to_vec()),
            order: self.order(),
            statistics: statistics.with_backwards_compatible_min_max(false).into(),
            physical: Type::BYTE_ARRAY,
        }
    }
}

impl Bounds<u32> {
    fn of_small(self) -> Indexed {
        let (least, greatest) = self.ends();
        let (least, greatest) = (least.map(u32::cast_signed), greatest.map(u32::cast_signed));
        let statistics = ValueStatistics::new(least, greatest, None, Some(0), false);
        Indexed {
            pages: self.bytes(|value| value.to_le_bytes().to_vec()),
            order: self.order(),
            statistics: statistics.with_backwards_compatible_min_max(false).into(),
            physical: Type::INT32,
        }
    }
}

impl Bounds<i128> {
    fn of_decimals(self, width: usize) -> Indexed {
        let bytes = |value: i128| value.to_be_bytes()[16 - width..].to_vec();
        let (least, greatest) = self.ends();
        let fixed = |value: i128| FixedLenByteArray::from(bytes(value));
        let (least, greatest) = (least.map(fixed), greatest.map(fixed));
        let statistics = ValueStatistics::new(least, greatest, None, Some(self.nulls()), false);
        Indexed {
            pages: self.bytes(bytes),
            order: self.order(),
            statistics: statistics.with_backwards_compatible_min_max(true).into(),
            physical: Type::FIXED_LEN_BYTE_ARRAY,
        }
    }
}

impl Bounds<Total> {
    fn of_floats(self) -> Indexed {
        let (least, greatest) = self.ends();
        // Both zeros are one value to readers, so a zero that bounds is the farther one.
        let least = least.map(|Total(least)| if least == 0.0 { -0.0 } else { least });
        let greatest = greatest.map(|Total(greatest)| if greatest == 0.0 { 0.0 } else { greatest });
        let statistics = ValueStatistics::new(least, greatest, None, Some(self.nulls()), false);
        let bytes = |value: f64| value.to_le_bytes().to_vec();
        let page = |page: &PageBounds<Total>| PageBounds {
            values: page.values.map(|(Total(least), Total(greatest))| {
                let zero = |value: f64, zero: f64| if value == 0.0 { zero } else { value };
                (bytes(zero(least, -0.0)), bytes(zero(greatest, 0.0)))
            }),
            nulls: page.nulls,
        };
        Indexed {
            pages: self.pages.iter().map(page).collect(),
            order: self.order(),
            statistics: statistics.with_backwards_compatible_min_max(true).into(),
            physical: Type::DOUBLE,
        }
    }
}

/// A float in the order of floats, none of them NaN.
#[derive(Clone, Copy)]
struct Total(f64);

impl Ord for Total {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Total {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Total {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Total {}

/// What makes unsigned integers compare as signed ones do.
fn flipped(unsigned: bool) -> i64 {
    if unsigned { i64::MIN } else { 0 }
}

/// The values of a column that has few of them, ascending.
struct Few {
    values: Vec<i64>,
}

/// Few enough that their indices are narrower than deltas between them.
const FEW: usize = 8;

impl Few {
    /// `None` where there are more. Most columns have more among their first rows.
    fn of(values: &[i64], nulls: Option<&NullBuffer>) -> Option<Self> {
        let mut few: Vec<i64> = Vec::with_capacity(FEW);
        let mut add = |value: i64| match few.binary_search(&value) {
            Ok(_) => true,
            Err(_) if few.len() == FEW => false,
            Err(place) => {
                few.insert(place, value);
                true
            }
        };
        let all = match nulls {
            Some(nulls) => nulls.valid_indices().all(|row| add(values[row])),
            None => values.iter().all(|&value| add(value)),
        };
        (all && !few.is_empty()).then_some(Self { values: few })
    }

    fn index(&self, value: i64) -> u32 {
        self.values.partition_point(|&other| other < value) as u32
    }

    fn width(&self) -> u32 {
        u32::BITS - (self.values.len() as u32 - 1).leading_zeros()
    }
}

/// A chunk while its pages are written.
struct Writing {
    codec: Codec,
    /// How wide deltas are, once a page was tried.
    widths: Option<Widths>,
    /// Bytes of the pages before they were compressed, with their headers.
    uncompressed: usize,
    sink: TrackedWrite<Vec<u8>>,
    dictionary: Option<PageWriteSpec>,
    data: Vec<PageWriteSpec>,
    rows: Vec<usize>,
}

impl Writing {
    fn integers(
        &mut self,
        values: &[i64],
        nulls: Option<&NullBuffer>,
        optional: bool,
        unsigned: bool,
        few: Option<&Few>,
        rows: Range<usize>,
    ) -> Result<PageBounds<i64>, ParquetError> {
        let mut out = Vec::with_capacity(4 * rows.len());
        let nulls = nulls.map(|nulls| nulls.slice(rows.start, rows.len()));
        let mut values = &values[rows.clone()];
        let valid: Vec<i64>;
        if let Some(nulls) = &nulls {
            valid = nulls.valid_indices().map(|row| values[row]).collect();
            encode::levels(valid_runs(nulls), &mut out);
            values = &valid;
        } else if optional {
            encode::levels([(1, rows.len())].into_iter(), &mut out);
        }
        let encoding = match few {
            Some(few) => {
                encode::indices(
                    values.iter().map(|&value| few.index(value)),
                    few.width(),
                    &mut out,
                );
                Encoding::RLE_DICTIONARY
            }
            None => {
                let widths = self.widths(values)?;
                encode::delta_packed(values, widths, &mut out);
                Encoding::DELTA_BINARY_PACKED
            }
        };
        let found = values.len();
        let flip = flipped(unsigned);
        let (least, greatest) =
            values.iter().fold((i64::MAX, i64::MIN), |(least, greatest), &value| {
                (least.min(value ^ flip), greatest.max(value ^ flip))
            });
        let bounds = PageBounds {
            values: (found > 0).then_some((least, greatest)),
            nulls: rows.len() - found,
        };
        self.data_page(out, rows.len(), encoding)?;
        Ok(bounds)
    }

    /// Which widths of deltas take less space, by the first page.
    fn widths(&mut self, values: &[i64]) -> Result<Widths, ParquetError> {
        if let (Codec::None, _) | (_, Some(_)) = (self.codec, self.widths) {
            return Ok(self.widths.unwrap_or(Widths::Least));
        }
        let compressed = |widths| {
            let mut out = Vec::new();
            encode::delta_packed(values, widths, &mut out);
            Ok::<_, io::Error>(zstd::bulk::compress(&out, ZSTD_LEVEL)?.len())
        };
        let widths = match compressed(Widths::Bytes)? < compressed(Widths::Least)? {
            true => Widths::Bytes,
            false => Widths::Least,
        };
        self.widths = Some(widths);
        Ok(widths)
    }

    /// The dictionary of integers.
    fn dictionary(&mut self, few: &Few) -> Result<(), ParquetError> {
        let bytes: Vec<u8> = few.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let page = DataPage::DictionaryPage {
            num_values: few.values.len() as u32,
            encoding: Encoding::PLAIN,
            is_sorted: true,
            buf: bytes.into(),
        };
        self.dictionary = Some(self.page(page)?);
        Ok(())
    }

    /// Values as they are; `nulls` where some may be null.
    fn plain<T: Copy, B: Ord + Copy>(
        &mut self,
        values: &[T],
        nulls: Option<&NullBuffer>,
        rows: Range<usize>,
        bound: impl Fn(T) -> B,
        put: impl Fn(T, &mut Vec<u8>),
    ) -> Result<PageBounds<B>, ParquetError> {
        let mut out = Vec::with_capacity(size_of::<T>() * rows.len());
        let nulls = nulls.map(|nulls| nulls.slice(rows.start, rows.len()));
        let values = &values[rows.clone()];
        let mut bounds: Option<(B, B)> = None;
        let mut add = |value: T, out: &mut Vec<u8>| {
            let at = bound(value);
            let (least, greatest) = bounds.get_or_insert((at, at));
            (*least, *greatest) = ((*least).min(at), (*greatest).max(at));
            put(value, out);
        };
        match &nulls {
            Some(nulls) => {
                encode::levels(valid_runs(nulls), &mut out);
                nulls.valid_indices().for_each(|row| add(values[row], &mut out));
            }
            None => values.iter().for_each(|&value| add(value, &mut out)),
        }
        self.data_page(out, rows.len(), Encoding::PLAIN)?;
        Ok(PageBounds { values: bounds, nulls: nulls.map_or(0, |nulls| nulls.null_count()) })
    }

    fn texts<'a>(
        &mut self,
        runs: &[Run<'a>],
        pages: impl Iterator<Item = Range<usize>>,
    ) -> Result<Bounds<&'a str>, ParquetError> {
        let mut indices: HashMap<&str, u32> = HashMap::new();
        let (mut dictionary, mut last) = (Vec::new(), None);
        let mut index_of = |run: &Run<'a>| {
            // Mostly the text of the run before, where one column of a key changes more often.
            if let Some((text, index)) = last.filter(|(text, _)| *text == run.text) {
                let _: &str = text;
                return index;
            }
            let next = indices.len() as u32;
            let index = *indices.entry(run.text).or_insert_with(|| {
                dictionary.extend_from_slice(&(run.text.len() as u32).to_le_bytes());
                dictionary.extend_from_slice(run.text.as_bytes());
                next
            });
            last = Some((run.text, index));
            index
        };
        let by_index: Vec<u32> = runs.iter().map(&mut index_of).collect();
        let page = DataPage::DictionaryPage {
            num_values: indices.len() as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
            buf: dictionary.into(),
        };
        self.dictionary = Some(self.page(page)?);
        let width = u32::BITS - (indices.len().saturating_sub(1) as u32).leading_zeros();
        let mut bounds = Bounds::default();
        // The run that the next page begins in, and how many of its rows lie before.
        let (mut run, mut taken) = (0, 0);
        for page in pages {
            let mut of_page: Vec<(u32, usize)> = Vec::new();
            let (mut least, mut greatest) = (runs[run].text, runs[run].text);
            let mut left = page.len();
            while left > 0 {
                let rows = (runs[run].rows - taken).min(left);
                least = least.min(runs[run].text);
                greatest = greatest.max(runs[run].text);
                match of_page.last_mut() {
                    Some((index, before)) if *index == by_index[run] => *before += rows,
                    _ => of_page.push((by_index[run], rows)),
                }
                (left, taken) = (left - rows, taken + rows);
                if taken == runs[run].rows {
                    (run, taken) = (run + 1, 0);
                }
            }
            let mut out = vec![width as u8];
            encode::hybrid(of_page.into_iter(), width, &mut out);
            self.data_page(out, page.len(), Encoding::RLE_DICTIONARY)?;
            bounds.pages.push(PageBounds { values: Some((least, greatest)), nulls: 0 });
        }
        Ok(bounds)
    }

    fn data_page(
        &mut self,
        bytes: Vec<u8>,
        rows: usize,
        encoding: Encoding,
    ) -> Result<(), ParquetError> {
        let page = self.page(DataPage::DataPage {
            buf: bytes.into(),
            num_values: rows as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        })?;
        self.data.push(page);
        self.rows.push(rows);
        Ok(())
    }

    fn page(&mut self, mut page: DataPage) -> Result<PageWriteSpec, ParquetError> {
        let len = page.buffer().len();
        if self.codec == Codec::Zstd
            && let DataPage::DataPage { buf, .. } | DataPage::DictionaryPage { buf, .. } = &mut page
        {
            *buf = zstd::bulk::compress(buf, ZSTD_LEVEL)?.into();
        }
        let page = CompressedPage::new(page, len);
        let written = SerializedPageWriter::new(&mut self.sink).write_page(page)?;
        self.uncompressed += written.uncompressed_size;
        Ok(written)
    }

    fn finish(
        self,
        descr: ColumnDescPtr,
        rows: usize,
        indexed: Indexed,
        encoding: Encoding,
    ) -> Result<Chunk, ParquetError> {
        let bytes: Bytes = self.sink.into_inner().map_err(io::Error::other)?.into();
        let len = bytes.len() as i64;
        let mut encodings = vec![encoding, Encoding::RLE];
        let mut stats = Vec::new();
        if self.dictionary.is_some() {
            encodings.push(Encoding::PLAIN);
            let page_type = PageType::DICTIONARY_PAGE;
            stats.push(PageEncodingStats { page_type, encoding: Encoding::PLAIN, count: 1 });
        }
        let count = self.data.len() as i32;
        stats.push(PageEncodingStats { page_type: PageType::DATA_PAGE, encoding, count });
        let metadata = ColumnChunkMetaData::builder(descr)
            .set_compression(match self.codec {
                Codec::None => Compression::UNCOMPRESSED,
                Codec::Zstd => Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?),
            })
            .set_encodings(encodings)
            .set_page_encoding_stats(stats)
            .set_total_compressed_size(len)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_num_values(rows as i64)
            .set_dictionary_page_offset(self.dictionary.as_ref().map(|page| page.offset as i64))
            .set_data_page_offset(self.data.first().map_or(0, |page| page.offset as i64))
            .set_statistics(indexed.statistics)
            .build()?;
        let mut column_index = ColumnIndexBuilder::new(indexed.physical);
        column_index.set_boundary_order(indexed.order);
        for page in indexed.pages {
            let (least, greatest) = page.values.unwrap_or_default();
            let all_null = least.is_empty() && greatest.is_empty() && page.nulls > 0;
            column_index.append(all_null, least, greatest, page.nulls as i64);
        }
        let mut offset_index = OffsetIndexBuilder::new();
        let mut pages = ColumnPages::default();
        let described = |page: &PageWriteSpec, rows: usize| {
            let (start, len) = (page.offset as usize, page.bytes_written as usize);
            Page {
                bytes: len as u32,
                rows: rows as u32,
                crc32: crc32fast::hash(&bytes[start..start + len]),
            }
        };
        pages.dictionary = self.dictionary.as_ref().map(|page| described(page, 0));
        for (page, &rows) in self.data.iter().zip(&self.rows) {
            offset_index.append_offset_and_size(page.offset as i64, page.bytes_written as i32);
            offset_index.append_row_count(rows as i64);
            pages.data.push(described(page, rows));
        }
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: Some(column_index.build()?),
            offset_index: Some(offset_index.build()),
        };
        Ok(Chunk { bytes, close, pages })
    }
}

/// Which rows are valid, as runs of 1 and 0.
fn valid_runs(nulls: &NullBuffer) -> impl Iterator<Item = (u32, usize)> {
    let mut end = 0;
    let ranges = nulls.valid_slices().map(move |(start, stop)| {
        let before = start - end;
        end = stop;
        [(0, before), (1, stop - start)]
    });
    let last = nulls.valid_slices().last().map_or(0, |(_, stop)| stop);
    ranges.flatten().chain([(0, nulls.len() - last)]).filter(|(_, rows)| *rows > 0)
}

#[cfg(test)]
mod tests;
