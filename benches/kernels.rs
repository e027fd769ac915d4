//! The built-in market through the kernels: rows per second by engine and window width.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use isotick::market::Market;
use isotick_gpu::{Choice, GpuEngine};
use isotick_kernels::{CpuEngine, Engine, Windows, result_hash};
use isotick_model::Ticks;
use isotick_model::definitions::{Definitions, template};
use isotick_model::results::ResultSchema;

const ROWS: usize = 1 << 20;
const BATCH_ROWS: usize = 1 << 16;

fn bars(criterion: &mut Criterion) {
    let definitions =
        Definitions::parse(template::EXAMPLE, "example").expect("the example is valid");
    let mut market = Market::new(1);
    let batches: Vec<_> = (0..ROWS / BATCH_ROWS).map(|_| market.next_ticks(BATCH_ROWS)).collect();
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(CpuEngine)];
    #[allow(clippy::disallowed_methods, reason = "which adapter is measured is no setting of ours")]
    let choice = Choice::of_environment(|name| std::env::var_os(name));
    match GpuEngine::open(choice) {
        Ok(engine) => engines.push(Box::new(engine)),
        Err(error) => eprintln!("no GPU: {error}"),
    }
    for view in &definitions.views {
        let schema = definitions.stream(&view.stream).expect("a view's stream is declared");
        let run = |engine: &mut dyn Engine, batches: &[Ticks]| {
            let mut windows = Windows::new(Arc::new(view.clone()), schema);
            for batch in batches {
                windows.update_all(batch, engine).expect("the engine works");
            }
            windows
        };
        let mut group = criterion.benchmark_group(&view.name);
        group.throughput(Throughput::Elements(ROWS as u64));
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        for engine in &mut engines {
            let rows = run(engine.as_mut(), &batches).rows();
            let hash = result_hash(&ResultSchema::of(view), &rows);
            println!("{} on {}: {} windows, hash {hash}", view.name, engine.describe(), rows.len());
            let id = BenchmarkId::from_parameter(engine.kind());
            group.bench_function(id, |bencher| {
                bencher.iter(|| black_box(run(engine.as_mut(), &batches).len()));
            });
        }
    }
}

criterion_group!(benches, bars);
criterion_main!(benches);
