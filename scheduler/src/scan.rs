//! A scan: views over stored ticks, part by part, on any number of threads.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use isotick_kernels::{
    Base, CpuEngine, EncodedRows, Engine, EngineError, EngineKind, Ordered, ResultHash,
    ResultHasher, Results, SavedWindows, Truth, Unfit, Windows,
};
use isotick_model::results::ResultSchema;
use isotick_model::view::View;
use isotick_model::{Key, KeySelection, StreamSchema, Ticks};

use crate::part::{Neighbours, Part, Read};
use crate::threads::Threads;

/// An error of whoever reads the ticks.
pub type ReadError = Box<dyn std::error::Error + Send + Sync>;

/// What is scanned for.
#[derive(Clone)]
pub struct Scan {
    /// The views, all of one stream: its ticks are read once for all of them.
    pub views: Vec<ScanView>,
    /// The schema of the stream.
    pub schema: Arc<StreamSchema>,
    /// Windows that start at or after this, nanoseconds UTC.
    pub from_ns: Option<i64>,
    /// Windows that start before this, nanoseconds UTC.
    pub to_ns: Option<i64>,
    /// Only these keys; empty for all.
    pub keys: Vec<Key>,
}

/// A view of a scan.
#[derive(Clone)]
pub struct ScanView {
    /// The view.
    pub view: Arc<View>,
    /// Which ticks count.
    pub truth: Truth,
}

/// What a scan gives.
pub struct ScanOutcome {
    /// In the order of the scan's views.
    pub views: Vec<ViewOutcome>,
    /// Rows that were read.
    pub rows_read: u64,
    /// States that were read in place of others.
    pub states_read: u64,
    /// How many rows those stand for.
    pub rows_from_states: u64,
    /// Set when an engine failed and its work went to the CPU.
    pub fallback: Option<EngineError>,
}

/// What a scan gives of one view.
pub struct ViewOutcome {
    /// The windows.
    pub results: Results,
    /// Rows handed to each engine, after the filter.
    pub rows_by_engine: Vec<(EngineKind, u64)>,
    /// Rows in windows that no engine had to reduce: those of states.
    pub rows_from_states: u64,
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
    /// What was read as states are none.
    #[error("stored states are damaged: {0}; `isotick scan --no-rollup` reads the ticks")]
    States(#[from] Unfit),
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
    /// `rows_read` is counted up while the scan runs, also by rows that states stand for, for whoever
    /// shows progress.
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
        let places: Vec<_> = parts.iter().map(|part| part.place.clone()).collect();
        let of_view = |of: &ScanView| Neighbours::new(&places, of.view.window);
        let neighbours: Vec<Neighbours> = self.views.iter().map(of_view).collect();
        let queue = Mutex::new(parts.into_iter().enumerate().collect());
        let work = |engine| self.work(&queue, &neighbours, engine, on_failure, rows_read);
        let threads = NonZeroUsize::new(engines.len()).unwrap_or(NonZeroUsize::MIN);
        let mut finished: Vec<_> = engines.iter().map(|_| None).collect();
        Threads::take(threads).scope(|scope| {
            for (engine, finished) in engines.into_iter().zip(&mut finished) {
                let work = &work;
                scope.spawn(move |_| *finished = Some(work(engine)));
            }
        });
        let mut all = Passed::default();
        let mut views: Vec<Vec<ViewWork<Ordered>>> =
            self.views.iter().map(|_| Vec::new()).collect();
        for worker in finished.into_iter().flatten() {
            let (of_worker, passed) = worker?;
            all.add(passed);
            for (all, of_worker) in views.iter_mut().zip(of_worker) {
                all.push(of_worker);
            }
        }
        let views = views.into_iter().map(ViewOutcome::of).collect();
        let Passed { rows_read, states_read, rows_from_states, fallback } = all;
        Ok(ScanOutcome { views, rows_read, states_read, rows_from_states, fallback })
    }

    /// The keys that can count: by name, and by the views' filters.
    pub fn key_selection(&self) -> KeySelection {
        let of_view = |of: &ScanView| {
            KeySelection::new(self.schema.keys.len(), &self.keys, of.view.filter.as_ref())
        };
        self.views.iter().map(of_view).reduce(KeySelection::or).unwrap_or_default()
    }

