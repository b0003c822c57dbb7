//! Client tokens on live connections: what ends with them, what goes on with new ones, and where their keys come from.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tickwire_proto::v1::{self as pb, market_service_client::MarketServiceClient};
use tickwire_server::{
    auth::{Grant, Signer, SigningKey, mint_with, unix_now},
    config::Config,
};
use tokio_util::task::TaskTracker;

use crate::node::{ADMIN, PATIENCE, PUBLISHER, Socket, TestNode, eventually};

const MINUTE: Duration = Duration::from_secs(60);

/// Shows a token on a topic and returns the answer.
async fn show(socket: &mut Socket, topic: &str, payload: Value) -> (String, Value) {
    socket.send(json!(["1", "9", topic, "access_token", payload])).await;
    socket.reply().await
}

fn reason(answer: (String, Value)) -> String {
    assert_eq!(answer.0, "error", "{}", answer.1);
    answer.1["reason"].as_str().unwrap().to_owned()
}

async fn is_alive(socket: &mut Socket) {
    socket.send(json!([null, "h", "phoenix", "heartbeat", {}])).await;
    assert_eq!(socket.reply().await.0, "ok");
}

async fn until(second: u64) {
    eventually("the second passes", async || unix_now() >= second).await;
}

#[tokio::test]
async fn a_new_token_keeps_its_socket_open() {
    let node = TestNode::start(&[]).await;
    let token = node.token("ann", &["*"], Duration::from_secs(2));
    let ends = unix_now() + 2;
    let mut socket = Socket::open(&node, &format!("&token={token}")).await;
    assert_eq!(socket.join("ticker:A", json!({})).await.0, "ok");
    let token = node.token("ann", &["*"], MINUTE);
    let (status, answer) = show(&mut socket, "ticker:A", json!({"access_token": token})).await;
    assert_eq!(status, "ok");
    assert!(answer["expires_at"].as_u64().unwrap() >= unix_now() + 50, "{answer}");
    // Clients send it on each topic.
    assert_eq!(show(&mut socket, "ticker:A", json!({"token": token, "version": "x"})).await.0, "ok");
    until(ends + 1).await;
    is_alive(&mut socket).await;
    node.end().await;
}

/// The timer that watches a socket's life is set for the old end.
#[tokio::test]
async fn a_token_that_ends_sooner_ends_its_socket_sooner() {
    let node = TestNode::start(&[]).await;
    let mut socket = Socket::open(&node, &format!("&token={}", node.token("ann", &["*"], MINUTE))).await;
    assert_eq!(socket.join("room:a", json!({})).await.0, "ok");
    let token = node.token("ann", &["*"], Duration::from_secs(2));
    assert_eq!(show(&mut socket, "room:a", json!({"access_token": token})).await.0, "ok");
    assert_eq!(socket.closed().await, (1001, "token_expired".to_owned()));
    node.end().await;
}

#[tokio::test]
async fn new_rights_hold_at_once_and_lost_ones_are_lost() {
    let node = TestNode::start(&[]).await;
    let token = node.token("ann", &["ticker:*", "room:a", "room:b"], MINUTE);
    let mut socket = Socket::open(&node, &format!("&token={token}")).await;
    for topic in ["ticker:A", "room:a", "room:b"] {
        socket.send(json!([topic, "1", topic, "phx_join", {}])).await;
        assert_eq!(socket.reply().await.0, "ok");
    }
    assert_eq!(socket.join("room:c", json!({})).await.0, "error");
    let token = node.token("ann", &["ticker:*", "room:b", "room:c"], MINUTE);
    // On a topic that it does not cover: its answer comes first.
    socket.send(json!(["room:a", "2", "room:a", "access_token", {"access_token": token}])).await;
    assert_eq!(socket.reply().await.0, "ok");
    assert_eq!(socket.next().await, json!(["room:a", "room:a", "room:a", "phx_close", {}]));
    assert_eq!(socket.join("room:c", json!({})).await.0, "ok");
    assert_eq!(socket.join("room:a", json!({})).await, ("error".to_owned(), json!({"reason": "unauthorized"})));
    let mut speak = async |publish: &[&str], expected: &str| {
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let grant = Grant {
            user: "ann".to_owned(),
            allow: patterns(&["room:b"]),
            publish: Some(patterns(publish)),
            ttl: MINUTE,
        };
        let token = node.sign(&grant);
        socket.send(json!(["room:b", "3", "room:b", "access_token", {"access_token": token}])).await;
        // The channels that this one does not cover are ended behind its answer.
        let answers = |message: &Value| message[3] == "phx_reply" && message[1] == "3";
        while !answers(&socket.next().await) {}
        socket.send(json!(["room:b", "4", "room:b", "shout", {}])).await;
        let said = loop {
            let message = socket.next().await;
            if message[1] == "4" {
                break message;
            }
            assert_eq!(message[3], "phx_close", "{message}");
        };
        assert_eq!(said[4]["status"], expected, "{said}");
    };
    speak(&[], "error").await;
    speak(&["room:*"], "ok").await;
    let metrics = node.metrics().await;
    assert!(metrics.contains("tickwire_refused_total{reason=\"rights_withdrawn\"}"), "{metrics}");
    node.end().await;
}

