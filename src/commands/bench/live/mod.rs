//! `isotick bench live`: publisher, service and subscriber together, flat out and at a pace.

mod drive;
pub mod figure;
mod reference;
pub mod serving;
mod stalls;
mod ticks;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use isotick_client::{Options, definitions, status};
use isotick_kernels::result_hash;
use isotick_model::results::WindowRow;
use isotick_model::view::{LatenessPolicy, View};
use isotick_model::{PublisherId, StreamSchema, time};
use serde_json::{Value, json};

use self::drive::{Asked, Drive, drive, histogram};
use self::figure::Figure;
use self::reference::Reference;
use self::serving::Serving;
use self::stalls::Stalls;
use self::ticks::{Load, Part, due, frame_bytes};
use super::processor;
use crate::cli::{LiveBenchArgs, PacedRate, Rate};
use crate::market::SYMBOLS;
use crate::service::now_ns;

/// Ticks per second of event time where there is no pace that says so.
const EVENT_RATE: u64 = 100_000;

/// How long the machine is watched before latencies are measured.
const WATCHED: Duration = Duration::from_secs(2);

pub fn run(args: &LiveBenchArgs) -> Result<ExitCode> {
    ensure!(args.width.0 > 0, "--width 0: windows have a width");
    let (ticks, repeat, seconds) = match args.quick {
        true => (args.ticks.min(200_000), 1, 1),
        false => (args.ticks, args.repeat.get(), args.seconds.get()),
    };
    println!("machine {}", processor());
    let mut figures = Vec::new();
    for number in 0..if ticks > 0 { repeat } else { 0 } {
        figures.push(measure(args, None, ticks).context("flat out")?);
        figures[number].print();
    }
    let rates = args.rate.iter().filter_map(|rate| match rate {
        PacedRate::At(Rate(rate)) => Some(*rate),
        PacedRate::None => None,
    });
    let mut stalls = Vec::new();
    for rate in rates {
        let ticks = rate as usize * seconds;
        let watched = Stalls::watch(if args.quick { WATCHED / 5 } else { WATCHED });
        println!("\n{}", watched.describe());
        stalls.push(watched.to_json());
        let figure = measure(args, Some(rate), ticks).with_context(|| format!("at {rate}/s"))?;
        figure.print();
        figures.push(figure);
    }
    Figure::print_medians(&figures);
    if let Some(path) = &args.json {
        let report = json!({
            "isotick": env!("CARGO_PKG_VERSION"),
            "date": time::format_rfc3339(now_ns()),
            "processor": processor(),
            "width_ns": args.width.0,
            "stalls": stalls,
            "figures": figures.iter().map(Figure::to_json).collect::<Value>(),
        });
        std::fs::write(path, format!("{report:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let right = figures.iter().all(|figure| figure.compared.right());
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One measurement with a service of its own, unless one was named.
fn measure(args: &LiveBenchArgs, rate: Option<u64>, ticks: usize) -> Result<Figure> {
    let serving = match args.at {
        Some(address) => Serving::at(address),
        None => Serving::start(&own_definitions(args), &args.serve)?,
    };
    let (stream, view) = match args.at {
        Some(_) => (args.stream.as_str(), args.view.as_str()),
        None => ("trades", "bars"),
    };
    let options = Options {
        fingerprint: args.fingerprint.clone(),
        frame_rows: args.frame_rows.get(),
        ..Options::default()
    };
    let file = args.file.as_deref();
    let what = What { stream, view, file, seed: args.seed, symbols: SYMBOLS, rate, ticks };
    let step = args.step.to_std();
    measure_on(&serving, options, &what, step, args.output.as_deref())
}

/// What is published, and what is followed.
pub struct What<'a> {
    pub stream: &'a str,
    pub view: &'a str,
    /// Instead of the market.
    pub file: Option<&'a Path>,
    pub seed: u64,
    pub symbols: usize,
    pub rate: Option<u64>,
    pub ticks: usize,
}

/// One measurement.
pub fn measure_on(
    serving: &Serving,
    options: Options,
    what: &What<'_>,
    step: Duration,
    output: Option<&Path>,
) -> Result<Figure> {
    let (stream, view, rate, frame_rows) = (what.stream, what.view, what.rate, options.frame_rows);
    let (definitions, after) = ask(&serving.address, &options, stream)?;
    let definitions = crate::definitions::parse_remembered(&definitions)?;
    let schema = definitions.stream(stream)?;
    let view = definitions.view(view)?;
    ensure!(view.stream == stream, "the view {} is of the stream {}", view.name, view.stream);
    let mut load = match what.file {
        Some(path) => Load::file(path, &definitions, schema)?,
        None => {
            let end = view.window.width_ns.saturating_add(closing_ns(view));
            let per_second = rate.unwrap_or(EVENT_RATE);
            Load::market(what.seed, what.symbols, what.ticks, per_second, end, schema)?
        }
    };
    if let Some(after) = after {
        // A service's time never runs back: what is published now must come after all before it.
        let width = view.window.width_ns;
        let shift = i128::from(after) - i128::from(load.least()) + 2 * i128::from(width);
        let shift = shift - shift.rem_euclid(i128::from(width));
        load.shift(i64::try_from(shift).context("the service's watermark leaves no room")?);
    }
    let parts = match rate {
        None => load.whole(frame_rows),
        Some(rate) => load.paced(rate, step, frame_rows),
    };
    let reference = Reference::of(view, &load, factors(schema));
    let asked = Asked {
        serving,
        options,
        stream: stream.to_owned(),
        view: view.name.clone(),
        publisher: publisher(load.least())?,
        expected: reference.len(),
        from_ns: view.window.start_of(load.least()).unwrap_or(i64::MIN),
        apart: Duration::from_nanos(view.window.width_ns.unsigned_abs()),
    };
    let drive = drive(&asked, &parts)?;
    if let Some(path) = output {
        figure::write_windows(path, &drive)?;
    }
    figure(view, &load, &parts, &reference, rate, drive, serving)
}

/// The service's definitions, and the watermark of the stream where it has one.
fn ask(address: &str, options: &Options, stream: &str) -> Result<(String, Option<i64>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let definitions = definitions(address, options).await?;
        let status: Value = serde_json::from_str(&status(address, options).await?)
            .context("the service's status is no JSON")?;
        Ok((definitions, status["streams"][stream]["watermark_ns"].as_i64()))
    })
}

fn figure(
    view: &View,
    load: &Load,
    parts: &[Part],
    reference: &Reference,
    rate: Option<u64>,
    drive: Drive,
    serving: &Serving,
) -> Result<Figure> {
    let mut latency_ns = histogram();
    let mut rows: Vec<WindowRow> = Vec::new();
    let mut closings = std::collections::BTreeSet::new();
    for (at, batch) in &drive.batches {
        for window in &batch.windows {
            let row = &window.row;
            rows.push(row.clone());
            if row.version != 1 {
                continue;
            }
            closings.insert(row.window_end);
            if let Some(rate) = rate {
                let closes = load.reaches(row.window_end.saturating_add(closing_ns(view)));
                let latency = at.saturating_sub(due(closes, rate));
                latency_ns.saturating_record((latency.as_nanos() as u64).max(1));
            }
        }
    }
    // The newest version of each window stands; the sort is stable and versions come in order.
    rows.sort_by(|a, b| (&a.key, a.window_start).cmp(&(&b.key, b.window_start)));
    let corrections = rows.iter().filter(|row| row.version > 1).count();
    rows.reverse();
    rows.dedup_by(|a, b| (&a.key, a.window_start) == (&b.key, b.window_start));
    rows.reverse();
    let compared = reference.compare(&rows);
    Ok(Figure {
        rate,
        ticks: load.rows(),
        frames: parts.len(),
        frame_bytes: frame_bytes(parts)?,
        closings: closings.len(),
        corrections,
        hash: result_hash(&drive.schema, &rows).to_string(),
        seconds: drive.last().as_secs_f64(),
        latency_ns,
        compared,
        sending: drive.sending,
        own_cpu_s: drive.own_cpu_s,
        service_cpu_s: drive.service_cpu_s,
        service: serving.said.clone(),
    })
}

/// How far past a window's end event time must come until the window is published first.
fn closing_ns(view: &View) -> i64 {
    match view.lateness.policy {
        LatenessPolicy::Correct => 0,
        LatenessPolicy::Side | LatenessPolicy::Drop => view.lateness.allowed_ns,
    }
}

fn factors(schema: &StreamSchema) -> Vec<i64> {
    schema.columns.iter().map(|column| column.scale.factor()).collect()
}

/// A publisher of its own for every range of time.
fn publisher(least_ns: i64) -> Result<PublisherId> {
    match PublisherId::new(&format!("bench-live-{least_ns}")) {
        Some(publisher) => Ok(publisher),
        None => bail!("no name for the publisher"),
    }
}

/// The stream and the view of a service that is started here: each window is published once, when
/// no tick can come for it any more.
fn own_definitions(args: &LiveBenchArgs) -> String {
    let side = if args.file.is_some() { "" } else { ", side = { scale = 0, optional = true }" };
    format!(
        r#"[stream.trades]
time = "ts"
key = "symbol"
columns = {{ price = {{ scale = 4, min = 0, max = "1000000" }}, size = {{ scale = 0, min = 0, max = 1000000 }}{side} }}

[view.bars]
stream = "trades"
window = {{ tumbling = "{}" }}
aggregates = ["ohlc(price)", "volume = sum(size)", "notional = notional(price, size)", "vwap = vwap(price, size)", "trades = count()"]
lateness = {{ allowed = "50ms", policy = "drop" }}
"#,
        time::format_duration(args.width.0)
    )
}

#[cfg(test)]
mod tests;
