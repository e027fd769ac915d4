//! Scans as commands run them: parts of a folder or of files, engines, progress, rows and hash.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use isotick_kernels::{EncodedRows, EngineKind, Plan, ResultHash, ResultHasher, Term, Truth};
use isotick_model::StreamSchema;
use isotick_model::expr::Expr;
use isotick_model::results::ResultSchema;
use isotick_model::view::{Tumbling, View};
use isotick_scheduler::{Extent, Part, Scan, ScanError, TickSink};
use isotick_storage::{Columns, Snapshot};

use crate::cli::TruthChoice;
use crate::engines::Engines;
use crate::progress;

/// What a scan came to.
pub struct Finished {
    /// How many windows there are.
    pub windows: usize,
    /// Their hash.
    pub hash: ResultHash,
    /// Rows read, before the filter.
    pub rows_read: u64,
    /// Rows in windows, by the engine that reduced them.
    pub rows_by_engine: Vec<(EngineKind, u64)>,
    /// Ticks that the chosen truth left out.
    pub too_late: u64,
    /// Ticks that lie in no representable window of the view.
    pub unrepresentable: u64,
    /// What ran.
    pub engine: String,
    /// How long reading and reducing took.
    pub reading: Duration,
    /// How long it took until the last window was finished, hashed and handed over.
    pub elapsed: Duration,
}

impl Finished {
    /// Rows that were in windows.
    pub fn rows_reduced(&self) -> u64 {
        self.rows_by_engine.iter().map(|(_, rows)| rows).sum()
    }

    /// One line for people: how much was read, by which engine.
    pub fn summary(&self) -> String {
        let engines = self.rows_by_engine.iter();
        let engines: Vec<_> = engines.map(|(kind, rows)| format!("{kind} {rows}")).collect();
        let seconds = self.elapsed.as_secs_f64();
        format!(
            "{} windows from {} ticks read in {seconds:.3} s; ticks in windows by engine: {}",
            self.windows,
            self.rows_read,
            if engines.is_empty() { "none".to_owned() } else { engines.join(", ") }
        )
    }

    /// The rows that each engine did.
    pub fn engines_json(&self) -> serde_json::Value {
        let engines = self.rows_by_engine.iter();
        let engines = engines.map(|(kind, rows)| (kind.to_string(), (*rows).into()));
        engines.collect::<serde_json::Map<_, _>>().into()
    }

    /// The numbers, for people who benchmark.
    pub fn to_json(&self) -> serde_json::Value {
        let seconds = self.elapsed.as_secs_f64();
        serde_json::json!({
            "engine": self.engine,
            "rows_read": self.rows_read,
            "rows_by_engine": self.engines_json(),
            "too_late": self.too_late,
            "unrepresentable": self.unrepresentable,
            "windows": self.windows,
            "seconds": seconds,
            "reading_seconds": self.reading.as_secs_f64(),
            "rows_per_s": (self.rows_read as f64 / seconds.max(1e-9)) as u64,
            "hash": self.hash.to_string(),
        })
    }
}

