//! The native engine: tight loops over column slices.

mod groups;

use std::ops::Range;

use arrow_buffer::NullBuffer;
use isotick_model::ValueColumn;

use crate::engine::{Engine, EngineError, EngineKind};
use crate::partial::Partials;
use crate::plan::{Plan, Term};
use crate::runs::{Groups, Run, Runs};
use crate::wide;

/// Rows whose columns are walked term by term before the next rows are: few enough that they stay
/// in the first-level cache, many enough that short runs do not pay for choosing a loop each.
const BLOCK_ROWS: u32 = 2048;

/// The engine that runs everywhere. One thread; it fails never.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuEngine;

impl Engine for CpuEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Cpu
    }

    fn describe(&self) -> String {
        "cpu".to_owned()
    }

    fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
        let stride = plan.words();
        let mut words = vec![0; runs.runs.len() * stride];
        let steps = steps(plan, runs);
        let mut first = 0;
        while first < runs.runs.len() {
            let mut rows = 0;
            let in_block = runs.runs[first..].iter().take_while(|run| {
                let start = rows;
                rows += u64::from(run.len);
                start < u64::from(BLOCK_ROWS)
            });
            let block = first..first + in_block.count();
            for step in &steps {
                let mut out = Out {
                    words: &mut words[block.start * stride..block.end * stride],
                    stride,
                    offset: step.offset,
                };
                step.walk.run(runs, &runs.runs[block.clone()], &mut out);
            }
            first = block.end;
        }
        Ok(Partials { words, stride })
    }

    fn takes_groups(&self) -> bool {
        true
    }

    fn reduce_groups(&mut self, plan: &Plan, groups: &Groups) -> Result<Partials, EngineError> {
        Ok(groups::reduce(plan, groups))
    }
}

/// The width of an accumulator. The bounds: with every |a| ≤ 2^α, |b| ≤ 2^β and fewer than 2^λ
/// rows in a run, every partial sum of values is below 2^(α+λ) in magnitude, and of products
/// below 2^(α+β+λ): it fits a signed integer of that many bits and one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    W64,
    W128,
    W192,
}

const fn width(bits: u32) -> Width {
    match bits {
        0..=63 => Width::W64,
        64..=127 => Width::W128,
        _ => Width::W192,
    }
}

/// α and β are at most 63, and a run's length is below 2^32.
const LEN_BITS_MAX: u32 = u32::BITS;
const _: () = assert!(63 + LEN_BITS_MAX <= 127, "128 bits hold every sum of values");
const _: () = assert!(63 + 63 + LEN_BITS_MAX <= 191, "192 bits hold every sum of products");
const _: () = assert!(63 + LEN_BITS_MAX <= 126, "the high parts of products sum in 128 bits");
const _: () = assert!(64 + LEN_BITS_MAX <= 128, "the low parts of products sum in 128 bits");

/// α: every |value| ≤ 2^α.
fn magnitude_bits(values: &[i64]) -> u32 {
    // v ^ (v >> 63) is v or −v−1, whichever is not negative.
    let folded = values.iter().fold(0, |bits, &value| bits | (value ^ (value >> 63)));
    u64::BITS - folded.cast_unsigned().leading_zeros()
}

/// One term of the plan with its loop chosen.
struct Step<'a> {
    walk: Walk<'a>,
    offset: usize,
}

