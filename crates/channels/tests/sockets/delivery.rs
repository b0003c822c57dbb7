//! Updates on their way to fast and slow sockets.

use std::{sync::Arc, time::Duration};

use tickwire_channels::{MountLimits, Payload, WorkersConfig};
use tickwire_pubsub::{Broadcast, Topic};

use crate::support::{Client, Frame, Server, eventually, status, update};

/// The `seq` and the `n` of an update.
fn told(text: &str) -> (u64, u64) {
    let message: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(message[3], "update", "{text}");
    (message[4]["seq"].as_u64().unwrap(), message[4]["n"].as_u64().unwrap_or(1))
}

/// A server whose kernel takes little for a socket that does not read.
fn tight() -> Server {
    let config = WorkersConfig {
        workers: 1,
        send_buffer: Some(4_096),
        outbox_bytes_max: 256 * 1024,
        conflate_after: Duration::from_secs(3_600),
        ..WorkersConfig::default()
    };
    Server::with(config, MountLimits::default())
}

#[test]
fn ten_thousand_broadcasts_arrive_in_order_at_every_member() {
    let server = Server::start();
    let mut members = [server.v2(), server.v2(), server.v2()];
    for member in &mut members {
        member.join("room:a", "{}");
    }
    members[0].send(r#"["j","1","room:a","shout_n",{"n":10000}]"#);
    for member in &mut members {
        for i in 0..10_000 {
            assert_eq!(member.text(), format!(r#"[null,null,"room:a","seq",{{"i":{i}}}]"#));
        }
    }
    members[0].expect(&[r#"["j","1","room:a","phx_reply",{"status":"ok","response":{}}]"#]);
}

#[test]
fn broadcast_from_skips_exactly_its_sender() {
    let server = Server::start();
    let (mut sender, mut other) = (server.v2(), server.v2());
    sender.join("room:a", "{}");
    other.join("room:a", "{}");
    sender.send(r#"["j","1","room:a","shout_from",{}]"#);
    other.expect(&[r#"[null,null,"room:a","shout_from",{}]"#]);
    sender.expect_nothing();
}

#[test]
fn a_reader_that_keeps_up_gets_every_update() {
    let server = tight();
    let mut client = server.v2();
    client.join("ticker:A", r#"{"floor":0}"#);
    for seq in 1..=1_000 {
        server.update("ticker:A", seq);
        assert_eq!(told(&client.text()), (seq, 1));
    }
    eventually("all are counted", || server.workers.lag().count() == 1_000);
}

/// What a slow reader misses is told, and nobody else notices.
#[test]
fn a_slow_reader_gets_the_newest_and_n_adds_up() {
    let server = tight();
    let (mut slow, mut fast) = (server.v2(), server.v2());
    slow.join("ticker:A", r#"{"floor":0}"#);
    fast.join("ticker:A", r#"{"floor":0}"#);
    const LAST: u64 = 20_000;
    // Far more bytes than its kernel buffers, both ends of them, hold.
    for seq in 1..=LAST {
        server.update("ticker:A", seq);
        assert_eq!(told(&fast.text()), (seq, 1));
    }
    let (mut sum, mut count, mut last) = (0, 0, 0);
    while last < LAST {
        let (seq, n) = told(&slow.text());
        assert!(seq > last, "nothing goes back");
        (sum, count, last) = (sum + n, count + 1, seq);
    }
    assert_eq!(sum, LAST);
    assert!(count < LAST, "some were merged");
}

/// A worker that is late keeps the newest of each topic, and says so.
#[test]
fn a_late_worker_merges_and_n_adds_up() {
    let config = WorkersConfig { workers: 1, conflate_after: Duration::ZERO, ..WorkersConfig::default() };
    let server = Server::with(config, MountLimits::default());
    let mut client = server.v2();
    client.join("ticker:A", r#"{"floor":0}"#);
    let batch: Vec<Arc<Broadcast>> = (1..=100).map(|seq| update("ticker:A", seq)).collect();
    server.pubsub.broadcast(&batch);
    assert_eq!(told(&client.text()), (100, 100));
    server.pubsub.broadcast(&[update("ticker:A", 101), status("ticker:A", 101, "stale"), update("ticker:A", 102)]);
    assert_eq!(told(&client.text()), (101, 1));
    client.expect(&[r#"[null,null,"ticker:A","status",{"state":"stale"}]"#]);
    assert_eq!(told(&client.text()), (102, 1));
}

#[test]
fn the_stream_begins_where_the_reply_ends() {
    let server = Server::start();
    let mut first = server.v2();
    first.join("ticker:A", r#"{"floor":0}"#);
    for seq in 1..=5 {
        server.update("ticker:A", seq);
        assert_eq!(told(&first.text()), (seq, 1));
    }
    let mut ahead = server.v2();
    ahead.join("ticker:A", r#"{"floor":7}"#);
    for seq in 6..=9 {
        server.update("ticker:A", seq);
        assert_eq!(told(&first.text()), (seq, 1));
    }
    assert_eq!(told(&ahead.text()), (8, 1));
    assert_eq!(told(&ahead.text()), (9, 1));
}

#[test]
fn an_interval_is_kept_and_ends_on_the_latest() {
    let server = Server::start();
    let mut client = server.v2();
    client.join("ticker:A", r#"{"floor":0,"min_interval_ms":200}"#);
    let started = std::time::Instant::now();
    for seq in 1..=50 {
        server.update("ticker:A", seq);
    }
    assert_eq!(told(&client.text()), (1, 1));
    assert_eq!(told(&client.text()), (50, 49));
    assert!(started.elapsed() >= Duration::from_millis(199));
    client.expect_nothing();
}

/// Lossless messages cannot be merged: the member that does not read is given up, the others go on.
#[test]
fn a_slow_consumer_of_lossless_messages_is_closed() {
    let server = tight();
    let (mut slow, mut fast) = (server.v2(), server.v2());
    slow.join("room:a", "{}");
    fast.join("room:a", "{}");
    let payload = Payload::Json(format!("\"{}\"", "x".repeat(10_000)).into());
    let expected = format!(r#"[null,null,"room:a","big","{}"]"#, "x".repeat(10_000));
    let topic = Topic::new("room:a").unwrap();
    let mut sent = 0;
    while server.workers.joins() == 2 {
        sent += 1;
        assert!(sent < 10_000, "it is never given up");
        let message = Broadcast::lossless(topic.clone(), "big".into(), payload.clone(), std::time::Instant::now());
        server.pubsub.broadcast(&[Arc::new(message)]);
        assert_eq!(fast.text(), expected);
    }
    let mut got = 0;
    loop {
        match slow.next() {
            Some(Frame::Text(text)) => {
                assert_eq!(text, expected);
                got += 1;
            }
            other => {
                assert_eq!(other, Some(Frame::Close(1013, "slow_consumer".to_owned())));
                break;
            }
        }
    }
    assert!(got < sent);
    fast.expect_nothing();
}

/// A client that asks and does not listen is not asked to stop; it is just not heard until it listens.
#[test]
fn a_client_that_does_not_take_its_replies_is_not_read_from() {
    let config = WorkersConfig { workers: 1, send_buffer: Some(4_096), ..WorkersConfig::default() };
    let server = Server::with(config, MountLimits { messages_per_second: None, ..MountLimits::default() });
    let mut client = server.v2();
    client.join("room:a", "{}");
    let mut writer = client.stream.try_clone().unwrap();
    const MESSAGES: u64 = 1_500;
    let writing = std::thread::spawn(move || {
        use std::io::Write as _;
        let padding = "x".repeat(2_000);
        for i in 0..MESSAGES {
            let mut bytes = Vec::new();
            let text = format!(r#"["j","{i}","room:a","echo","{padding}"]"#);
            tickwire_channels::websocket::write_masked_frame(
                &mut bytes,
                tickwire_channels::websocket::Opcode::Text,
                text.as_bytes(),
                [9, 8, 7, 6],
            );
            writer.write_all(&bytes).unwrap();
        }
    });
    for i in 0..MESSAGES {
        assert!(client.text().starts_with(&format!(r#"["j","{i}","room:a","phx_reply""#)));
    }
    writing.join().unwrap();
}

/// Publishers are told to wait when a worker cannot keep up, and all is taken back when it can.
#[test]
fn an_inbox_that_is_full_presses_and_lets_go() {
    let config = WorkersConfig { workers: 1, inbox_capacity: 10, ..WorkersConfig::default() };
    let server = Server::with(config, MountLimits::default());
    let mut client: Client = server.v2();
    client.join("ticker:A", r#"{"floor":0}"#);
    let batch: Vec<Arc<Broadcast>> = (1..=1_000).map(|seq| update("ticker:A", seq)).collect();
    server.pubsub.broadcast(&batch);
    let mut sum = 0;
    while sum < 1_000 {
        sum += told(&client.text()).1;
    }
    eventually("the pressure is off", || server.pubsub.admit().is_ok());
}
