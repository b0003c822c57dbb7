//! Many sockets on few threads: each thread polls its share, reads frames and checks every delivery.

mod handshake;

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use tickwire_channels::{
    serializer::{CLOSE, ERROR, JOIN},
    websocket::{Opcode, write_masked_frame},
};
use tickwire_client::{
    Options, Payload, Snapshot,
    wire::{self, Body, Outgoing},
};

use crate::{
    BenchError,
    check::{Checks, Pair},
    frames::{self, Kind},
    publisher::unix_us,
    report::histogram,
    scan::{self, symbol_name},
};

/// Read at a time; more than the kernel keeps for a socket at first.
const READ_BYTES: usize = 256 << 10;
/// How often a thread looks at the clock and at its orders while nothing arrives.
const TURN: Duration = Duration::from_millis(50);
/// How often a socket says that it is alive; a server closes it after 60 to 90 s of silence.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// When nothing has arrived for so long after the end, nothing is on its way any more.
const QUIET: Duration = Duration::from_millis(500);
/// How long what is on its way at the end may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The most that one update may stand for before its coverage is no longer counted one by one.
const COVERED_MAX: u64 = 1 << 20;

/// What the sockets do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) socket: Options,
    pub(crate) address: SocketAddr,
    pub(crate) symbols: usize,
    /// Socket `i` joins the symbols from `i` × this on, wrapping around.
    pub(crate) topics_per_socket: usize,
}

impl Plan {
    fn symbol(&self, socket: usize, slot: usize) -> usize {
        (socket * self.topics_per_socket + slot) % self.symbols
    }

    /// Which of a socket's joins a symbol is.
    #[inline]
    fn slot(&self, socket: usize, symbol: usize) -> Option<usize> {
        let first = self.symbol(socket, 0);
        let slot = (symbol + self.symbols).checked_sub(first)? % self.symbols;
        (slot < self.topics_per_socket).then_some(slot)
    }
}

/// What the threads and whoever started them tell one another.
#[derive(Debug)]
pub(crate) struct Control {
    /// Sockets that are open and have sent their joins.
    pub(crate) open: AtomicUsize,
    /// Joins that were answered.
    pub(crate) joined: AtomicUsize,
    pub(crate) failed: AtomicUsize,
    /// The measured time, in microseconds since 1970.
    pub(crate) from_us: AtomicI64,
    pub(crate) until_us: AtomicI64,
    /// Between two quotes of a symbol.
    pub(crate) interval_us: AtomicU64,
    /// No more quotes come: read what is on its way, then end.
    pub(crate) finish: AtomicBool,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            open: AtomicUsize::new(0),
            joined: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            from_us: AtomicI64::new(i64::MAX),
            until_us: AtomicI64::new(i64::MAX),
            interval_us: AtomicU64::new(0),
            finish: AtomicBool::new(false),
        }
    }
}

/// What a thread has seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) checks: Checks,
    /// Deliveries in the measured time.
    pub(crate) measured: u64,
    pub(crate) coverage: Histogram<u64>,
    pub(crate) latency: Histogram<u64>,
    /// The newest `seq` of every symbol, and how many joins are at which.
    pub(crate) reached: HashMap<usize, Vec<u64>>,
    pub(crate) owed: u64,
    pub(crate) failure: Option<String>,
    pub(crate) busy: f64,
}

/// Opens a share of the sockets, joins their topics, and reads until told to finish.
pub(crate) fn run(plan: &Plan, share: std::ops::Range<usize>, control: &Arc<Control>) -> Result<Seen, BenchError> {
    let mut reader = Reader::open(plan, share, control)?;
    reader.read_until_finished()?;
    Ok(reader.seen())
}

struct Socket {
    /// Its place among all sockets.
    number: usize,
    /// `None` once it is closed.
    stream: Option<TcpStream>,
    /// The beginning of a frame whose end is still to come.
    partial: Vec<u8>,
    pairs: Vec<Pair>,
}

struct Reader<'a> {
    plan: &'a Plan,
    control: &'a Control,
    poll: Poll,
    sockets: Vec<Socket>,
    tally: Tally,
    idle: Duration,
    measured: Duration,
}

/// What is counted at each delivery.
struct Tally {
    checks: Checks,
    measured: u64,
    coverage: Histogram<u64>,
    latency: Histogram<u64>,
    joined: usize,
    failed: usize,
    failure: Option<String>,
    from_us: i64,
    until_us: i64,
    interval_us: u64,
}

