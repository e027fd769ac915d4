//! The sequencer: any rows in any order, from several publishers that come and go.

use std::collections::BTreeSet;

use isotick_ingest::Sequencer;
use isotick_model::schema::{Column, Inexact, StreamSchema};
use isotick_model::view::Tumbling;
use isotick_model::{
    Key, LogPosition, PublisherId, RejectReason, Rejected, Scale, Ticks, ValueColumn,
};

use crate::{Bound, Numbers, Target};

/// The clock at every arrival.
const NOW_NS: i64 = 1_000;
/// Bytes of an action.
const ACTION_BYTES: usize = 4;

/// Each four bytes are an action: who and what, then numbers for it. After each of them every row
/// is counted once, marks and watermark have not moved back, and what is held is what came.
pub(super) const SEQUENCER: Target = Target {
    name: "sequencer",
    run: |bytes| {
        let mut trial = Trial::new();
        for action in bytes.chunks_exact(ACTION_BYTES) {
            trial.act(action[0], [action[1], action[2], action[3]]);
            trial.check();
        }
    },
    corpus: || {
        let mut numbers = Numbers::new(5);
        let input = |actions: usize, numbers: &mut Numbers| {
            (0..actions * ACTION_BYTES).map(|_| numbers.any() as u8).collect::<Vec<_>>()
        };
        [1, 5, 30, 100].map(|actions| input(actions, &mut numbers)).to_vec()
    },
    // Remembered content takes up to 1 MiB a publisher and bitmaps of gaps a few kilobytes.
    bound: Bound { bytes: 16 << 20, per_byte: 256 },
};

struct Trial {
    sequencer: Sequencer,
    publishers: Vec<Known>,
    position: u64,
    watermark: Option<i64>,
}

/// What must be so of a publisher.
#[derive(Default)]
struct Known {
    /// Rows of frames that were taken.
    sent: u64,
    held: BTreeSet<u64>,
    /// Rows of gaps that were closed.
    lost: u64,
    marks: [u64; 3],
}

impl Trial {
    fn new() -> Self {
        let column = |name: &str, optional| Column {
            name: name.into(),
            scale: Scale::new(0).expect("a scale"),
            min: -100,
            max: 100,
            optional,
        };
        let schema = StreamSchema {
            name: "s".into(),
            time: "ts".into(),
            keys: vec!["k".into()],
            columns: vec![column("a", false), column("b", true)],
            inexact: Inexact::Reject,
            keys_allowed: None,
            horizon_ns: Some(50),
            retention: Default::default(),
            codec: Default::default(),
        };
        let mut sequencer = Sequencer::default();
        sequencer.declare(schema, &[Tumbling { width_ns: 1_000, origin_ns: 0 }]);
        Self {
            sequencer,
            publishers: (0..3).map(|_| Known::default()).collect(),
            position: 0,
            watermark: None,
        }
    }

    fn act(&mut self, what: u8, numbers: [u8; 3]) {
        let who = usize::from(what) % self.publishers.len();
        let name = PublisherId::new(&format!("p{who}")).expect("a name");
        let slot = self.sequencer.slot("s", &name).expect("it is declared");
        match what / 3 % 16 {
            0 => drop(self.sequencer.join(slot)),
            1 => drop(self.sequencer.leave(slot)),
            2 => drop(self.sequencer.idle(slot)),
            3 => drop(self.sequencer.written(LogPosition(u64::from(numbers[0])))),
            4 => drop(self.sequencer.durable(LogPosition(u64::from(numbers[0])))),
            5 => {
                let through = u64::from(numbers[0]) * 2;
                let position = LogPosition(self.position);
                let known = &mut self.publishers[who];
                let lost = (0..through).filter(|&row| known.held.insert(row)).count() as u64;
                known.lost += lost;
                assert_eq!(self.sequencer.close_gaps(slot, through, position), lost > 0);
                self.position += u64::from(lost > 0);
            }
            kind => {
                let next = self.sequencer.ack(slot).received_through;
                let (ticks, rejected) = frame(name, kind, next, numbers);
                let sequences: Vec<u64> = ticks.sequence.iter().copied().collect();
                let rejected_too = rejected.iter().map(|row| row.sequence);
                let sequences: Vec<u64> = sequences.into_iter().chain(rejected_too).collect();
                let before = self.sequencer.ack(slot);
                let position = LogPosition(self.position);
                match self.sequencer.accept(slot, ticks, rejected, NOW_NS, position) {
                    Ok(accepted) => {
                        self.position += u64::from(!accepted.is_empty());
                        let repeats = accepted.duplicate + accepted.conflicting;
                        let new = (accepted.ticks.len() + accepted.rejected.len()) as u64;
                        assert_eq!(new + repeats, sequences.len() as u64);
                        let known = &mut self.publishers[who];
                        known.sent += sequences.len() as u64;
                        let fresh = sequences.iter().filter(|&&row| known.held.insert(row)).count();
                        assert_eq!(fresh as u64, new, "a row is new once");
                    }
                    Err(_) => assert_eq!(self.sequencer.ack(slot), before, "nothing has changed"),
                }
            }
        }
    }

