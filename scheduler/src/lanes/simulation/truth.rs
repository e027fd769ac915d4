//! What must hold, kept beside the lanes by somebody who schedules nothing.

mod checks;

use std::collections::{BTreeMap, BTreeSet};

use super::world::World;
use crate::lanes::{
    Dispatch, HeldFit, JobId, JobSpec, LanesConfig, LiveLoad, PartCost, Step, StepChange, Verdict,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Queued,
    Running,
    Finished,
    /// Cancelled or failed, with something under way.
    Ended,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct TruePart {
    is_flying: bool,
    /// How often its result counted, or was there before.
    counted: u32,
    failures: u32,
    backs_off: bool,
}

#[derive(Debug)]
pub(super) struct TrueJob {
    pub id: JobId,
    pub spec: JobSpec,
    pub phase: Phase,
    /// The closing one, if any, is the last.
    costs: Vec<PartCost>,
    parts: Vec<TruePart>,
    ready: usize,
    held: u64,
    flights: usize,
    /// What was done for it, what is under way as predicted.
    received_ns: u64,
    /// Dispatches of which it is not known to the nanosecond.
    about: u64,
    /// In the queue, at the last check.
    position: Option<usize>,
    passes: u32,
    waiting_since_ns: u64,
    was_tight: bool,
}

/// A dispatch under way.
#[derive(Debug)]
pub(super) struct TrueFlight {
    pub parts: Vec<(u64, JobId, u32)>,
    failed: BTreeSet<JobId>,
    bytes: u64,
    /// Each part's, and all of them.
    predicted: Vec<u64>,
    pub predicted_ns: u64,
    pub started_ns: u64,
}

/// Two owners who both have had parts ready since then, with what the first was ahead.
type Pair = Option<i128>;

#[derive(Debug)]
pub(super) struct Truth {
    pub now_ns: u64,
    next: u64,
    pub jobs: BTreeMap<u64, TrueJob>,
    pub ids: BTreeMap<JobId, u64>,
    backing_off: BTreeSet<(u64, u64, u32)>,
    pub flights: Vec<Option<TrueFlight>>,
    /// What was done for each owner, over its weight, what is under way as predicted.
    received: BTreeMap<&'static str, i128>,
    pairs: BTreeMap<(&'static str, &'static str), Pair>,
    /// The longest dispatch so far, predicted or actual.
    longest_ns: u64,
    /// Of dispatches that have ended.
    busy_ns: u64,
    step: Step,
    stepped_ns: u64,
    load: LiveLoad,
    reported_ns: u64,
    noncalm_until_ns: u64,
    /// The order of the queued jobs is another than at the last check.
    is_disturbed: bool,
    /// Since the last check, nobody had to start anything.
    is_excused: bool,
    pub passes: u64,
    pub over_budget: u64,
}

fn name(world: &World, spec: &JobSpec) -> &'static str {
    let owners = world.owners().iter();
    owners.copied().find(|owner| **owner == *spec.owner).expect("it is one of them")
}

impl Truth {
    pub(super) fn new(world: &World, now_ns: u64) -> Self {
        let owners = world.owners();
        let pair = |(place, a)| owners[place + 1..].iter().map(move |b| ((a, *b), None));
        Self {
            now_ns,
            next: 0,
            jobs: BTreeMap::new(),
            ids: BTreeMap::new(),
            backing_off: BTreeSet::new(),
            flights: (0..world.config.slots).map(|_| None).collect(),
            received: owners.iter().map(|owner| (*owner, 0)).collect(),
            pairs: owners.iter().copied().enumerate().flat_map(pair).collect(),
            longest_ns: 0,
            busy_ns: 0,
            step: Step::Normal,
            stepped_ns: 0,
            load: LiveLoad::default(),
            reported_ns: 0,
            noncalm_until_ns: 0,
            is_disturbed: false,
            is_excused: false,
            passes: 0,
            over_budget: 0,
        }
    }

    pub(super) fn handle_time(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        if std::mem::take(&mut self.is_excused) {
            self.jobs.values_mut().for_each(|job| job.waiting_since_ns = now_ns);
        }
        while let Some(&(at_ns, key, part)) = self.backing_off.first()
            && at_ns <= now_ns
        {
            self.backing_off.pop_first();
            let job = self.jobs.get_mut(&key).expect("it backs off");
            job.parts[part as usize].backs_off = false;
            job.becomes_ready(now_ns);
        }
    }

