//! Which part starts next, and which others come along.

use super::job::{Job, PartCost, Phase, Serial};
use super::planted::Bug;
use super::{Dispatch, Flight, Flying, Lanes};

/// Owners that are looked at for a part that fits, and jobs of each.
const OWNERS_TRIED: usize = 8;
const JOBS_TRIED: usize = 4;

impl Lanes {
    /// The job whose part is next.
    pub(super) fn choose(&mut self) -> Option<Serial> {
        let is_held_ignored = self.planted.has(Bug::HeldIgnored);
        let fits = |bytes| is_held_ignored || self.memory.fits(bytes);
        let mut blocked = Vec::new();
        let mut chosen = None;
        'search: for owner in self.owners.in_order().take(OWNERS_TRIED) {
            for serial in self.owners.jobs(self.now_ns, owner).take(JOBS_TRIED) {
                let job = &self.jobs[&serial];
                let part = job.next_part().expect("a job with a place has a part ready");
                if fits(job.cost(part).host_bytes) {
                    chosen = Some(serial);
                    break 'search;
                }
                if job.passed >= self.config.passes_max {
                    break 'search;
                }
                if !blocked.contains(&serial) {
                    blocked.push(serial);
                }
            }
        }
        let Some(chosen) = chosen else { return self.last_resort() };
        let owner = self.jobs[&chosen].owner;
        for serial in blocked {
            let job = self.jobs.get_mut(&serial).expect("ready jobs are there");
            job.passed += 1;
            if !self.planted.has(Bug::OwedWithoutLimit) {
                self.owners.pass(job.owner, owner);
            }
        }
        Some(chosen)
    }

    /// When jobs hold so much more than they asked for that nothing may start, nothing is under way
    /// and nothing will be given back: one that fits after all, else the one that will be done
    /// first.
    fn last_resort(&mut self) -> Option<Serial> {
        let nothing_is_ready = self.owners.in_order().next().is_none();
        if nothing_is_ready || self.free.len() < self.slots.len() {
            return None;
        }
        let running = || self.jobs.values().filter(|job| job.phase == Phase::Running);
        if running().any(Job::is_done) {
            return None;
        }
        let rank = |job: &Job| {
            let bytes = job.cost(job.next_part()?).host_bytes;
            (job.ready() > 0).then_some((!self.memory.fits(bytes), job.remaining_ns, job.serial))
        };
        let (is_over, _, serial) = running().filter_map(rank).min()?;
        self.counters.over_budget += u64::from(is_over);
        let owner = self.jobs[&serial].owner;
        let others: Vec<_> = match self.planted.has(Bug::OwedWithoutLimit) {
            true => Vec::new(),
            false => self.owners.in_order().collect(),
        };
        others.into_iter().for_each(|other| self.owners.pass(other, owner));
        Some(serial)
    }

    pub(super) fn start(&mut self, slot: usize, serial: Serial) -> Dispatch {
        let job = &self.jobs[&serial];
        let part = job.next_part().expect("a job that was chosen has a part ready");
        let PartCost { mut predicted_ns, mut host_bytes, source } = job.cost(part);
        let (owner, may_share) = (job.owner, job.may_share(part));

        let mut parts = vec![(serial, part)];
        if may_share {
            let same =
                self.sources.range((source, Serial(0), 0)..=(source, Serial(u64::MAX), u32::MAX));
            for &(_, other, part) in same.take(self.config.shared_max.saturating_mul(4)) {
                let other_job = &self.jobs[&other];
                let cost = other_job.cost(part);
                let bytes = cost.host_bytes.max(host_bytes);
                let ns = predicted_ns.saturating_add(cost.predicted_ns);
                let is_in = parts.iter().any(|(serial, _)| *serial == other);
                let fits = self.memory.fits(bytes) && ns <= self.config.dispatch_ns_max;
                if parts.len() < self.config.shared_max
                    && !is_in
                    && fits
                    && self.owners.may_ride(other_job.owner, owner)
                {
                    (host_bytes, predicted_ns) = (bytes, ns);
                    parts.push((other, part));
                }
            }
        }
        let now_ns = self.now_ns;
        let mut flying = Vec::with_capacity(parts.len());
        for (place, (serial, part)) in parts.into_iter().enumerate() {
            let job = &self.jobs[&serial];
            let (owner, predicted_ns) = (job.owner, job.cost(part).predicted_ns);
            let charged_ns = match place > 0 && self.planted.has(Bug::RidesFree) {
                true => 0,
                false => predicted_ns,
            };
            match place {
                0 => self.owners.start(now_ns, owner, serial, charged_ns),
                _ => self.owners.correct(owner, 0, charged_ns),
            }
            let id = self.change(serial, |job| {
                job.take(now_ns, part);
                job.attained_ns = job.attained_ns.saturating_add(charged_ns);
                job.id
            });
            let source = (self.jobs[&serial].cost(part).source, serial, part);
            self.sources.remove(&source);
            if place > 0 && self.planted.has(Bug::SharedAndReady) {
                self.change(serial, |job| job.return_part(now_ns, part));
            }
            let (own_ns, has_failed) = (None, false);
            flying.push(Flying { serial, job: id, part, predicted_ns, own_ns, has_failed });
        }
        self.counters.dispatches += 1;
        self.counters.parts_shared += flying.len() as u64 - 1;
        self.memory.reading += host_bytes;
        self.free.remove(&slot);
        let parts = flying.iter().map(|flying| (flying.job, flying.part)).collect();
        self.slots[slot] = Some(Flight { parts: flying, host_bytes });
        Dispatch { slot, parts, predicted_ns }
    }
}
