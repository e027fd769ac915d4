//! The proof at the demo's end: every path's result with its hash, and the verdict.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use isotick_gpu::AdapterUsage;
use isotick_kernels::{EngineKind, ResultHash, Truth, result_hash};
use isotick_model::definitions::Definitions;
use isotick_model::results::{ResultSchema, WindowRow};
use isotick_storage::Snapshot;
use serde_json::{Value, json};

use super::Published;
use crate::cli::{DemoArgs, EngineChoice};
use crate::comparing::differences;
use crate::rollups::Stored;
use crate::service::{Shared, Totals, rejections_json};
use crate::{engines, scanning};

/// Differing windows that are shown per path.
const SHOWN_MAX: usize = 5;

/// One path's result of one view.
pub struct PathResult {
    pub view: String,
    path: &'static str,
    engine: EngineKind,
    /// What the engine ran on.
    device: String,
    rows: u64,
    windows: usize,
    /// Windows among them that were still open when the publisher had finished.
    open: usize,
    hash: ResultHash,
    elapsed: Duration,
}

/// The results of all paths, by view.
pub struct Report {
    pub results: Vec<PathResult>,
    /// Differing windows in words.
    differences: Vec<String>,
}

/// Scans what was stored on every engine of this machine and compares with what live computed.
pub fn prove(
    args: &DemoArgs,
    data: &Path,
    definitions: &Definitions,
    shared: &Shared,
    published: &Published,
    mut open: BTreeMap<String, Vec<WindowRow>>,
) -> Result<Report> {
    let snapshot = Snapshot::open(data)?;
    let mut scans = vec![EngineChoice::Cpu];
    if isotick_gpu::devices().iter().any(|adapter| adapter.usage != AdapterUsage::Never) {
        scans.push(EngineChoice::Gpu);
    } else if !args.json {
        eprintln!("no GPU adapter: scanning on the CPU engine only");
    }
    let mut report = Report { results: Vec::new(), differences: Vec::new() };
    for view in &definitions.views {
        let result = ResultSchema::of(view);
        let schema = definitions.stream(&view.stream)?;
        let mut live = snapshot.record(&view.definition, &result)?;
        let still_open = open.remove(&view.name).unwrap_or_default();
        let open_windows = still_open.len();
        live.extend(still_open);
        live.sort_unstable_by(|a, b| (&a.key, a.window_start).cmp(&(&b.key, b.window_start)));
        let channel = shared.views.iter().find(|channel| channel.view.name == view.name);
        report.results.push(PathResult {
            view: view.name.clone(),
            path: "live",
            engine: shared.engine_kind(),
            device: shared.engine().to_owned(),
            rows: channel.map_or(0, |channel| channel.counts().0.ticks),
            windows: live.len(),
            open: open_windows,
            hash: result_hash(&result, &live),
            elapsed: published.elapsed,
        });
        let truth = Truth::Seen { allowed_ns: view.lateness.allowed_ns };
        for choice in &scans {
            let scan = scanning::whole(view, schema, truth);
            let folder = scanning::folder_parts(&snapshot, &scan, Stored::Ticks, true)?;
            let (engines, mut scanned) = (engines::open(*choice, None)?, Vec::new());
            let finished =
                scanning::run(&scan, folder.parts, Some(folder.rows), engines, &mut |rows| {
                    scanned.extend(rows.rows());
                    Ok(())
                })?;
            let differing = differences(&live, &scanned);
            for difference in differing.iter().take(SHOWN_MAX) {
                let names = ["live", "scan"];
                report.differences.push(difference.describe(&result, names));
            }
            report.results.push(PathResult {
                view: view.name.clone(),
                path: "scan",
                rows: finished.rows_reduced(),
                windows: finished.windows,
                open: open_windows,
                hash: finished.hash,
                elapsed: finished.elapsed,
                engine: match choice {
                    EngineChoice::Gpu => EngineKind::Gpu,
                    EngineChoice::Auto | EngineChoice::Cpu => EngineKind::Cpu,
                },
                device: finished.engine,
            });
        }
    }
    Ok(report)
}

