//! The comparison has teeth: planted faults, each of a kind that real implementations have had,
//! are noticed by the very comparison that the sound product passes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use isotick_kernels::{
    CpuEngine, Engine, EngineError, EngineKind, Partials, Plan, Results, Runs, Term,
};
use isotick_model::ticks::{NEVER_SEEN, ON_TIME};
use isotick_model::{PublisherId, Ticks};

use crate::canonical;
use crate::oracle::{self, Arrival, Cell, Event, Output, Truth};
use crate::product::{Product, batch, cut, seen_by_watermark};
use crate::random::{Case, Rng, Shape};

/// Enough cases that a fault which only shows on some is met.
const SEEDS: u64 = 6;
const ROWS_MAX: usize = 400;

/// Cases of some shapes, with their `seen` values.
fn cases(shapes: &[Shape]) -> impl Iterator<Item = (Case, Product, Vec<i64>)> {
    let seeds = shapes.iter().flat_map(|shape| (0..SEEDS).map(move |seed| (*shape, seed)));
    seeds.map(|(shape, seed)| {
        let mut case = Case::new(shape, seed, ROWS_MAX);
        if seed % 2 == 1 {
            // Nothing that holds a sum against another one: a wrong sum is a wrong value, and
            // not an invariant broken on the way to one.
            case.aggregates = ["count()", "sum(price)", "vwap(price, size)"].map(Into::into).into();
            let outputs = [("sum_price", Output::Sum(0)), ("vwap_price_size", Output::Vwap(0, 1))];
            case.view.outputs = vec![("count".into(), Output::Count)];
            case.view.outputs.extend(outputs.map(|(name, output)| (name.to_string(), output)));
        }
        let (product, seen) = (Product::of(&case), seen_by_watermark(&case));
        (case, product, seen)
    })
}

/// Cases of some shapes whose views have no filter and nothing but quantiles.
fn quantile_cases(shapes: &[Shape]) -> impl Iterator<Item = (Case, Product, Vec<i64>)> {
    cases(shapes).map(|(mut case, _, seen)| {
        case.view.filter = None;
        case.aggregates =
            ["median(price)", "quantile(size, 0.07, 0.9)", "approx_quantile(price, 0.99)"]
                .map(Into::into)
                .into();
        let outputs = [
            ("median_price", Output::Quantile(0, 500_000_000)),
            ("size_p7", Output::Quantile(1, 70_000_000)),
            ("size_p90", Output::Quantile(1, 900_000_000)),
            ("approx_price_p99", Output::ApproxQuantile(0, 990_000_000)),
        ];
        case.view.outputs = outputs.map(|(name, output)| (name.to_string(), output)).into();
        let product = Product::of(&case);
        (case, product, seen)
    })
}

/// Whether the product's windows over these batches are the oracle's.
fn agrees(
    case: &Case,
    product: &Product,
    truth: Truth,
    batches: &[Ticks],
    engine: &mut dyn Engine,
) -> bool {
    let expected = oracle::windows(&case.view, &case.ticks, truth);
    let rows = product.run(truth, batches, engine).rows();
    let hash = product.hash(&rows);
    let equal = product.plain(&rows) == expected;
    assert_eq!(
        hash == canonical::hash(&case.keys, &case.view, &expected),
        equal,
        "{}: hash and values",
        case.name()
    );
    equal
}

/// Runs sound and faulty side by side over whole cases: every sound one must agree, and at least
/// one faulty one must give other windows. (A faulty one may also break an invariant that the
/// product asserts; that is no agreement, but the comparison itself must notice too.)
fn must_notice(shapes: &[Shape], faulty: impl Fn(&Case, &Product, &[i64]) -> bool) {
    must_notice_in(cases(shapes), faulty);
}

