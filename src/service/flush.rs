//! The flushing thread: what the live thread hands over becomes history and record in one commit.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use anyhow::{Context, Result};
use isotick_model::LogPosition;
use isotick_model::definitions::Definitions;
use isotick_model::results::ResultSchema;
use isotick_storage::Store;
use isotick_storage::log::LogSyncer;

use super::channel::ViewChannel;
use super::messages::{Event, Events, FlushJob};
use super::now_ns;

/// The thread's state.
pub struct Flushing {
    pub store: Store,
    pub definitions: Arc<Definitions>,
    pub views: Vec<Arc<ViewChannel>>,
    pub events: Events,
    pub syncer: LogSyncer,
}

impl Flushing {
    /// Commits job after job until the live thread is gone. After a failure nothing more is
    /// committed: the log holds what is missing, and the next start brings it to history.
    pub fn run(mut self, jobs: &Receiver<FlushJob>) {
        while let Ok(job) = jobs.recv() {
            let covered = job.covered;
            match self.commit(job) {
                Ok(checkpointed) => {
                    self.events.send(Event::Covered(covered));
                    checkpointed.map(|event| self.events.send(event));
                }
                Err(error) => {
                    self.events.send(Event::Failed(format!("{error:#}")));
                    return;
                }
            }
        }
    }

    fn commit(&mut self, job: FlushJob) -> Result<Option<Event>> {
        // History never knows more than the log would after a power failure.
        self.syncer.sync()?;
        self.store.handle_time(now_ns());
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
        let kept =
            job.checkpoint.and(manifest.checkpoints.first().zip(manifest.checkpoints.last()));
        Ok(kept.map(|(oldest, newest)| Event::Checkpointed {
            needed: LogPosition(oldest.position),
            bytes: newest.bytes,
        }))
    }
}
