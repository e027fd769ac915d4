//! The texts of aggregates: `vwap(price, size)`, `volume = sum(size)`, `quantile(size, 0.99)`.

use toml::de::DeValue;

use super::fields::{Fields, wrong_type};
use super::parser::is_column_name;
use crate::error::{DefinitionError, DefinitionProblem, ExprError, ExprProblem};
use crate::expr::Comparison;
use crate::expr::lexer::{Token, TokenKind, quote_name, tokens};
use crate::quantile::{Quantile, QuantileProblem};
use crate::schema::{Column, StreamSchema};
use crate::units::Scale;
use crate::view::{Aggregate, NamedAggregate, OutputType};

const KNOWN: &str = "count, sum, min, max, first, last, ohlc(price), mean, var, stddev, \
    vwap(price, size), notional(price, size), median, quantile(size, 0.5, 0.99), approx_quantile(size, 0.5, 0.99)";

/// Aggregates that take quantiles after their column.
const OF_QUANTILES: [&str; 2] = ["quantile", "approx_quantile"];

/// Digits of a wide result.
const DECIMAL_DIGITS: u32 = 38;

/// The results' own columns.
const RESERVED: [&str; 3] = ["window_start", "window_end", "version"];

/// The view's aggregates in the order written, their names checked against each other, the key
/// columns and the results' own columns.
pub(super) fn parse(
    fields: &Fields<'_>,
    schema: &StreamSchema,
) -> Result<Vec<NamedAggregate>, DefinitionError> {
    let value = fields.require("aggregates", "`aggregates = [\"count()\"]`")?;
    let DeValue::Array(items) = value.get_ref() else {
        return Err(wrong_type(fields.source, "aggregates", "a list of strings", value));
    };
    let mut aggregates: Vec<NamedAggregate> = Vec::new();
    for item in items {
        let text = fields.string("aggregates", item)?;
        let call = Call::parse(text.get_ref()).and_then(|call| Ok((call.resolve(schema)?, call)));
        let (named, call) = call.map_err(|Problem { offset, problem }| {
            fields.source.error(fields.source.inside(&text, offset), problem)
        })?;
        for aggregate in named {
            let with = if aggregates.iter().any(|other| other.name == aggregate.name) {
                "another output"
            } else if schema.keys.contains(&aggregate.name) {
                "a key column"
            } else if RESERVED.contains(&aggregate.name.as_str()) {
                "a column that every result has"
            } else {
                aggregates.push(aggregate);
                continue;
            };
            let free = call.name.as_ref().map_or("my".into(), |name| format!("{name}2"));
            let example = format!("{free} = {}", call.text());
            let name = aggregate.name;
            let problem = DefinitionProblem::OutputClash { name, with, example };
            return Err(fields.source.error(item.span(), problem));
        }
    }
    if aggregates.is_empty() {
        let view = fields.place.trim_start_matches("the view \"").trim_end_matches('"').into();
        return Err(fields.source.error(value.span(), DefinitionProblem::NoAggregates { view }));
    }
    Ok(aggregates)
}

/// The text of one resolved aggregate, name included.
pub(super) fn text(named: &NamedAggregate, schema: &StreamSchema) -> String {
    let function = match named.aggregate {
        Aggregate::Count | Aggregate::CountOf(_) => "count",
        Aggregate::Sum(_) => "sum",
        Aggregate::Min(_) => "min",
        Aggregate::Max(_) => "max",
        Aggregate::First(_) => "first",
        Aggregate::Last(_) => "last",
        Aggregate::Mean(_) => "mean",
        Aggregate::Var(_) => "var",
        Aggregate::Stddev(_) => "stddev",
        Aggregate::Vwap { .. } => "vwap",
        Aggregate::Notional { .. } => "notional",
        Aggregate::Quantile { .. } => "quantile",
        Aggregate::ApproxQuantile { .. } => "approx_quantile",
    };
    let columns = named.aggregate.columns().into_iter();
    let columns = columns.map(|column| quote_name(&schema.columns[column].name));
    let q = match named.aggregate {
        Aggregate::Quantile { q, .. } | Aggregate::ApproxQuantile { q, .. } => Some(q.to_string()),
        _ => None,
    };
    let arguments: Vec<_> = columns.chain(q).collect();
    format!("{} = {function}({})", quote_name(&named.name), arguments.join(", "))
}

