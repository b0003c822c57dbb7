//! A node to test against, and the clients that talk to it.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tickwire_server::{
    Addresses, App, Failed, Stop,
    auth::{Grant, mint, unix_now},
    config::{Config, Sources},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, task::JoinHandle};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, Message},
};
use tokio_util::task::TaskTracker;

/// An API key with the scope `publish`.
pub(crate) const PUBLISHER: &str = "publisher-key-0123456789";
/// One with both scopes.
pub(crate) const ADMIN: &str = "admin-key-0123456789abcd";
const TOKEN_SECRET: &str = "0123456789abcdef0123456789abcdef";

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A node that serves.
pub(crate) struct TestNode {
    pub(crate) addresses: Addresses,
    pub(crate) stop: Stop,
    pub(crate) ended: JoinHandle<Result<(), Failed>>,
    pub(crate) client: reqwest::Client,
    config: Config,
}

impl TestNode {
    /// A node with these settings over those that every test has.
    pub(crate) async fn start(sets: &[&str]) -> Self {
        let keys = json!([
            {"name": "publisher", "secret": PUBLISHER, "scopes": ["publish"]},
            {"name": "admin", "secret": ADMIN, "scopes": ["publish", "admin"]},
        ]);
        let own = [
            "listen.http=127.0.0.1:0".to_owned(),
            "listen.grpc=127.0.0.1:0".to_owned(),
            "listen.admin=127.0.0.1:0".to_owned(),
            "drain.spread=0s".to_owned(),
            format!("auth.key={keys}"),
            format!("auth.jwt.hs256_secret={TOKEN_SECRET}"),
        ];
        let sets = own.into_iter().chain(sets.iter().map(|set| (*set).to_owned())).collect();
        let config = Config::load(Sources { sets, ..Sources::default() }).unwrap_or_else(|errors| panic!("{errors}"));
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let app = App::build(config.clone()).unwrap();
        let (addresses, stop) = (app.addresses(), app.stop_handle());
        let ended = TaskTracker::new().spawn(app.run());
        let node = Self { addresses, stop, ended, client: reqwest::Client::new(), config };
        eventually("the node is ready", async || {
            node.client.get(node.admin("/readyz")).send().await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        node
    }

    pub(crate) fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses.http)
    }

    pub(crate) fn admin(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses.admin)
    }

    /// A client token for a user and the topics that it may join.
    pub(crate) fn token(&self, user: &str, allow: &[&str], ttl: Duration) -> String {
        let allow = allow.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let grant = Grant { user: user.to_owned(), allow, publish: None, ttl };
        self.sign(&grant)
    }

    /// A client token with these rights.
    pub(crate) fn sign(&self, grant: &Grant) -> String {
        mint(&self.config.auth.jwt, grant, unix_now()).unwrap()
    }

    /// Publishes quotes as the publisher and returns the answer.
    pub(crate) async fn publish(&self, quotes: Value) -> Value {
        let request = self.client.post(self.http("/v1/quotes")).bearer_auth(PUBLISHER).json(&quotes);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 202);
        answer.json().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.client.get(self.http(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) async fn metrics(&self) -> String {
        self.client.get(self.admin("/metrics")).send().await.unwrap().text().await.unwrap()
    }

    /// Ends the node at once: its sockets' clients, which have stopped reading, are not waited for.
    pub(crate) async fn end(self) {
        self.stop.request();
        self.stop.request();
        tokio::time::timeout(PATIENCE, self.ended).await.expect("the drain ends").unwrap().unwrap();
    }
}

/// Reads until the connection ends: what was answered.
pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A reset ends it as well.
    let _ = read.expect("the node ends the connection in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not so in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A socket that speaks Phoenix V2.
pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn open(node: &TestNode, query: &str) -> Self {
        Self::try_open(node, query).await.unwrap()
    }

    pub(crate) async fn try_open(node: &TestNode, query: &str) -> Result<Self, tungstenite::Error> {
        let url = format!("ws://{}/socket/websocket?vsn=2.0.0{query}", node.addresses.http);
        tokio_tungstenite::connect_async(url).await.map(|(stream, _)| Self(stream))
    }

    /// One that was opened in a way of its own.
    pub(crate) fn on(stream: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Self {
        Self(stream)
    }

    /// Sends `[join_ref, ref, topic, event, payload]`.
    pub(crate) async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Value {
        match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a message in time") {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
            other => panic!("expected a text, seen {other:?}"),
        }
    }

    /// Joins and returns the reply's status and response.
    pub(crate) async fn join(&mut self, topic: &str, params: Value) -> (String, Value) {
        self.send(json!(["1", "1", topic, "phx_join", params])).await;
        self.reply().await
    }

    /// The next message, which must be a reply: its status and response.
    pub(crate) async fn reply(&mut self) -> (String, Value) {
        let message = self.next().await;
        assert_eq!(message[3], "phx_reply", "{message}");
        (message[4]["status"].as_str().unwrap().to_owned(), message[4]["response"].clone())
    }

    /// The code and reason of the close frame that ends it.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a close in time") {
                Some(Ok(Message::Close(Some(frame)))) => {
                    // Reading on answers the close, which the server waits for.
                    let _ = self.0.next().await;
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("expected a close frame, seen {other:?}"),
            }
        }
    }
}
