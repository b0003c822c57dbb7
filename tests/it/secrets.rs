//! Credentials appear nowhere: in no log line at any level, no metric, no body, whichever way a client shows them and however wrong they are.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tickwire_proto::v1::{self as pb, market_service_client::MarketServiceClient};
use tickwire_server::{
    auth::{Grant, mint, unix_now},
    config::{Config, Secret},
};
use tickwire_tests::{PUBLISH_KEY, Process, TOKEN_SECRET, eventually};

/// Tokens as clients show them, good and bad.
fn tokens() -> Vec<String> {
    let mut jwt = Config::default().auth.jwt;
    jwt.hs256_secret = Some(Secret::new(TOKEN_SECRET));
    let token = |user: &str, ttl| {
        let grant = Grant { user: user.to_owned(), allow: vec![], publish: None, ttl: Duration::from_secs(ttl) };
        mint(&jwt, &grant, unix_now()).unwrap()
    };
    let good = token("ann", 600);
    let changed = format!("{}AAAAAAAAAAAAAAAA", &good[..good.len() - 16]);
    let (_, rest) = good.split_once('.').unwrap();
    let none = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#));
    let unknown = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"k"}"#));
    vec![
        good.clone(),
        token("bob", 0),
        changed,
        none,
        unknown,
        "hunter2-hunter2-hunter2-hunter2".to_owned(),
        "hunter3hunter3.hunter3hunter3.hunter3hunter3".to_owned(),
        format!("{good}\u{e9}hunter4hunter4hunter4"),
    ]
}

/// What must be found nowhere: the whole, each part that only this token has, and the whole as a subprotocol writes it.
fn traces(token: &str) -> Vec<String> {
    let parts = token.split('.').skip(1).filter(|part| part.len() >= 12).map(str::to_owned);
    let encoded = URL_SAFE_NO_PAD.encode(token);
    parts.chain([token.to_owned(), encoded]).collect()
}

async fn upgrade(server: &Process, query: &str, name: &str, value: &str) -> String {
    let request = server.client.get(server.url(&format!("/socket/websocket?vsn=2.0.0{query}")));
    let request = request
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header(name, value.as_bytes());
    told(request.send().await)
}

/// All of an answer but its body, which an upgrade has none of.
fn told(answer: Result<reqwest::Response, reqwest::Error>) -> String {
    answer.map_or_else(|_| String::new(), |answer| format!("{:?}", answer.headers()))
}

async fn body(request: reqwest::RequestBuilder) -> String {
    match request.send().await {
        Ok(answer) => format!("{:?} {}", answer.headers().clone(), answer.text().await.unwrap_or_default()),
        Err(_) => String::new(),
    }
}

/// Shows a token by every way there is, and returns what was answered.
async fn show(server: &Process, token: &str) -> Vec<String> {
    let encoded = URL_SAFE_NO_PAD.encode(token);
    let quoted: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let client = &server.client;
    let bearer = format!("Bearer {token}");
    let mut answers = vec![
        upgrade(server, &format!("&token={quoted}"), "x-nothing", "").await,
        upgrade(server, "", "authorization", &bearer).await,
        upgrade(server, "", "x-api-key", token).await,
        upgrade(server, "", "sec-websocket-protocol", &format!("phoenix, base64url.bearer.phx.{encoded}")).await,
        upgrade(server, "", "sec-websocket-protocol", &format!("base64url.bearer.phx.{encoded}!")).await,
    ];
    for (name, value) in [
        ("authorization", bearer.as_str()),
        ("authorization", token),
        ("x-api-key", token),
        ("x-phoenix-authtoken", token),
        ("x-phoenix-longpoll-token", token),
        ("cookie", token),
    ] {
        for path in
            ["/v1/quotes", "/v1/quotes/A", "/v1/stream?topics=nosuch:A", "/socket/longpoll?vsn=2.0.0", "/nosuch"]
        {
            answers.push(body(client.get(server.url(path)).header(name, value.as_bytes())).await);
        }
        let quotes = client.post(server.url("/v1/quotes")).header(name, value.as_bytes());
        answers.push(body(quotes.json(&json!({"symbol": "A", "bid": "1"}))).await);
    }
    for query in [format!("&token={quoted}"), format!("&vsn=9&token={quoted}"), format!("&token={quoted}&token=%ff")] {
        answers.push(body(client.get(server.url(&format!("/socket/longpoll?vsn=2.0.0{query}")))).await);
        answers.push(body(client.post(server.url(&format!("/socket/longpoll?vsn=2.0.0{query}")))).await);
        answers.push(body(client.get(server.url(&format!("/v1/quotes?{query}")))).await);
    }
    answers.push(subscribe(server, &bearer).await);
    answers
}

