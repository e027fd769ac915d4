//! Single decisions, worked out by hand.

mod sharing;

use std::sync::Arc;

use super::*;
use crate::placement::{Costs, Work};

const MS: u64 = 1_000_000;

fn config() -> LanesConfig {
    LanesConfig {
        slots: 2,
        host_bytes_max: 1_000,
        jobs_running_max: 8,
        queue_max: 4,
        attempts_max: 3,
        backoff_ns: 10,
        backoff_ns_max: 15,
        credit_ns: 20 * MS,
        ageing_ns: 1_000 * MS,
        passes_max: 2,
        ..LanesConfig::default()
    }
}

fn spec(owner: &str, level: u8, held_bytes: u64, parts: Vec<PartCost>) -> JobSpec {
    let priority = Priority::new(level).unwrap();
    JobSpec {
        owner: Arc::from(owner),
        priority,
        held_bytes,
        parts,
        parts_finished: Vec::new(),
        closing: None,
    }
}

/// Parts of 10 ms and 10 bytes, each of a piece of its own.
fn parts(job: u64, count: u64) -> Vec<PartCost> {
    let part = |n| PartCost { predicted_ns: 10 * MS, host_bytes: 10, source: job * 1_000_000 + n };
    (0..count).map(part).collect()
}

/// A part of 10 ms.
fn part(host_bytes: u64, source: u64) -> PartCost {
    PartCost { predicted_ns: 10 * MS, host_bytes, source }
}

fn submit(lanes: &mut Lanes, id: u64, spec: JobSpec) -> Result<Admission, Refused> {
    lanes.submit(0, JobId(id), spec)
}

fn named(dispatch: Option<Dispatch>) -> Vec<(u64, u32)> {
    let parts = dispatch.map_or(Vec::new(), |dispatch| dispatch.parts);
    parts.into_iter().map(|(job, part)| (job.0, part)).collect()
}

fn events(lanes: &mut Lanes) -> Vec<Event> {
    std::iter::from_fn(|| lanes.poll_event()).collect()
}

/// Runs dispatch after dispatch on one slot, each of 10 ms, and says whose they were.
fn turns(lanes: &mut Lanes, now_ns: &mut u64, count: usize) -> Vec<u64> {
    let mut turn = || {
        let dispatch = lanes.poll(*now_ns)?;
        *now_ns += 10 * MS;
        lanes.handle_done(*now_ns, dispatch.slot, 10 * MS);
        while let Some(event) = lanes.poll_event() {
            if let Event::Finished(job) = event {
                lanes.release(*now_ns, job);
            }
        }
        Some(dispatch.parts[0].0.0)
    };
    (0..count).map_while(|_| turn()).collect()
}

#[test]
fn a_job_runs_on_all_workers_and_ends_once() {
    let mut lanes = Lanes::new(config());
    assert_eq!(submit(&mut lanes, 7, spec("ann", 5, 100, parts(7, 3))), Ok(Admission::Running));
    assert_eq!(named(lanes.poll(0)), [(7, 0)]);
    assert_eq!(named(lanes.poll(0)), [(7, 1)]);
    assert_eq!(lanes.poll(0), None, "both workers are busy");
    assert_eq!(lanes.handle_done(5, 1, 5), [(JobId(7), 1)]);
    assert_eq!(lanes.handle_done(5, 1, 5), [], "the slot was free");
    assert_eq!(lanes.handle_done(5, 99, 5), [], "there is no such slot");
    assert_eq!(named(lanes.poll(5)), [(7, 2)]);
    assert_eq!(lanes.handle_done(9, 1, 4), [(JobId(7), 2)]);
    assert_eq!(events(&mut lanes), []);
    assert_eq!(lanes.handle_done(10, 0, 10), [(JobId(7), 0)]);
    assert_eq!(events(&mut lanes), [Event::Finished(JobId(7))]);
    assert_eq!(lanes.poll(10), None);
    let status = lanes.status();
    assert_eq!((status.running, status.held_bytes, status.reading_bytes), (1, 100, 0));
    assert_eq!(status.jobs[0].state, JobState::Finished);
    assert!(lanes.release(10, JobId(7)));
    assert!(!lanes.release(10, JobId(7)));
    let status = lanes.status();
    assert_eq!((status.running, status.held_bytes, status.jobs.len()), (0, 0, 0));
    assert_eq!(status.counters.busy_ns, 19);
}