/// What is wrong, and at which byte of the aggregate's text.
struct Problem {
    offset: usize,
    problem: DefinitionProblem,
}

impl From<ExprError> for Problem {
    fn from(error: ExprError) -> Self {
        Self { offset: error.offset, problem: error.problem.into() }
    }
}

/// `[name =] function([column {, column | quantile}])`, names not resolved yet.
struct Call {
    name: Option<String>,
    function: String,
    /// Column names and the bytes where they stand.
    columns: Vec<(String, usize)>,
    quantiles: Vec<Quantile>,
    /// The byte where the function stands.
    offset: usize,
}

impl Call {
    fn parse(text: &str) -> Result<Self, Problem> {
        let mut tokens = Cursor { tokens: tokens(text)?, next: 0 };
        let (mut function, mut offset) = tokens.name("an aggregate such as `sum(size)`")?;
        let mut name = None;
        if tokens.take(&TokenKind::Operator(Comparison::Eq)) {
            if !is_column_name(&function) {
                let problem = DefinitionProblem::ColumnName { name: function };
                return Err(Problem { offset, problem });
            }
            name = Some(function);
            (function, offset) = tokens.name("an aggregate such as `sum(size)`")?;
        }
        if !tokens.take(&TokenKind::Open) {
            return Err(tokens.expected("`(`"));
        }
        let (mut columns, mut quantiles) = (Vec::new(), Vec::new());
        let of_quantiles = OF_QUANTILES.contains(&function.as_str());
        if !tokens.take(&TokenKind::Close) {
            loop {
                if of_quantiles && !columns.is_empty() {
                    let (q, offset) = tokens.quantile()?;
                    if quantiles.contains(&q) {
                        let problem = DefinitionProblem::QuantileTwice { name: function, q };
                        return Err(Problem { offset, problem });
                    }
                    quantiles.push(q);
                } else {
                    columns.push(tokens.name("a column")?);
                }
                if tokens.take(&TokenKind::Close) {
                    break;
                }
                if !tokens.take(&TokenKind::Comma) {
                    return Err(tokens.expected("`,` or `)`"));
                }
            }
        }
        if !tokens.take(&TokenKind::End) {
            return Err(tokens.expected("the end"));
        }
        Ok(Self { name, function, columns, quantiles, offset })
    }

    /// The call without its name.
    fn text(&self) -> String {
        let columns = self.columns.iter().map(|(name, _)| quote_name(name));
        let arguments: Vec<_> =
            columns.chain(self.quantiles.iter().map(ToString::to_string)).collect();
        format!("{}({})", self.function, arguments.join(", "))
    }

