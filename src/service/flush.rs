//! The flushing thread: what the live thread hands over becomes history and record in one commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use anyhow::{Context, Result};
use isotick_model::definitions::Definitions;
use isotick_model::results::ResultSchema;
use isotick_model::{LogPosition, Ticks};
use isotick_storage::{RecordedWindow, Store};
use tokio::sync::mpsc::UnboundedSender;

use super::sequence::Event;
use super::stats::ViewChannel;

/// Everything that the log records `from..covered` brought.
#[derive(Default)]
pub struct FlushJob {
    pub from: LogPosition,
    pub covered: LogPosition,
    /// By stream.
    pub ticks: BTreeMap<String, Vec<Ticks>>,
    /// Published windows by the definition's hash.
    pub windows: BTreeMap<String, Vec<RecordedWindow>>,
    /// W of each stream at `covered`.
    pub watermarks: BTreeMap<String, Option<i64>>,
}

/// The thread's state.
pub struct Flushing {
    pub store: Store,
    pub definitions: Arc<Definitions>,
    pub views: Vec<Arc<ViewChannel>>,
    pub events: UnboundedSender<Event>,
}

impl Flushing {
    /// Commits job after job until the live thread is gone. After a failure nothing more is
    /// committed: the log holds what is missing, and the next start brings it to history.
    pub fn run(mut self, jobs: &Receiver<FlushJob>) {
        while let Ok(job) = jobs.recv() {
            let covered = job.covered;
            match self.commit(job) {
                Ok(()) => drop(self.events.send(Event::Covered(covered))),
                Err(error) => {
                    let _ = self.events.send(Event::Failed(format!("{error:#}")));
                    return;
                }
            }
        }
    }

    fn commit(&mut self, job: FlushJob) -> Result<()> {
        let mut commit = self.store.begin();
        for (stream, ticks) in &job.ticks {
            let schema = self.definitions.stream(stream)?;
            commit
                .add_ticks(schema, ticks, job.from..job.covered)
                .with_context(|| format!("cannot write history of stream {stream}"))?;
        }
        for channel in &self.views {
            let view = &channel.view;
            let windows = job.windows.get(&view.definition.0).map_or(&[][..], Vec::as_slice);
            commit
                .add_windows(&view.name, &view.definition, &ResultSchema::of(view), windows)
                .with_context(|| format!("cannot record windows of view {}", view.name))?;
        }
        commit.cover(job.covered, job.watermarks);
        commit.finish().context("cannot commit the manifest")?;
        Ok(())
    }
}
