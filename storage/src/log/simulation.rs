//! Log and recovery on a disk that fails, from one seed: what is done, what fails, and what a
//! crash leaves are all drawn from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use isotick_model::LogPosition;

use super::{LogReader, LogRecord, LogWriter, spares};
use crate::disk::simulated::{Crash, SimDisk};
use crate::error::Error;
use crate::fixtures::{Random, publisher};

const FOLDER: &str = "/log";

/// How a run differs from another besides its seed.
#[derive(Clone, Copy, Default)]
struct Plan {
    /// Acknowledges before it syncs: the bug to be found.
    canary: bool,
    /// Past the page cache.
    direct: bool,
}

/// What must hold, and what happened.
struct Model {
    disk: Arc<SimDisk>,
    folder: PathBuf,
    segment_len: u64,
    random: Random,
    /// The mark of the record at each position: of those that were handed over last.
    records: Vec<u64>,
    /// Everything before it was appended without an error.
    written: u64,
    /// Everything before it was acknowledged as durable.
    durable: u64,
    /// Everything before it was given up.
    released: u64,
    /// Distinguishes every record ever handed over.
    marks: u64,
    canary: bool,
    direct: bool,
}

/// A record that bears a mark, of any length.
fn record(mark: u64, len: u64) -> LogRecord {
    LogRecord::Lost {
        stream: "s".repeat(len as usize),
        publisher: publisher("p"),
        through: mark,
        ts_recv_ns: len as i64,
    }
}

fn mark_of(record: &LogRecord) -> u64 {
    match record {
        LogRecord::Lost { stream, through, ts_recv_ns, .. } => {
            assert_eq!(stream.len() as i64, *ts_recv_ns, "a record has changed");
            *through
        }
        other => panic!("{other:?} was never appended"),
    }
}

impl Model {
    fn new(seed: u64, plan: Plan) -> Self {
        let mut random = Random(seed);
        let segment_len = 4_096 + random.below(8_000);
        Self {
            disk: Arc::new(SimDisk::new(random.next(), Path::new(FOLDER), plan.direct)),
            folder: Path::new(FOLDER).to_path_buf(),
            segment_len,
            random,
            records: Vec::new(),
            written: 0,
            durable: 0,
            released: 0,
            marks: 0,
            canary: plan.canary,
            direct: plan.direct,
        }
    }

    /// Opens the log after a crash and compares what it holds with what it must.
    fn open(&mut self, crash: Crash) -> LogWriter {
        self.disk.crash(crash);
        let (mut writer, recovery) = match LogWriter::open_at(
            &self.folder,
            self.disk.clone(),
            self.segment_len,
            LogPosition(0),
        ) {
            Ok(opened) => opened,
            Err(error) => panic!("the log does not open: {error}"),
        };
        writer.never_prepare();
        writer.shared().acknowledges_early.store(self.canary, Ordering::SeqCst);
        let next = recovery.next.0;
        let least = match crash {
            Crash::Power => self.durable,
            Crash::Process => self.written,
        };
        assert!(next >= least, "{crash:?}: of {least} records that must be there {next} are");
        let handed_over = self.records.len() as u64;
        assert!(next <= handed_over, "{next} records are there, {handed_over} were appended");
        self.check(writer.first().0, next);
        self.records.truncate(next as usize);
        (self.written, self.durable) = (next, next);
        writer
    }

    /// Every record from `from` on is there once, in order, as it was appended.
    fn check(&self, from: u64, next: u64) {
        assert!(from <= self.released.max(self.durable), "{from} is the first position kept");
        let opened =
            LogReader::from_with(self.disk.clone(), self.folder.clone(), LogPosition(from));
        let mut reader = opened.expect("the log can be read");
        for due in from..next {
            let (position, record) = match reader.next() {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => panic!("record {due} of {next}: {error}"),
                None => panic!("record {due} of {next} is not there"),
            };
            assert_eq!(position.0, due, "positions are consecutive");
            assert_eq!(mark_of(&record), self.records[due as usize], "record {due} is another");
        }
        match reader.next() {
            None => {}
            Some(Ok((position, _))) => {
                // Handed over with an error: it may count or not.
                assert!(position.0 < self.records.len() as u64, "a record nobody appended");
            }
            Some(Err(error)) => panic!("after {next} records: {error}"),
        }
    }

