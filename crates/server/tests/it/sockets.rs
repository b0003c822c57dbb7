//! Sockets: upgrades, the ticker and the room, credentials, and how they end.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite;

use crate::node::{ADMIN, PUBLISHER, Socket, TestNode, eventually};

fn quote(bid: &str, ask: &str) -> Value {
    json!({"symbol": "EURUSD", "bid": bid, "ask": ask})
}

/// What a refused upgrade answered.
fn refused(outcome: Result<Socket, tungstenite::Error>) -> (u16, String) {
    match outcome.err() {
        Some(tungstenite::Error::Http(answer)) => {
            let reason = answer.headers().get("x-tickwire-reason").map(|reason| reason.to_str().unwrap().to_owned());
            (answer.status().as_u16(), reason.unwrap_or_default())
        }
        other => panic!("expected a refusal, seen {other:?}"),
    }
}

#[tokio::test]
async fn a_ticker_gives_a_snapshot_then_every_update() {
    let node = TestNode::start(&[]).await;
    node.publish(quote("1.10", "1.12")).await;
    let mut socket = Socket::open(&node, "").await;
    let (status, reply) = socket.join("ticker:EURUSD", json!({})).await;
    assert_eq!(status, "ok");
    assert_eq!(reply["quote"]["bid"], "1.10");
    assert_eq!(
        (&reply["seq"], &reply["recovered"], &reply["missed"], &reply["status"]),
        (&json!(1), &json!(false), &json!([]), &json!("ok"))
    );
    node.publish(quote("1.11", "1.12")).await;
    let update = socket.next().await;
    assert_eq!(
        (&update[0], &update[1], &update[2], &update[3]),
        (&Value::Null, &Value::Null, &json!("ticker:EURUSD"), &json!("update"))
    );
    assert_eq!(
        (&update[4]["bid"], &update[4]["seq"], &update[4]["epoch"]),
        (&json!("1.11"), &json!(2), &reply["epoch"])
    );
    assert!(update[4].get("n").is_none());

    socket.send(json!(["1", "2", "ticker:EURUSD", "ping", {}])).await;
    let pong = socket.next().await;
    assert_eq!(pong[3], "pong");
    assert!(pong[4]["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
    node.end().await;
}

#[tokio::test]
async fn a_client_resumes_without_a_hole() {
    let node = TestNode::start(&[]).await;
    node.publish(json!([quote("1.10", "1.12"), quote("1.11", "1.12"), quote("1.12", "1.13")])).await;
    let mut socket = Socket::open(&node, "").await;
    let (_, reply) = socket.join("ticker:EURUSD", json!({})).await;
    let since = json!({"epoch": reply["epoch"], "seq": 1});
    let (_, reply) = Socket::open(&node, "").await.join("ticker:EURUSD", json!({"since": since})).await;
    assert_eq!(reply["recovered"], true);
    let seqs: Vec<_> =
        reply["missed"].as_array().unwrap().iter().map(|update| update["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [2, 3]);
    let (_, reply) =
        Socket::open(&node, "").await.join("ticker:EURUSD", json!({"since": since, "max_rate": "250ms"})).await;
    assert_eq!(reply["missed"].as_array().unwrap().len(), 1);
    assert_eq!(reply["missed"][0]["n"], 2);
    let (_, reply) =
        Socket::open(&node, "").await.join("ticker:EURUSD", json!({"since": {"epoch": "other", "seq": 1}})).await;
    assert_eq!((&reply["recovered"], &reply["seq"]), (&json!(false), &json!(3)));
    node.end().await;
}

#[tokio::test]
async fn bad_joins_are_refused_with_a_reason() {
    let node = TestNode::start(&["market.symbols=listed", r#"market.listed=["EURUSD"]"#]).await;
    let mut socket = Socket::open(&node, "").await;
    for (topic, params, reason) in [
        ("ticker:EURUSD", json!({"max_rate": "fast"}), "invalid_params"),
        ("ticker:EURUSD", json!({"since": {"epoch": 1}}), "invalid_params"),
        ("ticker:GBPUSD", json!({}), "unknown symbol"),
        ("ticker:", json!({}), "unknown symbol"),
        ("nosuch:x", json!({}), "unmatched topic"),
    ] {
        let (status, response) = socket.join(topic, params).await;
        assert_eq!((status.as_str(), &response["reason"]), ("error", &json!(reason)), "{topic}");
    }
    node.end().await;
}

#[tokio::test]
async fn a_room_broadcasts_echoes_and_remembers() {
    let room = r#"channel=[{"pattern":"room:*","kind":"room","write":"anyone","broadcast":["shout"],"echo":["ping"],"history":2}]"#;
    let node = TestNode::start(&[room]).await;
    let (mut ann, mut bob) = (Socket::open(&node, "").await, Socket::open(&node, "").await);
    assert_eq!(ann.join("room:a", json!({})).await, ("ok".to_owned(), json!({"history": []})));
    bob.join("room:a", json!({})).await;
    for text in ["one", "two", "three"] {
        ann.send(json!(["1", "2", "room:a", "shout", {"text": text}])).await;
        assert_eq!(ann.reply().await, ("ok".to_owned(), json!({})), "the sender gets no copy");
        assert_eq!(bob.next().await, json!([null, null, "room:a", "shout", {"text": text}]));
    }
    ann.send(json!(["1", "3", "room:a", "ping", {"x": 1.0}])).await;
    assert_eq!(ann.reply().await, ("ok".to_owned(), json!({"x": 1.0})));
    ann.send(json!(["1", "4", "room:a", "other", {}])).await;
    assert_eq!(ann.reply().await, ("error".to_owned(), json!({"reason": "unhandled event"})));
    let (_, reply) = Socket::open(&node, "").await.join("room:a", json!({})).await;
    let texts: Vec<_> =
        reply["history"].as_array().unwrap().iter().map(|entry| entry["payload"]["text"].clone()).collect();
    assert_eq!(texts, ["two", "three"]);
    node.end().await;
}

#[tokio::test]
async fn a_broadcast_over_http_reaches_a_room_once() {
    let node = TestNode::start(&[]).await;
    let mut socket = Socket::open(&node, "").await;
    socket.join("room:a", json!({})).await;
    let send = async |body: Value, key: Option<&str>| {
        let mut request = node.client.post(node.http("/v1/topics/room:a/broadcast")).bearer_auth(PUBLISHER).json(&body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.send().await.unwrap()
    };
    let body = json!({"event": "news", "payload": {"n": 1}});
    assert_eq!(send(body.clone(), Some("k1")).await.status(), 202);
    let again = send(body.clone(), Some("k1")).await;
    assert_eq!((again.status().as_u16(), again.headers()["idempotent-replayed"].to_str().unwrap()), (202, "true"));
    assert_eq!(send(json!({"event": "news", "payload": {"n": 2}}), Some("k1")).await.status(), 409);
    assert_eq!(send(json!({"event": "last"}), None).await.status(), 202);
    assert_eq!(socket.next().await, json!([null, null, "room:a", "news", {"n": 1}]));
    assert_eq!(socket.next().await, json!([null, null, "room:a", "last", {}]));
    assert_eq!(send(json!({"event": "phx_close"}), None).await.status(), 400);
    let ticker = node.client.post(node.http("/v1/topics/ticker:EURUSD/broadcast")).bearer_auth(PUBLISHER);
    assert_eq!(ticker.json(&json!({"event": "update"})).send().await.unwrap().status(), 422);
    node.end().await;
}

#[tokio::test]
async fn upgrades_are_refused_as_phoenix_does() {
    let node = TestNode::start(&[]).await;
    for (path, status) in [
        ("/socket/websocket?vsn=2.0.0", 400),
        ("/socket/websocket/", 400),
        ("/socket", 404),
        ("/socket/", 404),
        ("/socket/other", 404),
        ("/socket/websocket/x", 404),
    ] {
        let answer = node.client.get(node.http(path)).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        if status == 400 {
            assert!(answer.bytes().await.unwrap().is_empty());
        }
    }
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
        let answer = node.client.request(method.parse().unwrap(), node.http("/socket/websocket")).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{method}");
    }
    let url = |query: &str| format!("ws://{}/socket/websocket{query}", node.addresses.http);
    for vsn in ["3.0.0", "2", "", "v2.0.0"] {
        let outcome = tokio_tungstenite::connect_async(url(&format!("?vsn={vsn}"))).await.err();
        assert!(matches!(outcome, Some(tungstenite::Error::Http(answer)) if answer.status() == 403), "{vsn:?}");
    }
    tokio_tungstenite::connect_async(url("")).await.unwrap();
    tokio_tungstenite::connect_async(format!("ws://{}/socket/websocket/?vsn=2.0.0", node.addresses.http))
        .await
        .unwrap();
    node.end().await;
}

#[tokio::test]
async fn a_token_says_what_its_holder_may_do() {
    let node = TestNode::start(&[]).await;
    let day = Duration::from_secs(86_400);
    assert_eq!(refused(Socket::try_open(&node, "&token=nonsense").await), (403, "key_invalid".to_owned()));
    assert_eq!(refused(Socket::try_open(&node, "&token=a.b.c").await), (403, "token_invalid".to_owned()));
    let token = node.token("ann", &["ticker:EUR*"], day);
    let mut socket = Socket::open(&node, &format!("&token={token}")).await;
    assert_eq!(socket.join("ticker:EURUSD", json!({})).await.0, "ok");
    assert_eq!(socket.join("ticker:GBPUSD", json!({})).await, ("error".to_owned(), json!({"reason": "unauthorized"})));
    let stream =
        node.client.get(node.http("/v1/stream?topics=ticker:GBPUSD")).bearer_auth(&token).send().await.unwrap();
    let (status, problem) = (stream.status(), stream.json::<Value>().await.unwrap());
    assert_eq!((status.as_u16(), &problem["code"]), (403, &json!("forbidden")));
    let closed = node.client.post(node.http("/v1/disconnect")).bearer_auth(ADMIN).json(&json!({"user": "ann"}));
    assert_eq!(closed.send().await.unwrap().status(), 202);
    assert_eq!(socket.closed().await, (1001, "disconnected".to_owned()));
    node.end().await;
}

#[tokio::test]
async fn a_token_that_expires_closes_its_socket() {
    let node = TestNode::start(&["auth.jwt.leeway=0s"]).await;
    let token = node.token("ann", &["*"], Duration::from_secs(2));
    let mut socket = Socket::open(&node, &format!("&token={token}")).await;
    assert_eq!(socket.join("ticker:EURUSD", json!({})).await.0, "ok");
    assert_eq!(socket.closed().await, (1001, "token_expired".to_owned()));
    eventually("the token is refused", async || Socket::try_open(&node, &format!("&token={token}")).await.is_err())
        .await;
    assert_eq!(refused(Socket::try_open(&node, &format!("&token={token}")).await), (403, "token_expired".to_owned()));
    node.end().await;
}

#[tokio::test]
async fn strangers_read_only_where_they_may() {
    let node = TestNode::start(&["auth.anonymous.read=false"]).await;
    let mut socket = Socket::open(&node, "").await;
    let unauthorized = ("error".to_owned(), json!({"reason": "unauthorized"}));
    assert_eq!(socket.join("ticker:EURUSD", json!({})).await, unauthorized);
    for path in ["/v1/stream?topics=ticker:EURUSD", "/v1/quotes/EURUSD"] {
        let (status, problem) = node.get(path).await;
        assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")), "{path}");
    }
    node.end().await;
}

#[tokio::test]
async fn a_drain_closes_sockets_with_1012_and_ends() {
    let node = TestNode::start(&[]).await;
    let mut socket = Socket::open(&node, "").await;
    socket.join("ticker:EURUSD", json!({})).await;
    node.stop.request();
    assert_eq!(socket.closed().await, (1012, "shutdown".to_owned()));
    tokio::time::timeout(Duration::from_secs(10), node.ended).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn no_more_connections_than_allowed() {
    let node = TestNode::start(&["limits.connections=2"]).await;
    let first = Socket::open(&node, "").await;
    let _second = Socket::open(&node, "").await;
    // With a client of its own: the others' connections may be kept open for the next request.
    let answer = reqwest::Client::new().get(node.http("/v1/quotes")).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "too_many_connections");
    drop(first);
    eventually("there is room again", async || Socket::try_open(&node, "").await.is_ok()).await;
    node.end().await;
}

/// Joins while messages are under way: what is in the history does not come again, and nothing behind it is missing.
#[tokio::test]
async fn a_history_and_what_follows_it_fit_together() {
    const MESSAGES: u64 = 300;
    let room = r#"channel=[{"pattern":"room:*","kind":"room","write":"anyone","broadcast":["shout"],"history":1000}]"#;
    let node = TestNode::start(&[room]).await;
    let mut speaker = Socket::open(&node, "").await;
    speaker.join("room:a", json!({})).await;
    let speaking = async {
        for n in 0..MESSAGES {
            speaker.send(json!(["1", "2", "room:a", "shout", {"n": n}])).await;
            assert_eq!(speaker.reply().await.0, "ok");
        }
    };
    let listening = (0..20).map(async |late| {
        tokio::time::sleep(Duration::from_millis(late * 3)).await;
        let mut socket = Socket::open(&node, "").await;
        let (_, reply) = socket.join("room:a", json!({})).await;
        let history = reply["history"].as_array().unwrap();
        let mut seen: Vec<_> = history.iter().map(|entry| entry["payload"]["n"].as_u64().unwrap()).collect();
        while seen.len() < usize::try_from(MESSAGES).unwrap() {
            seen.push(socket.next().await[4]["n"].as_u64().unwrap());
        }
        assert_eq!(seen, (0..MESSAGES).collect::<Vec<_>>());
    });
    futures_util::future::join(speaking, futures_util::future::join_all(listening)).await;
    node.end().await;
}
