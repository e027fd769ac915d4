use std::collections::BTreeMap;
use std::time::Instant;

use isotick_kernels::{Engine, EngineKind, Partials, Plan, Run, Runs, Term};
use isotick_model::{Key, PublisherId, Ticks, ValueColumn};
use num_bigint::BigInt;

use super::random::Random;
use crate::adapters::Choice;
use crate::device::Pool;
use crate::engine::GpuEngine;
use crate::variant::{Shape, Variant};

/// Every kind of term over three columns: 0 without nulls, 1 and 2 with.
pub(crate) fn every_term() -> Plan {
    let single = [Term::Count, Term::Sum, Term::Min, Term::Max, Term::First, Term::Last];
    let mut terms: Vec<Term> = (0..3).flat_map(|c| single.map(|term| term(c))).collect();
    terms.extend([
        Term::SumProduct(0, 0),
        Term::SumProduct(0, 1),
        Term::SumPaired { of: 1, with: 0 },
        Term::SumProduct(1, 2),
        Term::SumPaired { of: 1, with: 2 },
        Term::SumPaired { of: 2, with: 1 },
        Term::SumProduct(2, 2),
    ]);
    Plan::of_terms(terms)
}

/// Runs of the given lengths, with gaps between some of them, from three publishers.
pub(crate) fn runs(random: &mut Random, lens: &[u32], values: impl Fn(&mut Random) -> i64) -> Runs {
    let mut list = Vec::new();
    let mut rows = 0;
    for (index, &len) in lens.iter().enumerate() {
        rows += random.below(8) as u32 / 7 * 3;
        list.push(Run { start: rows, len, key: index as u32 % 5, window_start: index as i64 });
        rows += len;
    }
    let rows = rows as usize;
    let nulls_percent = [0, random.below(101), 30];
    let columns = nulls_percent.map(|percent| {
        let valid: Vec<bool> = (0..rows).map(|_| random.below(100) >= percent).collect();
        let values = valid.iter().map(|&valid| if valid { values(random) } else { 0 });
        ValueColumn { values: values.collect(), nulls: (percent > 0).then(|| valid.clone().into()) }
    });
    let publishers = ["a", "b", "c"].map(|name| PublisherId::new(name).unwrap());
    let ticks = Ticks {
        ts_event: (0..rows as i64).map(|row| row * 3 - 40).collect(),
        sequence: (0..rows).map(|_| random.next()).collect(),
        publishers: publishers.to_vec(),
        publisher: (0..rows).map(|_| random.below(3) as u32).collect(),
        keys: vec![Key::empty()].into(),
        key: vec![0; rows].into(),
        values: columns.to_vec(),
        seen: None,
    };
    Runs { ticks, runs: list, publisher_codes: vec![9, 4, 7] }
}

/// One run's words for one term, from the definition.
fn reference(term: Term, runs: &Runs, run: &Run) -> Vec<u64> {
    let ticks = &runs.ticks;
    let rows = run.start as usize..(run.start + run.len) as usize;
    let get = |c: usize, row: usize| ticks.values[c].get(row);
    let present = |c: usize| rows.clone().filter_map(move |row| Some((row, get(c, row)?)));
    let pairs = |a, b| rows.clone().filter_map(move |row| Some((get(a, row)?, get(b, row)?)));
    let option = |value: Option<i64>| value.map_or(vec![0, 0], |v| vec![1, v as u64]);
    let end = |found: Option<(usize, i64)>| match found {
        None => vec![0; 5],
        Some((row, value)) => {
            let code = runs.publisher_codes[ticks.publisher[row] as usize];
            let ts = ticks.ts_event[row] as u64;
            vec![1, ts, u64::from(code), ticks.sequence[row], value as u64]
        }
    };
    match term {
        Term::Rows => vec![rows.len() as u64],
        Term::Count(c) => vec![present(c).count() as u64],
        Term::Sum(c) => words(present(c).map(|(_, v)| BigInt::from(v)).sum()),
        Term::SumProduct(a, b) => {
            words(pairs(a, b).map(|(a, b)| BigInt::from(a) * BigInt::from(b)).sum())
        }
        Term::SumPaired { of, with } => {
            words(pairs(of, with).map(|(of, _)| BigInt::from(of)).sum())
        }
        Term::Min(c) => option(present(c).map(|(_, v)| v).min()),
        Term::Max(c) => option(present(c).map(|(_, v)| v).max()),
        Term::First(c) => end(present(c).next()),
        Term::Last(c) => end(present(c).next_back()),
    }
}

