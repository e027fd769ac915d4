//! Rows with a known answer: they warm the pipelines up and catch drivers that compute wrongly.

use isotick_kernels::{Partials, Plan, Run, Runs, Term};
use isotick_model::{Key, PublisherId, Ticks, ValueColumn};

/// Runs and what they come to.
pub(crate) struct Known {
    pub plan: Plan,
    pub runs: Runs,
    pub partials: Partials,
}

/// One case without nulls, one with: every permutation of every kernel.
pub(crate) fn answers() -> [Known; 2] {
    let least = i64::MIN.cast_unsigned();
    let greatest = i64::MAX.cast_unsigned();
    // Σab = MIN·MIN + MIN·MAX + MAX·MAX
    //     = 2^126 - (2^126 - 2^63) + (2^126 - 2^64 + 1) = 2^126 - 2^63 + 1.
    let all = Known {
        plan: plan(),
        runs: runs([true; 3]),
        partials: partials([
            &[3],
            &[3],
            &[greatest, u64::MAX, u64::MAX],
            &[1, least],
            &[1, greatest],
            &[1, 10, 0, 0, least],
            &[1, 12, 0, 2, greatest],
            &[least + 1, (1 << 62) - 1, 0],
            &[greatest - 1, 0, 0],
        ]),
    };
    // Without the last row: MIN·MIN + MIN·MAX = 2^63.
    let some = Known {
        plan: plan(),
        runs: runs([true, true, false]),
        partials: partials([
            &[3],
            &[2],
            &[0, u64::MAX, u64::MAX],
            &[1, least],
            &[1, least],
            &[1, 10, 0, 0, least],
            &[1, 11, 0, 1, least],
            &[least, 0, 0],
            &[u64::MAX, u64::MAX, u64::MAX],
        ]),
    };
    [all, some]
}

fn plan() -> Plan {
    Plan::of_terms([
        Term::Count(0),
        Term::Sum(0),
        Term::Min(0),
        Term::Max(0),
        Term::First(0),
        Term::Last(0),
        Term::SumProduct(0, 1),
        Term::SumPaired { of: 1, with: 0 },
    ])
}

/// Column 0 holds MIN, MIN, MAX and column 1 MIN, MAX, MAX.
fn runs(valid: [bool; 3]) -> Runs {
    let column = |mut values: [i64; 3]| {
        values.iter_mut().zip(valid).filter(|(_, valid)| !valid).for_each(|(value, _)| *value = 0);
        ValueColumn {
            values: values.to_vec().into(),
            nulls: valid.contains(&false).then(|| valid.to_vec().into()),
        }
    };
    let ticks = Ticks {
        ts_event: vec![10, 11, 12].into(),
        sequence: vec![0, 1, 2].into(),
        publishers: PublisherId::new("known").into_iter().collect(),
        publisher: vec![].into(),
        keys: vec![Key::empty()],
        key: vec![0; 3].into(),
        values: vec![
            column([i64::MIN, i64::MIN, i64::MAX]),
            column([i64::MIN, i64::MAX, i64::MAX]),
        ],
        seen: None,
    };
    let run = Run { start: 0, len: 3, key: 0, window_start: 0 };
    Runs { ticks, runs: vec![run], publisher_codes: vec![0] }
}

fn partials(words: [&[u64]; 9]) -> Partials {
    Partials { words: words.concat(), stride: plan().words() }
}
