//! Results on their way to clients, a thread for each.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use isotick_ingest::{Feed, FeedError};
use isotick_kernels::EncodedRows;
use isotick_model::results::{ResultSchema, WindowRow};
use isotick_storage::read_results;
use isotick_wire::{Code, Control, Format, PublishedWindow, ResultView, VersionReason};

use super::record::Record;
use super::refusal;
use super::work::Running;

/// Windows that are put at a time.
const WINDOWS: usize = 4096;
/// How often it is looked for new pieces.
const LOOK: Duration = Duration::from_millis(20);

/// What is fetched of a job.
pub struct Fetch {
    pub record: Record,
    pub feed: Arc<Feed>,
    pub format: Format,
}

impl Fetch {
    /// The windows of a job that is done, in canonical order. `last` is the job as it ends the
    /// answer.
    pub fn whole(self, paths: Vec<PathBuf>, last: String) {
        self.run(|fetch| {
            for (view, (schema, path)) in fetch.record.schemas()?.iter().zip(&paths).enumerate() {
                fetch.begin(view, schema)?;
                let mut sent = 0;
                for rows in read_results(path, schema)? {
                    fetch.send(rows?, &mut sent, schema)?;
                }
            }
            Ok(fetch.feed.put_control(&Control::JobsReply(last))?)
        });
    }

    /// The windows of a job that is not done, as its parts are.
    pub fn partial(self, running: &Running) {
        self.run(|fetch| {
            let schemas = fetch.record.schemas()?;
            let mut sent = vec![0; schemas.len()];
            let (mut from, mut told) = (0, None);
            loop {
                // Asked before: what is added until it is over is sent.
                let over = running.over.get();
                let pieces = running.pieces.len();
                for (view, schema) in schemas.iter().enumerate() {
                    let columns = schema.columns.len();
                    for run in running.pieces.runs(view, columns, from..pieces) {
                        for block in run.blocks {
                            if told != Some(view) {
                                fetch.begin(view, schema)?;
                                told = Some(view);
                            }
                            let block: EncodedRows = block?;
                            fetch.send(block.rows(), &mut sent[view], schema)?;
                        }
                    }
                }
                if from == pieces
                    && let Some(over) = over
                {
                    match over {
                        Ok(last) => fetch.feed.put_control(&Control::JobsReply(last.clone()))?,
                        Err(refusal) => fetch.feed.refuse(refusal.clone()),
                    }
                    return Ok(());
                }
                from = pieces;
                if fetch.feed.is_closed() {
                    return Ok(());
                }
                std::thread::sleep(LOOK);
            }
        });
    }

    fn run(self, send: impl FnOnce(&Self) -> Result<()>) {
        match send(&self) {
            Ok(()) => self.feed.finish(),
            // A client that is gone needs no answer.
            Err(error) if matches!(error.downcast_ref(), Some(FeedError::Closed(_))) => {}
            Err(error) => {
                tracing::error!("the result of job {} cannot be sent: {error:#}", self.record.id);
                let text = format!("the result cannot be sent: {error:#}");
                self.feed.refuse(refusal(Code::Unavailable, text));
            }
        }
    }

    fn begin(&self, view: usize, schema: &ResultSchema) -> Result<()> {
        let name = self.record.asked.views[view].view.clone();
        let of = ResultView { index: view as u32, view: name, schema: schema.clone() };
        Ok(self.feed.put_control(&Control::ResultView(of))?)
    }

    fn send(&self, rows: Vec<WindowRow>, sent: &mut u64, schema: &ResultSchema) -> Result<()> {
        let windows: Vec<PublishedWindow> = rows
            .into_iter()
            .map(|row| PublishedWindow { row, reason: VersionReason::Closed })
            .collect();
        for some in windows.chunks(WINDOWS) {
            self.feed.put_windows(some, *sent, schema, self.format)?;
            *sent += some.len() as u64;
        }
        Ok(())
    }
}

impl Running {
    /// Says how the job ended to those who send what it gives.
    pub fn end(&self, how: Result<String, isotick_wire::Refusal>) {
        self.pieces.close();
        if how.is_err() {
            self.cancelled.store(true, Ordering::Relaxed);
        }
        let _ = self.over.set(how);
    }
}

/// Starts a thread that sends a result.
pub fn spawn(run: impl FnOnce() + Send + 'static) -> Result<()> {
    let named = std::thread::Builder::new().name("isotick-fetch".into());
    named.spawn(run).map(drop).context("cannot start a thread")
}
