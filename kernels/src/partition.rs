//! From ticks in any order to runs of one (key, window).

mod cells;
mod order;

use std::ops::Range;

use arrow_buffer::BooleanBuffer;
use isotick_model::expr::Expr;
use isotick_model::ticks::{NEVER_SEEN, ON_TIME};
use isotick_model::view::{Tumbling, View};
use isotick_model::{Ticks, ValueColumn};

use self::cells::Cells;
use self::order::{Needed, Order, key_runs};
use crate::filter;
use crate::plan::{Plan, Term};
use crate::runs::{Groups, Run, Runs};
use crate::tables::{KeyTable, PublisherTable};

/// Which of the exact truths windows hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Truth {
    /// As known now: every tick, however late.
    #[default]
    Now,
    /// As seen live: a tick is in a window iff the window's end + `allowed_ns` is above the
    /// watermark at the tick's arrival. Ticks on time always are, imported ones never.
    Seen {
        /// The view's allowed lateness.
        allowed_ns: i64,
    },
    /// What passed the live path too late for its window: the ticks of [`Truth::Now`] that are
    /// not in [`Truth::Seen`], imported ones left out.
    Late {
        /// The view's allowed lateness.
        allowed_ns: i64,
    },
}

impl Truth {
    /// Whether a tick counts, by how it met the live path; `end` gives its window's end.
    fn holds(self, seen: i64, end: impl FnOnce() -> i64) -> bool {
        let late = |allowed_ns: i64| match seen {
            ON_TIME => false,
            NEVER_SEEN => true,
            watermark => i128::from(end()) + i128::from(allowed_ns) <= i128::from(watermark),
        };
        match self {
            Self::Now => true,
            Self::Seen { allowed_ns } => !late(allowed_ns),
            Self::Late { allowed_ns } => seen != NEVER_SEEN && late(allowed_ns),
        }
    }
}

/// Brings a view's ticks into runs: filter, whole windows in a range, truth, order.
#[derive(Clone, Debug)]
pub struct Partitioner {
    filter: Option<Expr>,
    window: Tumbling,
    /// The value columns that runs must have.
    columns: Vec<usize>,
    /// Times whose window is representable.
    domain: Span,
    /// Times in the windows asked for, inside `domain`.
    span: Span,
    truth: Truth,
    /// Whether the plan has first or last values, which alone depend on the order in a run.
    has_ends: bool,
}

/// The rows of a batch, by (key, window).
#[derive(Clone, Debug)]
pub enum Form {
    /// In runs.
    Runs(Runs),
    /// As they came.
    Groups(Groups),
}

impl Form {
    /// The rows.
    pub fn ticks(&self) -> &Ticks {
        match self {
            Self::Runs(runs) => &runs.ticks,
            Self::Groups(groups) => &groups.ticks,
        }
    }

    /// The runs, where rows came in runs.
    pub fn into_runs(self) -> Option<Runs> {
        match self {
            Self::Runs(runs) => Some(runs),
            Self::Groups(_) => None,
        }
    }
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub struct Partitioned {
    /// The rows that are in windows. Columns that the plan does not read may be absent.
    pub form: Form,
    /// Rows that passed filter and selection, whose window is not representable.
    pub unrepresentable: u64,
    /// Rows that the truth left out.
    pub too_late: u64,
}

/// Times `from <= ts < to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: i64,
    to: i64,
}

impl Span {
    const NONE: Self = Self { from: 0, to: 0 };

    fn holds(self, ts: i64) -> bool {
        self.from <= ts && ts < self.to
    }

    /// A span of 128-bit bounds, cut to `self`.
    fn cut(self, from: i128, to: i128) -> Self {
        let from = from.max(i128::from(self.from));
        let to = to.min(i128::from(self.to));
        match (i64::try_from(from), i64::try_from(to)) {
            (Ok(from), Ok(to)) if from < to => Self { from, to },
            _ => Self::NONE,
        }
    }
}

/// The first window start at or after `at`.
fn next_start(window: Tumbling, at: i128) -> i128 {
    let (width, origin) = (i128::from(window.width_ns), i128::from(window.origin_ns));
    origin - (origin - at).div_euclid(width) * width
}

