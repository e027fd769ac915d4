//! Which part of which scan runs next, beside live work: a state machine without threads, files
//! or clocks.
//!
//! The caller runs `slots` workers. It gives jobs with [`Lanes::submit`]; asks with
//! [`Lanes::poll`] for something to run until there is nothing, after each call that may have
//! changed that and at [`Lanes::poll_timeout`]; and ends each dispatch with exactly one
//! [`Lanes::handle_done`], before which it names the jobs whose part failed with
//! [`Lanes::handle_failed`]. [`Lanes::poll_event`] says what else came to pass. `now_ns` is a
//! monotonic time in nanoseconds; one that goes back counts as the latest one seen.

mod admission;
mod answers;
mod config;
pub mod cutting;
mod device;
mod dispatching;
mod job;
mod memory;
mod overload;
mod planted;
mod shares;
#[cfg(test)]
mod simulation;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::admission::Queue;
pub use self::answers::{Admission, Cancelled, Dispatch, Event, HeldFit, Refused, Verdict};
pub use self::config::LanesConfig;
pub use self::device::{DeviceAnswer, DeviceLane, DeviceRefused, DeviceStatus, Ticket};
use self::job::{Job, Phase, Serial};
pub use self::job::{JobId, JobSpec, PartCost, Priority};
use self::memory::Memory;
use self::overload::Overload;
pub use self::overload::{LiveLoad, OverloadConfig, Step, StepChange};
use self::planted::{Bug, Planted};
use self::shares::{Owners, divided, replaced};
pub use self::status::{Counters, JobState, JobStatus, LanesStatus, OwnerStatus};

/// A part in a dispatch.
#[derive(Clone, Copy, Debug)]
struct Flying {
    serial: Serial,
    job: JobId,
    part: u32,
    predicted_ns: u64,
    /// What it took by itself, where that is known.
    own_ns: Option<u64>,
    has_failed: bool,
}

/// A dispatch under way.
#[derive(Debug)]
struct Flight {
    parts: Vec<Flying>,
    host_bytes: u64,
}

impl Flight {
    /// What each part took of so much time of a worker: what it took by itself, and of the rest,
    /// the reading above all, as much as the others. Where nothing is known of any, as predicted.
    fn shares_ns(&self, busy_ns: u64) -> Vec<u64> {
        let predicted = || self.parts.iter().map(|flying| flying.predicted_ns).collect::<Vec<_>>();
        if self.parts.iter().all(|flying| flying.own_ns.is_none()) {
            return divided(busy_ns, &predicted());
        }
        let own: Vec<u64> = self.parts.iter().map(|flying| flying.own_ns.unwrap_or(0)).collect();
        let all_own = own.iter().fold(0, |sum: u64, own| sum.saturating_add(*own));
        let Some(rest_ns) = busy_ns.checked_sub(all_own) else { return divided(busy_ns, &own) };
        let rest = divided(rest_ns, &vec![1; own.len()]);
        own.into_iter().zip(rest).map(|(own, rest)| own + rest).collect()
    }
}

/// The lanes.
#[derive(Debug)]
pub struct Lanes {
    config: LanesConfig,
    now_ns: u64,
    next: u64,
    ids: BTreeMap<JobId, Serial>,
    jobs: BTreeMap<Serial, Job>,
    owners: Owners,
    queue: Queue,
    memory: Memory,
    /// Jobs with a running place.
    running: usize,
    /// Ready parts of running jobs that may share a read.
    sources: BTreeSet<(u64, Serial, u32)>,
    /// Parts that back off.
    returning: BTreeSet<(u64, Serial, u32)>,
    slots: Vec<Option<Flight>>,
    free: BTreeSet<usize>,
    overload: Overload,
    events: VecDeque<Event>,
    counters: Counters,
    planted: Planted,
}

