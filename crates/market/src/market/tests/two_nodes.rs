//! Two nodes over the in-process network: what one takes in the other may own, and either may follow.

use tickwire_pubsub::testing::{Inbound, Network};

use super::*;

struct Node {
    pubsub: PubSub,
    market: Market,
}

impl Inbound for Node {
    fn message(&self, from: &NodeId, lane: Lane, bytes: Bytes) {
        self.pubsub.receive(from, lane, &bytes).unwrap();
    }

    fn request(&self, from: &NodeId, bytes: Bytes) -> BoxFuture<'static, Bytes> {
        self.market.handle_request(from, bytes)
    }
}

/// Takes requests and never answers.
struct Silent;

impl Inbound for Silent {
    fn message(&self, _: &NodeId, _: Lane, _: Bytes) {}

    fn request(&self, _: &NodeId, _: Bytes) -> BoxFuture<'static, Bytes> {
        Box::pin(std::future::pending())
    }
}

/// A network in which a symbol is owned by the node that its first letter names.
fn network() -> Arc<Network> {
    Network::new(|key| key[..1].to_ascii_lowercase())
}

fn start(network: &Arc<Network>, id: &NodeId) -> Arc<Node> {
    let view = network.view(id);
    let pubsub = PubSub::new(view.clone());
    let seams =
        MarketSeams { members: view.clone(), peers: view, pubsub: pubsub.clone(), clock: Clock::system(), tap: None };
    let node = Arc::new(Node { pubsub, market: Market::new(MarketConfig::default(), seams) });
    let inbound: Arc<dyn Inbound> = node.clone();
    network.link(id, &inbound);
    node
}

fn pair() -> (Arc<Network>, Arc<Node>, Arc<Node>) {
    let network = network();
    let [a, b] = ["a", "b"].map(|name| NodeId::new(name, 1));
    let nodes = (start(&network, &a), start(&network, &b));
    nodes.0.pubsub.peer_up(&b);
    nodes.1.pubsub.peer_up(&a);
    (network, nodes.0, nodes.1)
}

fn request(name: &str) -> JoinRequest {
    JoinRequest { symbol: symbol(name), since: None, merge_missed: false }
}

#[tokio::test]
async fn a_quote_is_stamped_by_its_owner_and_comes_back_once() {
    let (_network, a, b) = pair();
    let mut mailbox = Mailbox::new(&a.pubsub, 16, None);
    let subscription = mailbox.subscribe(&symbol("B1").ticker_topic()).unwrap();
    let joined = a.market.join(request("B1")).wait().await.unwrap();
    assert_eq!((joined.quote, joined.seq, joined.status.state), (None, 0, State::Stale));
    subscription.start(joined.floor);
    for bid in 1..=50 {
        let batch = Batch::from(vec![quote("B1", bid), quote("A1", bid), quote("B2", bid)]);
        assert_eq!(a.market.ingest(batch).await.accepted, 3);
    }
    let mut seq = 0;
    while seq < 50 {
        for delivery in mailbox.next().await.unwrap() {
            if role_of(&delivery) == Role::Update {
                seq += delivery.n;
                let payload = delivery.message.payload.bytes();
                assert_eq!((said(payload, "seq"), said(payload, "bid")), (seq.to_string(), seq.to_string()));
                assert_eq!(delivery.message.stamp.unwrap().epoch.node, NodeId::new("b", 1).fingerprint());
            }
        }
    }
    let names = |list: Vec<Latest>| list.iter().map(|latest| latest.symbol.to_string()).collect::<Vec<_>>();
    assert_eq!(names(a.market.list(None, 9)), ["A1"]);
    assert_eq!(names(b.market.list(None, 9)), ["B1", "B2"]);
    let latest = a.market.latest(&symbol("B2")).wait().await.unwrap();
    assert_eq!((said(&latest.quote, "bid"), latest.status.state), ("50".into(), State::Ok));
    assert_eq!(a.market.latest(&symbol("B9")).wait().await, Err(LatestError::UnknownSymbol));
}

