//! A publisher's time: microseconds since the Unix epoch, or RFC 3339.

use crate::Rejection;

const RULE: &str = "must be whole microseconds since 1970, or RFC 3339 such as 2024-05-01T09:30:00.250Z";

/// Reads a publisher's time. Digits finer than a microsecond are cut off.
///
/// # Errors
/// If the text is neither whole microseconds nor RFC 3339.
pub fn parse_ts(text: &[u8]) -> Result<i64, Rejection> {
    let parsed = if text.contains(&b':') { rfc3339(text) } else { integer(text) };
    parsed.ok_or_else(|| Rejection::ts(RULE, text))
}

fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn rfc3339(text: &[u8]) -> Option<i64> {
    if text.len() < 20 || text[4] != b'-' || text[7] != b'-' || text[13] != b':' || text[16] != b':' {
        return None;
    }
    if !matches!(text[10], b'T' | b't' | b' ') {
        return None;
    }
    let (year, month, day) = (number(&text[..4])?, number(&text[5..7])?, number(&text[8..10])?);
    let (hour, minute, second) = (number(&text[11..13])?, number(&text[14..16])?, number(&text[17..19])?);
    let in_range = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    // A leap second is the first one of the next minute.
    if !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (micros, zone) = fraction(&text[19..])?;
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset(zone)?;
    seconds.checked_mul(1_000_000)?.checked_add(micros)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

/// The fraction in microseconds, and what follows it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let places = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let kept = places.min(6);
    let missing = u32::try_from(6 - kept).ok()?;
    (places > 0).then_some((number(&rest[..kept])? * 10_i64.pow(missing), &rest[places..]))
}

/// The zone's distance from UTC in seconds.
fn offset(zone: &[u8]) -> Option<i64> {
    let sign = match zone.first()? {
        b'Z' | b'z' if zone.len() == 1 => return Some(0),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if zone.len() != 6 || zone[3] != b':' {
        return None;
    }
    let (hours, minutes) = (number(&zone[1..3])?, number(&zone[4..6])?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a day in the Gregorian calendar: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". The year is
/// taken to begin in March, so that the leap day comes last.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_microsecond() {
        for (text, expected) in [
            ("0", 0),
            ("1714555800250000", 1_714_555_800_250_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2024-05-01T09:30:00.250Z", 1_714_555_800_250_000),
            ("2024-05-01T11:30:00.25+02:00", 1_714_555_800_250_000),
            ("2024-05-01 04:00:00.250000999-05:30", 1_714_555_800_250_000),
            ("2000-02-29T23:59:60Z", 951_868_800_000_000),
            ("2024-12-31T00:00:00Z", 1_735_603_200_000_000),
        ] {
            assert_eq!(parse_ts(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_rejected() {
        for text in [
            "",
            "now",
            "1.5",
            "1e9",
            "2024-05-01",
            "2024-05-01T09:30:00",
            "2024-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-05-01T24:00:00Z",
            "2024-05-01T09:30:00.Z",
            "2024-05-01T09:30:00+2:00",
            "2024-05-01T09:30:00Zulu",
            ":",
        ] {
            assert_eq!(parse_ts(text.as_bytes()).unwrap_err().code(), "invalid_ts", "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[0-9TZ:+. -]{0,40}") {
            let _ = parse_ts(text.as_bytes());
        }
    }
}
