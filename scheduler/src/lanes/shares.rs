//! Who is next: fair shares between owners by virtual time, and an order among an owner's jobs.
//!
//! An owner's virtual time is the worker time that it was charged, over its weight; the owner with
//! the least is next. The clock is the virtual time of whoever started last. An owner that becomes
//! ready is lifted to the clock less its credit: being idle is worth no more than that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::job::Serial;

/// Turns of an owner of which one goes to the job that has waited for longest.
const TURNS_PER_AGED: u32 = 4;
/// Owners without a job that are remembered.
const IDLE_MAX: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OwnerKey(u64);

/// Where a job stands among those of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub below_max: u8,
    pub attained_ns: u64,
    pub waiting_since_ns: u64,
    pub serial: Serial,
}

#[derive(Debug)]
pub(super) struct Owner {
    pub name: Arc<str>,
    weight: u64,
    virtual_ns: u64,
    pub attained_ns: u64,
    /// Jobs that have not been forgotten: queued, running, ended with something under way.
    pub jobs: usize,
    /// Of these, the running ones.
    pub running: usize,
    /// Of these, the queued ones.
    pub queued: usize,
    /// By priority, then by what was attained.
    ranked: BTreeSet<(u8, u64, Serial)>,
    waiting: BTreeSet<(u64, Serial)>,
    turns_since_aged: u32,
}

#[derive(Debug)]
pub(super) struct Owners {
    by_name: BTreeMap<Arc<str>, OwnerKey>,
    owners: BTreeMap<OwnerKey, Owner>,
    /// Those with a ready part.
    ready: BTreeSet<(u64, OwnerKey)>,
    /// Those without a job.
    idle: BTreeSet<(u64, OwnerKey)>,
    weights: BTreeMap<Arc<str>, u32>,
    clock_ns: u64,
    credit_ns: u64,
    ageing_ns: u64,
    next: u64,
    /// By all owners together, those included that are forgotten.
    pub charged_ns: u64,
}

impl Owners {
    pub(super) fn new(weights: BTreeMap<Arc<str>, u32>, credit_ns: u64, ageing_ns: u64) -> Self {
        Self {
            by_name: BTreeMap::new(),
            owners: BTreeMap::new(),
            ready: BTreeSet::new(),
            idle: BTreeSet::new(),
            weights,
            clock_ns: 0,
            credit_ns,
            ageing_ns,
            next: 0,
            charged_ns: 0,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Owner> {
        self.by_name.values().map(|key| self.get(*key))
    }

    pub(super) fn get(&self, key: OwnerKey) -> &Owner {
        self.owners.get(&key).expect("owners with jobs are known")
    }

    pub(super) fn get_mut(&mut self, key: OwnerKey) -> &mut Owner {
        self.owners.get_mut(&key).expect("owners with jobs are known")
    }

    /// A job of the owner comes.
    pub(super) fn enter(&mut self, name: &Arc<str>) -> OwnerKey {
        let key = match self.by_name.get(name) {
            Some(key) => *key,
            None => {
                let key = OwnerKey(self.next);
                self.next += 1;
                self.by_name.insert(name.clone(), key);
                let weight = self.weights.get(name).map_or(1, |weight| u64::from(*weight).max(1));
                self.owners.insert(key, Owner::new(name.clone(), weight));
                key
            }
        };
        let owner = self.get_mut(key);
        owner.jobs += 1;
        let idle = (owner.virtual_ns, key);
        self.idle.remove(&idle);
        key
    }

    /// A job of the owner is forgotten, and owners that have nothing left to remember.
    pub(super) fn leave(&mut self, key: OwnerKey) {
        let owner = self.get_mut(key);
        owner.jobs -= 1;
        if owner.jobs > 0 {
            return;
        }
        let idle = (owner.virtual_ns, key);
        self.idle.insert(idle);
        let lifted_ns = self.clock_ns.saturating_sub(self.credit_ns);
        while let Some(&(virtual_ns, key)) = self.idle.first()
            && (virtual_ns <= lifted_ns || self.idle.len() > IDLE_MAX)
        {
            self.idle.pop_first();
            let owner = self.owners.remove(&key).expect("idle owners are known");
            self.by_name.remove(&owner.name);
        }
    }

    /// A job has another place than before, or none.
    pub(super) fn replace(&mut self, key: OwnerKey, before: Option<Place>, after: Option<Place>) {
        let (clock_ns, credit_ns) = (self.clock_ns, self.credit_ns);
        let owner = self.owners.get_mut(&key).expect("owners with jobs are known");
        let was_ready = !owner.ranked.is_empty();
        if let Some(Place { below_max, attained_ns, waiting_since_ns, serial }) = before {
            owner.ranked.remove(&(below_max, attained_ns, serial));
            owner.waiting.remove(&(waiting_since_ns, serial));
        }
        if let Some(Place { below_max, attained_ns, waiting_since_ns, serial }) = after {
            owner.ranked.insert((below_max, attained_ns, serial));
            owner.waiting.insert((waiting_since_ns, serial));
        }
        match (was_ready, !owner.ranked.is_empty()) {
            (false, true) => {
                owner.virtual_ns = owner.virtual_ns.max(clock_ns.saturating_sub(credit_ns));
                self.ready.insert((owner.virtual_ns, key));
            }
            (true, false) => {
                self.ready.remove(&(owner.virtual_ns, key));
            }
            _ => {}
        }
    }

    /// Those with a ready part, who is next first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = OwnerKey> + '_ {
        self.ready.iter().map(|(_, key)| *key)
    }

    /// What is ready of `passed` does not fit and `key` goes first: as if they had been idle, they
    /// do not get more than their credit for it later.
    pub(super) fn pass(&mut self, passed: OwnerKey, key: OwnerKey) {
        let lifted_ns = self.get(key).virtual_ns.saturating_sub(self.credit_ns);
        let owner = self.owners.get_mut(&passed).expect("owners with jobs are known");
        if owner.virtual_ns < lifted_ns && self.ready.remove(&(owner.virtual_ns, passed)) {
            owner.virtual_ns = lifted_ns;
            self.ready.insert((lifted_ns, passed));
        }
    }

    /// Jobs of an owner, the next one first. One may come twice.
    pub(super) fn jobs(&self, now_ns: u64, key: OwnerKey) -> impl Iterator<Item = Serial> + '_ {
        let owner = self.get(key);
        let is_aged = |since_ns: u64| now_ns.saturating_sub(since_ns) >= self.ageing_ns;
        let aged = owner.waiting.first().filter(|(since_ns, _)| {
            owner.turns_since_aged + 1 >= TURNS_PER_AGED && is_aged(*since_ns)
        });
        let ranked = owner.ranked.iter().map(|(_, _, serial)| *serial);
        aged.map(|(_, serial)| *serial).into_iter().chain(ranked)
    }

