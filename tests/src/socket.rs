//! A socket that hides nothing: every message in its order, refs included, and the end as it came.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tickwire_client::{
    Payload,
    wire::{Body, Incoming, Outgoing, decode_binary, decode_text},
};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::{Process, soon};

/// How a socket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With a close frame: its code and reason.
    Closed(u16, String),
    /// Without one: what the system says.
    Lost(String),
}

/// A Phoenix V2 socket.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    next_ref: u64,
    /// What arrived while something else was waited for.
    early: VecDeque<Incoming>,
}

impl Socket {
    /// Opens one.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn open(server: &Process) -> Self {
        Self::open_with(server, None).await
    }

    /// Opens one whose kernel takes only so many bytes unread.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn open_with(server: &Process, receive_buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let tcp = soon("a connection", socket.connect(server.http)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let url = format!("{}/websocket?vsn=2.0.0", server.socket());
        let (stream, _) = soon("a handshake", client_async(url, tcp)).await.unwrap();
        Self { stream, next_ref: 0, early: VecDeque::new() }
    }

    /// Sends a message, and returns its ref. A join gets its own ref as its join_ref.
    pub async fn send(&mut self, join_ref: Option<u64>, topic: &str, event: &str, payload: &Value) -> u64 {
        self.next_ref += 1;
        let msg_ref = self.next_ref;
        let join_ref = if event == "phx_join" { Some(msg_ref) } else { join_ref };
        let text = Outgoing { join_ref, msg_ref, topic, event, payload }.encode();
        self.stream.send(Message::text(text)).await.unwrap();
        msg_ref
    }

    /// The next message. May be dropped midway.
    ///
    /// # Errors
    /// The end of the socket.
    pub async fn next(&mut self) -> Result<Incoming, End> {
        if let Some(message) = self.early.pop_front() {
            return Ok(message);
        }
        self.receive().await
    }

    async fn receive(&mut self) -> Result<Incoming, End> {
        loop {
            return match self.stream.next().await {
                Some(Ok(Message::Text(text))) => Ok(decode_text(&text).unwrap()),
                Some(Ok(Message::Binary(data))) => Ok(decode_binary(&data).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    let end = frame.map_or(End::Closed(1005, String::new()), |frame| {
                        End::Closed(frame.code.into(), frame.reason.to_string())
                    });
                    // Reading on answers the close, which the server waits for.
                    while let Some(Ok(_)) = self.stream.next().await {}
                    Err(end)
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) => Err(End::Lost(error.to_string())),
                None => Err(End::Lost("the stream ended".to_owned())),
            };
        }
    }

    /// Joins a topic and returns the join's ref and the reply's response.
    ///
    /// # Errors
    /// The response of a refusal.
    ///
    /// # Panics
    /// If there is no reply.
    pub async fn join(&mut self, topic: &str, params: &Value) -> Result<(u64, Bytes), Value> {
        let join_ref = self.send(None, topic, "phx_join", params).await;
        match self.reply(join_ref).await {
            (true, response) => Ok((join_ref, response)),
            (false, response) => Err(serde_json::from_slice(&response).unwrap()),
        }
    }

    /// The reply to a message: whether it was accepted, and its response. What arrives before it comes with the next calls of `next`.
    ///
    /// # Panics
    /// If there is none.
    pub async fn reply(&mut self, msg_ref: u64) -> (bool, Bytes) {
        let wanted = msg_ref.to_string();
        loop {
            let message = soon("a reply", self.receive()).await.unwrap_or_else(|end| panic!("no reply: {end:?}"));
            match message.body {
                Body::Reply { ok, response } if message.msg_ref.as_deref() == Some(&wanted) => {
                    return (ok, json(&response));
                }
                _ => self.early.push_back(message),
            }
        }
    }

    /// How it ends, whatever comes before.
    pub async fn end(&mut self) -> End {
        loop {
            if let Err(end) = soon("the socket ends", self.next()).await {
                return end;
            }
        }
    }

    /// Drops it as a broken network does: a reset, nothing said.
    pub fn abort(self) {
        self.stream.get_ref().set_zero_linger().unwrap();
    }
}

/// The JSON of a payload.
///
/// # Panics
/// If it is binary.
#[must_use]
pub fn json(payload: &Payload) -> Bytes {
    match payload {
        Payload::Json(bytes) => bytes.clone(),
        Payload::Binary(_) => panic!("binary payload, expected JSON"),
    }
}
