//! One socket of the crowd: from its connection to its last byte.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Type};

use crate::{
    check::Pair,
    dialect::{Dialect, Heard, Layout, say},
    frames::{self, Kind, Opcode},
    schedule::unix_us,
    tally::Tally,
};

/// The head of an answer is shorter than this, or no answer to us.
const HEAD_MAX: usize = 8 << 10;
/// Connections from one loopback address; there are some 28,000 ports for outgoing connections by default.
const PER_ADDRESS: usize = 10_000;

/// How far a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    /// The request is sent, its answer awaited.
    Upgrading,
    Open,
    Closed,
}

/// A socket.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Its place among all sockets.
    pub(crate) number: usize,
    pub(crate) phase: Phase,
    /// `None` before it is opened and once it is closed.
    pub(crate) stream: Option<TcpStream>,
    /// The beginning of an answer or a frame whose end is still to come.
    partial: Vec<u8>,
    /// What the kernel did not take yet.
    outgoing: Vec<u8>,
    /// What the dialect keeps between messages.
    carry: Vec<u8>,
    pub(crate) pairs: Vec<Pair>,
    /// Joins that were answered.
    pub(crate) answered: usize,
}

/// What a socket speaks with whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) dialect: &'a dyn Dialect,
    pub(crate) layout: Layout,
    /// The bytes of [`Dialect::upgrade`].
    pub(crate) upgrade: &'a [u8],
}

impl Socket {
    pub(crate) fn new(number: usize, topics: usize) -> Self {
        Self {
            number,
            phase: Phase::Closed,
            stream: None,
            partial: Vec::new(),
            outgoing: Vec::new(),
            carry: Vec::new(),
            pairs: vec![Pair::default(); topics],
            answered: 0,
        }
    }

    /// Begins to connect. `round` is how often all sockets were opened before: each round takes other ports.
    pub(crate) fn connect(&mut self, address: SocketAddr, total: usize, round: usize) -> io::Result<()> {
        let socket =
            socket2::Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if let IpAddr::V4(Ipv4Addr::LOCALHOST) = address.ip() {
            let place = round * total.div_ceil(PER_ADDRESS) + self.number / PER_ADDRESS;
            let run = u32::try_from(RUNS.load(Ordering::Relaxed)).unwrap_or_default();
            let process = std::process::id().wrapping_add(run.wrapping_mul(RUN_STEP));
            socket.bind(&SocketAddr::from((source(process, place), 0)).into())?;
        }
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        self.pairs.fill(Pair::default());
        self.answered = 0;
        self.partial.clear();
        self.carry.clear();
        self.outgoing.clear();
        self.phase = Phase::Connecting;
        self.stream = Some(TcpStream::from_std(socket.into()));
        Ok(())
    }

    /// Takes the connection away, and what was on its way.
    pub(crate) fn drop_connection(&mut self) {
        self.stream = None;
        self.phase = Phase::Closed;
        self.partial.clear();
    }

    /// Whether the connection has ended within a message.
    pub(crate) fn cut_off(&self) -> bool {
        self.phase == Phase::Open && !self.partial.is_empty()
    }

