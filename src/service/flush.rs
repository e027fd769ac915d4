//! The flushing thread: what the live thread hands over becomes history and record in one commit.
//! It owns the store, so it also plans and commits merges and stored states, and drops what need not
//! be kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use anyhow::{Context, Result};
use isotick_model::LogPosition;
use isotick_model::definitions::Definitions;
use isotick_model::results::ResultSchema;
use isotick_storage::log::LogSyncer;
use isotick_storage::manifest::HistoryFile;
use isotick_storage::{Eagerness, Error, Merged, RecordedWindow, Rolled, Store};

use super::channel::ViewChannel;
use super::messages::{Event, Events, FlushJob, HistoryWork, StoreJob};
use super::now_ns;
use super::stats::Shared;
use crate::rollups;

/// How long files that were replaced stay for those that are reading them.
const GRACE: Duration = Duration::from_secs(600);
/// How far a stream's watermark is past a day before little more is expected of it.
const SETTLED_AFTER_NS: i64 = 3_600_000_000_000;

/// Files with fewer ticks are read as fast as states.
const ROLLED_ROWS_MIN: u64 = 1 << 18;

/// The thread's state.
pub struct Flushing {
    pub store: Store,
    pub definitions: Arc<Definitions>,
    pub views: Vec<Arc<ViewChannel>>,
    pub events: Events,
    pub syncer: LogSyncer,
    pub shared: Arc<Shared>,
    /// Takes work on history when it has done what came before; `None` where nothing is to be
    /// compacted.
    pub work: Option<SyncSender<HistoryWork>>,
    pub working: Working,
    /// Whether the views' states are stored beside history.
    pub rolls_up: bool,
}

/// What is known of work on history.
#[derive(Default)]
pub struct Working {
    is_under_way: bool,
    /// Folders with a file that cannot be merged, and files whose states cannot be made: not tried
    /// again before the next start.
    failed: BTreeSet<String>,
}

impl Flushing {
    /// Commits job after job until it is told to stop. After a failure nothing more is committed:
    /// the log holds what is missing, and the next start brings it to history.
    pub fn run(mut self, jobs: &Receiver<StoreJob>) {
        self.store.keep_replaced(GRACE);
        self.tend();
        while let Ok(job) = jobs.recv() {
            self.store.handle_time(now_ns());
            let done = match job {
                StoreJob::Flush(job) => self.flush(*job),
                StoreJob::Merged { stream, folder, merged } => {
                    self.take_merged(&stream, folder, *merged)
                }
                StoreJob::Rolled { stream, path, rolled } => {
                    self.take_rolled(&stream, path, *rolled)
                }
                StoreJob::Stop => break,
            };
            if let Err(error) = done {
                self.events.send(Event::Failed(format!("{error:#}")));
                return;
            }
            self.tend();
        }
    }

    fn flush(&mut self, job: FlushJob) -> Result<()> {
        let covered = job.covered;
        let checkpointed = self.commit(job)?;
        self.events.send(Event::Covered(covered));
        checkpointed.map(|event| self.events.send(event));
        Ok(())
    }

    fn commit(&mut self, job: FlushJob) -> Result<Option<Event>> {
        // History never knows more than the log would after a power failure.
        self.syncer.sync()?;
        let mut commit = self.store.begin();
        for (stream, ticks) in &job.ticks {
            let schema = self.definitions.stream(stream)?;
            commit
                .add_ticks(schema, ticks, job.from..job.covered)
                .with_context(|| format!("cannot write history of stream {stream}"))?;
        }
        for channel in &self.views {
            let view = &channel.view;
            let definition = &view.definition;
            let batches = job.windows.get(&definition.0).into_iter().flatten();
            let windows = batches.flat_map(|batch| batch.windows()).map(|window| RecordedWindow {
                row: window.row.clone(),
                reason: window.reason.name().into(),
            });
            let windows: Vec<_> = windows.collect();
            if let Some(unrecorded) = job.unrecorded.get(&definition.0) {
                commit.note_unrecorded(&view.name, definition, *unrecorded);
            }
            let w = job.watermarks.get(&view.stream).copied().flatten();
            commit
                .add_windows(&view.name, definition, &ResultSchema::of(view), &windows, w)
                .with_context(|| format!("cannot record windows of view {}", view.name))?;
        }
        commit.cover(job.covered, job.watermarks);
        if let Some(path) = &job.checkpoint {
            let checkpoint = path.encode().context("cannot encode a checkpoint")?;
            commit.add_checkpoint(&checkpoint).context("cannot write a checkpoint")?;
        }
        let manifest = commit.finish().context("cannot commit the manifest")?;
        let (oldest, newest) = (manifest.checkpoints.first(), manifest.checkpoints.last());
        let kept = job.checkpoint.and(oldest.zip(newest));
        Ok(kept.map(|(oldest, newest)| Event::Checkpointed {
            needed: LogPosition(oldest.position),
            bytes: newest.bytes,
        }))
    }

