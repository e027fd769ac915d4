//! `isotick bench jobs`: scans as jobs beside the live path, in one service.

mod scans;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isotick_client::{Options, status};
use isotick_kernels::Truth;
use isotick_model::definitions::Definitions;
use isotick_model::time;
use isotick_storage::{Snapshot, Store};
use isotick_wire::Token;
use serde_json::{Value, json};

use self::scans::{Client, Load, millis};
use super::live::figure::Figure;
use super::live::serving::Serving;
use super::live::{What, measure_on};
use super::processor;
use crate::cli::{EngineChoice, JobsBenchArgs};
use crate::market::Market;
use crate::rollups::Stored;
use crate::service::now_ns;
use crate::{engines, scanning};

/// How often the publisher looks what is due.
const STEP: Duration = Duration::from_micros(500);
/// Ticks of history that are committed at a time.
const COMMIT_ROWS: usize = 1 << 20;
/// Those who scan.
const OWNERS: [&str; 2] = ["desk-a", "desk-b"];
/// The view whose scans are small, and all that a large one computes from one reading.
const SCANNED: &str = "archive_1m";
/// Views of a large one: it takes seconds, so that what connecting takes does not count.
const VIEWS: usize = 30;
/// Until both of two owners have had what having been idle is worth to them.
const SETTLING: Duration = Duration::from_secs(1);
/// The one that is followed.
const FOLLOWED: &str = "bars";

