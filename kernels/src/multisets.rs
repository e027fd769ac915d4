//! The multisets of one view's windows, by slot, beside their words.

use std::ops::Range;

use isotick_model::ValueColumn;

use crate::grid::Grid;
use crate::multiset::{Multiset, are_codes, base_around, distance};
use crate::partition::Form;
use crate::plan::{Plan, ValuesOf};
use crate::runs::Groups;
use crate::windows::SavedMultiset;

/// What a plan's [`Plan::values`] come to, per slot. Of a plan without quantiles it is empty and
/// costs nothing.
#[derive(Debug)]
pub(crate) struct Multisets {
    kinds: Vec<ValuesOf>,
    /// Slot by slot, one per kind.
    sets: Vec<Multiset>,
    by_group: ByGroup,
    /// One per kind.
    bases: Vec<Base>,
}

/// From what base the values of late batches had 16-bit distances.
#[derive(Clone, Copy, Debug, Default)]
struct Base {
    base: i64,
    /// Batches that are taken whole before a base is looked for again: those before had
    /// values too far from each other.
    skipped: u8,
}

/// Batches between two looks for a base.
const SKIPPED: u8 = 32;

/// The values of a batch's groups, each group's one after another: brought there in one walk, so
/// that each multiset is met once a batch. Kept for its memory.
#[derive(Debug, Default)]
struct ByGroup {
    /// Distances from a base.
    codes: Vec<u16>,
    /// Where they are too far from each other: as kept.
    whole: Vec<i64>,
    /// Per group, where the next of its values goes.
    ends: Vec<u32>,
}

impl ByGroup {
    /// Brings valid values to their groups if all have codes of the base; whether they have.
    fn fill(&mut self, groups: &Groups, column: &ValueColumn, grid: Grid, base: i64) -> bool {
        match grid {
            // Made for values that are kept as themselves, which are compared many at a time.
            Grid::Exact => self.fill_by(groups, column, |value| distance(value, base)),
            grid => self.fill_by(groups, column, |value| distance(grid.code(value), base)),
        }
    }

    fn fill_by(
        &mut self,
        groups: &Groups,
        column: &ValueColumn,
        distance: impl Fn(i64) -> u64,
    ) -> bool {
        // Distances that are too great are found on the way: most batches have none.
        let mut all = 0;
        bring(groups, column, &mut self.ends, &mut self.codes, |value| {
            let distance = distance(value);
            all |= distance;
            distance as u16
        });
        are_codes(all)
    }

    /// Fills, with a base of the batch's own where the one before does not suit; the base, where
    /// there is one for all values.
    fn fill_based(
        &mut self,
        groups: &Groups,
        column: &ValueColumn,
        grid: Grid,
        last: &mut Base,
    ) -> Option<i64> {
        if last.skipped > 0 {
            last.skipped -= 1;
            return None;
        }
        if !self.fill(groups, column, grid, last.base) {
            last.base = base_around(grid.code(*column.values.first()?));
            if !self.fill(groups, column, grid, last.base) {
                last.skipped = SKIPPED;
                return None;
            }
        }
        Some(last.base)
    }

    /// Fills with values as they are kept.
    fn fill_whole(&mut self, groups: &Groups, column: &ValueColumn, grid: Grid) {
        bring(groups, column, &mut self.ends, &mut self.whole, |value| grid.code(value));
    }

    /// The part of each group in what was filled last, in the order of the groups.
    fn parts(&self, groups: &Groups) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        groups.groups.iter().zip(&self.ends).map(move |(group, &end)| {
            let part = start as usize..end as usize;
            start += group.rows;
            part
        })
    }
}

/// Writes valid values by group, and where each group's end.
fn bring<T: Copy + Default>(
    groups: &Groups,
    column: &ValueColumn,
    ends: &mut Vec<u32>,
    to: &mut Vec<T>,
    mut of: impl FnMut(i64) -> T,
) {
    let mut start = 0;
    ends.clear();
    ends.extend(groups.groups.iter().map(|group| {
        let first = start;
        start += group.rows;
        first
    }));
    // What is there is overwritten, or not read.
    to.resize(groups.group_of.len(), T::default());
    let mut bring = |(&group, &value): (&u32, &i64)| {
        let end = &mut ends[group as usize];
        to[*end as usize] = of(value);
        // Rows of a batch are fewer than 2^32.
        *end = end.wrapping_add(1);
    };
    let rows = groups.group_of.iter().zip(&*column.values);
    match valid_rows(column) {
        None => rows.for_each(bring),
        Some(is_valid) => {
            rows.enumerate().filter(|(row, _)| is_valid(*row)).for_each(|row| bring(row.1));
        }
    }
}

