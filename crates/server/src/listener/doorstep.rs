//! The loop that accepts connections, and those that have not said anything yet.
//!
//! A herd that comes back must find room: what the kernel's queue holds is taken out of it at once, however slowly it is greeted then. A
//! connection that waits here is a descriptor and a few words of memory; it gets a task, if at all, once its first bytes are there.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ::metrics::{Gauge, gauge};
use bytes::Bytes;
use futures_util::{FutureExt as _, future::poll_immediate};
use mio::{Events, Token};
use slab::Slab;
use tickwire_channels::{Adopting, Transport};
use tickwire_faults::{Unit, point};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::TcpStream,
};

use super::{Connection, Port, greet, pulse::Cut, refuse, replay::Replay, serve::Server};
use crate::{
    admission::Via,
    app::Node,
    http::{Decided, Greeting, adopt_into},
    lifecycle::Tasks,
    metrics::{self, Counted},
    telemetry::Throttle,
};

/// The listener's place among the tokens.
const LISTENER: Token = Token(usize::MAX);

/// Connections that are accepted, and greeted, before others have their turn on the runtime's thread. While the kernel's queue has more, few
/// are greeted: whom it has no room for comes back after a second at the earliest.
const ACCEPTS_PER_TURN: usize = 256;
const GREETINGS_PER_TURN: usize = 32;
const GREETINGS_BESIDE: usize = 8;

/// Who has to wait for the rate of greetings waits so long, with all who come meanwhile: a wake-up for each would cost more than they do.
const PACE_PAUSE: Duration = Duration::from_millis(5);

/// The first piece that is read from a connection. Whose request is longer has it read by the HTTP server.
const READ_BYTES: usize = 8 * 1024;

/// The connections of a port that have not said anything yet, and where they come from.
#[derive(Debug)]
pub(crate) struct Doorstep {
    listener: mio::net::TcpListener,
    poll: mio::Poll,
    /// Tells the runtime when the poll has something to tell.
    told: AsyncFd<mio::Registry>,
    events: Events,
    /// Just accepted, not looked at yet.
    fresh: VecDeque<Caller>,
    /// Those of which the poll tells when they say something.
    silent: Slab<Silent>,
    /// The keys of those that have.
    heard: VecDeque<usize>,
    /// There may be more in the kernel's queue.
    acceptable: bool,
    /// None is accepted before.
    accept_at: Instant,
    /// None is greeted before.
    greet_at: Instant,
    /// When those that are silent are looked through again.
    sweep_at: Instant,
    buffer: Vec<u8>,
    open: Gauge,
    server: Arc<Server>,
    tasks: Tasks,
}

/// A connection that has not said anything yet.
#[derive(Debug)]
struct Caller {
    stream: mio::net::TcpStream,
    connection: Connection,
    since: Instant,
    counted: Counted,
}

#[derive(Debug)]
struct Silent {
    caller: Caller,
    heard: bool,
}

