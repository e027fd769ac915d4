//! A job while the service runs.

use std::sync::Arc;
use std::time::Instant;

use isotick_ingest::Feed;
use isotick_model::time;
use isotick_storage::Frozen;
use isotick_wire::FetchResult;
use serde_json::{Value, json};

use super::kernels_hash;
use super::record::{Record, State};
use super::work::Running;

/// What of a job the lanes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Plan,
    /// Its parts, and what closes them.
    Parts,
    /// More of what closes them.
    Closing,
    /// Nothing: it is over.
    Over,
}

/// Done of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

impl Progress {
    fn to_json(self) -> Value {
        json!({ "done": self.done, "total": self.total })
    }
}

/// A job, and who waits for it.
pub struct Job {
    pub record: Record,
    pub phase: Phase,
    /// What to plan for, where nothing was noted before.
    pub fresh: Option<Frozen>,
    pub running: Option<Arc<Running>>,
    /// Parts whose pieces an earlier run left.
    pub parts_finished: Vec<u32>,
    pub parts: Progress,
    pub rows: Progress,
    pub bytes: Progress,
    /// Since when it runs, in this run of the service.
    pub since: Option<Instant>,
    /// Rows that it had read by then.
    pub rows_before: u64,
    pub watchers: Vec<Watcher>,
    /// As the status shows it, once it is over and until its record changes.
    pub shown: Option<Arc<Value>>,
    /// Who waits for its result.
    pub fetches: Vec<(FetchResult, Arc<Feed>)>,
}

/// Someone who is told whenever something changed.
pub struct Watcher {
    pub feed: Arc<Feed>,
    pub told: Option<String>,
}

impl Job {
    pub fn new(record: Record, fresh: Option<Frozen>) -> Self {
        let phase = if record.state.is_over() { Phase::Over } else { Phase::Plan };
        Self {
            record,
            phase,
            fresh,
            running: None,
            parts_finished: Vec::new(),
            parts: Progress::default(),
            rows: Progress::default(),
            bytes: Progress::default(),
            since: None,
            rows_before: 0,
            watchers: Vec::new(),
            shown: None,
            fetches: Vec::new(),
        }
    }

    pub fn is_over(&self) -> bool {
        self.record.state.is_over()
    }

    /// Rows a second of this run, and how long the remainder takes at that.
    fn pace(&self) -> (f64, Option<f64>) {
        let Some(since) = self.since else { return (0.0, None) };
        let seconds = since.elapsed().as_secs_f64().max(1e-3);
        let rate = self.rows.done.saturating_sub(self.rows_before) as f64 / seconds;
        let left = self.rows.total.saturating_sub(self.rows.done) as f64;
        (rate, (rate > 0.0).then(|| left / rate))
    }

    /// Seconds that it has run.
    pub fn seconds(&self) -> f64 {
        self.record.seconds + self.since.map_or(0.0, |since| since.elapsed().as_secs_f64())
    }

    /// As clients are told. `position` is its place in the queue.
    pub fn to_json(&self, position: Option<usize>, cached: bool) -> Value {
        let record = &self.record;
        let (rate, remaining) = match record.state {
            State::Running => self.pace(),
            _ => (0.0, None),
        };
        let views = record.asked.views.iter().enumerate().map(|(index, asked)| {
            let result = record.results.get(index);
            json!({
                "view": asked.view,
                "definition": asked.definition,
                "windows": result.map(|result| result.windows),
                "hash": result.map(|result| &result.hash),
                "too_late": result.map(|result| result.too_late),
                "unrepresentable": result.map(|result| result.unrepresentable),
            })
        });
        let mut job = json!({
            "id": record.id,
            "state": record.state.name(),
            "owner": record.owners.first(),
            "owners": record.owners,
            "views": views.collect::<Vec<_>>(),
            "stream": record.asked.stream,
            "from": record.asked.from_ns.map(time::format_rfc3339),
            "to": record.asked.to_ns.map(time::format_rfc3339),
            "keys": record.asked.keys,
            "truth": record.asked.truth,
            "engine": record.asked.engine,
            "no_rollup": record.asked.no_rollup,
            "priority": record.priority,
            "parts": self.parts.to_json(),
            "rows": self.rows.to_json(),
            "bytes": self.bytes.to_json(),
            "rows_read": record.rows_read,
            "rows_from_states": record.rows_from_states,
            "rows_per_s": rate as u64,
            "seconds": self.seconds(),
            "remaining_seconds": remaining,
            "retries": record.retries,
            "replans": record.replans,
            "fallback": record.fallback,
            "error": record.error,
            "submitted": time::format_rfc3339(record.submitted_ns),
            "finished": record.finished_ns.map(time::format_rfc3339),
            "kept_until": record.kept_until_ns.map(time::format_rfc3339),
            "manifest_version": record.manifest_version,
            "log_end": record.log_end,
            "engines": record.engines,
            "kernels": kernels_hash_of(record),
            "cached": cached,
        });
        if let Some(position) = position {
            job["position"] = position.into();
        }
        job
    }
}

fn kernels_hash_of(record: &Record) -> Option<&'static str> {
    (record.state == State::Done).then(kernels_hash)
}