#[test]
fn what_was_finished_earlier_is_not_run_again() {
    let mut lanes = Lanes::new(config());
    let spec = |finished: &[u32]| JobSpec {
        parts_finished: finished.to_vec(),
        ..spec("ann", 5, 0, parts(1, 4))
    };
    submit(&mut lanes, 1, spec(&[0, 2, 2, 9])).unwrap();
    assert_eq!(named(lanes.poll(0)), [(1, 1)]);
    assert_eq!(named(lanes.poll(0)), [(1, 3)]);
    assert_eq!(lanes.job_status(JobId(1)).unwrap().parts_done, 2);
    submit(&mut lanes, 2, spec(&[3, 2, 1, 0])).unwrap();
    assert_eq!(events(&mut lanes), [Event::Finished(JobId(2))]);
}

#[test]
fn what_closes_a_job_follows_when_all_else_is_done() {
    let mut lanes = Lanes::new(config());
    let closing = |finished: &[u32]| JobSpec {
        parts_finished: finished.to_vec(),
        closing: Some(part(10, 7_000_000)),
        ..spec("ann", 5, 0, parts(7, 2))
    };
    submit(&mut lanes, 1, closing(&[])).unwrap();
    assert_eq!(named(lanes.poll(0)), [(1, 0)]);
    assert_eq!(named(lanes.poll(0)), [(1, 1)]);
    lanes.handle_done(0, 1, 10 * MS);
    assert_eq!(lanes.poll(0), None, "a part is under way");
    assert_eq!(lanes.handle_failed(0, 0, JobId(1), true), Verdict::Retry { at_ns: 10 });
    lanes.handle_done(0, 0, 10 * MS);
    assert_eq!(lanes.poll(0), None, "a part backs off");
    assert_eq!(named(lanes.poll(10)), [(1, 0)]);
    lanes.handle_done(10, 0, 10 * MS);
    assert_eq!(named(lanes.poll(10)), [(1, 2)]);
    assert_eq!(events(&mut lanes), []);
    assert_eq!(lanes.handle_done(10, 0, 10 * MS), [(JobId(1), 2)]);
    assert_eq!(events(&mut lanes), [Event::Finished(JobId(1))]);

    // What it reads is nobody else's, whatever its number.
    submit(&mut lanes, 2, closing(&[0, 1])).unwrap();
    submit(&mut lanes, 3, spec("bob", 5, 0, parts(7, 1))).unwrap();
    assert_eq!(named(lanes.poll(10)), [(3, 0)]);
    assert_eq!(named(lanes.poll(10)), [(2, 2)]);
}

#[test]
fn a_job_goes_on_in_its_place_when_its_parts_are_known() {
    let mut lanes = Lanes::new(LanesConfig { jobs_running_max: 1, ..config() });
    for id in 1..=3 {
        submit(&mut lanes, id, spec("ann", 5, 0, parts(id, 1))).unwrap();
    }
    let parts_of_first = || spec("bob", 9, 400, parts(1, 2));
    let early = lanes.extend(0, JobId(1), parts_of_first());
    assert_eq!(early, Err(Refused::NotFinished(JobId(1))));
    assert_eq!(named(lanes.poll(0)), [(1, 0)]);
    lanes.handle_done(0, 0, 10 * MS);
    let too_large = lanes.extend(0, JobId(1), spec("ann", 5, 995, parts(1, 2)));
    assert_eq!(too_large, Err(Refused::TooLarge { bytes: 1_005, max: 1_000 }));
    assert_eq!(lanes.extend(0, JobId(1), parts_of_first()), Ok(Admission::Running));
    let status = lanes.job_status(JobId(1)).unwrap();
    assert_eq!((&*status.owner, status.priority.level()), ("ann", 5), "as it was");
    assert_eq!((status.held_bytes, status.attained_ns), (400, 10 * MS));
    assert_eq!(named(lanes.poll(0)), [(1, 0)]);
    assert_eq!(named(lanes.poll(0)), [(1, 1)]);
    lanes.handle_done(0, 0, 10 * MS);
    lanes.handle_done(0, 1, 10 * MS);
    assert_eq!(events(&mut lanes), [Event::Finished(JobId(1)); 2]);
    assert!(lanes.release(0, JobId(1)));
    assert_eq!(events(&mut lanes), [Event::Admitted(JobId(2))]);
}

