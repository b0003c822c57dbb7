//! What other threads see of a worker: its inbox, its commands and its bell.

use std::{
    collections::VecDeque,
    fmt,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tickwire_pubsub::{Broadcast, CrashBudget, Pressure, PubSub, Sink, SinkId};
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
};
use tokio_util::task::TaskTracker;

use super::{
    link::Link,
    poll::{PollId, PollRequest},
};
use crate::{
    channel::{Joined, Refusal},
    close::CloseReason,
    handle::{ChannelCommand, ChannelHandle},
    lag::LagHistogram,
    router::Router,
    socket::SocketInfo,
};

/// Wakes a worker that sleeps, and costs next to nothing when it does not.
pub(super) struct Bell {
    waker: mio::Waker,
    rung: AtomicBool,
}

impl Bell {
    pub(super) fn new(waker: mio::Waker) -> Self {
        Self { waker, rung: AtomicBool::new(false) }
    }

    fn ring(&self) {
        // Whoever rings first pays for the system call; the worker hushes the bell before it looks at what is there.
        if !self.rung.swap(true, Ordering::AcqRel) && self.waker.wake().is_err() {
            self.rung.store(false, Ordering::Release);
        }
    }

    pub(super) fn hush(&self) {
        // A swap and not a store: it makes the worker see what was there when someone found the bell rung and did not ring.
        self.rung.swap(false, Ordering::AcqRel);
    }

    /// Keeps it from ringing until it is hushed.
    pub(super) fn mute(&self) {
        self.rung.store(true, Ordering::Release);
    }
}

/// The messages that wait for a worker. When there are more than its capacity, the node admits no new ones.
pub(super) struct Inbox {
    bell: Arc<Bell>,
    waiting: Mutex<Waiting>,
    pressure: Arc<Pressure>,
    capacity: usize,
    depth: Gauge,
}

#[derive(Default)]
struct Waiting {
    messages: Vec<Arc<Broadcast>>,
    since: Option<Instant>,
    pressing: bool,
}

impl Inbox {
    pub(super) fn new(bell: Arc<Bell>, pressure: Arc<Pressure>, capacity: usize, depth: Gauge) -> Self {
        Self { bell, waiting: Mutex::default(), pressure, capacity, depth }
    }

    /// Takes all that waits into `batch`, which must be empty; returns since when the oldest of them has been waiting.
    pub(super) fn take(&self, batch: &mut Vec<Arc<Broadcast>>) -> Option<Instant> {
        let mut waiting = self.waiting.lock();
        std::mem::swap(&mut waiting.messages, batch);
        self.depth.decrement(batch.len() as f64);
        if std::mem::take(&mut waiting.pressing) {
            self.pressure.release();
        }
        waiting.since.take()
    }
}

impl Sink for Inbox {
    fn deliver(&self, batch: &[Arc<Broadcast>]) {
        {
            let mut waiting = self.waiting.lock();
            if waiting.messages.is_empty() {
                waiting.since = Some(Instant::now());
            }
            waiting.messages.extend_from_slice(batch);
            self.depth.increment(batch.len() as f64);
            if waiting.messages.len() >= self.capacity && !waiting.pressing {
                waiting.pressing = true;
                self.pressure.raise();
            }
        }
        self.bell.ring();
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// Panics outside of any channel and connection that a node may have within ten minutes and still be trusted with new clients.
const CRASHES_MAX: u32 = 100;

/// Room for commands that is kept once a burst is over.
const COMMANDS_KEPT: usize = 4_096;

/// What a worker is told to do.
pub(crate) enum Command {
    Adopt(Box<Adoption>),
    Channel(ChannelHandle, ChannelCommand),
    JoinDone(ChannelHandle, JoinOutcome),
    CloseWhere(Arc<dyn Fn(&SocketInfo) -> bool + Send + Sync>, CloseReason),
    Route(Arc<Router>),
    Poll(PollId, PollRequest),
    Drain(Duration),
    Exit,
}

/// How a join ended.
pub(crate) type JoinOutcome = Result<Joined, JoinFailure>;

/// Why it failed.
pub(crate) enum JoinFailure {
    Refused(Refusal),
    Crashed(String),
    Timeout,
    /// More joins than the node takes per second, or this client may make; which, as a label.
    Busy(&'static str),
}

/// A connection whose upgrade is done.
pub(crate) struct Adoption {
    pub(crate) link: Link,
    pub(crate) info: Arc<SocketInfo>,
    pub(crate) leftover: Bytes,
}

/// Requests of long polling that may wait for one worker; more wait for their turn before they are queued.
pub(super) const REQUESTS_MAX: usize = 1_024;

/// A place among the requests of long polling that wait for a worker.
pub(crate) struct RequestPermit {
    _place: OwnedSemaphorePermit,
    depth: Gauge,
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.depth.decrement(1.0);
    }
}

/// A worker as other threads see it.
pub(crate) struct Shared {
    bell: Arc<Bell>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) sink: SinkId,
    pubsub: PubSub,
    /// `None` once the worker has ended: nobody would take them any more.
    commands: Mutex<Option<Vec<Command>>>,
    /// Connections that are open here or on their way.
    pub(super) connections: AtomicUsize,
    /// Connections that are on their way.
    pub(super) adopting: AtomicUsize,
    pub(super) joins: AtomicUsize,
    requests: Arc<Semaphore>,
    pub(super) runtime: Handle,
    pub(super) tasks: TaskTracker,
    pub(super) node: Arc<Node>,
}

/// What the workers of a node have in common.
pub(crate) struct Node {
    pub(super) next_channel: AtomicU64,
    pub(super) lag: LagHistogram,
    pub(super) draining: AtomicBool,
    /// Rung when a worker's last connection ends.
    pub(super) empty: Notify,
    /// How many joins per second there may be, and until when those so far have used that up.
    pub(super) joins_per_second: Option<NonZeroU32>,
    pub(super) joins_until: Mutex<Instant>,
    /// Panics outside of any channel and connection.
    pub(super) crashes: CrashBudget,
}

impl Node {
    pub(super) fn new(joins_per_second: Option<NonZeroU32>) -> Self {
        Self {
            next_channel: AtomicU64::new(1),
            lag: LagHistogram::default(),
            draining: AtomicBool::new(false),
            empty: Notify::new(),
            joins_per_second,
            joins_until: Mutex::new(Instant::now()),
            crashes: CrashBudget::new(CRASHES_MAX),
        }
    }

