//! What one measurement gave, as text, as JSON, and its windows as CSV.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use isotick_model::results::Value as Cell;
use serde_json::{Value, json};

use super::drive::{Drive, Sending};
use super::reference::Compared;

/// Quantiles that are shown.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// One measurement.
pub struct Figure {
    /// Ticks a second; `None` for flat out.
    pub rate: Option<u64>,
    pub ticks: usize,
    pub frames: usize,
    /// Of all frames with their messages' headers, without QUIC's and UDP's own.
    pub frame_bytes: u64,
    /// Distinct ends of windows.
    pub closings: usize,
    /// Later versions of windows.
    pub corrections: usize,
    /// Of the newest version of every window that came.
    pub hash: String,
    /// From the start until the last window came.
    pub seconds: f64,
    /// By window, from when the tick that closes it was due until it came.
    pub latency_ns: Histogram<u64>,
    pub compared: Compared,
    pub sending: Sending,
    pub own_cpu_s: Option<f64>,
    pub service_cpu_s: Option<f64>,
    /// What the service said at its start.
    pub service: Vec<String>,
}

impl Figure {
    fn ticks_per_s(&self) -> f64 {
        self.ticks as f64 / self.seconds.max(1e-9)
    }

    fn bytes_per_tick(&self) -> f64 {
        self.frame_bytes as f64 / self.ticks.max(1) as f64
    }

    pub fn print(&self) {
        let cpu = |seconds: Option<f64>| match seconds {
            Some(seconds) => format!("{seconds:.2} s"),
            None => "unknown".to_owned(),
        };
        match self.rate {
            None => println!(
                "\nflat out: {} ticks in {:.3} s to the last window: {:.2} M ticks/s\n  \
                 all sent {:.3?}, written {:.3?}, durable {:.3?}",
                self.ticks,
                self.seconds,
                self.ticks_per_s() / 1e6,
                self.sending.sent,
                self.sending.written,
                self.sending.durable,
            ),
            Some(rate) => println!(
                "\n{rate} ticks/s: {} ticks\n  closing tick due → window received: {}\n  \
                 sent late: {}",
                self.ticks,
                quantiles(&self.latency_ns),
                quantiles(&self.sending.late_ns),
            ),
        }
        println!(
            "  {} frames, {:.2} bytes a tick; CPU: publisher and subscriber {}, service {}",
            self.frames,
            self.bytes_per_tick(),
            cpu(self.own_cpu_s),
            cpu(self.service_cpu_s),
        );
        let compared = &self.compared;
        println!(
            "  {} windows in {} closings, {} corrections; {} missing, {} wrong; hash {}",
            compared.expected,
            self.closings,
            self.corrections,
            compared.missing,
            compared.wrong,
            &self.hash[..12],
        );
        if let Some(first) = &compared.first {
            println!("  the first: {first}");
        }
        if !compared.unchecked.is_empty() {
            println!("  not compared: {}", compared.unchecked.join(", "));
        }
    }

    /// The median of the runs flat out, where there are several.
    pub fn print_medians(figures: &[Self]) {
        let mut rates: Vec<f64> =
            figures.iter().filter(|f| f.rate.is_none()).map(Self::ticks_per_s).collect();
        if rates.len() > 1 {
            rates.sort_unstable_by(f64::total_cmp);
            println!(
                "\nflat out, median of {}: {:.2} M ticks/s ({:.2} .. {:.2})",
                rates.len(),
                rates[rates.len() / 2] / 1e6,
                rates[0] / 1e6,
                rates[rates.len() - 1] / 1e6
            );
        }
    }

    pub fn to_json(&self) -> Value {
        let compared = &self.compared;
        json!({
            "rate": self.rate,
            "ticks": self.ticks,
            "seconds": self.seconds,
            "ticks_per_s": self.ticks_per_s(),
            "sent_s": self.sending.sent.as_secs_f64(),
            "written_s": self.sending.written.as_secs_f64(),
            "durable_s": self.sending.durable.as_secs_f64(),
            "latency_ns": self.rate.map(|_| quantiles_json(&self.latency_ns)),
            "sent_late_ns": self.rate.map(|_| quantiles_json(&self.sending.late_ns)),
            "frames": self.frames,
            "bytes_per_tick": self.bytes_per_tick(),
            "own_cpu_s": self.own_cpu_s,
            "service_cpu_s": self.service_cpu_s,
            "windows": compared.expected,
            "closings": self.closings,
            "corrections": self.corrections,
            "missing": compared.missing,
            "wrong": compared.wrong,
            "first_difference": compared.first,
            "not_compared": compared.unchecked,
            "hash": self.hash,
            "service": self.service,
        })
    }
}

fn quantiles(histogram: &Histogram<u64>) -> String {
    let mut texts: Vec<_> = QUANTILES
        .iter()
        .map(|(name, at)| format!("{name} {}", shown(histogram.value_at_quantile(*at))))
        .collect();
    texts.push(format!("max {}", shown(histogram.max())));
    texts.join("  ")
}

fn shown(ns: u64) -> String {
    format!("{:.1?}", Duration::from_nanos(ns))
}

fn quantiles_json(histogram: &Histogram<u64>) -> Value {
    let mut object: serde_json::Map<_, _> = QUANTILES
        .iter()
        .map(|(name, at)| ((*name).to_owned(), histogram.value_at_quantile(*at).into()))
        .collect();
    object.insert("max".to_owned(), histogram.max().into());
    object.insert("count".to_owned(), histogram.len().into());
    object.into()
}

/// Every version of every window as it came: key, times, version, values as scaled integers, and
/// when it was received, in nanoseconds since the start.
pub fn write_windows(path: &Path, drive: &Drive) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut out = csv::Writer::from_path(path).with_context(cannot)?;
    let fixed = ["window_start", "window_end", "version"].map(str::to_owned);
    let names = drive.schema.columns.iter().map(|(name, _)| name.clone());
    let header = drive.schema.keys.iter().cloned().chain(fixed).chain(names);
    out.write_record(header.chain(["received_ns".to_owned()])).with_context(cannot)?;
    for (at, batch) in &drive.batches {
        let received = at.as_nanos().to_string();
        for window in &batch.windows {
            let row = &window.row;
            let fixed =
                [row.window_start.to_string(), row.window_end.to_string(), row.version.to_string()];
            let values = row.values.iter().map(|value| match value {
                Cell::Null => String::new(),
                Cell::Integer(value) => value.to_string(),
                Cell::Float(value) => value.to_string(),
            });
            let record = row.key.components().into_iter().chain(fixed).chain(values);
            out.write_record(record.chain([received.clone()])).with_context(cannot)?;
        }
    }
    out.flush().with_context(cannot)
}
