//! Rows in any order: an accumulator per group and term, and one walk over the rows for each.
//!
//! A batch's groups are few enough that one term's accumulators stay in the first or second
//! cache, and rows are read in their order, so that nothing is moved before it is reduced.

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
        ends: None,
        out: Out { words: vec![0; stride * len], stride, offset: 0 },
    };
    let done = walk.pairs(plan);
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
        for (partial, state) in self.words.chunks_exact_mut(self.stride).zip(states) {
            partial[self.offset..self.offset + N].copy_from_slice(&words(state));
        }
    }
}

struct Walk<'a> {
    groups: &'a Groups,
    /// Groups have fewer than 2^this rows.
    len_bits: u32,
    /// The first and last rows of each group, once a term has asked for them.
    ends: Option<Vec<Ends>>,
    out: Out,
}

/// A group's rows at the ends of the canonical order.
#[derive(Clone, Copy)]
struct Ends {
    first_ts: i64,
    last_ts: i64,
    first: u32,
    last: u32,
}

impl Walk<'_> {
    fn column(&self, column: usize) -> &ValueColumn {
        &self.groups.ticks.values[column]
    }

    fn nulls(&self, a: usize, b: usize) -> Nulls<'_> {
        Nulls([nulls(self.column(a)), nulls(self.column(b))])
    }

    /// Pairs of terms that one walk over the rows gives together; which those are.
    fn pairs(&mut self, plan: &Plan) -> Vec<Term> {
        let mut done = Vec::new();
        for &(term, offset) in plan.terms() {
            match term {
                Term::Min(c) if nulls(self.column(c)).is_none() => {
                    if let Some(max) = plan.offset(Term::Max(c)) {
                        self.extremes(c, offset, max);
                        done.extend([term, Term::Max(c)]);
                    }
                }
                Term::SumProduct(a, b) => {
                    let sums = [Term::Sum(b), Term::SumPaired { of: b, with: a }];
                    let sum = sums.into_iter().find_map(|sum| Some((sum, plan.offset(sum)?)));
                    if let Some((sum, sum_offset)) = sum
                        && self.sum_and_dot(a, b, sum_offset, offset)
                    {
                        done.extend([term, sum]);
                    }
                }
                _ => {}
            }
        }
        done
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

    /// Σab and Σb in one walk; whether 64 bits held both and no row is null, else nothing is done.
    fn sum_and_dot(&mut self, a: usize, b: usize, sum_offset: usize, dot_offset: usize) -> bool {
        if !self.nulls(a, b).none() {
            return false;
        }
        let (a, b) = (&self.column(a).values[..], &self.column(b).values[..]);
        let (a_bits, b_bits) = (magnitude_bits(a), magnitude_bits(b));
        let widths = [width(b_bits + self.len_bits), width(a_bits + b_bits + self.len_bits)];
        if widths != [Width::W64; 2] {
            return false;
        }
        let mut sums = vec![(0_i64, 0_i64); self.groups.groups.len()];
        for ((&group, &a), &b) in self.groups.group_of.iter().zip(a).zip(b) {
            let (sum, dot) = &mut sums[group as usize];
            *sum = sum.wrapping_add(b);
            *dot = dot.wrapping_add(a.wrapping_mul(b));
        }
        self.out.offset = dot_offset;
        self.out.write(&sums, |&(_, dot)| wide::from_i128(dot.into()));
        self.out.offset = sum_offset;
        self.out.write(&sums, |&(sum, _)| wide::from_i128(sum.into()));
        true
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

    /// Both extremes of a column without nulls in one walk.
    fn extremes(&mut self, column: usize, min: usize, max: usize) {
        let values = &self.column(column).values[..];
        let both = self.fold_values((i64::MAX, i64::MIN), values, |(least, greatest), value| {
            *least = value.min(*least);
            *greatest = value.max(*greatest);
        });
        self.out.offset = min;
        self.out.write(&both, |&(least, _)| [1, least.cast_unsigned()]);
        self.out.offset = max;
        self.out.write(&both, |&(_, greatest)| [1, greatest.cast_unsigned()]);
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

    fn end(&mut self, column: usize, first: bool) {
        let groups = self.groups;
        let nulls = Nulls([nulls(&groups.ticks.values[column]), None]);
        let row = |ends: &Ends| if first { ends.first } else { ends.last };
        let own;
        let ends = match nulls.none() {
            true => self.ends.get_or_insert_with(|| ends(groups, nulls)),
            false => {
                own = ends(groups, nulls);
                &own
            }
        };
        self.out.write(ends, |ends| match row(ends) {
            NO_ROW => [0; 5],
            row => groups.end_words(column, row as usize),
        });
    }
}

/// A batch has fewer rows.
const NO_ROW: u32 = u32::MAX;

/// The ends of each group among the rows that are not null.
fn ends(groups: &Groups, nulls: Nulls<'_>) -> Vec<Ends> {
    let none = Ends { first_ts: i64::MAX, last_ts: i64::MIN, first: NO_ROW, last: NO_ROW };
    let mut ends = vec![none; groups.groups.len()];
    let all = nulls.none();
    let rows = groups.group_of.iter().zip(groups.ticks.ts_event.iter()).enumerate();
    for (row, (&group, &ts)) in rows {
        if !all && !nulls.valid(row) {
            continue;
        }
        let before =
            |other: u32| other == NO_ROW || groups.compare_ties(row, other as usize).is_lt();
        let after =
            |other: u32| other == NO_ROW || groups.compare_ties(row, other as usize).is_gt();
        let ends = &mut ends[group as usize];
        if ts < ends.first_ts || (ts == ends.first_ts && before(ends.first)) {
            (ends.first_ts, ends.first) = (ts, row as u32);
        }
        if ts > ends.last_ts || (ts == ends.last_ts && after(ends.last)) {
            (ends.last_ts, ends.last) = (ts, row as u32);
        }
    }
    ends
}
