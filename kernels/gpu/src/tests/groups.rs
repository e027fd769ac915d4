use isotick_kernels::{CpuEngine, Engine as _, Group};

use super::*;
use crate::tests::engine::{every_term, runs};
use crate::tests::random::Random;

/// In which order rows come.
#[derive(Clone, Copy, Debug)]
enum Comes {
    /// That of time, publisher and sequence.
    Canonical,
    /// Any, but those of a publisher in their sequence and publishers one after another.
    Ties,
    /// Any.
    Any,
}

/// Rows of every group in turns or at random.
fn groups(
    random: &mut Random,
    rows: u32,
    count: u32,
    comes: Comes,
    values: impl Fn(&mut Random) -> i64,
) -> Groups {
    let mut ticks = runs(random, &[rows], values).ticks;
    let rows = ticks.len();
    // Some times come more than once.
    let span = rows as u64 / 3 + 1;
    let mut identities: Vec<(i64, u32, u64)> = (0..rows)
        .map(|row| (random.below(span) as i64 - 7, random.below(3) as u32, row as u64))
        .collect();
    match comes {
        Comes::Canonical => identities.sort_unstable(),
        Comes::Ties => {
            identities.sort_unstable_by_key(|&(_, publisher, sequence)| (publisher, sequence))
        }
        Comes::Any => {
            identities.sort_unstable_by_key(|&(_, _, sequence)| sequence.wrapping_mul(0x9E37_79B9))
        }
    }
    ticks.ts_event = identities.iter().map(|of| of.0).collect();
    ticks.publisher = identities.iter().map(|of| of.1).collect();
    ticks.sequence = identities.iter().map(|of| of.2).collect();
    let mut all: Vec<u32> = (0..rows).map(|_| random.below(count.into()) as u32).collect();
    // None is without rows: numbers as they are met.
    let mut numbers = std::collections::HashMap::new();
    for group in &mut all {
        let next = numbers.len() as u32;
        *group = *numbers.entry(*group).or_insert(next);
    }
    let mut counts = vec![0; numbers.len()];
    all.iter().for_each(|&group| counts[group as usize] += 1);
    let group = |rows| Group { key: 0, rows, window_start: 0 };
    Groups {
        ticks,
        group_of: all.into(),
        groups: counts.into_iter().map(group).collect(),
        publisher_codes: vec![9, 4, 7],
        publisher_ranks: vec![0, 1, 2],
    }
}

/// Every variant that the adapter can run against the CPU engine.
fn first_difference(engine: &mut GpuEngine, plan: &Plan, groups: &Groups) -> Option<String> {
    let expected = CpuEngine.reduce_groups(plan, groups).unwrap();
    for variant in engine.variants() {
        match engine.reduce_groups_by(variant, plan, groups) {
            Ok(found) if found == expected => {}
            Ok(found) => {
                let differs = found.words.iter().zip(&expected.words).position(|(a, b)| a != b);
                let group = differs.map(|word| word / plan.words());
                let term = differs.and_then(|word| {
                    let word = word % plan.words();
                    plan.terms().iter().rfind(|(_, offset)| *offset <= word)
                });
                return Some(format!("{variant}: group {group:?}, {term:?}"));
            }
            Err(error) => return Some(format!("{variant}: {error}")),
        }
    }
    None
}

#[test]
fn every_term_equals_the_cpu_engine_on_every_adapter() {
    for device in crate::tests::devices() {
        let mut engine = GpuEngine::compile(device).unwrap();
        let mut random = Random(21);
        for comes in [Comes::Canonical, Comes::Ties, Comes::Any] {
            for (rows, count) in [(1, 1), (7, 3), (2049, 1), (5000, 300), (9000, 8000), (6000, 2)] {
                let groups = groups(&mut random, rows, count, comes, Random::value);
                let differs = first_difference(&mut engine, &every_term(), &groups);
                assert_eq!(differs, None, "{rows} rows in {count} groups, {comes:?}");
            }
        }
        for extreme in [i64::MIN, i64::MAX] {
            let groups = groups(&mut random, 3000, 5, Comes::Any, |_| extreme);
            assert_eq!(first_difference(&mut engine, &every_term(), &groups), None, "{extreme}");
        }
    }
}

