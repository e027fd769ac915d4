//! How long each stage of a frame's way takes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// A stage of the way from the network to the subscriber, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// From a frame's first bytes to its last.
    Receive,
    /// From bytes to columns.
    Decode,
    /// Until there was room for it on the way to the service.
    Batch,
    /// Until the sequencing thread took it.
    Queue,
    /// Until it was in the log, handed to the operating system.
    Log,
    /// Until the views' windows held it.
    Kernel,
    /// From a window's publication to the subscriber's connection.
    Publish,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Receive,
        Self::Decode,
        Self::Batch,
        Self::Queue,
        Self::Log,
        Self::Kernel,
        Self::Publish,
    ];

    /// The stage's name in status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Decode => "decode",
            Self::Batch => "batch",
            Self::Queue => "queue",
            Self::Log => "log",
            Self::Kernel => "kernel",
            Self::Publish => "publish",
        }
    }
}

/// One histogram per stage: nanoseconds, three significant digits, up to a minute.
#[derive(Debug)]
pub struct Stages([Mutex<Histogram<u64>>; Stage::ALL.len()]);

/// What a stage took, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageTimes {
    /// How often it was measured: once per frame, or batch of windows.
    pub count: u64,
    /// The median.
    pub p50_ns: u64,
    /// One in a hundred takes longer.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

const LONGEST_NS: u64 = 60_000_000_000;

impl Default for Stages {
    fn default() -> Self {
        Self(std::array::from_fn(|_| {
            let histogram = Histogram::new_with_max(LONGEST_NS, 3);
            Mutex::new(histogram.expect("bounds and digits are valid"))
        }))
    }
}

impl Stages {
    /// Takes a measurement; what is longer than a minute counts as one.
    pub fn record(&self, stage: Stage, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(LONGEST_NS);
        self.at(stage).saturating_record(took_ns);
    }

    /// What the stage took so far.
    pub fn times(&self, stage: Stage) -> StageTimes {
        let histogram = self.at(stage);
        StageTimes {
            count: histogram.len(),
            p50_ns: histogram.value_at_quantile(0.5),
            p99_ns: histogram.value_at_quantile(0.99),
            max_ns: histogram.max(),
        }
    }

    fn at(&self, stage: Stage) -> MutexGuard<'_, Histogram<u64>> {
        self.0[stage as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_has_its_own_times() {
        let stages = Stages::default();
        for micros in 1..=100 {
            stages.record(Stage::Log, Duration::from_micros(micros));
        }
        stages.record(Stage::Publish, Duration::from_secs(3_600));
        let times = stages.times(Stage::Log);
        assert_eq!(times.count, 100);
        assert!((49_900..=50_100).contains(&times.p50_ns), "{times:?}");
        assert!((99_900..=100_100).contains(&times.max_ns), "{times:?}");
        assert!(stages.times(Stage::Publish).max_ns >= 60_000_000_000);
        assert_eq!(stages.times(Stage::Decode).count, 0);
    }
}
