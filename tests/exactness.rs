//! Nothing that must not matter matters: random ticks under random views, with everything varied
//! that the contract says is of no account, against the oracle, value for value and by hash.

use isotick_gpu::{BatchId, GpuEngine};
use isotick_kernels::windows::Windows;
use isotick_kernels::{CpuEngine, Engine, EngineError, EngineKind, Partials, Plan, Results, Runs};

use crate::gpu;
use crate::oracle::{self, Truth};
use crate::subject::Subject;

/// Cases per shape.
const SEEDS: u64 = 30;

const TRUTHS: [Truth; 2] = [Truth::Now, Truth::Seen];

#[test]
fn order_and_cuts_do_not_matter() {
    for mut subject in Subject::all(SEEDS) {
        let (arrival, sorted) = (subject.rows(), subject.sorted_rows());
        let mut permuted = arrival.clone();
        subject.rng.shuffle(&mut permuted);
        let ways = [
            ("whole, in arrival order", vec![subject.batch(&arrival)]),
            ("cut, in arrival order", subject.cut(&arrival, 20)),
            ("whole, in the order of history", vec![subject.batch(&sorted)]),
            ("cut, in the order of history", subject.cut(&sorted, 4)),
            ("cut, permuted", subject.cut(&permuted, 9)),
        ];
        for truth in TRUTHS {
            let expected = subject.expected(truth);
            for (how, batches) in &ways {
                let windows = subject.product.run_on_cpu(truth, batches);
                subject.check(truth, how, &expected, &windows);
            }
        }
    }
}

#[test]
fn threads_and_the_order_of_merging_do_not_matter() {
    for mut subject in Subject::all(SEEDS / 2) {
        let rows = subject.rows();
        for truth in TRUTHS {
            let expected = subject.expected(truth);
            for threads in [2, 7] {
                let batches = subject.cut(&rows, 20);
                let product = &subject.product;
                let mut parts: Vec<Windows> = std::thread::scope(|scope| {
                    let workers: Vec<_> = (0..threads)
                        .map(|thread| {
                            let mine: Vec<_> =
                                batches.iter().skip(thread).step_by(threads).cloned().collect();
                            scope.spawn(move || product.run_on_cpu(truth, &mine))
                        })
                        .collect();
                    workers.into_iter().map(|w| w.join().expect("a worker ends")).collect()
                });
                subject.rng.shuffle(&mut parts);
                let how = format!("{truth:?}, {threads} threads");
                subject.check_rows(&how, &expected, &Results::of(parts).rows());
            }
        }
    }
}

#[test]
fn the_engine_does_not_matter() {
    let Some(mut gpu) = gpu::engine() else { return };
    for mut subject in Subject::all(SEEDS / 3) {
        let (rows, sorted) = (subject.rows(), subject.sorted_rows());
        let ways = [
            ("gpu, whole", vec![subject.batch(&rows)]),
            ("gpu, cut", subject.cut(&rows, 3)),
            ("gpu, in the order of history", subject.cut(&sorted, 2)),
        ];
        for truth in TRUTHS {
            let expected = subject.expected(truth);
            for (how, batches) in &ways {
                let windows = subject.product.run(truth, batches, &mut gpu);
                subject.check(truth, how, &expected, &windows);
            }
            // Part by part on either engine, into one result.
            let mut mixed = subject.product.windows(truth);
            for (i, batch) in ways[1].1.iter().enumerate() {
                let engine: &mut dyn Engine = match i % 2 {
                    0 => &mut gpu,
                    _ => &mut CpuEngine,
                };
                mixed.update(batch, &|_| true, engine).expect("the engine reduces");
            }
            subject.check(truth, "gpu and cpu by turns", &expected, &mixed);
        }
    }
    assert_partitioned(&gpu);
}

/// Rows in arrival order must have come as they were, where the adapter takes them.
fn assert_partitioned(gpu: &GpuEngine) {
    match gpu.partition_lacking() {
        None => assert!(gpu.partitioned_rows() > 0, "{} partitioned nothing", gpu.describe()),
        Some(lacking) => println!("{}: no partition: {lacking}", gpu.describe()),
    }
}

