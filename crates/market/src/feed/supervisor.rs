//! Feeds as supervised units: started, watched, restarted after a crash, given up when restarting does not help.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::binance::{self, BinanceConfig, BinanceError};
use super::replay::{Observer, Problem, Progress, Replay, ReplayConfig, ReplayError};
use super::simulated::{self, SimulatedConfig};
use super::{QuoteSink, SinkError, metrics as names, unix_us};
use crate::unit::{BackOff, BackOffBounds, panic_text};

/// A feed to run.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedConfig {
    /// Its name in logs, metrics and status.
    pub name: String,
    /// What it is.
    pub kind: FeedKind,
    /// When it is started again.
    pub restart: RestartPolicy,
}

/// What a feed is.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedKind {
    /// Recorded files.
    Replay(ReplayConfig),
    /// A live Binance stream.
    Binance(BinanceConfig),
    /// A made-up market.
    Simulated(SimulatedConfig),
}

impl FeedKind {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Replay(_) => "replay",
            Self::Binance(_) => "binance",
            Self::Simulated(_) => "simulated",
        }
    }
}

/// When a feed that crashed or failed is started again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RestartPolicy {
    /// The pauses before restarts.
    pub back_off: BackOffBounds,
    /// So many restarts in a row without [`healthy_after`](Self::healthy_after) between them, and the feed is given up.
    pub budget: u32,
    /// A feed that ran for this long is healthy: its next failure counts as the first.
    pub healthy_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { back_off: BackOffBounds::default(), budget: 10, healthy_after: Duration::from_secs(60) }
    }
}

/// What a feed does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedState {
    /// It looks for its files or dials.
    Starting,
    /// It delivers.
    Up,
    /// Its connection ended and is dialled again.
    Reconnecting,
    /// It crashed or failed and waits for its restart.
    Restarting,
    /// It has played what there was, or was stopped.
    Ended,
    /// It was given up; the configuration or the code must change.
    Failed,
}

impl FeedState {
    /// Its name in status pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Reconnecting => "reconnecting",
            Self::Restarting => "restarting",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
}

/// A feed as status pages and readiness see it.
#[derive(Debug, Clone)]
pub struct FeedStatus {
    /// As configured.
    pub name: Arc<str>,
    /// The kind's name in the configuration.
    pub kind: &'static str,
    /// What it does.
    pub state: FeedState,
    /// Restarts by its supervisor since the start.
    pub restarts: u64,
    /// Connections dialled again since the start.
    pub reconnects: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// Why a run of a feed ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Binance(#[from] BinanceError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("panicked: {0}")]
    Panicked(String),
}

impl RunError {
    /// Whether another try could end otherwise. A wrong path or URL stays wrong until somebody changes it.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Replay(error) => !matches!(error, ReplayError::Sink(_)),
            Self::Binance(_) => true,
            Self::Sink(_) | Self::Panicked(_) => false,
        }
    }
}

/// How a running feed says what it does.
#[derive(Debug)]
pub(super) struct Reporter(watch::Sender<FeedStatus>);

impl Reporter {
    /// Enters a state; `error` says why, where it is not a good one.
    pub(super) fn enter(&self, state: FeedState, error: Option<String>) {
        self.0.send_modify(|status| {
            status.state = state;
            match state {
                FeedState::Reconnecting => status.reconnects += 1,
                FeedState::Restarting => status.restarts += 1,
                _ => {}
            }
            status.last_error = error.or(status.last_error.take());
        });
        let name = self.name();
        ::metrics::gauge!(names::UP, "feed" => name.to_string()).set(if state == FeedState::Up { 1.0 } else { 0.0 });
    }

    /// The feed's name.
    pub(super) fn name(&self) -> Arc<str> {
        self.0.borrow().name.clone()
    }
}

/// The feeds of a server.
#[derive(Debug, Clone)]
pub struct Feeds {
    statuses: Arc<[watch::Receiver<FeedStatus>]>,
}

