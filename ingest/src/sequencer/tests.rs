use isotick_model::schema::{Column, Inexact};
use isotick_model::{Key, RejectReason, Scale};
use proptest::prelude::*;

use super::*;

const NOW: i64 = 10_000;

fn name(text: &str) -> PublisherId {
    PublisherId::new(text).unwrap()
}

fn schema() -> StreamSchema {
    let column = |name: &str, optional| Column {
        name: name.into(),
        scale: Scale::new(0).unwrap(),
        min: -100,
        max: 100,
        optional,
    };
    StreamSchema {
        name: "s".into(),
        time: "ts".into(),
        keys: vec!["k".into()],
        columns: vec![column("a", false), column("b", true)],
        inexact: Inexact::Reject,
        keys_allowed: None,
        horizon_ns: Some(50),
        retention: Default::default(),
        codec: Default::default(),
    }
}

fn sequencer() -> Sequencer {
    let mut sequencer = Sequencer::default();
    sequencer.declare(schema(), &[Tumbling { width_ns: 1_000, origin_ns: 0 }]);
    sequencer
}

#[test]
fn unknown_keys_are_rejected_and_what_the_edge_rejects_is_given_back() {
    let mut sequencer = Sequencer::default();
    let allowed = ["y", "z"].map(|text| Key::from_components([text]));
    let closed = StreamSchema { keys_allowed: Some(allowed.into_iter().collect()), ..schema() };
    sequencer.declare(closed, &[]);
    let slot = sequencer.slot("s", &name("p")).unwrap();
    let row = |sequence, key, a| Row::Tick { sequence, ts: 1, key, values: [Some(a), Some(7)] };
    let all_good = send(&mut sequencer, slot, &[row(0, 1, 1)], 0);
    assert_eq!((all_good.ticks.len(), all_good.letters.is_none()), (1, true));
    let from_client = Rejected { sequence: 5, reason: RejectReason::Inexact };
    let rows = [row(1, 0, 11), row(2, 1, 12), row(3, 2, 13), row(4, 1, 101), row(0, 0, 1)];
    let rows: Vec<_> = rows.into_iter().chain([Row::Rejected(from_client)]).collect();
    let accepted = send(&mut sequencer, slot, &rows, 1);
    let reasons: Vec<_> = accepted.rejected.iter().map(|row| (row.sequence, row.reason)).collect();
    use RejectReason::*;
    assert_eq!(reasons, [(1, UnknownKey), (3, Malformed), (4, OutOfBounds), (5, Inexact)]);
    assert_eq!(*accepted.ticks.sequence, [2]);
    let letters = accepted.letters.unwrap();
    assert_eq!(*letters.sequence, [1, 3, 4]);
    assert_eq!(*letters.values[0].values, [11, 13, 101]);
    assert_eq!(*letters.key_of(0), Key::from_components(["x"]));
    assert_eq!((accepted.duplicate, accepted.conflicting), (0, 1));
}

/// One row as a publisher sends it.
#[derive(Clone, Debug, PartialEq)]
enum Row {
    Tick { sequence: u64, ts: i64, key: u32, values: [Option<i64>; 2] },
    Rejected(Rejected),
}

fn frame(publisher: &PublisherId, rows: &[Row]) -> (Ticks, Vec<Rejected>) {
    let mut ticks = Vec::new();
    let mut rejected = Vec::new();
    for row in rows {
        match row {
            Row::Tick { sequence, ts, key, values } => ticks.push((*sequence, *ts, *key, *values)),
            Row::Rejected(row) => rejected.push(*row),
        }
    }
    let column = |column: usize| ValueColumn {
        values: ticks.iter().map(|row| row.3[column].unwrap_or(0)).collect(),
        nulls: ticks
            .iter()
            .any(|row| row.3[column].is_none())
            .then(|| ticks.iter().map(|row| row.3[column].is_some()).collect()),
    };
    let columns = Ticks {
        ts_event: ticks.iter().map(|row| row.1).collect(),
        sequence: ticks.iter().map(|row| row.0).collect(),
        publishers: vec![publisher.clone()],
        publisher: Vec::new().into(),
        keys: vec![
            Key::from_components(["x"]),
            Key::from_components(["y"]),
            Key::from_components(["two", "parts"]),
        ]
        .into(),
        key: ticks.iter().map(|row| row.2).collect(),
        values: vec![column(0), column(1)],
        seen: None,
    };
    (columns, rejected)
}

