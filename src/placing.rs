//! What engines cost on this machine, measured on a small market.

use std::time::Instant;

use isotick_kernels::{
    Engine, EngineError, Form, Groups, KeyTable, Partials, Partitioner, Plan, PublisherTable, Runs,
};
use isotick_model::Ticks;
use isotick_model::definitions::{Definitions, template};
use isotick_scheduler::{Costs, Work};

use crate::market::Market;

/// Rows of the two batches that are measured: one where the dispatch weighs, one where rows do.
pub const ROWS: [usize; 2] = [4_096, 131_072];
/// Reductions of each; the fastest one counts.
const REPEATS: usize = 5;

/// What an engine costs, by the form in which rows come.
#[derive(Clone, Copy, Debug)]
pub struct ByForm {
    /// Rows in runs.
    pub runs: Costs,
    /// Rows in any order, in groups; `None` where the engine takes runs only.
    pub groups: Option<Costs>,
    /// Rows in runs whose columns the engine holds; `None` where it holds none.
    pub held: Option<Costs>,
}

/// The number of rows that are held to be measured.
pub const SAMPLE: u64 = u64::MAX;

/// Measures an engine: bars with a volume-weighted price, in runs, held, and in groups. What groups cost
/// more is not measured where the engine knows it already.
///
/// # Errors
/// That of the engine.
pub fn costs(engine: &mut dyn Engine) -> Result<ByForm, EngineError> {
    let definitions =
        Definitions::parse(template::EXAMPLE, "example").expect("the example is valid");
    let view = definitions.views.last().expect("the example has views");
    let schema = definitions.stream(&view.stream).expect("a view's stream is declared");
    let plan = Plan::over(view, schema);
    let partitioner = Partitioner::new(view, &plan);
    let batches = ROWS.map(|rows| Market::new(1).next_ticks(rows));
    let (mut in_runs, mut held) = (Vec::new(), Vec::new());
    for ticks in &batches {
        let runs = runs(&partitioner, ticks);
        in_runs.push(fastest(ticks.len(), || engine.reduce(&plan, &runs))?);
        if engine.holding().is_some() {
            held.push(fastest(ticks.len(), || engine.reduce_held(SAMPLE, &plan, &runs))?);
            engine.release(SAMPLE);
        }
    }
    let runs = Costs::from_two(in_runs[0], in_runs[1]);
    let held = match held.as_slice() {
        &[small, large] => Some(Costs::from_two(small, large)),
        _ => None,
    };
    let groups = match engine.groups_ns_per_row() {
        _ if !engine.takes_groups() => None,
        Some(more) => Some(runs.with_more_per_row(more)),
        None => {
            let mut in_groups = Vec::new();
            for ticks in &batches {
                let Some(groups) = groups(&partitioner, ticks) else { continue };
                in_groups.push(fastest(ticks.len(), || engine.reduce_groups(&plan, &groups))?);
            }
            match in_groups.as_slice() {
                &[small, large] => Some(Costs::from_two(small, large)),
                _ => None,
            }
        }
    };
    Ok(ByForm { runs, groups, held })
}

/// Rows, and nanoseconds of the fastest of some reductions.
fn fastest(
    rows: usize,
    mut reduce: impl FnMut() -> Result<Partials, EngineError>,
) -> Result<(f64, f64), EngineError> {
    // The first one compiles and allocates.
    reduce()?;
    let mut fastest = f64::INFINITY;
    for _ in 0..REPEATS {
        let started = Instant::now();
        reduce()?;
        fastest = fastest.min(started.elapsed().as_secs_f64() * 1e9);
    }
    Ok((rows as f64, fastest))
}

/// A batch in groups, with codes of its own; `None` where its rows are in runs as they come.
pub fn groups(partitioner: &Partitioner, ticks: &Ticks) -> Option<Groups> {
    let (mut keys, mut publishers) = (KeyTable::default(), PublisherTable::default());
    match partitioner.partition(ticks, None, true, &mut keys, &mut publishers).form {
        Form::Groups(groups) => Some(groups),
        Form::Runs(_) => None,
    }
}

/// A batch in runs, with codes of its own.
pub fn runs(partitioner: &Partitioner, ticks: &Ticks) -> Runs {
    let (mut keys, mut publishers) = (KeyTable::default(), PublisherTable::default());
    let partitioned = partitioner.partition(ticks, None, false, &mut keys, &mut publishers);
    partitioned.form.into_runs().expect("groups were not asked for")
}

/// A batch as the model sees it.
pub fn work(plan: &Plan, runs: &Runs) -> Work {
    work_of(plan, runs.ticks.len(), runs.runs.len())
}

/// A batch in groups as the model sees it.
pub fn work_of_groups(plan: &Plan, groups: &Groups) -> Work {
    work_of(plan, groups.ticks.len(), groups.groups.len())
}

fn work_of(plan: &Plan, rows: usize, windows: usize) -> Work {
    let rows = rows as f64;
    Work {
        rows,
        bytes_per_row: bytes_per_row(plan) as f64,
        windows_per_row: windows as f64 / rows.max(1.0),
        resident: false,
    }
}

/// Bytes of a row that are read to reduce it: its time, its key's code, and the plan's columns.
pub fn bytes_per_row(plan: &Plan) -> usize {
    size_of::<i64>() + size_of::<u32>() + plan.columns().len() * size_of::<i64>()
}
