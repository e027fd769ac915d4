use std::sync::atomic::AtomicU64;

use isotick_kernels::Partitioner;
use isotick_model::PublisherId;
use isotick_model::definitions::{Definitions, template};

use super::*;
use crate::market::Market;

const LIMITS: DeviceLimits = DeviceLimits {
    wait_max: Duration::from_millis(1),
    resident_bytes_max: None,
    row_groups_bytes_max: 1 << 20,
};

/// The CPU engine, slowly, one at a time; notes the largest dispatch of scans.
struct Slow {
    busy: Arc<AtomicBool>,
    largest: Arc<AtomicU64>,
}

impl Engine for Slow {
    fn kind(&self) -> EngineKind {
        EngineKind::Gpu
    }

    fn describe(&self) -> String {
        "slow".to_owned()
    }

    fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
        self.slowly(runs.ticks.len(), || CpuEngine.reduce(plan, runs))
    }

    fn takes_groups(&self) -> bool {
        true
    }

    fn reduce_groups(&mut self, plan: &Plan, groups: &Groups) -> Reduced {
        self.slowly(groups.ticks.len(), || CpuEngine.reduce_groups(plan, groups))
    }
}

impl Slow {
    fn slowly(&self, rows: usize, reduce: impl FnOnce() -> Reduced) -> Reduced {
        assert!(!self.busy.swap(true, Ordering::SeqCst), "one dispatch at a time");
        let rows = rows as u64;
        std::thread::sleep(Duration::from_nanos(rows * 200));
        self.largest.fetch_max(rows, Ordering::SeqCst);
        let reduced = reduce();
        self.busy.store(false, Ordering::SeqCst);
        reduced
    }
}

#[test]
fn scans_are_cut_for_live_work_and_give_the_same_words() {
    let definitions = Definitions::parse(template::EXAMPLE, "example").unwrap();
    let view = &definitions.views[0];
    let plan = Plan::over(view, definitions.stream(&view.stream).unwrap());
    let partitioner = Partitioner::new(view, &plan);
    let runs = placing::runs(&partitioner, &Market::new(1).next_ticks(40_000));
    let (busy, largest) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
    let slow = Slow { busy, largest: largest.clone() };
    let shared = Arc::new(Shared::new(Box::new(slow), &LIMITS, Arc::default()).unwrap());
    largest.store(0, Ordering::SeqCst);
    let mut in_time_order = Market::new(2).next_ticks(40_000);
    // Two publishers, in turns, of the names that come last and first.
    in_time_order.publishers = ["z", "a"].map(|name| PublisherId::new(name).unwrap()).to_vec();
    in_time_order.publisher = (0..40_000).map(|row| row % 2).collect();
    let mut groups = placing::groups(&partitioner, &in_time_order).unwrap();
    groups.publisher_codes = vec![7, 3];
    let expected = CpuEngine.reduce(&plan, &runs).unwrap();
    let expected_of_groups = CpuEngine.reduce_groups(&plan, &groups).unwrap();
    std::thread::scope(|scope| {
        for lane in [Lane::Scan, Lane::Scan, Lane::Live] {
            let mut engine = OnDevice { device: shared.clone(), lane };
            let (plan, runs, expected) = (&plan, &runs, &expected);
            let (groups, expected_of_groups) = (&groups, &expected_of_groups);
            scope.spawn(move || {
                for _ in 0..3 {
                    match lane {
                        Lane::Scan => {
                            assert_eq!(engine.reduce(plan, runs).unwrap(), *expected);
                            let of_groups = engine.reduce_groups(plan, groups).unwrap();
                            assert_eq!(of_groups, *expected_of_groups);
                        }
                        Lane::Live => {
                            let few = piece(runs, 0..20);
                            let alone = CpuEngine.reduce(plan, &few).unwrap();
                            assert_eq!(engine.reduce(plan, &few).unwrap(), alone);
                        }
                    }
                }
            });
        }
    });
    let largest = largest.load(Ordering::SeqCst);
    assert!(largest < 20_000, "{largest} rows went in one dispatch");
    let status = shared.state().lane.status();
    assert_eq!(status.live_grants, 3);
    assert!(status.batch_grants > 6, "{status:?}");
}
