//! A plan as kernel jobs, and what each segment's partial adds to a run's partial.

use isotick_kernels::{Plan, Runs, Term};
use isotick_shaders::layout::{ColumnPartial, ProductPartial};

use crate::error::GpuError;
use crate::wide;

/// One dispatch per chunk, and the terms that its partials feed, each with its first word.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// What is reduced.
    pub input: Input,
    /// The terms.
    pub terms: Vec<(Term, usize)>,
}

/// The input of a job: what the shaders reduce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// One column.
    Column(usize),
    /// A pair of columns (a, b): Σab and Σb over rows that have both.
    Pair(usize, usize),
}

impl Input {
    /// The columns that are read, the same one twice for a square.
    pub fn columns(self) -> impl Iterator<Item = usize> + Clone {
        match self {
            Self::Column(c) => [Some(c), None],
            Self::Pair(a, b) => [Some(a), Some(b)],
        }
        .into_iter()
        .flatten()
    }

    /// Bytes of one segment's partial.
    pub fn partial_bytes(self) -> u64 {
        let bytes = match self {
            Self::Column(_) => size_of::<ColumnPartial>(),
            Self::Pair(..) => size_of::<ProductPartial>(),
        };
        bytes as u64
    }
}

/// The jobs of a plan, as few as serve all its terms. [`Term::Rows`] needs none.
pub(crate) fn jobs(plan: &Plan) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    // Paired sums first: which of a pair's columns is summed is theirs to say, while products fit
    // either order.
    let paired = |term: &Term| matches!(term, Term::SumPaired { .. });
    let (first, rest): (Vec<_>, Vec<_>) = plan.terms().iter().partition(|(term, _)| paired(term));
    for (term, offset) in first.into_iter().chain(rest) {
        let (input, mirrored) = match term {
            Term::Rows => continue,
            Term::SumPaired { of, with } => (Input::Pair(with, of), None),
            Term::SumProduct(a, b) => (Input::Pair(a, b), Some(Input::Pair(b, a))),
            Term::Count(c)
            | Term::Sum(c)
            | Term::Min(c)
            | Term::Max(c)
            | Term::First(c)
            | Term::Last(c) => (Input::Column(c), None),
        };
        let serves = |job: &&mut Job| job.input == input || Some(job.input) == mirrored;
        match jobs.iter_mut().find(serves) {
            Some(job) => job.terms.push((term, offset)),
            None => jobs.push(Job { input, terms: vec![(term, offset)] }),
        }
    }
    jobs
}

/// Checks that the ticks hold every column that the jobs read.
pub(crate) fn check_columns(jobs: &[Job], runs: &Runs) -> Result<(), GpuError> {
    let rows = runs.ticks.len();
    for column in jobs.iter().flat_map(|job| job.input.columns()) {
        let held = runs.ticks.values.get(column).map_or(0, |values| values.values.len());
        if held != rows {
            return Err(GpuError::Column { column, held, rows });
        }
    }
    Ok(())
}

/// Adds a segment's column partial to its run's words. Segments of a run come in row order.
/// `base` is the tick row of the chunk's first row.
pub(crate) fn add_column(
    words: &mut [u64],
    terms: &[(Term, usize)],
    partial: &ColumnPartial,
    runs: &Runs,
    base: usize,
) {
    if partial.count == 0 {
        return;
    }
    for &(term, offset) in terms {
        let state = &mut words[offset..offset + term.words()];
        match term {
            // Rows of a run are fewer than 2^32, and so are its counts.
            Term::Count(_) => state[0] += u64::from(partial.count),
            Term::Sum(_) => wide::add(state, &partial.sum),
            Term::Min(_) => extreme(state, wide::signed(partial.least), |new, old| new < old),
            Term::Max(_) => extreme(state, wide::signed(partial.greatest), |new, old| new > old),
            Term::First(column) if state[0] == 0 => {
                state.copy_from_slice(&runs.end_words(column, base + partial.first_row as usize));
            }
            Term::First(_) => {}
            Term::Last(column) => {
                state.copy_from_slice(&runs.end_words(column, base + partial.last_row as usize));
            }
            Term::Rows | Term::SumProduct(..) | Term::SumPaired { .. } => {
                unreachable!("a column job has only terms of one column")
            }
        }
    }
}

/// Adds a segment's product partial to its run's words.
pub(crate) fn add_product(words: &mut [u64], terms: &[(Term, usize)], partial: &ProductPartial) {
    for &(term, offset) in terms {
        let state = &mut words[offset..offset + term.words()];
        match term {
            Term::SumProduct(..) => wide::add(state, &partial.product_sum),
            Term::SumPaired { .. } => wide::add(state, &partial.b_sum),
            _ => unreachable!("a pair job has only terms of pairs"),
        }
    }
}

fn extreme(state: &mut [u64], value: i64, better: impl Fn(i64, i64) -> bool) {
    if state[0] == 0 || better(value, state[1].cast_signed()) {
        state[0] = 1;
        state[1] = value.cast_unsigned();
    }
}

#[cfg(test)]
#[path = "tests/work.rs"]
mod tests;
