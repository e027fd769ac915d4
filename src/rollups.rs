//! Rollups where plans meet files: what a view's states are called in a manifest, which of them
//! stand for a scan, and how ticks become states.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use isotick_kernels::{Base, CpuEngine, Plan, SavedWindows, Term, Truth, Windows};
use isotick_model::expr::Expr;
use isotick_model::view::{Tumbling, View};
use isotick_model::{PublisherId, StreamSchema};
use isotick_scheduler::{Scan, ScanView};
use isotick_storage::manifest::{HistoryFile, StreamFiles};
use isotick_storage::{
    Chosen, Columns, Error, Rolled, RollupBase, RollupTerm, RollupWork, StoredStates,
};

use crate::scanning;

/// Which word of a first or last value is the publisher's code.
const PUBLISHER_WORD: usize = 2;

/// What of a folder may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Ticks alone.
    Ticks,
    /// States too, in place of ticks where they stand for them and take less time.
    States,
}

/// What a view's states are of, as a manifest has it; `None` for a view that needs more than states
/// of a fixed size.
pub fn stored_base(view: &View, schema: &StreamSchema) -> Option<RollupBase> {
    let plan = Plan::over(view, schema);
    plan.values().is_empty().then(|| to_stored(&Base::of(view, schema), schema))
}

fn to_stored(base: &Base, schema: &StreamSchema) -> RollupBase {
    let term = |&(term, _): &(Term, usize)| {
        let (of, columns) = names(term);
        RollupTerm {
            of: of.to_owned(),
            columns: columns.iter().map(|&column| schema.columns[column].name.clone()).collect(),
            words: term.words(),
            publisher: matches!(term, Term::First(_) | Term::Last(_)).then_some(PUBLISHER_WORD),
        }
    };
    RollupBase {
        filter: base.filter().map(|filter| filter.to_text(schema)),
        width_ns: base.window().width_ns,
        origin_ns: base.window().origin_ns,
        terms: base.plan().terms().iter().map(term).collect(),
    }
}

/// A term's name, and its columns.
fn names(term: Term) -> (&'static str, Vec<usize>) {
    match term {
        Term::Rows => ("count", vec![]),
        Term::Count(column) => ("count", vec![column]),
        Term::Sum(column) => ("sum", vec![column]),
        Term::SumProduct(a, b) => ("sum_product", vec![a, b]),
        Term::SumPaired { of, with } => ("sum_paired", vec![of, with]),
        Term::Min(column) => ("min", vec![column]),
        Term::Max(column) => ("max", vec![column]),
        Term::First(column) => ("first", vec![column]),
        Term::Last(column) => ("last", vec![column]),
    }
}

/// What stored states are of; `None` where this release or the stream's definition does not know
/// it.
pub fn base_of(stored: &RollupBase, schema: &StreamSchema) -> Option<Base> {
    let filter = stored.filter.as_ref().map(|text| Expr::parse(text, schema));
    let window = Tumbling { width_ns: stored.width_ns, origin_ns: stored.origin_ns };
    let term = |term: &RollupTerm| {
        let column = |name: &String| schema.column(name);
        let columns = term.columns.iter().map(column).collect::<Option<Vec<_>>>()?;
        Some(match (term.of.as_str(), &columns[..]) {
            ("count", []) => Term::Rows,
            ("count", [column]) => Term::Count(*column),
            ("sum", [column]) => Term::Sum(*column),
            ("sum_product", [a, b]) => Term::SumProduct(*a, *b),
            ("sum_paired", [of, with]) => Term::SumPaired { of: *of, with: *with },
            ("min", [column]) => Term::Min(*column),
            ("max", [column]) => Term::Max(*column),
            ("first", [column]) => Term::First(*column),
            ("last", [column]) => Term::Last(*column),
            _ => return None,
        })
    };
    let terms = stored.terms.iter().map(term).collect::<Option<Vec<_>>>()?;
    let base = Base::new(filter.transpose().ok()?, window, terms, schema);
    // Also where a column has become one that may be null, so that its counts are not there.
    (to_stored(&base, schema) == *stored).then_some(base)
}

