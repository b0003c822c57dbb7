//! Our reading of a message against prost's.

use proptest::prelude::*;
use prost::{
    Message as _,
    encoding::{encode_key, encode_varint},
};

use super::*;

/// The quote of a message that prost has decoded.
fn quote_from_proto(quote: pb::Quote) -> Result<Quote, Rejection> {
    let mut fields = QuoteFields::new(Symbol::new(&quote.symbol)?);
    let numbers = [quote.bid, quote.ask, quote.bid_size, quote.ask_size, quote.last, quote.last_size];
    for (field, text) in Field::ALL.into_iter().zip(numbers).filter(|(_, text)| !text.is_empty()) {
        *fields.number_mut(field) = Some(number(field, text.as_bytes())?);
    }
    fields.ts = (quote.ts != 0).then_some(quote.ts);
    fields.id = (!quote.id.is_empty()).then(|| quote.id.into());
    fields.mark = match (quote.publisher, quote.pseq) {
        (publisher, 0) if publisher.is_empty() => None,
        (publisher, _) if publisher.is_empty() => return Err(Rejection::MissingField("pseq needs publisher")),
        (publisher, pseq) => Some(PublisherMark { publisher: publisher.into(), pseq }),
    };
    Quote::new(fields)
}

/// Everything that a batch says, or nothing of a message that is none.
fn told(batch: Option<Batch>) -> Option<String> {
    batch.map(|batch| format!("{} {:?} {:?}", batch.len(), batch.quotes, batch.rejected))
}

fn ours(message: &[u8]) -> Option<String> {
    told(decode_publish(message, usize::MAX).ok())
}

fn theirs(message: &[u8]) -> Option<String> {
    let request = pb::PublishRequest::decode(message).ok()?;
    told(Some(request.quotes.into_iter().map(quote_from_proto).collect()))
}

/// A field of any number and type, whether they fit each other or not.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        6 => "[A-C]{1,3}",
        6 => "(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?",
        2 => "",
        1 => "[a-zß ]{0,30}",
    ];
    let bytes = prop_oneof![9 => text.prop_map(String::into_bytes), 1 => proptest::collection::vec(any::<u8>(), 0..5)];
    let number = prop_oneof![9 => 1..12_u32, 1 => prop_oneof![Just(12_u32), Just(16), Just(0x1fff_ffff)]];
    prop_oneof![
        12 => (number.clone(), bytes).prop_map(|(number, bytes)| delimited(number, &bytes)),
        3 => (prop_oneof![Just(8_u32), Just(11)], any::<u64>()).prop_map(|(number, value)| varint(number, value)),
        1 => (number.clone(), 0..9_u64).prop_map(|(number, value)| varint(number, value)),
        1 => number.clone().prop_map(|number| [key(number, WireType::SixtyFourBit), vec![7; 8]].concat()),
        1 => number.clone().prop_map(|number| [key(number, WireType::ThirtyTwoBit), vec![7; 4]].concat()),
        1 => (number, any::<bool>()).prop_map(|(number, closed)| group(number, closed)),
    ]
}

fn key(number: u32, wire_type: WireType) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, wire_type, &mut out);
    out
}

fn varint(number: u32, value: u64) -> Vec<u8> {
    let mut out = key(number, WireType::Varint);
    encode_varint(value, &mut out);
    out
}

fn delimited(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = key(number, WireType::LengthDelimited);
    encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

/// A group within a group, the outer one closed or not.
fn group(number: u32, closed: bool) -> Vec<u8> {
    let inner = [key(3, WireType::StartGroup), varint(1, 300), key(3, WireType::EndGroup)].concat();
    let end = if closed { key(number, WireType::EndGroup) } else { Vec::new() };
    [key(number, WireType::StartGroup), inner, end].concat()
}

/// A quote that is mostly one: odd fields cost most messages all that they say.
fn quote() -> impl Strategy<Value = Vec<u8>> {
    let plain = ("[A-C]{1,30}", "[1-9][0-9]{0,3}(\\.[0-9]{1,3})?", proptest::option::of("[x-z]{0,30}"), 0..99_i64);
    let plain = plain.prop_map(|(symbol, bid, id, ts)| {
        let publisher = id.clone().unwrap_or_default();
        let quote = pb::Quote { symbol, bid, ts, id: id.unwrap_or_default(), publisher, ..pb::Quote::default() };
        quote.encode_to_vec()
    });
    let odd = proptest::collection::vec(field(), 0..4).prop_map(|fields| fields.concat());
    (plain, prop_oneof![3 => Just(Vec::new()), 2 => odd]).prop_map(|(plain, odd)| [plain, odd].concat())
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![8 => quote().prop_map(|quote| delimited(1, &quote)), 1 => field()];
    proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_message_means_what_it_means_to_prost(message in message()) {
        prop_assert_eq!(ours(&message), theirs(&message));
    }

    #[test]
    fn a_cut_or_broken_message_means_what_it_means_to_prost(
        mut message in message(), cut in 0..200_usize, place in 0..200_usize, byte: u8,
    ) {
        message.truncate(cut);
        prop_assert_eq!(ours(&message), theirs(&message), "cut");
        if let Some(there) = message.get_mut(place) {
            *there = byte;
        }
        prop_assert_eq!(ours(&message), theirs(&message), "one byte is another");
    }
}

#[test]
fn the_tests_do_see_quotes() {
    let twice = [varint(8, 5), delimited(1, b"A"), delimited(2, b"1"), delimited(2, b"2.0"), varint(8, 9)].concat();
    let said = ours(&delimited(1, &twice)).unwrap();
    assert!(said.contains("bid: Some(2.0)") && said.contains("ts: Some(9)"), "of two the last counts: {said}");
    assert_eq!(ours(&[delimited(1, &delimited(2, b"\xff")), delimited(1, b"")].concat()), None, "no text");
    assert_eq!(ours(&delimited(1, &[delimited(9, b"\xff"), delimited(9, b"x")].concat())), None, "not even the first");
}

#[test]
fn reading_ends_with_the_first_quote_that_is_too_many() {
    let many = [0x0a, 0x00].repeat(2_000_000);
    assert_eq!(decode_publish(&many, 3).unwrap_err(), BodyError::TooManyQuotes { limit: 3 });
    let batch = decode_publish(&many[..6], 3).unwrap();
    assert_eq!((batch.len(), batch.rejected().len()), (3, 3));
}
