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
        (cells <= 4 * rows + 1024 && u32::try_from(cells).is_ok()).then_some(Self {
            window,
            first,
            windows,
            keys,
        })
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
        let mut group_of = self.cells_of(ticks);
        let mut rows = vec![0_u32; self.windows * self.keys];
        for &cell in &group_of {
            // A batch has fewer than 2^32 rows.
            let rows = &mut rows[cell as usize];
            *rows = rows.wrapping_add(1);
        }
        let mut keys = keys.of_batch(&ticks.keys);
        let mut groups = Vec::new();
        // The rows of a cell are counted; now its place stands for them.
        let mut window_start = self.first;
        for of_window in rows.chunks_mut(self.keys.max(1)) {
            for (local, place) in of_window.iter_mut().enumerate() {
                let rows = std::mem::replace(place, groups.len() as u32);
                if rows > 0 {
                    groups.push(Group { key: keys.code(local), window_start, rows });
                }
            }
            window_start = window_start.wrapping_add(self.window.width_ns);
        }
        if groups.len() < rows.len() {
            group_of.iter_mut().for_each(|cell| *cell = rows[*cell as usize]);
        }
        (group_of.into(), groups)
    }

    /// The cell of each row: window by window, in each the keys in the order of the dictionary.
    fn cells_of(&self, ticks: &Ticks) -> Vec<u32> {
        let mut current = Current::new(self.window);
        let (mut window, mut first_cell) = (Span::NONE, 0);
        let mut cells = Vec::with_capacity(ticks.len());
        let times = ticks.ts_event.chunks(TOGETHER);
        for (times, keys) in times.zip(ticks.key.chunks(TOGETHER)) {
            // Mostly all lie in the window of the last row.
            if times.iter().fold(true, |all, &ts| all & window.holds(ts)) {
                cells.extend(keys.iter().map(|&local| local.wrapping_add(first_cell)));
                continue;
            }
            for (&ts, &local) in times.iter().zip(keys) {
                if !window.holds(ts) {
                    window = current.window_of(ts);
                    let distance = i128::from(window.from) - i128::from(self.first);
                    // The grid covers the time, and has fewer than 2^32 cells.
                    let number = (distance / i128::from(self.window.width_ns)) as usize;
                    first_cell = (number * self.keys) as u32;
                }
                cells.push(local.wrapping_add(first_cell));
            }
        }
        cells
    }
}

/// Rows whose times are looked at together.
const TOGETHER: usize = 128;
