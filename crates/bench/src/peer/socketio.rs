//! Socket.IO, version 5 of its protocol over WebSocket alone: <https://socket.io/docs/v4/socket-io-protocol/>. The server is
//! `deploy/peers/server.mjs`: it puts a socket into the rooms that the socket names when it connects, and sends each room what is published
//! for it.

use std::{
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
    peer::{EPOCH, PATIENCE, link::WebSocket},
    report::record,
    scan,
    tickwire::upgrade,
};

const PATH: &str = "socket.io/?EIO=4&transport=websocket";
/// What an update begins and ends with: a message (4) that is an event (2).
const UPDATE: &[u8] = br#"42["update","#;
const END: &[u8] = b"]";
/// Says that a socket is in its rooms.
const JOINED: &[u8] = br#"42["joined"]"#;
/// Batches without an acknowledgement: above, the publisher waits, and its quotes become late.
const OPEN_MAX: usize = 64;

/// A Socket.IO server.
#[derive(Debug)]
pub(crate) struct SocketIo {
    /// Its port.
    pub(crate) socket: SocketAddr,
}

impl Dialect for SocketIo {
    fn address(&self) -> SocketAddr {
        self.socket
    }

    fn upgrade(&self) -> Vec<u8> {
        upgrade(&self.socket.to_string(), PATH, "")
    }

    fn subscribe(&self, symbols: &mut dyn Iterator<Item = usize>, out: &mut Vec<u8>) {
        let names: Vec<String> = symbols.map(|symbol| format!("\"{}\"", payload::name(symbol))).collect();
        say(out, Opcode::Text, format!("40{{\"rooms\":[{}]}}", names.join(",")).as_bytes());
    }

    fn message(&self, payload: &[u8], heard: &mut Heard<'_>) {
        match item(payload) {
            Ok(Item::Update(json)) => match scan::payload(json) {
                Some(update) => heard.update(&update),
                None => heard.failed("an update that the bench has not published".to_owned()),
            },
            Ok(Item::Joined) => heard.joined_all(EPOCH.as_bytes()),
            Ok(Item::Ping) => heard.say(Opcode::Text, b"3"),
            Ok(Item::Connected | Item::Ack) => {}
            Err(problem) => heard.failed(problem),
        }
    }

    fn heartbeat(&self, _out: &mut Vec<u8>) {
        // The server asks.
    }

    fn publisher(&self, work: &Work) -> Result<Box<dyn Publisher>, BenchError> {
        let mut socket = WebSocket::open(self.socket, &self.upgrade())?;
        socket.say(br#"40{"rooms":[]}"#);
        socket.flush()?;
        let mut connected = false;
        let deadline = Instant::now() + PATIENCE;
        while !connected {
            socket.hear(Some(deadline), |message| {
                connected |= item(message)? == Item::Joined;
                Ok(())
            })?;
        }
        let (maker, taken) = (Maker::new(work.payload), Taken::new());
        Ok(Box::new(Sender { socket, maker, text: Vec::new(), open: VecDeque::new(), sent: 0, taken }))
    }
}

/// One thing that a server says.
#[derive(Debug, PartialEq, Eq)]
enum Item<'a> {
    Update(&'a [u8]),
    Joined,
    Ping,
    /// The connection is open, below or above.
    Connected,
    /// A batch was taken.
    Ack,
}

#[inline]
fn item(message: &[u8]) -> Result<Item<'_>, String> {
    if let Some(rest) = message.strip_prefix(UPDATE) {
        return rest.strip_suffix(END).map(Item::Update).ok_or_else(|| unexpected(message));
    }
    match message {
        JOINED => Ok(Item::Joined),
        [b'2', ..] => Ok(Item::Ping),
        [b'0', b'{', ..] | [b'4', b'0', ..] => Ok(Item::Connected),
        [b'4', b'3', ..] => Ok(Item::Ack),
        _ => Err(unexpected(message)),
    }
}

#[cold]
fn unexpected(message: &[u8]) -> String {
    format!("the server says {}", String::from_utf8_lossy(&message[..message.len().min(200)]))
}

