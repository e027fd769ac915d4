//! A plan as kernel jobs, and what each segment's partial adds to a run's partial.

use isotick_kernels::{Plan, Term};
use isotick_model::Ticks;
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
    /// A pair of columns (a, b), a ≤ b: Σab, Σa and Σb over rows that have both.
    Pair(usize, usize),
}

impl Input {
    /// Bytes of one segment's largest partial.
    pub const PARTIAL_BYTES_MAX: u64 = {
        let (column, product) = (size_of::<ColumnPartial>(), size_of::<ProductPartial>());
        (if column > product { column } else { product }) as u64
    };

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
    for &(term, offset) in plan.terms() {
        let input = match term {
            Term::Rows => continue,
            Term::SumProduct(a, b) | Term::SumPaired { of: a, with: b } => {
                Input::Pair(a.min(b), a.max(b))
            }
            Term::Count(c)
            | Term::Sum(c)
            | Term::Min(c)
            | Term::Max(c)
            | Term::First(c)
            | Term::Last(c) => Input::Column(c),
        };
        match jobs.iter_mut().find(|job| job.input == input) {
            Some(job) => job.terms.push((term, offset)),
            None => jobs.push(Job { input, terms: vec![(term, offset)] }),
        }
    }
    jobs
}

/// Checks that the ticks hold every column that the jobs read.
pub(crate) fn check_columns(jobs: &[Job], ticks: &Ticks) -> Result<(), GpuError> {
    let rows = ticks.len();
    for column in jobs.iter().flat_map(|job| job.input.columns()) {
        let held = ticks.values.get(column).map_or(0, |values| values.values.len());
        if held != rows {
            return Err(GpuError::Column { column, held, rows });
        }
    }
    Ok(())
}

/// Adds a segment's column partial to its run's words. Segments of a run come in row order.
/// `base` is what the column's values are counted from; `end_words` gives the words of a first or
/// last state from its column and the row that the partial names.
pub(crate) fn add_column(
    words: &mut [u64],
    terms: &[(Term, usize)],
    partial: &ColumnPartial,
    base: i64,
    end_words: impl Fn(usize, u32) -> [u64; 5],
) {
    if partial.count == 0 {
        return;
    }
    for &(term, offset) in terms {
        let state = &mut words[offset..offset + term.words()];
        match term {
            // Rows of a run are fewer than 2^32, and so are its counts.
            Term::Count(_) => state[0] += u64::from(partial.count),
            Term::Sum(_) => {
                wide::add(state, &partial.sum);
                wide::add_multiple(state, base, partial.count.into());
            }
            // Deltas are below 2^32 and sums with their base are values: nothing wraps.
            Term::Min(_) => {
                let least = wide::signed(partial.least).wrapping_add(base);
                extreme(state, least, |new, old| new < old);
            }
            Term::Max(_) => {
                let greatest = wide::signed(partial.greatest).wrapping_add(base);
                extreme(state, greatest, |new, old| new > old);
            }
            Term::First(column) if state[0] == 0 => {
                state.copy_from_slice(&end_words(column, partial.first_row));
            }
            Term::First(_) => {}
            Term::Last(column) => {
                state.copy_from_slice(&end_words(column, partial.last_row));
            }
            Term::Rows | Term::SumProduct(..) | Term::SumPaired { .. } => {
                unreachable!("a column job has only terms of one column")
            }
        }
    }
}

/// Adds a segment's product partial to its run's words. `bases` are what the values of a and b are
/// counted from: with a = A + α and b = B + β, Σb = nB + Σβ and Σab = Σαβ + A·Σb + B·Σα.
pub(crate) fn add_product(
    words: &mut [u64],
    job: &Job,
    partial: &ProductPartial,
    [a_base, b_base]: [i64; 2],
) {
    let Input::Pair(a, _) = job.input else { unreachable!("a product partial is of a pair") };
    let count = i128::from(partial.count);
    let a_deltas = wide::signed_96(partial.a_sum);
    // Both are sums of fewer than 2^32 values of 64 bits.
    let a_sum = a_deltas + count * i128::from(a_base);
    let b_sum = wide::signed_96(partial.b_sum) + count * i128::from(b_base);
    for &(term, offset) in &job.terms {
        let state = &mut words[offset..offset + term.words()];
        match term {
            Term::SumProduct(..) => {
                wide::add(state, &partial.product_sum);
                wide::add_multiple(state, a_base, b_sum);
                wide::add_multiple(state, b_base, a_deltas);
            }
            Term::SumPaired { of, .. } => {
                wide::add(state, &wide::limbs(if of == a { a_sum } else { b_sum }));
            }
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
