//! The sockets of a worker: what is written to them, and when.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use slab::Slab;
use tickwire_faults::{Unit, point};
use tickwire_pubsub::Broadcast;

use super::{
    link::Link,
    timers::{Timer, Timers, Why},
    topics::Subscriber,
};
use crate::{
    channel::{Channel, guarded},
    close::CloseReason,
    handle::{ChannelCommand, ChannelHandle},
    outbox::{BurstId, Bursts, Offer, Outbox, Tally},
    serializer::Encoded,
    session::Session,
    socket::SocketInfo,
    websocket::Decoder,
};

/// How long a client has to take the close frame and close its side; while it goes on taking what was queued before the frame, again this long.
pub(super) const LINGER: Duration = Duration::from_secs(3);

/// One connection with all that belongs to it.
pub(super) struct Socket {
    /// Unique in this worker.
    pub(super) id: u64,
    pub(super) link: Link,
    pub(super) info: Arc<SocketInfo>,
    pub(super) decoder: Decoder,
    pub(super) session: Session,
    pub(super) outbox: Outbox,
    /// By slot of the session.
    pub(super) channels: Vec<Option<Running>>,
    pub(super) state: State,
    /// When the client last sent something.
    pub(super) heard_at: Instant,
    /// When the credential of its owner ends.
    pub(super) expires_at: Option<Instant>,
    /// When the one timer of its life fires.
    pub(super) life_at: Option<Instant>,
    /// When the client will have used up what it may send, if it goes on at its full rate.
    pub(super) quota_at: Instant,
    /// Since when the kernel has taken none of what waits.
    pub(super) blocked_since: Option<Instant>,
    write_timer: bool,
    dirty: bool,
    ready: bool,
    /// The peer has closed its side: what is left to be read ends with it.
    pub(super) read_closed: bool,
    /// The client has sent its close frame: once it is answered, nothing is left to wait for.
    pub(super) client_closed: bool,
    /// It is not read from until it has taken what it asked for before.
    paused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// To be closed before this turn ends.
    Doomed,
    /// The close frame is on its way.
    Closing,
    /// Our side is closed, the client's not yet.
    Lingering,
}

/// A joined topic, or one whose join has not been decided.
pub(super) struct Running {
    pub(super) handle: ChannelHandle,
    /// `None` while the join has not been decided.
    pub(super) channel: Option<Box<dyn Channel>>,
    /// What it was sent from elsewhere before that.
    pub(super) held: Vec<ChannelCommand>,
    /// Its place among the subscribers of its topic.
    pub(super) place: usize,
}

impl Socket {
    pub(super) fn new(id: u64, link: Link, info: Arc<SocketInfo>, now: Instant) -> Self {
        let mut outbox = Outbox::new(info.wire());
        if link.is_poll() {
            // Nobody waits yet.
            outbox.block();
        }
        let expires_at = info.expires_at;
        let decoder = if info.deflate.is_some() { Decoder::with_deflate() } else { Decoder::default() };
        Self {
            id,
            link,
            info,
            decoder,
            session: Session::default(),
            outbox,
            channels: Vec::new(),
            state: State::Open,
            heard_at: now,
            expires_at,
            life_at: None,
            quota_at: now,
            blocked_since: None,
            write_timer: false,
            dirty: false,
            ready: false,
            read_closed: false,
            client_closed: false,
            paused: false,
        }
    }

    pub(super) fn running(&mut self, slot: u32) -> Option<&mut Running> {
        self.channels.get_mut(slot as usize)?.as_mut()
    }

    /// Bytes that may wait behind the frame that is written next. A client of long polling cannot take any answer while it publishes: the
    /// answer to the largest message must fit.
    fn outbox_bytes_max(&self, of_any: usize) -> usize {
        if self.link.is_poll() { of_any + self.info.limits.websocket.message_max } else { of_any }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }
}

pub(super) struct Sockets {
    pub(super) slab: Slab<Box<Socket>>,
    pub(super) timers: Timers,
    /// What this turn has for its topics.
    pub(super) bursts: Bursts,
    pub(super) tally: Tally,
    /// To be closed.
    pub(super) doomed: Vec<(usize, CloseReason)>,
    /// While they were written to, with what the panic said.
    pub(super) crashed: Vec<(usize, String)>,
    /// With something to write.
    dirty: Vec<usize>,
    /// With something to read.
    ready: Vec<usize>,
    outbox_bytes_max: usize,
    write_timeout: Duration,
}

