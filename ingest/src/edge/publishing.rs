//! A session that publishes: rows on their way from the stream to the service.

use std::collections::VecDeque;
use std::time::Instant;

use isotick_model::Ticks;
use isotick_wire::{Frame, Refusal};

use super::context::Context;
use crate::input::{ArrowDecoder, Input, Outlet, SessionId, Stamps, unavailable};
use crate::intake::Permit;
use crate::stages::Stage;

/// The rows of a welcomed publisher.
pub(super) struct Publishing {
    pub(super) outlet: Outlet,
    pub(super) takes_datagrams: bool,
    pub(super) arrow: ArrowDecoder,
    /// The number of the next row that comes without one.
    pub(super) next_row: u64,
    /// Rows that found no room in memory: nothing is read until they do.
    pending: VecDeque<Pending>,
}

impl Publishing {
    /// A publisher whose rows without a number begin at `next_row`.
    pub(super) fn new(
        outlet: Outlet,
        takes_datagrams: bool,
        arrow: ArrowDecoder,
        next_row: u64,
    ) -> Self {
        Self { outlet, takes_datagrams, arrow, next_row, pending: VecDeque::new() }
    }

    /// Whether rows wait for room in memory.
    pub(super) fn is_blocked(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Rows that came whole. Those that come without numbers go on after the greatest of these.
    pub(super) fn take(&mut self, frame: Frame, ts_recv_ns: i64) {
        let rejected = frame.rejected.iter().map(|row| row.sequence).max();
        let greatest = frame.ticks.sequence.iter().copied().max().max(rejected);
        self.next_row = self.next_row.max(greatest.map_or(0, |row| row.saturating_add(1)));
        self.pending.push_back(Pending { frame, ts_recv_ns, received: Instant::now() });
    }

    /// Hands the rows in hand to the service. False when there is no room for them yet.
    pub(super) fn hand_over(
        &mut self,
        session: SessionId,
        cx: &mut Context<'_>,
    ) -> Result<bool, Refusal> {
        while let Some(Pending { frame, ts_recv_ns, received }) = self.pending.pop_front() {
            let bytes = frame_bytes(&frame.ticks, frame.rejected.len());
            let Some(permit) = cx.intake.reserve(bytes, cx.mailbox) else {
                self.pending.push_front(Pending { frame, ts_recv_ns, received });
                return Ok(false);
            };
            cx.stages.record(Stage::Batch, received.elapsed());
            let stamps = Stamps { ts_recv_ns, received, queued: Instant::now() };
            if !cx.intake.push(frame_input(session, frame, stamps, permit)) {
                return Err(unavailable());
            }
        }
        Ok(true)
    }
}

struct Pending {
    frame: Frame,
    ts_recv_ns: i64,
    received: Instant,
}

/// What rows take in memory.
pub(super) fn frame_bytes(ticks: &Ticks, rejected: usize) -> usize {
    (ticks.len() + rejected) * (ticks.values.len() + 3) * 8
}

pub(super) fn frame_input(
    session: SessionId,
    frame: Frame,
    stamps: Stamps,
    permit: Permit,
) -> Input {
    Input::Frame { session, ticks: frame.ticks, rejected: frame.rejected, stamps, permit }
}
