//! The gRPC API of a node that is built and not run, called without a network.

use std::{sync::Arc, time::Duration};

use axum::Router;
use futures_util::{StreamExt as _, stream};
use tickwire_proto::v1::{self as pb, market_service_client::MarketServiceClient};
use tonic::{Code, Request, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    App,
    auth::unix_now,
    config::{Config, Sources},
    telemetry,
};

const KEY: &str = "publisher-key-0123456789";

/// A node whose one key ends then.
fn app(expires: Option<u64>) -> (App, MarketServiceClient<Router>) {
    let sets = [
        "listen.http=127.0.0.1:0",
        "listen.grpc=127.0.0.1:0",
        "listen.admin=127.0.0.1:0",
        "market.batch_max=10",
        r#"auth.key=[{"name":"publisher","secret":"publisher-key-0123456789","scopes":["publish"]}]"#,
        r#"channel=[{"pattern":"ticker:*","kind":"ticker"},{"pattern":"room:*","kind":"room","join":"token"}]"#,
    ];
    let sets = sets.map(str::to_owned).to_vec();
    let mut config = Config::load(Sources { sets, ..Sources::default() }).unwrap_or_else(|errors| panic!("{errors}"));
    config.auth.keys[0].expires = expires;
    let app = App::build(config).unwrap();
    let client = MarketServiceClient::new(super::router(app.node())).max_encoding_message_size(64 << 20);
    (app, client)
}

fn quote(symbol: &str) -> pb::Quote {
    pb::Quote { symbol: symbol.to_owned(), bid: "1".to_owned(), ask: "2".to_owned(), ..pb::Quote::default() }
}

fn batch(quotes: usize) -> pb::PublishRequest {
    pb::PublishRequest { quotes: vec![quote("EURUSD"); quotes] }
}

fn as_publisher<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {KEY}").parse().unwrap());
    request
}

/// Batches, and then nothing more for ever.
fn endless(batches: Vec<pb::PublishRequest>) -> Request<impl futures_util::Stream<Item = pb::PublishRequest>> {
    as_publisher(stream::iter(batches).chain(stream::pending()))
}

fn told(status: &Status) -> (Code, String, ErrorDetails) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, super::fault::DOMAIN);
    (status.code(), info.reason.clone(), details)
}

async fn follow(client: &mut MarketServiceClient<Router>, topics: &[&str], max_rate_ms: u32) -> Status {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    client.subscribe(pb::SubscribeRequest { topics, max_rate_ms }).await.unwrap_err()
}

#[tokio::test]
async fn every_refusal_says_its_code_and_what_is_wrong() {
    let (_app, mut client) = app(None);
    let field = |details: &ErrorDetails| details.bad_request().unwrap().field_violations[0].field.clone();

    let (code, reason, _) = told(&client.publish(stream::iter([batch(1)])).await.unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::Unauthenticated, "unauthorized"));
    let mut stranger = Request::new(stream::iter([batch(1)]));
    stranger.metadata_mut().insert("x-api-key", "nobody-knows-this-key".parse().unwrap());
    assert_eq!(told(&client.publish(stranger).await.unwrap_err()).1, "key_invalid");

    let symbol = "x".repeat(10_000);
    let status = client.get_quote(pb::GetQuoteRequest { symbol }).await.unwrap_err();
    let (code, reason, details) = told(&status);
    assert_eq!((code, reason.as_str(), field(&details).as_str()), (Code::InvalidArgument, "invalid_symbol", "symbol"));
    assert!(status.message().len() < 200, "{}", status.message());
    let unknown = client.get_quote(pb::GetQuoteRequest { symbol: "NOBODY".to_owned() }).await.unwrap_err();
    assert_eq!(told(&unknown).0, Code::NotFound);

    for (topics, max_rate_ms, expected) in [
        (&[][..], 0, (Code::InvalidArgument, "no_topic", Some("topics"))),
        (&["ticker:EURUSD"], 60_001, (Code::InvalidArgument, "invalid_params", Some("max_rate_ms"))),
        (&["nothing:here"], 0, (Code::NotFound, "unmatched_topic", None)),
        (&["ticker:no symbol"], 0, (Code::NotFound, "unknown_symbol", None)),
        (&["room:a"], 0, (Code::Unauthenticated, "unauthorized", None)),
    ] {
        let (code, reason, details) = told(&follow(&mut client, topics, max_rate_ms).await);
        let wrong = details.bad_request().map(|_| field(&details));
        assert_eq!((code, reason.as_str(), wrong.as_deref()), expected, "{topics:?}");
    }
    let many: Vec<_> = (0..1_234).map(|i| format!("ticker:S{i}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let status = follow(&mut client, &many, 0).await;
    assert_eq!(told(&status).1, "too_many_topics");
    assert!(status.message().starts_with("1234 topics are named"), "{}", status.message());
}

#[tokio::test]
async fn a_publisher_learns_why_its_stream_ends_and_what_was_taken() {
    let (_app, mut client) = app(None);
    let huge = pb::PublishRequest { quotes: vec![quote(&"x".repeat(5 << 20))] };
    for (last, expected) in
        [(batch(11), (Code::InvalidArgument, "too_large")), (huge, (Code::ResourceExhausted, "body_too_large"))]
    {
        let batches = as_publisher(stream::iter([batch(2), batch(1), last]));
        let status = client.publish(batches).await.unwrap_err();
        let (code, reason, details) = told(&status);
        assert_eq!((code, reason.as_str()), expected);
        assert_eq!(details.error_info().unwrap().metadata["taken"], "3");
        assert!(status.message().ends_with("3 quotes of this stream were taken"), "{}", status.message());
    }
}

#[tokio::test]
async fn a_publishers_stream_ends_with_its_credential() {
    let expires = unix_now() + 2;
    let (_app, mut client) = app(Some(expires));
    let mut acked = client.publish_acked(endless(vec![batch(1)])).await.unwrap().into_inner();
    assert_eq!(acked.next().await.unwrap().unwrap().accepted, 1);
    let status = client.publish(endless(vec![batch(2)])).await.unwrap_err();
    let (code, reason, details) = told(&status);
    assert_eq!((code, reason.as_str()), (Code::Unauthenticated, "key_expired"));
    assert_eq!(details.error_info().unwrap().metadata["taken"], "2");
    let (code, reason, _) = told(&acked.next().await.unwrap().unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::Unauthenticated, "key_expired"));
    assert!(unix_now() >= expires);
}

