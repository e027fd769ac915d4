//! Filters over columns: three-valued logic, a column at a time.

use std::cmp::Ordering;

use arrow_buffer::BooleanBuffer;
use isotick_model::expr::{Comparison, Expr};
use isotick_model::{Key, Ticks, ValueColumn};

/// The rows for which a filter is true (false and null do not pass).
///
/// # Panics
/// When a column that the filter reads is absent, or the filter is not of the ticks' schema.
pub fn passing(expr: &Expr, ticks: &Ticks) -> BooleanBuffer {
    evaluate(expr, ticks).yes
}

/// The value columns that a filter reads, ascending.
pub fn columns(expr: &Expr) -> Vec<usize> {
    let mut columns = Vec::new();
    collect_columns(expr, &mut columns);
    columns.sort_unstable();
    columns.dedup();
    columns
}

fn collect_columns(expr: &Expr, columns: &mut Vec<usize>) {
    match expr {
        Expr::And(a, b) | Expr::Or(a, b) => {
            collect_columns(a, columns);
            collect_columns(b, columns);
        }
        Expr::Not(a) => collect_columns(a, columns),
        Expr::Compare(column, ..)
        | Expr::In(column, _)
        | Expr::IsNull(column, _)
        | Expr::Constant(Some(column), _) => columns.push(*column),
        Expr::CompareColumns((a, _), _, (b, _)) => columns.extend([*a, *b]),
        Expr::CompareTime(..)
        | Expr::CompareKey(..)
        | Expr::KeyIn(..)
        | Expr::Constant(None, _) => {}
    }
}

/// Rows where an expression is true and where it is false; where neither, it is null.
struct Outcome {
    yes: BooleanBuffer,
    no: BooleanBuffer,
}

impl Outcome {
    /// From rows that compare true, among those that are not null in any of the columns.
    fn known<const N: usize>(yes: BooleanBuffer, columns: [&ValueColumn; N]) -> Self {
        let mut valid: Option<BooleanBuffer> = None;
        for nulls in columns.iter().filter_map(|column| column.nulls.as_ref()) {
            valid = Some(match valid {
                Some(valid) => &valid & nulls.inner(),
                None => nulls.inner().clone(),
            });
        }
        match valid {
            Some(valid) => Self { no: &!&yes & &valid, yes: &yes & &valid },
            None => Self { no: !&yes, yes },
        }
    }
}

fn evaluate(expr: &Expr, ticks: &Ticks) -> Outcome {
    let rows = ticks.len();
    match expr {
        Expr::And(a, b) => {
            let (a, b) = (evaluate(a, ticks), evaluate(b, ticks));
            Outcome { yes: &a.yes & &b.yes, no: &a.no | &b.no }
        }
        Expr::Or(a, b) => {
            let (a, b) = (evaluate(a, ticks), evaluate(b, ticks));
            Outcome { yes: &a.yes | &b.yes, no: &a.no & &b.no }
        }
        Expr::Not(a) => {
            let a = evaluate(a, ticks);
            Outcome { yes: a.no, no: a.yes }
        }
        Expr::Compare(column, comparison, literal) => {
            let column = column_of(ticks, *column);
            Outcome::known(compare_literal(&column.values, *comparison, *literal), [column])
        }
        Expr::CompareColumns((a, a_digits), comparison, (b, b_digits)) => {
            let (a, b) = (column_of(ticks, *a), column_of(ticks, *b));
            // |i64| · 10^18 < 2^63 · 2^60, far inside 128 bits; scales end at 18 digits.
            let (a_factor, b_factor) = (factor(*a_digits), factor(*b_digits));
            let yes = BooleanBuffer::collect_bool(rows, |row| {
                let left = i128::from(a.values[row]) * a_factor;
                comparison.holds(left.cmp(&(i128::from(b.values[row]) * b_factor)))
            });
            Outcome::known(yes, [a, b])
        }
        Expr::CompareTime(comparison, literal) => {
            Outcome::known(compare_literal(&ticks.ts_event, *comparison, *literal), [])
        }
        Expr::CompareKey(component, comparison, text) => {
            let holds = |key: &Key| comparison.holds(component_of(key, *component).cmp(text));
            Outcome::known(by_key(ticks, holds), [])
        }
        Expr::KeyIn(component, texts) => {
            let holds = |key: &Key| texts.binary_search(&component_of(key, *component)).is_ok();
            Outcome::known(by_key(ticks, holds), [])
        }
        Expr::In(column, literals) => {
            let column = column_of(ticks, *column);
            let yes = BooleanBuffer::collect_bool(rows, |row| {
                literals.binary_search(&column.values[row]).is_ok()
            });
            Outcome::known(yes, [column])
        }
        Expr::IsNull(column, wanted) => {
            let yes = match &column_of(ticks, *column).nulls {
                Some(nulls) if *wanted => !nulls.inner(),
                Some(nulls) => nulls.inner().clone(),
                None => constant(rows, !*wanted),
            };
            Outcome::known(yes, [])
        }
        Expr::Constant(column, value) => match column {
            Some(column) => Outcome::known(constant(rows, *value), [column_of(ticks, *column)]),
            None => Outcome::known(constant(rows, *value), []),
        },
    }
}

