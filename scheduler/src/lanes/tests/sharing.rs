//! Reads that several jobs share, and who is charged for them.

use super::*;

#[test]
fn one_read_serves_several_jobs_and_who_fails_runs_alone() {
    let dispatch_ns_max = 100 * MS;
    let mut lanes = Lanes::new(LanesConfig { shared_max: 3, dispatch_ns_max, ..config() });
    for id in 1..=4 {
        let parts = vec![part(10 * id, 77), part(10, 77), part(10, id)];
        submit(&mut lanes, id, spec("ann", 5, 0, parts)).unwrap();
    }
    assert_eq!(named(lanes.poll(0)), [(1, 0), (2, 0), (3, 0)]);
    assert_eq!(lanes.status().reading_bytes, 30);
    assert_eq!(lanes.jobs_in(0), [JobId(1), JobId(2), JobId(3)]);
    assert_eq!(lanes.handle_failed(0, 0, JobId(2), true), Verdict::Retry { at_ns: 10 });
    assert_eq!(lanes.handle_failed(0, 0, JobId(2), true), Verdict::Ignored);
    assert_eq!(lanes.handle_failed(0, 0, JobId(4), true), Verdict::Ignored, "it was not there");
    assert_eq!(lanes.cancel(0, JobId(3)), Some(Cancelled { interrupt: vec![0] }));
    assert_eq!(lanes.jobs_in(0), [JobId(1), JobId(2)]);
    assert_eq!(lanes.handle_done(0, 0, 10 * MS), [(JobId(1), 0)]);
    // The next is who has had nothing; the others come along.
    assert_eq!(named(lanes.poll(0)), [(4, 0), (1, 1), (2, 1)]);
    assert_eq!(lanes.poll_timeout(), Some(10));
    assert_eq!(named(lanes.poll(10)), [(4, 1)], "what has failed is not shared");
    lanes.handle_done(10, 1, 10 * MS);
    lanes.handle_done(10, 0, 10 * MS);
    assert_eq!(named(lanes.poll(10)), [(1, 2)]);
    assert_eq!(named(lanes.poll(10)), [(2, 0)]);
    let counters = lanes.status().counters;
    assert_eq!((counters.dispatches, counters.parts_shared), (5, 4));
}

#[test]
fn who_shares_a_read_is_charged_for_its_own_and_for_as_much_of_the_reading() {
    let mut lanes = Lanes::new(LanesConfig { dispatch_ns_max: 30 * MS, ..config() });
    for (id, owner) in [(1, "ann"), (2, "bob"), (3, "bob")] {
        let parts =
            vec![part(10, 1), part(10, 2), PartCost { predicted_ns: 25 * MS, ..part(10, 3) }];
        submit(&mut lanes, id, spec(owner, 5, 0, parts)).unwrap();
    }
    let charged = |lanes: &Lanes| {
        let owners = lanes.status().owners;
        owners.iter().map(|owner| owner.attained_ns / MS).collect::<Vec<_>>()
    };
    let dispatch = lanes.poll(0).unwrap();
    assert_eq!((dispatch.parts.len(), dispatch.predicted_ns), (3, 30 * MS));
    assert_eq!(charged(&lanes), [10, 20]);
    lanes.handle_own(0, JobId(1), 14 * MS);
    lanes.handle_own(0, JobId(2), MS);
    lanes.handle_own(0, JobId(3), 3 * MS);
    lanes.handle_done(0, 0, 30 * MS);
    assert_eq!(charged(&lanes), [14 + 4, 1 + 4 + 3 + 4]);
    // Nothing is said: as predicted.
    assert_eq!(lanes.poll(0).unwrap().parts.len(), 3);
    lanes.handle_done(0, 0, 60 * MS);
    assert_eq!(charged(&lanes), [18 + 20, 12 + 40]);
    // Two would be too long.
    assert_eq!(named(lanes.poll(0)), [(1, 2)]);
    assert_eq!(lanes.status().counters.charged_ns, 90 * MS + 25 * MS);
}

#[test]
fn nobody_is_carried_further_ahead_than_by_its_credit() {
    let mut lanes = Lanes::new(LanesConfig { slots: 1, dispatch_ns_max: 100 * MS, ..config() });
    // What the one takes is little, what the other takes of the same read is much.
    let part = |predicted_ns, source| PartCost { predicted_ns, host_bytes: 10, source };
    submit(&mut lanes, 1, spec("ann", 5, 0, (0..9).map(|n| part(MS, n)).collect())).unwrap();
    submit(&mut lanes, 2, spec("bob", 5, 0, (0..9).map(|n| part(15 * MS, n)).collect())).unwrap();
    let mut shared = Vec::new();
    for _ in 0..5 {
        let dispatch = lanes.poll(0).unwrap();
        lanes.handle_done(0, 0, dispatch.predicted_ns);
        shared.push(dispatch.parts.len());
    }
    assert_eq!(shared, [2, 2, 1, 1, 1], "it was 20 ms ahead");
}

#[test]
fn a_whole_is_divided_without_a_rest() {
    assert_eq!(divided(10, &[1, 1, 1]), [3, 3, 4]);
    assert_eq!(divided(10, &[0, 0]), [5, 5]);
    assert_eq!(divided(7, &[0, 3, 0, 4]), [0, 3, 0, 4]);
    assert_eq!(divided(u64::MAX, &[u64::MAX, u64::MAX]), [u64::MAX / 2, u64::MAX / 2 + 1]);
    assert_eq!(divided(0, &[]), [0; 0]);
}
