//! From frames to what is logged: deduplication, validation, watermark, marks and counts.
//!
//! Sans-IO and deterministic: the outcome is a function of the rows in their order of arrival
//! (within a frame: ticks as they stand, then rejected rows), of `ts_recv_ns` where a stream has a
//! horizon, and of the order of joins and idles. How rows were cut into frames does not matter.

mod content;
mod held;
mod saved;
mod validate;

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;

use arrow_buffer::NullBuffer;
use isotick_model::schema::StreamSchema;
use isotick_model::ticks::ON_TIME;
use isotick_model::view::Tumbling;
use isotick_model::watermark::Watermark;
use isotick_model::{LogPosition, PublisherId, Rejected, Ticks, ValueColumn};
use isotick_wire::{Ack, Rejections};

use crate::error::SequencerError;
use content::RecentContent;
pub use content::hashes as content_hashes;
use held::Held;
pub use saved::{SavedPublisher, SavedSequencer};
use validate::TimeRange;

/// The most publishers of all streams together.
pub const PUBLISHERS_MAX: usize = 1 << 20;

/// A publisher of a stream, as a short handle. Valid for the sequencer that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

/// Which rows of a publisher are held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Every row below this sequence.
    pub next_sequence: u64,
    /// And these, ascending, disjoint, at most [`isotick_wire::control::HELD_RANGES_MAX`].
    pub held: Vec<RangeInclusive<u64>>,
}

/// What a frame came to: the content of one log record.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// New, valid rows in the order of arrival, `seen` filled.
    pub ticks: Ticks,
    /// New rows that are no ticks: the edge's own findings, then the client's.
    pub rejected: Vec<Rejected>,
    /// The rows that the edge rejected, as they came: in the order of [`Self::rejected`], which
    /// begins with them. `None` when there is none.
    pub letters: Option<Ticks>,
    /// Accepted ticks behind the watermark.
    pub late: u64,
    /// Rows left out because they are held with the same, or no longer remembered, content.
    pub duplicate: u64,
    /// Rows left out because they are held with other content.
    pub conflicting: u64,
}

impl Accepted {
    /// Whether there is nothing to log.
    pub fn is_empty(&self) -> bool {
        self.ticks.is_empty() && self.rejected.is_empty()
    }
}

/// A stream's part of the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// The stream's name.
    pub stream: String,
    /// W, nanoseconds UTC, `None` before every active publisher has sent.
    pub watermark: Option<i64>,
    /// The stream's publishers, in the order in which they became known.
    pub publishers: Vec<PublisherStatus>,
}

/// A publisher's part of the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherStatus {
    /// Who.
    pub publisher: PublisherId,
    /// Whether it holds the watermark.
    pub active: bool,
    /// Sessions open now.
    pub sessions: u32,
    /// Marks and counts.
    pub ack: Ack,
}

/// All streams' publishers. Calls are made in log order.
///
/// A new session: [`slot`](Self::slot), [`marks`](Self::marks), [`join`](Self::join). A frame:
/// [`accept`](Self::accept). Its end: [`leave`](Self::leave), [`idle`](Self::idle). The log's
/// progress: [`written`](Self::written), [`durable`](Self::durable). At start, before all of
/// that: [`restore`](Self::restore), [`restore_mark`](Self::restore_mark), [`replay`](Self::replay),
/// [`replay_join`](Self::replay_join) and [`idle`](Self::idle) for what the log holds.
#[derive(Debug, Default)]
pub struct Sequencer {
    streams: Vec<Stream>,
    publishers: Vec<Publisher>,
    slots: HashMap<(usize, PublisherId), Slot>,
    /// Marks that records reached, in log order, until they are written.
    unwritten: VecDeque<Reached>,
    /// The same until they are durable.
    undurable: VecDeque<Reached>,
    /// Of the frame in hand.
    hashes: Vec<u64>,
}

#[derive(Debug)]
struct Stream {
    schema: StreamSchema,
    times: TimeRange,
    watermark: Watermark,
}

#[derive(Debug)]
struct Publisher {
    id: PublisherId,
    stream: usize,
    sessions: u32,
    active: bool,
    held: Held,
    content: RecentContent,
    ack: Ack,
}

