//! The canonical order of a batch's rows, and whether they are in it already.

use std::cmp::Ordering;

use isotick_model::Ticks;

use crate::runs::compare_ties;

/// The canonical order of a batch's rows.
pub(super) struct Order<'a> {
    ticks: &'a Ticks,
    /// The place of each of the batch's publishers in the order of their names.
    pub(super) ranks: Vec<u32>,
}

impl<'a> Order<'a> {
    pub(super) fn of(ticks: &'a Ticks) -> Self {
        let mut by_name: Vec<u32> = (0..ticks.publishers.len() as u32).collect();
        by_name.sort_unstable_by_key(|&code| &ticks.publishers[code as usize]);
        let mut ranks = vec![0; by_name.len()];
        for (rank, code) in by_name.into_iter().enumerate() {
            ranks[code as usize] = rank as u32;
        }
        Self { ticks, ranks }
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        let ts = &self.ticks.ts_event;
        ts[a].cmp(&ts[b]).then_with(|| self.compare_ties(a, b))
    }

    fn compare_ties(&self, a: usize, b: usize) -> Ordering {
        compare_ties(self.ticks, &self.ranks, a, b)
    }

    /// Whether the rows `at(0), at(1) …` are grouped by key (mostly: a key may come back where
    /// groups are long) and in canonical order within each group.
    pub(super) fn in_form(&self, len: usize, at: impl Fn(usize) -> usize) -> bool {
        /// Groups of this many rows on average are worth no sorting.
        const GROUP_LEN: usize = 32;
        /// After this many rows the answer may be known.
        const LOOK_ROWS: usize = 1024;
        let (key, ts) = (&self.ticks.key[..], &self.ticks.ts_event[..]);
        let mut changes = 0_usize;
        let mut backwards = false;
        let mut ties = false;
        for from in (1..len).step_by(LOOK_ROWS) {
            for row in from..len.min(from + LOOK_ROWS) {
                let (a, b) = (at(row - 1), at(row));
                let same = key[a] == key[b];
                changes += usize::from(!same);
                backwards |= same & (ts[b] < ts[a]);
                ties |= same & (ts[b] == ts[a]);
            }
            // With more groups than keys, some key came back.
            if backwards || changes > (len / GROUP_LEN).max(self.ticks.keys.len()) {
                return false;
            }
        }
        let tied = |row: usize| {
            let (a, b) = (at(row - 1), at(row));
            key[a] == key[b] && ts[a] == ts[b] && self.compare_ties(a, b).is_gt()
        };
        if ties && (1..len).any(tied) {
            return false;
        }
        changes <= len / GROUP_LEN || {
            let mut met = vec![false; self.ticks.keys.len()];
            (0..len).all(|row| {
                let local = key[at(row)] as usize;
                let new = row == 0 || key[at(row - 1)] as usize != local;
                !(new && std::mem::replace(&mut met[local], true))
            })
        }
    }

    /// The rows grouped by key, each group in canonical order.
    pub(super) fn sorted(&self, rows: impl ExactSizeIterator<Item = u32> + Clone) -> Vec<u32> {
        let (key, ts) = (&self.ticks.key[..], &self.ticks.ts_event[..]);
        let codes = self.ticks.keys.len();
        // Counting needs a counter per code: too many for a few rows.
        if codes > 4 * rows.len() + 1024 {
            let mut sorted: Vec<u32> = rows.collect();
            sorted.sort_by_key(|&row| key[row as usize]);
            for group in sorted.chunk_by_mut(|&a, &b| key[a as usize] == key[b as usize]) {
                self.sort_group(group);
            }
            return sorted;
        }
        let mut groups = vec![Placing { next: 0, ordered: true, last: i64::MIN }; codes];
        for row in rows.clone() {
            groups[key[row as usize] as usize].next += 1;
        }
        let mut next = 0;
        for group in &mut groups {
            next += std::mem::replace(&mut group.next, next);
        }
        let mut sorted = vec![0; rows.len()];
        for row in rows {
            let group = &mut groups[key[row as usize] as usize];
            let ts = ts[row as usize];
            group.ordered &= group.last < ts;
            group.last = ts;
            sorted[group.next as usize] = row;
            group.next += 1;
        }
        let mut start = 0;
        for group in groups {
            if !group.ordered {
                self.sort_group(&mut sorted[start..group.next as usize]);
            }
            start = group.next as usize;
        }
        sorted
    }

    /// Rows of one key into canonical order; those that are mostly in order cost little.
    fn sort_group(&self, group: &mut [u32]) {
        let compare = |a: &u32, b: &u32| self.compare(*a as usize, *b as usize);
        if !group.is_sorted_by(|a, b| compare(a, b).is_le()) {
            group.sort_by(compare);
        }
    }
}

/// The rows of one key while they are placed.
#[derive(Clone, Copy)]
struct Placing {
    /// Where the next row goes; at first, how many rows there are.
    next: u32,
    /// Whether times ascended without a tie.
    ordered: bool,
    last: i64,
}
