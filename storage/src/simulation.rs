//! The service in small on a disk that fails, from one seed: log, flushes, checkpoints, merges,
//! retention, states of files, and what is left of them after a crash.

mod truth;

use std::path::Path;
use std::sync::Arc;

use isotick_model::definitions::Definitions;
use isotick_model::{LogPosition, Retention, Ticks};

use self::truth::{DAY_NS, Held, InForce, Live, Truth, held_of};
use crate::compaction::Merge;
use crate::disk::simulated::{Crash, SimDisk, Skipped};
use crate::error::Result;
use crate::fixtures::{Random, schema};
use crate::folder::DataFolder;
use crate::fsck::fsck;
use crate::history::{ALL_TIME, Columns};
use crate::log::{LogReader, LogRecord, LogWriter};
use crate::manifest::{self, Manifest};
use crate::rollup::tests::{base, try_reduce};
use crate::rollup::{self, Rolled, RollupWork};
use crate::store::Store;
use crate::{Checkpoint, Eagerness, Merged};

const ROOT: &str = "/data";
/// Operations that a file of history takes, against a commit of the log.
const SCALE: u64 = 6;

/// A bug to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// Something is not synced that must be.
    Unsynced(Skipped),
    /// The log is released before the checkpoint is durable that makes it dispensable.
    ReleasedEarly,
}

/// A process that has the folder open.
struct Process {
    store: Store,
    log: LogWriter,
    merging: Merging,
    rolling: Rolling,
    /// A commit of a flush or merge has failed: nothing is committed until the next start.
    has_failed: bool,
}

/// A merge on its way.
enum Merging {
    None,
    Planned(Merge),
    Done(Merged),
}

/// States of a file on their way.
enum Rolling {
    None,
    Planned(RollupWork),
    Done(Rolled),
}

/// What came to pass.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    commits: u64,
    merges: u64,
    /// Merges of files that were dropped meanwhile.
    void: u64,
    drops: u64,
    rolled: u64,
    /// States of files that were merged or dropped meanwhile.
    rolled_void: u64,
    failed: u64,
    in_doubt: u64,
    released: u64,
    /// Starts at which a commit in doubt had not reached the disk.
    undone: u64,
    starts: u64,
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            commits: self.commits + other.commits,
            merges: self.merges + other.merges,
            void: self.void + other.void,
            drops: self.drops + other.drops,
            rolled: self.rolled + other.rolled,
            rolled_void: self.rolled_void + other.rolled_void,
            failed: self.failed + other.failed,
            in_doubt: self.in_doubt + other.in_doubt,
            released: self.released + other.released,
            undone: self.undone + other.undone,
            starts: self.starts + other.starts,
        }
    }
}

struct Simulation {
    tally: Tally,
    disk: Arc<SimDisk>,
    definitions: Definitions,
    truth: Truth,
    random: Random,
    segment_len: u64,
    now_ns: i64,
    /// Whether states are kept of files.
    rolls_up: bool,
    bug: Option<Bug>,
}

fn read(parts: Vec<crate::Part>) -> Vec<Held> {
    let mut held = Vec::new();
    for part in parts {
        for ticks in part.read().expect("a part of history can be read") {
            held.extend(held_of(&ticks.expect("history is whole")));
        }
    }
    held.sort_unstable();
    held
}

