//! The windows that must come, by a plain loop over the ticks: nothing of the engines is used.

use std::collections::HashMap;

use isotick_model::results::{Value, WindowRow};
use isotick_model::view::{Aggregate, View};
use isotick_model::{Key, Ticks};

use super::ticks::Load;

/// Doubles hold every integer below this: a quotient of two such is correctly rounded by one
/// division.
const EXACT: i128 = 1 << 53;

/// The ticks of every window that closes.
pub struct Reference<'a> {
    view: &'a View,
    load: &'a Load,
    /// Scaled integers per unit of each value column.
    factors: Vec<i64>,
    windows: HashMap<(Key, i64), Vec<Place>>,
}

/// A tick: time, place in the sequence, batch, row.
type Place = (i64, u64, u32, u32);

/// What was compared.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Windows that must have come.
    pub expected: usize,
    /// Of those, how many did not come.
    pub missing: usize,
    /// Windows with a wrong value, and windows that should not have come.
    pub wrong: usize,
    /// The first of these in words.
    pub first: Option<String>,
    /// Columns of the view that this reference does not know.
    pub unchecked: Vec<String>,
}

impl<'a> Reference<'a> {
    /// Sorts the ticks into the view's windows and keeps those that close: tick by tick, one is
    /// taken as long as its window's end plus the allowance lies beyond the watermark before it.
    pub fn of(view: &'a View, load: &'a Load, factors: Vec<i64>) -> Self {
        let mut windows: HashMap<(Key, i64), Vec<Place>> = HashMap::new();
        let mut watermark = i64::MIN;
        for (number, batch) in load.batches().iter().enumerate() {
            for row in 0..batch.len() {
                let ts = batch.ts_event[row];
                let start = view.window.start_of(ts);
                if let Some(start) = start
                    && view.window.end_of(start).saturating_add(view.lateness.allowed_ns)
                        > watermark
                {
                    let place = (ts, batch.sequence[row], number as u32, row as u32);
                    windows.entry((batch.key_of(row).clone(), start)).or_default().push(place);
                }
                watermark = watermark.max(ts);
            }
        }
        let closes = super::closing_ns(view);
        windows.retain(|(_, start), _| {
            view.window.end_of(*start).saturating_add(closes) <= load.greatest()
        });
        windows.values_mut().for_each(|places| places.sort_unstable());
        Self { view, load, factors, windows }
    }

    /// Windows that must come.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Compares the newest version of each window.
    pub fn compare(&self, rows: &[WindowRow]) -> Compared {
        let known = |aggregate| !matches!(self.value(aggregate, &[]), Known::No);
        let columns = &self.view.aggregates;
        let mut compared = Compared { expected: self.len(), ..Compared::default() };
        compared.unchecked = match &self.view.filter {
            Some(_) => columns.iter().map(|named| named.name.clone()).collect(),
            None => columns
                .iter()
                .filter(|named| !known(named.aggregate))
                .map(|named| named.name.clone())
                .collect(),
        };
        let mut found = 0;
        for row in rows {
            let Some(places) = self.windows.get(&(row.key.clone(), row.window_start)) else {
                compared.note(format!("{} at {}: not expected", row.key, row.window_start));
                continue;
            };
            found += 1;
            if self.view.filter.is_some() {
                continue;
            }
            let differing = columns.iter().zip(&row.values).find_map(|(named, &value)| match self
                .value(named.aggregate, places)
            {
                Known::Is(expected) if expected != value => Some(format!(
                    "{} at {}: {} is {value:?}, not {expected:?}",
                    row.key, row.window_start, named.name
                )),
                _ => None,
            });
            if let Some(text) = differing {
                compared.note(text);
            }
        }
        compared.missing = self.len() - found.min(self.len());
        compared
    }

    fn value(&self, aggregate: Aggregate, places: &[Place]) -> Known {
        let ticks = || {
            let batches = self.load.batches();
            places.iter().map(move |&(_, _, batch, row)| (&batches[batch as usize], row as usize))
        };
        let of = |column: usize| ticks().filter_map(move |tick| cell(tick, column));
        let integer = |value: Option<i64>| {
            Known::Is(value.map_or(Value::Null, |value| Value::Integer(i128::from(value))))
        };
        let pairs = |price, size| {
            ticks().filter_map(move |tick| {
                Some((i128::from(cell(tick, price)?), i128::from(cell(tick, size)?)))
            })
        };
        match aggregate {
            Aggregate::Count => Known::Is(Value::Integer(places.len() as i128)),
            Aggregate::CountOf(column) => Known::Is(Value::Integer(of(column).count() as i128)),
            Aggregate::First(column) => integer(of(column).next()),
            Aggregate::Last(column) => integer(of(column).next_back()),
            Aggregate::Min(column) => integer(of(column).min()),
            Aggregate::Max(column) => integer(of(column).max()),
            Aggregate::Sum(column) => {
                let any = of(column).next().is_some();
                let sum = of(column).map(i128::from).sum();
                Known::Is(if any { Value::Integer(sum) } else { Value::Null })
            }
            Aggregate::Notional { price, size } => {
                let any = pairs(price, size).next().is_some();
                let sum = pairs(price, size).map(|(price, size)| price * size).sum();
                Known::Is(if any { Value::Integer(sum) } else { Value::Null })
            }
            Aggregate::Vwap { price, size } => {
                let notional: i128 = pairs(price, size).map(|(price, size)| price * size).sum();
                let volume: i128 = pairs(price, size).map(|(_, size)| size).sum();
                // Both at the same scale once the price's factor is on the other side.
                let below = volume * i128::from(self.factors.get(price).copied().unwrap_or(1));
                match below {
                    0 => Known::Is(Value::Null),
                    _ if notional.abs() < EXACT && below.abs() < EXACT => {
                        Known::Is(Value::Float(notional as f64 / below as f64))
                    }
                    _ => Known::TooWide,
                }
            }
            Aggregate::Mean(_)
            | Aggregate::Var(_)
            | Aggregate::Stddev(_)
            | Aggregate::Quantile { .. }
            | Aggregate::ApproxQuantile { .. } => Known::No,
        }
    }
}

impl Compared {
    fn note(&mut self, text: String) {
        self.wrong += 1;
        self.first.get_or_insert(text);
    }

    /// Whether everything came and nothing was wrong.
    pub fn right(&self) -> bool {
        self.missing == 0 && self.wrong == 0
    }
}

enum Known {
    Is(Value),
    /// A quotient whose parts have more than 53 bits.
    TooWide,
    /// An aggregate that this reference does not compute.
    No,
}

fn cell((ticks, row): (&Ticks, usize), column: usize) -> Option<i64> {
    ticks.values.get(column)?.get(row)
}
