//! What the scanning threads do: plan a job, compute some parts of one or several, bring the
//! pieces of one together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use isotick_kernels::{
    Base, EncodedRows, EngineError, EngineKind, Merge, MergeError, ResultHasher, Results,
    SortedRun, Windows,
};
use isotick_model::results::ResultSchema;
use isotick_scheduler::{Extent, Piece, PieceInHand, PieceOfView, Place, PlannedScan};
use isotick_storage::history::Part;
use isotick_storage::{DataFolder, Frozen, Pinned, Pins, ResultFile, Snapshot, StatesPart};
use isotick_wire::Refusal;

use super::costs::{Costs, Cut};
use super::gate::Gate;
use super::pieces::{Pieces, REST};
use super::plan::{self, Group, Reads};
use super::record::{Engine, Record, ResultOf};
use super::store::{JobStore, Plan};
use crate::device::{Devices, Lane, Opened};
use crate::rollups::{self, Stored};

/// A job whose parts are known: what scanning threads and whoever sends results share of it.
pub struct Running {
    pub planned: PlannedScan,
    pub frozen: Frozen,
    pub groups: Vec<Group>,
    /// Per view: the windows that several parts touch, as far as parts are done.
    open: Vec<Mutex<Windows>>,
    /// What became of them, once they are a piece.
    rest: Mutex<Option<Vec<Totals>>>,
    pub pieces: Arc<Pieces>,
    finishing: Mutex<Option<Finishing>>,
    engine: Engine,
    /// Bytes of a window's state, of the view where it is largest.
    pub state_bytes: u64,
    /// Nobody wants it any more.
    pub cancelled: AtomicBool,
    /// How it ended: the job for its client, or why there is no result.
    pub over: OnceLock<Result<String, Refusal>>,
    /// What it reads stays.
    _pinned: Pinned,
}

/// A job whose pieces are being brought together.
struct Finishing {
    totals: Vec<Totals>,
    schemas: Vec<ResultSchema>,
    done: Vec<ResultOf>,
    /// The view that comes next, once it was begun.
    view: Option<FinishingView>,
}

struct FinishingView {
    merge: Merge<Blocks>,
    hasher: ResultHasher,
    file: ResultFile,
    windows: u64,
}

type Blocks = Box<dyn Iterator<Item = Result<EncodedRows>> + Send>;

/// How long pieces are brought together before others get their turn.
const FINISH_FOR: Duration = Duration::from_millis(8);

#[derive(Clone, Copy, Default)]
struct Totals {
    too_late: u64,
    unrepresentable: u64,
}

/// Rows by the engine that reduced them, over all views.
pub type RowsByEngine = Vec<(EngineKind, u64)>;

/// What is done of a job when its parts are known.
pub struct PlannedJob {
    pub running: Arc<Running>,
    /// Parts whose pieces an earlier run left.
    pub done: Vec<u32>,
    /// What those came to.
    pub rows_read: u64,
    pub rows_from_states: u64,
    pub rows: RowsByEngine,
}

/// What came of a part.
#[derive(Default)]
pub struct PartDone {
    pub rows_read: u64,
    pub rows_from_states: u64,
    pub rows: RowsByEngine,
    /// An engine's failure, after which the CPU's went on.
    pub fallback: Option<String>,
    /// What it took by itself, where the reading may have been for others as well.
    pub own_ns: u64,
    /// Rows that were reduced, and how long that took by each of its views.
    pub rows_reduced: u64,
    pub views_ns: Vec<u64>,
}

/// Why something of a job did not work.
#[derive(Debug)]
pub enum Trouble {
    /// What it reads is no longer there: merged, and thrown away since.
    Gone(anyhow::Error),
    /// Worth another try.
    Failed(anyhow::Error),
    /// It would fail again.
    Hopeless(anyhow::Error),
    /// Nobody wants it any more.
    Cancelled,
}

impl Trouble {
    /// A bug met what was done.
    pub fn broken() -> Self {
        Self::Hopeless(anyhow!(
            "the scan met a bug of the service, whose own output tells where: please report it"
        ))
    }
}

