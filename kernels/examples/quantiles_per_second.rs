//! Prints what quantiles cost one thread, in nanoseconds per row: batches in memory to finished
//! windows, for spans and frequencies of values that come to every form of a multiset.

use std::sync::Arc;
use std::time::Instant;

use isotick_kernels::{CpuEngine, Windows};
use isotick_model::view::{
    Aggregate, DefinitionHash, Lateness, NamedAggregate, OutputType, Tumbling, View,
};
use isotick_model::{
    Column, Inexact, Key, PublisherId, Quantile, Scale, StreamSchema, Ticks, ValueColumn,
};

const ROWS: usize = 20_000_000;
const BATCH_ROWS: usize = 1 << 16;
const KEYS: u64 = 1000;
const YEAR_NS: i64 = 365 * 86_400_000_000_000;

fn main() {
    let q = |billionths| Quantile::from_billionths(billionths).expect("in (0, 1]");
    let exact = [500_000_000, 990_000_000].map(|q_| Aggregate::Quantile { column: 0, q: q(q_) });
    let approximate =
        [500_000_000, 990_000_000].map(|q_| Aggregate::ApproxQuantile { column: 0, q: q(q_) });
    for (values, below, step) in [
        ("sizes in 1..10,000", 10_000, 1),
        ("sizes in 1..1,000,000", 1_000_000, 1),
        ("10,000 sizes, each a multiple of 10^9", 10_000, 1_000_000_000),
        ("any of 2^60", 1 << 60, 1),
    ] {
        for sorted in [false, true] {
            let batches = batches(below, step, sorted);
            let count = measure(&batches, &[Aggregate::Count]);
            let exact = measure(&batches, &exact);
            let approximate = measure(&batches, &approximate);
            let order = if sorted { "by key" } else { "in time order" };
            println!(
                "{values}, {order}: count() {:.1}; quantile +{:.1}, and {:.0} µs a window; \
                 approx_quantile +{:.1}, and {:.0} µs a window",
                count.0,
                exact.0 - count.0,
                exact.1,
                approximate.0 - count.0,
                approximate.1
            );
        }
    }
}

/// Nanoseconds per row until all are taken in, and microseconds to finish a window: the best of
/// three.
fn measure(batches: &[Ticks], aggregates: &[Aggregate]) -> (f64, f64) {
    let (schema, view) = definitions(aggregates);
    let view = Arc::new(view);
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..3 {
        let start = Instant::now();
        let mut windows = Windows::new(view.clone(), &schema);
        for ticks in batches {
            windows.update_all(ticks, &mut CpuEngine).expect("the CPU engine does not fail");
        }
        best.0 = best.0.min(start.elapsed().as_nanos() as f64 / ROWS as f64);
        let start = Instant::now();
        std::hint::black_box(windows.rows());
        best.1 = best.1.min(start.elapsed().as_nanos() as f64 / 1e3 / windows.len() as f64);
    }
    best
}

fn definitions(aggregates: &[Aggregate]) -> (StreamSchema, View) {
    let schema = StreamSchema {
        name: "trades".into(),
        time: "ts".into(),
        keys: vec!["symbol".into()],
        columns: vec![Column {
            name: "size".into(),
            scale: Scale::new(0).expect("a scale"),
            min: i64::MIN,
            max: i64::MAX,
            optional: false,
        }],
        inexact: Inexact::Reject,
        keys_allowed: None,
        horizon_ns: None,
        retention: Default::default(),
        codec: Default::default(),
    };
    let named = |&aggregate: &Aggregate| NamedAggregate {
        name: format!("{aggregate:?}"),
        aggregate,
        output: OutputType::Count,
    };
    let view = View {
        name: "sizes".into(),
        stream: "trades".into(),
        keys: schema.keys.clone(),
        filter: None,
        window: Tumbling { width_ns: YEAR_NS, origin_ns: 0 },
        aggregates: aggregates.iter().map(named).collect(),
        lateness: Lateness::default(),
        definition: DefinitionHash(String::new()),
    };
    (schema, view)
}

/// One window per key; the key of each row drawn, or all rows of a key one after another.
fn batches(below: u64, step: i64, sorted: bool) -> Vec<Ticks> {
    let names: Vec<Key> = (0..KEYS).map(|key| Key::from_components([format!("S{key}")])).collect();
    let mut state = 1_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 3
    };
    let batch = |index: usize| {
        let rows = index * BATCH_ROWS..ROWS.min((index + 1) * BATCH_ROWS);
        let key = rows.clone().map(|row| match sorted {
            true => (row as u64 * KEYS / ROWS as u64) as u32,
            false => (random() % KEYS) as u32,
        });
        let key = key.collect();
        let values = rows.clone().map(|_| 1 + (random() % below) as i64 * step).collect();
        Ticks {
            ts_event: rows.clone().map(|row| row as i64).collect(),
            sequence: rows.map(|row| row as u64).collect(),
            publishers: vec![PublisherId::new("exchange").expect("a name")],
            publisher: Vec::new().into(),
            keys: names.clone().into(),
            key,
            values: vec![ValueColumn { values, nulls: None }],
            seen: None,
        }
    };
    (0..ROWS.div_ceil(BATCH_ROWS)).map(batch).collect()
}
