//! A scan: the same view over stored ticks, part by part, on any number of threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use isotick_kernels::{CpuEngine, Engine, EngineError, EngineKind, Truth, Windows};
use isotick_model::view::View;
use isotick_model::{Key, StreamSchema, Ticks};

/// An error of whoever reads the ticks.
pub type ReadError = Box<dyn std::error::Error + Send + Sync>;

/// Takes a batch of ticks from a part.
pub type TickSink<'a> = dyn FnMut(Ticks) -> Result<(), ScanError> + 'a;

/// A piece of the input that one thread reads into a sink, e.g. a row group. Parts may be read in
/// any order.
pub type Part = Box<dyn FnOnce(&mut TickSink<'_>) -> Result<(), ScanError> + Send>;

/// What is scanned for.
#[derive(Clone)]
pub struct Scan {
    /// The view.
    pub view: Arc<View>,
    /// The schema of its stream.
    pub schema: Arc<StreamSchema>,
    /// Which ticks count.
    pub truth: Truth,
    /// Windows that start at or after this, nanoseconds UTC.
    pub from_ns: Option<i64>,
    /// Windows that start before this, nanoseconds UTC.
    pub to_ns: Option<i64>,
    /// Only these keys; empty for all.
    pub keys: Vec<Key>,
}

/// What a scan gives.
pub struct ScanOutcome {
    /// The windows' exact states.
    pub windows: Windows,
    /// Rows that were read.
    pub rows_read: u64,
    /// Rows handed to each engine, after the filter.
    pub rows_by_engine: Vec<(EngineKind, u64)>,
    /// Set when an engine failed and its work went to the CPU.
    pub fallback: Option<EngineError>,
}

/// Why a scan stopped.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The engine failed and no other was allowed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The ticks could not be read.
    #[error("{0}")]
    Read(ReadError),
}

/// What to do when an engine fails in the middle of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// End the scan: the engine was asked for by name.
    Stop,
    /// Go on with the CPU engine; the outcome says so.
    ContinueOnCpu,
}

impl Scan {
    /// Reads all parts, one thread per engine, and combines what they give. The outcome does not
    /// depend on the number of engines, their kinds or the order of the parts.
    ///
    /// `rows_read` is counted up while the scan runs, for whoever shows progress.
    ///
    /// # Errors
    /// The first error of any part or, with [`OnFailure::Stop`], of any engine.
    pub fn run(
        &self,
        parts: Vec<Part>,
        engines: Vec<Box<dyn Engine>>,
        on_failure: OnFailure,
        rows_read: &AtomicU64,
    ) -> Result<ScanOutcome, ScanError> {
        let queue = Mutex::new(VecDeque::from(parts));
        let work = |engine| self.work(&queue, engine, on_failure, rows_read);
        let finished: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> =
                engines.into_iter().map(|engine| scope.spawn(|| work(engine))).collect();
            workers.into_iter().map(|worker| worker.join()).collect()
        });
        let mut outcome = ScanOutcome {
            windows: self.windows(),
            rows_read: 0,
            rows_by_engine: Vec::new(),
            fallback: None,
        };
        for worker in finished {
            let worker = worker.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            outcome.windows.merge(worker.windows);
            outcome.rows_read += worker.rows_read;
            outcome.fallback = outcome.fallback.or(worker.fallback);
            for (kind, rows) in worker.rows_by_engine {
                match outcome.rows_by_engine.iter_mut().find(|(other, _)| *other == kind) {
                    Some((_, sum)) => *sum += rows,
                    None => outcome.rows_by_engine.push((kind, rows)),
                }
            }
        }
        outcome.rows_by_engine.sort_unstable();
        Ok(outcome)
    }

    fn windows(&self) -> Windows {
        Windows::new(self.view.clone(), &self.schema)
            .with_truth(self.truth)
            .with_range(self.from_ns, self.to_ns)
    }

    /// One thread: parts from the queue until it is empty. An error empties the queue, so that
    /// the other threads end soon.
    fn work(
        &self,
        queue: &Mutex<VecDeque<Part>>,
        engine: Box<dyn Engine>,
        on_failure: OnFailure,
        rows_read: &AtomicU64,
    ) -> Result<ScanOutcome, ScanError> {
        let mut worker = Worker {
            outcome: ScanOutcome {
                windows: self.windows(),
                rows_read: 0,
                rows_by_engine: Vec::new(),
                fallback: None,
            },
            engine,
            on_failure,
            keys: &self.keys,
        };
        let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(part) = lock().pop_front() else { return Ok(worker.outcome) };
            let result = part(&mut |ticks| {
                rows_read.fetch_add(ticks.len() as u64, Ordering::Relaxed);
                worker.reduce(&ticks)
            });
            if let Err(error) = result {
                lock().clear();
                return Err(error);
            }
        }
    }
}

struct Worker<'a> {
    outcome: ScanOutcome,
    engine: Box<dyn Engine>,
    on_failure: OnFailure,
    keys: &'a [Key],
}

impl Worker<'_> {
    fn reduce(&mut self, ticks: &Ticks) -> Result<(), ScanError> {
        let wanted: Vec<bool> = ticks.keys.iter().map(|key| self.keys.contains(key)).collect();
        let all = self.keys.is_empty();
        let update = |windows: &mut Windows, engine: &mut dyn Engine| match all {
            true => windows.update_all(ticks, engine),
            false => windows.update(ticks, &|row| wanted[ticks.key[row] as usize], engine),
        };
        let before = self.outcome.windows.passed();
        if let Err(error) = update(&mut self.outcome.windows, self.engine.as_mut()) {
            if self.on_failure == OnFailure::Stop {
                return Err(error.into());
            }
            self.outcome.fallback.get_or_insert(error);
            self.engine = Box::new(CpuEngine);
            update(&mut self.outcome.windows, self.engine.as_mut())?;
        }
        self.outcome.rows_read += ticks.len() as u64;
        let rows = self.outcome.windows.passed() - before;
        match self.outcome.rows_by_engine.last_mut() {
            Some((kind, sum)) if *kind == self.engine.kind() => *sum += rows,
            _ => self.outcome.rows_by_engine.push((self.engine.kind(), rows)),
        }
        Ok(())
    }
}
