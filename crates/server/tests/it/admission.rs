//! What one address and one user may take, directly and behind a proxy, and how long a connection may dawdle.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest as _};

use crate::node::{Socket, TestNode, eventually, rest};

const PROXY: &str = r#"limits.trusted_proxies=["127.0.0.0/8"]"#;

/// Opens a socket as a proxy does for a client.
async fn open_for(node: &TestNode, client: &str, query: &str) -> Result<Socket, (u16, String)> {
    let url = format!("ws://{}/socket/websocket?vsn=2.0.0{query}", node.addresses.http);
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
    match tokio_tungstenite::connect_async(request).await {
        Ok((stream, _)) => Ok(Socket::on(stream)),
        Err(tungstenite::Error::Http(answer)) => {
            let reason = answer.headers().get("x-tickwire-reason").map(|reason| reason.to_str().unwrap().to_owned());
            Err((answer.status().as_u16(), reason.unwrap_or_default()))
        }
        Err(other) => panic!("expected a refusal, seen {other:?}"),
    }
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let node = TestNode::start(&["limits.connections_per_address=2"]).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(Socket::open(&node, "").await);
    }
    let mut third = TcpStream::connect(node.addresses.http).await.unwrap();
    third.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = rest(&mut third).await;
    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("retry-after: 1"), "{answer}");
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((&body["code"], &body["status"]), (&json!("connections_per_address"), &json!(429)));
    held.pop();
    eventually("the place is given back", async || Socket::try_open(&node, "").await.is_ok()).await;
    assert!(node.metrics().await.contains(r#"tickwire_refused_total{reason="connections_per_address"}"#));
    node.end().await;
}

#[tokio::test]
async fn an_address_opens_connections_at_its_rate() {
    let node = TestNode::start(&["limits.accepts_per_second_per_address=5"]).await;
    let mut refused = 0;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(node.addresses.http).await.unwrap();
        // The node may have hung up before it is written.
        let _ = stream.write_all(b"GET /v1/quotes HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        refused += u32::from(rest(&mut stream).await.contains("accepts_per_address"));
    }
    assert!(refused > 0, "a burst is held back");
    eventually("the rate comes back", async || {
        let mut stream = TcpStream::connect(node.addresses.http).await.unwrap();
        let _ = stream.write_all(b"GET /v1/quotes HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        rest(&mut stream).await.starts_with("HTTP/1.1 200")
    })
    .await;
    node.end().await;
}

#[tokio::test]
async fn clients_behind_a_proxy_are_limited_each_for_itself() {
    let node = TestNode::start(&[PROXY, "limits.connections_per_address=1"]).await;
    let first = open_for(&node, "6.6.6.6, 203.0.113.1", "").await.unwrap();
    let refused = open_for(&node, "203.0.113.1, 127.0.0.9", "").await.err();
    assert_eq!(refused, Some((429, "connections_per_address".to_owned())));
    let second = open_for(&node, "203.0.113.2", "").await.unwrap();
    let request = node.client.get(node.http("/v1/quotes")).header("x-forwarded-for", "203.0.113.1");
    let answer = request.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "connections_per_address");
    assert_eq!(node.get("/v1/quotes").await.0, 200, "the proxy's own probes are not its clients'");
    drop(first);
    eventually("the place is given back", async || open_for(&node, "203.0.113.1", "").await.is_ok()).await;
    // IPv6 clients choose among the addresses of their network: it is one.
    let third = open_for(&node, "2001:db8::1", "").await.unwrap();
    assert!(open_for(&node, "2001:db8::ffff:2", "").await.is_err());
    assert!(open_for(&node, "garbage", "").await.is_ok());
    assert!(node.metrics().await.contains(r#"tickwire_refused_total{reason="client_address"}"#));
    drop((second, third));
    node.end().await;
}

#[tokio::test]
async fn who_is_no_proxy_cannot_speak_for_others() {
    let node = TestNode::start(&[r#"limits.trusted_proxies=["10.0.0.0/8"]"#, "limits.connections_per_address=1"]).await;
    let first = open_for(&node, "203.0.113.1", "").await.unwrap();
    let mut second = TcpStream::connect(node.addresses.http).await.unwrap();
    second.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 203.0.113.2\r\n\r\n").await.unwrap();
    assert!(rest(&mut second).await.starts_with("HTTP/1.1 429"));
    drop(first);
    node.end().await;
}

#[tokio::test]
async fn a_user_has_so_many_sockets() {
    let node = TestNode::start(&["limits.connections_per_user=1"]).await;
    let query = |user: &str| format!("&token={}", node.token(user, &["ticker:*"], Duration::from_secs(60)));
    let first = Socket::open(&node, &query("alice")).await;
    let refused = open_for(&node, "203.0.113.1", &query("alice")).await.err();
    assert_eq!(refused, Some((429, "connections_per_user".to_owned())));
    let second = Socket::open(&node, &query("bob")).await;
    // A session of long polling counts as well, and is refused as its clients understand it: they come again later.
    let poll = node.client.get(node.http(&format!("/socket/longpoll?vsn=2.0.0{}", query("bob")))).send().await.unwrap();
    assert_eq!(poll.headers()["x-tickwire-reason"], "connections_per_user");
    assert_eq!(poll.json::<Value>().await.unwrap()["status"], 500);
    drop(first);
    eventually("the place is given back", async || Socket::try_open(&node, &query("alice")).await.is_ok()).await;
    drop(second);
    node.end().await;
}

#[tokio::test]
async fn joins_are_limited_by_address_and_by_user() {
    let node = TestNode::start(&["limits.joins_per_second_per_user=2", "limits.joins_per_second_per_address=4"]).await;
    let query = format!("&token={}", node.token("alice", &["ticker:*"], Duration::from_secs(60)));
    let mut busy = Vec::new();
    for query in [query.as_str(), "", ""] {
        let mut socket = Socket::open(&node, query).await;
        for number in 0..4 {
            let (status, reply) = socket.join(&format!("ticker:S{number}"), json!({})).await;
            if status == "error" {
                assert_eq!(reply, json!({"reason": "busy"}));
                busy.push(number);
            }
        }
    }
    assert!(busy.len() >= 4, "{busy:?}");
    let metrics = node.metrics().await;
    for label in ["user_rate", "address_rate"] {
        assert!(metrics.contains(&format!("reason=\"{label}\"")), "{label}");
    }
    node.end().await;
}

#[tokio::test]
async fn a_connection_that_waits_too_long_between_requests_is_cut() {
    let node = TestNode::start(&["limits.header_timeout=1s", "limits.keep_alive_timeout=2s"]).await;
    let mut idle = TcpStream::connect(node.addresses.http).await.unwrap();
    let mut slow = TcpStream::connect(node.addresses.http).await.unwrap();
    for stream in [&mut idle, &mut slow] {
        stream.write_all(b"GET /v1/quotes HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
    }
    slow.write_all(b"GET /v1/quotes HTTP/1.1\r\nhost: ").await.unwrap();
    tokio::join!(rest(&mut idle), rest(&mut slow));
    let metrics = node.metrics().await;
    for reason in ["header_timeout", "keep_alive_timeout"] {
        assert!(metrics.contains(&format!("tickwire_refused_total{{reason=\"{reason}\"}}")), "{reason}");
    }
    node.end().await;
}

/// A stream that is read keeps its connection, however long there is nothing to read and nothing to ask.
#[tokio::test]
async fn an_event_stream_is_not_idle() {
    let node = TestNode::start(&["limits.header_timeout=1s", "limits.keep_alive_timeout=1s"]).await;
    let mut stream = TcpStream::connect(node.addresses.http).await.unwrap();
    stream.write_all(b"GET /v1/stream?topics=ticker:EURUSD HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let ended = async {
        let mut bytes = [0; 1024];
        while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    };
    assert!(tokio::time::timeout(Duration::from_secs(3), ended).await.is_err(), "the stream was cut");
    node.end().await;
}