#[test]
fn a_job_that_cannot_go_on_at_once_is_first_in_the_queue() {
    let mut lanes = Lanes::new(config());
    submit(&mut lanes, 1, spec("ann", 5, 100, parts(1, 1))).unwrap();
    submit(&mut lanes, 2, spec("bob", 5, 800, parts(2, 1))).unwrap();
    submit(&mut lanes, 3, spec("ann", 5, 500, parts(3, 1))).unwrap();
    assert_eq!(named(lanes.poll(0)), [(1, 0)]);
    assert_eq!(named(lanes.poll(0)), [(2, 0)]);
    lanes.handle_done(5, 0, 10 * MS);
    let extended = lanes.extend(5, JobId(1), spec("ann", 5, 900, parts(1, 2)));
    assert_eq!(extended, Ok(Admission::Queued { position: 0 }));
    assert_eq!(lanes.position(JobId(3)), Some(1));
    lanes.handle_done(5, 1, 10 * MS);
    assert!(lanes.release(5, JobId(2)));
    assert_eq!(events(&mut lanes)[2..], [Event::Admitted(JobId(1))]);
    assert_eq!(named(lanes.poll(5)), [(1, 0)]);
}

#[test]
fn what_does_not_fit_is_refused_or_waits_for_its_turn() {
    let mut lanes = Lanes::new(config());
    let too_large = submit(&mut lanes, 1, spec("ann", 5, 995, parts(1, 1)));
    assert_eq!(too_large, Err(Refused::TooLarge { bytes: 1_005, max: 1_000 }));
    submit(&mut lanes, 1, spec("ann", 5, 500, parts(1, 2))).unwrap();
    assert_eq!(submit(&mut lanes, 1, spec("ann", 5, 0, vec![])), Err(Refused::Known(JobId(1))));
    let mut queue =
        |id, owner, level, held| submit(&mut lanes, id, spec(owner, level, held, parts(id, 1)));
    assert_eq!(queue(2, "ann", 5, 900), Ok(Admission::Queued { position: 0 }));
    assert_eq!(queue(3, "ann", 5, 901), Ok(Admission::Queued { position: 1 }));
    assert_eq!(queue(4, "ann", 9, 902), Ok(Admission::Queued { position: 0 }), "it is urgent");
    assert_eq!(queue(5, "bob", 5, 903), Ok(Admission::Queued { position: 0 }), "it is bob's turn");
    assert_eq!(queue(6, "eve", 5, 904), Err(Refused::QueueFull { max: 4 }));
    // Small ones pass the first, twice.
    assert_eq!(queue(7, "ann", 5, 10), Ok(Admission::Running));
    assert_eq!(queue(8, "eve", 5, 10), Ok(Admission::Running));
    assert_eq!(queue(9, "joe", 5, 10), Err(Refused::QueueFull { max: 4 }));
    let positions: Vec<_> = [5, 4, 2, 3].map(|id| lanes.position(JobId(id))).into();
    assert_eq!(positions, [Some(0), Some(1), Some(2), Some(3)]);
    assert_eq!(lanes.position(JobId(1)), None);

    for id in [7, 8] {
        lanes.cancel(0, JobId(id)).unwrap();
        assert_eq!(events(&mut lanes), []);
    }
    lanes.cancel(0, JobId(1)).unwrap();
    assert_eq!(events(&mut lanes), [Event::Admitted(JobId(5))]);
    assert_eq!(lanes.position(JobId(3)), Some(2));
}