impl Doorstep {
    pub(super) fn new(port: &Port, tasks: &Tasks) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let mut listener = mio::net::TcpListener::from_std(port.listener.try_clone()?);
        poll.registry().register(&mut listener, LISTENER, mio::Interest::READABLE)?;
        let now = Instant::now();
        Ok(Self {
            listener,
            told: watch(poll.registry().try_clone()?)?,
            poll,
            events: Events::with_capacity(256),
            fresh: VecDeque::new(),
            silent: Slab::new(),
            heard: VecDeque::new(),
            acceptable: true,
            accept_at: now,
            greet_at: now,
            sweep_at: now,
            buffer: vec![0; READ_BYTES],
            open: gauge!(metrics::OPEN, "port" => port.name),
            server: Arc::new(Server::new(port, tasks)),
            tasks: tasks.clone(),
        })
    }

    /// Accepts and greets until the branch is cancelled. What waits here then is closed without a word.
    pub(super) async fn run(&mut self, port: &Port) {
        let cancelled = self.tasks.cancelled().clone();
        loop {
            let waited = tokio::select! {
                biased;
                () = cancelled.cancelled() => return,
                waited = self.wait() => waited,
            };
            if let Err(error) = waited {
                tracing::error!(port = port.name, %error, "connections cannot be polled");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            let now = Instant::now();
            self.accept(port, now);
            self.greet(port, now);
            self.sweep(now);
        }
    }

    /// Waits until there is something to do, and takes note of what the poll says.
    async fn wait(&mut self) -> io::Result<()> {
        let to_greet = !self.fresh.is_empty() || !self.heard.is_empty();
        if to_greet && self.greet_at > Instant::now() {
            // At the full rate whatever comes meanwhile has to wait as well, the kernel's queue has room for so long.
            tokio::time::sleep_until(self.greet_at.into()).await;
        }
        let (to_accept, to_sweep) = (self.acceptable, !self.silent.is_empty());
        let due = [(to_greet, self.greet_at), (to_accept, self.accept_at), (to_sweep, self.sweep_at)];
        let due = due.into_iter().filter_map(|(is_due, at)| is_due.then_some(at)).min();
        match due {
            None => self.listen().await,
            Some(at) if at > Instant::now() => match tokio::time::timeout_at(at.into(), self.listen()).await {
                Ok(listened) => listened,
                Err(_) => Ok(()),
            },
            Some(_) => {
                // Others have their turn; what has come meanwhile is taken along.
                tokio::task::yield_now().await;
                self.listen().now_or_never().unwrap_or(Ok(()))
            }
        }
    }

    /// Waits for the poll.
    async fn listen(&mut self) -> io::Result<()> {
        let mut ready = self.told.readable().await?;
        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        let mut count = 0;
        for event in &self.events {
            count += 1;
            if event.token() == LISTENER {
                self.acceptable = true;
            } else if let Some(silent) = self.silent.get_mut(event.token().0)
                && !std::mem::replace(&mut silent.heard, true)
            {
                self.heard.push_back(event.token().0);
            }
        }
        if count < self.events.capacity() {
            ready.clear_ready();
        }
        Ok(())
    }

    /// Takes out of the kernel's queue what there is.
    fn accept(&mut self, port: &Port, now: Instant) {
        if !self.acceptable || self.accept_at > now {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, peer)) => self.admit(port, stream, peer, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.acceptable = false;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if let Some(pause) = accept_failed(port.name, &error) {
                        self.accept_at = now + pause;
                        return;
                    }
                }
            }
            if self.accept_at > now {
                return;
            }
        }
    }

    /// Gives a connection its place, or turns it away.
    fn admit(&mut self, port: &Port, stream: mio::net::TcpStream, peer: SocketAddr, now: Instant) {
        point(Unit::Accept, || port.name);
        let connection = match &port.door {
            None => Connection { peer, via: Via::Direct, permit: None, address: None },
            Some(door) => match door.connect(peer, now) {
                Ok(connection) => connection,
                Err(refused) => {
                    // Turning away is work, too: those that are turned away come in at no higher rate than others.
                    let wait = door.pace(now);
                    self.accept_at = if wait.is_zero() { now } else { now + wait.max(PACE_PAUSE) };
                    if let Ok(stream) = TcpStream::from_std(stream.into()) {
                        refuse::connection(port, door, stream, peer, refused, &self.tasks);
                    }
                    return;
                }
            },
        };
        let counted = Counted::of(&self.open);
        self.fresh.push_back(Caller { stream, connection, since: now, counted });
    }

    /// Listens to those that have just come or have said something, at the rate at which connections may come in.
    fn greet(&mut self, port: &Port, now: Instant) {
        let mut adopting = port.sockets.as_ref().map(|node| node.workers.adopting());
        for _ in 0..if self.acceptable { GREETINGS_BESIDE } else { GREETINGS_PER_TURN } {
            if self.greet_at > now {
                return;
            }
            let caller = match self.heard.pop_front() {
                Some(key) => self.take_silent(key),
                None => {
                    let Some(caller) = self.fresh.pop_front() else { return };
                    if let Some(door) = &port.door {
                        let wait = door.pace(now);
                        self.greet_at = if wait.is_zero() { now } else { now + wait.max(PACE_PAUSE) };
                    }
                    caller
                }
            };
            if let Some(caller) = self.hear(port, adopting.as_mut(), caller) {
                self.keep_silent(caller);
            }
        }
    }

    /// Hears what a connection says first, and hands it on. One that says nothing yet is given back.
    fn hear(&mut self, port: &Port, adopting: Option<&mut Adopting<'_>>, mut caller: Caller) -> Option<Caller> {
        let (Some(node), Some(adopting)) = (&port.sockets, adopting) else {
            return self.overhear(caller);
        };
        let read = match caller.stream.read(&mut self.buffer) {
            // It left without a word, as probes of load balancers do.
            Ok(0) => return None,
            Ok(read) => read,
            Err(error) if is_transient(&error) => return Some(caller),
            Err(_) => return None,
        };
        let bytes = &self.buffer[..read];
        match greet::greet(node, bytes, &caller.connection) {
            None => self.hand_on(caller, Bytes::copy_from_slice(bytes), None),
            Some((greeting, end)) => self.answer(node, adopting, caller, read, greeting, end),
        }
        None
    }

    /// Hands a connection on whose first bytes others are to read, once there are any.
    fn overhear(&self, caller: Caller) -> Option<Caller> {
        match caller.stream.peek(&mut [0]) {
            Err(error) if is_transient(&error) => return Some(caller),
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        let Caller { stream, connection, since, counted } = caller;
        let server = Arc::clone(&self.server);
        self.tasks.spawn("connection", async move {
            let _counted = counted;
            if let Ok(stream) = TcpStream::from_std(stream.into()) {
                server.serve(stream, connection, since.into()).await;
            }
        });
        None
    }

    /// Has a connection served by the HTTP server, which has the answer to its first request already if there is one.
    fn hand_on(&self, caller: Caller, read: Bytes, answer: Option<axum::response::Response>) {
        let server = Arc::clone(&self.server);
        self.tasks.spawn("connection", serve_read(server, caller, read, answer));
    }

    /// Answers a request for a socket.
    fn answer(
        &self,
        node: &Arc<Node>,
        adopting: &mut Adopting<'_>,
        caller: Caller,
        read: usize,
        greeting: Greeting,
        end: usize,
    ) {
        let Greeting { mut decision, is_costly } = greeting;
        let bytes = &self.buffer[..read];
        // What takes longer than a moment must not keep the others waiting.
        let decided = if is_costly { None } else { poll_immediate(&mut decision).now_or_never().flatten() };
        match decided {
            Some(Decided { response, socket: Some(info) }) => {
                let leftover = Bytes::copy_from_slice(&bytes[end..]);
                switch(caller, &response, info, leftover, adopting);
            }
            Some(Decided { response, socket: None }) => {
                self.hand_on(caller, Bytes::copy_from_slice(bytes), Some(response));
            }
            None => {
                let (read, node, server) = (Bytes::copy_from_slice(bytes), Arc::clone(node), Arc::clone(&self.server));
                let ending = self.tasks.cancelled().clone();
                self.tasks.spawn("connection", async move {
                    let Some(decided) = ending.run_until_cancelled(decision).await else { return };
                    let Decided { response, socket } = decided;
                    match socket {
                        Some(info) => {
                            let leftover = Bytes::copy_from_slice(&read[end..]);
                            switch(caller, &response, info, leftover, &mut node.workers.adopting());
                        }
                        None => serve_read(server, caller, read, Some(response)).await,
                    }
                });
            }
        }
    }

    /// Has the poll tell when a connection says something.
    fn keep_silent(&mut self, mut caller: Caller) {
        let entry = self.silent.vacant_entry();
        let registry = self.poll.registry();
        match registry.register(&mut caller.stream, Token(entry.key()), mio::Interest::READABLE) {
            Ok(()) => drop(entry.insert(Silent { caller, heard: false })),
            Err(error) => tracing::warn!(%error, "a connection cannot be polled and is dropped"),
        }
    }

    fn take_silent(&mut self, key: usize) -> Caller {
        let Silent { mut caller, .. } = self.silent.remove(key);
        // If it fails, it is gone with its descriptor.
        let _ = self.poll.registry().deregister(&mut caller.stream);
        caller
    }

    /// Cuts those that have been silent for too long.
    fn sweep(&mut self, now: Instant) {
        if self.silent.is_empty() || self.sweep_at > now {
            return;
        }
        let patience = self.server.patience();
        self.sweep_at = now + patience / 4;
        // What has come is read before it is asked whether it came in time: a node that is behind must not blame its clients.
        let is_late = |silent: &Silent| !silent.heard && silent.caller.since + patience <= now;
        let late: Vec<_> = self.silent.iter().filter(|(_, silent)| is_late(silent)).map(|(key, _)| key).collect();
        for key in late {
            let caller = self.take_silent(key);
            self.server.cut(Cut::Head, caller.connection.peer);
        }
    }
}

