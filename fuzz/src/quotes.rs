//! What holds for every quote that a decoder accepted, whatever it came in.

use bytes::Bytes;
use prost::Message as _;
use serde_json::json;
use tickwire_market::{
    Batch, Decimal, Quote,
    decode::{decode_csv, decode_json, decode_ndjson, decode_publish},
};
use tickwire_proto::v1 as pb;

/// How many quotes a body may hold here.
pub const QUOTES_MAX: usize = 8;

/// The numbers that a quote has, by name, as they would be written.
pub fn numbers(quote: &Quote) -> Vec<(&'static str, String)> {
    let sides = quote.sides().copied().unwrap_or_default();
    let last = quote.last();
    let all = [
        ("bid", sides.bid),
        ("ask", sides.ask),
        ("bid_size", sides.bid_size),
        ("ask_size", sides.ask_size),
        ("last", last.map(|last| last.price)),
        ("last_size", last.and_then(|last| last.size)),
    ];
    all.into_iter().filter_map(|(name, number)| Some((name, number?.to_string()))).collect()
}

/// Every record is accounted for, there are no more than allowed, and each accepted quote keeps the rules and its publisher's digits.
pub fn check_batch(batch: &Batch, data: &[u8], csv: bool) {
    assert_eq!(batch.len(), batch.quotes().len() + batch.rejected().len());
    assert!(batch.len() <= QUOTES_MAX);
    for rejected in batch.rejected() {
        assert!((rejected.index as usize) < batch.len());
        assert!(rejected.rejection.to_string().len() < 400, "a rejection repeats its input: {}", rejected.rejection);
        assert!(
            !rejected.rejection.retryable(),
            "what cannot be read now cannot be read later: {}",
            rejected.rejection
        );
    }
    for quote in batch.quotes() {
        for (name, digits) in numbers(quote) {
            assert!(crate::contains(data, digits.as_bytes()), "{name} {digits} was never sent");
        }
    }
    // One of them stands for all: this is the slow part.
    if let Some(quote) = batch.quotes().last() {
        check_quote(quote, csv);
    }
}

/// The rules, and that all formats carry the quote unchanged; `csv` among them or not.
pub fn check_quote(quote: &Quote, csv: bool) {
    let symbol = quote.symbol().as_str();
    assert!((1..=64).contains(&symbol.len()) && symbol.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(quote.sides().is_some() || quote.last().is_some(), "it changes nothing");
    assert!(quote.ts().is_none_or(|ts| (0..=Quote::TS_MAX).contains(&ts)));
    let positive = |price: Option<Decimal>| price.is_none_or(|price| !price.is_zero());
    let sides = quote.sides().copied().unwrap_or_default();
    assert!(positive(sides.bid) && positive(sides.ask) && positive(quote.last().map(|last| last.price)));

    let object = as_json(quote);
    same(quote, decode_json(object.as_bytes(), 1).expect("one quote"));
    same(quote, decode_ndjson(object.as_bytes(), 1).expect("one quote"));
    // A time of 0 is an absent one in protobuf.
    if quote.ts() != Some(0) {
        let message = pb::PublishRequest { quotes: vec![as_protobuf(quote)] }.encode_to_vec();
        same(quote, decode_publish(&message, 1).expect("one quote"));
    }
    // A CSV reader is slow to build, and marks may need quotes.
    if csv && quote.id().is_none() && quote.mark().is_none() {
        same(quote, decode_csv(as_csv(quote).as_bytes(), 1).expect("one quote"));
    }
}

fn same(quote: &Quote, batch: Batch) {
    assert!(batch.rejected().is_empty(), "{quote:?} came back as {:?}", batch.rejected());
    let back: Vec<_> = batch.quotes().collect();
    assert_eq!(back.len(), 1);
    assert_eq!(format!("{quote:?}"), format!("{:?}", back[0]));
}

fn as_json(quote: &Quote) -> String {
    let mut object = json!({"symbol": quote.symbol().as_str()});
    for (name, digits) in numbers(quote) {
        object[name] = digits.into();
    }
    if let Some(ts) = quote.ts() {
        object["ts"] = ts.into();
    }
    if let Some(id) = quote.id() {
        object["id"] = id.as_str().into();
    }
    if let Some(mark) = quote.mark() {
        object["publisher"] = mark.publisher.as_str().into();
        object["pseq"] = mark.pseq.into();
    }
    object.to_string()
}

fn as_csv(quote: &Quote) -> String {
    let (mut header, mut row) = ("symbol".to_owned(), quote.symbol().to_string());
    for (name, digits) in numbers(quote) {
        header = format!("{header},{name}");
        row = format!("{row},{digits}");
    }
    let ts = quote.ts().map(|ts| ts.to_string()).unwrap_or_default();
    format!("{header},ts\n{row},{ts}\n")
}

fn as_protobuf(quote: &Quote) -> pb::Quote {
    let mut message = pb::Quote {
        symbol: quote.symbol().to_string(),
        ts: quote.ts().unwrap_or_default(),
        id: quote.id().map(ToString::to_string).unwrap_or_default(),
        publisher: quote.mark().map(|mark| mark.publisher.to_string()).unwrap_or_default(),
        pseq: quote.mark().map(|mark| mark.pseq).unwrap_or_default(),
        ..pb::Quote::default()
    };
    for (name, digits) in numbers(quote) {
        *match name {
            "bid" => &mut message.bid,
            "ask" => &mut message.ask,
            "bid_size" => &mut message.bid_size,
            "ask_size" => &mut message.ask_size,
            "last" => &mut message.last,
            _ => &mut message.last_size,
        } = digits;
    }
    pb::Quote::decode(Bytes::from(message.encode_to_vec())).expect("what was just written")
}
