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
        let PartCost { predicted_ns, mut host_bytes, source } = job.cost(part);
        let (payer, may_share) = (job.owner, job.may_share(part));
        self.owners.start(self.now_ns, payer, serial, predicted_ns);

        let mut parts = vec![(serial, part)];
        if may_share {
            let same =
                self.sources.range((source, Serial(0), 0)..=(source, Serial(u64::MAX), u32::MAX));
            for &(_, other, part) in same.take(self.config.shared_max.saturating_mul(4)) {
                let bytes = self.jobs[&other].cost(part).host_bytes.max(host_bytes);
                let is_in = parts.iter().any(|(serial, _)| *serial == other);
                if parts.len() < self.config.shared_max && !is_in && self.memory.fits(bytes) {
                    host_bytes = bytes;
                    parts.push((other, part));
                }
            }
        }
        let now_ns = self.now_ns;
        let mut flying = Vec::with_capacity(parts.len());
        for (place, (serial, part)) in parts.into_iter().enumerate() {
            let id = self.change(serial, |job| {
                job.take(now_ns, part);
                if place == 0 {
                    job.attained_ns = job.attained_ns.saturating_add(predicted_ns);
                }
                job.id
            });
            let source = (self.jobs[&serial].cost(part).source, serial, part);
            self.sources.remove(&source);
            if place > 0 && self.planted.has(Bug::SharedAndReady) {
                self.change(serial, |job| job.return_part(now_ns, part));
            }
            flying.push(Flying { serial, job: id, part, has_failed: false });
        }
        self.counters.dispatches += 1;
        self.counters.parts_shared += flying.len() as u64 - 1;
        self.memory.reading += host_bytes;
        self.free.remove(&slot);
        let parts = flying.iter().map(|flying| (flying.job, flying.part)).collect();
        self.slots[slot] = Some(Flight { parts: flying, payer, predicted_ns, host_bytes });
        Dispatch { slot, parts, predicted_ns }
    }
}