#[test]
fn small_jobs_that_pass_a_large_one_of_their_owner_do_not_spend_its_turns() {
    let mut lanes = Lanes::new(LanesConfig { queue_max: 100, passes_max: 9, ..config() });
    let mut submit =
        |id, owner, held| submit(&mut lanes, id, spec(owner, 5, held, parts(id, 1))).unwrap();
    submit(1, "eve", 500);
    assert_eq!(submit(2, "ann", 900), Admission::Queued { position: 0 });
    assert_eq!(submit(3, "bob", 900), Admission::Queued { position: 1 });
    for id in 4..=6 {
        assert_eq!(submit(id, "ann", 10), Admission::Running);
    }
    assert_eq!(submit(7, "bob", 900), Admission::Queued { position: 2 });
    assert_eq!(lanes.position(JobId(2)), Some(0));
    assert_eq!(lanes.position(JobId(3)), Some(1));
}

#[test]
fn a_quarter_of_the_places_is_for_owners_who_have_none() {
    let mut lanes = Lanes::new(LanesConfig { jobs_running_max: 4, ..config() });
    let mut submit = |id, owner| submit(&mut lanes, id, spec(owner, 5, 0, parts(id, 1)));
    assert!((1..=3).all(|id| submit(id, "ann") == Ok(Admission::Running)));
    assert_eq!(submit(4, "ann"), Ok(Admission::Queued { position: 0 }));
    assert_eq!(submit(5, "bob"), Ok(Admission::Running));
    assert_eq!(submit(6, "eve"), Ok(Admission::Queued { position: 0 }), "ann had three turns");
}

#[test]
fn an_idle_owner_is_ahead_by_its_credit_and_then_both_get_the_same() {
    let mut lanes = Lanes::new(LanesConfig { slots: 1, ..config() });
    let mut now_ns = 0;
    submit(&mut lanes, 1, spec("ann", 9, 0, parts(1, 100))).unwrap();
    assert_eq!(turns(&mut lanes, &mut now_ns, 10), [1; 10]);
    submit(&mut lanes, 2, spec("bob", 0, 0, parts(2, 100))).unwrap();
    assert_eq!(turns(&mut lanes, &mut now_ns, 8), [2, 2, 2, 1, 2, 1, 2, 1]);
    let of_bob = turns(&mut lanes, &mut now_ns, 100).iter().filter(|job| **job == 2).count();
    assert_eq!(of_bob, 50);
}

#[test]
fn what_was_mispredicted_is_charged_as_it_was() {
    let mut lanes = Lanes::new(LanesConfig { slots: 1, credit_ns: 0, ..config() });
    submit(&mut lanes, 1, spec("ann", 5, 0, parts(1, 100))).unwrap();
    submit(&mut lanes, 2, spec("bob", 5, 0, parts(2, 100))).unwrap();
    assert_eq!(named(lanes.poll(0)), [(1, 0)]);
    lanes.handle_done(0, 0, 50 * MS);
    assert_eq!(turns(&mut lanes, &mut 0, 6), [2, 2, 2, 2, 2, 1]);
    let owners = lanes.status().owners;
    let attained: Vec<_> = owners.iter().map(|owner| owner.attained_ns / MS).collect();
    assert_eq!(attained, [60, 50]);
    assert_eq!(owners[0].share_permille, 545);
}

#[test]
fn weights_divide_the_workers() {
    let weights = [(Arc::from("ann"), 3)].into();
    let mut lanes = Lanes::new(LanesConfig { slots: 1, credit_ns: 0, weights, ..config() });
    submit(&mut lanes, 1, spec("ann", 5, 0, parts(1, 100))).unwrap();
    submit(&mut lanes, 2, spec("bob", 5, 0, parts(2, 100))).unwrap();
    let turns = turns(&mut lanes, &mut 0, 80);
    assert_eq!(turns.iter().filter(|job| **job == 1).count(), 60);
}

