//! Feeds that crash, fail and end.

use std::sync::atomic::Ordering;

use super::*;
use crate::feed::testing::{TestSink, eventually, fixture};
use crate::feed::{Speed, replay::ReplayConfig, simulated::SimulatedConfig};

fn quick() -> RestartPolicy {
    let back_off = BackOffBounds { first: Duration::from_millis(1), cap: Duration::from_millis(10) };
    RestartPolicy { back_off, budget: 5, ..RestartPolicy::default() }
}

fn feed(name: &str, kind: FeedKind) -> FeedConfig {
    FeedConfig { name: name.to_owned(), kind, restart: quick() }
}

fn simulated(name: &str) -> FeedConfig {
    feed(name, FeedKind::Simulated(SimulatedConfig::default()))
}

fn replay(path: &str) -> FeedConfig {
    feed("replay", FeedKind::Replay(ReplayConfig { speed: Speed::MAX, ..ReplayConfig::new(vec![fixture(path)]) }))
}

struct Run {
    sink: Arc<TestSink>,
    feeds: Feeds,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Run {
    fn start(sink: TestSink, configs: Vec<FeedConfig>) -> Self {
        let (sink, tracker, cancel) = (Arc::new(sink), TaskTracker::new(), CancellationToken::new());
        let feeds = Feeds::start(configs, &sink, &tracker, &cancel);
        Self { sink, feeds, tracker, cancel }
    }

    fn status(&self, index: usize) -> FeedStatus {
        self.feeds.status().remove(index)
    }

    async fn stop(self) -> Vec<FeedStatus> {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(Duration::from_secs(20), self.tracker.wait()).await.expect("cancelled feeds end");
        self.feeds.status()
    }
}

#[tokio::test]
async fn a_feed_that_panics_is_started_again_and_delivers() {
    let run = Run::start(TestSink { panics: 2.into(), ..TestSink::default() }, vec![simulated("market")]);
    eventually("quotes after two panics", || run.sink.count() > 10).await;
    let status = run.status(0);
    assert_eq!((status.state, status.restarts), (FeedState::Up, 2));
    assert!(status.last_error.unwrap().contains("told to panic"));
    assert_eq!(run.stop().await[0].state, FeedState::Ended);
}

#[tokio::test]
async fn a_feed_whose_sink_fails_is_started_again() {
    let run = Run::start(TestSink { errors: 3.into(), ..TestSink::default() }, vec![simulated("market")]);
    eventually("quotes after three errors", || run.sink.count() > 10).await;
    assert_eq!(run.status(0).restarts, 3);
    run.stop().await;
}

#[tokio::test]
async fn a_feed_that_never_recovers_is_given_up() {
    let run = Run::start(TestSink { panics: u32::MAX.into(), ..TestSink::default() }, vec![simulated("market")]);
    eventually("given up", || run.status(0).state == FeedState::Failed).await;
    assert_eq!(run.status(0).restarts, 5);
    assert_eq!(run.stop().await[0].state, FeedState::Failed, "stopping does not make it look well");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_panics_leave_a_feed_that_delivers() {
    tickwire_faults::hush();
    let armed = tickwire_faults::arm(tickwire_faults::Unit::Feed, "often", 10_000);
    let restart = RestartPolicy { budget: u32::MAX, ..quick() };
    let run = Run::start(TestSink::default(), vec![FeedConfig { restart, ..simulated("often") }]);
    while armed.fired() < 10_000 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    eventually("quotes after all of them", || run.sink.count() > 0).await;
    assert_eq!(run.status(0).restarts, 10_000);
    assert_eq!(run.tracker.len(), 1, "the supervisor and nothing else");
    run.stop().await;
}

#[tokio::test]
async fn a_path_that_is_wrong_fails_at_once_and_harms_no_other_feed() {
    let run = Run::start(TestSink::default(), vec![replay("missing.csv"), simulated("market")]);
    eventually("given up", || run.status(0).state == FeedState::Failed).await;
    let status = run.status(0);
    assert_eq!(status.restarts, 0);
    assert!(status.last_error.unwrap().contains("missing.csv cannot be opened"));
    eventually("the other feed delivers", || run.sink.count() > 0).await;
    run.stop().await;
}

#[tokio::test]
async fn a_replay_that_is_over_has_ended_and_is_not_started_again() {
    let run = Run::start(TestSink::default(), vec![replay("usdm-btcusdt_20240102.jsonl")]);
    eventually("ended", || run.status(0).state == FeedState::Ended).await;
    let count = run.sink.count();
    assert!(count > 0 && run.sink.panics.load(Ordering::Relaxed) == 0);
    let sink = run.sink.clone();
    assert_eq!(run.stop().await[0].restarts, 0);
    assert_eq!(sink.count(), count);
}
