//! NATS over WebSocket: the client protocol of <https://docs.nats.io/reference/reference-protocols/nats-protocol>, whose bytes flow through
//! binary messages as through a TCP connection: a message may hold several of its lines, or a part of one.
//!
//! Quotes are published over plain TCP with `PUB`, which the server does not answer. A `PING` behind what was sent is answered once the
//! server has read all before it.

use std::{
    borrow::Cow,
    collections::VecDeque,
    io::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    BenchError,
    dialect::{Dialect, Due, Heard, Publisher, Taken, Work, say},
    frames::Opcode,
    payload::{self, Maker},
    peer::{EPOCH, PATIENCE, link::Link},
    report::record,
    scan,
    tickwire::upgrade,
};

/// What a client says first: it wants messages and errors, no acknowledgements and no headers.
const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"headers\":false,\"lang\":\"tickwire-bench\",\"version\":\"1\",\"protocol\":1}\r\n";
/// A control line is shorter than this; the longest is the server's `INFO`.
const LINE_MAX: usize = 16 << 10;
/// No payload that the bench publishes is longer.
const PAYLOAD_MAX: usize = 1 << 20;
/// How often a publisher asks whether the server still follows.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Questions without an answer: above, the publisher waits, and its quotes become late.
const ASKED_MAX: usize = 4;

/// A NATS server.
#[derive(Debug)]
pub(crate) struct Nats {
    /// Its WebSocket port.
    pub(crate) socket: SocketAddr,
    /// Its port for clients.
    pub(crate) clients: SocketAddr,
}

impl Dialect for Nats {
    fn address(&self) -> SocketAddr {
        self.socket
    }

    fn upgrade(&self) -> Vec<u8> {
        upgrade(&self.socket.to_string(), "", "")
    }

    fn subscribe(&self, symbols: &mut dyn Iterator<Item = usize>, out: &mut Vec<u8>) {
        let mut text = CONNECT.to_vec();
        for (symbol, id) in symbols.zip(1u32..) {
            // Writing to memory does not fail.
            let _ = write!(text, "SUB {} {id}\r\n", payload::name(symbol));
        }
        // Its answer says that all before it was done.
        text.extend_from_slice(b"PING\r\n");
        say(out, Opcode::Binary, &text);
    }

    fn message(&self, payload: &[u8], heard: &mut Heard<'_>) {
        let carried = std::mem::take(heard.carry());
        let (bytes, carried) = if carried.is_empty() {
            (Cow::Borrowed(payload), carried)
        } else {
            let mut whole = carried;
            whole.extend_from_slice(payload);
            (Cow::Owned(whole), Vec::new())
        };
        let mut rest = &bytes[..];
        loop {
            match split(rest) {
                Ok(Some((item, len))) => {
                    rest = &rest[len..];
                    take(&item, heard);
                }
                Ok(None) => break,
                Err(problem) => return heard.failed(problem),
            }
        }
        *heard.carry() = carried;
        heard.carry().extend_from_slice(rest);
    }

    fn heartbeat(&self, _out: &mut Vec<u8>) {
        // The server asks, every two minutes.
    }

    fn publisher(&self, work: &Work) -> Result<Box<dyn Publisher>, BenchError> {
        let mut link = Link::connect(self.clients)?;
        link.send(CONNECT)?;
        Ok(Box::new(Sender {
            link,
            maker: Maker::new(work.payload),
            ask_every: if work.acknowledged { Duration::ZERO } else { ASK_EVERY },
            outgoing: Vec::new(),
            json: Vec::new(),
            incoming: Vec::new(),
            asked: VecDeque::new(),
            asked_at: Instant::now(),
            sent: 0,
            taken: Taken::new(),
        }))
    }
}