fn must_notice_in(
    cases: impl Iterator<Item = (Case, Product, Vec<i64>)>,
    faulty: impl Fn(&Case, &Product, &[i64]) -> bool,
) {
    let mut noticed = 0;
    for (case, product, seen) in cases {
        let rows: Vec<usize> = (0..case.ticks.len()).collect();
        let whole = [batch(&case, &seen, &rows, &mut Rng::new(case.seed))];
        let sound = agrees(&case, &product, Truth::Now, &whole, &mut CpuEngine);
        assert!(sound, "{}: the sound product differs", case.name());
        let outcome = catch_unwind(AssertUnwindSafe(|| faulty(&case, &product, &seen)));
        noticed += usize::from(matches!(outcome, Ok(false)));
    }
    assert!(noticed > 0, "the fault went unnoticed in every case");
}

/// An engine whose partials are spoiled on their way out.
struct Spoiled<F>(F);

impl<F: FnMut(&Plan, &Runs, &mut Partials) + Send> Engine for Spoiled<F> {
    fn kind(&self) -> EngineKind {
        EngineKind::Cpu
    }

    fn describe(&self) -> String {
        "cpu with a planted fault".into()
    }

    fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
        let mut partials = CpuEngine.reduce(plan, runs)?;
        (self.0)(plan, runs, &mut partials);
        Ok(partials)
    }
}

/// Compares a whole case run through a spoiled engine.
fn spoiled(shapes: &[Shape], spoil: impl Fn(&Plan, &Runs, &mut Partials) + Send + Copy) {
    must_notice(shapes, |case, product, seen| {
        let rows: Vec<usize> = (0..case.ticks.len()).collect();
        let whole = [batch(case, seen, &rows, &mut Rng::new(case.seed))];
        agrees(case, product, Truth::Now, &whole, &mut Spoiled(spoil))
    });
}

/// Replaces the words of one kind of term by another sum over the run's rows.
fn resum(
    plan: &Plan,
    runs: &Runs,
    partials: &mut Partials,
    sum: impl Fn(Term, &mut dyn Iterator<Item = usize>) -> Option<[u64; 3]>,
) {
    for (term, offset) in plan.terms() {
        for (run, words) in runs.runs.iter().zip(partials.words.chunks_exact_mut(partials.stride)) {
            let mut rows = run.start as usize..(run.start + run.len) as usize;
            if let Some(sum) = sum(*term, &mut rows) {
                words[*offset..offset + 3].copy_from_slice(&sum);
            }
        }
    }
}

#[test]
fn resumming_with_every_carry_changes_nothing() {
    // The mutants below differ from this one in the named fault only.
    for (case, product, seen) in cases(&[Shape::Mixed, Shape::Bounds]) {
        let rows: Vec<usize> = (0..case.ticks.len()).collect();
        let whole = [batch(&case, &seen, &rows, &mut Rng::new(case.seed))];
        let mut engine = Spoiled(|plan: &Plan, runs: &Runs, partials: &mut Partials| {
            resum(plan, runs, partials, |term, rows| sum_words(runs, term, rows, [true, true]));
        });
        assert!(agrees(&case, &product, Truth::Now, &whole, &mut engine), "{}", case.name());
    }
}

#[test]
fn a_carry_lost_between_the_low_words_is_noticed() {
    spoiled(&[Shape::Mixed, Shape::Bounds], |plan, runs, partials| {
        resum(plan, runs, partials, |term, rows| sum_words(runs, term, rows, [false, true]));
    });
}

#[test]
fn a_carry_lost_into_the_third_word_is_noticed() {
    spoiled(&[Shape::Bounds], |plan, runs, partials| {
        resum(plan, runs, partials, |term, rows| match term {
            Term::SumProduct(..) => sum_words(runs, term, rows, [true, false]),
            _ => None,
        });
    });
}