impl Simulation {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = Random(seed);
        let disk = SimDisk::new(random.next(), Path::new(ROOT), false);
        if let Some(Bug::Unsynced(skipped)) = bug {
            disk.skip(skipped);
        }
        let schema = schema(&["symbol"]);
        let definitions = Definitions { streams: vec![schema.clone()], views: Vec::new() };
        let segment_len = 4_096 + random.below(8_000);
        let (disk, truth) = (Arc::new(disk), Truth::new(schema));
        let tally = Tally::default();
        let rolls_up = seed % 2 == 1;
        Self { tally, disk, definitions, truth, random, segment_len, now_ns: 0, rolls_up, bug }
    }

    fn try_open(&mut self) -> Result<Process> {
        let folder = DataFolder::on(self.disk.clone(), Path::new(ROOT));
        let mut store = Store::take(folder.clone(), self.now_ns)?;
        if self.random.below(2) == 0 {
            store.keep_replaced(std::time::Duration::from_secs(10));
        }
        let (mut log, _) = LogWriter::open_with(
            &folder,
            self.disk.clone(),
            self.segment_len,
            store.manifest().covered(),
        )?;
        log.never_prepare();
        let (merging, rolling) = (Merging::None, Rolling::None);
        Ok(Process { store, log, merging, rolling, has_failed: false })
    }

    /// Ends whatever process there was and starts another, which may fail a few times before.
    fn start(&mut self, process: Option<Process>) -> Process {
        let mut process = process;
        let mut lost_power = false;
        loop {
            // Nothing that it still does has an effect.
            self.disk.die();
            drop(process.take());
            self.disk.heal();
            let crash = [Crash::Process, Crash::Power][self.random.below(2) as usize];
            lost_power |= crash == Crash::Power;
            self.disk.crash(crash);
            if self.random.below(4) > 0 {
                break;
            }
            self.disk.fall_ill(SCALE);
            process = self.try_open().ok();
            // What a failed sync was for may be gone.
            self.truth.written = self.truth.durable;
        }
        let process = self.try_open().unwrap_or_else(|error| panic!("it does not start: {error}"));
        let least = if lost_power { self.truth.durable } else { self.truth.written };
        let next = process.log.next().0;
        assert!(next >= least, "of {least} records that must be there {next} are");
        assert!(next <= self.truth.records.len() as u64, "records that nobody appended");
        self.truth.records.truncate(next as usize);
        (self.truth.written, self.truth.durable) = (next, next);

        let version = process.store.manifest().version;
        let known = self.truth.manifests.iter().position(|known| known.version == version);
        let known = known.unwrap_or_else(|| {
            panic!("manifest {version} is in force, of {:?}", self.truth.manifests)
        });
        let is_last = known + 1 == self.truth.manifests.len();
        assert!(lost_power || is_last, "a manifest went back without a power failure");
        self.tally.starts += 1;
        self.tally.undone += u64::from(!is_last);
        self.truth.manifests = vec![self.truth.manifests[known].clone()];
        let manifest = process.store.manifest();
        assert!(manifest.covered <= next, "history knows more than the log");
        let orphans = manifest::orphans(process.store.folder(), manifest).unwrap();
        assert_eq!(orphans, Vec::<String>::new(), "nothing is left over");
        self.check(&process);
        process
    }

    /// What must hold at any time.
    fn check(&mut self, process: &Process) {
        let snapshot = process.store.snapshot();
        let manifest = snapshot.manifest();
        let folder = snapshot.folder();
        let due = self.truth.in_force().clone();
        assert_eq!(*manifest, Manifest::read(folder).expect("the manifest can be read"));
        let checkpoints: Vec<u64> = manifest.checkpoints.iter().map(|c| c.position).collect();
        let found = (manifest.version, manifest.covered, checkpoints);
        assert_eq!(found, (due.version, due.covered, due.checkpoints.clone()));

        let report = fsck(&snapshot, &self.definitions, &mut |_| ()).expect("it can be checked");
        assert_eq!(report.findings, Vec::new());

        let schema = &self.truth.schema;
        let parts = snapshot.ticks(schema, &Columns::all(schema), ALL_TIME);
        let history = read(parts.expect("history can be read"));
        assert_eq!(history, self.truth.history(&due), "history is another");

        if self.rolls_up {
            // From states where there are some, else from ticks.
            let (all, _) = rollup::tests::read(&snapshot, schema, &base(6), &Default::default());
            let ticks = all.values().map(|(count, _)| count).sum::<u64>();
            assert_eq!(ticks, history.len() as u64, "states hold other ticks than files");
        }

        let checkpoint = process.store.checkpoint(|error| panic!("{error}")).unwrap();
        let (mut live, from) = match checkpoint {
            Some(Checkpoint { position, payload }) => (Live::decode(&payload), position.0),
            None => (Live::default(), 0),
        };
        assert_eq!(live, self.truth.live_at(from), "the checkpoint is another");
        let log = LogReader::from(folder, LogPosition(from)).expect("the log reaches back");
        let mut next = from;
        for record in log {
            let (position, record) = record.expect("the log is whole");
            let LogRecord::Ticks { ticks, .. } = record else { panic!("{record:?}") };
            assert_eq!(position.0, next, "positions are consecutive");
            let sent = self.truth.records.get(next as usize).expect("somebody appended it");
            assert_eq!(held_of(&ticks), held_of(&sent.ticks), "record {next} is another");
            live.take(&ticks);
            next += 1;
        }
        assert!(next >= self.truth.written, "the log ends early");
        assert_eq!(live, self.truth.live_at(next));
    }

    fn append(&mut self, process: &mut Process) -> Result<()> {
        self.truth.records.truncate(self.truth.written as usize);
        let count = 1 + self.random.below(3);
        let record = |ticks| LogRecord::Ticks {
            stream: "trades".to_owned(),
            ticks,
            rejected: Vec::new(),
            ts_recv_ns: 1,
        };
        let records: Vec<_> =
            (0..count).map(|_| record(self.truth.send(&mut self.random))).collect();
        let first = process.log.append_batch(&records)?;
        assert_eq!(first.0, self.truth.written, "positions are consecutive");
        self.truth.written += count;
        Ok(())
    }

    fn sync(&mut self, process: &Process) -> Result<()> {
        let durable = process.log.syncer().sync()?.0;
        assert!((self.truth.durable..=self.truth.written).contains(&durable));
        self.truth.durable = durable;
        Ok(())
    }

    /// A commit has ended, well or not.
    fn committed(&mut self, next: InForce, store: &Store, is_ok: bool) {
        let version = store.manifest().version;
        match (is_ok, version == next.version) {
            (true, _) => self.tally.commits += 1,
            (false, true) => self.tally.in_doubt += 1,
            (false, false) => self.tally.failed += 1,
        }
        self.truth.committed(next, version, is_ok);
    }

    /// What the flushing thread does with a job. An error is one of the log.
    fn flush(&mut self, process: &mut Process) -> Result<()> {
        self.sync(process)?;
        let covered = self.truth.durable;
        let mut next = self.truth.in_force().clone();
        let from = next.covered;
        let checkpoint = (self.random.below(2) == 0).then(|| Checkpoint {
            position: LogPosition(covered),
            payload: self.truth.live_at(covered).encode(),
        });
        next.version += 1;
        next.covered = covered;
        if checkpoint.is_some() {
            next.checkpoints.push(covered);
            let old = next.checkpoints.len().saturating_sub(2);
            next.checkpoints.drain(..old);
            if self.bug == Some(Bug::ReleasedEarly) {
                let _ = process.log.release(LogPosition(next.checkpoints[0]));
            }
        }
        let records = &self.truth.records[from as usize..covered as usize];
        let batches: Vec<Ticks> = records.iter().map(|sent| sent.ticks.clone()).collect();
        // In pieces.
        let pieces = batches.chunks(1 + self.random.below(6) as usize);
        let watermark = self.truth.watermark_at(covered);
        let mut commit = || {
            let mut commit = process.store.begin();
            for piece in pieces.clone() {
                let positions = LogPosition(from)..LogPosition(covered);
                commit.add_ticks(&self.truth.schema, piece, positions)?;
            }
            commit.cover(LogPosition(covered), [("trades".to_owned(), watermark)]);
            if let Some(checkpoint) = &checkpoint {
                commit.add_checkpoint(checkpoint)?;
            }
            commit.finish()
        };
        let done = commit();
        self.committed(next, &process.store, done.is_ok());
        process.has_failed = done.is_err();
        if let Ok(manifest) = done
            && checkpoint.is_some()
        {
            // What is not released now is with the next one.
            let released = process.log.release(LogPosition(manifest.checkpoints[0].position));
            self.tally.released += released.unwrap_or(0) as u64;
        }
        Ok(())
    }

    /// Goes on with the merge that is on its way.
    fn merge(&mut self, process: &mut Process) {
        let store = &mut process.store;
        process.merging = match std::mem::replace(&mut process.merging, Merging::None) {
            Merging::None => {
                let settled_before = self.truth.watermark_at(self.truth.in_force().covered);
                let eagerness = match self.random.below(3) {
                    0 => Eagerness::Tiered { settled_before },
                    _ => Eagerness::Full,
                };
                let merge = store.plan_merge(&self.truth.schema, eagerness, |_| true);
                merge.map_or(Merging::None, Merging::Planned)
            }
            Merging::Planned(merge) => {
                merge.run(&mut |_| Ok(())).map_or(Merging::None, Merging::Done)
            }
            Merging::Done(_) if self.random.below(8) == 0 => Merging::None,
            Merging::Done(merged) => {
                let before = self.truth.in_force().clone();
                let next = InForce { version: before.version + 1, ..before.clone() };
                let done = store.commit_merged(merged);
                match done {
                    // Something of it was dropped meanwhile.
                    Ok(false) => {
                        self.tally.void += 1;
                        assert_eq!(store.manifest().version, before.version);
                    }
                    done => {
                        self.tally.merges += u64::from(done.is_ok());
                        self.committed(next, store, done.is_ok());
                        process.has_failed = done.is_err();
                    }
                }
                Merging::None
            }
        };
    }

    /// Goes on with the states that are on their way.
    fn roll_up(&mut self, process: &mut Process) {
        let (store, schema) = (&mut process.store, &self.truth.schema);
        process.rolling = match std::mem::replace(&mut process.rolling, Rolling::None) {
            Rolling::None => {
                let work = store.plan_rollup(schema, &base(6), |_| true);
                let work = work.map(|work| work.from_ticks_per_state(1));
                work.map_or(Rolling::None, Rolling::Planned)
            }
            Rolling::Planned(work) => {
                let states = try_reduce(schema, &work);
                let rolled = states.and_then(|states| work.write(states.into_iter().map(Ok)));
                rolled.map_or(Rolling::None, Rolling::Done)
            }
            Rolling::Done(rolled) => {
                let before = self.truth.in_force().clone();
                let next = InForce { version: before.version + 1, ..before.clone() };
                match store.commit_rolled(vec![rolled]) {
                    Ok(0) => {
                        self.tally.rolled_void += 1;
                        assert_eq!(store.manifest().version, before.version);
                    }
                    done => {
                        self.tally.rolled += u64::from(done.is_ok());
                        self.committed(next, store, done.is_ok());
                        process.has_failed = done.is_err();
                    }
                }
                Rolling::None
            }
        };
    }

    /// Drops days. After a failure the service goes on.
    fn drop_days(&mut self, process: &mut Process) {
        let before = self.truth.in_force().clone();
        let Some(w) = self.truth.watermark_at(before.covered) else { return };
        let days = 1 + self.random.below(3).cast_signed();
        let time = (w.div_euclid(DAY_NS) - days) * DAY_NS;
        let done = match self.random.below(2) {
            0 => process.store.drop_ticks("trades", time),
            _ => {
                let retention = Retention { age_ns: Some(days * DAY_NS), bytes: None };
                process.store.retain("trades", retention)
            }
        };
        let mut next = before.clone();
        next.version += 1;
        next.dropped.push((next.covered, time));
        match done {
            // Nothing was that old.
            Ok(dropped) if dropped.files == 0 => {
                assert_eq!(process.store.manifest().version, before.version);
                assert_eq!(self.truth.history(&next), self.truth.history(&before));
            }
            done => {
                self.tally.drops += u64::from(done.is_ok());
                self.committed(next, &process.store, done.is_ok());
            }
        }
    }

    /// One step. An error means that the log takes no more.
    fn step(&mut self, process: &mut Process) -> Result<()> {
        self.now_ns += self.random.below(5_000_000_000).cast_signed();
        process.store.handle_time(self.now_ns);
        match self.random.below(16) {
            0..=5 => self.append(process),
            6 => self.sync(process),
            7..=9 if !process.has_failed => self.flush(process),
            10..=13 if !process.has_failed => {
                self.merge(process);
                Ok(())
            }
            14 if !process.has_failed => {
                self.drop_days(process);
                Ok(())
            }
            15 if self.random.below(4) == 0 => {
                self.check(process);
                Ok(())
            }
            15 if self.rolls_up && !process.has_failed => {
                // Some merges and drops come in between.
                for _ in 0..1 + self.random.below(3) {
                    if !process.has_failed {
                        self.roll_up(process);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Runs a seed. Panics where something does not hold.
fn run(seed: u64, bug: Option<Bug>) -> Tally {
    let mut simulation = Simulation::new(seed, bug);
    let mut process = simulation.start(None);
    for _ in 0..4 {
        simulation.disk.fall_ill(SCALE);
        let steps = simulation.random.below(30);
        let is_poisoned = (0..steps).any(|_| simulation.step(&mut process).is_err());
        // What a failed sync lost is in memory until a new segment has it.
        if is_poisoned || simulation.disk.is_dead() {
            simulation.truth.written = simulation.truth.durable;
        }
        process = simulation.start(Some(process));
    }
    simulation.tally
}

#[test]
fn everything_is_there_once_on_any_of_many_seeds() {
    let mut sum = Tally::default();
    let mut failing = Vec::new();
    for seed in 0..2_000 {
        match std::panic::catch_unwind(|| run(seed, None)) {
            Ok(tally) => sum = sum.plus(tally),
            Err(_) => failing.push(seed),
        }
    }
    assert_eq!(failing, [0_u64; 0], "these seeds fail");
    // That all of it was met.
    let met = [sum.commits, sum.merges, sum.drops, sum.released, sum.rolled, sum.rolled_void];
    let went_wrong = [sum.failed, sum.in_doubt, sum.undone];
    assert!(met.iter().chain(&went_wrong).all(|times| *times > 0), "{sum:?}");
}

#[test]
fn late_rows_of_dropped_days_are_merged() {
    // The manifest's invariants took those files for dropped, and the merged one for too much.
    run(626, None);
}

#[test]
fn bugs_are_found() {
    let bugs = [
        Bug::Unsynced(Skipped::Files(".parquet.tmp")),
        Bug::Unsynced(Skipped::Files(".state.tmp")),
        Bug::Unsynced(Skipped::Files("manifest.json.tmp")),
        Bug::Unsynced(Skipped::Folder(ROOT)),
        Bug::Unsynced(Skipped::Folder("/data/checkpoint")),
        Bug::Unsynced(Skipped::Folder("/data/stream=trades")),
        Bug::Unsynced(Skipped::Depth(4)),
        Bug::ReleasedEarly,
    ];
    for bug in bugs {
        let fails = |seed: &u64| std::panic::catch_unwind(|| run(*seed, Some(bug))).is_err();
        let found = (0..100).filter(fails).count();
        assert!(found > 10, "{found} of 100 seeds find {bug:?}");
    }
}