enum Walk<'a> {
    Rows,
    Valid(&'a NullBuffer),
    /// The same words as the term at this offset, which is walked before.
    Same(usize),
    Sum64(&'a [i64]),
    Sum128(&'a [i64]),
    SumValid(&'a [i64], Nulls<'a>),
    Dot64(&'a [i64], &'a [i64]),
    Dot128(&'a [i64], &'a [i64]),
    Dot192(&'a [i64], &'a [i64]),
    DotValid(&'a [i64], &'a [i64], Nulls<'a>),
    Min(&'a [i64]),
    Max(&'a [i64]),
    MinValid(&'a [i64], Nulls<'a>),
    MaxValid(&'a [i64], Nulls<'a>),
    First(usize, Nulls<'a>),
    Last(usize, Nulls<'a>),
}

/// A tick counts where both are valid.
#[derive(Clone, Copy)]
struct Nulls<'a>([Option<&'a NullBuffer>; 2]);

impl Nulls<'_> {
    fn none(self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    fn valid(self, row: usize) -> bool {
        self.0.iter().flatten().all(|nulls| nulls.is_valid(row))
    }

    fn rows(self, range: Range<usize>) -> impl DoubleEndedIterator<Item = usize> {
        range.filter(move |&row| self.valid(row))
    }
}

/// The nulls of a column that has any.
fn nulls(column: &ValueColumn) -> Option<&NullBuffer> {
    column.nulls.as_ref().filter(|nulls| nulls.null_count() > 0)
}

fn steps<'a>(plan: &Plan, runs: &'a Runs) -> Vec<Step<'a>> {
    let columns = &runs.ticks.values;
    let longest = runs.runs.iter().map(|run| run.len).max().unwrap_or(0);
    let len_bits = u32::BITS - longest.leading_zeros();
    let mut bits = vec![None; columns.len()];
    let mut bits_of = |column: usize| {
        *bits[column].get_or_insert_with(|| magnitude_bits(&columns[column].values))
    };
    let both = |a: usize, b: usize| Nulls([nulls(&columns[a]), nulls(&columns[b])]);
    let mut walk = |term: Term| match term {
        Term::Rows => Walk::Rows,
        Term::Count(c) => nulls(&columns[c]).map_or(Walk::Rows, Walk::Valid),
        Term::Sum(c) | Term::SumPaired { of: c, .. } => {
            let nulls = match term {
                Term::SumPaired { of, with } => both(of, with),
                _ => both(c, c),
            };
            let values = &columns[c].values[..];
            match width(bits_of(c) + len_bits) {
                _ if !nulls.none() => Walk::SumValid(values, nulls),
                Width::W64 => Walk::Sum64(values),
                Width::W128 | Width::W192 => Walk::Sum128(values),
            }
        }
        Term::SumProduct(a, b) => {
            let nulls = both(a, b);
            let width = width(bits_of(a) + bits_of(b) + len_bits);
            let (a, b) = (&columns[a].values[..], &columns[b].values[..]);
            match width {
                _ if !nulls.none() => Walk::DotValid(a, b, nulls),
                Width::W64 => Walk::Dot64(a, b),
                Width::W128 => Walk::Dot128(a, b),
                Width::W192 => Walk::Dot192(a, b),
            }
        }
        Term::Min(c) => match both(c, c) {
            nulls if nulls.none() => Walk::Min(&columns[c].values),
            nulls => Walk::MinValid(&columns[c].values, nulls),
        },
        Term::Max(c) => match both(c, c) {
            nulls if nulls.none() => Walk::Max(&columns[c].values),
            nulls => Walk::MaxValid(&columns[c].values, nulls),
        },
        Term::First(c) => Walk::First(c, both(c, c)),
        Term::Last(c) => Walk::Last(c, both(c, c)),
    };
    let mut steps = Vec::new();
    let mut same = Vec::new();
    for &(term, offset) in plan.terms() {
        // Without nulls a paired sum is the column's own sum.
        let twin = match term {
            Term::SumPaired { of, with } if both(of, with).none() => plan.offset(Term::Sum(of)),
            _ => None,
        };
        match twin {
            Some(twin) => same.push(Step { walk: Walk::Same(twin), offset }),
            None => steps.push(Step { walk: walk(term), offset }),
        }
    }
    steps.extend(same);
    steps
}

/// Where a step writes: the partials of a block of runs.
struct Out<'a> {
    words: &'a mut [u64],
    stride: usize,
    offset: usize,
}

impl Out<'_> {
    fn write<const N: usize>(&mut self, runs: &[Run], state: impl Fn(Range<usize>) -> [u64; N]) {
        for (run, partial) in runs.iter().zip(self.words.chunks_exact_mut(self.stride)) {
            let start = run.start as usize;
            let words = state(start..start + run.len as usize);
            // One by one: put together in memory, they would have to be waited for.
            let into = &mut partial[self.offset..self.offset + N];
            into.iter_mut().zip(words).for_each(|(into, word)| *into = word);
        }
    }
}

impl Walk<'_> {
    fn run(&self, all: &Runs, runs: &[Run], out: &mut Out<'_>) {
        match *self {
            Self::Rows => out.write(runs, |rows| [rows.len() as u64]),
            Self::Valid(nulls) => {
                let nulls = Nulls([Some(nulls), None]);
                out.write(runs, |rows| [nulls.rows(rows).count() as u64]);
            }
            Self::Same(from) => {
                for partial in out.words.chunks_exact_mut(out.stride) {
                    partial.copy_within(from..from + 3, out.offset);
                }
            }
            Self::Sum64(v) => out.write(runs, |rows| wide::from_i128(sum64(&v[rows]).into())),
            Self::Sum128(v) => out.write(runs, |rows| wide::from_i128(sum128(v[rows].iter()))),
            Self::SumValid(v, nulls) => {
                out.write(runs, |rows| wide::from_i128(sum128(nulls.rows(rows).map(|row| &v[row]))))
            }
            Self::Dot64(a, b) => {
                out.write(runs, |rows| wide::from_i128(dot64(&a[rows.clone()], &b[rows]).into()))
            }
            Self::Dot128(a, b) => {
                out.write(runs, |rows| wide::from_i128(dot128(&a[rows.clone()], &b[rows])))
            }
            Self::Dot192(a, b) => {
                out.write(runs, |rows| dot192(a[rows.clone()].iter().zip(&b[rows])))
            }
            Self::DotValid(a, b, nulls) => {
                out.write(runs, |rows| dot192(nulls.rows(rows).map(|row| (&a[row], &b[row]))))
            }
            Self::Min(v) => out.write(runs, |rows| [1, least(&v[rows]).cast_unsigned()]),
            Self::Max(v) => out.write(runs, |rows| [1, greatest(&v[rows]).cast_unsigned()]),
            Self::MinValid(v, nulls) => {
                out.write(runs, |rows| optional(nulls.rows(rows).map(|row| v[row]).min()))
            }
            Self::MaxValid(v, nulls) => {
                out.write(runs, |rows| optional(nulls.rows(rows).map(|row| v[row]).max()))
            }
            Self::First(column, nulls) => out.write(runs, |rows| {
                nulls.rows(rows).next().map_or([0; 5], |row| all.end_words(column, row))
            }),
            Self::Last(column, nulls) => out.write(runs, |rows| {
                nulls.rows(rows).next_back().map_or([0; 5], |row| all.end_words(column, row))
            }),
        }
    }
}

