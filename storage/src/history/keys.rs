//! Keys and other texts of stored columns: what statistics say of them, where the rows of some keys
//! stand, and codes with what they stand for.

use std::ops::{Range, RangeInclusive};

use arrow_buffer::ScalarBuffer;
use isotick_model::{Key, KeySelection};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;

use crate::error::Result;
use crate::parquet_file::{RowGroupPages, Stored};
use crate::zeros::zeros;

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
            let runs = stored.texts(row_group, key + 1)?;
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

/// The keys of a row group's wanted rows, in runs, by its `columns` key columns, which stand behind
/// the first one and were read.
pub(crate) fn key_runs(
    pages: &RowGroupPages,
    columns: usize,
) -> Result<Vec<(Key, usize)>, ParquetError> {
    let texts = (1..=columns).map(|column| pages.texts(column)).collect::<Result<Vec<_>, _>>()?;
    if let [one] = texts.as_slice() {
        let key = |&(text, rows): &(u32, usize)| {
            (Key::from_components([&one.texts[text as usize]]), rows)
        };
        return Ok(one.runs.iter().map(key).collect());
    }
    // A key's run ends where that of any component does.
    let mut columns: Vec<_> = texts.iter().map(|of| Runs::new(of.runs.clone())).collect();
    let mut runs = Vec::new();
    while let Some(rows) = columns.iter_mut().map(|column| column.left()).min().flatten() {
        let components = columns.iter_mut().zip(&texts);
        let components: Option<Vec<&str>> = components
            .map(|(runs, of)| Some(of.texts[runs.take(rows)?.0 as usize].as_str()))
            .collect();
        let key = Key::from_components(components.expect("each has so many rows"));
        runs.push((key, rows));
    }
    Ok(runs)
}

/// What rows to come have, in runs of equal ones.
pub(crate) struct Runs<T> {
    runs: std::vec::IntoIter<(T, usize)>,
    next: Option<(T, usize)>,
}

impl<T: Clone> Runs<T> {
    pub fn new(runs: Vec<(T, usize)>) -> Self {
        Self { runs: runs.into_iter(), next: None }
    }

    /// How many rows are left of the next run.
    fn left(&mut self) -> Option<usize> {
        if self.next.is_none() {
            self.next = self.runs.next();
        }
        self.next.as_ref().map(|(_, rows)| *rows)
    }

    /// What the next rows have that are of one run, at most so many, and how many they are.
    pub fn take(&mut self, rows_max: usize) -> Option<(T, usize)> {
        let left = self.left()?;
        if left > rows_max {
            let (value, rows) = self.next.as_mut()?;
            *rows -= rows_max;
            return Some((value.clone(), rows_max));
        }
        self.next.take()
    }
}

impl Runs<Key> {
    /// The keys of the next rows and each row's place among them; `None` past the last run.
    pub fn keys(&mut self, rows: usize) -> Option<(Vec<Key>, ScalarBuffer<u32>)> {
        let (first, same) = self.take(rows)?;
        let mut keys = vec![first];
        if same == rows {
            return Some((keys, zeros(rows)));
        }
        let mut codes = Vec::with_capacity(rows);
        codes.resize(same, 0);
        while codes.len() < rows {
            let (key, same) = self.take(rows - codes.len())?;
            codes.resize(codes.len() + same, keys.len() as u32);
            keys.push(key);
        }
        Some((keys, codes.into()))
    }
}

impl Runs<u32> {
    /// The entries of a table that the next rows have, and each row's place among them; `None` past
    /// the last run.
    pub fn entries<T: Clone>(
        &mut self,
        rows: usize,
        table: &[T],
    ) -> Option<(Vec<T>, ScalarBuffer<u32>)> {
        let mut codes = Vec::with_capacity(rows);
        while codes.len() < rows {
            let (code, same) = self.take(rows - codes.len())?;
            codes.resize(codes.len() + same, code);
        }
        if table.len() <= rows / SMALL_TABLE {
            return Some((table.to_vec(), codes.into()));
        }
        let least = codes.iter().copied().min()?;
        let greatest = codes.iter().copied().max()?;
        codes.iter_mut().for_each(|code| *code -= least);
        Some((table.get(least as usize..=greatest as usize)?.to_vec(), codes.into()))
    }
}

/// A table with a row of the batch per so many entries is not narrowed.
const SMALL_TABLE: usize = 16;

/// Ranges that lie in both, each ascending and without overlap.
fn intersect(a: &[Range<usize>], b: &[Range<usize>]) -> Vec<Range<usize>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_intersected() {
        assert_eq!(intersect(&[0..5, 9..10], &[2..3, 4..12]), [2..3, 4..5, 9..10]);
        let apart = [0..5, 9..10];
        assert_eq!(intersect(&apart, &[5..6, 7..9]), []);
    }

    #[test]
    fn runs_are_cut_where_batches_are() {
        let mut runs = Runs::new(vec![(5_u32, 3), (6, 1), (5, 100)]);
        let table: Vec<&str> = "abcdefgh".split("").skip(1).take(8).collect();
        let (entries, codes) = runs.entries(2, &table).unwrap();
        assert_eq!((entries, &*codes), (vec!["f"], &[0, 0][..]));
        let (entries, codes) = runs.entries(3, &table).unwrap();
        assert_eq!((entries, &*codes), (vec!["f", "g"], &[0, 1, 0][..]));
        assert!(runs.entries(100, &table).is_none(), "only 99 are left");

        let key = |text| Key::from_components([text]);
        let mut runs = Runs::new(vec![(key("a"), 3), (key("b"), 1), (key("c"), 2)]);
        let (keys, codes) = runs.keys(2).unwrap();
        assert_eq!((keys, &*codes), (vec![key("a")], &[0, 0][..]));
        let (keys, codes) = runs.keys(4).unwrap();
        assert_eq!((keys, &*codes), (vec![key("a"), key("b"), key("c")], &[0, 1, 2, 2][..]));
        assert!(runs.keys(1).is_none());
    }
}