#[derive(Clone, Copy, Debug)]
struct Reached {
    position: LogPosition,
    slot: Slot,
    through: u64,
}

impl Sequencer {
    /// Declares a stream with the windows of all its views, or replaces its declaration (more
    /// optional columns at the end, other windows). A time that fits no window of a view is
    /// rejected.
    pub fn declare(&mut self, schema: StreamSchema, windows: &[Tumbling]) {
        let times = TimeRange::of(windows);
        match self.streams.iter_mut().find(|stream| stream.schema.name == schema.name) {
            Some(stream) => (stream.schema, stream.times) = (schema, times),
            None => self.streams.push(Stream { schema, times, watermark: Watermark::default() }),
        }
    }

    /// The handle of a publisher of a stream; it is known from now on.
    ///
    /// # Errors
    ///
    /// An unknown stream, or too many publishers.
    pub fn slot(&mut self, stream: &str, publisher: &PublisherId) -> Result<Slot, SequencerError> {
        let index = self.streams.iter().position(|known| known.schema.name == stream);
        let Some(index) = index else {
            let names: Vec<_> = self.streams.iter().map(|s| s.schema.name.as_str()).collect();
            let declared = if names.is_empty() { "none".into() } else { names.join(", ") };
            return Err(SequencerError::UnknownStream { stream: stream.into(), declared });
        };
        if let Some(&slot) = self.slots.get(&(index, publisher.clone())) {
            return Ok(slot);
        }
        let publishers = self.publishers.len();
        if publishers >= PUBLISHERS_MAX {
            return Err(SequencerError::TooManyPublishers { publishers });
        }
        let slot = Slot(publishers as u32);
        self.slots.insert((index, publisher.clone()), slot);
        self.publishers.push(Publisher {
            id: publisher.clone(),
            stream: index,
            sessions: 0,
            active: false,
            held: Held::default(),
            content: RecentContent::default(),
            ack: Ack::default(),
        });
        Ok(slot)
    }

    /// The publisher's name.
    pub fn publisher(&self, slot: Slot) -> &PublisherId {
        &self.at(slot).id
    }

    /// The stream's schema.
    pub fn schema(&self, slot: Slot) -> &StreamSchema {
        &self.streams[self.at(slot).stream].schema
    }

    /// Which rows are held.
    pub fn marks(&self, slot: Slot) -> Marks {
        self.at(slot).held.marks()
    }

    /// Where the publisher stands.
    pub fn ack(&self, slot: Slot) -> Ack {
        self.at(slot).ack
    }

    /// W of a stream, `None` for an unknown one too.
    pub fn watermark(&self, stream: &str) -> Option<i64> {
        self.streams.iter().find(|known| known.schema.name == stream)?.watermark.get()
    }

    /// A session begins. True when the publisher becomes active by it: that is to be logged.
    pub fn join(&mut self, slot: Slot) -> bool {
        self.at_mut(slot).sessions += 1;
        self.replay_join(slot)
    }

    /// A join that the log holds: the publisher is active, without a session. True when it was not
    /// active before.
    pub fn replay_join(&mut self, slot: Slot) -> bool {
        let publisher = &mut self.publishers[slot.0 as usize];
        self.streams[publisher.stream].watermark.join(&publisher.id);
        !std::mem::replace(&mut publisher.active, true)
    }

    /// A session ends. True when the publisher is active without a session now: make it
    /// [`idle`](Self::idle) at once, or later if it does not come back.
    pub fn leave(&mut self, slot: Slot) -> bool {
        let publisher = self.at_mut(slot);
        publisher.sessions = publisher.sessions.saturating_sub(1);
        publisher.sessions == 0 && publisher.active
    }

    /// The publisher holds the watermark no longer: it finished, went away, or the log says so.
    /// True when it was active: that is to be logged.
    pub fn idle(&mut self, slot: Slot) -> bool {
        let publisher = &mut self.publishers[slot.0 as usize];
        self.streams[publisher.stream].watermark.idle(&publisher.id);
        std::mem::replace(&mut publisher.active, false)
    }

