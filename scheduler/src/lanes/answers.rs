//! What the lanes say to whoever runs the parts.

use super::job::JobId;
use super::overload::StepChange;

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Its parts run when it is their turn.
    Running,
    /// It waits for memory or a running place; [`Event::Admitted`] comes when it has them.
    Queued {
        /// Jobs before it.
        position: usize,
    },
}

/// Why a job was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The number is taken by a job that has not ended.
    #[error("job {} is there already", .0.0)]
    Known(JobId),
    /// Only a job of which all parts are done can be extended.
    #[error("job {} is not finished", .0.0)]
    NotFinished(JobId),
    /// Too many wait.
    #[error("{max} jobs wait already: submit it again when some of them have run")]
    QueueFull {
        /// What the configuration allows.
        max: usize,
    },
    /// It would not fit with nothing beside it.
    #[error(
        "it takes {bytes} bytes, what it holds and its largest part together, of {max} there \
         are: give the service more memory, or the scan less to hold"
    )]
    TooLarge {
        /// What it holds and its largest part.
        bytes: u64,
        /// What there is.
        max: u64,
    },
}

/// Something to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// The worker.
    pub slot: usize,
    /// The parts, all of one source and each of another job. It is the first job's turn; each
    /// owner is charged for its own.
    pub parts: Vec<(JobId, u32)>,
    /// What they are predicted to take together, each with a read of its own.
    pub predicted_ns: u64,
}

/// What a failure leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The part is run again.
    Retry {
        /// Not before then.
        at_ns: u64,
    },
    /// The job has ended. What it held counts until the slots are free.
    JobFailed {
        /// Slots where a part of it is under way; the one of the failure is not among them.
        interrupt: Vec<usize>,
    },
    /// The job has ended before, or no part of it is in that slot.
    Ignored,
}

/// A job that was cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// Slots where a part of it is under way. Other jobs may share the dispatch: see
    /// [`Lanes::jobs_in`](super::Lanes::jobs_in).
    pub interrupt: Vec<usize>,
}

/// What came to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A job has left the queue.
    Admitted(JobId),
    /// All parts of a job are done. It keeps its memory and its place until
    /// [`Lanes::release`](super::Lanes::release) or [`Lanes::extend`](super::Lanes::extend).
    Finished(JobId),
    /// A step was taken for the live lane.
    Step(StepChange),
}

/// Whether what a job holds fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldFit {
    /// It does.
    Within,
    /// With what the others hold, some part would not fit any more: it waits until it does. Where
    /// nothing could start and nothing is under way, the job with the least left to do goes on,
    /// one part at a time.
    Over,
    /// It does not even alone: the job should be ended.
    Never,
}
