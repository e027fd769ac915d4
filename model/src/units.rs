//! Scaled integers: exact conversions from and to text, decimals and floats.

use crate::schema::Inexact;
use crate::ticks::RejectReason;

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

    /// The scaled integer that decimal text stands for, exactly: an optional sign, digits with an
    /// optional point (at least one digit), an optional exponent. No blanks.
    ///
    /// # Errors
    ///
    /// [`RejectReason::Malformed`] for any other text; [`RejectReason::Inexact`] when digits other
    /// than zero remain behind the scale; [`RejectReason::OutOfBounds`] outside 64 bits.
    pub fn parse_decimal(self, text: impl AsRef<[u8]>) -> Result<i64, RejectReason> {
        self.parse_decimal_as(text, Inexact::Reject)
    }

    /// As [`parse_decimal`](Self::parse_decimal); with [`Inexact::Round`], digits behind the scale
    /// round the decimal itself to the nearest integer, ties to even.
    ///
    /// # Errors
    ///
    /// As for [`parse_decimal`](Self::parse_decimal).
    pub fn parse_decimal_as(
        self,
        text: impl AsRef<[u8]>,
        inexact: Inexact,
    ) -> Result<i64, RejectReason> {
        let text = text.as_ref();
        if let Some(value) = self.parse_short(text) {
            return Ok(value);
        }
        self.scale_decimal(&Decimal::parse(text).ok_or(RejectReason::Malformed)?, inexact)
    }

    /// The common case: at most 18 digits, no exponent, no more fraction digits than the scale.
    /// `None` leaves the text to the general way.
    fn parse_short(self, text: &[u8]) -> Option<i64> {
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        if digits.len() > 19 {
            return None;
        }
        let (mut value, mut count, mut fraction) = (0_u64, 0_u8, None);
        for &byte in digits {
            match byte {
                b'0'..=b'9' => {
                    value = value * 10 + u64::from(byte - b'0');
                    count += 1;
                }
                b'.' if fraction.is_none() => fraction = Some(count),
                _ => return None,
            }
        }
        if count == 0 || count > 18 {
            return None;
        }
        let missing = self.0.checked_sub(count - fraction.unwrap_or(count))?;
        let value = i64::try_from(value).ok()?.checked_mul(10_i64.pow(u32::from(missing)))?;
        Some(if negative { -value } else { value })
    }

    fn scale_decimal(self, decimal: &Decimal, inexact: Inexact) -> Result<i64, RejectReason> {
        if decimal.digits.is_empty() {
            return Ok(0);
        }
        // The last digit is not zero, so a negative power of ten leaves a fraction.
        let zeros = decimal.exponent.saturating_add(i64::from(self.0));
        if zeros < 0 && inexact == Inexact::Reject {
            return Err(RejectReason::Inexact);
        }
        let behind = usize::try_from(zeros.saturating_neg().max(0)).unwrap_or(usize::MAX);
        let Some(whole) = decimal.digits.len().checked_sub(behind) else {
            return Ok(0); // below a tenth of a unit
        };
        let (whole, fraction) = decimal.digits.split_at(whole);
        let magnitude = whole
            .iter()
            .try_fold(0_u64, |value, &digit| value.checked_mul(10)?.checked_add(u64::from(digit)));
        let odd = whole.last().is_some_and(|digit| digit % 2 == 1);
        let up = match fraction {
            [] | [0..5, ..] => false,
            [5] => odd,
            _ => true,
        };
        let factor = u32::try_from(zeros.max(0)).ok().and_then(|zeros| 10_u64.checked_pow(zeros));
        let magnitude = magnitude
            .zip(factor)
            .and_then(|(value, factor)| value.checked_mul(factor)?.checked_add(u64::from(up)));
        let signed = magnitude.map(|value| match decimal.negative {
            true => -i128::from(value),
            false => i128::from(value),
        });
        signed.and_then(|value| i64::try_from(value).ok()).ok_or(RejectReason::OutOfBounds)
    }

    /// The integer at this scale equal to `value / 10^from`, for decimals and integers that come
    /// with a scale of their own (which may be negative).
    ///
    /// # Errors
    ///
    /// [`RejectReason::Inexact`] when digits other than zero remain behind this scale;
    /// [`RejectReason::OutOfBounds`] outside 64 bits.
    pub fn rescale(self, value: i128, from: i32) -> Result<i64, RejectReason> {
        if value == 0 {
            return Ok(0);
        }
        let shift = i64::from(self.0) - i64::from(from);
        let factor = u32::try_from(shift.unsigned_abs()).ok().and_then(|n| 10_i128.checked_pow(n));
        let scaled = match (shift >= 0, factor) {
            (true, Some(factor)) => value.checked_mul(factor),
            (true, None) => None,
            (false, Some(factor)) if value % factor == 0 => Some(value / factor),
            (false, _) => return Err(RejectReason::Inexact),
        };
        scaled.and_then(|value| i64::try_from(value).ok()).ok_or(RejectReason::OutOfBounds)
    }

    /// The scaled integer of a float. With m the integer nearest to x·10^s (ties to even), x is
    /// exact iff |m| ≤ 2^53 and the float nearest to m/10^s is x; −0 is 0.
    ///
    /// # Errors
    ///
    /// [`RejectReason::NotFinite`] for NaN and infinities. A float that is not exact is
    /// [`RejectReason::Inexact`] under [`Inexact::Reject`]; under [`Inexact::Round`] it becomes m,
    /// or [`RejectReason::OutOfBounds`] when m has no 64 bits.
    pub fn from_f64(self, x: f64, inexact: Inexact) -> Result<i64, RejectReason> {
        let power = POWERS_F64[usize::from(self.0)];
        let product = x * power;
        // Below 2^51 the rounded product decides: where rounding it could pick another integer
        // than m, x·10^s lies within 2^-2 of a half-integer, while an exact x lies within
        // |x·10^s|·2^-53 < 2^-2 of m; so neither integer gives back x.
        if product.abs() < TWO_51 {
            let m = round_small(product);
            if m / power == x {
                return Ok(m as i64);
            }
        }
        let m = self.nearest(x)?;
        let exact = m.is_some_and(|m| m.unsigned_abs() <= 1 << 53 && m as f64 / power == x);
        accept(m, exact, inexact)
    }

    /// As [`from_f64`](Self::from_f64) for a binary32, with |m| ≤ 2^24 and the binary32 nearest
    /// to m/10^s.
    ///
    /// # Errors
    ///
    /// As [`from_f64`](Self::from_f64).
    pub fn from_f32(self, x: f32, inexact: Inexact) -> Result<i64, RejectReason> {
        let product = f64::from(x) * POWERS_F64[usize::from(self.0)];
        // As for binary64: below 2^22 an exact x lies within |x·10^s|·2^-24 < 2^-2 of m.
        if product.abs() < TWO_22 {
            let m = round_small(product) as i64;
            if self.nearest_f32(m) == x {
                return Ok(m);
            }
        }
        let m = self.nearest(f64::from(x))?;
        let exact = m.is_some_and(|m| m.unsigned_abs() <= 1 << 24 && self.nearest_f32(m) == x);
        accept(m, exact, inexact)
    }

    /// The integer nearest to the exact x·10^s, ties to even; `None` outside 64 bits.
    fn nearest(self, x: f64) -> Result<Option<i64>, RejectReason> {
        if !x.is_finite() {
            return Err(RejectReason::NotFinite);
        }
        let bits = x.to_bits();
        let (fraction, exponent) = (bits & ((1 << 52) - 1), (bits >> 52 & 0x7FF) as i32);
        let (significand, exponent) = match exponent {
            0 => (fraction, -1074),
            _ => (fraction | 1 << 52, exponent - 1075),
        };
        // 53 bits times 60 bits.
        let product = u128::from(significand) * self.factor() as u128;
        let magnitude = match exponent {
            // 2^53 or more before the shift is counted, so 2^63 is passed soon.
            0.. if product == 0 => Some(0),
            0.. if exponent >= 64 || product >> (127 - exponent) != 0 => None,
            0.. => Some(product << exponent),
            -127..0 => {
                let shift = exponent.unsigned_abs();
                let (whole, rest) = (product >> shift, product & ((1 << shift) - 1));
                let half = 1_u128 << (shift - 1);
                Some(whole + u128::from(rest > half || rest == half && whole & 1 == 1))
            }
            // Less than 2^113 · 2^-128.
            _ => Some(0),
        };
        let signed = magnitude.and_then(|m| i128::try_from(m).ok());
        let signed = signed.map(|m| if x < 0.0 { -m } else { m });
        Ok(signed.and_then(|m| i64::try_from(m).ok()))
    }

    /// The binary32 nearest to m/10^s, for |m| ≤ 2^24. Rounding to binary64 first changes nothing:
    /// it could only where a quotient comes out as the middle between two binary32, and none does
    /// (`no_quotient_is_a_middle` tries them all).
    fn nearest_f32(self, m: i64) -> f32 {
        (m as f64 / POWERS_F64[usize::from(self.0)]) as f32
    }
}

