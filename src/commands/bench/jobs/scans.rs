//! Those who scan: over the client library, as programs do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use isotick_client::{Jobs, Options, Reconnect, SubmitJob};
use isotick_model::Key;

use super::{SCANNED, all_scanned};
use crate::market::{Market, START_NS};

/// Symbols of a small scan.
const SMALL_KEYS: usize = 20;

/// No two submissions are the same: each begins a little earlier before the first tick.
static BEGINS: AtomicI64 = AtomicI64::new(0);

/// One who scans.
#[derive(Clone)]
pub struct Client {
    address: String,
    options: Options,
}

impl Client {
    pub fn new(address: &str, options: &Options) -> Self {
        Self { address: address.to_owned(), options: options.clone() }
    }

    /// A scan of all history by several views: the hash of the first, and how long it took until it
    /// was done.
    pub fn whole(&self) -> Result<(String, Duration)> {
        let begins = 86_400_000_000_000 + BEGINS.fetch_add(1, Ordering::Relaxed);
        self.run(all_scanned().collect(), START_NS - begins, Vec::new())
    }

    /// A scan of some symbols, by one view.
    pub fn small(&self) -> Result<Duration> {
        let begins = 86_400_000_000_000 + BEGINS.fetch_add(1, Ordering::Relaxed);
        let some = Market::new(1).next_ticks(1_000).keys;
        let keys = some.iter().skip(20).take(SMALL_KEYS).cloned().collect();
        Ok(self.run(vec![SCANNED.to_owned()], START_NS - begins, keys)?.1)
    }

    fn run(&self, views: Vec<String>, from: i64, keys: Vec<Key>) -> Result<(String, Duration)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let started = Instant::now();
            let jobs = Jobs::at(&self.address, &self.options);
            let what =
                SubmitJob { from_ns: Some(from), keys, no_rollup: true, ..SubmitJob::new(views) };
            let job = jobs.submit(&what).await?;
            let job = jobs.wait(&job.id, Reconnect::default(), |_| {}).await?;
            let took = started.elapsed();
            let hash = job.views.first().and_then(|view| view.hash.clone());
            Ok((hash.context("a job that is done has a hash")?, took))
        })
    }
}

/// Scans of all history, one after another, two at a time.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<String>>>>,
}

impl Load {
    pub fn start(client: Client) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let thread = |_| {
            let (client, stop) = (client.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut hashes = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    hashes.push(client.whole()?.0);
                }
                Ok(hashes)
            })
        };
        let threads = (0..2).map(thread).collect();
        Self { stop, threads }
    }

    /// Waits for those under way: the hashes of all.
    pub fn stop(self) -> Result<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for thread in self.threads {
            all.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    }
}

pub fn millis(ns: f64) -> String {
    format!("{:.1?}", Duration::from_nanos(ns.max(0.0) as u64))
}
