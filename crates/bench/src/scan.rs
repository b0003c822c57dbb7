//! Reading an `update` frame without parsing it: a bench that parses JSON measures itself.

use memchr::memmem;

use crate::dialect::Update;

/// What the frames of our symbols begin with.
pub(crate) const BROADCAST: &[u8] = br#"[null,null,"ticker:BENCH."#;

/// Reads an update of one of our symbols; `None` for anything else.
#[inline]
pub(crate) fn update(text: &[u8]) -> Option<Update<'_>> {
    let rest = text.strip_prefix(BROADCAST)?;
    let (symbol, rest) = number(rest)?;
    let payload = rest.strip_prefix(br#"","update","#)?;
    let symbol = usize::try_from(symbol).ok()?;
    let payload = payload.strip_suffix(b"]")?;
    tail(payload, symbol).or_else(|| search(payload, symbol))
}

/// Reads the payload of an update, for servers that wrap it otherwise; the symbol is the one that it names.
#[inline]
pub(crate) fn payload(json: &[u8]) -> Option<Update<'_>> {
    let (symbol, _) = number(json.strip_prefix(br#"{"symbol":"BENCH."#)?)?;
    let symbol = usize::try_from(symbol).ok()?;
    tail(json, symbol).or_else(|| search(json, symbol))
}

/// Reads the keys that we want from the end on, where our server writes them: `,"ts":1,"epoch":"e","seq":2,"n":3}`.
#[inline]
fn tail(payload: &[u8], symbol: usize) -> Option<Update<'_>> {
    let (last, rest) = last_number(payload.strip_suffix(b"}")?)?;
    let (n, seq, rest) = match rest.strip_suffix(br#","n":"#) {
        Some(rest) => {
            let (seq, rest) = last_number(rest)?;
            (last, seq, rest)
        }
        None => (1, last, rest),
    };
    let rest = rest.strip_suffix(br#"","seq":"#)?;
    let quote = memchr::memrchr(b'"', rest)?;
    let epoch = &rest[quote + 1..];
    let (ts, rest) = last_number(rest[..quote].strip_suffix(br#","epoch":"#)?)?;
    rest.strip_suffix(br#","ts":"#)?;
    Some(Update { symbol, epoch, seq, n, ts: i64::try_from(ts).ok()? })
}

/// The number at the end, and what precedes it.
#[inline]
fn last_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, digits) = text.split_at(text.len() - digits);
    Some((number(digits)?.0, rest))
}

/// Finds the keys wherever they are: slower, for servers that write them in another order.
#[cold]
fn search(payload: &[u8], symbol: usize) -> Option<Update<'_>> {
    let (seq, _) = number(behind_last(payload, br#""seq":"#)?)?;
    let n = behind_last(payload, br#""n":"#).map_or(Some(1), |n| number(n).map(|(n, _)| n))?;
    let epoch = behind_last(payload, br#""epoch":""#)?;
    let epoch = &epoch[..memchr::memchr(b'"', epoch)?];
    let (ts, _) = number(behind_last(payload, br#""ts":"#)?)?;
    Some(Update { symbol, epoch, seq, n, ts: i64::try_from(ts).ok()? })
}

/// What stands behind the last occurrence of a key.
fn behind_last<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    memmem::rfind(text, key).map(|at| &text[at + key.len()..])
}

/// A number without sign or fraction, and what follows it.
#[inline]
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    let mut len = 0;
    for byte in text.iter().take_while(|byte| byte.is_ascii_digit()) {
        value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
        len += 1;
    }
    (len > 0).then(|| (value, &text[len..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_read_with_and_without_n() {
        let frame = |tail: &str| {
            format!(
                r#"[null,null,"ticker:BENCH.00042","update",{{"symbol":"BENCH.00042","bid":"1.1","ts":1700000000000001,"epoch":"1-2-a","seq":77{tail}}}]"#
            )
        };
        let expected = Update { symbol: 42, epoch: b"1-2-a", seq: 77, n: 1, ts: 1_700_000_000_000_001 };
        assert_eq!(update(frame("").as_bytes()), Some(expected));
        assert_eq!(update(frame(",\"n\":12").as_bytes()), Some(Update { n: 12, ..expected }));
        assert_eq!(update(frame(",\"crossed\":true,\"n\":3").as_bytes()), Some(Update { n: 3, ..expected }));
        let reordered = br#"[null,null,"ticker:BENCH.00042","update",{"seq":77,"n":5,"epoch":"1-2-a","ts":1700000000000001,"bid":"1"}]"#;
        assert_eq!(update(reordered), Some(Update { n: 5, ..expected }));
        let whole = frame("");
        let json = &whole.as_bytes()[whole.find('{').unwrap()..whole.len() - 1];
        assert_eq!(payload(json), Some(expected));
    }

    #[test]
    fn what_is_no_update_is_left_to_others() {
        for text in [
            r#"["1","1","ticker:BENCH.00042","phx_reply",{"status":"ok","response":{}}]"#,
            r#"[null,null,"ticker:BENCH.00042","status",{"state":"stale"}]"#,
            r#"[null,null,"ticker:EURUSD","update",{"seq":1}]"#,
            // Cut off, wherever.
            r#"[null,null,"ticker:BENCH.00042","update",{"ts":1,"epoch":"a","seq":1}"#,
            r#"[null,null,"ticker:BENCH.00042","update",{"ts":1,"epoch":"a","seq":1"#,
            r#"[null,null,"ticker:BENCH.00042","update",{"ts":1,"epoch":"a"#,
            "",
        ] {
            assert_eq!(update(text.as_bytes()), None, "{text}");
        }
    }
}
