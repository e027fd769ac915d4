//! What the lanes are for, in numbers: on workers that do nothing else and take what was predicted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use crate::lanes::{
    Admission, Event, JobId, JobSpec, Lanes, LanesConfig, PartCost, Priority, Verdict,
};

const MS: u64 = 1_000_000;

/// Workers that run what they are given.
struct Workers {
    lanes: Lanes,
    now_ns: u64,
    /// When each busy one will be done, and how long that took.
    busy: BTreeSet<(u64, usize, u64)>,
    /// What a part of a job takes beside its prediction, parts per thousand.
    permille: fn(JobId) -> u64,
    finished: Vec<(JobId, u64)>,
}

impl Workers {
    fn new(config: LanesConfig) -> Self {
        let lanes = Lanes::new(config);
        let (busy, finished) = (BTreeSet::new(), Vec::new());
        Self { lanes, now_ns: 0, busy, permille: |_| 1_000, finished }
    }

    fn submit(&mut self, id: u64, owner: &str, parts: Vec<PartCost>) -> Admission {
        let (owner, priority) = (Arc::from(owner), Priority::default());
        let parts_finished = Vec::new();
        let spec = JobSpec { owner, priority, held_bytes: 1, parts, parts_finished, closing: None };
        self.lanes.submit(self.now_ns, JobId(id), spec).expect("there is room")
    }

    fn fill(&mut self) {
        while let Some(dispatch) = self.lanes.poll(self.now_ns) {
            let permille = (self.permille)(dispatch.parts[0].0);
            let busy_ns = dispatch.predicted_ns * permille / 1_000;
            self.busy.insert((self.now_ns + busy_ns, dispatch.slot, busy_ns));
        }
    }

    /// Fills all workers, and lets the first of them end.
    fn step(&mut self) -> bool {
        self.fill();
        let Some((at_ns, slot, busy_ns)) = self.busy.pop_first() else { return false };
        self.now_ns = at_ns;
        self.lanes.handle_done(at_ns, slot, busy_ns);
        while let Some(event) = self.lanes.poll_event() {
            if let Event::Finished(id) = event {
                self.finished.push((id, at_ns));
                self.lanes.release(at_ns, id);
            }
        }
        true
    }

    /// When a job is finished.
    fn finish(&mut self, id: u64) -> u64 {
        loop {
            if let Some((_, at_ns)) = self.finished.iter().find(|(job, _)| job.0 == id) {
                return *at_ns;
            }
            assert!(self.step(), "it will never be finished");
        }
    }
}

fn parts(job: u64, count: u64, predicted_ns: u64) -> Vec<PartCost> {
    let part = |n| PartCost { predicted_ns, host_bytes: 1, source: (job << 32) + n };
    (0..count).map(part).collect()
}

fn config(slots: usize) -> LanesConfig {
    LanesConfig { slots, ..LanesConfig::default() }
}

/// How many times as long a scan takes when huge ones of `behind` run, of which all workers have
/// just begun a part.
fn slowdown(slots: usize, owner: &str, behind: &[&str], count: u64) -> f64 {
    let mut alone = Workers::new(config(slots));
    alone.submit(0, owner, parts(0, count, 20 * MS));
    let alone_ns = alone.finish(0);
    let mut workers = Workers::new(config(slots));
    for (id, behind) in (1..).zip(behind) {
        workers.submit(id, behind, parts(id, 20_000, 20 * MS));
    }
    for _ in 0..100 * slots {
        workers.step();
    }
    // All begin at the same moment: the worst one.
    workers.fill();
    let from_ns = workers.now_ns;
    assert_eq!(workers.submit(0, owner, parts(0, count, 20 * MS)), Admission::Running);
    (workers.finish(0) - from_ns) as f64 / alone_ns as f64
}

#[test]
fn a_small_scan_behind_a_huge_one_takes_at_most_twice_its_time_alone() {
    for slots in [1, 2, 4, 8, 16] {
        // From one round of all workers to a thousand.
        for rounds in [1, 2, 3, 10, 50, 100, 1_000] {
            let count = rounds * slots as u64;
            let of_same = slowdown(slots, "ann", &["ann"], count);
            let of_other = slowdown(slots, "ann", &["bob"], count);
            println!(
                "{slots} workers, {rounds} rounds: {of_same:.2} same owner, {of_other:.2} other"
            );
            assert!(of_same <= 2.0 && of_other <= 2.0);
        }
    }
}

