//! Sockets, channels, joins, sessions of long polling and the workers that own them.

use tickwire_faults::{Unit, arm};

use crate::witness::{CLIENTS, CRASHES, Watched, Wire, clients, many};

const HEARTBEAT: &str = r#"[null,"1","phoenix","heartbeat",{}]"#;
const BEATEN: &str = r#"[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]"#;
const JOIN: &str = r#"["1","1","room:crash","phx_join",{}]"#;
const JOINED: &str = r#"["1","1","room:crash","phx_reply",{"status":"ok","response":{}}]"#;

/// Reading what a client sent, and writing to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_crashes_is_closed_alone() {
    let mut watched = Watched::start(&[]).await;
    let node = &watched.node;
    many(CRASHES, async |index| {
        let mut wire = Wire::socket(node).await;
        wire.say(JOIN).await;
        wire.hear(JOINED).await;
        let unit = if index % 4 == 0 { Unit::Write } else { Unit::Connection };
        let armed = arm(unit, wire.stream.local_addr().unwrap(), 1);
        wire.say(HEARTBEAT).await;
        wire.crashed().await;
        assert_eq!(armed.fired(), 1);
    })
    .await;
    watched.notices_nothing().await;
    assert!(watched.problems().await.is_empty(), "what happens to a connection says nothing about the node");
    watched.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_crashes_ends_alone_and_can_be_joined_again() {
    let watched = Watched::start(&[
        "channel=[{pattern=\"room:*\", kind=\"room\", echo=[\"say\"]}, {pattern=\"ticker:*\", kind=\"ticker\"}]",
    ])
    .await;
    let armed = arm(Unit::Channel, "room:crash", CRASHES);
    let node = &watched.node;
    let sockets = clients(|| Wire::socket(node)).await;
    many(CRASHES, async |index| {
        let mut socket = sockets[(index % CLIENTS) as usize].lock().await;
        socket.say(JOIN).await;
        socket.hear(JOINED).await;
        socket.say(r#"["1","2","room:crash","say",{}]"#).await;
        socket.hear(r#"["1","1","room:crash","phx_error",{"reason":"channel_crash"}]"#).await;
    })
    .await;
    assert_eq!(armed.fired(), CRASHES);
    drop(sockets);
    watched.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_crashes_is_refused_alone() {
    let watched = Watched::start(&[]).await;
    let armed = arm(Unit::Join, "room:crash", CRASHES);
    let node = &watched.node;
    let sockets = clients(|| Wire::socket(node)).await;
    many(CRASHES, async |index| {
        let mut socket = sockets[(index % CLIENTS) as usize].lock().await;
        socket.say(JOIN).await;
        socket
            .hear(r#"["1","1","room:crash","phx_reply",{"status":"error","response":{"reason":"join crashed"}}]"#)
            .await;
    })
    .await;
    assert_eq!(armed.fired(), CRASHES);
    drop(sockets);
    watched.end().await;
}

/// A turn serves all sockets of a worker: what it cut short is made up for by the next, and no message is lost. So many of them say that
/// the node should get no new clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_crashes_loses_nothing() {
    let mut watched = Watched::start(&[]).await;
    let mut wire = Wire::socket(&watched.node).await;
    for crash in 0..CRASHES {
        let armed = arm(Unit::Turn, if crash % 2 == 0 { "start" } else { "end" }, 1);
        wire.say(HEARTBEAT).await;
        wire.hear(BEATEN).await;
        // The turn that answered may be the one that crashes at its end.
        while armed.fired() == 0 {
            tokio::task::yield_now().await;
        }
        if crash % 500 == 0 {
            watched.notices_nothing().await;
        }
    }
    let problems = watched.problems().await;
    assert!(problems.len() == 1 && problems[0].contains("workers"), "{problems:?}");
    drop(wire);
    watched.end().await;
}

/// Nobody knows which of the topic's subscribers got the message: they are closed and come back. No others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_crashes_closes_the_sockets_of_its_topic() {
    let watched = Watched::start(&["channel=[{pattern=\"room:*\", kind=\"room\", write=\"anyone\", broadcast=[\"say\"]}, {pattern=\"ticker:*\", kind=\"ticker\"}]"]).await;
    let node = &watched.node;
    let armed = arm(Unit::Delivery, "room:crash", u64::MAX);
    let mut sender = Wire::socket(node).await;
    for _ in 0..CRASHES / 500 {
        let mut sockets = futures_util::future::join_all((0..500).map(|_| Wire::socket(node))).await;
        for socket in &mut sockets {
            socket.say(JOIN).await;
            socket.hear(JOINED).await;
        }
        let fired = armed.fired();
        sockets[0].say(r#"["1","2","room:crash","say",{}]"#).await;
        futures_util::future::join_all(sockets.iter_mut().map(Wire::gone)).await;
        assert_eq!(armed.fired(), fired + 1);
        sender.say(HEARTBEAT).await;
        sender.hear(BEATEN).await;
    }
    drop(sender);
    watched.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_long_polling_that_crashes_is_gone_alone() {
    let mut watched = Watched::start(&[]).await;
    let node = &watched.node;
    let wires = clients(|| Wire::open(node)).await;
    many(CRASHES, async |index| {
        let mut wire = wires[(index % CLIENTS) as usize].lock().await;
        let (status, answer) = wire.request("GET /socket/longpoll?vsn=2.0.0", "").await;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &answer["status"]), (200, &serde_json::json!(410)));
        let target = format!("POST /socket/longpoll?vsn=2.0.0&token={}", answer["token"].as_str().unwrap());
        let (_, joined) = wire.request(&target, JOIN).await;
        assert!(joined.contains("200"), "{joined}");
        let armed = arm(Unit::Poll, wire.stream.local_addr().unwrap(), 1);
        let (_, crashed) = wire.request(&target, HEARTBEAT).await;
        assert!(crashed.contains("410"), "{crashed}");
        assert_eq!(armed.fired(), 1);
    })
    .await;
    drop(wires);
    watched.notices_nothing().await;
    watched.end().await;
}
