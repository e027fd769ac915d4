//! A job: its parts, where each of them stands, and what the job holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::shares::{OwnerKey, Place};

/// A job, by the number that its submitter chose. It may be used again once the job has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// How important a job is beside others of its owner: 0 to 9, the highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// The highest.
    pub const MAX: Self = Self(9);

    /// `None` above 9.
    pub const fn new(level: u8) -> Option<Self> {
        if level <= 9 { Some(Self(level)) } else { None }
    }

    /// 0 to 9.
    pub const fn level(self) -> u8 {
        self.0
    }

    /// Levels below the highest.
    pub(super) const fn below_max(self) -> u8 {
        Self::MAX.0 - self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(5)
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// Whose share of the workers it takes.
    pub owner: Arc<str>,
    /// Beside other jobs of the owner.
    pub priority: Priority,
    /// Host bytes that it holds from its start to its end, reads apart.
    pub held_bytes: u64,
    /// What it consists of, at most `u32::MAX` parts; a part is named by its place here.
    pub parts: Vec<PartCost>,
    /// Parts that were finished earlier and are not run again; numbers past the end mean nothing.
    pub parts_finished: Vec<u32>,
    /// What follows when all of them are done: a part with the number behind theirs. It shares no
    /// read, and whether it was finished earlier is not asked.
    pub closing: Option<PartCost>,
}

/// What a part takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartCost {
    /// Time of one worker.
    pub predicted_ns: u64,
    /// Host bytes while it runs.
    pub host_bytes: u64,
    /// What it reads: parts with equal numbers read the same stored piece, which may be read once
    /// for several jobs.
    pub source: u64,
}

/// A submission. Unlike a [`JobId`], never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Serial(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartState {
    /// For the others.
    Waiting,
    Ready,
    Running,
    BackingOff,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Queued,
    Running,
    /// Cancelled or failed; something of it is still under way.
    Ended,
}

#[derive(Debug)]
pub(super) struct Job {
    pub id: JobId,
    pub serial: Serial,
    pub owner: OwnerKey,
    pub priority: Priority,
    pub phase: Phase,
    pub submitted_ns: u64,
    /// What was asked for.
    pub asked_bytes: u64,
    /// The same, or what it holds where that is more.
    pub held_bytes: u64,
    pub largest_part_bytes: u64,
    /// The closing one, if any, is the last.
    pub parts: Vec<PartCost>,
    states: Vec<PartState>,
    has_closing: bool,
    attempts: BTreeMap<u32, u32>,
    /// Parts that back off, and until when.
    pub backing_off: BTreeMap<u32, u64>,
    /// Ready again after a failure.
    returned: BTreeSet<u32>,
    /// No part before it is ready, but for the returned ones.
    cursor: usize,
    ready: u32,
    pub done: u32,
    /// Dispatches under way with a part of it, failed ones until they end.
    pub flights: u32,
    /// Worker time that it has been charged.
    pub attained_ns: u64,
    /// Predicted time of what is not done.
    pub remaining_ns: u64,
    /// Since when it has had parts ready and got no turn.
    pub waiting_since_ns: u64,
    /// How often others went first because it did not fit.
    pub passed: u32,
}

impl Job {
    pub(super) fn new(
        id: JobId,
        serial: Serial,
        owner: OwnerKey,
        spec: JobSpec,
        now_ns: u64,
    ) -> Self {
        let mut states = vec![PartState::Ready; spec.parts.len()];
        let mut done = 0;
        for part in spec.parts_finished {
            if let Some(state) = states.get_mut(part as usize)
                && *state == PartState::Ready
            {
                *state = PartState::Done;
                done += 1;
            }
        }
        let has_closing = spec.closing.is_some();
        let mut parts = spec.parts;
        let mut waiting = 0;
        if let Some(closing) = spec.closing {
            let is_next = done as usize == parts.len();
            parts.push(closing);
            states.push(if is_next { PartState::Ready } else { PartState::Waiting });
            waiting = u32::from(!is_next);
        }
        let left = || parts.iter().zip(&states).filter(|(_, s)| **s != PartState::Done);
        let remaining_ns =
            left().fold(0, |sum: u64, (part, _)| sum.saturating_add(part.predicted_ns));
        let largest_part_bytes = left().map(|(part, _)| part.host_bytes).max().unwrap_or(0);
        let mut job = Self {
            id,
            serial,
            owner,
            priority: spec.priority,
            phase: Phase::Queued,
            submitted_ns: now_ns,
            asked_bytes: spec.held_bytes,
            held_bytes: spec.held_bytes,
            largest_part_bytes,
            ready: states.len() as u32 - done - waiting,
            parts,
            states,
            has_closing,
            attempts: BTreeMap::new(),
            backing_off: BTreeMap::new(),
            returned: BTreeSet::new(),
            cursor: 0,
            done,
            flights: 0,
            attained_ns: 0,
            remaining_ns,
            waiting_since_ns: now_ns,
            passed: 0,
        };
        job.move_cursor();
        job
    }