/// A publisher's socket.
struct Sender {
    socket: WebSocket,
    maker: Maker,
    text: Vec<u8>,
    /// When the batches without an acknowledgement were sent.
    open: VecDeque<Instant>,
    sent: u64,
    taken: Taken,
}

impl Sender {
    fn hear(&mut self, deadline: Option<Instant>) -> Result<(), BenchError> {
        let Self { socket, open, taken, .. } = self;
        let mut pinged = false;
        socket.hear(deadline, |message| {
            match item(message)? {
                Item::Ack => {
                    if let Some(since) = open.pop_front() {
                        record(&mut taken.acknowledged, since.elapsed());
                    }
                }
                Item::Ping => pinged = true,
                Item::Update(_) | Item::Joined | Item::Connected => {}
            }
            Ok(())
        })?;
        if pinged {
            socket.say(b"3");
        }
        socket.flush()
    }

    /// Hears acknowledgements until at most so many are still to come.
    fn settle(&mut self, open: usize, patience: Duration) -> Result<(), BenchError> {
        let deadline = Instant::now() + patience;
        while self.open.len() > open {
            self.hear(Some(deadline))?;
        }
        Ok(())
    }
}

impl Publisher for Sender {
    fn send(&mut self, batch: &[Due]) -> Result<(), BenchError> {
        self.text.clear();
        let mut before: &[u8] = b"420[\"publish\",[";
        for due in batch {
            self.text.extend_from_slice(before);
            // Writing to memory does not fail.
            let _ = write!(self.text, "\"{}\",", payload::name(due.symbol));
            self.maker.update(due, EPOCH, &mut self.text);
            before = b",";
        }
        self.text.extend_from_slice(b"]]");
        self.socket.say(&self.text);
        self.socket.flush()?;
        self.open.push_back(Instant::now());
        self.sent += batch.len() as u64;
        self.hear(None)?;
        self.settle(OPEN_MAX, PATIENCE)
    }

    fn finish(mut self: Box<Self>, patience: Duration) -> Result<Taken, BenchError> {
        self.settle(0, patience)?;
        Ok(Taken { accepted: self.sent, ..self.taken })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::testing::{Ear, subscription, text, update};

    fn server() -> SocketIo {
        SocketIo { socket: "127.0.0.1:1".parse().unwrap() }
    }

    #[test]
    fn a_socket_names_its_rooms_when_it_connects() {
        assert_eq!(subscription(&server()), r#"40{"rooms":["BENCH.00002","BENCH.00003"]}"#);
    }

    #[test]
    fn what_the_server_says_is_told_apart() {
        let mut ear = Ear::new();
        // As a server of version 4.8.4 says it.
        let opening = [
            r#"0{"sid":"vMFWhSTdYISp27kpAAAA","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#,
            r#"40{"sid":"6-3ARseSigFJMfm3AAAA"}"#,
            r#"42["joined"]"#,
        ];
        for message in opening {
            ear.hear(&server(), message.as_bytes());
        }
        assert_eq!((ear.answered, ear.told()), (2, (0, None)));
        for message in [format!(r#"42["update",{}]"#, update(2, 1)), "2".to_owned(), "430[]".to_owned()] {
            ear.hear(&server(), message.as_bytes());
        }
        assert_eq!((ear.told(), text(&ear.outgoing)), ((1, None), "3".to_owned()));
    }

    #[test]
    fn what_is_refused_or_unknown_is_told() {
        for (said, told) in [
            (r#"44{"message":"not authorized"}"#, "not authorized"),
            (r#"42["update",{"x":1}]"#, "has not published"),
            (r#"42["update",{"x":1}"#, "the server says"),
            ("41", "the server says"),
        ] {
            let mut ear = Ear::new();
            ear.hear(&server(), said.as_bytes());
            let (deliveries, failure) = ear.told();
            assert!(deliveries == 0 && failure.is_some_and(|failure| failure.contains(told)), "{said}: {failure:?}");
        }
    }
}
