//! The live thread: log records through views; what closes goes to subscribers and the record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use isotick_ingest::sequencer::SavedSequencer;
use isotick_ingest::{Batch, Stage};
use isotick_kernels::{CpuEngine, Engine};
use isotick_model::LogPosition;
use isotick_model::results::WindowRow;
use isotick_model::view::{DefinitionHash, View};
use isotick_scheduler::LiveView;
use isotick_storage::Unrecorded;
use isotick_storage::log::LogRecord;

use super::channel::ViewChannel;
use super::checkpoint::{LivePath, LivePathView};
use super::messages::{FlushJob, LiveMessage, Logged, StoreJob};
use super::stats::Shared;

/// Ticks that are kept in memory before they go to history.
const HOT_ROWS_MAX: usize = 1 << 20;
/// The longest that ticks wait in memory for history while nothing else sends them there.
const HOT_AGE_MAX: Duration = Duration::from_secs(10);

/// The thread's state.
pub struct Live {
    views: Vec<LiveView>,
    channels: Vec<Arc<ViewChannel>>,
    engine: Box<dyn Engine>,
    fall_back: bool,
    hot: Hot,
    flush: SyncSender<StoreJob>,
    shared: Arc<Shared>,
}

/// What is not in history yet.
#[derive(Default)]
struct Hot {
    job: FlushJob,
    rows: usize,
    since: Option<Instant>,
}

impl Live {
    pub fn new(
        views: Vec<LiveView>,
        engine: Box<dyn Engine>,
        fall_back: bool,
        covered: LogPosition,
        flush: SyncSender<StoreJob>,
        shared: Arc<Shared>,
    ) -> Self {
        let hot = Hot {
            job: FlushJob { from: covered, covered, ..FlushJob::default() },
            ..Hot::default()
        };
        let channels = shared.views.clone();
        Self { views, channels, engine, fall_back, hot, flush, shared }
    }