impl Feeds {
    /// Starts every feed as a task of `tracker`; `cancel` stops them all.
    pub fn start<S: QuoteSink>(
        configs: Vec<FeedConfig>,
        sink: &Arc<S>,
        tracker: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Self {
        let start = |config: FeedConfig| {
            let (sender, receiver) = watch::channel(FeedStatus {
                name: config.name.as_str().into(),
                kind: config.kind.name(),
                state: FeedState::Starting,
                restarts: 0,
                reconnects: 0,
                last_error: None,
            });
            let unit = Unit {
                config,
                sink: sink.clone(),
                reporter: Reporter(sender),
                tracker: tracker.clone(),
                cancel: cancel.clone(),
            };
            tracker.spawn(unit.supervise());
            receiver
        };
        Self { statuses: configs.into_iter().map(start).collect() }
    }

    /// How the feeds are, in the order of the configuration.
    #[must_use]
    pub fn status(&self) -> Vec<FeedStatus> {
        self.statuses.iter().map(|status| status.borrow().clone()).collect()
    }
}

/// One feed and its supervisor.
struct Unit<S> {
    config: FeedConfig,
    sink: Arc<S>,
    reporter: Reporter,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl<S: QuoteSink> Unit<S> {
    async fn supervise(self) {
        let Self { config: FeedConfig { name, restart, .. }, reporter, cancel, .. } = &self;
        let mut back_off = BackOff::new(restart.back_off);
        // Jitter needs no secrecy, only that two nodes started together draw differently.
        let mut rng = fastrand::Rng::with_seed(unix_us().unsigned_abs());
        loop {
            reporter.enter(FeedState::Starting, None);
            let began = Instant::now();
            let error = match AssertUnwindSafe(self.run_once(&mut rng)).catch_unwind().await {
                Ok(Ok(())) => {
                    tracing::info!(feed = name, "feed ended");
                    return reporter.enter(FeedState::Ended, None);
                }
                Ok(Err(error)) => error,
                Err(panic) => RunError::Panicked(panic_text(&*panic)),
            };
            if cancel.is_cancelled() {
                return reporter.enter(FeedState::Ended, None);
            }
            if began.elapsed() >= restart.healthy_after {
                back_off.reset();
            }
            if error.is_permanent() || back_off.failures() >= restart.budget {
                tracing::error!(feed = name, %error, "feed failed and is given up");
                return reporter.enter(FeedState::Failed, Some(error.to_string()));
            }
            let pause = back_off.next_pause(&mut rng);
            let reason = if matches!(error, RunError::Panicked(_)) { "panic" } else { "error" };
            tracing::error!(feed = name, %error, ?pause, "feed crashed and is started again");
            ::metrics::counter!(names::RESTARTS, "feed" => name.clone(), "reason" => reason).increment(1);
            reporter.enter(FeedState::Restarting, Some(error.to_string()));
            if cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return reporter.enter(FeedState::Ended, None);
            }
        }
    }

    /// One life of the feed, until it has no more to give, is cancelled or fails.
    async fn run_once(&self, rng: &mut fastrand::Rng) -> Result<(), RunError> {
        let Self { config, sink, reporter, tracker, cancel } = self;
        match &config.kind {
            FeedKind::Replay(replay) => {
                let replay = replay.clone();
                let replay = match tracker.spawn_blocking(move || Replay::open(replay)).await {
                    Ok(opened) => opened?,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        // The runtime is going down.
                        Err(_) => return Ok(()),
                    },
                };
                reporter.enter(FeedState::Up, None);
                tracing::info!(feed = config.name, files = replay.files(), "replay starts");
                let observer = LogObserver { feed: &config.name };
                let progress = replay.play(&config.name, &**sink, &observer, tracker, cancel).await?;
                log_end(&config.name, &progress);
            }
            FeedKind::Binance(binance) => binance::run(binance, &**sink, reporter, rng, cancel).await?,
            FeedKind::Simulated(simulated) => {
                reporter.enter(FeedState::Up, None);
                simulated::run(simulated, &config.name, &**sink, cancel).await?;
            }
        }
        Ok(())
    }
}

fn log_end(feed: &str, progress: &Progress) {
    let Progress { accepted, rejected, problems, .. } = *progress;
    tracing::info!(feed, accepted, rejected, problems, "replay is over");
}

/// Tells what cannot be played in the log of a server.
struct LogObserver<'a> {
    feed: &'a str,
}

impl Observer for LogObserver<'_> {
    fn problem(&self, problem: &Problem) {
        tracing::warn!(feed = self.feed, "{problem}");
    }
}

#[cfg(test)]
mod tests;
