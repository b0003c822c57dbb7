//! The admin port.

use serde_json::{Value, json};

use crate::node::{PATIENCE, Socket, TestNode};

#[tokio::test]
async fn health_is_told_check_by_check() {
    let node = TestNode::start(&[r#"feed=[{"kind":"simulated"}]"#]).await;
    for path in ["/startupz", "/livez", "/readyz"] {
        let answer = node.client.get(node.admin(path)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "ok\n"), "{path}");
    }
    let verbose = node.client.get(node.admin("/readyz?verbose")).send().await.unwrap().text().await.unwrap();
    for line in ["[+] startup ok", "[+] drain ok", "[+] workers ok", "[+] feed simulated ok", "ok"] {
        assert!(verbose.lines().any(|seen| seen == line), "{line} in\n{verbose}");
    }
    node.end().await;
}

/// A venue that is down must be seen, and is no reason to turn clients away: it is down for every node.
#[tokio::test]
async fn a_feed_without_its_venue_leaves_the_node_ready_and_is_told() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let feed = format!(r#"feed=[{{"kind":"binance","url":"ws://{nobody}/stream","symbols":["BTCUSDT"]}}]"#);
    let node = TestNode::start(&[&feed]).await;
    let told = async {
        loop {
            let answer = node.client.get(node.admin("/readyz?verbose")).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let text = answer.text().await.unwrap();
            if text.contains("[+] feed binance ok, but reconnecting: ") {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    node.end().await;
}

#[tokio::test]
async fn the_names_that_dashboards_rely_on_are_there() {
    let node = TestNode::start(&[]).await;
    node.publish(json!({"symbol": "A", "bid": "1"})).await;
    let mut socket = Socket::open(&node, "").await;
    socket.join("ticker:A", json!({})).await;
    let metrics = node.metrics().await;
    for name in [
        "tickwire_connections",
        "tickwire_joins",
        "tickwire_quotes_ingested_total",
        "tickwire_deliveries_total",
        "tickwire_delivery_lag_seconds_bucket",
        "tickwire_queue_depth",
        "tickwire_queue_capacity",
        "tickwire_cluster_members",
        "tickwire_build_info",
        "process_resident_memory_bytes",
        "http_requests_total",
        "http_request_duration_seconds_bucket",
    ] {
        let starts = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        assert!(metrics.lines().any(starts), "{name} in\n{metrics}");
    }
    node.end().await;
}

/// The first event of a series that was not there before is invisible to a rate, and so to an alert.
#[tokio::test]
async fn what_alerts_watch_is_there_before_anything_happened() {
    let node = TestNode::start(&[]).await;
    let metrics = node.metrics().await;
    for name in [
        "tickwire_quotes_ingested_total",
        "tickwire_conflated_total",
        "tickwire_dropped_total{reason=\"room_history\"}",
        "tickwire_dropped_total{reason=\"slow_consumer\"}",
        "tickwire_disconnects_total{reason=\"slow_consumer\"}",
        "tickwire_panics_total",
        "http_requests_total{status=\"200\",method=\"GET\"}",
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} in\n{metrics}");
    }
    node.end().await;
}

/// Too few nodes can be watched, and make the one there is unready only where that is asked for.
#[tokio::test]
async fn missing_nodes_are_counted_and_the_node_is_ready_without_them() {
    let node = TestNode::start(&["cluster.expect=3"]).await;
    let metrics = node.metrics().await;
    // Other nodes of this process share its metrics; none of them expects anybody.
    assert!(metrics.lines().any(|line| line == "tickwire_cluster_members{state=\"missing\"} 2"), "{metrics}");
    node.end().await;
}

#[tokio::test]
async fn the_node_describes_itself() {
    let node = TestNode::start(&[r#"feed=[{"kind":"simulated"}]"#, "node.id=n1"]).await;
    let get =
        async |path: &str| -> Value { node.client.get(node.admin(path)).send().await.unwrap().json().await.unwrap() };
    let cluster = get("/cluster").await;
    assert_eq!(
        (&cluster["node"], &cluster["members"][0]["state"], &cluster["feeds"][0]["kind"]),
        (&json!("n1"), &json!("alive"), &json!("simulated"))
    );
    assert!(get("/debug/tasks").await["tasks"]["accept loop"]["running"].as_u64().unwrap() >= 1);
    assert!(get("/debug/memory").await["resident_bytes"].as_u64().unwrap() > 1_000_000);
    let index = node.client.get(node.admin("/")).send().await.unwrap().text().await.unwrap();
    assert!(index.contains("/readyz") && index.contains("n1"));
    node.end().await;
}

#[tokio::test]
async fn a_drain_over_the_admin_port_makes_it_unready_first() {
    let node = TestNode::start(&["drain.delay=60s"]).await;
    let foreign = node.client.post(node.admin("/drain")).header("origin", "http://evil.example").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
    assert_eq!(node.client.post(node.admin("/drain")).send().await.unwrap().status(), 202);
    crate::node::eventually("the node is unready", async || {
        node.client.get(node.admin("/readyz")).send().await.unwrap().status() == 503
    })
    .await;
    assert_eq!(node.client.get(node.admin("/livez")).send().await.unwrap().status(), 200);
    // A second request does not wait for the delay.
    node.stop.request();
    tokio::time::timeout(PATIENCE, node.ended).await.unwrap().unwrap().unwrap();
}
