//! A publisher's connection: plain TCP, or a WebSocket over it. It blocks, since its thread does nothing else.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::net::RecvFlags;

use crate::{
    BenchError,
    dialect::say,
    frames::{self, Kind, Opcode},
    peer::PATIENCE,
};

/// What is read at a time.
const READ_BYTES: usize = 64 << 10;
/// The head of an answer to an upgrade is shorter than this.
const HEAD_MAX: usize = 8 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A TCP connection.
pub(super) struct Link {
    stream: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
}

impl Link {
    pub(super) fn connect(address: SocketAddr) -> Result<Self, BenchError> {
        let open = || {
            let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let unreachable = BenchError::unreachable(address);
        Ok(Self { stream: open().map_err(unreachable)?, address, buffer: vec![0; READ_BYTES] })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        self.stream.write_all(bytes).map_err(|error| self.lost(&error))
    }

    /// Appends what has arrived, without waiting.
    pub(super) fn glance(&mut self, incoming: &mut Vec<u8>) -> Result<(), BenchError> {
        loop {
            match rustix::net::recv(&self.stream, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(self.refused("the server closed the connection".to_owned())),
                Ok((len, _)) => incoming.extend_from_slice(&self.buffer[..len]),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.lost(&error.into())),
            }
        }
    }

    /// Appends what arrives next, which must be before the deadline.
    pub(super) fn wait(&mut self, incoming: &mut Vec<u8>, deadline: Instant) -> Result<(), BenchError> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).map_err(|error| self.lost(&error))?;
        match self.stream.read(&mut self.buffer) {
            Ok(0) => Err(self.refused("the server closed the connection".to_owned())),
            Ok(len) => {
                incoming.extend_from_slice(&self.buffer[..len]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(BenchError::TimedOut(format!("{} has not answered what was published", self.address)))
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// An error that names the server.
    pub(super) fn refused(&self, problem: String) -> BenchError {
        BenchError::Refused { address: self.address.to_string(), problem }
    }

    fn lost(&self, error: &io::Error) -> BenchError {
        self.refused(format!("the publisher's connection was lost: {error}"))
    }
}

/// A WebSocket that publishes text messages.
pub(super) struct WebSocket {
    link: Link,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl WebSocket {
    /// Opens one with a request.
    pub(super) fn open(address: SocketAddr, upgrade: &[u8]) -> Result<Self, BenchError> {
        let mut link = Link::connect(address)?;
        link.send(upgrade)?;
        let mut incoming = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        let head = loop {
            link.wait(&mut incoming, deadline)?;
            if let Some(end) = memchr::memmem::find(&incoming, b"\r\n\r\n") {
                break end + 4;
            }
            if incoming.len() > HEAD_MAX {
                return Err(link.refused("the answer to the upgrade has no end".to_owned()));
            }
        };
        if !incoming.starts_with(b"HTTP/1.1 101") {
            let line = incoming.split(|byte| *byte == b'\r').next().unwrap_or_default();
            return Err(link.refused(format!("the publisher was refused: {}", String::from_utf8_lossy(line))));
        }
        incoming.drain(..head);
        Ok(Self { link, incoming, outgoing: Vec::new() })
    }

    /// Queues a message, which [`Self::flush`] sends.
    pub(super) fn say(&mut self, text: &[u8]) {
        say(&mut self.outgoing, Opcode::Text, text);
    }

    pub(super) fn flush(&mut self) -> Result<(), BenchError> {
        let sent = if self.outgoing.is_empty() { Ok(()) } else { self.link.send(&self.outgoing) };
        self.outgoing.clear();
        sent
    }

    /// Hands over the messages that have arrived; with a deadline, waits for some.
    pub(super) fn hear(
        &mut self,
        deadline: Option<Instant>,
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), BenchError> {
        match deadline {
            Some(deadline) if frames::split(&self.incoming).is_none() => {
                self.link.wait(&mut self.incoming, deadline)?;
            }
            _ => self.link.glance(&mut self.incoming)?,
        }
        let mut used = 0;
        while let Some(frame) = frames::split(&self.incoming[used..]) {
            used += frame.len;
            match frame.kind {
                Kind::Message => take(frame.payload).map_err(|problem| self.link.refused(problem))?,
                Kind::Ping => say(&mut self.outgoing, Opcode::Pong, frame.payload),
                Kind::Pong => {}
                Kind::Close => {
                    let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default());
                    return Err(self.link.refused(format!("the server closed the publisher's socket: {reason}")));
                }
                Kind::Unexpected => {
                    return Err(self.link.refused("a frame that no server sends to the bench".to_owned()));
                }
            }
        }
        self.incoming.drain(..used);
        Ok(())
    }
}