#[tokio::test]
async fn a_token_that_is_no_good_changes_nothing() {
    let node = TestNode::start(&[]).await;
    let mut socket = Socket::open(&node, &format!("&token={}", node.token("ann", &["*"], MINUTE))).await;
    assert_eq!(socket.join("ticker:A", json!({})).await.0, "ok");
    for payload in [json!({}), json!(null), json!([]), json!({"access_token": 7}), json!({"access_token": ""})] {
        assert_eq!(reason(show(&mut socket, "ticker:A", payload).await), "invalid_params");
    }
    let foreign = node.token("eve", &["*"], MINUTE);
    let expired = node.token("ann", &["*"], Duration::ZERO);
    for (token, expected) in [
        ("not a token", "token_invalid"),
        ("a.b.c", "token_invalid"),
        // An API key is no token, however much it may.
        (ADMIN, "token_invalid"),
        (expired.as_str(), "token_expired"),
        (foreign.as_str(), "user_mismatch"),
        // Verifying costs: five at once and then one a second.
        (foreign.as_str(), "busy"),
    ] {
        assert_eq!(reason(show(&mut socket, "ticker:A", json!({"access_token": token})).await), expected, "{token}");
    }
    is_alive(&mut socket).await;
    // On a topic that is not joined, it is as any event there.
    socket.send(json!(["1", "9", "ticker:B", "access_token", {"access_token": foreign}])).await;
    assert_eq!(socket.reply().await.1, json!({"reason": "unmatched topic"}));
    // A stranger's socket does not become somebody's.
    let mut stranger = Socket::open(&node, "").await;
    assert_eq!(stranger.join("ticker:A", json!({})).await.0, "ok");
    assert_eq!(reason(show(&mut stranger, "ticker:A", json!({"access_token": foreign})).await), "user_mismatch");
    node.end().await;
}

#[tokio::test]
async fn long_polls_go_on_with_new_tokens_as_well() {
    let node = TestNode::start(&["socket=[{path=\"/socket\", longpoll_window=\"4s\"}]"]).await;
    let token = node.token("ann", &["*"], Duration::from_secs(2));
    let ends = unix_now() + 2;
    let url = node.http("/socket/longpoll?vsn=2.0.0");
    let opened: Value = node.client.get(format!("{url}&token={token}")).send().await.unwrap().json().await.unwrap();
    let session = opened["token"].as_str().unwrap_or_else(|| panic!("{opened}")).to_owned();
    let say = async |message: Value| {
        let request = node.client.post(format!("{url}&token={session}")).body(message.to_string());
        let answer: Value =
            request.header("content-type", "application/json").send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["status"], 200, "{answer}");
    };
    let hear = async || {
        let answer: Value =
            node.client.get(format!("{url}&token={session}")).send().await.unwrap().json().await.unwrap();
        answer
    };
    say(json!(["1", "1", "ticker:A", "phx_join", {}])).await;
    assert!(hear().await.to_string().contains("phx_reply"));
    let token = node.token("ann", &["*"], MINUTE);
    say(json!(["1", "2", "ticker:A", "access_token", {"access_token": token}])).await;
    let heard = hear().await.to_string();
    assert!(heard.contains("expires_at"), "{heard}");
    until(ends + 1).await;
    assert_ne!(hear().await["status"], 410);
    let token = node.token("ann", &["*"], Duration::from_secs(2));
    say(json!(["1", "3", "ticker:A", "access_token", {"access_token": token}])).await;
    eventually("the session ends with its token", async || hear().await["status"] == 410).await;
    node.end().await;
}

#[tokio::test]
async fn streams_end_with_their_token() {
    let node = TestNode::start(&[]).await;
    let token = node.token("ann", &["*"], Duration::from_secs(2));
    let stream = node.client.get(node.http("/v1/stream?topics=ticker:A")).bearer_auth(&token);
    let text = tokio::time::timeout(PATIENCE, async { stream.send().await.unwrap().text().await.unwrap() });
    let grpc = async {
        let mut client = MarketServiceClient::connect(format!("http://{}", node.addresses.grpc)).await.unwrap();
        let topics = vec!["ticker:A".to_owned()];
        let mut request = tonic::Request::new(pb::SubscribeRequest { topics, ..pb::SubscribeRequest::default() });
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let mut answers = client.subscribe(request).await.unwrap().into_inner();
        loop {
            match tokio::time::timeout(PATIENCE, answers.message()).await.expect("an end in time") {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a status"),
                Err(status) => break status,
            }
        }
    };
    let (text, status) = tokio::join!(text, grpc);
    let text = text.expect("an end in time");
    assert!(text.ends_with("event: close\ndata: {\"reason\":\"token_expired\"}\n\n"), "{text}");
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status:?}");
    node.end().await;
}

