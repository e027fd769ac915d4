//! `isotick serve`: the service, until it is told to stop.

use std::process::ExitCode;

use anyhow::Result;
use isotick_storage::Snapshot;

use crate::cli::ServeArgs;
use crate::definitions;
use crate::service::{Options, Service};

pub fn run(args: ServeArgs) -> Result<ExitCode> {
    // An empty or new folder remembers nothing yet.
    let remembered = match Snapshot::open(&args.data) {
        Ok(snapshot) => snapshot.folder().definitions()?,
        Err(_) => None,
    };
    let definitions = definitions::for_writing(&args.definitions, remembered.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anything starts: a signal that comes during the replay stops cleanly too.
    let mut stop = runtime.block_on(async { Signals::new() })?;
    let service = Service::start(Options {
        data: args.data.clone(),
        edge: args.ingest.config(args.listen),
        memory_bytes_max: args.ingest.memory_max.0,
        engine: args.engine,
        definitions,
        idle_after: args.idle_after.to_std(),
        command: "isotick serve",
    })?;
    for notice in &service.notices {
        eprintln!("{notice}");
    }
    eprintln!("listening on {} (QUIC), data in {}", service.local_addr(), args.data.display());
    eprintln!("ingest: {}", service.shared.ingest());
    eprintln!("engine: {}", service.shared.engine());
    eprintln!("certificate fingerprint: {}", service.fingerprint);
    let signal = runtime.block_on(stop.next());
    eprintln!("{signal}: stopping");
    service.stop()?;
    eprintln!("stopped; everything is in history");
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
struct Signals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.0.recv() => "interrupted",
            _ = self.1.recv() => "terminated",
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> &'static str {
        let _ = tokio::signal::ctrl_c().await;
        "interrupted"
    }
}
