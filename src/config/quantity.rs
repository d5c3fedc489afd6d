//! The written form of durations, sizes and integers, the same in settings, contract and command line.

use std::num::ParseIntError;
use std::time::Duration;

use thiserror::Error;

/// Units of a duration, greatest first, in milliseconds.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of a size, greatest first, in bytes.
const SIZE_UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Why a text is not a duration, size or integer.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum QuantityError {
    /// A bare number stands where a duration is asked for.
    #[error("a duration needs a unit: write {0}s, or use ms, m, h or d")]
    UnitMissing(String),
    /// The unit is none of those known.
    #[error("the unit {unit:?} is unknown: use one of {known}")]
    UnitUnknown {
        /// The unit as given.
        unit: String,
        /// All units that would do.
        known: &'static str,
    },
    /// The digits are not a whole number of at most 64 bits.
    #[error("{text:?} is not a whole number")]
    Number {
        /// The digits as given.
        text: String,
        /// What the standard parser found.
        source: ParseIntError,
    },
    /// The number fits, but not with its unit.
    #[error("the value is too large")]
    TooLarge,
}

/// Reads a duration such as `250ms`, `30s`, `5m`, `1h`, `35d`: one whole number and one unit.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let (digits, unit) = split_unit(text);
    let count = parse_integer(digits)?;
    if unit.is_empty() {
        return Err(QuantityError::UnitMissing(text.trim().to_owned()));
    }
    let (_, unit_ms) = DURATION_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| QuantityError::UnitUnknown { unit: unit.to_owned(), known: "ms, s, m, h, d" })?;
    count.checked_mul(*unit_ms).map(Duration::from_millis).ok_or(QuantityError::TooLarge)
}

/// Writes a duration in the greatest unit that loses nothing; below a millisecond nothing is kept.
pub fn format_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    in_greatest_unit(ms, &DURATION_UNITS)
}

/// Reads a size in bytes such as `1MiB`, `512KiB`, `8388608`; a bare number is bytes.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    let (digits, unit) = split_unit(text);
    let count = parse_integer(digits)?;
    if unit.is_empty() || unit == "B" {
        return Ok(count);
    }
    let (_, unit_bytes) = SIZE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| QuantityError::UnitUnknown { unit: unit.to_owned(), known: "B, KiB, MiB, GiB" })?;
    count.checked_mul(*unit_bytes).ok_or(QuantityError::TooLarge)
}

/// Writes a size in the greatest unit that loses nothing; bare bytes otherwise.
pub fn format_size(bytes: u64) -> String {
    if bytes == 0 {
        return "0".to_owned();
    }
    in_greatest_unit(bytes, &SIZE_UNITS)
}

/// Reads a whole number, with `_` allowed between digits (`50_000`).
pub fn parse_integer(text: &str) -> Result<u64, QuantityError> {
    let text = text.trim();
    let misplaced = text.starts_with(['_', '+']) || text.ends_with('_');
    let digits: String = text.chars().filter(|c| *c != '_' || misplaced).collect();
    // The standard parser takes a leading plus; refused here, so that one number has one form.
    let digits = if misplaced { format!("?{digits}") } else { digits };
    digits.parse().map_err(|source| QuantityError::Number { text: text.to_owned(), source })
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    (text[..end].trim_end(), &text[end..])
}

fn in_greatest_unit(value: u64, units: &[(&str, u64)]) -> String {
    match units.iter().find(|(_, size)| value.is_multiple_of(*size)) {
        Some((name, size)) => format!("{}{name}", value / size),
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        for (text, ms) in [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(format_duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(parse_duration("35d"), Ok(Duration::from_secs(35 * 86_400)));
        assert_eq!(parse_duration(" 1_000 ms "), Ok(Duration::from_secs(1)));
        assert_eq!(format_duration(Duration::from_millis(90_000)), "90s");
    }

    #[test]
    fn a_bare_number_is_told_its_unit() {
        let error = parse_duration("30").unwrap_err();
        assert_eq!(error, QuantityError::UnitMissing("30".into()));
        assert!(error.to_string().contains("write 30s"), "{error}");
    }

    #[test]
    fn odd_durations_are_refused() {
        for text in ["", "s", "-3s", "1.5s", "3 weeks", "1h30m", "3S", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        assert_eq!(parse_duration("999999999999999d"), Err(QuantityError::TooLarge));
    }

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        for (text, bytes) in [("1MiB", 1 << 20), ("512KiB", 512 << 10), ("1025", 1025), ("0", 0)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(parse_size("8388608"), Ok(8 << 20));
        assert_eq!(format_size(8 << 20), "8MiB");
        assert!(matches!(parse_size("1MB"), Err(QuantityError::UnitUnknown { .. })));
    }

    #[test]
    fn integers_may_be_grouped() {
        assert_eq!(parse_integer("50_000"), Ok(50_000));
        for text in ["_5", "5_", "+5", "-5", "5.0", "0x10", "", "five"] {
            assert!(parse_integer(text).is_err(), "{text:?}");
        }
    }
}
