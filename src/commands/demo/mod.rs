//! `isotick demo`: the whole way of a tick in one process, and one hash per path at the end.

mod live_view;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use isotick_client::{Ack, Options as ClientOptions, Publisher};
use isotick_ingest::EdgeConfig;
use isotick_model::definitions::{Definitions, template};

use self::live_view::{Progress, Screen, Stop, Watching, listen};
use super::init;
use crate::cli::{
    AckLevel, DEFAULT_MEMORY, DemoArgs, EngineChoice, JobsArgs, Order, SecurityArgs, Speed,
    StorageArgs,
};
use crate::definitions;
use crate::files::Rejections;
use crate::market::Market;
use crate::pace::Pacer;
use crate::publishing::{Publishing, Standing, Watch};
use crate::security::Security;
use crate::service::{Options, Service};

const MARKET_SEED: u64 = 1;
const MARKET_TICKS: u64 = 2_000_000;
const FRAME_ROWS: usize = 8192;

pub fn run(mut args: DemoArgs) -> Result<ExitCode> {
    let folder = Folder::open(args.dir.as_deref())?;
    let (definitions, stream) = definitions_of(&mut args)?;
    let service = Service::start(Options {
        data: folder.path.clone(),
        store: None,
        edge: EdgeConfig::new(([127, 0, 0, 1], 0).into()),
        memory_bytes_max: DEFAULT_MEMORY.0 as usize,
        engine: EngineChoice::Auto,
        definitions: definitions.clone(),
        idle_after: Duration::from_secs(10),
        storage: StorageArgs::default(),
        jobs: JobsArgs::default(),
        security: Security::new(&folder.path, SecurityArgs::default()),
        command: "isotick demo",
    })?;
    if !args.json {
        eprintln!(
            "service on {} (QUIC, loopback), data in {}, live windows on {}",
            service.local_addr(),
            folder.path.display(),
            service.shared.engine()
        );
        if !args.data.is_empty() {
            eprintln!("the files' rows are sent in order of time");
        }
    }
    let shared = service.shared.clone();
    let published = publish(&args, &service, &definitions, &stream)?;
    let open = service.stop()?;
    let report = report::prove(&args, &folder.path, &definitions, &shared, &published, open)?;
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
fn definitions_of(args: &mut DemoArgs) -> Result<(Definitions, String)> {
    let mut definitions = match (&args.definitions.config, args.data.first()) {
        (Some(_), _) => definitions::from_file(&args.definitions)?,
        (None, Some(path)) => {
            let suggestion = init::suggest(path)?;
            init::tell(&suggestion);
            let text = template::template_for(&suggestion.schema);
            let name = format!("definitions read off {}", path.display());
            let fields = suggestion.map.iter().map(|(column, field)| format!("{column}={field}"));
            args.fields.map.extend(fields);
            args.fields.time_unit = args.fields.time_unit.or(Some(suggestion.time_unit));
            Definitions::parse(&text, &name)?
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
                    lossy: false,
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