    fn take_merged(
        &mut self,
        stream: &str,
        folder: String,
        merged: isotick_storage::Result<Merged>,
    ) -> Result<()> {
        self.working.is_under_way = false;
        match merged {
            Ok(merged) => {
                let rows = merged.rows();
                if self.store.commit_merged(merged).context("cannot commit merged history")? {
                    self.shared.count_merge(rows);
                }
            }
            Err(Error::Stopped) => {}
            Err(error) => {
                tracing::error!(
                    "history of stream {stream} in {folder} is not compacted: {error}; \
                     `isotick fsck` says what is damaged"
                );
                self.shared.merge_failed(&error.to_string());
                self.working.failed.insert(folder);
            }
        }
        Ok(())
    }

    fn take_rolled(
        &mut self,
        stream: &str,
        path: String,
        rolled: isotick_storage::Result<Rolled>,
    ) -> Result<()> {
        self.working.is_under_way = false;
        match rolled {
            Ok(rolled) => {
                let states = rolled.states().map_or(0, |states| states.file.rows);
                let counted = self.store.commit_rolled(vec![rolled]);
                if counted.context("cannot commit stored states")? > 0 {
                    self.shared.count_rollup(states);
                }
            }
            Err(Error::Stopped) => {}
            Err(error) => {
                tracing::error!(
                    "the states of {path} of stream {stream} are not stored: {error}; `isotick \
                     fsck` says what is damaged"
                );
                self.shared.rollup_failed(&error.to_string());
                self.working.failed.insert(path);
            }
        }
        Ok(())
    }

    /// Between commits: drops what need not be kept, and has files merged, and states stored beside
    /// them, where that is worth it.
    fn tend(&mut self) {
        for schema in &self.definitions.streams {
            match self.store.retain(&schema.name, schema.retention) {
                Ok(dropped) if dropped.files > 0 => {
                    tracing::info!(
                        stream = schema.name,
                        files = dropped.files,
                        ticks = dropped.rows,
                        "old days of history were dropped, as its retention says"
                    );
                    self.shared.count_dropped(&schema.name, dropped.rows);
                }
                Ok(_) => {}
                // The next commit meets it too, and then it counts.
                Err(error) => tracing::error!("old history stays: {error}"),
            }
        }
        self.shared.set_history(self.store.manifest());
        let Some(work) = self.work.as_ref().filter(|_| !self.working.is_under_way) else {
            return;
        };
        let failed = &self.working.failed;
        for schema in &self.definitions.streams {
            let w = self.store.snapshot().watermark(&schema.name);
            let settled_before = w.map(|w| w.saturating_sub(SETTLED_AFTER_NS));
            let tiered = Eagerness::Tiered { settled_before };
            let merge = self.store.plan_merge(schema, tiered, |folder| !failed.contains(folder));
            if let Some(merge) = merge {
                self.working.is_under_way = work.try_send(HistoryWork::Merge(merge)).is_ok();
                return;
            }
        }
        if !self.rolls_up {
            return;
        }
        for channel in &self.views {
            let view = &channel.view;
            let Ok(schema) = self.definitions.stream(&view.stream) else { continue };
            let Some(base) = rollups::stored_base(view, schema) else { continue };
            // What a merge is likely to replace soon is not worth it.
            let wanted = |file: &HistoryFile| {
                file.file.rows >= ROLLED_ROWS_MIN && !failed.contains(&file.file.path)
            };
            if let Some(rollup) = self.store.plan_rollup(schema, &base, wanted) {
                let rollup = HistoryWork::Rollup(rollup, Arc::new(schema.clone()));
                self.working.is_under_way = work.try_send(rollup).is_ok();
                return;
            }
        }
    }
}
