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

/// The order within a key that a plan needs of rows to be runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needed {
    /// By time, publisher and sequence.
    Canonical,
    /// By time, so that windows follow one another.
    Time,
    /// None: there is one window.
    None,
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

    /// Where the key changes, the first row included, when the rows are grouped by key (mostly: a
    /// key may come back where groups are long) and in the order that is needed within each group.
    pub(super) fn key_runs(&self, needed: Needed) -> Option<Vec<u32>> {
        /// Groups of this many rows on average are worth no sorting.
        const GROUP_LEN: usize = 32;
        let (key, ts) = (&self.ticks.key[..], &self.ticks.ts_event[..]);
        // With more groups than keys, some key came back.
        let few = (key.len() / GROUP_LEN).max(self.ticks.keys.len());
        let starts = key_runs(key, few)?;
        let ends = starts.iter().skip(1).map(|&end| end as usize).chain([key.len()]);
        let checked = if needed == Needed::None { 0 } else { starts.len() };
        for (&start, end) in starts.iter().zip(ends).take(checked) {
            let start = start as usize;
            let run = &ts[start..end];
            let (mut backwards, mut ties) = (false, false);
            for pair in run.windows(2) {
                backwards |= pair[1] < pair[0];
                ties |= pair[1] == pair[0];
            }
            let tied =
                |row: usize| ts[row] == ts[row - 1] && self.compare_ties(row - 1, row).is_gt();
            let ties = ties && needed == Needed::Canonical;
            if backwards || (ties && (start + 1..end).any(tied)) {
                return None;
            }
        }
        let grouped = starts.len() <= key.len() / GROUP_LEN || {
            let mut met = vec![false; self.ticks.keys.len()];
            let again =
                |&start: &u32| std::mem::replace(&mut met[key[start as usize] as usize], true);
            !starts.iter().any(again)
        };
        grouped.then_some(starts)
    }

    /// The rows grouped by key, each group in canonical order.
    pub(super) fn sorted(&self) -> Vec<u32> {
        let rows = 0..self.ticks.len() as u32;
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

/// Where the key changes, the first row included; `None` when it does more than so many times.
pub(super) fn key_runs(key: &[u32], changes_max: usize) -> Option<Vec<u32>> {
    /// Keys that are compared all at once: mostly they are one.
    const LOOK_ROWS: usize = 64;
    let mut starts = Vec::new();
    starts.extend(key.first().map(|_| 0));
    let mut start = 0;
    while start + 1 < key.len() {
        let end = key.len().min(start + 1 + LOOK_ROWS);
        let (before, next) = (&key[start..end - 1], &key[start + 1..end]);
        let pairs = || before.iter().zip(next);
        if pairs().fold(0, |all, (a, b)| all | (a ^ b)) != 0 {
            let changed = pairs().enumerate().filter(|(_, (a, b))| a != b);
            starts.extend(changed.map(|(row, _)| (start + 1 + row) as u32));
            if starts.len() > changes_max.saturating_add(1) {
                return None;
            }
        }
        start = end - 1;
    }
    Some(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wherever keys change: within what is compared at once, at its borders, at every row.
    #[test]
    fn runs_begin_where_keys_change() {
        for len in [0, 1, 2, 63, 64, 65, 66, 129, 200] {
            for every in [1, 2, 63, 64, 65, 1000] {
                let key: Vec<u32> = (0..len).map(|row| row / every % 2).collect();
                let starts: Vec<u32> = (0..len).filter(|row| row % every == 0).collect();
                let changes = starts.len().saturating_sub(1);
                assert_eq!(key_runs(&key, usize::MAX), Some(starts.clone()), "{len}, {every}");
                assert_eq!(key_runs(&key, changes), Some(starts));
                if let Some(fewer) = changes.checked_sub(1) {
                    assert_eq!(key_runs(&key, fewer), None, "{len}, {every}");
                }
            }
        }
    }
}
