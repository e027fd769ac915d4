//! From text to a filter with names resolved and literals exact.

use super::lexer::{Token, TokenKind, tokens};
use super::{Comparison, Expr};
use crate::error::{ExprError, ExprProblem};
use crate::schema::StreamSchema;
use crate::time::parse_time;
use crate::units::Decimal;

/// Bounds the recursion of everything that walks a filter.
const DEPTH_MAX: usize = 64;
const DEPTH_OF: &str = "levels of parentheses and `not`";
const COMPARISONS_MAX: usize = 1000;
const COMPARISONS_OF: &str = "comparisons";

pub(super) fn parse(text: &str, schema: &StreamSchema) -> Result<Expr, ExprError> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0, comparisons: 0, schema };
    let expr = parser.or()?;
    match parser.peek() {
        TokenKind::End => Ok(expr),
        _ => Err(parser.expected("`and`, `or` or the end")),
    }
}

struct Parser<'a> {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    comparisons: usize,
    schema: &'a StreamSchema,
}

/// One side of a comparison.
enum Operand {
    Value(usize),
    Key(usize),
    Time,
    Literal(Literal),
}

enum Literal {
    Number(Decimal, String),
    Text(String),
}

/// A comparison of a 64-bit integer with an exact number.
enum Folded {
    With(Comparison, i64),
    Constant(bool),
}

