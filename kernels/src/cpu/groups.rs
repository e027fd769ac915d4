//! Rows in any order: an accumulator per group, and a walk over the rows that feeds it.
//!
//! Rows are read in their order, so that nothing is moved before it is reduced. What most views
//! need (ends, extremes, a sum and a sum of products, all of 64 bits and without nulls) is fed by one
//! walk together ([`fused`]): its accumulators are a cache line each, and those of a batch's groups
//! stay in the second cache, of the groups that rows come for now in the first. Every other term
//! has a walk of its own.

mod fused;

use std::cmp::Ordering;

use isotick_model::ValueColumn;

use super::{Nulls, Width, magnitude_bits, nulls, width};
use crate::partial::Partials;
use crate::plan::{Plan, Term};
use crate::runs::Groups;
use crate::wide;

/// One partial per group.
pub(super) fn reduce(plan: &Plan, groups: &Groups) -> Partials {
    let (stride, len) = (plan.words(), groups.groups.len());
    let longest = groups.groups.iter().map(|group| group.rows).max().unwrap_or(0);
    let mut walk = Walk {
        groups,
        len_bits: u32::BITS - longest.leading_zeros(),
        out: Out { words: vec![0; stride * len], stride, offset: 0 },
    };
    let done = walk.fused(plan);
    let mut same = Vec::new();
    for &(term, offset) in plan.terms().iter().filter(|(term, _)| !done.contains(term)) {
        walk.out.offset = offset;
        match term {
            // Without nulls a paired sum is the column's own sum.
            Term::SumPaired { of, with } if walk.nulls(of, with).none() => {
                match plan.offset(Term::Sum(of)) {
                    Some(from) => same.push((from, offset)),
                    None => walk.sum(of, with),
                }
            }
            term => walk.term(term),
        }
    }
    let mut words = walk.out.words;
    for (from, to) in same {
        for partial in words.chunks_exact_mut(stride) {
            partial.copy_within(from..from + 3, to);
        }
    }
    Partials { words, stride }
}

/// The partials, and where the term under way has its words.
struct Out {
    words: Vec<u64>,
    stride: usize,
    offset: usize,
}

impl Out {
    fn write<T, const N: usize>(
        &mut self,
        states: impl IntoIterator<Item = T>,
        words: impl Fn(T) -> [u64; N],
    ) {
        self.write_from(0, states, words);
    }

    /// The same from a group on.
    fn write_from<T, const N: usize>(
        &mut self,
        first: usize,
        states: impl IntoIterator<Item = T>,
        words: impl Fn(T) -> [u64; N],
    ) {
        let partials = self.words[first * self.stride..].chunks_exact_mut(self.stride);
        for (partial, state) in partials.zip(states) {
            partial[self.offset..self.offset + N].copy_from_slice(&words(state));
        }
    }
}

struct Walk<'a> {
    groups: &'a Groups,
    /// Groups have fewer than 2^this rows.
    len_bits: u32,
    out: Out,
}

