//! What the service's threads share so that anyone can ask how it stands.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use isotick_ingest::edge::CounterReader;
use isotick_ingest::sequencer::{StreamStatus, total_rejections};
use isotick_ingest::{Gate, Intake, Stage, Stages};
use isotick_kernels::EngineKind;
use isotick_model::{LogPosition, time};
use isotick_storage::Manifest;
use isotick_storage::log::LogFaults;
use isotick_wire::{Ack, Rejections};
use serde_json::{Value, json};

use super::channel::ViewChannel;
use super::deadletters::LetterCounters;
use super::jobs::LaneShare;

/// What lets clients in, as far as others need to see it.
pub struct IngestSide {
    /// How the edge runs, for people.
    pub description: String,
    pub edge: CounterReader,
    pub stages: Arc<Stages>,
    pub gate: Gate,
    pub intake: Intake,
    /// What of the refused is kept.
    pub letters: Arc<LetterCounters>,
}

/// Shared by the service's threads and whoever asks for its status.
pub struct Shared {
    pub definitions_text: String,
    pub views: Vec<Arc<ViewChannel>>,
    pub ingest: IngestSide,
    engine_kind: EngineKind,
    engine: String,
    /// What scans and the live path tell each other.
    pub lanes: LaneShare,
    started: Instant,
    state: Mutex<State>,
}

/// How far the log has come.
#[derive(Clone, Debug, Default)]
pub struct LogMarks {
    /// The first record that is kept.
    pub first: LogPosition,
    /// The next record.
    pub next: LogPosition,
    /// Everything before is synced.
    pub durable: LogPosition,
    /// Everything before is in history.
    pub covered: LogPosition,
    /// Where the older of the checkpoints kept stands, once this run has written one.
    pub needed: Option<LogPosition>,
    /// What the disk refused.
    pub faults: LogFaults,
    /// How it is written.
    pub io: &'static str,
}

/// What a stream's history is stored in.
#[derive(Clone, Copy, Debug, Default)]
struct History {
    files: u64,
    rows: u64,
    bytes: u64,
    dropped_rows: u64,
    dropped_before: Option<i64>,
}

impl History {
    fn to_json(self) -> Value {
        json!({
            "files": self.files,
            "rows": self.rows,
            "bytes": self.bytes,
            "dropped_rows": self.dropped_rows,
            "dropped_before": self.dropped_before.map(time::format_rfc3339),
        })
    }
}

#[derive(Clone, Debug, Default)]
struct Compaction {
    merges: u64,
    merged_rows: u64,
    rollups: u64,
    states: u64,
    failure: Option<String>,
    rollup_failure: Option<String>,
}

#[derive(Default)]
struct State {
    streams: Vec<StreamStatus>,
    rates: BTreeMap<String, u64>,
    log: LogMarks,
    rows_by_engine: BTreeMap<EngineKind, u64>,
    engine_failure: Option<String>,
    history: BTreeMap<String, History>,
    compaction: Compaction,
    failure: Option<String>,
}

