//! The gRPC API.

use futures_util::stream;
use serde_json::json;
use tickwire_proto::v1::{self as pb, market_service_client::MarketServiceClient, subscribe_response::Message};
use tonic::{Code, Request, transport::Channel};

use crate::node::{PATIENCE, PUBLISHER, TestNode};

async fn client(node: &TestNode) -> MarketServiceClient<Channel> {
    MarketServiceClient::connect(format!("http://{}", node.addresses.grpc)).await.unwrap()
}

fn authorized<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {PUBLISHER}").parse().unwrap());
    request
}

fn quote(symbol: &str, bid: &str) -> pb::Quote {
    pb::Quote { symbol: symbol.to_owned(), bid: bid.to_owned(), ..pb::Quote::default() }
}

#[tokio::test]
async fn quotes_are_published_followed_and_read() {
    let node = TestNode::start(&[]).await;
    let mut client = client(&node).await;
    let wish = pb::SubscribeRequest { topics: vec!["ticker:A".to_owned()], max_rate_ms: 0 };
    let mut updates = client.subscribe(wish).await.unwrap().into_inner();
    let first = updates.message().await.unwrap().unwrap();
    assert!(matches!(first.message, Some(Message::Snapshot(pb::Snapshot { quote: None, .. }))));

    let batches = [vec![quote("A", "1.50"), quote("A", "-1")], vec![quote("A", "1.60"), quote("bad symbol", "1")]];
    let batches = batches.map(|quotes| pb::PublishRequest { quotes });
    let answer = client.publish(authorized(stream::iter(batches.clone()))).await.unwrap().into_inner();
    assert_eq!((answer.accepted, answer.rejected_total), (2, 2));
    let rejected: Vec<_> = answer.rejected.iter().map(|rejection| (rejection.index, rejection.code.as_str())).collect();
    assert_eq!(rejected, [(1, "invalid_price"), (3, "invalid_symbol")]);

    let mut received = 0;
    let mut bid = String::new();
    while received < 2 {
        let message = tokio::time::timeout(PATIENCE, updates.message()).await.unwrap().unwrap().unwrap();
        let Some(Message::Update(update)) = message.message else { continue };
        received += update.n;
        bid = update.bid;
    }
    assert_eq!((received, bid.as_str()), (2, "1.60"));

    let mut acked = client.publish_acked(authorized(stream::iter(batches))).await.unwrap().into_inner();
    for _ in 0..2 {
        assert_eq!(acked.message().await.unwrap().unwrap().accepted, 1);
    }
    assert!(acked.message().await.unwrap().is_none());

    let answer = client.get_quote(pb::GetQuoteRequest { symbol: "A".to_owned() }).await.unwrap().into_inner();
    assert_eq!((answer.quote.unwrap().bid.as_str(), answer.state.as_str()), ("1.60", "ok"));
    node.end().await;
}

#[tokio::test]
async fn errors_have_the_code_that_tells_what_to_do() {
    let node = TestNode::start(&[]).await;
    let mut client = client(&node).await;
    let publish = client.publish(stream::iter([pb::PublishRequest::default()])).await;
    assert_eq!(publish.unwrap_err().code(), Code::Unauthenticated);
    let get = async |client: &mut MarketServiceClient<Channel>, symbol: &str| {
        client.get_quote(pb::GetQuoteRequest { symbol: symbol.to_owned() }).await.unwrap_err().code()
    };
    assert_eq!(get(&mut client, "NOSUCH").await, Code::NotFound);
    assert_eq!(get(&mut client, "no symbol").await, Code::InvalidArgument);
    for (topics, rate, code) in [
        (vec![], 0, Code::InvalidArgument),
        (vec!["nosuch:a"], 0, Code::NotFound),
        (vec!["ticker:A"], 3_600_000, Code::InvalidArgument),
    ] {
        let wish = pb::SubscribeRequest { topics: topics.into_iter().map(str::to_owned).collect(), max_rate_ms: rate };
        assert_eq!(client.subscribe(wish).await.unwrap_err().code(), code);
    }
    node.end().await;
}

#[tokio::test]
async fn open_streams_do_not_hold_up_a_drain() {
    let node = TestNode::start(&[]).await;
    let mut client = client(&node).await;
    node.publish(json!({"symbol": "A", "bid": "1"})).await;
    let wish = pb::SubscribeRequest { topics: vec!["ticker:A".to_owned()], max_rate_ms: 0 };
    let mut updates = client.subscribe(wish).await.unwrap().into_inner();
    updates.message().await.unwrap().unwrap();
    let mut other = client.clone();
    let endless = stream::iter([pb::PublishRequest { quotes: vec![quote("A", "2")] }]);
    let endless = authorized(futures_util::StreamExt::chain(endless, stream::pending()));
    let publishing = tokio_util::task::TaskTracker::new().spawn(async move { other.publish(endless).await });
    crate::node::eventually("the quote is taken", async || node.get("/v1/quotes/A").await.1["bid"] == "2").await;
    node.stop.request();
    let ended = loop {
        match updates.message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    let status = publishing.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("1 quotes of this stream were taken"), "{status}");
    tokio::time::timeout(PATIENCE, node.ended).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_publisher_learns_why_its_stream_ends_and_what_was_taken() {
    let node = TestNode::start(&[]).await;
    let mut client = client(&node).await;
    let fine = pb::PublishRequest { quotes: vec![quote("A", "1")] };
    let many = pb::PublishRequest { quotes: vec![pb::Quote::default(); 10_001] };
    let long = pb::PublishRequest { quotes: vec![quote("A", &"1".repeat(5 << 20))] };
    for (batch, code) in [(many, Code::InvalidArgument), (long, Code::ResourceExhausted)] {
        let status = client.publish(authorized(stream::iter([fine.clone(), batch]))).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().ends_with("; 1 quotes of this stream were taken"), "{status}");
    }
    let endless = futures_util::StreamExt::chain(stream::iter([fine]), stream::pending());
    let mut acked = client.publish_acked(authorized(endless)).await.unwrap().into_inner();
    assert_eq!(acked.message().await.unwrap().unwrap().accepted, 1);
    node.stop.request();
    let status = tokio::time::timeout(PATIENCE, acked.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "an end without an error would say that all was taken: {status}");
    tokio::time::timeout(PATIENCE, node.ended).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let node = TestNode::start(&[]).await;
    let channel = Channel::from_shared(format!("http://{}", node.addresses.grpc)).unwrap().connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    for service in ["", "tickwire.v1.MarketService"] {
        crate::node::eventually("the service is serving", async || {
            let wish = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
            health.check(wish).await.is_ok_and(|answer| answer.into_inner().status == 1)
        })
        .await;
    }
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        ServerReflectionClient::new(channel).server_reflection_info(stream::iter([ask])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"tickwire.v1.MarketService") && names.contains(&"grpc.health.v1.Health"), "{names:?}");
    node.end().await;
}
