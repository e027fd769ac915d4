//! Values that wait to be counted.

use super::dense::Dense;

/// Values in no order: as 16-bit distances from a base while all are near each other.
#[derive(Clone, Debug)]
pub(super) enum Waiting {
    /// Every value is `base`, at most [`BASE_MAX`], and its code.
    Narrow {
        base: i64,
        codes: Vec<u16>,
    },
    Wide(Vec<i64>),
}

/// The greatest distance that a code holds.
const CODE_MAX: u64 = u16::MAX as u64;

/// The greatest base: all its codes stand for 64-bit integers.
const BASE_MAX: i64 = i64::MAX - CODE_MAX as i64;

/// A base with room on both sides of a span of at most [`CODE_MAX`]; at the ends of 64 bits all
/// of it is on one.
fn base_of(least: i64, span: u64) -> i64 {
    least.saturating_sub(((CODE_MAX - span) / 2) as i64).min(BASE_MAX)
}

/// A base with much room on both sides of a value.
pub(crate) fn base_around(value: i64) -> i64 {
    base_of(value, 0)
}

/// A value's distance from a base; above [`CODE_MAX`] where it has no code.
pub(crate) fn distance(value: i64, base: i64) -> u64 {
    // Below the base it wraps: to more than CODE_MAX, because base + CODE_MAX does not.
    value.wrapping_sub(base).cast_unsigned()
}

/// Whether all of some distances, combined by "or", have codes.
pub(crate) fn are_codes(distances: u64) -> bool {
    distances <= CODE_MAX
}

impl Waiting {
    pub(super) const fn new() -> Self {
        Self::Narrow { base: 0, codes: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Narrow { codes, .. } => codes.len(),
            Self::Wide(values) => values.len(),
        }
    }

    pub(super) fn is_narrow(&self) -> bool {
        matches!(self, Self::Narrow { .. })
    }

    /// Adds a value.
    pub(super) fn push(&mut self, value: i64) {
        match self {
            Self::Narrow { base, codes } => match u16::try_from(distance(value, *base)) {
                Ok(code) => codes.push(code),
                Err(_) => self.extend_far(&[value]),
            },
            Self::Wide(values) => values.push(value),
        }
    }

    /// Adds values.
    pub(super) fn extend(&mut self, new: &[i64]) {
        match self {
            Self::Narrow { base, codes } => {
                let (base, before) = (*base, codes.len());
                let mut all = 0;
                codes.extend(new.iter().map(|&value| {
                    let distance = distance(value, base);
                    all |= distance;
                    distance as u16
                }));
                if !are_codes(all) {
                    codes.truncate(before);
                    self.extend_far(new);
                }
            }
            Self::Wide(values) => values.extend_from_slice(new),
        }
    }

    /// Adds values given as codes.
    pub(super) fn extend_codes(&mut self, of_base: i64, new: &[u16]) {
        match self {
            Self::Narrow { base, codes } if codes.is_empty() || *base == of_base => {
                *base = of_base;
                codes.extend_from_slice(new);
            }
            _ => new.iter().for_each(|&code| self.push(value(of_base, code))),
        }
    }

    /// Adds values that have no codes of the base, though perhaps of another.
    fn extend_far(&mut self, new: &[i64]) {
        let Self::Narrow { base, codes } = self else { return self.extend(new) };
        let held = code_range(codes);
        let held = held.map(|(least, most)| (value(*base, least), value(*base, most)));
        let (least, most) = held.into_iter().chain(range(new)).reduce(union).unwrap_or_default();
        let span = least.abs_diff(most);
        if span > CODE_MAX {
            let mut values: Vec<i64> = Vec::with_capacity(codes.len() + new.len());
            values.extend(codes.iter().map(|&code| value(*base, code)));
            values.extend_from_slice(new);
            *self = Self::Wide(values);
            return;
        }
        let around = base_of(least, span);
        let code = |value: i64| distance(value, around) as u16;
        codes.iter_mut().for_each(|held| *held = code(value(*base, *held)));
        codes.extend(new.iter().map(|&value| code(value)));
        *base = around;
    }