impl Shared {
    pub fn new(
        definitions_text: String,
        views: Vec<Arc<ViewChannel>>,
        ingest: IngestSide,
        engine_kind: EngineKind,
        engine: String,
    ) -> Self {
        Self {
            definitions_text,
            views,
            ingest,
            engine_kind,
            engine,
            lanes: LaneShare::default(),
            started: Instant::now(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_streams(&self, streams: Vec<StreamStatus>, rates: &StreamRates) {
        let mut state = self.state();
        state.streams = streams;
        state.rates.clone_from(&rates.ticks_per_s);
    }

    /// The stream of a view.
    pub fn stream_of(&self, view: &str) -> Option<&str> {
        let known = self.views.iter().find(|known| known.view.name == view);
        known.map(|known| known.view.stream.as_str())
    }

    /// Says where the log stands.
    pub fn set_log_next(&self, next: LogPosition) {
        self.state().log.next = next;
    }

    /// The log's next record, as far as it was told.
    pub fn log_next(&self) -> LogPosition {
        self.state().log.next
    }

    pub fn set_log(&self, marks: LogMarks) {
        self.state().log = marks;
    }

    /// Says what is stored of each stream.
    pub fn set_history(&self, manifest: &Arc<Manifest>) {
        self.lanes.set_manifest(manifest.clone());
        let mut state = self.state();
        state.history.retain(|stream, _| manifest.streams.contains_key(stream));
        for (name, stream) in &manifest.streams {
            let history = state.history.entry(name.clone()).or_default();
            history.files = stream.files.len() as u64;
            history.rows = stream.files.iter().map(|file| file.file.rows).sum();
            history.bytes = stream.files.iter().map(|file| file.file.bytes).sum();
            history.dropped_before = stream.dropped_before;
        }
    }

    /// Counts ticks that a stream's retention gave up.
    pub fn count_dropped(&self, stream: &str, rows: u64) {
        self.state().history.entry(stream.to_owned()).or_default().dropped_rows += rows;
    }

    pub fn count_merge(&self, rows: u64) {
        let compaction = &mut self.state().compaction;
        compaction.merges += 1;
        compaction.merged_rows += rows;
    }

    /// Counts a file whose states were looked at, and the states that were stored.
    pub fn count_rollup(&self, states: u64) {
        let compaction = &mut self.state().compaction;
        compaction.rollups += 1;
        compaction.states += states;
    }

    pub fn rollup_failed(&self, reason: &str) {
        self.state().compaction.rollup_failure = Some(reason.to_owned());
    }

    pub fn merge_failed(&self, reason: &str) {
        self.state().compaction.failure = Some(reason.to_owned());
    }

    /// The engine for live windows, for people.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// The engine that live windows began with.
    pub fn engine_kind(&self) -> EngineKind {
        self.engine_kind
    }

    pub fn count_rows(&self, engine: EngineKind, rows: u64) {
        *self.state().rows_by_engine.entry(engine).or_default() += rows;
    }

    pub fn engine_failed(&self, reason: &str) {
        self.state().engine_failure = Some(reason.to_owned());
    }

    pub fn fail(&self, reason: &str) {
        self.state().failure = Some(reason.to_owned());
    }

    /// Why the service accepts nothing more, if so.
    pub fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// The counts of all publishers together.
    pub fn totals(&self) -> Totals {
        let state = self.state();
        let publishers = || state.streams.iter().flat_map(|stream| &stream.publishers);
        let sum = |count: fn(&Ack) -> u64| publishers().map(|p| count(&p.ack)).sum();
        Totals {
            accepted: sum(|ack| ack.accepted),
            late: sum(|ack| ack.late),
            duplicate: sum(|ack| ack.duplicate),
            conflicting: sum(|ack| ack.conflicting),
            rejected: total_rejections(publishers().map(|p| &p.ack)),
            watermark: state.streams.iter().filter_map(|stream| stream.watermark).max(),
        }
    }

    /// Everything, as one JSON object.
    pub fn to_json(&self) -> Value {
        let views: serde_json::Map<_, _> =
            self.views.iter().map(|view| (view.view.name.clone(), view.to_json())).collect();
        let counters =
            self.ingest.edge.read().named().into_iter().chain(self.ingest.gate.refusals().named());
        let edge: serde_json::Map<_, _> =
            counters.map(|(name, count)| (name.to_owned(), count.into())).collect();
        let stages: serde_json::Map<_, _> = Stage::ALL
            .into_iter()
            .map(|stage| (stage.name().to_owned(), stage_json(&self.ingest.stages, stage)))
            .collect();
        let letters: serde_json::Map<_, _> = self
            .ingest
            .letters
            .named()
            .map(|(name, count)| (name.to_owned(), count.into()))
            .into_iter()
            .collect();
        let (lanes, jobs) = self.lanes.status();
        let state = self.state();
        let streams: serde_json::Map<_, _> = state
            .streams
            .iter()
            .map(|stream| {
                let rate = state.rates.get(&stream.stream).copied().unwrap_or(0);
                (stream.stream.clone(), stream_json(stream, rate))
            })
            .collect();
        let history: serde_json::Map<_, _> = state
            .history
            .iter()
            .map(|(stream, history)| (stream.clone(), history.to_json()))
            .collect();
        let engines: serde_json::Map<_, _> = state
            .rows_by_engine
            .iter()
            .map(|(kind, rows)| (kind.to_string(), (*rows).into()))
            .collect();
        json!({
            "uptime_s": self.started.elapsed().as_secs(),
            "engine": self.engine,
            "engine_failure": state.engine_failure,
            "failure": state.failure,
            "live_rows_by_engine": engines,
            "streams": streams,
            "views": views,
            "log": {
                "first_record": state.log.first.0,
                "records": state.log.next.0,
                "durable_records": state.log.durable.0,
                "records_in_history": state.log.covered.0,
                "needed_from": state.log.needed.map(|position| position.0),
                "io": state.log.io,
                "retired_segments": state.log.faults.retired_segments,
                "last_fault": state.log.faults.last.as_deref(),
            },
            "history": history,
            "compaction": {
                "merges": state.compaction.merges,
                "merged_rows": state.compaction.merged_rows,
                "failure": state.compaction.failure,
                "rollups": state.compaction.rollups,
                "states": state.compaction.states,
                "rollup_failure": state.compaction.rollup_failure,
            },
            "ingest": self.ingest.description,
            "in_flight_bytes": self.ingest.intake.held_bytes(),
            "stages": stages,
            "edge": edge,
            "deadletters": letters,
            "lanes": lanes,
            "jobs": jobs,
        })
    }
}

fn stage_json(stages: &Stages, stage: Stage) -> Value {
    let times = stages.times(stage);
    json!({
        "count": times.count,
        "p50_ns": times.p50_ns,
        "p99_ns": times.p99_ns,
        "max_ns": times.max_ns,
    })
}

/// Counts over all publishers of all streams.
pub struct Totals {
    pub accepted: u64,
    pub late: u64,
    pub duplicate: u64,
    pub conflicting: u64,
    pub rejected: Rejections,
    pub watermark: Option<i64>,
}

fn stream_json(stream: &StreamStatus, ticks_per_s: u64) -> Value {
    let acks = || stream.publishers.iter().map(|publisher| &publisher.ack);
    let sum = |count: fn(&Ack) -> u64| acks().map(count).sum::<u64>();
    let publishers: Vec<_> = stream
        .publishers
        .iter()
        .map(|publisher| {
            let ack = &publisher.ack;
            json!({
                "publisher": publisher.publisher.as_str(),
                "active": publisher.active,
                "sessions": publisher.sessions,
                "accepted": ack.accepted,
                "late": ack.late,
                "duplicate": ack.duplicate,
                "conflicting": ack.conflicting,
                "rejected": rejections_json(&ack.rejected),
                "lost": ack.lost,
                "missing": ack.missing,
                "received_through": ack.received_through,
                "written_through": ack.written_through,
                "durable_through": ack.durable_through,
            })
        })
        .collect();
    json!({
        "watermark": stream.watermark.map(time::format_rfc3339),
        "watermark_ns": stream.watermark,
        "ticks_per_s": ticks_per_s,
        "accepted": sum(|ack| ack.accepted),
        "late": sum(|ack| ack.late),
        "duplicate": sum(|ack| ack.duplicate),
        "conflicting": sum(|ack| ack.conflicting),
        "rejected": rejections_json(&total_rejections(acks())),
        "lost": sum(|ack| ack.lost),
        "missing": sum(|ack| ack.missing),
        "publishers": publishers,
    })
}

/// Rejected rows by reason.
pub fn rejections_json(rejected: &Rejections) -> Value {
    let pairs = rejected.iter().map(|(reason, rows)| (reason.name().to_owned(), rows.into()));
    pairs.collect::<serde_json::Map<_, _>>().into()
}

/// Accepted ticks a second, per stream, over the last whole second.
#[derive(Default)]
pub struct StreamRates {
    accepted: BTreeMap<String, u64>,
    ticks_per_s: BTreeMap<String, u64>,
    at: Option<Instant>,
}

impl StreamRates {
    pub fn sample(&mut self, streams: &[StreamStatus]) {
        let now = Instant::now();
        let elapsed = self.at.map(|at| now.duration_since(at).as_secs_f64());
        self.at = Some(now);
        for stream in streams {
            let accepted = stream.publishers.iter().map(|publisher| publisher.ack.accepted).sum();
            let before = self.accepted.insert(stream.stream.clone(), accepted).unwrap_or(accepted);
            let rate = elapsed.map_or(0.0, |elapsed| (accepted - before) as f64 / elapsed.max(0.1));
            self.ticks_per_s.insert(stream.stream.clone(), rate as u64);
        }
    }
}