fn tick(sequence: u64, ts: i64, value: i64) -> Row {
    Row::Tick { sequence, ts, key: 0, values: [Some(value), None] }
}

fn send(sequencer: &mut Sequencer, slot: Slot, rows: &[Row], position: u64) -> Accepted {
    let (ticks, rejected) = frame(&sequencer.publisher(slot).clone(), rows);
    sequencer.accept(slot, ticks, rejected, NOW, LogPosition(position)).unwrap()
}

#[test]
fn rows_are_judged_with_the_first_reason() {
    let mut sequencer = sequencer();
    let slot = sequencer.slot("s", &name("p")).unwrap();
    let row = |sequence, ts, key, values| Row::Tick { sequence, ts, key, values };
    let accepted = send(
        &mut sequencer,
        slot,
        &[
            tick(0, 5, 1),
            row(1, i64::MIN, 2, [None, None]),
            row(2, i64::MAX, 2, [None, None]),
            row(3, NOW + 51, 2, [None, None]),
            row(4, NOW + 50, 2, [None, None]),
            row(5, 1, 0, [None, Some(101)]),
            row(6, 1, 0, [Some(101), None]),
            row(7, 1, 0, [Some(1), Some(-101)]),
            row(8, 1, 0, [Some(-100), Some(100)]),
            Row::Rejected(Rejected { sequence: 9, reason: RejectReason::NotFinite }),
        ],
        0,
    );
    let reasons: Vec<_> = accepted.rejected.iter().map(|row| (row.sequence, row.reason)).collect();
    use RejectReason::*;
    let expected = [
        (1, TimeOutOfRange),
        (2, TimeOutOfRange),
        (3, BeyondHorizon),
        (4, Malformed),
        (5, NullValue),
        (6, OutOfBounds),
        (7, OutOfBounds),
        (9, NotFinite),
    ];
    assert_eq!(reasons, expected);
    assert_eq!(*accepted.ticks.sequence, [0, 8]);
    assert_eq!(accepted.late, 1);
    assert_eq!(accepted.ticks.seen.as_deref(), Some(&[ON_TIME, 5][..]));
    let ack = sequencer.ack(slot);
    assert_eq!((ack.received_through, ack.accepted, ack.rejected.total()), (10, 2, 8));
    let again = send(&mut sequencer, slot, &[tick(5, 1, 1), tick(8, 1, 1), tick(0, 5, 1)], 1);
    assert!(again.is_empty());
    assert_eq!((again.duplicate, again.conflicting), (2, 1));
}

#[test]
fn marks_follow_the_log() {
    let mut sequencer = sequencer();
    let a = sequencer.slot("s", &name("a")).unwrap();
    let b = sequencer.slot("s", &name("b")).unwrap();
    assert_eq!(sequencer.slot("s", &name("a")), Ok(a));
    assert!(matches!(
        sequencer.slot("other", &name("a")),
        Err(SequencerError::UnknownStream { declared, .. }) if declared == "s"
    ));
    send(&mut sequencer, a, &[tick(0, 1, 1), tick(1, 1, 1)], 0);
    send(&mut sequencer, b, &[tick(0, 1, 1)], 1);
    send(&mut sequencer, a, &[tick(3, 1, 1)], 2);
    send(&mut sequencer, a, &[tick(2, 1, 1)], 3);
    let marks = |s: &Sequencer, slot| {
        let ack = s.ack(slot);
        (ack.received_through, ack.written_through, ack.durable_through)
    };
    assert_eq!(marks(&sequencer, a), (4, 0, 0));
    assert_eq!(sequencer.written(LogPosition(2)), [a, b]);
    assert_eq!(
        marks(&sequencer, a),
        (4, 2, 0),
        "row 2 is not written yet, so row 3 does not count"
    );
    assert_eq!(sequencer.durable(LogPosition(1)), [a, b]);
    assert_eq!((marks(&sequencer, a), marks(&sequencer, b)), ((4, 2, 2), (1, 1, 1)));
    assert_eq!(sequencer.durable(LogPosition(3)), [a], "durable is written too");
    assert_eq!(marks(&sequencer, a), (4, 4, 4));
    assert_eq!(sequencer.durable(LogPosition(9)), []);
}

