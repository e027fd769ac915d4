//! The rows of a row group whose times lie in a range: rows are sorted by key and then by time, so
//! that where keys have many rows, a short range is in few pages of the other columns.

use std::ops::{Range, RangeInclusive};

use parquet::errors::ParquetError;
use parquet::file::statistics::Statistics;

use super::read::BATCH_ROWS;
use super::write::PAGE_ROWS;
use crate::error::Result;
use crate::parquet_file::Stored;

/// The rows in the range, as ascending ranges that do not touch: of those in `within`, or of all.
/// Reads the column of times, and how many keys there are where that is not told by `within`.
/// `None` where so many pages are predicted to have such rows that all are better read at once.
pub(super) fn rows_in(
    stored: &Stored,
    row_group: usize,
    range: &RangeInclusive<i64>,
    key_columns: usize,
    within: Option<&[Range<usize>]>,
) -> Result<Option<Vec<Range<usize>>>> {
    let group = stored.metadata().row_group(row_group);
    let all = group.num_rows() as usize;
    let rows = within.map_or(all, |within| within.iter().map(Range::len).sum());
    let Some(Statistics::Int64(span)) = group.column(0).statistics() else { return Ok(None) };
    let Some((&least, &greatest)) = span.min_opt().zip(span.max_opt()) else { return Ok(None) };
    let length = |from: i64, to: i64| (i128::from(to) - i128::from(from) + 1).max(0) as f64;
    let inside = length(least.max(*range.start()), greatest.min(*range.end()));
    let share = inside / length(least, greatest).max(1.0);
    let pages = (rows / PAGE_ROWS) as f64;
    // Each key's rows in the range begin in a page that is read for them alone.
    let is_worth = |keys: usize| keys as f64 + share * pages <= pages / 2.0;
    if !is_worth(1) {
        return Ok(None);
    }
    let keys = match within {
        Some(within) => within.len(),
        None => {
            let mut keys = 1;
            for column in 1..=key_columns {
                keys += stored.texts(row_group, column)?.runs.len().saturating_sub(1);
            }
            keys
        }
    };
    if !is_worth(keys) {
        return Ok(None);
    }
    let whole = 0..all;
    let within_all = std::slice::from_ref(&whole);
    let mut places = within.unwrap_or(within_all).iter().cloned().flatten();
    let mut found: Vec<Range<usize>> = Vec::new();
    let damaged = |error: ParquetError| stored.damaged(&error.to_string());
    let mut times = stored.read(row_group, &[0], within)?.integers(0).map_err(damaged)?;
    let mut left = rows;
    while left > 0 {
        let batch = left.min(BATCH_ROWS);
        left -= batch;
        let (times, _) = times.next(batch).map_err(damaged)?;
        for (time, row) in times.iter().zip(places.by_ref()) {
            if !range.contains(time) {
                continue;
            }
            match found.last_mut() {
                Some(last) if last.end == row => last.end += 1,
                _ => found.push(row..row + 1),
            }
        }
    }
    Ok(Some(found))
}
