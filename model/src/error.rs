//! What goes wrong with text that people write: times, durations, filters, definitions.

use std::fmt;

use thiserror::Error;

use crate::quantile::Quantile;

/// A time or time unit that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TimeError {
    /// Not one of the accepted forms.
    #[error(
        "`{text}` is no time: write RFC 3339 (2024-01-02T09:30:00Z), a date (2024-01-02) or \
         nanoseconds since 1970 (1704187800000000000)"
    )]
    Malformed {
        /// What was given.
        text: String,
    },
    /// No 64-bit nanosecond count.
    #[error("`{text}` is out of range: times go from 1677-09-21 to 2262-04-11")]
    OutOfRange {
        /// What was given.
        text: String,
    },
    /// Not a unit.
    #[error("`{text}` is no time unit: write s, ms, us or ns")]
    Unit {
        /// What was given.
        text: String,
    },
}

/// A duration that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not whole numbers with units.
    #[error(
        "`{text}` is no duration: write whole numbers with units (w d h m s ms us ns), such as \
         1s, 50ms or 1h30m"
    )]
    Malformed {
        /// What was given.
        text: String,
    },
    /// Below zero.
    #[error("`{text}` is negative: durations start at 0s")]
    Negative {
        /// What was given.
        text: String,
    },
    /// No 64-bit nanosecond count.
    #[error("`{text}` is too long: durations end at 292 years")]
    OutOfRange {
        /// What was given.
        text: String,
    },
}

/// A filter that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("at byte {offset}: {problem}")]
pub struct ExprError {
    /// Where in the text, in bytes from its start.
    pub offset: usize,
    /// What is wrong there.
    pub problem: ExprProblem,
}

/// What is wrong with a filter or an aggregate's text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExprProblem {
    /// A character that starts nothing.
    #[error("`{found}` has no meaning here; names with such characters stand between backticks")]
    Character {
        /// The character.
        found: char,
    },
    /// A quote without its end.
    #[error("the quote {quote} has no end")]
    Unterminated {
        /// The quote character.
        quote: char,
    },
    /// A number that is none.
    #[error("`{text}` is no number")]
    Number {
        /// What was given.
        text: String,
    },
    /// Something else was expected.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What could stand here.
        expected: &'static str,
        /// What stands here.
        found: String,
    },
    /// A name that the stream does not have.
    #[error("unknown column \"{name}\"; the stream has {existing}")]
    UnknownColumn {
        /// The name.
        name: String,
        /// The stream's columns.
        existing: String,
    },
    /// A key column meets a number.
    #[error("the key column \"{key}\" is text: write it in quotes, '{found}'")]
    KeyNeedsText {
        /// The key column.
        key: String,
        /// What it was compared with.
        found: String,
    },
    /// A value column meets text.
    #[error("the column \"{column}\" is a number; '{found}' is text")]
    ValueNeedsNumber {
        /// The value column.
        column: String,
        /// What it was compared with.
        found: String,
    },
    /// The time column meets text that is no time.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// Two literals, or columns of different kinds.
    #[error(
        "{left} and {right} cannot be compared; compare a column with a literal, or two value columns"
    )]
    NotComparable {
        /// The left side.
        left: String,
        /// The right side.
        right: String,
    },
    /// A null test of a column that has no nulls.
    #[error("\"{name}\" is never null: only value columns can be")]
    NeverNull {
        /// The column.
        name: String,
    },
    /// Too many parentheses or comparisons.
    #[error("the filter is too large: at most {limit} {what}")]
    TooLarge {
        /// How many are allowed.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
}

/// A definition that cannot be read, with the line it stands on. The message is
/// `file:line:column: problem`, then the line with a caret below.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct DefinitionError {
    /// The file's name as given.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters are at fault, at least 1.
    pub width: usize,
    /// The line's text.
    pub source_line: String,
    /// What is wrong.
    pub problem: Box<DefinitionProblem>,
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, width, source_line, problem } = self;
        let margin = " ".repeat(line.to_string().len());
        // Tabs stay tabs below the line, so that the caret stands under its place.
        let indent = source_line.chars().take(column - 1);
        let indent: String = indent.map(|c| if c == '\t' { c } else { ' ' }).collect();
        writeln!(f, "{file}:{line}:{column}: {problem}")?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{line} | {source_line}")?;
        write!(f, "{margin} | {indent}{}", "^".repeat(*width))
    }
}

