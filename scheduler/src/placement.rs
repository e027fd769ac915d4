//! Which engine a batch goes to: a pure model of what each costs, from measured figures.
//!
//! A batch costs what its dispatch costs, plus what its rows, windows and moved bytes cost. All of
//! it is linear, so the batch from which one engine beats another has a closed form.

use std::time::Duration;

/// What one engine costs on one machine, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Per batch, whatever is in it.
    pub dispatch_ns: f64,
    /// Per row that is reduced.
    pub row_ns: f64,
    /// Per window of the batch.
    pub window_ns: f64,
    /// Per byte of columns that the engine does not hold yet.
    pub byte_ns: f64,
}

/// A batch, as far as its cost goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Rows.
    pub rows: f64,
    /// Bytes of the columns of a row.
    pub bytes_per_row: f64,
    /// Windows per row: the inverse of how many rows a window has in the batch.
    pub windows_per_row: f64,
    /// Whether the engine holds the columns already.
    pub resident: bool,
}

impl Costs {
    /// What a batch is predicted to take, nanoseconds.
    pub fn predict_ns(&self, work: &Work) -> f64 {
        self.dispatch_ns + work.rows * self.per_row_ns(work)
    }

    /// The same as a duration.
    pub fn predict(&self, work: &Work) -> Duration {
        Duration::from_secs_f64(self.predict_ns(work).max(0.0) / 1e9)
    }

    /// What each further row takes, its share of windows and bytes with it.
    fn per_row_ns(&self, work: &Work) -> f64 {
        let bytes = if work.resident { 0.0 } else { work.bytes_per_row };
        self.row_ns + work.windows_per_row * self.window_ns + bytes * self.byte_ns
    }

    /// The costs of the same batches with so much more per row.
    pub fn with_more_per_row(self, ns: f64) -> Self {
        Self { row_ns: self.row_ns + ns, ..self }
    }

    /// The costs behind two measurements of the same kind of work, which differ in their rows:
    /// all that grows with rows goes to `row_ns`. Noise never makes a figure negative.
    pub fn from_two(small: (f64, f64), large: (f64, f64)) -> Self {
        let ((few, few_ns), (many, many_ns)) = (small, large);
        let row_ns = ((many_ns - few_ns) / (many - few)).max(0.0);
        let dispatch_ns = (few_ns - few * row_ns).max(0.0);
        Self { dispatch_ns, row_ns, window_ns: 0.0, byte_ns: 0.0 }
    }
}

/// Of engines in the order of preference, the place of the one that is predicted to be fastest;
/// the earlier one where two are equal.
///
/// # Panics
/// When there is none.
pub fn choose(engines: &[Costs], work: &Work) -> usize {
    let predicted = engines.iter().map(|costs| costs.predict_ns(work));
    let fastest = predicted.enumerate().reduce(|best, next| match next.1 < best.1 {
        true => next,
        false => best,
    });
    fastest.expect("there is an engine").0
}

/// The least number of rows from which on `other` is predicted to be faster than `first` for
/// batches like this one, whatever its own rows; `None` where it is not for ever larger ones.
pub fn break_even_rows(first: &Costs, other: &Costs, work: &Work) -> Option<u64> {
    let saved_per_row = first.per_row_ns(work) - other.per_row_ns(work);
    let extra = other.dispatch_ns - first.dispatch_ns;
    match saved_per_row > 0.0 {
        // At equality the first one runs, so one more than the whole quotient.
        true if extra >= 0.0 => Some((extra / saved_per_row).floor() as u64 + 1),
        true => Some(0),
        // It may be ahead for small batches, and falls behind or stays level.
        false => (saved_per_row == 0.0 && extra < 0.0).then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn costs() -> impl Strategy<Value = Costs> {
        (0.0..1e6, 0.0..100.0, 0.0..500.0, 0.0..2.0).prop_map(
            |(dispatch_ns, row_ns, window_ns, byte_ns)| Costs {
                dispatch_ns,
                row_ns,
                window_ns,
                byte_ns,
            },
        )
    }

    fn work() -> impl Strategy<Value = Work> {
        (1_u32..10_000_000, 1_u32..200, 0.0..1.0, any::<bool>()).prop_map(
            |(rows, bytes, windows_per_row, resident)| Work {
                rows: rows.into(),
                bytes_per_row: bytes.into(),
                windows_per_row,
                resident,
            },
        )
    }

    proptest! {
        #[test]
        fn more_work_never_costs_less(costs in costs(), work in work(), more in 0_u32..1000) {
            let more = f64::from(more);
            let now = costs.predict_ns(&work);
            let longer = Work { rows: work.rows + more, ..work };
            prop_assert!(costs.predict_ns(&longer) >= now);
            let wider = Work { bytes_per_row: work.bytes_per_row + more, ..work };
            prop_assert!(costs.predict_ns(&wider) >= now);
            let resident = Work { resident: true, ..work };
            prop_assert!(costs.predict_ns(&resident) <= now);
        }

        #[test]
        fn the_choice_has_the_least_prediction(
            engines in proptest::collection::vec(costs(), 1..4),
            work in work(),
        ) {
            let chosen = engines[choose(&engines, &work)].predict_ns(&work);
            prop_assert!(engines.iter().all(|costs| chosen <= costs.predict_ns(&work)));
        }

        #[test]
        fn the_choice_flips_at_the_break_even(a in costs(), b in costs(), work in work()) {
            let at = |rows: f64| choose(&[a, b], &Work { rows, ..work });
            match break_even_rows(&a, &b, &work) {
                None => prop_assert_eq!(at(1e15), 0),
                Some(rows) => {
                    // Where the lines are all but parallel, rounding decides nearby.
                    let rows = rows as f64;
                    prop_assert_eq!(at(rows * 1.0001 + 1.0), 1);
                    prop_assert_eq!(at((rows * 2.0 + 1.0) * 1e3), 1);
                    if rows > 0.0 {
                        prop_assert_eq!(at((rows * 0.9999 - 1.0).max(0.0)), 0);
                    }
                }
            }
        }

        #[test]
        fn an_engine_that_is_ahead_for_small_batches_only_has_no_break_even(work in work()) {
            let line = |dispatch_ns, row_ns| {
                Costs { dispatch_ns, row_ns, window_ns: 0.0, byte_ns: 0.0 }
            };
            prop_assert_eq!(break_even_rows(&line(100.0, 1.0), &line(0.0, 10.0), &work), None);
            prop_assert_eq!(break_even_rows(&line(0.0, 10.0), &line(100.0, 1.0), &work), Some(12));
        }

        #[test]
        fn two_measurements_give_the_line_through_them(
            dispatch in 0.0..1e6_f64,
            row in 0.0..100.0_f64,
            few in 1_u32..10_000,
            more in 1_u32..1_000_000,
        ) {
            let at = |rows: f64| (rows, dispatch + rows * row);
            let (few, many) = (f64::from(few), f64::from(few) + f64::from(more));
            let costs = Costs::from_two(at(few), at(many));
            prop_assert!((costs.row_ns - row).abs() < 1e-3);
            prop_assert!((costs.dispatch_ns - dispatch).abs() < 1e-3 * many + 1e-3);
        }
    }
}
