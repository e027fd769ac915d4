//! Sorted runs of encoded rows as one: how a result that was kept in pieces is brought together in
//! bounded memory.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use isotick_model::Key;

use crate::hash::EncodedRows;

/// Rows that are handed over at a time, about.
const BLOCK_BYTES: usize = 1 << 19;

/// Blocks of rows, each in canonical order and after the one before. None is asked for before its
/// rows are due, so that many runs that follow one another are never held together.
pub struct Run<B> {
    /// Key and window start of the first row.
    pub first: (Key, i64),
    /// The rows.
    pub blocks: B,
}

/// Why runs could not be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError<E> {
    /// A run could not be read, or what was merged not be taken.
    #[error(transparent)]
    Caller(E),
    /// Two runs hold the same window.
    #[error("the window of {0} that starts at {1} ns is there twice")]
    Twice(Key, i64),
    /// A run does not begin, or go on, where it says.
    #[error("a run of rows is not in order")]
    Disordered,
}

/// A run and where it is read.
struct Cursor<B> {
    /// Of the next row.
    next: (Key, i64),
    block: EncodedRows,
    /// Where the next row begins in the block.
    at: usize,
    blocks: B,
}

/// The rows of all runs in canonical order, block by block. Memory: a block of each run whose rows
/// are due.
pub struct Merge<B> {
    heap: BinaryHeap<Cursor<B>>,
    out: EncodedRows,
    columns: usize,
}

impl<E, B: Iterator<Item = Result<EncodedRows, E>>> Merge<B> {
    /// Of runs whose rows have so many values each.
    pub fn new(columns: usize, runs: impl IntoIterator<Item = Run<B>>) -> Self {
        let cursor = |run: Run<B>| Cursor {
            next: run.first,
            block: EncodedRows::new(columns),
            at: 0,
            blocks: run.blocks,
        };
        let heap = runs.into_iter().map(cursor).collect();
        Self { heap, out: EncodedRows::new(columns), columns }
    }

    /// The next rows; `None` when there are no more.
    ///
    /// # Errors
    /// [`MergeError`]; what came before is then of no use.
    pub fn next_block(&mut self) -> Result<Option<EncodedRows>, MergeError<E>> {
        while let Some(mut cursor) = self.heap.pop() {
            // The head of the others: this one's rows before it follow each other.
            let until = self.heap.peek().map(|other| other.next.clone());
            if until.as_ref() == Some(&cursor.next) {
                return Err(MergeError::Twice(cursor.next.0, cursor.next.1));
            }
            if cursor.advance(until.as_ref(), &mut self.out)? == Goes::On {
                self.heap.push(cursor);
            }
            if self.out.bytes().len() >= BLOCK_BYTES {
                return Ok(Some(self.take()));
            }
        }
        Ok((!self.out.is_empty()).then(|| self.take()))
    }

    fn take(&mut self) -> EncodedRows {
        std::mem::replace(&mut self.out, EncodedRows::new(self.columns))
    }
}

#[derive(PartialEq, Eq)]
enum Goes {
    /// The run has more rows, perhaps.
    On,
    Ended,
}

impl<E, B: Iterator<Item = Result<EncodedRows, E>>> Cursor<B> {
    /// Takes the next block in hand; false when there is none.
    fn load(&mut self) -> Result<bool, MergeError<E>> {
        loop {
            let Some(block) = self.blocks.next() else { return Ok(false) };
            self.block = block.map_err(MergeError::Caller)?;
            self.at = 0;
            if let Some((key, start)) = self.block.first() {
                if (key, start) < (&self.next.0, self.next.1) {
                    return Err(MergeError::Disordered);
                }
                self.next = (key.clone(), start);
                return Ok(true);
            }
        }
    }

