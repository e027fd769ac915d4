//! The plan of a view: which exact sums, extremes and ends its aggregates need, and which values
//! its quantiles are selected from.

use isotick_model::StreamSchema;
use isotick_model::view::{Aggregate, View};

use crate::grid::Grid;

/// One state in a partial. Column indices are those of the stream's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Term {
    /// Ticks. Words: the count.
    Rows,
    /// Values of a column that are not null. Words: the count.
    Count(usize),
    /// Σp. Words: 192-bit two's complement, low word first.
    Sum(usize),
    /// Σab over ticks that have both. Words: 192-bit two's complement, low word first.
    SumProduct(usize, usize),
    /// Σ`of` over ticks that also have `with`. Words: 192-bit two's complement, low word first.
    SumPaired {
        /// The column that is summed.
        of: usize,
        /// The column that must not be null either.
        with: usize,
    },
    /// The least value. Words: 1 when there is one, else 0; the value.
    Min(usize),
    /// The greatest value. Words: as for `Min`.
    Max(usize),
    /// The first value in canonical order. Words: 1 when there is one, else 0 and all words 0;
    /// ts_event; publisher code; sequence; value.
    First(usize),
    /// The last value in canonical order. Words: as for `First`.
    Last(usize),
}

impl Term {
    /// How many 64-bit words the state takes in a partial.
    pub const fn words(self) -> usize {
        match self {
            Self::Rows | Self::Count(_) => 1,
            Self::Sum(_) | Self::SumProduct(..) | Self::SumPaired { .. } => 3,
            Self::Min(_) | Self::Max(_) => 2,
            Self::First(_) | Self::Last(_) => 5,
        }
    }
}

/// A column's values, each with how often it occurs. Of no fixed size, so it is no part of a
/// partial: [`Windows`](crate::Windows) keeps these beside the words, whichever engine reduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValuesOf {
    /// The column.
    pub column: usize,
    /// As what values are kept.
    pub grid: Grid,
}

/// What a view's aggregates need, each term once, and where its words stand in a partial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    terms: Vec<(Term, usize)>,
    words: usize,
    values: Vec<ValuesOf>,
    /// Per column of the schema that was given, whether it is never null.
    required: Vec<bool>,
}

impl Plan {
    /// The plan of a view, whatever columns are null. [`Term::Rows`] always comes first.
    pub fn of(view: &View) -> Self {
        Self::of_view(view, Vec::new())
    }

    /// The plan of a view over a stream with this schema: a column that is not optional has as
    /// many values as there are rows, so that some terms are one.
    pub fn over(view: &View, schema: &StreamSchema) -> Self {
        Self::of_view(view, required(schema))
    }

    /// A plan of given terms over a stream with this schema.
    pub fn of_terms_over(terms: impl IntoIterator<Item = Term>, schema: &StreamSchema) -> Self {
        Self::with_required(terms, required(schema))
    }

    /// A plan of other terms over the same schema.
    pub(crate) fn with_terms(&self, terms: impl IntoIterator<Item = Term>) -> Self {
        Self::with_required(terms, self.required.clone())
    }

    fn of_view(view: &View, required: Vec<bool>) -> Self {
        let aggregates = || view.aggregates.iter().map(|named| named.aggregate);
        let mut plan = Self::with_required(aggregates().flat_map(terms_of), required);
        for values in aggregates().filter_map(values_of) {
            if !plan.values.contains(&values) {
                plan.values.push(values);
            }
        }
        plan
    }

    /// A plan of given terms, each kept once, after [`Term::Rows`].
    pub fn of_terms(terms: impl IntoIterator<Item = Term>) -> Self {
        Self::with_required(terms, Vec::new())
    }

    fn with_required(terms: impl IntoIterator<Item = Term>, required: Vec<bool>) -> Self {
        let mut plan = Self {
            terms: vec![(Term::Rows, 0)],
            words: Term::Rows.words(),
            values: Vec::new(),
            required,
        };
        for term in terms {
            let term = plan.plain(term);
            if plan.offset(term).is_none() {
                plan.terms.push((term, plan.words));
                plan.words += term.words();
            }
        }
        plan
    }