#[test]
fn a_small_scan_passes_a_flood_of_another_owner() {
    let mut workers = Workers::new(LanesConfig { queue_max: 2_000, ..config(4) });
    for id in 1..=1_000 {
        workers.submit(id, "bob", parts(id, 100, 20 * MS));
    }
    for _ in 0..1_000 {
        workers.step();
    }
    let from_ns = workers.now_ns;
    assert_eq!(workers.submit(0, "ann", parts(0, 40, 20 * MS)), Admission::Running);
    let took_ns = workers.finish(0) - from_ns;
    assert!(took_ns <= 2 * 10 * 20 * MS, "{took_ns} ns");
    assert!(workers.finished.len() < 60, "the flood goes on");
}

#[test]
fn two_equal_owners_get_equal_shares_whatever_they_predict() {
    for slots in [1, 2, 4, 8] {
        let mut workers = Workers::new(config(slots));
        // One has ten jobs and takes half of what it says, the other has one and takes the double.
        workers.permille = |id| if id.0 == 0 { 2_000 } else { 500 };
        workers.submit(0, "ann", parts(0, 20_000, 5 * MS));
        for id in 1..=10 {
            workers.submit(id, "bob", parts(id, 2_000, 20 * MS));
        }
        while workers.now_ns < 20_000 * MS {
            workers.step();
        }
        let before = shares(&workers.lanes);
        // Any ten seconds from now on.
        for second in 3..=5 {
            while workers.now_ns < second * 10_000 * MS {
                workers.step();
            }
            let after = shares(&workers.lanes);
            let (ann, bob) = (after[0] - before[0], after[1] - before[1]);
            let ratio = ann as f64 / bob as f64;
            println!("{slots} workers: {ratio:.3}");
            assert!((0.9..=1.1).contains(&ratio), "{ann} and {bob} ns");
        }
    }
}

fn shares(lanes: &Lanes) -> Vec<u64> {
    lanes.status().owners.iter().map(|owner| owner.attained_ns).collect()
}

/// Microseconds for each dispatch: poll, done, and once in ten a failure. The median of many
/// stretches, so that what else the machine does does not count.
fn overhead_us(jobs: u64, running: usize, count: u64, sources: u64) -> f64 {
    let config = LanesConfig {
        slots: 8,
        jobs_running_max: running,
        host_bytes_max: 1 << 40,
        queue_max: jobs as usize,
        ..LanesConfig::default()
    };
    let mut lanes = Lanes::new(config);
    for id in 0..jobs {
        let owner = format!("owner {}", id % 20);
        let part = |n| PartCost { predicted_ns: MS, host_bytes: 1, source: (id * n) % sources };
        let spec = JobSpec {
            owner: Arc::from(owner.as_str()),
            priority: Priority::new((id % 10) as u8).expect("0 to 9"),
            held_bytes: 1,
            parts: (0..count).map(part).collect(),
            parts_finished: Vec::new(),
            closing: None,
        };
        lanes.submit(0, JobId(id), spec).expect("there is room");
    }
    let mut now_ns = 0;
    let mut dispatches = 0_u64;
    let mut stretch = || {
        let begin = Instant::now();
        for _ in 0..500 {
            now_ns += MS;
            let dispatch = lanes.poll(now_ns).expect("there is always something to do");
            dispatches += 1;
            if dispatches.is_multiple_of(10) {
                let verdict = lanes.handle_failed(now_ns, dispatch.slot, dispatch.parts[0].0, true);
                assert!(matches!(verdict, Verdict::Retry { .. } | Verdict::JobFailed { .. }));
            }
            lanes.handle_done(now_ns, dispatch.slot, MS);
        }
        begin.elapsed().as_secs_f64() * 1e6 / 500.0
    };
    let mut each: Vec<f64> = (0..100).map(|_| stretch()).collect();
    each.sort_by(f64::total_cmp);
    each[50]
}

#[test]
fn a_dispatch_takes_microseconds() {
    for (sources, what) in [(u64::MAX, "reads of their own"), (10_000, "shared reads")] {
        let us = overhead_us(300, 100, 2_000, sources);
        println!("{us:.1} µs for each dispatch, {what}");
        assert!(us < 100.0, "{us} µs");
    }
}

#[test]
#[ignore = "takes a gigabyte"]
fn a_dispatch_takes_microseconds_with_ten_million_parts() {
    for (sources, what) in [(u64::MAX, "reads of their own"), (10_000, "shared reads")] {
        let us = overhead_us(1_000, 1_000, 10_000, sources);
        println!("{us:.1} µs for each dispatch, {what}");
        assert!(us < 100.0, "{us} µs");
    }
}