impl Parser<'_> {
    fn or(&mut self) -> Result<Expr, ExprError> {
        let mut left = self.and()?;
        while self.take_keyword("or") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, ExprError> {
        let mut left = self.not()?;
        while self.take_keyword("and") {
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr, ExprError> {
        if self.depth == DEPTH_MAX {
            return Err(self.too_large(DEPTH_MAX, DEPTH_OF));
        }
        self.depth += 1;
        let expr = if self.take_keyword("not") {
            Expr::Not(Box::new(self.not()?))
        } else if self.take(&TokenKind::Open) {
            let inner = self.or()?;
            if !self.take(&TokenKind::Close) {
                return Err(self.expected("`)`, `and` or `or`"));
            }
            inner
        } else if self.take_keyword("true") {
            Expr::Constant(None, true)
        } else if self.take_keyword("false") {
            Expr::Constant(None, false)
        } else {
            self.predicate()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn predicate(&mut self) -> Result<Expr, ExprError> {
        self.comparisons += 1;
        if self.comparisons > COMPARISONS_MAX {
            return Err(self.too_large(COMPARISONS_MAX, COMPARISONS_OF));
        }
        let start = self.next;
        let left = self.operand()?;
        if let &TokenKind::Operator(comparison) = self.peek() {
            self.next += 1;
            let right_start = self.next;
            let right = self.operand()?;
            return self.compare(start, left, comparison, right_start, right);
        }
        if self.take_keyword("is") {
            let null = !self.take_keyword("not");
            if !self.take_keyword("null") {
                return Err(self.expected(if null { "`null` or `not null`" } else { "`null`" }));
            }
            return match left {
                Operand::Value(column) => Ok(Expr::IsNull(column, null)),
                _ => {
                    let name = self.named(start);
                    Err(self.error(start, ExprProblem::NeverNull { name }))
                }
            };
        }
        let negated = self.take_keyword("not");
        // The canonical text of `not in` and of times in a list nests two levels deeper.
        if self.depth + 2 > DEPTH_MAX {
            return Err(self.too_large(DEPTH_MAX, DEPTH_OF));
        }
        if !self.take_keyword("in") {
            return Err(self.expected(match negated {
                true => "`in`",
                false => "a comparison (= != < <= > >=), `in`, `not in` or `is null`",
            }));
        }
        let found = self.membership(start, left)?;
        Ok(if negated { Expr::Not(Box::new(found)) } else { found })
    }

    fn operand(&mut self) -> Result<Operand, ExprError> {
        let name = match self.peek() {
            TokenKind::Number(_) | TokenKind::Text(_) => {
                return self.literal().map(Operand::Literal);
            }
            TokenKind::Word(name) | TokenKind::Name(name) => name.clone(),
            _ => return Err(self.expected("a column or a literal")),
        };
        let operand = if let Some(column) = self.schema.column(&name) {
            Operand::Value(column)
        } else if let Some(key) = self.schema.key(&name) {
            Operand::Key(key)
        } else if self.schema.time == name {
            Operand::Time
        } else {
            let existing = existing(self.schema);
            return Err(self.error(self.next, ExprProblem::UnknownColumn { name, existing }));
        };
        self.next += 1;
        Ok(operand)
    }

    fn literal(&mut self) -> Result<Literal, ExprError> {
        let literal = match self.peek() {
            TokenKind::Text(text) => Literal::Text(text.clone()),
            TokenKind::Number(text) => match Decimal::parse(text.as_bytes()) {
                Some(decimal) => Literal::Number(decimal, text.clone()),
                None => {
                    let text = text.clone();
                    return Err(self.error(self.next, ExprProblem::Number { text }));
                }
            },
            _ => return Err(self.expected("a number or quoted text")),
        };
        self.next += 1;
        Ok(literal)
    }

    fn compare(
        &self,
        left_start: usize,
        left: Operand,
        comparison: Comparison,
        right_start: usize,
        right: Operand,
    ) -> Result<Expr, ExprError> {
        match (left, right) {
            (Operand::Value(left), Operand::Value(right)) => {
                let scales = [left, right].map(|column| self.schema.columns[column].scale.digits());
                let common = scales[0].max(scales[1]);
                Ok(Expr::CompareColumns(
                    (left, common - scales[0]),
                    comparison,
                    (right, common - scales[1]),
                ))
            }
            (Operand::Literal(_), Operand::Literal(_)) => {
                Err(self.not_comparable(left_start, right_start))
            }
            (column, Operand::Literal(literal)) => {
                self.compare_literal(column, comparison, right_start, literal)
            }
            (Operand::Literal(literal), column) => {
                self.compare_literal(column, comparison.flipped(), left_start, literal)
            }
            _ => Err(self.not_comparable(left_start, right_start)),
        }
    }

    fn compare_literal(
        &self,
        column: Operand,
        comparison: Comparison,
        at: usize,
        literal: Literal,
    ) -> Result<Expr, ExprError> {
        match column {
            Operand::Value(column) => {
                let decimal = self.number_for(column, at, literal)?;
                let digits = self.schema.columns[column].scale.digits();
                Ok(match fold(comparison, &decimal, digits) {
                    Folded::With(comparison, value) => {
                        Expr::Compare(column, comparison, value.into())
                    }
                    Folded::Constant(holds) => Expr::Constant(Some(column), holds),
                })
            }
            Operand::Key(key) => {
                Ok(Expr::CompareKey(key, comparison, self.text_for(key, at, literal)?))
            }
            Operand::Time => Ok(match self.fold_time(comparison, at, literal)? {
                Folded::With(comparison, ns) => Expr::CompareTime(comparison, ns.into()),
                Folded::Constant(holds) => Expr::Constant(None, holds),
            }),
            Operand::Literal(_) => unreachable!("literals were told from columns by the caller"),
        }
    }

    /// `left in (…)`.
    fn membership(&mut self, start: usize, left: Operand) -> Result<Expr, ExprError> {
        if !self.take(&TokenKind::Open) {
            return Err(self.expected("`(`"));
        }
        let mut literals = Vec::new();
        loop {
            let at = self.next;
            literals.push((at, self.literal()?));
            if self.take(&TokenKind::Close) {
                break;
            }
            if !self.take(&TokenKind::Comma) {
                return Err(self.expected("`,` or `)`"));
            }
        }
        match left {
            Operand::Value(column) => {
                let digits = self.schema.columns[column].scale.digits();
                let mut values = Vec::new();
                for (at, literal) in literals {
                    let decimal = self.number_for(column, at, literal)?;
                    if let Folded::With(_, value) = fold(Comparison::Eq, &decimal, digits) {
                        values.push(value);
                    }
                }
                values.sort_unstable();
                values.dedup();
                Ok(match values.is_empty() {
                    true => Expr::Constant(Some(column), false),
                    false => Expr::In(column, values),
                })
            }
            Operand::Key(key) => {
                let texts = literals.into_iter().map(|(at, text)| self.text_for(key, at, text));
                let mut texts = texts.collect::<Result<Vec<_>, _>>()?;
                texts.sort_unstable();
                texts.dedup();
                Ok(Expr::KeyIn(key, texts))
            }
            Operand::Time => {
                self.comparisons += literals.len() - 1;
                if self.comparisons > COMPARISONS_MAX {
                    return Err(self.too_large(COMPARISONS_MAX, COMPARISONS_OF));
                }
                let mut any = Expr::Constant(None, false);
                for (at, literal) in literals {
                    if let Folded::With(comparison, ns) =
                        self.fold_time(Comparison::Eq, at, literal)?
                    {
                        let equal = Expr::CompareTime(comparison, ns.into());
                        any = match any {
                            Expr::Constant(..) => equal,
                            any => Expr::Or(Box::new(any), Box::new(equal)),
                        };
                    }
                }
                Ok(any)
            }
            Operand::Literal(_) => {
                let found = self.tokens[start].kind.describe();
                let expected = "a column before `in`";
                Err(self.error(start, ExprProblem::Expected { expected, found }))
            }
        }
    }

    fn number_for(&self, column: usize, at: usize, literal: Literal) -> Result<Decimal, ExprError> {
        match literal {
            Literal::Number(decimal, _) => Ok(decimal),
            Literal::Text(found) => {
                let column = self.schema.columns[column].name.clone();
                Err(self.error(at, ExprProblem::ValueNeedsNumber { column, found }))
            }
        }
    }

    fn text_for(&self, key: usize, at: usize, literal: Literal) -> Result<String, ExprError> {
        match literal {
            Literal::Text(text) => Ok(text),
            Literal::Number(_, found) => {
                let key = self.schema.keys[key].clone();
                Err(self.error(at, ExprProblem::KeyNeedsText { key, found }))
            }
        }
    }

    fn fold_time(
        &self,
        comparison: Comparison,
        at: usize,
        literal: Literal,
    ) -> Result<Folded, ExprError> {
        match literal {
            Literal::Number(decimal, _) => Ok(fold(comparison, &decimal, 0)),
            Literal::Text(text) => match parse_time(&text) {
                Ok(ns) => Ok(Folded::With(comparison, ns)),
                Err(error) => Err(self.error(at, error.into())),
            },
        }
    }

    fn peek(&self) -> &TokenKind {
        &self.tokens[self.next].kind
    }

    fn take(&mut self, kind: &TokenKind) -> bool {
        let taken = self.peek() == kind;
        self.next += usize::from(taken);
        taken
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let taken =
            matches!(self.peek(), TokenKind::Word(word) if word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(taken);
        taken
    }

    /// The name at a token, without backticks.
    fn named(&self, token: usize) -> String {
        match &self.tokens[token].kind {
            TokenKind::Word(name) | TokenKind::Name(name) => name.clone(),
            other => other.describe(),
        }
    }

    fn error(&self, token: usize, problem: ExprProblem) -> ExprError {
        ExprError { offset: self.tokens[token].offset, problem }
    }

    fn expected(&self, expected: &'static str) -> ExprError {
        let found = self.peek().describe();
        self.error(self.next, ExprProblem::Expected { expected, found })
    }

    fn not_comparable(&self, left: usize, right: usize) -> ExprError {
        let [left_text, right_text] = [left, right].map(|at| self.tokens[at].kind.describe());
        let problem = ExprProblem::NotComparable { left: left_text, right: right_text };
        self.error(left, problem)
    }

    fn too_large(&self, limit: usize, what: &'static str) -> ExprError {
        self.error(self.next, ExprProblem::TooLarge { limit, what })
    }
}

/// What a filter can name: `price, size, symbol (key), ts (time)`.
fn existing(schema: &StreamSchema) -> String {
    let mut names: Vec<_> = schema.columns.iter().map(|column| column.name.clone()).collect();
    names.extend(schema.keys.iter().map(|key| format!("{key} (key)")));
    names.push(format!("{} (time)", schema.time));
    names.join(", ")
}

/// The comparison of an integer v at `digits` with an exact number, over integers: with f the
/// floor of the number at that scale and the number not an integer, v < number iff v ≤ f.
fn fold(comparison: Comparison, number: &Decimal, digits: u8) -> Folded {
    let (floor, exact) = floor_at(number, digits);
    let (comparison, bound) = match (comparison, exact) {
        (_, true) => (comparison, floor),
        (Comparison::Eq, false) => return Folded::Constant(false),
        (Comparison::Ne, false) => return Folded::Constant(true),
        (Comparison::Lt | Comparison::Le, false) => (Comparison::Le, floor),
        (Comparison::Gt | Comparison::Ge, false) => (Comparison::Ge, floor + 1),
    };
    match i64::try_from(bound) {
        Ok(bound) => Folded::With(comparison, bound),
        Err(_) => Folded::Constant(comparison.holds(0.cmp(&bound))),
    }
}

/// The floor of a number times ten to `digits`, and whether that was the number itself. Beyond
/// 30 digits the magnitude is cut to 10^30, which no 64-bit value reaches either.
fn floor_at(number: &Decimal, digits: u8) -> (i128, bool) {
    if number.digits.is_empty() {
        return (0, true);
    }
    let shift = number.exponent.saturating_add(digits.into());
    let whole_digits = shift.saturating_add(number.digits.len() as i64);
    let exact = shift >= 0;
    let magnitude = match whole_digits {
        ..=0 => 0,
        1..=30 => (0..whole_digits as usize).fold(0_i128, |value, place| {
            value * 10 + i128::from(number.digits.get(place).copied().unwrap_or(0))
        }),
        _ => 10_i128.pow(30),
    };
    let floor = if number.negative { -magnitude - i128::from(!exact) } else { magnitude };
    (floor, exact)
}