fn key_file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)).unwrap()
}

/// A token of `ann` that a private key of the tests has signed.
fn signed(name: &str) -> String {
    let key = SigningKey::from_pem(key_file(&format!("{name}.pem")).as_bytes()).unwrap();
    let grant = Grant { user: "ann".to_owned(), allow: vec![], publish: None, ttl: MINUTE };
    let signer = Signer::Key { key: &key, kid: Some(name) };
    mint_with(signer, &Config::default().auth.jwt, &grant, unix_now()).unwrap()
}

/// A signer whose set grows: at each reading it holds one key more of `jwks.json`.
async fn growing_signer() -> String {
    let all: Value = serde_json::from_str(&key_file("jwks.json")).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = move || {
        let count = asked.fetch_add(1, Ordering::SeqCst) + 1;
        let keys: Vec<_> = all["keys"].as_array().unwrap().iter().take(count).cloned().collect();
        async move { axum::Json(json!({ "keys": keys })) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/keys", axum::routing::get(answer));
    TaskTracker::new().spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn keys_of_a_url_are_fetched_as_tokens_name_them() {
    let url = growing_signer().await;
    let node = TestNode::start(&[&format!("auth.jwt.jwks_url={url}"), "auth.jwt.jwks_cooldown=0s"]).await;
    let mut socket = None;
    eventually("the first key is known", async || {
        socket = Socket::try_open(&node, &format!("&token={}", signed("rsa"))).await.ok();
        socket.is_some()
    })
    .await;
    let mut socket = socket.unwrap();
    assert_eq!(socket.join("ticker:A", json!({})).await.0, "ok");
    // The second key is in no set that was read; the answer waits for the next reading.
    let renewed = show(&mut socket, "ticker:A", json!({"access_token": signed("p256")})).await;
    assert_eq!(renewed.0, "ok", "{}", renewed.1);
    let quotes = node.client.get(node.http("/v1/quotes")).bearer_auth(signed("ed25519")).send().await.unwrap();
    assert_eq!(quotes.status(), 200);
    node.end().await;
}

#[tokio::test]
async fn without_its_signer_a_node_serves_and_says_so() {
    // Nobody listens on the port of a listener that is gone.
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let node = TestNode::start(&[&format!("auth.jwt.jwks_url=http://{address}/keys")]).await;
    let answer = node.client.get(node.http("/v1/quotes")).bearer_auth(signed("rsa")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "keys_unavailable");
    let refused = Socket::try_open(&node, &format!("&token={}", signed("rsa"))).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("503"), "{refused}");
    // What needs no key of the URL goes on.
    assert_eq!(node.client.get(node.http("/v1/quotes")).send().await.unwrap().status(), 200);
    assert!(Socket::try_open(&node, &format!("&token={}", node.token("ann", &["*"], MINUTE))).await.is_ok());
    eventually("it is noted", async || {
        let ready = node.client.get(node.admin("/readyz?verbose")).send().await.unwrap();
        assert_eq!(ready.status(), 200);
        ready.text().await.unwrap().contains("auth.jwt.jwks_url cannot be read")
    })
    .await;
    node.end().await;
}

/// A browser sends what it has for us along with the requests of any page.
#[tokio::test]
async fn pages_of_other_hosts_write_nothing() {
    let node = TestNode::start(&["demo.enabled=true"]).await;
    for path in [
        "/v1/quotes",
        "/v1/topics/room:a/broadcast",
        "/v1/disconnect",
        "/v1/cache/A/refresh",
        "/demo/publish?topic=room:a&event=e",
        "/demo/publish_binary?topic=room:a&event=e",
        "/demo/disconnect?id=x",
    ] {
        let post = |origin: &str| {
            let request = node.client.post(node.http(path)).bearer_auth(ADMIN).header("origin", origin);
            request.header("content-type", "application/json").body("{}").send()
        };
        for origin in ["https://evil.example", "null", "http://127.0.0.1.evil.example", "", "http://localhost:1@evil"] {
            let answer = post(origin).await.unwrap();
            assert_eq!(answer.status(), 403, "{path} from {origin:?}");
            assert_eq!(answer.json::<Value>().await.unwrap()["code"], "origin_not_allowed", "{path} from {origin:?}");
        }
        let own = post(&format!("http://{}", node.addresses.http)).await.unwrap();
        assert_ne!(own.status(), 403, "{path}");
    }
    assert_eq!(node.publish(json!({"symbol": "A", "bid": "1"})).await["accepted"], 1, "{PUBLISHER}");
    node.end().await;
}
