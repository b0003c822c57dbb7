//! What a client cannot do to the node.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::node::{PATIENCE, TestNode, rest};

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

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Sends bytes until the node hangs up.
async fn flood(address: std::net::SocketAddr, mut next: impl FnMut() -> Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let sending = async { while writer.write_all(&next()).await.is_ok() {} };
    let reading = async {
        let mut bytes = [0; 4096];
        while reader.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    };
    let ended = async {
        tokio::select! {
            () = sending => {}
            () = reading => {}
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the node hangs up in time");
}

/// Whoever opens requests and takes them back makes the node work for nothing (CVE-2023-44487).
#[tokio::test]
async fn a_client_that_resets_its_requests_is_hung_up_on() {
    let node = TestNode::start(&[]).await;
    // GET http / with the authority x, from the static table of HPACK.
    let head = [0x82, 0x86, 0x84, 0x41, 0x01, b'x'];
    let mut stream = 1;
    flood(node.addresses.http, || {
        let mut batch = Vec::new();
        for _ in 0..500 {
            batch.extend(frame(1, 0x5, stream, &head));
            batch.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
            stream += 2;
        }
        batch
    })
    .await;
    assert_eq!(node.get("/v1/quotes").await.0, 200);
    node.end().await;
}

/// A head without end, in pieces of any number (CVE-2024-27316).
#[tokio::test]
async fn a_head_of_endless_pieces_is_hung_up_on() {
    let node = TestNode::start(&[]).await;
    let mut begun = false;
    flood(node.addresses.http, || {
        let kind = if std::mem::replace(&mut begun, true) { 9 } else { 1 };
        // A literal field without a name in the table: x: 1000 letters, again and again.
        let field = [&[0x00, 0x01, b'x', 0x7f, 0xe9, 0x06][..], &[b'a'; 1000]].concat();
        frame(kind, 0, 1, &field)
    })
    .await;
    assert_eq!(node.get("/v1/quotes").await.0, 200);
    node.end().await;
}
