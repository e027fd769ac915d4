//! Bugs that the simulation must find; outside of tests there are none.

/// A bug to be found.
#[cfg_attr(not(test), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A part that ends after its job was cancelled counts.
    CountedAfterCancel,
    /// What a failed read took is not given back.
    BytesOfFailuresKept,
    /// A part that failed is not run again.
    RetryLost,
    /// A part that came along with another job's is not taken from those that are ready.
    SharedAndReady,
    /// The device goes to batch work while live work waits.
    BatchBeforeLive,
    /// What was predicted is charged, whatever it took.
    Uncorrected,
    /// What an owner missed because it did not fit is owed to it without a limit.
    OwedWithoutLimit,
    /// Who comes along with another job's part is charged nothing.
    RidesFree,
    /// Parts start whatever the jobs hold.
    HeldIgnored,
}

/// The bug that is planted, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planted {
    #[cfg(test)]
    pub(crate) bug: Option<Bug>,
}

impl Planted {
    #[cfg(test)]
    pub(crate) fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(test))]
    #[inline(always)]
    pub(crate) fn has(self, _: Bug) -> bool {
        false
    }
}
