//! One batch at a time: latency by size, and from where on which engine is faster.

use anyhow::Result;
use hdrhistogram::Histogram;
use isotick_kernels::{EngineKind, Plan, Windows, result_hash};
use isotick_model::results::ResultSchema;
use isotick_scheduler::{Work, break_even_rows};

use super::Bench;
use super::figure::{Figure, shown, timed};
use crate::market::{Market, Skew};
use crate::placing;

const ROWS: [usize; 3] = [256, 4_096, 65_536];

pub fn run(bench: &mut Bench) -> Result<()> {
    let runs = if bench.quick { 20 } else { 200 };
    let (view, schema) = (bench.view.clone(), bench.schema.clone());
    let plan = Plan::over(&view, &schema);
    for rows in ROWS {
        let ticks = Market::of(1, 1_000, Skew::Zipf).next_ticks(rows);
        let bytes = (placing::bytes_per_row(&plan) * rows) as u64;
        let mut figures = Vec::new();
        for engine in bench.engines() {
            let (times, hash) = Figure::times(runs, || {
                let mut windows = Windows::new(view.clone(), &schema);
                let (elapsed, done) = timed(|| windows.update_all(&ticks, engine).map(drop));
                done?;
                let hash = result_hash(&ResultSchema::of(&view), &windows.rows());
                Ok((elapsed, Some(hash.to_string())))
            })?;
            let mut latencies = Histogram::<u64>::new(3)?;
            for time in &times {
                latencies.record(time.as_nanos().min(u64::MAX.into()) as u64)?;
            }
            let at = |quantile| shown(latencies.value_at_quantile(quantile) as f64 / 1e9);
            figures.push(Figure {
                input: format!("a batch of {rows} ticks of 1000 keys to states"),
                by: format!("{}, p50 {} p99 {}", engine.kind(), at(0.5), at(0.99)),
                rows,
                bytes,
                times,
                hash,
                of_copy_bandwidth: None,
            });
        }
        figures.into_iter().for_each(|figure| bench.figures.add(figure));
    }
    let mut costs = Vec::new();
    for engine in bench.engines() {
        costs.push((engine.kind(), placing::costs(engine)?));
    }
    println!();
    for (kind, costs) in &costs {
        let forms = [("in runs", Some(costs.runs)), ("in any order", costs.groups)];
        for (form, costs) in forms.into_iter().filter_map(|(form, costs)| Some((form, costs?))) {
            let (dispatch, row) = (costs.dispatch_ns / 1e3, costs.row_ns);
            println!("{kind}: {dispatch:.1} us a batch and {row:.2} ns a row, {form}");
        }
    }
    if let [(EngineKind::Cpu, cpu), (EngineKind::Gpu, gpu)] = costs.as_slice() {
        let work = Work { rows: 0.0, bytes_per_row: 0.0, windows_per_row: 0.0, resident: true };
        let forms = [("in runs", Some((cpu.runs, gpu.runs)))];
        let forms = forms.into_iter().chain([("in any order", cpu.groups.zip(gpu.groups))]);
        for (form, costs) in forms {
            match costs.and_then(|(cpu, gpu)| break_even_rows(&cpu, &gpu, &work)) {
                Some(rows) => println!("break-even, {form}: the GPU from {rows} rows a batch on"),
                None => println!("break-even, {form}: none, the CPU is faster at every size"),
            }
        }
    } else {
        println!("break-even: none, there is one engine");
    }
    Ok(())
}
