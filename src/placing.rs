//! What engines cost on this machine, measured on a small market.

use std::time::Instant;

use isotick_kernels::{Engine, EngineError, KeyTable, Partitioner, Plan, PublisherTable, Runs};
use isotick_model::Ticks;
use isotick_model::definitions::{Definitions, template};
use isotick_scheduler::{Costs, Work};

use crate::market::Market;

/// Rows of the two batches that are measured: one where the dispatch weighs, one where rows do.
const ROWS: [usize; 2] = [4_096, 131_072];
/// Reductions of each; the fastest one counts.
const REPEATS: usize = 5;

/// Measures an engine: bars with a volume-weighted price, in runs.
///
/// # Errors
/// That of the engine.
pub fn costs(engine: &mut dyn Engine) -> Result<Costs, EngineError> {
    let definitions =
        Definitions::parse(template::EXAMPLE, "example").expect("the example is valid");
    let view = definitions.views.last().expect("the example has views");
    let schema = definitions.stream(&view.stream).expect("a view's stream is declared");
    let plan = Plan::over(view, schema);
    let partitioner = Partitioner::new(view, &plan);
    let mut points = [(0.0, 0.0); 2];
    for (point, rows) in points.iter_mut().zip(ROWS) {
        let ticks = Market::new(1).next_ticks(rows);
        let runs = runs(&partitioner, &ticks);
        let mut fastest = f64::INFINITY;
        // The first one compiles and allocates.
        engine.reduce(&plan, &runs)?;
        for _ in 0..REPEATS {
            let started = Instant::now();
            engine.reduce(&plan, &runs)?;
            fastest = fastest.min(started.elapsed().as_secs_f64() * 1e9);
        }
        *point = (rows as f64, fastest);
    }
    Ok(Costs::from_two(points[0], points[1]))
}

/// A batch in runs, with codes of its own.
pub fn runs(partitioner: &Partitioner, ticks: &Ticks) -> Runs {
    let (mut keys, mut publishers) = (KeyTable::default(), PublisherTable::default());
    let partitioned = partitioner.partition(ticks, None, false, &mut keys, &mut publishers);
    partitioned.form.into_runs().expect("groups were not asked for")
}

/// A batch as the model sees it.
pub fn work(plan: &Plan, runs: &Runs) -> Work {
    let rows = runs.ticks.len() as f64;
    Work {
        rows,
        bytes_per_row: bytes_per_row(plan) as f64,
        windows_per_row: runs.runs.len() as f64 / rows.max(1.0),
        resident: false,
    }
}

/// Bytes of a row that are read to reduce it: its time, its key's code, and the plan's columns.
pub fn bytes_per_row(plan: &Plan) -> usize {
    size_of::<i64>() + size_of::<u32>() + plan.columns().len() * size_of::<i64>()
}
