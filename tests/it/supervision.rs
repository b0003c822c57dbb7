//! What fails is counted and told, and the quotes flow on.

use std::collections::BTreeSet;

use serde_json::json;
use tickwire_client::wire::Body;
use tickwire_tests::{Process, eventually, socket::Socket, soon};

/// The first derived computation is fed off the hot path, so it has metrics of its own; those of the contract are all there.
#[tokio::test]
async fn a_node_tells_how_its_parts_are() {
    let server = Process::start(&["feed=[{kind=\"simulated\", name=\"demo\", rate=500}]"]).await;
    let mut socket = Socket::open(&server).await;
    socket.join("ticker:EURUSD", &json!({})).await.unwrap();
    eventually("a bar", async || {
        let (status, answer) = server.get("/v1/bars/EURUSD?interval=1s").await;
        (status == 200 && answer["bars"][0]["open"].is_string() && answer["day"]["high"].is_string()).then_some(())
    })
    .await;
    let (_, ready) = server.admin("/readyz?verbose").await;
    assert!(ready.contains("[+] feed demo ok"), "{ready}");
    loop {
        let Body::Event { event, .. } = soon("an update", socket.next()).await.unwrap().body else { panic!() };
        if event == "update" {
            break;
        }
    }
    let (_, metrics) = server.admin("/metrics").await;
    let names: BTreeSet<_> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let mut wanted: BTreeSet<_> = [
        "tickwire_connections",
        "tickwire_joins",
        "tickwire_quotes_ingested_total",
        "tickwire_deliveries_total",
        "tickwire_delivery_lag_seconds",
        "tickwire_queue_depth",
        "tickwire_queue_capacity",
        "tickwire_cluster_members",
        "tickwire_build_info",
        "process_resident_memory_bytes",
        "http_requests_total",
        "http_request_duration_seconds",
        "tickwire_feed_up",
    ]
    .into();
    wanted.retain(|name| !names.contains(name));
    assert!(wanted.is_empty(), "missing: {wanted:?} in {names:?}");
    assert!(server.metric("tickwire_queue_capacity", "queue=\"bars\"").await > 0.0, "{metrics}");
}

/// A venue that cannot be reached is dialled again and again; nothing else notices.
#[tokio::test]
async fn a_feed_that_fails_is_told_and_the_node_serves_on() {
    // Nobody listens on a port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let feed =
        format!("feed=[{{kind=\"binance\", name=\"venue\", url=\"ws://{free}/stream\", symbols=[\"BTCUSDT\"]}}]");
    let server = Process::start(&[&feed]).await;
    eventually("the feed is down", async || {
        let (_, metrics) = server.admin("/metrics").await;
        metrics.lines().any(|line| line.starts_with("tickwire_feed_up{") && line.ends_with(" 0")).then_some(())
    })
    .await;
    eventually("the log tells why", async || server.log().contains("venue").then_some(())).await;
    assert_eq!(server.admin("/readyz").await.0, 200, "it is dialled again, so the node is well");
    server.publish(json!({"symbol": "A", "bid": "1"})).await;
    assert_eq!(server.get("/v1/quotes/A").await.1["bid"], "1");
}

/// Not a limit, since a debug build on a busy machine has none: a figure for the log.
#[tokio::test]
async fn a_start_says_how_long_it_took() {
    let server = Process::start(&[]).await;
    let log = server.log();
    let ready = log.lines().find(|line| line.contains("\"ready\"")).unwrap();
    let record: serde_json::Value = serde_json::from_str(ready).unwrap();
    let took = record["took"].as_str().unwrap();
    println!("cold start to ready: {took}");
    assert!(took.ends_with('s'), "{ready}");
}
