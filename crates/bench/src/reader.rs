//! Many sockets on few threads: each thread polls its share, reads frames and checks every delivery.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};

use crate::{
    BenchError,
    dialect::{Dialect, Layout},
    schedule::unix_us,
    socket::{Line, Phase, Socket},
    tally::{Tally, Window},
};

/// Read at a time; more than the kernel keeps for a socket at first.
const READ_BYTES: usize = 256 << 10;
/// How often a thread looks at the clock and at its orders while nothing arrives.
const TURN: Duration = Duration::from_millis(20);
/// How often a socket says that it is alive; a server closes it after 60 to 90 s of silence.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// When nothing has arrived for so long after the end, nothing is on its way any more.
const QUIET: Duration = Duration::from_millis(500);
/// How long what is on its way at the end may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Sockets that are being opened at the same time, unless all are to come at once.
const OPENING_MAX: usize = 256;

/// What the sockets do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) dialect: Arc<dyn Dialect>,
    pub(crate) layout: Layout,
    pub(crate) sockets: usize,
    /// Every so many-th socket is one that may be told to stop reading; 0: none.
    pub(crate) slow_every: usize,
}

impl Plan {
    fn is_slow(&self, socket: usize) -> bool {
        self.slow_every > 0 && socket.is_multiple_of(self.slow_every)
    }

    /// How many sockets are slow.
    pub(crate) fn slow(&self) -> usize {
        if self.slow_every == 0 { 0 } else { self.sockets.div_ceil(self.slow_every) }
    }
}

/// What the threads and whoever started them tell one another.
#[derive(Debug)]
pub(crate) struct Control {
    /// Joins that were answered, in all rounds.
    pub(crate) joined: AtomicUsize,
    pub(crate) failed: AtomicUsize,
    /// What is measured.
    pub(crate) window: Mutex<Window>,
    /// How often all sockets shall have been dropped and opened again.
    pub(crate) storms: AtomicUsize,
    /// Slow sockets do not read.
    pub(crate) stall: AtomicBool,
    /// No more quotes come: read what is on its way, then end.
    pub(crate) finish: AtomicBool,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            joined: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            window: Mutex::new(Window::CLOSED),
            storms: AtomicUsize::new(0),
            stall: AtomicBool::new(false),
            finish: AtomicBool::new(false),
        }
    }
}

/// What a thread has seen.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Of sockets that read all the time.
    pub(crate) tally: Tally,
    /// Of those that stopped reading for a while.
    pub(crate) slow: Tally,
    /// The newest `seq` of every symbol, and how many joins are at which.
    pub(crate) reached: HashMap<usize, Vec<u64>>,
    pub(crate) owed: u64,
    /// The symbols of joins that ended with a slow socket that the server cut off.
    pub(crate) absent: Vec<usize>,
    pub(crate) busy: f64,
}

/// Opens a share of the sockets, joins their topics, and reads until told to finish.
pub(crate) fn run(plan: &Plan, share: std::ops::Range<usize>, control: &Control) -> Result<Seen, BenchError> {
    let upgrade = plan.dialect.upgrade();
    let line = Line { dialect: plan.dialect.as_ref(), layout: plan.layout, upgrade: &upgrade };
    let mut reader = Reader::new(plan, line, share, control)?;
    reader.read_until_finished()?;
    Ok(reader.seen())
}

struct Reader<'a> {
    plan: &'a Plan,
    line: Line<'a>,
    control: &'a Control,
    poll: Poll,
    sockets: Vec<Socket>,
    /// The next socket to open, and how many are being opened.
    next: usize,
    opening: usize,
    opening_max: usize,
    /// Rounds of dropping and opening that were begun.
    round: usize,
    stalled: bool,
    /// Slow sockets that have something to read.
    unread: BTreeSet<usize>,
    tallies: [Tally; 2],
    told_joined: usize,
    told_failed: u64,
    idle: Duration,
    measured: Duration,
}

impl<'a> Reader<'a> {
    fn new(
        plan: &'a Plan,
        line: Line<'a>,
        share: std::ops::Range<usize>,
        control: &'a Control,
    ) -> Result<Self, BenchError> {
        let poll = Poll::new().map_err(BenchError::machine("open an epoll instance"))?;
        Ok(Self {
            plan,
            line,
            control,
            poll,
            sockets: share.map(|number| Socket::new(number, plan.layout.topics_per_socket)).collect(),
            next: 0,
            opening: 0,
            opening_max: OPENING_MAX,
            round: 0,
            stalled: false,
            unread: BTreeSet::new(),
            tallies: [Tally::new(), Tally::new()],
            told_joined: 0,
            told_failed: 0,
            idle: Duration::ZERO,
            measured: Duration::ZERO,
        })
    }