async fn subscribe(server: &Process, bearer: &str) -> String {
    let mut client = MarketServiceClient::connect(format!("http://{}", server.grpc)).await.unwrap();
    let mut request = tonic::Request::new(pb::GetQuoteRequest { symbol: "A".to_owned() });
    let Ok(value) = bearer.parse() else { return String::new() };
    request.metadata_mut().insert("authorization", value);
    match client.get_quote(request).await {
        Ok(_) => String::new(),
        Err(status) => format!("{status:?}"),
    }
}

/// Shows tokens on an open session: what a session of long polling is told is the shortest way to the answers.
async fn renew(server: &Process, tokens: &[String]) -> (String, Vec<String>) {
    let url = server.url("/socket/longpoll?vsn=2.0.0");
    let request = server.client.get(&url).header("x-phoenix-authtoken", tokens[0].as_str());
    let opened: Value = request.send().await.unwrap().json().await.unwrap();
    let session = opened["token"].as_str().unwrap_or_else(|| panic!("{opened}")).to_owned();
    let say = async |message: Value| {
        let request = server.client.post(&url).header("x-phoenix-longpoll-token", session.as_str());
        request.header("content-type", "application/json").body(message.to_string()).send().await.unwrap();
    };
    say(json!(["1", "1", "ticker:A", "phx_join", {}])).await;
    for token in tokens {
        say(json!(["1", "2", "ticker:A", "access_token", {"access_token": token}])).await;
        say(json!(["1", "3", "ticker:A", "access_token", token])).await;
        say(json!(["1", "4", "ticker:A", token, {}])).await;
    }
    let mut answers = Vec::new();
    while !answers.iter().any(|answer: &String| answer.contains("\\\"4\\\"") || answer.contains("unhandled")) {
        let request = server.client.get(&url).header("x-phoenix-longpoll-token", session.as_str());
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert_ne!(answer["status"], 410, "{answer}");
        answers.push(answer["messages"].to_string());
    }
    (session, answers)
}

#[tokio::test]
async fn no_credential_is_told_to_anybody() {
    let sockets = r#"socket=[{path="/socket", auth_token=true, longpoll_window="500ms"}]"#;
    let mut server = Process::start(&["log.level=trace", sockets]).await;
    let tokens = tokens();
    let mut answers = Vec::new();
    for token in &tokens {
        answers.extend(show(&server, token).await);
    }
    let (session, renewals) = renew(&server, &tokens).await;
    answers.extend(renewals);
    for path in ["/metrics", "/readyz?verbose", "/cluster", "/debug/memory", "/debug/tasks"] {
        answers.push(server.admin(path).await.1);
    }
    eventually("the log tells of the last of it", async || server.log().contains("new token").then_some(())).await;
    server.drain().await;
    let log = server.log();
    assert!(log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\""), "the level is in force");

    let mut secrets: Vec<String> = tokens.iter().flat_map(|token| traces(token)).collect();
    secrets.extend([PUBLISH_KEY.to_owned(), TOKEN_SECRET.to_owned()]);
    for secret in &secrets {
        for line in log.lines() {
            assert!(!line.contains(secret.as_str()), "{secret} is in the log:\n{line}");
        }
        for answer in &answers {
            assert!(!answer.contains(secret.as_str()), "{secret} is in an answer:\n{answer}");
        }
    }
    assert!(!log.contains(&session), "the token of a session of long polling is in the log");
}
