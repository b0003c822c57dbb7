//! The two recorded formats, line by line: what a line says, and nothing of files, clocks or symbols.

use crate::feed::book_ticker::{self, BookTickerError};
use crate::rejection::excerpt;
use crate::{Decimal, DecimalError, Quote, QuoteFields, Rejection, Symbol};

use super::lines::Line;

/// A recorded format, told by the content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// `milliseconds since local midnight, bid, ask`, comma separated, without a header.
    QuoteCsv,
    /// `<local receive time, Unix nanoseconds> <message>`: a Binance combined stream as it came in.
    StreamLines,
}

/// One best bid and ask as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row<'a> {
    /// When it was received, in nanoseconds: since local midnight (CSV) or since the Unix epoch (stream). This is the order of play.
    pub(super) received_ns: i64,
    /// When the venue made it, in nanoseconds of the same scale; the receive time where the venue does not say.
    pub(super) venue_ns: i64,
    /// The venue's name of the instrument, where a file may hold several.
    pub(super) instrument: Option<&'a str>,
    pub(super) bid: Decimal,
    pub(super) ask: Decimal,
    /// Sizes at bid and ask, where recorded.
    pub(super) sizes: Option<(Decimal, Decimal)>,
}

impl Row<'_> {
    /// The row as a quote of this symbol; its time is given when it is played.
    pub(super) fn quote(&self, symbol: Symbol) -> Result<Quote, Rejection> {
        Quote::new(QuoteFields {
            bid: Some(self.bid),
            ask: Some(self.ask),
            bid_size: self.sizes.map(|(bid_size, _)| bid_size),
            ask_size: self.sizes.map(|(_, ask_size)| ask_size),
            ..QuoteFields::new(symbol)
        })
    }
}

/// Why a line is no quote.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    #[error("{0} columns, expected 3: milliseconds since midnight, bid, ask")]
    Columns(usize),
    #[error("time is {0:?}, expected milliseconds since midnight such as 45000123 or 42.4312")]
    Milliseconds(String),
    #[error("receive time is {0:?}, expected Unix nanoseconds and a space before the message")]
    Nanoseconds(String),
    #[error("{field} is {seen:?}: {source}")]
    Number { field: &'static str, seen: String, source: DecimalError },
    #[error("half-written: the line has no end and its ask {ask} breaks off (bid {bid})")]
    HalfWritten { bid: Decimal, ask: Decimal },
    #[error(transparent)]
    Message(#[from] BookTickerError),
}

impl Format {
    /// The format of which this line could be; `None` if of none.
    pub(super) fn of_line(line: &[u8]) -> Option<Self> {
        let line = line.trim_ascii();
        if parse_csv(line).is_ok() {
            return Some(Self::QuoteCsv);
        }
        let (time, message) = split_stream_line(line)?;
        (time > 0 && message.starts_with(b"{")).then_some(Self::StreamLines)
    }

    /// Reads a line; `None` if it is blank or a whole message of a kind that is no quote.
    pub(super) fn parse<'a>(self, line: Line<'a>) -> Result<Option<Row<'a>>, RowError> {
        let bytes = line.bytes.trim_ascii();
        if bytes.is_empty() {
            return Ok(None);
        }
        match self {
            Self::QuoteCsv => {
                let row = parse_csv(bytes)?;
                if !line.ended && breaks_off(&row) {
                    return Err(RowError::HalfWritten { bid: row.bid, ask: row.ask });
                }
                Ok(Some(row))
            }
            Self::StreamLines => parse_stream(bytes),
        }
    }
}

/// Whether the ask of an unended last line was cut: it is below the bid, or has fewer decimals. A cut number is still a number, so this
/// cannot be known, only judged; recordings rightly may lack the last line end, and losing one whole quote of a day does less harm than
/// showing a wrong price.
fn breaks_off(row: &Row<'_>) -> bool {
    row.ask < row.bid || row.ask.scale() < row.bid.scale()
}

fn parse_csv(line: &[u8]) -> Result<Row<'_>, RowError> {
    let mut columns = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let (Some(time), Some(bid), Some(ask), None) = (columns.next(), columns.next(), columns.next(), columns.next())
    else {
        return Err(RowError::Columns(line.split(|byte| *byte == b',').count()));
    };
    let received_ns = csv_nanoseconds(time).ok_or_else(|| RowError::Milliseconds(excerpt(time)))?;
    Ok(Row {
        received_ns,
        venue_ns: received_ns,
        instrument: None,
        bid: number("bid", bid)?,
        ask: number("ask", ask)?,
        sizes: None,
    })
}

/// Milliseconds of a day, with an optional fraction, as exact nanoseconds. Digits beyond the nanosecond are cut. A recording that waits
/// for a later time than a day has would wait for good.
fn csv_nanoseconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let whole = whole.parse::<i64>().ok().filter(|ms| (0..86_400_000).contains(ms))?;
    whole.checked_mul(1_000_000)?.checked_add(fraction)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn split_stream_line(line: &[u8]) -> Option<(i64, &[u8])> {
    let space = memchr::memchr(b' ', line)?;
    let time = std::str::from_utf8(&line[..space]).ok().filter(|time| is_digits(time))?;
    Some((time.parse().ok()?, line[space..].trim_ascii_start()))
}