impl From<isotick_storage::Error> for Trouble {
    fn from(error: isotick_storage::Error) -> Self {
        match error.is_missing() {
            true => Self::Gone(error.into()),
            false => Self::Failed(error.into()),
        }
    }
}

/// From a chain with the storage's error in it.
fn trouble(error: anyhow::Error) -> Trouble {
    match error.downcast_ref::<isotick_storage::Error>() {
        Some(cause) if cause.is_missing() => Trouble::Gone(error),
        _ => Trouble::Failed(error),
    }
}

/// One scanning thread's means.
pub struct Bench {
    pub folder: DataFolder,
    pub store: JobStore,
    pub pins: Pins,
    pub gate: Arc<Gate>,
    pub devices: Arc<Devices>,
    /// When this thread left its core for the last time.
    pub rested: Instant,
    /// How long it stood before the gate.
    pub waited: Duration,
}

impl Bench {
    /// Finds out what a job reads: what was noted before, or what is to be noted now.
    pub fn plan(
        &mut self,
        record: &Record,
        fresh: Option<Frozen>,
        costs: &Costs,
    ) -> Result<PlannedJob, Trouble> {
        let scan = record.scan().map_err(Trouble::Hopeless)?;
        let noted = match fresh {
            Some(_) => None,
            None => self.store.plan(&record.id).map_err(Trouble::Gone)?,
        };
        let frozen = match (&noted, fresh) {
            (Some(plan), _) => plan.frozen.clone(),
            (None, Some(frozen)) => frozen,
            (None, None) => return Err(Trouble::Gone(anyhow!("nothing was noted"))),
        };
        let pinned = self.pins.pin(frozen.paths().map(str::to_owned));
        let snapshot = Snapshot::thaw(self.folder.clone(), &frozen);
        let stored = if record.asked.no_rollup { Stored::Ticks } else { Stored::States };
        let views = scan.views.len();
        let cut = |rows| match &noted {
            Some(Plan { cut, .. }) => cut.clone().unwrap_or_else(|| Cut::of_old(views)),
            None => costs.cut(rows),
        };
        if let Some(Plan { cut: Some(cut), .. }) = &noted
            && !cut.is_of(views)
        {
            return Err(Trouble::Gone(anyhow!("it was cut for other views")));
        }
        let planned = plan::groups(&snapshot, &scan, stored, &record.id, cut);
        let (groups, mut places, cut) = planned.map_err(trouble)?;
        let parts = plan::digest(&groups);
        let path = self.store.pieces(&record.id);
        let (pieces, found) = match &noted {
            Some(noted) if noted.parts != parts => {
                return Err(Trouble::Gone(anyhow!("the parts are others than before")));
            }
            Some(_) => Pieces::open(&path, views).map_err(Trouble::Gone)?,
            None => (Pieces::create(&path, views).map_err(Trouble::Failed)?, Vec::new()),
        };
        let tail_place = places.len();
        let tail_part = groups.len() as u32;
        let has_piece = found.iter().any(|of| of.part == tail_part);
        let (mut tail, mut times) = (Vec::new(), noted.as_ref().and_then(|noted| noted.tail));
        if noted.is_none() || (times.is_some() && !has_piece) {
            // When the log has moved on, what it held is in files by now.
            (tail, times) = plan::tail(&snapshot, &frozen).map_err(Trouble::Gone)?;
        }
        places.extend(times.map(|(least, greatest)| Place {
            extent: Some(Extent { times: least..=greatest, keys: None }),
            sequence: None,
        }));
        let planned = PlannedScan::new(scan, &places);
        let open = (0..views).map(|view| Mutex::new(planned.open_windows(view))).collect();
        let words = planned.scan.views.iter().map(|of| isotick_kernels::Plan::of(&of.view).words());
        let state_bytes = words.max().unwrap_or(0) as u64 * 8;
        let running = Running {
            planned,
            frozen,
            groups,
            open,
            rest: Mutex::default(),
            pieces: Arc::new(pieces),
            finishing: Mutex::default(),
            engine: record.asked.engine,
            state_bytes,
            cancelled: AtomicBool::new(false),
            over: OnceLock::new(),
            _pinned: pinned,
        };
        let mut job = PlannedJob {
            running: Arc::new(running),
            done: Vec::new(),
            rows_read: 0,
            rows_from_states: 0,
            rows: Vec::new(),
        };
        let running = job.running.clone();
        for of in &found {
            for (view, (open, rows)) in of.views.iter().enumerate() {
                let absorbed = running.open(view).absorb(open);
                absorbed.map_err(|error| Trouble::Gone(error.into()))?;
                job.rows.extend(rows);
            }
            job.rows_read += of.rows_read;
            job.rows_from_states += of.rows_from_states;
            job.done.push(of.part);
        }
        if times.is_some() && !has_piece {
            let mut hand = running.planned.begin(tail_place, 0..views);
            let Opened { mut engine, on_failure } = self.engine(running.engine)?;
            for ticks in &tail {
                hand.take(ticks, &mut engine, on_failure, |_| ()).map_err(refused)?;
            }
            let done = running.keep(tail_part, hand.finish())?;
            job.rows_read += done.rows_read;
            job.rows.extend(done.rows);
            job.done.push(tail_part);
        }
        if noted.is_none() {
            let frozen = running.frozen.clone();
            let plan = Plan { frozen, parts, tail: times, cut: Some(cut) };
            self.store.put_plan(&record.id, &plan).map_err(Trouble::Failed)?;
        }
        Ok(job)
    }