impl Lanes {
    /// Lanes with nothing in them.
    pub fn new(config: LanesConfig) -> Self {
        let slots = config.slots.max(1);
        Self {
            now_ns: 0,
            next: 0,
            ids: BTreeMap::new(),
            jobs: BTreeMap::new(),
            owners: Owners::new(config.weights.clone(), config.credit_ns, config.ageing_ns),
            queue: Queue::default(),
            memory: Memory::new(config.host_bytes_max),
            running: 0,
            sources: BTreeSet::new(),
            returning: BTreeSet::new(),
            slots: (0..slots).map(|_| None).collect(),
            free: (0..slots).collect(),
            overload: Overload::new(config.overload),
            events: VecDeque::new(),
            counters: Counters::default(),
            planted: Planted::default(),
            config,
        }
    }

    /// Takes a job.
    ///
    /// # Errors
    /// The number is taken, the queue is full, or the job can never fit.
    pub fn submit(&mut self, now_ns: u64, id: JobId, spec: JobSpec) -> Result<Admission, Refused> {
        self.take(now_ns, id, spec, self.config.queue_max)
    }

    /// Takes a job that was taken before a restart: the queue is never too full for it. What was
    /// finished is named in the specification. To be called in the order of the submissions.
    ///
    /// # Errors
    /// The number is taken, or the job can never fit.
    pub fn resume(&mut self, now_ns: u64, id: JobId, spec: JobSpec) -> Result<Admission, Refused> {
        self.take(now_ns, id, spec, usize::MAX)
    }

    fn take(
        &mut self,
        now_ns: u64,
        id: JobId,
        spec: JobSpec,
        queue_max: usize,
    ) -> Result<Admission, Refused> {
        self.handle_time(now_ns);
        let refused = |this: &mut Self, why| {
            this.counters.jobs_refused += 1;
            Err(why)
        };
        if self.ids.contains_key(&id) {
            return refused(self, Refused::Known(id));
        }
        let serial = Serial(self.next);
        let owner = spec.owner.clone();
        let job = |key| Job::new(id, serial, key, spec, self.now_ns);
        let key = self.owners.enter(&owner);
        let job = job(key);
        let bytes = job.held_bytes.saturating_add(job.largest_part_bytes);
        if bytes > self.config.host_bytes_max {
            self.owners.leave(key);
            let max = self.config.host_bytes_max;
            return refused(self, Refused::TooLarge { bytes, max });
        }
        self.next += 1;
        self.queue.push(key, self.rank_ns(&job), serial);
        self.owners.get_mut(key).queued += 1;
        self.jobs.insert(serial, job);
        self.ids.insert(id, serial);
        self.admit(Some(serial));
        if self.jobs[&serial].phase == Phase::Queued && self.queue.len() > queue_max {
            self.end(serial);
            return refused(self, Refused::QueueFull { max: queue_max });
        }
        Ok(self.admission(serial))
    }

    /// A finished job goes on: for one whose parts are known only when it has begun. The
    /// specification replaces what the job consists of and what it holds; its owner, its priority
    /// and what it has had stay. It keeps its running place if it fits; else it is queued where it
    /// was when it came.
    ///
    /// # Errors
    /// It is not there or not finished; or it can never fit, and then it stays finished.
    pub fn extend(&mut self, now_ns: u64, id: JobId, spec: JobSpec) -> Result<Admission, Refused> {
        self.handle_time(now_ns);
        let serial = self.ids.get(&id).copied().filter(|serial| self.is_finished(*serial));
        let serial = serial.ok_or(Refused::NotFinished(id))?;
        let before = &self.jobs[&serial];
        let mut job = Job::new(id, serial, before.owner, spec, self.now_ns);
        job.follow(before);
        let (owner, rank_ns, before_held) = (job.owner, self.rank_ns(&job), before.held_bytes);
        let (held, largest) = (job.held_bytes, job.largest_part_bytes);
        let bytes = held.saturating_add(largest);
        let max = self.config.host_bytes_max;
        if bytes > max {
            return Err(Refused::TooLarge { bytes, max });
        }
        self.memory.end_parts(serial, before.largest_part_bytes);
        self.memory.held -= u128::from(before_held);
        self.running -= 1;
        self.owners.get_mut(owner).running -= 1;
        self.jobs.insert(serial, job);
        if self.memory.admits(held, largest, self.slots.len()) {
            self.begin(serial);
        } else {
            self.queue.push(owner, rank_ns, serial);
            self.owners.get_mut(owner).queued += 1;
        }
        self.admit(Some(serial));
        Ok(self.admission(serial))
    }