fn words(value: BigInt) -> Vec<u64> {
    let value = if value < BigInt::ZERO { value + (BigInt::from(1) << 192) } else { value };
    let mut words = value.to_biguint().unwrap().to_u64_digits();
    words.resize(3, 0);
    words
}

/// Every variant that the adapter can run against the reference.
fn assert_reduces(engine: &mut GpuEngine, plan: &Plan, runs: &Runs, what: &str) {
    let mut first: Option<Partials> = None;
    for variant in engine.variants() {
        engine.force(Some(variant)).unwrap();
        let partials = engine.reduce(plan, runs).unwrap();
        match &first {
            Some(first) => assert!(*first == partials, "{what}: {variant} differs"),
            None => {
                assert_partials(&partials, plan, runs, &format!("{what}, {variant}"));
                first = Some(partials);
            }
        }
    }
    engine.force(None).unwrap();
}

fn assert_partials(partials: &Partials, plan: &Plan, runs: &Runs, what: &str) {
    assert_eq!(partials.stride, plan.words(), "{what}");
    assert_eq!(partials.words.len(), plan.words() * runs.runs.len(), "{what}");
    for (index, run) in runs.runs.iter().enumerate() {
        let words = &partials.words[index * partials.stride..][..partials.stride];
        for &(term, offset) in plan.terms() {
            let found = &words[offset..offset + term.words()];
            assert_eq!(found, reference(term, runs, run), "{what}, run {index}, {term:?}");
        }
    }
}

#[test]
fn every_term_equals_the_reference() {
    let Some(mut engine) = super::engine() else { return };
    assert_eq!(engine.kind(), EngineKind::Gpu);
    let mut random = Random(3);
    let plan = every_term();
    let shapes: [&[u32]; 9] = [
        &[],
        &[1],
        &[511],
        &[512],
        &[513],
        &[1, 1, 1],
        &[1023, 1024, 1025, 1],
        &[40_000],
        &[1, 5000, 2, 64, 65, 63, 32, 31, 33],
    ];
    for lens in shapes {
        let runs = runs(&mut random, lens, Random::value);
        assert_reduces(&mut engine, &plan, &runs, &format!("{lens:?}"));
    }
    for round in 0..8 {
        let lens: Vec<u32> = (0..random.below(300))
            .map(|_| 1 + random.below([2, 20, 700][round % 3]) as u32)
            .collect();
        let runs = runs(&mut random, &lens, Random::value);
        assert_reduces(&mut engine, &plan, &runs, &format!("round {round}"));
    }
}

#[test]
fn extremes_do_not_overflow() {
    let Some(mut engine) = super::engine() else { return };
    for extreme in [i64::MIN, i64::MAX] {
        let runs = runs(&mut Random(4), &[5000, 1, 512], |_| extreme);
        assert_reduces(&mut engine, &every_term(), &runs, &extreme.to_string());
    }
}

#[test]
fn a_plan_of_rows_needs_no_columns() {
    let Some(mut engine) = super::engine() else { return };
    let mut runs = runs(&mut Random(5), &[3, 4], Random::value);
    runs.ticks.values = vec![ValueColumn::absent(); 3];
    assert_eq!(engine.reduce(&Plan::of_terms([]), &runs).unwrap().words, [3, 4]);
    let error = engine.reduce(&Plan::of_terms([Term::Sum(1)]), &runs).unwrap_err();
    assert!(error.reason.starts_with("column 1 holds 0 of "), "{error}");
}

#[test]
fn runs_out_of_place_are_errors() {
    let Some(mut engine) = super::engine() else { return };
    let good = runs(&mut Random(6), &[3, 4], Random::value);
    let mut broken = vec![good.clone(), good.clone(), good.clone()];
    broken[0].runs[1].len += 1;
    broken[1].runs[1].start = 1;
    broken[2].runs[0].len = 0;
    for runs in &broken {
        let error = engine.reduce(&every_term(), runs).unwrap_err();
        assert!(error.reason.starts_with("run "), "{error}");
    }
    assert_reduces(&mut engine, &every_term(), &good, "after errors");
}

