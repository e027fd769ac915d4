//! One device for both lanes: one dispatch at a time, live work first and by its deadline, batch
//! work in pieces that live work can wait for. A state machine of its own, because whoever has the
//! device need not be whoever has the workers; `now_ns` is as in [`Lanes`](super::Lanes).

use std::collections::BTreeMap;

use super::planted::{Bug, Planted};

/// In what time half of what a slow dispatch has taught is forgotten.
const FORGET_NS: u64 = 1_000_000_000;
/// Predictions are corrected by no more than this factor, parts per thousand.
const CORRECTION_MAX: u64 = 64_000;
const UNCORRECTED: u64 = 1_000;

/// A request for the device. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a request for the device leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceAnswer {
    /// It is the requester's until [`DeviceLane::release`].
    Granted(Ticket),
    /// Another has it; [`DeviceLane::release`] returns the ticket when it is its turn. Whoever does
    /// not want to wait gives the ticket back.
    Wait {
        /// The request.
        ticket: Ticket,
        /// When it is predicted to be granted, if no other comes before.
        predicted_start_ns: u64,
    },
    /// To be done on the CPU, or in smaller pieces.
    Refused(DeviceRefused),
}

/// Why a request for the device was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceRefused {
    /// There is no device, or it is lost.
    #[error("there is no device")]
    Absent,
    /// Live work might have to wait for too long.
    #[error(
        "the dispatch is predicted to take {predicted_ns} ns of {max_ns} ns that live work may \
         wait: cut it into {dispatches}"
    )]
    TooLong {
        /// As predicted, corrected by how the last ones went.
        predicted_ns: u64,
        /// What live work may wait.
        max_ns: u64,
        /// Pieces, each of them short enough.
        dispatches: u64,
    },
    /// It does not fit beside what stays on the device.
    #[error("the dispatch takes {bytes} bytes on the device, of {free} that are free")]
    TooLarge {
        /// What it takes.
        bytes: u64,
        /// What is left.
        free: u64,
    },
}

/// The device as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceStatus {
    /// Whether there is one.
    pub is_present: bool,
    /// Whether a live dispatch has it.
    pub has_live: bool,
    /// Whether a batch dispatch has it.
    pub has_batch: bool,
    /// Live requests that wait.
    pub live_waiting: usize,
    /// Batch requests that wait.
    pub batch_waiting: usize,
    /// Bytes of the dispatch that has it.
    pub dispatch_bytes: u64,
    /// Bytes that stay on it.
    pub resident_bytes: u64,
    /// Bytes there are.
    pub bytes_max: u64,
    /// Factor by which predictions of batch work are corrected, parts per thousand.
    pub correction_permille: u64,
    /// Longest time that live work has waited for a batch dispatch.
    pub live_behind_batch_ns_max: u64,
    /// Grants to the live lane.
    pub live_grants: u64,
    /// Grants to the batch lane.
    pub batch_grants: u64,
    /// Of these, the ones that live work may have had to wait for longer than it should.
    pub undivided_grants: u64,
    /// Batch requests that were refused.
    pub batch_refused: u64,
    /// Times that it was lost.
    pub losses: u64,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    predicted_ns: u64,
    bytes: u64,
    asked_ns: u64,
    is_undivided: bool,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    ticket: Ticket,
    request: Request,
    granted_ns: u64,
    is_live: bool,
}

/// A device, and who waits for it.
#[derive(Debug)]
pub struct DeviceLane {
    pub(super) planted: Planted,
    now_ns: u64,
    wait_ns_max: u64,
    is_present: bool,
    next: u64,
    holder: Option<Holder>,
    /// By deadline.
    live: BTreeMap<(u64, Ticket), Request>,
    batch: BTreeMap<Ticket, Request>,
    /// How slow batch work is beside its prediction, and since when.
    correction: u64,
    corrected_ns: u64,
    status: DeviceStatus,
}

impl DeviceLane {
    /// A device with nothing on it, or none where `bytes_max` is 0. A dispatch of the batch lane
    /// may be predicted to take `wait_ns_max` at most: what live work may have to wait for.
    pub fn new(bytes_max: u64, wait_ns_max: u64) -> Self {
        Self {
            planted: Planted::default(),
            now_ns: 0,
            wait_ns_max,
            is_present: bytes_max > 0,
            next: 0,
            holder: None,
            live: BTreeMap::new(),
            batch: BTreeMap::new(),
            correction: UNCORRECTED,
            corrected_ns: 0,
            status: DeviceStatus { bytes_max, ..DeviceStatus::default() },
        }
    }