    fn admission(&self, serial: Serial) -> Admission {
        match self.jobs[&serial].phase {
            Phase::Queued => Admission::Queued { position: self.position_of(serial) },
            _ => Admission::Running,
        }
    }

    /// How many jobs come before a queued one; `None` for jobs that run or are not there.
    pub fn position(&self, id: JobId) -> Option<usize> {
        let serial = *self.ids.get(&id)?;
        (self.jobs[&serial].phase == Phase::Queued).then(|| self.position_of(serial))
    }

    /// The next thing to run. `None`: nothing until something changes, at the latest at
    /// [`Lanes::poll_timeout`].
    pub fn poll(&mut self, now_ns: u64) -> Option<Dispatch> {
        self.handle_time(now_ns);
        if self.overload.step() != Step::Normal {
            return None;
        }
        let slot = *self.free.first()?;
        let serial = self.choose()?;
        Some(self.start(slot, serial))
    }

    /// When to call [`Lanes::poll`] even if nothing happens; `None`: not at all.
    pub fn poll_timeout(&self) -> Option<u64> {
        let returning_ns = self.returning.first().map(|(at_ns, ..)| *at_ns);
        let timeouts = [returning_ns, self.overload.timeout()];
        timeouts.into_iter().flatten().min()
    }

    /// What came to pass, the earliest first. To be emptied after each call: it is not bounded.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What the part of a job in a dispatch took by itself, of its worker's time; the dispatch is
    /// yet to end.
    pub fn handle_own(&mut self, slot: usize, id: JobId, ns: u64) {
        let flight = self.slots.get_mut(slot).and_then(Option::as_mut);
        if let Some(flying) = flight.and_then(|f| f.parts.iter_mut().find(|p| p.job == id)) {
            flying.own_ns = Some(ns);
        }
    }

    /// A dispatch has ended, after `busy_ns` of its worker. Returns the parts whose result counts:
    /// not those that failed, nor those of jobs that have ended meanwhile.
    pub fn handle_done(&mut self, now_ns: u64, slot: usize, busy_ns: u64) -> Vec<(JobId, u32)> {
        self.handle_time(now_ns);
        let Some(flight) = self.slots.get_mut(slot).and_then(Option::take) else {
            return Vec::new();
        };
        self.free.insert(slot);
        let has_failed = flight.parts.iter().any(|flying| flying.has_failed);
        if !(has_failed && self.planted.has(Bug::BytesOfFailuresKept)) {
            self.memory.reading -= flight.host_bytes;
        }
        let shares_ns = flight.shares_ns(busy_ns);
        self.counters.busy_ns = self.counters.busy_ns.saturating_add(busy_ns);
        let now_ns = self.now_ns;
        let counts_ended = self.planted.has(Bug::CountedAfterCancel);
        let mut counted = Vec::new();
        let mut has_freed = false;
        for (place, flying) in flight.parts.iter().enumerate() {
            let Flying { serial, job: id, part, predicted_ns, has_failed, .. } = *flying;
            let is_right = !(self.planted.has(Bug::Uncorrected)
                || place > 0 && self.planted.has(Bug::RidesFree));
            if is_right {
                self.owners.correct(self.jobs[&serial].owner, predicted_ns, shares_ns[place]);
            }
            let (counts, is_done, is_over) = self.change(serial, |job| {
                job.flights -= 1;
                if is_right {
                    job.attained_ns = replaced(job.attained_ns, predicted_ns, shares_ns[place]);
                }
                let counts = job.phase == Phase::Running && !has_failed;
                if counts {
                    job.finish(now_ns, part);
                }
                let is_over = job.phase == Phase::Ended && job.flights == 0;
                (counts, counts && job.is_done(), is_over)
            });
            if counts || counts_ended {
                counted.push((id, part));
                self.counters.parts_done += 1;
            }
            if is_done {
                self.finish(serial);
            }
            if is_over {
                self.forget(serial);
                has_freed = true;
            }
        }
        if has_freed {
            self.admit(None);
        }
        counted
    }