#[test]
fn sessions_hold_the_watermark_until_the_publisher_is_idle() {
    let mut sequencer = sequencer();
    let slot = sequencer.slot("s", &name("p")).unwrap();
    assert!(sequencer.join(slot));
    assert!(!sequencer.join(slot), "a second session of an active publisher");
    assert!(!sequencer.leave(slot));
    assert!(sequencer.leave(slot));
    assert_eq!(sequencer.abandoned(), [slot]);
    assert!(sequencer.idle(slot));
    assert!(!sequencer.idle(slot));
    assert!(sequencer.abandoned().is_empty());
    assert!(!sequencer.status()[0].publishers[0].active);
}

#[test]
fn imported_rows_need_not_be_sent() {
    let mut sequencer = sequencer();
    let slot = sequencer.slot("s", &name("p")).unwrap();
    sequencer.restore_mark(slot, 3);
    assert_eq!(sequencer.marks(slot), Marks { next_sequence: 3, held: vec![] });
    let accepted = send(&mut sequencer, slot, &[tick(2, 1, 1), tick(3, 1, 1)], 0);
    assert_eq!((accepted.duplicate, accepted.ticks.len()), (1, 1));
    assert_eq!(sequencer.ack(slot).durable_through, 3);
}

#[test]
fn a_column_added_during_a_session_is_null() {
    let mut sequencer = sequencer();
    let slot = sequencer.slot("s", &name("p")).unwrap();
    let (mut ticks, _) = frame(&name("p"), &[tick(0, 1, 1)]);
    ticks.values.pop();
    let accepted = sequencer.accept(slot, ticks, vec![], NOW, LogPosition(0)).unwrap();
    assert_eq!(accepted.ticks.values[1].get(0), None);
}

/// Everything that frames came to, row by row, and the state after.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    ticks: Vec<(u32, u64, i64, i64, Option<i64>)>,
    rejected: Vec<(u32, u64, RejectReason)>,
    acks: Vec<Ack>,
    marks: Vec<Marks>,
    watermark: Option<i64>,
}

fn publishers(sequencer: &mut Sequencer) -> [Slot; 2] {
    ["a", "b"].map(|text| sequencer.slot("s", &name(text)).unwrap())
}

/// Sends runs of rows of one publisher, each cut as `cut` says.
fn run(
    events: &[(usize, Row)],
    mut cut: impl FnMut() -> usize,
) -> (Outcome, Vec<(Slot, Accepted)>) {
    let mut sequencer = sequencer();
    let slots = publishers(&mut sequencer);
    let mut outcome = Outcome::default();
    let mut records = Vec::new();
    let mut start = 0;
    while start < events.len() {
        let publisher = events[start].0;
        let most = cut().max(1);
        let run = events[start..].iter().take_while(|event| event.0 == publisher).take(most);
        let rows: Vec<Row> = run.map(|event| event.1.clone()).collect();
        start += rows.len();
        let slot = slots[publisher];
        let accepted = send(&mut sequencer, slot, &rows, records.len() as u64);
        for row in 0..accepted.ticks.len() {
            outcome.ticks.push((
                publisher as u32,
                accepted.ticks.sequence[row],
                accepted.ticks.ts_event[row],
                accepted.ticks.seen_of(row),
                accepted.ticks.values[0].get(row),
            ));
        }
        outcome.rejected.extend(
            accepted.rejected.iter().map(|row| (publisher as u32, row.sequence, row.reason)),
        );
        if !accepted.is_empty() {
            records.push((slot, accepted));
        }
    }
    // Within a frame the edge's rejects stand before the client's: their order means nothing.
    outcome.rejected.sort_unstable();
    sequencer.durable(LogPosition(records.len() as u64));
    finish(&sequencer, slots, &mut outcome);
    (outcome, records)
}

