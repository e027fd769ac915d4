//! What happens, one thing after another, and what is held against the truth each time.

use std::collections::BTreeMap;

use super::live::{Asker, TrueDevice};
use super::truth::{Phase, Truth};
use super::world::{Random, World};
use super::{Bug, Tally, device, lanes};
use crate::lanes::{
    Admission, DeviceAnswer, DeviceRefused, Dispatch, Event, JobId, JobSpec, Lanes, LanesConfig,
    LiveLoad, Refused, Ticket, Verdict,
};

/// What comes to pass by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happening {
    Submit,
    Cancel,
    Restart,
    Hold,
    Load,
    Report,
    Live,
    Lose,
    Restore,
    /// A part fails before its dispatch ends.
    Fail {
        slot: usize,
        flight: u64,
        id: JobId,
    },
    Ended {
        slot: usize,
        flight: u64,
    },
    GiveBack {
        ticket: Ticket,
    },
    Release {
        id: JobId,
    },
}

/// How a dispatch will go.
#[derive(Clone, Copy, Debug)]
struct Plan {
    flight: u64,
    /// What it takes on the CPU.
    actual_ns: u64,
    /// Pieces on the device that are left, and what each is predicted to take.
    pieces: u64,
    piece_ns: u64,
}

pub(super) struct Simulation {
    random: Random,
    world: World,
    lanes: Lanes,
    truth: Truth,
    device: TrueDevice,
    plans: Vec<Option<Plan>>,
    happenings: BTreeMap<(u64, u64), Happening>,
    next: u64,
    now_ns: u64,
    load: LiveLoad,
    /// Nothing goes wrong any more.
    is_ending: bool,
    pub(super) tally: Tally,
    bug: Option<Bug>,
    /// Of all that was dispatched: equal seeds give equal traces.
    pub(super) trace: u64,
}

