//! What a batch costs in allocations: some for the batch, none for a quote. A program of its own, for it counts them.

use std::sync::Arc;

use prost::Message as _;
use tickwire_market::{
    Answer, Batch, Clock, Market, MarketConfig, MarketSeams,
    decode::{BodyError, decode_csv, decode_json, decode_ndjson, decode_publish},
};
use tickwire_proto::v1 as pb;
use tickwire_pubsub::{LoneNode, NodeId, PubSub};

const QUOTES: usize = 5_000;
const SYMBOLS: usize = 500;
const TS: i64 = 1_714_555_800_250_000;

/// Allocations of a batch, whatever its length.
const A_BATCH: u64 = 40;

type Decode = fn(&[u8], usize) -> Result<Batch, BodyError>;

/// The same quotes in each format.
fn bodies() -> [(&'static str, Decode, Vec<u8>); 4] {
    let mut lines = String::new();
    let mut rows = "symbol,bid,ask,bid_size,ask_size,ts\n".to_owned();
    let mut quotes = Vec::new();
    for number in 0..QUOTES {
        let (symbol, bid, ask) =
            (format!("SYM{:03}", number % SYMBOLS), format!("1.08{number:04}"), format!("1.09{number:04}"));
        lines += &format!(
            "{{\"symbol\":\"{symbol}\",\"bid\":{bid},\"ask\":\"{ask}\",\"bid_size\":1000000,\"ask_size\":\"1500000\",\"ts\":{TS}}}\n"
        );
        rows += &format!("{symbol},{bid},{ask},1000000,1500000,{TS}\n");
        let (bid_size, ask_size) = ("1000000".to_owned(), "1500000".to_owned());
        quotes.push(pb::Quote { symbol, bid, ask, bid_size, ask_size, ts: TS, ..pb::Quote::default() });
    }
    let array = format!("[{}]", lines.trim_end().replace('\n', ","));
    [
        ("protobuf", decode_publish, pb::PublishRequest { quotes }.encode_to_vec()),
        ("NDJSON", decode_ndjson, lines.into_bytes()),
        ("JSON", decode_json, array.into_bytes()),
        ("CSV", decode_csv, rows.into_bytes()),
    ]
}

fn market() -> Market {
    let node = Arc::new(LoneNode::new(NodeId::new("lone", 1)));
    let pubsub = PubSub::new(node.clone());
    let seams = MarketSeams { members: node.clone(), peers: node, pubsub, clock: Clock::manual(), tap: None };
    Market::new(MarketConfig { ring: 20, ..MarketConfig::default() }, seams)
}

#[test]
fn no_field_and_no_quote_costs_an_allocation() {
    let market = market();
    for (format, decode, body) in bodies() {
        let mut batch = None;
        let decoded = allocation_counter::measure(|| batch = decode(&body, QUOTES).ok());
        let batch = batch.unwrap();
        assert_eq!((batch.quotes().len(), batch.rejected().len()), (QUOTES, 0), "{format}");
        assert!(decoded.count_total <= A_BATCH, "{format}: {} allocations", decoded.count_total);
        let again = batch.clone();
        // The first batch makes the symbols and fills their rings.
        for batch in [batch.clone(), batch] {
            assert!(matches!(market.offer(batch), Answer::Ready(report) if report.rejected.is_empty()));
        }
        let taken = allocation_counter::measure(|| drop(market.offer(again)));
        assert!(taken.count_total <= A_BATCH, "{format}: {} allocations to take the batch in", taken.count_total);
    }
}