    /// The part of a job in a dispatch has failed; the dispatch is yet to end.
    pub fn handle_failed(
        &mut self,
        now_ns: u64,
        slot: usize,
        id: JobId,
        retryable: bool,
    ) -> Verdict {
        self.handle_time(now_ns);
        let flight = self.slots.get_mut(slot).and_then(Option::as_mut);
        let flying = flight.and_then(|f| f.parts.iter_mut().find(|p| p.job == id));
        let Some(flying) = flying else { return Verdict::Ignored };
        let Flying { serial, part, .. } = *flying;
        if flying.has_failed || self.jobs[&serial].phase == Phase::Ended {
            return Verdict::Ignored;
        }
        flying.has_failed = true;
        let attempts = self.change(serial, |job| job.fail(part));
        if !retryable || attempts >= self.config.attempts_max {
            self.counters.jobs_failed += 1;
            let interrupt = self.end(serial);
            self.admit(None);
            return Verdict::JobFailed { interrupt };
        }
        let at_ns = self.now_ns.saturating_add(self.config.backoff_ns(attempts));
        self.change(serial, |job| job.backing_off.insert(part, at_ns));
        if !self.planted.has(Bug::RetryLost) {
            self.returning.insert((at_ns, serial, part));
        }
        self.counters.retries += 1;
        Verdict::Retry { at_ns }
    }

    /// Ends a job, also one that is done and not released; `None` if there is none.
    pub fn cancel(&mut self, now_ns: u64, id: JobId) -> Option<Cancelled> {
        self.handle_time(now_ns);
        let serial = *self.ids.get(&id)?;
        self.counters.jobs_cancelled += 1;
        let interrupt = self.end(serial);
        self.admit(None);
        Some(Cancelled { interrupt })
    }

    /// A finished job has given back what it held. Says whether there was one.
    pub fn release(&mut self, now_ns: u64, id: JobId) -> bool {
        self.handle_time(now_ns);
        let Some(&serial) = self.ids.get(&id) else { return false };
        let is_finished = self.is_finished(serial);
        if is_finished {
            self.end(serial);
            self.admit(None);
        }
        is_finished
    }

    /// What a job really holds, reads apart. What was asked for stays reserved if it is more.
    /// `None` if there is no such job running.
    pub fn handle_held_bytes(&mut self, now_ns: u64, id: JobId, bytes: u64) -> Option<HeldFit> {
        self.handle_time(now_ns);
        let job = self.jobs.get_mut(self.ids.get(&id)?)?;
        if job.phase != Phase::Running {
            return None;
        }
        let before = std::mem::replace(&mut job.held_bytes, bytes.max(job.asked_bytes));
        let held = job.held_bytes;
        let is_alone_too_large =
            held.saturating_add(job.largest_part_bytes) > self.config.host_bytes_max;
        self.memory.held = self.memory.held - u128::from(before) + u128::from(held);
        if held < before {
            self.admit(None);
        }
        Some(match self.memory.fits_any_part() {
            _ if is_alone_too_large => HeldFit::Never,
            true => HeldFit::Within,
            false => HeldFit::Over,
        })
    }

    /// How the live lane fares. To be called steadily: what it says holds for a limited time.
    pub fn handle_live(&mut self, now_ns: u64, load: LiveLoad) -> Option<StepChange> {
        self.now_ns = self.now_ns.max(now_ns);
        let change = self.overload.handle_load(self.now_ns, load);
        self.note_step(change)
    }

    /// What is done for the live lane.
    pub fn step(&self) -> Step {
        self.overload.step()
    }

