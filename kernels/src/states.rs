//! The states' monoid, over the words of partials.
//!
//! All words 0 are the identity of every term. [`combine`] is commutative and associative on the
//! states that engines write: counts and sums add, extremes compare, and first and last compare
//! by `(ts_event, publisher's bytes, sequence)`, which no two ticks share. (Should two states
//! carry the same triple with different values, the smaller value stands for the first, the
//! greater one for the last, so that the laws hold on any words.)

use std::cmp::Ordering;

use crate::plan::{Plan, Term};
use crate::tables::PublisherTable;
use crate::wide;

/// The state of no rows.
pub fn identity(plan: &Plan) -> Vec<u64> {
    vec![0; plan.words()]
}

/// Combines a state into another. Publisher codes of both are those of `publishers`.
///
/// # Panics
/// When a slice is shorter than [`Plan::words`].
pub fn combine(plan: &Plan, into: &mut [u64], from: &[u64], publishers: &PublisherTable) {
    for &(term, offset) in plan.terms() {
        let into = &mut into[offset..offset + term.words()];
        let from = &from[offset..offset + term.words()];
        match term {
            Term::Rows | Term::Count(_) => into[0] += from[0],
            Term::Sum(_) | Term::SumProduct(..) | Term::SumPaired { .. } => wide::add(into, from),
            Term::Min(_) => {
                replace_if(into, from, |old, new| new[1].cast_signed() < old[1].cast_signed())
            }
            Term::Max(_) => {
                replace_if(into, from, |old, new| new[1].cast_signed() > old[1].cast_signed())
            }
            Term::First(_) => {
                replace_if(into, from, |old, new| end_order(new, old, publishers).is_lt())
            }
            Term::Last(_) => {
                replace_if(into, from, |old, new| end_order(new, old, publishers).is_gt())
            }
        }
    }
}

/// States to [`fetch`] at a time.
pub(crate) const FETCHED: usize = 64;

/// Brings states into the cache, all at once: they lie in the order in which their windows were
/// met, far from each other, and going from one to the next would wait for each.
pub(crate) fn fetch<'a>(states: impl Iterator<Item = &'a [u64]>) {
    let mut sum = 0;
    for state in states {
        for word in state.iter().step_by(8) {
            sum ^= word;
        }
    }
    std::hint::black_box(sum);
}

/// Rewrites the publisher codes in a state: what `codes` holds at the old code.
pub fn recode_publishers(plan: &Plan, words: &mut [u64], codes: &[u32]) {
    for &(term, offset) in plan.terms() {
        if matches!(term, Term::First(_) | Term::Last(_)) && words[offset] == 1 {
            let code = &mut words[offset + 2];
            *code = u64::from(codes[*code as usize]);
        }
    }
}

/// Word 0 says whether there is a value; `better(old, new)` decides between two.
fn replace_if(into: &mut [u64], from: &[u64], better: impl Fn(&[u64], &[u64]) -> bool) {
    if from[0] == 1 && (into[0] == 0 || better(into, from)) {
        into.copy_from_slice(from);
    }
}

fn end_order(a: &[u64], b: &[u64], publishers: &PublisherTable) -> Ordering {
    let time = a[1].cast_signed().cmp(&b[1].cast_signed());
    time.then_with(|| match a[2] == b[2] {
        true => Ordering::Equal,
        false => publishers.get(a[2] as u32).cmp(publishers.get(b[2] as u32)),
    })
    .then_with(|| a[3].cmp(&b[3]))
    .then_with(|| a[4].cast_signed().cmp(&b[4].cast_signed()))
}

#[cfg(test)]
mod tests;