#[inline]
fn take(item: &Item<'_>, heard: &mut Heard<'_>) {
    match *item {
        Item::Message(json) => match scan::payload(json) {
            Some(update) => heard.update(&update),
            None => heard.failed("a message that the bench has not published".to_owned()),
        },
        Item::Ping => heard.say(Opcode::Binary, b"PONG\r\n"),
        Item::Pong => heard.joined_all(EPOCH.as_bytes()),
        Item::Error(text) => heard.failed(format!("the server says {}", String::from_utf8_lossy(text))),
        Item::Other => {}
    }
}

/// One thing that a server says.
#[derive(Debug, PartialEq, Eq)]
enum Item<'a> {
    /// The payload of a `MSG`.
    Message(&'a [u8]),
    Ping,
    Pong,
    /// What follows `-ERR`.
    Error(&'a [u8]),
    /// `INFO` and `+OK`.
    Other,
}

/// The first item and its length, if it is there whole.
#[inline]
fn split(bytes: &[u8]) -> Result<Option<(Item<'_>, usize)>, String> {
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE_MAX)]) else {
        let problem = || format!("a line of more than {LINE_MAX} bytes, where NATS was expected");
        return if bytes.len() < LINE_MAX { Ok(None) } else { Err(problem()) };
    };
    let line = bytes[..end].trim_ascii_end();
    let head = end + 1;
    if let Some(arguments) = line.strip_prefix(b"MSG ") {
        let len = arguments.rsplit(|byte| *byte == b' ').next().and_then(number);
        let Some(len) = len.filter(|len| *len <= PAYLOAD_MAX) else {
            return Err(format!("a MSG without its length: {:?}", String::from_utf8_lossy(line)));
        };
        return match bytes.get(head..head + len + 2) {
            Some([payload @ .., b'\r', b'\n']) => Ok(Some((Item::Message(payload), head + len + 2))),
            Some(_) => Err("a MSG that does not end where it says".to_owned()),
            None => Ok(None),
        };
    }
    let item = match line {
        b"PING" => Item::Ping,
        b"PONG" => Item::Pong,
        b"+OK" => Item::Other,
        _ if line.starts_with(b"INFO ") => Item::Other,
        _ => match line.strip_prefix(b"-ERR ") {
            Some(text) => Item::Error(text),
            None => return Err(format!("no NATS: {:?}", String::from_utf8_lossy(&line[..line.len().min(80)]))),
        },
    };
    Ok(Some((item, head)))
}

#[inline]
fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A publisher's connection.
struct Sender {
    link: Link,
    maker: Maker,
    ask_every: Duration,
    outgoing: Vec<u8>,
    json: Vec<u8>,
    incoming: Vec<u8>,
    /// When the `PING`s without an answer were sent.
    asked: VecDeque<Instant>,
    asked_at: Instant,
    sent: u64,
    taken: Taken,
}

impl Sender {
    /// Takes what the server said.
    fn hear(&mut self) -> Result<(), BenchError> {
        let mut used = 0;
        while let Some((item, len)) = split(&self.incoming[used..]).map_err(|problem| self.link.refused(problem))? {
            used += len;
            match item {
                Item::Ping => self.outgoing.extend_from_slice(b"PONG\r\n"),
                Item::Pong => {
                    if let Some(since) = self.asked.pop_front() {
                        record(&mut self.taken.acknowledged, since.elapsed());
                    }
                }
                Item::Error(text) => return Err(self.link.refused(String::from_utf8_lossy(text).into_owned())),
                Item::Message(_) | Item::Other => {}
            }
        }
        self.incoming.drain(..used);
        Ok(())
    }

    fn ask(&mut self) {
        self.outgoing.extend_from_slice(b"PING\r\n");
        self.asked_at = Instant::now();
        self.asked.push_back(self.asked_at);
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        self.link.send(&self.outgoing)?;
        self.outgoing.clear();
        Ok(())
    }