    /// Runs until told to stop; gives back the windows that are still open, by view.
    pub fn run(mut self, messages: &Receiver<LiveMessage>) -> BTreeMap<String, Vec<WindowRow>> {
        self.show_counts();
        // What a crash left in the log only goes to history at once.
        self.send_flush();
        loop {
            let age = self.hot.since.map_or(Duration::ZERO, |since| since.elapsed());
            match messages.recv_timeout(HOT_AGE_MAX.saturating_sub(age)) {
                Ok(LiveMessage::Record(logged)) => self.handle_record(*logged),
                Ok(LiveMessage::Flush) => self.send_flush(),
                Ok(LiveMessage::Checkpoint(position, sequencer)) => {
                    self.keep_checkpoint(position, *sequencer);
                    self.send_flush();
                }
                Err(RecvTimeoutError::Timeout) => self.send_flush(),
                Ok(LiveMessage::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            let old = self.hot.since.is_some_and(|since| since.elapsed() >= HOT_AGE_MAX);
            if self.hot.rows >= HOT_ROWS_MAX || old {
                self.send_flush();
            }
        }
        self.send_flush();
        self.views.iter().map(|view| (view.view().name.clone(), view.open_rows())).collect()
    }

    /// Notes that a view comes late: windows that its record will not have.
    pub fn keep_unrecorded(&mut self, definition: &DefinitionHash, windows: Unrecorded) {
        self.hot.job.unrecorded.insert(definition.0.clone(), windows);
        self.hot.since.get_or_insert_with(Instant::now);
    }

    /// A record from the log's past, at start, shown to the views that have not seen it;
    /// `is_recorded` tells, by the view's definition, whether what it publishes is in the live
    /// record already.
    pub fn replay(
        &mut self,
        logged: Logged,
        has_seen: impl Fn(&View) -> bool,
        is_recorded: impl Fn(&str) -> bool,
    ) {
        self.advance(&logged, |view| !has_seen(view));
        for index in 0..self.views.len() {
            let is_recorded = is_recorded(&self.views[index].view().definition.0);
            while let Some(published) = self.views[index].poll_published() {
                let batch = self.channels[index].keep(published);
                if !is_recorded {
                    self.keep(index, batch);
                }
            }
        }
        if logged.position >= self.hot.job.from {
            self.keep_ticks(logged);
        }
    }

    fn handle_record(&mut self, mut logged: Logged) {
        self.advance(&logged, |_| true);
        if let Some(written) = logged.written {
            self.shared.lanes.handled(written.elapsed());
            self.shared.ingest.stages.record(Stage::Kernel, written.elapsed());
        }
        // The rows go to the bounded hot buffer.
        logged.permit = None;
        for index in 0..self.views.len() {
            while let Some(published) = self.views[index].poll_published() {
                let batch = self.channels[index].publish(published);
                self.keep(index, batch);
            }
        }
        self.keep_ticks(logged);
        self.show_counts();
    }

    fn show_counts(&self) {
        for (view, channel) in self.views.iter().zip(&self.channels) {
            channel.count(view.counters(), view.open_windows());
        }
    }

    /// Shows a record to those views of its stream that are selected.
    fn advance(&mut self, logged: &Logged, select: impl Fn(&View) -> bool) {
        let stream = logged.record.stream();
        let of_stream = |view: &&mut LiveView| view.view().stream == stream && select(view.view());
        for view in self.views.iter_mut().filter(of_stream) {
            if let LogRecord::Ticks { ticks, .. } = &logged.record {
                let result = view.handle_ticks(ticks, self.engine.as_mut());
                if let Err(error) = result {
                    // Live windows never wait for a device: an engine asked for by name fails at
                    // start, not here.
                    tracing::error!(%error, fall_back = self.fall_back, "going on with the CPU engine");
                    self.shared.engine_failed(&error.to_string());
                    self.engine = Box::new(CpuEngine);
                    view.handle_ticks(ticks, self.engine.as_mut())
                        .expect("the CPU engine does not fail");
                }
                self.shared.count_rows(self.engine.kind(), ticks.len() as u64);
            }
            view.handle_watermark(logged.watermark);
        }
    }

    fn keep(&mut self, index: usize, batch: Arc<Batch>) {
        let view = self.views[index].view();
        self.hot.job.windows.entry(view.definition.0.clone()).or_default().push(batch);
        self.hot.since.get_or_insert_with(Instant::now);
    }

    fn keep_ticks(&mut self, logged: Logged) {
        let job = &mut self.hot.job;
        job.covered = logged.position.next();
        job.watermarks.insert(logged.record.stream().to_owned(), logged.watermark);
        self.hot.since.get_or_insert_with(Instant::now);
        if let LogRecord::Ticks { stream, ticks, .. } = logged.record
            && !ticks.is_empty()
        {
            self.hot.rows += ticks.len();
            job.ticks.entry(stream).or_default().push(ticks);
        }
    }

    /// Adds the live path as it stands to the next flush.
    fn keep_checkpoint(&mut self, position: LogPosition, sequencer: SavedSequencer) {
        let job = &mut self.hot.job;
        assert_eq!(position, job.covered, "every record before the checkpoint was handled");
        let views = self.views.iter().zip(&self.channels).map(|(view, channel)| LivePathView {
            definition: view.view().definition.0.clone(),
            view: view.save(),
            kept: channel.kept(),
        });
        job.checkpoint = Some(LivePath { position, sequencer, views: views.collect() });
        self.hot.since.get_or_insert_with(Instant::now);
    }

    /// Hands everything since the last flush over. Bounded: waits while two flushes are under way.
    fn send_flush(&mut self) {
        if self.hot.since.is_none() {
            return;
        }
        let covered = self.hot.job.covered;
        let next = FlushJob { from: covered, covered, ..FlushJob::default() };
        let job = std::mem::replace(&mut self.hot, Hot { job: next, ..Hot::default() }).job;
        // When the flushing thread is gone it has said why; the log still holds everything.
        let _ = self.flush.send(StoreJob::Flush(Box::new(job)));
    }
}
