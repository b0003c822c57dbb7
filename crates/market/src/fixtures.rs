//! What several tests of this crate need.

use std::sync::Arc;

use tickwire_pubsub::{Epoch, LoneNode, NodeId, PubSub};

use crate::{Clock, Market, MarketConfig, MarketSeams, PublisherMark, Quote, QuoteFields, Symbol};

pub(crate) fn symbol(name: &str) -> Symbol {
    Symbol::new(name).unwrap()
}

/// A quote with a bid, and whatever else is set.
pub(crate) fn quote_with(name: &str, bid: u64, set: impl FnOnce(&mut QuoteFields)) -> Quote {
    let mut fields = QuoteFields::new(symbol(name));
    fields.bid = Some(bid.to_string().parse().unwrap());
    set(&mut fields);
    Quote::new(fields).unwrap()
}

pub(crate) fn quote(name: &str, bid: u64) -> Quote {
    quote_with(name, bid, |_| {})
}

pub(crate) fn mark(publisher: &str, pseq: u64) -> PublisherMark {
    PublisherMark { publisher: publisher.into(), pseq }
}

pub(crate) fn epoch(clock: u64) -> Epoch {
    Epoch { clock, incarnation: 1, node: 1 }
}

/// A market without a cluster, its switchboard and its clock, which stands still.
pub(crate) fn lone_market(config: MarketConfig) -> (Market, PubSub, Clock) {
    let node = Arc::new(LoneNode::new(NodeId::new("lone", 1)));
    let pubsub = PubSub::new(node.clone());
    let clock = Clock::manual();
    let seams =
        MarketSeams { members: node.clone(), peers: node, pubsub: pubsub.clone(), clock: clock.clone(), tap: None };
    (Market::new(config, seams), pubsub, clock)
}

/// What a payload says of one key, as text; empty if it says nothing.
pub(crate) fn said(payload: &[u8], key: &str) -> String {
    let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
    match &json[key] {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
