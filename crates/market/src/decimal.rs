//! Exact decimal numbers that keep their digits.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    num::NonZeroU8,
    str::FromStr,
};

/// A number of at most 18 digits before the point and 18 after it, never negative. `1.10` stays `1.10`, yet equals `1.1`.
///
/// Written in plain notation only: digits, and a point with digits on both sides. No sign, exponent, space or leading zero (`007`), so
/// that every accepted text is given out again byte for byte.
#[derive(Clone, Copy)]
pub struct Decimal {
    whole: u64,
    /// The digits after the point as a number; below 10^scale.
    fraction: u64,
    /// The number of digits after the point plus one, so that an absent decimal needs no room of its own.
    scale: NonZeroU8,
}

/// Why a text is not a decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Something else than digits and one point between digits.
    #[error("is not a number in plain notation such as 1.0825 (no sign, exponent, space or leading zero)")]
    Notation,
    /// More than [`Decimal::DIGITS_MAX`] digits before or after the point.
    #[error("has more than 18 digits before or after the point")]
    TooManyDigits,
}

impl Decimal {
    /// The longest run of digits on each side of the point.
    pub const DIGITS_MAX: u8 = 18;
    /// Zero, without a point.
    pub const ZERO: Self = Self { whole: 0, fraction: 0, scale: NonZeroU8::MIN };

    /// Reads a decimal.
    ///
    /// # Errors
    /// If the text is not plain notation or has too many digits.
    pub fn parse(text: &[u8]) -> Result<Self, DecimalError> {
        let (whole, rest) = digits(text)?;
        let whole_digits = text.len() - rest.len();
        if whole_digits == 0 || (text[0] == b'0' && whole_digits > 1) {
            return Err(DecimalError::Notation);
        }
        let Some((&point, rest)) = rest.split_first() else {
            return Ok(Self { whole, fraction: 0, scale: NonZeroU8::MIN });
        };
        let (fraction, tail) = digits(rest)?;
        if point != b'.' || rest.is_empty() || !tail.is_empty() {
            return Err(DecimalError::Notation);
        }
        let places = u8::try_from(rest.len()).map_err(|_| DecimalError::TooManyDigits)?;
        Ok(Self { whole, fraction, scale: NonZeroU8::MIN.saturating_add(places) })
    }

    /// The number `mantissa / 10^scale` written with `scale` digits after the point; `None` if it has too many digits.
    #[must_use]
    pub fn from_parts(mantissa: u128, scale: u8) -> Option<Self> {
        if scale > Self::DIGITS_MAX {
            return None;
        }
        let unit = u128::from(POWERS[usize::from(scale)]);
        let whole = u64::try_from(mantissa / unit).ok().filter(|&whole| whole < POWERS[18])?;
        let fraction = u64::try_from(mantissa % unit).ok()?;
        Some(Self { whole, fraction, scale: NonZeroU8::MIN.saturating_add(scale) })
    }

    /// All its digits as one number: the value times `10^scale`.
    #[must_use]
    pub fn mantissa(self) -> u128 {
        u128::from(self.whole) * u128::from(POWERS[usize::from(self.scale())]) + u128::from(self.fraction)
    }

    /// The number of digits after the point.
    #[must_use]
    pub fn scale(self) -> u8 {
        self.scale.get() - 1
    }

    /// Whether its value is zero, however it is written.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.whole == 0 && self.fraction == 0
    }

    /// The number half way between two, with as few digits after the point as that takes but no fewer than either has. Exact unless it
    /// needs a nineteenth digit, which is cut off.
    #[must_use]
    pub fn midpoint(self, other: Self) -> Self {
        let mut scale = self.scale().max(other.scale());
        let unit = POWERS[usize::from(scale)];
        let whole = self.whole + other.whole;
        // Twice the fraction of the midpoint: below three units, which 64 bits hold. No step divides by anything but a constant.
        let twice = self.fraction_at(scale) + other.fraction_at(scale) + whole % 2 * unit;
        let carry = u64::from(twice >= 2 * unit);
        let twice = twice - carry * 2 * unit;
        let fraction = if twice % 2 == 1 && scale < Self::DIGITS_MAX {
            scale += 1;
            twice * 5
        } else {
            twice / 2
        };
        Self { whole: whole / 2 + carry, fraction, scale: NonZeroU8::MIN.saturating_add(scale) }
    }

    /// The fraction times `10^scale`, for a scale no smaller than the number's own.
    fn fraction_at(self, scale: u8) -> u64 {
        self.fraction * POWERS[usize::from(scale - self.scale())]
    }

    /// Appends the number's text.
    pub fn write(self, out: &mut Vec<u8>) {
        write_integer(out, self.whole);
        let places = usize::from(self.scale());
        if places > 0 {
            let start = out.len() + 1;
            out.extend_from_slice(b".000000000000000000");
            out.truncate(start + places);
            let mut rest = self.fraction;
            for digit in out[start..].iter_mut().rev() {
                *digit = digit_of(rest);
                rest /= 10;
            }
        }
    }

    /// Whole part and fraction on the scale of 18 digits: equal for equal values, ordered as they are.
    fn key(self) -> (u64, u64) {
        (self.whole, self.fraction * POWERS[usize::from(Self::DIGITS_MAX - self.scale())])
    }
}