    /// Takes the place of what the job was before.
    pub(super) fn follow(&mut self, before: &Self) {
        self.priority = before.priority;
        self.submitted_ns = before.submitted_ns;
        self.attained_ns = before.attained_ns;
        self.flights = before.flights;
    }

    /// Its place among the jobs of its owner, while a part of it is ready.
    pub(super) fn place(&self) -> Option<Place> {
        let is_ready = self.phase == Phase::Running && self.ready > 0;
        is_ready.then_some(Place {
            below_max: self.priority.below_max(),
            attained_ns: self.attained_ns,
            waiting_since_ns: self.waiting_since_ns,
            serial: self.serial,
        })
    }

    pub(super) fn is_done(&self) -> bool {
        self.done as usize == self.states.len()
    }

    pub(super) fn ready(&self) -> u32 {
        self.ready
    }

    /// The part that is its next.
    pub(super) fn next_part(&self) -> Option<u32> {
        let returned = self.returned.first().copied();
        returned.or((self.cursor < self.states.len()).then_some(self.cursor as u32))
    }

    pub(super) fn cost(&self, part: u32) -> PartCost {
        self.parts[part as usize]
    }

    /// Whether other jobs may share its read: what has failed once runs alone, so that it takes
    /// nobody with it.
    pub(super) fn may_share(&self, part: u32) -> bool {
        (part as usize) < self.parts_with_reads() && !self.attempts.contains_key(&part)
    }

    fn parts_with_reads(&self) -> usize {
        self.parts.len() - usize::from(self.has_closing)
    }

    /// The parts that are ready and may share their read, with what they read.
    pub(super) fn ready_parts(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let parts = self.parts.iter().zip(&self.states).zip(0_u32..).take(self.parts_with_reads());
        parts.filter(|((_, state), _)| **state == PartState::Ready).map(|((p, _), n)| (p.source, n))
    }

    /// A ready part starts.
    pub(super) fn take(&mut self, now_ns: u64, part: u32) {
        debug_assert_eq!(self.states[part as usize], PartState::Ready, "only ready parts start");
        self.states[part as usize] = PartState::Running;
        self.returned.remove(&part);
        self.ready -= 1;
        self.flights += 1;
        self.waiting_since_ns = now_ns;
        self.passed = 0;
        self.move_cursor();
    }

    /// A running part has failed. How often it has.
    pub(super) fn fail(&mut self, part: u32) -> u32 {
        self.states[part as usize] = PartState::BackingOff;
        let attempts = self.attempts.entry(part).or_insert(0);
        *attempts = attempts.saturating_add(1);
        *attempts
    }

    /// A part that backed off is ready again.
    pub(super) fn return_part(&mut self, now_ns: u64, part: u32) {
        self.backing_off.remove(&part);
        self.states[part as usize] = PartState::Ready;
        self.returned.insert(part);
        if self.ready == 0 {
            self.waiting_since_ns = now_ns;
        }
        self.ready += 1;
    }

    /// A running part is done.
    pub(super) fn finish(&mut self, now_ns: u64, part: u32) {
        self.states[part as usize] = PartState::Done;
        self.done += 1;
        if self.done as usize + 1 == self.states.len()
            && let Some(last) = self.states.last_mut()
            && *last == PartState::Waiting
        {
            *last = PartState::Ready;
            self.returned.insert(self.done);
            self.ready += 1;
            self.waiting_since_ns = now_ns;
        }
        // The parts' sum may have been cut off at the largest number.
        self.remaining_ns = self.remaining_ns.saturating_sub(self.cost(part).predicted_ns);
    }

    /// Nothing of it is run any more.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Ended;
        self.ready = 0;
        self.parts = Vec::new();
        self.states = Vec::new();
        self.has_closing = false;
        self.returned.clear();
        self.attempts.clear();
    }

    fn move_cursor(&mut self) {
        let left = self.states[self.cursor..].iter();
        let passed = left.take_while(|state| **state != PartState::Ready).count();
        self.cursor += passed;
    }
}
