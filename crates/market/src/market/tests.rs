//! The market as its users see it: on a node by itself, under crashes and pressure, and across two nodes.

mod model;
mod two_nodes;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tickwire_faults::{Unit, arm};
use tickwire_pubsub::{Delivery, LoneNode, Mailbox, NodeId, PubSub, Role};

use super::*;
use crate::{
    Quote, Symbols, TapUpdate,
    fixtures::{lone_market, quote, quote_with, said, symbol},
};

fn take(market: &Market, quotes: Vec<Quote>) -> IngestReport {
    match market.offer(Batch::from(quotes)) {
        Answer::Ready(report) => report,
        Answer::Waiting(_) => panic!("a lone node owns every symbol"),
    }
}

fn snapshot_of(market: &Market, name: &str, since: Option<Since>) -> JoinSnapshot {
    match market.join(JoinRequest { symbol: symbol(name), since, merge_missed: false }) {
        Answer::Ready(snapshot) => snapshot.unwrap(),
        Answer::Waiting(_) => panic!("a lone node owns every symbol"),
    }
}

/// What waits in a mailbox now.
fn pending(mailbox: &Mailbox) -> Vec<Delivery> {
    mailbox.next().now_or_never().map(Result::unwrap).unwrap_or_default()
}

fn role_of(delivery: &Delivery) -> Role {
    match delivery.message.class {
        tickwire_pubsub::Class::Latest(role) => role,
        tickwire_pubsub::Class::Lossless => panic!("a ticker's messages are conflated"),
    }
}

fn codes(report: &IngestReport) -> Vec<(u32, &str)> {
    report.rejected.iter().map(|rejected| (rejected.index, rejected.rejection.code())).collect()
}

#[test]
fn a_report_names_each_bad_quote_by_its_place() {
    let symbols = Symbols::Listed(["A", "B"].map(symbol).into_iter().collect());
    let (market, ..) = lone_market(MarketConfig { symbols, ..MarketConfig::default() });
    let mut batch = Batch::default();
    for name in ["A", "X", "", "B", "Y", "A"] {
        batch.push(Symbol::new(name).map_err(Rejection::from).map(|symbol| quote(symbol.as_str(), 1)));
    }
    let report = market.offer(batch).wait().now_or_never().unwrap();
    assert_eq!((report.accepted, report.duplicates), (3, 0));
    assert_eq!(codes(&report), [(1, "unknown_symbol"), (2, "invalid_symbol"), (4, "unknown_symbol")]);
    let refused = market.join(JoinRequest { symbol: symbol("X"), since: None, merge_missed: false });
    assert_eq!(refused.wait().now_or_never().unwrap(), Err(JoinRefusal::UnknownSymbol));
}

#[test]
fn a_busy_node_stamps_nothing_and_says_so() {
    let (market, pubsub, _) = lone_market(MarketConfig::default());
    pubsub.pressure().raise();
    let report = take(&market, vec![quote("A", 1), quote("B", 1)]);
    assert_eq!((report.accepted, codes(&report)), (0, vec![(0, "busy"), (1, "busy")]));
    assert!(report.is_busy() && report.rejected[0].rejection.retryable());
    pubsub.pressure().release();
    assert_eq!(take(&market, vec![quote("A", 1)]).accepted, 1);
    assert_eq!(snapshot_of(&market, "A", None).seq, 1);
}