    /// Computes parts of some jobs, which are read together where they are of the same rows.
    pub fn parts(&mut self, asked: &[(Arc<Running>, u32)]) -> Vec<Result<PartDone, Trouble>> {
        let views = |(of, part): &(Arc<Running>, u32)| of.groups[*part as usize].views.clone();
        let none = |of| PartDone { views_ns: vec![0; views(of).len()], ..PartDone::default() };
        let mut done: Vec<Result<PartDone, Trouble>> =
            asked.iter().map(|of| Ok(none(of))).collect();
        let place = |(of, part): &(Arc<Running>, u32)| of.groups[*part as usize].place;
        let mut hands: Vec<_> =
            asked.iter().map(|of| Some(of.0.planned.begin(place(of), views(of)))).collect();
        for reading in Reading::of(asked) {
            let is_wanted = |who: &usize, done: &[Result<PartDone, Trouble>]| {
                done[*who].is_ok() && !asked[*who].0.is_cancelled()
            };
            let mut read = || -> Result<(), isotick_storage::Error> {
                if !reading.who.iter().any(|who| is_wanted(who, &done)) {
                    return Ok(());
                }
                let choices = reading.who.iter().map(|&who| asked[who].0.engine.into());
                for ticks in self.devices.read(&reading.part, choices)? {
                    let ticks = ticks?;
                    self.waited +=
                        self.gate.pass(|| reading.who.iter().any(|who| is_wanted(who, &done)));
                    let mut is_over = true;
                    for &who in &reading.who {
                        if !is_wanted(&who, &done) {
                            continue;
                        }
                        is_over = false;
                        let Ok(of) = &mut done[who] else { continue };
                        let (running, part) = &asked[who];
                        let first = running.groups[*part as usize].views.start;
                        let hand = hands[who].as_mut().expect("it is ended later");
                        if let Err(trouble) = self.take(running, hand, first, &ticks, of) {
                            done[who] = Err(trouble);
                        }
                    }
                    if is_over {
                        break;
                    }
                }
                Ok(())
            };
            if let Err(error) = read() {
                for &who in &reading.who {
                    let again = match error.is_missing() {
                        true => Trouble::Gone(anyhow!("{error}")),
                        false => Trouble::Failed(anyhow!("{error}")),
                    };
                    done[who] = Err(again);
                }
            }
        }
        for (who, (running, part)) in asked.iter().enumerate() {
            if let Reads::States(part, base) = &running.groups[*part as usize].reads {
                let hand = hands[who].as_mut().expect("it is ended later");
                if let Err(trouble) = self.states(running, part, base, hand) {
                    done[who] = Err(trouble);
                }
            }
        }
        let whole = asked.iter().zip(hands).zip(done).map(|(((running, part), hand), done)| {
            let done = done?;
            if running.is_cancelled() {
                return Err(Trouble::Cancelled);
            }
            let since = Instant::now();
            let hand = hand.expect("it is taken here only");
            let kept = running.keep(*part, hand.finish())?;
            Ok(PartDone {
                rows_read: kept.rows_read,
                rows_from_states: kept.rows_from_states,
                rows: kept.rows,
                own_ns: done.own_ns.saturating_add(since.elapsed().as_nanos() as u64),
                ..done
            })
        });
        whole.collect()
    }

