//! The terms that most views have, in one walk over the rows.

use std::cmp::Ordering;

use super::{NO_ROW, Walk, nulls};
use crate::cpu::{Width, magnitude_bits, width};
use crate::plan::{Plan, Term};
use crate::runs::Groups;
use crate::wide;

/// What one walk feeds of a plan: terms over columns without nulls whose sums have 64 bits.
#[derive(Default)]
struct Fusible {
    /// First or last values of any columns: all are those of the same rows.
    ends: bool,
    /// The column of the extremes.
    extremes: Option<usize>,
    sums: Option<Sums>,
    /// With the offsets of their words.
    terms: Vec<(Term, usize)>,
}

#[derive(Clone, Copy)]
enum Sums {
    Plain(usize),
    /// Σab and Σb.
    Products(usize, usize),
}

/// Groups whose partials are written term by term before the next ones are: few enough that they
/// stay in the first-level cache.
const BLOCK_GROUPS: usize = 64;

/// The accumulators of a group: a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct State {
    first_ts: i64,
    last_ts: i64,
    first: u32,
    last: u32,
    least: i64,
    greatest: i64,
    sum: i64,
    products: i64,
}

const NOTHING: State = State {
    first_ts: i64::MAX,
    last_ts: i64::MIN,
    first: NO_ROW,
    last: NO_ROW,
    least: i64::MAX,
    greatest: i64::MIN,
    sum: 0,
    products: 0,
};

impl Walk<'_> {
    /// Writes the terms that one walk gives together; which those are.
    pub(super) fn fused(&mut self, plan: &Plan) -> Vec<Term> {
        let fusible = self.fusible(plan);
        if fusible.terms.len() <= 1 {
            return Vec::new();
        }
        let states = states(self.groups, &fusible);
        for (number, block) in states.chunks(BLOCK_GROUPS).enumerate() {
            let first = number * BLOCK_GROUPS;
            for &(term, offset) in &fusible.terms {
                self.out.offset = offset;
                self.write(term, first, block);
            }
        }
        fusible.terms.into_iter().map(|(term, _)| term).collect()
    }

    fn write(&mut self, term: Term, first: usize, states: &[State]) {
        let out = &mut self.out;
        match term {
            Term::Rows => {
                let groups = &self.groups.groups[first..];
                out.write_from(first, groups.iter().zip(states), |(group, _)| [group.rows.into()]);
            }
            // A group has rows, and the column no nulls: there are a first and a last one.
            Term::First(c) => out.write_from(first, states, |state| {
                self.groups.end_words_at(c, state.first as usize, state.first_ts)
            }),
            Term::Last(c) => out.write_from(first, states, |state| {
                self.groups.end_words_at(c, state.last as usize, state.last_ts)
            }),
            Term::Min(_) => {
                out.write_from(first, states, |state| [1, state.least.cast_unsigned()]);
            }
            Term::Max(_) => {
                out.write_from(first, states, |state| [1, state.greatest.cast_unsigned()]);
            }
            Term::SumProduct(..) => {
                out.write_from(first, states, |state| wide::from_i128(state.products.into()));
            }
            _ => out.write_from(first, states, |state| wide::from_i128(state.sum.into())),
        }
    }

    fn fusible(&self, plan: &Plan) -> Fusible {
        let full = |column: usize| nulls(self.column(column)).is_none();
        let mut fusible = Fusible { sums: self.sums(plan, full), ..Fusible::default() };
        for &(term, offset) in plan.terms() {
            let fits = match (term, fusible.sums) {
                (Term::First(c) | Term::Last(c), _) if full(c) => {
                    fusible.ends = true;
                    true
                }
                (Term::Min(c) | Term::Max(c), _) if full(c) => {
                    *fusible.extremes.get_or_insert(c) == c
                }
                (Term::Sum(c), Some(Sums::Plain(of) | Sums::Products(_, of))) => c == of,
                (Term::SumPaired { of, with }, Some(Sums::Products(_, b))) => of == b && full(with),
                (Term::SumProduct(a, b), Some(Sums::Products(x, y))) => (a, b) == (x, y),
                (Term::Rows, _) => true,
                _ => false,
            };
            if fits {
                fusible.terms.push((term, offset));
            }
        }
        fusible
    }

    /// The sums to feed: of products where there are some, else the first.
    fn sums(&self, plan: &Plan, full: impl Fn(usize) -> bool) -> Option<Sums> {
        let bits = |column: usize| magnitude_bits(&self.column(column).values);
        let narrow = |bits: u32| width(bits + self.len_bits) == Width::W64;
        let terms = || plan.terms().iter().map(|(term, _)| *term);
        let products = terms().find_map(|term| match term {
            Term::SumProduct(a, b) if full(a) && full(b) => {
                // Also where every a is 0: then Σb is to fit on its own.
                let (a_bits, b_bits) = (bits(a), bits(b));
                (narrow(b_bits) && narrow(a_bits + b_bits)).then_some(Sums::Products(a, b))
            }
            _ => None,
        });
        products.or_else(|| {
            terms().find_map(|term| match term {
                Term::Sum(c) if full(c) && narrow(bits(c)) => Some(Sums::Plain(c)),
                _ => None,
            })
        })
    }
}

