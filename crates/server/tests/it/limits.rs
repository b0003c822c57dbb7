//! What a client cannot do to the node.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::node::{PATIENCE, TestNode};

/// Reads until the connection ends: what was answered.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A reset ends it as well.
    let _ = read.expect("the node ends the connection in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn who_does_not_finish_the_head_of_a_request_is_hung_up_on() {
    let node = TestNode::start(&["limits.header_timeout=1s"]).await;
    let beginnings = [
        (node.addresses.http, ""),
        (node.addresses.http, "P"),
        (node.addresses.http, "PRI * HTTP/2.0"),
        (node.addresses.http, "GET / HTTP/1.1\r\nhost: x\r\nx: "),
        (node.addresses.grpc, ""),
        (node.addresses.admin, "GET"),
    ];
    let hung_up = beginnings.map(async |(address, beginning)| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{beginning:?}: {answer}");
    });
    futures_util::future::join_all(hung_up).await;
    node.end().await;
}

#[tokio::test]
async fn garbage_and_giant_heads_are_refused() {
    let node = TestNode::start(&[]).await;
    let giant = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(200_000));
    for bytes in ["\u{0}\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", giant.as_str()] {
        let mut stream = TcpStream::connect(node.addresses.http).await.unwrap();
        // The node may have hung up before all of it is written.
        let _ = stream.write_all(bytes.as_bytes()).await;
        let answer = rest(&mut stream).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    assert_eq!(node.get("/v1/quotes").await.0, 200);
    node.end().await;
}

#[tokio::test]
async fn a_reader_that_stops_reading_costs_only_its_own_stream() {
    let node = TestNode::start(&[r#"feed=[{"kind":"simulated","rate":2000}]"#]).await;
    let symbols = ["EURUSD", "GBPUSD", "BTCUSDT", "ETHUSDT"].map(|symbol| format!("ticker:{symbol}")).join(",");
    let mut stuck = TcpStream::connect(node.addresses.http).await.unwrap();
    stuck.write_all(format!("GET /v1/stream?topics={symbols} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    crate::node::eventually("updates are made", async || {
        node.get("/v1/quotes/BTCUSDT").await.1["seq"].as_u64().is_some_and(|seq| seq > 300)
    })
    .await;
    let mut other = TcpStream::connect(node.addresses.http).await.unwrap();
    other.write_all(format!("GET /v1/stream?topics={symbols} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = [0; 512];
    tokio::time::timeout(Duration::from_secs(5), other.read_exact(&mut head)).await.unwrap().unwrap();
    assert!(head.starts_with(b"HTTP/1.1 200"));
    node.end().await;
}
