//! Quotes of the public gRPC API, and updates for its followers.

use bytes::Bytes;
use serde::Deserialize;
use tickwire_proto::v1 as pb;

use super::{BodyError, number, push};
use crate::{Batch, Field, PublisherMark, Quote, QuoteFields, Rejection, Symbol};

/// Reads a batch of at most `quotes_max` quotes.
///
/// # Errors
/// If there are too many.
pub fn decode_publish(request: pb::PublishRequest, quotes_max: usize) -> Result<Batch, BodyError> {
    let mut batch = Batch::default();
    for quote in request.quotes {
        push(&mut batch, quotes_max, || quote_from_proto(quote))?;
    }
    Ok(batch)
}

/// Reads a quote. An empty string is an absent field, a `ts` of 0 an absent time.
///
/// # Errors
/// If it is no valid quote.
pub fn quote_from_proto(quote: pb::Quote) -> Result<Quote, Rejection> {
    let mut fields = QuoteFields::new(Symbol::new(&quote.symbol)?);
    for (field, text) in Field::ALL.into_iter().zip([
        &quote.bid,
        &quote.ask,
        &quote.bid_size,
        &quote.ask_size,
        &quote.last,
        &quote.last_size,
    ]) {
        if !text.is_empty() {
            *fields.number_mut(field) = Some(number(field, text.as_bytes())?);
        }
    }
    fields.ts = (quote.ts != 0).then_some(quote.ts);
    fields.id = (!quote.id.is_empty()).then(|| quote.id.into());
    // proto3 does not tell an absent pseq from 0: with a publisher, 0 is its first number.
    fields.mark = match (quote.publisher, quote.pseq) {
        (publisher, 0) if publisher.is_empty() => None,
        (publisher, _) if publisher.is_empty() => return Err(Rejection::MissingField("pseq needs publisher")),
        (publisher, pseq) => Some(PublisherMark { publisher: publisher.into(), pseq }),
    };
    Quote::new(fields)
}

/// The payload of `update`, as this server writes it.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Update {
    symbol: String,
    bid: String,
    ask: String,
    bid_size: String,
    ask_size: String,
    last: String,
    last_size: String,
    ts: i64,
    crossed: bool,
    source: String,
    epoch: String,
    seq: u64,
    n: Option<u64>,
}

/// Turns the payload of `update` into the message of the public gRPC API. `n` is the payload's own, and 1 if it has none: a caller that
/// merged updates sets it.
///
/// # Errors
/// If the payload is not that of an update.
pub fn update_from_json(payload: &Bytes) -> Result<pb::Update, serde_json::Error> {
    let update: Update = serde_json::from_slice(payload)?;
    Ok(pb::Update {
        symbol: update.symbol,
        bid: update.bid,
        ask: update.ask,
        bid_size: update.bid_size,
        ask_size: update.ask_size,
        last: update.last,
        last_size: update.last_size,
        ts: update.ts,
        epoch: update.epoch,
        seq: update.seq,
        n: update.n.unwrap_or(1),
        crossed: update.crossed,
        source: update.source,
    })
}