    pub(crate) fn windows(&self, of: &ScanView) -> Windows {
        Windows::new(of.view.clone(), &self.schema)
            .with_truth(of.truth)
            .with_range(self.from_ns, self.to_ns)
    }

    /// One thread: parts from the queue until it is empty. An error empties the queue, so that
    /// the other threads end soon.
    fn work(
        &self,
        queue: &Mutex<VecDeque<(usize, Part)>>,
        neighbours: &[Neighbours],
        engine: Box<dyn Engine>,
        on_failure: OnFailure,
        rows_read: &AtomicU64,
    ) -> Result<(Vec<ViewWork<Ordered>>, Passed), ScanError> {
        let of_view = |of: &ScanView| ViewWork {
            windows: self.windows(of),
            rows: Vec::new(),
            rows_from_states: 0,
        };
        let mut worker = Worker {
            views: self.views.iter().map(of_view).collect(),
            passed: Passed::default(),
            engine,
            on_failure,
            keys: &self.keys,
        };
        let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some((number, Part { read, .. })) = lock().pop_front() else {
                let views = worker.views.into_iter().map(ViewWork::ordered).collect();
                return Ok((views, worker.passed));
            };
            let result = match read {
                Read::Ticks(read) => read(&mut |ticks| {
                    rows_read.fetch_add(ticks.len() as u64, Ordering::Relaxed);
                    worker.reduce(&ticks, number, neighbours)
                }),
                Read::States(base, read) => read(&mut |states| {
                    rows_read.fetch_add(worker.absorb(&states, &base)?, Ordering::Relaxed);
                    Ok(())
                }),
            };
            if let Err(error) = result {
                lock().clear();
                return Err(error);
            }
            for (of, neighbours) in worker.views.iter_mut().zip(neighbours) {
                if neighbours.are_known() {
                    of.windows.finish(neighbours.times(number));
                }
            }
        }
    }
}

/// One thread's share of a view.
struct ViewWork<W> {
    windows: W,
    /// In windows, by the engine that reduced them.
    rows: Vec<(EngineKind, u64)>,
    rows_from_states: u64,
}

impl ViewWork<Windows> {
    fn ordered(self) -> ViewWork<Ordered> {
        let Self { windows, rows, rows_from_states } = self;
        ViewWork { windows: windows.into(), rows, rows_from_states }
    }
}

/// What went through a thread.
#[derive(Default)]
struct Passed {
    rows_read: u64,
    states_read: u64,
    rows_from_states: u64,
    fallback: Option<EngineError>,
}

impl Passed {
    fn add(&mut self, other: Self) {
        self.rows_read += other.rows_read;
        self.states_read += other.states_read;
        self.rows_from_states += other.rows_from_states;
        self.fallback = self.fallback.take().or(other.fallback);
    }
}

struct Worker<'a> {
    views: Vec<ViewWork<Windows>>,
    passed: Passed,
    engine: Box<dyn Engine>,
    on_failure: OnFailure,
    keys: &'a [Key],
}

impl Worker<'_> {
    /// Takes in a batch of a part.
    fn reduce(
        &mut self,
        ticks: &Ticks,
        part: usize,
        neighbours: &[Neighbours],
    ) -> Result<(), ScanError> {
        let select = Select::of(ticks, self.keys);
        for (of, neighbours) in self.views.iter_mut().zip(neighbours) {
            let update = |windows: &mut Windows, engine: &mut dyn Engine| {
                update(windows, &select, engine, part, neighbours)
            };
            let before = of.windows.passed();
            if let Err(error) = update(&mut of.windows, self.engine.as_mut()) {
                if self.on_failure == OnFailure::Stop {
                    return Err(error.into());
                }
                self.passed.fallback.get_or_insert(error);
                self.engine = Box::new(CpuEngine);
                update(&mut of.windows, self.engine.as_mut())?;
            }
            count(&mut of.rows, self.engine.kind(), of.windows.passed() - before);
        }
        self.passed.rows_read += ticks.len() as u64;
        Ok(())
    }

    /// Takes in states; how many rows they stand for.
    fn absorb(&mut self, states: &SavedWindows, base: &Base) -> Result<u64, ScanError> {
        let mut held = 0;
        for of in &mut self.views {
            let before = of.windows.passed();
            let wanted = |key: &Key| self.keys.is_empty() || self.keys.contains(key);
            held = of.windows.absorb_states(states, base, wanted)?;
            of.rows_from_states += of.windows.passed() - before;
        }
        self.passed.states_read += states.start.len() as u64;
        self.passed.rows_from_states += held;
        Ok(held)
    }
}