impl<'a> Reader<'a> {
    fn open(plan: &'a Plan, share: std::ops::Range<usize>, control: &'a Control) -> Result<Self, BenchError> {
        let poll = Poll::new().map_err(BenchError::machine("open an epoll instance"))?;
        let mut sockets = Vec::with_capacity(share.len());
        for number in share {
            let mut stream = handshake::open(&plan.socket, plan.address, number)?;
            stream.write_all(&joins(plan, number)).map_err(BenchError::machine("send joins"))?;
            stream.set_nonblocking(true).map_err(BenchError::machine("set up a socket"))?;
            let mut stream = TcpStream::from_std(stream);
            let token = Token(sockets.len());
            poll.registry()
                .register(&mut stream, token, Interest::READABLE)
                .map_err(BenchError::machine("watch a socket"))?;
            let pairs = vec![Pair::default(); plan.topics_per_socket];
            sockets.push(Socket { number, stream: Some(stream), partial: Vec::new(), pairs });
            control.open.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Self { plan, control, poll, sockets, tally: Tally::new(), idle: Duration::ZERO, measured: Duration::ZERO })
    }

    fn read_until_finished(&mut self) -> Result<(), BenchError> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        let mut beat_at = Instant::now() + HEARTBEAT;
        let mut last_read = Instant::now();
        let mut give_up_at = None;
        loop {
            let turn = Instant::now();
            self.tally.take_orders(self.control);
            match self.poll.poll(&mut events, Some(TURN)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(BenchError::Machine { what: "wait for sockets", source: error });
                }
                _ => {}
            }
            let woken = Instant::now();
            for event in &events {
                self.read(event.token().0, &mut buffer);
                last_read = woken;
            }
            self.account(turn, woken);
            if woken >= beat_at {
                beat_at = woken + HEARTBEAT;
                self.beat();
            }
            self.tell();
            if self.control.finish.load(Ordering::Relaxed) {
                let give_up_at = *give_up_at.get_or_insert(woken + DRAIN_TIMEOUT);
                if woken.duration_since(last_read) >= QUIET || woken >= give_up_at {
                    return Ok(());
                }
            }
        }
    }

    /// How much of the measured time goes by waiting.
    fn account(&mut self, turn: Instant, woken: Instant) {
        let now = unix_us();
        if now >= self.tally.from_us && now < self.tally.until_us {
            self.idle += woken - turn;
            self.measured += turn.elapsed();
        }
    }

    fn tell(&mut self) {
        self.control.joined.fetch_add(std::mem::take(&mut self.tally.joined), Ordering::Relaxed);
        self.control.failed.fetch_add(std::mem::take(&mut self.tally.failed), Ordering::Relaxed);
    }

    /// Reads all that a socket has. Edge-triggered: a short read means that there is no more.
    fn read(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(socket) = self.sockets.get_mut(index) else { return };
        loop {
            let Some(stream) = &mut socket.stream else { return };
            match stream.read(buffer) {
                Ok(0) => return self.close(index, "the server closed the connection".to_owned()),
                Ok(len) => {
                    let reason = socket.take(self.plan, &buffer[..len], &mut self.tally);
                    if let Some(reason) = reason {
                        return self.close(index, reason);
                    }
                    if len < buffer.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.close(index, error.to_string()),
            }
        }
    }

    fn close(&mut self, index: usize, reason: String) {
        let Some(socket) = self.sockets.get_mut(index) else { return };
        socket.stream = None;
        self.tally.fail(reason);
    }

    fn beat(&mut self) {
        let mut frame = Vec::new();
        write_masked_frame(&mut frame, Opcode::Text, Outgoing::heartbeat(0).as_bytes(), [1, 2, 3, 4]);
        for socket in &mut self.sockets {
            if let Some(stream) = &mut socket.stream {
                // A socket that takes no bytes now is full of what the server sends; it is alive, and the next beat will do.
                let _ = stream.write(&frame);
            }
        }
    }

    fn seen(self) -> Seen {
        let mut reached: HashMap<usize, Vec<u64>> = HashMap::new();
        let mut owed = 0;
        for socket in &self.sockets {
            for (slot, pair) in socket.pairs.iter().enumerate().filter(|(_, pair)| pair.joined) {
                reached.entry(self.plan.symbol(socket.number, slot)).or_default().push(pair.seq);
                owed += pair.owed();
            }
        }
        let Tally { checks, measured, coverage, latency, failure, .. } = self.tally;
        let busy = 1.0 - self.idle.as_secs_f64() / self.measured.as_secs_f64().max(f64::MIN_POSITIVE);
        let busy = if self.measured.is_zero() { 0.0 } else { busy };
        Seen { checks, measured, coverage, latency, reached, owed, failure, busy }
    }
}