    fn resolve(&self, schema: &StreamSchema) -> Result<Vec<NamedAggregate>, Problem> {
        let (arguments, expected, example) = match self.function.as_str() {
            "count" => (0..=1, "no column or one", "count() or count(price)"),
            "sum" | "min" | "max" | "first" | "last" | "mean" | "var" | "stddev" | "ohlc" => {
                (1..=1, "one column", "sum(size)")
            }
            "vwap" => (2..=2, "two columns", "vwap(price, size)"),
            "notional" => (2..=2, "two columns", "notional(price, size)"),
            "median" => (1..=1, "one column", "median(size)"),
            "quantile" => {
                (2..=usize::MAX, "a column, then one quantile or more", "quantile(size, 0.5, 0.99)")
            }
            "approx_quantile" => (
                2..=usize::MAX,
                "a column, then one quantile or more",
                "approx_quantile(size, 0.5, 0.99)",
            ),
            _ => {
                let name = self.function.clone();
                let problem = DefinitionProblem::UnknownAggregate { name, known: KNOWN };
                return Err(Problem { offset: self.offset, problem });
            }
        };
        let found = self.columns.len() + self.quantiles.len();
        if !arguments.contains(&found) {
            let name = self.function.clone();
            let problem = DefinitionProblem::Arguments { name, expected, found, example };
            return Err(Problem { offset: self.offset, problem });
        }
        let columns = self.columns.iter().map(|(name, offset)| self.value(schema, name, *offset));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let scaled = |column: usize| OutputType::Scaled(schema.columns[column].scale);
        let (aggregate, output) = match (self.function.as_str(), columns.as_slice()) {
            ("count", []) => (Aggregate::Count, OutputType::Count),
            ("count", &[column]) => (Aggregate::CountOf(column), OutputType::Count),
            ("sum", &[column]) => {
                (Aggregate::Sum(column), OutputType::ScaledWide(schema.columns[column].scale))
            }
            ("min", &[column]) => (Aggregate::Min(column), scaled(column)),
            ("max", &[column]) => (Aggregate::Max(column), scaled(column)),
            ("first", &[column]) => (Aggregate::First(column), scaled(column)),
            ("last", &[column]) => (Aggregate::Last(column), scaled(column)),
            ("mean", &[column]) => (Aggregate::Mean(column), OutputType::Float),
            ("var", &[column]) => (Aggregate::Var(column), OutputType::Float),
            ("stddev", &[column]) => (Aggregate::Stddev(column), OutputType::Float),
            ("vwap", &[price, size]) => (Aggregate::Vwap { price, size }, OutputType::Float),
            ("notional", &[price, size]) => {
                (Aggregate::Notional { price, size }, self.notional(schema, [price, size])?)
            }
            ("median", &[column]) => {
                (Aggregate::Quantile { column, q: Quantile::MEDIAN }, scaled(column))
            }
            ("quantile", &[column]) => {
                let of = |q| Aggregate::Quantile { column, q };
                return Ok(self.quantiles("", of, scaled(column)));
            }
            ("approx_quantile", &[column]) => {
                let of = |q| Aggregate::ApproxQuantile { column, q };
                return Ok(self.quantiles("approx_", of, scaled(column)));
            }
            (_, &[column]) => return Ok(self.ohlc(column, scaled(column))),
            _ => unreachable!("the number of columns was checked above"),
        };
        let name = self.name.clone().unwrap_or_else(|| {
            let columns = self.columns.iter().map(|(name, _)| name.as_str());
            [self.function.as_str()].into_iter().chain(columns).collect::<Vec<_>>().join("_")
        });
        Ok(vec![NamedAggregate { name, aggregate, output }])
    }

    /// What a notional comes out as, where it is exact whatever ticks come.
    fn notional(&self, schema: &StreamSchema, columns: [usize; 2]) -> Result<OutputType, Problem> {
        let [price, size] = columns.map(|column| &schema.columns[column]);
        let refused = |problem| Err(Problem { offset: self.offset, problem });
        let names = || [price, size].map(|column| column.name.clone());
        let Some(scale) = Scale::new(price.scale.digits() + size.scale.digits()) else {
            return refused(DefinitionProblem::NotionalScale { columns: names() });
        };
        if price.optional && size.optional && columns[0] != columns[1] {
            return refused(DefinitionProblem::NotionalOptional { columns: names() });
        }
        let magnitude =
            |column: &Column| u128::from(column.min.unsigned_abs().max(column.max.unsigned_abs()));
        let largest = magnitude(price) * magnitude(size);
        let sum = largest.checked_mul(Aggregate::NOTIONAL_TICKS.into());
        if sum.is_none_or(|sum| sum >= 10_u128.pow(DECIMAL_DIGITS)) {
            return refused(DefinitionProblem::NotionalBounds { columns: names() });
        }
        Ok(OutputType::ScaledWide(scale))
    }

