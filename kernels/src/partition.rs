//! From ticks in any order to runs of one (key, window).

use std::cmp::Ordering;
use std::ops::Range;

use arrow_buffer::BooleanBuffer;
use isotick_model::expr::Expr;
use isotick_model::ticks::{NEVER_SEEN, ON_TIME};
use isotick_model::view::{Tumbling, View};
use isotick_model::{Ticks, ValueColumn};

use crate::filter;
use crate::plan::Plan;
use crate::runs::{Run, Runs};
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
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub struct Partitioned {
    /// The rows that are in windows. Columns that the plan does not read may be absent.
    pub runs: Runs,
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

    /// The runs of a batch, over rows for which `select` is true (`None`: all). Keys and
    /// publishers of rows that enter windows get codes in the tables.
    ///
    /// Rows that already come grouped by key and in canonical order per key are not moved, and
    /// when they are also adjacent their buffers are shared.
    ///
    /// # Panics
    /// When the batch has 2^32 rows or more, or a column that the filter reads is absent.
    pub fn partition(
        &self,
        ticks: &Ticks,
        select: Option<&dyn Fn(usize) -> bool>,
        keys: &mut KeyTable,
        publishers: &mut PublisherTable,
    ) -> Partitioned {
        assert!(u32::try_from(ticks.len()).is_ok(), "a batch has fewer than 2^32 rows");
        let (rows, unrepresentable, too_late) = self.rows(ticks, select);
        let order = Order::of(ticks);
        let ticks = match rows {
            Rows::Range(range) if order.in_form(range.len(), |row| range.start + row) => {
                if range.len() == ticks.len() { ticks.clone() } else { self.slice(ticks, range) }
            }
            Rows::List(rows) if order.in_form(rows.len(), |row| rows[row] as usize) => {
                self.gather(ticks, &rows)
            }
            Rows::Range(range) => {
                let rows = range.start as u32..range.end as u32;
                self.gather(ticks, &order.sorted(rows))
            }
            Rows::List(rows) => self.gather(ticks, &order.sorted(rows.iter().copied())),
        };
        let publisher_codes = match ticks.is_empty() {
            true => Vec::new(),
            false => ticks.publishers.iter().map(|name| publishers.intern(name)).collect(),
        };
        let runs = runs_of(&ticks, self.window, keys);
        Partitioned { runs: Runs { ticks, runs, publisher_codes }, unrepresentable, too_late }
    }

    /// The rows that enter windows, and the counts of those left out as unrepresentable and as
    /// too late.
    fn rows(&self, ticks: &Ticks, select: Option<&dyn Fn(usize) -> bool>) -> (Rows, u64, u64) {
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
        let least = ts.iter().copied().min().unwrap_or(self.span.from);
        let greatest = ts.iter().copied().max().unwrap_or(self.span.from);
        let mut unrepresentable = 0;
        if rows > 0 && !(self.domain.holds(least) && self.domain.holds(greatest)) {
            let within = BooleanBuffer::collect_bool(rows, |row| self.domain.holds(ts[row]));
            unrepresentable = keep(&mut mask, within);
        }
        if rows > 0 && !(self.span.holds(least) && self.span.holds(greatest)) {
            keep(&mut mask, BooleanBuffer::collect_bool(rows, |row| self.span.holds(ts[row])));
        }
        let mut left_out = 0;
        let all_on_time = ticks.seen.is_none();
        if self.truth != Truth::Now && !(all_on_time && self.truth.holds(ON_TIME, || i64::MAX)) {
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
            let from = self.window.start_of(ts).expect("the time's window was found representable");
            self.last = Span { from, to: self.window.end_of(from) };
        }
        self.last
    }
}

/// Splits rows in form into runs.
fn runs_of(ticks: &Ticks, window: Tumbling, keys: &mut KeyTable) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut current = Current::new(window);
    let mut start = 0;
    while start < ticks.len() {
        let local = ticks.key[start];
        let rest = ticks.key[start..].iter();
        let end = start + rest.take_while(|&&other| other == local).count();
        let key = keys.intern(&ticks.keys[local as usize]);
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

/// The canonical order of a batch's rows.
struct Order<'a> {
    ticks: &'a Ticks,
    /// The place of each of the batch's publishers in the order of their names.
    ranks: Vec<u32>,
}