/// Runs a scan with progress on a terminal, and hands the windows over by key and start.
pub fn run(
    scan: &Scan,
    parts: Vec<Part>,
    rows_total: Option<u64>,
    engines: Engines,
    take: &mut dyn FnMut(&EncodedRows) -> Result<()>,
) -> Result<Finished> {
    let threads = NonZeroUsize::new(engines.workers.len()).unwrap_or(NonZeroUsize::MIN);
    let (read, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let outcome = std::thread::scope(|scope| {
        let shown = scope.spawn(|| {
            let bar = progress::bar(&format!("scanning {}", scan.view.name), rows_total, "rows");
            while !done.load(Ordering::Acquire) {
                bar.set_position(read.load(Ordering::Relaxed));
                std::thread::park_timeout(Duration::from_millis(50));
            }
            bar.finish_and_clear();
        });
        let outcome = scan.run(parts, engines.workers, engines.on_failure, &read);
        done.store(true, Ordering::Release);
        shown.thread().unpark();
        outcome
    })?;
    let reading = started.elapsed();
    if let Some(error) = &outcome.fallback {
        eprintln!("isotick: {error}; the scan went on with the CPU engine");
    }
    let results = &outcome.results;
    if results.unrepresentable() > 0 {
        eprintln!(
            "note: {} ticks lie in no window of {} whose start and end 64-bit nanoseconds can hold",
            results.unrepresentable(),
            scan.view.name
        );
    }
    let mut hasher = ResultHasher::new(&ResultSchema::of(&scan.view));
    outcome.finish(threads, |block| {
        hasher.push(&block);
        take(&block)
    })?;
    Ok(Finished {
        windows: results.len(),
        hash: hasher.finish(),
        rows_read: outcome.rows_read,
        too_late: results.too_late(),
        unrepresentable: results.unrepresentable(),
        rows_by_engine: outcome.rows_by_engine,
        engine: engines.description,
        reading,
        elapsed: started.elapsed(),
    })
}

/// The truth a choice means for a view.
pub fn truth(choice: TruthChoice, view: &View) -> Truth {
    let allowed_ns = view.lateness.allowed_ns;
    match choice {
        TruthChoice::Now => Truth::Now,
        TruthChoice::Seen => Truth::Seen { allowed_ns },
        TruthChoice::Late => Truth::Late { allowed_ns },
    }
}

/// A folder's ticks as parts of a scan.
pub struct FolderParts {
    /// The parts.
    pub parts: Vec<Part>,
    /// Rows in them, at most.
    pub rows: u64,
    /// Stored bytes of the columns that are read; what only the log holds is not counted.
    pub bytes: u64,
    /// History files.
    pub files: usize,
}

/// Plans the reading of a folder. With `tail`, what only the log holds is in as well.
pub fn folder_parts(snapshot: &Snapshot, scan: &Scan, tail: bool) -> Result<FolderParts> {
    let (view, schema) = (&scan.view, &scan.schema);
    let columns = columns_of(view, scan.truth);
    let mut folder = FolderParts { parts: Vec::new(), rows: 0, bytes: 0, files: 0 };
    let mut last = None;
    for stored in snapshot.ticks_of(schema, &columns, times(scan), &scan.key_selection())? {
        folder.rows += stored.rows() as u64;
        folder.bytes += stored.bytes();
        folder.files += usize::from(last.as_deref() != Some(stored.path()));
        last = Some(stored.path().to_path_buf());
        let extent = Some(Extent { times: stored.times(), keys: stored.keys() });
        let read = Box::new(move |sink: &mut TickSink<'_>| {
            for ticks in stored.read().map_err(read_failed)? {
                sink(ticks.map_err(read_failed)?)?;
            }
            Ok(())
        });
        folder.parts.push(Part { extent, read });
    }
    if tail {
        for batch in snapshot.tail(&schema.name)? {
            folder.rows += batch.len() as u64;
            folder.parts.push(Part::of(batch));
        }
    }
    Ok(folder)
}

fn read_failed(error: isotick_storage::Error) -> ScanError {
    ScanError::Read(Box::new(error))
}

/// The columns that a view reads: of its plan and of its filter.
pub fn columns_of(view: &View, truth: Truth) -> Columns {
    let mut values = Plan::of(view).columns();
    values.extend(view.filter.iter().flat_map(|filter| filter.columns()));
    values.sort_unstable();
    values.dedup();
    // Only the ends of windows depend on who sent a tick.
    let identity = needs_order(view);
    let one_window = one_window(view, truth);
    Columns { values, identity, seen: truth != Truth::Now, one_window }
}

/// The view's windows, where all that matters of a tick's time is the window that it lies in.
pub fn one_window(view: &View, truth: Truth) -> Option<Tumbling> {
    let timed = view.filter.as_ref().is_some_and(Expr::reads_time);
    (!timed && truth == Truth::Now && !needs_order(view)).then_some(view.window)
}

/// Whether it matters which ticks come first: at the ends of windows.
fn needs_order(view: &View) -> bool {
    let ends = |(term, _): &(Term, _)| matches!(term, Term::First(_) | Term::Last(_));
    Plan::of(view).terms().iter().any(ends)
}

/// The times of all ticks that can be in the windows asked for.
fn times(scan: &Scan) -> RangeInclusive<i64> {
    let last = |to: i64| to.saturating_sub(1).saturating_add(scan.view.window.width_ns);
    scan.from_ns.unwrap_or(i64::MIN)..=scan.to_ns.map_or(i64::MAX, last)
}

/// A scan of all keys over all time.
pub fn whole(view: &View, schema: &StreamSchema, truth: Truth) -> Scan {
    Scan {
        view: Arc::new(view.clone()),
        schema: Arc::new(schema.clone()),
        truth,
        from_ns: None,
        to_ns: None,
        keys: Vec::new(),
    }
}
