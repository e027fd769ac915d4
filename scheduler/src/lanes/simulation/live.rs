//! The device and who waits for it, kept beside the lanes.

use std::collections::BTreeMap;

use super::world::{Random, World};
use crate::lanes::{DeviceAnswer, DeviceLane, Ticket};

/// Who asked for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Live {
        deadline_ns: u64,
    },
    /// A dispatch, by its number.
    Batch {
        flight: u64,
        is_undivided: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Request {
    asker: Asker,
    predicted_ns: u64,
    actual_ns: u64,
    bytes: u64,
    /// Whether everybody can meet their deadlines, by the model.
    is_promised: bool,
    /// For what it has waited behind batch work.
    behind_batch_ns: u64,
}

#[derive(Debug)]
pub(super) struct TrueDevice {
    pub lane: DeviceLane,
    requests: BTreeMap<Ticket, Request>,
    /// And since when.
    holder: Option<(Ticket, u64)>,
    resident: u64,
    pub is_present: bool,
    pub promises_kept: u64,
    pub live_waits: u64,
}

impl TrueDevice {
    pub(super) fn new(world: &World, lane: DeviceLane) -> Self {
        Self {
            lane,
            requests: BTreeMap::new(),
            holder: None,
            resident: 0,
            is_present: world.device_bytes_max > 0,
            promises_kept: 0,
            live_waits: 0,
        }
    }

    fn waiting_live(&self) -> Vec<(u64, Ticket)> {
        let holder = self.holder.map(|(ticket, _)| ticket);
        let waiting = self.requests.iter().filter(|(ticket, _)| Some(**ticket) != holder);
        let live = waiting.filter_map(|(ticket, request)| match request.asker {
            Asker::Live { deadline_ns } => Some((deadline_ns, *ticket)),
            Asker::Batch { .. } => None,
        });
        let mut live: Vec<_> = live.collect();
        live.sort_unstable();
        live
    }

    /// The device is the requester's. Returns when it will be given back.
    pub(super) fn granted(&mut self, world: &World, now_ns: u64, ticket: Ticket) -> u64 {
        assert_eq!(self.holder, None, "one dispatch at a time");
        let request = *self.requests.get(&ticket).expect("it was asked for");
        let live = self.waiting_live();
        match request.asker {
            Asker::Live { deadline_ns } => {
                assert_eq!(live.first(), Some(&(deadline_ns, ticket)), "deadlines come first");
            }
            Asker::Batch { is_undivided, .. } => {
                assert!(live.is_empty(), "live work waits: {live:?}");
                assert!(is_undivided || request.predicted_ns <= world.device_wait_ns_max);
            }
        }
        assert!(request.bytes + self.resident <= world.device_bytes_max);
        self.holder = Some((ticket, now_ns));
        now_ns + request.actual_ns
    }

    /// The lanes have answered. Returns who has it until when, if somebody has.
    pub(super) fn answered(
        &mut self,
        world: &World,
        now_ns: u64,
        asked: (Asker, u64, u64, u64),
        answer: DeviceAnswer,
    ) -> Option<(Ticket, u64)> {
        let (asker, predicted_ns, actual_ns, bytes) = asked;
        let ticket = match answer {
            DeviceAnswer::Granted(ticket) | DeviceAnswer::Wait { ticket, .. } => ticket,
            DeviceAnswer::Refused(_) => {
                let is_live = matches!(asker, Asker::Live { .. });
                let fits = bytes + self.resident <= world.device_bytes_max;
                assert!(!(is_live && fits && self.is_present), "refused: {answer:?}");
                return None;
            }
        };
        assert!(self.is_present, "the device is lost");
        let (is_promised, behind_batch_ns) = (false, 0);
        let request =
            Request { asker, predicted_ns, actual_ns, bytes, is_promised, behind_batch_ns };
        assert!(self.requests.insert(ticket, request).is_none(), "tickets are used once");
        let granted = match answer {
            DeviceAnswer::Granted(_) => Some((ticket, self.granted(world, now_ns, ticket))),
            _ => None,
        };
        if matches!(asker, Asker::Live { .. }) {
            self.live_waits += u64::from(granted.is_none());
            self.promise(now_ns);
        }
        granted
    }

    /// Who meets their deadline if nothing else comes: the earliest first.
    fn promise(&mut self, now_ns: u64) {
        let mut free_ns = now_ns;
        if let Some((ticket, since_ns)) = self.holder {
            let holder = self.requests.get_mut(&ticket).expect("it was asked for");
            free_ns = since_ns + holder.actual_ns;
            if let Asker::Live { deadline_ns } = holder.asker
                && since_ns == now_ns
            {
                holder.is_promised = free_ns <= deadline_ns;
            }
        }
        for (deadline_ns, ticket) in self.waiting_live() {
            let request = self.requests.get_mut(&ticket).expect("it waits");
            free_ns += request.actual_ns;
            request.is_promised = free_ns <= deadline_ns;
        }
    }

    /// A request is given back, or up. Returns who has the device until when, if that is new.
    pub(super) fn release(
        &mut self,
        world: &World,
        now_ns: u64,
        ticket: Ticket,
    ) -> Option<(Ticket, u64)> {
        let request = self.requests.remove(&ticket);
        if let (Some(request), Some((holder, since_ns))) = (request, self.holder)
            && holder == ticket
        {
            self.holder = None;
            self.check_ended(world, now_ns, since_ns, &request);
        }
        let next = self.lane.release(now_ns, ticket)?;
        Some((next, self.granted(world, now_ns, next)))
    }

    fn check_ended(&mut self, world: &World, now_ns: u64, since_ns: u64, request: &Request) {
        match request.asker {
            Asker::Live { deadline_ns } if request.is_promised => {
                assert!(now_ns <= deadline_ns, "a deadline at {deadline_ns} is missed: {now_ns}");
                self.promises_kept += 1;
            }
            Asker::Live { .. } => {}
            Asker::Batch { .. } => {
                let ran_ns = now_ns - since_ns;
                let late_ns = ran_ns.saturating_sub(request.predicted_ns);
                let max_ns = world.device_wait_ns_max.max(request.predicted_ns) + late_ns;
                for (_, ticket) in self.waiting_live() {
                    let live = self.requests.get_mut(&ticket).expect("it waits");
                    // At most: it may have come later.
                    live.behind_batch_ns += ran_ns;
                    let waited_ns = live.behind_batch_ns;
                    assert!(waited_ns <= max_ns, "live waits behind batch work for {waited_ns} ns");
                }
            }
        }
    }

    /// Who waits and has no more hope, to go elsewhere.
    pub(super) fn hopeless(&self) -> Option<Ticket> {
        let waiting = self.waiting_live().into_iter();
        waiting.map(|(_, ticket)| ticket).find(|ticket| !self.requests[ticket].is_promised)
    }

    pub(super) fn ticket_of(&self, flight: u64) -> Option<Ticket> {
        let asked = |request: &Request| match request.asker {
            Asker::Batch { flight: of, .. } => of == flight,
            Asker::Live { .. } => false,
        };
        self.requests.iter().find(|(_, request)| asked(request)).map(|(ticket, _)| *ticket)
    }

    pub(super) fn asker(&self, ticket: Ticket) -> Option<Asker> {
        self.requests.get(&ticket).map(|request| request.asker)
    }

    /// Returns the dispatches that lose it.
    pub(super) fn lose(&mut self) -> Vec<u64> {
        let mut void = self.lane.lose();
        void.sort_unstable();
        let requests = std::mem::take(&mut self.requests);
        assert!(void.iter().eq(requests.keys()), "all requests are void: {void:?}");
        (self.holder, self.resident, self.is_present) = (None, 0, false);
        let flights = requests.values().filter_map(|request| match request.asker {
            Asker::Batch { flight, .. } => Some(flight),
            Asker::Live { .. } => None,
        });
        flights.collect()
    }

    pub(super) fn restore(&mut self, world: &World) {
        self.lane.restore();
        self.is_present = world.device_bytes_max > 0;
    }

    pub(super) fn keep(&mut self, random: &mut Random) {
        let bytes = random.below(1_100);
        if self.lane.set_resident(bytes) {
            self.resident = bytes;
        }
    }

    pub(super) fn check(&self) {
        let status = self.lane.status();
        let live = self.waiting_live().len();
        let batch = self.requests.len() - live - usize::from(self.holder.is_some());
        assert_eq!((status.live_waiting, status.batch_waiting), (live, batch));
        assert_eq!(status.has_live || status.has_batch, self.holder.is_some());
        assert_eq!(status.resident_bytes, self.resident);
        let free = self.holder.is_some() || self.requests.is_empty();
        assert!(free, "the device is free, and somebody waits");
    }
}
