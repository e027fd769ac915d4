//! The product's side of a comparison: cases as its ticks and definitions, its results as the
//! oracle's plain windows.

use std::sync::Arc;

use isotick_kernels::windows::{Truth, Windows};
use isotick_kernels::{CpuEngine, Engine, result_hash};
use isotick_model::results::{ResultSchema, Value, WindowRow};
use isotick_model::ticks::{NEVER_SEEN, ON_TIME};
use isotick_model::view::View;
use isotick_model::watermark::Watermark;
use isotick_model::{Key, PublisherId, StreamSchema, Ticks, ValueColumn};

use crate::oracle::{self, Arrival, Cell, Event, Window};
use crate::random::{Case, Rng};
use crate::text;

/// A case with its definitions as the product reads them.
pub struct Product {
    pub schema: StreamSchema,
    pub view: Arc<View>,
}

impl Product {
    /// Writes the case's definitions as text and lets the product read them.
    pub fn of(case: &Case) -> Self {
        let text = text::definitions(case);
        let (schema, view) =
            text::read(&text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", case.name()));
        let names: Vec<_> = view.aggregates.iter().map(|a| a.name.as_str()).collect();
        let expected: Vec<_> = case.view.outputs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, expected, "{}\n{text}", case.name());
        Self { schema, view: Arc::new(view) }
    }

    /// One truth as the kernels take it.
    pub fn truth(&self, truth: oracle::Truth) -> Truth {
        match truth {
            oracle::Truth::Now => Truth::Now,
            oracle::Truth::Seen => Truth::Seen { allowed_ns: self.view.lateness.allowed_ns },
        }
    }

    /// No ticks yet.
    pub fn windows(&self, truth: oracle::Truth) -> Windows {
        Windows::new(self.view.clone(), &self.schema).with_truth(self.truth(truth))
    }

    /// Batches through an engine.
    pub fn run(&self, truth: oracle::Truth, batches: &[Ticks], engine: &mut dyn Engine) -> Windows {
        let mut windows = self.windows(truth);
        for batch in batches {
            windows.update(batch, &|_| true, engine).expect("the engine reduces");
        }
        windows
    }

    /// The same on the CPU.
    pub fn run_on_cpu(&self, truth: oracle::Truth, batches: &[Ticks]) -> Windows {
        self.run(truth, batches, &mut CpuEngine)
    }

    /// Results as the oracle gives them.
    pub fn plain(&self, rows: &[WindowRow]) -> Vec<Window> {
        rows.iter()
            .map(|row| Window {
                key: row.key.components(),
                start: row.window_start,
                end: row.window_end,
                cells: row.values.iter().map(cell).collect(),
            })
            .collect()
    }

    /// The product's own hash of results.
    pub fn hash(&self, rows: &[WindowRow]) -> String {
        result_hash(&ResultSchema::of(&self.view), rows).to_string()
    }
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Integer(integer) => Cell::Integer((*integer).into()),
        Value::Float(float) => Cell::Float(*float),
    }
}

/// Each tick's `seen` value from the product's watermark, its run of events cut at every tick;
/// checked against the oracle's.
pub fn seen_by_watermark(case: &Case) -> Vec<i64> {
    let mut watermark = Watermark::default();
    let id = |name: &str| PublisherId::new(name).expect("names in cases are short");
    let mut seen = Vec::new();
    for event in &case.events {
        match event {
            Event::Join(name) => watermark.join(&id(name)),
            Event::Idle(name) => watermark.idle(&id(name)),
            Event::Tick(name, ts) => {
                seen.push(ON_TIME);
                let last = seen.len() - 1;
                watermark.observe(&id(name), &[*ts], |_, w| seen[last] = w);
            }
        }
    }
    let mut live = seen.into_iter();
    let by_row = case.ticks.iter().map(|tick| match tick.arrival {
        Arrival::NeverSeen => NEVER_SEEN,
        Arrival::At(w) => {
            let seen = live.next().expect("every live tick is in the log");
            let expected = w.filter(|w| tick.ts < *w).unwrap_or(ON_TIME);
            assert_eq!(seen, expected, "{}: W at {tick:?}", case.name());
            seen
        }
    });
    by_row.collect()
}

/// Rows of a case as one batch, in the order given. The order of the batch's own tables of keys
/// and publishers is drawn: codes must not matter.
pub fn batch(case: &Case, seen: &[i64], rows: &[usize], rng: &mut Rng) -> Ticks {
    let ticks = || rows.iter().map(|&row| &case.ticks[row]);
    let mut publishers: Vec<_> = ticks().map(|tick| tick.publisher.as_str()).collect();
    let mut keys: Vec<_> = ticks().map(|tick| &tick.key).collect();
    publishers.sort_unstable();
    publishers.dedup();
    keys.sort_unstable();
    keys.dedup();
    rng.shuffle(&mut publishers);
    rng.shuffle(&mut keys);
    let code = |at: Option<usize>| u32::try_from(at.expect("in the table")).expect("few");
    let publisher_code = |name: &str| code(publishers.iter().position(|other| *other == name));
    let one_publisher = publishers.len() == 1 && rng.chance(50);
    let key_codes: std::collections::HashMap<_, _> =
        keys.iter().enumerate().map(|(i, key)| (*key, code(Some(i)))).collect();
    let all_on_time = rows.iter().all(|&row| seen[row] == ON_TIME);
    Ticks {
        ts_event: ticks().map(|tick| tick.ts).collect(),
        sequence: ticks().map(|tick| tick.sequence).collect(),
        publisher: match one_publisher {
            true => Vec::new().into(),
            false => ticks().map(|tick| publisher_code(&tick.publisher)).collect(),
        },
        publishers: publishers.iter().map(|name| PublisherId::new(name).expect("short")).collect(),
        key: ticks().map(|tick| key_codes[&tick.key]).collect(),
        keys: keys.iter().map(|key| Key::from_components(key.iter())).collect(),
        values: (0..case.columns.len())
            .map(|c| {
                let nulls = ticks().any(|tick| tick.values[c].is_none());
                ValueColumn {
                    values: ticks().map(|tick| tick.values[c].unwrap_or(0)).collect(),
                    nulls: nulls.then(|| ticks().map(|t| t.values[c].is_some()).collect()),
                }
            })
            .collect(),
        seen: (!all_on_time).then(|| rows.iter().map(|&row| seen[row]).collect()),
    }
}

/// Rows cut into batches of drawn lengths, among them single rows.
pub fn cut(rows: &[usize], batches_max: usize, rng: &mut Rng) -> Vec<Vec<usize>> {
    let mut rest = rows;
    let mut pieces = Vec::new();
    let longest = rows.len().div_ceil(batches_max).max(1);
    while !rest.is_empty() {
        let len = if rng.chance(10) { 1 } else { 1 + rng.index(2 * longest) };
        let (piece, after) = rest.split_at(len.min(rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces
}