fn accept(m: Option<i64>, exact: bool, inexact: Inexact) -> Result<i64, RejectReason> {
    match (m, inexact) {
        (Some(m), _) if exact => Ok(m),
        (_, Inexact::Reject) => Err(RejectReason::Inexact),
        (m, Inexact::Round) => m.ok_or(RejectReason::OutOfBounds),
    }
}

const TWO_51: f64 = (1_u64 << 51) as f64;
const TWO_22: f64 = (1_u64 << 22) as f64;

/// Powers of ten; all are exact, as is every power up to 10^22.
const POWERS_F64: [f64; 19] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18,
];

/// The nearest integer, ties to even, of |x| < 2^51, by one addition in whose range integers are
/// the only floats; unlike `round` it is no call on any target.
fn round_small(x: f64) -> f64 {
    const MAGIC: f64 = 1.5 * (1_u64 << 52) as f64;
    (x + MAGIC) - MAGIC
}

/// Decimal text, taken apart: the value is ±digits·10^exponent.
pub(crate) struct Decimal {
    pub(crate) negative: bool,
    /// Digits, without zeros at either end; none for the value 0.
    pub(crate) digits: Vec<u8>,
    pub(crate) exponent: i64,
}

impl Decimal {
    /// `None` when the text is no decimal number.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let (number, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let (whole, fraction) = match number.iter().position(|&byte| byte == b'.') {
            Some(at) => (&number[..at], &number[at + 1..]),
            None => (number, &number[..0]),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut digits = Vec::with_capacity(number.len());
        for byte in whole.iter().chain(fraction) {
            match byte {
                b'0' if digits.is_empty() => {}
                b'0'..=b'9' => digits.push(byte - b'0'),
                _ => return None,
            }
        }
        let mut exponent = exponent.saturating_sub(i64::try_from(fraction.len()).ok()?);
        while digits.last() == Some(&0) {
            digits.pop();
            exponent = exponent.saturating_add(1);
        }
        Some(Self { negative, digits, exponent })
    }
}

