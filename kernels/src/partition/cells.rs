//! Rows in any order to groups of one (key, window).

use isotick_model::Ticks;
use isotick_model::view::Tumbling;

use super::{Current, Rows, Span};
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
    /// The grid of some rows; `None` where it has many more cells than there are rows.
    pub(super) fn of(ticks: &Ticks, rows: &Rows, window: Tumbling) -> Option<Self> {
        let (len, least, greatest) = match rows {
            Rows::Range(range) => {
                let ts = ticks.ts_event[range.clone()].iter();
                (range.len(), ts.clone().min()?, ts.max()?)
            }
            Rows::List(rows) => {
                let ts = rows.iter().map(|&row| &ticks.ts_event[row as usize]);
                (rows.len(), ts.clone().min()?, ts.max()?)
            }
        };
        let found = "the times' windows were found representable";
        let (first, last) = (window.start_of(*least), window.start_of(*greatest));
        let first = first.expect(found);
        let span = i128::from(last.expect(found)) - i128::from(first);
        let windows = usize::try_from(span / i128::from(window.width_ns)).ok()?.checked_add(1)?;
        let cells = windows.checked_mul(ticks.keys.len())?;
        let grid = Self { window, first, windows, keys: ticks.keys.len() };
        (cells <= 4 * len + 1024).then_some(grid)
    }

    /// The group of each row, and the groups in the order of their first rows.
    pub(super) fn groups(&self, ticks: &Ticks, keys: &mut KeyTable) -> (Vec<u32>, Vec<Group>) {
        const NONE: u32 = u32::MAX;
        let mut by_cell = vec![NONE; self.windows * self.keys];
        let mut codes = vec![NONE; self.keys];
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
                let code = &mut codes[local as usize];
                if *code == NONE {
                    *code = keys.intern(&ticks.keys[local as usize]);
                }
                *group = groups.len() as u32;
                groups.push(Group { key: *code, window_start: last.from });
            }
            *group
        });
        (group_of.collect(), groups)
    }
}