/// What stored states are of, for people.
pub fn describe(base: &RollupBase) -> String {
    let width = isotick_model::time::format_duration(base.width_ns);
    let of = match &base.filter {
        Some(filter) => format!(" of ticks with {filter}"),
        None => String::new(),
    };
    format!("{width} windows{of}, {} words each", base.words())
}

/// Nanoseconds that a tick takes to be read and reduced, and each column of it; and a state, and
/// each word of it. One thread of the machine of the README's tables: only their ratios matter.
const TICK_NS: f64 = 4.0;
const COLUMN_NS: f64 = 1.5;
const STATE_NS: f64 = 40.0;
const WORD_NS: f64 = 3.0;

/// Chooses, file by file, whether a scan reads ticks or states.
pub struct Chooser {
    plans: Vec<(Arc<View>, Plan)>,
    schema: Arc<StreamSchema>,
    /// What a tick takes; infinity where states are read whatever they take.
    tick_ns: f64,
    /// What is known of bases by their names, which are their contents' hashes; `None` for one that
    /// does not stand for every view of the scan.
    known: RefCell<HashMap<String, Option<Covering>>>,
}

/// A base that stands for every view of a scan.
#[derive(Clone)]
struct Covering {
    /// With the terms alone that the views need.
    base: Arc<Base>,
    /// Which words of a stored state these are.
    words: Vec<usize>,
}

impl Chooser {
    /// For a scan; `None` where nothing stands for its ticks.
    pub fn new(scan: &Scan) -> Option<Self> {
        let is_now = scan.views.iter().all(|of| of.truth == Truth::Now);
        let plan = |of: &ScanView| (of.view.clone(), Plan::over(&of.view, &scan.schema));
        let plans: Vec<_> = scan.views.iter().map(plan).collect();
        let has_values = plans.iter().any(|(_, plan)| !plan.values().is_empty());
        let columns = scanning::columns_of(scan);
        let columns = columns.values.len() + 2 * usize::from(columns.identity);
        (is_now && !has_values).then(|| Self {
            plans,
            schema: scan.schema.clone(),
            tick_ns: TICK_NS + COLUMN_NS * columns as f64,
            known: RefCell::default(),
        })
    }

    /// Reads states wherever they stand for ticks, also where that takes longer.
    #[must_use]
    pub fn at_any_cost(self) -> Self {
        Self { tick_ns: f64::INFINITY, ..self }
    }

    /// The states to be read in place of a file's ticks, if they are predicted to take less time.
    pub fn choose(&self, file: &HistoryFile, of_stream: &StreamFiles) -> Option<Chosen> {
        let mut known = self.known.borrow_mut();
        let mut cheapest: Option<(f64, Chosen)> = None;
        for (id, states) in &file.rollups {
            let Some(states) = states else { continue };
            let covering =
                known.entry(id.clone()).or_insert_with(|| self.covering(of_stream.bases.get(id)?));
            let Some(Covering { words, .. }) = covering else { continue };
            let cost = states.file.rows as f64 * (STATE_NS + WORD_NS * words.len() as f64);
            if cheapest.as_ref().is_none_or(|(least, _)| cost < *least) {
                cheapest = Some((cost, Chosen { base: id.clone(), words: words.clone() }));
            }
        }
        let (cost, chosen) = cheapest?;
        (cost < file.file.rows as f64 * self.tick_ns).then_some(chosen)
    }

    fn covering(&self, stored: &RollupBase) -> Option<Covering> {
        let base = base_of(stored, &self.schema)?;
        if !self.plans.iter().all(|(view, plan)| base.covers(view, plan)) {
            return None;
        }
        let narrow = base.narrowed(self.plans.iter().map(|(_, plan)| plan));
        let words = narrow.plan().terms().iter().flat_map(|&(term, _)| {
            let from = base.plan().offset(term).expect("a narrowed base has no other term");
            from..from + term.words()
        });
        Some(Covering { words: words.collect(), base: Arc::new(narrow) })
    }

