//! Quotes in the forms in which they go to a server.

use serde_json::{Value, json};
use tickwire_market::{Decimal, Quote};
use tickwire_proto::v1::{self, PublishRequest, PublishResponse};

use crate::remote::{Refused, Report};

/// A quote as a JSON object, numbers as strings: every digit is kept.
pub(crate) fn quote_json(quote: &Quote) -> Value {
    let mut object = json!({"symbol": quote.symbol().as_str()});
    let mut number = |name: &str, value: Option<Decimal>| {
        if let Some(value) = value {
            object[name] = json!(value.to_string());
        }
    };
    if let Some(sides) = quote.sides() {
        number("bid", sides.bid);
        number("ask", sides.ask);
        number("bid_size", sides.bid_size);
        number("ask_size", sides.ask_size);
    }
    if let Some(last) = quote.last() {
        number("last", Some(last.price));
        number("last_size", last.size);
    }
    if let Some(ts) = quote.ts() {
        object["ts"] = json!(ts);
    }
    object
}

/// Quotes as a gRPC message.
pub(crate) fn request(quotes: &[Quote]) -> PublishRequest {
    PublishRequest { quotes: quotes.iter().map(quote).collect() }
}

fn quote(quote: &Quote) -> v1::Quote {
    let text = |value: Option<Decimal>| value.map(|value| value.to_string()).unwrap_or_default();
    let sides = quote.sides().copied().unwrap_or_default();
    v1::Quote {
        symbol: quote.symbol().as_str().to_owned(),
        bid: text(sides.bid),
        ask: text(sides.ask),
        bid_size: text(sides.bid_size),
        ask_size: text(sides.ask_size),
        last: text(quote.last().map(|last| last.price)),
        last_size: text(quote.last().and_then(|last| last.size)),
        ts: quote.ts().unwrap_or_default(),
        ..v1::Quote::default()
    }
}

/// What a gRPC answer says.
pub(crate) fn report(response: PublishResponse) -> Report {
    let refused = response.rejected.into_iter().map(|rejection| Refused {
        index: usize::try_from(rejection.index).unwrap_or(usize::MAX),
        error: rejection.error,
        code: rejection.code,
        retryable: rejection.retryable,
    });
    Report { accepted: response.accepted, duplicates: 0, refused: refused.collect(), retry_after: None }
}

#[cfg(test)]
mod tests {
    use tickwire_market::{LastTrade, QuoteFields, Symbol};

    use super::*;

    #[test]
    fn both_forms_keep_every_digit() {
        let mut fields = QuoteFields::new(Symbol::new("EURUSD").unwrap());
        fields.bid = Some("1.10840".parse().unwrap());
        fields.bid_size = Some("1000000".parse().unwrap());
        fields.last = Some("1.1".parse().unwrap());
        fields.ts = Some(1_700_000_000_000_000);
        let quote = Quote::new(fields).unwrap();
        assert_eq!(quote.last(), Some(&LastTrade { price: "1.1".parse().unwrap(), size: None }));
        let expected = r#"{"symbol":"EURUSD","bid":"1.10840","bid_size":"1000000","last":"1.1","ts":1700000000000000}"#;
        assert_eq!(quote_json(&quote).to_string(), expected);
        let message = &request(&[quote]).quotes[0];
        assert_eq!((message.bid.as_str(), message.ask.as_str(), message.ts), ("1.10840", "", 1_700_000_000_000_000));
    }
}
