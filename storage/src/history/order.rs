//! Batches brought together and into the order of history.

use std::collections::HashMap;
use std::hash::Hash;

use arrow_buffer::{NullBufferBuilder, ScalarBuffer};
use isotick_model::ticks::ON_TIME;
use isotick_model::{StreamSchema, Ticks, ValueColumn};

/// All rows of the batches as one, with sorted tables of keys and publishers, so that codes
/// compare as what they stand for. Columns that a batch lacks (they were declared later) are
/// null.
///
/// # Panics
///
/// If a column that is not optional is absent or null, or there are 2^32 rows or more.
pub(super) fn merge(schema: &StreamSchema, batches: &[Ticks]) -> Ticks {
    let rows: usize = batches.iter().map(Ticks::len).sum();
    u32::try_from(rows).expect("a piece of history has fewer than 2^32 rows");
    let (keys, key_ranks) = table(batches.iter().map(|batch| batch.keys.as_slice()));
    let (publishers, publisher_ranks) =
        table(batches.iter().map(|batch| batch.publishers.as_slice()));
    let mut key = Vec::with_capacity(rows);
    let mut publisher = Vec::with_capacity(rows);
    for ((batch, key_rank), publisher_rank) in batches.iter().zip(key_ranks).zip(publisher_ranks) {
        key.extend(batch.key.iter().map(|&code| key_rank[code as usize]));
        match batch.publisher.is_empty() {
            true => publisher.extend(
                publisher_rank
                    .first()
                    .iter()
                    .flat_map(|&&rank| std::iter::repeat_n(rank, batch.len())),
            ),
            false => {
                publisher.extend(batch.publisher.iter().map(|&code| publisher_rank[code as usize]))
            }
        }
    }
    let seen = batches.iter().any(|batch| batch.seen.is_some()).then(|| {
        let seen = batches.iter().flat_map(|batch| (0..batch.len()).map(|row| batch.seen_of(row)));
        seen.collect::<ScalarBuffer<i64>>()
    });
    let seen = seen.filter(|seen| seen.iter().any(|&seen| seen != ON_TIME));
    Ticks {
        ts_event: concat(batches, |batch| &batch.ts_event),
        sequence: concat(batches, |batch| &batch.sequence),
        publishers,
        publisher: publisher.into(),
        keys,
        key: key.into(),
        values: (0..schema.columns.len()).map(|index| column(schema, batches, index)).collect(),
        seen,
    }
}

/// The rows of merged ticks in the order (key, `ts_event`, publisher, sequence).
pub(super) fn order(ticks: &Ticks) -> Vec<u32> {
    let mut starts = vec![0_usize; ticks.keys.len() + 1];
    for &code in ticks.key.iter() {
        starts[code as usize + 1] += 1;
    }
    for index in 1..starts.len() {
        starts[index] += starts[index - 1];
    }
    let mut next = starts.clone();
    let mut order = vec![0_u32; ticks.len()];
    for (row, &code) in ticks.key.iter().enumerate() {
        order[next[code as usize]] = row as u32;
        next[code as usize] += 1;
    }
    let rank = |&row: &u32| {
        let row = row as usize;
        (ticks.ts_event[row], ticks.publisher[row], ticks.sequence[row])
    };
    for range in starts.windows(2) {
        // Stable sorting is linear where the rows come nearly in order, as they mostly do.
        order[range[0]..range[1]].sort_by_key(rank);
    }
    order
}

/// The distinct entries of all tables, sorted, and for each table the ranks of its entries.
fn table<'a, T: Clone + Ord + Hash + 'a>(
    tables: impl Iterator<Item = &'a [T]> + Clone,
) -> (Vec<T>, Vec<Vec<u32>>) {
    let mut ranks: HashMap<&T, u32> = tables.clone().flatten().map(|entry| (entry, 0)).collect();
    let mut sorted: Vec<&T> = ranks.keys().copied().collect();
    sorted.sort_unstable();
    for (rank, entry) in sorted.iter().enumerate() {
        ranks.insert(entry, rank as u32);
    }
    let each = tables.map(|table| table.iter().map(|entry| ranks[entry]).collect()).collect();
    (sorted.into_iter().cloned().collect(), each)
}

fn concat<T: Copy + arrow_buffer::ArrowNativeType>(
    batches: &[Ticks],
    of: impl Fn(&Ticks) -> &ScalarBuffer<T>,
) -> ScalarBuffer<T> {
    match batches {
        [batch] => of(batch).clone(),
        _ => batches.iter().flat_map(|batch| of(batch).iter().copied()).collect(),
    }
}

fn column(schema: &StreamSchema, batches: &[Ticks], index: usize) -> ValueColumn {
    let declared = &schema.columns[index];
    let rows = batches.iter().map(Ticks::len).sum();
    let mut values = Vec::with_capacity(rows);
    let mut nulls = NullBufferBuilder::new(rows);
    for batch in batches {
        let column = batch.values.get(index).filter(|column| !column.values.is_empty());
        match column {
            Some(column) => {
                values.extend_from_slice(&column.values);
                match &column.nulls {
                    Some(batch_nulls) => nulls.append_buffer(batch_nulls),
                    None => nulls.append_n_non_nulls(batch.len()),
                }
            }
            None => {
                values.resize(values.len() + batch.len(), 0);
                nulls.append_n_nulls(batch.len());
            }
        }
    }
    let nulls = nulls.finish().filter(|nulls| nulls.null_count() > 0);
    assert!(
        nulls.is_none() || declared.optional,
        "column {} of stream {} is null but not optional",
        declared.name,
        schema.name
    );
    ValueColumn { values: values.into(), nulls }
}
