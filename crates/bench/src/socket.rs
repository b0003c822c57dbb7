//! One socket of the crowd: from its connection to its last byte.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Type};

use crate::{
    check::{Checks, Pair},
    dialect::{Dialect, Heard, Layout, say},
    frames::{self, Kind, Opcode},
    report::histogram,
    schedule::unix_us,
};

/// The head of an answer is shorter than this, or no answer to us.
const HEAD_MAX: usize = 8 << 10;
/// Connections from one loopback address; there are some 28,000 ports for outgoing connections by default, of which closed ones stay
/// taken for a minute.
const PER_ADDRESS: usize = 10_000;
/// The most that one update may stand for before its coverage is no longer counted one by one.
const COVERED_MAX: u64 = 1 << 20;
/// Updates whose way to the last of all sockets is followed.
const FOLLOWED_MAX: usize = 1 << 20;

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

/// When deliveries count, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first quote was due.
    pub(crate) start_us: i64,
    /// What was due from then until `from_us` is measured apart, to compare with.
    pub(crate) baseline_us: i64,
    pub(crate) from_us: i64,
    pub(crate) until_us: i64,
    /// Between two quotes of a symbol.
    pub(crate) interval_us: u64,
    /// Whether to follow each update until the last socket has it: for one symbol alone.
    pub(crate) followed: bool,
}

impl Window {
    /// Nothing is measured yet.
    pub(crate) const CLOSED: Self = Self {
        start_us: i64::MAX,
        baseline_us: i64::MAX,
        from_us: i64::MAX,
        until_us: i64::MAX,
        interval_us: 0,
        followed: false,
    };
}

/// What is counted at each delivery.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) checks: Checks,
    /// Deliveries in the measured time.
    pub(crate) measured: u64,
    /// Their bytes, frames and all.
    pub(crate) bytes: u64,
    pub(crate) coverage: Histogram<u64>,
    pub(crate) latency: Histogram<u64>,
    /// Latency before the measured time.
    pub(crate) baseline: Histogram<u64>,
    /// Messages that one read returned, in the measured time.
    pub(crate) per_read: Histogram<u64>,
    /// By the number of the update: when the last of the sockets had it, in microseconds from when it was due.
    pub(crate) last: Vec<u32>,
    pub(crate) failed: u64,
    pub(crate) failure: Option<String>,
    pub(crate) window: Window,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            checks: Checks::default(),
            measured: 0,
            bytes: 0,
            coverage: histogram(),
            latency: histogram(),
            baseline: histogram(),
            per_read: histogram(),
            last: Vec::new(),
            failed: 0,
            failure: None,
            window: Window::CLOSED,
        }
    }

    /// Adds what another thread has counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.checks.add(&other.checks);
        self.measured += other.measured;
        self.bytes += other.bytes;
        self.coverage += &other.coverage;
        self.latency += &other.latency;
        self.baseline += &other.baseline;
        self.per_read += &other.per_read;
        if self.last.len() < other.last.len() {
            self.last.resize(other.last.len(), 0);
        }
        for (mine, theirs) in self.last.iter_mut().zip(other.last) {
            *mine = theirs.max(*mine);
        }
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
    }

    pub(crate) fn fail(&mut self, reason: String) {
        self.failed += 1;
        self.failure.get_or_insert(reason);
    }

    /// Times a delivery, and the updates that were merged into it: their quotes were due one interval before each other.
    #[inline]
    pub(crate) fn time(&mut self, due_us: i64, n: u64, now_us: i64) {
        let Window { baseline_us, from_us, until_us, interval_us, followed, .. } = self.window;
        if due_us < from_us {
            if due_us >= baseline_us {
                self.baseline.saturating_record(micros(due_us, now_us));
            }
            if due_us < baseline_us {
                return;
            }
        } else {
            self.measured += u64::from(now_us < until_us);
            self.latency.saturating_record(micros(due_us, now_us));
        }
        let mut due_us = due_us;
        for _ in 0..n.min(COVERED_MAX) {
            if due_us < from_us {
                break;
            }
            self.coverage.saturating_record(micros(due_us, now_us));
            if followed {
                self.follow(due_us, now_us);
            }
            due_us = due_us.saturating_sub_unsigned(interval_us);
        }
    }

    /// One more socket has the update.
    #[inline]
    fn follow(&mut self, due_us: i64, now_us: i64) {
        let since = u64::try_from(due_us.saturating_sub(self.window.from_us)).unwrap_or(0);
        let number = usize::try_from(since / self.window.interval_us.max(1)).unwrap_or(usize::MAX);
        if number >= self.last.len() {
            if number >= FOLLOWED_MAX {
                return;
            }
            self.last.resize(number + 1, 0);
        }
        let took = u32::try_from(micros(due_us, now_us)).unwrap_or(u32::MAX);
        self.last[number] = took.max(self.last[number]);
    }

    /// A read returned so many messages and bytes.
    #[inline]
    fn read(&mut self, messages: u64, bytes: usize, now_us: i64) {
        if messages > 0 && now_us >= self.window.from_us && now_us < self.window.until_us {
            self.per_read.saturating_record(messages);
            self.bytes += bytes as u64;
        }
    }
}

/// From one time to another, at least one microsecond, which is what the histograms begin at.
#[inline]
fn micros(from_us: i64, to_us: i64) -> u64 {
    u64::try_from(to_us.saturating_sub(from_us)).unwrap_or(0).max(1)
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
            let host = u8::try_from(1 + place % 250).unwrap_or(u8::MAX);
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into())?;
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
