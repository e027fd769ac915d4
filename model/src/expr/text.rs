//! The canonical text of a filter.

use super::lexer::{quote_name, quote_text};
use super::{Comparison, Expr};
use crate::schema::StreamSchema;
use crate::units::format_scaled;

/// A literal that no 64-bit value at any scale reaches: constants are written as a comparison
/// with it.
const BEYOND: &str = "1e99";

pub(super) fn of(expr: &Expr, schema: &StreamSchema) -> String {
    let value = |column: usize| quote_name(&schema.columns[column].name);
    let key = |key: usize| quote_name(&schema.keys[key]);
    let scaled = |column: usize, value: i128| format_scaled(value, schema.columns[column].scale);
    match expr {
        // `and` binds tighter than `or`, both to the left: just the parentheses that the parser
        // needs to build the same tree.
        Expr::And(left, right) => {
            let right_grouped = matches!(**right, Expr::And(..) | Expr::Or(..));
            let left = group(left, matches!(**left, Expr::Or(..)), schema);
            format!("{left} and {}", group(right, right_grouped, schema))
        }
        Expr::Or(left, right) => {
            let right = group(right, matches!(**right, Expr::Or(..)), schema);
            format!("{} or {right}", of(left, schema))
        }
        Expr::Not(inner) => {
            let grouped = matches!(**inner, Expr::And(..) | Expr::Or(..));
            format!("not {}", group(inner, grouped, schema))
        }
        Expr::Compare(column, comparison, literal) => {
            compare(&value(*column), *comparison, &scaled(*column, *literal))
        }
        Expr::CompareColumns((left, _), comparison, (right, _)) => {
            compare(&value(*left), *comparison, &value(*right))
        }
        Expr::CompareTime(comparison, ns) => {
            compare(&quote_name(&schema.time), *comparison, &ns.to_string())
        }
        Expr::CompareKey(index, comparison, text) => {
            compare(&key(*index), *comparison, &quote_text(text))
        }
        Expr::In(column, literals) => {
            let literals: Vec<_> =
                literals.iter().map(|&literal| scaled(*column, literal.into())).collect();
            format!("{} in ({})", value(*column), literals.join(", "))
        }
        Expr::KeyIn(index, texts) => {
            let texts: Vec<_> = texts.iter().map(|text| quote_text(text)).collect();
            format!("{} in ({})", key(*index), texts.join(", "))
        }
        Expr::IsNull(column, true) => format!("{} is null", value(*column)),
        Expr::IsNull(column, false) => format!("{} is not null", value(*column)),
        Expr::Constant(None, holds) => holds.to_string(),
        Expr::Constant(Some(column), true) => compare(&value(*column), Comparison::Lt, BEYOND),
        Expr::Constant(Some(column), false) => compare(&value(*column), Comparison::Gt, BEYOND),
    }
}

fn group(expr: &Expr, grouped: bool, schema: &StreamSchema) -> String {
    match grouped {
        true => format!("({})", of(expr, schema)),
        false => of(expr, schema),
    }
}

fn compare(left: &str, comparison: Comparison, right: &str) -> String {
    format!("{left} {} {right}", comparison.symbol())
}