    /// Asks for the device for live work. The earliest deadline is served first.
    pub fn request_live(
        &mut self,
        now_ns: u64,
        deadline_ns: u64,
        predicted_ns: u64,
        bytes: u64,
    ) -> DeviceAnswer {
        self.now_ns = self.now_ns.max(now_ns);
        if let Err(why) = self.check(bytes) {
            return DeviceAnswer::Refused(why);
        }
        let ticket = self.ticket();
        let request = self.request(predicted_ns, bytes, false);
        self.live.insert((deadline_ns, ticket), request);
        let before = self.live.range(..(deadline_ns, ticket)).map(|(_, r)| r.predicted_ns);
        let predicted_start_ns = before.fold(self.free_ns(), u64::saturating_add);
        self.answer(ticket, predicted_start_ns)
    }

    /// Asks for the device for a part of a scan, which has it when no live request waits, in the
    /// order of the requests.
    pub fn request_batch(&mut self, now_ns: u64, predicted_ns: u64, bytes: u64) -> DeviceAnswer {
        self.now_ns = self.now_ns.max(now_ns);
        self.forget();
        let corrected_ns = corrected(predicted_ns, self.correction);
        if corrected_ns > self.wait_ns_max && self.is_present {
            let max_ns = self.wait_ns_max;
            // What is too long by the correction alone is so by less than a whole piece.
            let dispatches = super::cutting::dispatches_within(corrected_ns, max_ns).max(2);
            self.status.batch_refused += 1;
            let why = DeviceRefused::TooLong { predicted_ns: corrected_ns, max_ns, dispatches };
            return DeviceAnswer::Refused(why);
        }
        self.take_batch(predicted_ns, bytes, false)
    }

    /// The same for a dispatch that cannot be cut and must not run elsewhere, however long it is
    /// predicted to take: live work may have to wait for all of it. Counted.
    pub fn request_undivided(
        &mut self,
        now_ns: u64,
        predicted_ns: u64,
        bytes: u64,
    ) -> DeviceAnswer {
        self.now_ns = self.now_ns.max(now_ns);
        self.take_batch(predicted_ns, bytes, true)
    }

    /// Gives the device back, or a request up. Returns who has the device from now on, if that
    /// has changed. A ticket that means nothing any more changes nothing.
    pub fn release(&mut self, now_ns: u64, ticket: Ticket) -> Option<Ticket> {
        self.now_ns = self.now_ns.max(now_ns);
        match self.holder {
            Some(holder) if holder.ticket == ticket => {
                self.holder = None;
                if !holder.is_live {
                    self.learn(holder);
                }
            }
            _ => {
                self.live.retain(|(_, waiting), _| *waiting != ticket);
                self.batch.remove(&ticket);
            }
        }
        self.grant()
    }

    /// What stays on the device from one dispatch to the next. Refused, and `false`, where a
    /// request that was taken would no longer fit.
    pub fn set_resident(&mut self, bytes: u64) -> bool {
        let requests = self.live.values().chain(self.batch.values());
        let requests = requests.chain(self.holder.as_ref().map(|holder| &holder.request));
        let largest = requests.map(|request| request.bytes).max().unwrap_or(0);
        let fits = bytes.saturating_add(largest) <= self.status.bytes_max && self.is_present;
        if fits {
            self.status.resident_bytes = bytes;
        }
        fits
    }

    /// The device is lost. Returns the requests that are void, whoever had it first: their work is
    /// to be done on the CPU. Until [`DeviceLane::restore`], all requests are refused.
    pub fn lose(&mut self) -> Vec<Ticket> {
        if !self.is_present {
            return Vec::new();
        }
        self.is_present = false;
        self.status.losses += 1;
        self.status.resident_bytes = 0;
        let holder = self.holder.take().map(|holder| holder.ticket);
        let live = std::mem::take(&mut self.live).into_keys().map(|(_, ticket)| ticket);
        let batch = std::mem::take(&mut self.batch).into_keys();
        holder.into_iter().chain(live).chain(batch).collect()
    }

    /// The device is there, with nothing on it.
    pub fn restore(&mut self) {
        self.is_present = self.status.bytes_max > 0;
    }