#[tokio::test]
async fn the_clients_deadline_is_kept() {
    let (app, mut client) = app(None);
    let timed = |mut request: Request<_>| {
        request.set_timeout(Duration::from_millis(50));
        request
    };
    let status = client.publish(timed(endless(vec![batch(1)]))).await.unwrap_err();
    let (code, reason, details) = told(&status);
    assert_eq!((code, reason.as_str()), (Code::DeadlineExceeded, "deadline_exceeded"));
    assert_eq!(details.error_info().unwrap().metadata["taken"], "1");

    let mut request = Request::new(pb::SubscribeRequest { topics: vec!["ticker:EURUSD".to_owned()], max_rate_ms: 0 });
    request.set_timeout(Duration::from_millis(50));
    let mut answers = client.subscribe(request).await.unwrap().into_inner();
    assert!(answers.next().await.unwrap().is_ok(), "a snapshot");
    assert_eq!(told(&answers.next().await.unwrap().unwrap_err()).0, Code::DeadlineExceeded);
    drop(app);
}

#[tokio::test]
async fn a_call_that_its_client_gives_up_is_counted_as_cancelled() {
    let (_app, client) = app(None);
    let count = |method: &str| {
        let labels = ["method", "code"].map(|name| format!("{name}=\""));
        let text = telemetry::recorder().render();
        let line = text.lines().find(|line| {
            line.starts_with(crate::metrics::GRPC_REQUESTS)
                && line.contains(&format!("{}{method}\"", labels[0]))
                && line.contains(&format!("{}cancelled\"", labels[1]))
        });
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = count("Publish");
    let mut publisher = client.clone();
    let call = tokio_util::task::TaskTracker::new()
        .spawn(async move { publisher.publish(endless(vec![batch(1)])).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(20)).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(count("Publish"), before + 1);

    let before = count("PublishAcked");
    let mut publisher = client.clone();
    let mut acked = publisher.publish_acked(endless(vec![batch(1)])).await.unwrap().into_inner();
    assert!(acked.next().await.unwrap().is_ok());
    drop(acked);
    assert_eq!(count("PublishAcked"), before + 1);
}

#[tokio::test]
async fn what_is_not_grpc_is_told_so() {
    use tower::ServiceExt as _;
    let (app, _client) = app(None);
    let router = super::router(&Arc::clone(app.node()));
    let request = axum::http::Request::post("/tickwire.v1.MarketService/GetQuote")
        .header("content-type", "application/json")
        .body(axum::body::Body::from("{}"))
        .unwrap();
    assert_eq!(router.oneshot(request).await.unwrap().status(), 415);
}