    fn held(&self) -> u64 {
        let holding = self.jobs.values().filter(|job| job.phase != Phase::Queued);
        holding.map(|job| job.held).sum()
    }

    fn reading(&self) -> u64 {
        self.flights.iter().flatten().map(|flight| flight.bytes).sum()
    }

    fn ready(&self) -> impl Iterator<Item = (&u64, &TrueJob)> {
        self.jobs.iter().filter(|(_, job)| job.phase == Phase::Running && job.ready > 0)
    }

    pub(super) fn submitted(&mut self, id: JobId, spec: JobSpec) {
        self.next += 1;
        let queued = self.jobs.values().filter(|job| job.phase == Phase::Queued);
        self.is_disturbed |= queued
            .filter(|job| job.spec.owner == spec.owner)
            .any(|job| job.spec.priority < spec.priority);
        self.jobs.insert(self.next, TrueJob::new(id, spec, self.now_ns));
        self.ids.insert(id, self.next);
    }

    pub(super) fn extended(&mut self, id: JobId, spec: JobSpec) {
        let now_ns = self.now_ns;
        let job = self.jobs.get_mut(&self.ids[&id]).expect("it is there");
        assert_eq!(job.phase, Phase::Finished);
        let (flights, received_ns, about) = (job.flights, job.received_ns, job.about);
        *job = TrueJob { flights, received_ns, about, ..TrueJob::new(id, spec, now_ns) };
        self.is_disturbed = true;
    }

    pub(super) fn admitted(&mut self, world: &World, id: JobId) {
        let key = self.ids[&id];
        let now_ns = self.now_ns;
        let largest = self.jobs[&key].largest_part();
        let is_alone = self.held() == 0;
        let job = self.jobs.get_mut(&key).expect("it was submitted");
        assert_eq!(job.phase, Phase::Queued, "{id:?} is admitted once");
        job.phase = Phase::Running;
        job.waiting_since_ns = now_ns;
        let held = self.held();
        let max = world.config.host_bytes_max;
        assert!(held + largest <= max, "{held} and {largest} of {max} bytes: {id:?} does not fit");
        assert!(is_alone || held <= max);
        let running = [Phase::Running, Phase::Finished];
        let running = self.jobs.values().filter(|job| running.contains(&job.phase)).count();
        assert!(running <= world.config.jobs_running_max, "{running} jobs run");
        // It has passed who stood before it, unless the order is another now.
        let JobSpec { owner, priority, .. } = &self.jobs[&key].spec;
        let (owner, priority, position) = (owner.clone(), *priority, self.jobs[&key].position);
        let mut is_disturbed = self.is_disturbed;
        let queued = self.jobs.values_mut().filter(|job| job.phase == Phase::Queued);
        for other in queued.filter(|_| !self.is_disturbed) {
            let Some(before) = other.position else { continue };
            let is_after = other.spec.owner == owner && other.spec.priority >= priority;
            let has_passed = position.map_or(is_after, |position| before < position);
            other.passes += u32::from(has_passed);
            self.passes += u64::from(has_passed);
            // Further ones of its owner move up.
            is_disturbed |= has_passed && other.spec.owner == owner;
        }
        self.is_disturbed = is_disturbed;
    }

    pub(super) fn finished(&mut self, id: JobId) {
        let job = self.jobs.get_mut(&self.ids[&id]).expect("it runs");
        assert_eq!(job.phase, Phase::Running);
        let counted = job.parts.iter().all(|part| part.counted == 1);
        assert!(counted, "{id:?} is finished with {:?}", job.parts);
        job.phase = Phase::Finished;
    }

    /// A job that is done is released, or one is cancelled. Returns where something of it runs.
    pub(super) fn ended(&mut self, id: JobId) -> Vec<usize> {
        let key = self.ids.remove(&id).expect("it was there");
        self.backing_off.retain(|(_, of, _)| *of != key);
        let job = self.jobs.get_mut(&key).expect("it was there");
        if job.phase == Phase::Queued {
            self.is_disturbed = true;
            job.held = 0;
        }
        if job.flights == 0 {
            self.jobs.remove(&key);
            return Vec::new();
        }
        job.phase = Phase::Ended;
        let runs = |flight: &TrueFlight| {
            let mut parts = flight.parts.iter();
            parts.any(|(of, id, _)| *of == key && !flight.failed.contains(id))
        };
        let flights = self.flights.iter().enumerate();
        flights.filter(|(_, f)| f.as_ref().is_some_and(runs)).map(|(slot, _)| slot).collect()
    }