    /// Whether one more join may be begun, by the generic cell rate algorithm with a second's worth as burst.
    pub(super) fn admits_join(&self, now: Instant) -> bool {
        const BURST: Duration = Duration::from_secs(1);
        let Some(rate) = self.joins_per_second else { return true };
        let mut until = self.joins_until.lock();
        let next = (*until).max(now) + BURST / rate.get();
        if next > now + BURST {
            return false;
        }
        *until = next;
        true
    }
}

impl Shared {
    pub(super) fn new(
        bell: Arc<Bell>,
        inbox: Arc<Inbox>,
        pubsub: PubSub,
        runtime: Handle,
        tasks: TaskTracker,
        node: Arc<Node>,
    ) -> Self {
        let sink = pubsub.attach(Arc::clone(&inbox) as Arc<dyn Sink>);
        Self {
            bell,
            inbox,
            sink,
            pubsub,
            commands: Mutex::new(Some(Vec::new())),
            connections: AtomicUsize::new(0),
            adopting: AtomicUsize::new(0),
            joins: AtomicUsize::new(0),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            runtime,
            tasks,
            node,
        }
    }

    pub(crate) fn pubsub(&self) -> &PubSub {
        &self.pubsub
    }

    /// Queues a command. Each kind of them has a bound where it comes from: adoptions `adopting_max`, channels and joins their own.
    /// `false`: the worker has ended and nobody will obey it.
    pub(crate) fn command(&self, command: Command) -> bool {
        let queued = self.queue(command);
        if queued {
            self.ring();
        }
        queued
    }

    /// The same without waking the worker, which is to be [rung](Self::ring) for soon.
    pub(super) fn queue(&self, command: Command) -> bool {
        match self.commands.lock().as_mut() {
            Some(commands) => commands.push(command),
            None => return false,
        }
        true
    }

    /// Wakes the worker.
    pub(super) fn ring(&self) {
        self.bell.ring();
    }

    /// Waits for a place among the requests of long polling. May be dropped while it waits. `None` once the worker has ended.
    pub(super) async fn request_permit(&self) -> Option<RequestPermit> {
        let place = Arc::clone(&self.requests).acquire_owned().await.ok()?;
        let depth = gauge!(tickwire_pubsub::metrics::QUEUE_DEPTH, "queue" => "polls");
        depth.increment(1.0);
        Some(RequestPermit { _place: place, depth })
    }

    /// Whether the worker takes commands.
    pub(super) fn is_running(&self) -> bool {
        self.commands.lock().is_some()
    }

    /// Appends what waits.
    pub(super) fn take_commands(&self, into: &mut VecDeque<Command>) {
        let mut commands = self.commands.lock();
        let Some(commands) = commands.as_mut() else { return };
        into.extend(commands.drain(..));
        if commands.capacity() > COMMANDS_KEPT {
            commands.shrink_to(COMMANDS_KEPT);
        }
    }

    /// Takes what waits, and no more commands.
    pub(super) fn refuse_commands(&self) -> Vec<Command> {
        self.requests.close();
        self.commands.lock().take().unwrap_or_default()
    }

    pub(super) fn hush(&self) {
        self.bell.hush();
    }

    /// Nobody wakes the worker any more, which will look by itself.
    pub(super) fn mute(&self) {
        self.bell.mute();
    }
}

#[cfg(test)]
mod tests {
    use tickwire_pubsub::{LoneNode, NodeId};

    use super::*;

    /// A connection that waits for a worker that is no more would be counted, and waited for, until the node ends.
    #[tokio::test]
    async fn a_worker_that_has_ended_takes_no_commands() {
        let poll = mio::Poll::new().unwrap();
        let bell = Arc::new(Bell::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap()));
        let pubsub = PubSub::new(Arc::new(LoneNode::new(NodeId::new("a", 1))));
        let inbox = Arc::new(Inbox::new(Arc::clone(&bell), pubsub.pressure(), 8, Gauge::noop()));
        let shared = Shared::new(bell, inbox, pubsub, Handle::current(), TaskTracker::new(), Arc::new(Node::new(None)));
        assert!(shared.is_running() && shared.command(Command::Exit));
        assert_eq!(shared.refuse_commands().len(), 1);
        assert!(!shared.is_running() && !shared.command(Command::Exit));
    }
}