impl Socket {
    /// Takes bytes that arrived; returns why the socket is at its end, if it is.
    fn take(&mut self, plan: &Plan, bytes: &[u8], tally: &mut Tally) -> Option<String> {
        let now_us = unix_us();
        if self.partial.is_empty() {
            let (used, end) = self.frames(plan, bytes, now_us, tally);
            self.partial.extend_from_slice(&bytes[used..]);
            return end;
        }
        let mut partial = std::mem::take(&mut self.partial);
        partial.extend_from_slice(bytes);
        let (used, end) = self.frames(plan, &partial, now_us, tally);
        partial.drain(..used);
        self.partial = partial;
        end
    }

    /// Handles the whole frames at the start of some bytes.
    fn frames(&mut self, plan: &Plan, bytes: &[u8], now_us: i64, tally: &mut Tally) -> (usize, Option<String>) {
        let mut used = 0;
        while let Some(frame) = frames::split(&bytes[used..]) {
            used += frame.len;
            match frame.kind {
                Kind::Text => match scan::update(frame.payload) {
                    Some(update) => self.delivered(plan, &update, now_us, tally),
                    None => self.message(plan, frame.payload, tally),
                },
                Kind::Close => return (used, Some(close_reason(frame.payload))),
                // Our servers send no pings; one that does gets no answer and may close.
                Kind::Ping | Kind::Other => {}
            }
        }
        (used, None)
    }

    #[inline]
    fn delivered(&mut self, plan: &Plan, update: &scan::Seen<'_>, now_us: i64, tally: &mut Tally) {
        let pair = plan.slot(self.number, update.symbol).and_then(|slot| self.pairs.get_mut(slot));
        let Some(pair) = pair else {
            return tally.fail(format!("an update of {}, which was not joined", symbol_name(update.symbol)));
        };
        pair.deliver(update.epoch, update.seq, update.n, &mut tally.checks);
        tally.time(update.ts, update.n, now_us);
    }

    /// Anything but an update: the join's reply, most of all.
    fn message(&mut self, plan: &Plan, text: &[u8], tally: &mut Tally) {
        let message = std::str::from_utf8(text).map_err(|error| error.to_string());
        let message = match message.and_then(|text| wire::decode_text(text).map_err(|error| error.to_string())) {
            Ok(message) => message,
            Err(problem) => return tally.fail(problem),
        };
        let number = message.topic.strip_prefix("ticker:BENCH.").and_then(|number| number.parse().ok());
        let pair = number.and_then(|symbol| plan.slot(self.number, symbol)).and_then(|slot| self.pairs.get_mut(slot));
        let Some(pair) = pair else { return };
        match message.body {
            Body::Reply { ok: true, response: Payload::Json(json) } => match Snapshot::parse(&json) {
                Ok(snapshot) => {
                    tally.joined += usize::from(!pair.joined);
                    pair.start(snapshot.mark.epoch.as_bytes(), snapshot.mark.seq);
                }
                Err(problem) => tally.fail(format!("a join's reply is not understood: {problem}")),
            },
            Body::Reply { response, .. } => tally.fail(format!("a join was refused: {response:?}")),
            Body::Event { event, payload } => match event.as_str() {
                "snapshot" => {
                    if let Ok(snapshot) = Snapshot::parse(payload.bytes()) {
                        pair.start(snapshot.mark.epoch.as_bytes(), snapshot.mark.seq);
                    }
                }
                CLOSE | ERROR => tally.fail(format!("{}: {event}", message.topic)),
                _ => {}
            },
        }
    }
}

impl Tally {
    fn new() -> Self {
        Self {
            checks: Checks::default(),
            measured: 0,
            coverage: histogram(),
            latency: histogram(),
            joined: 0,
            failed: 0,
            failure: None,
            from_us: i64::MAX,
            until_us: i64::MAX,
            interval_us: 0,
        }
    }