    pub(super) fn started(&mut self, world: &World, dispatch: &Dispatch, actual_ns: u64) {
        assert_eq!(self.step, Step::Normal, "the batch lane is paused");
        let Dispatch { slot, parts, predicted_ns } = dispatch;
        assert!(self.flights[*slot].is_none(), "slot {slot} is busy");
        assert!(parts.len() <= world.config.shared_max.max(1));
        let now_ns = self.now_ns;
        let (held, reading) = (self.held(), self.reading());
        let max = world.config.host_bytes_max;
        let fits = self.ready().any(|(_, job)| held + reading + job.next_bytes() <= max);

        let mut keys: Vec<(u64, JobId, u32)> = Vec::new();
        let mut predicted = Vec::new();
        let (mut bytes, mut all_ns) = (0, 0);
        let mut source = None;
        for (id, part) in parts {
            let key = *self.ids.get(id).unwrap_or_else(|| panic!("{id:?} has ended"));
            let job = self.jobs.get_mut(&key).expect("it is there");
            assert_eq!(job.phase, Phase::Running);
            let cost = job.costs[*part as usize];
            if job.is_closing(*part) {
                assert!(job.may_close() && parts.len() == 1, "{id:?} is closed by itself");
            }
            assert_eq!(*source.get_or_insert(cost.source), cost.source, "one read");
            assert!(keys.iter().all(|(other, ..)| *other != key), "one part of each job");
            keys.push((key, *id, *part));
            predicted.push(cost.predicted_ns);
            bytes = bytes.max(cost.host_bytes);
            let true_part = &mut job.parts[*part as usize];
            assert_eq!((true_part.counted, true_part.is_flying), (0, false), "{id:?} {part}");
            assert!(!true_part.backs_off, "part {part} of {id:?} backs off");
            assert!(parts.len() == 1 || true_part.failures == 0, "what has failed runs alone");
            true_part.is_flying = true;
            job.ready -= 1;
            job.flights += 1;
            job.waiting_since_ns = now_ns;
            job.was_tight = false;
            job.received_ns += cost.predicted_ns;
            all_ns += cost.predicted_ns;
            let owner = name(world, &job.spec);
            *self.received.get_mut(owner).expect("it is known") +=
                i128::from(cost.predicted_ns / world.weight(owner));
        }
        assert_eq!(*predicted_ns, all_ns);
        assert!(parts.len() == 1 || all_ns <= world.config.dispatch_ns_max, "it is long");
        if held + reading + bytes > max {
            assert!(
                reading == 0 && !fits,
                "{held} bytes held, {reading} read, and now {bytes}, with others that fit: {fits}"
            );
            self.over_budget += 1;
        }
        self.longest_ns = self.longest_ns.max(*predicted_ns).max(actual_ns);
        self.flights[*slot] = Some(TrueFlight {
            parts: keys,
            failed: BTreeSet::new(),
            bytes,
            predicted,
            predicted_ns: *predicted_ns,
            started_ns: now_ns,
        });
        self.note_pairs(world);
    }

    pub(super) fn failed(
        &mut self,
        world: &World,
        slot: usize,
        id: JobId,
        is_retryable: bool,
        verdict: &Verdict,
    ) {
        let flight = self.flights[slot].as_mut().expect("it is under way");
        let part = flight.parts.iter().find(|(_, of, _)| *of == id);
        let (key, _, part) = *part.expect("it is there");
        let job = self.jobs.get_mut(&key).expect("its flight has not ended");
        if job.phase == Phase::Ended || flight.failed.contains(&id) {
            assert_eq!(*verdict, Verdict::Ignored);
            return;
        }
        flight.failed.insert(id);
        let true_part = &mut job.parts[part as usize];
        true_part.is_flying = false;
        true_part.failures += 1;
        let failures = true_part.failures;
        if !is_retryable || failures >= world.config.attempts_max {
            let interrupt = self.ended(id);
            assert_eq!(*verdict, Verdict::JobFailed { interrupt });
            return;
        }
        true_part.backs_off = true;
        let doubled = world.config.backoff_ns << (failures - 1);
        let at_ns = self.now_ns + doubled.min(world.config.backoff_ns_max);
        assert_eq!(*verdict, Verdict::Retry { at_ns });
        self.backing_off.insert((at_ns, key, part));
    }