/// The owner knows that this node listens before it takes the snapshot: nothing falls between the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_across_nodes_has_no_hole_and_no_repeat() {
    const QUOTES: u64 = 2_000;
    let (_network, a, b) = pair();
    let publisher = {
        let market = b.market.clone();
        std::thread::spawn(move || {
            for bid in 1..=QUOTES {
                assert_eq!(take(&market, vec![quote("B1", bid)]).accepted, 1);
                std::thread::yield_now();
            }
        })
    };
    let mut last: Option<Since> = None;
    let mut seq = 0;
    while seq < QUOTES {
        let mut mailbox = Mailbox::new(&a.pubsub, 16, None);
        let subscription = mailbox.subscribe(&symbol("B1").ticker_topic()).unwrap();
        let joined = a.market.join(JoinRequest { since: last.clone(), ..request("B1") }).wait().await.unwrap();
        subscription.start(joined.floor);
        if joined.recovered() {
            assert_eq!(joined.missed.len() as u64, joined.seq - seq);
        }
        seq = joined.seq;
        for _ in 0..5 {
            for delivery in pending(&mailbox).iter().filter(|delivery| role_of(delivery) == Role::Update) {
                seq += delivery.n;
                assert_eq!(delivery.message.stamp.unwrap().seq, seq, "n explains every gap");
            }
            tokio::task::yield_now().await;
        }
        last = Some(Since::new(joined.epoch.as_str(), seq).unwrap());
    }
    publisher.join().unwrap();
}

#[tokio::test]
async fn an_owners_refusals_come_back_at_their_places() {
    let (_network, a, b) = pair();
    let late = |bid: i64| quote_with("B1", 1, |fields| fields.ts = Some(10 - bid));
    let batch = vec![quote("A1", 1), late(1), late(2), quote("A1", 2), late(3)];
    let report = a.market.ingest(Batch::from(batch)).await;
    assert_eq!((report.accepted, codes(&report)), (3, vec![(2, "out_of_order"), (4, "out_of_order")]));
    assert!(!report.rejected[0].rejection.retryable());
    b.pubsub.pressure().raise();
    let report = a.market.ingest(Batch::from(vec![quote("B1", 1), quote("A1", 3)])).await;
    assert!(report.is_busy());
    assert_eq!((report.accepted, codes(&report)), (1, vec![(0, "busy")]));
}

#[tokio::test]
async fn a_quote_is_sent_on_once_at_most() {
    let (_network, a, _b) = pair();
    let sent = [Indexed { index: 0, quote: quote("B1", 1) }];
    let answer = a.market.handle_request(&NodeId::new("b", 1), wire::encode_forward(sent.iter())).await;
    let report = wire::decode_report(answer, 1).unwrap();
    assert_eq!((report.accepted, codes(&report)), (0, vec![(0, "not_owner")]));
    assert!(report.rejected[0].rejection.retryable());
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_silent_costs_its_symbols_only() {
    let network = network();
    let a = start(&network, &NodeId::new("a", 1));
    let silent: Arc<dyn Inbound> = Arc::new(Silent);
    network.link(&NodeId::new("b", 1), &silent);
    let report = a.market.ingest(Batch::from(vec![quote("B1", 1), quote("A1", 1)])).await;
    assert_eq!((report.accepted, codes(&report)), (1, vec![(0, "owner_unreachable")]));
    assert!(report.rejected[0].rejection.retryable());
    let since = Some(Since::new("whatever", 3).unwrap());
    let joined = a.market.join(JoinRequest { since, ..request("B1") }).wait().await.unwrap();
    assert_eq!((joined.quote, joined.floor, joined.resume), (None, None, Resume::OwnerUnreachable));
    assert_eq!(joined.status.state, State::Stale);
    assert_eq!(a.market.latest(&symbol("B1")).wait().await, Err(LatestError::OwnerUnreachable));
}