    fn read_until_finished(&mut self) -> Result<(), BenchError> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        let mut beat_at = Instant::now() + HEARTBEAT;
        let mut last_read = Instant::now();
        let mut give_up_at = None;
        loop {
            let turn = Instant::now();
            self.take_orders(&mut buffer);
            self.open_more()?;
            match self.poll.poll(&mut events, Some(TURN)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(BenchError::Machine { what: "wait for sockets", source: error });
                }
                _ => {}
            }
            let woken = Instant::now();
            for event in &events {
                let index = event.token().0;
                if event.is_writable() {
                    self.write(index)?;
                }
                if event.is_readable() || event.is_error() {
                    self.read(index, &mut buffer);
                    last_read = woken;
                }
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

    fn take_orders(&mut self, buffer: &mut [u8]) {
        let window = *self.control.window.lock().unwrap_or_else(PoisonError::into_inner);
        for tally in &mut self.tallies {
            tally.window = window;
        }
        if self.control.storms.load(Ordering::Relaxed) > self.round {
            self.storm();
        }
        let stall = self.control.stall.load(Ordering::Relaxed);
        let resumed = std::mem::replace(&mut self.stalled, stall) && !stall;
        if resumed {
            for index in std::mem::take(&mut self.unread) {
                self.read(index, buffer);
            }
        }
    }

    /// All connections end at once, and all are opened again at once.
    fn storm(&mut self) {
        self.round += 1;
        self.opening_max = usize::MAX;
        for socket in &mut self.sockets {
            socket.drop_connection();
        }
        (self.next, self.opening) = (0, 0);
        self.unread.clear();
    }

    fn open_more(&mut self) -> Result<(), BenchError> {
        while self.next < self.sockets.len() && self.opening < self.opening_max {
            let socket = &mut self.sockets[self.next];
            let address = self.plan.dialect.address();
            let connected = socket.connect(address, self.plan.sockets, self.round);
            if let Err(error) = connected {
                return Err(self.unreachable(error));
            }
            if let Some(stream) = &mut socket.stream {
                let interest = Interest::READABLE | Interest::WRITABLE;
                let watched = self.poll.registry().register(stream, Token(self.next), interest);
                watched.map_err(BenchError::machine("watch a socket"))?;
            }
            self.opening += 1;
            self.next += 1;
        }
        Ok(())
    }

    /// How much of the measured time goes by waiting.
    fn account(&mut self, turn: Instant, woken: Instant) {
        let now = unix_us();
        let Window { from_us, until_us, .. } = self.tallies[0].window;
        if now >= from_us && now < until_us {
            self.idle += woken - turn;
            self.measured += turn.elapsed();
        }
    }

    fn tell(&mut self) {
        self.control.joined.fetch_add(std::mem::take(&mut self.told_joined), Ordering::Relaxed);
        let failed = self.tallies.iter().map(|tally| tally.failed).sum();
        let more = failed - std::mem::replace(&mut self.told_failed, failed);
        self.control.failed.fetch_add(usize::try_from(more).unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// One that cannot be connected ends the run: there is nobody to measure.
    fn write(&mut self, index: usize) -> Result<(), BenchError> {
        let Some(socket) = self.sockets.get_mut(index) else { return Ok(()) };
        let connecting = socket.phase == Phase::Connecting;
        match socket.writable(self.line) {
            Err(error) if connecting => Err(self.unreachable(error)),
            Err(error) => {
                self.close(index, error.to_string());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn unreachable(&self, error: io::Error) -> BenchError {
        BenchError::unreachable(self.plan.dialect.address())(error)
    }

    fn read(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(socket) = self.sockets.get_mut(index) else { return };
        let slow = self.plan.is_slow(socket.number);
        if slow && self.stalled {
            self.unread.insert(index);
            return;
        }
        let before = socket.answered;
        let result = socket.readable(self.line, buffer, &mut self.tallies[usize::from(slow)]);
        self.told_joined += socket.answered - before;
        if before < socket.pairs.len() && socket.answered == socket.pairs.len() {
            self.opening = self.opening.saturating_sub(1);
        }
        if let Err(reason) = result {
            self.close(index, reason);
        }
    }

    fn close(&mut self, index: usize, reason: String) {
        let Some(socket) = self.sockets.get_mut(index) else { return };
        if socket.phase == Phase::Closed {
            return;
        }
        let slow = self.plan.is_slow(socket.number);
        socket.drop_connection();
        self.tallies[usize::from(slow)].fail(reason);
    }

    fn beat(&mut self) {
        let mut frame = Vec::new();
        self.line.dialect.heartbeat(&mut frame);
        if frame.is_empty() {
            return;
        }
        for index in 0..self.sockets.len() {
            if let Err(error) = self.sockets[index].beat(&frame) {
                self.close(index, error.to_string());
            }
        }
    }

    fn seen(self) -> Seen {
        let mut reached: HashMap<usize, Vec<u64>> = HashMap::new();
        let (mut owed, mut absent) = (0, Vec::new());
        let [mut tally, mut slow] = self.tallies;
        for socket in &self.sockets {
            let is_slow = self.plan.is_slow(socket.number);
            if socket.cut_off() {
                let tally = if is_slow { &mut slow } else { &mut tally };
                tally.fail("a message without its end was on its way at the end".to_owned());
            }
            if is_slow && socket.phase == Phase::Closed {
                absent.extend((0..socket.pairs.len()).map(|slot| self.plan.layout.symbol(socket.number, slot)));
                continue;
            }
            for (slot, pair) in socket.pairs.iter().enumerate().filter(|(_, pair)| pair.joined) {
                reached.entry(self.plan.layout.symbol(socket.number, slot)).or_default().push(pair.seq);
                owed += pair.owed();
            }
        }
        let busy = 1.0 - self.idle.as_secs_f64() / self.measured.as_secs_f64().max(f64::MIN_POSITIVE);
        let busy = if self.measured.is_zero() { 0.0 } else { busy };
        Seen { tally, slow, reached, owed, absent, busy }
    }
}
