//! What a quote costs: decimals, the decoders of each form, and the aggregator with 500 symbols.

use std::{fmt::Write as _, sync::Arc};

use divan::{Bencher, black_box, counter::ItemsCount};
use prost::Message as _;
use tickwire_market::{
    Batch, Clock, Decimal, Market, MarketConfig, MarketSeams,
    decode::{decode_csv, decode_json, decode_ndjson, decode_publish},
};
use tickwire_proto::v1 as pb;
use tickwire_pubsub::{LoneNode, NodeId, PubSub};

/// Allocations are counted beside the time: the decoders make some for a batch, none for a field.
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

/// Quotes in a batch, each of another symbol.
const QUOTES: usize = 500;

fn quotes() -> Vec<pb::Quote> {
    let quote = |number: usize| pb::Quote {
        symbol: format!("SYM{number:03}"),
        bid: format!("1.{:05}", 12_000 + number),
        ask: format!("1.{:05}", 12_003 + number),
        bid_size: format!("{}.50", 100 + number),
        ask_size: format!("{}.00", 900 - number),
        ..pb::Quote::default()
    };
    (0..QUOTES).map(quote).collect()
}

fn objects() -> impl Iterator<Item = String> {
    quotes().into_iter().map(|pb::Quote { symbol, bid, ask, bid_size, ask_size, .. }| {
        format!(
            r#"{{"symbol":"{symbol}","bid":"{bid}","ask":"{ask}","bid_size":"{bid_size}","ask_size":"{ask_size}"}}"#
        )
    })
}

/// One decoder on one body of all quotes.
fn decode<E>(bencher: Bencher<'_, '_>, body: &[u8], decode: impl Fn(&[u8]) -> Result<Batch, E> + Sync) {
    assert!(decode(body).is_ok_and(|batch| batch.len() == QUOTES && batch.rejected().is_empty()));
    bencher.counter(ItemsCount::new(QUOTES)).bench(|| decode(black_box(body)).is_ok());
}

#[divan::bench]
fn decode_json_array(bencher: Bencher<'_, '_>) {
    let body = format!("[{}]", objects().collect::<Vec<_>>().join(","));
    decode(bencher, body.as_bytes(), |body| decode_json(body, QUOTES));
}

#[divan::bench]
fn decode_ndjson_lines(bencher: Bencher<'_, '_>) {
    let body: String = objects().map(|object| object + "\n").collect();
    decode(bencher, body.as_bytes(), |body| decode_ndjson(body, QUOTES));
}

#[divan::bench]
fn decode_csv_lines(bencher: Bencher<'_, '_>) {
    let mut body = "symbol,bid,ask,bid_size,ask_size\n".to_owned();
    for pb::Quote { symbol, bid, ask, bid_size, ask_size, .. } in quotes() {
        writeln!(body, "{symbol},{bid},{ask},{bid_size},{ask_size}").expect("a string takes all");
    }
    decode(bencher, body.as_bytes(), |body| decode_csv(body, QUOTES));
}

#[divan::bench]
fn decode_protobuf(bencher: Bencher<'_, '_>) {
    let body = pb::PublishRequest { quotes: quotes() }.encode_to_vec();
    decode(bencher, &body, |body| decode_publish(body, QUOTES));
}

/// A batch stamped and kept, as far as to a switchboard where nobody wants it.
#[divan::bench]
fn apply(bencher: Bencher<'_, '_>) {
    let node = Arc::new(LoneNode::new(NodeId::new("bench", 1)));
    let pubsub = PubSub::new(node.clone());
    let seams = MarketSeams { members: node.clone(), peers: node, pubsub, clock: Clock::system(), tap: None };
    let market = Market::new(MarketConfig::default(), seams);
    let body = pb::PublishRequest { quotes: quotes() }.encode_to_vec();
    bencher
        .counter(ItemsCount::new(QUOTES))
        .with_inputs(|| decode_publish(&body, QUOTES).expect("good quotes"))
        .bench_local_values(|batch| market.offer(batch));
}

const DECIMALS: [&str; 4] = ["7", "1.12345", "64250.10000000", "123456789012345678.123456789012345678"];

#[divan::bench(args = DECIMALS)]
fn decimal_parse(text: &str) -> bool {
    Decimal::parse(black_box(text.as_bytes())).is_ok()
}

#[divan::bench(args = DECIMALS)]
fn decimal_write(bencher: Bencher<'_, '_>, text: &str) {
    let decimal = Decimal::parse(text.as_bytes()).expect("a good number");
    let mut out = Vec::with_capacity(64);
    bencher.bench_local(|| {
        out.clear();
        black_box(decimal).write(&mut out);
        out.len()
    });
}

#[divan::bench(args = [("1.12345", "1.12348"), ("1.1", "64250.10000000")])]
fn decimal_compare_and_midpoint(bencher: Bencher<'_, '_>, (bid, ask): (&str, &str)) {
    let number = |text: &str| Decimal::parse(text.as_bytes()).expect("a good number");
    let (bid, ask) = (number(bid), number(ask));
    bencher.bench(|| (black_box(bid) < black_box(ask), black_box(bid).midpoint(black_box(ask))));
}
