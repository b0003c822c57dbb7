//! The feeds that run, each in a branch of tasks of its own, so that one can be changed while the others go on.

use std::{sync::Arc, time::Duration};

use tickwire_market::feed::{FeedConfig, FeedStatus, Feeds};

use crate::{lifecycle::Tasks, settings::MarketSink};

/// The feeds of a node.
#[derive(Debug)]
pub(crate) struct RunningFeeds {
    sink: Arc<MarketSink>,
    root: Tasks,
    running: parking_lot::Mutex<Vec<Running>>,
}

#[derive(Debug)]
struct Running {
    config: FeedConfig,
    feed: Feeds,
    tasks: Tasks,
}

impl RunningFeeds {
    /// None yet; those to come end with `root`.
    pub(crate) fn new(sink: MarketSink, root: Tasks) -> Self {
        Self { sink: Arc::new(sink), root, running: parking_lot::Mutex::default() }
    }

    /// Runs these feeds: one that runs like this already goes on, every other one is ended, and what is new is started after that.
    pub(crate) async fn replace(&self, configs: &[FeedConfig]) {
        /// A feed ends between two quotes; one that hangs is left to itself rather than waited for.
        const PATIENCE: Duration = Duration::from_secs(5);
        let ending: Vec<_> = {
            let mut running = self.running.lock();
            running.extract_if(.., |feed| !configs.contains(&feed.config)).map(|feed| feed.tasks).collect()
        };
        let ended = futures_util::future::join_all(ending.iter().map(Tasks::end));
        if tokio::time::timeout(PATIENCE, ended).await.is_err() {
            tracing::warn!("a feed that was to end has not done so in time and is left behind");
        }
        let mut running = self.running.lock();
        let mut before = std::mem::take(&mut *running);
        *running = configs.iter().map(|config| self.keep_or_start(config, &mut before)).collect();
    }

    fn keep_or_start(&self, config: &FeedConfig, before: &mut Vec<Running>) -> Running {
        if let Some(at) = before.iter().position(|feed| feed.config == *config) {
            return before.swap_remove(at);
        }
        let tasks = self.root.branch();
        let feed = Feeds::start(vec![config.clone()], &self.sink, tasks.tracker(), tasks.cancelled());
        Running { config: config.clone(), feed, tasks }
    }

    /// How the feeds are, in the order of the configuration.
    pub(crate) fn status(&self) -> Vec<FeedStatus> {
        self.running.lock().iter().flat_map(|feed| feed.feed.status()).collect()
    }

    /// Ends all of them and waits until they have.
    pub(crate) async fn end(&self) {
        let ending: Vec<_> = self.running.lock().iter().map(|feed| feed.tasks.clone()).collect();
        futures_util::future::join_all(ending.iter().map(Tasks::end)).await;
    }
}
