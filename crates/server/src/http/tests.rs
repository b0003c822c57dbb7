//! The API of a node that is built and not run, whose insides can be reached.

use axum::{Router, body::Body, http::Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    App,
    config::{Config, Sources},
};

const KEY: &str = "publisher-key-0123456789";

/// A node that is built and not run: its parts work, nobody accepts connections.
fn app() -> App {
    let sets = [
        "listen.http=127.0.0.1:0",
        "listen.grpc=127.0.0.1:0",
        "listen.admin=127.0.0.1:0",
        r#"auth.key=[{"name":"publisher","secret":"publisher-key-0123456789","scopes":["publish"]}]"#,
        r#"channel=[{"pattern":"ticker:*","kind":"ticker"},{"pattern":"room:*","kind":"room"}]"#,
    ];
    let sets = sets.map(str::to_owned).to_vec();
    let config = Config::load(Sources { sets, ..Sources::default() }).unwrap_or_else(|errors| panic!("{errors}"));
    App::build(config).unwrap()
}

async fn post(router: &Router, path: &str, body: Value) -> (u16, Option<String>, Value) {
    let request = Request::post(path)
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let retry_after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, retry_after, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_node_without_room_says_what_it_did_not_take_and_when_to_come_back() {
    let app = app();
    let router = super::router(app.node());
    let pressure = app.node().pubsub.pressure();
    pressure.raise();
    let quotes = json!([{"symbol": "A", "bid": "1"}, {"symbol": "A", "bid": "x"}]);
    let (status, retry_after, answer) = post(&router, "/v1/quotes", quotes.clone()).await;
    assert_eq!((status, retry_after.as_deref(), &answer["code"]), (429, Some("1"), &json!("busy")));
    assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&json!(0), &json!(2)));
    assert_eq!((&answer["rejected"][0]["code"], &answer["rejected"][0]["retryable"]), (&json!("busy"), &json!(true)));
    assert_eq!(
        (&answer["rejected"][1]["code"], &answer["rejected"][1]["retryable"]),
        (&json!("invalid_price"), &json!(false))
    );
    let broadcast = json!({"event": "news"});
    assert_eq!(post(&router, "/v1/topics/room:a/broadcast", broadcast.clone()).await.0, 429);

    pressure.release();
    assert_eq!(post(&router, "/v1/quotes", quotes).await.2["accepted"], 1);
    assert_eq!(post(&router, "/v1/topics/room:a/broadcast", broadcast).await.0, 202);
}

#[tokio::test]
async fn what_was_not_sent_for_want_of_room_may_be_sent_again_with_its_key() {
    let app = app();
    let router = super::router(app.node());
    let send = async || {
        let request = Request::post("/v1/topics/room:a/broadcast")
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .header("idempotency-key", "k")
            .body(Body::from(r#"{"event":"news"}"#))
            .unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        (answer.status().as_u16(), answer.headers().contains_key("idempotent-replayed"))
    };
    app.node().pubsub.pressure().raise();
    assert_eq!(send().await, (429, false));
    app.node().pubsub.pressure().release();
    assert_eq!(send().await, (202, false));
    assert_eq!(send().await, (202, true));
}

#[tokio::test]
async fn what_cannot_be_read_is_a_problem_with_a_code() {
    let app = app();
    let router = super::router(app.node());
    let post = |name: &'static str, value: &str| {
        Request::post("/v1/quotes")
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .header(name, value)
    };
    let announced = (app.node().live().config.limits.body_bytes + 1).to_string();
    // The body never comes: it is refused by what its head announces.
    let endless = Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let too_large = Body::new(Announced(endless, announced.parse().unwrap()));
    for (status, code, request) in [
        (400, "invalid_path", Request::get("/v1/quotes/%ff").body(Body::empty()).unwrap()),
        (400, "invalid_path", Request::get("/v1/bars/%ff").body(Body::empty()).unwrap()),
        (415, "unsupported_encoding", post("content-encoding", "gzip").body(Body::from("{}")).unwrap()),
        (413, "body_too_large", post("content-length", &announced).body(too_large).unwrap()),
    ] {
        let answer = router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{code}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{code}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["code"], code);
    }
    let plain = post("content-encoding", "identity").body(Body::from(r#"{"symbol":"A","bid":"1"}"#)).unwrap();
    assert_eq!(router.oneshot(plain).await.unwrap().status(), 202);
}

/// A body of an announced length.
struct Announced(Body, u64);

impl axum::body::HttpBody for Announced {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(context)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.1)
    }
}

#[tokio::test]
async fn a_panic_in_a_handler_is_one_bad_answer() {
    async fn panics() {
        panic!("on purpose");
    }
    let router: Router =
        Router::new().route("/", axum::routing::get(panics)).layer(axum::middleware::from_fn(super::observe));
    let answer = router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (500, &"application/problem+json".parse().unwrap())
    );
}
