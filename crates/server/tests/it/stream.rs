//! Server-sent events.

use std::time::Duration;

use serde_json::{Value, json};

use crate::node::{PATIENCE, TestNode};

/// Reads the events of a stream.
struct Events {
    answer: reqwest::Response,
    buffer: String,
}

#[derive(Debug)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

impl Events {
    async fn open(node: &TestNode, query: &str, last: Option<&str>) -> Self {
        let mut request = node.client.get(node.http(&format!("/v1/stream?{query}")));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, buffer: String::new() }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    line.unwrap_or_default().to_owned()
                };
                if !field("event").is_empty() {
                    let data = serde_json::from_str(&field("data")).unwrap();
                    return Some(Event { name: field("event"), id: field("id"), data });
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk()).await.expect("an event in time");
            self.buffer.push_str(std::str::from_utf8(&chunk.ok()??).unwrap());
        }
    }
}

#[tokio::test]
async fn a_stream_begins_with_a_snapshot_and_goes_on_where_it_ended() {
    let node = TestNode::start(&[]).await;
    node.publish(json!({"symbol": "A", "bid": "1"})).await;
    let mut events = Events::open(&node, "topics=ticker:A", None).await;
    let snapshot = events.next().await.unwrap();
    assert_eq!(
        (snapshot.name.as_str(), &snapshot.data["topic"], &snapshot.data["quote"]["bid"]),
        ("snapshot", &json!("ticker:A"), &json!("1"))
    );
    node.publish(json!({"symbol": "A", "bid": "2"})).await;
    let update = events.next().await.unwrap();
    assert_eq!((update.name.as_str(), &update.data["bid"], &update.data["seq"]), ("update", &json!("2"), &json!(2)));
    assert!(update.id.ends_with("/2"));
    node.publish(json!([{"symbol": "A", "bid": "3"}, {"symbol": "A", "bid": "4"}])).await;
    let snapshot = Events::open(&node, "topics=ticker:A", Some(&update.id)).await.next().await.unwrap();
    assert_eq!(snapshot.data["recovered"], true);
    assert_eq!(snapshot.data["missed"].as_array().unwrap().len(), 2);
    node.end().await;
}

#[tokio::test]
async fn a_limited_stream_ends_on_the_latest_and_counts_what_it_merged() {
    let node = TestNode::start(&[]).await;
    let mut events = Events::open(&node, "topics=ticker:A&max_rate=200ms", None).await;
    assert_eq!(events.next().await.unwrap().data["quote"], Value::Null);
    for bid in 1..=20 {
        node.publish(json!({"symbol": "A", "bid": bid})).await;
    }
    let (mut merged, mut last) = (0, Value::Null);
    while merged < 20 {
        let event = events.next().await.unwrap();
        if event.name != "update" {
            continue;
        }
        merged += event.data["n"].as_u64().unwrap_or(1);
        last = event.data["bid"].clone();
    }
    assert_eq!((merged, last), (20, json!("20")));
    node.end().await;
}

#[tokio::test]
async fn a_room_and_several_symbols_share_a_stream_that_a_drain_ends() {
    let node = TestNode::start(&[]).await;
    let mut events = Events::open(&node, "topics=ticker:A,room:a,ticker:B", None).await;
    for topic in ["ticker:A", "ticker:B"] {
        assert_eq!(events.next().await.unwrap().data["topic"], topic);
    }
    let send = node.client.post(node.http("/v1/topics/room:a/broadcast")).bearer_auth(crate::node::PUBLISHER);
    send.json(&json!({"event": "news", "payload": {"text": "a\nb"}})).send().await.unwrap();
    let news = events.next().await.unwrap();
    assert_eq!(
        (news.name.as_str(), news.data),
        ("broadcast", json!({"topic": "room:a", "event": "news", "payload": {"text": "a\nb"}}))
    );
    node.stop.request();
    let farewell = events.next().await.unwrap();
    assert_eq!((farewell.name.as_str(), farewell.data), ("close", json!({"reason": "shutdown"})));
    assert!(events.next().await.is_none());
    tokio::time::timeout(Duration::from_secs(10), node.ended).await.unwrap().unwrap().unwrap();
}
