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
    assert_eq!(inputs, [(Input::Pair(1, 0), 2), (Input::Column(0), 2)]);
}

#[test]
fn rows_need_no_job_and_only_needed_inputs_are_read() {
    assert_eq!(jobs(&Plan::of_terms([])), []);
    let jobs = jobs(&Plan::of_terms([Term::SumProduct(3, 3), Term::Count(1)]));
    let inputs: Vec<_> = jobs.iter().map(|job| job.input).collect();
    assert_eq!(inputs, [Input::Pair(3, 3), Input::Column(1)]);
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
