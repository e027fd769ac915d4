use isotick_model::{Key, StreamSchema, Ticks, ValueColumn};

use super::sorted;
use crate::fixtures::{Random, publisher, rows, schema, ticks};

/// What came out, against sorting plain rows.
fn check(schema: &StreamSchema, batches: &[Ticks]) {
    let all = sorted(schema, batches);
    let mut expected: Vec<_> = batches.iter().flat_map(rows).collect();
    for row in &mut expected {
        row.4.resize(schema.columns.len(), None);
    }
    expected.sort();
    assert_eq!(rows(&all), expected);
    assert_eq!(all.publisher.len(), all.len());
    assert!(all.keys.is_sorted() && all.publishers.is_sorted());
}

#[test]
fn batches_of_any_order_become_one() {
    let schema = schema(&["symbol"]);
    for seed in 0..20 {
        let mut batches = vec![ticks(&schema, "b", 0, 300, seed), ticks(&schema, "a", 7, 90, seed)];
        check(&schema, &batches);
        // A column that was declared later, and a batch without rows.
        batches[1].values.truncate(1);
        batches.push(batches[0].take(&[]));
        check(&schema, &batches);
        check(&schema, &batches[..1]);
    }
    check(&schema, &[]);
}

/// Few rows out of order, near and far: both ways to bring them in order.
#[test]
fn rows_nearly_in_order_are_moved_back() {
    let schema = schema(&["symbol"]);
    for (seed, far) in [(1, 3), (2, 40), (3, 5_000), (4, i64::MAX / 2)] {
        let mut random = Random(seed);
        let whole = ticks(&schema, "a", 0, 3_000, seed);
        let times = (0..3_000_i64).map(|row| match random.below(20) {
            0 => row - random.below(far as u64).cast_signed(),
            // Ties too.
            1 => row + 1,
            _ => row,
        });
        let whole = Ticks { ts_event: times.collect(), ..whole };
        for cut in [1, 7, 500, 3_000] {
            let pieces: Vec<_> = (0..3_000)
                .step_by(cut)
                .map(|start| whole.slice(start..(start + cut).min(3_000)))
                .collect();
            check(&schema, &pieces);
        }
    }
}

#[test]
fn a_table_that_grows_and_another_one_get_the_same_ranks() {
    let schema = schema(&["symbol"]);
    let key = |name: &str| Key::from_components([name]);
    let batch = |keys: &[&str], codes: &[u32]| Ticks {
        ts_event: (0..codes.len() as i64).collect(),
        sequence: (0..codes.len() as u64).collect(),
        publishers: vec![publisher("p")],
        publisher: Vec::new().into(),
        keys: keys.iter().map(|name| key(name)).collect(),
        key: codes.to_vec().into(),
        values: vec![ValueColumn { values: vec![5; codes.len()].into(), nulls: None }],
        seen: None,
    };
    let grown = ["m", "c", "x", "a"];
    check(
        &schema,
        &[
            batch(&grown[..2], &[1, 0, 1]),
            batch(&grown, &[3, 2, 1, 0]),
            batch(&["x", "c", "q"], &[0, 1, 2, 2]),
            batch(&grown[..3], &[2, 2]),
        ],
    );
}
