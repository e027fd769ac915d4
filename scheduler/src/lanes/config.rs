//! What the lanes may use, and how they share it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::overload::OverloadConfig;

/// What the lanes may use, and how they share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanesConfig {
    /// Workers of the batch lane, at least one.
    pub slots: usize,
    /// Host bytes that jobs and the reads under way may take together.
    pub host_bytes_max: u64,
    /// Jobs that run at a time, at least one. A quarter of them, rounded down, is kept for owners
    /// that have no job running.
    pub jobs_running_max: usize,
    /// Jobs that wait for their turn; further ones are refused.
    pub queue_max: usize,
    /// How often a part is tried, at least once.
    pub attempts_max: u32,
    /// Wait after the first failure of a part; it doubles with each further one.
    pub backoff_ns: u64,
    /// The longest wait after a failure.
    pub backoff_ns_max: u64,
    /// Worker time that an owner who was idle may be ahead of the others. From slots × the longest
    /// dispatch on, a scan of an idle owner beside one busy owner takes at most twice its time
    /// alone.
    pub credit_ns: u64,
    /// A job that has waited for so long gets one in four turns of its owner, whatever its
    /// priority; a queued job gains one level of priority for each such time.
    pub ageing_ns: u64,
    /// Jobs that share one read, the one whose turn it is included; below 2, none do.
    pub shared_max: usize,
    /// Jobs share a read only as long as all of it is predicted to take so long at most: whoever
    /// comes waits for a dispatch to end, and what long ones save by sharing is little.
    pub dispatch_ns_max: u64,
    /// How often others may go before one that does not fit into memory, queued or running.
    pub passes_max: u32,
    /// Weights of owners; 1 for all others, and for 0.
    pub weights: BTreeMap<Arc<str>, u32>,
    /// When live work takes from the batch lane, and gives back.
    pub overload: OverloadConfig,
}

impl Default for LanesConfig {
    fn default() -> Self {
        Self {
            slots: 1,
            host_bytes_max: 1 << 30,
            jobs_running_max: 16,
            queue_max: 4_096,
            attempts_max: 4,
            backoff_ns: 100_000_000,
            backoff_ns_max: 10_000_000_000,
            credit_ns: 1_000_000_000,
            ageing_ns: 5_000_000_000,
            shared_max: 8,
            dispatch_ns_max: 10_000_000,
            passes_max: 64,
            weights: BTreeMap::new(),
            overload: OverloadConfig::default(),
        }
    }
}

impl LanesConfig {
    /// How long to wait after a part has failed for the `attempts`-th time.
    pub(super) fn backoff_ns(&self, attempts: u32) -> u64 {
        let factor = 1_u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(u64::MAX);
        self.backoff_ns.saturating_mul(factor).min(self.backoff_ns_max)
    }

    /// Running places that an owner with a job running may not take.
    pub(super) fn places_kept(&self) -> usize {
        self.jobs_running_max / 4
    }
}
