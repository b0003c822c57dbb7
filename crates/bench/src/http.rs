//! The bench's quotes on their way by `POST /v1/quotes`: one connection that is kept, one batch after the other.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde::Deserialize;
use tickwire_proto::v1::Quote;

use crate::{
    BenchError, Via,
    dialect::{Due, Publisher, Taken, Work},
    payload::{self, Maker},
    report::record,
};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer is shorter, or not ours.
const ANSWER_MAX: usize = 1 << 20;

/// A connection that carries one request after the other.
pub(crate) struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// Publishes by requests.
pub(crate) struct HttpPublisher {
    connection: Connection,
    via: Via,
    /// The request's head, without the length of its body.
    head: String,
    maker: Maker,
    body: Vec<u8>,
    taken: Taken,
}

/// What the server says of a batch.
#[derive(Debug, Deserialize)]
struct Answer {
    accepted: u64,
    #[serde(default)]
    rejected_total: u64,
    #[serde(default)]
    rejected: Vec<Rejected>,
}

#[derive(Debug, Deserialize)]
struct Rejected {
    error: String,
}

impl HttpPublisher {
    /// Connects.
    ///
    /// # Errors
    /// If nobody is there.
    pub(crate) fn open(
        address: SocketAddr,
        host: &str,
        key: Option<&str>,
        via: Via,
        work: &Work,
    ) -> Result<Self, BenchError> {
        let connection = Connection::open(address)?;
        let kind = match via {
            Via::Csv => "text/csv",
            Via::Ndjson => "application/x-ndjson",
            Via::Json | Via::Grpc => "application/json",
        };
        let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        if key.bytes().filter(|byte| byte.is_ascii_control()).count() > 2 {
            return Err(BenchError::Option("the key holds characters that a header cannot carry".to_owned()));
        }
        let head = format!("POST /v1/quotes HTTP/1.1\r\nHost: {host}\r\n{key}Content-Type: {kind}\r\n");
        Ok(Self { connection, via, head, maker: Maker::new(work.payload), body: Vec::new(), taken: Taken::new() })
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// If nobody is there.
    pub(crate) fn open(address: SocketAddr) -> Result<Self, BenchError> {
        let unreachable = BenchError::unreachable(address);
        let stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(unreachable)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(unreachable)?;
        Ok(Self { stream, address, request: Vec::new(), answer: Vec::new() })
    }

    /// Sends a request, whose head lacks its last line and the length of the body, and returns the answer's status and body.
    ///
    /// # Errors
    /// If the connection is lost, or what comes back is no answer.
    pub(crate) fn request(&mut self, head: &str, body: &[u8]) -> Result<(u16, Vec<u8>), BenchError> {
        self.request.clear();
        self.request.extend_from_slice(head.as_bytes());
        // Writing to memory does not fail.
        let _ = write!(self.request, "Content-Length: {}\r\n\r\n", body.len());
        self.request.extend_from_slice(body);
        let sent = self.stream.write_all(&self.request).and_then(|()| self.answer());
        sent.map_err(|error| self.refused(format!("the connection is lost: {error}")))
    }

    /// An error that names the server.
    pub(crate) fn refused(&self, problem: impl Into<String>) -> BenchError {
        BenchError::Refused { address: self.address.to_string(), problem: problem.into() }
    }

    /// The status and the body of the next answer.
    fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        loop {
            if let Some((status, body)) = split(&self.answer)? {
                let answer = (status, self.answer[body.clone()].to_vec());
                self.answer.drain(..body.end);
                return Ok(answer);
            }
            if self.answer.len() > ANSWER_MAX {
                return Err(io::Error::other("an answer has no end"));
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => self.answer.extend_from_slice(&chunk[..len]),
            }
        }
    }
}

