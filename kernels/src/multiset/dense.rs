//! How often each integer of a narrow span occurs.

/// Counts of the integers from `base` on, never of none.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    pub(super) base: i64,
    /// A count for each integer, modulo 2^16: most are less, and small ones share the cache.
    cells: Vec<u16>,
    /// The cells that came to 2^16, each as often as it did.
    carries: Vec<u32>,
    /// The sum of the counts.
    len: u64,
}

/// What a carry stands for.
const CARRY: u32 = 1 << u16::BITS;

impl Dense {
    /// Of `span` integers, none of which occurs.
    pub(super) fn new(base: i64, span: usize) -> Self {
        Self { base, cells: vec![0; span], carries: Vec::new(), len: 0 }
    }

    /// The same counts in a span that holds this one's.
    pub(super) fn within(&self, base: i64, span: usize) -> Self {
        let at = self.base.abs_diff(base) as usize;
        let mut wider = Self::new(base, span);
        wider.cells[at..at + self.cells.len()].copy_from_slice(&self.cells);
        wider.carries.extend(self.carries.iter().map(|cell| cell + at as u32));
        wider.len = self.len;
        wider
    }

    /// How many values were counted.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn span(&self) -> usize {
        self.cells.len()
    }

    /// The last integer that has a count.
    pub(super) fn last(&self) -> i64 {
        // The span was measured between two 64-bit integers, and is never empty.
        self.base.wrapping_add((self.span() - 1) as i64)
    }

    /// Counts those values that are in the span, and gives the others to `outside`.
    pub(super) fn count(
        &mut self,
        values: impl ExactSizeIterator<Item = i64>,
        mut outside: impl FnMut(i64),
    ) {
        #[cold]
        fn carry(carries: &mut Vec<u32>, cell: usize) {
            // Spans are shorter than 2^32.
            carries.push(cell as u32);
        }
        let Self { base, cells, carries, len } = self;
        let (cells, base) = (&mut cells[..], *base);
        let (all, mut left) = (values.len() as u64, 0);
        for value in values {
            // Below the base it wraps to more than any span.
            let cell = usize::try_from(value.wrapping_sub(base).cast_unsigned());
            let cell = cell.unwrap_or(usize::MAX);
            match cells.get_mut(cell) {
                Some(count) => {
                    *count = count.wrapping_add(1);
                    if *count == 0 {
                        carry(carries, cell);
                    }
                }
                None => {
                    outside(value);
                    left += 1;
                }
            }
        }
        *len += all - left;
    }

    /// Adds the counts to others, from the first integer on.
    pub(super) fn add_to<T>(&self, sums: &mut [T], add: impl Fn(&mut T, u32)) {
        sums.iter_mut().zip(&self.cells).for_each(|(sum, &count)| add(sum, count.into()));
        self.carries.iter().for_each(|&cell| add(&mut sums[cell as usize], CARRY));
    }

    /// Each value that occurs, ascending, and how often.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, u64)> {
        let mut carries = self.carries.clone();
        carries.sort_unstable();
        let mut carries = carries.into_iter().peekable();
        let counts = (0_u32..).zip(&self.cells).map(move |(cell, &count)| {
            let carried = std::iter::from_fn(|| carries.next_if_eq(&cell)).count() as u64;
            u64::from(count) + carried * u64::from(CARRY)
        });
        (self.base..=self.last()).zip(counts).filter(|(_, count)| *count > 0)
    }

    /// As if the integer at a place had come 2^16 times as often as this more.
    #[cfg(test)]
    pub(super) fn carry(&mut self, cell: u32, times: usize) {
        self.carries.extend(std::iter::repeat_n(cell, times));
        self.len += times as u64 * u64::from(CARRY);
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<u16>() + self.carries.capacity() * size_of::<u32>()
    }
}
