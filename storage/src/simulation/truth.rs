//! What must be there: every record that was handed to the log, and every manifest that may be in
//! force.

use std::hash::{DefaultHasher, Hash, Hasher};

use isotick_model::{StreamSchema, Ticks};

use crate::fixtures::{Random, Row, rows, ticks};

pub(super) const DAY_NS: i64 = 86_400_000_000_000;
const PUBLISHERS: [&str; 2] = ["p", "q"];

/// A stored row, by publisher and sequence, with a hash of all that it says.
pub(super) type Held = (String, u64, u64);

pub(super) fn held_of(ticks: &Ticks) -> Vec<Held> {
    let held = |row: &Row| {
        let mut hasher = DefaultHasher::new();
        row.hash(&mut hasher);
        (row.2.as_str().to_owned(), row.3, hasher.finish())
    };
    rows(ticks).iter().map(held).collect()
}

/// What a live path would hold: how far each publisher came, and all that was ever said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    next: [u64; 2],
    said: u64,
}

impl Live {
    pub fn take(&mut self, ticks: &Ticks) {
        for (name, sequence, hash) in held_of(ticks) {
            let which = PUBLISHERS.iter().position(|known| *known == name).unwrap();
            assert_eq!(sequence, self.next[which], "rows of {name} come in order and once");
            self.next[which] += 1;
            self.said = (self.said.rotate_left(1) ^ hash).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    /// As a checkpoint holds it.
    pub fn encode(&self) -> Vec<u8> {
        [self.next[0], self.next[1], self.said].iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(bytes.len(), 24);
        Self { next: [word(0), word(8)], said: word(16) }
    }
}

/// A record that was handed to the log.
pub(super) struct Sent {
    pub ticks: Ticks,
    /// What the live path holds after it.
    pub live: Live,
    /// The stream's watermark after it.
    pub watermark: i64,
}

/// A manifest that may be in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InForce {
    pub version: u64,
    pub covered: u64,
    /// Of records before the position, ticks before the time are gone.
    pub dropped: Vec<(u64, i64)>,
    /// Positions of checkpoints.
    pub checkpoints: Vec<u64>,
}

pub(super) struct Truth {
    pub schema: StreamSchema,
    /// By position.
    pub records: Vec<Sent>,
    /// Everything before it was appended without an error.
    pub written: u64,
    /// Everything before it was acknowledged as durable.
    pub durable: u64,
    /// The manifest whose commit ended well, and later ones that may have reached the disk.
    pub manifests: Vec<InForce>,
    marks: u64,
}

impl Truth {
    pub fn new(schema: StreamSchema) -> Self {
        let manifests = vec![InForce::default()];
        Self { schema, records: Vec::new(), written: 0, durable: 0, manifests, marks: 0 }
    }

    /// The manifest in force as the running process sees it.
    pub fn in_force(&self) -> &InForce {
        self.manifests.last().expect("one is")
    }

    pub fn live_at(&self, position: u64) -> Live {
        match position.checked_sub(1) {
            Some(last) => self.records[last as usize].live.clone(),
            None => Live::default(),
        }
    }

    pub fn watermark_at(&self, position: u64) -> Option<i64> {
        position.checked_sub(1).map(|last| self.records[last as usize].watermark)
    }

    /// The next rows of some publisher, behind everything that is written. Days go on slowly; some
    /// rows come days late.
    pub fn send(&mut self, random: &mut Random) -> Ticks {
        let position = self.records.len() as u64;
        let mut live = self.live_at(position);
        let which = random.below(2) as usize;
        self.marks += 1;
        let (first, count) = (live.next[which], 1 + random.below(20));
        let sent = ticks(&self.schema, PUBLISHERS[which], first, count, self.marks);
        let late = if random.below(5) == 0 { random.below(3).cast_signed() } else { 0 };
        let day = (self.marks / 12).cast_signed() - late;
        let ts = sent.ts_event.iter().map(|ts| ts.rem_euclid(DAY_NS) + day * DAY_NS);
        let sent = Ticks { ts_event: ts.collect(), ..sent };
        live.take(&sent);
        let latest = sent.ts_event.iter().copied().max().expect("there are rows");
        let watermark = self.watermark_at(position).map_or(latest, |before| before.max(latest));
        self.records.push(Sent { ticks: sent.clone(), live, watermark });
        sent
    }

    /// What history must hold: everything before the covered position but what was dropped.
    pub fn history(&self, manifest: &InForce) -> Vec<Held> {
        let mut held = Vec::new();
        for (sent, position) in self.records[..manifest.covered as usize].iter().zip(0..) {
            let of_record = held_of(&sent.ticks).into_iter().zip(sent.ticks.ts_event.iter());
            let is_there = |ts: i64| {
                let gone = |(at, before): &(u64, i64)| position < *at && ts < *before;
                !manifest.dropped.iter().any(gone)
            };
            held.extend(of_record.filter(|(_, ts)| is_there(**ts)).map(|(held, _)| held));
        }
        held.sort_unstable();
        held
    }

    /// A commit has ended, well or not; `version` is the one that the process sees now.
    pub fn committed(&mut self, next: InForce, version: u64, is_ok: bool) {
        if is_ok {
            assert_eq!(version, next.version, "a commit that ended well is in force");
            self.manifests = vec![next];
        } else if version == next.version {
            // Swapped, and not durable for sure.
            self.manifests.push(next);
        } else {
            assert_eq!(version, self.in_force().version, "the last manifest is in force");
        }
    }
}