/// Every variant of the kernels on every adapter, by itself and by turns within one result.
#[test]
fn the_variant_does_not_matter() {
    for mut gpu in gpu::engines() {
        let variants = gpu.variants();
        for (variant, why) in gpu.skipped() {
            println!("{}: {variant} skipped: it lacks {why}", gpu.describe());
        }
        assert!(!variants.is_empty(), "{}: no variant runs", gpu.describe());
        for mut subject in Subject::all(1) {
            let rows = subject.rows();
            let expected = subject.expected(Truth::Now);
            let (whole, cut) = ([subject.batch(&rows)], subject.cut(&rows, 2 * variants.len()));
            // In arrival order rows are partitioned on the device; in that of history they are in
            // runs.
            let sorted = [subject.batch(&subject.sorted_rows())];
            for &variant in &variants {
                gpu.force(Some(variant)).expect("it is one of the adapter's");
                for (form, batches) in [("partitioned", &whole), ("in runs", &sorted)] {
                    let windows = subject.product.run(Truth::Now, batches, &mut gpu);
                    let how = format!("{variant}, {form}");
                    subject.check(Truth::Now, &how, &expected, &windows);
                }
            }
            let mut mixed = subject.product.windows(Truth::Now);
            for (batch, &variant) in cut.iter().zip(variants.iter().cycle()) {
                gpu.force(Some(variant)).expect("it is one of the adapter's");
                mixed.update(batch, &|_| true, &mut gpu).expect("the engine reduces");
            }
            subject.check(Truth::Now, "variants by turns", &expected, &mixed);
        }
        assert_partitioned(&gpu);
    }
}

/// An engine whose batches stay on the device: the second time nothing is uploaded, and what comes
/// out is the same.
#[test]
fn what_stays_on_the_device_does_not_matter() {
    for gpu in gpu::engines() {
        let mut resident = Resident { gpu, next: 0 };
        for mut subject in Subject::all(SEEDS / 15) {
            let rows = subject.rows();
            let expected = subject.expected(Truth::Now);
            let batches = subject.cut(&rows, 3);
            let windows = subject.product.run(Truth::Now, &batches, &mut resident);
            subject.check(Truth::Now, "resident", &expected, &windows);
        }
        let stats = resident.gpu.resident();
        assert!(stats.hits > 0 && stats.bytes <= stats.bytes_max, "{stats:?}");
    }
}

/// Reduces each batch twice under an id of its own, and gives what the second reduction gave.
struct Resident {
    gpu: GpuEngine,
    next: u64,
}

impl Engine for Resident {
    fn kind(&self) -> EngineKind {
        self.gpu.kind()
    }

    fn describe(&self) -> String {
        self.gpu.describe()
    }

    fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
        let id = BatchId(self.next);
        self.next += 1;
        self.gpu.reduce_resident(id, plan, runs)?;
        let uploaded = self.gpu.resident().uploaded_bytes;
        let partials = self.gpu.reduce_resident(id, plan, runs)?;
        assert_eq!(
            self.gpu.resident().uploaded_bytes,
            uploaded,
            "the second time nothing is uploaded"
        );
        Ok(partials)
    }
}

/// Whole windows are selected by their start.
#[test]
fn a_range_selects_whole_windows() {
    for mut subject in Subject::all(SEEDS / 3) {
        let rows = subject.rows();
        let batches = subject.cut(&rows, 5);
        let all = subject.expected(Truth::Now);
        let mut starts: Vec<i64> = all.iter().map(|window| window.start).collect();
        starts.sort_unstable();
        let Some(middle) = starts.get(starts.len() / 2).copied() else { continue };
        for (from, to) in [
            (Some(middle), None),
            (None, Some(middle)),
            (Some(middle.saturating_sub(1)), Some(middle.saturating_add(1))),
            (Some(middle), Some(middle)),
        ] {
            let within = |w: &&oracle::Window| {
                from.is_none_or(|from| from <= w.start) && to.is_none_or(|to| w.start < to)
            };
            let expected: Vec<_> = all.iter().filter(within).cloned().collect();
            let mut windows = subject.product.windows(Truth::Now).with_range(from, to);
            for batch in &batches {
                windows.update(batch, &|_| true, &mut CpuEngine).expect("reduces");
            }
            subject.check(Truth::Now, &format!("from {from:?} to {to:?}"), &expected, &windows);
        }
    }
}
