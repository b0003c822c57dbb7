//! What the market says to its twin on another node, as protobuf.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tickwire_proto::mesh::v1 as pb;
use tickwire_pubsub::wire::{WireError, stamp_from_wire, stamp_to_wire};

use crate::{
    Batch, Decimal, DecimalError, Field, IngestReport, JoinSnapshot, PublisherMark, Quote, QuoteFields, Rejected,
    Rejection, Resume, Since, Source, State, Status, Symbol, SymbolError, batch::Indexed,
};

/// What a peer asks.
#[derive(Debug)]
pub(crate) enum Request {
    /// Takes these quotes, whose symbols it believes this node to own.
    Forward(Batch),
    /// What a client gets that joins there.
    Snapshot { symbol: Symbol, since: Option<Since> },
}

pub(crate) fn encode_forward<'a>(quotes: impl Iterator<Item = &'a Indexed>) -> Bytes {
    let quotes = quotes.map(|indexed| quote_to_wire(&indexed.quote)).collect();
    encode_request(pb::request::Body::Forward(pb::ForwardRequest { quotes }))
}

pub(crate) fn encode_snapshot_request(symbol: &Symbol, since: Option<&Since>) -> Bytes {
    encode_request(pb::request::Body::Snapshot(pb::SnapshotRequest {
        symbol: Bytes::copy_from_slice(symbol.as_str().as_bytes()),
        since_epoch: since.map(|since| since.epoch().to_owned()).unwrap_or_default(),
        since_seq: since.map(Since::seq).unwrap_or_default(),
        has_since: since.is_some(),
    }))
}

fn encode_request(body: pb::request::Body) -> Bytes {
    pb::Request { body: Some(body) }.encode_to_vec().into()
}

pub(crate) fn decode_request(bytes: Bytes) -> Result<Request, WireError> {
    match pb::Request::decode(bytes)?.body.ok_or(WireError::Field("request.body"))? {
        pb::request::Body::Forward(forward) => {
            Ok(Request::Forward(forward.quotes.into_iter().map(quote_from_wire).collect()))
        }
        pb::request::Body::Snapshot(request) => {
            let symbol = symbol_from_wire(&request.symbol).map_err(|_| WireError::Field("symbol"))?;
            let since = request.has_since.then(|| Since::new(&request.since_epoch, request.since_seq)).transpose();
            Ok(Request::Snapshot { symbol, since: since.map_err(|_| WireError::Field("since_epoch"))? })
        }
    }
}

pub(crate) fn encode_report(report: &IngestReport) -> Bytes {
    let rejected = report.rejected.iter().map(|Rejected { index, rejection }| pb::forward_response::Outcome {
        index: *index,
        code: rejection.code().to_owned(),
        error: rejection.to_string(),
        retryable: rejection.retryable(),
    });
    encode_response(pb::response::Body::Forward(pb::ForwardResponse {
        accepted: report.accepted,
        duplicates: report.duplicates,
        rejected: rejected.collect(),
    }))
}

/// Reads the owner's report on `quotes` forwarded ones.
pub(crate) fn decode_report(bytes: Bytes, quotes: usize) -> Result<IngestReport, WireError> {
    let Some(pb::response::Body::Forward(response)) = pb::Response::decode(bytes)?.body else {
        return Err(WireError::Field("response.forward"));
    };
    let reported = usize::try_from(response.accepted).unwrap_or(usize::MAX).saturating_add(response.rejected.len());
    if reported != quotes || response.rejected.iter().any(|outcome| outcome.index as usize >= quotes) {
        return Err(WireError::Field("response.forward.rejected"));
    }
    let rejected = response.rejected.into_iter().map(|outcome| Rejected {
        index: outcome.index,
        rejection: if outcome.code == Rejection::Busy.code() {
            Rejection::Busy
        } else {
            Rejection::Remote { code: outcome.code, message: outcome.error, retryable: outcome.retryable }
        },
    });
    Ok(IngestReport { accepted: response.accepted, duplicates: response.duplicates, rejected: rejected.collect() })
}

