//! The workers: threads that own sockets.
//!
//! A worker is one thread with one `mio` poll. It owns its sockets with all that belongs to them: their decoder, their session, their channels
//! and their outbox, so that nothing of it needs a lock. Each turn it drains what is pending (its inbox, commands, readable sockets,
//! timers), which appends to outboxes, and then writes each dirty socket once: at once when there is little to do, in batches under load.
//! Other threads reach it through its inbox (as a [`Sink`](tickwire_pubsub::Sink) of the node's pubsub) and through commands.

mod channels;
mod closing;
mod config;
mod deliver;
mod joins;
mod link;
mod pace;
mod poll;
mod polling;
mod read;
mod renewal;
mod run;
mod shared;
mod sockets;
mod timers;
mod tls;
mod topics;
mod transport;

use std::{
    fmt,
    io::{self, Write as _},
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use metrics::gauge;
use parking_lot::Mutex;
use tickwire_pubsub::PubSub;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

pub(crate) use self::shared::{Command, JoinFailure, JoinOutcome, Shared};
pub use self::{
    config::{JoinLimit, WorkersConfig},
    poll::{PollAnswer, PollId, PollMessage, PublishAnswer},
    transport::Transport,
};
use self::{
    link::Link,
    run::Worker,
    shared::{Adoption, Bell, Inbox, Node},
};
use crate::{close::CloseReason, lag::LagSnapshot, router::Router, socket::SocketInfo, websocket::close_frame};

/// The workers of a node. Cloning is cheap; all clones are one. [`shutdown`](Self::shutdown) ends them.
#[derive(Clone)]
pub struct Workers(Arc<Inner>);

struct Inner {
    workers: Vec<Arc<Shared>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    node: Arc<Node>,
    adopting_max: usize,
}

/// Why a connection is not adopted. It is closed by dropping it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// As many as allowed wait for a worker already.
    #[error("too many connections wait for a worker")]
    Busy,
    /// The node is being drained.
    #[error("the node is draining")]
    Draining,
    /// The socket cannot be made non-blocking.
    #[error("the connection is broken")]
    Broken,
}

