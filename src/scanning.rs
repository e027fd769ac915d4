//! Scans as commands run them: parts of a folder or of files, engines, progress, rows and hash.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use isotick_kernels::{Base, EncodedRows, EngineKind, Plan, ResultHash, Term, Truth};
use isotick_model::expr::Expr;
use isotick_model::view::{Tumbling, View};
use isotick_model::{StreamSchema, Ticks};
use isotick_scheduler::{Extent, Part, Scan, ScanError, ScanView, StatesSink, TickSink, apart};
use isotick_storage::manifest::{HistoryFile, StreamFiles};
use isotick_storage::{Columns, RollupBase, Snapshot, StatesPart};

use crate::cli::TruthChoice;
use crate::engines::Engines;
use crate::progress;
use crate::rollups::{self, Chooser, Stored};

/// What a scan came to for one view.
pub struct Finished {
    /// The view's name.
    pub view: String,
    /// How many windows there are.
    pub windows: usize,
    /// Their hash.
    pub hash: ResultHash,
    /// Rows read, before the filter.
    pub rows_read: u64,
    /// Stored states read in place of rows.
    pub states_read: u64,
    /// How many rows those stand for.
    pub rows_from_states: u64,
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
        let states = match self.states_read {
            0 => String::new(),
            states => {
                format!(" and {states} stored states of {} ticks", self.rows_from_states)
            }
        };
        format!(
            "{} windows from {} ticks read{states} in {seconds:.3} s; ticks in windows by engine: \
             {}",
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
            "view": self.view,
            "engine": self.engine,
            "rows_read": self.rows_read,
            "states_read": self.states_read,
            "rows_from_states": self.rows_from_states,
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

/// Runs a scan of one view with progress on a terminal, and hands the windows over by key and
/// start.
pub fn run(
    scan: &Scan,
    parts: Vec<Part>,
    rows_total: Option<u64>,
    engines: Engines,
    take: &mut dyn FnMut(&EncodedRows) -> Result<()>,
) -> Result<Finished> {
    let mut finished = run_all(scan, parts, rows_total, engines, &mut |_, rows| take(rows))?;
    finished.pop().context("a scan has a view")
}

/// The same for several views, one after another: with the number of the view, from 0.
pub fn run_all(
    scan: &Scan,
    parts: Vec<Part>,
    rows_total: Option<u64>,
    engines: Engines,
    take: &mut dyn FnMut(usize, &EncodedRows) -> Result<()>,
) -> Result<Vec<Finished>> {
    let threads = NonZeroUsize::new(engines.workers.len()).unwrap_or(NonZeroUsize::MIN);
    let (read, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let names = scan.views.iter().map(|of| of.view.name.as_str()).collect::<Vec<_>>().join(", ");
    let bar = progress::bar(&format!("scanning {names}"), rows_total, "rows");
    let outcome = std::thread::scope(|scope| {
        let show = || {
            while !done.load(Ordering::Acquire) {
                bar.set_position(read.load(Ordering::Relaxed));
                std::thread::park_timeout(Duration::from_millis(50));
            }
        };
        // A thread takes longer to begin than a small scan to end.
        let shown = (!bar.is_hidden()).then(|| scope.spawn(show));
        let outcome = scan.run(parts, engines.workers, engines.on_failure, &read);
        done.store(true, Ordering::Release);
        shown.inspect(|shown| shown.thread().unpark());
        outcome
    });
    bar.finish_and_clear();
    let outcome = outcome?;
    let reading = started.elapsed();
    if let Some(error) = &outcome.fallback {
        eprintln!("isotick: {error}; the scan went on with the CPU engine");
    }
    let mut finished = Vec::new();
    for (number, (asked, of)) in scan.views.iter().zip(&outcome.views).enumerate() {
        let (view, results) = (&asked.view, &of.results);
        if results.unrepresentable() > 0 {
            eprintln!(
                "note: {} ticks lie in no window of {} whose start and end 64-bit nanoseconds can \
                 hold",
                results.unrepresentable(),
                view.name
            );
        }
        let hash = of.finish(threads, |block| take(number, &block))?;
        finished.push(Finished {
            view: view.name.clone(),
            windows: results.len(),
            hash,
            rows_read: outcome.rows_read,
            states_read: outcome.states_read,
            rows_from_states: outcome.rows_from_states,
            too_late: results.too_late(),
            unrepresentable: results.unrepresentable(),
            rows_by_engine: of.rows_by_engine.clone(),
            engine: engines.description.clone(),
            reading,
            elapsed: started.elapsed(),
        });
    }
    Ok(finished)
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
    /// Ticks in them, at most, also those that states stand for.
    pub rows: u64,
    /// States that are read in place of ticks, by what they are of.
    pub states: Vec<StatesRead>,
    /// Stored bytes of the columns that are read; what only the log holds is not counted.
    pub bytes: u64,
    /// History files.
    pub files: usize,
    /// Where ticks in the range asked for were dropped: those of days that end by this time.
    pub dropped_before: Option<i64>,
}

/// Stored states that a scan reads.
pub struct StatesRead {
    /// What they are of.
    pub base: RollupBase,
    /// How many there are, at most.
    pub states: u64,
    /// The files of ticks that they stand for, relative to the data folder.
    pub files: Vec<String>,
    /// Ticks of those files, all of which stay unread.
    pub rows: u64,
    /// Stored bytes of what is read of them.
    pub bytes: u64,
}

/// Plans the reading of a folder. With `tail`, what only the log holds is in as well.
pub fn folder_parts(
    snapshot: &Snapshot,
    scan: &Scan,
    stored: Stored,
    tail: bool,
) -> Result<FolderParts> {
    let schema = &scan.schema;
    let mut folder = FolderParts {
        parts: Vec::new(),
        rows: 0,
        states: Vec::new(),
        bytes: 0,
        files: 0,
        dropped_before: None,
    };
    let files = snapshot.manifest().streams.get(&schema.name);
    let dropped = files.and_then(|files| files.dropped_before);
    folder.dropped_before = dropped.filter(|before| times(scan).start() < before);
    let planned = stored_parts(snapshot, scan, stored)?;
    for (stored, base) in planned.states {
        let (rows, of) = &planned.stands_for[stored.stands_for()];
        folder.add_states(&stored, *rows, of);
        let extent = Some(Extent { times: stored.times(), keys: stored.keys() });
        let read = move |sink: &mut StatesSink<'_>| {
            for states in stored.read().map_err(read_failed)? {
                sink(rollups::saved(states.map_err(read_failed)?))?;
            }
            Ok(())
        };
        folder.parts.push(Part::states(extent, base, read));
    }
    let tail = if tail { snapshot.tail(&schema.name)? } else { Vec::new() };
    let ticks: Vec<_> = by_file(planned.ticks).collect();
    let alone = alone(&ticks, &folder.parts, &tail, scan);
    let mut last = None;
    for (file, stored) in ticks {
        let by_order = identity(scan) && alone[file as usize];
        let stored = if by_order { stored.by_order() } else { stored };
        folder.rows += stored.rows() as u64;
        folder.bytes += stored.bytes();
        folder.files += usize::from(last.as_deref() != Some(stored.path()));
        last = Some(stored.path().to_path_buf());
        let extent = Some(Extent { times: stored.times(), keys: stored.keys() });
        let read = move |sink: &mut TickSink<'_>| {
            for ticks in stored.read().map_err(read_failed)? {
                sink(ticks.map_err(read_failed)?)?;
            }
            Ok(())
        };
        folder.parts.push(Part::ticks(extent, read).in_sequence(file));
    }
    for batch in tail {
        folder.rows += batch.len() as u64;
        folder.parts.push(Part::of(batch));
    }
    Ok(folder)
}

/// By the numbers of files, whether nothing but the file has ticks in its windows.
fn alone(
    ticks: &[(u32, isotick_storage::Part)],
    states: &[Part],
    tail: &[Ticks],
    scan: &Scan,
) -> Vec<bool> {
    let of_files = ticks.chunk_by(|(a, _), (b, _)| a == b).map(|of_file| {
        let times =
            || of_file.iter().map(|(_, stored)| stored.times()).map(RangeInclusive::into_inner);
        let least = times().map(|(least, _)| least).min();
        let greatest = times().map(|(_, greatest)| greatest).max();
        least.unwrap_or(i64::MIN)..=greatest.unwrap_or(i64::MAX)
    });
    let mut times: Vec<RangeInclusive<i64>> = of_files.collect();
    let files = times.len();
    times.extend(states.iter().map(|part| match &part.place.extent {
        Some(extent) => extent.times.clone(),
        None => i64::MIN..=i64::MAX,
    }));
    times.extend(tail.iter().filter_map(Ticks::times));
    let windows: Vec<Tumbling> = scan.views.iter().map(|of| of.view.window).collect();
    let mut alone = apart(&times, &windows);
    alone.truncate(files);
    alone
}

/// Parts with the numbers of their files, each of which is sorted as a whole.
pub fn by_file(
    parts: Vec<isotick_storage::Part>,
) -> impl Iterator<Item = (u32, isotick_storage::Part)> {
    let mut last: Option<(u32, PathBuf)> = None;
    parts.into_iter().map(move |part| {
        let number = match &last {
            Some((number, path)) if path == part.path() => *number,
            Some((number, _)) => number + 1,
            None => 0,
        };
        last = Some((number, part.path().to_path_buf()));
        (number, part)
    })
}

/// What of a folder's files a scan reads: each stored tick is in one of the parts, or in one of the
/// states.
pub struct StoredParts {
    pub ticks: Vec<isotick_storage::Part>,
    /// With what they are of.
    pub states: Vec<(StatesPart, Arc<Base>)>,
    /// By the files of ticks that states stand for: their rows, and what the states are of.
    stands_for: HashMap<String, (u64, RollupBase)>,
}

/// Chooses file by file, and plans the reading.
pub fn stored_parts(snapshot: &Snapshot, scan: &Scan, stored: Stored) -> Result<StoredParts> {
    let chooser = match stored {
        Stored::Ticks => None,
        Stored::States => Chooser::new(scan),
    };
    // Files may be others by the time they are opened: what is known of them is asked for then.
    let stands_for = RefCell::new(HashMap::new());
    let choose = |file: &HistoryFile, known: &StreamFiles| {
        let chosen = chooser.as_ref()?.choose(file, known)?;
        let place = (file.file.rows, known.bases[&chosen.base].clone());
        stands_for.borrow_mut().insert(file.file.path.clone(), place);
        Some(chosen)
    };
    let (columns, keys) = (columns_of(scan), scan.key_selection());
    let read = snapshot.parts_of(&scan.schema, &columns, times(scan), &keys, &choose)?;
    let with_base = |(part, chooser): (StatesPart, &Chooser)| {
        let base = chooser.base(part.base());
        (part, base)
    };
    Ok(StoredParts {
        ticks: read.ticks,
        states: read.states.into_iter().zip(chooser.iter().cycle()).map(with_base).collect(),
        stands_for: stands_for.into_inner(),
    })
}

impl FolderParts {
    /// Counts a part of states that stand for a file of so many rows.
    fn add_states(&mut self, part: &StatesPart, rows: u64, base: &RollupBase) {
        self.bytes += part.bytes();
        let place = self.states.iter().position(|of| of.base == *base);
        let place = place.unwrap_or_else(|| {
            let base = base.clone();
            self.states.push(StatesRead { base, states: 0, files: Vec::new(), rows: 0, bytes: 0 });
            self.states.len() - 1
        });
        let of = &mut self.states[place];
        of.states += part.rows() as u64;
        of.bytes += part.bytes();
        if of.files.last().map(String::as_str) != Some(part.stands_for()) {
            of.files.push(part.stands_for().to_owned());
            of.rows += rows;
            self.rows += rows;
            self.files += 1;
        }
    }
}

pub fn read_failed(error: isotick_storage::Error) -> ScanError {
    ScanError::Read(Box::new(error))
}

/// The columns that a scan reads: of its views' plans and of their filters.
pub fn columns_of(scan: &Scan) -> Columns {
    let views = || scan.views.iter().map(|of| &of.view);
    let mut values: Vec<usize> = views().flat_map(|view| Plan::of(view).columns()).collect();
    values.extend(views().flat_map(|view| &view.filter).flat_map(|filter| filter.columns()));
    values.sort_unstable();
    values.dedup();
    let seen = scan.views.iter().any(|of| of.truth != Truth::Now);
    Columns { values, identity: identity(scan), seen, one_window: one_window(scan) }
}

/// Whether a scan tells ticks apart by publisher and sequence. Only the ends of windows depend on them.
pub fn identity(scan: &Scan) -> bool {
    scan.views.iter().any(|of| needs_order(&of.view))
}

/// The windows of all views, where all that matters of a tick's time is the window that it lies in.
pub fn one_window(scan: &Scan) -> Option<Tumbling> {
    let window = scan.views.first()?.view.window;
    let same = |of: &ScanView| {
        let timed = of.view.filter.as_ref().is_some_and(Expr::reads_time);
        of.view.window == window && !timed && of.truth == Truth::Now && !needs_order(&of.view)
    };
    scan.views.iter().all(same).then_some(window)
}

/// Whether it matters which ticks come first: at the ends of windows.
fn needs_order(view: &View) -> bool {
    let ends = |(term, _): &(Term, _)| matches!(term, Term::First(_) | Term::Last(_));
    Plan::of(view).terms().iter().any(ends)
}

/// The times of all ticks that can be in the windows asked for.
pub fn times(scan: &Scan) -> RangeInclusive<i64> {
    let views: Vec<&View> = scan.views.iter().map(|of| &*of.view).collect();
    times_of(&views, scan.from_ns, scan.to_ns)
}

/// The same for views alone.
pub fn times_of(views: &[&View], from_ns: Option<i64>, to_ns: Option<i64>) -> RangeInclusive<i64> {
    let width_ns = views.iter().map(|view| view.window.width_ns).max().unwrap_or(0);
    let last = |to: i64| to.saturating_sub(1).saturating_add(width_ns);
    from_ns.unwrap_or(i64::MIN)..=to_ns.map_or(i64::MAX, last)
}

/// A scan of one view for all keys over all time.
pub fn whole(view: &View, schema: &StreamSchema, truth: Truth) -> Scan {
    Scan {
        views: vec![ScanView { view: Arc::new(view.clone()), truth }],
        schema: Arc::new(schema.clone()),
        from_ns: None,
        to_ns: None,
        keys: Vec::new(),
    }
}
