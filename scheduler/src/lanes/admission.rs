//! Jobs that wait for their turn: owners take turns, and within an owner higher priorities and
//! earlier jobs come first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::job::{Phase, Serial};
use super::shares::OwnerKey;
use super::{Event, Lanes};

/// Jobs of the queue that are looked at for one that fits.
const QUEUED_TRIED: usize = 64;

/// The jobs of one owner.
#[derive(Debug, Default)]
struct Turns {
    /// The turn of its first job; each further one is one later.
    next: u64,
    jobs: BTreeSet<(u64, Serial)>,
}

/// Jobs in a total order: by turn, then by owner.
#[derive(Debug, Default)]
pub(super) struct Queue {
    owners: BTreeMap<OwnerKey, Turns>,
    /// The turn of whoever left last: nobody comes before it.
    turn: u64,
    len: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A job comes. Within its owner, the least `rank_ns` is first.
    pub(super) fn push(&mut self, owner: OwnerKey, rank_ns: u64, serial: Serial) {
        let turn = self.turn;
        let turns = self.owners.entry(owner).or_default();
        if turns.jobs.is_empty() {
            turns.next = turns.next.max(turn);
        }
        self.len += usize::from(turns.jobs.insert((rank_ns, serial)));
    }

    /// A job goes without having had its turn.
    pub(super) fn remove(&mut self, owner: OwnerKey, rank_ns: u64, serial: Serial) {
        let Some(turns) = self.owners.get_mut(&owner) else { return };
        self.len -= usize::from(turns.jobs.remove(&(rank_ns, serial)));
        self.forget();
    }

    /// A job is admitted. One that passes the first of its owner leaves it the turn, or many small
    /// ones would put a large one off for ever.
    pub(super) fn take(&mut self, owner: OwnerKey, rank_ns: u64, serial: Serial) {
        let Some(turns) = self.owners.get_mut(&owner) else { return };
        let is_first = turns.jobs.first() == Some(&(rank_ns, serial));
        self.len -= usize::from(turns.jobs.remove(&(rank_ns, serial)));
        if is_first {
            self.turn = self.turn.max(turns.next);
            turns.next += 1;
        }
        self.forget();
    }

    /// How many jobs come before this one.
    pub(super) fn position(&self, owner: OwnerKey, rank_ns: u64, serial: Serial) -> usize {
        let own = &self.owners[&owner];
        let turn = own.next + own.jobs.range(..(rank_ns, serial)).count() as u64;
        let before = self.owners.iter().map(|(key, turns)| {
            let end = turn + u64::from(*key < owner);
            (end.saturating_sub(turns.next) as usize).min(turns.jobs.len())
        });
        before.sum()
    }

    /// All jobs, the next one first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = Serial> + '_ {
        let mut owners = Vec::with_capacity(self.owners.len());
        let mut next = BinaryHeap::with_capacity(self.owners.len());
        for (key, turns) in self.owners.iter().filter(|(_, turns)| !turns.jobs.is_empty()) {
            next.push(Reverse((turns.next, *key, owners.len())));
            owners.push(turns.jobs.iter().peekable());
        }
        std::iter::from_fn(move || {
            let Reverse((turn, key, place)) = next.pop()?;
            let jobs = &mut owners[place];
            let (_, serial) = jobs.next()?;
            if jobs.peek().is_some() {
                next.push(Reverse((turn + 1, key, place)));
            }
            Some(*serial)
        })
    }

    /// Owners that would start where newcomers do.
    fn forget(&mut self) {
        let turn = self.turn;
        self.owners.retain(|_, turns| !turns.jobs.is_empty() || turns.next > turn);
    }
}

impl Lanes {
    /// Starts the queued jobs that fit; of a newcomer, whoever submits it is told otherwise.
    pub(super) fn admit(&mut self, newcomer: Option<Serial>) {
        while let Some(serial) = self.next_admitted() {
            let job = &self.jobs[&serial];
            let (id, owner, rank_ns) = (job.id, job.owner, self.rank_ns(job));
            self.queue.take(owner, rank_ns, serial);
            self.owners.get_mut(owner).queued -= 1;
            if newcomer != Some(serial) {
                self.events.push_back(Event::Admitted(id));
            }
            self.begin(serial);
        }
    }

    /// A job has memory and a running place.
    pub(super) fn begin(&mut self, serial: Serial) {
        let job = &self.jobs[&serial];
        self.memory.start(serial, job.held_bytes, job.largest_part_bytes);
        self.sources.extend(job.ready_parts().map(|(source, part)| (source, serial, part)));
        self.running += 1;
        self.owners.get_mut(job.owner).running += 1;
        let now_ns = self.now_ns;
        let is_done = self.change(serial, |job| {
            job.phase = Phase::Running;
            job.waiting_since_ns = now_ns;
            job.passed = 0;
            job.is_done()
        });
        if is_done {
            self.finish(serial);
        }
    }

    /// The next job that may start.
    fn next_admitted(&mut self) -> Option<Serial> {
        let jobs_running_max = self.config.jobs_running_max.max(1);
        if self.running >= jobs_running_max {
            return None;
        }
        let is_kept = self.running + self.config.places_kept() >= jobs_running_max;
        let mut passed = Vec::new();
        for serial in self.queue.in_order().take(QUEUED_TRIED) {
            let job = &self.jobs[&serial];
            let is_overdue = job.passed >= self.config.passes_max;
            let has_place = !is_kept || is_overdue || self.owners.get(job.owner).running == 0;
            let slots = self.slots.len();
            if has_place && self.memory.admits(job.held_bytes, job.largest_part_bytes, slots) {
                for serial in passed {
                    self.jobs.get_mut(&serial).expect("queued jobs are there").passed += 1;
                }
                return Some(serial);
            }
            if is_overdue {
                return None;
            }
            passed.push(serial);
        }
        None
    }
}