    fn states(
        &mut self,
        running: &Running,
        part: &StatesPart,
        base: &Base,
        hand: &mut PieceInHand<'_>,
    ) -> Result<(), Trouble> {
        for states in part.read()? {
            self.waited += self.gate.pass(|| !running.is_cancelled());
            if running.is_cancelled() {
                break;
            }
            let states = rollups::saved(states?);
            let taken = hand.absorb(&states, base);
            taken.map_err(|error| {
                Trouble::Hopeless(anyhow!(
                    "the states in {} are damaged: {error}; scan with --no-rollup",
                    part.path().display()
                ))
            })?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        running: &Running,
        hand: &mut PieceInHand<'_>,
        first: usize,
        ticks: &isotick_model::Ticks,
        done: &mut PartDone,
    ) -> Result<(), Trouble> {
        let gate = self.gate.clone();
        let mut last = self.rested;
        let Opened { mut engine, on_failure } = self.engine(running.engine)?;
        let begun = Instant::now();
        let mut since = begun;
        let between = |view: usize| {
            gate.breathe(&mut last);
            let now = Instant::now();
            done.views_ns[view - first] += (now - since).as_nanos() as u64;
            since = now;
        };
        let failed = hand.take(ticks, &mut engine, on_failure, between).map_err(refused)?;
        done.rows_reduced += ticks.len() as u64;
        done.own_ns += begun.elapsed().as_nanos() as u64;
        self.rested = last;
        done.fallback = done.fallback.take().or(failed.map(|error| error.to_string()));
        Ok(())
    }

    /// Brings the pieces of a job together as one file per view, for a while: `None` when there is
    /// more to do.
    pub fn finish(
        &mut self,
        record: &Record,
        running: &Running,
    ) -> Result<Option<Vec<ResultOf>>, Trouble> {
        let until = Instant::now() + FINISH_FOR;
        let mut finishing = running.finishing.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error: anyhow::Error| match running.is_cancelled() {
            true => Trouble::Cancelled,
            false => Trouble::Failed(error),
        };
        let mut in_hand = match finishing.take() {
            Some(in_hand) => in_hand,
            None => Finishing {
                totals: running.close()?,
                schemas: record.schemas().map_err(Trouble::Hopeless)?,
                done: Vec::new(),
                view: None,
            },
        };
        while in_hand.done.len() < in_hand.schemas.len() {
            if !self.write(record, running, &mut in_hand, until).map_err(failed)? {
                *finishing = Some(in_hand);
                return Ok(None);
            }
        }
        Ok(Some(in_hand.done))
    }

    /// Goes on with the file of the view in hand; false when the time is over before it is written.
    fn write(
        &mut self,
        record: &Record,
        running: &Running,
        in_hand: &mut Finishing,
        until: Instant,
    ) -> Result<bool> {
        let number = in_hand.done.len();
        let schema = &in_hand.schemas[number];
        let path = self.store.result(&record.id, number);
        let new = path.with_extension("new");
        let view = match &mut in_hand.view {
            Some(view) => view,
            none => {
                let columns = schema.columns.len();
                let runs = running.pieces.runs(number, columns, 0..running.pieces.len());
                let runs = runs.into_iter().map(|run| {
                    let blocks: Blocks = Box::new(run.blocks);
                    SortedRun { first: run.first, blocks }
                });
                none.insert(FinishingView {
                    merge: Merge::new(columns, runs),
                    hasher: ResultHasher::new(schema),
                    file: ResultFile::create(&new, schema)?,
                    windows: 0,
                })
            }
        };
        let mut rested = self.rested;
        loop {
            self.waited += self.gate.pass(|| !running.is_cancelled());
            ensure!(!running.is_cancelled(), "the job was cancelled");
            let block = view.merge.next_block().map_err(|error| match error {
                MergeError::Caller(error) => error,
                other => anyhow!(other),
            })?;
            let Some(rows) = block else { break };
            self.gate.breathe(&mut rested);
            view.hasher.push(&rows);
            view.windows += rows.len();
            view.file.write(&rows.rows())?;
            if Instant::now() >= until {
                return Ok(false);
            }
        }
        let Some(FinishingView { hasher, mut file, windows, .. }) = in_hand.view.take() else {
            return Ok(false);
        };
        let hash = hasher.finish().to_string();
        for (key, value) in super::provenance(record, &running.frozen, number, &hash) {
            file.note(key, value);
        }
        file.close()?;
        std::fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))?;
        let (asked, totals) = (&record.asked.views[number], in_hand.totals[number]);
        in_hand.done.push(ResultOf {
            view: asked.view.clone(),
            definition: asked.definition.clone(),
            windows,
            hash,
            too_late: totals.too_late,
            unrepresentable: totals.unrepresentable,
        });
        Ok(true)
    }

    /// An engine for a batch. One that fails is put aside for that batch only: what comes next may
    /// find memory again, or the device open again.
    fn engine(&self, choice: Engine) -> Result<Opened, Trouble> {
        self.devices.open(choice.into(), Lane::Scan).map_err(Trouble::Hopeless)
    }
}