#[test]
fn of_one_owner_urgent_jobs_come_first_then_who_had_least_and_who_waits_long_in_one_of_four() {
    let mut lanes = Lanes::new(LanesConfig { slots: 1, ageing_ns: 100 * MS, ..config() });
    let mut now_ns = 0;
    submit(&mut lanes, 1, spec("ann", 5, 0, parts(1, 100))).unwrap();
    assert_eq!(turns(&mut lanes, &mut now_ns, 5), [1; 5]);
    submit(&mut lanes, 2, spec("ann", 5, 0, parts(2, 3))).unwrap();
    assert_eq!(turns(&mut lanes, &mut now_ns, 4), [2, 2, 2, 1], "it had nothing yet");
    lanes.submit(now_ns, JobId(3), spec("ann", 6, 0, parts(3, 100))).unwrap();
    let first = turns(&mut lanes, &mut now_ns, 9);
    assert_eq!(first, [3; 9]);
    // From now on the other has waited for 100 ms.
    let more = turns(&mut lanes, &mut now_ns, 44);
    let of_first = more.iter().filter(|job| **job == 1).count();
    assert_eq!((more[0], of_first), (1, 5), "one turn each 100 ms: {more:?}");
}

#[test]
fn waits_double_until_a_job_fails_alone() {
    let mut lanes = Lanes::new(config());
    submit(&mut lanes, 1, spec("ann", 5, 100, parts(1, 2))).unwrap();
    submit(&mut lanes, 2, spec("bob", 5, 100, parts(2, 1))).unwrap();
    assert_eq!(named(lanes.poll(0)), [(1, 0)]);
    assert_eq!(named(lanes.poll(0)), [(2, 0)]);
    lanes.handle_done(0, 1, 10 * MS);
    assert_eq!(lanes.handle_failed(0, 0, JobId(1), true), Verdict::Retry { at_ns: 10 });
    assert_eq!(lanes.handle_done(0, 0, 0), []);
    assert_eq!(named(lanes.poll(9)), [(1, 1)]);
    assert_eq!(lanes.poll(9), None);
    assert_eq!(lanes.poll_timeout(), Some(10));
    assert_eq!(named(lanes.poll(10)), [(1, 0)]);
    assert_eq!(lanes.handle_failed(20, 1, JobId(1), true), Verdict::Retry { at_ns: 35 }, "15 cap");
    lanes.handle_done(20, 1, 0);
    assert_eq!(named(lanes.poll(35)), [(1, 0)]);
    let failed = lanes.handle_failed(40, 1, JobId(1), true);
    assert_eq!(failed, Verdict::JobFailed { interrupt: vec![0] });
    assert_eq!(lanes.handle_done(40, 1, 0), []);
    assert_eq!(lanes.status().held_bytes, 200, "a part of it is under way");
    assert_eq!(lanes.handle_done(41, 0, 0), []);
    assert_eq!(lanes.status().held_bytes, 100);
    assert_eq!(lanes.poll_timeout(), None);

    submit(&mut lanes, 1, spec("ann", 5, 100, parts(1, 2))).unwrap();
    assert_eq!(named(lanes.poll(50)), [(1, 0)]);
    let failed = lanes.handle_failed(50, 0, JobId(1), false);
    assert_eq!(failed, Verdict::JobFailed { interrupt: vec![] }, "there is no sense in a retry");
}

#[test]
fn a_cancelled_job_counts_for_nothing_even_if_its_number_is_used_again() {
    let mut lanes = Lanes::new(config());
    submit(&mut lanes, 1, spec("ann", 5, 600, parts(1, 3))).unwrap();
    assert_eq!(named(lanes.poll(0)), [(1, 0)]);
    assert_eq!(lanes.cancel(0, JobId(9)), None);
    assert_eq!(lanes.cancel(0, JobId(1)), Some(Cancelled { interrupt: vec![0] }));
    assert_eq!(lanes.cancel(0, JobId(1)), None);
    let again = submit(&mut lanes, 1, spec("ann", 5, 600, parts(1, 3)));
    assert_eq!(again, Ok(Admission::Queued { position: 0 }), "the first holds its bytes still");
    assert_eq!(lanes.handle_failed(0, 0, JobId(1), true), Verdict::Ignored);
    assert_eq!(lanes.handle_done(0, 0, 10 * MS), []);
    assert_eq!(events(&mut lanes), [Event::Admitted(JobId(1))]);
    assert_eq!(named(lanes.poll(0)), [(1, 0)]);
    assert_eq!(lanes.job_status(JobId(1)).unwrap().parts_done, 0);
}

