//! The best bid and ask messages of a Binance combined stream, live or recorded.

use serde::Deserialize;

use crate::{Decimal, DecimalError};

/// The message says nothing of the best bid and ask, or says it in a way that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BookTickerError {
    #[error("not a JSON object: expected {{\"stream\":…,\"data\":{{…}}}}")]
    NotAnObject,
    #[error("not a bookTicker message: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{field} is {seen:?}: {source}")]
    Number { field: &'static str, seen: String, source: DecimalError },
}

/// Best bid and ask of one instrument, with the venue's own digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BookTicker<'a> {
    /// The venue's name of the instrument, as in `BTCUSDT`.
    pub(super) instrument: &'a str,
    pub(super) bid: Decimal,
    pub(super) bid_size: Decimal,
    pub(super) ask: Decimal,
    pub(super) ask_size: Decimal,
    /// When the venue matched it, in Unix milliseconds. Futures say so, spot does not.
    pub(super) venue_ms: Option<i64>,
}

/// What marks the messages that are wanted; the others of a recording (trades, depth) are passed over without being parsed.
const STREAM_SUFFIX: &[u8] = b"@bookTicker\"";

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    s: &'a str,
    b: &'a str,
    #[serde(rename = "B")]
    bid_size: &'a str,
    a: &'a str,
    #[serde(rename = "A")]
    ask_size: &'a str,
    #[serde(rename = "T")]
    transaction_ms: Option<i64>,
    #[serde(rename = "E")]
    event_ms: Option<i64>,
}

/// Reads one message; `None` if it is a whole message of another kind.
pub(super) fn parse(message: &[u8]) -> Result<Option<BookTicker<'_>>, BookTickerError> {
    let message = message.trim_ascii();
    // A half-written message of any kind shows by its missing brace; that check costs nothing and finds what skipping would hide.
    if !(message.starts_with(b"{") && message.ends_with(b"}")) {
        return Err(BookTickerError::NotAnObject);
    }
    if memchr::memmem::find(message, STREAM_SUFFIX).is_none() {
        return Ok(None);
    }
    let Envelope { data } = serde_json::from_slice(message)?;
    Ok(Some(BookTicker {
        instrument: data.s,
        bid: number("b", data.b)?,
        bid_size: number("B", data.bid_size)?,
        ask: number("a", data.a)?,
        ask_size: number("A", data.ask_size)?,
        venue_ms: data.transaction_ms.or(data.event_ms),
    }))
}

fn number(field: &'static str, text: &str) -> Result<Decimal, BookTickerError> {
    Decimal::parse(text.as_bytes()).map_err(|source| BookTickerError::Number { field, seen: text.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spot_and_futures_messages_are_read_with_their_own_digits() {
        let spot = br#"{"stream":"btcusdt@bookTicker","data":{"u":7,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}"#;
        let ticker = parse(spot).unwrap().unwrap();
        assert_eq!((ticker.instrument, ticker.venue_ms), ("BTCUSDT", None));
        assert_eq!(ticker.bid.to_string(), "61837.63000000");
        assert_eq!(ticker.ask_size.to_string(), "1.54698000");
        let future = br#"{"stream":"btcusd_perp@bookTicker","data":{"u":1,"e":"bookTicker","s":"BTCUSD_PERP","ps":"BTCUSD","b":"61804.7","B":"35","a":"61804.8","A":"1645","T":1723161257465,"E":1723161257476}}"#;
        assert_eq!(parse(future).unwrap().unwrap().venue_ms, Some(1_723_161_257_465));
    }

    #[test]
    fn other_messages_are_passed_over() {
        for other in [
            r#"{"stream":"btcusdt@trade","data":{"e":"trade","p":"1"}}"#,
            r#"{"lastUpdateId":1,"bids":[["1","2"]],"asks":[]}"#,
            r#"{"result":null,"id":1}"#,
        ] {
            assert_eq!(parse(other.as_bytes()).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn garbage_is_an_error_that_says_what_was_seen() {
        for (garbage, word) in [
            (r#"{"stream":"btcusdt@bookTicker","data":{"s":"BTCUSDT","b":"1.2.3","B":"1","a":"2","A":"1"}}"#, "1.2.3"),
            (r#"{"stream":"btcusdt@bookTicker","data":{"s":"BTCUSDT"}}"#, "missing field"),
            (r#"{"stream":"btcusdt@depth","data":{"b":[["1""#, "not a JSON object"),
            ("", "not a JSON object"),
            ("\u{0}\u{1}", "not a JSON object"),
        ] {
            let error = parse(garbage.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
