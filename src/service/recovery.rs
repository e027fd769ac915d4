//! How a start gets back to where the log ends: checkpoint, the log behind it, and history for
//! views that came later.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use isotick_ingest::sequencer::Sequencer;
use isotick_kernels::CpuEngine;
use isotick_model::definitions::Definitions;
use isotick_model::view::{DefinitionHash, View};
use isotick_model::{LogPosition, PublisherId};
use isotick_scheduler::LiveView;
use isotick_storage::log::{LogReader, LogRecord};
use isotick_storage::{Columns, Store, Unrecorded};

use super::channel::ViewChannel;
use super::checkpoint::{LivePath, LivePathView};
use super::live::Live;
use super::messages::Logged;
use crate::progress;

/// Sequencer and views as they are before the log behind them is read.
pub struct Recovered {
    pub sequencer: Sequencer,
    /// In the order of the definitions.
    pub views: Vec<LiveView>,
    /// The first log position that they have not seen.
    pub position: LogPosition,
    /// Views that the checkpoint does not know, with what their record will not have: they have
    /// seen what history covers.
    late: BTreeMap<DefinitionHash, Option<Unrecorded>>,
}

impl Recovered {
    /// From the newest checkpoint that can be read; from nothing where none was ever made.
    /// `channels` are those of the definitions' views.
    pub fn read(
        store: &Store,
        definitions: &Definitions,
        channels: &[Arc<ViewChannel>],
        notices: &mut Vec<String>,
    ) -> Result<Self> {
        let passed_over = |error: &isotick_storage::Error| {
            notices.push(format!("{error}; the checkpoint before it is taken"));
        };
        let checkpoint = store.checkpoint(passed_over).with_context(|| {
            "no checkpoint can be read, and the log before it is no longer kept: bring the file \
             back from a backup"
        })?;
        let mut sequencer = Sequencer::default();
        for schema in &definitions.streams {
            let views = definitions.views_of(&schema.name);
            sequencer.declare(schema.clone(), &views.map(|view| view.window).collect::<Vec<_>>());
        }
        let Some(checkpoint) = checkpoint else {
            let new = |view: &View| {
                let schema = definitions.stream(&view.stream)?;
                Ok(LiveView::new(Arc::new(view.clone()), schema))
            };
            return Ok(Self {
                sequencer,
                views: definitions.views.iter().map(new).collect::<Result<_>>()?,
                position: LogPosition(0),
                late: BTreeMap::new(),
            });
        };
        let views: Vec<_> = channels.iter().map(|channel| channel.view.clone()).collect();
        let mut path = LivePath::decode(&checkpoint, &views).context("a checkpoint is damaged")?;
        // What it holds of a stream that was dropped later was of another.
        let manifest = store.manifest();
        let is_there = |stream: &str| {
            let last = path.position.0.checked_sub(1).map(LogPosition);
            !last.is_some_and(|last| manifest.is_dropped(stream, last))
        };
        path.sequencer.watermarks.retain(|(stream, _)| is_there(stream));
        path.sequencer.publishers.retain(|known| is_there(&known.stream));
        path.views.retain(|known| {
            let view = views.iter().find(|view| view.definition.0 == known.definition);
            view.is_some_and(|view| is_there(&view.stream))
        });
        sequencer
            .restore(path.sequencer)
            .map_err(|what| anyhow!("a checkpoint is damaged: {what}"))?;
        let mut recovered = Self {
            sequencer,
            views: Vec::with_capacity(views.len()),
            position: path.position,
            late: BTreeMap::new(),
        };
        for channel in channels {
            let view = &channel.view;
            let known = path.views.iter().position(|known| known.definition == view.definition.0);
            let live = match known {
                Some(index) => {
                    let LivePathView { view: saved, kept, .. } = path.views.swap_remove(index);
                    channel.restore(kept);
                    LiveView::restore(view.clone(), definitions.stream(&view.stream)?, saved)
                        .context("a checkpoint is damaged")?
                }
                None => recovered.declare(store, definitions, view)?,
            };
            recovered.views.push(live);
        }
        Ok(recovered)
    }