    /// What is read of the states of a base that was chosen.
    ///
    /// # Panics
    ///
    /// When it never was.
    pub fn base(&self, id: &str) -> Arc<Base> {
        let known = self.known.borrow();
        let covering = known.get(id).and_then(Option::as_ref);
        covering.expect("the base was chosen").base.clone()
    }
}

/// States that were read, as windows take them.
pub fn saved(states: StoredStates) -> SavedWindows {
    let StoredStates { keys, publishers, key, start, words } = states;
    SavedWindows { keys, publishers, key, start, words, ..SavedWindows::default() }
}

/// Reduces a file's ticks to states and puts them in place, on one thread in bounded memory.
/// `step` is told of ticks as they are done; an error of it ends the work.
///
/// # Errors
///
/// Those of `step`, and of reading and writing.
pub fn reduce(
    work: &RollupWork,
    schema: &StreamSchema,
    step: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<Rolled, Error> {
    // What this release does not know is left alone.
    let Some(base) = base_of(work.base(), schema) else { return Ok(work.pass()) };
    let mut parts = work.parts(&columns_of(&base))?.into_iter();
    // The last window of a part may go on in the next one.
    let mut carried: Option<SavedWindows> = None;
    let mut unrepresentable = 0;
    let mut failed = false;
    let mut next = || -> Result<Option<SavedWindows>, Error> {
        let Some(part) = parts.next() else { return Ok(carried.take()) };
        let mut windows = Windows::of_base(&base, schema);
        if let Some(carried) = carried.take() {
            windows.absorb(&carried).expect("it was saved of windows of the same base");
        }
        for ticks in part.read()? {
            let updated = windows.update_all(&ticks?, &mut CpuEngine);
            updated.expect("the CPU engine does not fail");
        }
        unrepresentable += windows.unrepresentable();
        step(part.rows() as u64)?;
        let mut saved = windows.save(|_, _| ());
        carried = split_last(&mut saved, base.plan());
        Ok(Some(saved))
    };
    let batches = std::iter::from_fn(|| {
        let batch = if failed { Ok(None) } else { next() };
        failed |= batch.is_err();
        batch.transpose()
    });
    let stored = |saved: SavedWindows| {
        let SavedWindows { keys, publishers, key, start, words, .. } = saved;
        StoredStates { keys, publishers, key, start, words }
    };
    let rolled = work.write(batches.map(|batch| batch.map(stored)))?;
    match unrepresentable {
        0 => Ok(rolled),
        // Which of a wider window's ticks these are could not be told.
        _ => Ok(work.pass()),
    }
}

/// Takes the last window out, with the publishers that it names.
fn split_last(saved: &mut SavedWindows, plan: &Plan) -> Option<SavedWindows> {
    let (key, start) = (saved.key.pop()?, saved.start.pop()?);
    let mut words = saved.words.split_off(saved.words.len() - plan.words());
    let mut publishers: Vec<PublisherId> = Vec::new();
    for &(term, first) in plan.terms() {
        if matches!(term, Term::First(_) | Term::Last(_)) && words[first] == 1 {
            let publisher = &saved.publishers[words[first + PUBLISHER_WORD] as usize];
            let known = publishers.iter().position(|known| known == publisher);
            words[first + PUBLISHER_WORD] = known.unwrap_or(publishers.len()) as u64;
            if known.is_none() {
                publishers.push(publisher.clone());
            }
        }
    }
    let keys = vec![saved.keys[key as usize].clone()];
    let (key, start) = (vec![0], vec![start]);
    Some(SavedWindows { keys, publishers, key, start, words, ..SavedWindows::default() })
}

/// The columns that states are made from.
fn columns_of(base: &Base) -> Columns {
    let mut values = base.plan().columns();
    values.extend(base.filter().into_iter().flat_map(Expr::columns));
    values.sort_unstable();
    values.dedup();
    let is_end = |(term, _): &(Term, usize)| matches!(term, Term::First(_) | Term::Last(_));
    let identity = base.plan().terms().iter().any(is_end);
    let timed = base.filter().is_some_and(Expr::reads_time);
    let one_window = (!identity && !timed).then_some(base.window());
    Columns { values, identity, seen: false, one_window }
}