    fn ohlc(&self, column: usize, output: OutputType) -> Vec<NamedAggregate> {
        let prefix = self.name.as_ref().map_or(String::new(), |name| format!("{name}_"));
        let parts = [
            ("open", Aggregate::First(column)),
            ("high", Aggregate::Max(column)),
            ("low", Aggregate::Min(column)),
            ("close", Aggregate::Last(column)),
        ];
        let named = parts.map(|(part, aggregate)| NamedAggregate {
            name: format!("{prefix}{part}"),
            aggregate,
            output,
        });
        named.into()
    }

    /// One output per q: `size_p50` after the column or, given a name and several, after that;
    /// one q with a name has the name itself.
    fn quantiles(
        &self,
        prefix: &str,
        of: impl Fn(Quantile) -> Aggregate,
        output: OutputType,
    ) -> Vec<NamedAggregate> {
        let named = |&q: &Quantile| {
            let name = match &self.name {
                Some(name) if self.quantiles.len() == 1 => name.clone(),
                Some(name) => format!("{name}_{}", q.label()),
                None => format!("{prefix}{}_{}", self.columns[0].0, q.label()),
            };
            NamedAggregate { name, aggregate: of(q), output }
        };
        self.quantiles.iter().map(named).collect()
    }

    fn value(&self, schema: &StreamSchema, name: &str, offset: usize) -> Result<usize, Problem> {
        if let Some(column) = schema.column(name) {
            return Ok(column);
        }
        let names: Vec<_> = schema.columns.iter().map(|column| column.name.as_str()).collect();
        let existing = if names.is_empty() { "none".into() } else { names.join(", ") };
        let kind = match () {
            () if schema.key(name).is_some() => "key column",
            () if schema.time == name => "time column",
            () => {
                let problem = ExprProblem::UnknownColumn { name: name.into(), existing }.into();
                return Err(Problem { offset, problem });
            }
        };
        let (name, column) = (self.function.clone(), name.into());
        let problem = DefinitionProblem::NotAValue { name, column, kind, existing };
        Err(Problem { offset, problem })
    }
}

struct Cursor {
    tokens: Vec<Token>,
    next: usize,
}

impl Cursor {
    fn peek(&self) -> &Token {
        &self.tokens[self.next]
    }

    fn take(&mut self, kind: &TokenKind) -> bool {
        let taken = self.peek().kind == *kind;
        // The end stays, so that there is always a token to look at.
        self.next += usize::from(taken && *kind != TokenKind::End);
        taken
    }

    fn name(&mut self, expected: &'static str) -> Result<(String, usize), Problem> {
        let Token { offset, kind: TokenKind::Word(name) | TokenKind::Name(name) } = self.peek()
        else {
            return Err(self.expected(expected));
        };
        let found = (name.clone(), *offset);
        self.next += 1;
        Ok(found)
    }

    fn quantile(&mut self) -> Result<(Quantile, usize), Problem> {
        let Token { offset, kind: TokenKind::Number(text) } = self.peek() else {
            return Err(self.expected("a quantile such as 0.99"));
        };
        let (offset, text) = (*offset, text.clone());
        let q = Quantile::parse(&text).map_err(|problem| Problem {
            offset,
            problem: match problem {
                QuantileProblem::NoNumber | QuantileProblem::Range => {
                    DefinitionProblem::Quantile { text }
                }
                QuantileProblem::Digits => DefinitionProblem::QuantileDigits { text },
            },
        })?;
        self.next += 1;
        Ok((q, offset))
    }

    fn expected(&self, expected: &'static str) -> Problem {
        let Token { offset, kind } = self.peek();
        let problem = ExprProblem::Expected { expected, found: kind.describe() }.into();
        Problem { offset: *offset, problem }
    }
}
