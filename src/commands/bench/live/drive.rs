//! One measurement: a publisher that keeps its schedule and a subscriber that notes when windows
//! came, in this process, over the client library.

use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use hdrhistogram::Histogram;
use isotick_client::{Level, Options, Publisher, Subscriber, WindowBatch};
use isotick_model::PublisherId;
use isotick_model::results::ResultSchema;
use tokio::runtime::Runtime;

use super::serving::{Serving, cpu_s, sleep_precisely};
use super::ticks::Part;
use crate::memory::use_ordinary_pages;

/// From when both are connected to when the first tick is due.
const LEAD: Duration = Duration::from_millis(100);
/// How long the subscriber waits for what is missing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it listens on when everything has come: corrections would still.
const QUIET: Duration = Duration::from_millis(200);

/// Where to publish and what to follow.
pub struct Asked<'a> {
    pub serving: &'a Serving,
    pub options: Options,
    pub stream: String,
    pub view: String,
    pub publisher: PublisherId,
    /// Windows that must come.
    pub expected: usize,
    /// Where they begin: what a running service held open before that is not of this measurement.
    pub from_ns: i64,
    /// How far apart windows come at most.
    pub apart: Duration,
}

/// What happened. Times are after the start: when the first tick was due, or was sent.
pub struct Drive {
    pub schema: ResultSchema,
    /// Windows as they came, and when their batch was decoded.
    pub batches: Vec<(Duration, WindowBatch)>,
    pub sending: Sending,
    /// Processor seconds of publisher and subscriber, and of the service, from before the first
    /// tick until after the last window.
    pub own_cpu_s: Option<f64>,
    pub service_cpu_s: Option<f64>,
}

/// How publishing went.
pub struct Sending {
    started: Instant,
    /// All ticks handed to the client.
    pub sent: Duration,
    /// All ticks handed to the operating system by the service, and its answer here.
    pub written: Duration,
    /// All ticks synced by the service, and its answer here.
    pub durable: Duration,
    /// How much later than due parts were handed to the client.
    pub late_ns: Histogram<u64>,
}

impl Drive {
    /// When the last window came.
    pub fn last(&self) -> Duration {
        self.batches.last().map_or(Duration::ZERO, |(at, _)| *at)
    }
}

/// A histogram of nanoseconds, up to ten minutes, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("the bounds are constants")
}

/// Publishes the parts and follows the view until all its windows have come, or no more come.
///
/// The pace is kept by the calling thread, which also makes the frames; the connection's own thread
/// sends and receives; the subscriber has one thread for everything.
pub fn drive(asked: &Asked, parts: &[Part]) -> Result<Drive> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let connect =
        Publisher::connect(&asked.serving.address, &asked.stream, &asked.publisher, &asked.options);
    let (mut publisher, hello) = runtime.block_on(connect)?;
    ensure!(
        hello.next_sequence == 0,
        "the service already holds {} rows of the publisher {}",
        hello.next_sequence,
        asked.publisher.as_str()
    );
    let drive = std::thread::scope(|scope| {
        let (ready, let_in) = channel();
        let listening = scope.spawn(move || listen(asked, &ready));
        let Ok(schema) = let_in.recv() else {
            // It went without a word: its error says why.
            joined(listening)?;
            bail!("the subscriber ended before it was let in");
        };
        let own = cpu_s(std::process::id());
        let service = asked.serving.cpu_s();
        let sending = publish(&runtime, &mut publisher, parts)?;
        let batches = joined(listening)?;
        let used = |before: Option<f64>, now: Option<f64>| Some(now? - before?);
        let own_cpu_s = used(own, cpu_s(std::process::id()));
        let service_cpu_s = used(service, asked.serving.cpu_s());
        let after = |at: Instant| at.saturating_duration_since(sending.started);
        let batches = batches.into_iter().map(|(at, batch)| (after(at), batch)).collect();
        Ok(Drive { schema, batches, sending, own_cpu_s, service_cpu_s })
    })?;
    runtime.block_on(publisher.finish())?;
    Ok(drive)
}

fn publish(runtime: &Runtime, publisher: &mut Publisher, parts: &[Part]) -> Result<Sending> {
    use_ordinary_pages();
    sleep_precisely();
    let paced = parts.first().is_some_and(|part| part.due.is_some());
    let started = Instant::now() + if paced { LEAD } else { Duration::ZERO };
    let mut late_ns = histogram();
    let mut rows = 0;
    for part in parts {
        if let Some(due) = part.due.map(|due| started + due) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let late = Instant::now().saturating_duration_since(due);
            late_ns.saturating_record((late.as_nanos() as u64).max(1));
        }
        runtime.block_on(publisher.send(&part.ticks, &[]))?;
        rows += part.ticks.len() as u64;
    }
    let sent = started.elapsed();
    runtime.block_on(publisher.wait(Level::Written, rows))?;
    let written = started.elapsed();
    runtime.block_on(publisher.wait(Level::Durable, rows))?;
    Ok(Sending { started, sent, written, durable: started.elapsed(), late_ns })
}

/// Follows the view until every window has come, or nothing comes any more.
fn listen(asked: &Asked, ready: &Sender<ResultSchema>) -> Result<Vec<(Instant, WindowBatch)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connect =
            Subscriber::connect(&asked.serving.address, asked.view.as_str(), &asked.options);
        let mut subscriber = connect.await?;
        // The publisher waits for this: no window is missed.
        let _ = ready.send(subscriber.schema().clone());
        let (mut batches, mut closed) = (Vec::new(), 0);
        loop {
            let patience = match closed < asked.expected {
                true => PATIENCE + asked.apart,
                false => QUIET,
            };
            match tokio::time::timeout(patience, subscriber.next()).await {
                Ok(batch) => {
                    let (at, mut batch) = (Instant::now(), batch?);
                    batch.windows.retain(|window| window.row.window_start >= asked.from_ns);
                    closed += batch.windows.iter().filter(|window| window.row.version == 1).count();
                    batches.push((at, batch));
                }
                Err(_) => return Ok(batches),
            }
        }
    })
}

/// A panic of the other thread is a bug and becomes this one's.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