#[test]
fn latest_values_are_listed_in_order_page_by_page() {
    let (market, _, clock) = lone_market(MarketConfig::default());
    take(&market, ["D", "A", "C", "B"].map(|name| quote(name, 1)).into());
    clock.advance(Duration::from_millis(5));
    let page = |after: Option<&str>, limit| {
        market.list(after, limit).iter().map(|latest| latest.symbol.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 3), ["A", "B", "C"]);
    assert_eq!(page(Some("C"), 3), ["D"]);
    // A page begins behind a name whether there is such a symbol or not, and names of any number lie in the order of their bytes.
    assert_eq!(
        (page(Some("BB"), 3), page(Some("D"), 3), page(None, 0)),
        (vec!["C".into(), "D".into()], vec![], vec![])
    );
    let many: Vec<_> = (0..500).map(|number| format!("M{}", number * 7 % 500)).collect();
    take(&market, many.iter().map(|name| quote(name, 1)).collect());
    let mut sorted = many.clone();
    sorted.sort();
    let (mut walked, mut last) = (Vec::new(), "D".to_owned());
    while let Some(next) = page(Some(&last), 64).last().cloned() {
        walked.extend(page(Some(&last), 64));
        last = next;
    }
    assert_eq!(walked, sorted);
    let latest = market.latest(&symbol("A")).wait().now_or_never().unwrap().unwrap();
    assert_eq!((said(&latest.to_json(), "age_us"), said(&latest.to_json(), "status")), ("5000".into(), "ok".into()));
    let unknown = market.latest(&symbol("Z")).wait().now_or_never().unwrap();
    assert_eq!(unknown, Err(LatestError::UnknownSymbol));
}

/// A crash in the middle of a batch: what was stamped before it stays and is published, the shard's symbols go on in a new epoch from
/// their last good values, and the rest of the batch is taken.
#[test]
fn a_crash_costs_one_quote_and_opens_a_new_epoch() {
    let (market, pubsub, _) = lone_market(MarketConfig { shards: 1, ..MarketConfig::default() });
    take(&market, vec![quote("A", 1), quote("B", 1)]);
    let old = snapshot_of(&market, "A", None);
    let mut mailbox = Mailbox::new(&pubsub, 10, None);
    mailbox.subscribe(&symbol("A").ticker_topic()).unwrap().start(old.floor);
    market.0.shards[0].state().crash_on = Some(symbol("B"));
    let report = take(&market, vec![quote("A", 2), quote("B", 2), quote("A", 3)]);
    assert_eq!((report.accepted, codes(&report)), (2, vec![(1, "internal")]));
    let told: Vec<_> = pending(&mailbox)
        .iter()
        .map(|delivery| (role_of(delivery), delivery.n, delivery.message.stamp.unwrap().seq))
        .collect();
    assert_eq!(told, [(Role::Snapshot, 1, 0), (Role::Update, 1, 1)]);
    let [a, b] = ["A", "B"].map(|name| snapshot_of(&market, name, None));
    assert!(a.floor.unwrap().epoch > old.floor.unwrap().epoch);
    assert_eq!((said(&a.quote.unwrap(), "bid"), a.seq), ("3".to_owned(), 1));
    assert_eq!((said(&b.quote.unwrap(), "bid"), b.seq), ("1".to_owned(), 0));
    let resumed = snapshot_of(&market, "A", Some(Since::new(old.epoch.as_str(), old.seq).unwrap()));
    assert_eq!(resumed.resume, Resume::OtherEpoch);
}

#[test]
fn a_crash_leaves_other_shards_alone() {
    let (market, ..) = lone_market(MarketConfig { shards: 2, ..MarketConfig::default() });
    let names: Vec<_> = (0..20).map(|name| format!("S{name}")).collect();
    take(&market, names.iter().map(|name| quote(name, 1)).collect());
    let epochs = || names.iter().map(|name| snapshot_of(&market, name, None).epoch).collect::<Vec<_>>();
    let before = epochs();
    market.0.shards[0].state().crash_on = Some(symbol(&names[0]));
    market.0.shards[1].state().crash_on = Some(symbol(&names[0]));
    take(&market, vec![quote(&names[0], 2)]);
    let (crashed, after) = (market.shard_of(&symbol(&names[0])), epochs());
    for ((name, before), after) in names.iter().zip(before).zip(after) {
        assert_eq!(before == after, market.shard_of(&symbol(name)) != crashed, "{name}");
    }
}