    /// What each part took by itself is said, or is as predicted.
    pub(super) fn done(
        &mut self,
        world: &World,
        slot: usize,
        own_ns: Option<&[u64]>,
        counted: &[(JobId, u32)],
    ) {
        let flight = self.flights[slot].take().expect("it is under way");
        let busy_ns = self.now_ns - flight.started_ns;
        self.longest_ns = self.longest_ns.max(busy_ns);
        self.busy_ns += busy_ns;
        let mut due = Vec::new();
        let count = flight.parts.len() as u64;
        let all_own_ns = own_ns.map_or(0, |own| own.iter().sum());
        for (place, (key, id, part)) in flight.parts.iter().enumerate() {
            let job = self.jobs.get_mut(key).expect("its flight has not ended");
            let predicted_ns = flight.predicted[place];
            let received_ns = match own_ns {
                Some(own_ns) => own_ns[place] + (busy_ns - all_own_ns) / count,
                None if flight.predicted_ns == 0 => busy_ns / count,
                None => busy_ns * predicted_ns / flight.predicted_ns,
            };
            job.received_ns = job.received_ns - predicted_ns + received_ns;
            job.about += u64::from(count > 1);
            let owner = name(world, &job.spec);
            let weight = world.weight(owner);
            let received = self.received.get_mut(owner).expect("it is known");
            *received += i128::from(received_ns / weight) - i128::from(predicted_ns / weight);
            job.flights -= 1;
            if job.phase == Phase::Running && !flight.failed.contains(id) {
                let part_of = &mut job.parts[*part as usize];
                part_of.is_flying = false;
                part_of.counted += 1;
                due.push((*id, *part));
                if job.may_close() && !job.is_closing(*part) {
                    job.becomes_ready(self.now_ns);
                }
            }
            if job.phase == Phase::Ended && job.flights == 0 {
                self.jobs.remove(key);
            }
        }
        assert_eq!(counted, due, "what counts is another");
        self.note_pairs(world);
    }

    pub(super) fn holds(&mut self, world: &World, id: JobId, bytes: u64, fit: Option<HeldFit>) {
        let job = self.ids.get(&id).and_then(|key| self.jobs.get_mut(key));
        let job = job.filter(|job| job.phase != Phase::Queued);
        let Some(job) = job else { return assert_eq!(fit, None) };
        job.held = bytes.max(job.spec.held_bytes);
        let max = world.config.host_bytes_max;
        if job.held + job.largest_part() > max {
            assert_eq!(fit, Some(HeldFit::Never));
        }
    }

    pub(super) fn reported(&mut self, world: &World, load: LiveLoad) {
        let low = world.config.overload.low;
        let is_calm = load.lag_ns <= low.lag_ns && load.queue_permille <= low.queue_permille;
        match is_calm {
            true => self.noncalm_until_ns = self.noncalm_until_ns.min(self.now_ns),
            false => {
                self.noncalm_until_ns = self.now_ns + world.config.overload.report_ns_max;
            }
        }
        (self.load, self.reported_ns) = (load, self.now_ns);
    }

    pub(super) fn stepped(&mut self, world: &World, change: StepChange) {
        const STEPS: [Step; 4] =
            [Step::Normal, Step::BatchPaused, Step::LargerBatches, Step::Backpressure];
        let overload = world.config.overload;
        assert_eq!(change.from, self.step);
        let place = |step| STEPS.iter().position(|of| *of == step).expect("there are four");
        let (from, to) = (place(change.from), place(change.to));
        if to == from + 1 {
            let high = overload.high;
            let is_high =
                self.load.lag_ns >= high.lag_ns || self.load.queue_permille >= high.queue_permille;
            assert!(is_high && self.reported_ns == self.now_ns, "up, but not for a high load");
            let is_due = self.now_ns >= self.stepped_ns + overload.up_after_ns;
            assert!(from == 0 || is_due, "up, before the last step could work");
        } else {
            assert_eq!(to + 1, from, "one step at a time");
            let calm_since_ns = self.noncalm_until_ns.max(self.stepped_ns);
            assert!(self.now_ns >= calm_since_ns + overload.down_after_ns, "down, too early");
        }
        (self.step, self.stepped_ns) = (change.to, self.now_ns);
    }

    /// Whether some part does not fit now.
    fn is_tight(&self, world: &World) -> bool {
        let taken = self.held() + self.reading();
        self.ready().any(|(_, job)| taken + job.largest_part() > world.config.host_bytes_max)
    }

