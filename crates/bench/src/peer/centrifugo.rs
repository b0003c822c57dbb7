//! Centrifugo: its client protocol in JSON over a WebSocket, <https://centrifugal.dev/docs/transports/client_protocol>. A message holds one or
//! several objects, a line each.
//!
//! Quotes are published by its HTTP API, over one connection that is kept, a batch a request. A client could publish too, but every publication
//! would then carry who that client is.

use std::{
    io::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use memchr::memmem;
use serde::Deserialize;

use crate::{
    BenchError,
    dialect::{Dialect, Due, Heard, Publisher, Taken, Work, say},
    frames::Opcode,
    http::Connection,
    payload::{self, Maker},
    peer::EPOCH,
    report::record,
    scan,
    tickwire::upgrade,
};

const PATH: &str = "connection/websocket";
/// What a client says first; the server, set up to ask for no token, takes anybody.
const CONNECT: &[u8] = br#"{"id":1,"connect":{}}"#;
/// The number of a socket's first subscription.
const FIRST: u64 = 2;
/// What a publication begins and ends with, if its channel keeps no history.
const PUSH: &[u8] = br#"{"push":{"channel":""#;
const DATA: &[u8] = br#"","pub":{"data":"#;
const END: &[u8] = b"}}}";

/// Quotes of one request: the answer to more would come in chunks, which our reader of answers does not take.
const REQUEST_QUOTES: usize = 100;

/// A Centrifugo server.
#[derive(Debug)]
pub(crate) struct Centrifugo {
    /// Its public port.
    pub(crate) socket: SocketAddr,
}

impl Dialect for Centrifugo {
    fn address(&self) -> SocketAddr {
        self.socket
    }

    fn upgrade(&self) -> Vec<u8> {
        upgrade(&self.socket.to_string(), PATH, "")
    }

    fn subscribe(&self, symbols: &mut dyn Iterator<Item = usize>, out: &mut Vec<u8>) {
        let mut text = CONNECT.to_vec();
        for (symbol, id) in symbols.zip(FIRST..) {
            // Writing to memory does not fail.
            let _ = write!(text, "\n{{\"id\":{id},\"subscribe\":{{\"channel\":\"{}\"}}}}", payload::name(symbol));
        }
        say(out, Opcode::Text, &text);
    }

    fn message(&self, payload: &[u8], heard: &mut Heard<'_>) {
        for line in lines(payload) {
            match item(line) {
                Ok(Item::Data(json)) => match scan::payload(json) {
                    Some(update) => heard.update(&update),
                    None => heard.failed("a publication that the bench has not published".to_owned()),
                },
                Ok(Item::Ping) => heard.say(Opcode::Text, b"{}"),
                Ok(Item::Reply(id)) if id >= FIRST => {
                    let slot = usize::try_from(id - FIRST).unwrap_or(usize::MAX);
                    if slot < heard.layout.topics_per_socket {
                        let symbol = heard.layout.symbol(heard.socket, slot);
                        heard.joined(symbol, EPOCH.as_bytes(), 0);
                    }
                }
                Ok(Item::Reply(_)) => {}
                Err(problem) => heard.failed(problem),
            }
        }
    }

    fn heartbeat(&self, _out: &mut Vec<u8>) {
        // The server asks.
    }

    fn publisher(&self, work: &Work) -> Result<Box<dyn Publisher>, BenchError> {
        let connection = Connection::open(self.socket)?;
        let head = format!("POST /api/batch HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n", self.socket);
        let (maker, taken) = (Maker::new(work.payload), Taken::new());
        Ok(Box::new(Sender { connection, head, maker, body: Vec::new(), taken }))
    }
}

/// The objects of a message.
#[inline]
fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    message.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// One thing that a server says.
#[derive(Debug, PartialEq, Eq)]
enum Item<'a> {
    /// What somebody published.
    Data(&'a [u8]),
    Ping,
    /// The command of that number was carried out.
    Reply(u64),
}

#[inline]
fn item(line: &[u8]) -> Result<Item<'_>, String> {
    if let Some(rest) = line.strip_prefix(PUSH) {
        let data = memmem::find(rest, DATA).and_then(|at| rest[at + DATA.len()..].strip_suffix(END));
        return data.map(Item::Data).ok_or_else(|| unexpected(line));
    }
    if line == b"{}" {
        return Ok(Item::Ping);
    }
    let Some(rest) = line.strip_prefix(br#"{"id":"#) else { return Err(unexpected(line)) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let id = std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse().ok());
    match id {
        Some(id) if !rest[digits..].starts_with(br#","error":"#) => Ok(Item::Reply(id)),
        _ => Err(unexpected(line)),
    }
}

#[cold]
fn unexpected(line: &[u8]) -> String {
    format!("the server says {}", String::from_utf8_lossy(&line[..line.len().min(200)]))
}

/// A publisher's connection.
struct Sender {
    connection: Connection,
    head: String,
    maker: Maker,
    body: Vec<u8>,
    taken: Taken,
}

/// What the server says of a batch.
#[derive(Debug, Deserialize)]
struct Answer {
    replies: Vec<Reply>,
}

#[derive(Debug, Deserialize)]
struct Reply {
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    code: u32,
    message: String,
}

impl Sender {
    fn write(&mut self, batch: &[Due]) {
        self.body.clear();
        let mut before: &[u8] = b"{\"commands\":[";
        for due in batch {
            self.body.extend_from_slice(before);
            // Writing to memory does not fail.
            let _ = write!(self.body, "{{\"publish\":{{\"channel\":\"{}\",\"data\":", payload::name(due.symbol));
            self.maker.update(due, EPOCH, &mut self.body);
            self.body.extend_from_slice(b"}}");
            before = b",";
        }
        self.body.extend_from_slice(b"]}");
    }

    fn take(&mut self, answer: Answer) {
        for reply in answer.replies {
            match reply.error {
                None => self.taken.accepted += 1,
                Some(Refusal { code, message }) => {
                    self.taken.rejected += 1;
                    self.taken.reason.get_or_insert_with(|| format!("{code}: {message}"));
                }
            }
        }
    }
}

impl Publisher for Sender {
    fn send(&mut self, batch: &[Due]) -> Result<(), BenchError> {
        for part in batch.chunks(REQUEST_QUOTES) {
            self.write(part);
            let began = Instant::now();
            let (status, body) = self.connection.request(&self.head, &self.body)?;
            record(&mut self.taken.acknowledged, began.elapsed());
            match serde_json::from_slice(&body) {
                Ok(answer) if status == 200 => self.take(answer),
                _ => return Err(self.connection.refused(format!("{status}: {}", String::from_utf8_lossy(&body)))),
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _patience: Duration) -> Result<Taken, BenchError> {
        Ok(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::testing::{Ear, subscription, text, update};

    fn server() -> Centrifugo {
        Centrifugo { socket: "127.0.0.1:1".parse().unwrap() }
    }

    /// As a server of version 6.9.1 says it.
    const SUBSCRIBED: &str = concat!(
        r#"{"id":1,"connect":{"client":"081a1697-3373-4469-b0f5-1cf0ea0142c4","version":"6.9.1 OSS","ping":25,"pong":true}}"#,
        "\n",
        r#"{"id":2,"subscribe":{}}"#,
        "\n",
        r#"{"id":3,"subscribe":{}}"#,
    );

    fn push(symbol: usize, seq: u64) -> String {
        format!(r#"{{"push":{{"channel":"BENCH.{symbol:05}","pub":{{"data":{}}}}}}}"#, update(symbol, seq))
    }

    #[test]
    fn a_socket_connects_and_subscribes_in_one_message() {
        let expected = [
            r#"{"id":1,"connect":{}}"#,
            r#"{"id":2,"subscribe":{"channel":"BENCH.00002"}}"#,
            r#"{"id":3,"subscribe":{"channel":"BENCH.00003"}}"#,
        ];
        assert_eq!(subscription(&server()), expected.join("\n"));
    }

    #[test]
    fn replies_publications_and_pings_are_told_apart() {
        let mut ear = Ear::new();
        ear.hear(&server(), SUBSCRIBED.as_bytes());
        assert_eq!((ear.answered, ear.told()), (2, (0, None)));
        ear.hear(&server(), [push(2, 1), push(3, 1), "{}".to_owned(), push(2, 2)].join("\n").as_bytes());
        assert_eq!((ear.told(), text(&ear.outgoing)), ((3, None), "{}".to_owned()));
    }

    #[test]
    fn what_is_refused_or_unknown_is_told() {
        for (said, told) in [
            (r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#, "permission denied"),
            (r#"{"push":{"channel":"BENCH.00002","pub":{"data":{"x":1}}}}"#, "has not published"),
            (r#"{"push":{"channel":"BENCH.00002","unsubscribe":{"code":2500}}}"#, "unsubscribe"),
            ("garbage", "garbage"),
        ] {
            let mut ear = Ear::new();
            ear.hear(&server(), said.as_bytes());
            let (deliveries, failure) = ear.told();
            assert!(deliveries == 0 && failure.is_some_and(|failure| failure.contains(told)), "{said}: {failure:?}");
        }
    }
}
