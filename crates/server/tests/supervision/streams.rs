//! Requests, event streams, gRPC calls, and the shards behind them.

use std::sync::Arc;

use serde_json::json;
use tickwire_faults::{Unit, arm};
use tickwire_proto::v1::{GetQuoteRequest, SubscribeRequest, market_service_client::MarketServiceClient};
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _};

use crate::{
    node::TestNode,
    witness::{CLIENTS, CRASHES, Watched, Wire, clients, fired, many},
};

/// Streams that are open at the same time.
const STREAMS: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_crashes_is_answered_and_its_connection_serves_on() {
    let watched = Watched::start(&[]).await;
    let armed = arm(Unit::Request, "/v1/quotes/CRASH", CRASHES);
    let wires = clients(|| Wire::open(&watched.node)).await;
    many(CRASHES, async |index| {
        let mut wire = wires[(index % CLIENTS) as usize].lock().await;
        let (status, problem) = wire.request("GET /v1/quotes/CRASH", "").await;
        assert!(status == 500 && problem.contains(r#""code":"internal""#), "{status} {problem}");
    })
    .await;
    assert_eq!(armed.fired(), CRASHES);
    assert_eq!(wires[0].lock().await.request("GET /v1/quotes/WITNESS", "").await.0, 200);
    drop(wires);
    watched.end().await;
}

/// The quote that made it crash is told; the clients of the shard's symbols begin anew, and miss nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_crashes_begins_anew() {
    const BATCH: u64 = 1_000;
    let mut watched = Watched::start(&["market.shards=1"]).await;
    let armed = arm(Unit::Shard, "CRASH", CRASHES);
    let batch: Vec<_> = (0..BATCH).map(|_| json!({"symbol": "CRASH", "bid": 1})).collect();
    for _ in 0..CRASHES / BATCH {
        let answer = watched.node.publish(json!(batch)).await;
        assert_eq!((&answer["accepted"], answer["rejected"].as_array().map(Vec::len)), (&json!(0), Some(batch.len())));
        assert_eq!(answer["rejected"][0]["code"], "internal", "{answer}");
        watched.begins_anew().await;
    }
    assert_eq!(armed.fired(), CRASHES);
    let problems = watched.problems().await;
    assert!(problems.len() == 1 && problems[0].contains("market"), "{problems:?}");
    assert_eq!(watched.node.publish(json!({"symbol": "CRASH", "bid": 1})).await["accepted"], 1);
    watched.end().await;
}

/// The stream says why it ends; the client comes back with the id of the last event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_stream_that_crashes_ends_alone() {
    let mut watched = Watched::start(&[]).await;
    for bid in 1..=CRASHES / STREAMS {
        let armed = arm(Unit::Stream, "sse", STREAMS);
        let streams = (0..STREAMS).map(|_| event_stream(&watched.node));
        let mut streams = futures_util::future::join_all(streams).await;
        watched.node.publish(json!({"symbol": "CRASH", "bid": bid})).await;
        for stream in &mut streams {
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            assert!(rest.contains("event: close\ndata: {\"reason\":\"internal_error\"}"), "{rest}");
        }
        assert_eq!(armed.fired(), STREAMS);
    }
    watched.notices_nothing().await;
    watched.end().await;
}

/// A stream whose first event has come.
async fn event_stream(node: &TestNode) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(node.addresses.http).await.unwrap();
    let request = "GET /v1/stream?topics=ticker:CRASH HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("event: snapshot") {
        assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
    }
    stream
}

/// One connection carries all of them: what crashes is a call and not the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_crashes_leaves_the_connection_to_the_others() {
    let watched = Watched::start(&[]).await;
    let channel = tonic::transport::Endpoint::new(format!("http://{}", watched.node.addresses.grpc)).unwrap();
    let client = MarketServiceClient::new(channel.connect().await.unwrap());
    let armed = arm(Unit::Call, "GetQuote", CRASHES);
    let get = async |symbol: &str| {
        let request = GetQuoteRequest { symbol: symbol.to_owned() };
        client.clone().get_quote(request).await
    };
    many(CRASHES, async |_| {
        let status = get("WITNESS").await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Internal, "{} {status:?}", armed.fired());
    })
    .await;
    assert_eq!(armed.fired(), CRASHES);
    assert!(get("WITNESS").await.is_ok());

    let streams = arm(Unit::Stream, "grpc", CRASHES);
    let request = Arc::new(SubscribeRequest { topics: vec!["ticker:CRASH".to_owned()], ..SubscribeRequest::default() });
    // As many as the server lets one connection have under way.
    for bid in 1..=CRASHES / STREAMS {
        let opening = (0..STREAMS).map(async |_| {
            let mut stream = client.clone().subscribe((*request).clone()).await.unwrap().into_inner();
            stream.message().await.unwrap().expect("a snapshot");
            stream
        });
        let mut open = futures_util::future::join_all(opening).await;
        watched.node.publish(json!({"symbol": "CRASH", "bid": bid})).await;
        for stream in &mut open {
            assert_eq!(stream.message().await.unwrap_err().code(), tonic::Code::Internal);
        }
    }
    fired(&streams, CRASHES).await;
    assert!(get("WITNESS").await.is_ok());
    drop(client);
    watched.end().await;
}

/// The computation begins anew, with a gap in its bars, and quotes do not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bars_that_crash_hold_nobody_up() {
    let mut watched = Watched::start(&[]).await;
    let armed = arm(Unit::Bars, "CRASH", 3);
    for bid in 1..=3 {
        watched.node.publish(json!([{"symbol": "CRASH", "bid": bid, "ask": bid}])).await;
        watched.notices_nothing().await;
        fired(&armed, bid).await;
    }
    crate::node::eventually("bars again", async || {
        watched.node.publish(json!([{"symbol": "CRASH", "bid": 7, "ask": 7}])).await;
        let (_, answer) = watched.node.get("/v1/bars/CRASH?interval=1s").await;
        answer["bars"].as_array().is_some_and(|bars| bars.iter().any(|bar| bar["close"] == "7"))
    })
    .await;
    watched.end().await;
}
