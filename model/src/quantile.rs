//! Quantiles as exact decimals: which rank one asks for, and how it is written.

use std::fmt;

use crate::units::Decimal;

/// The digits after the point that a quantile may have.
const DIGITS_MAX: usize = 9;
const WHOLE: u32 = 10_u32.pow(DIGITS_MAX as u32);

/// A quantile q, 0 < q ≤ 1, as a whole number of billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantile(u32);

/// Why a text is no quantile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantileProblem {
    /// It is no decimal number.
    NoNumber,
    /// It is not above 0 and at most 1.
    Range,
    /// It has more than 9 digits after the point.
    Digits,
}

impl Quantile {
    /// One half.
    pub const MEDIAN: Self = Self(WHOLE / 2);

    /// From billionths; `None` outside 1 to 1,000,000,000.
    pub const fn from_billionths(billionths: u32) -> Option<Self> {
        match billionths {
            1..=WHOLE => Some(Self(billionths)),
            _ => None,
        }
    }

    /// From decimal text, exactly: `0.50` and `5e-1` are `0.5`.
    ///
    /// # Errors
    ///
    /// [`QuantileProblem`].
    pub fn parse(text: &str) -> Result<Self, QuantileProblem> {
        let decimal = Decimal::parse(text.as_bytes()).ok_or(QuantileProblem::NoNumber)?;
        let Decimal { negative, digits, exponent } = decimal;
        // The first digit is not zero: the value lies within 10^magnitude/10 ..< 10^magnitude.
        let magnitude = exponent.saturating_add(i64::try_from(digits.len()).unwrap_or(i64::MAX));
        let is_one = digits == [1] && exponent == 0;
        if negative || digits.is_empty() || magnitude > 0 && !is_one {
            return Err(QuantileProblem::Range);
        }
        let missing = exponent.saturating_add(DIGITS_MAX as i64);
        let missing = u32::try_from(missing).map_err(|_| QuantileProblem::Digits)?;
        // At most 1 in value and at most 9 digits after the point: at most 10^9 in all.
        let number = digits.iter().fold(0, |number, &digit| number * 10 + u32::from(digit));
        Ok(Self(number * 10_u32.pow(missing)))
    }

    /// The quantile in billionths.
    pub fn billionths(self) -> u32 {
        self.0
    }

    /// The rank ⌈q·n⌉ among n values, from 1; 0 only where there is no value.
    pub fn rank(self, n: u64) -> u64 {
        // At most n, because q is at most 1.
        (u128::from(n) * u128::from(self.0)).div_ceil(u128::from(WHOLE)) as u64
    }

    /// The percentile as names have it: `p50`, `p99_9`, `p100`.
    pub fn label(self) -> String {
        // A percent is 10^7 billionths.
        let (whole, fraction) = (self.0 / 10_000_000, self.0 % 10_000_000);
        match fraction {
            0 => format!("p{whole}"),
            _ => format!("p{whole}_{fraction:07}").trim_end_matches('0').to_owned(),
        }
    }
}

impl fmt::Display for Quantile {
    /// The one decimal text, without zeros at the end: `0.5`, `1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            WHOLE => f.write_str("1"),
            billionths => f.write_str(format!("0.{billionths:09}").trim_end_matches('0')),
        }
    }
}

#[cfg(test)]
mod tests;
