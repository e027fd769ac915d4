//! `isotick serve`: the service, until it is told to stop.

use std::process::ExitCode;

use anyhow::Result;
use isotick_storage::DataFolder;

use crate::cli::ServeArgs;
use crate::definitions;
use crate::security::Security;
use crate::service::{Options, Service};

pub fn run(args: ServeArgs) -> Result<ExitCode> {
    // An empty or new folder remembers nothing yet.
    let remembered = match DataFolder::open_reader(&args.data) {
        Ok(folder) => folder.definitions()?,
        Err(_) => None,
    };
    let definitions = definitions::for_writing(&args.definitions, remembered.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anything starts: a signal that comes during the replay stops cleanly too.
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let service = Service::start(Options {
        data: args.data.clone(),
        store: args.place.store,
        edge: args.ingest.config(args.listen),
        memory_bytes_max: args.ingest.memory_max.0 as usize,
        engine: args.engine,
        definitions,
        idle_after: args.idle_after.to_std(),
        storage: args.storage,
        jobs: args.jobs,
        security: Security::new(&args.data, args.security),
        command: "isotick serve",
    })?;
    for notice in &service.notices {
        eprintln!("{notice}");
    }
    eprintln!("listening on {} (QUIC), data in {}", service.local_addr(), args.data.display());
    eprintln!("ingest: {}", service.shared.ingest.description);
    eprintln!("log: {}", service.log_io);
    eprintln!("engine: {}", service.shared.engine());
    eprintln!("certificate fingerprint: {}", service.fingerprint);
    for line in service.describe_security() {
        eprintln!("{line}");
    }
    let signal = loop {
        match runtime.block_on(signals.next()) {
            Signal::Reload => service.reload().iter().for_each(|line| eprintln!("{line}")),
            Signal::Stop(signal) => break signal,
        }
    };
    eprintln!("{signal}: stopping");
    service.stop()?;
    eprintln!("stopped; everything is in history");
    Ok(ExitCode::SUCCESS)
}

/// What the operator asks for.
enum Signal {
    /// Read certificates and access rules again.
    Reload,
    /// Stop, and by what.
    Stop(&'static str),
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop("interrupted"),
            _ = self.terminate.recv() => Signal::Stop("terminated"),
            _ = self.hang_up.recv() => Signal::Reload,
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

    async fn next(&mut self) -> Signal {
        let _ = tokio::signal::ctrl_c().await;
        Signal::Stop("interrupted")
    }
}