    fn append(&mut self, writer: &mut LogWriter) -> Result<(), Error> {
        let count = 1 + self.random.below(4);
        let batch: Vec<_> = (0..count)
            .map(|_| {
                self.marks += 1;
                let len = match self.random.below(8) {
                    0 => self.random.below(3_500),
                    1 => 0,
                    // Many of one length, so that stale frames stand where new ones could.
                    _ => 40,
                };
                record(self.marks, len)
            })
            .collect();
        self.records.truncate(self.written as usize);
        self.records.extend(batch.iter().map(mark_of));
        let first = writer.append_batch(&batch)?;
        assert_eq!(first.0, self.written, "positions are consecutive");
        self.written += count;
        assert_eq!(writer.next().0, self.written);
        Ok(())
    }

    /// One step. An error means that the log takes no more until it is opened again.
    fn step(&mut self, writer: &mut LogWriter) -> Result<(), Error> {
        match self.random.below(16) {
            0..=8 => self.append(writer),
            9..=12 => {
                let syncer = writer.syncer();
                let durable = match self.random.below(2) {
                    0 => syncer.sync()?,
                    _ => syncer.advance(Duration::from_millis(self.random.below(2)))?.0,
                };
                let durable = durable.0;
                assert!(durable <= self.written, "what was not appended is durable");
                assert!(durable >= self.durable, "what was durable is not");
                self.durable = durable;
                Ok(())
            }
            13 => {
                let before = self.released + self.random.below(self.durable - self.released + 1);
                self.released = before;
                // It is tried again with the next one.
                let _ = writer.release(LogPosition(before));
                assert!(writer.first().0 <= before.max(self.durable));
                Ok(())
            }
            14 => {
                let _ = spares::prepare(writer.shared(), self.segment_len, &AtomicBool::new(false));
                Ok(())
            }
            _ => {
                // Past the page cache readers see what is in the segment.
                let seen = if self.direct { self.durable } else { self.written };
                self.check(writer.first().0, seen);
                Ok(())
            }
        }
    }
}

/// Runs a seed. Panics where something does not hold.
fn run(seed: u64, plan: Plan) {
    let mut model = Model::new(seed, plan);
    model.disk.heal();
    let mut writer = model.open(Crash::Process);
    for _ in 0..6 {
        model.disk.fall_ill(1);
        let mut is_poisoned = false;
        for _ in 0..model.random.below(30) {
            if model.step(&mut writer).is_err() {
                is_poisoned = true;
                assert!(writer.append(&record(0, 0)).is_err(), "a poisoned log takes no more");
                assert!(writer.syncer().sync().is_err(), "and acknowledges nothing");
                break;
            }
        }
        let crash = match model.random.below(2) {
            0 => Crash::Process,
            _ => Crash::Power,
        };
        // What a failed sync lost is in memory until a new segment has it. A process that ends
        // before that takes it along, so that only what was durable must be there.
        if is_poisoned || model.disk.is_dead() {
            model.written = model.durable;
        }
        drop(writer);
        model.disk.heal();
        writer = model.open(crash);
    }
}

fn run_all(seeds: std::ops::Range<u64>, plan: Plan) {
    for seed in seeds {
        let run = std::panic::catch_unwind(|| run(seed, plan));
        if let Err(panic) = run {
            eprintln!("seed {seed} fails");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn nothing_durable_is_lost_on_any_of_many_seeds() {
    run_all(0..3_000, Plan::default());
}

#[test]
fn nothing_durable_is_lost_past_the_page_cache() {
    run_all(0..3_000, Plan { direct: true, ..Plan::default() });
}

#[test]
fn a_segment_that_was_given_up_halfway_is_not_the_first_any_more() {
    // Its file had another name already when the folder's sync failed.
    run(68, Plan::default());
}

#[test]
fn a_header_that_a_failed_sync_lost_is_written_again() {
    // Read from memory after the process had died, and gone when the power failed.
    run(52, Plan::default());
}

#[test]
fn acknowledging_before_the_sync_is_found() {
    let fails = |seed: &u64| {
        std::panic::catch_unwind(|| run(*seed, Plan { canary: true, ..Plan::default() })).is_err()
    };
    let found = (0..50).filter(fails).count();
    assert!(found > 25, "{found} of 50 seeds find it");
}