    /// A job of the owner starts a part that is predicted to take so long. To be called before the
    /// job's place changes.
    pub(super) fn start(&mut self, now_ns: u64, key: OwnerKey, serial: Serial, ns: u64) {
        let ageing_ns = self.ageing_ns;
        let owner = self.get_mut(key);
        let is_oldest = owner.waiting.first().is_some_and(|(since_ns, oldest)| {
            *oldest == serial && now_ns.saturating_sub(*since_ns) >= ageing_ns
        });
        owner.turns_since_aged = match is_oldest {
            true => 0,
            false => (owner.turns_since_aged + 1).min(TURNS_PER_AGED),
        };
        self.clock_ns = self.clock_ns.max(self.get(key).virtual_ns);
        self.correct(key, 0, ns);
    }

    /// Whether a part of `key` may come along when it is the turn of `next`: nobody is carried
    /// further ahead than by its credit.
    pub(super) fn may_ride(&self, key: OwnerKey, next: OwnerKey) -> bool {
        self.get(key).virtual_ns <= self.get(next).virtual_ns.saturating_add(self.credit_ns)
    }

    /// What was charged is replaced by what it is.
    pub(super) fn correct(&mut self, key: OwnerKey, charged_ns: u64, ns: u64) {
        let owner = self.owners.get_mut(&key).expect("owners with jobs are known");
        let before = (owner.virtual_ns, key);
        self.charged_ns = replaced(self.charged_ns, charged_ns, ns);
        owner.attained_ns = replaced(owner.attained_ns, charged_ns, ns);
        let weight = owner.weight;
        owner.virtual_ns = replaced(owner.virtual_ns, charged_ns / weight, ns / weight);
        if self.ready.remove(&before) {
            self.ready.insert((owner.virtual_ns, key));
        }
    }
}

impl Owner {
    fn new(name: Arc<str>, weight: u64) -> Self {
        Self {
            name,
            weight,
            virtual_ns: 0,
            attained_ns: 0,
            jobs: 0,
            running: 0,
            queued: 0,
            ranked: BTreeSet::new(),
            waiting: BTreeSet::new(),
            turns_since_aged: 0,
        }
    }
}

/// A whole in parts of these weights, alike where all are 0. The parts' sum is the whole.
pub(super) fn divided(whole: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().copied().map(u128::from).sum();
    // Without the bits that would not fit into the products.
    let shift = (u128::BITS - sum.leading_zeros()).saturating_sub(u64::BITS);
    let weight = |own: u64| if sum == 0 { 1 } else { u128::from(own >> shift) };
    let all = weights.iter().copied().map(weight).sum::<u128>().max(1);
    let (mut up_to, mut given) = (0_u128, 0_u64);
    let part = |own: &u64| {
        up_to += weight(*own);
        // The quotient is at most the whole.
        let end = (u128::from(whole) * up_to / all) as u64;
        end - std::mem::replace(&mut given, end)
    };
    weights.iter().map(part).collect()
}

/// A sum in which one summand is replaced.
pub(super) fn replaced(sum: u64, before: u64, after: u64) -> u64 {
    sum.saturating_sub(before).saturating_add(after)
}
