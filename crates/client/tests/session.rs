//! The client against a small server that each test scripts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{future::Future, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tickwire_client::{
    Backoff, CallError, Change, Client, Disconnect, Event, Follow, Interruption, Link, Options, Params, Ticker,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

/// A server's side of one socket.
struct Peer(WebSocketStream<TcpStream>);

impl Peer {
    async fn accept(listener: &TcpListener) -> Self {
        Self(accept_async(listener.accept().await.unwrap().0).await.unwrap())
    }

    /// The next message as `[join_ref, ref, topic, event, payload]`; `None` at the end of the connection.
    async fn recv(&mut self) -> Option<Value> {
        loop {
            match self.0.next().await? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Waits for a join of `topic` and accepts it; returns its parameters.
    async fn join(&mut self, topic: &str, response: Value) -> Value {
        let join = self.recv().await.unwrap();
        assert_eq!((&join[2], &join[3]), (&json!(topic), &json!("phx_join")));
        self.send(&json!([join[0], join[1], topic, "phx_reply", {"status": "ok", "response": response}])).await;
        join[4].clone()
    }

    async fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn update(&mut self, seq: u64) {
        let update = json!({"symbol": "EURUSD", "bid": "1.1", "epoch": "a", "seq": seq});
        self.send(&json!([null, null, "ticker:EURUSD", "update", update])).await;
    }

    async fn close(mut self, code: u16, reason: &'static str) {
        self.0.close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() })).await.unwrap();
    }
}

/// Runs a scripted server beside a client that may take ten seconds in all.
async fn with_server<S: Future<Output = ()> + Send + 'static>(
    script: impl FnOnce(TcpListener) -> S,
    client: impl AsyncFnOnce(Options),
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = Options::new(&format!("ws://{}/socket", listener.local_addr().unwrap())).unwrap();
    options.reconnect = Some(Backoff { first: Duration::from_millis(1), cap: Duration::from_millis(50) });
    let mut server = JoinSet::new();
    server.spawn(script(listener));
    timeout(Duration::from_secs(10), Box::pin(client(options))).await.expect("the client's part ends");
    timeout(Duration::from_secs(10), server.join_next()).await.expect("the script ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_ticker_resumes_where_the_connection_was_lost() {
    let script = async |listener: TcpListener| {
        let mut peer = Peer::accept(&listener).await;
        let params = peer.join("ticker:EURUSD", json!({"quote": null, "epoch": "a", "seq": 0})).await;
        assert_eq!(params, json!({"max_rate": "250ms"}));
        peer.update(1).await;
        peer.update(2).await;
        peer.close(1012, "shutdown").await;

        let mut peer = Peer::accept(&listener).await;
        let missed = json!([{"epoch": "a", "seq": 3}]);
        let reply = json!({"quote": {}, "epoch": "a", "seq": 3, "recovered": true, "missed": missed});
        let params = peer.join("ticker:EURUSD", reply).await;
        assert_eq!(params["since"], json!({"epoch": "a", "seq": 2}));
        peer.update(4).await;
        assert_eq!(peer.recv().await.unwrap()[3], "phx_leave");
        peer.join("room:done", json!({})).await;
    };
    with_server(script, async |options| {
        let client = Client::connect(options).await.unwrap();
        let follow = Follow { max_rate: Some(Duration::from_millis(250)), since: None };
        let mut ticker = Ticker::join(&client, "EURUSD", follow).await.unwrap();
        let mut seen = Vec::new();
        while ticker.tally().updates < 4 {
            seen.push(match ticker.next().await.unwrap() {
                Change::Update { update, fault: None } => format!("{}", update.mark.seq),
                Change::Interrupted(Interruption::Disconnected(Disconnect::Closed { code, reason })) => {
                    format!("{code} {reason}")
                }
                Change::Snapshot(_) => "snapshot".to_owned(),
                Change::Resumed { missed, .. } => format!("resumed {missed}"),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(seen, ["snapshot", "1", "2", "1012 shutdown", "resumed 1", "3", "4"]);
        drop(ticker);
        client.join("room:done", Params::none()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn pushes_are_answered_and_refusals_carry_their_reason() {
    let script = async |listener: TcpListener| {
        let mut peer = Peer::accept(&listener).await;
        peer.join("room:a", json!({})).await;
        for status in ["ok", "error"] {
            let push = peer.recv().await.unwrap();
            let reply = json!({"status": status, "response": {"reason": push[4]["text"]}});
            peer.send(&json!([push[0], push[1], "room:a", "phx_reply", reply])).await;
        }
        assert_eq!(peer.recv().await, None);
    };
    with_server(script, async |options| {
        let client = Client::connect(options).await.unwrap();
        let (_, room) = client.join("room:a", Params::none()).await.unwrap();
        let reply = room.push("say", json!({"text": "hello"})).await.unwrap();
        assert_eq!(reply.bytes(), r#"{"reason":"hello"}"#);
        let refused = room.push("say", json!({"text": "too loud"})).await.unwrap_err();
        assert_eq!(refused.to_string(), "refused: too loud");
        assert_eq!(client.join("room:a", Params::none()).await.unwrap_err().cause, CallError::AlreadyJoined);
        client.close().await;
        assert_eq!(room.push("say", json!({})).await, Err(CallError::Disconnected(Disconnect::Local)));
    })
    .await;
}

#[tokio::test]
async fn a_slow_consumer_slows_the_socket_and_loses_nothing() {
    const EVENTS: u64 = 5_000;
    let script = async |listener: TcpListener| {
        let mut peer = Peer::accept(&listener).await;
        peer.join("t", json!({})).await;
        for i in 0..EVENTS {
            peer.0.feed(Message::text(json!([null, null, "t", "e", i]).to_string())).await.unwrap();
        }
        peer.0.flush().await.unwrap();
        while peer.recv().await.is_some() {}
    };
    with_server(script, async |mut options| {
        options.queue = 2;
        let client = Client::connect(options).await.unwrap();
        let (_, mut channel) = client.join("t", Params::none()).await.unwrap();
        for i in 0..EVENTS {
            let Some(Event::Message { payload, .. }) = channel.next().await else { panic!("ended early") };
            assert_eq!(payload.bytes().as_ref(), i.to_string().as_bytes());
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_reconnect_is_final() {
    let script = async |listener: TcpListener| {
        Peer::accept(&listener).await.close(1001, "token_expired").await;
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 13\r\n\r\ntoken_expired";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        // Until the client has read it: a socket that is closed with unread input resets the connection.
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
    };
    with_server(script, async |options| {
        let client = Client::connect(options).await.unwrap();
        let mut link = client.link();
        let closed = link.wait_for(|link| matches!(link, Link::Closed(_))).await.unwrap();
        let Link::Closed(Disconnect::Refused(why)) = &*closed else { panic!("{closed:?}") };
        assert!(why.contains("403 Forbidden: token_expired"), "{why}");
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_server_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Client::connect(Options::new(&format!("ws://{address}/socket")).unwrap()).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot connect to ws://{address}/socket/websocket: ")), "{error}");
}
