//! Fewer and larger records where the views are behind.

use isotick_ingest::{Input, Stamps};
use isotick_model::Ticks;

/// Rows of frames that are joined, at most.
const JOINED_ROWS_MAX: usize = 1 << 16;

/// Joins frames of one session that follow each other. Their rows count as received when the last of them was.
pub(super) fn join_frames(inputs: &mut Vec<Input>) {
    let mut joined: Vec<Input> = Vec::with_capacity(inputs.len());
    // Those that are not concatenated yet, behind the last input of `joined`.
    let mut waiting: Vec<Ticks> = Vec::new();
    let mut rows = 0;
    let close = |joined: &mut Vec<Input>, waiting: &mut Vec<Ticks>| {
        if let Some(Input::Frame { ticks, .. }) = joined.last_mut()
            && !waiting.is_empty()
        {
            waiting.insert(0, ticks.clone());
            *ticks = Ticks::concat(waiting);
            waiting.clear();
        }
    };
    for input in inputs.drain(..) {
        match (joined.last_mut(), input) {
            (
                Some(Input::Frame { session, rejected, stamps, permit, .. }),
                Input::Frame {
                    session: of,
                    ticks,
                    rejected: more,
                    stamps: Stamps { ts_recv_ns, .. },
                    permit: other,
                },
            ) if *session == of && rows + ticks.len() + more.len() <= JOINED_ROWS_MAX => {
                rows += ticks.len() + more.len();
                rejected.extend(more);
                stamps.ts_recv_ns = stamps.ts_recv_ns.max(ts_recv_ns);
                permit.join(other);
                waiting.push(ticks);
            }
            (_, input) => {
                close(&mut joined, &mut waiting);
                rows = match &input {
                    Input::Frame { ticks, rejected, .. } => ticks.len() + rejected.len(),
                    _ => 0,
                };
                joined.push(input);
            }
        }
    }
    close(&mut joined, &mut waiting);
    *inputs = joined;
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use isotick_ingest::{Permit, SessionId};
    use isotick_model::{Key, PublisherId, Rejected};

    use super::*;

    fn frame(session: u64, sequences: std::ops::Range<u64>, rejected: Option<u64>) -> Input {
        static ALL: std::sync::OnceLock<Permit> = std::sync::OnceLock::new();
        let ticks = Ticks {
            ts_event: sequences.clone().map(|row| row as i64).collect(),
            publishers: vec![PublisherId::new("p").unwrap()],
            publisher: Vec::new().into(),
            keys: vec![Key::from_components([format!("K{}", sequences.start % 3)])].into(),
            key: sequences.clone().map(|_| 0).collect(),
            values: Vec::new(),
            seen: None,
            sequence: sequences.clone().collect(),
        };
        let reason = isotick_model::RejectReason::NullTime;
        let rejected = rejected.map(|sequence| Rejected { sequence, reason });
        let now = Instant::now();
        let ts_recv_ns = sequences.end as i64;
        Input::Frame {
            session: SessionId(session),
            ticks,
            rejected: rejected.into_iter().collect(),
            stamps: Stamps { ts_recv_ns, received: now, queued: now },
            permit: ALL.get_or_init(Permit::unbounded).unbounded_beside(),
        }
    }

    /// An input's session, and of frames their rows in order, those rejected, and when received.
    type Shown = (u64, Vec<(u64, String)>, usize, i64);

    fn shown(inputs: &[Input]) -> Vec<Shown> {
        let one = |input: &Input| match input {
            Input::Frame { session, ticks, rejected, stamps, .. } => {
                let row = |row: usize| (ticks.sequence[row], ticks.key_of(row).to_string());
                let rows = (0..ticks.len()).map(row).collect();
                (session.0, rows, rejected.len(), stamps.ts_recv_ns)
            }
            Input::Left { session } => (session.0, Vec::new(), 0, -1),
            other => panic!("{other:?}"),
        };
        inputs.iter().map(one).collect()
    }

    #[test]
    fn frames_of_one_session_that_follow_each_other_become_one() {
        let left = || Input::Left { session: SessionId(1) };
        let mut inputs = vec![
            frame(1, 0..3, None),
            frame(1, 3..5, Some(5)),
            frame(1, 6..7, None),
            frame(2, 0..2, None),
            frame(1, 7..9, None),
            left(),
            frame(2, 2..3, None),
            frame(2, 3..4, None),
        ];
        let before = shown(&inputs);
        join_frames(&mut inputs);
        let after = shown(&inputs);
        let lens: Vec<_> = after.iter().map(|input| (input.0, input.1.len(), input.2)).collect();
        assert_eq!(lens, [(1, 6, 1), (2, 2, 0), (1, 2, 0), (1, 0, 0), (2, 2, 0)]);
        let rows = |shown: &[Shown], session| {
            let of = shown.iter().filter(|input| input.0 == session);
            of.flat_map(|input| input.1.clone()).collect::<Vec<_>>()
        };
        for session in [1, 2] {
            assert_eq!(rows(&after, session), rows(&before, session));
        }
        assert_eq!(after[0].3, 7, "received when the last of them was");

        let large = JOINED_ROWS_MAX as u64;
        let mut inputs = vec![frame(1, 0..large, None), frame(1, large..large + 1, None)];
        join_frames(&mut inputs);
        assert_eq!(inputs.len(), 2, "not without bounds");
    }
}