impl Walk<'_> {
    fn column(&self, column: usize) -> &ValueColumn {
        &self.groups.ticks.values[column]
    }

    fn nulls(&self, a: usize, b: usize) -> Nulls<'_> {
        Nulls([nulls(self.column(a)), nulls(self.column(b))])
    }

    fn term(&mut self, term: Term) {
        match term {
            Term::Rows => self.rows(),
            Term::Count(c) => match nulls(self.column(c)) {
                None => self.rows(),
                Some(valid) => {
                    let counts =
                        self.fold(0_u64, |count, row| *count += u64::from(valid.is_valid(row)));
                    self.out.write(counts, |count| [count]);
                }
            },
            Term::Sum(c) => self.sum(c, c),
            Term::SumPaired { of, with } => self.sum(of, with),
            Term::SumProduct(a, b) => self.dot(a, b),
            Term::Min(c) => self.extreme(c, i64::MAX, i64::min),
            Term::Max(c) => self.extreme(c, i64::MIN, i64::max),
            Term::First(c) => self.end(c, true),
            Term::Last(c) => self.end(c, false),
        }
    }

    fn rows(&mut self) {
        self.out.write(&self.groups.groups, |group| [group.rows.into()]);
    }

    /// A state per group, from all its rows.
    fn fold<T: Copy>(&self, start: T, mut step: impl FnMut(&mut T, usize)) -> Vec<T> {
        let mut states = vec![start; self.groups.groups.len()];
        for (row, &group) in self.groups.group_of.iter().enumerate() {
            step(&mut states[group as usize], row);
        }
        states
    }

    /// A state per group, from all its values.
    fn fold_values<T: Copy>(
        &self,
        start: T,
        values: &[i64],
        mut step: impl FnMut(&mut T, i64),
    ) -> Vec<T> {
        let mut states = vec![start; self.groups.groups.len()];
        for (&group, &value) in self.groups.group_of.iter().zip(values) {
            step(&mut states[group as usize], value);
        }
        states
    }

    /// Σ`of` over rows that also have `with`. The widths' proofs stand at [`Width`].
    fn sum(&mut self, of: usize, with: usize) {
        let nulls = self.nulls(of, with);
        let values = &self.column(of).values[..];
        if !nulls.none() {
            let sums = self.fold(0_i128, |sum, row| {
                if nulls.valid(row) {
                    *sum = sum.wrapping_add(values[row].into());
                }
            });
            return self.out.write(sums, wide::from_i128);
        }
        match width(magnitude_bits(values) + self.len_bits) {
            Width::W64 => {
                let sums = self.fold_values(0, values, |sum, value| {
                    *sum = i64::wrapping_add(*sum, value);
                });
                self.out.write(sums, |sum| wide::from_i128(sum.into()));
            }
            Width::W128 | Width::W192 => {
                let sums = self.fold_values(0, values, |sum, value| {
                    *sum = i128::wrapping_add(*sum, value.into());
                });
                self.out.write(sums, wide::from_i128);
            }
        }
    }

    /// Σab over rows that have both.
    fn dot(&mut self, a: usize, b: usize) {
        let nulls = self.nulls(a, b);
        let (a, b) = (&self.column(a).values[..], &self.column(b).values[..]);
        let product = |row: usize| i128::from(a[row]).wrapping_mul(i128::from(b[row]));
        match width(magnitude_bits(a) + magnitude_bits(b) + self.len_bits) {
            Width::W64 if nulls.none() => {
                let mut sums = vec![0_i64; self.groups.groups.len()];
                for ((&group, &a), &b) in self.groups.group_of.iter().zip(a).zip(b) {
                    let sum = &mut sums[group as usize];
                    *sum = sum.wrapping_add(a.wrapping_mul(b));
                }
                self.out.write(sums, |sum| wide::from_i128(sum.into()));
            }
            Width::W128 if nulls.none() => {
                let sums =
                    self.fold(0_i128, |sum, row| *sum = i128::wrapping_add(*sum, product(row)));
                self.out.write(sums, wide::from_i128);
            }
            _ => {
                // The low and high 64 bits of products are summed apart.
                let sums = self.fold((0_u128, 0_i128), |(low, high), row| {
                    if nulls.valid(row) {
                        let product = product(row);
                        *low = low.wrapping_add(u128::from(product as u64));
                        *high = high.wrapping_add(product >> 64);
                    }
                });
                self.out.write(sums, |(low, high)| wide::from_parts(high, low));
            }
        }
    }

    fn extreme(&mut self, column: usize, start: i64, pick: impl Fn(i64, i64) -> i64) {
        let nulls = self.nulls(column, column);
        let values = &self.column(column).values[..];
        if nulls.none() {
            let best = self.fold_values(start, values, |best, value| *best = pick(*best, value));
            self.out.write(best, |best| [1, best.cast_unsigned()]);
        } else {
            let best = self.fold((0, 0), |(any, best), row| {
                if nulls.valid(row) {
                    *best = if *any == 0 { values[row] } else { pick(*best, values[row]) };
                    *any = 1;
                }
            });
            self.out.write(best, |(any, best)| [any, best.cast_unsigned()]);
        }
    }

    /// The first or last row of each group among those that are not null.
    fn end(&mut self, column: usize, first: bool) {
        let (groups, nulls) = (self.groups, self.nulls(column, column));
        let wanted = if first { Ordering::Less } else { Ordering::Greater };
        let ends = self.fold(NO_ROW, |end, row| {
            let ts = |row: usize| groups.ticks.ts_event[row];
            let order = |other: usize| {
                ts(row).cmp(&ts(other)).then_with(|| groups.compare_ties(row, other))
            };
            if nulls.valid(row) && (*end == NO_ROW || order(*end as usize) == wanted) {
                *end = row as u32;
            }
        });
        self.out.write(ends, |row| match row {
            NO_ROW => [0; 5],
            row => groups.end_words(column, row as usize),
        });
    }
}

/// A batch has fewer rows.
const NO_ROW: u32 = u32::MAX;
