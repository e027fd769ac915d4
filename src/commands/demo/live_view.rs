//! What the demo shows while it runs: throughput, watermark and newest windows; and the latency
//! from a tick that closes a window to its subscriber.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use isotick_client::{Options as ClientOptions, Subscriber};
use isotick_model::definitions::Definitions;
use isotick_model::results::WindowRow;
use isotick_model::time;
use isotick_model::view::{LatenessPolicy, View};

use crate::output::value_text;
use crate::publishing::Watch;
use crate::service::Shared;

/// What publisher, listener and screen share.
#[derive(Default)]
pub struct Progress {
    sent: AtomicU64,
    stopped: AtomicBool,
    /// How far event time had come when, newest last.
    clock: Mutex<VecDeque<(i64, Instant)>>,
    latencies_ns: Mutex<Vec<u64>>,
}

impl Progress {
    /// The latencies so far.
    pub fn latency(&self) -> Histogram<u64> {
        let mut histogram =
            Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are constants");
        for &ns in self.latencies_ns.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            histogram.saturating_record(ns);
        }
        histogram
    }
}

/// Ends the screen when it goes.
pub struct Stop<'a>(pub &'a Progress);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::Release);
    }
}

/// Notes what is sent, and when.
pub struct Watching<'a>(pub &'a Progress);

impl Watch for Watching<'_> {
    fn sent(&mut self, rows: usize, ts_max: Option<i64>) {
        self.0.sent.fetch_add(rows as u64, Ordering::Relaxed);
        let mut clock = self.0.clock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ts) = ts_max
            && clock.back().is_none_or(|(greatest, _)| ts > *greatest)
        {
            clock.push_back((ts, Instant::now()));
            if clock.len() > 1 << 16 {
                clock.pop_front();
            }
        }
    }

    fn notice(&mut self, _: &str) {}
}

/// Subscribes to a view and measures how long after the tick that closes a window its news comes.
pub async fn listen(address: String, view: View, progress: Arc<Progress>) -> Result<()> {
    let mut subscriber =
        Subscriber::connect(&address, view.name.as_str(), &ClientOptions::default()).await?;
    let allowed = match view.lateness.policy {
        LatenessPolicy::Correct => 0,
        LatenessPolicy::Side | LatenessPolicy::Drop => view.lateness.allowed_ns,
    };
    loop {
        let batch = subscriber.next().await?;
        let now = Instant::now();
        let ends = batch.windows.iter().filter(|window| window.row.version == 1);
        let Some(end) = ends.map(|window| window.row.window_end).max() else { continue };
        let clock = progress.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let after = clock.partition_point(|(ts, _)| *ts < end.saturating_add(allowed));
        if let Some((_, sent)) = clock.get(after) {
            let ns = now.duration_since(*sent).as_nanos() as u64;
            progress.latencies_ns.lock().unwrap_or_else(PoisonError::into_inner).push(ns);
        }
    }
}

/// The live view: throughput, watermark and the newest windows, on a terminal only.
pub struct Screen {
    bars: Option<MultiProgress>,
}

impl Screen {
    pub fn new(json: bool) -> Self {
        let shown = !json && std::io::stderr().is_terminal();
        Self { bars: shown.then(MultiProgress::new) }
    }

    pub fn run(&self, progress: &Progress, shared: &Shared, definitions: &Definitions) {
        let Some(bars) = &self.bars else { return };
        let line = || {
            let style = ProgressStyle::with_template("{msg}").expect("the template is a constant");
            bars.add(ProgressBar::new_spinner().with_style(style))
        };
        let lines: Vec<_> = (0..8).map(|_| line()).collect();
        let (started, mut before) = (Instant::now(), (Instant::now(), 0));
        while !progress.stopped.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(200));
            let sent = progress.sent.load(Ordering::Relaxed);
            let rate = (sent - before.1) as f64 / before.0.elapsed().as_secs_f64();
            before = (Instant::now(), sent);
            let totals = shared.totals();
            let watermark = totals.watermark.map_or("none".into(), time::format_rfc3339);
            lines[0].set_message(format!(
                "{:>6.1} s   {sent} ticks sent, {} accepted, {:.2} M ticks/s",
                started.elapsed().as_secs_f64(),
                totals.accepted,
                rate / 1e6
            ));
            lines[1].set_message(format!("watermark  {watermark}"));
            let view = &definitions.views[0];
            let newest = shared.views.first().map(|view| view.newest()).unwrap_or_default();
            lines[2].set_message(format!("newest {}", view.name));
            for (line, row) in lines[3..].iter().zip(&newest) {
                line.set_message(format!("  {}", describe(view, row)));
            }
        }
        for line in lines {
            line.finish_and_clear();
        }
    }
}

fn describe(view: &View, row: &WindowRow) -> String {
    let values = view.aggregates.iter().zip(&row.values);
    let values: Vec<_> = values
        .map(|(named, value)| format!("{} {}", named.name, value_text(*value, named.output)))
        .collect();
    format!("{:<10} {}  {}", row.key, time::format_rfc3339(row.window_start), values.join("  "))
}
