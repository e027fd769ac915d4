//! The naive oracle: windows straight from the exactness contract, over big integers.
//!
//! Plain rows in, plain rows out. It shares no code with the product: not its floor, not its
//! watermark, not its rounding, not its filters.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use num_bigint::BigInt;

use crate::rational;

/// One tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Nanoseconds UTC.
    pub ts: i64,
    /// Who published it.
    pub publisher: String,
    /// Its ordinal there.
    pub sequence: u64,
    /// The key columns' texts.
    pub key: Vec<String>,
    /// The value columns, scaled.
    pub values: Vec<Option<i64>>,
    /// How it met the live path.
    pub arrival: Arrival,
}

/// How a tick met the live path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It came when the watermark stood here; `None`: before there was one.
    At(Option<i64>),
    /// It was imported.
    NeverSeen,
}

/// Which ticks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// All.
    Now,
    /// Those that live could know.
    Seen,
}

/// What is computed.
#[derive(Clone, Debug)]
pub struct View {
    /// Window width, nanoseconds.
    pub width: i64,
    /// Where a window starts.
    pub origin: i64,
    /// Allowed lateness, nanoseconds.
    pub allowed: i64,
    /// Which ticks count.
    pub filter: Option<Filter>,
    /// The value columns' decimal scales.
    pub scales: Vec<u32>,
    /// The output columns.
    pub outputs: Vec<(String, Output)>,
}

/// An aggregate over columns by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Count,
    CountOf(usize),
    Sum(usize),
    Min(usize),
    Max(usize),
    First(usize),
    Last(usize),
    Mean(usize),
    Var(usize),
    Stddev(usize),
    Vwap(usize, usize),
    Notional(usize, usize),
    /// Of a column, at so many billionths.
    Quantile(usize, u32),
    /// The same from the grid of 8 significant bits.
    ApproxQuantile(usize, u32),
}

/// A filter. Comparisons with null are null; a tick passes iff the result is true.
#[derive(Clone, Debug)]
pub enum Filter {
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
    Not(Box<Filter>),
    Value(usize, Op, Decimal),
    Columns(usize, Op, usize),
    Time(Op, i64),
    Key(usize, Op, String),
    In(usize, Vec<Decimal>),
    KeyIn(usize, Vec<String>),
    IsNull(usize),
}

/// digits / 10^scale
#[derive(Clone, Debug)]
pub struct Decimal {
    pub digits: i128,
    pub scale: u32,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// One output value.
#[derive(Clone, Debug)]
pub enum Cell {
    Null,
    Integer(BigInt),
    Float(f64),
}

/// One window of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub key: Vec<String>,
    pub start: i64,
    pub end: i64,
    pub cells: Vec<Cell>,
}

/// The windows of a view over ticks in any order, by key, then start. Ticks whose window is not
/// representable in 64-bit nanoseconds are in none.
pub fn windows(view: &View, ticks: &[Tick], truth: Truth) -> Vec<Window> {
    let mut groups: BTreeMap<(&[String], i64), Vec<&Tick>> = BTreeMap::new();
    for tick in ticks {
        let Some((start, end)) = window_of(view, tick.ts) else { continue };
        if truth == Truth::Seen && !live_could_know(end, view.allowed, tick.arrival) {
            continue;
        }
        if view.filter.as_ref().is_some_and(|filter| filter.test(view, tick) != Some(true)) {
            continue;
        }
        groups.entry((&tick.key, start)).or_default().push(tick);
    }
    let rows = groups.into_iter().map(|((key, start), mut ticks)| {
        ticks.sort_by(|a, b| canonical(a, b));
        let cells = view.outputs.iter().map(|(_, output)| output.of(view, &ticks)).collect();
        Window { key: key.to_vec(), start, end: start + view.width, cells }
    });
    rows.collect()
}

/// Start and end of the window around a time: steps of the width from the origin, rounded
/// towards the past.
fn window_of(view: &View, ts: i64) -> Option<(i64, i64)> {
    let (ts, width, origin) = (i128::from(ts), i128::from(view.width), i128::from(view.origin));
    let mut steps = (ts - origin) / width;
    while origin + steps * width > ts {
        steps -= 1;
    }
    let start = origin + steps * width;
    Some((i64::try_from(start).ok()?, i64::try_from(start + width).ok()?))
}

/// The contract's rule, word for word: w.end + allowed > W at the tick's arrival.
fn live_could_know(end: i64, allowed: i64, arrival: Arrival) -> bool {
    match arrival {
        Arrival::NeverSeen => false,
        Arrival::At(None) => true,
        Arrival::At(Some(w)) => i128::from(end) + i128::from(allowed) > i128::from(w),
    }
}

/// The canonical order: time, publisher by bytes, sequence.
pub fn canonical(a: &Tick, b: &Tick) -> Ordering {
    (a.ts, a.publisher.as_bytes(), a.sequence).cmp(&(b.ts, b.publisher.as_bytes(), b.sequence))
}

