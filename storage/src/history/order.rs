//! Batches brought together and into the order of history.

use std::collections::HashMap;
use std::hash::Hash;

use arrow_buffer::{NullBuffer, ScalarBuffer};
use isotick_model::ticks::ON_TIME;
use isotick_model::{StreamSchema, Ticks, ValueColumn};

/// All rows of the batches as one, in the order (key, `ts_event`, publisher, sequence), with sorted
/// tables of keys and publishers, so that codes compare as what they stand for. Every row has its
/// publisher's code. Columns that a batch lacks (they were declared later) are null.
///
/// Each row goes straight to its place among its key's, column by column; within a key rows come
/// nearly in order, and what is out of order is moved back.
///
/// # Panics
///
/// If a column that is not optional is absent or null, or there are 2^32 rows or more.
pub(super) fn sorted(schema: &StreamSchema, batches: &[Ticks]) -> Ticks {
    let rows: usize = batches.iter().map(Ticks::len).sum();
    u32::try_from(rows).expect("a piece of history has fewer than 2^32 rows");
    let (keys, key_ranks) = table(batches.iter().map(|batch| &*batch.keys));
    let (publishers, publisher_ranks) =
        table(batches.iter().map(|batch| batch.publishers.as_slice()));
    let (starts, places) = places(batches, &key_ranks, keys.len());

    let mut publisher = vec![0; rows];
    if publishers.len() > 1 {
        for ((batch, places), ranks) in batches.iter().zip(&places).zip(&publisher_ranks) {
            for (row, &place) in places.iter().enumerate() {
                let code = batch.publisher.get(row).map_or(0, |&code| code as usize);
                publisher[place as usize] = ranks[code];
            }
        }
    }
    let late = batches.iter().flat_map(|batch| &batch.seen).flat_map(|seen| seen.iter());
    let any_late = late.into_iter().any(|&seen| seen != ON_TIME);
    let mut columns = Columns {
        ts_event: scatter(&places, batches.iter().map(|batch| Some(&batch.ts_event[..])), 0),
        publisher,
        publishers: publishers.len(),
        sequence: scatter(&places, batches.iter().map(|batch| Some(&batch.sequence[..])), 0),
        seen: any_late
            .then(|| scatter(&places, batches.iter().map(|batch| batch.seen.as_deref()), ON_TIME)),
        values: (0..schema.columns.len())
            .map(|index| values(schema, batches, &places, index))
            .collect(),
    };
    drop(places);
    let mut key = Vec::with_capacity(rows);
    for (code, range) in starts.windows(2).enumerate() {
        columns.bring_in_order(range[0], range[1]);
        key.resize(range[1], code as u32);
    }
    let values = columns.values.into_iter().map(|(values, valid)| ValueColumn {
        values: values.into(),
        nulls: valid.map(NullBuffer::from),
    });
    Ticks {
        values: values.collect(),
        ts_event: columns.ts_event.into(),
        sequence: columns.sequence.into(),
        publishers,
        publisher: columns.publisher.into(),
        keys: keys.into(),
        key: key.into(),
        seen: columns.seen.map(ScalarBuffer::from),
    }
}

/// Where each key's rows begin, and their end; and for each batch the place of each of its rows:
/// by key, then as they come.
fn places(batches: &[Ticks], ranks: &[Vec<u32>], keys: usize) -> (Vec<usize>, Vec<Vec<u32>>) {
    let mut starts = vec![0_usize; keys + 1];
    for (batch, ranks) in batches.iter().zip(ranks) {
        for &code in batch.key.iter() {
            starts[ranks[code as usize] as usize + 1] += 1;
        }
    }
    for index in 1..starts.len() {
        starts[index] += starts[index - 1];
    }
    // There are fewer than 2^32 rows.
    let mut next: Vec<u32> = starts.iter().map(|&start| start as u32).collect();
    let places = batches.iter().zip(ranks).map(|(batch, ranks)| {
        let place = |&code: &u32| {
            let next = &mut next[ranks[code as usize] as usize];
            let place = *next;
            *next = place.wrapping_add(1);
            place
        };
        batch.key.iter().map(place).collect()
    });
    let places = places.collect();
    (starts, places)
}

/// A column with its batches' rows at their places; `missing` where a batch has none.
fn scatter<'a, T: Copy + 'a>(
    places: &[Vec<u32>],
    batches: impl Iterator<Item = Option<&'a [T]>>,
    missing: T,
) -> Vec<T> {
    let mut all = vec![missing; places.iter().map(Vec::len).sum()];
    for (places, batch) in places.iter().zip(batches) {
        for (&place, &value) in places.iter().zip(batch.unwrap_or_default()) {
            all[place as usize] = value;
        }
    }
    all
}

