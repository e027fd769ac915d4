//! The flushing thread: what the live thread hands over becomes history and record in one commit.
//! It owns the store, so it also plans and commits merges, and drops what need not be kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use anyhow::{Context, Result};
use isotick_model::LogPosition;
use isotick_model::definitions::Definitions;
use isotick_model::results::ResultSchema;
use isotick_storage::log::LogSyncer;
use isotick_storage::{Eagerness, Error, Merge, Merged, Store};

use super::channel::ViewChannel;
use super::messages::{Event, Events, FlushJob, StoreJob};
use super::now_ns;
use super::stats::Shared;

/// How long files that were replaced stay for those that are reading them.
const GRACE: Duration = Duration::from_secs(600);
/// How far a stream's watermark is past a day before little more is expected of it.
const SETTLED_AFTER_NS: i64 = 3_600_000_000_000;

/// The thread's state.
pub struct Flushing {
    pub store: Store,
    pub definitions: Arc<Definitions>,
    pub views: Vec<Arc<ViewChannel>>,
    pub events: Events,
    pub syncer: LogSyncer,
    pub shared: Arc<Shared>,
    /// Takes a merge when it has done the one before; `None` where nothing is to be compacted.
    pub merges: Option<SyncSender<Merge>>,
    pub merging: Merging,
}

/// What is known of merges.
#[derive(Default)]
pub struct Merging {
    is_under_way: bool,
    /// Folders with a file that cannot be merged: not tried again before the next start.
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
            let windows = job.windows.get(&definition.0).map_or(&[][..], Vec::as_slice);
            if let Some(unrecorded) = job.unrecorded.get(&definition.0) {
                commit.note_unrecorded(&view.name, definition, *unrecorded);
            }
            let w = job.watermarks.get(&view.stream).copied().flatten();
            commit
                .add_windows(&view.name, definition, &ResultSchema::of(view), windows, w)
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
        self.merging.is_under_way = false;
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
                self.merging.failed.insert(folder);
            }
        }
        Ok(())
    }

    /// Between commits: drops what need not be kept, and has files merged where that is worth it.
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
        let Some(merges) = self.merges.as_ref().filter(|_| !self.merging.is_under_way) else {
            return;
        };
        for schema in &self.definitions.streams {
            let w = self.store.snapshot().watermark(&schema.name);
            let settled_before = w.map(|w| w.saturating_sub(SETTLED_AFTER_NS));
            let failed = &self.merging.failed;
            let merge =
                self.store.plan_merge(schema, Eagerness::Tiered { settled_before }, |folder| {
                    !failed.contains(folder)
                });
            if let Some(merge) = merge {
                self.merging.is_under_way = merges.try_send(merge).is_ok();
                return;
            }
        }
    }
}
