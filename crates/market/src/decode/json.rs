//! A JSON quote or an array of them.

mod plain;

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{BodyError, mark, number, push, without_bom};
use crate::{Batch, Field, Quote, QuoteFields, Rejection, Symbol, parse_ts, rejection::excerpt};

/// A record before its values are looked at: each keeps its exact text, so that no digit goes through a float. Keys that are not ours
/// are the publisher's own business and are skipped.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Record<'a> {
    #[serde(borrow, deserialize_with = "raw")]
    symbol: Option<&'a str>,
    #[serde(borrow, deserialize_with = "raw")]
    bid: Option<&'a str>,
    #[serde(borrow, deserialize_with = "raw")]
    ask: Option<&'a str>,
    #[serde(borrow, deserialize_with = "raw")]
    bid_size: Option<&'a str>,
    #[serde(borrow, deserialize_with = "raw")]
    ask_size: Option<&'a str>,
    #[serde(borrow, deserialize_with = "raw")]
    last: Option<&'a str>,
    #[serde(borrow, deserialize_with = "raw")]
    last_size: Option<&'a str>,
    #[serde(borrow, deserialize_with = "raw")]
    ts: Option<&'a str>,
    #[serde(borrow, deserialize_with = "raw")]
    id: Option<&'a str>,
    #[serde(borrow, deserialize_with = "raw")]
    publisher: Option<&'a str>,
    pseq: Option<u64>,
}

/// The exact text of a value; that of `null` is none.
fn raw<'de: 'a, 'a, D: Deserializer<'de>>(reader: D) -> Result<Option<&'a str>, D::Error> {
    Ok(Option::<&'a RawValue>::deserialize(reader)?.map(RawValue::get))
}

/// What a record takes, or a little less: a batch has room for so many from the start.
pub(super) const RECORD_BYTES_USUAL: usize = 64;

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
    match decode_plain_array(text, quotes_max) {
        Some(decoded) => decoded,
        None => decode_any_array(text, quotes_max),
    }
}

/// An array of plain records; `None` if something in it is not plain.
fn decode_plain_array(text: &str, quotes_max: usize) -> Option<Result<Batch, BodyError>> {
    let mut batch = Batch::with_room(quotes_max.min(text.len() / RECORD_BYTES_USUAL + 1));
    let mut rest = trim_start(text).strip_prefix('[')?;
    loop {
        let (record, after) = plain::record(rest)?;
        if let Err(refused) = push(&mut batch, quotes_max, || quote(&record)) {
            return Some(Err(refused));
        }
        let after = trim_start(after);
        if let Some(next) = after.strip_prefix(',') {
            rest = next;
        } else {
            return trim_start(after.strip_prefix(']')?).is_empty().then_some(Ok(batch));
        }
    }
}

/// A text without the white space, as JSON has it, that it begins with.
fn trim_start(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\r', '\n'])
}

fn decode_any_array(text: &str, quotes_max: usize) -> Result<Batch, BodyError> {
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
            if let Err(refused) = push(&mut self.batch, self.quotes_max, || decode_record(record.get())) {
                self.refused = Some(refused);
                return Err(A::Error::custom("too many quotes"));
            }
        }
        Ok(())
    }
}

/// Reads one quote.
pub(super) fn decode_record(text: &str) -> Result<Quote, Rejection> {
    match plain::record(text) {
        Some((record, rest)) if trim_start(rest).is_empty() => quote(&record),
        _ => quote(&any_record(text)?),
    }
}

fn any_record(text: &str) -> Result<Record<'_>, Rejection> {
    if !text.starts_with('{') {
        return Err(Rejection::malformed(format!("expected an object, seen {}", excerpt(text.as_bytes()))));
    }
    serde_json::from_str(text).map_err(|error| {
        // The record is valid JSON or a line of its own: only the column says something.
        let problem = error.to_string();
        let problem = problem.rsplit_once(" at line ").map_or(problem.as_str(), |(problem, _)| problem);
        // What is of the wrong type is repeated in it, however long it is.
        let problem: String = problem.chars().take(PROBLEM_CHARS_MAX).collect();
        Rejection::malformed(format!("{problem} at column {}", error.column()))
    })
}

