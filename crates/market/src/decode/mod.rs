//! From what publishers send to a [`Batch`]: JSON, JSON lines, CSV and protobuf.
//!
//! One bad record costs itself only: it becomes a rejection at its place. A body that is not of its format at all, or that holds too
//! many records, is refused as a whole, and nothing of it is taken.

mod csv;
mod json;
mod ndjson;
mod protobuf;

pub use self::{
    csv::decode_csv,
    json::decode_json,
    ndjson::decode_ndjson,
    protobuf::{decode_publish, update_from_json},
};
use crate::{Batch, Decimal, Field, Quote, Rejection};

/// Why a whole body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is not of its format.
    #[error("{0}")]
    Malformed(String),
    /// It holds too many quotes.
    #[error("a batch holds at most {limit} quotes (market.batch_max); send several")]
    TooManyQuotes {
        /// How many it may hold.
        limit: usize,
    },
}

impl BodyError {
    /// The stable code of `docs/codes.md`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooManyQuotes { .. } => "too_large",
        }
    }
}

/// A body without the byte order mark that spreadsheets and shells put before theirs.
fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Adds a record to a batch that may hold `limit` of them.
fn push(batch: &mut Batch, limit: usize, quote: impl FnOnce() -> Result<Quote, Rejection>) -> Result<(), BodyError> {
    if batch.len() >= limit {
        return Err(BodyError::TooManyQuotes { limit });
    }
    batch.push(quote());
    Ok(())
}

/// Reads a number of a quote.
fn number(field: Field, text: &[u8]) -> Result<Decimal, Rejection> {
    Decimal::parse(text).map_err(|problem| Rejection::number(field, problem, text))
}

/// `publisher` and `pseq` make sense together only.
fn mark(publisher: Option<&str>, pseq: Option<u64>) -> Result<Option<crate::PublisherMark>, Rejection> {
    match (publisher, pseq) {
        (None, None) => Ok(None),
        (Some(publisher), Some(pseq)) => Ok(Some(crate::PublisherMark { publisher: publisher.into(), pseq })),
        (Some(_), None) => Err(Rejection::MissingField("publisher needs pseq")),
        (None, Some(_)) => Err(Rejection::MissingField("pseq needs publisher")),
    }
}

#[cfg(test)]
mod tests;