const POWERS: [u64; 19] = {
    let mut powers = [1; 19];
    let mut place = 1;
    while place < powers.len() {
        powers[place] = powers[place - 1] * 10;
        place += 1;
    }
    powers
};

/// The number that the text's leading digits make, and what follows them.
fn digits(text: &[u8]) -> Result<(u64, &[u8]), DecimalError> {
    let mut value = 0_u64;
    for (place, &byte) in text.iter().enumerate() {
        if !byte.is_ascii_digit() {
            return Ok((value, &text[place..]));
        }
        if place == usize::from(Decimal::DIGITS_MAX) {
            return Err(DecimalError::TooManyDigits);
        }
        value = value * 10 + u64::from(byte - b'0');
    }
    Ok((value, &[]))
}

const fn digit_of(value: u64) -> u8 {
    b'0' + (value % 10) as u8
}

/// Appends a whole number without an allocation.
pub(crate) fn write_integer(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = digit_of(value);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Decimal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::from(self.scale()) {
            0 => write!(f, "{}", self.whole),
            places => write!(f, "{}.{:0places$}", self.whole, self.fraction),
        }
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn only_plain_notation_is_a_number() {
        for text in ["0", "0.5", "1.10", "007.5x", "999999999999999999.999999999999999999", "0.000000000000000001"] {
            let plain = !text.starts_with("007");
            assert_eq!(Decimal::parse(text.as_bytes()).is_ok(), plain, "{text}");
        }
        for text in
            ["", ".", ".5", "5.", "-1", "+1", "1e5", "1E5", " 1", "1 ", "1,5", "0x1", "007", "00", "1.2.3", "NaN", "١"]
        {
            assert_eq!(Decimal::parse(text.as_bytes()), Err(DecimalError::Notation), "{text}");
        }
        for text in ["1000000000000000000", "0.1000000000000000000", "99999999999999999999999999999999999999999"] {
            assert_eq!(Decimal::parse(text.as_bytes()), Err(DecimalError::TooManyDigits), "{text}");
        }
    }

    #[test]
    fn values_compare_as_numbers_and_print_as_written() {
        assert_eq!(decimal("1.10"), decimal("1.1"));
        assert!(decimal("1.09") < decimal("1.1") && decimal("10") > decimal("9.999"));
        assert_eq!(decimal("1.10").to_string(), "1.10");
        assert!(decimal("0.000").is_zero() && !decimal("0.001").is_zero());
    }

    #[test]
    fn the_midpoint_takes_a_digit_more_only_when_it_must() {
        assert_eq!(decimal("1.0824").midpoint(decimal("1.0826")).to_string(), "1.0825");
        assert_eq!(decimal("1.0825").midpoint(decimal("1.0826")).to_string(), "1.08255");
        assert_eq!(decimal("3").midpoint(decimal("4.00")).to_string(), "3.50");
        let top = decimal("999999999999999999.999999999999999999");
        assert_eq!(top.midpoint(top).to_string(), top.to_string());
    }

    #[test]
    fn an_absent_decimal_needs_no_room_of_its_own() {
        assert_eq!(size_of::<Option<Decimal>>(), 24);
    }

    proptest! {
        #[test]
        fn every_accepted_text_is_given_out_again(text in "(0|[1-9][0-9]{0,17})(\\.[0-9]{1,18})?") {
            let value = decimal(&text);
            let mut out = Vec::new();
            value.write(&mut out);
            prop_assert_eq!(std::str::from_utf8(&out).unwrap(), &text);
            prop_assert_eq!(value.to_string(), text);
            let again = Decimal::from_parts(value.mantissa(), value.scale()).unwrap();
            prop_assert_eq!((again, again.scale()), (value, value.scale()));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let _ = Decimal::parse(&bytes);
        }

        #[test]
        fn a_midpoint_is_half_the_sum(
            left in 0..10_u128.pow(18), right in 0..10_u128.pow(18), of in 0..=18_u8, and in 0..=18_u8, top: bool,
        ) {
            let top = if top { 10_u128.pow(18) - 1 } else { 0 };
            let number = |mantissa: u128, scale| Decimal::from_parts(top * 10_u128.pow(u32::from(scale)) + mantissa % 10_u128.pow(u32::from(scale)), scale).unwrap();
            let (a, b) = (number(left, of), number(right, and));
            let mid = a.midpoint(b);
            let at = |value: Decimal, scale: u8| value.mantissa() * 10_u128.pow(u32::from(scale - value.scale()));
            let scale = mid.scale();
            let twice = 2 * mid.mantissa();
            let cut = u128::from(scale == 18);
            prop_assert!(scale <= of.max(and) + 1);
            let sum = at(a, scale) + at(b, scale);
            prop_assert!(sum >= twice && sum - twice <= cut, "{} and {}: {}", a, b, mid);
        }

        #[test]
        fn the_order_is_that_of_the_numbers(left in 0..10_u128.pow(9), right in 0..10_u128.pow(9), places in 0..9_u8) {
            let (a, b) = (Decimal::from_parts(left, places).unwrap(), Decimal::from_parts(right, places).unwrap());
            prop_assert_eq!(a.cmp(&b), left.cmp(&right));
            let mid = a.midpoint(b);
            prop_assert!(a.min(b) <= mid && mid <= a.max(b));
        }

        #[test]
        fn integers_print_as_they_do_elsewhere(value: u64) {
            let mut out = Vec::new();
            write_integer(&mut out, value);
            prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