    /// Publishers that are active without a session, e.g. after a restart.
    pub fn abandoned(&self) -> Vec<Slot> {
        let found = self.publishers.iter().zip(0..).filter(|(p, _)| p.active && p.sessions == 0);
        found.map(|(_, slot)| Slot(slot)).collect()
    }

    /// A frame of a publisher. What comes back is to be logged at `position`, unless it is empty:
    /// then the position stays free. A publisher that was not active is active by this.
    ///
    /// Rows are judged in the order of arrival: a sequence that is held is a repeat, duplicate or
    /// conflicting; else the row is accepted, or rejected with the first reason of: time out of
    /// range, beyond the horizon, malformed key, unknown key, values in schema order. A rejected row is held too, without
    /// its content: its repeats count as duplicates.
    ///
    /// # Errors
    ///
    /// More, or further, rows beyond a gap than are remembered. Nothing was changed then; the
    /// session is to be ended.
    ///
    /// # Panics
    ///
    /// When `ticks` has more columns than the schema: the session decodes by the schema.
    pub fn accept(
        &mut self,
        slot: Slot,
        ticks: Ticks,
        rejected: Vec<Rejected>,
        ts_recv_ns: i64,
        position: LogPosition,
    ) -> Result<Accepted, SequencerError> {
        let publisher = &mut self.publishers[slot.0 as usize];
        let stream = &mut self.streams[publisher.stream];
        let sequences =
            || ticks.sequence.iter().copied().chain(rejected.iter().map(|r| r.sequence));
        publisher.held.check(&publisher.id, ticks.len() + rejected.len(), sequences)?;
        let ticks = with_all_columns(ticks, stream.schema.columns.len());
        let reasons = validate::rows(&stream.schema, stream.times, &ticks, ts_recv_ns);
        content::hashes_into(&ticks, &mut self.hashes);
        let mut accepted = match &reasons {
            None if rejected.is_empty() && publisher.held.extend(&ticks.sequence) => {
                publisher.content.remember_all(&ticks.sequence, &self.hashes);
                Accepted { ticks, rejected, letters: None, late: 0, duplicate: 0, conflicting: 0 }
            }
            _ => publisher.dedup(ticks, rejected, reasons.as_deref(), &self.hashes),
        };
        if !accepted.ticks.is_empty() {
            let (rows, mut seen) = (accepted.ticks.len(), Vec::new());
            let late = &mut accepted.late;
            stream.watermark.observe(&publisher.id, &accepted.ticks.ts_event, |row, w| {
                if seen.is_empty() {
                    seen.resize(rows, ON_TIME);
                }
                seen[row] = w;
                *late += 1;
            });
            publisher.active = true;
            accepted.ticks.seen = (!seen.is_empty()).then(|| seen.into());
        }
        publisher.count(&accepted);
        if !accepted.is_empty() {
            let through = publisher.ack.received_through;
            self.unwritten.push_back(Reached { position, slot, through });
        }
        Ok(accepted)
    }

    /// A block that the log holds. It was validated when it was accepted; every row is taken as it
    /// stands, and all three marks move, for what was read back is on the disk.
    pub fn replay(&mut self, slot: Slot, ticks: &Ticks, rejected: &[Rejected]) {
        let publisher = &mut self.publishers[slot.0 as usize];
        content::hashes_into(ticks, &mut self.hashes);
        if !publisher.held.extend(&ticks.sequence) {
            ticks.sequence.iter().for_each(|&sequence| {
                publisher.held.insert(sequence);
            });
        }
        publisher.content.remember_all(&ticks.sequence, &self.hashes);
        for row in rejected {
            publisher.held.insert(row.sequence);
            publisher.ack.rejected.add(row.reason, 1);
        }
        if !ticks.is_empty() {
            let stream = &mut self.streams[publisher.stream];
            stream.watermark.observe(&publisher.id, &ticks.ts_event, |_, _| ());
            publisher.active = true;
        }
        publisher.ack.accepted += ticks.len() as u64;
        publisher.ack.late +=
            (0..ticks.len()).filter(|&row| ticks.seen_of(row) != ON_TIME).count() as u64;
        publisher.all_marks_at_received();
    }

