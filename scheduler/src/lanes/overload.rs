//! When live work takes from the batch lane: in a stated order, up one step at a time, and down
//! one step at a time once it has been calm for long enough.

/// What is done for the live lane. Each step keeps what the one before it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nothing: both lanes run.
    #[default]
    Normal,
    /// No part of a scan starts; what is under way ends.
    BatchPaused,
    /// Live micro-batches may be larger, for throughput at the cost of latency.
    LargerBatches,
    /// Publishers are held back.
    Backpressure,
}

impl Step {
    fn up(self) -> Self {
        match self {
            Self::Normal => Self::BatchPaused,
            Self::BatchPaused => Self::LargerBatches,
            Self::LargerBatches | Self::Backpressure => Self::Backpressure,
        }
    }

    fn down(self) -> Self {
        match self {
            Self::Normal | Self::BatchPaused => Self::Normal,
            Self::LargerBatches => Self::BatchPaused,
            Self::Backpressure => Self::LargerBatches,
        }
    }
}

/// A step taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepChange {
    /// The step before.
    pub from: Step,
    /// The step now.
    pub to: Step,
}

/// How the live lane fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveLoad {
    /// How far live work is behind, nanoseconds.
    pub lag_ns: u64,
    /// How full its queues are, parts per thousand.
    pub queue_permille: u16,
}

/// Between what loads, and how fast, the steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverloadConfig {
    /// From either of these on, a step up.
    pub high: LiveLoad,
    /// At both of these or below, it is calm.
    pub low: LiveLoad,
    /// How long a step is given to have an effect before the next one up.
    pub up_after_ns: u64,
    /// How long it must have been calm before each step down.
    pub down_after_ns: u64,
    /// A load holds for so long; whoever says nothing after that counts as calm.
    pub report_ns_max: u64,
}

impl Default for OverloadConfig {
    fn default() -> Self {
        Self {
            high: LiveLoad { lag_ns: 5_000_000, queue_permille: 500 },
            low: LiveLoad { lag_ns: 1_000_000, queue_permille: 100 },
            up_after_ns: 50_000_000,
            down_after_ns: 250_000_000,
            report_ns_max: 1_000_000_000,
        }
    }
}

#[derive(Debug)]
pub(super) struct Overload {
    config: OverloadConfig,
    step: Step,
    changed_ns: u64,
    reported_ns: u64,
    calm_since_ns: Option<u64>,
}

impl Overload {
    pub(super) fn new(config: OverloadConfig) -> Self {
        Self { config, step: Step::Normal, changed_ns: 0, reported_ns: 0, calm_since_ns: Some(0) }
    }

    pub(super) fn step(&self) -> Step {
        self.step
    }

    pub(super) fn handle_load(&mut self, now_ns: u64, load: LiveLoad) -> Option<StepChange> {
        let OverloadConfig { high, low, up_after_ns, .. } = self.config;
        self.reported_ns = now_ns;
        if load.lag_ns >= high.lag_ns || load.queue_permille >= high.queue_permille {
            self.calm_since_ns = None;
            let is_due = now_ns >= self.changed_ns.saturating_add(up_after_ns);
            return match self.step == Step::Normal || is_due {
                true => self.change(now_ns, self.step.up()),
                false => None,
            };
        }
        if load.lag_ns > low.lag_ns || load.queue_permille > low.queue_permille {
            self.calm_since_ns = None;
            return None;
        }
        self.calm_since_ns.get_or_insert(now_ns);
        self.handle_time(now_ns)
    }

    /// Takes the step down that is due.
    pub(super) fn handle_time(&mut self, now_ns: u64) -> Option<StepChange> {
        if self.timeout()? > now_ns {
            return None;
        }
        self.calm_since_ns = Some(now_ns);
        self.change(now_ns, self.step.down())
    }

    /// When the next step down is due, if nothing is said until then.
    pub(super) fn timeout(&self) -> Option<u64> {
        if self.step == Step::Normal {
            return None;
        }
        let expired_ns = self.reported_ns.saturating_add(self.config.report_ns_max);
        let calm_since_ns = self.calm_since_ns.unwrap_or(expired_ns);
        Some(calm_since_ns.saturating_add(self.config.down_after_ns))
    }

    fn change(&mut self, now_ns: u64, to: Step) -> Option<StepChange> {
        let from = std::mem::replace(&mut self.step, to);
        (from != to).then(|| {
            self.changed_ns = now_ns;
            StepChange { from, to }
        })
    }
}
