//! Runs cut into segments, segments gathered into chunks that fit the adapter.

use std::ops::Range;

use isotick_kernels::Runs;
use isotick_shaders::layout::Segment;

use crate::error::GpuError;

/// How large one chunk may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkLimits {
    /// Rows of a segment.
    pub segment_rows_max: u32,
    /// Rows, at least `segment_rows_max`.
    pub rows_max: u32,
    /// Segments, at least 1.
    pub segments_max: u32,
    /// Whether chunks keep to blocks of `rows_max` rows that start at row 0, so that their rows are
    /// the same whatever the runs.
    pub blocks: bool,
}

/// What is uploaded and dispatched together: segments over consecutive rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The rows of the ticks that the segments cover, gaps between runs included.
    pub rows: Range<usize>,
    /// The segments; rows are counted from `rows.start`.
    pub segments: Vec<Segment>,
    /// The run of each segment.
    pub run_of: Vec<u32>,
}

/// Cuts runs into chunks, in row order. Runs must stand in row order, not empty, within the rows.
pub(crate) fn chunks(runs: &Runs, limits: ChunkLimits) -> Chunks<'_> {
    Chunks { runs, limits, run: 0, done_rows: 0 }
}

/// The first run that is empty, overlaps the one before or ends beyond the rows, as an error.
pub(crate) fn check(runs: &Runs) -> Result<(), GpuError> {
    let rows = runs.ticks.len();
    let mut end = 0_u64;
    for (index, run) in runs.runs.iter().enumerate() {
        let (start, len) = (u64::from(run.start), u64::from(run.len));
        if len == 0 || start < end || start + len > rows as u64 {
            return Err(GpuError::Run { run: index, start: run.start, len: run.len, rows });
        }
        end = start + len;
    }
    Ok(())
}

/// See [`chunks`].
pub(crate) struct Chunks<'a> {
    runs: &'a Runs,
    limits: ChunkLimits,
    /// The run that comes next, and how many of its rows are in chunks already.
    run: usize,
    done_rows: u32,
}

impl Iterator for Chunks<'_> {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        let first = self.runs.runs.get(self.run)?;
        let first_row = first.start + self.done_rows;
        let rows = self.runs.ticks.len();
        let (base, block_end) = match self.limits.blocks {
            true => {
                let base = first_row - first_row % self.limits.rows_max;
                (base, (base as usize + self.limits.rows_max as usize).min(rows))
            }
            false => (first_row, rows),
        };
        let mut end = base as usize;
        let (mut segments, mut run_of) = (Vec::new(), Vec::new());
        while let Some(run) = self.runs.runs.get(self.run) {
            let row = run.start + self.done_rows;
            if row as usize >= block_end {
                break;
            }
            let start_row = row - base;
            // Both are below 2^32: rows of a run are.
            let left = (block_end - row as usize).min((run.len - self.done_rows) as usize) as u32;
            let len_rows = left.min(self.limits.segment_rows_max);
            let fits = u64::from(start_row) + u64::from(len_rows) <= self.limits.rows_max.into();
            if !segments.is_empty()
                && (!fits || segments.len() as u64 == u64::from(self.limits.segments_max))
            {
                break;
            }
            segments.push(Segment { start_row, len_rows });
            run_of.push(self.run as u32);
            end = base as usize + start_row as usize + len_rows as usize;
            self.done_rows += len_rows;
            if self.done_rows == run.len {
                self.run += 1;
                self.done_rows = 0;
            }
        }
        if self.limits.blocks {
            end = block_end;
        }
        Some(Chunk { rows: base as usize..end, segments, run_of })
    }
}

#[cfg(test)]
#[path = "tests/segments.rs"]
mod tests;