/// What is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DefinitionProblem {
    /// The file is no TOML; a table or field given twice is one such case.
    #[error("{message}")]
    Toml {
        /// The TOML parser's words.
        message: String,
    },
    /// A field that means nothing.
    #[error("unknown field `{field}` in {place}; the fields are {known}")]
    UnknownField {
        /// The field.
        field: String,
        /// In what.
        place: String,
        /// The fields there are.
        known: String,
    },
    /// A field that must be there is not.
    #[error("{place} has no `{field}`: add {example}")]
    MissingField {
        /// The field.
        field: &'static str,
        /// In what.
        place: String,
        /// What it could be.
        example: &'static str,
    },
    /// A closed set of keys that does not fit its stream.
    #[error("`keys_allowed` {reason}")]
    KeysAllowed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A text that is no number of bytes.
    #[error("{what}")]
    Size {
        /// What is expected.
        what: String,
    },
    /// A value of another kind.
    #[error("`{field}` is {expected}, here stands a TOML {found}")]
    WrongType {
        /// The field.
        field: String,
        /// What is expected.
        expected: &'static str,
        /// The TOML type found.
        found: &'static str,
    },
    /// A stream's or view's name that could not name a folder.
    #[error(
        "`{name}` cannot name a {what}: names are 1 to 64 letters, digits, `_`, `-` or `.`, and \
         start with a letter, a digit or `_`"
    )]
    Name {
        /// `stream` or `view`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A column's name that is empty, too long or not printable.
    #[error("`{name}` cannot name a column: names are 1 to 256 bytes without control characters")]
    ColumnName {
        /// The name, escaped.
        name: String,
    },
    /// One name for two columns of a stream.
    #[error("the name \"{name}\" is taken: it is the {first} and the {second}; rename one of them")]
    ColumnClash {
        /// The name.
        name: String,
        /// What it is.
        first: &'static str,
        /// What it is, too.
        second: &'static str,
    },
    /// A scale out of range.
    #[error("scale {found} is impossible: a scale is a whole number of digits from 0 to 18")]
    Scale {
        /// What was given.
        found: String,
    },
    /// A bound that is no value of its column.
    #[error("`{bound}` is {text}, {reason}")]
    Bound {
        /// `min` or `max`.
        bound: &'static str,
        /// What was given.
        text: String,
        /// Why not.
        reason: String,
    },
    /// No value lies between the bounds.
    #[error("`min` {min} is above `max` {max}: exchange them")]
    MinAboveMax {
        /// The least value.
        min: String,
        /// The greatest value.
        max: String,
    },
    /// A word that is none of the choices.
    #[error("`{field}` is one of {known}; `{found}` is none of them")]
    Choice {
        /// The field.
        field: &'static str,
        /// What was given.
        found: String,
        /// The choices.
        known: &'static str,
    },
    /// A view of a stream that is not declared.
    #[error("unknown stream \"{name}\"; there is {existing}")]
    UnknownStream {
        /// The name.
        name: String,
        /// The declared streams.
        existing: String,
    },
    /// A window without extent.
    #[error("a window of {found} holds nothing: its width is at least 1ns")]
    Width {
        /// What was given.
        found: String,
    },
    /// A bad duration.
    #[error(transparent)]
    Duration(#[from] DurationError),
    /// A bad time.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// A bad filter, or an aggregate's text that cannot be read.
    #[error(transparent)]
    Expr(#[from] ExprProblem),
    /// A view that computes nothing.
    #[error("the view \"{view}\" has no aggregates: add some, such as \"count()\"")]
    NoAggregates {
        /// The view.
        view: String,
    },
    /// An aggregate that does not exist.
    #[error("unknown aggregate `{name}`; there are {known}")]
    UnknownAggregate {
        /// The name.
        name: String,
        /// All aggregates.
        known: &'static str,
    },
    /// Too many or too few arguments for an aggregate.
    #[error("`{name}` takes {expected}, here are {found}: write {example}")]
    Arguments {
        /// The aggregate.
        name: String,
        /// What it takes.
        expected: &'static str,
        /// How many there are.
        found: usize,
        /// A good one.
        example: &'static str,
    },
    /// A number that is no quantile.
    #[error(
        "`{text}` is no quantile: write a decimal above 0 and at most 1, such as 0.5 for the \
         median or 0.99"
    )]
    Quantile {
        /// What was written.
        text: String,
    },
    /// A quantile that is too fine.
    #[error("the quantile `{text}` has more than 9 digits after the point: round it")]
    QuantileDigits {
        /// What was written.
        text: String,
    },
    /// A notional whose scale has no 64-bit power of ten.
    #[error(
        "the scales of {} and {} add up to more than 18 digits, which is what a notional can have",
        .columns[0], .columns[1]
    )]
    NotionalScale {
        /// The columns.
        columns: [String; 2],
    },
    /// A notional of two columns that may be null.
    #[error(
        "`notional` needs {} or {} in every tick: take `optional` off one of them",
        .columns[0], .columns[1]
    )]
    NotionalOptional {
        /// The columns.
        columns: [String; 2],
    },
    /// A notional that might not fit.
    #[error(
        "`notional` is exact in 38 digits, which is certain only within bounds: give {} and {} a \
         `min` and a `max`, as in `price = {{ scale = 4, min = 0, max = \"1000000\" }}`, so that \
         10^12 times the largest product stays below 10^38",
        .columns[0], .columns[1]
    )]
    NotionalBounds {
        /// The columns.
        columns: [String; 2],
    },
    /// A quantile that stands twice in one aggregate.
    #[error("the quantile {q} stands twice in `{name}`: leave one out")]
    QuantileTwice {
        /// The aggregate.
        name: String,
        /// The quantile.
        q: Quantile,
    },
    /// An aggregate over the key or the time.
    #[error(
        "`{name}` needs a value column, \"{column}\" is a {kind}; the value columns are {existing}"
    )]
    NotAValue {
        /// The aggregate.
        name: String,
        /// The column.
        column: String,
        /// `key column` or `time column`.
        kind: &'static str,
        /// The stream's value columns.
        existing: String,
    },
    /// Two output columns of one name.
    #[error("the output \"{name}\" clashes with {with}: name this aggregate, as in \"{example}\"")]
    OutputClash {
        /// The output's name.
        name: String,
        /// What has that name.
        with: &'static str,
        /// How to name it.
        example: String,
    },
}

