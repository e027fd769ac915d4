//! `isotick demo`: the whole way of a tick in one process, and one hash per path at the end.

use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use isotick_client::{Ack, Options as ClientOptions, Publisher, Subscriber};
use isotick_gpu::AdapterUsage;
use isotick_kernels::{EngineKind, ResultHash, Truth, result_hash};
use isotick_model::definitions::{Definitions, template};
use isotick_model::results::{ResultSchema, WindowRow};
use isotick_model::time;
use isotick_model::view::{LatenessPolicy, View};
use isotick_storage::Snapshot;
use serde_json::{Value, json};

use super::init;
use crate::cli::{AckLevel, DemoArgs, EngineChoice, Order, Speed};
use crate::comparing::differences;
use crate::files::Rejections;
use crate::market::Market;
use crate::output::value_text;
use crate::pace::Pacer;
use crate::publishing::{Publishing, Standing, Watch};
use crate::service::{Options, Service, Shared, Totals, rejections_json};
use crate::{definitions, engines, scanning};

const MARKET_SEED: u64 = 1;
const MARKET_TICKS: u64 = 2_000_000;
const FRAME_ROWS: usize = 8192;
/// Differing windows that are shown per path.
const SHOWN_MAX: usize = 5;

pub fn run(args: DemoArgs) -> Result<ExitCode> {
    let folder = Folder::open(args.dir.as_deref())?;
    let (definitions, stream) = definitions_of(&args)?;
    let service = Service::start(Options {
        data: folder.path.clone(),
        listen: ([127, 0, 0, 1], 0).into(),
        engine: EngineChoice::Auto,
        definitions: definitions.clone(),
        idle_after: Duration::from_secs(10),
        command: "isotick demo",
    })?;
    if !args.json {
        eprintln!(
            "service on {} (QUIC, loopback), data in {}, live windows on {}",
            service.local_addr(),
            folder.path.display(),
            service.shared.engine()
        );
    }
    let shared = service.shared.clone();
    let published = publish(&args, &service, &definitions, &stream)?;
    let open = service.stop()?;
    let report = prove(&args, &folder.path, &definitions, &shared, &published, open)?;
    if args.json {
        println!("{}", report.to_json(&published, &shared.totals()));
    } else {
        report.print(&published, &shared.totals());
        if let Some(kept) = folder.kept() {
            println!("\ntry: isotick scan {} --data {}", report.results[0].view, kept.display());
        }
    }
    Ok(if report.equal() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the demo's data lives.
struct Folder {
    path: PathBuf,
    /// Removed at the end.
    temporary: Option<tempfile::TempDir>,
}

impl Folder {
    fn open(wanted: Option<&Path>) -> Result<Self> {
        let Some(path) = wanted else {
            let temporary = tempfile::tempdir().context("cannot make a temporary folder")?;
            return Ok(Self { path: temporary.path().join("data"), temporary: Some(temporary) });
        };
        let is_empty = std::fs::read_dir(path).map_or(true, |mut files| files.next().is_none());
        if !is_empty {
            bail!("{} is not empty: the demo wants a new folder", path.display());
        }
        Ok(Self { path: path.to_owned(), temporary: None })
    }

    fn kept(&self) -> Option<&Path> {
        self.temporary.is_none().then_some(self.path.as_path())
    }
}

/// What to compute, and the stream to publish to.
fn definitions_of(args: &DemoArgs) -> Result<(Definitions, String)> {
    let mut definitions = match (&args.definitions.config, args.data.first()) {
        (Some(_), _) => definitions::from_file(&args.definitions)?,
        (None, Some(path)) => {
            let text = template::template_for(&init::suggest(path)?.schema);
            Definitions::parse(&text, &format!("definitions read off {}", path.display()))?
        }
        (None, None) => Definitions::parse(template::EXAMPLE, "the built-in example")?,
    };
    if let Some(view) = &args.view {
        let view = definitions.view(view)?.clone();
        definitions.views = vec![view];
    }
    let Some(view) = definitions.views.first() else {
        bail!("the definitions hold no view: add one, see `isotick init`");
    };
    let stream = view.stream.clone();
    definitions.views.retain(|view| view.stream == stream);
    Ok((definitions, stream))
}

/// How publishing went.
struct Published {
    sent: u64,
    acks: Vec<Ack>,
    /// Rows that were rejected before they were sent; the service counts them too.
    rejections: Rejections,
    /// From the first row sent to the last one durable and in history.
    elapsed: Duration,
    /// From the tick that closes a window to the subscriber's notice of it, when paced.
    latency_ns: Option<Histogram<u64>>,
}

fn publish(
    args: &DemoArgs,
    service: &Service,
    definitions: &Definitions,
    stream: &str,
) -> Result<Published> {
    let address = service.local_addr().to_string();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let paced = args.speed != Speed::Max;
    let progress = Arc::new(Progress::default());
    let view = &definitions.views[0];
    let listener = paced.then(|| {
        let task = listen(address.clone(), view.clone(), progress.clone());
        runtime.spawn(task)
    });
    let screen = Screen::new(args.json);
    let rejections = Rejections::default();
    let started = Instant::now();
    let outcome = std::thread::scope(|scope| {
        let stop = Stop(&progress);
        scope.spawn(|| screen.run(&progress, &service.shared, definitions));
        let pacer = Pacer::new(None, Some(args.speed));
        let mut watch = Watching(&progress);
        let outcome = match args.data.is_empty() {
            true => {
                let ticks = args.ticks.unwrap_or(MARKET_TICKS);
                runtime.block_on(publish_market(&address, stream, ticks, pacer, &mut watch))
            }
            false => {
                let publishing = Publishing {
                    files: args.data.clone(),
                    stream: stream.to_owned(),
                    address: address.clone(),
                    options: ClientOptions::default(),
                    publisher: None,
                    order: Order::Time,
                    pacer,
                    ack: AckLevel::Durable,
                    reconnect: false,
                    fields: args.fields.clone(),
                    rows_max: args.ticks.unwrap_or(u64::MAX),
                };
                let mut standings = Vec::new();
                let run = publishing.run(&mut standings, &rejections, &mut watch);
                runtime.block_on(run).map(|()| standings)
            }
        };
        drop(stop);
        outcome
    });
    let standings = match (outcome, service.shared.failure()) {
        (Ok(standings), _) => standings,
        (Err(error), Some(reason)) => return Err(error.context(reason)),
        (Err(error), None) => return Err(error),
    };
    let elapsed = started.elapsed();
    let latency_ns = listener.map(|listener| {
        // Windows that were published before the publisher finished have been sent by now.
        std::thread::sleep(Duration::from_millis(50));
        listener.abort();
        progress.latency()
    });
    Ok(Published {
        sent: standings.iter().map(|standing| standing.sent).sum(),
        acks: standings.iter().map(|standing| standing.ack).collect(),
        rejections,
        elapsed,
        latency_ns,
    })
}

async fn publish_market(
    address: &str,
    stream: &str,
    ticks: u64,
    mut pacer: Pacer,
    watch: &mut dyn Watch,
) -> Result<Vec<Standing>> {
    let mut market = Market::new(MARKET_SEED);
    let options = ClientOptions::default();
    let (mut publisher, _) =
        Publisher::connect(address, stream, market.publisher(), &options).await?;
    let mut sent = 0;
    while sent < ticks {
        let batch = market.next_ticks(FRAME_ROWS.min((ticks - sent) as usize));
        let mut from = 0;
        while from < batch.len() {
            let due = pacer.due(&batch.ts_event[from..]).await;
            let part = match due == batch.len() {
                true => batch.clone(),
                false => batch.take(&(from as u32..(from + due) as u32).collect::<Vec<_>>()),
            };
            watch.sent(due, part.ts_event.iter().copied().max());
            publisher.send(&part, &[]).await?;
            from += due;
        }
        sent += batch.len() as u64;
    }
    let ack = publisher.finish().await?;
    Ok(vec![Standing::of(sent, ack)])
}

/// What publisher, listener and screen share.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    stopped: std::sync::atomic::AtomicBool,
    /// How far event time had come when, newest last.
    clock: Mutex<VecDeque<(i64, Instant)>>,
    latencies_ns: Mutex<Vec<u64>>,
}

impl Progress {
    fn latency(&self) -> Histogram<u64> {
        let mut histogram =
            Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are constants");
        for &ns in self.latencies_ns.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            histogram.saturating_record(ns);
        }
        histogram
    }
}