/// The status of the answer at the start of some bytes and where its body is, if it is there whole.
fn split(bytes: &[u8]) -> io::Result<Option<(u16, std::ops::Range<usize>)>> {
    let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes[..head]);
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    match (status, length) {
        (Some(status), Some(length)) => {
            let body = head + 4..usize::saturating_add(head + 4, length);
            Ok((bytes.len() >= body.end).then_some((status, body)))
        }
        _ => Err(io::Error::other(format!("the answer is not understood: {text}"))),
    }
}

/// Appends a batch as a body.
fn write_body(maker: &mut Maker, via: Via, batch: &[Due], body: &mut Vec<u8>) {
    match via {
        Via::Csv => {
            for (index, due) in batch.iter().enumerate() {
                let quote = maker.quote(due);
                if index == 0 {
                    body.extend_from_slice(b"symbol,bid,ask,bid_size,ask_size,last,last_size,ts\n");
                }
                row(quote, body);
            }
        }
        Via::Json | Via::Ndjson | Via::Grpc => {
            let (open, between, close): (&[u8], &[u8], &[u8]) =
                if via == Via::Ndjson { (b"", b"}\n", b"}\n") } else { (b"[", b"},", b"}]") };
            body.extend_from_slice(open);
            for (index, due) in batch.iter().enumerate() {
                if index > 0 {
                    body.extend_from_slice(between);
                }
                payload::fields(maker.quote(due), body);
            }
            body.extend_from_slice(close);
        }
    }
}

fn row(quote: &Quote, body: &mut Vec<u8>) {
    let texts =
        [&quote.symbol, &quote.bid, &quote.ask, &quote.bid_size, &quote.ask_size, &quote.last, &quote.last_size];
    for text in texts {
        body.extend_from_slice(text.as_bytes());
        body.push(b',');
    }
    // Writing to memory does not fail.
    let _ = writeln!(body, "{}", quote.ts);
}

impl Publisher for HttpPublisher {
    fn send(&mut self, batch: &[Due]) -> Result<(), BenchError> {
        self.body.clear();
        write_body(&mut self.maker, self.via, batch, &mut self.body);
        let began = Instant::now();
        let (status, body) = self.connection.request(&self.head, &self.body)?;
        record(&mut self.taken.acknowledged, began.elapsed());
        let answer: Answer = match serde_json::from_slice(&body) {
            Ok(answer) if (200..300).contains(&status) => answer,
            _ => return Err(self.connection.refused(format!("{status}: {}", String::from_utf8_lossy(&body)))),
        };
        self.taken.accepted += answer.accepted;
        self.taken.rejected += answer.rejected_total.max(answer.rejected.len() as u64);
        if self.taken.reason.is_none() {
            self.taken.reason = answer.rejected.into_iter().next().map(|rejected| rejected.error);
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

    #[test]
    fn an_answer_is_taken_when_it_is_whole() {
        let text = b"HTTP/1.1 200 OK\r\nContent-length: 14\r\n\r\n{\"accepted\":1}HTTP/1.1 ";
        assert_eq!(
            split(text).unwrap().map(|(status, body)| (status, &text[body])),
            Some((200, &b"{\"accepted\":1}"[..]))
        );
        for len in 0..text.len() - 9 {
            assert!(split(&text[..len]).unwrap().is_none(), "{len}");
        }
        assert!(split(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn bodies_are_what_they_say() {
        let batch = [0, 1].map(|symbol| Due { symbol, seq: 7, due_us: 5 });
        let body = |via| {
            let mut body = Vec::new();
            write_body(&mut Maker::new(200), via, &batch, &mut body);
            String::from_utf8(body).unwrap()
        };
        let array: Vec<serde_json::Value> = serde_json::from_str(&body(Via::Json)).unwrap();
        let lines: Vec<serde_json::Value> =
            body(Via::Ndjson).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(array, lines);
        assert_eq!((array.len(), &array[1]["symbol"]), (2, &"BENCH.00001".into()));
        let table = body(Via::Csv);
        let rows: Vec<usize> = table.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(rows, [8, 8, 8]);
    }
}