/// The sum of a term's addends in three words; a carry that is not kept is dropped.
fn sum_words(
    runs: &Runs,
    term: Term,
    rows: &mut dyn Iterator<Item = usize>,
    keep: [bool; 2],
) -> Option<[u64; 3]> {
    let value = |c: usize, row| runs.ticks.values[c].get(row).map(i128::from);
    let mut sum = [0_u64; 3];
    for row in rows {
        let addend = match term {
            Term::Sum(c) => value(c, row),
            Term::SumProduct(a, b) => value(a, row).zip(value(b, row)).map(|(a, b)| a * b),
            Term::SumPaired { of, with } => value(of, row).zip(value(with, row)).map(|(a, _)| a),
            _ => return None,
        };
        let Some(addend) = addend else { continue };
        let bits = addend.cast_unsigned();
        #[allow(clippy::cast_possible_truncation)] // the words of a 128-bit integer
        let words = [bits as u64, (bits >> 64) as u64, if addend < 0 { u64::MAX } else { 0 }];
        let mut carry = false;
        for (i, word) in words.into_iter().enumerate() {
            let (with_word, first) = sum[i].overflowing_add(word);
            let (with_carry, second) = with_word.overflowing_add(u64::from(carry));
            sum[i] = with_carry;
            carry = (first || second) && keep.get(i).copied().unwrap_or(false);
        }
    }
    Some(sum)
}

#[test]
fn a_float_sum_is_noticed() {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // that is the fault
    spoiled(&[Shape::Mixed, Shape::OneWindow], |plan, runs, partials| {
        resum(plan, runs, partials, |term, rows| {
            let Term::Sum(c) = term else { return None };
            let values = rows.filter_map(|row| runs.ticks.values[c].get(row));
            let sum = values.map(|value| value as f64).sum::<f64>() as i128;
            let bits = sum.cast_unsigned();
            Some([bits as u64, (bits >> 64) as u64, if sum < 0 { u64::MAX } else { 0 }])
        });
    });
}

/// First and last found under another order of (ts, publisher, sequence).
fn ends_by<K: Ord>(
    plan: &Plan,
    runs: &Runs,
    partials: &mut Partials,
    order: impl Fn(&Ticks, usize) -> K,
) {
    for (term, offset) in plan.terms() {
        let (Term::First(c) | Term::Last(c)) = *term else { continue };
        for (run, words) in runs.runs.iter().zip(partials.words.chunks_exact_mut(partials.stride)) {
            let rows = run.start as usize..(run.start + run.len) as usize;
            let valid = rows.filter(|row| runs.ticks.values[c].get(*row).is_some());
            let end = match term {
                Term::First(_) => valid.min_by_key(|row| order(&runs.ticks, *row)),
                _ => valid.max_by_key(|row| order(&runs.ticks, *row)),
            };
            if let Some(row) = end {
                words[*offset..offset + 5].copy_from_slice(&runs.end_words(c, row));
            }
        }
    }
}

#[test]
fn finding_the_ends_again_in_canonical_order_changes_nothing() {
    for (case, product, seen) in cases(&[Shape::Ties, Shape::Nulls]) {
        let rows: Vec<usize> = (0..case.ticks.len()).collect();
        let whole = [batch(&case, &seen, &rows, &mut Rng::new(case.seed))];
        let mut engine = Spoiled(|plan: &Plan, runs: &Runs, partials: &mut Partials| {
            ends_by(plan, runs, partials, |t, row| {
                (t.ts_event[row], t.publisher_of(row).clone(), t.sequence[row])
            });
        });
        assert!(agrees(&case, &product, Truth::Now, &whole, &mut engine), "{}", case.name());
    }
}

#[test]
fn a_tie_broken_by_sequence_before_publisher_is_noticed() {
    spoiled(&[Shape::Ties], |plan, runs, partials| {
        ends_by(plan, runs, partials, |t, row| {
            (t.ts_event[row], t.sequence[row], t.publisher_of(row).clone())
        });
    });
}