impl Sockets {
    pub(super) fn new(outbox_bytes_max: usize, write_timeout: Duration) -> Self {
        Self {
            slab: Slab::new(),
            timers: Timers::default(),
            bursts: Bursts::default(),
            tally: Tally::default(),
            doomed: Vec::new(),
            crashed: Vec::new(),
            dirty: Vec::new(),
            ready: Vec::new(),
            outbox_bytes_max,
            write_timeout,
        }
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Socket> {
        self.slab.get_mut(key).map(|socket| &mut **socket)
    }

    /// Has a join written a burst before this turn ends, or offers it the messages of the burst one by one.
    pub(super) fn deliver(&mut self, to: Subscriber, burst: BurstId, now: Instant) {
        let Some(socket) = self.slab.get_mut(to.socket) else { return };
        // To a client that polls, every message is one of its own.
        if !socket.link.is_poll() && socket.outbox.owe(to.slot, burst, &mut self.bursts) {
            if !socket.dirty {
                socket.dirty = true;
                self.dirty.push(to.socket);
            }
            return;
        }
        let mut index = 0;
        while let Some((message, number, since)) = self.bursts.message(burst, index) {
            self.offer(to, &message, number, since, now);
            index += 1;
        }
    }

    /// Offers a message to a join.
    pub(super) fn offer(
        &mut self,
        to: Subscriber,
        message: &Arc<Broadcast>,
        number: u64,
        since: Instant,
        now: Instant,
    ) {
        let Some(socket) = self.slab.get_mut(to.socket) else { return };
        let outcome = socket.outbox.offer(to.slot, message, number, since, now);
        self.offered(to, outcome);
    }

    /// Sees to what came of an offer.
    pub(super) fn offered(&mut self, to: Subscriber, outcome: Offer) {
        match outcome {
            Offer::Taken => self.queued(to.socket),
            Offer::Due(at) => self.set_timer(to.socket, at, Why::Rate(to.slot)),
            Offer::Overflow => self.doom(to.socket, CloseReason::SlowConsumer),
        }
    }

    /// Queues a message.
    pub(super) fn push(&mut self, key: usize, message: Encoded) {
        let Some(socket) = self.slab.get_mut(key) else { return };
        socket.outbox.push_message(message);
        self.queued(key);
    }

    /// Takes note that something was queued: it is written at the end of the turn, or when the socket takes bytes again.
    pub(super) fn queued(&mut self, key: usize) {
        let Some(socket) = self.slab.get_mut(key) else { return };
        if socket.outbox.bytes_behind() > socket.outbox_bytes_max(self.outbox_bytes_max) {
            return self.relieve(key);
        }
        if !socket.dirty && !socket.outbox.is_empty() && !socket.outbox.is_blocked() {
            socket.dirty = true;
            self.dirty.push(key);
        }
    }

    /// Makes room in an outbox that is over its bound, or gives the socket up.
    fn relieve(&mut self, key: usize) {
        let Some(socket) = self.slab.get_mut(key) else { return };
        if socket.state != State::Open {
            return;
        }
        if !socket.outbox.is_blocked() {
            self.write(key);
        }
        let Some(socket) = self.slab.get_mut(key) else { return };
        let max = socket.outbox_bytes_max(self.outbox_bytes_max);
        if socket.outbox.bytes_behind() > max {
            socket.outbox.compact();
        }
        if socket.outbox.bytes_behind() > max {
            self.doom(key, CloseReason::SlowConsumer);
        }
    }

    /// Has a socket closed before the turn ends, unless it is already.
    pub(super) fn doom(&mut self, key: usize, reason: CloseReason) {
        let Some(socket) = self.slab.get_mut(key) else { return };
        match socket.state {
            State::Open => socket.state = State::Doomed,
            State::Doomed => return,
            // Its close frame will not arrive any more.
            State::Closing | State::Lingering if reason.code().is_none() => {}
            State::Closing | State::Lingering => return,
        }
        self.doomed.push((key, reason));
    }

    /// Has a socket written to whose link takes bytes again.
    pub(super) fn writable(&mut self, key: usize) {
        let Some(socket) = self.slab.get_mut(key) else { return };
        if !socket.dirty {
            socket.dirty = true;
            self.dirty.push(key);
        }
    }

    /// Takes note of what the poll says about a socket.
    pub(super) fn event(&mut self, event: &mio::event::Event) {
        let key = event.token().0;
        let Some(socket) = self.slab.get_mut(key) else { return };
        socket.read_closed |= event.is_read_closed() || event.is_error();
        let readable = event.is_readable() || socket.read_closed;
        if event.is_writable() && (socket.outbox.is_blocked() || socket.link.wants_write()) {
            self.writable(key);
        }
        if readable {
            self.mark_ready(key);
        }
    }

    /// Has a socket read from, this turn or the next.
    pub(super) fn mark_ready(&mut self, key: usize) {
        let Some(socket) = self.slab.get_mut(key) else { return };
        if !socket.ready {
            socket.ready = true;
            self.ready.push(key);
        }
    }

    /// The sockets to be read from; to be given back empty.
    pub(super) fn take_ready(&mut self) -> Vec<usize> {
        let ready = std::mem::take(&mut self.ready);
        for key in &ready {
            if let Some(socket) = self.slab.get_mut(*key) {
                socket.ready = false;
            }
        }
        ready
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether something was queued since all was written, as the frames of those sockets are that were closed after it.
    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether a socket may be read from now. One that does not take its replies is not: it could ask for any number of them.
    pub(super) fn may_read(&mut self, key: usize) -> bool {
        let Some(socket) = self.slab.get_mut(key) else { return false };
        socket.paused =
            socket.is_open() && socket.outbox.is_blocked() && socket.outbox.bytes() > self.outbox_bytes_max / 2;
        !socket.paused && socket.state != State::Doomed
    }

    /// Forgets a join of a socket.
    pub(super) fn close_slot(&mut self, key: usize, slot: u32) {
        if let Some(socket) = self.slab.get_mut(key) {
            socket.outbox.close(slot, &self.bursts);
        }
    }

    /// Writes all that is owed, each socket once.
    pub(super) fn write_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            if let Err(panic) = guarded(|| self.write(key)) {
                self.crashed.push((key, panic));
            }
        }
        // Closing may have queued more meanwhile.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
        self.bursts.end(&mut self.tally);
    }

