//! A scan: the same view over stored ticks, part by part, on any number of threads.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use isotick_kernels::{
    CpuEngine, EncodedRows, Engine, EngineError, EngineKind, Results, Truth, Windows,
};
use isotick_model::view::View;
use isotick_model::{Key, KeySelection, StreamSchema, Ticks};

use crate::part::{Neighbours, Part};

/// An error of whoever reads the ticks.
pub type ReadError = Box<dyn std::error::Error + Send + Sync>;

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
    /// The windows.
    pub results: Results,
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
        let extents = parts.iter().map(|part| part.extent.clone()).collect();
        let neighbours = Neighbours::new(extents, self.view.window);
        let queue = Mutex::new(parts.into_iter().enumerate().collect());
        let work = |engine| self.work(&queue, &neighbours, engine, on_failure, rows_read);
        let finished: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> =
                engines.into_iter().map(|engine| scope.spawn(|| work(engine))).collect();
            workers.into_iter().map(|worker| worker.join()).collect()
        });
        let mut parts = Vec::new();
        let mut counts = Counts::default();
        for worker in finished {
            let (windows, of_worker) =
                worker.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            parts.push(windows);
            counts.add(of_worker);
        }
        counts.rows_by_engine.sort_unstable();
        let Counts { rows_read, rows_by_engine, fallback } = counts;
        Ok(ScanOutcome { results: Results::of(parts), rows_read, rows_by_engine, fallback })
    }

    /// The keys that can count: by name, and by the view's filter.
    pub fn key_selection(&self) -> KeySelection {
        KeySelection::new(self.schema.keys.len(), &self.keys, self.view.filter.as_ref())
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
        queue: &Mutex<VecDeque<(usize, Part)>>,
        neighbours: &Neighbours,
        engine: Box<dyn Engine>,
        on_failure: OnFailure,
        rows_read: &AtomicU64,
    ) -> Result<(Windows, Counts), ScanError> {
        let mut worker = Worker {
            windows: self.windows(),
            counts: Counts::default(),
            engine,
            on_failure,
            keys: &self.keys,
        };
        let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some((number, Part { read, .. })) = lock().pop_front() else {
                return Ok((worker.windows, worker.counts));
            };
            let result = read(&mut |ticks| {
                rows_read.fetch_add(ticks.len() as u64, Ordering::Relaxed);
                worker.reduce(&ticks)
            });
            if let Err(error) = result {
                lock().clear();
                return Err(error);
            }
            if neighbours.are_known() {
                worker.windows.finish(|key| neighbours.times(number, key));
            }
        }
    }
}

/// What a scan counts.
#[derive(Default)]
struct Counts {
    rows_read: u64,
    rows_by_engine: Vec<(EngineKind, u64)>,
    fallback: Option<EngineError>,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.rows_read += other.rows_read;
        self.fallback = self.fallback.take().or(other.fallback);
        for (kind, rows) in other.rows_by_engine {
            self.add_rows(kind, rows);
        }
    }

    fn add_rows(&mut self, kind: EngineKind, rows: u64) {
        match self.rows_by_engine.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, sum)) => *sum += rows,
            None => self.rows_by_engine.push((kind, rows)),
        }
    }
}

struct Worker<'a> {
    windows: Windows,
    counts: Counts,
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
        let before = self.windows.passed();
        if let Err(error) = update(&mut self.windows, self.engine.as_mut()) {
            if self.on_failure == OnFailure::Stop {
                return Err(error.into());
            }
            self.counts.fallback.get_or_insert(error);
            self.engine = Box::new(CpuEngine);
            update(&mut self.windows, self.engine.as_mut())?;
        }
        self.counts.rows_read += ticks.len() as u64;
        self.counts.add_rows(self.engine.kind(), self.windows.passed() - before);
        Ok(())
    }
}

impl ScanOutcome {
    /// Finishes the windows on some threads and hands them over in canonical order, block by
    /// block, as `take` keeps pace: what is in flight is bounded.
    ///
    /// # Errors
    /// The first of `take`.
    pub fn finish<E>(
        &self,
        threads: NonZeroUsize,
        mut take: impl FnMut(EncodedRows) -> Result<(), E>,
    ) -> Result<(), E> {
        let (results, threads) = (&self.results, threads.get());
        std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..threads)
                .map(|thread| {
                    let (sender, receiver) = mpsc::sync_channel(BLOCKS_AHEAD);
                    scope.spawn(move || {
                        let mine = (thread..results.blocks()).step_by(threads);
                        // Nobody takes them any more after an error.
                        mine.map(|block| results.block(block))
                            .try_for_each(|block| sender.send(block))
                    });
                    receiver
                })
                .collect();
            for block in 0..results.blocks() {
                let block = lanes[block % threads].recv();
                take(block.expect("a thread that finishes windows does not panic"))?;
            }
            Ok(())
        })
    }
}

/// Finished blocks that wait for whoever takes them, per thread.
const BLOCKS_AHEAD: usize = 4;