fn finish(sequencer: &Sequencer, slots: [Slot; 2], outcome: &mut Outcome) {
    outcome.acks = slots.map(|slot| sequencer.ack(slot)).to_vec();
    outcome.marks = slots.map(|slot| sequencer.marks(slot)).to_vec();
    outcome.watermark = sequencer.watermark("s");
}

/// Rows of two publishers with resends, gaps, conflicts, bad values. Whether a sequence is a tick
/// or a rejected row is its own property.
fn events() -> impl Strategy<Value = Vec<(usize, Row)>> {
    let row =
        (0..2usize, 0..60u64, 0..300i64, prop_oneof![8 => -2..2i64, 1 => 99..103i64], 0..3u32);
    let row = row.prop_map(|(publisher, sequence, ts, value, key)| {
        if sequence % 7 == 3 {
            let reason = RejectReason::Inexact;
            return (publisher, Row::Rejected(Rejected { sequence, reason }));
        }
        let key = if value == -2 { key } else { 0 };
        let ts = if ts == 299 { NOW + 1_000 } else { ts };
        (publisher, Row::Tick { sequence, ts, key, values: [Some(value), None] })
    });
    // Resends: some rows again, as they were.
    (prop::collection::vec(row, 0..200), any::<prop::sample::Index>(), 0..80usize).prop_map(
        |(mut rows, from, count)| {
            if !rows.is_empty() {
                let from = from.index(rows.len());
                let again = rows[from..rows.len().min(from + count)].to_vec();
                rows.extend(again);
            }
            rows
        },
    )
}

proptest! {
    #[test]
    fn cuts_and_replay_do_not_matter(
        events in events(),
        cuts in prop::collection::vec(1..40usize, 1..20),
        saved_at in any::<prop::sample::Index>(),
    ) {
        let (single, _) = run(&events, || 1);
        let mut next = cuts.iter().cycle();
        let (cut, records) = run(&events, || *next.next().unwrap());
        prop_assert_eq!(&cut, &single);

        // Saved after some of the records, as a checkpoint is, and restored.
        let (before, after) = records.split_at(saved_at.index(records.len() + 1));
        let mut sequencer = sequencer();
        let slots = publishers(&mut sequencer);
        for (slot, record) in before {
            sequencer.replay(*slot, &record.ticks, &record.rejected);
        }
        let saved = sequencer.save();
        let mut sequencer = self::sequencer();
        sequencer.restore(saved.clone()).unwrap();
        prop_assert_eq!(sequencer.save(), saved);
        for (_, record) in before.iter().filter(|(_, record)| !record.ticks.is_empty()) {
            sequencer.remember("s", &record.ticks);
        }
        for (slot, record) in after {
            sequencer.replay(*slot, &record.ticks, &record.rejected);
        }
        let mut replayed = Outcome::default();
        finish(&sequencer, slots, &mut replayed);
        for (replayed, live) in replayed.acks.iter_mut().zip(&single.acks) {
            // Repeats leave no trace in the log.
            (replayed.duplicate, replayed.conflicting) = (live.duplicate, live.conflicting);
        }
        prop_assert_eq!(&replayed.acks, &single.acks);
        prop_assert_eq!(&replayed.marks, &single.marks);
        prop_assert_eq!(replayed.watermark, single.watermark);

        // Sending everything again after a restart changes nothing, and repeats are judged as
        // they were before it.
        let mut live = self::sequencer();
        let live_slots = publishers(&mut live);
        for (publisher, row) in &events {
            send(&mut live, live_slots[*publisher], std::slice::from_ref(row), 0);
        }
        for (publisher, row) in &events {
            let row = std::slice::from_ref(row);
            let before = send(&mut live, live_slots[*publisher], row, 0);
            let after = send(&mut sequencer, slots[*publisher], row, 0);
            prop_assert!(before.is_empty() && after.is_empty());
            prop_assert_eq!(before.conflicting, after.conflicting);
        }
    }
}

