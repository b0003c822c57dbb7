//! The life of a node: which tasks run, whether it is well, and how it is asked to end.

use std::{
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use ::metrics::counter;

use crate::metrics;

/// A branch of the node's tasks: what is spawned here has a name, is waited for, and is told to end when the branch is cancelled.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
    table: Arc<Mutex<BTreeMap<&'static str, TaskCount>>>,
}

/// The tasks of one name.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TaskCount {
    /// Those that run now.
    pub(crate) running: u64,
    /// All that were ever started.
    pub(crate) started: u64,
    /// Those that panicked.
    pub(crate) panicked: u64,
}

impl Tasks {
    /// A root.
    pub(crate) fn new() -> Self {
        Self { tracker: TaskTracker::new(), cancel: CancellationToken::new(), table: Arc::default() }
    }

    /// A branch that can be cancelled, and waited for, by itself; it ends with this one.
    pub(crate) fn branch(&self) -> Self {
        Self { tracker: TaskTracker::new(), cancel: self.cancel.child_token(), table: Arc::clone(&self.table) }
    }

    /// Runs a task. Should it panic, that is logged and counted, and nothing else ends: what the node needs is
    /// [supervised](Self::supervise).
    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let entry = self.enter(name);
        self.tracker.spawn(async move {
            let _entry = entry;
            task.await;
        });
    }

    /// Runs a task that the node cannot do without: should it panic, it is started anew after a pause. If that does not help, the node
    /// drains and ends as failed.
    pub(crate) fn supervise<T>(&self, name: &'static str, stop: &Stop, start: impl Fn() -> T + Send + 'static)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        const RESTARTS_MAX: u32 = 10;
        const PAUSE: Duration = Duration::from_millis(100);
        const HEALTHY_AFTER: Duration = Duration::from_secs(60);
        let (cancel, stop) = (self.cancel.clone(), stop.clone());
        self.spawn(name, async move {
            let mut failures = 0;
            loop {
                let began = Instant::now();
                let panicked = AssertUnwindSafe(start()).catch_unwind().await.is_err();
                if cancel.is_cancelled() {
                    return;
                }
                failures = if began.elapsed() >= HEALTHY_AFTER { 1 } else { failures + 1 };
                let outcome = if panicked { "panic" } else { "error" };
                counter!(metrics::UNITS, "unit" => "task", "outcome" => outcome).increment(1);
                if failures > RESTARTS_MAX {
                    counter!(metrics::UNITS, "unit" => "task", "outcome" => "gave_up").increment(1);
                    tracing::error!(task = name, "a task that the node needs cannot be kept running: the node ends");
                    return stop.fail(name);
                }
                tracing::error!(task = name, outcome, "a task that the node needs has ended and is started again");
                let pause = PAUSE * 2_u32.pow(failures - 1).min(50);
                if cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
            }
        });
    }

    /// Is cancelled when the branch is to end.
    pub(crate) fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// The tracker, for libraries that spawn tasks of their own.
    pub(crate) fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// Tells the branch to end and waits until all of it has. Bounded by the caller.
    pub(crate) async fn end(&self) {
        self.cancel.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Which tasks there are, by name.
    pub(crate) fn table(&self) -> BTreeMap<&'static str, TaskCount> {
        self.table.lock().clone()
    }

    fn enter(&self, name: &'static str) -> Entry {
        let mut table = self.table.lock();
        let count = table.entry(name).or_default();
        count.running += 1;
        count.started += 1;
        Entry { name, table: Arc::clone(&self.table) }
    }
}

/// hyper and tonic run the parts of a connection as tasks of their own: they get ours.
impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, part: F) {
        self.spawn("connection part", async move {
            part.await;
        });
    }
}

/// A running task in the table.
struct Entry {
    name: &'static str,
    table: Arc<Mutex<BTreeMap<&'static str, TaskCount>>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        if let Some(count) = self.table.lock().get_mut(self.name) {
            count.running -= 1;
            count.panicked += u64::from(panicking);
        }
        if panicking {
            counter!(metrics::UNITS, "unit" => "task", "outcome" => "panic").increment(1);
        }
    }
}

/// Where the node is in its life.
#[derive(Debug, Default)]
pub(crate) struct Health {
    started: AtomicBool,
    draining: AtomicBool,
}

/// One line of a verbose readiness answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) name: String,
    /// Why it is not well; `None` if it is.
    pub(crate) problem: Option<String>,
    /// What is worth knowing although it is well.
    pub(crate) note: Option<String>,
}

impl Check {
    /// A check that found this.
    pub(crate) fn new(name: impl Into<String>, problem: Option<String>) -> Self {
        Self { name: name.into(), problem, note: None }
    }