    /// A block that the log holds and that a [restored](Self::restore) sequencer has taken
    /// already: what its rows hold is remembered again, so that their repeats can be told from
    /// conflicts. Nothing for a publisher that is not known.
    pub fn remember(&mut self, stream: &str, ticks: &Ticks) {
        let index = self.streams.iter().position(|known| known.schema.name == stream);
        let publisher = ticks.publishers.first().cloned();
        let slot = index.zip(publisher).and_then(|known| self.slots.get(&known).copied());
        if let Some(slot) = slot {
            content::hashes_into(ticks, &mut self.hashes);
            let publisher = &mut self.publishers[slot.0 as usize];
            publisher.content.remember_all(&ticks.sequence, &self.hashes);
        }
    }

    /// The rows `0..rows` of a publisher are held in imported history: they need not be sent, and
    /// are durable.
    pub fn restore_mark(&mut self, slot: Slot, rows: u64) {
        let publisher = self.at_mut(slot);
        publisher.held.raise(rows);
        publisher.all_marks_at_received();
    }

    /// Closes gaps of a publisher: rows below `through` that are not held are taken as lost, and
    /// count as repeats if they still come. True when there were any: that is to be logged at
    /// `position`.
    pub fn close_gaps(&mut self, slot: Slot, through: u64, position: LogPosition) -> bool {
        let publisher = &mut self.publishers[slot.0 as usize];
        // A number that no session can have reached closes what is there, not what may come.
        let through = through.min(publisher.held.next().saturating_add(held::AHEAD_MAX));
        let lost = publisher.held.raise(through);
        publisher.ack.lost += lost;
        publisher.ack.missing = publisher.held.missing();
        publisher.ack.received_through = publisher.held.next();
        if lost > 0 {
            let through = publisher.ack.received_through;
            self.unwritten.push_back(Reached { position, slot, through });
        }
        lost > 0
    }

    /// Where the first gap of a publisher ends, if it must be closed before
    /// [`accept`](Self::accept) takes these rows: more are held beyond it than are remembered.
    pub fn gap_in_the_way(&self, slot: Slot, ticks: &Ticks, rejected: &[Rejected]) -> Option<u64> {
        let Publisher { id, held, .. } = self.at(slot);
        let rows = ticks.len() + rejected.len();
        if !held.is_crowded(rows) {
            return None;
        }
        let sequences =
            || ticks.sequence.iter().copied().chain(rejected.iter().map(|row| row.sequence));
        match held.check(id, rows, sequences) {
            Err(SequencerError::TooManyGaps { .. }) => held.first_beyond(),
            _ => None,
        }
    }

    /// Closed gaps that the log holds.
    pub fn replay_lost(&mut self, slot: Slot, through: u64) {
        let publisher = self.at_mut(slot);
        publisher.ack.lost += publisher.held.raise(through);
        publisher.all_marks_at_received();
    }

    /// The log's records up to and with `position` are handed to the operating system. Returns the
    /// publishers whose marks moved, each once.
    pub fn written(&mut self, position: LogPosition) -> Vec<Slot> {
        let mut moved = Vec::new();
        while let Some(reached) = self.unwritten.pop_front_if(|next| next.position <= position) {
            let ack = &mut self.publishers[reached.slot.0 as usize].ack;
            ack.written_through = ack.written_through.max(reached.through);
            self.undurable.push_back(reached);
            moved.push(reached.slot);
        }
        each_once(moved)
    }

    /// The log's records up to and with `position` are synced to the disk. Returns the publishers
    /// whose marks moved, each once.
    pub fn durable(&mut self, position: LogPosition) -> Vec<Slot> {
        let mut moved = self.written(position);
        while let Some(reached) = self.undurable.pop_front_if(|next| next.position <= position) {
            let ack = &mut self.publishers[reached.slot.0 as usize].ack;
            ack.durable_through = ack.durable_through.max(reached.through);
            moved.push(reached.slot);
        }
        each_once(moved)
    }