impl Multisets {
    /// No slots yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            kinds: plan.values().to_vec(),
            sets: Vec::new(),
            by_group: ByGroup::default(),
            bases: vec![Base::default(); plan.values().len()],
        }
    }

    /// Whether the plan has no quantiles: then nothing need be added.
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// A slot's multisets in the order of [`Plan::values`].
    pub(crate) fn of(&self, slot: u32) -> &[Multiset] {
        let kinds = self.kinds.len();
        &self.sets[slot as usize * kinds..][..kinds]
    }

    /// Puts multisets, one per kind, in place of those of a slot.
    pub(crate) fn put(&mut self, slot: u32, sets: Vec<Multiset>) {
        let kinds = self.kinds.len();
        let start = slot as usize * kinds;
        if self.sets.len() < start + kinds {
            self.sets.resize_with(start + kinds, Multiset::default);
        }
        self.sets[start..].iter_mut().zip(sets).for_each(|(to, set)| *to = set);
    }

    /// Adds the values of multisets, one per kind, to those of a slot.
    pub(crate) fn combine(&mut self, slot: u32, sets: &[SavedMultiset]) {
        let kinds = self.kinds.len();
        let start = slot as usize * kinds;
        if self.sets.len() < start + kinds {
            self.sets.resize_with(start + kinds, Multiset::default);
        }
        self.sets[start..].iter_mut().zip(sets).for_each(|(to, set)| to.combine(set));
    }

    /// Empties a slot.
    pub(crate) fn clear(&mut self, slot: u32) {
        let kinds = self.kinds.len();
        self.sets[slot as usize * kinds..][..kinds].fill_with(Multiset::default);
    }

    /// Adds the rows of a batch, whose runs or groups have these slots.
    pub(crate) fn add(&mut self, form: &Form, slots: &[u32]) {
        let Self { kinds, sets, by_group, bases } = self;
        let Some(last) = slots.iter().max() else { return };
        let len = (*last as usize + 1) * kinds.len();
        if sets.len() < len {
            sets.resize_with(len, Multiset::default);
        }
        for (number, &ValuesOf { column, grid }) in kinds.iter().enumerate() {
            let place = |slot: u32| slot as usize * kinds.len() + number;
            let column = &form.ticks().values[column];
            match form {
                Form::Runs(runs) => {
                    for (run, &slot) in runs.runs.iter().zip(slots) {
                        let rows = run.start as usize..(run.start + run.len) as usize;
                        let set = &mut sets[place(slot)];
                        match (valid_rows(column), grid) {
                            (None, Grid::Exact) => set.extend(&column.values[rows]),
                            (None, grid) => column.values[rows]
                                .iter()
                                .for_each(|&value| set.push(grid.code(value))),
                            (Some(is_valid), grid) => rows
                                .filter(|&row| is_valid(row))
                                .for_each(|row| set.push(grid.code(column.values[row]))),
                        }
                    }
                }
                Form::Groups(groups) => {
                    let base = by_group.fill_based(groups, column, grid, &mut bases[number]);
                    if base.is_none() {
                        by_group.fill_whole(groups, column, grid);
                    }
                    for (part, &slot) in by_group.parts(groups).zip(slots) {
                        let set = &mut sets[place(slot)];
                        match base {
                            Some(base) => set.extend_codes(base, &by_group.codes[part]),
                            None => set.extend(&by_group.whole[part]),
                        }
                    }
                }
            }
        }
    }
}

/// Which rows have values, where some have none.
fn valid_rows(column: &ValueColumn) -> Option<impl Fn(usize) -> bool> {
    let nulls = column.nulls.as_ref().filter(|nulls| nulls.null_count() > 0)?;
    Some(|row| nulls.is_valid(row))
}

#[cfg(test)]
mod tests;
