//! Exact decimals: parsing from JSON's number text, sums, rounded quotients, plain printing.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A non-negative decimal with 12 digits after the point, as a count of 10⁻¹². Used for money (USD) and scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Fixed(pub i128);

/// Digits after the point of a [`Fixed`].
pub const FIXED_SCALE: u32 = 12;

/// Digits after the point of averages and rates.
pub const AVERAGE_SCALE: u32 = 9;

impl Fixed {
    /// The number of units in 1.
    pub const ONE: i128 = 10i128.pow(FIXED_SCALE);

    /// Parses the text of a JSON number, rounded half-even to 12 digits; at most `limit` whole units.
    pub fn parse(text: &str, limit: i128) -> Result<Fixed, NumberFault> {
        parse_scaled(text, FIXED_SCALE, limit * Fixed::ONE, Fraction::Round).map(Fixed)
    }
}

/// Why the text of a number cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFault {
    /// Below zero.
    Negative,
    /// Above the limit.
    TooLarge,
    /// Has a fraction where only whole numbers count.
    NotWhole,
    /// Not a JSON number.
    NotANumber,
}

/// What to do with digits beyond the scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fraction {
    /// Round half-even.
    Round,
    /// Refuse the number.
    Refuse,
}

/// Parses the text of a JSON number into a count of 10⁻ˢᶜᵃˡᵉ. `limit` is in that unit, below 10³⁶, and holds for the exact value,
/// before rounding.
pub fn parse_scaled(text: &str, scale: u32, limit: i128, fraction: Fraction) -> Result<i128, NumberFault> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || !whole.bytes().chain(decimals.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(NumberFault::NotANumber);
    }
    // `place` is the power of ten of the next digit, counted in units of the result.
    let mut place = whole.len() as i64 - 1 + exponent + i64::from(scale);
    let (mut units, mut round_digit, mut sticky) = (0i128, 0u8, false);
    for digit in whole.bytes().chain(decimals.bytes()).map(|b| b - b'0') {
        match place {
            0.. => units = units * 10 + i128::from(digit),
            -1 => round_digit = digit,
            _ => sticky |= digit != 0,
        }
        if units > limit {
            return Err(if negative { NumberFault::Negative } else { NumberFault::TooLarge });
        }
        place -= 1;
    }
    while place >= 0 && units != 0 {
        units *= 10;
        place -= 1;
        if units > limit {
            return Err(if negative { NumberFault::Negative } else { NumberFault::TooLarge });
        }
    }
    let inexact = round_digit != 0 || sticky;
    if negative && (units != 0 || inexact) {
        return Err(NumberFault::Negative);
    }
    if units == limit && inexact {
        return Err(NumberFault::TooLarge);
    }
    if fraction == Fraction::Refuse && inexact {
        return Err(NumberFault::NotWhole);
    }
    let up = round_digit > 5 || (round_digit == 5 && (sticky || units % 2 == 1));
    Ok(units + i128::from(up))
}

/// Exponents are clamped: beyond ±10⁹ every digit is far out of range or far below the last place anyway.
fn parse_exponent(text: &str) -> Result<i64, NumberFault> {
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NumberFault::NotANumber);
    }
    let magnitude = digits.bytes().fold(0i64, |sum, b| (sum * 10 + i64::from(b - b'0')).min(1_000_000_000));
    Ok(sign * magnitude)
}

/// `numerator / denominator` rounded half-even to a whole number; `denominator` is above zero, `numerator` not below.
pub fn divide_half_even(numerator: i128, denominator: i128) -> i128 {
    let (quotient, remainder) = (numerator / denominator, numerator % denominator);
    match (remainder * 2).cmp(&denominator) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient % 2,
    }
}

