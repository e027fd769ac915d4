use isotick_kernels::{CpuEngine, Engine, Plan, Runs, Term};

use super::*;
use crate::engine::GpuEngine;
use crate::tests::engine::{every_term, runs};
use crate::tests::random::Random;
use crate::variant::Variant;

/// Column 0 wide, the others framed where they have values.
fn batch(seed: u64, lens: &[u32]) -> Runs {
    let mut runs = runs(&mut Random(seed), lens, |random| random.value() >> 34);
    let mut random = Random(seed + 1);
    runs.ticks.values[0].values =
        (0..runs.ticks.len()).map(|_| random.next().cast_signed()).collect();
    runs
}

fn assert_equal(engine: &mut GpuEngine, id: u64, plan: &Plan, runs: &Runs) {
    let resident = engine.reduce_resident(BatchId(id), plan, runs).unwrap();
    assert_eq!(resident, CpuEngine.reduce(plan, runs).unwrap(), "batch {id}");
}

#[test]
fn a_batch_is_uploaded_once_whatever_the_variant() {
    let Some(mut engine) = crate::tests::engine() else { return };
    let plan = every_term();
    let batch = batch(1, &[3, 700, 5000, 1, 513]);
    for (id, variant) in engine.variants().into_iter().enumerate() {
        engine.force(Some(variant)).unwrap();
        assert_equal(&mut engine, id as u64, &plan, &batch);
        let (uploaded, before) = (engine.resident().uploaded_bytes, engine.resident());
        assert_equal(&mut engine, id as u64, &plan, &batch);
        assert_equal(&mut engine, id as u64, &Plan::of_terms([Term::Sum(1)]), &batch);
        assert_eq!(engine.resident().uploaded_bytes, uploaded, "{variant}");
        let after = engine.resident();
        assert!(after.hits > before.hits && after.bytes == before.bytes);
        assert!(before.bytes > 0 && before.bytes < batch.ticks.len() as u64 * 3 * 8 + 4096);
        engine.evict(BatchId(id as u64));
    }
}

/// Other runs over the same rows need another table of segments and nothing else; other rows of
/// another number are not taken for the old ones.
#[test]
fn runs_may_differ_and_rows_are_not_mistaken() {
    let Some(mut engine) = crate::tests::engine() else { return };
    let plan = every_term();
    let mut batch = batch(2, &[4000]);
    assert_equal(&mut engine, 1, &plan, &batch);
    let uploaded = engine.resident().uploaded_bytes;
    let half = isotick_kernels::Run { len: 1500, ..batch.runs[0] };
    let rest = isotick_kernels::Run { start: half.start + 1500, len: 2500, ..half };
    batch.runs = vec![half, rest];
    assert_equal(&mut engine, 1, &plan, &batch);
    assert!(engine.resident().uploaded_bytes - uploaded < 1024);
    assert_equal(&mut engine, 1, &plan, &self::batch(3, &[4100]));
    assert_eq!(engine.resident().batches, 1);
}

#[test]
fn the_budget_holds_and_the_oldest_goes() {
    let Some(mut engine) = crate::tests::engine() else { return };
    engine.force(Some(Variant::BASE)).unwrap();
    let plan = Plan::of_terms([Term::Sum(0), Term::Max(1)]);
    let batches: Vec<Runs> = (0..4).map(|seed| batch(10 + seed, &[4096])).collect();
    // Room for two: 12 bytes a row, some validity and segments.
    engine.resident = Resident::new(2 * 4096 * 14);
    for id in [0, 1, 0, 2, 3, 3, 1] {
        assert_equal(&mut engine, id as u64, &plan, &batches[id]);
        let stats = engine.resident();
        assert!(stats.bytes <= stats.bytes_max && stats.batches <= 2, "{stats:?}");
    }
    // 2 drove 1 out, 3 drove 0 out, 1 drove 2 out.
    assert_eq!(engine.resident().evictions, 3);
    let uploaded = engine.resident().uploaded_bytes;
    assert_equal(&mut engine, 3, &plan, &batches[3]);
    assert_eq!(engine.resident().uploaded_bytes, uploaded);

    // What is larger than the budget is reduced all the same, and drives nothing out for nothing.
    let huge = batch(20, &[40_000]);
    assert_equal(&mut engine, 9, &plan, &huge);
    let stats = engine.resident();
    assert!(stats.bytes <= stats.bytes_max, "{stats:?}");
    engine.evict(BatchId(9));
    engine.evict(BatchId(3));
    engine.evict(BatchId(1));
    assert_eq!((engine.resident().batches, engine.resident().bytes), (0, 0));
}

