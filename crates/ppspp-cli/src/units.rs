//! Durations and sizes as people write them.

use std::time::Duration;

use ppspp_core::ByteRate;
use thiserror::Error;

/// Text that is no duration or size.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum UnitError {
    /// Not a number followed by a unit of time.
    #[error("a duration is a whole number with s, m or h behind it, such as 90s or 5m")]
    Duration,
    /// Not a number followed by a unit of size.
    #[error("a size is a whole number with B, kB, MB, GB, KiB, MiB or GiB behind it, such as 8MB or 512KiB")]
    Size,
    /// Not a size per second.
    #[error("a rate is a whole number of bytes per second, such as 500kB or 2MiB/s")]
    Rate,
    /// Out of range.
    #[error("{0} is too large")]
    TooLarge(String),
    /// Nothing.
    #[error("it must be more than zero")]
    Zero,
}

/// A number and the unit behind it.
fn split(text: &str) -> Option<(&str, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    (!number.is_empty()).then(|| (number, unit.trim_start()))
}

fn scaled(text: &str, number: &str, factor: u64) -> Result<u64, UnitError> {
    let product = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    product.ok_or_else(|| UnitError::TooLarge(text.to_owned()))
}

/// Reads a duration such as `90s`, `5m` or `2h`.
pub(crate) fn duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text).ok_or(UnitError::Duration)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(UnitError::Duration),
    };
    scaled(text, number, seconds).map(Duration::from_secs)
}

/// Reads a duration that is not zero.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, UnitError> {
    match duration(text)? {
        Duration::ZERO => Err(UnitError::Zero),
        duration => Ok(duration),
    }
}

/// Reads a size in bytes such as `8MB` or `512KiB`; a bare number counts bytes.
pub(crate) fn size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text).ok_or(UnitError::Size)?;
    let bytes = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(UnitError::Size),
    };
    scaled(text, number, bytes)
}

/// Reads a size that is not zero.
pub(crate) fn positive_size(text: &str) -> Result<u64, UnitError> {
    match size(text)? {
        0 => Err(UnitError::Zero),
        size => Ok(size),
    }
}

/// Reads a rate in bytes per second such as `500kB` or `2MiB/s`.
pub(crate) fn rate(text: &str) -> Result<ByteRate, UnitError> {
    let per_second = match size(text.strip_suffix("/s").unwrap_or(text)) {
        Err(UnitError::Size) => Err(UnitError::Rate),
        other => other,
    }?;
    ByteRate::new(per_second).ok_or(UnitError::Zero)
}

/// A count as a float, for ratios that are shown with a few digits.
#[expect(clippy::cast_precision_loss, reason = "16 digits are more than are shown")]
pub(crate) const fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("2h", 7200), ("0s", 0), ("1 m", 60)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "90", "s", "1.5s", "-1s", "1d", "5 minutes", "5ms", "٣s"] {
            assert_eq!(duration(text), Err(UnitError::Duration), "{text}");
        }
        assert_eq!(duration("18446744073709551615h"), Err(UnitError::TooLarge("18446744073709551615h".into())));
        assert_eq!(duration("99999999999999999999s"), Err(UnitError::TooLarge("99999999999999999999s".into())));
        assert_eq!(positive_duration("0m"), Err(UnitError::Zero));
    }

    #[test]
    fn rates_are_sizes_per_second() {
        for (text, bytes) in [("500kB", 500_000), ("2MiB/s", 2 << 20), ("65536", 65_536), ("1 MB/s", 1_000_000)] {
            assert_eq!(rate(text).map(ByteRate::bytes_per_second), Ok(bytes), "{text}");
        }
        for text in ["", "fast", "/s", "5MB/m", "-1", "5Mbit/s"] {
            assert_eq!(rate(text), Err(UnitError::Rate), "{text}");
        }
        assert_eq!(rate("0"), Err(UnitError::Zero));
        assert_eq!(rate("99999999999GB"), Err(UnitError::TooLarge("99999999999GB".into())));
    }

    #[test]
    fn sizes_are_decimal_or_binary() {
        for (text, bytes) in
            [("8MB", 8_000_000), ("512KiB", 524_288), ("1024", 1024), ("7B", 7), ("3kB", 3000), ("1 GiB", 1 << 30)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MB", "8 mb", "8MBs", "1.5MB", "-8MB"] {
            assert_eq!(size(text), Err(UnitError::Size), "{text}");
        }
        assert_eq!(size("99999999999GB"), Err(UnitError::TooLarge("99999999999GB".into())));
        assert_eq!(positive_size("0KiB"), Err(UnitError::Zero));
    }
}