/// The mean of `count` values that add up to `sum` units of 10⁻ˢᶜᵃˡᵉ, in units of 10⁻⁹, rounded half-even; `None` for no values.
pub fn average(sum: i128, count: u64, scale: u32) -> Option<Decimal> {
    if count == 0 {
        return None;
    }
    let (numerator, denominator) = match scale.checked_sub(AVERAGE_SCALE) {
        Some(surplus) => (sum, i128::from(count) * 10i128.pow(surplus)),
        None => (sum * 10i128.pow(AVERAGE_SCALE - scale), i128::from(count)),
    };
    Some(Decimal { units: divide_half_even(numerator, denominator), scale: AVERAGE_SCALE })
}

/// A decimal for printing: `units` × 10⁻ˢᶜᵃˡᵉ, without exponent and without trailing zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    /// The value, in units of the last place.
    pub units: i128,
    /// Digits after the point, at most 30.
    pub scale: u32,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = 10i128.pow(self.scale);
        let (whole, mut rest, mut width) = (self.units / one, self.units % one, self.scale as usize);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        while rest % 10 == 0 {
            rest /= 10;
            width -= 1;
        }
        write!(f, "{whole}.{rest:0width$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(text: &str) -> Result<i128, NumberFault> {
        Fixed::parse(text, 1_000_000_000_000).map(|f| f.0)
    }

    #[test]
    fn numbers_are_taken_exactly_as_written() {
        assert_eq!(fixed("0.92"), Ok(920_000_000_000));
        assert_eq!(fixed("1e3"), Ok(1000 * Fixed::ONE));
        assert_eq!(fixed("12.5E-1"), Ok(1_250_000_000_000));
        assert_eq!(fixed("-0"), Ok(0));
        assert_eq!(fixed("-0.0e7"), Ok(0));
        assert_eq!(fixed("0e999999999999999999"), Ok(0));
        assert_eq!(fixed("1e-999999999999"), Ok(0));
    }

    #[test]
    fn digits_beyond_the_scale_round_half_even() {
        assert_eq!(fixed("0.0000000000005"), Ok(0));
        assert_eq!(fixed("0.0000000000015"), Ok(2));
        assert_eq!(fixed("0.0000000000025"), Ok(2));
        assert_eq!(fixed("0.00000000000250000000000000000001"), Ok(3));
        assert_eq!(fixed("0.0000000000026"), Ok(3));
    }

    #[test]
    fn limits_hold_for_the_exact_value() {
        assert_eq!(fixed("1000000000000"), Ok(10i128.pow(24)));
        assert_eq!(fixed("1000000000000.0000000000001"), Err(NumberFault::TooLarge));
        assert_eq!(fixed("1e999999999999999999999"), Err(NumberFault::TooLarge));
        assert_eq!(fixed("-1e-300"), Err(NumberFault::Negative));
        assert_eq!(fixed("-5e20"), Err(NumberFault::Negative));
        assert_eq!(parse_scaled("4200.0", 0, 1 << 53, Fraction::Refuse), Ok(4200));
        assert_eq!(parse_scaled("4200.5", 0, 1 << 53, Fraction::Refuse), Err(NumberFault::NotWhole));
        assert_eq!(
            parse_scaled("9007199254740993", 0, 1 << 53, Fraction::Refuse),
            Err(NumberFault::TooLarge)
        );
    }

    #[test]
    fn averages_are_exact_then_rounded_half_even() {
        let sum = 5 * 920_000_000_000;
        assert_eq!(average(sum, 5, FIXED_SCALE).unwrap().to_string(), "0.92");
        assert_eq!(average(1, 3, 0).unwrap().to_string(), "0.333333333");
        assert_eq!(average(2, 3, 0).unwrap().to_string(), "0.666666667");
        assert_eq!(average(1, 2, AVERAGE_SCALE).unwrap().units, 0);
        assert_eq!(average(3, 2, AVERAGE_SCALE).unwrap().units, 2);
        assert_eq!(average(0, 0, 0), None);
    }

    #[test]
    fn decimals_print_plainly() {
        let print = |units, scale| Decimal { units, scale }.to_string();
        assert_eq!(print(0, 6), "0");
        assert_eq!(print(1_500_000, 6), "1.5");
        assert_eq!(print(1, 12), "0.000000000001");
        assert_eq!(print(10i128.pow(24), 12), "1000000000000");
    }
}