impl<'a> Order<'a> {
    fn of(ticks: &'a Ticks) -> Self {
        let mut by_name: Vec<u32> = (0..ticks.publishers.len() as u32).collect();
        by_name.sort_unstable_by_key(|&code| &ticks.publishers[code as usize]);
        let mut ranks = vec![0; by_name.len()];
        for (rank, code) in by_name.into_iter().enumerate() {
            ranks[code as usize] = rank as u32;
        }
        Self { ticks, ranks }
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        let ts = &self.ticks.ts_event;
        ts[a].cmp(&ts[b]).then_with(|| self.compare_ties(a, b))
    }

    fn compare_ties(&self, a: usize, b: usize) -> Ordering {
        let rank = |row: usize| {
            let code = self.ticks.publisher.get(row);
            code.map_or(0, |&code| self.ranks[code as usize])
        };
        let sequence = &self.ticks.sequence;
        rank(a).cmp(&rank(b)).then_with(|| sequence[a].cmp(&sequence[b]))
    }

    /// Whether the rows `at(0), at(1) …` are grouped by key (mostly: a key may come back where
    /// groups are long) and in canonical order within each group.
    fn in_form(&self, len: usize, at: impl Fn(usize) -> usize) -> bool {
        /// Groups of this many rows on average are worth no sorting.
        const GROUP_LEN: usize = 32;
        /// After this many rows the answer may be known.
        const LOOK_ROWS: usize = 1024;
        let (key, ts) = (&self.ticks.key[..], &self.ticks.ts_event[..]);
        let mut changes = 0_usize;
        let mut backwards = false;
        let mut ties = false;
        for from in (1..len).step_by(LOOK_ROWS) {
            for row in from..len.min(from + LOOK_ROWS) {
                let (a, b) = (at(row - 1), at(row));
                let same = key[a] == key[b];
                changes += usize::from(!same);
                backwards |= same & (ts[b] < ts[a]);
                ties |= same & (ts[b] == ts[a]);
            }
            // With more groups than keys, some key came back.
            if backwards || changes > (len / GROUP_LEN).max(self.ticks.keys.len()) {
                return false;
            }
        }
        let tied = |row: usize| {
            let (a, b) = (at(row - 1), at(row));
            key[a] == key[b] && ts[a] == ts[b] && self.compare_ties(a, b).is_gt()
        };
        if ties && (1..len).any(tied) {
            return false;
        }
        changes <= len / GROUP_LEN || {
            let mut met = vec![false; self.ticks.keys.len()];
            (0..len).all(|row| {
                let local = key[at(row)] as usize;
                let new = row == 0 || key[at(row - 1)] as usize != local;
                !(new && std::mem::replace(&mut met[local], true))
            })
        }
    }

    /// The rows grouped by key, each group in canonical order.
    fn sorted(&self, rows: impl ExactSizeIterator<Item = u32> + Clone) -> Vec<u32> {
        let (key, ts) = (&self.ticks.key[..], &self.ticks.ts_event[..]);
        let codes = self.ticks.keys.len();
        // Counting needs a counter per code: too many for a few rows.
        if codes > 4 * rows.len() + 1024 {
            let mut sorted: Vec<u32> = rows.collect();
            sorted.sort_by_key(|&row| key[row as usize]);
            for group in sorted.chunk_by_mut(|&a, &b| key[a as usize] == key[b as usize]) {
                self.sort_group(group);
            }
            return sorted;
        }
        let mut groups = vec![Group { next: 0, ordered: true, last: i64::MIN }; codes];
        for row in rows.clone() {
            groups[key[row as usize] as usize].next += 1;
        }
        let mut next = 0;
        for group in &mut groups {
            next += std::mem::replace(&mut group.next, next);
        }
        let mut sorted = vec![0; rows.len()];
        for row in rows {
            let group = &mut groups[key[row as usize] as usize];
            let ts = ts[row as usize];
            group.ordered &= group.last < ts;
            group.last = ts;
            sorted[group.next as usize] = row;
            group.next += 1;
        }
        let mut start = 0;
        for group in groups {
            if !group.ordered {
                self.sort_group(&mut sorted[start..group.next as usize]);
            }
            start = group.next as usize;
        }
        sorted
    }

    /// Rows of one key into canonical order; those that are mostly in order cost little.
    fn sort_group(&self, group: &mut [u32]) {
        let compare = |a: &u32, b: &u32| self.compare(*a as usize, *b as usize);
        if !group.is_sorted_by(|a, b| compare(a, b).is_le()) {
            group.sort_by(compare);
        }
    }
}

/// The rows of one key while they are placed.
#[derive(Clone, Copy)]
struct Group {
    /// Where the next row goes; at first, how many rows there are.
    next: u32,
    /// Whether times ascended without a tie.
    ordered: bool,
    last: i64,
}

#[cfg(test)]
mod tests;