#[test]
fn what_jobs_hold_beyond_what_they_asked_for_ends_in_one_part_at_a_time() {
    let mut lanes = Lanes::new(config());
    submit(&mut lanes, 1, spec("ann", 5, 100, parts(1, 5))).unwrap();
    submit(&mut lanes, 2, spec("bob", 5, 100, parts(2, 3))).unwrap();
    assert_eq!(lanes.handle_held_bytes(0, JobId(3), 0), None);
    assert_eq!(lanes.handle_held_bytes(0, JobId(1), 0), Some(HeldFit::Within));
    assert_eq!(lanes.status().held_bytes, 200, "what was asked for stays reserved");
    assert_eq!(lanes.handle_held_bytes(0, JobId(1), 800), Some(HeldFit::Within));
    assert_eq!(lanes.handle_held_bytes(0, JobId(2), 195), Some(HeldFit::Over));
    assert_eq!(named(lanes.poll(0)), [(2, 0)], "the one with the least left");
    assert_eq!(lanes.poll(0), None, "one at a time");
    lanes.handle_done(0, 0, 10 * MS);
    assert_eq!(named(lanes.poll(0)), [(2, 1)]);
    lanes.handle_done(0, 0, 10 * MS);
    assert_eq!(lanes.handle_held_bytes(0, JobId(2), u64::MAX), Some(HeldFit::Never));
    assert_eq!(named(lanes.poll(0)), [(2, 2)]);
    lanes.handle_done(0, 0, 10 * MS);
    assert_eq!(lanes.poll(0), None, "what is done will be released");
    assert!(lanes.release(0, JobId(2)));
    assert_eq!(named(lanes.poll(0)), [(1, 0)]);
    assert_eq!(named(lanes.poll(0)), [(1, 1)]);
    assert_eq!(lanes.status().counters.over_budget, 3);
}

#[test]
fn a_large_part_is_passed_twice_and_then_waited_for() {
    let mut lanes = Lanes::new(LanesConfig { slots: 3, jobs_running_max: 9, ..config() });
    submit(&mut lanes, 1, spec("ann", 5, 0, vec![part(900, 1), part(900, 2)])).unwrap();
    submit(&mut lanes, 2, spec("bob", 5, 0, parts(2, 9))).unwrap();
    assert_eq!(named(lanes.poll(0)), [(1, 0)]);
    assert_eq!(named(lanes.poll(0)), [(2, 0)]);
    assert_eq!(named(lanes.poll(0)), [(2, 1)]);
    lanes.handle_done(0, 1, 10 * MS);
    assert_eq!(named(lanes.poll(0)), [(2, 2)]);
    lanes.handle_done(0, 1, 10 * MS);
    assert_eq!(lanes.poll(0), None, "the large one was passed twice");
    lanes.handle_done(0, 0, 10 * MS);
    assert_eq!(named(lanes.poll(0)), [(1, 1)]);
}