impl Workers {
    /// Starts the threads. Futures of joins and deferred answers run on `runtime`, tracked by `tasks`.
    ///
    /// # Errors
    /// If the system has no thread, poll or waker left to give.
    pub fn start(
        config: WorkersConfig,
        router: Router,
        pubsub: &PubSub,
        runtime: &Handle,
        tasks: &TaskTracker,
    ) -> io::Result<Self> {
        let node = Arc::new(Node::new(config.joins_per_second));
        let config = Arc::new(config);
        let router = Arc::new(router);
        let count = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let (mut workers, mut threads) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let depth = gauge!(tickwire_pubsub::metrics::QUEUE_DEPTH, "queue" => "worker_inbox");
        // The depth is the sum over all workers, and so is the capacity.
        let capacity = config.inbox_capacity.saturating_mul(count);
        gauge!(tickwire_pubsub::metrics::QUEUE_CAPACITY, "queue" => "worker_inbox").set(capacity as f64);
        let requests = shared::REQUESTS_MAX.saturating_mul(count);
        gauge!(tickwire_pubsub::metrics::QUEUE_CAPACITY, "queue" => "polls").set(requests as f64);
        for index in 0..count {
            let poll = mio::Poll::new()?;
            let bell = Arc::new(Bell::new(mio::Waker::new(poll.registry(), run::WAKER)?));
            let inbox = Inbox::new(Arc::clone(&bell), pubsub.pressure(), config.inbox_capacity, depth.clone());
            let shared =
                Shared::new(bell, Arc::new(inbox), pubsub.clone(), runtime.clone(), tasks.clone(), Arc::clone(&node));
            let shared = Arc::new(shared);
            let worker = Worker::new(poll, Arc::clone(&shared), Arc::clone(&config), Arc::clone(&router));
            let on_start = config.on_thread_start.clone();
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                if let Some(on_start) = on_start {
                    on_start(index);
                }
                worker.run();
            })?;
            workers.push(shared);
            threads.push(thread);
        }
        let inner = Inner { workers, threads: Mutex::new(threads), node, adopting_max: config.adopting_max };
        Ok(Self(Arc::new(inner)))
    }

    /// Hands over a connection whose upgrade is done, to the worker with the fewest. `leftover` is what the client has sent behind its
    /// request.
    ///
    /// # Errors
    /// If it cannot be taken; it is closed then. While the node is drained its client is told so, 1012 `shutdown`.
    pub fn adopt(
        &self,
        transport: impl Into<Transport>,
        info: Arc<SocketInfo>,
        leftover: Bytes,
    ) -> Result<(), AdoptError> {
        self.adopting().adopt(transport, info, leftover)
    }

    /// Hands over several connections, for which each worker is woken once.
    pub fn adopting(&self) -> Adopting<'_> {
        Adopting { workers: self, to_wake: Vec::new() }
    }

    /// Makes a link for the worker with the fewest connections, and gives it to that, which is to be woken then.
    fn hand_over(
        &self,
        info: Arc<SocketInfo>,
        leftover: Bytes,
        link: impl FnOnce(u16, &Arc<Shared>) -> Result<Link, AdoptError>,
    ) -> Result<&Arc<Shared>, AdoptError> {
        let load = |(_, worker): &(u16, &Arc<Shared>)| worker.connections.load(Ordering::Relaxed);
        let running = (0..).zip(&self.0.workers).filter(|(_, worker)| worker.is_running());
        let (index, worker) = running.min_by_key(load).ok_or(AdoptError::Draining)?;
        let max = self.0.adopting_max;
        let more = |waiting| (waiting < max).then_some(waiting + 1);
        worker.adopting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| AdoptError::Busy)?;
        let link = link(index, worker).inspect_err(|_| {
            worker.adopting.fetch_sub(1, Ordering::Relaxed);
        })?;
        worker.connections.fetch_add(1, Ordering::Relaxed);
        if worker.queue(Command::Adopt(Box::new(Adoption { link, info, leftover }))) {
            return Ok(worker);
        }
        // It has ended since it was picked.
        worker.adopting.fetch_sub(1, Ordering::Relaxed);
        worker.connections.fetch_sub(1, Ordering::Relaxed);
        Err(AdoptError::Draining)
    }

    /// How many connections are open or on their way to a worker.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.workers.iter().map(|worker| worker.connections.load(Ordering::Relaxed)).sum()
    }

    /// How many channels are joined.
    #[must_use]
    pub fn joins(&self) -> usize {
        self.0.workers.iter().map(|worker| worker.joins.load(Ordering::Relaxed)).sum()
    }

    /// Closes the sockets that a predicate picks. It is called on the workers' threads, once for every open socket, and must not block.
    pub fn close_where(&self, picks: impl Fn(&SocketInfo) -> bool + Send + Sync + 'static, reason: CloseReason) {
        let picks: Arc<dyn Fn(&SocketInfo) -> bool + Send + Sync> = Arc::new(picks);
        for worker in &self.0.workers {
            worker.command(Command::CloseWhere(Arc::clone(&picks), reason));
        }
    }

    /// Closes all sockets, 1012 `shutdown`, evenly over `spread`, so that their clients do not all come back elsewhere at once; takes no
    /// more. Returns when all are gone. May be dropped while it waits: the draining goes on.
    pub async fn drain(&self, spread: Duration) {
        self.0.node.draining.store(true, Ordering::Relaxed);
        for worker in &self.0.workers {
            worker.command(Command::Drain(spread));
        }
        loop {
            let empty = self.0.node.empty.notified();
            if self.connections() == 0 {
                return;
            }
            empty.await;
        }
    }

    /// Serves joins by other routes from now on. What is joined stays as it is.
    pub fn route(&self, router: Router) {
        let router = Arc::new(router);
        for worker in &self.0.workers {
            worker.command(Command::Route(Arc::clone(&router)));
        }
    }

    /// The lag of all updates so far.
    #[must_use]
    pub fn lag(&self) -> LagSnapshot {
        self.0.node.lag.snapshot()
    }

    /// Whether every worker runs, and none of them fell over so often that it cannot be trusted.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.0.node.crashes.is_exhausted(Instant::now())
            && self.0.threads.lock().iter().all(|thread| !thread.is_finished())
    }

    /// Ends the threads and with them every socket that is still open, without a word to its client: [`drain`](Self::drain) first. Waits for
    /// them, so that it must not be called from one of them.
    pub fn shutdown(&self) {
        self.0.node.draining.store(true, Ordering::Relaxed);
        for worker in &self.0.workers {
            worker.command(Command::Exit);
        }
        for thread in self.0.threads.lock().drain(..) {
            // A worker that panicked has been counted and logged.
            let _ = thread.join();
        }
    }
}

/// Connections on their way to the workers. Dropping it wakes those that got some.
#[must_use = "what it hands over waits until it is dropped"]
pub struct Adopting<'a> {
    workers: &'a Workers,
    to_wake: Vec<Arc<Shared>>,
}

impl Adopting<'_> {
    /// Hands over one connection, as [`Workers::adopt`] does.
    ///
    /// # Errors
    /// Likewise.
    pub fn adopt(
        &mut self,
        transport: impl Into<Transport>,
        info: Arc<SocketInfo>,
        leftover: Bytes,
    ) -> Result<(), AdoptError> {
        let transport = transport.into();
        if self.workers.0.node.draining.load(Ordering::Relaxed) {
            turn_away(transport, CloseReason::Shutdown);
            return Err(AdoptError::Draining);
        }
        let link = |_: u16, _: &Arc<Shared>| transport.into_link().map_err(|_| AdoptError::Broken);
        let worker = self.workers.hand_over(info, leftover, link)?;
        if !self.to_wake.iter().any(|known| Arc::ptr_eq(known, worker)) {
            self.to_wake.push(Arc::clone(worker));
        }
        Ok(())
    }
}

impl fmt::Debug for Adopting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adopting").field("to_wake", &self.to_wake.len()).finish_non_exhaustive()
    }
}

impl Drop for Adopting<'_> {
    fn drop(&mut self) {
        for worker in &self.to_wake {
            worker.ring();
        }
    }
}

/// Closes a connection that no worker takes any more. Nothing was written behind the answer to its upgrade, so that a short frame fits; if
/// it does not, the client learns from the connection's end.
fn turn_away(transport: Transport, reason: CloseReason) {
    if let Some(code) = reason.code()
        && let Ok(mut link) = transport.into_link()
        && link.write_all(&close_frame(code, reason.as_str())).is_ok()
    {
        link.finish();
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("workers", &self.0.workers.len())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