    /// A view that comes after what the checkpoint holds: its open windows are those of history.
    fn declare(
        &mut self,
        store: &Store,
        definitions: &Definitions,
        view: &Arc<View>,
    ) -> Result<LiveView> {
        let schema = definitions.stream(&view.stream)?;
        let snapshot = store.snapshot();
        let w = snapshot.watermark(&view.stream);
        let mut live = LiveView::declared_at(view.clone(), schema, w);
        let unrecorded = live.from().map(|to| {
            // What an earlier run recorded is final up to where its watermark stood.
            let record = snapshot.manifest().record(&view.definition);
            let w = record.and_then(|record| record.watermark);
            let span_ns = i128::from(view.window.width_ns) + i128::from(view.lateness.allowed_ns);
            let final_before = |w: i64| i64::try_from(i128::from(w) - span_ns + 1).ok();
            Unrecorded { from: w.and_then(final_before), to }
        });
        self.late.insert(view.definition.clone(), unrecorded);
        let range = live.from().unwrap_or(i64::MIN)..=i64::MAX;
        let parts = snapshot.ticks(schema, &Columns::all(schema), range)?;
        let bar = progress::bar(&format!("opening windows of {}", view.name), None, "ticks");
        for part in parts {
            for ticks in part.read()? {
                let ticks = ticks?;
                live.handle_ticks(&ticks, &mut CpuEngine).expect("the CPU engine does not fail");
                bar.inc(ticks.len() as u64);
            }
        }
        bar.finish_and_clear();
        Ok(live)
    }

    /// Brings sequencer and views, which are `living`'s now, to where the log ends. What the
    /// folder's record holds already is not recorded again. `first` is the first position that the
    /// log has.
    pub fn replay(
        mut self,
        store: &Store,
        first: LogPosition,
        living: &mut Live,
    ) -> Result<Sequencer> {
        let sequencer = &mut self.sequencer;
        let manifest = store.manifest().clone();
        for (stream, files) in &manifest.streams {
            for (publisher, imported) in &files.imported {
                let publisher =
                    PublisherId::new(publisher).context("the manifest names no publisher")?;
                let slot = sequencer.slot(stream, &publisher)?;
                sequencer.restore_mark(slot, imported.rows);
            }
        }
        for (definition, unrecorded) in &self.late {
            if let Some(windows) = unrecorded {
                living.keep_unrecorded(definition, *windows);
            }
        }
        let covered = manifest.covered();
        let bar = progress::bar("replaying the log", None, "records");
        for record in LogReader::from(store.folder(), first.min(self.position))? {
            let (position, record) = record?;
            bar.inc(1);
            if manifest.is_dropped(record.stream(), position) {
                continue;
            }
            if position < self.position {
                if let LogRecord::Ticks { stream, ticks, .. } = &record {
                    sequencer.remember(stream, ticks);
                }
                continue;
            }
            let watermark = replay_record(sequencer, &record)?;
            let logged = Logged { position, record, watermark, written: None, permit: None };
            let has_seen =
                |view: &View| position < covered && self.late.contains_key(&view.definition);
            let is_recorded = |definition: &str| {
                let record = manifest.records.get(definition);
                record.is_some_and(|record| position.0 < record.covered)
            };
            living.replay(logged, has_seen, is_recorded);
        }
        bar.finish_and_clear();
        Ok(self.sequencer)
    }
}

/// Shows a record of the log to the sequencer. Returns W of its stream after it.
fn replay_record(sequencer: &mut Sequencer, record: &LogRecord) -> Result<Option<i64>> {
    let stream = record.stream();
    match record {
        LogRecord::Ticks { ticks, rejected, .. } => {
            let slot = sequencer.slot(stream, &ticks.publishers[0])?;
            sequencer.replay(slot, ticks, rejected);
        }
        LogRecord::Joined { publisher, .. } => {
            let slot = sequencer.slot(stream, publisher)?;
            sequencer.replay_join(slot);
        }
        LogRecord::Idle { publisher, .. } => {
            let slot = sequencer.slot(stream, publisher)?;
            sequencer.idle(slot);
        }
        LogRecord::Lost { publisher, through, .. } => {
            let slot = sequencer.slot(stream, publisher)?;
            sequencer.replay_lost(slot, *through);
        }
    }
    Ok(sequencer.watermark(stream))
}
