//! The loop of a worker.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use metrics::{Counter, Gauge, counter, gauge};
use mio::{Events, Poll, Token};
use tickwire_faults::{Unit, point};
use tickwire_pubsub::Broadcast;

use super::{
    Command, PollId, Shared, WorkersConfig,
    pace::{Pace, Pass},
    sockets::Sockets,
    timers::{Timer, Why},
    topics::Topics,
};
use crate::{
    channel::guarded,
    close::CloseReason,
    log::{LogBudget, RefusalLog},
    metrics as names,
    router::Router,
    session::Action,
};

/// The waker's place among the sockets' tokens.
pub(super) const WAKER: Token = Token(usize::MAX);

/// Bytes that one socket may send per turn: what one `read` takes at most.
const READ_BYTES: usize = 64 * 1024;

/// After the second of several turns in a row that crash; each further one makes the pause so much longer.
const CRASH_PAUSE: Duration = Duration::from_millis(1);

/// One thread's sockets and all that belongs to them.
pub(super) struct Worker {
    pub(super) poll: Poll,
    pub(super) shared: Arc<Shared>,
    pub(super) config: Arc<WorkersConfig>,
    pub(super) router: Arc<Router>,
    pub(super) sockets: Sockets,
    pub(super) topics: Topics,
    pub(super) pace: Pace,
    /// The sockets whose clients poll.
    pub(super) polls: HashMap<PollId, usize>,
    pub(super) commands: VecDeque<Command>,
    /// Empty between uses, kept for their memory.
    pub(super) batch: Vec<Arc<Broadcast>>,
    pub(super) actions: Vec<Action>,
    pub(super) read_buffer: Vec<u8>,
    pub(super) next_socket: u64,
    pub(super) now: Instant,
    pub(super) log: LogBudget,
    pub(super) refusals: RefusalLog,
    pub(super) meters: Meters,
}

/// Handles of the metrics that are touched often.
pub(super) struct Meters {
    pub(super) connections: Gauge,
    pub(super) joins: Gauge,
    writes: Counter,
    deliveries: Counter,
    conflated: Counter,
}

impl Worker {
    pub(super) fn new(poll: Poll, shared: Arc<Shared>, config: Arc<WorkersConfig>, router: Arc<Router>) -> Self {
        let topics = Topics::new(shared.pubsub().clone(), shared.sink);
        let sockets = Sockets::new(config.outbox_bytes_max, config.write_timeout);
        let meters = Meters {
            connections: gauge!(names::CONNECTIONS),
            joins: gauge!(names::JOINS),
            writes: counter!(names::WRITES),
            deliveries: counter!(names::DELIVERIES),
            conflated: counter!(tickwire_pubsub::metrics::CONFLATED),
        };
        Self {
            poll,
            shared,
            config,
            router,
            sockets,
            topics,
            pace: Pace::default(),
            polls: HashMap::new(),
            commands: VecDeque::new(),
            batch: Vec::new(),
            actions: Vec::new(),
            read_buffer: Vec::new(),
            next_socket: 0,
            now: Instant::now(),
            log: LogBudget::default(),
            refusals: RefusalLog::default(),
            meters,
        }
    }

