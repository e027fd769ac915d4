//! Records of the log.

use isotick_model::ticks::ON_TIME;
use isotick_storage::log::{LogRecord, fuzzing};

use super::frame::assert_same;
use crate::rows::{publisher, rejected, ticks};
use crate::{Bound, Numbers, Target};

/// A record's bytes.
pub(super) const RECORD: Target = Target {
    name: "record",
    run: |bytes| drop(fuzzing::decode(bytes)),
    corpus: records,
    // Codes are read as values first and then kept in half the room.
    bound: Bound { bytes: fuzzing::VALUES_MAX * 12 + (64 << 10), per_byte: 128 },
};

/// What was read is written to bytes that are read as the same.
pub(super) const RECORD_AGAIN: Target = Target {
    name: "record_again",
    run: |bytes| {
        let Some(record) = fuzzing::decode(bytes) else { return };
        let again = fuzzing::encode(&record);
        let back = fuzzing::decode(&again).expect("it was just written");
        assert_eq!(back.stream(), record.stream());
        match (&back, &record) {
            (
                LogRecord::Ticks { ticks: a, rejected: lost_a, ts_recv_ns: at_a, .. },
                LogRecord::Ticks { ticks: b, rejected: lost_b, ts_recv_ns: at_b, .. },
            ) => {
                assert_same(a, b);
                assert!((0..a.len()).all(|row| a.seen_of(row) == b.seen_of(row)));
                assert_eq!((lost_a, at_a), (lost_b, at_b));
            }
            _ => assert_eq!(format!("{back:?}"), format!("{record:?}")),
        }
    },
    corpus: records,
    // Two records are held at once to compare them.
    bound: Bound { bytes: 2 * fuzzing::VALUES_MAX * 8 + (4 << 20), per_byte: 320 },
};

fn records() -> Vec<Vec<u8>> {
    let mut numbers = Numbers::new(6);
    let mut record = |rows: usize, wrong: usize, columns: usize, late: bool| {
        let mut ticks = ticks(rows, columns, 0, &mut numbers);
        let seen = (0..rows).map(|row| if row % 3 == 0 { 7 } else { ON_TIME }).collect();
        ticks.seen = late.then_some(seen);
        let rejected = rejected(wrong, rows as u64, &mut numbers);
        LogRecord::Ticks { stream: "s".into(), ticks, rejected, ts_recv_ns: 9 }
    };
    let (stream, publisher) = (String::from("s"), publisher());
    let records = [
        record(1, 0, 0, false),
        record(10, 2, 2, true),
        record(300, 0, 3, false),
        record(0, 4, 1, false),
        LogRecord::Joined { stream: stream.clone(), publisher: publisher.clone(), ts_recv_ns: 1 },
        LogRecord::Idle {
            stream: stream.clone(),
            publisher: publisher.clone(),
            ts_recv_ns: i64::MIN,
        },
        LogRecord::Lost { stream, publisher, through: 7, ts_recv_ns: 2 },
    ];
    records.iter().map(fuzzing::encode).collect()
}
