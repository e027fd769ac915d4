//! What stands behind the ingest edge, stage by stage, on one thread: sequencer, log, live view,
//! flush to history, record of windows. Each prints what it came to before its rate, so that equal
//! work is compared; times are the least of some runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isotick::market::Market;
use isotick_ingest::Sequencer;
use isotick_kernels::{CpuEngine, result_hash};
use isotick_model::definitions::{Definitions, template};
use isotick_model::results::{ResultSchema, WindowRow};
use isotick_model::view::View;
use isotick_model::{LogPosition, StreamSchema, Ticks};
use isotick_scheduler::{LiveView, Published};
use isotick_storage::{LogRecord, RecordedWindow, Store};

const ROWS: usize = 1 << 20;
const RUNS: usize = 5;

fn main() {
    // `cargo bench -- --test` asks whether it runs at all.
    let quick = std::env::args().any(|argument| argument == "--test");
    let (rows, runs) = if quick { (1 << 14, 1) } else { (ROWS, RUNS) };
    let definitions =
        Definitions::parse(template::EXAMPLE, "the built-in example").expect("it is valid");
    let view = definitions.view("bars_1s").expect("the example has it");
    let schema = definitions.stream(&view.stream).expect("its stream is declared");
    for frame_rows in [64, 8_192] {
        let mut market = Market::new(1);
        let frames: Vec<_> =
            (0..rows / frame_rows).map(|_| compact(&market.next_ticks(frame_rows))).collect();
        println!("frames of {frame_rows} rows:");
        measure(&frames, view, schema, runs);
    }
}

fn measure(frames: &[Ticks], view: &View, schema: &StreamSchema, runs: usize) {
    let (accepted, watermarks) = best("sequencer", frames, runs, || sequencer(frames, schema));
    best("log", frames, runs, || log(&accepted));
    let published = best("live view", frames, runs, || live(&accepted, &watermarks, view, schema));
    best("flush", frames, runs, || flush(&accepted, schema));
    best("record", frames, runs, || record(&published, view));
}

/// A stage's result, what it came to, and how long it took.
struct Outcome<T> {
    result: T,
    text: String,
    took: Duration,
}

fn best<T>(name: &str, frames: &[Ticks], runs: usize, run: impl Fn() -> Outcome<T>) -> T {
    let rows = frames.iter().map(Ticks::len).sum::<usize>();
    let outcomes: Vec<_> = (0..runs).map(|_| run()).collect();
    let least = outcomes.iter().map(|outcome| outcome.took).min().expect("there are runs");
    let first = &outcomes[0].text;
    assert!(outcomes.iter().all(|outcome| outcome.text == *first), "{name}: runs differ");
    let ns = least.as_nanos() as f64 / rows as f64;
    println!("  {name:<10} {ns:7.1} ns a tick, {:6.2} M ticks/s: {first}", 1e3 / ns);
    outcomes.into_iter().next().expect("there are runs").result
}

/// As a decoded frame is: its own table, every key used, in order of first appearance.
fn compact(ticks: &Ticks) -> Ticks {
    let mut codes = BTreeMap::new();
    let mut keys = Vec::new();
    let key = ticks.key.iter().map(|&code| {
        *codes.entry(code).or_insert_with(|| {
            keys.push(ticks.keys[code as usize].clone());
            keys.len() as u32 - 1
        })
    });
    let key = key.collect();
    Ticks { key, keys: keys.into(), ..ticks.clone() }
}

