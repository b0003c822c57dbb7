//! Decimals and times: two texts with a line break between them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickwire_market::{Decimal, parse_ts};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

fuzz_target!(|data: &[u8]| {
    let (first, second) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &b"1.5"[..]),
    };
    check_ts(first);
    let (a, b) = (check_decimal(first), check_decimal(second));
    if let (Some(a), Some(b)) = (a, b) {
        check_pair(a, b);
    }
});

/// The number, and its value times 10^18 worked out another way.
fn check_decimal(text: &[u8]) -> Option<(Decimal, u128)> {
    let expected = by_hand(text);
    let Ok(decimal) = Decimal::parse(text) else {
        assert!(expected.is_none(), "{} is a number", text.escape_ascii());
        return None;
    };
    let expected = expected.unwrap_or_else(|| panic!("{} is no number", text.escape_ascii()));
    assert_eq!(decimal.to_string().as_bytes(), text, "digits are kept");
    assert_eq!(decimal.mantissa() * 10_u128.pow(18 - u32::from(decimal.scale())), expected);
    assert_eq!(decimal.is_zero(), expected == 0);
    let back = Decimal::from_parts(decimal.mantissa(), decimal.scale()).expect("it was one");
    assert_eq!(back.to_string(), decimal.to_string());
    Some((decimal, expected))
}

/// `(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?`
fn by_hand(text: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let digits = |text: &str| (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || (whole.len() > 1 && whole.starts_with('0')) || !fraction.is_none_or(digits) {
        return None;
    }
    format!("{whole}{:0<18}", fraction.unwrap_or_default()).parse().ok()
}

fn check_pair((a, a_units): (Decimal, u128), (b, b_units): (Decimal, u128)) {
    assert_eq!(a.cmp(&b), a_units.cmp(&b_units));
    assert_eq!(a == b, a_units == b_units);
    let middle = a.midpoint(b);
    assert_eq!(middle.to_string(), b.midpoint(a).to_string());
    assert!(a.min(b) <= middle && middle <= a.max(b), "{a} and {b}: {middle}");
    let units = middle.mantissa() * 10_u128.pow(18 - u32::from(middle.scale()));
    // A nineteenth digit is cut off.
    assert!(a_units + b_units - 2 * units <= 1, "{a} and {b}: {middle}");
}

fn check_ts(text: &[u8]) {
    let ours = parse_ts(text);
    let Ok(text) = std::str::from_utf8(text) else {
        assert!(ours.is_err());
        return;
    };
    if !text.contains(':') {
        assert_eq!(ours.ok(), text.parse().ok());
    } else if text.get(17..19) != Some("60")
        && let (Ok(ours), Ok(theirs)) = (&ours, OffsetDateTime::parse(text, &Rfc3339))
    {
        // Of a leap second we make the next one, they the one before.
        assert_eq!(i128::from(*ours), theirs.unix_timestamp_nanos().div_euclid(1_000), "{text}");
    }
}