    /// Moves rows of the block in hand that come before `until`.
    fn advance(
        &mut self,
        until: Option<&(Key, i64)>,
        out: &mut EncodedRows,
    ) -> Result<Goes, MergeError<E>> {
        if self.block.is_empty() && !self.load()? {
            return Ok(Goes::Ended);
        }
        let (first, mut rows, mut last) = (self.at, 0, None);
        let is_before = |key: &[u8], start: i64| {
            until.is_none_or(|until| (key, start) < (until.0.as_bytes(), until.1))
        };
        let mut behind = None;
        while let Some(head) = self.block.head(self.at) {
            if !is_before(head.key, head.start) {
                behind = Some((head.key, head.start));
                break;
            }
            last = Some((head.key, head.start));
            rows += 1;
            self.at = head.end;
        }
        let owned = |(key, start): (&[u8], i64)| -> Result<(Key, i64), MergeError<E>> {
            Ok((Key::from_bytes(key).ok_or(MergeError::Disordered)?, start))
        };
        let behind = behind.map(owned).transpose()?;
        if let Some(last) = last {
            let last = owned(last)?;
            out.extend(&self.block, first..self.at, rows, last.clone());
            self.next = last;
        }
        if let Some(next) = behind {
            self.next = next;
        } else if !self.load()? {
            return Ok(Goes::Ended);
        }
        Ok(Goes::On)
    }
}

/// The least next row is the greatest cursor: a heap gives the greatest first.
impl<B> Ord for Cursor<B> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.next.cmp(&self.next)
    }
}

impl<B> PartialOrd for Cursor<B> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<B> PartialEq for Cursor<B> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<B> Eq for Cursor<B> {}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use isotick_model::results::{Value, WindowRow};
    use proptest::prelude::*;

    use super::*;

    fn row(key: u8, start: i64) -> WindowRow {
        WindowRow {
            key: Key::from_components([char::from(b'a' + key).to_string()]),
            window_start: start,
            window_end: start + 10,
            version: 0,
            values: vec![Value::Null, Value::Integer(i128::from(start) << 70), Value::Float(0.5)],
        }
    }

    fn merged(runs: &[Vec<Vec<WindowRow>>]) -> Result<Vec<WindowRow>, MergeError<Infallible>> {
        let runs = runs.iter().filter_map(|blocks| {
            let first = blocks.iter().flatten().next()?;
            let blocks = blocks.iter().map(|rows| {
                let bytes = EncodedRows::of(3, rows).bytes().to_vec();
                Ok(EncodedRows::from_bytes(3, bytes).unwrap())
            });
            Some(Run { first: (first.key.clone(), first.window_start), blocks })
        });
        let (mut merge, mut all) = (Merge::new(3, runs), Vec::new());
        while let Some(block) = merge.next_block()? {
            all.extend(block.rows());
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn any_split_into_runs_and_blocks_comes_back_in_order(
            rows in proptest::collection::btree_map((0_u8..4, -20_i64..20), (0_usize..5, 1_usize..4), 0..60),
        ) {
            let all: Vec<WindowRow> = rows.keys().map(|&(key, start)| row(key, start)).collect();
            let mut runs = vec![Vec::new(); 5];
            for (&(key, start), &(run, block)) in &rows {
                let blocks: &mut Vec<Vec<WindowRow>> = &mut runs[run];
                match blocks.last_mut() {
                    Some(last) if last.len() % block != 0 => last.push(row(key, start)),
                    _ => blocks.push(vec![row(key, start)]),
                }
            }
            prop_assert_eq!(merged(&runs).unwrap(), all);
        }
    }

    #[test]
    fn a_window_that_two_runs_hold_is_refused() {
        let runs = [vec![vec![row(0, 1), row(0, 5)]], vec![vec![row(0, 3), row(0, 5)]]];
        assert!(matches!(merged(&runs), Err(MergeError::Twice(_, 5))));
    }

    #[test]
    fn bytes_that_are_no_rows_are_refused() {
        let good = EncodedRows::of(3, &[row(0, 1), row(1, 1)]).bytes().to_vec();
        assert!(EncodedRows::from_bytes(3, good.clone()).is_some());
        for len in 1..good.len() {
            let whole_row = len == good.len() / 2;
            assert_eq!(EncodedRows::from_bytes(3, good[..len].to_vec()).is_some(), whole_row);
        }
        let twice = [good.clone(), good].concat();
        assert!(EncodedRows::from_bytes(3, twice).is_none(), "not in order");
    }
}
