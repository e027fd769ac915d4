//! Batches one after another as one.

use std::collections::HashMap;
use std::hash::Hash;

use super::{Ticks, ValueColumn};

impl Ticks {
    /// Batches of one stream, one after another.
    ///
    /// # Panics
    ///
    /// When they have other columns than the first one.
    pub fn concat(batches: &[Self]) -> Self {
        let rows = batches.iter().map(Self::len).sum();
        let columns = batches.first().map_or(0, |batch| batch.values.len());
        let (mut keys, mut publishers) = (Interner::default(), Interner::default());
        let (mut key, mut publisher) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for batch in batches {
            let codes: Vec<u32> = batch.keys.iter().map(|key| keys.code(key)).collect();
            key.extend(batch.key.iter().map(|&code| codes[code as usize]));
            let codes: Vec<u32> =
                batch.publishers.iter().map(|name| publishers.code(name)).collect();
            match batch.publisher.is_empty() {
                true => publisher.extend(std::iter::repeat_n(codes.first().copied(), batch.len())),
                false => {
                    publisher.extend(batch.publisher.iter().map(|&code| Some(codes[code as usize])))
                }
            }
        }
        let publisher = match publishers.values.len() {
            0 | 1 => Vec::new(),
            _ => publisher.into_iter().map(|code| code.expect("a row has a publisher")).collect(),
        };
        let is_late = batches.iter().any(|batch| batch.seen.is_some());
        let seen = batches.iter().flat_map(|batch| (0..batch.len()).map(|row| batch.seen_of(row)));
        Self {
            ts_event: batches.iter().flat_map(|batch| batch.ts_event.iter().copied()).collect(),
            sequence: batches.iter().flat_map(|batch| batch.sequence.iter().copied()).collect(),
            publishers: publishers.values,
            publisher: publisher.into(),
            keys: keys.values.into(),
            key: key.into(),
            values: (0..columns)
                .map(|column| {
                    ValueColumn::concat(batches.iter().map(|batch| &batch.values[column]))
                })
                .collect(),
            seen: is_late.then(|| seen.collect()),
        }
    }
}

/// Values by codes in the order of first sight.
struct Interner<T> {
    values: Vec<T>,
    codes: HashMap<T, u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { values: Vec::new(), codes: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    fn code(&mut self, value: &T) -> u32 {
        if let Some(&code) = self.codes.get(value) {
            return code;
        }
        let code = u32::try_from(self.values.len()).expect("a batch has fewer than 2^32 keys");
        self.values.push(value.clone());
        self.codes.insert(value.clone(), code);
        code
    }
}

impl ValueColumn {
    /// Columns one after another; absent where all of them are.
    fn concat<'a>(columns: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let has_nulls = columns.clone().any(|column| column.nulls.is_some());
        let valid = columns.clone().flat_map(|column| {
            let nulls = column.nulls.as_ref();
            (0..column.values.len()).map(move |row| nulls.is_none_or(|nulls| nulls.is_valid(row)))
        });
        Self {
            nulls: has_nulls.then(|| valid.collect()),
            values: columns.flat_map(|column| column.values.iter().copied()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;
    use crate::ticks::ON_TIME;
    use crate::{Key, PublisherId};

    /// A batch with some of four keys and three publishers, in tables of its own order.
    fn batch(rows: Range<u64>, turn: usize, alone: bool, late: bool, nulls: bool) -> Ticks {
        let named = |names: [&str; 4]| {
            let mut names = names.map(str::to_owned).to_vec();
            names.rotate_left(turn % 4);
            names
        };
        let len = (rows.end - rows.start) as usize;
        let publishers = named(["p", "q", "r", "s"]);
        let value = |row: u64| if nulls && row.is_multiple_of(3) { 0 } else { row as i64 };
        Ticks {
            ts_event: rows.clone().map(|row| row as i64 * 7).collect(),
            publishers: publishers.iter().map(|name| PublisherId::new(name).unwrap()).collect(),
            publisher: match alone {
                true => Vec::new().into(),
                false => rows.clone().map(|row| row as u32 % 4).collect(),
            },
            keys: named(["A", "B", "C", "D"])
                .iter()
                .map(|key| Key::from_components([key]))
                .collect(),
            key: rows.clone().map(|row| (row as u32 * 3) % 4).collect(),
            values: vec![
                ValueColumn {
                    values: rows.clone().map(value).collect(),
                    nulls: nulls.then(|| rows.clone().map(|row| !row.is_multiple_of(3)).collect()),
                },
                ValueColumn::absent(),
            ],
            seen: late.then(|| vec![5; len].into()),
            sequence: rows.collect(),
        }
    }

    type Row = (i64, u64, String, Key, Option<i64>, i64);

    fn rows(ticks: &Ticks) -> Vec<Row> {
        let row = |row: usize| {
            let publisher = ticks.publisher_of(row).as_str().to_owned();
            let (key, value) = (ticks.key_of(row).clone(), ticks.values[0].get(row));
            let (ts, sequence) = (ticks.ts_event[row], ticks.sequence[row]);
            (ts, sequence, publisher, key, value, ticks.seen_of(row))
        };
        (0..ticks.len()).map(row).collect()
    }

    proptest! {
        #[test]
        fn every_row_comes_back_as_it_was(
            cuts in proptest::collection::vec((0_u64..9, 0_usize..4, any::<[bool; 3]>()), 0..7),
        ) {
            let mut next = 0;
            let batches: Vec<Ticks> = cuts
                .into_iter()
                .map(|(len, turn, [alone, late, nulls])| {
                    next += len;
                    batch(next - len..next, turn, alone, late, nulls)
                })
                .collect();
            let expected: Vec<Row> = batches.iter().flat_map(rows).collect();
            let all = Ticks::concat(&batches);
            prop_assert_eq!(rows(&all), expected);
            prop_assert!(all.values.get(1).is_none_or(|column| column.values.is_empty()));
            if all.seen.is_none() {
                prop_assert!((0..all.len()).all(|row| all.seen_of(row) == ON_TIME));
            }
        }
    }
}
