//! Requests for sockets as they may come over the wire, whole or in pieces: no client can tell which of them an HTTP server has read.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::node::{TestNode, eventually, rest};

const UPGRADE: &str = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A message as a client's frame with a mask of zeros.
fn frame(message: &str) -> Vec<u8> {
    let len = u8::try_from(message.len()).unwrap();
    assert!(len < 126);
    [&[0x81, 0x80 | len, 0, 0, 0, 0], message.as_bytes()].concat()
}

/// Reads until the text has come.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let read = tokio::time::timeout(crate::node::PATIENCE, stream.read_buf(&mut seen)).await.unwrap().unwrap();
        assert!(read > 0, "{:?}", String::from_utf8_lossy(&seen));
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn an_upgrade_may_come_in_pieces_with_frames_behind_it_and_after_other_requests() {
    let node = TestNode::start(&[]).await;
    let whole = [format!("{UPGRADE}\r\n").into_bytes(), frame(r#"["1","1","ticker:A","phx_join",{}]"#)].concat();
    let pieces: [&[&[u8]]; 4] = [
        &[&whole],
        &[&whole[..1], &whole[1..]],
        &[&whole[..40], &whole[40..whole.len() - 10], &whole[whole.len() - 10..]],
        &[b"GET /v1/quotes HTTP/1.1\r\nHost: a\r\n\r\n", &whole],
    ];
    for pieces in pieces {
        let mut stream = TcpStream::connect(node.addresses.http).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let seen = read_until(&mut stream, r#""status":"ok""#).await.to_lowercase();
        assert!(seen.contains("101 switching protocols\r\n"), "{seen}");
        assert!(seen.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{seen}");
    }
    let metrics = node.metrics().await;
    let counted = metrics.lines().find(|line| line.starts_with("http_requests_total") && line.contains("\"101\""));
    assert!(counted.is_some_and(|line| line.contains("GET")), "{metrics}");
    node.end().await;
}

/// What a refused client asks next on the same connection is answered.
#[tokio::test]
async fn a_refused_upgrade_leaves_its_connection_usable() {
    let node = TestNode::start(&[]).await;
    for (head, status, reason) in [
        (UPGRADE.replace("vsn=2.0.0", "vsn=2.0.0&token=a.b.c"), "HTTP/1.1 403", "token_"),
        (UPGRADE.replace("vsn=2.0.0", "vsn=9"), "HTTP/1.1 403", "bad_vsn"),
        (format!("{UPGRADE}Origin: http://elsewhere\r\n"), "HTTP/1.1 403", "origin_not_allowed"),
        (UPGRADE.replace("Version: 13", "Version: 8"), "HTTP/1.1 400", "not_an_upgrade"),
        (UPGRADE.replace("/socket/", "/nowhere/"), "HTTP/1.1 404", ""),
    ] {
        let mut stream = TcpStream::connect(node.addresses.http).await.unwrap();
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        let seen = read_until(&mut stream, "\r\n\r\n").await;
        assert!(seen.starts_with(status) && seen.contains(reason) && seen.contains("\r\ndate: "), "{seen}");
        stream.write_all(b"GET /v1/quotes HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(rest(&mut stream).await.contains("HTTP/1.1 200"), "{reason}");
    }
    node.end().await;
}

/// `nc -N` and the like send what they have, end their side, and wait for the answers.
#[tokio::test]
async fn who_ends_its_side_behind_a_request_is_answered() {
    let node = TestNode::start(&[]).await;
    let get = "GET /v1/quotes HTTP/1.1\r\nHost: a\r\n\r\n";
    let refused = UPGRADE.replace("vsn=2.0.0", "vsn=9");
    for (requests, answers) in [
        (get.to_owned(), 1),
        (get.repeat(2), 2),
        (format!("{refused}\r\n"), 1),
        (format!("{refused}\r\n{get}"), 2),
        (format!("{get}{refused}\r\n"), 2),
    ] {
        let mut stream = TcpStream::connect(node.addresses.http).await.unwrap();
        stream.write_all(requests.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let seen = rest(&mut stream).await;
        assert_eq!(seen.matches("HTTP/1.1 ").count(), answers, "{requests} {seen}");
    }
    node.end().await;
}

#[tokio::test]
async fn a_user_of_a_trusted_proxy_is_limited_by_its_own_address() {
    let node = TestNode::start(&["limits.trusted_proxies=['127.0.0.0/8']", "limits.connections_per_address=1"]).await;
    let open = async |client: &str| {
        let mut stream = TcpStream::connect(node.addresses.http).await.unwrap();
        stream.write_all(format!("{UPGRADE}X-Forwarded-For: {client}\r\n\r\n").as_bytes()).await.unwrap();
        let seen = read_until(&mut stream, "\r\n\r\n").await;
        (stream, seen)
    };
    let (first, seen) = open("203.0.113.1").await;
    assert!(seen.starts_with("HTTP/1.1 101"), "{seen}");
    let (_, seen) = open("203.0.113.1").await;
    assert!(seen.starts_with("HTTP/1.1 429") && seen.contains("connections_per_address"), "{seen}");
    assert!(open("203.0.113.2").await.1.starts_with("HTTP/1.1 101"));
    drop(first);
    eventually("its place is free again", async || open("203.0.113.1").await.1.starts_with("HTTP/1.1 101")).await;
    node.end().await;
}

/// Those who come at a higher rate than they are let in wait, and nobody is turned away.
#[tokio::test]
async fn a_herd_waits_for_its_turn() {
    let node = TestNode::start(&["limits.accepts_per_second=200"]).await;
    let join = frame(r#"["1","1","ticker:A","phx_join",{}]"#);
    let clients = (0..100).map(|_| async {
        let mut stream = TcpStream::connect(node.addresses.http).await.unwrap();
        stream.write_all(format!("{UPGRADE}\r\n").as_bytes()).await.unwrap();
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(&join).await.unwrap();
        read_until(&mut stream, r#""status":"ok""#).await;
        stream
    });
    let open = futures_util::future::join_all(clients).await;
    assert_eq!(open.len(), 100);
    assert_eq!(node.publish(json!({"symbol": "A", "bid": 1})).await["accepted"], 1);
    node.end().await;
}