    /// Every stream with its publishers, in declared order.
    pub fn status(&self) -> Vec<StreamStatus> {
        let status = |(index, stream): (usize, &Stream)| {
            let publishers = self.publishers.iter().filter(|publisher| publisher.stream == index);
            let publishers = publishers.map(|publisher| PublisherStatus {
                publisher: publisher.id.clone(),
                active: publisher.active,
                sessions: publisher.sessions,
                ack: publisher.ack,
            });
            StreamStatus {
                stream: stream.schema.name.clone(),
                watermark: stream.watermark.get(),
                publishers: publishers.collect(),
            }
        };
        self.streams.iter().enumerate().map(status).collect()
    }

    fn at(&self, slot: Slot) -> &Publisher {
        &self.publishers[slot.0 as usize]
    }

    fn at_mut(&mut self, slot: Slot) -> &mut Publisher {
        &mut self.publishers[slot.0 as usize]
    }
}

impl Publisher {
    /// Splits rows into new valid ones, new rejected ones and repeats. `reasons` is per tick, 0
    /// for valid; `None` when all are valid. `content` holds the ticks' hashes.
    fn dedup(
        &mut self,
        ticks: Ticks,
        client_rejected: Vec<Rejected>,
        reasons: Option<&[u8]>,
        content: &[u64],
    ) -> Accepted {
        let (mut duplicate, mut conflicting) = (0, 0);
        let mut fresh = Vec::with_capacity(ticks.len());
        let mut rejected = Vec::new();
        let mut refused: Vec<u32> = Vec::new();
        for (row, &sequence) in ticks.sequence.iter().enumerate() {
            if !self.held.insert(sequence) {
                match self.content.recall(sequence) {
                    Some(known) if known != content[row] => conflicting += 1,
                    _ => duplicate += 1,
                }
                continue;
            }
            match reasons.and_then(|reasons| validate::reason(reasons[row])) {
                Some(reason) => {
                    rejected.push(Rejected { sequence, reason });
                    refused.push(row as u32);
                }
                None => {
                    self.content.remember(sequence, content[row]);
                    fresh.push(row as u32);
                }
            }
        }
        for row in client_rejected {
            if self.held.insert(row.sequence) {
                rejected.push(row);
            } else if self.content.recall(row.sequence).is_some() {
                conflicting += 1;
            } else {
                duplicate += 1;
            }
        }
        let letters = (!refused.is_empty()).then(|| ticks.take(&refused));
        let ticks = if fresh.len() == ticks.len() { ticks } else { ticks.take(&fresh) };
        Accepted { ticks, rejected, letters, late: 0, duplicate, conflicting }
    }

    fn count(&mut self, accepted: &Accepted) {
        let ack = &mut self.ack;
        ack.received_through = self.held.next();
        ack.missing = self.held.missing();
        ack.accepted += accepted.ticks.len() as u64;
        ack.late += accepted.late;
        ack.duplicate += accepted.duplicate;
        ack.conflicting += accepted.conflicting;
        accepted.rejected.iter().for_each(|row| ack.rejected.add(row.reason, 1));
    }

    fn all_marks_at_received(&mut self) {
        let through = self.held.next();
        self.ack.received_through = through;
        self.ack.written_through = through;
        self.ack.durable_through = through;
        self.ack.missing = self.held.missing();
    }
}

/// Columns that were added to the schema after the session began are null in its rows.
fn with_all_columns(mut ticks: Ticks, columns: usize) -> Ticks {
    assert!(ticks.values.len() <= columns, "a frame has more columns than the schema");
    let rows = ticks.len();
    ticks.values.resize_with(columns, || ValueColumn {
        values: vec![0; rows].into(),
        nulls: Some(NullBuffer::new_null(rows)),
    });
    ticks
}

fn each_once(mut slots: Vec<Slot>) -> Vec<Slot> {
    slots.sort_unstable();
    slots.dedup();
    slots
}

/// Sums of the counts of several acks, for a stream's or the service's totals.
pub fn total_rejections<'a>(acks: impl IntoIterator<Item = &'a Ack>) -> Rejections {
    let mut total = Rejections::default();
    for ack in acks {
        ack.rejected.iter().for_each(|(reason, rows)| total.add(reason, rows));
    }
    total
}

#[cfg(test)]
mod tests;