impl Simulation {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = Random(seed);
        let world = World::new(&mut random);
        let mut simulation = Self {
            lanes: lanes(&world, bug),
            truth: Truth::new(&world, 0),
            device: TrueDevice::new(&world, device(&world, bug)),
            plans: vec![None; world.config.slots],
            happenings: BTreeMap::new(),
            next: 0,
            now_ns: 0,
            load: LiveLoad::default(),
            is_ending: false,
            tally: Tally::default(),
            bug,
            trace: 0,
            random,
            world,
        };
        simulation.again(Happening::Submit);
        for happening in [
            Happening::Cancel,
            Happening::Restart,
            Happening::Hold,
            Happening::Load,
            Happening::Live,
            Happening::Lose,
        ] {
            simulation.again(happening);
        }
        if simulation.world.load_gap_ns.is_some() {
            simulation.again(Happening::Report);
        }
        simulation
    }

    fn at(&mut self, at_ns: u64, happening: Happening) {
        self.next += 1;
        self.happenings.insert((at_ns.max(self.now_ns), self.next), happening);
    }

    /// What happens again and again happens again.
    fn again(&mut self, happening: Happening) {
        let world = &self.world;
        let gap_ns = match happening {
            Happening::Submit => Some(world.submit_gap_ns),
            Happening::Cancel => world.cancel_gap_ns,
            Happening::Restart => world.restart_gap_ns,
            Happening::Hold => world.held_gap_ns,
            Happening::Load => world.load_gap_ns,
            Happening::Report => Some(world.config.overload.report_ns_max / 3),
            Happening::Live => world.live_gap_ns,
            _ => world.lose_gap_ns,
        };
        if let Some(gap_ns) = gap_ns
            && !self.is_ending
        {
            let at_ns = self.now_ns + world.around(&mut self.random, gap_ns);
            self.at(at_ns, happening);
        }
    }

    fn submit(&mut self) {
        let count = if self.random.happens(200) { self.world.flood } else { 1 };
        for _ in 0..count {
            let id = JobId(self.random.below(60));
            self.submit_as(id);
            self.handle_events();
            self.truth.handle_time(self.now_ns);
            self.truth.check_status(&self.world, &self.lanes, &self.lanes.status());
        }
    }

    /// Numbers are used again, some of them while something of the job before is under way.
    fn submit_as(&mut self, id: JobId) {
        let spec = self.world.job(&mut self.random);
        let is_known = self.truth.ids.contains_key(&id);
        let is_used = self.truth.jobs.values().any(|job| job.id == id) && !is_known;
        let bytes = bytes_of(&spec);
        let LanesConfig { host_bytes_max, queue_max, .. } = self.world.config;
        match self.lanes.submit(self.now_ns, id, spec.clone()) {
            Err(why) => {
                let queued = self.lanes.status().queued;
                let is_right = match why {
                    Refused::Known(of) => is_known && of == id,
                    Refused::NotFinished(_) => false,
                    Refused::TooLarge { .. } => bytes > host_bytes_max,
                    Refused::QueueFull { max } => queued >= max && max == queue_max,
                };
                assert!(is_right, "{why}");
                self.tally.refused += 1;
                self.tally.queue_full += u64::from(matches!(why, Refused::QueueFull { .. }));
            }
            Ok(admission) => {
                assert!(!is_known && bytes <= host_bytes_max);
                self.tally.reused += u64::from(is_used);
                self.truth.submitted(id, spec);
                self.settle_events_of(admission, id);
            }
        }
    }

    fn settle_events_of(&mut self, admission: Admission, id: JobId) {
        if admission == Admission::Running {
            self.truth.admitted(&self.world, id);
        }
        self.handle_events();
        if let Admission::Queued { position } = admission {
            assert_eq!(self.lanes.position(id), Some(position));
        }
    }

    fn any_job(&mut self) -> JobId {
        let ids: Vec<_> = self.truth.ids.keys().copied().collect();
        match ids.is_empty() || self.random.happens(50) {
            true => JobId(self.random.below(60)),
            false => self.random.of(&ids),
        }
    }

    fn cancel(&mut self, id: JobId) {
        let cancelled = self.lanes.cancel(self.now_ns, id);
        if !self.truth.ids.contains_key(&id) {
            assert_eq!(cancelled, None);
            return;
        }
        let interrupt = self.truth.ended(id);
        assert_eq!(cancelled.map(|cancelled| cancelled.interrupt), Some(interrupt.clone()));
        self.tally.cancelled_flying += u64::from(!interrupt.is_empty());
        self.interrupt(&interrupt);
        self.handle_events();
        if self.random.happens(200) {
            self.submit_as(id);
        }
    }

    /// Slots where nobody is left end soon, or in their own time.
    fn interrupt(&mut self, slots: &[usize]) {
        for slot in slots {
            if self.lanes.jobs_in(*slot).is_empty() && self.random.happens(700) {
                let flight = self.plans[*slot].expect("something is under way").flight;
                let at_ns = self.now_ns + self.random.below(50);
                self.at(at_ns, Happening::Ended { slot: *slot, flight });
            }
        }
    }

    fn hold(&mut self) {
        let id = self.any_job();
        let bytes = self.random.below(600);
        let fit = self.lanes.handle_held_bytes(self.now_ns, id, bytes);
        self.truth.holds(&self.world, id, bytes, fit);
    }

    /// The process dies; its jobs are taken again, without what was finished.
    fn restart(&mut self) {
        self.tally.restarts += 1;
        self.note_truth();
        self.lanes = lanes(&self.world, self.bug);
        self.device = TrueDevice::new(&self.world, device(&self.world, self.bug));
        self.plans.fill(None);
        let recurring = |happening: &Happening| {
            let of_process = matches!(
                happening,
                Happening::Fail { .. }
                    | Happening::Ended { .. }
                    | Happening::GiveBack { .. }
                    | Happening::Release { .. }
                    | Happening::Restore
            );
            !of_process
        };
        self.happenings.retain(|_, happening| recurring(happening));
        let before = std::mem::replace(&mut self.truth, Truth::new(&self.world, self.now_ns));
        self.truth.handle_time(self.now_ns);
        for job in before.jobs.into_values().filter(|job| job.phase != Phase::Ended) {
            let mut spec = job.spec.clone();
            spec.parts_finished = job.parts_counted();
            let mut told = spec.clone();
            if self.bug == Some(Bug::ForgottenAtRestart) {
                told.parts_finished.pop();
            }
            let admission = self.lanes.resume(self.now_ns, job.id, told);
            let admission = admission.unwrap_or_else(|why| panic!("taken before: {why}"));
            self.truth.submitted(job.id, spec);
            self.settle_events_of(admission, job.id);
        }
    }

    fn note_truth(&mut self) {
        self.tally.over_budget += self.truth.over_budget;
        self.tally.passes += self.truth.passes;
        self.tally.live_waits += self.device.live_waits;
        self.tally.promises_kept += self.device.promises_kept;
        let counters = self.lanes.status().counters;
        assert_eq!(counters.over_budget, self.truth.over_budget);
    }

    fn report(&mut self) {
        let load = self.load;
        self.truth.reported(&self.world, load);
        let change = self.lanes.handle_live(self.now_ns, load);
        if let Some(change) = change {
            assert_eq!(self.lanes.step(), change.to);
        }
        self.handle_events();
    }

    fn live(&mut self) {
        let predicted_ns = self.random.within(10, 300);
        let slack_ns = self.random.of(&[0, 300, 1_500, 4_000]);
        let deadline_ns = self.now_ns + predicted_ns + self.random.within(0, slack_ns);
        let actual_ns = self.world.actual_ns(&mut self.random, "live", predicted_ns);
        let bytes = self.random.within(0, 400);
        let answer = self.device.lane.request_live(self.now_ns, deadline_ns, predicted_ns, bytes);
        let asked = (Asker::Live { deadline_ns }, predicted_ns, actual_ns, bytes);
        self.answered(asked, answer);
        if self.random.happens(300)
            && let Some(ticket) = self.device.hopeless()
        {
            self.give_back(ticket);
        }
        if self.random.happens(100) {
            self.device.keep(&mut self.random);
        }
        // A ticket that means nothing.
        if self.random.happens(100) {
            assert_eq!(self.device.lane.release(self.now_ns, Ticket(u64::MAX)), None);
        }
    }

    fn answered(&mut self, asked: (Asker, u64, u64, u64), answer: DeviceAnswer) {
        let granted = self.device.answered(&self.world, self.now_ns, asked, answer);
        self.granted(granted);
    }

    fn granted(&mut self, granted: Option<(Ticket, u64)>) {
        if let Some((ticket, until_ns)) = granted {
            self.at(until_ns, Happening::GiveBack { ticket });
        }
    }

    fn give_back(&mut self, ticket: Ticket) {
        // It may have been lost or given up before.
        let Some(asker) = self.device.asker(ticket) else { return };
        let next = self.device.release(&self.world, self.now_ns, ticket);
        self.granted(next);
        if let Asker::Batch { flight, .. } = asker {
            let is_of = |plan: &Option<Plan>| plan.is_some_and(|plan| plan.flight == flight);
            if let Some(slot) = self.plans.iter().position(is_of) {
                self.go(slot, flight);
            }
        }
    }

    fn lose(&mut self) {
        let flights = self.device.lose();
        self.tally.losses += 1;
        self.tally.lost_flying += flights.len() as u64;
        for slot in 0..self.plans.len() {
            if let Some(plan) = self.plans[slot]
                && flights.contains(&plan.flight)
            {
                self.go(slot, plan.flight);
            }
        }
        let gap_ns = self.world.submit_gap_ns;
        let at_ns = self.now_ns + self.world.around(&mut self.random, gap_ns);
        self.at(at_ns, Happening::Restore);
    }

    fn started(&mut self, dispatch: &Dispatch) {
        self.tally.dispatches += 1;
        self.tally.shared += dispatch.parts.len() as u64 - 1;
        let owner = self.truth.jobs[&self.truth.ids[&dispatch.parts[0].0]].spec.owner.clone();
        let predicted_ns = dispatch.predicted_ns;
        let actual_ns = self.world.actual_ns(&mut self.random, &owner, predicted_ns);
        self.truth.started(&self.world, dispatch, actual_ns);
        let uses_device = self.random.happens(self.world.device_permille) && !self.is_ending;
        let pieces = if uses_device { self.random.within(1, 3) } else { 0 };
        let piece_ns = (predicted_ns / 8 / pieces.max(1)).max(1);
        self.next += 1;
        let (slot, flight) = (dispatch.slot, self.next);
        self.plans[slot] = Some(Plan { flight, actual_ns, pieces, piece_ns });
        for (id, part) in &dispatch.parts {
            let mixed = self.trace ^ self.now_ns ^ (id.0 << 32) ^ u64::from(*part);
            self.trace = Random(mixed).next();
        }
        let failing = self.world.failing_permille / 4;
        if !self.is_ending && self.random.happens(failing) {
            let id = self.random.of(&dispatch.parts).0;
            let at_ns = self.now_ns + self.random.below(actual_ns);
            self.at(at_ns, Happening::Fail { slot, flight, id });
        }
        self.go(slot, flight);
    }

    fn fail_early(&mut self, slot: usize, flight: u64, id: JobId) {
        if self.plans[slot].is_some_and(|plan| plan.flight == flight) {
            self.fail(slot, id);
        }
    }

    fn go(&mut self, slot: usize, flight: u64) {
        let Some(plan) = self.plans[slot].filter(|plan| plan.flight == flight) else { return };
        if plan.pieces == 0 {
            let at_ns = self.now_ns + plan.actual_ns;
            return self.at(at_ns, Happening::Ended { slot, flight });
        }
        let predicted_ns = plan.piece_ns;
        let actual_ns = self.world.actual_ns(&mut self.random, "device", predicted_ns);
        let bytes = self.random.within(0, 1_100);
        let is_undivided = self.random.happens(50);
        let answer = match is_undivided {
            true => self.device.lane.request_undivided(self.now_ns, predicted_ns, bytes),
            false => self.device.lane.request_batch(self.now_ns, predicted_ns, bytes),
        };
        let asker = Asker::Batch { flight, is_undivided };
        self.answered((asker, predicted_ns, actual_ns, bytes), answer);
        let (pieces, piece_ns) = match answer {
            DeviceAnswer::Refused(DeviceRefused::TooLong { dispatches, .. })
                if plan.piece_ns > dispatches =>
            {
                self.tally.too_long += 1;
                assert!(dispatches > 1, "cut into one: {answer:?}");
                (plan.pieces, plan.piece_ns / dispatches)
            }
            DeviceAnswer::Refused(_) => (0, 0),
            _ => (plan.pieces - 1, plan.piece_ns),
        };
        self.plans[slot] = Some(Plan { pieces, piece_ns, ..plan });
        if let DeviceAnswer::Refused(_) = answer {
            self.go(slot, flight);
        }
    }

    fn ended(&mut self, slot: usize, flight: u64) {
        if self.plans[slot].is_none_or(|plan| plan.flight != flight) {
            return;
        }
        self.plans[slot] = None;
        if let Some(ticket) = self.device.ticket_of(flight) {
            self.give_back(ticket);
        }
        let flying = self.truth.flights[slot].as_ref().expect("it is under way");
        let started_ns = flying.started_ns;
        for (_, id, _) in flying.parts.clone() {
            let fails = !self.is_ending && self.random.happens(self.world.failing_permille);
            if fails {
                self.fail(slot, id);
            }
        }
        let busy_ns = self.now_ns - started_ns;
        let own = self.random.happens(500).then(|| self.own(slot, busy_ns));
        let counted = self.lanes.handle_done(self.now_ns, slot, busy_ns);
        self.truth.done(&self.world, slot, own.as_deref(), &counted);
    }

    /// Says what each part of a dispatch took by itself.
    fn own(&mut self, slot: usize, busy_ns: u64) -> Vec<u64> {
        let flight = self.truth.flights[slot].as_ref().expect("it is under way");
        let ids: Vec<JobId> = flight.parts.iter().map(|(_, id, _)| *id).collect();
        let most_ns = busy_ns / ids.len() as u64;
        let own: Vec<u64> = ids.iter().map(|_| self.random.within(0, most_ns)).collect();
        ids.iter().zip(&own).for_each(|(id, ns)| self.lanes.handle_own(slot, *id, *ns));
        own
    }

    fn fail(&mut self, slot: usize, id: JobId) {
        let is_retryable = self.random.happens(950);
        let verdict = self.lanes.handle_failed(self.now_ns, slot, id, is_retryable);
        self.truth.failed(&self.world, slot, id, is_retryable, &verdict);
        match verdict {
            Verdict::Retry { .. } => self.tally.retries += 1,
            Verdict::JobFailed { interrupt } => {
                self.tally.jobs_failed += 1;
                self.interrupt(&interrupt);
            }
            Verdict::Ignored => {}
        }
        self.handle_events();
    }

    /// Calls that mean nothing.
    fn babble(&mut self) {
        let now_ns = self.now_ns.saturating_sub(self.random.below(2) * 100);
        let lanes = &mut self.lanes;
        let free = self.truth.flights.iter().position(Option::is_none).unwrap_or(usize::MAX);
        assert_eq!(lanes.handle_done(now_ns, free, 5), []);
        assert_eq!(lanes.handle_failed(now_ns, free, JobId(7), true), Verdict::Ignored);
        lanes.handle_own(free, JobId(7), u64::MAX);
        assert_eq!(lanes.cancel(now_ns, JobId(u64::MAX)), None);
        assert_eq!(lanes.handle_held_bytes(now_ns, JobId(u64::MAX), 5), None);
        assert!(!lanes.release(now_ns, JobId(u64::MAX)));
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.lanes.poll_event() {
            match event {
                Event::Admitted(id) => self.truth.admitted(&self.world, id),
                Event::Finished(id) => {
                    self.truth.finished(id);
                    self.tally.jobs_done += 1;
                    let at_ns = self.now_ns + self.random.below(500);
                    self.at(at_ns, Happening::Release { id });
                }
                Event::Step(change) => {
                    self.truth.stepped(&self.world, change);
                    self.tally.overloads += 1;
                }
            }
        }
    }

    /// A job that is finished is released, or goes on.
    fn release(&mut self, id: JobId) {
        let job = self.truth.ids.get(&id).map(|key| &self.truth.jobs[key]);
        let is_finished = job.is_some_and(|job| job.phase == Phase::Finished);
        if !self.is_ending && self.random.happens(250) {
            let mut spec = self.world.job(&mut self.random);
            if let Some(job) = job {
                (spec.owner, spec.priority) = (job.spec.owner.clone(), job.spec.priority);
            }
            let max = self.world.config.host_bytes_max;
            match self.lanes.extend(self.now_ns, id, spec.clone()) {
                Ok(admission) => {
                    assert!(is_finished && bytes_of(&spec) <= max);
                    self.truth.extended(id, spec);
                    self.tally.extended += 1;
                    self.settle_events_of(admission, id);
                    return;
                }
                Err(Refused::NotFinished(_)) => assert!(!is_finished),
                Err(why) => assert!(bytes_of(&spec) > max, "{why}"),
            }
        }
        if is_finished {
            self.truth.ended(id);
        }
        assert_eq!(self.lanes.release(self.now_ns, id), is_finished);
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Submit => self.submit(),
            Happening::Cancel => {
                let id = self.any_job();
                self.cancel(id);
            }
            Happening::Restart => self.restart(),
            Happening::Hold => self.hold(),
            Happening::Load => {
                let lag_ns = self.random.of(&[0, 50, 500, 5_000]);
                let queue_permille = self.random.of(&[0, 0, 300, 600]);
                self.load = LiveLoad { lag_ns, queue_permille };
            }
            Happening::Report if self.world.is_silent && self.random.happens(900) => {}
            Happening::Report => self.report(),
            Happening::Live => self.live(),
            Happening::Lose => self.lose(),
            Happening::Restore => self.device.restore(&self.world),
            Happening::Fail { slot, flight, id } => self.fail_early(slot, flight, id),
            Happening::Ended { slot, flight } => self.ended(slot, flight),
            Happening::GiveBack { ticket } => self.give_back(ticket),
            Happening::Release { id } => self.release(id),
        }
        self.handle_events();
        self.again_if_recurring(happening);
    }

    fn again_if_recurring(&mut self, happening: Happening) {
        let recurs = matches!(
            happening,
            Happening::Submit
                | Happening::Cancel
                | Happening::Restart
                | Happening::Hold
                | Happening::Load
                | Happening::Report
                | Happening::Live
                | Happening::Lose
        );
        if recurs {
            self.again(happening);
        }
    }

    /// The next thing that happens, or is due. `false` when there is none.
    fn step(&mut self) -> bool {
        let next = self.happenings.first_key_value().map(|((at_ns, _), _)| *at_ns);
        let due = self.lanes.poll_timeout();
        let Some(at_ns) = next.into_iter().chain(due).min() else { return false };
        self.now_ns = at_ns;
        self.tally.steps += 1;
        self.truth.handle_time(at_ns);
        if next == Some(at_ns) {
            let (_, happening) = self.happenings.pop_first().expect("it is there");
            self.handle(happening);
        }
        if self.random.happens(20) {
            self.babble();
        }
        // What fails without a wait is ready at once.
        self.truth.handle_time(at_ns);
        while let Some(dispatch) = self.lanes.poll(self.now_ns) {
            self.handle_events();
            self.started(&dispatch);
        }
        self.handle_events();
        self.truth.check(&self.world, &self.lanes);
        self.device.check();
        true
    }

    pub(super) fn run(&mut self) {
        while self.now_ns < self.world.until_ns && self.step() {}
        // From now on all goes well, and everything that was taken is done.
        self.is_ending = true;
        self.load = LiveLoad::default();
        self.report();
        let mut left = 20_000;
        while self.step() {
            left -= 1;
            assert!(left > 0, "there is no end");
        }
        let left: Vec<_> = self.truth.ids.keys().collect();
        assert!(left.is_empty(), "nothing happens any more, and these are not done: {left:?}");
        assert!(self.truth.jobs.is_empty());
        let status = self.lanes.status();
        assert_eq!((status.held_bytes, status.reading_bytes, status.running), (0, 0, 0));
        self.note_truth();
    }
}

/// What a job takes at least.
fn bytes_of(spec: &JobSpec) -> u64 {
    let left = spec.parts.iter().zip(0..).filter(|(_, n)| !spec.parts_finished.contains(n));
    let left = left.map(|(part, _)| *part).chain(spec.closing);
    spec.held_bytes + left.map(|part| part.host_bytes).max().unwrap_or(0)
}
