//! Keys and other texts of stored columns: what statistics say of them, where the rows of some keys
//! stand, and codes with what they stand for.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray};
use arrow_buffer::ScalarBuffer;
use isotick_model::{Key, KeySelection};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;

use super::runs::{TextRuns, intersect};
use crate::error::Result;
use crate::parquet_file::Stored;

/// A row group is read whole when more than one row in so many is wanted, unless those rows stand
/// together.
const FEW: usize = 64;
/// Rows stand together when ranges of them come only once in so many rows.
const TOGETHER_ROWS: usize = 2048;

/// Whether a row group may have rows of a selected key, by its statistics.
pub(crate) fn may_meet(keys: &KeySelection, key: usize, column: &ColumnChunkMetaData) -> bool {
    text_span(column).is_none_or(|(least, greatest)| keys.meets(key, least, greatest))
}

/// The text of all rows of a column chunk, where its statistics say that it is one.
pub(crate) fn one_text(column: &ColumnChunkMetaData) -> Option<&str> {
    let exact = column.statistics().is_some_and(|of| of.min_is_exact() && of.max_is_exact());
    let (least, greatest) = text_span(column)?;
    (exact && least == greatest).then_some(least)
}

/// Between which texts those of a column chunk lie, by its statistics.
pub(crate) fn text_span(column: &ColumnChunkMetaData) -> Option<(&str, &str)> {
    let Some(Statistics::ByteArray(span)) = column.statistics() else { return None };
    // Cut bounds lie outside of what they stand for.
    let (least, greatest) = (span.min_opt()?, span.max_opt()?);
    least.as_utf8().ok().zip(greatest.as_utf8().ok())
}

/// The same as keys of one column.
pub(crate) fn key_span(column: &ColumnChunkMetaData) -> Option<RangeInclusive<Key>> {
    let (least, greatest) = text_span(column)?;
    Some(Key::from_components([least])..=Key::from_components([greatest]))
}

/// The rows of a row group that are read.
pub(crate) struct Chosen {
    pub rows: usize,
    pub ranges: Vec<Range<usize>>,
    /// Where the keys have one component: the runs of keys that those rows are.
    pub keys: Option<Vec<(Key, usize)>>,
}

impl Chosen {
    /// The rows of selected keys in a row group of `rows` rows, by the runs of its `columns` key
    /// columns, which stand behind the first one; `None` for all.
    pub fn of(
        stored: &Stored,
        row_group: usize,
        rows: usize,
        columns: usize,
        selection: &KeySelection,
    ) -> Result<Option<Self>> {
        let mut ranges = std::iter::once(0..rows).collect::<Vec<_>>();
        let mut keys = None;
        for (key, texts) in (0..columns).filter_map(|key| Some((key, selection.texts(key)?))) {
            let chunk = stored.chunks(row_group, &[key + 1])?;
            let column = stored.metadata().row_group(row_group).column(key + 1);
            let runs = TextRuns::read(chunk, column, rows);
            // What is not stored in runs is not looked at: nothing has to be left out.
            let Some(runs) = runs.map_err(|error| stored.damaged(&error.to_string()))? else {
                continue;
            };
            ranges = intersect(&ranges, &runs.ranges(|text| texts.contains(text)));
            if columns == 1 {
                let wanted =
                    runs.runs.iter().map(|&(text, rows)| (&runs.texts[text as usize], rows));
                let wanted = wanted.filter(|(text, _)| texts.contains(text.as_str()));
                keys =
                    Some(wanted.map(|(text, rows)| (Key::from_components([text]), rows)).collect());
            }
        }
        let wanted = ranges.iter().map(Range::len).sum();
        let worth = wanted < rows && (wanted * FEW <= rows || ranges.len() * TOGETHER_ROWS <= rows);
        Ok(worth.then_some(Self { rows: wanted, ranges, keys }))
    }
}

/// Keys of rows to come, in runs.
pub(crate) struct KeyRuns {
    runs: std::vec::IntoIter<(Key, usize)>,
    key: Option<Key>,
    /// Rows of `key` to come.
    left: usize,
}

impl KeyRuns {
    pub fn new(runs: Vec<(Key, usize)>) -> Self {
        Self { runs: runs.into_iter(), key: None, left: 0 }
    }

