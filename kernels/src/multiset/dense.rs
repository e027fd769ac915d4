//! How often each integer of a narrow span occurs.

/// Counts of the integers from `base` on, never of none.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    pub(super) base: i64,
    cells: Cells,
    /// The sum of the counts: at most what one cell holds, so that none overflows.
    len: u64,
}

/// A count for each integer: in 16 bits while all of them together fit one.
#[derive(Clone, Debug)]
enum Cells {
    Small(Vec<u16>),
    Large(Vec<u32>),
}

impl Dense {
    /// Of `span` integers, none of which occurs.
    pub(super) fn new(base: i64, span: usize) -> Self {
        Self { base, cells: Cells::Small(vec![0; span]), len: 0 }
    }

    /// The same counts in a span that holds this one's.
    pub(super) fn within(&self, base: i64, span: usize) -> Self {
        fn moved<T: Copy + Default>(cells: &[T], at: usize, span: usize) -> Vec<T> {
            let mut wider = vec![T::default(); span];
            wider[at..at + cells.len()].copy_from_slice(cells);
            wider
        }
        let at = self.base.abs_diff(base) as usize;
        let cells = match &self.cells {
            Cells::Small(cells) => Cells::Small(moved(cells, at, span)),
            Cells::Large(cells) => Cells::Large(moved(cells, at, span)),
        };
        Self { base, cells, len: self.len }
    }

    /// How many values were counted.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn span(&self) -> usize {
        match &self.cells {
            Cells::Small(cells) => cells.len(),
            Cells::Large(cells) => cells.len(),
        }
    }

    /// The last integer that has a count.
    pub(super) fn last(&self) -> i64 {
        // The span was measured between two 64-bit integers, and is never empty.
        self.base.wrapping_add((self.span() - 1) as i64)
    }

    /// Whether so many more values may be counted, each as often as it occurs; widens counts
    /// where that needs it.
    pub(super) fn make_room(&mut self, values: usize) -> bool {
        let len = self.len + values as u64;
        if let Cells::Small(cells) = &self.cells
            && len > u16::MAX.into()
        {
            self.cells = Cells::Large(cells.iter().map(|&count| count.into()).collect());
        }
        len <= u32::MAX.into()
    }

    /// Counts those values that are in the span, and gives the others to `outside`. There is
    /// room for them all.
    pub(super) fn count(
        &mut self,
        values: impl ExactSizeIterator<Item = i64>,
        outside: impl FnMut(i64),
    ) {
        /// How many were in the span.
        fn bump<T>(
            cells: &mut [T],
            base: i64,
            values: impl Iterator<Item = i64>,
            one_more: impl Fn(&mut T),
            mut outside: impl FnMut(i64),
        ) -> u64 {
            let mut left = 0;
            for value in values {
                // Below the base it wraps to more than any span.
                let at = usize::try_from(value.wrapping_sub(base).cast_unsigned());
                match at.ok().and_then(|at| cells.get_mut(at)) {
                    Some(count) => one_more(count),
                    None => {
                        outside(value);
                        left += 1;
                    }
                }
            }
            left
        }
        // Counts do not wrap: none is above `len`, for which there is room.
        let all = values.len() as u64;
        let left = match &mut self.cells {
            Cells::Small(cells) => {
                assert!(self.len + all <= u16::MAX.into(), "room was made");
                let one_more = |count: &mut u16| *count = count.wrapping_add(1);
                bump(cells, self.base, values, one_more, outside)
            }
            Cells::Large(cells) => {
                assert!(self.len + all <= u32::MAX.into(), "room was made");
                let one_more = |count: &mut u32| *count = count.wrapping_add(1);
                bump(cells, self.base, values, one_more, outside)
            }
        };
        self.len += all - left;
    }

    /// Adds the counts to others, from the first integer on.
    pub(super) fn add_to<T>(&self, sums: &mut [T], add: impl Fn(&mut T, u32)) {
        match &self.cells {
            Cells::Small(cells) => {
                sums.iter_mut().zip(cells).for_each(|(sum, &count)| add(sum, count.into()));
            }
            Cells::Large(cells) => {
                sums.iter_mut().zip(cells).for_each(|(sum, &count)| add(sum, count));
            }
        }
    }

    /// Each value that occurs, ascending, and how often.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, u64)> {
        let count = |at: usize| match &self.cells {
            Cells::Small(cells) => u64::from(cells[at]),
            Cells::Large(cells) => cells[at].into(),
        };
        let values = (self.base..=self.last()).zip((0..self.span()).map(count));
        values.filter(|(_, count)| *count > 0)
    }

    /// As if the `at`-th integer had come so many times more.
    #[cfg(test)]
    pub(super) fn add_unseen(&mut self, at: usize, more: u32) {
        assert!(self.make_room(more as usize));
        let Cells::Large(cells) = &mut self.cells else { panic!("more than 16 bits hold") };
        cells[at] += more;
        self.len += u64::from(more);
    }

    #[cfg(test)]
    pub(super) fn is_small(&self) -> bool {
        matches!(self.cells, Cells::Small(_))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        match &self.cells {
            Cells::Small(cells) => cells.capacity() * size_of::<u16>(),
            Cells::Large(cells) => cells.capacity() * size_of::<u32>(),
        }
    }
}
