//! The one finish: from exact states to results, the same function live and in scans.

use isotick_model::results::Value;
use isotick_model::view::{Aggregate, View};
use isotick_model::{Quantile, Scale, StreamSchema};
use num_bigint::{BigInt, BigUint, Sign};

use crate::grid::Grid;
use crate::multiset::{self, Multiset};
use crate::plan::{Plan, Term, values_of};
use crate::rational::{quotient, quotient_big, root_big};
use crate::wide;

/// Finishes the states of one view.
#[derive(Clone, Debug)]
pub struct Lower {
    finishes: Vec<Finish>,
    /// For each of the plan's values.
    quantiles: Vec<Quantiles>,
}

/// All quantiles of the same values: one selection finds them.
#[derive(Clone, Debug)]
struct Quantiles {
    grid: Grid,
    /// Ascending.
    quantiles: Vec<Quantile>,
    /// For each of them, which aggregate it is.
    outputs: Vec<usize>,
}

/// An aggregate with the offsets of its words resolved.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Finish {
    /// Found by selection, not in the words.
    Quantile,
    Count(usize),
    Sum {
        count: usize,
        sum: usize,
    },
    /// `Min`, `Max`, `First`, `Last`: a flag, and the value this many words behind it.
    Flagged {
        flag: usize,
        value: usize,
    },
    Mean {
        count: usize,
        sum: usize,
        scale: Scale,
    },
    Spread {
        count: usize,
        sum: usize,
        squares: usize,
        scale: Scale,
        root: bool,
    },
    Notional {
        counts: [usize; 2],
        products: usize,
    },
    Vwap {
        products: usize,
        sizes: usize,
        scale: Scale,
    },
}

impl Lower {
    /// For a view over a stream. Scales come from the stream's columns.
    ///
    /// # Panics
    /// When the view is not of this stream, or the plan not of this view.
    pub fn new(view: &View, schema: &StreamSchema, plan: &Plan) -> Self {
        let at = |term: Term| plan.offset(term).expect("a view's plan has its aggregates' terms");
        let scale = |column: usize| schema.columns[column].scale;
        let spread = |column: usize, root: bool| Finish::Spread {
            count: at(Term::Count(column)),
            sum: at(Term::Sum(column)),
            squares: at(Term::SumProduct(column, column)),
            scale: scale(column),
            root,
        };
        let flagged = |term: Term, value: usize| Finish::Flagged { flag: at(term), value };
        let finish = |aggregate: Aggregate| match aggregate {
            Aggregate::Count => Finish::Count(at(Term::Rows)),
            Aggregate::CountOf(c) => Finish::Count(at(Term::Count(c))),
            Aggregate::Sum(c) => Finish::Sum { count: at(Term::Count(c)), sum: at(Term::Sum(c)) },
            Aggregate::Min(c) => flagged(Term::Min(c), 1),
            Aggregate::Max(c) => flagged(Term::Max(c), 1),
            Aggregate::First(c) => flagged(Term::First(c), 4),
            Aggregate::Last(c) => flagged(Term::Last(c), 4),
            Aggregate::Mean(c) => {
                Finish::Mean { count: at(Term::Count(c)), sum: at(Term::Sum(c)), scale: scale(c) }
            }
            Aggregate::Var(c) => spread(c, false),
            Aggregate::Stddev(c) => spread(c, true),
            Aggregate::Notional { price, size } => Finish::Notional {
                counts: [at(Term::Count(price)), at(Term::Count(size))],
                products: at(Term::SumProduct(price, size)),
            },
            Aggregate::Vwap { price, size } => Finish::Vwap {
                products: at(Term::SumProduct(price, size)),
                sizes: at(Term::SumPaired { of: size, with: price }),
                scale: scale(price),
            },
            Aggregate::Quantile { .. } | Aggregate::ApproxQuantile { .. } => Finish::Quantile,
        };
        let quantiles = plan.values().iter().map(|values| {
            let of_values = view.aggregates.iter().enumerate().filter_map(|(output, named)| {
                let is_of = values_of(named.aggregate) == Some(*values);
                match named.aggregate {
                    Aggregate::Quantile { q, .. } | Aggregate::ApproxQuantile { q, .. } => {
                        is_of.then_some((q, output))
                    }
                    _ => None,
                }
            });
            let mut sorted: Vec<(Quantile, usize)> = of_values.collect();
            sorted.sort_unstable();
            let (quantiles, outputs) = sorted.into_iter().unzip();
            Quantiles { grid: values.grid, quantiles, outputs }
        });
        Self {
            quantiles: quantiles.collect(),
            finishes: view.aggregates.iter().map(|named| finish(named.aggregate)).collect(),
        }
    }

    /// One value per aggregate, from the words of one partial and the multisets of each part that
    /// it was combined from. A quotient is the binary64 nearest to the exact rational, ties to
    /// even; zero is never negative.
    pub(crate) fn values(&self, words: &[u64], parts: &[&[Multiset]]) -> Vec<Value> {
        let mut values: Vec<Value> =
            self.finishes.iter().map(|finish| finish.value(words)).collect();
        for (number, Quantiles { grid, quantiles, outputs }) in self.quantiles.iter().enumerate() {
            let sets: Vec<&Multiset> = parts.iter().map(|part| &part[number]).collect();
            let selected = multiset::select(&sets, quantiles).unwrap_or_default();
            for (code, &output) in selected.into_iter().zip(outputs) {
                values[output] = Value::Integer(grid.value(code).into());
            }
        }
        values
    }