    /// The device at this moment.
    pub fn status(&self) -> DeviceStatus {
        DeviceStatus {
            is_present: self.is_present,
            has_live: self.holder.is_some_and(|holder| holder.is_live),
            has_batch: self.holder.is_some_and(|holder| !holder.is_live),
            live_waiting: self.live.len(),
            batch_waiting: self.batch.len(),
            dispatch_bytes: self.holder.map_or(0, |holder| holder.request.bytes),
            correction_permille: self.correction,
            ..self.status.clone()
        }
    }

    fn request(&self, predicted_ns: u64, bytes: u64, is_undivided: bool) -> Request {
        Request { predicted_ns, bytes, asked_ns: self.now_ns, is_undivided }
    }

    fn take_batch(&mut self, predicted_ns: u64, bytes: u64, is_undivided: bool) -> DeviceAnswer {
        if let Err(why) = self.check(bytes) {
            self.status.batch_refused += 1;
            return DeviceAnswer::Refused(why);
        }
        let ticket = self.ticket();
        let request = self.request(predicted_ns, bytes, is_undivided);
        self.batch.insert(ticket, request);
        let before = self.live.values().chain(self.batch.range(..ticket).map(|(_, r)| r));
        let before = before.map(|request| request.predicted_ns);
        let predicted_start_ns = before.fold(self.free_ns(), u64::saturating_add);
        self.answer(ticket, predicted_start_ns)
    }

    fn answer(&mut self, ticket: Ticket, predicted_start_ns: u64) -> DeviceAnswer {
        match self.grant() == Some(ticket) {
            true => DeviceAnswer::Granted(ticket),
            false => DeviceAnswer::Wait { ticket, predicted_start_ns },
        }
    }

    fn check(&self, bytes: u64) -> Result<(), DeviceRefused> {
        let free = self.status.bytes_max - self.status.resident_bytes;
        match self.is_present {
            false => Err(DeviceRefused::Absent),
            true if bytes > free => Err(DeviceRefused::TooLarge { bytes, free }),
            true => Ok(()),
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// When the device is free, by what is predicted.
    fn free_ns(&self) -> u64 {
        let Some(holder) = self.holder else { return self.now_ns };
        let predicted_ns = match holder.is_live {
            true => holder.request.predicted_ns,
            false => corrected(holder.request.predicted_ns, self.correction),
        };
        holder.granted_ns.saturating_add(predicted_ns).max(self.now_ns)
    }

    /// The device goes to whoever is next, if it is free.
    fn grant(&mut self) -> Option<Ticket> {
        if self.holder.is_some() {
            return None;
        }
        let batch_first = self.planted.has(Bug::BatchBeforeLive) && !self.batch.is_empty();
        let live = if batch_first { None } else { self.live.pop_first() };
        let is_live = live.is_some();
        let next = live.map(|((_, ticket), request)| (ticket, request));
        let (ticket, request) = next.or_else(|| self.batch.pop_first())?;
        let grants = match is_live {
            true => &mut self.status.live_grants,
            false => &mut self.status.batch_grants,
        };
        *grants += 1;
        self.status.undivided_grants += u64::from(request.is_undivided);
        self.holder = Some(Holder { ticket, request, granted_ns: self.now_ns, is_live });
        Some(ticket)
    }

    /// From how long a batch dispatch has taken.
    fn learn(&mut self, holder: Holder) {
        self.forget();
        let now_ns = self.now_ns;
        let took_ns = now_ns.saturating_sub(holder.granted_ns);
        let permille = u128::from(took_ns) * 1_000 / u128::from(holder.request.predicted_ns.max(1));
        let seen = permille.clamp(UNCORRECTED.into(), CORRECTION_MAX.into()) as u64;
        self.correction = match seen >= self.correction {
            true => seen,
            false => self.correction - (self.correction - seen) / 8,
        };
        let waited = self.live.values().map(|live| now_ns - live.asked_ns.max(holder.granted_ns));
        let longest = &mut self.status.live_behind_batch_ns_max;
        *longest = waited.fold(*longest, u64::max);
    }

    fn forget(&mut self) {
        let halvings = self.now_ns.saturating_sub(self.corrected_ns) / FORGET_NS;
        if halvings > 0 {
            let excess = self.correction - UNCORRECTED;
            self.correction =
                UNCORRECTED + excess.checked_shr(halvings.min(64) as u32).unwrap_or(0);
            self.corrected_ns += halvings * FORGET_NS;
        }
    }
}

fn corrected(predicted_ns: u64, permille: u64) -> u64 {
    let ns = (u128::from(predicted_ns) * u128::from(permille)).div_ceil(1_000);
    u64::try_from(ns).unwrap_or(u64::MAX)
}