/// More rows than a chunk holds, and more segments.
#[test]
fn chunks_do_not_matter() {
    let Some(mut engine) = super::engine() else { return };
    let plan = Plan::of_terms([
        Term::Count(1),
        Term::Sum(0),
        Term::Last(1),
        Term::First(2),
        Term::SumProduct(0, 1),
    ]);
    let mut random = Random(7);
    let group = Variant { shape: Shape::Workgroup, ..Variant::BASE };
    let long = runs(&mut random, &[3, 5 << 20, 70_000], Random::value);
    // More segments than a chunk of invocations holds, and more than a dispatch of workgroups.
    let short = runs(&mut random, &vec![1; 270_000], Random::value);
    let fewer = runs(&mut random, &vec![1; 66_000], Random::value);
    let cases = [(Variant::BASE, &long), (group, &long), (Variant::BASE, &short), (group, &fewer)];
    for (variant, runs) in cases {
        engine.force(Some(variant)).unwrap();
        let partials = engine.reduce(&plan, runs).unwrap();
        assert_partials(&partials, &plan, runs, &format!("{variant}, {} runs", runs.runs.len()));
    }
}

#[test]
fn a_lost_device_is_an_error_from_then_on() {
    let Some(mut engine) = super::engine() else { return };
    let runs = runs(&mut Random(8), &[3000], Random::value);
    engine.device.device.destroy();
    for _ in 0..2 {
        let error = engine.reduce(&every_term(), &runs).unwrap_err();
        assert!(error.reason.contains("was lost"), "{error}");
    }
}

#[test]
fn a_driver_error_concerns_one_call_only() {
    let Some(mut engine) = super::engine() else { return };
    let runs = runs(&mut Random(9), &[3000], Random::value);
    let staging = engine.pool.take(&engine.device, 1 << 50, Pool::STAGING);
    let error = engine.device.check().unwrap_err();
    assert!(error.to_string().contains("failed"), "{error}");
    drop(staging);
    assert_reduces(&mut engine, &every_term(), &runs, "after a driver error");
}

/// A dispatch beyond what the device allows fails in the middle of a reduction.
#[test]
fn a_validation_error_gives_up_the_call_and_its_memory() {
    let Some(mut engine) = super::engine() else { return };
    let allowed = engine.device.info.limits.workgroups_per_dimension;
    if allowed > 1 << 17 {
        return;
    }
    let group = Variant { shape: Shape::Workgroup, ..Variant::BASE };
    engine.force(Some(group)).unwrap();
    let plan = Plan::of_terms([Term::Sum(0)]);
    let runs = runs(&mut Random(12), &vec![1; allowed as usize + 1], Random::value);
    engine.device.info.limits.workgroups_per_dimension = u32::MAX;
    for _ in 0..2 {
        let error = engine.reduce(&plan, &runs).unwrap_err();
        assert!(error.reason.contains("failed"), "{error}");
        assert!(engine.pool.free.is_empty());
    }
    engine.device.info.limits.workgroups_per_dimension = allowed;
    let partials = engine.reduce(&plan, &runs).unwrap();
    assert_partials(&partials, &plan, &runs, "after a validation error");
}

#[test]
fn buffers_are_used_again() {
    let Some(mut engine) = super::engine() else { return };
    let runs = runs(&mut Random(10), &[3000, 7], Random::value);
    let plan = every_term();
    engine.reduce(&plan, &runs).unwrap();
    let sizes = |engine: &GpuEngine| {
        let mut sizes = BTreeMap::new();
        engine
            .pool
            .free
            .iter()
            .for_each(|b| *sizes.entry((b.size(), b.usage().bits())).or_insert(0) += 1);
        sizes
    };
    let before = sizes(&engine);
    for _ in 0..3 {
        engine.reduce(&plan, &runs).unwrap();
    }
    assert_eq!(sizes(&engine), before);
}

#[test]
fn four_million_rows_reduce_at_once() {
    let Some(mut engine) = super::engine() else { return };
    let runs = runs(&mut Random(11), &vec![4096; 1024], Random::value);
    let plan = Plan::of_terms([
        Term::Min(0),
        Term::Max(0),
        Term::First(0),
        Term::Last(0),
        Term::Sum(1),
        Term::SumProduct(0, 1),
        Term::SumPaired { of: 1, with: 0 },
    ]);
    let start = Instant::now();
    engine.reduce(&plan, &runs).unwrap();
    eprintln!("{}: 4 Mi rows, three kernels in {:?}", engine.describe(), start.elapsed());
}

#[test]
fn an_adapter_opens_by_index_and_name() {
    if super::engine().is_none() {
        return;
    }
    let adapter = &crate::devices()[0];
    for choice in [Choice::Index(0), Choice::Name(adapter.name.to_uppercase())] {
        let engine = GpuEngine::open(choice).unwrap();
        assert_eq!(engine.adapter(), adapter);
    }
    let error = GpuEngine::open(Choice::Name("no such thing".into())).err().unwrap();
    assert!(error.reason.contains(&adapter.name), "{error}");
}
