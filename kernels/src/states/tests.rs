use super::*;
use crate::cpu::CpuEngine;
use crate::engine::Engine;
use crate::partition::Partitioner;
use crate::tables::KeyTable;
use crate::testing::*;
use isotick_model::view::Tumbling;
use proptest::prelude::*;

proptest! {
    /// Over the states of single ticks and of runs.
    #[test]
    fn the_laws_hold(rows in any_rows(24)) {
        let view = view(&EVERY_AGGREGATE, Tumbling { width_ns: 15, origin_ns: 0 }, None);
        let plan = Plan::of(&view);
        let (mut keys, mut publishers) = (KeyTable::default(), PublisherTable::default());
        let mut batch = |rows: &[Row]| {
            let partitioner = Partitioner::new(&view, &plan);
            let ticks = ticks_of(rows);
            let runs = partitioner.partition(&ticks, None, false, &mut keys, &mut publishers).form.into_runs().unwrap();
            CpuEngine.reduce(&plan, &runs).unwrap()
        };
        let mut states = batch(&rows).words;
        rows.chunks(1).for_each(|row| states.extend(batch(row).words));
        let states: Vec<&[u64]> = states.chunks_exact(plan.words()).collect();
        let combined = |a: &[u64], b: &[u64]| {
            let mut words = a.to_vec();
            combine(&plan, &mut words, b, &publishers);
            words
        };
        for triple in states.windows(3) {
            let (a, b, c) = (triple[0], triple[1], triple[2]);
            prop_assert_eq!(combined(a, &identity(&plan)), a);
            prop_assert_eq!(combined(&identity(&plan), a), a);
            prop_assert_eq!(combined(a, b), combined(b, a));
            prop_assert_eq!(combined(&combined(a, b), c), combined(a, &combined(b, c)));
        }
    }
}

#[test]
fn a_carry_crosses_both_words() {
    let plan = Plan::of_terms([Term::Sum(0)]);
    let mut words = [1, u64::MAX, u64::MAX, 0];
    combine(&plan, &mut words, &[1, 1, 0, 0], &PublisherTable::default());
    assert_eq!(words, [2, 0, 0, 1]);
    combine(&plan, &mut words, &[1, u64::MAX, u64::MAX, u64::MAX], &PublisherTable::default());
    assert_eq!(words, [3, u64::MAX, u64::MAX, 0]);
}
