//! Filters: comparisons over value and key columns with `and`, `or`, `not`, `in`.
//!
//! [`Expr::parse`] reads text against a stream's schema; [`Expr::to_text`] writes it back.

use std::collections::BTreeSet;

use crate::error::ExprError;
use crate::schema::StreamSchema;

pub(crate) mod lexer;
mod parser;
mod text;

/// A filter with names resolved and literals exact. Comparisons with null are null; `and`, `or`,
/// `not` follow three-valued logic; a tick passes iff the result is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Both.
    And(Box<Expr>, Box<Expr>),
    /// Either.
    Or(Box<Expr>, Box<Expr>),
    /// Not.
    Not(Box<Expr>),
    /// A value column compared with an integer at the column's own scale. (A literal with more
    /// digits than the scale is resolved to an equivalent comparison, or to [`Expr::Constant`].)
    Compare(usize, Comparison, i128),
    /// Two value columns compared as numbers; each side is multiplied by its power of ten first,
    /// so that both stand at one scale.
    CompareColumns((usize, u8), Comparison, (usize, u8)),
    /// The event time compared with nanoseconds UTC.
    CompareTime(Comparison, i128),
    /// A key component compared, by bytes, with text.
    CompareKey(usize, Comparison, String),
    /// A value column equals one of these integers at its scale (sorted).
    In(usize, Vec<i64>),
    /// A key component equals one of these texts (sorted).
    KeyIn(usize, Vec<String>),
    /// A value column is null; with the flag false: is not null.
    IsNull(usize, bool),
    /// The constant, true where the column (if any) is not null, else null: what a comparison
    /// with an unrepresentable literal comes to.
    Constant(Option<usize>, bool),
}

impl Expr {
    /// Reads a filter such as `price >= 1.5 and (symbol in ('A', 'B') or side is null)`.
    ///
    /// Literals are exact at any length; times are quoted RFC 3339 or integer nanoseconds; names
    /// that are no plain words stand between backticks.
    ///
    /// # Errors
    ///
    /// An [`ExprError`] with the byte where the trouble is.
    pub fn parse(text: &str, schema: &StreamSchema) -> Result<Self, ExprError> {
        parser::parse(text, schema)
    }

    /// The canonical text: [`parse`](Self::parse) of it, against the same schema, is `self`.
    ///
    /// # Panics
    ///
    /// When the expression was resolved against another schema and names columns that `schema`
    /// does not have.
    pub fn to_text(&self, schema: &StreamSchema) -> String {
        text::of(self, schema)
    }

    /// The value columns it reads: indices into the stream's columns, each once, ascending.
    pub fn columns(&self) -> Vec<usize> {
        let mut columns = BTreeSet::new();
        self.collect_columns(&mut columns);
        columns.into_iter().collect()
    }

    /// Whether it reads the event time.
    pub fn reads_time(&self) -> bool {
        match self {
            Self::And(left, right) | Self::Or(left, right) => {
                left.reads_time() || right.reads_time()
            }
            Self::Not(inner) => inner.reads_time(),
            Self::CompareTime(..) => true,
            _ => false,
        }
    }

    fn collect_columns(&self, columns: &mut BTreeSet<usize>) {
        match self {
            Self::And(left, right) | Self::Or(left, right) => {
                left.collect_columns(columns);
                right.collect_columns(columns);
            }
            Self::Not(inner) => inner.collect_columns(columns),
            Self::Compare(column, ..)
            | Self::In(column, _)
            | Self::IsNull(column, _)
            | Self::Constant(Some(column), _) => {
                columns.insert(*column);
            }
            Self::CompareColumns((left, _), _, (right, _)) => {
                columns.extend([*left, *right]);
            }
            Self::CompareTime(..)
            | Self::CompareKey(..)
            | Self::KeyIn(..)
            | Self::Constant(None, _) => {}
        }
    }
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl Comparison {
    /// Whether the comparison holds for this ordering of left to right.
    pub fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Eq => ordering.is_eq(),
            Self::Ne => ordering.is_ne(),
            Self::Lt => ordering.is_lt(),
            Self::Le => ordering.is_le(),
            Self::Gt => ordering.is_gt(),
            Self::Ge => ordering.is_ge(),
        }
    }

    /// The comparison with its sides exchanged.
    pub fn flipped(self) -> Self {
        match self {
            Self::Eq | Self::Ne => self,
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
        }
    }

    /// The operator as written in filters.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }
}

#[cfg(test)]
mod tests;