pub fn run(args: &JobsBenchArgs) -> Result<ExitCode> {
    let (ticks, repeat, seconds) = match args.quick {
        true => (args.ticks.min(1_000_000), 1, 1),
        false => (args.ticks, args.repeat.get(), args.seconds.get()),
    };
    let bench = Bench::open(args, ticks)?;
    println!("machine {}", processor());
    println!("{ticks} ticks of history; hash of {SCANNED} {}", &bench.hash[..12]);
    let mut report = json!({
        "isotick": env!("CARGO_PKG_VERSION"),
        "date": time::format_rfc3339(now_ns()),
        "processor": processor(),
        "ticks": ticks,
        "rate": args.rate.0,
        "hash": bench.hash,
    });
    let mut is_right = true;
    report["live"] = bench.live(args, repeat, seconds, &mut is_right)?;
    report["shares"] = bench.shares(seconds, &mut is_right)?;
    report["small"] = bench.small(if args.quick { 2 } else { 9 }, &mut is_right)?;
    report["overhead"] = bench.overhead(repeat, &mut is_right)?;
    println!(
        "\n{}",
        match is_right {
            true => "every window and every hash was right",
            false => "WRONG: see above",
        }
    );
    if let Some(path) = &args.json {
        std::fs::write(path, format!("{report:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A service with history, and two who scan it.
struct Bench {
    serving: Serving,
    tokens: Vec<Token>,
    /// Of the scanned view over all history.
    hash: String,
}

impl Bench {
    fn open(args: &JobsBenchArgs, ticks: usize) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let data = folder.path().join("data");
        let text = definitions(args);
        let definitions = Definitions::parse(&text, "the bench's definitions")?;
        let hash = fill(&data, &definitions, ticks)?;
        let tokens = OWNERS.iter().map(|name| token(&data, name)).collect::<Result<_>>()?;
        // What is computed again and again need not be kept.
        let mut serve: Vec<String> = ["--results-max", "1GiB"].map(str::to_owned).into();
        serve.extend_from_slice(&args.serve);
        let serving = Serving::start_in(folder, &text, &serve)?;
        Ok(Self { serving, tokens, hash })
    }

    fn options(&self, owner: usize) -> Options {
        Options { token: self.tokens[owner].clone(), ..Options::default() }
    }

    fn client(&self, owner: usize) -> Client {
        Client::new(&self.serving.address, &self.options(owner))
    }

    fn status(&self) -> Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let text = runtime.block_on(status(&self.serving.address, &self.options(0)))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Live latency without and with scans on every core, and what the scans then reach.
    fn live(
        &self,
        args: &JobsBenchArgs,
        repeat: usize,
        seconds: usize,
        is_right: &mut bool,
    ) -> Result<Value> {
        println!("\nlive at {} ticks/s, windows of {} ms", args.rate.0, args.width.0 / 1_000_000);
        let follow = |seed: usize| -> Result<Figure> {
            let what = What {
                stream: "trades",
                view: FOLLOWED,
                file: None,
                seed: seed as u64,
                symbols: args.symbols.get(),
                rate: Some(args.rate.0),
                ticks: args.rate.0 as usize * seconds,
            };
            measure_on(&self.serving, self.options(0), &what, STEP, None)
        };
        // Caches fill and connections are made for the first time.
        follow(0)?;
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get()) as f64;
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        let (mut rates_alone, mut rates_beside, mut used) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..repeat {
            let figure = follow(2 * round + 1)?;
            let cpu_s = figure.own_cpu_s.unwrap_or(0.0) + figure.service_cpu_s.unwrap_or(0.0);
            used.push(cpu_s / figure.seconds.max(1e-9));
            *is_right &= figure.compared.right();
            alone.push(figure);

            let load = Load::start(self.client(1));
            std::thread::sleep(Duration::from_millis(200));
            let before = (self.rows()?, std::time::Instant::now());
            let figure = follow(2 * round + 2)?;
            rates_beside.push((self.rows()? - before.0) / before.1.elapsed().as_secs_f64());
            *is_right &= load.stop()?.iter().all(|hash| *hash == self.hash);
            *is_right &= figure.compared.right();
            beside.push(figure);

            let load = Load::start(self.client(1));
            std::thread::sleep(Duration::from_millis(200));
            let before = (self.rows()?, std::time::Instant::now());
            std::thread::sleep(Duration::from_secs(seconds as u64));
            rates_alone.push((self.rows()? - before.0) / before.1.elapsed().as_secs_f64());
            *is_right &= load.stop()?.iter().all(|hash| *hash == self.hash);
        }
        let quantile = |figures: &[Figure], at: f64| {
            median(figures.iter().map(|figure| figure.latency_ns.value_at_quantile(at) as f64))
        };
        let (rate_alone, rate_beside) =
            (median(rates_alone.iter().copied()), median(rates_beside.iter().copied()));
        let left = (1.0 - median(used.iter().copied()) / cores).max(1e-9);
        let reached = rate_beside / (rate_alone * left);
        for (name, at) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let (a, b) = (quantile(&alone, at), quantile(&beside, at));
            let asked = if name == "p99" { " (asked: 1.5x at most)" } else { "" };
            println!(
                "  {name:5} alone {:>8}, with scans {:>8}: {:.2}x{asked}",
                millis(a),
                millis(b),
                b / a.max(1.0)
            );
        }
        println!(
            "  scans alone {:.1} M ticks/s, beside live {:.1} M: {:.0} % of what the {:.0} % of \
             the cores that live leaves reach alone (asked: 80 %)",
            rate_alone / 1e6,
            rate_beside / 1e6,
            reached * 100.0,
            left * 100.0
        );
        let status = self.status()?;
        println!("  steps for the live lane: {}", status["lanes"]["steps"]);
        Ok(json!({
            "alone": alone.iter().map(Figure::to_json).collect::<Value>(),
            "with_scans": beside.iter().map(Figure::to_json).collect::<Value>(),
            "p99_ratio": quantile(&beside, 0.99) / quantile(&alone, 0.99).max(1.0),
            "p50_ratio": quantile(&beside, 0.5) / quantile(&alone, 0.5).max(1.0),
            "scan_rows_per_s_alone": rates_alone,
            "scan_rows_per_s_with_live": rates_beside,
            "cores_left": left,
            "scan_share_reached": reached,
            "steps": status["lanes"]["steps"],
        }))
    }

    /// Rows that scans have read since the start.
    fn rows(&self) -> Result<f64> {
        Ok(self.status()?["lanes"]["rows"].as_f64().unwrap_or(0.0))
    }

    /// Two owners, one of whom asks for twice as many jobs.
    fn shares(&self, seconds: usize, is_right: &mut bool) -> Result<Value> {
        let busy = || -> Result<Vec<f64>> {
            let status = self.status()?;
            let owners = status["lanes"]["owners"].as_array().cloned().unwrap_or_default();
            let of = |name: &&str| {
                let known = owners.iter().find(|owner| owner["owner"] == **name);
                known.and_then(|owner| owner["busy_seconds"].as_f64()).unwrap_or(0.0)
            };
            Ok(OWNERS.iter().map(of).collect())
        };
        let loads =
            [Load::start(self.client(0)), Load::start(self.client(1)), Load::start(self.client(1))];
        std::thread::sleep(SETTLING);
        let mut by_second = vec![busy()?];
        for _ in 0..seconds.max(2) {
            std::thread::sleep(Duration::from_secs(1));
            by_second.push(busy()?);
        }
        for load in loads {
            *is_right &= load.stop()?.iter().all(|hash| *hash == self.hash);
        }
        let (before, after) = (&by_second[0], &by_second[by_second.len() - 1]);
        let used: Vec<f64> =
            after.iter().zip(before).map(|(after, before)| after - before).collect();
        let share = used[0] / used.iter().sum::<f64>().max(1e-9);
        println!(
            "\ntwo owners, one with twice the jobs: {:.1} % and {:.1} % of the time (asked: 45 to \
             55 % each)",
            share * 100.0,
            (1.0 - share) * 100.0
        );
        Ok(json!({ "busy_seconds": used, "share": share, "busy_by_second": by_second }))
    }

    /// A small scan alone, behind a huge one of the same owner, and of another.
    fn small(&self, repeat: usize, is_right: &mut bool) -> Result<Value> {
        let client = self.client(0);
        let mut times = |owner: Option<usize>| -> Result<f64> {
            let load = owner.map(|owner| Load::start(self.client(owner)));
            std::thread::sleep(Duration::from_millis(300));
            let mut times = Vec::new();
            for _ in 0..repeat {
                times.push(client.small()?.as_secs_f64() * 1e9);
                // An owner that was idle for a moment, as people are.
                std::thread::sleep(Duration::from_millis(100));
            }
            if let Some(load) = load {
                *is_right &= load.stop()?.iter().all(|hash| *hash == self.hash);
            }
            Ok(median(times.into_iter()))
        };
        let (alone, same, other) = (times(None)?, times(Some(0))?, times(Some(1))?);
        println!(
            "\na scan of some symbols alone {}; behind a huge one of the same owner {} ({:.2}x), of another \
             {} ({:.2}x) (asked: 2x at most)",
            millis(alone),
            millis(same),
            same / alone,
            millis(other),
            other / alone
        );
        Ok(json!({ "alone_ns": alone, "behind_same_ns": same, "behind_other_ns": other }))
    }

    /// What deciding takes, of what scanning takes.
    fn overhead(&self, repeat: usize, is_right: &mut bool) -> Result<Value> {
        let cpu = |name: &str| self.serving.threads_cpu_s(name).unwrap_or(0.0);
        let client = self.client(0);
        let before = (cpu("isotick-jobs"), cpu("isotick-scan"));
        let mut seconds = Vec::new();
        for _ in 0..repeat.max(2) * 3 {
            let (hash, took) = client.whole()?;
            *is_right &= hash == self.hash;
            seconds.push(took.as_secs_f64());
        }
        let (deciding, scanning) = (cpu("isotick-jobs") - before.0, cpu("isotick-scan") - before.1);
        let share = deciding / scanning.max(1e-9);
        println!(
            "\nscheduling: {deciding:.2} s of CPU for {scanning:.2} s of scanning: {:.2} % (asked: \
             2 % at most); a job over all history {} from submission to result",
            share * 100.0,
            millis(median(seconds.iter().copied()) * 1e9)
        );
        Ok(
            json!({ "deciding_s": deciding, "scanning_s": scanning, "share": share, "job_s": seconds }),
        )
    }
}

/// Makes history in the layout of compaction; the hash of the view that will be scanned.
fn fill(data: &Path, definitions: &Definitions, ticks: usize) -> Result<String> {
    let mut store = Store::open(data, "isotick bench jobs")?;
    store.folder().put_definitions(&definitions.to_toml())?;
    let schema = definitions.stream("archive")?;
    let mut market = Market::new(1);
    let mut left = ticks;
    while left > 0 {
        let rows = left.min(COMMIT_ROWS);
        left -= rows;
        let mut commit = store.begin();
        commit.add_imported(schema, &[market.next_ticks(rows)])?;
        commit.finish()?;
    }
    store.compact(schema, &mut |_| {})?;
    drop(store);
    let snapshot = Snapshot::open(data)?;
    let scan = scanning::whole(definitions.view(SCANNED)?, schema, Truth::Now);
    let folder = scanning::folder_parts(&snapshot, &scan, Stored::Ticks, true)?;
    let engines = engines::open(EngineChoice::Cpu, None)?;
    Ok(scanning::run(&scan, folder.parts, None, engines, &mut |_| Ok(()))?.hash.to_string())
}

/// A token with all rights for a name.
fn token(data: &Path, name: &str) -> Result<Token> {
    let program = std::env::current_exe().context("this program's file is not known")?;
    let made = Command::new(program)
        .args(["access", "add", name, "--admin", "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .output()
        .context("cannot make a token")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(Token::new(String::from_utf8_lossy(&made.stdout).trim()))
}

/// The views of a large scan: bars of one minute, two minutes, and so on.
fn all_scanned() -> impl Iterator<Item = String> {
    (1..=VIEWS).map(|minutes| format!("archive_{minutes}m"))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn definitions(args: &JobsBenchArgs) -> String {
    let columns = "{ price = { scale = 4, min = 0, max = \"1000000\" }, size = { scale = 0, min = \
                   0, max = 1000000 }, side = { scale = 0, optional = true } }";
    let bars = "[\"ohlc(price)\", \"volume = sum(size)\", \"notional = notional(price, size)\", \
                \"vwap = vwap(price, size)\", \"trades = count()\"]";
    let archived = all_scanned().zip(1..).map(|(name, minutes)| {
        format!(
            "[view.{name}]\nstream = \"archive\"\nwindow = {{ tumbling = \"{minutes}m\" }}\n\
             aggregates = {bars}\n\n"
        )
    });
    let archived: String = archived.collect();
    format!(
        r#"[stream.trades]
time = "ts"
key = "symbol"
columns = {columns}

[stream.archive]
time = "ts"
key = "symbol"
columns = {columns}

[view.{FOLLOWED}]
stream = "trades"
window = {{ tumbling = "{}" }}
aggregates = {bars}
lateness = {{ allowed = "50ms", policy = "drop" }}

{archived}"#,
        time::format_duration(args.width.0)
    )
}