#[test]
fn a_failure_leaves_nothing_on_the_device() {
    let Some(mut engine) = crate::tests::engine() else { return };
    let (plan, batch) = (every_term(), batch(5, &[3000]));
    assert_equal(&mut engine, 1, &plan, &batch);
    let mut broken = batch.clone();
    broken.runs[0].len = 0;
    engine.reduce_resident(BatchId(1), &plan, &broken).unwrap_err();
    assert_eq!((engine.resident().batches, engine.resident().bytes), (0, 0));
    assert!(engine.pool.free.is_empty());
    assert_equal(&mut engine, 1, &plan, &batch);
    assert!(!engine.is_lost());
    engine.lose_device();
    let error = engine.reduce_resident(BatchId(1), &plan, &batch).unwrap_err();
    assert!(error.reason.contains("was lost"), "{error}");
    assert_eq!((engine.resident().batches, engine.resident().bytes), (0, 0));
    assert!(engine.is_lost());
}

/// Whichever buffer of a reduction finds no memory: it is done without what stays, or fails where
/// nothing stays.
#[test]
fn what_stays_makes_way_where_memory_runs_out() {
    let Some(mut engine) = crate::tests::engine() else { return };
    let plan = every_term();
    let batches = [batch(30, &[3000, 7]), batch(31, &[900, 5000])];
    let mut fits = false;
    for left in 0.. {
        assert_equal(&mut engine, 1, &plan, &batches[0]);
        let before = engine.resident();
        assert!(before.bytes > 0);
        engine.pool.free.clear();
        engine.pool.buffers_left = Some(left);
        assert_equal(&mut engine, 2, &plan, &batches[1]);
        fits = engine.pool.buffers_left.take().is_some();
        let after = engine.resident();
        if fits {
            assert_eq!(after.batches, 2);
            break;
        }
        assert_eq!((after.batches, after.bytes), (0, 0), "memory for {left} buffers");
        // From now on less stays: half of what did, with what this batch had of it.
        assert!(after.bytes_max >= before.bytes / 2 && after.bytes_max < before.bytes_max);
        engine.resident = Resident::new(before.bytes_max);

        engine.pool.free.clear();
        engine.pool.buffers_left = Some(left);
        let error = engine.reduce(&plan, &batches[1]).unwrap_err();
        assert!(error.reason.contains("is out of memory"), "{error}");
        assert!(!engine.is_lost() && engine.pool.free.is_empty());
    }
    assert!(fits);
}

/// The device goes at any moment of a reduction, with chunks under way.
#[test]
fn a_device_that_is_lost_in_the_middle_leaves_nothing() {
    let (plan, batch) = (every_term(), batch(40, &[1 << 20; 9]));
    let expected = CpuEngine.reduce(&plan, &batch).unwrap();
    let mut lost = 0;
    for after_ms in [1, 20, 60, 150] {
        let Some(mut engine) = crate::tests::engine() else { return };
        engine.reduce_resident(BatchId(1), &plan, &self::batch(41, &[3000])).unwrap();
        let device = engine.device.device.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(after_ms));
                device.destroy();
            });
            match engine.reduce_resident(BatchId(2), &plan, &batch) {
                Ok(partials) => assert!(partials == expected),
                Err(error) => {
                    lost += 1;
                    assert!(error.reason.contains("was lost"), "{error}");
                    assert_eq!((engine.resident().batches, engine.resident().bytes), (0, 0));
                }
            }
        });
        let error = engine.reduce_resident(BatchId(1), &plan, &batch).unwrap_err();
        assert!(error.reason.contains("was lost"), "{error}");
        assert!(engine.is_lost() && engine.resident().bytes == 0);
    }
    assert!(lost > 0, "every reduction was done before its device went");
}