fn quote(record: &Record<'_>) -> Result<Quote, Rejection> {
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
        if let Some(value) = value {
            *fields.number_mut(field) = Some(number(field, unquoted(value).as_bytes())?);
        }
    }
    fields.ts = record.ts.map(|ts| parse_ts(unquoted(ts).as_bytes())).transpose()?;
    fields.id = record.id.map(|id| string("id", id)).transpose()?.map(|id| id.as_ref().into());
    let publisher = record.publisher.map(|publisher| string("publisher", publisher)).transpose()?;
    fields.mark = mark(publisher.as_deref(), record.pseq)?;
    Quote::new(fields)
}

/// The text of a number or of a string that holds one. An escape in it is no digit and is rejected as such.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

fn string<'a>(key: &str, text: &'a str) -> Result<Cow<'a, str>, Rejection> {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str(text)
            .map(Cow::Owned)
            .map_err(|_| Rejection::malformed(format!("{key} must be a string, seen {}", excerpt(text.as_bytes())))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Objects that are nearly plain.
    fn object() -> impl Strategy<Value = String> {
        let key = prop_oneof![8 => "(symbol|bid|ask|bid_size|ask_size|last|last_size|ts|id|publisher|pseq)", 1 => "[a-z\u{e9}]{0,3}"];
        let value = prop_oneof![
            6 => "\"[A-C0-9.]{0,4}\"",
            6 => "(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?",
            1 => "[0-9.eE+-]{0,5}",
            1 => "\"[a\\\\\u{e9}\u{1}un\"]{0,3}\"",
            1 => "(null|true|false|\\[\\]|\\{\\}|\\[1,2\\]|nul)",
        ];
        let space = "[ \t\r\n]{0,1}";
        let member = (space, key, space, space, value, space)
            .prop_map(|(a, key, b, c, value, d)| format!("{a}\"{key}\"{b}:{c}{value}{d}"));
        (proptest::collection::vec(member, 0..5), "(\\}|\\}|\\}|\\} |,\\}|\\} x|)")
            .prop_map(|(members, end)| format!("{{{}{end}", members.join(",")))
    }

    /// What plain reading says of a text that it reads whole.
    fn plainly(text: &str) -> Option<Record<'_>> {
        plain::record(text).filter(|(_, rest)| trim_start(rest).is_empty()).map(|(record, _)| record)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn what_is_read_plainly_means_what_it_means_to_serde(text in object()) {
            if let Some(record) = plainly(&text) {
                prop_assert_eq!(Ok(record), serde_json::from_str(&text).map_err(|error| error.to_string()));
            }
        }

        #[test]
        fn arrays_too(objects in proptest::collection::vec(object(), 0..4), end in "(\\]|\\] |\\]x|)") {
            let text = format!("[{}{end}", objects.join(","));
            if let Some(Ok(batch)) = decode_plain_array(&text, 3) {
                let any = decode_any_array(&text, 3).unwrap();
                prop_assert_eq!(format!("{batch:?}"), format!("{any:?}"));
            }
        }
    }

    #[test]
    fn what_programs_write_is_plain() {
        for text in [
            r#"{"symbol":"EURUSD","bid":1.10,"ask":"1.2","ts":5,"venue":"x","pseq":7,"publisher":"é"}"#,
            "{ \"symbol\" : \"A\" ,\r\n\t\"bid\" : 0.5 }",
        ] {
            assert!(plainly(text).is_some(), "{text}");
        }
        let array = r#" [ {"symbol":"A","bid":1} , {"symbol":"B","bid":2} ] "#;
        assert_eq!(decode_plain_array(array, 2).unwrap().unwrap().len(), 2);
        assert_eq!(decode_plain_array(array, 1).unwrap().unwrap_err(), BodyError::TooManyQuotes { limit: 1 });
    }
}