    fn check(&mut self) {
        let status = self.sequencer.status();
        let [stream] = &status[..] else { panic!("one stream is declared") };
        assert!(stream.watermark >= self.watermark, "W does not move back");
        self.watermark = stream.watermark;
        for status in &stream.publishers {
            let name = status.publisher.as_str();
            let who: usize = name[1..].parse().expect("a name of ours");
            let (known, ack) = (&mut self.publishers[who], status.ack);
            let counted = ack.accepted + ack.rejected.total() + ack.duplicate + ack.conflicting;
            assert_eq!(counted, known.sent, "{name}: {ack:?}");
            let above = known.held.last().map_or(0, |last| last + 1);
            let missing = above - known.held.len() as u64;
            assert_eq!((ack.lost, ack.missing), (known.lost, missing), "{name}: {ack:?}");
            let next = (0..).find(|row| !known.held.contains(row));
            assert_eq!(Some(ack.received_through), next, "{name}: {ack:?}");
            let marks = [ack.received_through, ack.written_through, ack.durable_through];
            assert!(marks[0] >= marks[1] && marks[1] >= marks[2], "{name}: {ack:?}");
            let forward = marks.iter().zip(known.marks).all(|(now, before)| *now >= before);
            assert!(forward, "{name}: {marks:?} after {:?}", known.marks);
            known.marks = marks;
        }
    }
}

/// A frame of some rows: as they come from a publisher that goes on, near each other, or at the ends
/// of what sequences and times can be.
fn frame(
    publisher: PublisherId,
    kind: u8,
    next: u64,
    [first, shape, seed]: [u8; 3],
) -> (Ticks, Vec<Rejected>) {
    let mut numbers = Numbers::new(u64::from_le_bytes([kind, first, shape, seed, 0, 0, 0, 0]));
    let rows = usize::from(shape % 32);
    let base = match kind {
        15 => [u64::MAX, u64::MAX - 1, 1 << 32, (1 << 32) + 1, 1 << 33, 1 << 40]
            [usize::from(first) % 6],
        6..=9 => next,
        _ => u64::from(first),
    };
    let disorder = 1 + usize::from(shape / 32) * 3;
    let mut sequence =
        |row: usize| base.saturating_add(row as u64).saturating_add(numbers.below(disorder) as u64);
    let sequences: Vec<u64> = (0..rows).map(&mut sequence).collect();
    let mut time = |_| match numbers.below(20) {
        0 => [i64::MIN, i64::MAX, NOW_NS + 51, NOW_NS + 50][numbers.below(4)],
        _ => numbers.below(NOW_NS as usize) as i64,
    };
    let times: Vec<i64> = (0..rows).map(&mut time).collect();
    let mut value = |_| match numbers.below(12) {
        0 => 101,
        _ => numbers.below(201) as i64 - 100,
    };
    let mut column = |nulls_in: usize| ValueColumn {
        values: (0..rows).map(&mut value).collect(),
        nulls: (nulls_in > 0 && rows > 0)
            .then(|| (0..rows).map(|row| row % nulls_in > 0).collect()),
    };
    let values = vec![column(usize::from(kind == 7) * 5), column(3)];
    let keys = vec![Key::from_components(["a"]), Key::from_components(["b", "c"])];
    let rejected = (0..numbers.below(4)).map(|_| Rejected {
        sequence: base.saturating_add(numbers.below(64) as u64),
        reason: RejectReason::ALL[numbers.below(RejectReason::ALL.len())],
    });
    let rejected = rejected.collect();
    let ticks = Ticks {
        ts_event: times.into(),
        sequence: sequences.into(),
        publishers: vec![publisher],
        publisher: Vec::new().into(),
        key: (0..rows).map(|row| u32::from(row % 17 == 16)).collect(),
        keys: keys.into(),
        values,
        seen: None,
    };
    (ticks, rejected)
}
