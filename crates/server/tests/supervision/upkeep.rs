//! Feeds, what keeps house, and the loop that accepts connections.

use tickwire_faults::{Unit, arm};
use tokio::io::AsyncReadExt as _;

use crate::{
    node::eventually,
    witness::{Watched, Wire, fired},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_crashes_is_started_again_and_the_other_plays_on() {
    let feeds = r#"feed=[{kind="simulated", name="one", rate=500}, {kind="simulated", name="two", rate=500, seed=2}]"#;
    let mut watched = Watched::start(&[feeds]).await;
    let armed = arm(Unit::Feed, "one", 3);
    fired(&armed, 3).await;
    eventually("it plays again", async || {
        let metrics = watched.node.metrics().await;
        let up = |feed: &str| metrics.contains(&format!("tickwire_feed_up{{feed=\"{feed}\"}} 1"));
        assert!(up("two"));
        up("one") && metrics.contains("tickwire_feed_restarts_total{feed=\"one\",reason=\"panic\"} 3")
    })
    .await;
    assert!(watched.problems().await.is_empty());
    watched.notices_nothing().await;
    watched.end().await;
}

/// Each is started again after a pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_house_is_started_again() {
    let mut watched = Watched::start(&[]).await;
    let upkeep = [arm(Unit::Upkeep, "market sweep", 3), arm(Unit::Upkeep, "housekeeping", 3)];
    for armed in &upkeep {
        fired(armed, 3).await;
        watched.notices_nothing().await;
    }
    eventually("all of it runs", async || {
        let tasks = watched.node.client.get(watched.node.admin("/debug/tasks")).send().await.unwrap();
        let tasks = tasks.text().await.unwrap();
        assert!(tasks.contains("market sweep") && tasks.contains("housekeeping"), "{tasks}");
        watched.problems().await.is_empty()
    })
    .await;
    watched.end().await;
}

/// The connection at hand is lost; those that are open are not, and the next is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accept_loop_that_crashes_costs_one_connection() {
    let mut watched = Watched::start(&[]).await;
    for _ in 0..3 {
        let armed = arm(Unit::Accept, "http", 1);
        let mut lost = Wire::open(&watched.node).await;
        fired(&armed, 1).await;
        assert!(matches!(lost.stream.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        watched.notices_nothing().await;
        let mut next = Wire::open(&watched.node).await;
        assert_eq!(next.request("GET /v1/quotes/WITNESS", "").await.0, 200);
    }
    assert!(watched.problems().await.is_empty());
    watched.end().await;
}