struct Stop<'a>(&'a Progress);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::Release);
    }
}

struct Watching<'a>(&'a Progress);

impl Watch for Watching<'_> {
    fn sent(&mut self, rows: usize, ts_max: Option<i64>) {
        self.0.sent.fetch_add(rows as u64, Ordering::Relaxed);
        let mut clock = self.0.clock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ts) = ts_max
            && clock.back().is_none_or(|(greatest, _)| ts > *greatest)
        {
            clock.push_back((ts, Instant::now()));
            if clock.len() > 1 << 16 {
                clock.pop_front();
            }
        }
    }

    fn notice(&mut self, _: &str) {}
}

/// Subscribes to a view and measures how long after the tick that closes a window its news comes.
async fn listen(address: String, view: View, progress: Arc<Progress>) -> Result<()> {
    let mut subscriber =
        Subscriber::connect(&address, &view.name, &ClientOptions::default()).await?;
    let allowed = match view.lateness.policy {
        LatenessPolicy::Correct => 0,
        LatenessPolicy::Side | LatenessPolicy::Drop => view.lateness.allowed_ns,
    };
    loop {
        let batch = subscriber.next().await?;
        let now = Instant::now();
        let ends = batch.windows.iter().filter(|window| window.row.version == 1);
        let Some(end) = ends.map(|window| window.row.window_end).max() else { continue };
        let clock = progress.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let after = clock.partition_point(|(ts, _)| *ts < end.saturating_add(allowed));
        if let Some((_, sent)) = clock.get(after) {
            let ns = now.duration_since(*sent).as_nanos() as u64;
            progress.latencies_ns.lock().unwrap_or_else(PoisonError::into_inner).push(ns);
        }
    }
}