    /// The keys of the next rows and each row's place among them; `None` past the last run.
    pub fn next(
        &mut self,
        rows: usize,
        zeros: &ScalarBuffer<u64>,
    ) -> Option<(Vec<Key>, ScalarBuffer<u32>)> {
        let (mut keys, mut counts, mut known) = (Vec::new(), Vec::new(), 0);
        while known < rows {
            if self.left == 0 {
                let (key, left) = self.runs.next()?;
                (self.key, self.left) = (Some(key), left);
            }
            let count = self.left.min(rows - known);
            keys.push(self.key.clone()?);
            counts.push(count);
            self.left -= count;
            known += count;
        }
        let codes = match counts.len() {
            1 => zeros_u32(zeros, rows),
            _ => {
                let mut codes = Vec::with_capacity(rows);
                for (code, count) in counts.into_iter().enumerate() {
                    codes.resize(codes.len() + count, code as u32);
                }
                codes.into()
            }
        };
        Some((keys, codes))
    }
}

/// A dictionary's entries, made once as long as batches share the dictionary.
pub(crate) struct Table<T> {
    dictionary: Option<ArrayRef>,
    entries: Vec<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { dictionary: None, entries: Vec::new() }
    }
}

impl<T> Table<T> {
    /// The entries of a dictionary; `None` where one cannot be made.
    pub fn of(&mut self, dictionary: &ArrayRef, make: impl Fn(&str) -> Option<T>) -> Option<&[T]> {
        if !self.dictionary.as_ref().is_some_and(|known| Arc::ptr_eq(known, dictionary)) {
            let texts = dictionary.as_string::<i32>().iter();
            self.entries = texts.map(|text| make(text?)).collect::<Option<_>>()?;
            self.dictionary = Some(dictionary.clone());
        }
        Some(&self.entries)
    }
}

/// A dictionary array's codes; text columns have no nulls, so that none is negative.
pub(crate) fn codes(array: &DictionaryArray<Int32Type>) -> ScalarBuffer<u32> {
    let codes = array.keys().values();
    ScalarBuffer::new(codes.inner().clone(), 0, codes.len())
}

/// A table with a row of the batch per so many entries is not narrowed.
const SMALL_TABLE: usize = 16;

/// The part of a table that a batch refers to: sorted rows use a narrow window of a long
/// dictionary.
pub(crate) fn window<T: Clone>(
    table: &[T],
    codes: ScalarBuffer<u32>,
) -> (Vec<T>, ScalarBuffer<u32>) {
    if table.len() <= codes.len() / SMALL_TABLE {
        return (table.to_vec(), codes);
    }
    let least = codes.iter().copied().min().unwrap_or(0);
    let greatest = codes.iter().copied().max().unwrap_or(0);
    let entries = table[least as usize..=greatest as usize].to_vec();
    match least {
        0 => (entries, codes),
        _ => (entries, codes.iter().map(|&code| code - least).collect()),
    }
}

/// Keys of several components: rows are sorted, so each key's rows stand together.
pub(crate) fn tuples(arrays: &[&ArrayRef]) -> Option<(Vec<Key>, ScalarBuffer<u32>)> {
    let arrays: Vec<&DictionaryArray<Int32Type>> =
        arrays.iter().map(|array| array.as_dictionary()).collect();
    let columns: Vec<_> = arrays.iter().map(|array| codes(array)).collect();
    let texts: Vec<_> = arrays.iter().map(|array| array.values().as_string::<i32>()).collect();
    let mut keys: Vec<Key> = Vec::new();
    let mut key = Vec::with_capacity(columns.first()?.len());
    for row in 0..columns.first()?.len() {
        if row == 0 || columns.iter().any(|codes| codes[row] != codes[row - 1]) {
            let components = columns.iter().zip(&texts);
            let components = components.map(|(codes, texts)| texts.value(codes[row] as usize));
            keys.push(Key::from_components(components));
        }
        key.push(keys.len() as u32 - 1);
    }
    Some((keys, key.into()))
}

pub(crate) fn zeros_u32(zeros: &ScalarBuffer<u64>, rows: usize) -> ScalarBuffer<u32> {
    ScalarBuffer::new(zeros.inner().clone(), 0, rows)
}