    /// Where the words of partials say whether one of the aggregates has a value, and hold it as it
    /// is.
    pub(crate) fn as_it_is(&self, aggregate: usize) -> Option<(usize, usize)> {
        match self.finishes[aggregate] {
            Finish::Flagged { flag, value } => Some((flag, flag + value)),
            _ => None,
        }
    }

    /// How one of the aggregates comes out of the words of a partial.
    pub(crate) fn finish(&self, aggregate: usize) -> Finish {
        self.finishes[aggregate]
    }
}

impl Finish {
    /// The aggregate from the words of a partial; none that is found by selection.
    #[inline(always)]
    pub(crate) fn value(self, words: &[u64]) -> Value {
        match self {
            Self::Quantile => Value::Null,
            Self::Count(count) => Value::Integer(words[count].into()),
            Self::Sum { count, .. } | Self::Mean { count, .. } if words[count] == 0 => Value::Null,
            Self::Sum { sum, .. } => Value::Integer(sum_of(words, sum)),
            Self::Mean { count, sum, scale } => {
                let sum = sum_of(words, sum);
                // Below 2^64 · 2^60.
                let divisor = u128::from(words[count]) * power_of_ten(scale.digits());
                signed(sum < 0, quotient(sum.unsigned_abs(), divisor))
            }
            Self::Flagged { flag, .. } if words[flag] == 0 => Value::Null,
            Self::Flagged { flag, value } => {
                Value::Integer(words[flag + value].cast_signed().into())
            }
            Self::Spread { count, .. } if words[count] < 2 => Value::Null,
            Self::Spread { count, sum, squares, scale, root } => {
                let count = words[count];
                let variance = Variance::of(count, sum_of(words, sum), &words[squares..][..3]);
                Value::Float(variance.lower(count, scale, root))
            }
            Self::Notional { counts, .. } if counts.iter().any(|&count| words[count] == 0) => {
                Value::Null
            }
            Self::Notional { products, .. } => {
                let sum = wide::to_i128(&words[products..products + 3]);
                let sum = sum.filter(|sum| sum.unsigned_abs() < WIDE_LIMIT);
                Value::Integer(sum.expect("bounded columns leave room for 2^40 ticks"))
            }
            Self::Vwap { products, sizes, scale } => {
                vwap(&words[products..][..3], sum_of(words, sizes), scale)
            }
        }
    }
}

/// Above every integer of 38 digits.
const WIDE_LIMIT: u128 = 10_u128.pow(38);

/// A sum of fewer than 2^63 values of 64 bits.
fn sum_of(words: &[u64], offset: usize) -> i128 {
    wide::to_i128(&words[offset..offset + 3]).expect("a sum of 64-bit values fits 128 bits")
}

fn power_of_ten(digits: u8) -> u128 {
    10_u128.pow(digits.into())
}

fn signed(negative: bool, magnitude: f64) -> Value {
    Value::Float(if negative { -magnitude } else { magnitude })
}

/// Σps / (Σs · 10^scale); null where Σs is 0.
fn vwap(products: &[u64], sizes: i128, scale: Scale) -> Value {
    if sizes == 0 {
        return Value::Null;
    }
    let factor = power_of_ten(scale.digits());
    let narrow = wide::to_i128(products).zip(sizes.unsigned_abs().checked_mul(factor));
    match narrow {
        Some((products, divisor)) => {
            let negative = products != 0 && (products < 0) != (sizes < 0);
            signed(negative, quotient(products.unsigned_abs(), divisor))
        }
        None => {
            let products = wide::to_bigint(products);
            let negative = match products.sign() {
                Sign::NoSign => false,
                Sign::Minus => sizes > 0,
                Sign::Plus => sizes < 0,
            };
            let divisor = BigUint::from(sizes.unsigned_abs()) * factor;
            signed(negative, quotient_big(products.magnitude(), &divisor))
        }
    }
}

/// n·Σp² − (Σp)², never negative.
enum Variance {
    Narrow(u128),
    Wide(BigUint),
}

impl Variance {
    fn of(count: u64, sum: i128, squares: &[u64]) -> Self {
        let narrow = || {
            let squares = wide::to_i128(squares)?.checked_mul(count.into())?;
            squares.checked_sub(sum.checked_mul(sum)?)
        };
        match narrow() {
            Some(value) => {
                Self::Narrow(value.try_into().expect("n·Σp² is at least (Σp)² (Cauchy-Schwarz)"))
            }
            None => {
                let value = wide::to_bigint(squares) * count - BigInt::from(sum) * sum;
                Self::Wide(value.to_biguint().expect("n·Σp² is at least (Σp)² (Cauchy-Schwarz)"))
            }
        }
    }

    /// Over n(n−1)·10^(2·scale), or the root of that.
    fn lower(self, count: u64, scale: Scale, root: bool) -> f64 {
        // n(n−1) is below 2^128 and the power below 2^120.
        let pairs = u128::from(count) * u128::from(count - 1);
        let factor = power_of_ten(2 * scale.digits());
        match (self, pairs.checked_mul(factor)) {
            (Self::Narrow(value), Some(divisor)) if !root => quotient(value, divisor),
            (value, _) => {
                let value = match value {
                    Self::Narrow(value) => value.into(),
                    Self::Wide(value) => value,
                };
                let divisor = BigUint::from(pairs) * factor;
                match root {
                    true => root_big(&value, &divisor),
                    false => quotient_big(&value, &divisor),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