/// One walk, made for what it has to feed: what it leaves out costs nothing.
fn states(groups: &Groups, fusible: &Fusible) -> Vec<State> {
    match fusible.ends {
        true => states_with::<true>(groups, fusible),
        false => states_with::<false>(groups, fusible),
    }
}

fn states_with<const ENDS: bool>(groups: &Groups, fusible: &Fusible) -> Vec<State> {
    let values = |column: usize| &groups.ticks.values[column].values[..];
    // Where a walk does not look at a column, any stands in.
    let unused = &groups.ticks.ts_event[..];
    let x = fusible.extremes.map(values);
    match (x, fusible.sums) {
        (None, None) => walk::<ENDS, false, 0>(groups, [unused; 3]),
        (None, Some(Sums::Plain(b))) => walk::<ENDS, false, 1>(groups, [unused, unused, values(b)]),
        (None, Some(Sums::Products(a, b))) => {
            walk::<ENDS, false, 2>(groups, [unused, values(a), values(b)])
        }
        (Some(x), None) => walk::<ENDS, true, 0>(groups, [x, unused, unused]),
        (Some(x), Some(Sums::Plain(b))) => walk::<ENDS, true, 1>(groups, [x, unused, values(b)]),
        (Some(x), Some(Sums::Products(a, b))) => {
            walk::<ENDS, true, 2>(groups, [x, values(a), values(b)])
        }
    }
}

/// `SUMS`: none, of the last column, or that and of the products of the last two. The proofs that
/// they fit stand at [`Width`].
fn walk<const ENDS: bool, const EXTREMES: bool, const SUMS: u8>(
    groups: &Groups,
    [x, a, b]: [&[i64]; 3],
) -> Vec<State> {
    let mut states = vec![NOTHING; groups.groups.len()];
    // Five columns at one place are walked through faster than five iterators.
    let group_of = &groups.group_of[..];
    let rows = group_of.len();
    let (ts, x, a, b) = (&groups.ticks.ts_event[..rows], &x[..rows], &a[..rows], &b[..rows]);
    for row in 0..rows {
        let (ts, x, a, b) = (ts[row], x[row], a[row], b[row]);
        let state = &mut states[group_of[row] as usize];
        if ENDS {
            let tied = |other: u32, order: Ordering| {
                other == NO_ROW || groups.compare_ties(row, other as usize) == order
            };
            let first = ts < state.first_ts;
            if first || (ts == state.first_ts && tied(state.first, Ordering::Less)) {
                (state.first_ts, state.first) = (ts, row as u32);
            }
            let last = ts > state.last_ts;
            if last || (ts == state.last_ts && tied(state.last, Ordering::Greater)) {
                (state.last_ts, state.last) = (ts, row as u32);
            }
        }
        if EXTREMES {
            state.least = x.min(state.least);
            state.greatest = x.max(state.greatest);
        }
        if SUMS > 0 {
            state.sum = state.sum.wrapping_add(b);
        }
        if SUMS > 1 {
            state.products = state.products.wrapping_add(a.wrapping_mul(b));
        }
    }
    states
}