fn sequencer(frames: &[Ticks], schema: &StreamSchema) -> Outcome<(Vec<Ticks>, Vec<Option<i64>>)> {
    let mut sequencer = Sequencer::default();
    sequencer.declare(schema.clone(), &[]);
    let slot = sequencer.slot(&schema.name, &frames[0].publishers[0]).expect("it is declared");
    sequencer.join(slot);
    let (mut accepted, mut watermarks) = (Vec::new(), Vec::new());
    let frames = frames.to_vec();
    let (mut late, started) = (0, Instant::now());
    for (frame, position) in frames.into_iter().zip(0..) {
        let taken = sequencer.accept(slot, frame, Vec::new(), i64::MAX, LogPosition(position));
        let taken = taken.expect("the frames follow one another");
        late += taken.late;
        accepted.push(taken.ticks);
        watermarks.push(sequencer.watermark(&schema.name));
    }
    let took = started.elapsed();
    let text = format!("{late} late, W {:?}", sequencer.watermark(&schema.name));
    Outcome { result: (accepted, watermarks), text, took }
}

fn log(accepted: &[Ticks]) -> Outcome<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path(), "bench").expect("it is new");
    let (mut writer, _) = store.open_log().expect("it is new");
    let record = |ticks: &Ticks| LogRecord::Ticks {
        stream: "trades".to_owned(),
        ticks: ticks.clone(),
        rejected: Vec::new(),
        ts_recv_ns: 0,
    };
    let records: Vec<_> = accepted.iter().map(record).collect();
    let started = Instant::now();
    for record in &records {
        writer.append(record).expect("the disk takes it");
    }
    let took = started.elapsed();
    let files = std::fs::read_dir(folder.path().join("log")).expect("it is there");
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    Outcome { result: (), text: format!("{bytes} bytes"), took }
}

fn live(
    accepted: &[Ticks],
    watermarks: &[Option<i64>],
    view: &View,
    schema: &StreamSchema,
) -> Outcome<Vec<Published>> {
    let mut live = LiveView::new(Arc::new(view.clone()), schema);
    let mut published = Vec::new();
    let started = Instant::now();
    for (ticks, &watermark) in accepted.iter().zip(watermarks) {
        live.handle_ticks(ticks, &mut CpuEngine).expect("the CPU engine does not fail");
        live.handle_watermark(watermark);
        published.extend(std::iter::from_fn(|| live.poll_published()).flatten());
    }
    let took = started.elapsed();
    let latest: BTreeMap<_, WindowRow> = published
        .iter()
        .map(|window| ((window.row.key.clone(), window.row.window_start), window.row.clone()))
        .collect();
    let rows: Vec<_> = latest.into_values().collect();
    let hash = result_hash(&ResultSchema::of(view), &rows);
    Outcome { text: format!("{} versions, hash {hash}", published.len()), result: published, took }
}

fn flush(accepted: &[Ticks], schema: &StreamSchema) -> Outcome<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut store = Store::open(folder.path(), "bench").expect("it is new");
    let end = LogPosition(accepted.len() as u64);
    let started = Instant::now();
    let mut commit = store.begin();
    commit.add_ticks(schema, accepted, LogPosition(0)..end).expect("the disk takes it");
    commit.cover(end, []);
    let manifest = commit.finish().expect("the disk takes it");
    let took = started.elapsed();
    let files = manifest.streams[&schema.name].files.iter();
    let sizes = files.map(|file| format!("{} rows in {} bytes", file.file.rows, file.file.bytes));
    Outcome { result: (), text: sizes.collect::<Vec<_>>().join(", "), took }
}

fn record(published: &[Published], view: &View) -> Outcome<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut store = Store::open(folder.path(), "bench").expect("it is new");
    let windows: Vec<_> = published
        .iter()
        .map(|window| RecordedWindow {
            row: window.row.clone(),
            reason: window.reason.name().into(),
        })
        .collect();
    let started = Instant::now();
    let mut commit = store.begin();
    commit
        .add_windows(&view.name, &view.definition, &ResultSchema::of(view), &windows, None)
        .expect("the disk takes it");
    commit.cover(LogPosition(0), []);
    commit.finish().expect("the disk takes it");
    let took = started.elapsed();
    Outcome { result: (), text: format!("{} versions", windows.len()), took }
}