    /// The same check with something worth knowing.
    pub(crate) fn noting(mut self, note: Option<String>) -> Self {
        self.note = note;
        self
    }
}

impl Health {
    /// Every part is built and every port is served.
    pub(crate) fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// The node is about to end.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the node is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether every part is built.
    pub(crate) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Its checks, in a stable order.
    pub(crate) fn checks(&self) -> Vec<Check> {
        vec![
            Check::new("startup", (!self.is_started()).then(|| "still starting".to_owned())),
            Check::new("drain", self.is_draining().then(|| "the node is being drained".to_owned())),
        ]
    }
}

/// Asks a node to end, or to read its configuration anew; cloning is cheap. The first request to end drains it, a second one ends it at
/// once.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    drain: CancellationToken,
    now: CancellationToken,
    reload: Arc<Notify>,
    failed: Arc<OnceLock<&'static str>>,
}

/// A node ended because a part of it could not be kept running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has ended because its {0} could not be kept running; the log says why")]
pub struct Failed(&'static str);

impl Stop {
    /// Drains the node, or, if it is being drained already, ends it at once.
    pub fn request(&self) {
        if self.drain.is_cancelled() {
            self.now.cancel();
        }
        self.drain.cancel();
    }

    /// Drains the node; asking again changes nothing.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Drains the node because this part of it has failed.
    pub(crate) fn fail(&self, part: &'static str) {
        let _ = self.failed.set(part);
        self.drain.cancel();
    }

    /// Asks the node to read its configuration anew. Requests that come while it does so are one.
    pub fn request_reload(&self) {
        self.reload.notify_one();
    }

    /// Resolves when the configuration is to be read anew.
    pub(crate) async fn reload_requested(&self) {
        self.reload.notified().await;
    }

    /// Whether a part of the node has failed.
    pub(crate) fn outcome(&self) -> Result<(), Failed> {
        self.failed.get().map_or(Ok(()), |part| Err(Failed(part)))
    }

    /// Resolves when the node is to be drained.
    pub(crate) async fn drained(&self) {
        self.drain.cancelled().await;
    }

    /// Resolves when the node is to end at once.
    pub(crate) async fn at_once(&self) {
        self.now.cancelled().await;
    }

    /// Turns SIGTERM, SIGINT and SIGHUP into requests until the node ends.
    ///
    /// # Errors
    /// If the system does not let us listen.
    pub async fn on_signals(self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = hangup.recv() => {
                    tracing::info!("SIGHUP: reading the configuration again");
                    self.request_reload();
                    continue;
                }
            };
            if self.drain.is_cancelled() {
                tracing::warn!(signal = name, "second signal, exiting at once");
            } else {
                tracing::info!(signal = name, "draining; a second signal exits at once");
            }
            self.request();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_counted_and_the_branch_still_ends() {
        let root = Tasks::new();
        let branch = root.branch();
        branch.spawn("panics", async { panic!("on purpose") });
        let cancelled = branch.cancelled().clone();
        branch.spawn("waits", async move { cancelled.cancelled().await });
        branch.end().await;
        let table = root.table();
        assert_eq!((table["panics"].running, table["panics"].panicked), (0, 1));
        assert_eq!((table["waits"].running, table["waits"].started, table["waits"].panicked), (0, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_the_node_needs_is_restarted_until_that_does_not_help() {
        let (root, stop) = (Tasks::new(), Stop::default());
        root.supervise("fragile", &stop, || async { panic!("on purpose") });
        stop.drained().await;
        assert_eq!(stop.outcome(), Err(Failed("fragile")));
        root.end().await;
        assert_eq!(root.table()["fragile"].running, 0);
    }

    #[tokio::test]
    async fn a_branch_ends_with_its_root_and_not_the_other_way_round() {
        let root = Tasks::new();
        let branch = root.branch();
        branch.end().await;
        assert!(!root.cancelled().is_cancelled());
        let other = root.branch();
        root.end().await;
        assert!(other.cancelled().is_cancelled());
    }

    #[test]
    fn a_node_is_well_between_its_start_and_its_drain() {
        let health = Health::default();
        let problems = |health: &Health| health.checks().iter().filter(|check| check.problem.is_some()).count();
        assert_eq!(problems(&health), 1);
        health.set_started();
        assert_eq!(problems(&health), 0);
        health.set_draining();
        assert_eq!(problems(&health), 1);
    }

    #[tokio::test]
    async fn the_second_request_ends_at_once() {
        let stop = Stop::default();
        stop.request();
        stop.drained().await;
        assert!(!stop.now.is_cancelled());
        stop.drain();
        assert!(!stop.now.is_cancelled());
        stop.request();
        stop.at_once().await;
    }
}
