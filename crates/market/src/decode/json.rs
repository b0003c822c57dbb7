//! A JSON quote or an array of them.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer as _,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{BodyError, mark, number, without_bom};
use crate::{Batch, Field, Quote, QuoteFields, Rejection, Symbol, parse_ts, rejection::excerpt};

/// A record before its values are looked at: each keeps its exact text, so that no digit goes through a float. Keys that are not ours
/// are the publisher's own business and are skipped.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    symbol: Option<&'a RawValue>,
    #[serde(borrow)]
    bid: Option<&'a RawValue>,
    #[serde(borrow)]
    ask: Option<&'a RawValue>,
    #[serde(borrow)]
    bid_size: Option<&'a RawValue>,
    #[serde(borrow)]
    ask_size: Option<&'a RawValue>,
    #[serde(borrow)]
    last: Option<&'a RawValue>,
    #[serde(borrow)]
    last_size: Option<&'a RawValue>,
    #[serde(borrow)]
    ts: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    publisher: Option<&'a RawValue>,
    pseq: Option<u64>,
}

/// Characters that are told of what is wrong with a record.
const PROBLEM_CHARS_MAX: usize = 120;

/// Reads one quote, or an array of at most `quotes_max`.
///
/// # Errors
/// If the body is not JSON, neither an object nor an array, or an array of too many.
pub fn decode_json(body: &[u8], quotes_max: usize) -> Result<Batch, BodyError> {
    let malformed = |error: serde_json::Error| BodyError::Malformed(format!("the body is not JSON: {error}"));
    let text = std::str::from_utf8(without_bom(body))
        .map_err(|error| BodyError::Malformed(format!("the body is not UTF-8 from byte {}", error.valid_up_to())))?;
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'[') => decode_array(text, quotes_max),
        Some(b'{') => {
            let record: &RawValue = serde_json::from_str(text).map_err(malformed)?;
            Ok(std::iter::once(decode_record(record.get())).collect())
        }
        Some(_) => Err(BodyError::Malformed("the body must be a JSON object or an array of them".to_owned())),
        None => Err(BodyError::Malformed("the body is empty, expected a JSON object or an array of them".to_owned())),
    }
}

fn decode_array(text: &str, quotes_max: usize) -> Result<Batch, BodyError> {
    let mut records = Records { batch: Batch::default(), quotes_max, refused: None };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = reader.deserialize_seq(&mut records).and_then(|()| reader.end());
    match (read, records.refused) {
        (Ok(()), _) => Ok(records.batch),
        (Err(_), Some(refused)) => Err(refused),
        (Err(error), None) => Err(BodyError::Malformed(format!("the body is not JSON: {error}"))),
    }
}

struct Records {
    batch: Batch,
    quotes_max: usize,
    refused: Option<BodyError>,
}

impl<'de> Visitor<'de> for &mut Records {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of quotes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(record) = elements.next_element::<&RawValue>()? {
            if let Err(refused) = super::push(&mut self.batch, self.quotes_max, || decode_record(record.get())) {
                self.refused = Some(refused);
                return Err(A::Error::custom("too many quotes"));
            }
        }
        Ok(())
    }
}

/// Reads one quote.
pub(super) fn decode_record(text: &str) -> Result<Quote, Rejection> {
    if !text.starts_with('{') {
        return Err(Rejection::malformed(format!("expected an object, seen {}", excerpt(text.as_bytes()))));
    }
    let record: Record<'_> = serde_json::from_str(text).map_err(|error| {
        // The record is valid JSON or a line of its own: only the column says something.
        let problem = error.to_string();
        let problem = problem.rsplit_once(" at line ").map_or(problem.as_str(), |(problem, _)| problem);
        // What is of the wrong type is repeated in it, however long it is.
        let problem: String = problem.chars().take(PROBLEM_CHARS_MAX).collect();
        Rejection::malformed(format!("{problem} at column {}", error.column()))
    })?;
    let name = record.symbol.ok_or(Rejection::MissingField("a quote needs symbol"))?;
    let mut fields = QuoteFields::new(Symbol::new(&string("symbol", name)?)?);
    for (field, value) in Field::ALL.into_iter().zip([
        record.bid,
        record.ask,
        record.bid_size,
        record.ask_size,
        record.last,
        record.last_size,
    ]) {
        *fields.number_mut(field) = value.map(|value| number(field, unquoted(value).as_bytes())).transpose()?;
    }
    fields.ts = record.ts.map(|ts| parse_ts(unquoted(ts).as_bytes())).transpose()?;
    fields.id = record.id.map(|id| string("id", id)).transpose()?.map(|id| id.as_ref().into());
    let publisher = record.publisher.map(|publisher| string("publisher", publisher)).transpose()?;
    fields.mark = mark(publisher.as_deref(), record.pseq)?;
    Quote::new(fields)
}

/// The text of a number or of a string that holds one. An escape in it is no digit and is rejected as such.
fn unquoted(value: &RawValue) -> &str {
    let text = value.get();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

fn string<'a>(key: &str, value: &'a RawValue) -> Result<Cow<'a, str>, Rejection> {
    let text = value.get();
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str(text)
            .map(Cow::Owned)
            .map_err(|_| Rejection::malformed(format!("{key} must be a string, seen {}", excerpt(text.as_bytes())))),
    }
}