/// A stream or view that is not defined.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown {what} \"{name}\"; {existing}")]
pub struct UnknownName {
    /// `stream` or `view`.
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// `there is a, b` or `none is defined`.
    pub existing: String,
}

/// A change of definitions that stored ticks do not follow.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EvolutionError {
    /// Something that stored ticks depend on changed.
    #[error(
        "stream \"{stream}\": {what} was {old} and is {new} now, but stored ticks keep the old \
         one: restore it, or declare a new stream beside the old one"
    )]
    Changed {
        /// The stream.
        stream: String,
        /// What changed.
        what: String,
        /// As it was.
        old: String,
        /// As it is.
        new: String,
    },
    /// A column is gone.
    #[error(
        "stream \"{stream}\": the column \"{column}\" ({old}) is missing now, but stored ticks \
         have it: restore it"
    )]
    Removed {
        /// The stream.
        stream: String,
        /// The column.
        column: String,
        /// As it was.
        old: String,
    },
    /// A new column that stored ticks cannot have.
    #[error(
        "stream \"{stream}\": the new column \"{column}\" ({new}) is not optional, but stored \
         ticks have no value for it: add `optional = true`"
    )]
    Required {
        /// The stream.
        stream: String,
        /// The column.
        column: String,
        /// As it is.
        new: String,
    },
}