#[test]
fn a_tie_broken_by_publisher_code_is_noticed() {
    spoiled(&[Shape::Ties], |plan, runs, partials| {
        ends_by(plan, runs, partials, |t, row| {
            let code = t.publisher.get(row).copied().unwrap_or(0);
            (t.ts_event[row], code, t.sequence[row])
        });
    });
}

#[test]
fn a_signed_comparison_of_sequences_is_noticed() {
    spoiled(&[Shape::Ties], |plan, runs, partials| {
        ends_by(plan, runs, partials, |t, row| {
            let publisher = t.publisher_of(row).clone();
            (t.ts_event[row], publisher, t.sequence[row].cast_signed())
        });
    });
}

/// First and last by arrival: every tick is given its place of arrival for a sequence.
#[test]
fn a_tie_broken_by_arrival_is_noticed() {
    must_notice(&[Shape::Ties], |case, product, seen| {
        let rows: Vec<usize> = (0..case.ticks.len()).collect();
        let mut ticks = batch(case, seen, &rows, &mut Rng::new(case.seed));
        ticks.sequence = (0..ticks.len() as u64).collect();
        ticks.publishers = vec![PublisherId::new("anyone").expect("a name")];
        ticks.publisher = Vec::new().into();
        agrees(case, product, Truth::Now, &[ticks], &mut CpuEngine)
    });
}

#[test]
fn a_batch_applied_twice_is_noticed() {
    must_notice(&[Shape::Mixed, Shape::OneWindow], |case, product, seen| {
        let rows: Vec<usize> = (0..case.ticks.len()).collect();
        let mut rng = Rng::new(case.seed);
        let pieces = cut(&rows, 5, &mut rng);
        let mut batches: Vec<_> =
            pieces.iter().map(|piece| batch(case, seen, piece, &mut rng)).collect();
        batches.push(batches[rng.index(batches.len())].clone());
        agrees(case, product, Truth::Now, &batches, &mut CpuEngine)
    });
}

#[test]
fn a_lost_batch_is_noticed() {
    must_notice(&[Shape::Mixed, Shape::OneWindow], |case, product, seen| {
        let rows: Vec<usize> = (0..case.ticks.len()).collect();
        let mut rng = Rng::new(case.seed);
        let pieces = cut(&rows, 5, &mut rng);
        let kept: Vec<_> =
            pieces[1..].iter().map(|piece| batch(case, seen, piece, &mut rng)).collect();
        agrees(case, product, Truth::Now, &kept, &mut CpuEngine)
    });
}

#[test]
fn a_null_taken_for_zero_is_noticed() {
    must_notice(&[Shape::Nulls], |case, product, seen| {
        let rows: Vec<usize> = (0..case.ticks.len()).collect();
        let mut ticks = batch(case, seen, &rows, &mut Rng::new(case.seed));
        ticks.values.iter_mut().for_each(|column| column.nulls = None);
        agrees(case, product, Truth::Now, &[ticks], &mut CpuEngine)
    });
}

/// A quantile at rank ⌊q·n⌋ (the first, where that is 0) instead of ⌈q·n⌉.
#[test]
fn a_quantile_rank_rounded_down_is_noticed() {
    must_notice_in(quantile_cases(&[Shape::Mixed, Shape::OneWindow]), |case, _, _| {
        let expected = oracle::windows(&case.view, &case.ticks, Truth::Now);
        let mut faulty = expected.clone();
        for window in &mut faulty {
            let times = window.start..window.end;
            let inside = case.ticks.iter().filter(|t| t.key == window.key && times.contains(&t.ts));
            let inside: Vec<_> = inside.collect();
            for ((_, output), cell) in case.view.outputs.iter().zip(&mut window.cells) {
                let Output::Quantile(c, billionths) = *output else { continue };
                let mut values: Vec<_> = inside.iter().filter_map(|t| t.values[c]).collect();
                values.sort_unstable();
                let rank = (values.len() as u64 * u64::from(billionths) / 1_000_000_000).max(1);
                let value = usize::try_from(rank).ok().and_then(|rank| values.get(rank - 1));
                *cell = value.map_or(Cell::Null, |value| Cell::Integer((*value).into()));
            }
        }
        faulty == expected
    });
}