    /// The jobs that have a part in a slot, those that have ended left out.
    pub fn jobs_in(&self, slot: usize) -> Vec<JobId> {
        let flight = self.slots.get(slot).and_then(Option::as_ref);
        let parts = flight.map_or(&[][..], |flight| &flight.parts);
        let alive = parts.iter().filter(|p| self.jobs[&p.serial].phase == Phase::Running);
        alive.map(|flying| flying.job).collect()
    }

    /// Of queued jobs of an owner, the least is first.
    fn rank_ns(&self, job: &Job) -> u64 {
        let waited_for_ns = self.config.ageing_ns.saturating_mul(job.priority.below_max().into());
        job.submitted_ns.saturating_add(waited_for_ns)
    }

    fn position_of(&self, serial: Serial) -> usize {
        let job = &self.jobs[&serial];
        self.queue.position(job.owner, self.rank_ns(job), serial)
    }

    fn is_finished(&self, serial: Serial) -> bool {
        let job = &self.jobs[&serial];
        job.phase == Phase::Running && job.is_done()
    }

    fn note_step(&mut self, change: Option<StepChange>) -> Option<StepChange> {
        self.events.extend(change.map(Event::Step));
        self.counters.steps += u64::from(change.is_some());
        change
    }

    /// What is due by itself.
    fn handle_time(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        let change = self.overload.handle_time(self.now_ns);
        self.note_step(change);
        while let Some(&(at_ns, serial, part)) = self.returning.first()
            && at_ns <= self.now_ns
        {
            self.returning.pop_first();
            let now_ns = self.now_ns;
            self.change(serial, |job| job.return_part(now_ns, part));
        }
    }

    /// Changes a job, and its place among the others with it.
    fn change<T>(&mut self, serial: Serial, change: impl FnOnce(&mut Job) -> T) -> T {
        let job = self.jobs.get_mut(&serial).expect("jobs are kept while something names them");
        let before = job.place();
        let outcome = change(job);
        let after = job.place();
        if before != after {
            self.owners.replace(job.owner, before, after);
        }
        outcome
    }

    /// All parts of a running job are done.
    fn finish(&mut self, serial: Serial) {
        let job = &self.jobs[&serial];
        self.events.push_back(Event::Finished(job.id));
        self.counters.jobs_done += 1;
    }

    /// Nothing of a job runs from now on. The slots where something of it still does.
    fn end(&mut self, serial: Serial) -> Vec<usize> {
        let job = &self.jobs[&serial];
        let rank_ns = self.rank_ns(job);
        self.ids.remove(&job.id);
        match job.phase {
            Phase::Queued => {
                self.queue.remove(job.owner, rank_ns, serial);
                self.owners.get_mut(job.owner).queued -= 1;
            }
            Phase::Running => {
                self.running -= 1;
                self.owners.get_mut(job.owner).running -= 1;
                self.memory.end_parts(serial, job.largest_part_bytes);
                for (source, part) in job.ready_parts() {
                    self.sources.remove(&(source, serial, part));
                }
                for (part, at_ns) in &job.backing_off {
                    self.returning.remove(&(*at_ns, serial, *part));
                }
            }
            Phase::Ended => {}
        }
        let was_queued = job.phase == Phase::Queued;
        let flights = self.change(serial, |job| {
            job.end();
            job.flights
        });
        let of_job =
            |flight: &Flight| flight.parts.iter().any(|p| p.serial == serial && !p.has_failed);
        let flights_of =
            self.slots.iter().enumerate().filter(|(_, f)| f.as_ref().is_some_and(of_job));
        let interrupt = flights_of.map(|(slot, _)| slot).collect();
        if was_queued {
            self.change(serial, |job| job.held_bytes = 0);
        }
        if flights == 0 {
            self.forget(serial);
        }
        interrupt
    }

    /// Nothing of a job is under way any more.
    fn forget(&mut self, serial: Serial) {
        let Some(job) = self.jobs.remove(&serial) else { return };
        self.memory.held -= u128::from(job.held_bytes);
        self.owners.leave(job.owner);
    }
}
