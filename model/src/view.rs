//! What is computed: a view over a stream, the same live and as a scan.

use crate::expr::Expr;
use crate::quantile::Quantile;
use crate::units::Scale;

/// A view with every name resolved against its stream's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The view's name.
    pub name: String,
    /// The name of the stream it reads.
    pub stream: String,
    /// The names of the stream's key columns; they are the first output columns.
    pub keys: Vec<String>,
    /// Which ticks count; `None` for all. A tick counts iff the expression is true (null is not).
    pub filter: Option<Expr>,
    /// The windows.
    pub window: Tumbling,
    /// The aggregates in the order written.
    pub aggregates: Vec<NamedAggregate>,
    /// What happens to late ticks on the live path.
    pub lateness: Lateness,
    /// BLAKE3 over the canonical text of stream schema and view: results are kept under it.
    pub definition: DefinitionHash,
}

impl View {
    /// The value columns that the filter and the aggregates read: indices into the stream's
    /// columns, each once, ascending.
    pub fn columns(&self) -> Vec<usize> {
        let mut columns = self.filter.as_ref().map(Expr::columns).unwrap_or_default();
        columns.extend(self.aggregates.iter().flat_map(|named| named.aggregate.columns()));
        columns.sort_unstable();
        columns.dedup();
        columns
    }
}

/// The identity of a view's definition, 64 lowercase hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DefinitionHash(pub String);

/// Windows of equal width, one after another: window `i` covers
/// `[origin + i·width, origin + (i+1)·width)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tumbling {
    /// Width in nanoseconds, at least 1.
    pub width_ns: i64,
    /// Where a window starts, nanoseconds UTC.
    pub origin_ns: i64,
}

impl Tumbling {
    /// The start of the window that holds `ts`: floor, also before the origin. `None` when start
    /// or end of that window is no 64-bit nanosecond count.
    pub fn start_of(&self, ts: i64) -> Option<i64> {
        let into = match ts.checked_sub(self.origin_ns) {
            Some(distance) => distance.rem_euclid(self.width_ns),
            // Below the width, which has 64 bits.
            None => (i128::from(ts) - i128::from(self.origin_ns))
                .rem_euclid(i128::from(self.width_ns)) as i64,
        };
        let start = ts.checked_sub(into)?;
        start.checked_add(self.width_ns)?;
        Some(start)
    }

    /// The end (exclusive) of the window that starts at `start`.
    pub fn end_of(&self, start: i64) -> i64 {
        start
            .checked_add(self.width_ns)
            .expect("a window's end was checked when its start was found")
    }
}

/// How the live path treats ticks behind the watermark W. A tick belongs to window w, as seen
/// live, iff `w.end + allowed_ns > W` at its arrival; the others are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// How long after a window's end, in watermark time, ticks still enter it.
    pub allowed_ns: i64,
    /// When windows are published and where too late ticks go.
    pub policy: LatenessPolicy,
}

/// See [`Lateness`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LatenessPolicy {
    /// A window is published when W reaches its end; each later log record that changes it,
    /// until W reaches end + allowed, publishes the next version.
    #[default]
    Correct,
    /// A window is published once, when W reaches end + allowed; ticks that come later are set
    /// aside, visible apart.
    Side,
    /// A window is published once, when W reaches end + allowed; ticks that come later are only
    /// counted (and stay in history).
    Drop,
}

/// An aggregate under its output name. `ohlc` is resolved into its four parts, `quantile` and
/// `approx_quantile` into one per q.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAggregate {
    /// The output column's name.
    pub name: String,
    /// What is computed.
    pub aggregate: Aggregate,
    /// What kind of value comes out.
    pub output: OutputType,
}

/// An aggregate over value columns, given by their index in the stream's schema. Null values do
/// not contribute; with no contributing value everything but the counts and `Sum` (0 rows: null
/// too) is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// Ticks.
    Count,
    /// Values that are not null.
    CountOf(usize),
    /// Σp.
    Sum(usize),
    /// The least value.
    Min(usize),
    /// The greatest value.
    Max(usize),
    /// The value of the first tick, in canonical order, whose value is not null.
    First(usize),
    /// The value of the last such tick.
    Last(usize),
    /// Σps over ticks that have both, at the sum of the columns' scales. At most one of the columns
    /// is optional, and their bounds leave room for [`Self::NOTIONAL_TICKS`].
    Notional {
        /// The price column.
        price: usize,
        /// The size column.
        size: usize,
    },
    /// Σp / n, one rounding.
    Mean(usize),
    /// The sample variance (n−1), null below two values, one rounding.
    Var(usize),
    /// The correctly rounded root of the exact sample variance.
    Stddev(usize),
    /// Σps / Σs over ticks that have both; null where Σs is 0.
    Vwap {
        /// The price column.
        price: usize,
        /// The size column.
        size: usize,
    },
    /// The value at rank ⌈q·n⌉, from 1, of the n values that are not null.
    Quantile {
        /// The column.
        column: usize,
        /// Which one.
        q: Quantile,
    },
    /// The same within 2^-8 of its magnitude, from a state of bounded size. The estimate depends
    /// on the exact value alone.
    ApproxQuantile {
        /// The column.
        column: usize,
        /// Which one.
        q: Quantile,
    },
}

impl Aggregate {
    /// Ticks in a window for which a notional has room in 38 digits, at least.
    pub const NOTIONAL_TICKS: u64 = 1 << 40;

    /// The value columns it reads, in the order written.
    pub fn columns(self) -> Vec<usize> {
        match self {
            Self::Count => Vec::new(),
            Self::CountOf(column)
            | Self::Sum(column)
            | Self::Min(column)
            | Self::Max(column)
            | Self::First(column)
            | Self::Last(column)
            | Self::Mean(column)
            | Self::Var(column)
            | Self::Stddev(column)
            | Self::Quantile { column, .. }
            | Self::ApproxQuantile { column, .. } => vec![column],
            Self::Vwap { price, size } | Self::Notional { price, size } => vec![price, size],
        }
    }
}

/// The type of an output column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputType {
    /// A count of ticks or values.
    Count,
    /// A scaled 64-bit integer (`min`, `max`, `first`, `last`, quantiles).
    Scaled(Scale),
    /// A scaled integer of 38 digits (`sum`, of fewer than 2^63 values of 64 bits; `notional`, whose
    /// columns are bounded).
    ScaledWide(Scale),
    /// A binary64 quotient, correctly rounded.
    Float,
}
