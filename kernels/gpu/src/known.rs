//! Rows with a known answer: they warm the pipelines up and catch drivers that compute wrongly.

use isotick_kernels::{CpuEngine, Engine as _, Group, Groups, Partials, Plan, Run, Runs, Term};
use isotick_model::{Key, PublisherId, Ticks, ValueColumn};

/// Runs and what they come to.
pub(crate) struct Known {
    pub plan: Plan,
    pub runs: Runs,
    pub partials: Partials,
}

/// Values that need 64 bits: their sums carry over every limb.
const WIDE: [[i64; 3]; 2] = [[i64::MIN, i64::MIN, i64::MAX], [i64::MIN, i64::MAX, i64::MAX]];
/// Values that span 32 bits exactly.
const FRAME: [[i64; 3]; 2] =
    [[-7, u32::MAX as i64 - 7, 5], [i64::MAX, i64::MAX - u32::MAX as i64, i64::MAX - 1]];

/// Columns 0 and 1 with and without frames, with and without nulls: every permutation of every
/// kernel of a variant.
pub(crate) fn answers() -> Vec<Known> {
    let mut answers = Vec::new();
    for first in [WIDE[0], FRAME[0]] {
        for second in [WIDE[1], FRAME[1]] {
            for rows in [3, 2] {
                answers.push(known([first, second], rows));
            }
        }
    }
    answers
}

/// Rows in any order, in groups whose numbers take two digits, with and without keys, with and
/// without nulls: every kernel of a partition. The CPU engine knows the answer.
pub(crate) fn grouped() -> Vec<(Plan, Groups, Partials)> {
    const GROUPS: u32 = 300;
    const ROWS: u32 = 5_000;
    let plan = Plan::of_terms([
        Term::Sum(0),
        Term::First(0),
        Term::Last(1),
        Term::Max(1),
        Term::SumProduct(0, 1),
    ]);
    let mut all = Vec::new();
    for in_order in [false, true] {
        // A step that shares no factor with the groups meets each of them.
        let group_of: Vec<u32> = (0..ROWS).map(|row| row * 7 % GROUPS).collect();
        let of_rows = |value: fn(i64) -> i64| (0..i64::from(ROWS)).map(value).collect::<Vec<_>>();
        let valid: Vec<bool> = (0..ROWS).map(|row| in_order || row % 3 > 0).collect();
        let ticks = Ticks {
            ts_event: match in_order {
                true => of_rows(|row| row / 2).into(),
                false => of_rows(|row| row ^ 5).into(),
            },
            sequence: (0..u64::from(ROWS)).collect(),
            publishers: PublisherId::new("known").into_iter().collect(),
            publisher: vec![].into(),
            keys: vec![Key::empty()].into(),
            key: vec![0; ROWS as usize].into(),
            values: vec![
                ValueColumn { values: of_rows(|row| row - 99).into(), nulls: Some(valid.into()) },
                ValueColumn { values: of_rows(|row| row << 40).into(), nulls: None },
            ],
            seen: None,
        };
        let rows = |group: u32| group_of.iter().filter(|of| **of == group).count() as u32;
        let groups = (0..GROUPS)
            .map(|group| Group { key: 0, rows: rows(group), window_start: group.into() })
            .collect();
        let groups = Groups {
            ticks,
            group_of: group_of.into(),
            groups,
            publisher_codes: vec![0],
            publisher_ranks: vec![0],
        };
        if let Ok(partials) = CpuEngine.reduce_groups(&plan, &groups) {
            all.push((plan.clone(), groups, partials));
        }
    }
    all
}

/// Three rows, of which the first `valid` are not null.
fn known(columns: [[i64; 3]; 2], valid: usize) -> Known {
    let plan = Plan::of_terms([
        Term::Count(0),
        Term::Sum(0),
        Term::Min(0),
        Term::Max(0),
        Term::First(0),
        Term::Last(0),
        Term::SumProduct(0, 1),
        Term::SumPaired { of: 0, with: 1 },
        Term::SumPaired { of: 1, with: 0 },
    ]);
    let [a, b] = columns.map(|column| column.map(i128::from)[..valid].to_vec());
    let word = |value: &i128| *value as u64;
    let end = |row: usize| vec![1, 10 + row as u64, 0, row as u64, word(&a[row])];
    let words = [
        vec![3, valid as u64],
        wide(a.iter().sum()),
        vec![1, word(a.iter().min().unwrap_or(&0))],
        vec![1, word(a.iter().max().unwrap_or(&0))],
        end(0),
        end(valid - 1),
        // Below 2^127: the signs of the wide columns' products differ.
        wide(a.iter().zip(&b).map(|(a, b)| a * b).sum()),
        wide(a.iter().sum()),
        wide(b.iter().sum()),
    ];
    let partials = Partials { words: words.concat(), stride: plan.words() };
    Known { runs: runs(columns, valid), partials, plan }
}

/// A sum as a state's words.
fn wide(value: i128) -> Vec<u64> {
    vec![value as u64, (value >> 64) as u64, (value >> 127) as u64]
}

fn runs(columns: [[i64; 3]; 2], valid: usize) -> Runs {
    let values = columns.map(|mut values| {
        values[valid..].fill(0);
        let nulls = (valid < 3).then(|| (0..3).map(|row| row < valid).collect::<Vec<_>>().into());
        ValueColumn { values: values.to_vec().into(), nulls }
    });
    let ticks = Ticks {
        ts_event: vec![10, 11, 12].into(),
        sequence: vec![0, 1, 2].into(),
        publishers: PublisherId::new("known").into_iter().collect(),
        publisher: vec![].into(),
        keys: vec![Key::empty()].into(),
        key: vec![0; 3].into(),
        values: values.to_vec(),
        seen: None,
    };
    let run = Run { start: 0, len: 3, key: 0, window_start: 0 };
    Runs { ticks, runs: vec![run], publisher_codes: vec![0] }
}