/// An exponent; one beyond 10^9 is cut to there, where no conversion succeeds any more.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return None;
    }
    let magnitude = digits.iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'9' => Some((value * 10 + i64::from(byte - b'0')).min(1_000_000_000)),
        _ => None,
    })?;
    Some(if negative { -magnitude } else { magnitude })
}

/// A scaled integer as a plain decimal with exactly `scale` digits after the point: 1012500 at
/// scale 4 is `101.2500`; at scale 0 there is no point. Exact for every value.
pub fn format_scaled(value: i128, scale: Scale) -> String {
    let digits = usize::from(scale.0);
    let magnitude = value.unsigned_abs();
    let sign = if value < 0 { "-" } else { "" };
    if digits == 0 {
        return format!("{sign}{magnitude}");
    }
    let factor = scale.factor() as u128;
    format!("{sign}{}.{:0digits$}", magnitude / factor, magnitude % factor)
}

/// A binary64 as the shortest decimal that reads back as the same float: plain digits from 1e-7
/// to below 1e21, `1.5e300` beyond. Also a JSON number, for every finite value.
pub fn format_f64(x: f64) -> String {
    match x.abs() {
        magnitude if x == 0.0 || (1e-7..1e21).contains(&magnitude) => format!("{x}"),
        _ => format!("{x:e}"),
    }
}

#[cfg(test)]
mod tests;
