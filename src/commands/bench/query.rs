//! `isotick bench query`: a view asked for again and again by one process, as a program that stays
//! asks a library or a server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use isotick_model::time;
use serde_json::{Value, json};

use super::figure::shown;
use super::processor;
use crate::cli::QueryBenchArgs;
use crate::input::Input;
use crate::scanning::{self, Finished};
use crate::service::now_ns;
use crate::{engines, memory};

/// One call: from nothing open to the last window hashed.
struct Call {
    taken: Duration,
    /// Of all threads of the process; `None` where the system does not tell.
    cpu: Option<Duration>,
    finished: Vec<Finished>,
    rejected: Value,
}

impl Call {
    fn run(args: &QueryBenchArgs) -> Result<Self> {
        let (started, cpu) = (Instant::now(), cpu_time());
        let engines = engines::open(args.engine.engine, args.engine.threads)?;
        let Input { scan, parts, rows, bytes, rejections, .. } =
            Input::open(&args.views, &args.input, engines.workers.len())?;
        bytes.into_iter().for_each(memory::suit);
        let finished = scanning::run_all(&scan, parts, rows, engines, &mut |_, _| Ok(()))?;
        Ok(Self {
            taken: started.elapsed(),
            cpu: cpu_time().zip(cpu).map(|(now, then)| now.saturating_sub(then)),
            finished,
            rejected: rejections.to_json(),
        })
    }

    fn hashes(&self) -> Vec<String> {
        self.finished.iter().map(|view| view.hash.to_string()).collect()
    }

    /// Ticks read once for all views, or stood for by states.
    fn rows(&self) -> u64 {
        self.finished.first().map_or(0, |view| view.rows_read + view.rows_from_states)
    }

    fn to_json(&self) -> Value {
        json!({
            "seconds": self.taken.as_secs_f64(),
            "reading_seconds": self.finished.first().map(|view| view.reading.as_secs_f64()),
            "cpu_seconds": self.cpu.map(|cpu| cpu.as_secs_f64()),
        })
    }
}

pub fn run(args: &QueryBenchArgs) -> Result<ExitCode> {
    let mut calls: Vec<Call> = Vec::with_capacity(args.calls.get());
    println!("{}", processor());
    println!("{:>4}  {:>11}  {:>11}  {:>12}", "call", "taken", "CPU", "ticks/s");
    for number in 1..=args.calls.get() {
        let call = Call::run(args)?;
        let seconds = call.taken.as_secs_f64();
        println!(
            "{number:>4}  {:>11}  {:>11}  {:>10.1} M",
            shown(seconds),
            call.cpu.map_or_else(|| "-".to_owned(), |cpu| shown(cpu.as_secs_f64())),
            call.rows() as f64 / seconds.max(1e-9) / 1e6,
        );
        if let Some(first) = calls.first() {
            let (hashes, before) = (call.hashes(), first.hashes());
            ensure!(hashes == before, "call {number} gave {hashes:?}, the first gave {before:?}");
        }
        calls.push(call);
    }
    let mut times: Vec<f64> = calls.iter().map(|call| call.taken.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    let (least, median) = (times[0], times[times.len() / 2]);
    println!("\nmedian {}, least {}", shown(median), shown(least));
    let last = calls.last().context("there is a call")?;
    for view in &last.finished {
        let (windows, rows) = (view.windows, view.rows_reduced() + view.rows_from_states);
        println!("{}: {windows} windows of {rows} ticks  {}", view.view, view.hash);
    }
    if let Some(path) = &args.json {
        write_json(path, &calls, last, [least, median])?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_json(
    path: &PathBuf,
    calls: &[Call],
    last: &Call,
    [least, median]: [f64; 2],
) -> Result<()> {
    let report = json!({
        "isotick": env!("CARGO_PKG_VERSION"),
        "date": time::format_rfc3339(now_ns()),
        "processor": processor(),
        "calls": calls.iter().map(Call::to_json).collect::<Vec<_>>(),
        "min_s": least,
        "median_s": median,
        "views": last.finished.iter().map(Finished::to_json).collect::<Vec<_>>(),
        "rejected": last.rejected,
    });
    std::fs::write(path, format!("{report:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What all threads of this process have worked.
fn cpu_time() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::try_from(time).ok()
    }
    #[cfg(not(target_os = "linux"))]
    None
}
