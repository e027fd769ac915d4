//! `isotick bench`: what engines, batch sizes and scans reach on this machine.

mod batches;
mod figure;
mod jobs;
mod kernels;
mod live;
mod log;
mod query;
mod scan;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use isotick_gpu::{Bandwidth, GpuEngine};
use isotick_kernels::{CpuEngine, Engine};
use isotick_model::definitions::{Definitions, template};
use isotick_model::view::View;
use isotick_model::{StreamSchema, time};
use serde_json::json;

use self::figure::Figures;
use crate::cli::{BenchArgs, BenchKind, EngineChoice, OtherBench};
use crate::engines;
use crate::service::now_ns;

pub fn run(args: BenchArgs) -> Result<ExitCode> {
    match args.other {
        Some(OtherBench::Live(args)) => return live::run(&args),
        Some(OtherBench::Jobs(args)) => return jobs::run(&args),
        Some(OtherBench::Log(args)) => return log::run(&args),
        Some(OtherBench::Query(args)) => return query::run(&args),
        None => {}
    }
    let mut bench = Bench::open(&args)?;
    println!("{}", bench.machine());
    let wanted = |kind| args.what == BenchKind::All || args.what == kind;
    if wanted(BenchKind::Kernels) {
        kernels::run(&mut bench)?;
    }
    if wanted(BenchKind::Batches) {
        batches::run(&mut bench)?;
    }
    if wanted(BenchKind::Scan) {
        scan::run(&mut bench)?;
    }
    let disagreeing = bench.figures.disagreeing();
    for text in &disagreeing {
        eprintln!("isotick: {text}");
    }
    if let Some(path) = &args.json {
        let report = bench.to_json();
        std::fs::write(path, format!("{report:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if disagreeing.is_empty() {
        println!("\nequal inputs gave equal hashes in all {} figures", bench.figures.len());
    }
    Ok(if disagreeing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What all benches share.
struct Bench {
    rows: Vec<usize>,
    keys: Vec<usize>,
    quick: bool,
    repeat: usize,
    threads: usize,
    cpu: CpuEngine,
    gpu: Option<GpuEngine>,
    bandwidth: Option<Bandwidth>,
    view: Arc<View>,
    schema: StreamSchema,
    figures: Figures,
}

impl Bench {
    fn open(args: &BenchArgs) -> Result<Self> {
        let definitions = Definitions::parse(template::EXAMPLE, "example")?;
        let view = definitions.view("bars_1m")?;
        let or = |given: &[NonZeroUsize], quick: &[usize], all: &[usize]| match (given, args.quick)
        {
            ([], true) => quick.to_vec(),
            ([], false) => all.to_vec(),
            (given, _) => given.iter().map(|number| number.get()).collect(),
        };
        let mut gpu = match args.engine {
            EngineChoice::Cpu => None,
            EngineChoice::Auto => engines::hardware_gpu(),
            EngineChoice::Gpu => Some(engines::any_gpu()?),
        };
        let bandwidth = gpu.as_mut().map(GpuEngine::measure_bandwidth).transpose()?;
        let cores = || std::thread::available_parallelism().ok();
        Ok(Self {
            rows: or(&args.rows, &[1 << 10, 1 << 15], &[1 << 10, 1 << 16, 1 << 21]),
            keys: or(&args.keys, &[1, 1_000], &[1, 1_000, 100_000]),
            quick: args.quick,
            repeat: args.repeat.get(),
            threads: args.threads.or_else(cores).map_or(1, |threads| threads.get()),
            cpu: CpuEngine,
            gpu,
            bandwidth,
            view: Arc::new(view.clone()),
            schema: definitions.stream(&view.stream)?.clone(),
            figures: Figures::default(),
        })
    }

    /// The engines, the CPU first.
    fn engines(&mut self) -> Vec<&mut dyn Engine> {
        let mut engines: Vec<&mut dyn Engine> = vec![&mut self.cpu];
        engines.extend(self.gpu.as_mut().map(|gpu| gpu as &mut dyn Engine));
        engines
    }

    fn machine(&self) -> String {
        let gpu = match (&self.gpu, &self.bandwidth) {
            (Some(gpu), Some(bandwidth)) => format!(
                "gpu     {}\n        copies {:.1} GB/s, takes {:.1}, gives back {:.1}",
                gpu.describe(),
                bandwidth.copy_bytes_per_s / 1e9,
                bandwidth.upload_bytes_per_s / 1e9,
                bandwidth.readback_bytes_per_s / 1e9
            ),
            _ => "gpu     none measured (a software adapter only with --engine gpu)".to_owned(),
        };
        format!("machine {}, {} threads\n{gpu}", processor(), self.threads)
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "isotick": env!("CARGO_PKG_VERSION"),
            "date": time::format_rfc3339(now_ns()),
            "processor": processor(),
            "threads": self.threads,
            "gpu": self.gpu.as_ref().map(Engine::describe),
            "bandwidth": self.bandwidth.map(|bandwidth| json!({
                "copy_bytes_per_s": bandwidth.copy_bytes_per_s,
                "upload_bytes_per_s": bandwidth.upload_bytes_per_s,
                "readback_bytes_per_s": bandwidth.readback_bytes_per_s,
            })),
            "figures": self.figures.to_json(),
        })
    }
}

/// The processor's name, where the system tells it.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}