/// Nobody knows who got what of a publication that was cut short: everyone learns all of it anew.
#[test]
fn a_crash_while_publishing_takes_no_quote_back() {
    let (market, pubsub, _) = lone_market(MarketConfig { shards: 1, ..MarketConfig::default() });
    take(&market, vec![quote("CUT", 1), quote("OTHER", 1)]);
    let mut mailbox = Mailbox::new(&pubsub, 10, None);
    for name in ["CUT", "OTHER"] {
        let floor = snapshot_of(&market, name, None).floor;
        mailbox.subscribe(&symbol(name).ticker_topic()).unwrap().start(floor);
    }
    let armed = arm(Unit::Publish, "ticker:CUT", 1);
    assert_eq!(take(&market, vec![quote("CUT", 2), quote("OTHER", 2)]).accepted, 2);
    assert_eq!(armed.fired(), 1);
    let told: Vec<_> = pending(&mailbox).iter().map(role_of).collect();
    assert_eq!(told, [Role::Snapshot, Role::Snapshot]);
    assert_eq!(said(&snapshot_of(&market, "CUT", None).quote.unwrap(), "bid"), "2");
}

#[test]
fn shards_that_crash_all_the_time_are_not_healthy_and_go_on() {
    let (market, ..) = lone_market(MarketConfig { shards: 1, ..MarketConfig::default() });
    let armed = arm(Unit::Shard, "OFTEN", 10_000);
    for _ in 0..10_000 {
        assert_eq!(codes(&take(&market, vec![quote("OFTEN", 1)])), [(0, "internal")]);
    }
    assert!(armed.fired() == 10_000 && !market.is_healthy());
    assert_eq!(take(&market, vec![quote("OFTEN", 1)]).accepted, 1);
}

#[derive(Debug, Default)]
struct Recorder(parking_lot::Mutex<Vec<(String, u64)>>);

impl UpdateTap for Recorder {
    fn offer(&self, updates: &[TapUpdate]) {
        self.0.lock().extend(updates.iter().map(|update| (update.symbol.to_string(), update.stamp.seq)));
        assert!(self.0.lock().len() < 3, "told to crash");
    }
}

#[test]
fn a_derived_computation_sees_every_update_and_its_crash_hurts_nobody() {
    let node = Arc::new(LoneNode::new(NodeId::new("lone", 1)));
    let recorder = Arc::new(Recorder::default());
    let tap: Arc<dyn UpdateTap> = Arc::clone(&recorder) as _;
    let pubsub = PubSub::new(node.clone());
    let seams = MarketSeams { members: node.clone(), peers: node, pubsub, clock: Clock::system(), tap: Some(tap) };
    let market = Market::new(MarketConfig { shards: 1, ..MarketConfig::default() }, seams);
    for bid in 1..=4 {
        assert_eq!(take(&market, vec![quote("A", bid)]).accepted, 1);
    }
    assert_eq!(*recorder.0.lock(), (1..=4).map(|seq| ("A".to_owned(), seq)).collect::<Vec<_>>());
    assert_eq!(snapshot_of(&market, "A", None).seq, 4);
}

#[tokio::test(start_paused = true)]
async fn the_sweeper_marks_silent_symbols_until_it_is_told_to_end() {
    let (market, pubsub, clock) = lone_market(MarketConfig::default());
    take(&market, vec![quote("A", 1)]);
    let mut mailbox = Mailbox::new(&pubsub, 10, None);
    mailbox.subscribe(&symbol("A").ticker_topic()).unwrap().start(snapshot_of(&market, "A", None).floor);
    clock.advance(market.config().stale_after);
    let cancel = CancellationToken::new();
    let (told, ()) = tokio::join!(
        async {
            let told = mailbox.next().await.unwrap();
            cancel.cancel();
            told
        },
        market.clone().run(cancel.clone()),
    );
    assert_eq!((role_of(&told[0]), said(told[0].message.payload.bytes(), "state")), (Role::Status, "stale".into()));
}
