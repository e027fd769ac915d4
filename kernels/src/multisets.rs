//! The multisets of one view's windows, by slot, beside their words.

use isotick_model::ValueColumn;

use crate::grid::Grid;
use crate::multiset::Multiset;
use crate::partition::Form;
use crate::plan::{Plan, ValuesOf};

/// What a plan's [`Plan::values`] come to, per slot. Of a plan without quantiles it is empty and
/// costs nothing.
#[derive(Debug)]
pub(crate) struct Multisets {
    kinds: Vec<ValuesOf>,
    /// Slot by slot, one per kind.
    sets: Vec<Multiset>,
}

impl Multisets {
    /// No slots yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { kinds: plan.values().to_vec(), sets: Vec::new() }
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

    /// Empties a slot.
    pub(crate) fn clear(&mut self, slot: u32) {
        let kinds = self.kinds.len();
        self.sets[slot as usize * kinds..][..kinds].fill_with(Multiset::default);
    }

    /// Adds the rows of a batch, whose runs or groups have these slots.
    pub(crate) fn add(&mut self, form: &Form, slots: &[u32]) {
        let Self { kinds, sets } = self;
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
                    let places: Vec<usize> = slots.iter().map(|&slot| place(slot)).collect();
                    let rows = groups.group_of.iter().zip(&*column.values);
                    let mut push = |group: u32, value: i64| {
                        sets[places[group as usize]].push(grid.code(value));
                    };
                    match valid_rows(column) {
                        None => rows.for_each(|(&group, &value)| push(group, value)),
                        Some(is_valid) => rows
                            .enumerate()
                            .filter(|(row, _)| is_valid(*row))
                            .for_each(|(_, (&group, &value))| push(group, value)),
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
