//! Quotes of the public gRPC API, and updates for its followers.
//!
//! A message is read where it lies: no field of it is copied, and no quote is built beyond those that a batch may have. What it means is
//! what prost says it means, which a property test states.

use bytes::{Buf as _, Bytes};
use prost::{
    DecodeError,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use serde::Deserialize;
use tickwire_proto::v1 as pb;

use super::{BodyError, number, push};
use crate::{Batch, Field, PublisherMark, Quote, QuoteFields, Rejection, Symbol};

/// Reads a `PublishRequest` of at most `quotes_max` quotes. Four megabytes may hold two million empty ones: it stops at the first that is
/// too many.
///
/// # Errors
/// If the message is none, or has too many quotes.
pub fn decode_publish(message: &[u8], quotes_max: usize) -> Result<Batch, BodyError> {
    let mut batch = Batch::with_room(quotes_max.min(message.len() / QUOTE_BYTES_USUAL + 1));
    let mut rest = message;
    while !rest.is_empty() {
        match field(&mut rest)? {
            (1, Value::Bytes(quote)) => {
                let fields = Fields::read(quote)?;
                push(&mut batch, quotes_max, || fields.quote())?;
                fields.check_texts(&batch)?;
            }
            (1, _) => return Err(malformed("field 1 is no message")),
            _ => {}
        }
    }
    Ok(batch)
}

/// What a quote takes on the wire, or a little less: a batch has room for so many from the start.
const QUOTE_BYTES_USUAL: usize = 48;

/// Text fields of a quote; the number of a field in the message is its place here plus one, with `ts` between two of them.
const TEXTS: usize = 10;
const SYMBOL: usize = 0;
const FIRST_NUMBER: usize = 1;
const TS: usize = 7;
const ID: usize = 8;
const PUBLISHER: usize = 9;

/// A quote as it lies in the message; an empty text is an absent field.
#[derive(Default)]
struct Fields<'a> {
    texts: [&'a [u8]; TEXTS],
    ts: i64,
    pseq: u64,
}

/// What a field holds.
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Something that no field of ours is.
    Other,
}

impl<'a> Fields<'a> {
    fn read(mut message: &'a [u8]) -> Result<Self, BodyError> {
        let mut fields = Self::default();
        while !message.is_empty() {
            match field(&mut message)? {
                (8, Value::Varint(ts)) => fields.ts = ts.cast_signed(),
                (11, Value::Varint(pseq)) => fields.pseq = pseq,
                (number @ (1..=7 | 9 | 10), Value::Bytes(text)) => {
                    // Of a field that is there twice the last one counts, but both must be text.
                    let known = &mut fields.texts[number as usize - 1];
                    if !known.is_empty() {
                        check_text(known)?;
                    }
                    *known = text;
                }
                (number @ 1..=11, _) => {
                    return Err(malformed(&format!("field {number} of a quote is of another type")));
                }
                _ => {}
            }
        }
        Ok(fields)
    }

    /// The quote; a `ts` of 0 is an absent time.
    fn quote(&self) -> Result<Quote, Rejection> {
        let text = |place: usize| std::str::from_utf8(self.texts[place]).unwrap_or_default();
        let mut fields = QuoteFields::new(Symbol::new(text(SYMBOL))?);
        for (field, text) in Field::ALL.into_iter().zip(&self.texts[FIRST_NUMBER..TS]) {
            if !text.is_empty() {
                *fields.number_mut(field) = Some(number(field, text)?);
            }
        }
        fields.ts = (self.ts != 0).then_some(self.ts);
        fields.id = Some(text(ID)).filter(|id| !id.is_empty()).map(Into::into);
        // proto3 does not tell an absent pseq from 0: with a publisher, 0 is its first number.
        fields.mark = match (text(PUBLISHER), self.pseq) {
            ("", 0) => None,
            ("", _) => return Err(Rejection::MissingField("pseq needs publisher")),
            (publisher, pseq) => Some(PublisherMark { publisher: publisher.into(), pseq }),
        };
        Quote::new(fields)
    }

    /// That every text is UTF-8, as protobuf demands. The symbol and the numbers of a quote that was taken are plain letters and digits.
    fn check_texts(&self, batch: &Batch) -> Result<(), BodyError> {
        let from = if batch.ends_with_quote() { ID } else { 0 };
        self.texts[from..].iter().try_for_each(|text| check_text(text))
    }
}

/// Reads one field: its number and what it holds.
fn field<'a>(message: &mut &'a [u8]) -> Result<(u32, Value<'a>), BodyError> {
    let (number, wire_type) = decode_key(message).map_err(unreadable)?;
    let value = match wire_type {
        WireType::Varint => Value::Varint(decode_varint(message).map_err(unreadable)?),
        WireType::LengthDelimited => {
            let length = decode_varint(message).map_err(unreadable)?;
            let bytes = usize::try_from(length).ok().and_then(|length| message.get(..length));
            let bytes = bytes.ok_or_else(|| malformed("a field is longer than its message"))?;
            message.advance(bytes.len());
            Value::Bytes(bytes)
        }
        other => {
            skip_field(other, number, message, DecodeContext::default()).map_err(unreadable)?;
            Value::Other
        }
    };
    Ok((number, value))
}

fn check_text(text: &[u8]) -> Result<(), BodyError> {
    std::str::from_utf8(text).map(|_| ()).map_err(|_| malformed("a text is not UTF-8"))
}

fn unreadable(error: DecodeError) -> BodyError {
    malformed(&error.to_string())
}

fn malformed(problem: &str) -> BodyError {
    BodyError::Malformed(format!("the message cannot be read: {problem}"))
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

#[cfg(test)]
mod tests;