/// The rows that enter windows, ascending.
enum Rows {
    Range(Range<usize>),
    List(Vec<u32>),
}

impl Partitioner {
    /// For a view and its plan; all windows, as known now.
    pub fn new(view: &View, plan: &Plan) -> Self {
        let window = view.window;
        // Windows end at i64::MAX at the latest. The last one ends where the one after the last
        // representable end would start.
        let from = next_start(window, i64::MIN.into());
        let width = i128::from(window.width_ns);
        let to = next_start(window, i128::from(i64::MAX) - width + 1);
        let domain = Span { from: i64::MIN, to: i64::MAX }.cut(from, to);
        Self {
            filter: view.filter.clone(),
            window,
            columns: plan.columns(),
            domain,
            span: domain,
            truth: Truth::Now,
            has_ends: plan
                .terms()
                .iter()
                .any(|(term, _)| matches!(term, Term::First(_) | Term::Last(_))),
        }
    }

    /// Only windows that start at or after `from` and before `to`, nanoseconds UTC.
    pub fn with_range(mut self, from: Option<i64>, to: Option<i64>) -> Self {
        let bound = |at: Option<i64>, open: i64| match at {
            Some(at) => next_start(self.window, at.into()),
            None => open.into(),
        };
        self.span = self.domain.cut(bound(from, i64::MIN), bound(to, i64::MAX));
        self
    }

    /// Under a truth.
    pub fn with_truth(mut self, truth: Truth) -> Self {
        self.truth = truth;
        self
    }

    /// Whether the window that holds a time is representable.
    pub(crate) fn has_window(&self, ts: i64) -> bool {
        self.domain.holds(ts)
    }

    /// Whether it also is one of those asked for.
    pub(crate) fn is_wanted(&self, ts: i64) -> bool {
        self.span.holds(ts)
    }

    /// The truth.
    pub(crate) fn truth(&self) -> Truth {
        self.truth
    }

    /// The rows of a batch for which `select` is true (`None`: all), by (key, window). Keys and
    /// publishers of rows that enter windows get codes in the tables.
    ///
    /// Rows that already come grouped by key and in canonical order per key, or in such order as
    /// the plan needs, are not moved, and when they are also adjacent their buffers are shared:
    /// they come as runs. Others come as
    /// groups where `groups` allows it and there are not many more cells of (key, window) than
    /// rows; else they are sorted into runs.
    ///
    /// # Panics
    /// When the batch has 2^32 rows or more, or a column that the filter reads is absent.
    pub fn partition(
        &self,
        ticks: &Ticks,
        select: Option<&dyn Fn(usize) -> bool>,
        groups: bool,
        keys: &mut KeyTable,
        publishers: &mut PublisherTable,
    ) -> Partitioned {
        assert!(u32::try_from(ticks.len()).is_ok(), "a batch has fewer than 2^32 rows");
        let (least, greatest) = match ticks.times() {
            Some(times) => times.into_inner(),
            None => (i64::MAX, i64::MIN),
        };
        let (rows, unrepresentable, too_late) = self.rows(ticks, select, (least, greatest));
        let ticks = match rows {
            Rows::Range(range) => self.slice(ticks, range),
            Rows::List(rows) => self.gather(ticks, &rows),
        };
        let times = least.max(self.span.from)..=greatest.min(self.span.to - 1);
        let order = Order::of(&ticks);
        let form = match order.key_runs(self.needed(*times.start(), *times.end())) {
            Some(key_runs) => Form::Runs(self.runs(ticks, &key_runs, keys, publishers)),
            None => {
                let cells = groups
                    .then_some(())
                    .and_then(|()| Cells::of(times, ticks.keys.len(), ticks.len(), self.window));
                match cells {
                    Some(cells) => {
                        let publisher_codes = intern_all(&ticks, publishers);
                        let publisher_ranks = order.ranks;
                        let (group_of, groups) = cells.groups(&ticks, keys);
                        Form::Groups(Groups {
                            group_of,
                            groups,
                            publisher_codes,
                            publisher_ranks,
                            ticks,
                        })
                    }
                    None => {
                        let ticks = self.gather(&ticks, &order.sorted());
                        let key_runs = key_runs(&ticks.key, usize::MAX).expect("no limit");
                        Form::Runs(self.runs(ticks, &key_runs, keys, publishers))
                    }
                }
            }
        };
        Partitioned { form, unrepresentable, too_late }
    }