#[test]
fn overload_goes_up_step_by_step_and_down_when_it_was_calm() {
    let overload = OverloadConfig {
        high: LiveLoad { lag_ns: 100, queue_permille: 500 },
        low: LiveLoad { lag_ns: 10, queue_permille: 50 },
        up_after_ns: 10,
        down_after_ns: 20,
        report_ns_max: 1_000,
    };
    let mut lanes = Lanes::new(LanesConfig { overload, ..config() });
    submit(&mut lanes, 1, spec("ann", 5, 0, parts(1, 5))).unwrap();
    let load = |lag_ns, queue_permille| LiveLoad { lag_ns, queue_permille };
    let change = |from, to| Some(StepChange { from, to });
    use Step::{Backpressure, BatchPaused, LargerBatches, Normal};
    assert_eq!(lanes.handle_live(100, load(99, 499)), None);
    assert_eq!(lanes.handle_live(100, load(0, 500)), change(Normal, BatchPaused));
    assert_eq!(lanes.poll(100), None, "the batch lane is paused");
    assert_eq!(lanes.handle_live(109, load(100, 0)), None, "the step is given time");
    assert_eq!(lanes.handle_live(110, load(100, 0)), change(BatchPaused, LargerBatches));
    assert_eq!(lanes.handle_live(120, load(100, 0)), change(LargerBatches, Backpressure));
    assert_eq!(lanes.handle_live(130, load(100, 0)), None, "there is no further step");
    assert_eq!(lanes.handle_live(140, load(10, 50)), None, "calm from now on");
    assert_eq!(lanes.handle_live(159, load(10, 50)), None);
    assert_eq!(lanes.handle_live(160, load(10, 50)), change(Backpressure, LargerBatches));
    assert_eq!(lanes.handle_live(170, load(11, 0)), None, "neither high nor calm");
    assert_eq!(lanes.poll_timeout(), Some(1_190), "unless nothing is said any more");
    assert_eq!(lanes.handle_live(180, load(0, 0)), None);
    assert_eq!(lanes.poll(199), None);
    assert_eq!(lanes.step(), LargerBatches);
    assert_eq!(lanes.poll(200), None);
    assert_eq!(lanes.step(), BatchPaused);
    assert_eq!(lanes.poll_timeout(), Some(220));
    assert_eq!(named(lanes.poll(220)), [(1, 0)]);
    let steps = events(&mut lanes).len();
    assert_eq!((steps, lanes.status().counters.steps), (6, 6));
}

fn granted(answer: DeviceAnswer) -> Option<Ticket> {
    match answer {
        DeviceAnswer::Granted(ticket) => Some(ticket),
        _ => None,
    }
}

fn waiting(answer: DeviceAnswer) -> Option<(Ticket, u64)> {
    match answer {
        DeviceAnswer::Wait { ticket, predicted_start_ns } => Some((ticket, predicted_start_ns)),
        _ => None,
    }
}

#[test]
fn the_device_goes_to_live_work_by_deadline_and_then_to_scans() {
    let mut device = DeviceLane::new(1_000, 100);
    let batch = granted(device.request_batch(0, 100, 10)).unwrap();
    let (next_batch, at) = waiting(device.request_batch(0, 50, 10)).unwrap();
    assert_eq!(at, 100);
    let (late, at) = waiting(device.request_live(10, 900, 30, 10)).unwrap();
    assert_eq!(at, 100);
    let (early, at) = waiting(device.request_live(20, 500, 40, 10)).unwrap();
    assert_eq!(at, 100);
    let (later, at) = waiting(device.request_live(20, 901, 40, 10)).unwrap();
    assert_eq!(at, 170);
    assert_eq!(device.release(90, later), None, "it does not want to wait");
    assert_eq!(device.release(100, batch), Some(early));
    assert_eq!(device.release(100, batch), None, "that was given back before");
    assert_eq!(device.release(140, early), Some(late));
    assert_eq!(device.release(170, late), Some(next_batch));
    assert_eq!(device.release(180, next_batch), None);
    let status = device.status();
    assert_eq!((status.live_grants, status.batch_grants), (2, 2));
    assert_eq!(status.live_behind_batch_ns_max, 90);
}