    /// The socket can be written: it is connected, or takes further bytes.
    pub(crate) fn writable(&mut self, line: Line<'_>) -> io::Result<()> {
        if self.phase == Phase::Connecting {
            let Some(stream) = &self.stream else { return Ok(()) };
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
            match stream.peer_addr() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error),
            }
            self.phase = Phase::Upgrading;
            self.outgoing.extend_from_slice(line.upgrade);
        }
        self.flush()
    }

    /// Writes what the kernel takes.
    fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while !self.outgoing.is_empty() {
            match stream.write(&self.outgoing) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) if len == self.outgoing.len() => self.outgoing = Vec::new(),
                Ok(len) => {
                    self.outgoing.drain(..len);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that it is alive. One that takes no bytes is full of what the server sends: the next time will do.
    pub(crate) fn beat(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.phase == Phase::Open && self.outgoing.is_empty() {
            self.outgoing.extend_from_slice(frame);
            return self.flush();
        }
        Ok(())
    }

    /// Reads all that is there. Edge-triggered: a short read means that there is no more. Returns why the socket is at its end, if it is.
    pub(crate) fn readable(&mut self, line: Line<'_>, buffer: &mut [u8], tally: &mut Tally) -> Result<(), String> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            match stream.read(buffer) {
                Ok(0) => return Err(self.ended()),
                Ok(len) => {
                    self.take(line, &buffer[..len], tally)?;
                    if len < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn ended(&self) -> String {
        let what = match self.phase {
            Phase::Open if self.cut_off() => "the server closed the connection within a message",
            Phase::Open => "the server closed the connection",
            _ => "the server closed the connection instead of opening the socket",
        };
        what.to_owned()
    }

    /// Takes bytes that arrived.
    fn take(&mut self, line: Line<'_>, bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        let now_us = unix_us();
        let taken = if self.partial.is_empty() {
            let (used, taken) = self.parts(line, bytes, now_us, tally);
            self.partial.extend_from_slice(&bytes[used..]);
            taken
        } else {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(bytes);
            let (used, taken) = self.parts(line, &partial, now_us, tally);
            partial.drain(..used);
            if !partial.is_empty() {
                self.partial = partial;
            }
            taken
        };
        taken?;
        if !self.outgoing.is_empty() {
            self.flush().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Handles the head of the answer, if it is still to come, and the whole frames behind it.
    fn parts(&mut self, line: Line<'_>, bytes: &[u8], now_us: i64, tally: &mut Tally) -> (usize, Result<(), String>) {
        let mut used = 0;
        if self.phase == Phase::Upgrading {
            match head(bytes) {
                Ok(0) => return (0, Ok(())),
                Ok(len) => used = len,
                Err(problem) => return (0, Err(format!("socket {} was refused: {problem}", self.number))),
            }
            self.phase = Phase::Open;
            let mut symbols = (0..line.layout.topics_per_socket).map(|slot| line.layout.symbol(self.number, slot));
            line.dialect.subscribe(&mut symbols, &mut self.outgoing);
        }
        let (frames, taken) = self.frames(line, &bytes[used..], now_us, tally);
        (used + frames, taken)
    }

    /// Handles the whole frames at the start of some bytes.
    fn frames(&mut self, line: Line<'_>, bytes: &[u8], now_us: i64, tally: &mut Tally) -> (usize, Result<(), String>) {
        let before = tally.checks.deliveries;
        let mut used = 0;
        while let Some(frame) = frames::split(&bytes[used..]) {
            used += frame.len;
            match frame.kind {
                Kind::Message => line.dialect.message(
                    frame.payload,
                    &mut Heard {
                        pairs: &mut self.pairs,
                        layout: line.layout,
                        socket: self.number,
                        now_us,
                        tally,
                        carry: &mut self.carry,
                        outgoing: &mut self.outgoing,
                        answered: &mut self.answered,
                    },
                ),
                Kind::Close => return (used, Err(close_reason(frame.payload))),
                Kind::Ping => say(&mut self.outgoing, Opcode::Pong, frame.payload),
                Kind::Pong => {}
                Kind::Unexpected => return (used, Err("a frame that is fragmented, compressed or masked".to_owned())),
            }
        }
        tally.read(tally.checks.deliveries - before, used, now_us);
        (used, Ok(()))
    }
}

/// Counts the runs of this process, each of which has addresses of its own.
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// How far the addresses of two runs are apart: processes that are started one after the other lie between.
const RUN_STEP: u32 = 1_009;

/// A run begins: the ports of the one before are still taken.
pub(crate) fn begin_run() {
    RUNS.fetch_add(1, Ordering::Relaxed);
}

/// A loopback address (127.0.0.0/8) for some of a process's connections. Each process, run and round has others, since the ports of closed
/// connections stay taken for a minute.
fn source(process: u32, place: usize) -> Ipv4Addr {
    let byte = |value: usize| u8::try_from(1 + value % 250).unwrap_or(u8::MAX);
    let process = usize::try_from(process).unwrap_or_default();
    Ipv4Addr::new(127, byte(process / 250), byte(process), byte(place))
}

/// The length of an answer's head, if it is whole (otherwise 0) and opens the socket.
fn head(bytes: &[u8]) -> Result<usize, String> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        let too_long = bytes.len() > HEAD_MAX;
        return if too_long { Err("the answer to the upgrade has no end".to_owned()) } else { Ok(0) };
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("101") { Ok(end + 4) } else { Err(status.to_owned()) }
}

fn close_reason(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            format!("closed by the server: {} {}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
        }
        _ => "closed by the server".to_owned(),
    }
}

#[cfg(test)]
mod tests;