    fn take_orders(&mut self, control: &Control) {
        self.from_us = control.from_us.load(Ordering::Relaxed);
        self.until_us = control.until_us.load(Ordering::Relaxed);
        self.interval_us = control.interval_us.load(Ordering::Relaxed);
    }

    fn fail(&mut self, reason: String) {
        self.failed += 1;
        self.failure.get_or_insert(reason);
    }

    /// Times a delivery, and the updates that were merged into it: their quotes were due one interval before each other.
    #[inline]
    fn time(&mut self, due_us: i64, n: u64, now_us: i64) {
        if now_us >= self.from_us && now_us < self.until_us {
            self.measured += 1;
        }
        if due_us >= self.from_us {
            self.latency.saturating_record(micros(due_us, now_us));
        }
        let mut due_us = due_us;
        for _ in 0..n.min(COVERED_MAX) {
            if due_us < self.from_us {
                break;
            }
            self.coverage.saturating_record(micros(due_us, now_us));
            due_us = due_us.saturating_sub_unsigned(self.interval_us);
        }
    }
}

/// From one time to another, at least one microsecond, which is what the histograms begin at.
#[inline]
fn micros(from_us: i64, to_us: i64) -> u64 {
    u64::try_from(to_us.saturating_sub(from_us)).unwrap_or(0).max(1)
}

/// All joins of a socket, as bytes.
fn joins(plan: &Plan, socket: usize) -> Vec<u8> {
    let payload = serde_json::json!({});
    let mut bytes = Vec::new();
    for (slot, msg_ref) in (0..plan.topics_per_socket).zip(1u64..) {
        let topic = format!("ticker:{}", symbol_name(plan.symbol(socket, slot)));
        let join = Outgoing { join_ref: Some(msg_ref), msg_ref, topic: &topic, event: JOIN, payload: &payload };
        write_masked_frame(&mut bytes, Opcode::Text, join.encode().as_bytes(), [1, 2, 3, 4]);
    }
    bytes
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
mod tests {
    use tickwire_channels::websocket::Header;

    use super::*;

    fn plan() -> Plan {
        Plan {
            socket: Options::new("ws://127.0.0.1:1/socket").unwrap(),
            address: "127.0.0.1:1".parse().unwrap(),
            symbols: 5,
            topics_per_socket: 2,
        }
    }

    fn frame(text: &str) -> Vec<u8> {
        let mut bytes = Header::new(Opcode::Text, text.len()).as_ref().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }

    #[test]
    fn every_join_finds_its_slot() {
        let plan = plan();
        for socket in 0..4 {
            for slot in 0..plan.topics_per_socket {
                assert_eq!(plan.slot(socket, plan.symbol(socket, slot)), Some(slot));
            }
            let joined = (0..plan.symbols).filter(|symbol| plan.slot(socket, *symbol).is_some()).count();
            assert_eq!(joined, plan.topics_per_socket);
        }
    }

    #[test]
    fn bytes_in_any_pieces_make_the_same_deliveries() {
        let plan = plan();
        let mut bytes = frame(
            r#"["1","1","ticker:BENCH.00002","phx_reply",{"status":"ok","response":{"quote":null,"epoch":"a","seq":0}}]"#,
        );
        for (seq, tail) in [(1, ""), (3, ",\"n\":2"), (4, "")] {
            bytes.extend(frame(&format!(
                r#"[null,null,"ticker:BENCH.00002","update",{{"symbol":"BENCH.00002","ts":{},"epoch":"a","seq":{seq}{tail}}}]"#,
                1_000_000 + seq * 10
            )));
        }
        for size in [1, 7, 100, bytes.len()] {
            let mut socket = Socket { number: 1, stream: None, partial: Vec::new(), pairs: vec![Pair::default(); 2] };
            let mut tally = Tally { from_us: 0, interval_us: 10, ..Tally::new() };
            for piece in bytes.chunks(size) {
                assert_eq!(socket.take(&plan, piece, &mut tally), None);
            }
            assert_eq!((tally.joined, tally.checks.deliveries, tally.checks.covered), (1, 3, 4));
            assert!(tally.checks.clean() && tally.failure.is_none(), "{:?}", tally.failure);
            assert_eq!((tally.coverage.len(), tally.latency.len(), socket.pairs[0].owed()), (4, 3, 4));
        }
    }
}