#[test]
fn what_live_work_cannot_wait_for_is_cut_or_done_elsewhere() {
    let mut device = DeviceLane::new(1_000, 100);
    let too_long = DeviceRefused::TooLong { predicted_ns: 250, max_ns: 100, dispatches: 3 };
    assert_eq!(device.request_batch(0, 250, 1), DeviceAnswer::Refused(too_long));
    assert!(device.set_resident(900));
    let too_large = DeviceRefused::TooLarge { bytes: 101, free: 100 };
    assert_eq!(device.request_batch(0, 10, 101), DeviceAnswer::Refused(too_large));
    let ticket = granted(device.request_batch(0, 50, 100)).unwrap();
    assert!(!device.set_resident(901), "a request was taken");
    // It takes four times as long as it was predicted to.
    device.release(200, ticket);
    assert_eq!(device.status().correction_permille, 4_000);
    let too_long = DeviceRefused::TooLong { predicted_ns: 200, max_ns: 100, dispatches: 2 };
    assert_eq!(device.request_batch(200, 50, 1), DeviceAnswer::Refused(too_long));
    let ticket = granted(device.request_batch(200, 25, 1)).unwrap();
    device.release(225, ticket);
    assert_eq!(device.status().correction_permille, 3_625);
    // A second later half of it is forgotten.
    let ticket = granted(device.request_batch(1_000_000_000, 43, 1)).unwrap();
    device.release(1_000_000_043, ticket);
    // What cannot be cut has all the time that it takes.
    let ticket = granted(device.request_undivided(1_000_000_043, 5_000, 1)).unwrap();
    device.release(1_000_005_043, ticket);
    let status = device.status();
    assert_eq!((status.batch_refused, status.batch_grants, status.undivided_grants), (3, 4, 1));
}

#[test]
fn a_lost_device_voids_what_was_asked_of_it() {
    let mut device = DeviceLane::new(1_000, 100);
    let batch = granted(device.request_batch(0, 100, 10)).unwrap();
    let (waits, _) = waiting(device.request_batch(0, 100, 10)).unwrap();
    let (live, _) = waiting(device.request_live(0, 0, 100, 10)).unwrap();
    assert_eq!(device.lose(), [batch, live, waits]);
    assert_eq!(device.lose(), []);
    let absent = DeviceAnswer::Refused(DeviceRefused::Absent);
    assert_eq!(device.request_live(0, 0, 1, 1), absent);
    assert_eq!(device.request_batch(0, 1, 1), absent);
    device.restore();
    let ticket = granted(device.request_batch(0, 100, 10)).unwrap();
    assert_eq!(device.release(1, batch), None);
    assert!(device.status().has_batch);
    assert_eq!(device.release(1, ticket), None);
    assert!(!device.status().has_batch);
}

#[test]
fn work_is_cut_into_pieces_that_are_short_enough() {
    assert_eq!(cutting::dispatches_within(0, 100), 1);
    assert_eq!(cutting::dispatches_within(100, 100), 1);
    assert_eq!(cutting::dispatches_within(101, 100), 2);
    assert_eq!(cutting::dispatches_within(5, 0), 5);
    let costs = Costs { dispatch_ns: 100.0, row_ns: 2.0, window_ns: 10.0, byte_ns: 0.5 };
    let work = Work { rows: 1e6, bytes_per_row: 16.0, windows_per_row: 0.1, resident: false };
    // 2 + 1 + 8 ns each.
    let rows = cutting::rows_within(&costs, &work, 1_199).unwrap();
    assert_eq!(rows.get(), 99);
    assert!(costs.predict_ns(&Work { rows: 99.0, ..work }) <= 1_199.0);
    assert!(costs.predict_ns(&Work { rows: 100.0, ..work }) > 1_199.0);
    assert_eq!(cutting::rows_within(&costs, &work, 110), None);
    assert_eq!(cutting::rows_within(&costs, &work, 10), None);
    let free = Costs { row_ns: 0.0, window_ns: 0.0, byte_ns: 0.0, ..costs };
    assert_eq!(cutting::rows_within(&free, &work, 100).unwrap().get(), u64::MAX);
    let pieces: Vec<_> = cutting::cut(10, 4.try_into().unwrap()).collect();
    assert_eq!(pieces, [0..3, 3..6, 6..10]);
    assert_eq!(cutting::cut(0, 4.try_into().unwrap()).count(), 0);
    let last = cutting::cut(u64::MAX, u64::MAX.try_into().unwrap()).last();
    assert_eq!(last, Some(0..u64::MAX));
}