/// Has the runtime watch a poll.
#[expect(
    deprecated,
    reason = "what replaces it is unsafe; what it warns of is a descriptor that changes, which a poll's never does"
)]
fn watch(poll: mio::Registry) -> io::Result<AsyncFd<mio::Registry>> {
    AsyncFd::with_interest(poll, Interest::READABLE)
}

async fn serve_read(server: Arc<Server>, caller: Caller, read: Bytes, answer: Option<axum::response::Response>) {
    let Caller { stream, connection, since, counted } = caller;
    let _counted = counted;
    let (Ok(stream), Some(first)) = (TcpStream::from_std(stream.into()), read.first().copied()) else { return };
    server.serve_plain(first, Replay::new(read, stream), connection, since.into(), answer).await;
}

/// Turns a connection into a socket.
fn switch(
    mut caller: Caller,
    answer: &axum::response::Response,
    info: Arc<tickwire_channels::SocketInfo>,
    leftover: Bytes,
    adopting: &mut Adopting<'_>,
) {
    let head = greet::write_head(answer);
    // Nothing has been written yet, so that there is room for all of it.
    match caller.stream.write(&head) {
        Ok(written) if written == head.len() => {
            adopt_into(adopting, Transport::Prepared(caller.stream.into()), info, leftover);
        }
        outcome => tracing::debug!(?outcome, "a connection was lost while it was upgraded"),
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The process is out of file descriptors, or a client was gone before we came: neither may end the loop, the first must not spin it.
fn accept_failed(port: &'static str, error: &io::Error) -> Option<Duration> {
    static FAILED: Throttle = Throttle::new(Duration::from_secs(1));
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return None;
    }
    metrics::refused("accept_error");
    if let Some(held_back) = FAILED.pass(Instant::now()) {
        tracing::error!(port, %error, held_back, "cannot accept connections; is the limit of open files too low?");
    }
    Some(ACCEPT_PAUSE)
}
