use isotick_kernels::{CpuEngine, Engine};

use super::*;
use crate::resident::BatchId;
use crate::tests::engine::{every_term, runs};
use crate::tests::random::Random;

#[test]
fn a_reduction_is_timed_where_it_can_be() {
    let Some(mut engine) = crate::tests::engine() else { return };
    let (plan, runs) = (every_term(), runs(&mut Random(1), &[60_000, 500], Random::value));
    let expected = CpuEngine.reduce(&plan, &runs).unwrap();
    assert_eq!(engine.last_timing(), None);
    if !engine.take_time(true) {
        println!("{}: no timestamps", engine.describe());
        assert_eq!(engine.last_timing(), None);
        return;
    }
    let begin = Instant::now();
    assert_eq!(engine.reduce(&plan, &runs).unwrap(), expected);
    let passed_ns = begin.elapsed().as_nanos() as u64;
    let timing = engine.last_timing().unwrap();
    assert_eq!(timing.chunks, 1);
    assert!(timing.compute_ns > 0 && timing.upload_ns > 0, "{timing:?}");
    let together = timing.upload_ns + timing.compute_ns + timing.readback_ns;
    assert!(together <= passed_ns, "{timing:?} in {passed_ns} ns");
    assert_eq!(engine.reduce_resident(BatchId(1), &plan, &runs).unwrap(), expected);
    println!("{timing:?}, then {:?}", engine.last_timing());
    engine.take_time(false);
    assert_eq!(engine.reduce(&plan, &runs).unwrap(), expected);
    assert_eq!(engine.last_timing(), None);
}

#[test]
fn bandwidth_is_measured_and_leaves_the_engine_as_it_was() {
    let Some(mut engine) = crate::tests::engine() else { return };
    let bandwidth = engine.measure_bandwidth().unwrap();
    println!("{}: {bandwidth:?}", engine.describe());
    let Bandwidth { copy_bytes_per_s, upload_bytes_per_s, readback_bytes_per_s } = bandwidth;
    for rate in [copy_bytes_per_s, upload_bytes_per_s, readback_bytes_per_s] {
        assert!(rate.is_finite() && rate > 1e6, "{bandwidth:?}");
    }
    let (plan, runs) = (every_term(), runs(&mut Random(2), &[600], Random::value));
    assert_eq!(engine.reduce(&plan, &runs).unwrap(), CpuEngine.reduce(&plan, &runs).unwrap());
}

#[test]
fn a_lost_device_cannot_be_measured() {
    let Some(mut engine) = crate::tests::engine() else { return };
    engine.device.device.destroy();
    let error = engine.measure_bandwidth().unwrap_err();
    assert!(error.reason.contains("was lost"), "{error}");
}
