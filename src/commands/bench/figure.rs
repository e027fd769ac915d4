//! Figures: what was measured, on which input, with which result.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// One measured thing.
pub struct Figure {
    /// The input, in words: figures of one input must have one hash.
    pub input: String,
    /// What ran: an engine, perhaps a variant or a way.
    pub by: String,
    /// Rows of the input.
    pub rows: usize,
    /// Bytes of the columns that are read.
    pub bytes: u64,
    /// Every run.
    pub times: Vec<Duration>,
    /// The hash of the result; `None` where nothing is computed.
    pub hash: Option<String>,
    /// Of a GPU: the share of the bandwidth with which it copies.
    pub of_copy_bandwidth: Option<f64>,
}

impl Figure {
    /// Runs `work` some times after once unmeasured; it gives the hash of its result, outside of
    /// the time it reports, and must give the same each time.
    pub fn times(
        repeat: usize,
        mut work: impl FnMut() -> Result<(Duration, Option<String>)>,
    ) -> Result<(Vec<Duration>, Option<String>)> {
        let (_, hash) = work()?;
        let mut times = Vec::with_capacity(repeat);
        for _ in 0..repeat {
            let (time, again) = work()?;
            ensure!(again == hash, "the same work gave {hash:?} first and {again:?} later");
            times.push(time);
        }
        Ok((times, hash))
    }

    fn seconds(&self, at: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let place = ((times.len() - 1) as f64 * at).round() as usize;
        times[place].as_secs_f64().max(1e-9)
    }

    fn rows_per_s(&self) -> f64 {
        self.rows as f64 / self.seconds(0.5)
    }

    fn bytes_per_s(&self) -> f64 {
        self.bytes as f64 / self.seconds(0.5)
    }

    fn to_json(&self) -> Value {
        json!({
            "input": self.input,
            "by": self.by,
            "rows": self.rows,
            "bytes": self.bytes,
            "median_s": self.seconds(0.5),
            "min_s": self.seconds(0.0),
            "max_s": self.seconds(1.0),
            "p99_s": self.seconds(0.99),
            "rows_per_s": self.rows_per_s(),
            "bytes_per_s": self.bytes_per_s(),
            "of_copy_bandwidth": self.of_copy_bandwidth,
            "hash": self.hash,
        })
    }

    fn print(&self) {
        let hash = self.hash.as_deref().map_or("", |hash| &hash[..12]);
        let share = match self.of_copy_bandwidth {
            Some(share) => format!("  {:.0} % of the copy bandwidth", share * 100.0),
            None => String::new(),
        };
        println!(
            "  {:<31} {:>9.1} M rows/s {:>8.2} GB/s  {:>10} ({} .. {})  {hash}{share}",
            self.by,
            self.rows_per_s() / 1e6,
            self.bytes_per_s() / 1e9,
            shown(self.seconds(0.5)),
            shown(self.seconds(0.0)),
            shown(self.seconds(1.0)),
        );
    }
}

/// A time in the unit that suits it.
pub fn shown(seconds: f64) -> String {
    format!("{:.3?}", Duration::from_secs_f64(seconds))
}

/// How long something takes, and what it gives.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let result = work();
    (started.elapsed(), result)
}

/// All figures of a run.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds a figure and prints it, under its input where that is a new one.
    pub fn add(&mut self, figure: Figure) {
        if self.0.last().is_none_or(|last| last.input != figure.input) {
            println!("\n{}", figure.input);
        }
        figure.print();
        self.0.push(figure);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What to say of each input whose figures have different hashes.
    pub fn disagreeing(&self) -> Vec<String> {
        let mut first: BTreeMap<&str, &Figure> = BTreeMap::new();
        let mut texts = Vec::new();
        for figure in self.0.iter().filter(|figure| figure.hash.is_some()) {
            let known = *first.entry(&figure.input).or_insert(figure);
            if known.hash != figure.hash {
                texts.push(format!(
                    "{}: {} gave {}, {} gave {}",
                    figure.input,
                    known.by,
                    known.hash.as_deref().unwrap_or("nothing"),
                    figure.by,
                    figure.hash.as_deref().unwrap_or("nothing"),
                ));
            }
        }
        texts
    }

    pub fn to_json(&self) -> Value {
        self.0.iter().map(Figure::to_json).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hashes_of_one_input_are_named() {
        let figure = |by: &str, hash: &str| Figure {
            input: "ticks".to_owned(),
            by: by.to_owned(),
            rows: 1,
            bytes: 8,
            times: vec![Duration::from_millis(1)],
            hash: Some(hash.repeat(12)),
            of_copy_bandwidth: None,
        };
        let mut figures = Figures::default();
        figures.add(figure("cpu", "a"));
        figures.add(figure("gpu", "a"));
        assert!(figures.disagreeing().is_empty());
        figures.add(figure("other", "b"));
        let text = figures.disagreeing().join("\n");
        assert!(text.contains("cpu") && text.contains("other"), "{text}");
    }
}