fn refused(error: EngineError) -> Trouble {
    Trouble::Failed(error.into())
}

/// Rows that one or several jobs want.
struct Reading {
    part: Part,
    who: Vec<usize>,
}

impl Reading {
    fn of(asked: &[(Arc<Running>, u32)]) -> Vec<Self> {
        let mut readings = Vec::<Self>::new();
        for (who, (running, part)) in asked.iter().enumerate() {
            let Reads::Ticks(parts) = &running.groups[*part as usize].reads else { continue };
            for part in parts {
                match readings.iter_mut().find(|reading| reading.part.is_of_same_rows(part)) {
                    Some(reading) => {
                        reading.part = reading.part.joined(part);
                        reading.who.push(who);
                    }
                    None => readings.push(Self { part: part.clone(), who: vec![who] }),
                }
            }
        }
        readings
    }
}

impl Running {
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn open(&self, view: usize) -> MutexGuard<'_, Windows> {
        self.open[view].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Windows that are held in memory.
    pub fn open_windows(&self) -> usize {
        (0..self.open.len()).map(|view| self.open(view).len()).sum()
    }

    /// Keeps what a part gave.
    fn keep(&self, part: u32, piece: Piece) -> Result<PartDone, Trouble> {
        let mut done = PartDone {
            rows_read: piece.rows_read,
            rows_from_states: piece.rows_from_states,
            ..PartDone::default()
        };
        for of in &piece.views {
            done.rows.extend(&of.rows);
        }
        let open = self.pieces.add(part, piece).map_err(Trouble::Failed)?;
        for (view, open) in open.iter().enumerate() {
            let absorbed = self.open(view).absorb(open);
            absorbed.expect("a piece's windows are of the job's views");
        }
        Ok(done)
    }

    /// Makes the windows that several parts touch a piece of their own, once.
    fn close(&self) -> Result<Vec<Totals>, Trouble> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(totals) = &*rest {
            return Ok(totals.clone());
        }
        let (mut totals, mut views) = (Vec::new(), Vec::new());
        for view in 0..self.open.len() {
            let empty = self.planned.open_windows(view);
            let open = empty.save(|_, _| {});
            let windows = std::mem::replace(&mut *self.open(view), empty);
            let (too_late, unrepresentable) = (windows.too_late(), windows.unrepresentable());
            totals.push(Totals { too_late, unrepresentable });
            let results = Results::of(vec![windows]);
            let finished = (0..results.blocks()).map(|block| results.block(block)).collect();
            views.push(PieceOfView { finished, open, rows: Vec::new() });
        }
        self.pieces.add(REST, Piece { views, ..Piece::default() }).map_err(Trouble::Hopeless)?;
        *rest = Some(totals.clone());
        Ok(totals)
    }
}