/// A value column's rows at their places, and which are valid where some are not.
fn values(
    schema: &StreamSchema,
    batches: &[Ticks],
    places: &[Vec<u32>],
    index: usize,
) -> (Vec<i64>, Option<Vec<bool>>) {
    let column = |batch: &'_ Ticks| -> Option<ValueColumn> {
        batch.values.get(index).filter(|column| !column.values.is_empty()).cloned()
    };
    let columns: Vec<_> = batches.iter().map(column).collect();
    let nulls = |column: &ValueColumn| column.nulls.clone().filter(|nulls| nulls.null_count() > 0);
    let has_nulls = columns.iter().zip(batches).any(|(column, batch)| match column {
        Some(column) => nulls(column).is_some(),
        None => !batch.is_empty(),
    });
    let declared = &schema.columns[index];
    assert!(
        !has_nulls || declared.optional,
        "column {} of stream {} is null but not optional",
        declared.name,
        schema.name
    );
    let all = scatter(places, columns.iter().map(|c| c.as_ref().map(|c| &c.values[..])), 0);
    let valid = has_nulls.then(|| {
        let mut valid = vec![true; all.len()];
        for (places, column) in places.iter().zip(&columns) {
            match column.as_ref().map(nulls) {
                None => places.iter().for_each(|&place| valid[place as usize] = false),
                Some(None) => {}
                Some(Some(nulls)) => {
                    for (&place, is_valid) in places.iter().zip(&nulls) {
                        valid[place as usize] = is_valid;
                    }
                }
            }
        }
        valid
    });
    (all, valid)
}

/// Rows that are grouped by key, while they are brought in order.
struct Columns {
    ts_event: Vec<i64>,
    /// Ranks.
    publisher: Vec<u32>,
    publishers: usize,
    sequence: Vec<u64>,
    seen: Option<Vec<i64>>,
    values: Vec<(Vec<i64>, Option<Vec<bool>>)>,
}

impl Columns {
    fn rank(&self, row: usize) -> (i64, u32, u64) {
        (self.ts_event[row], self.publisher[row], self.sequence[row])
    }

    /// The rows of one key by time, publisher and sequence. Rows nearly in order cost a look each:
    /// those that are not are moved back, as long as they are few and their way is short.
    fn bring_in_order(&mut self, start: usize, end: usize) {
        let mut steps_left = 4 * (end - start);
        for row in start + 1..end {
            if self.ts_event[row - 1] < self.ts_event[row] {
                continue;
            }
            let rank = self.rank(row);
            let mut to = row;
            while to > start && rank < self.rank(to - 1) {
                to -= 1;
            }
            if to == row {
                continue;
            }
            match steps_left.checked_sub(row - to) {
                Some(left) => steps_left = left,
                None => return self.sort(start, end),
            }
            self.each(Move { from: row, to });
        }
    }

    fn sort(&mut self, start: usize, end: usize) {
        let mut order: Vec<usize> = (start..end).collect();
        // Stable sorting is linear where long runs follow each other.
        order.sort_by_key(|&row| self.rank(row));
        self.each(Gather { start, order });
    }

    fn each(&mut self, change: impl Change) {
        change.apply(&mut self.ts_event);
        change.apply(&mut self.sequence);
        if self.publishers > 1 {
            change.apply(&mut self.publisher);
        }
        if let Some(seen) = &mut self.seen {
            change.apply(seen);
        }
        for (values, valid) in &mut self.values {
            change.apply(values);
            if let Some(valid) = valid {
                change.apply(valid);
            }
        }
    }
}

/// The same change of the order of every column.
trait Change {
    fn apply<T: Copy>(&self, column: &mut [T]);
}

/// A row goes back to an earlier place.
struct Move {
    from: usize,
    to: usize,
}

impl Change for Move {
    fn apply<T: Copy>(&self, column: &mut [T]) {
        let moved = column[self.from];
        column.copy_within(self.to..self.from, self.to + 1);
        column[self.to] = moved;
    }
}

/// Rows from `start` on are those of `order`.
struct Gather {
    start: usize,
    order: Vec<usize>,
}

impl Change for Gather {
    fn apply<T: Copy>(&self, column: &mut [T]) {
        let gathered: Vec<T> = self.order.iter().map(|&row| column[row]).collect();
        column[self.start..self.start + gathered.len()].copy_from_slice(&gathered);
    }
}

/// The distinct entries of all tables, sorted, and for each table the ranks of its entries.
fn table<'a, T: Clone + Ord + Hash + 'a>(
    tables: impl Iterator<Item = &'a [T]>,
) -> (Vec<T>, Vec<Vec<u32>>) {
    // Batches of one connection share a growing table: what is the same as before is not looked up.
    let mut codes: HashMap<&T, u32> = HashMap::new();
    let mut each: Vec<Vec<u32>> = Vec::new();
    let mut before: &[T] = &[];
    for table in tables {
        let known = each.last().map_or(&[][..], Vec::as_slice);
        let code = |(index, entry)| match before.get(index) {
            Some(same) if same == entry => known[index],
            _ => {
                let next = codes.len() as u32;
                *codes.entry(entry).or_insert(next)
            }
        };
        each.push(table.iter().enumerate().map(code).collect());
        before = table;
    }
    let mut sorted: Vec<(&T, u32)> = codes.into_iter().collect();
    sorted.sort_unstable();
    let mut ranks = vec![0; sorted.len()];
    for (rank, &(_, code)) in sorted.iter().enumerate() {
        ranks[code as usize] = rank as u32;
    }
    for codes in &mut each {
        codes.iter_mut().for_each(|code| *code = ranks[*code as usize]);
    }
    (sorted.into_iter().map(|(entry, _)| entry.clone()).collect(), each)
}

#[cfg(test)]
mod tests;