    /// The term that stands for another one where no value is null.
    fn plain(&self, term: Term) -> Term {
        let required = |column: usize| self.required.get(column) == Some(&true);
        match term {
            Term::Count(c) if required(c) => Term::Rows,
            Term::SumPaired { of, with } if required(of) && required(with) => Term::Sum(of),
            term => term,
        }
    }

    /// The terms, each with the index of its first word in a partial.
    pub fn terms(&self) -> &[(Term, usize)] {
        &self.terms
    }

    /// Words of one partial.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Where a term's words start, or those of the one that stands for it.
    pub fn offset(&self, term: Term) -> Option<usize> {
        let term = self.plain(term);
        self.terms.iter().find(|(other, _)| *other == term).map(|(_, offset)| *offset)
    }

    /// Whether every publisher that a state names has a code below `publishers`.
    pub(crate) fn has_publishers_below(&self, words: &[u64], publishers: usize) -> bool {
        self.terms.iter().all(|&(term, offset)| {
            let is_end = matches!(term, Term::First(_) | Term::Last(_));
            !is_end || words[offset] == 0 || words[offset + 2] < publishers as u64
        })
    }

    /// The values that quantiles are selected from, each once.
    pub fn values(&self) -> &[ValuesOf] {
        &self.values
    }

    /// The value columns that terms and quantiles read, ascending.
    pub fn columns(&self) -> Vec<usize> {
        let mut columns: Vec<usize> = self
            .terms
            .iter()
            .flat_map(|(term, _)| match *term {
                Term::Rows => vec![],
                Term::SumProduct(a, b) | Term::SumPaired { of: a, with: b } => vec![a, b],
                Term::Count(c)
                | Term::Sum(c)
                | Term::Min(c)
                | Term::Max(c)
                | Term::First(c)
                | Term::Last(c) => vec![c],
            })
            .chain(self.values.iter().map(|values| values.column))
            .collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }
}

/// Per column, whether it is never null.
fn required(schema: &StreamSchema) -> Vec<bool> {
    schema.columns.iter().map(|column| !column.optional).collect()
}

/// The values that an aggregate is selected from.
pub fn values_of(aggregate: Aggregate) -> Option<ValuesOf> {
    match aggregate {
        Aggregate::Quantile { column, .. } => Some(ValuesOf { column, grid: Grid::Exact }),
        Aggregate::ApproxQuantile { column, .. } => {
            Some(ValuesOf { column, grid: Grid::LogLinear })
        }
        _ => None,
    }
}

/// The terms an aggregate is finished from.
pub fn terms_of(aggregate: Aggregate) -> Vec<Term> {
    match aggregate {
        Aggregate::Count => vec![Term::Rows],
        Aggregate::CountOf(c) => vec![Term::Count(c)],
        Aggregate::Sum(c) | Aggregate::Mean(c) => vec![Term::Count(c), Term::Sum(c)],
        Aggregate::Min(c) => vec![Term::Min(c)],
        Aggregate::Max(c) => vec![Term::Max(c)],
        Aggregate::First(c) => vec![Term::First(c)],
        Aggregate::Last(c) => vec![Term::Last(c)],
        Aggregate::Var(c) | Aggregate::Stddev(c) => {
            vec![Term::Count(c), Term::Sum(c), Term::SumProduct(c, c)]
        }
        Aggregate::Vwap { price, size } => {
            vec![Term::SumProduct(price, size), Term::SumPaired { of: size, with: price }]
        }
        // At most one of the columns is optional: where both have values there are pairs.
        Aggregate::Notional { price, size } => {
            vec![Term::SumProduct(price, size), Term::Count(price), Term::Count(size)]
        }
        Aggregate::Quantile { .. } | Aggregate::ApproxQuantile { .. } => vec![],
    }
}
