//! The switchboard and its mailboxes, alone and in a network of two nodes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tickwire_pubsub::{
    Broadcast, Epoch, Lane, LoneNode, Mailbox, NodeId, Payload, PubSub, Role, Stamp, Topic,
    testing::{Inbound, Network},
};

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn lone() -> PubSub {
    PubSub::new(Arc::new(LoneNode::new(NodeId::new("a", 1))))
}

fn stamp(clock: u64, seq: u64) -> Stamp {
    Stamp { epoch: Epoch { clock, incarnation: 1, node: 1 }, seq }
}

fn latest(role: Role, clock: u64, seq: u64) -> Arc<Broadcast> {
    let payload = Payload::Json(Bytes::from(format!("{{\"seq\":{seq}}}")));
    Arc::new(Broadcast::latest(
        topic("t"),
        "update".into(),
        payload,
        role,
        stamp(clock, seq),
        std::time::Instant::now(),
    ))
}

async fn seqs(mailbox: &Mailbox) -> Vec<(u64, u64)> {
    let deliveries = mailbox.next().await.unwrap();
    deliveries.iter().map(|delivery| (delivery.message.stamp.unwrap().seq, delivery.n)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_newest_with_an_exact_n() {
    let pubsub = lone();
    let mut mailbox = Mailbox::new(&pubsub, 8, None);
    let subscription = mailbox.subscribe(&topic("t")).unwrap();
    pubsub.broadcast(&[latest(Role::Update, 1, 6), latest(Role::Update, 1, 7)]);
    subscription.start(Some(stamp(1, 6)));
    pubsub.broadcast(&[latest(Role::Update, 1, 8)]);
    assert_eq!(seqs(&mailbox).await, [(8, 2)], "7 and 8; the snapshot had 6");
    pubsub.broadcast(&[latest(Role::Update, 1, 9)]);
    assert_eq!(seqs(&mailbox).await, [(9, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_new_epoch_starts_with_its_snapshot_and_the_old_one_is_silent() {
    let pubsub = lone();
    let mut mailbox = Mailbox::new(&pubsub, 8, None);
    mailbox.subscribe(&topic("t")).unwrap().start(Some(stamp(1, 1)));
    pubsub.broadcast(&[latest(Role::Update, 1, 2), latest(Role::Snapshot, 2, 0), latest(Role::Update, 1, 3)]);
    assert_eq!(seqs(&mailbox).await, [(0, 1)]);
    pubsub.broadcast(&[latest(Role::Update, 2, 1), latest(Role::Update, 2, 2)]);
    assert_eq!(seqs(&mailbox).await, [(2, 2)]);
}

/// The snapshot may be ahead of the stream: a status from before its update says nothing about it.
#[tokio::test(start_paused = true)]
async fn a_status_of_an_update_before_the_snapshot_is_left_out() {
    for (status, expected) in [(4, vec![(6, 1)]), (5, vec![(6, 1), (5, 1)])] {
        let pubsub = lone();
        let mut mailbox = Mailbox::new(&pubsub, 8, None);
        let subscription = mailbox.subscribe(&topic("t")).unwrap();
        pubsub.broadcast(&[latest(Role::Status, 1, status)]);
        subscription.start(Some(stamp(1, 5)));
        pubsub.broadcast(&[latest(Role::Update, 1, 6)]);
        assert_eq!(seqs(&mailbox).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_ends_on_the_latest() {
    let pubsub = lone();
    let mut mailbox = Mailbox::new(&pubsub, 8, Some(Duration::from_millis(250)));
    mailbox.subscribe(&topic("t")).unwrap().start(Some(stamp(1, 0)));
    pubsub.broadcast(&[latest(Role::Update, 1, 1)]);
    assert_eq!(seqs(&mailbox).await, [(1, 1)]);
    let before = tokio::time::Instant::now();
    for seq in 2..=5 {
        pubsub.broadcast(&[latest(Role::Update, 1, seq)]);
    }
    assert_eq!(seqs(&mailbox).await, [(5, 4)]);
    assert!(before.elapsed() >= Duration::from_millis(250));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_overflows_with_lossless_messages_is_told() {
    let pubsub = lone();
    let mut mailbox = Mailbox::new(&pubsub, 2, None);
    mailbox.subscribe(&topic("t")).unwrap().start(None);
    let message =
        || Arc::new(Broadcast::lossless(topic("t"), "shout".into(), Payload::empty(), std::time::Instant::now()));
    pubsub.broadcast(&[message(), message(), message()]);
    assert!(mailbox.next().await.is_err());
}

struct Node(PubSub);

impl Inbound for Node {
    fn message(&self, from: &NodeId, lane: Lane, bytes: Bytes) {
        self.0.receive(from, lane, &bytes).unwrap();
    }

    fn request(&self, _: &NodeId, bytes: Bytes) -> BoxFuture<'static, Bytes> {
        Box::pin(std::future::ready(bytes))
    }
}

#[tokio::test]
async fn a_node_sends_only_what_the_other_one_wants_and_nothing_comes_back() {
    let network = Network::new(|_| "a".into());
    let [a, b] = ["a", "b"].map(|name| {
        let id = NodeId::new(name, 1);
        let pubsub = PubSub::new(network.view(&id));
        network.link(&id, &(Arc::new(Node(pubsub.clone())) as Arc<dyn Inbound>));
        pubsub
    });
    let mut here = Mailbox::new(&a, 8, None);
    here.subscribe(&topic("t")).unwrap().start(None);
    let mut there = Mailbox::new(&b, 8, None);
    there.subscribe(&topic("t")).unwrap().start(None);
    // Interest travels on its own lane; publish until it has arrived.
    let mut seq = 0;
    let mut seen = loop {
        seq += 1;
        a.broadcast(&[latest(Role::Update, 1, seq)]);
        match tokio::time::timeout(Duration::from_millis(20), seqs(&there)).await {
            Ok(seen) => break seen,
            Err(_) => assert!(seq < 500, "interest never arrived"),
        }
    };
    // One that was published while the other was awaited may still be on its way.
    while seen.last().is_none_or(|&(last, _)| last < seq) {
        seen = tokio::time::timeout(Duration::from_secs(10), seqs(&there)).await.unwrap();
    }
    assert_eq!(seqs(&here).await, [(seq, seq)], "each update came here once");
    a.peer_down(&NodeId::new("b", 1));
    a.broadcast(&[latest(Role::Update, 1, seq + 1)]);
    assert_eq!(seqs(&here).await, [(seq + 1, 1)]);
    let silence = tokio::time::timeout(Duration::from_millis(50), there.next()).await;
    assert!(silence.is_err(), "the wishes of a peer go with it");
}