    /// Hears answers until at most so many questions are open.
    fn settle(&mut self, open: usize, patience: Duration) -> Result<(), BenchError> {
        let deadline = Instant::now() + patience;
        while self.asked.len() > open {
            self.link.wait(&mut self.incoming, deadline)?;
            self.hear()?;
        }
        Ok(())
    }
}

impl Publisher for Sender {
    fn send(&mut self, batch: &[Due]) -> Result<(), BenchError> {
        for due in batch {
            self.json.clear();
            self.maker.update(due, EPOCH, &mut self.json);
            let _ = write!(self.outgoing, "PUB {} {}\r\n", payload::name(due.symbol), self.json.len());
            self.outgoing.extend_from_slice(&self.json);
            self.outgoing.extend_from_slice(b"\r\n");
        }
        if self.asked_at.elapsed() >= self.ask_every {
            self.ask();
        }
        self.flush()?;
        self.sent += batch.len() as u64;
        self.link.glance(&mut self.incoming)?;
        self.hear()?;
        self.settle(ASKED_MAX, PATIENCE)
    }

    fn finish(mut self: Box<Self>, patience: Duration) -> Result<Taken, BenchError> {
        self.ask();
        self.flush()?;
        self.settle(0, patience)?;
        Ok(Taken { accepted: self.sent, ..self.taken })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::testing::{Ear, subscription, update};

    fn server() -> Nats {
        Nats { socket: "127.0.0.1:1".parse().unwrap(), clients: "127.0.0.1:2".parse().unwrap() }
    }

    /// As a server of version 2.15.2 says it.
    const INFO: &str = "INFO {\"server_id\":\"NAPG\",\"version\":\"2.15.2\",\"proto\":1,\"headers\":true,\"max_payload\":1048576} \r\n";

    fn msg(symbol: usize, id: u32, seq: u64) -> String {
        let json = update(symbol, seq);
        format!("MSG BENCH.{symbol:05} {id} {}\r\n{json}\r\n", json.len())
    }

    #[test]
    fn a_socket_subscribes_by_name_and_asks_whether_it_is_done() {
        let said = subscription(&server());
        assert!(said.starts_with("CONNECT {"), "{said}");
        assert!(said.ends_with("}\r\nSUB BENCH.00002 1\r\nSUB BENCH.00003 2\r\nPING\r\n"), "{said}");
    }

    #[test]
    fn a_stream_in_messages_of_any_size_makes_the_same_deliveries() {
        let server = server();
        let stream =
            [INFO, "PONG\r\n", INFO, &msg(2, 1, 1), &msg(3, 2, 1), "PING\r\n", "+OK\r\n", &msg(2, 1, 2)].concat();
        for size in [1, 7, 100, stream.len()] {
            let mut ear = Ear::new();
            for piece in stream.as_bytes().chunks(size) {
                ear.hear(&server, piece);
            }
            assert_eq!((ear.answered, ear.told()), (2, (3, None)), "{size}");
            assert_eq!(crate::peer::testing::text(&ear.outgoing), "PONG\r\n");
        }
    }

    #[test]
    fn what_is_no_nats_is_told_and_does_not_pile_up() {
        let long = "x".repeat(LINE_MAX);
        for (said, told) in [
            ("-ERR 'Slow Consumer'\r\n", "Slow Consumer"),
            ("HTTP/1.1 400 Bad Request\r\n", "no NATS"),
            ("MSG BENCH.00002 1 many\r\n", "without its length"),
            ("MSG BENCH.00002 1 9999999999\r\n", "without its length"),
            ("MSG BENCH.00002 1 1\r\nabc\r\n", "does not end"),
            ("MSG BENCH.00002 1 5\r\nhello\r\n", "has not published"),
            (&long, "a line of more than"),
        ] {
            let mut ear = Ear::new();
            ear.hear(&server(), said.as_bytes());
            let (deliveries, failure) = ear.told();
            assert!(deliveries == 0 && failure.is_some_and(|failure| failure.contains(told)), "{said}: {failure:?}");
        }
    }
}
