//! Scaled integers: exact conversions from and to text, decimals and floats.

/// Decimal digits after the point of a scaled integer, 0 to [`Scale::MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scale(u8);

impl Scale {
    /// The largest scale: 10^18 is the largest power of ten in 64 bits.
    pub const MAX: u8 = 18;

    /// A scale, `None` above [`Self::MAX`].
    pub fn new(digits: u8) -> Option<Self> {
        (digits <= Self::MAX).then_some(Self(digits))
    }

    /// The number of digits.
    pub fn digits(self) -> u8 {
        self.0
    }

    /// Ten to the power of this scale.
    pub fn factor(self) -> i64 {
        10_i64.pow(u32::from(self.0))
    }
}
