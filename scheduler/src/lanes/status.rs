//! The lanes as plain data, for whoever watches.

use std::sync::Arc;

use super::job::{Job, JobId, Phase, Priority, Serial};
use super::overload::Step;
use super::{Flight, Lanes};

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Dispatches started.
    pub dispatches: u64,
    /// Parts that came along with another job's, without a read of their own.
    pub parts_shared: u64,
    /// Parts whose result counted.
    pub parts_done: u64,
    /// Parts that failed and are run again.
    pub retries: u64,
    /// Worker time of dispatches that have ended.
    pub busy_ns: u64,
    /// The same, with what is predicted of those under way, as it was charged to owners.
    pub charged_ns: u64,
    /// Jobs of which all parts were done.
    pub jobs_done: u64,
    /// Jobs that failed.
    pub jobs_failed: u64,
    /// Jobs that were cancelled.
    pub jobs_cancelled: u64,
    /// Submissions that were refused.
    pub jobs_refused: u64,
    /// Dispatches that did not fit and started because nothing else could end.
    pub over_budget: u64,
    /// Steps for the live lane, up and down.
    pub steps: u64,
}

/// An owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerStatus {
    /// Its name.
    pub owner: Arc<str>,
    /// Worker time that it was charged since it is known: owners without jobs are forgotten once
    /// the others have caught up.
    pub attained_ns: u64,
    /// Of what all known owners were charged, parts per thousand.
    pub share_permille: u64,
    /// Its jobs that run.
    pub running: usize,
    /// Its jobs that wait.
    pub queued: usize,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits for memory or a running place.
    Queued {
        /// Jobs before it.
        position: usize,
    },
    /// Its parts run.
    Running,
    /// All parts are done; it has not been released.
    Finished,
    /// It was cancelled or has failed, and something of it is under way.
    Ending,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStatus {
    /// The job.
    pub job: JobId,
    /// Its owner.
    pub owner: Arc<str>,
    /// Beside other jobs of the owner.
    pub priority: Priority,
    /// Where it stands.
    pub state: JobState,
    /// Parts it has; 0 once it ends.
    pub parts: usize,
    /// Parts that are done, those of before it was submitted included.
    pub parts_done: u32,
    /// Parts under way.
    pub parts_running: u32,
    /// Parts that wait to be run again after a failure.
    pub parts_backing_off: usize,
    /// Worker time that it was charged.
    pub attained_ns: u64,
    /// Worker time that what is left is predicted to take.
    pub remaining_ns: u64,
    /// What it holds, or may.
    pub held_bytes: u64,
}

/// The lanes at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanesStatus {
    /// What is done for the live lane.
    pub step: Step,
    /// Workers.
    pub slots: usize,
    /// Of these, the busy ones.
    pub slots_busy: usize,
    /// Host bytes there are.
    pub host_bytes_max: u64,
    /// What jobs hold, or may.
    pub held_bytes: u64,
    /// What reads under way take.
    pub reading_bytes: u64,
    /// Jobs that have a running place.
    pub running: usize,
    /// Jobs that wait.
    pub queued: usize,
    /// By name.
    pub owners: Vec<OwnerStatus>,
    /// In the order of their submission.
    pub jobs: Vec<JobStatus>,
    /// Since the start.
    pub counters: Counters,
}

impl Lanes {
    /// The lanes at this moment. Takes time with the number of jobs.
    pub fn status(&self) -> LanesStatus {
        let attained_ns = self.owners.iter().map(|owner| u128::from(owner.attained_ns));
        let all_ns = attained_ns.sum::<u128>().max(1);
        let owners = self.owners.iter().map(|owner| OwnerStatus {
            owner: owner.name.clone(),
            attained_ns: owner.attained_ns,
            // At most 1,000.
            share_permille: (u128::from(owner.attained_ns) * 1_000 / all_ns) as u64,
            running: owner.running,
            queued: owner.queued,
        });
        LanesStatus {
            step: self.overload.step(),
            slots: self.slots.len(),
            slots_busy: self.slots.len() - self.free.len(),
            host_bytes_max: self.memory.max,
            held_bytes: u64::try_from(self.memory.held).unwrap_or(u64::MAX),
            reading_bytes: self.memory.reading,
            running: self.running,
            queued: self.queue.len(),
            owners: owners.collect(),
            jobs: self.jobs.values().map(|job| self.status_of(job)).collect(),
            counters: Counters { charged_ns: self.owners.charged_ns, ..self.counters },
        }
    }

    /// One job; `None` once it has ended.
    pub fn job_status(&self, id: JobId) -> Option<JobStatus> {
        self.ids.get(&id).map(|serial| self.status_of(&self.jobs[serial]))
    }

    fn status_of(&self, job: &Job) -> JobStatus {
        JobStatus {
            job: job.id,
            owner: self.owners.get(job.owner).name.clone(),
            priority: job.priority,
            state: match job.phase {
                Phase::Queued => JobState::Queued { position: self.position_of(job.serial) },
                Phase::Running if job.is_done() => JobState::Finished,
                Phase::Running => JobState::Running,
                Phase::Ended => JobState::Ending,
            },
            parts: job.parts.len(),
            parts_done: job.done,
            parts_running: self.parts_running(job.serial),
            parts_backing_off: job.backing_off.len(),
            attained_ns: job.attained_ns,
            remaining_ns: job.remaining_ns,
            held_bytes: job.held_bytes,
        }
    }

    fn parts_running(&self, serial: Serial) -> u32 {
        let runs = |flight: &&Flight| {
            flight.parts.iter().any(|flying| flying.serial == serial && !flying.has_failed)
        };
        self.slots.iter().flatten().filter(runs).count() as u32
    }
}