/// Which rows of a batch have wanted keys.
pub(crate) struct Select<'a> {
    ticks: &'a Ticks,
    /// Per entry of the batch's keys; `None` where all are.
    wanted: Option<Vec<bool>>,
}

impl<'a> Select<'a> {
    /// Those with these keys; all where none is named.
    pub(crate) fn of(ticks: &'a Ticks, keys: &[Key]) -> Self {
        let wanted = || ticks.keys.iter().map(|key| keys.contains(key)).collect::<Vec<_>>();
        let wanted = (!keys.is_empty()).then(wanted).filter(|wanted| wanted.contains(&false));
        Self { ticks, wanted }
    }
}

/// Takes a batch of a part into windows.
pub(crate) fn update(
    windows: &mut Windows,
    Select { ticks, wanted }: &Select<'_>,
    engine: &mut dyn Engine,
    part: usize,
    neighbours: &Neighbours,
) -> Result<(), EngineError> {
    let is_wanted = wanted.as_ref().map(|wanted| |row: usize| wanted[ticks.key[row] as usize]);
    let select = is_wanted.as_ref().map(|select| select as &dyn Fn(usize) -> bool);
    match (neighbours.times_of_inner(part), select) {
        (Some(reachable), _) => windows.update_sorted(ticks, select, engine, reachable),
        (None, select) if neighbours.are_known() => windows.update_part(ticks, select, engine),
        (None, Some(select)) => windows.update(ticks, select, engine).map(|_| ()),
        (None, None) => windows.update_all(ticks, engine).map(|_| ()),
    }
}

pub(crate) fn count(rows: &mut Vec<(EngineKind, u64)>, kind: EngineKind, more: u64) {
    match rows.iter_mut().find(|(other, _)| *other == kind) {
        Some((_, sum)) => *sum += more,
        None => rows.push((kind, more)),
    }
}

impl ViewOutcome {
    fn of(workers: Vec<ViewWork<Ordered>>) -> Self {
        let (mut parts, mut rows_by_engine, mut rows_from_states) = (Vec::new(), Vec::new(), 0);
        for ViewWork { windows, rows, rows_from_states: of_worker } in workers {
            parts.push(windows);
            rows_from_states += of_worker;
            rows.into_iter().for_each(|(kind, rows)| count(&mut rows_by_engine, kind, rows));
        }
        rows_by_engine.sort_unstable();
        Self { results: Results::of(parts), rows_by_engine, rows_from_states }
    }

    /// Finishes the windows on some threads, hands them over in canonical order, block by block, as
    /// `take` keeps pace, and gives their hash: what is in flight is bounded.
    ///
    /// # Errors
    /// The first of `take`.
    pub fn finish<E>(
        &self,
        threads: NonZeroUsize,
        mut take: impl FnMut(EncodedRows) -> Result<(), E>,
    ) -> Result<ResultHash, E> {
        let (results, held, threads) = (&self.results, Threads::take(threads), threads.get());
        let mut hasher = ResultHasher::new(&ResultSchema::of(results.view()));
        held.scope(|scope| {
            let lanes: Vec<_> = (0..threads)
                .map(|thread| {
                    let (sender, receiver) = mpsc::sync_channel(BLOCKS_AHEAD);
                    scope.spawn(move |_| {
                        let mine = (thread..results.blocks()).step_by(threads);
                        // Nobody takes them any more after an error.
                        let _ = mine
                            .map(|block| results.block(block))
                            .try_for_each(|block| sender.send(block));
                    });
                    receiver
                })
                .collect();
            for block in 0..results.blocks() {
                let block = lanes[block % threads].recv();
                let block = block.expect("a thread that finishes windows does not panic");
                hasher.push(&block);
                take(block)?;
            }
            Ok(hasher.finish())
        })
    }
}

/// Finished blocks that wait for whoever takes them, per thread.
const BLOCKS_AHEAD: usize = 4;