impl Output {
    /// The value over one window's ticks in canonical order.
    fn of(self, view: &View, ticks: &[&Tick]) -> Cell {
        let values = |c: usize| ticks.iter().filter_map(move |tick| tick.values[c]);
        let integer = |value: Option<i64>| value.map_or(Cell::Null, |v| Cell::Integer(v.into()));
        match self {
            Self::Count => Cell::Integer(ticks.len().into()),
            Self::CountOf(c) => Cell::Integer(values(c).count().into()),
            Self::Sum(c) if values(c).next().is_none() => Cell::Null,
            Self::Sum(c) => Cell::Integer(values(c).map(BigInt::from).sum()),
            Self::Min(c) => integer(values(c).min()),
            Self::Max(c) => integer(values(c).max()),
            Self::First(c) => integer(values(c).next()),
            Self::Last(c) => integer(values(c).next_back()),
            Self::Mean(c) if values(c).next().is_none() => Cell::Null,
            Self::Mean(c) => {
                let sum: BigInt = values(c).map(BigInt::from).sum();
                let n = BigInt::from(values(c).count());
                Cell::Float(rational::quotient(&sum, &(n * ten(view.scales[c]))))
            }
            Self::Var(c) => match variance(view, c, values(c)) {
                Some((over, under)) => Cell::Float(rational::quotient(&over, &under)),
                None => Cell::Null,
            },
            Self::Stddev(c) => match variance(view, c, values(c)) {
                Some((over, under)) => Cell::Float(rational::root(&over, &under)),
                None => Cell::Null,
            },
            Self::Quantile(c, billionths) => integer(at_rank(values(c).collect(), billionths)),
            Self::ApproxQuantile(c, billionths) => {
                let exact = at_rank(values(c).collect(), billionths);
                exact.map_or(Cell::Null, |exact| Cell::Integer(on_grid(exact)))
            }
            Self::Notional(price, size) => {
                let pairs = ticks.iter().filter_map(|t| t.values[price].zip(t.values[size]));
                pairs
                    .map(|(p, s)| BigInt::from(p) * s)
                    .reduce(|a, b| a + b)
                    .map_or(Cell::Null, Cell::Integer)
            }
            Self::Vwap(price, size) => {
                let pairs = || ticks.iter().filter_map(|t| t.values[price].zip(t.values[size]));
                let over: BigInt = pairs().map(|(p, s)| BigInt::from(p) * s).sum();
                let under: BigInt = pairs().map(|(_, s)| BigInt::from(s)).sum();
                if under == BigInt::ZERO {
                    return Cell::Null;
                }
                // The size's scale stands above and below the line.
                Cell::Float(rational::quotient(&over, &(under * ten(view.scales[price]))))
            }
        }
    }
}

/// The value at rank ⌈q·n⌉: the least rank, from 1, that is not below q·n.
pub fn at_rank(mut values: Vec<i64>, billionths: u32) -> Option<i64> {
    values.sort_unstable();
    let wanted = BigInt::from(billionths) * values.len();
    let reaches = |rank: &usize| BigInt::from(*rank) * 1_000_000_000 >= wanted;
    let rank = (1..=values.len()).find(reaches)?;
    Some(values[rank - 1])
}

/// What a value is taken for when only its 8 most significant bits are kept: the middle of all
/// magnitudes that share them, rounded up, and none beyond 64 bits.
pub fn on_grid(exact: i64) -> BigInt {
    let magnitude = BigInt::from(exact).magnitude().clone();
    let dropped = magnitude.bits().saturating_sub(8);
    let step = BigInt::from(1) << dropped;
    let least = (BigInt::from(magnitude.clone()) / &step) * &step;
    let last: BigInt = &least + &step - 1;
    let middle: BigInt = (least + last + 1) / 2;
    let signed = if exact < 0 { -middle } else { middle };
    let estimate = signed.max(i64::MIN.into());
    let error = (&estimate - exact).magnitude() * 256_u32;
    assert!(error <= magnitude, "the stated bound: within 2^-8 of {exact}, not {estimate}");
    estimate
}

/// The sample variance as a whole rational: Σ(p − mean)² / (n − 1), with mean = Σp / n written
/// out as n·p − Σp over n.
fn variance(
    view: &View,
    column: usize,
    values: impl Iterator<Item = i64> + Clone,
) -> Option<(BigInt, BigInt)> {
    let n = BigInt::from(values.clone().count());
    if n < BigInt::from(2) {
        return None;
    }
    let sum: BigInt = values.clone().map(BigInt::from).sum();
    let squares: BigInt = values.map(|p| (&n * p - &sum).pow(2)).sum();
    Some((squares, &n * &n * (&n - 1) * ten(view.scales[column]).pow(2)))
}

fn ten(scale: u32) -> BigInt {
    BigInt::from(10).pow(scale)
}