    /// How far two owners may drift apart: the credit, and what is under way and mispredicted.
    fn drift_ns(&self, world: &World) -> u64 {
        world.config.credit_ns + 2 * world.config.slots as u64 * self.longest_ns
    }

    /// Fair shares: of two owners who both have parts ready all the time, none gets ahead.
    fn note_pairs(&mut self, world: &World) {
        let is_tight = self.is_tight(world);
        let bound = i128::from(2 * self.drift_ns(world) + self.longest_ns);
        let ready: BTreeSet<_> = self.ready().map(|(_, job)| name(world, &job.spec)).collect();
        for ((a, b), pair) in &mut self.pairs {
            if is_tight || !ready.contains(a) || !ready.contains(b) {
                *pair = None;
                continue;
            }
            let ahead = self.received[a] - self.received[b];
            let drifted = ahead - *pair.get_or_insert(ahead);
            assert!(drifted.abs() <= bound, "{a} is {drifted} ns ahead of {b}, of {bound}");
        }
    }

    /// The longest that a job may wait with a part ready: until it has aged, and then for one
    /// turn in four after all that have waited for longer, while the other owners have their
    /// share.
    fn wait_ns_max(&self, world: &World, was_tight: bool) -> u64 {
        let LanesConfig { jobs_running_max, passes_max, ageing_ns, slots, .. } = &world.config;
        let others = (world.owners().len() as u64 - 1) * world.weights_ratio();
        let turns = 4 * *jobs_running_max as u64 + 4;
        let work_ns = turns * self.longest_ns * (1 + others) + 2 * self.drift_ns(world) * others;
        let waited_for_ns = match was_tight {
            true => work_ns * (u64::from(*passes_max) + 2),
            false => work_ns / *slots as u64,
        };
        ageing_ns + waited_for_ns + 2 * self.longest_ns
    }
}

impl TrueJob {
    fn new(id: JobId, spec: JobSpec, now_ns: u64) -> Self {
        let mut parts = vec![TruePart::default(); spec.parts.len()];
        for part in &spec.parts_finished {
            if let Some(part) = parts.get_mut(*part as usize) {
                part.counted = 1;
            }
        }
        let mut ready = parts.iter().filter(|part| part.counted == 0).count();
        if spec.closing.is_some() {
            parts.push(TruePart::default());
            ready = ready.max(1);
        }
        Self {
            id,
            phase: Phase::Queued,
            ready,
            costs: spec.parts.iter().copied().chain(spec.closing).collect(),
            parts,
            held: spec.held_bytes,
            flights: 0,
            received_ns: 0,
            about: 0,
            position: None,
            passes: 0,
            waiting_since_ns: now_ns,
            was_tight: false,
            spec,
        }
    }

    fn becomes_ready(&mut self, now_ns: u64) {
        if self.ready == 0 {
            self.waiting_since_ns = now_ns;
        }
        self.ready += 1;
    }

    fn is_closing(&self, part: u32) -> bool {
        part as usize == self.spec.parts.len()
    }

    /// Whether all other parts are done, and there is one to follow.
    fn may_close(&self) -> bool {
        let others = &self.parts[..self.spec.parts.len()];
        self.spec.closing.is_some() && others.iter().all(|part| part.counted > 0)
    }

    fn largest_part(&self) -> u64 {
        let left = self.costs.iter().zip(0_u32..);
        let left =
            left.filter(|(_, n)| self.is_closing(*n) || !self.spec.parts_finished.contains(n));
        left.map(|(part, _)| part.host_bytes).max().unwrap_or(0)
    }

    /// Of the part that is its next: what has failed comes first, then the lowest number.
    fn next_bytes(&self) -> u64 {
        let is_ready = |part: &TruePart, n| {
            let is_open = !self.is_closing(n) || self.may_close();
            is_open && part.counted == 0 && !part.is_flying && !part.backs_off
        };
        let ready = self.costs.iter().zip(&self.parts).zip(0..);
        let ready = ready.filter(|((_, part), n)| is_ready(part, *n));
        let next = ready.min_by_key(|((_, part), n)| (part.failures == 0, *n));
        next.map_or(u64::MAX, |((cost, _), _)| cost.host_bytes)
    }

    pub(super) fn parts_counted(&self) -> Vec<u32> {
        let parts = self.parts.iter().zip(0_u32..).take(self.spec.parts.len());
        parts.filter(|(part, _)| part.counted > 0).map(|(_, n)| n).collect()
    }
}
