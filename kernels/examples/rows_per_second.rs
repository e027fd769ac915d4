//! Prints what one thread of the CPU engine does, in million rows per second: 1-minute OHLCV and
//! VWAP per key, filter aside, from columns in memory to states.

use std::sync::Arc;
use std::time::Instant;

use isotick_kernels::partition::Partitioner;
use isotick_kernels::{CpuEngine, Engine, KeyTable, Plan, PublisherTable, Windows};
use isotick_model::expr::{Comparison, Expr};
use isotick_model::view::{
    Aggregate, DefinitionHash, Lateness, NamedAggregate, OutputType, Tumbling, View,
};
use isotick_model::{Column, Inexact, Key, PublisherId, Scale, StreamSchema, Ticks, ValueColumn};

/// The program's own: with few rows per window, the memory of new states is what costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 1 << 22;
const MINUTE_NS: i64 = 60_000_000_000;

fn main() {
    for (name, keys, sorted, rows_per_window) in [
        ("sorted by key, 1,000 rows a window", 1000, true, 1000),
        ("sorted by key, 50 rows a window", 1000, true, 50),
        ("sorted by key, 3 rows a window", 1000, true, 3),
        ("sorted by key, 1 row a window", 1000, true, 1),
        ("in time order, 1,000 keys", 1000, false, 1000),
        ("in time order, 20 keys", 20, false, 1000),
    ] {
        for batch in [1 << 16, 1 << 20] {
            measure(name, &batches(keys, sorted, rows_per_window, batch));
        }
    }
}

fn measure(name: &str, batches: &[Ticks]) {
    let (schema, view) = definitions(false);
    let plan = Plan::of(&view);
    let partitioner = Partitioner::new(&view, &plan);
    let (mut keys, mut publishers) = (KeyTable::default(), PublisherTable::default());
    let partition = best(|| {
        for ticks in batches {
            std::hint::black_box(partitioner.partition(
                ticks,
                None,
                false,
                &mut keys,
                &mut publishers,
            ));
        }
    });
    let runs: Vec<_> = batches
        .iter()
        .map(|ticks| {
            partitioner
                .partition(ticks, None, false, &mut keys, &mut publishers)
                .form
                .into_runs()
                .expect("groups were not asked for")
        })
        .collect();
    let reduce = best(|| {
        for runs in &runs {
            std::hint::black_box(CpuEngine.reduce(&plan, runs).unwrap());
        }
    });
    let whole = |filtered: bool| {
        let (schema, view) = definitions(filtered);
        let view = Arc::new(view);
        best(|| {
            let mut windows = Windows::new(view.clone(), &schema);
            for ticks in batches {
                windows.update_all(ticks, &mut CpuEngine).unwrap();
            }
            std::hint::black_box(windows.len());
        })
    };
    let (all, filtered) = (whole(false), whole(true));
    let mut windows = Windows::new(Arc::new(view), &schema);
    for ticks in batches {
        windows.update_all(ticks, &mut CpuEngine).unwrap();
    }
    let count = windows.len();
    let start = Instant::now();
    std::hint::black_box(windows.rows());
    let lower = start.elapsed().as_nanos() as usize / count;
    println!(
        "{name}, batches of {}: partition {partition:.0}, reduce {reduce:.0}, all {all:.0}, all with `size > 0` {filtered:.0} M rows/s; {lower} ns to finish a window",
        batches[0].len()
    );
}

/// Million rows per second, the best of five.
fn best(mut work: impl FnMut()) -> f64 {
    let once = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        ROWS as f64 / start.elapsed().as_secs_f64() / 1e6
    };
    (0..5).map(|_| once(&mut work)).fold(0.0, f64::max)
}

fn definitions(filtered: bool) -> (StreamSchema, View) {
    let column = |name: &str, digits: u8| Column {
        name: name.into(),
        scale: Scale::new(digits).unwrap(),
        min: i64::MIN,
        max: i64::MAX,
        optional: false,
    };
    let schema = StreamSchema {
        name: "trades".into(),
        time: "ts".into(),
        keys: vec!["symbol".into()],
        columns: vec![column("price", 4), column("size", 0)],
        inexact: Inexact::Reject,
        keys_allowed: None,
        horizon_ns: None,
        retention: Default::default(),
        codec: Default::default(),
    };
    let aggregates = [
        Aggregate::First(0),
        Aggregate::Max(0),
        Aggregate::Min(0),
        Aggregate::Last(0),
        Aggregate::Sum(1),
        Aggregate::Vwap { price: 0, size: 1 },
        Aggregate::Count,
    ];
    let named = |aggregate: Aggregate| NamedAggregate {
        name: format!("{aggregate:?}"),
        aggregate,
        output: OutputType::Float,
    };
    let view = View {
        name: "bars_1m".into(),
        stream: "trades".into(),
        keys: schema.keys.clone(),
        filter: filtered.then_some(Expr::Compare(1, Comparison::Gt, 0)),
        window: Tumbling { width_ns: MINUTE_NS, origin_ns: 0 },
        aggregates: aggregates.map(named).to_vec(),
        lateness: Lateness::default(),
        definition: DefinitionHash(String::new()),
    };
    (schema, view)
}

/// A deterministic market: one tick per key and step of time.
fn batches(keys: usize, sorted: bool, rows_per_window: usize, batch: usize) -> Vec<Ticks> {
    let names: Vec<Key> = (0..keys).map(|key| Key::from_components([format!("S{key}")])).collect();
    let per_key = ROWS / keys;
    let mut state = 1_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let rows: Vec<(u32, i64)> = (0..ROWS)
        .map(|row| match sorted {
            true => {
                let step = (row % per_key) as i64;
                ((row / per_key).min(keys - 1) as u32, step * MINUTE_NS / rows_per_window as i64)
            }
            false => {
                let step = MINUTE_NS / (rows_per_window * keys) as i64;
                ((random() % keys as u64) as u32, row as i64 * step)
            }
        })
        .collect();
    let ticks = |(index, rows): (usize, &[(u32, i64)])| Ticks {
        ts_event: rows.iter().map(|row| row.1).collect(),
        sequence: (0..rows.len()).map(|row| (index * batch + row) as u64).collect(),
        publishers: vec![PublisherId::new("exchange").unwrap()],
        publisher: Vec::new().into(),
        keys: names.clone().into(),
        key: rows.iter().map(|row| row.0).collect(),
        values: vec![
            ValueColumn {
                values: rows.iter().map(|row| 1_000_000 + row.1 % 7919).collect(),
                nulls: None,
            },
            ValueColumn { values: rows.iter().map(|row| 1 + row.1 % 997).collect(), nulls: None },
        ],
        seen: None,
    };
    rows.chunks(batch).enumerate().map(ticks).collect()
}