#[test]
fn a_value_lost_to_a_quantile_is_noticed() {
    must_notice_in(quantile_cases(&[Shape::Mixed, Shape::OneWindow]), |case, product, seen| {
        let rows: Vec<usize> = (0..case.ticks.len()).collect();
        let mut ticks = batch(case, seen, &rows, &mut Rng::new(case.seed));
        let lost = Rng::new(case.seed).index(rows.len());
        for column in &mut ticks.values {
            let valid = (0..rows.len()).map(|row| row != lost && column.get(row).is_some());
            column.nulls = Some(valid.collect());
        }
        agrees(case, product, Truth::Now, &[ticks], &mut CpuEngine)
    });
}

#[test]
fn a_part_merged_twice_into_quantiles_is_noticed() {
    let merged = |twice: bool| {
        move |case: &Case, product: &Product, seen: &[i64]| {
            let rows: Vec<usize> = (0..case.ticks.len()).collect();
            let mut rng = Rng::new(case.seed);
            let mut pieces = cut(&rows, 4, &mut rng);
            pieces.extend(pieces.first().filter(|_| twice).cloned());
            let parts = pieces
                .iter()
                .map(|piece| product.run_on_cpu(Truth::Now, &[batch(case, seen, piece, &mut rng)]));
            let rows = Results::of(parts).rows();
            product.plain(&rows) == oracle::windows(&case.view, &case.ticks, Truth::Now)
        }
    };
    let shapes = [Shape::Mixed, Shape::OneWindow, Shape::Nulls, Shape::Bounds];
    for (case, product, seen) in quantile_cases(&shapes) {
        assert!(merged(false)(&case, &product, &seen), "{}: merged once", case.name());
    }
    must_notice_in(quantile_cases(&shapes), merged(true));
}

/// A watermark that only moves at the end of a batch: each tick meets W as it stood before its
/// batch. With batches of one tick it is the right one.
fn seen_by_batch(case: &Case, batch_len: usize) -> Vec<i64> {
    let w = oracle::watermarks(&case.events);
    let mut held = None;
    let mut met = Vec::new();
    let mut count = 0;
    for (event, w) in case.events.iter().zip(w) {
        if let Event::Tick(_, ts) = event {
            if count % batch_len == 0 {
                held = w;
            }
            count += 1;
            met.push(held.filter(|w| ts < w).unwrap_or(ON_TIME));
        }
    }
    let mut met = met.into_iter();
    let by_row = case.ticks.iter().map(|tick| match tick.arrival {
        Arrival::NeverSeen => NEVER_SEEN,
        Arrival::At(_) => met.next().expect("every live tick is in the log"),
    });
    by_row.collect()
}

#[test]
fn a_watermark_that_hangs_on_batch_cuts_is_noticed() {
    let shapes = [Shape::Disorder, Shape::Mixed, Shape::Ties, Shape::Skewed];
    let mut noticed = 0;
    for (case, product, seen) in cases(&shapes) {
        let rows: Vec<usize> = (0..case.ticks.len()).collect();
        let agrees_when = |seen: &[i64]| {
            let whole = [batch(&case, seen, &rows, &mut Rng::new(case.seed))];
            agrees(&case, &product, Truth::Seen, &whole, &mut CpuEngine)
        };
        assert!(agrees_when(&seen), "{}: the sound watermark differs", case.name());
        assert!(agrees_when(&seen_by_batch(&case, 1)), "{}: cut at every tick", case.name());
        noticed += usize::from(!agrees_when(&seen_by_batch(&case, 50)));
    }
    assert!(noticed > 0, "the fault went unnoticed in every case");
}