impl Report {
    /// Whether all paths agree.
    pub fn equal(&self) -> bool {
        self.differences.is_empty()
            && self
                .results
                .chunk_by(|a, b| a.view == b.view)
                .all(|paths| paths.iter().all(|path| path.hash == paths[0].hash))
    }

    pub fn to_json(&self, published: &Published, totals: &Totals) -> Value {
        let results: Vec<_> = self
            .results
            .iter()
            .map(|result| {
                json!({
                    "view": result.view,
                    "path": result.path,
                    "engine": result.engine.to_string(),
                    "device": result.device,
                    "rows": result.rows,
                    "windows": result.windows,
                    "open": result.open,
                    "rows_per_s": per_second(result.rows, result.elapsed),
                    "hash": result.hash.to_string(),
                })
            })
            .collect();
        json!({
            "results": results,
            "equal": self.equal(),
            "differences": self.differences,
            "ticks": {
                "sent": published.sent,
                "accepted": totals.accepted,
                "late": totals.late,
                "duplicate": totals.duplicate,
                "conflicting": totals.conflicting,
                "rejected": rejections_json(&totals.rejected),
                "durable_through": published.acks.iter().map(|ack| ack.durable_through).sum::<u64>(),
            },
            "seconds": published.elapsed.as_secs_f64(),
            "ticks_per_s": per_second(published.sent, published.elapsed),
            "latency_us": published.latency_ns.as_ref().map(|latency| json!({
                "p50": latency.value_at_quantile(0.5) as f64 / 1e3,
                "p99": latency.value_at_quantile(0.99) as f64 / 1e3,
                "max": latency.max() as f64 / 1e3,
                "windows": latency.len(),
            })),
        })
    }

    pub fn print(&self, published: &Published, totals: &Totals) {
        let rejected: Vec<_> =
            totals.rejected.iter().map(|(reason, rows)| format!("{rows} {reason}")).collect();
        println!(
            "ticks     {} sent, {} accepted ({} late), {} duplicate, {} conflicting, rejected: {}",
            published.sent,
            totals.accepted,
            totals.late,
            totals.duplicate,
            totals.conflicting,
            if rejected.is_empty() { "none".to_owned() } else { rejected.join(", ") }
        );
        println!(
            "time      {:.2} s from the first tick sent to the last one durable and in history, \
             {:.2} M ticks/s",
            published.elapsed.as_secs_f64(),
            per_second(published.sent, published.elapsed) as f64 / 1e6
        );
        if let Some(latency) = &published.latency_ns {
            println!(
                "latency   p50 {:.0} µs, p99 {:.0} µs, max {:.0} µs from the tick that closes a \
                 window to its subscriber ({} closings)",
                latency.value_at_quantile(0.5) as f64 / 1e3,
                latency.value_at_quantile(0.99) as f64 / 1e3,
                latency.max() as f64 / 1e3,
                latency.len()
            );
        }
        published.rejections.report();
        for paths in self.results.chunk_by(|a, b| a.view == b.view) {
            println!(
                "\n{}: {} windows, {} of them still open when the publisher had finished",
                paths[0].view, paths[0].windows, paths[0].open
            );
            for result in paths {
                println!(
                    "  {:<4} {:<3} {:>10} rows {:>7.2} M rows/s  {}{}",
                    result.path,
                    result.engine.to_string(),
                    result.rows,
                    per_second(result.rows, result.elapsed) as f64 / 1e6,
                    result.hash,
                    match result.engine {
                        EngineKind::Cpu => String::new(),
                        EngineKind::Gpu => format!("  {}", result.device),
                    },
                );
            }
        }
        for difference in &self.differences {
            print!("\n{difference}");
        }
        println!();
        match self.equal() {
            true => println!("equal: live and history agree, bit for bit"),
            false => println!("DIFFERENT: live and history do not agree"),
        }
    }
}

fn per_second(rows: u64, elapsed: Duration) -> u64 {
    (rows as f64 / elapsed.as_secs_f64().max(1e-9)) as u64
}