    pub(super) fn write(&mut self, key: usize) {
        let Some(socket) = self.slab.get_mut(key) else { return };
        socket.dirty = false;
        point(Unit::Write, || socket.info.peer);
        let Ok(progress) = socket.outbox.write(&mut socket.link, &mut self.bursts, &mut self.tally) else {
            return self.doom(key, CloseReason::ConnectionLost);
        };
        let progress = socket.link.took() || progress;
        if socket.link.settle() {
            socket.outbox.block();
        }
        if socket.outbox.is_blocked() {
            return self.blocked(key, progress);
        }
        socket.blocked_since = None;
        let paused = std::mem::take(&mut socket.paused);
        if socket.state == State::Closing {
            socket.state = State::Lingering;
            socket.link.finish();
            if socket.client_closed {
                self.doom(key, CloseReason::ConnectionLost);
            }
        }
        if paused {
            self.mark_ready(key);
        }
    }

    /// Takes note that the kernel refuses bytes: each time that it took some, the client has its full time again. A client without a
    /// connection has until its session is looked at for polls.
    fn blocked(&mut self, key: usize, progress: bool) {
        let Some(socket) = self.slab.get_mut(key).filter(|socket| !socket.link.is_poll()) else { return };
        if progress || socket.blocked_since.is_none() {
            let now = Instant::now();
            socket.blocked_since = Some(now);
            if !socket.write_timer {
                socket.write_timer = true;
                self.set_timer(key, now + self.write_timeout, Why::Write);
            }
        }
        // It is heard again once it has taken enough, not only when it has taken all: its pings and heartbeats are behind what it asked for,
        // and a client that is always a little behind would not be heard at all.
        if let Some(socket) = self.slab.get_mut(key).filter(|socket| socket.paused)
            && socket.outbox.bytes() <= self.outbox_bytes_max / 2
        {
            socket.paused = false;
            self.mark_ready(key);
        }
    }

    /// Looks whether a socket has taken nothing for too long.
    pub(super) fn check_write(&mut self, key: usize, now: Instant) {
        let Some(socket) = self.slab.get_mut(key) else { return };
        socket.write_timer = false;
        let Some(since) = socket.blocked_since else { return };
        if since + self.write_timeout <= now {
            return self.doom(key, CloseReason::WriteTimeout);
        }
        socket.write_timer = true;
        self.set_timer(key, since + self.write_timeout, Why::Write);
    }

    /// Begins to close a socket: nothing but the close frame follows what is queued.
    pub(super) fn begin_close(&mut self, key: usize, frame: Bytes, now: Instant) {
        let Some(socket) = self.slab.get_mut(key) else { return };
        socket.state = State::Closing;
        socket.outbox.push(frame);
        if !socket.dirty {
            socket.dirty = true;
            self.dirty.push(key);
        }
        let until = now + LINGER.max(self.write_timeout);
        self.set_timer(key, now + LINGER, Why::Linger { until });
    }

    /// Has it looked at by this time whether a socket may live on. There is one timer for that: one that fires earlier does as well.
    pub(super) fn arm_life(&mut self, key: usize, at: Instant) {
        let Some(socket) = self.get_mut(key) else { return };
        if socket.life_at.is_none_or(|armed| at < armed) {
            socket.life_at = Some(at);
            self.set_timer(key, at, Why::Life);
        }
    }

    pub(super) fn set_timer(&mut self, key: usize, at: Instant, why: Why) {
        if let Some(socket) = self.slab.get(key) {
            self.timers.push(Timer { at, socket: key, id: socket.id, why });
        }
    }

    /// Puts the lists right after a panic has left some of their sockets out.
    pub(super) fn recover(&mut self) {
        (self.dirty, self.ready, self.doomed) = (Vec::new(), Vec::new(), Vec::new());
        for (key, socket) in &mut self.slab {
            if socket.state == State::Doomed {
                self.doomed.push((key, CloseReason::InternalError));
            }
            (socket.dirty, socket.ready) = (true, true);
            self.dirty.push(key);
            self.ready.push(key);
        }
    }
}