fn constant(rows: usize, value: bool) -> BooleanBuffer {
    if value { BooleanBuffer::new_set(rows) } else { BooleanBuffer::new_unset(rows) }
}

fn factor(digits: u8) -> i128 {
    assert!(digits <= 18, "a filter aligns two columns by at most 18 digits, not {digits}");
    10_i128.pow(u32::from(digits))
}

fn column_of(ticks: &Ticks, column: usize) -> &ValueColumn {
    let values = &ticks.values[column];
    assert_eq!(values.values.len(), ticks.len(), "value column {column} of a filter was not read");
    values
}

fn component_of(key: &Key, component: usize) -> String {
    key.components().swap_remove(component)
}

/// Evaluates once per key, or once per key that occurs where there are more keys than rows.
fn by_key(ticks: &Ticks, holds: impl Fn(&Key) -> bool) -> BooleanBuffer {
    let codes = &ticks.key;
    if ticks.keys.len() <= ticks.len() {
        let known: Vec<bool> = ticks.keys.iter().map(holds).collect();
        return BooleanBuffer::collect_bool(codes.len(), |row| known[codes[row] as usize]);
    }
    let mut known = vec![None; ticks.keys.len()];
    BooleanBuffer::collect_bool(codes.len(), |row| {
        let key = codes[row] as usize;
        *known[key].get_or_insert_with(|| holds(&ticks.keys[key]))
    })
}

fn compare_literal(values: &[i64], comparison: Comparison, literal: i128) -> BooleanBuffer {
    let rows = values.len();
    let literal = match i64::try_from(literal) {
        Ok(literal) => literal,
        // Every value lies on the same side of such a literal.
        Err(_) => {
            let ordering = if literal > 0 { Ordering::Less } else { Ordering::Greater };
            return constant(rows, comparison.holds(ordering));
        }
    };
    match comparison {
        Comparison::Eq => each(values, |value| value == literal),
        Comparison::Ne => each(values, |value| value != literal),
        Comparison::Lt => each(values, |value| value < literal),
        Comparison::Le => each(values, |value| value <= literal),
        Comparison::Gt => each(values, |value| value > literal),
        Comparison::Ge => each(values, |value| value >= literal),
    }
}

/// Whether each value is one of those that count. Whole words are made in loops of a known length,
/// which compare several values at a time.
fn each(values: &[i64], counts: impl Fn(i64) -> bool) -> BooleanBuffer {
    let word = |values: &[i64]| {
        let bits = values.iter().enumerate();
        bits.fold(0, |word, (bit, &value)| word | u64::from(counts(value)) << bit)
    };
    let (whole, rest) = values.as_chunks::<64>();
    let words = whole.iter().map(|values| word(values));
    let words: Vec<u64> = words.chain((!rest.is_empty()).then(|| word(rest))).collect();
    BooleanBuffer::new(words.into(), 0, values.len())
}

#[cfg(test)]
mod tests;