    /// The order that the plan needs within a key, of rows between these times.
    fn needed(&self, least: i64, greatest: i64) -> Needed {
        if self.has_ends {
            return Needed::Canonical;
        }
        match (self.window.start_of(least), self.window.start_of(greatest)) {
            (Some(first), Some(last)) if first == last => Needed::None,
            _ => Needed::Time,
        }
    }

    /// Rows in form, whose keys change where `key_runs` start.
    fn runs(
        &self,
        ticks: Ticks,
        key_runs: &[u32],
        keys: &mut KeyTable,
        publishers: &mut PublisherTable,
    ) -> Runs {
        let publisher_codes = intern_all(&ticks, publishers);
        let runs = runs_of(&ticks, key_runs, self.window, keys);
        Runs { ticks, runs, publisher_codes }
    }

    /// The rows that enter windows, and the counts of those left out as unrepresentable and as
    /// too late.
    fn rows(
        &self,
        ticks: &Ticks,
        select: Option<&dyn Fn(usize) -> bool>,
        (least, greatest): (i64, i64),
    ) -> (Rows, u64, u64) {
        let rows = ticks.len();
        let ts = &ticks.ts_event;
        let mut mask = self.filter.as_ref().map(|filter| filter::passing(filter, ticks));
        let keep = |within: &mut Option<BooleanBuffer>, new: BooleanBuffer| -> usize {
            let before = within.as_ref().map_or(rows, BooleanBuffer::count_set_bits);
            let kept = match within.take() {
                Some(old) => &old & &new,
                None => new,
            };
            let lost = before - kept.count_set_bits();
            *within = Some(kept);
            lost
        };
        if let Some(select) = select {
            keep(&mut mask, BooleanBuffer::collect_bool(rows, select));
        }
        let mut unrepresentable = 0;
        if rows > 0 && !(self.domain.holds(least) && self.domain.holds(greatest)) {
            let within = BooleanBuffer::collect_bool(rows, |row| self.domain.holds(ts[row]));
            unrepresentable = keep(&mut mask, within);
        }
        if rows > 0 && !(self.span.holds(least) && self.span.holds(greatest)) {
            keep(&mut mask, BooleanBuffer::collect_bool(rows, |row| self.span.holds(ts[row])));
        }
        let mut left_out = 0;
        if !self.all_hold(ticks) {
            let mut current = Current::new(self.window);
            let within = BooleanBuffer::collect_bool(rows, |row| {
                self.span.holds(ts[row])
                    && self.truth.holds(ticks.seen_of(row), || current.window_of(ts[row]).to)
            });
            left_out = keep(&mut mask, within);
        }
        let selected = match mask {
            None => Rows::Range(0..rows),
            Some(mask) => list(&mask),
        };
        (selected, unrepresentable as u64, left_out as u64)
    }

    /// Whether the truth leaves no row out. Under that of live windows it is asked of late rows
    /// only, which are few.
    fn all_hold(&self, ticks: &Ticks) -> bool {
        match (self.truth, &ticks.seen) {
            (Truth::Now, _) => true,
            (_, None) => self.truth.holds(ON_TIME, || i64::MAX),
            (Truth::Seen { .. }, Some(seen)) => {
                let mut current = Current::new(self.window);
                let rows = seen.iter().zip(&ticks.ts_event);
                rows.filter(|&(&seen, &ts)| seen != ON_TIME && self.span.holds(ts))
                    .all(|(&seen, &ts)| self.truth.holds(seen, || current.window_of(ts).to))
            }
            (Truth::Late { .. }, Some(_)) => false,
        }
    }

    fn gather(&self, ticks: &Ticks, rows: &[u32]) -> Ticks {
        let mut values = vec![ValueColumn::absent(); ticks.values.len()];
        for &column in &self.columns {
            values[column] = ticks.values[column].take(rows);
        }
        let pick = |row: &u32| *row as usize;
        Ticks {
            ts_event: rows.iter().map(|row| ticks.ts_event[pick(row)]).collect(),
            sequence: rows.iter().map(|row| ticks.sequence[pick(row)]).collect(),
            publishers: ticks.publishers.clone(),
            publisher: match ticks.publisher.is_empty() {
                true => ticks.publisher.clone(),
                false => rows.iter().map(|row| ticks.publisher[pick(row)]).collect(),
            },
            keys: ticks.keys.clone(),
            key: rows.iter().map(|row| ticks.key[pick(row)]).collect(),
            values,
            seen: None,
        }
    }