/// `None`: only listed symbols are served, and this is none.
pub(crate) fn encode_snapshot(snapshot: Option<JoinSnapshot>) -> Bytes {
    let Some(snapshot) = snapshot else {
        return encode_response(pb::response::Body::Snapshot(pb::SnapshotResponse::default()));
    };
    let age_us = snapshot.age.map_or(0, |age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
    encode_response(pb::response::Body::Snapshot(pb::SnapshotResponse {
        known: true,
        recovered: snapshot.recovered(),
        quote: snapshot.quote.unwrap_or_default(),
        stamp: snapshot.floor.map(stamp_to_wire),
        missed: snapshot.missed,
        state: snapshot.status.state.as_str().to_owned(),
        since_us: snapshot.status.since_us,
        age_us,
    }))
}

/// Reads the owner's snapshot; `None`: only listed symbols are served, and this is none. Why a resume failed is the owner's to know and
/// to count.
pub(crate) fn decode_snapshot(bytes: Bytes) -> Result<Option<JoinSnapshot>, WireError> {
    let Some(pb::response::Body::Snapshot(response)) = pb::Response::decode(bytes)?.body else {
        return Err(WireError::Field("response.snapshot"));
    };
    if !response.known {
        return Ok(None);
    }
    let floor = stamp_from_wire(&response.stamp.ok_or(WireError::Field("stamp"))?)?;
    let quote = Some(response.quote).filter(|quote| !quote.is_empty());
    Ok(Some(JoinSnapshot {
        epoch: floor.epoch.tag(),
        seq: floor.seq,
        floor: Some(floor),
        resume: if response.recovered { Resume::Recovered } else { Resume::NotAsked },
        missed: response.missed,
        // A state that this version does not know is not one that makes a value live.
        status: Status {
            state: if response.state == State::Ok.as_str() { State::Ok } else { State::Stale },
            since_us: response.since_us,
        },
        age: quote.as_ref().map(|_| Duration::from_micros(response.age_us)),
        quote,
    }))
}

fn encode_response(body: pb::response::Body) -> Bytes {
    pb::Response { body: Some(body) }.encode_to_vec().into()
}

fn quote_to_wire(quote: &Quote) -> pb::Quote {
    let sides = quote.sides().copied().unwrap_or_default();
    let mark = quote.mark();
    pb::Quote {
        symbol: Bytes::copy_from_slice(quote.symbol().as_str().as_bytes()),
        bid: sides.bid.map(decimal_to_wire),
        ask: sides.ask.map(decimal_to_wire),
        bid_size: sides.bid_size.map(decimal_to_wire),
        ask_size: sides.ask_size.map(decimal_to_wire),
        last: quote.last().map(|last| decimal_to_wire(last.price)),
        last_size: quote.last().and_then(|last| last.size).map(decimal_to_wire),
        ts: quote.ts().unwrap_or_default(),
        has_ts: quote.ts().is_some(),
        id: quote.id().map(ToString::to_string).unwrap_or_default(),
        publisher: mark.map(|mark| mark.publisher.to_string()).unwrap_or_default(),
        pseq: mark.map(|mark| mark.pseq).unwrap_or_default(),
        has_pseq: mark.is_some(),
        source: quote.source().map(|source| source.as_str().to_owned()).unwrap_or_default(),
    }
}

/// A peer checks its quotes, yet its version may check less than ours.
fn quote_from_wire(quote: pb::Quote) -> Result<Quote, Rejection> {
    let number = |field, number: Option<pb::Decimal>| match number {
        None => Ok(None),
        Some(number) => decimal_from_wire(&number)
            .map(Some)
            .ok_or_else(|| Rejection::number(field, DecimalError::TooManyDigits, b"")),
    };
    Quote::new(QuoteFields {
        symbol: symbol_from_wire(&quote.symbol)?,
        bid: number(Field::Bid, quote.bid)?,
        ask: number(Field::Ask, quote.ask)?,
        bid_size: number(Field::BidSize, quote.bid_size)?,
        ask_size: number(Field::AskSize, quote.ask_size)?,
        last: number(Field::Last, quote.last)?,
        last_size: number(Field::LastSize, quote.last_size)?,
        ts: quote.has_ts.then_some(quote.ts),
        id: (!quote.id.is_empty()).then(|| quote.id.into()),
        mark: quote.has_pseq.then(|| PublisherMark { publisher: quote.publisher.into(), pseq: quote.pseq }),
        source: Source::named(&quote.source),
    })
}

fn symbol_from_wire(bytes: &[u8]) -> Result<Symbol, SymbolError> {
    Symbol::new(std::str::from_utf8(bytes).map_err(|_| SymbolError::of(bytes))?)
}

fn decimal_to_wire(value: Decimal) -> pb::Decimal {
    let mantissa = value.mantissa();
    let [high, low] = [mantissa >> 64, mantissa & u128::from(u64::MAX)];
    let half = |part: u128| u64::try_from(part).expect("half of 128 bits has 64");
    pb::Decimal { high: half(high), low: half(low), scale: value.scale().into() }
}

fn decimal_from_wire(value: &pb::Decimal) -> Option<Decimal> {
    let mantissa = (u128::from(value.high) << 64) | u128::from(value.low);
    Decimal::from_parts(mantissa, u8::try_from(value.scale).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_survives_the_way_to_its_owner() {
        let mut fields = QuoteFields::new(Symbol::new("EURUSD").unwrap());
        fields.bid = Some("999999999999999999.999999999999999999".parse().unwrap());
        fields.bid_size = Some("0".parse().unwrap());
        fields.last = Some("1.10".parse().unwrap());
        fields.ts = Some(0);
        fields.id = Some("x".into());
        fields.mark = Some(PublisherMark { publisher: "p".into(), pseq: 0 });
        fields.source = Some(Source::Simulated);
        let sent = Indexed { index: 9, quote: Quote::new(fields).unwrap() };
        let Request::Forward(batch) = decode_request(encode_forward([&sent].into_iter())).unwrap() else {
            panic!("a forwarded batch");
        };
        assert_eq!(format!("{:?}", batch.quotes[0].quote), format!("{:?}", sent.quote));
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_does_not_panic() {
        for bytes in [&b""[..], b"\xff", b"\x0a\xff"] {
            assert!(decode_request(Bytes::copy_from_slice(bytes)).is_err());
            assert!(decode_report(Bytes::copy_from_slice(bytes), 0).is_err());
            assert!(decode_snapshot(Bytes::copy_from_slice(bytes)).is_err());
        }
        let report = IngestReport { accepted: 1, ..IngestReport::default() };
        assert!(decode_report(encode_report(&report), 2).is_err(), "a quote is unaccounted for");
    }
}
