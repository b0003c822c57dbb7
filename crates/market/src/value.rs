//! The current value of a symbol and its JSON.

use bytes::Bytes;
use tickwire_pubsub::EpochTag;

use crate::{Decimal, LastTrade, Quote, Sides, Source, Symbol, decimal::write_integer};

/// What is known of a symbol: each group as the latest quote that named it left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Value {
    pub(crate) sides: Sides,
    pub(crate) last: Option<LastTrade>,
    /// The time of the latest quote, if it had one.
    pub(crate) ts: Option<i64>,
    /// Where the latest quote came from.
    pub(crate) source: Option<Source>,
}

impl Value {
    /// The value after a quote.
    pub(crate) fn with(&self, quote: &Quote) -> Self {
        Self {
            sides: quote.sides().copied().unwrap_or(self.sides),
            last: quote.last().copied().or(self.last),
            ts: quote.ts(),
            source: quote.source(),
        }
    }

    /// Whether anything is known: what a quote said stays known.
    pub(crate) fn is_known(&self) -> bool {
        self.sides.bid.is_some() || self.sides.ask.is_some() || self.last.is_some()
    }

    fn is_crossed(&self) -> bool {
        matches!((self.sides.bid, self.sides.ask), (Some(bid), Some(ask)) if bid > ask)
    }

    /// Appends the payload of `update`, without `n`. What is not known is left out.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>, symbol: &Symbol, seq: u64, tag: &EpochTag) {
        // A symbol and a tag have no character that JSON escapes.
        out.extend_from_slice(b"{\"symbol\":\"");
        out.extend_from_slice(symbol.as_str().as_bytes());
        out.push(b'"');
        let Sides { bid, ask, bid_size, ask_size } = self.sides;
        write_decimal(out, b",\"bid\":\"", bid);
        write_decimal(out, b",\"ask\":\"", ask);
        write_decimal(out, b",\"bid_size\":\"", bid_size);
        write_decimal(out, b",\"ask_size\":\"", ask_size);
        if let Some(LastTrade { price, size }) = self.last {
            write_decimal(out, b",\"last\":\"", Some(price));
            write_decimal(out, b",\"last_size\":\"", size);
        }
        if let Some(ts) = self.ts {
            out.extend_from_slice(b",\"ts\":");
            write_integer(out, ts.unsigned_abs());
        }
        if self.is_crossed() {
            out.extend_from_slice(b",\"crossed\":true");
        }
        if let Some(source) = self.source {
            out.extend_from_slice(b",\"source\":\"");
            out.extend_from_slice(source.as_str().as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b",\"epoch\":\"");
        out.extend_from_slice(tag.as_str().as_bytes());
        out.extend_from_slice(b"\",\"seq\":");
        write_integer(out, seq);
        out.push(b'}');
    }

    /// The payload of `update` in a buffer of its own: one that a slow reader keeps must not keep those of its batch alive.
    pub(crate) fn to_json(self, scratch: &mut Vec<u8>, symbol: &Symbol, seq: u64, tag: &EpochTag) -> Bytes {
        scratch.clear();
        self.write_json(scratch, symbol, seq, tag);
        Bytes::copy_from_slice(scratch)
    }
}

fn write_decimal(out: &mut Vec<u8>, key_and_quote: &[u8], value: Option<Decimal>) {
    if let Some(value) = value {
        out.extend_from_slice(key_and_quote);
        value.write(out);
        out.push(b'"');
    }
}

/// The payload of an update that stands for `n` of them: `n` is the last key, absent if it is 1.
pub(crate) fn with_n(update: &Bytes, n: u64) -> Bytes {
    let Some((b'}', body)) = update.split_last() else { return update.clone() };
    if n <= 1 {
        return update.clone();
    }
    let mut out = Vec::with_capacity(update.len() + 24);
    out.extend_from_slice(body);
    out.extend_from_slice(b",\"n\":");
    write_integer(&mut out, n);
    out.push(b'}');
    out.into()
}

#[cfg(test)]
mod tests {
    use tickwire_pubsub::{Epoch, Stamp};

    use super::*;
    use crate::QuoteFields;

    fn quote(build: impl FnOnce(&mut QuoteFields)) -> Quote {
        let mut fields = QuoteFields::new(Symbol::new("EURUSD").unwrap());
        build(&mut fields);
        Quote::new(fields).unwrap()
    }

    fn json(value: Value) -> String {
        let stamp = Stamp { epoch: Epoch { clock: 1, incarnation: 2, node: 3 }, seq: 7 };
        let symbol = Symbol::new("EURUSD").unwrap();
        let text = value.to_json(&mut Vec::new(), &symbol, stamp.seq, &stamp.epoch.tag());
        let parsed: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(parsed["epoch"], stamp.epoch.tag().as_str());
        String::from_utf8_lossy(&text).replace(stamp.epoch.tag().as_str(), "E")
    }

    #[test]
    fn a_group_is_replaced_as_a_whole_and_an_absent_one_stays() {
        let first = quote(|fields| {
            fields.bid = Some("1.10".parse().unwrap());
            fields.ask = Some("1.12".parse().unwrap());
            fields.bid_size = Some("5".parse().unwrap());
            fields.ts = Some(9);
        });
        let value = Value::default().with(&first);
        assert_eq!(
            json(value),
            r#"{"symbol":"EURUSD","bid":"1.10","ask":"1.12","bid_size":"5","ts":9,"epoch":"E","seq":7}"#
        );
        let value = value.with(&quote(|fields| fields.last = Some("1.11".parse().unwrap())));
        assert_eq!(
            json(value),
            r#"{"symbol":"EURUSD","bid":"1.10","ask":"1.12","bid_size":"5","last":"1.11","epoch":"E","seq":7}"#
        );
        let value = value.with(&quote(|fields| {
            fields.bid = Some("1.13".parse().unwrap());
            fields.source = Some(Source::Simulated);
        }));
        assert_eq!(
            json(value),
            r#"{"symbol":"EURUSD","bid":"1.13","last":"1.11","source":"simulated","epoch":"E","seq":7}"#
        );
        let value = value.with(&quote(|fields| {
            fields.bid = Some("1.13".parse().unwrap());
            fields.ask = Some("1.12".parse().unwrap());
        }));
        assert_eq!(
            json(value),
            r#"{"symbol":"EURUSD","bid":"1.13","ask":"1.12","last":"1.11","crossed":true,"epoch":"E","seq":7}"#
        );
    }

    #[test]
    fn n_is_the_last_key_and_absent_when_one() {
        let update = Bytes::from_static(b"{\"seq\":7}");
        assert_eq!(with_n(&update, 1), update);
        assert_eq!(with_n(&update, 12), "{\"seq\":7,\"n\":12}");
    }
}