    /// The least and the greatest.
    pub(super) fn range(&self) -> Option<(i64, i64)> {
        match self {
            Self::Narrow { base, codes } => {
                let (least, most) = code_range(codes)?;
                Some((value(*base, least), value(*base, most)))
            }
            Self::Wide(values) => range(values),
        }
    }

    pub(super) fn for_each(&self, mut each: impl FnMut(i64)) {
        match self {
            Self::Narrow { base, codes } => codes.iter().for_each(|&code| each(value(*base, code))),
            Self::Wide(values) => values.iter().for_each(|&value| each(value)),
        }
    }

    /// Every `step`-th value.
    pub(super) fn sample(&self, step: usize) -> Vec<i64> {
        match self {
            Self::Narrow { base, codes } => {
                codes.iter().step_by(step).map(|&code| value(*base, code)).collect()
            }
            Self::Wide(values) => values.iter().step_by(step).copied().collect(),
        }
    }

    /// All values, ascending; they still wait.
    pub(super) fn sorted(&mut self) -> Vec<i64> {
        match self {
            Self::Narrow { base, codes } => {
                codes.sort_unstable();
                codes.iter().map(|&code| value(*base, code)).collect()
            }
            Self::Wide(values) => {
                values.sort_unstable();
                values.clone()
            }
        }
    }

    /// Takes the memory of so many values, and no more.
    pub(super) fn make_room(&mut self, len: usize) {
        match self {
            Self::Narrow { codes, .. } => codes.reserve_exact(len.saturating_sub(codes.len())),
            Self::Wide(values) => values.reserve_exact(len.saturating_sub(values.len())),
        }
    }

    /// Counts those values that are in the span, and leaves the others; whether all were.
    pub(super) fn count_into(&mut self, dense: &mut Dense) -> bool {
        let mut outside = Vec::new();
        match self {
            Self::Narrow { base, codes } => {
                let values = codes.iter().map(|&code| value(*base, code));
                dense.count(values, |value| outside.push(value));
                codes.clear();
            }
            Self::Wide(values) => {
                dense.count(values.iter().copied(), |value| outside.push(value));
                values.clear();
            }
        }
        self.extend(&outside);
        outside.is_empty()
    }

    /// Forgets all values, and memory beyond that of so many.
    pub(super) fn clear(&mut self, keep: usize) {
        match self {
            Self::Narrow { codes, .. } => {
                codes.clear();
                codes.shrink_to(keep);
            }
            Self::Wide(values) => {
                values.clear();
                values.shrink_to(keep);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Narrow { codes, .. } => codes.capacity() * size_of::<u16>(),
            Self::Wide(values) => values.capacity() * size_of::<i64>(),
        }
    }
}

/// The value of a code.
pub(super) fn value(base: i64, code: u16) -> i64 {
    // The way back of `distance`, exact modulo 2^64.
    base.wrapping_add(code.into())
}

/// The least and the greatest.
fn range(values: &[i64]) -> Option<(i64, i64)> {
    Some((*values.iter().min()?, *values.iter().max()?))
}

/// The least and the greatest code.
fn code_range(codes: &[u16]) -> Option<(u16, u16)> {
    // In the order of signed integers, which every machine compares many at a time.
    const SIGN: u16 = 1 << 15;
    let signed = codes.iter().map(|code| (code ^ SIGN).cast_signed());
    let (least, most) =
        signed.fold((i16::MAX, i16::MIN), |range, code| (range.0.min(code), range.1.max(code)));
    (!codes.is_empty()).then_some((least.cast_unsigned() ^ SIGN, most.cast_unsigned() ^ SIGN))
}

/// The least and the greatest of two such pairs.
fn union(a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
    (a.0.min(b.0), a.1.max(b.1))
}