#[test]
fn the_order_of_rows_is_found() {
    let mut random = Random(22);
    let mut of = |comes| groups(&mut random, 500, 9, comes, |_| 1);
    let whole = |groups: &Groups| order(groups, 0..groups.ticks.len());
    assert!(matches!(whole(&of(Comes::Canonical)), Order::Numbers));
    let ties = of(Comes::Ties);
    let Order::Keys(keys) = whole(&ties) else { panic!("times differ") };
    let ts = &ties.ticks.ts_event;
    assert!((1..ts.len()).all(|at| (ts[at - 1] < ts[at]) == (keys[at - 1] < keys[at])));
    let any = of(Comes::Any);
    let Order::Keys(mut keys) = whole(&any) else { panic!("times differ") };
    keys.sort_unstable();
    assert!(keys.into_iter().eq(0..any.ticks.len() as u64), "places");
}

/// Blocks cut where the adapter's limits say, and segments in several dispatches.
#[test]
fn blocks_and_dispatches_do_not_matter() {
    let Some(mut engine) = crate::tests::engine() else { return };
    let groups = groups(&mut Random(23), 9_000, 90, Comes::Any, Random::value);
    let plan = every_term();
    let limits = engine.device.info.limits;
    for (binding, workgroups) in [(limits.storage_binding_bytes, 5), (8 * 2500, 1024)] {
        engine.device.info.limits.storage_binding_bytes = binding;
        engine.device.info.limits.workgroups_per_dimension = workgroups;
        assert_eq!(first_difference(&mut engine, &plan, &groups), None, "{binding} {workgroups}");
    }
    engine.device.info.limits = limits;
    let sizes = |engine: &GpuEngine| engine.pool.free.iter().map(|free| free.size()).sum::<u64>();
    let before = sizes(&engine);
    engine.reduce_groups(&plan, &groups).unwrap();
    engine.reduce_groups(&plan, &groups).unwrap();
    assert!(sizes(&engine) <= before.max(64 << 20), "buffers are used again");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let Some(mut engine) = crate::tests::engine() else { return };
    let good = groups(&mut Random(24), 900, 40, Comes::Any, Random::value);
    let mut broken = good.clone();
    broken.groups[3].rows += 1;
    let error = engine.reduce_groups(&every_term(), &broken).unwrap_err();
    assert!(error.reason.contains("rows come in groups of"), "{error}");
    let mut broken = good.clone();
    let mut group_of = good.group_of.to_vec();
    group_of[17] = 4000;
    broken.group_of = group_of.into();
    let error = engine.reduce_groups(&every_term(), &broken).unwrap_err();
    assert!(error.reason.contains("1 malformed"), "{error}");
    assert!(engine.pool.free.is_empty());
    assert_eq!(first_difference(&mut engine, &every_term(), &good), None, "after errors");
    engine.device.device.destroy();
    let error = engine.reduce_groups(&every_term(), &good).unwrap_err();
    assert!(error.reason.contains("was lost"), "{error}");
}

/// A fault in the kernels that find ends is noticed in each of their permutations.
#[test]
fn planted_faults_in_ends_are_noticed() {
    if crate::tests::engine().is_none() {
        return;
    }
    let plan = Plan::of_terms((0..3).flat_map(|c| [Term::First(c), Term::Last(c)]));
    let plants = [
        ("if a_key.y != b_key.y {", "if false {", Some(true)),
        ("return a_key.x < b_key.x;", "return a_key.x > b_key.x;", Some(true)),
        ("return a_row < b_row;", "return b_row < a_row;", None),
    ];
    let mut engine = crate::tests::engine().expect("there was one");
    for step in Step::all() {
        let Step::Ends(kernel) = step else { continue };
        for (sound, faulty, ordered) in plants {
            if ordered.is_some_and(|ordered| ordered != kernel.ordered) {
                continue;
            }
            assert!(step.source().contains(sound), "{step:?} holds '{sound}'");
            engine.partition.replace(&engine.device, step, &step.source().replace(sound, faulty));
            engine.device.check().unwrap();
            let comes = if kernel.ordered { Comes::Ties } else { Comes::Canonical };
            let mut groups = groups(&mut Random(25), 4000, 3, comes, Random::value);
            if kernel.ordered {
                // Times whose low words descend, some that differ in the low word only, many equal.
                let far = |ts: &i64| (ts / 8) * 0x2_FFFF_FFFF + (ts % 8) / 4;
                groups.ticks.ts_event = groups.ticks.ts_event.iter().map(far).collect();
            }
            let variant = Variant { shape: kernel.shape, ..Variant::BASE };
            let expected = CpuEngine.reduce_groups(&plan, &groups).unwrap();
            let found = engine.reduce_groups_by(variant, &plan, &groups).unwrap();
            assert_ne!(found, expected, "'{faulty}' in {step:?}");
        }
        engine.partition.replace(&engine.device, step, step.source());
    }
}
