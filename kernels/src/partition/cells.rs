//! Rows in any order to groups of one (key, window).

use std::ops::RangeInclusive;

use arrow_buffer::ScalarBuffer;
use isotick_model::Ticks;
use isotick_model::view::Tumbling;

use super::{Current, Span};
use crate::runs::Group;
use crate::tables::KeyTable;

/// A dense grid of (window, key) over a batch: the windows between its least and greatest times,
/// the keys of its dictionary.
pub(super) struct Cells {
    window: Tumbling,
    /// The start of the first window.
    first: i64,
    windows: usize,
    keys: usize,
}

impl Cells {
    /// The grid over some times and keys, for a number of rows; `None` where it has many more
    /// cells than that.
    pub(super) fn of(
        times: RangeInclusive<i64>,
        keys: usize,
        rows: usize,
        window: Tumbling,
    ) -> Option<Self> {
        let (first, last) = (window.start_of(*times.start())?, window.start_of(*times.end())?);
        let span = i128::from(last) - i128::from(first);
        let windows = usize::try_from(span / i128::from(window.width_ns)).ok()?.checked_add(1)?;
        let cells = windows.checked_mul(keys)?;
        (cells <= 4 * rows + 1024).then_some(Self { window, first, windows, keys })
    }

    /// The group of each row, and the groups, each with rows.
    pub(super) fn groups(
        &self,
        ticks: &Ticks,
        keys: &mut KeyTable,
    ) -> (ScalarBuffer<u32>, Vec<Group>) {
        match self.windows {
            1 => self.groups_of_one_window(ticks, keys),
            _ => self.groups_of_windows(ticks, keys),
        }
    }

    /// The same where there is one window: no row's time is looked at.
    fn groups_of_one_window(
        &self,
        ticks: &Ticks,
        keys: &mut KeyTable,
    ) -> (ScalarBuffer<u32>, Vec<Group>) {
        let rows = self.rows_by_key(ticks);
        let mut keys = keys.of_batch(&ticks.keys);
        let group = |(local, &rows): (usize, &u32)| {
            (rows > 0).then(|| Group { key: keys.code(local), window_start: self.first, rows })
        };
        let groups: Vec<Group> = rows.iter().enumerate().filter_map(group).collect();
        if groups.len() == self.keys {
            return (ticks.key.clone(), groups);
        }
        // Keys without rows have no group.
        let mut next = 0;
        let places: Vec<u32> = rows
            .iter()
            .map(|&rows| {
                let place = next;
                next += u32::from(rows > 0);
                place
            })
            .collect();
        (ticks.key.iter().map(|&local| places[local as usize]).collect(), groups)
    }

    /// How many rows each key has.
    fn rows_by_key(&self, ticks: &Ticks) -> Vec<u32> {
        // Neighbours of one key need not wait for each other.
        let mut counts: [Vec<u32>; 4] = std::array::from_fn(|_| vec![0; self.keys]);
        let (fours, rest) = ticks.key.as_chunks::<4>();
        for four in fours {
            for (counts, &local) in counts.iter_mut().zip(four) {
                counts[local as usize] += 1;
            }
        }
        let [mut rows, others @ ..] = counts;
        rest.iter().for_each(|&local| rows[local as usize] += 1);
        for counts in others {
            rows.iter_mut().zip(counts).for_each(|(rows, count)| *rows += count);
        }
        rows
    }

    fn groups_of_windows(
        &self,
        ticks: &Ticks,
        keys: &mut KeyTable,
    ) -> (ScalarBuffer<u32>, Vec<Group>) {
        let mut by_cell = vec![NONE; self.windows * self.keys];
        let mut keys = keys.of_batch(&ticks.keys);
        let mut groups = Vec::new();
        let mut current = Current::new(self.window);
        let (mut last, mut first_cell) = (Span::NONE, 0);
        let rows = ticks.ts_event.iter().zip(ticks.key.iter());
        let group_of = rows.map(|(&ts, &local)| {
            if !last.holds(ts) {
                last = current.window_of(ts);
                let distance = i128::from(last.from) - i128::from(self.first);
                // The grid covers the time.
                first_cell = (distance / i128::from(self.window.width_ns)) as usize * self.keys;
            }
            let group = &mut by_cell[first_cell + local as usize];
            if *group == NONE {
                *group = groups.len() as u32;
                let key = keys.code(local as usize);
                groups.push(Group { key, window_start: last.from, rows: 0 });
            }
            *group
        });
        let group_of: Vec<u32> = group_of.collect();
        let mut rows = vec![0; groups.len()];
        for &group in &group_of {
            rows[group as usize] += 1;
        }
        for (group, rows) in groups.iter_mut().zip(rows) {
            group.rows = rows;
        }
        (group_of.into(), groups)
    }
}

/// No group.
const NONE: u32 = u32::MAX;