    fn slice(&self, ticks: &Ticks, range: Range<usize>) -> Ticks {
        let (start, len) = (range.start, range.len());
        if len == ticks.len() {
            return ticks.clone();
        }
        let mut values = vec![ValueColumn::absent(); ticks.values.len()];
        for &column in &self.columns {
            let whole = &ticks.values[column];
            values[column] = ValueColumn {
                values: whole.values.slice(start, len),
                nulls: whole.nulls.as_ref().map(|nulls| nulls.slice(start, len)),
            };
        }
        Ticks {
            ts_event: ticks.ts_event.slice(start, len),
            sequence: ticks.sequence.slice(start, len),
            publishers: ticks.publishers.clone(),
            publisher: match ticks.publisher.is_empty() {
                true => ticks.publisher.clone(),
                false => ticks.publisher.slice(start, len),
            },
            keys: ticks.keys.clone(),
            key: ticks.key.slice(start, len),
            values,
            seen: None,
        }
    }
}

/// The rows of a mask; as a range where they are adjacent.
fn list(mask: &BooleanBuffer) -> Rows {
    let count = mask.count_set_bits();
    let mut slices = mask.set_slices();
    match slices.next() {
        None => Rows::Range(0..0),
        Some((start, end)) if end - start == count => Rows::Range(start..end),
        Some(_) => {
            let mut rows = Vec::with_capacity(count);
            rows.extend(mask.set_indices_u32());
            Rows::List(rows)
        }
    }
}

/// Finds windows, dividing only when leaving the last one.
struct Current {
    window: Tumbling,
    last: Span,
}

impl Current {
    fn new(window: Tumbling) -> Self {
        Self { window, last: Span::NONE }
    }

    fn window_of(&mut self, ts: i64) -> Span {
        if !self.last.holds(ts) {
            let next = self.last.to.checked_add(self.window.width_ns);
            let next = next.map(|to| Span { from: self.last.to, to });
            self.last = match next {
                Some(next) if self.last != Span::NONE && next.holds(ts) => next,
                _ => {
                    let from = self.window.start_of(ts);
                    let from = from.expect("the time's window was found representable");
                    Span { from, to: self.window.end_of(from) }
                }
            };
        }
        self.last
    }
}

/// The codes of a batch's publishers.
fn intern_all(ticks: &Ticks, publishers: &mut PublisherTable) -> Vec<u32> {
    match ticks.is_empty() {
        true => Vec::new(),
        false => ticks.publishers.iter().map(|name| publishers.intern(name)).collect(),
    }
}

/// Splits rows in form, whose keys change where `key_runs` start, into runs.
fn runs_of(ticks: &Ticks, key_runs: &[u32], window: Tumbling, keys: &mut KeyTable) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut current = Current::new(window);
    let mut keys = keys.of_batch(&ticks.keys);
    let ends = key_runs.iter().skip(1).map(|&end| end as usize).chain([ticks.len()]);
    for (&start, end) in key_runs.iter().zip(ends) {
        let mut start = start as usize;
        let key = keys.code(ticks.key[start] as usize);
        while start < end {
            let window = current.window_of(ticks.ts_event[start]);
            let len = leading(&ticks.ts_event[start..end], window.to);
            runs.push(Run { start: start as u32, len: len as u32, key, window_start: window.from });
            start += len;
        }
    }
    runs
}

/// How many of these ascending times lie before `end`: steps that double, then halving. The first
/// one does.
fn leading(ts: &[i64], end: i64) -> usize {
    let mut step = 1;
    let mut before = 0;
    while before + step < ts.len() && ts[before + step] < end {
        before += step;
        step *= 2;
    }
    let to = ts.len().min(before + step);
    before + ts[before..to].partition_point(|&ts| ts < end)
}

#[cfg(test)]
mod tests;