/// The live view: throughput, watermark and the newest windows, on a terminal only.
struct Screen {
    bars: Option<MultiProgress>,
}

impl Screen {
    fn new(json: bool) -> Self {
        let shown = !json && std::io::stderr().is_terminal();
        Self { bars: shown.then(MultiProgress::new) }
    }

    fn run(&self, progress: &Progress, shared: &Shared, definitions: &Definitions) {
        let Some(bars) = &self.bars else { return };
        let line = || {
            let style = ProgressStyle::with_template("{msg}").expect("the template is a constant");
            bars.add(ProgressBar::new_spinner().with_style(style))
        };
        let lines: Vec<_> = (0..8).map(|_| line()).collect();
        let (started, mut before) = (Instant::now(), (Instant::now(), 0));
        while !progress.stopped.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(200));
            let sent = progress.sent.load(Ordering::Relaxed);
            let rate = (sent - before.1) as f64 / before.0.elapsed().as_secs_f64();
            before = (Instant::now(), sent);
            let totals = shared.totals();
            let watermark = totals.watermark.map_or("none".into(), time::format_rfc3339);
            lines[0].set_message(format!(
                "{:>6.1} s   {sent} ticks sent, {} accepted, {:.2} M ticks/s",
                started.elapsed().as_secs_f64(),
                totals.accepted,
                rate / 1e6
            ));
            lines[1].set_message(format!("watermark  {watermark}"));
            let view = &definitions.views[0];
            let newest = shared.views.first().map(|view| view.newest()).unwrap_or_default();
            lines[2].set_message(format!("newest {}", view.name));
            for (line, row) in lines[3..].iter().zip(&newest) {
                line.set_message(format!("  {}", describe(view, row)));
            }
        }
        for line in lines {
            line.finish_and_clear();
        }
    }
}

fn describe(view: &View, row: &WindowRow) -> String {
    let values = view.aggregates.iter().zip(&row.values);
    let values: Vec<_> = values
        .map(|(named, value)| format!("{} {}", named.name, value_text(*value, named.output)))
        .collect();
    format!("{:<10} {}  {}", row.key, time::format_rfc3339(row.window_start), values.join("  "))
}

/// One path's result of one view.
struct PathResult {
    view: String,
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

struct Report {
    results: Vec<PathResult>,
    /// Differing windows in words.
    differences: Vec<String>,
}

/// Scans what was stored on every engine of this machine and compares with what live computed.
fn prove(
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
            let (parts, rows) = scanning::folder_parts(&snapshot, &scan, true)?;
            let finished = scanning::run(&scan, parts, Some(rows), engines::open(*choice, None)?)?;
            let differing = differences(&live, &finished.rows);
            for difference in differing.iter().take(SHOWN_MAX) {
                let names = ["live", "scan"];
                report.differences.push(difference.describe(&result, names));
            }
            report.results.push(PathResult {
                view: view.name.clone(),
                path: "scan",
                rows: finished.rows_reduced(),
                windows: finished.rows.len(),
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
    fn equal(&self) -> bool {
        self.differences.is_empty()
            && self
                .results
                .chunk_by(|a, b| a.view == b.view)
                .all(|paths| paths.iter().all(|path| path.hash == paths[0].hash))
    }

    fn to_json(&self, published: &Published, totals: &Totals) -> Value {
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

    fn print(&self, published: &Published, totals: &Totals) {
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