fn parse_stream(line: &[u8]) -> Result<Option<Row<'_>>, RowError> {
    let (received_ns, message) = split_stream_line(line).ok_or_else(|| RowError::Nanoseconds(excerpt(line)))?;
    let Some(ticker) = book_ticker::parse(message)? else { return Ok(None) };
    Ok(Some(Row {
        received_ns,
        venue_ns: ticker.venue_ms.map_or(received_ns, |ms| ms.saturating_mul(1_000_000)),
        instrument: Some(ticker.instrument),
        bid: ticker.bid,
        ask: ticker.ask,
        sizes: Some((ticker.bid_size, ticker.ask_size)),
    }))
}

fn number(field: &'static str, text: &[u8]) -> Result<Decimal, RowError> {
    Decimal::parse(text).map_err(|source| RowError::Number { field, seen: excerpt(text), source })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> Line<'_> {
        Line { number: 1, bytes: text.as_bytes(), ended: true }
    }

    #[test]
    fn quote_csv_keeps_digits_and_fractions_of_a_millisecond() {
        let row = Format::QuoteCsv.parse(line("42.4312,1290.33,1290.660")).unwrap().unwrap();
        assert_eq!(row.received_ns, 42_431_200);
        assert_eq!((row.bid.to_string(), row.ask.to_string()), ("1290.33".into(), "1290.660".into()));
        assert_eq!(
            Format::QuoteCsv.parse(line("86399235,1.1,1.2\r")).unwrap().unwrap().received_ns,
            86_399_235_000_000
        );
    }

    #[test]
    fn stream_lines_play_by_receive_time_and_carry_the_venues() {
        let future = r#"1723161257000000001 {"stream":"x@bookTicker","data":{"s":"X","b":"1","B":"2","a":"3","A":"4","T":1723161257465,"E":1723161257476}}"#;
        let row = Format::StreamLines.parse(line(future)).unwrap().unwrap();
        assert_eq!((row.received_ns, row.venue_ns), (1_723_161_257_000_000_001, 1_723_161_257_465_000_000));
        let spot = r#"5 {"stream":"x@bookTicker","data":{"u":1,"s":"X","b":"1","B":"2","a":"3","A":"4"}}"#;
        let row = Format::StreamLines.parse(line(spot)).unwrap().unwrap();
        assert_eq!(row.venue_ns, row.received_ns);
    }

    #[test]
    fn content_tells_the_format() {
        for (text, format) in [
            ("8715,1.39101,1.39114", Some(Format::QuoteCsv)),
            ("1723161256207640365 {\"stream\":\"x@trade\",\"data\":{}}", Some(Format::StreamLines)),
            ("market,symbol,type", None),
            ("1,2", None),
            ("wss://example.org <-> 1", None),
            ("", None),
        ] {
            assert_eq!(Format::of_line(text.as_bytes()), format, "{text}");
        }
    }

    #[test]
    fn bad_lines_say_what_was_seen_and_expected() {
        for (format, text, word) in [
            (Format::QuoteCsv, "12,1.5", "2 columns, expected 3"),
            (Format::QuoteCsv, "1:2,1.5,1.6", "\"1:2\""),
            (Format::QuoteCsv, "12,x,1.6", "bid is \"x\""),
            (Format::QuoteCsv, "99999999999999999999,1.5,1.6", "milliseconds since midnight"),
            (Format::QuoteCsv, "86400000,1.5,1.6", "milliseconds since midnight"),
            (Format::StreamLines, "abc {}", "Unix nanoseconds"),
            (Format::StreamLines, "12 {\"stream\":\"x@bookT", "not a JSON object"),
        ] {
            let error = format.parse(line(text)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80), ended: bool) {
            let _ = Format::of_line(&bytes);
            for format in [Format::QuoteCsv, Format::StreamLines] {
                let _ = format.parse(Line { number: 1, bytes: &bytes, ended });
            }
        }

        #[test]
        fn no_damage_to_a_line_panics(at in 0_usize..120, byte: u8, cut in 0_usize..200) {
            let whole = r#"1723161257000000001 {"stream":"x@bookTicker","data":{"s":"X","b":"1","B":"2","a":"3","A":"4","T":1723161257465}}"#;
            let mut damaged = whole.as_bytes().to_vec();
            let at = at % damaged.len();
            damaged[at] = byte;
            damaged.truncate(cut);
            let _ = Format::StreamLines.parse(Line { number: 1, bytes: &damaged, ended: false });
        }

        #[test]
        fn numbers_come_through_unchanged(
            ms in 0_u32..86_400_000,
            bid in "[1-9][0-9]{0,5}\\.[0-9]{1,8}",
            ask in "[1-9][0-9]{0,5}\\.[0-9]{1,8}",
        ) {
            let text = format!("{ms},{bid},{ask}");
            let row = Format::QuoteCsv.parse(line(&text)).unwrap().unwrap();
            prop_assert_eq!(row.received_ns, i64::from(ms) * 1_000_000);
            prop_assert_eq!((row.bid.to_string(), row.ask.to_string()), (bid, ask));
        }
    }

    #[test]
    fn a_cut_last_line_is_not_taken_for_a_price() {
        for (text, half_written) in [
            ("86399235,1.38371,1.38374", false),
            ("86399235,1.38371,1.3837", true),
            ("86399235,1.38371,1.4", true),
            ("86399235,1.38371,1", true),
        ] {
            let unended = Line { ended: false, ..line(text) };
            assert_eq!(Format::QuoteCsv.parse(unended).is_err(), half_written, "{text}");
            assert!(Format::QuoteCsv.parse(line(text)).is_ok(), "{text} is whole when its line end is there");
        }
    }
}