    /// Runs until it is told to exit.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut crashes_in_a_row = 0;
        loop {
            match guarded(|| self.turn(&mut events)) {
                Ok(Ok(true)) => crashes_in_a_row = 0,
                Ok(Ok(false)) => break,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the worker's poll failed, its sockets are closed");
                    break;
                }
                Err(panic) => {
                    self.recover(&panic);
                    // Turns that all crash must not take a whole core. Whoever has something for the worker finds it awake in no time.
                    crashes_in_a_row += 1;
                    std::thread::park_timeout(CRASH_PAUSE * u32::min(crashes_in_a_row - 1, 100));
                }
            }
        }
        self.exit();
    }

    /// Drains all that is pending, then writes. `false`: the worker is to exit.
    fn turn(&mut self, events: &mut Events) -> io::Result<bool> {
        self.wait(events)?;
        self.now = Instant::now();
        for event in events.iter().filter(|event| event.token() != WAKER) {
            self.sockets.event(event);
        }
        point(Unit::Turn, || "start");
        // While the worker lets messages gather, clients are heard all the same.
        if !self.pace.holds(self.now) && !self.take_over() {
            return Ok(false);
        }
        self.read_ready();
        self.fire_timers();
        self.close_doomed();
        self.write_dirty();
        self.close_doomed();
        point(Unit::Turn, || "end");
        self.count();
        Ok(true)
    }

    /// Takes what others have for the worker. `false`: it is to exit.
    fn take_over(&mut self) -> bool {
        self.shared.hush();
        // Commands are taken first and obeyed last: what a task published before it sent a command is then in the inbox already, and
        // reaches the sockets before what the command writes.
        self.shared.take_commands(&mut self.commands);
        self.drain_inbox();
        while let Some(command) = self.commands.pop_front() {
            if matches!(command, Command::Exit) {
                return false;
            }
            self.obey_guarded(command);
        }
        true
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let sockets = &self.sockets;
        let busy =
            sockets.has_ready() || sockets.has_dirty() || !sockets.doomed.is_empty() || !self.commands.is_empty();
        let now = Instant::now();
        let timers = self.sockets.timers.wait(now);
        let timeout = match (busy, self.pace.wait(now)) {
            (true, _) => Some(Duration::ZERO),
            // Nobody rings meanwhile.
            (false, Some(pause)) => Some(timers.map_or(pause, |timers| timers.min(pause))),
            (false, None) => timers,
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// A command that crashes takes with it the one connection that it is about.
    fn obey_guarded(&mut self, command: Command) {
        let (subject, adopts, adopted) =
            (self.subject(&command), matches!(command, Command::Adopt(_)), self.next_socket);
        let Err(panic) = guarded(|| self.obey(command)) else { return };
        let id = match subject {
            Some(id) => id,
            // It is counted already, but is in nobody's hands.
            None if adopts && self.next_socket == adopted => {
                self.forget_connection();
                return self.crashed("a connection crashed on its way in", &panic);
            }
            None if adopts => self.next_socket,
            None => return self.crashed("a command crashed", &panic),
        };
        let key = self.sockets.slab.iter().find(|(_, socket)| socket.id == id).map(|(key, _)| key);
        match key {
            Some(key) => self.connection_crashed(key, &panic),
            None => self.crashed("a command crashed", &panic),
        }
    }

    /// The socket that a command is about.
    fn subject(&mut self, command: &Command) -> Option<u64> {
        let key = match command {
            Command::Channel(handle, _) | Command::JoinDone(handle, _) if self.is_current(handle) => {
                handle.place().socket
            }
            Command::Poll(id, _) => *self.polls.get(id)?,
            _ => return None,
        };
        Some(self.sockets.get_mut(key)?.id)
    }

    fn write_dirty(&mut self) {
        let (began, tally) = (Instant::now(), &self.sockets.tally);
        let (deliveries, calls, bytes) = (tally.deliveries, tally.calls, tally.bytes);
        self.sockets.write_dirty();
        let tally = &self.sockets.tally;
        self.pace.passed(&Pass {
            began,
            ended: Instant::now(),
            deliveries: tally.deliveries - deliveries,
            calls: tally.calls - calls,
            bytes: tally.bytes - bytes,
        });
        if self.pace.holds(self.now) {
            self.shared.mute();
        }
        while let Some((key, panic)) = self.sockets.crashed.pop() {
            self.connection_crashed(key, &panic);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Adopt(adoption) => self.adopt(*adoption),
            Command::Channel(handle, command) => self.channel_command(&handle, command),
            Command::JoinDone(handle, outcome) => self.join_decided(&handle, outcome),
            Command::CloseWhere(picks, reason) => {
                for (key, info) in self.open_sockets() {
                    if guarded(|| picks(&info)).unwrap_or(false) {
                        self.sockets.doom(key, reason);
                    }
                }
            }
            Command::Route(router) => self.router = router,
            Command::Poll(id, request) => self.poll_request(id, request),
            Command::Drain(spread) => self.drain(spread),
            Command::Exit => {}
        }
    }

    fn read_ready(&mut self) {
        for key in self.sockets.take_ready() {
            // A read that panicked has taken the buffer with it. Into one without room, every read would look like the end.
            if self.read_buffer.is_empty() {
                self.read_buffer = vec![0; READ_BYTES];
            }
            if let Err(panic) = guarded(|| self.read(key)) {
                self.connection_crashed(key, &panic);
            }
        }
    }

    pub(super) fn connection_crashed(&mut self, key: usize, panic: &str) {
        counter!(names::CONNECTION_CRASHES).increment(1);
        if self.log.allows(self.now) {
            let peer = self.sockets.get_mut(key).map(|socket| socket.info.peer);
            tracing::error!(?peer, panic, "a connection crashed and is closed");
        }
        self.sockets.doom(key, CloseReason::InternalError);
    }

    fn fire_timers(&mut self) {
        while let Some(timer) = self.sockets.timers.pop(self.now) {
            let alive = self.sockets.get_mut(timer.socket).is_some_and(|socket| socket.id == timer.id);
            let key = timer.socket;
            if alive && let Err(panic) = guarded(|| self.fire(timer)) {
                self.connection_crashed(key, &panic);
            }
        }
    }

    fn fire(&mut self, Timer { at, socket: key, why, .. }: Timer) {
        let now = self.now;
        match why {
            Why::Life => self.life_timer(key, at),
            Why::Write => self.sockets.check_write(key, now),
            Why::Rate(slot) => {
                if let Some(socket) = self.sockets.get_mut(key) {
                    socket.outbox.flush(slot, now);
                    self.sockets.queued(key);
                }
            }
            Why::Drain => self.sockets.doom(key, CloseReason::Shutdown),
            Why::Linger { until } => self.check_linger(key, until),
        }
    }

    /// Looks whether a client has been silent for too long, or may not be here any more, and when to look again.
    pub(super) fn check_life(&mut self, key: usize) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if let Some(link) = socket.link.as_poll() {
            let (patience, forsaken) = (link.patience(), link.is_forsaken(self.now));
            return self.check_poll_life(key, patience, forsaken);
        }
        let idle_timeout = socket.info.limits.idle_timeout;
        // A client that is not read from cannot be heard.
        let heard_at = if socket.is_paused() { self.now } else { socket.heard_at };
        let idle_at = heard_at + idle_timeout;
        let expires_at = socket.expires_at;
        if expires_at.is_some_and(|at| at <= self.now) {
            self.sockets.doom(key, CloseReason::TokenExpired);
        } else if idle_at <= self.now {
            self.sockets.doom(key, CloseReason::IdleTimeout);
        } else {
            self.sockets.arm_life(key, expires_at.map_or(idle_at, |at| at.min(idle_at)));
        }
    }

    /// Passes on what this turn counted.
    fn count(&mut self) {
        let tally = &mut self.sockets.tally;
        let (deliveries, calls) = (std::mem::take(&mut tally.deliveries), std::mem::take(&mut tally.calls));
        tally.bytes = 0;
        if calls > 0 {
            self.meters.writes.increment(calls);
        }
        if deliveries == 0 {
            return;
        }
        self.meters.deliveries.increment(deliveries);
        self.meters.conflated.increment(std::mem::take(&mut tally.conflated));
        self.shared.node.lag.add(&mut tally.lag);
    }

    /// Tells what a client was refused and by which code. The metric that counts it belongs to the caller.
    pub(super) fn tell_refusal(&mut self, key: usize, code: &'static str, what: &'static str) {
        let Some(held_back) = self.refusals.pass(code, self.now) else { return };
        if let Some(socket) = self.sockets.get_mut(key) {
            tracing::warn!(code, socket = ?socket.info, held_back, "{what}");
        }
    }

    /// Counts and tells of a panic outside of any connection and channel. Its cause is a fault of ours that nobody has seen before.
    pub(super) fn crashed(&self, what: &'static str, panic: &str) {
        counter!(names::WORKER_CRASHES).increment(1);
        if self.shared.node.crashes.crashed(self.now) {
            tracing::error!(panic, "{what}");
        }
    }

    /// Goes on after a panic outside of what belongs to one socket: what it cut short is a part of one turn, and every socket is looked at
    /// again in the next.
    fn recover(&mut self, panic: &str) {
        self.crashed("a turn of a worker crashed, it goes on with the next", panic);
        self.sockets.recover();
        // What was gathered for a topic and not handed out is lost with the turn; its place is another's in the next.
        self.topics.forget_bursts();
        self.actions.clear();
        self.batch.clear();
    }
}
