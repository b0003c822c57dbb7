//! A client that has nothing in common with the server's code: it writes and reads frames by itself, and shows everything it gets.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

/// Longer than anything takes that works.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The key of RFC 6455 §1.3, and what a server answers to it.
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(super) const TEXT: u8 = 0x81;
pub(super) const BINARY: u8 = 0x82;
/// The bit of permessage-deflate, on the first frame of a message.
pub(super) const COMPRESSED: u8 = 0x40;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;
/// Without FIN: the first of several, or one between.
pub(super) const TEXT_BEGIN: u8 = 0x01;
pub(super) const MORE: u8 = 0x00;
pub(super) const END: u8 = 0x80;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame: `first` is the first byte as it is, the payload is masked.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = header(first, payload.len());
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// A client's header up to its mask, with the length in its shortest form.
pub(super) fn header(first: u8, len: usize) -> Vec<u8> {
    let mut out = vec![first];
    match len {
        0..=125 => out.push(0x80 | u8::try_from(len).unwrap()),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out
}

/// A message, compressed on its own, as RFC 7692 §7.2.1 has it. `bits` is the size of the client's window.
pub(super) fn deflate(message: &[u8], bits: u8) -> Vec<u8> {
    let mut compressor = Compress::new_with_window_bits(Compression::default(), false, bits);
    let mut out = Vec::with_capacity(message.len() + message.len() / 8 + 64);
    compressor.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
    assert_eq!(compressor.total_in(), message.len() as u64);
    assert_eq!(out.split_off(out.len() - 4), [0, 0, 0xff, 0xff]);
    out
}

/// The message that a server's frame has, §7.2.2.
pub(super) fn inflate(compressed: &[u8]) -> Vec<u8> {
    let input = [compressed, &[0, 0, 0xff, 0xff]].concat();
    let (mut inflater, mut out) = (Decompress::new(false), Vec::new());
    loop {
        out.reserve(64 * 1024);
        let taken = usize::try_from(inflater.total_in()).unwrap();
        inflater.decompress_vec(&input[taken..], &mut out, FlushDecompress::Sync).unwrap();
        if out.len() < out.capacity() {
            assert_eq!(inflater.total_in(), input.len() as u64);
            return out;
        }
    }
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Got {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    /// Code and reason.
    Close(Option<u16>, String),
}

/// A reply as it came, with the payload's own digits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    pub(super) status: String,
    pub(super) response: Box<RawValue>,
}

/// The answer to an HTTP request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

pub(super) struct Raw {
    pub(super) stream: TcpStream,
    received: Vec<u8>,
    heartbeats: u64,
    /// Whether permessage-deflate was agreed to.
    deflate: bool,
}

impl Raw {
    pub(super) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new(), heartbeats: 0, deflate: false }
    }

    /// A socket after its upgrade.
    #[track_caller]
    pub(super) fn open(address: SocketAddr, query: &str) -> Self {
        Self::open_with(address, query, b"")
    }

    /// A socket whose first frames travel in the same segment as its request.
    #[track_caller]
    pub(super) fn open_with(address: SocketAddr, query: &str, behind: &[u8]) -> Self {
        let mut client = Self::connect(address);
        let mut request = request(&format!("/socket/websocket?{query}"), &upgrade_headers()).into_bytes();
        request.extend_from_slice(behind);
        client.write(&request);
        let answer = client.answer();
        assert_eq!(answer.status, 101, "{answer:?}");
        client
    }

    /// A V2 socket whose request offers extensions, and what the answer says of them.
    #[track_caller]
    pub(super) fn offer(address: SocketAddr, offer: &str) -> (Self, Option<String>) {
        let mut client = Self::connect(address);
        let mut headers = upgrade_headers();
        headers.push(("Sec-WebSocket-Extensions", offer));
        client.write(request("/socket/websocket?vsn=2.0.0", &headers).as_bytes());
        let answer = client.answer();
        assert_eq!(answer.status, 101, "{answer:?}");
        let extensions = answer.header("sec-websocket-extensions").map(str::to_owned);
        client.deflate = extensions.is_some();
        (client, extensions)
    }

    #[track_caller]
    pub(super) fn v2(address: SocketAddr) -> Self {
        Self::open(address, "vsn=2.0.0")
    }

    #[track_caller]
    pub(super) fn v1(address: SocketAddr) -> Self {
        Self::open(address, "vsn=1.0.0")
    }

    #[track_caller]
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes what is sent");
    }

    /// Reads the answer to a request. One to an upgrade, 101, has no body.
    #[track_caller]
    pub(super) fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    #[track_caller]
    pub(super) fn answer_to(&mut self, method: &str) -> Answer {
        let end = loop {
            match self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => assert!(self.fill(), "the connection ended inside of a head: {:?}", self.received),
            }
        };
        let head = String::from_utf8(self.received.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap();
        assert!(status_line.starts_with("HTTP/1.1 "), "{status_line}");
        let status = status_line[9..12].parse().unwrap();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if status == 101 || method == "HEAD" {
            return answer;
        }
        let length: usize = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.received.len() < length {
            assert!(self.fill(), "the connection ended inside of a body");
        }
        answer.body = self.received.drain(..length).collect();
        answer
    }

    /// Reads what is there; `false` at the end.
    fn fill(&mut self) -> bool {
        let mut buffer = vec![0; 1 << 16];
        let read = match self.stream.read(&mut buffer) {
            Ok(read) => read,
            // A server that closes while more of what we sent is on its way resets the connection.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("nothing came in time: {error}"),
        };
        self.received.extend_from_slice(&buffer[..read]);
        read > 0
    }

    /// Sends a text frame.
    #[track_caller]
    pub(super) fn send(&mut self, text: &str) {
        self.write(&frame(TEXT, text.as_bytes()));
    }

    /// Sends a message.
    #[track_caller]
    pub(super) fn say(&mut self, message: &Value) {
        self.send(&message.to_string());
    }

    #[track_caller]
    pub(super) fn send_binary(&mut self, data: &[u8]) {
        self.write(&frame(BINARY, data));
    }

    /// The next frame; `None` once the connection has ended.
    #[track_caller]
    pub(super) fn next(&mut self) -> Option<Got> {
        let next = self.next_or_cut();
        assert!(next.is_some() || self.received.is_empty(), "the connection ended inside of a frame");
        next
    }

    /// As [`next`](Self::next), of a connection that may end inside of a frame.
    #[track_caller]
    pub(super) fn next_or_cut(&mut self) -> Option<Got> {
        loop {
            if let Some((got, len)) = parse(&self.received, self.deflate) {
                self.received.drain(..len);
                return Some(got);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    #[track_caller]
    pub(super) fn text(&mut self) -> String {
        match self.next() {
            Some(Got::Text(text)) => text,
            other => panic!("expected a text, got {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn binary(&mut self) -> Vec<u8> {
        match self.next() {
            Some(Got::Binary(data)) => data,
            other => panic!("expected a binary frame, got {other:?}"),
        }
    }

    /// Demands this message next. Keys of objects come in any order, but there are no others.
    #[track_caller]
    pub(super) fn expect(&mut self, message: &Value) {
        let text = self.text();
        let got: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(got, *message);
    }

    /// Demands an `ok` reply in V2 notation.
    #[track_caller]
    pub(super) fn expect_ok(&mut self, join_ref: &str, msg_ref: &str, topic: &str, response: &Value) {
        self.expect(&json!([join_ref, msg_ref, topic, "phx_reply", {"status": "ok", "response": response}]));
    }

    /// Joins in V2 and takes the reply.
    #[track_caller]
    pub(super) fn join(&mut self, join_ref: &str, topic: &str, params: &Value) {
        self.say(&json!([join_ref, join_ref, topic, "phx_join", params]));
        self.expect_ok(join_ref, join_ref, topic, &json!({}));
    }

    /// The next message, which must be a V2 reply, with the digits of its payload.
    #[track_caller]
    pub(super) fn raw_reply(&mut self) -> (Vec<Value>, Reply) {
        let text = self.text();
        let parts: Vec<Box<RawValue>> = serde_json::from_str(&text).unwrap();
        assert_eq!((parts.len(), parts[3].get()), (5, "\"phx_reply\""), "{text}");
        let head = parts[..3].iter().map(|part| serde_json::from_str(part.get()).unwrap()).collect();
        (head, serde_json::from_str(parts[4].get()).unwrap())
    }

    /// Demands that the server has nothing more to say on its own: the next that comes is the answer to a heartbeat.
    #[track_caller]
    pub(super) fn expect_nothing(&mut self) {
        self.heartbeats += 1;
        let msg_ref = format!("hb-{}", self.heartbeats);
        self.say(&json!([null, msg_ref, "phoenix", "heartbeat", {}]));
        self.expect(&json!([null, msg_ref, "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    }

    /// As [`expect_nothing`](Self::expect_nothing), for V1.
    #[track_caller]
    pub(super) fn expect_nothing_v1(&mut self) {
        self.heartbeats += 1;
        let msg_ref = format!("hb-{}", self.heartbeats);
        self.say(&json!({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": msg_ref}));
        self.expect(&json!({
            "topic": "phoenix", "event": "phx_reply", "payload": {"status": "ok", "response": {}}, "ref": msg_ref
        }));
    }

    /// Demands a close frame with this code next, and then the end of the connection.
    #[track_caller]
    pub(super) fn expect_close(&mut self, code: u16) {
        match self.next() {
            Some(Got::Close(Some(got), reason)) => assert_eq!(got, code, "{reason}"),
            other => panic!("expected a close frame with {code}, got {other:?}"),
        }
        assert_eq!(self.next(), None, "something came behind the close frame");
    }
}

/// Takes a whole frame from the front. What a server's frame must be like is demanded of every one of them.
fn parse(bytes: &[u8], deflate: bool) -> Option<(Got, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let compressed = deflate && matches!(first & 0x0f, 0x1 | 0x2);
    let bits = if compressed { 0xc0 } else { 0x80 };
    assert_eq!(first & 0xf0, bits, "a server's frame is whole, and compressed where that was agreed: {first:#x}");
    assert_eq!(second & 0x80, 0, "a server's frame is not masked");
    let (len, start) = match second {
        126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()), 10),
        len => (u64::from(len), 2),
    };
    assert!(start == 2 || len > 125 && (start == 4 || len > 0xffff), "a length in its shortest form: {len}");
    let end = start + usize::try_from(len).unwrap();
    let payload = bytes.get(start..end)?;
    let payload = if compressed { inflate(payload) } else { payload.to_vec() };
    let got = match first & 0x0f {
        0x1 => Got::Text(String::from_utf8(payload).unwrap()),
        0x2 => Got::Binary(payload),
        0x8 if payload.is_empty() => Got::Close(None, String::new()),
        0x8 => {
            let (code, reason) = payload.split_first_chunk().unwrap();
            Got::Close(Some(u16::from_be_bytes(*code)), String::from_utf8(reason.to_vec()).unwrap())
        }
        0xa => Got::Pong(payload),
        opcode => panic!("a server does not send opcode {opcode:#x}"),
    };
    Some((got, end))
}

pub(super) fn upgrade_headers() -> Vec<(&'static str, &'static str)> {
    vec![
        ("Host", "localhost"),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", KEY),
    ]
}

/// A GET request.
pub(super) fn request(target: &str, headers: &[(&str, &str)]) -> String {
    method_request("GET", target, headers)
}

pub(super) fn method_request(method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\n{headers}\r\n")
}

/// A client's binary message.
pub(super) fn push(join_ref: &str, msg_ref: &str, topic: &str, event: &str, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    for field in [join_ref, msg_ref, topic, event] {
        out.push(u8::try_from(field.len()).unwrap());
    }
    for field in [join_ref, msg_ref, topic, event] {
        out.extend_from_slice(field.as_bytes());
    }
    out.extend_from_slice(data);
    out
}

/// Waits until something is so.
#[track_caller]
pub(super) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// Lets a moment go by between two things that a client does. Nothing is proved by it.
#[expect(clippy::disallowed_methods, reason = "there is nothing to wait for: a client is slow as it likes")]
pub(super) fn pause(moment: Duration) {
    std::thread::sleep(moment);
}
