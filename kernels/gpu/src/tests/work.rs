use super::*;

#[test]
fn a_pair_is_reduced_once_whichever_way_its_terms_turn_it() {
    let plan = Plan::of_terms([
        Term::SumProduct(0, 1),
        Term::SumPaired { of: 0, with: 1 },
        Term::Sum(0),
        Term::Last(0),
    ]);
    let jobs = jobs(&plan);
    let inputs: Vec<_> = jobs.iter().map(|job| (job.input, job.terms.len())).collect();
    assert_eq!(inputs, [(Input::Pair(0, 1), 2), (Input::Column(0), 2)]);
}

#[test]
fn rows_need_no_job_and_only_needed_inputs_are_read() {
    assert_eq!(jobs(&Plan::of_terms([])), []);
    let jobs = jobs(&Plan::of_terms([Term::SumProduct(3, 3), Term::Count(1)]));
    let inputs: Vec<_> = jobs.iter().map(|job| job.input).collect();
    assert_eq!(inputs, [Input::Pair(3, 3), Input::Column(1)]);
}

/// A multiple whose low product carries into the highest word, either sign.
#[test]
fn multiples_are_exact() {
    use num_bigint::BigInt;
    let big = (1_i128 << 96) + 12_345;
    for factor in [i64::MIN, -1, 0, 1, i64::MAX] {
        for value in [-big, -1, 0, 1, big, i128::from(u64::MAX)] {
            let mut words = [5, 0, 0];
            wide::add_multiple(&mut words, factor, value);
            let mut expected: BigInt = BigInt::from(factor) * value + 5;
            if expected < BigInt::ZERO {
                expected += BigInt::from(1) << 192;
            }
            let mut digits = expected.to_biguint().unwrap().to_u64_digits();
            digits.resize(3, 0);
            assert_eq!(words[..], digits, "{factor} * {value}");
        }
    }
}

#[test]
fn a_sum_carries_over_all_words() {
    let mut words = [u64::MAX, u64::MAX, 4];
    wide::add(&mut words, &[1]);
    assert_eq!(words, [0, 0, 5]);
    wide::add(&mut words, &[u32::MAX; 3]);
    assert_eq!(words, [u64::MAX, u64::MAX, 4]);
    wide::add(&mut words, &[0, 0, 0, 0, 1 << 31]);
    assert_eq!(words, [u64::MAX, u64::MAX, 4_u64.wrapping_sub(1 << 31)]);
}
