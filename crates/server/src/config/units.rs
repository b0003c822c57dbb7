//! Durations and sizes as people write them: `"250ms"`, `"10s"`, `"64KiB"`.

use std::time::Duration;

const DURATIONS: [(&str, u64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads a number with a unit, exact to the smallest unit. `None` where the text is something else or does not fit.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')?;
    let (number, unit) = text.split_at(split);
    let scale = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.replace('_', "").parse().ok()?;
    // Nine digits after the point are more than any unit here can carry.
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| (1..=9).contains(digits))?;
    let fraction: u64 = fraction.parse().ok()?;
    let parts = u128::from(fraction) * u128::from(scale);
    let ten = 10u128.pow(digits);
    if !parts.is_multiple_of(ten) {
        return None;
    }
    whole.checked_mul(scale)?.checked_add(u64::try_from(parts / ten).ok()?)
}

/// Writes a number in the largest unit that shows it without a fraction.
fn show(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    if value == 0 {
        return zero.to_owned();
    }
    let (unit, scale) = units.iter().find(|(_, scale)| value.is_multiple_of(*scale)).unwrap_or(&units[units.len() - 1]);
    format!("{}{unit}", value / scale)
}

/// Reads `"250ms"`, `"1.5s"`, `"10s"`, `"1m"`, `"1h"`, `"1d"`, exact to the microsecond.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &DURATIONS).map(Duration::from_micros)
}

/// Writes a duration so that [`parse_duration`] reads it back; what is finer than a microsecond is cut off.
pub fn show_duration(value: Duration) -> String {
    show(u64::try_from(value.as_micros()).unwrap_or(u64::MAX), &DURATIONS, "0s")
}

/// The last second of the year 9999: later ones have no form that everybody reads.
pub(crate) const UNIX_SECONDS_MAX: u64 = 253_402_300_799;

/// Writes Unix seconds up to [`UNIX_SECONDS_MAX`] as RFC 3339 has them. From days to a date: Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms"; the year begins in March, so that the leap day comes last.
pub(crate) fn show_time(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400 + 719_468, unix_seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

/// Reads `"64KiB"`, `"1MiB"`, `"500KB"`, `"512B"` or a plain number of bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    text.trim().replace('_', "").parse().ok().or_else(|| parse(text, &SIZES))
}

/// Writes a number of bytes so that [`parse_size`] reads it back.
pub fn show_size(value: u64) -> String {
    let binary = [SIZES[0], SIZES[1], SIZES[2], SIZES[6]];
    show(value, &binary, "0B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, micros, shown) in [
            ("250ms", 250_000, "250ms"),
            ("10s", 10_000_000, "10s"),
            ("1.5s", 1_500_000, "1500ms"),
            ("1m", 60_000_000, "1m"),
            ("90s", 90_000_000, "90s"),
            ("120s", 120_000_000, "2m"),
            ("1h", 3_600_000_000, "1h"),
            ("2d", 172_800_000_000, "2d"),
            ("5 s", 5_000_000, "5s"),
            ("7us", 7, "7us"),
            ("0s", 0, "0s"),
        ] {
            let value = parse_duration(text).unwrap_or_else(|| panic!("{text} is a duration"));
            assert_eq!(value, Duration::from_micros(micros), "{text}");
            assert_eq!(show_duration(value), shown, "{text}");
            assert_eq!(parse_duration(shown), Some(value), "{shown}");
        }
        for text in
            ["", "10", "s", "10x", "-1s", "1.s", ".5s", "1e3s", "10sec", "99999999999999d", "0.0000001s", "1..5s", "٣s"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_written_so_that_they_read_back() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_798_761_600, "2027-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (UNIX_SECONDS_MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(show_time(seconds), shown);
            assert_eq!(tickwire_market::parse_ts(shown.as_bytes()), Ok(i64::try_from(seconds).unwrap() * 1_000_000));
        }
        for day in (0..UNIX_SECONDS_MAX).step_by(86_400 * 97) {
            let seconds = i64::try_from(day).unwrap();
            assert_eq!(tickwire_market::parse_ts(show_time(day).as_bytes()), Ok(seconds * 1_000_000));
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, shown) in [
            ("64KiB", 65_536, "64KiB"),
            ("1MiB", 1 << 20, "1MiB"),
            ("1.5MiB", 3 << 19, "1536KiB"),
            ("2GiB", 2 << 30, "2GiB"),
            ("500KB", 500_000, "500000B"),
            ("512B", 512, "512B"),
            ("10_000_000", 10_000_000, "10000000B"),
            ("0", 0, "0B"),
        ] {
            let value = parse_size(text).unwrap_or_else(|| panic!("{text} is a size"));
            assert_eq!(value, bytes, "{text}");
            assert_eq!(show_size(value), shown, "{text}");
            assert_eq!(parse_size(shown), Some(value), "{shown}");
        }
        for text in ["", "KiB", "64kib", "-1", "1.5B", "64 K", "99999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
