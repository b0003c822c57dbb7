//! The bench's quotes, and the bytes that a socket gets of them: the same for every server that is measured.
//!
//! A quote of five digits makes an `update` of some 140 bytes. To reach what was asked for (200 by default, as the published figures of other
//! servers), numbers get more digits, all of which the server must keep, and if that is not enough a last trade with its size.

use std::io::Write as _;

use tickwire_proto::v1::Quote;

use crate::{BenchError, dialect::Due};

/// What a payload may measure. Below, a quote would lose its fields; above, its numbers would have more digits than are allowed.
pub(crate) const BYTES: std::ops::RangeInclusive<usize> = 155..=320;

/// `{"symbol":"BENCH.00000","bid":"1.08123","ask":"1.09123","bid_size":"1000000","ask_size":"1500000","ts":…,"epoch":"…","seq":1234}` with
/// an epoch of [`EPOCH_BYTES`]; a run's `seq` has a digit more or less.
const PLAIN_BYTES: usize = 142 + EPOCH_BYTES;
/// What servers call an epoch is about so long.
const EPOCH_BYTES: usize = 11;
/// `,"last":"1.08500","last_size":"1000000"`
const LAST_BYTES: usize = 39;
/// More digits that a price, and a size, can take.
const PRICE_MORE: usize = 13;
const SIZE_MORE: usize = 30;

/// Topics of the bench begin with it.
pub(crate) const PREFIX: &str = "BENCH.";

/// The symbol of that number.
pub(crate) fn name(number: usize) -> String {
    format!("{PREFIX}{number:05}")
}

/// Makes quotes of one size, in one place of memory.
#[derive(Debug)]
pub(crate) struct Maker {
    quote: Quote,
    names: Vec<String>,
}

impl Maker {
    /// Quotes whose update measures about `bytes` on its way to a socket.
    pub(crate) fn new(bytes: usize) -> Self {
        let mut more = bytes.saturating_sub(PLAIN_BYTES);
        let with_last = more > 2 * (PRICE_MORE + SIZE_MORE) || more > LAST_BYTES;
        if with_last {
            more -= LAST_BYTES;
        }
        let mut take = |most: usize| {
            let taken = more.min(most);
            more -= taken;
            taken
        };
        let mut quote = Quote { bid: price("1.08000", take(PRICE_MORE)), ..Quote::default() };
        quote.ask = price("1.09000", take(PRICE_MORE));
        quote.bid_size = size("1000000", take(SIZE_MORE));
        quote.ask_size = size("1500000", take(SIZE_MORE));
        if with_last {
            quote.last = price("1.08500", take(PRICE_MORE));
            quote.last_size = size("1000000", take(SIZE_MORE));
        }
        Self { quote, names: Vec::new() }
    }

    /// The quote that is due. Its prices move by a digit from quote to quote, so that nothing on the way can take one for another.
    pub(crate) fn quote(&mut self, due: &Due) -> &Quote {
        while self.names.len() <= due.symbol {
            self.names.push(name(self.names.len()));
        }
        let number = due.seq % 1000;
        for (place, power) in [(4, 100), (5, 10), (6, 1)] {
            let digit = DIGITS[usize::try_from(number / power % 10).unwrap_or_default()];
            self.quote.bid.replace_range(place..=place, digit);
            self.quote.ask.replace_range(place..=place, digit);
        }
        self.quote.symbol.clone_from(&self.names[due.symbol]);
        self.quote.ts = due.due_us;
        &self.quote
    }

    /// Appends the `update` payload that Tickwire makes of the quote that is due, for servers that stamp nothing.
    pub(crate) fn update(&mut self, due: &Due, epoch: &str, out: &mut Vec<u8>) {
        let seq = due.seq;
        fields(self.quote(due), out);
        // Writing to memory does not fail.
        let _ = write!(out, ",\"epoch\":\"{epoch}\",\"seq\":{seq}}}");
    }
}

const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// A price with more digits behind the point.
fn price(text: &str, more: usize) -> String {
    format!("{text}{}", "5".repeat(more))
}

/// A size with more digits: before the point as far as they are allowed, then behind it.
fn size(text: &str, more: usize) -> String {
    let whole = more.min(11);
    let mut text = format!("{text}{}", "0".repeat(whole));
    if more > whole + 1 {
        text.push('.');
        text.push_str(&"5".repeat(more - whole - 1));
    }
    text
}

/// Appends a quote as JSON, without its closing brace: `{"symbol":"BENCH.00000","bid":…,"ts":1`.
pub(crate) fn fields(quote: &Quote, out: &mut Vec<u8>) {
    let texts = [
        ("symbol", &quote.symbol),
        ("bid", &quote.bid),
        ("ask", &quote.ask),
        ("bid_size", &quote.bid_size),
        ("ask_size", &quote.ask_size),
        ("last", &quote.last),
        ("last_size", &quote.last_size),
    ];
    let mut before: &[u8] = b"{\"";
    for (name, value) in texts.into_iter().filter(|(_, value)| !value.is_empty()) {
        out.extend_from_slice(before);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":\"");
        out.extend_from_slice(value.as_bytes());
        before = b"\",\"";
    }
    let _ = write!(out, "\",\"ts\":{}", quote.ts);
}

/// Whether quotes can be made for such a payload.
pub(crate) fn check(bytes: usize) -> Result<(), BenchError> {
    if BYTES.contains(&bytes) {
        return Ok(());
    }
    let (least, most) = (BYTES.start(), BYTES.end());
    Err(BenchError::Option(format!("a payload of {bytes} bytes cannot be made of a quote: {least} to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_measures_what_was_asked_for() {
        let due = Due { symbol: 42, seq: 1234, due_us: 1_763_760_000_000_001 };
        for bytes in [155, 156, 160, 180, 199, 200, 201, 233, 250, 280, 320] {
            let mut text = Vec::new();
            Maker::new(bytes).update(&due, "0123456789a", &mut text);
            let measured = text.len();
            assert!(measured.abs_diff(bytes) <= 1, "{bytes} asked for, {measured} made");
            let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(json["seq"], 1234);
            assert!(json["bid"].as_str().unwrap().starts_with("1.08234"), "{json}");
            for field in ["bid", "ask", "bid_size", "ask_size", "last", "last_size"] {
                let digits = json[field].as_str().unwrap_or("0").split('.').map(str::len).max().unwrap();
                assert!(digits <= 18, "{json}");
            }
        }
        assert!(check(154).is_err() && check(200).is_ok() && check(321).is_err());
    }
}