fn optional(value: Option<i64>) -> [u64; 2] {
    value.map_or([0, 0], |value| [1, value.cast_unsigned()])
}

/// Σv, where no partial sum leaves 64 bits: see [`Width`].
fn sum64(values: &[i64]) -> i64 {
    values.iter().fold(0, |sum, &value| sum.wrapping_add(value))
}

/// Σv of fewer than 2^32 values.
fn sum128<'a>(values: impl Iterator<Item = &'a i64>) -> i128 {
    values.fold(0, |sum, &value| sum.wrapping_add(value.into()))
}

/// Σab, where no product and no partial sum leaves 64 bits.
fn dot64(a: &[i64], b: &[i64]) -> i64 {
    a.iter().zip(b).fold(0, |sum, (&a, &b)| sum.wrapping_add(a.wrapping_mul(b)))
}

/// Σab, where no partial sum leaves 128 bits. A product has at most 126 bits and a sign.
fn dot128(a: &[i64], b: &[i64]) -> i128 {
    a.iter()
        .zip(b)
        .fold(0, |sum, (&a, &b)| sum.wrapping_add(i128::from(a).wrapping_mul(i128::from(b))))
}

/// Σab of fewer than 2^32 products: their low and high 64 bits are summed apart.
fn dot192<'a>(pairs: impl Iterator<Item = (&'a i64, &'a i64)>) -> [u64; 3] {
    let (mut low, mut high) = (0_u128, 0_i128);
    for (&a, &b) in pairs {
        let product = i128::from(a).wrapping_mul(i128::from(b));
        low = low.wrapping_add(u128::from(product as u64));
        high = high.wrapping_add(product >> 64);
    }
    wide::from_parts(high, low)
}

fn least(values: &[i64]) -> i64 {
    extreme(values, i64::MAX, i64::min)
}

fn greatest(values: &[i64]) -> i64 {
    extreme(values, i64::MIN, i64::max)
}

/// Whole chunks, which are compared many values at a time, and the last chunk once more: a value
/// that counts twice changes no extreme, and hardly any is left to be compared by itself.
fn extreme(values: &[i64], start: i64, pick: impl Fn(i64, i64) -> i64 + Copy) -> i64 {
    const WIDE: usize = 16;
    const NARROW: usize = 4;
    let plain = |values: &[i64]| values.iter().fold(start, |best, &value| pick(best, value));
    if let Some(last) = values.last_chunk::<WIDE>() {
        let whole = values.len() / WIDE * WIDE;
        return pick(plain(&values[..whole]), plain(last));
    }
    let Some(last) = values.last_chunk::<NARROW>() else { return plain(values) };
    let mut lanes = *last;
    for chunk in values.as_chunks::<NARROW>().0 {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = pick(*lane, value);
        }
    }
    plain(&lanes)
}

#[cfg(test)]
mod tests;