impl Filter {
    fn test(&self, view: &View, tick: &Tick) -> Option<bool> {
        let scaled = |c: usize| Some((BigInt::from(tick.values[c]?), view.scales[c]));
        match self {
            Self::And(a, b) => match (a.test(view, tick), b.test(view, tick)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(a, b) => match (a.test(view, tick), b.test(view, tick)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Not(a) => a.test(view, tick).map(|is| !is),
            Self::Value(c, op, literal) => {
                Some(op.holds(as_numbers(&scaled(*c)?, &literal.parts())))
            }
            Self::Columns(a, op, b) => Some(op.holds(as_numbers(&scaled(*a)?, &scaled(*b)?))),
            Self::Time(op, ts) => Some(op.holds(tick.ts.cmp(ts))),
            Self::Key(k, op, text) => Some(op.holds(tick.key[*k].as_bytes().cmp(text.as_bytes()))),
            Self::In(c, literals) => {
                let value = scaled(*c)?;
                Some(literals.iter().any(|l| as_numbers(&value, &l.parts()).is_eq()))
            }
            Self::KeyIn(k, texts) => Some(texts.contains(&tick.key[*k])),
            Self::IsNull(c) => Some(tick.values[*c].is_none()),
        }
    }
}

/// Two decimals compared as numbers.
fn as_numbers((a, a_scale): &(BigInt, u32), (b, b_scale): &(BigInt, u32)) -> Ordering {
    (a * ten(*b_scale)).cmp(&(b * ten(*a_scale)))
}

impl Decimal {
    fn parts(&self) -> (BigInt, u32) {
        (self.digits.into(), self.scale)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = self.scale as usize;
        let sign = if self.digits < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", self.digits.unsigned_abs(), width = scale + 1);
        match digits.split_at(digits.len() - scale) {
            (whole, "") => write!(f, "{sign}{whole}"),
            (whole, fraction) => write!(f, "{sign}{whole}.{fraction}"),
        }
    }
}

impl Op {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Eq => ordering == Ordering::Equal,
            Self::Ne => ordering != Ordering::Equal,
            Self::Lt => ordering == Ordering::Less,
            Self::Le => ordering != Ordering::Greater,
            Self::Gt => ordering == Ordering::Greater,
            Self::Ge => ordering != Ordering::Less,
        }
    }

    /// As a filter's text writes it.
    pub fn text(self) -> &'static str {
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

/// Floats are equal when their bits are: −0 is not 0.
impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            _ => false,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Integer(value) => value.fmt(f),
            Self::Float(value) => write!(f, "{value:?}"),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} [{}, {})", self.key, self.start, self.end)?;
        self.cells.iter().try_for_each(|cell| write!(f, " {cell}"))
    }
}

/// One line per window: the canonical text of a result.
pub fn dump(windows: &[Window]) -> String {
    windows.iter().map(|window| format!("{window}\n")).collect()
}

/// The first windows in which two results differ, side by side; nothing when they are equal.
pub fn differences(view: &View, expected: &[Window], got: &[Window]) -> Option<String> {
    if expected == got {
        return None;
    }
    let by_place = |rows: &[Window]| -> BTreeMap<(Vec<String>, i64), Vec<Window>> {
        let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in rows {
            places.entry((row.key.clone(), row.start)).or_default().push(row.clone());
        }
        places
    };
    let (a, b) = (by_place(expected), by_place(got));
    let places: BTreeSet<_> = a.keys().chain(b.keys()).cloned().collect();
    let names: Vec<_> = view.outputs.iter().map(|(name, _)| name.as_str()).collect();
    let side = |rows: Option<&Vec<Window>>| rows.map_or("no such window\n".into(), |r| dump(r));
    let mut text = format!(
        "{} windows expected, {} found; columns {}\n",
        expected.len(),
        got.len(),
        names.join(" ")
    );
    let differing = places.iter().filter(|place| a.get(place) != b.get(place));
    for place in differing.take(3) {
        text += &format!("expected {}   found {}", side(a.get(place)), side(b.get(place)));
    }
    Some(text + if a == b { "the windows are equal but out of order\n" } else { "" })
}

/// One input of a stream's log.
#[derive(Clone, Debug)]
pub enum Event {
    /// A publisher becomes active.
    Join(String),
    /// A publisher no longer counts.
    Idle(String),
    /// A publisher's tick; one that was not active becomes so.
    Tick(String, i64),
}

/// W before every event, from the definition: after each event the least, over active
/// publishers, of their greatest time so far; it never moves back.
pub fn watermarks(events: &[Event]) -> Vec<Option<i64>> {
    let mut active: BTreeSet<&str> = BTreeSet::new();
    let mut greatest: BTreeMap<&str, i64> = BTreeMap::new();
    let mut w: Option<i64> = None;
    let mut before = Vec::new();
    for event in events {
        before.push(w);
        match event {
            Event::Join(publisher) => {
                active.insert(publisher);
            }
            Event::Idle(publisher) => {
                active.remove(publisher.as_str());
            }
            Event::Tick(publisher, ts) => {
                active.insert(publisher);
                let best = greatest.entry(publisher).or_insert(*ts);
                *best = (*best).max(*ts);
            }
        }
        let heard: Option<Vec<i64>> = active.iter().map(|p| greatest.get(p).copied()).collect();
        if let Some(least) = heard.and_then(|times| times.into_iter().min()) {
            w = Some(w.map_or(least, |w| w.max(least)));
        }
    }
    before
}