/// Everything that an outcome holds, without where it stands in memory.
fn plain(accepted: &Accepted) -> String {
    let Accepted { ticks, rejected, letters, late, duplicate, conflicting } = accepted;
    let values: Vec<Vec<_>> = ticks
        .values
        .iter()
        .map(|column| (0..ticks.len()).map(|row| column.get(row)).collect())
        .collect();
    let seen = ticks.seen.as_deref();
    let letters = letters.as_ref().map(|letters| &letters.sequence[..]);
    format!(
        "{:?} {:?} {:?} {values:?} {seen:?} {rejected:?} {letters:?} {late} {duplicate} \
         {conflicting}",
        &ticks.ts_event[..],
        &ticks.sequence[..],
        &ticks.key[..],
    )
}

/// Frames that continue a publisher's rows are taken whole. A row that is held far beyond makes
/// every frame go row by row: the outcome is the same.
#[test]
fn frames_taken_whole_come_to_the_same_as_row_by_row() {
    let mut number = 3_u64;
    let mut next = |below: u64| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (number >> 33) % below
    };
    let (p, q) = (name("p"), name("q"));
    for _ in 0..200 {
        let (mut whole, mut by_row) = (sequencer(), sequencer());
        let slots =
            [&p, &q].map(|id| (whole.slot("s", id).unwrap(), by_row.slot("s", id).unwrap()));
        for (whole_slot, by_row_slot) in slots {
            send(&mut whole, whole_slot, &[tick(0, -50, 1)], 0);
            send(&mut by_row, by_row_slot, &[tick(0, -50, 1), tick(90_000, -50, 1)], 0);
        }
        let (mut sequences, mut clock) = ([1_u64; 2], 0_i64);
        for position in 1..1 + next(8) {
            let who = next(2) as usize;
            let mut rows = Vec::new();
            for _ in 0..next(40) {
                clock += next(3).cast_signed();
                // Mostly in sequence, at times a gap, a repeat, a value or time out of bounds.
                let sequence = match next(60) {
                    0 => sequences[who] + next(3),
                    1 => next(sequences[who]),
                    _ => sequences[who],
                };
                sequences[who] = sequences[who].max(sequence + 1);
                let ts = clock - if next(20) == 0 { next(30).cast_signed() } else { 0 };
                let value = if next(200) == 0 { 101 } else { next(5).cast_signed() };
                let ts = if next(200) == 0 { NOW + 51 } else { ts };
                rows.push(tick(sequence, ts, value));
            }
            let (whole_slot, by_row_slot) = slots[who];
            let found = send(&mut whole, whole_slot, &rows, position);
            let expected = send(&mut by_row, by_row_slot, &rows, position);
            assert_eq!(plain(&found), plain(&expected));
            assert_eq!(whole.watermark("s"), by_row.watermark("s"));
            let (marks, expected) = (whole.marks(whole_slot), by_row.marks(by_row_slot));
            assert_eq!(marks.next_sequence, expected.next_sequence);
            assert_eq!(marks.held, expected.held[..expected.held.len() - 1]);
        }
    }
}

#[test]
fn what_is_no_sequencer_is_not_restored() {
    let mut whole = sequencer();
    let slot = whole.slot("s", &name("p")).unwrap();
    send(&mut whole, slot, &[tick(0, 1, 1), tick(5, 2, 1)], 0);
    let saved = whole.save();
    let restore = |change: &dyn Fn(&mut SavedSequencer)| {
        let mut saved = saved.clone();
        change(&mut saved);
        sequencer().restore(saved)
    };
    assert_eq!(restore(&|_| ()), Ok(()));
    assert!(restore(&|saved| saved.publishers[0].beyond.truncate(3)).is_err());
    assert!(restore(&|saved| saved.publishers[0].next_sequence = 5).is_err());
    assert!(restore(&|saved| saved.publishers.push(saved.publishers[0].clone())).is_err());
    let other = |saved: &mut SavedSequencer| saved.publishers[0].stream = "gone".into();
    assert_eq!(restore(&other), Ok(()), "a stream that is no longer declared is left out");
}
