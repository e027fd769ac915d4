//! Which core each ingest thread runs on.

use std::fmt;

/// The cores of the ingest threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorePlan {
    /// Per thread the core it is pinned to; `None` leaves it to the operating system.
    pub cores: Vec<Option<usize>>,
    /// Fewer threads than asked for, or no cores to be had.
    pub notice: Option<String>,
}

impl CorePlan {
    /// Plans `threads` threads, at least one, on the machine's cores: the last ones first, for
    /// the operating system and most other programs begin with the first.
    pub fn of_this_machine(threads: usize, pin: bool) -> Self {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        Self::plan(threads, pin, cores.into_iter().map(|core| core.id).collect())
    }

    fn plan(threads: usize, pin: bool, mut available: Vec<usize>) -> Self {
        let threads = threads.clamp(1, super::ids::THREADS_MAX);
        if !pin {
            return Self { cores: vec![None; threads], notice: None };
        }
        if available.is_empty() {
            let notice = "this system does not say which cores it has: ingest threads are not \
                          pinned";
            return Self { cores: vec![None; threads], notice: Some(notice.into()) };
        }
        available.sort_unstable_by(|a, b| b.cmp(a));
        let notice = (threads > available.len()).then(|| {
            format!(
                "{threads} ingest threads were asked for, this process may use {} cores: {} \
                 threads, one per core",
                available.len(),
                available.len()
            )
        });
        available.truncate(threads);
        Self { cores: available.into_iter().map(Some).collect(), notice }
    }
}

impl fmt::Display for CorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = self.cores.len();
        write!(f, "{threads} ingest thread{}", if threads == 1 { "" } else { "s" })?;
        let pinned: Vec<_> = self.cores.iter().flatten().map(ToString::to_string).collect();
        match pinned.len() {
            0 => f.write_str(", not pinned"),
            1 => write!(f, " on core {}", pinned[0]),
            _ => write!(f, " on cores {}", pinned.join(", ")),
        }
    }
}

/// Pins the calling thread. False when the system does not allow it.
pub(super) fn pin(core: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: core })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_get_cores_of_their_own_or_a_notice() {
        let plan = CorePlan::plan(2, true, vec![0, 1, 2, 3]);
        assert_eq!((plan.cores.as_slice(), &plan.notice), (&[Some(3), Some(2)][..], &None));
        assert_eq!(plan.to_string(), "2 ingest threads on cores 3, 2");
        let plan = CorePlan::plan(3, true, vec![0, 1]);
        assert_eq!(plan.cores, [Some(1), Some(0)]);
        assert!(plan.notice.unwrap().contains("may use 2 cores"));
        let plan = CorePlan::plan(0, false, vec![0]);
        assert_eq!((plan.to_string().as_str(), plan.notice), ("1 ingest thread, not pinned", None));
        assert!(CorePlan::plan(1, true, vec![]).notice.is_some());
    }
}
