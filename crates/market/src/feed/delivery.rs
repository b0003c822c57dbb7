//! Offering what a feed has to whoever takes quotes, with patience.

use std::time::Duration;

use metrics::{Counter, Gauge};
use tokio::time::Instant;

use super::{QuoteSink, SinkError, metrics as names};
use crate::Quote;
use crate::unit::gauge_value;

/// Pauses while the market has no room and does not say how long it will be.
const BUSY_FIRST: Duration = Duration::from_millis(2);
const BUSY_MAX: Duration = Duration::from_millis(100);
/// A sink that asks for a longer pause is asked again after this one all the same.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// What happens to quotes for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Waits for as long as it takes: a recording can be held up, and no quote of it may be lost.
    Endless,
    /// Gives up after this time: the quotes of a live venue are soon worth nothing, and newer ones are coming.
    For(Duration),
}

/// What became of some quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Delivered {
    pub(super) accepted: u64,
    pub(super) rejected: u64,
}

/// The way of one feed's quotes into a sink. Counts under the feed's name.
#[derive(Debug)]
pub(super) struct Delivery<'a, S> {
    sink: &'a S,
    patience: Patience,
    feed: String,
    quotes: Counter,
    rejected: Counter,
    busy: Counter,
    dropped: Counter,
    queue_depth: Gauge,
    queue_capacity: Gauge,
}

impl<'a, S: QuoteSink> Delivery<'a, S> {
    /// A way into the sink for the feed of that name.
    pub(super) fn new(feed: &str, sink: &'a S, patience: Patience) -> Self {
        let feed = feed.to_owned();
        Self {
            sink,
            patience,
            quotes: metrics::counter!(names::QUOTES, "feed" => feed.clone()),
            rejected: metrics::counter!(names::REJECTED, "feed" => feed.clone()),
            busy: metrics::counter!(names::BUSY, "feed" => feed.clone()),
            dropped: metrics::counter!(names::DROPPED, "feed" => feed.clone()),
            queue_depth: metrics::gauge!(names::QUEUE_DEPTH, "queue" => format!("feed:{feed}")),
            queue_capacity: metrics::gauge!(names::QUEUE_CAPACITY, "queue" => format!("feed:{feed}")),
            feed,
        }
    }

    /// Offers quotes, in order, until all are taken or patience ends. Dropped midway, it loses what was not yet taken.
    pub(super) async fn deliver(&self, mut quotes: Vec<Quote>) -> Result<Delivered, SinkError> {
        let began = Instant::now();
        let mut pause = BUSY_FIRST;
        let mut delivered = Delivered::default();
        while !quotes.is_empty() {
            let offered = self.sink.offer(quotes).await?;
            delivered.accepted += offered.accepted;
            delivered.rejected += offered.rejected;
            self.quotes.increment(offered.accepted);
            self.rejected.increment(offered.rejected);
            quotes = offered.rest;
            if quotes.is_empty() {
                break;
            }
            self.busy.increment(1);
            if matches!(self.patience, Patience::For(limit) if began.elapsed() + pause > limit) {
                self.dropped.increment(quotes.len() as u64);
                break;
            }
            tokio::time::sleep(offered.retry_after.unwrap_or(pause).min(RETRY_AFTER_MAX)).await;
            pause = (pause * 2).min(BUSY_MAX);
        }
        Ok(delivered)
    }

    /// Counts input of the feed that could not be read.
    pub(super) fn bad_input(&self, reason: &'static str) {
        metrics::counter!(names::BAD_INPUT, "feed" => self.feed.clone(), "reason" => reason).increment(1);
    }

    /// Shows how many batches wait for the feed's pacer.
    pub(super) fn queued(&self, depth: usize, capacity: usize) {
        self.queue_depth.set(gauge_value(depth));
        self.queue_capacity.set(gauge_value(capacity));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::simulated::{SimulatedConfig, Simulation};
    use crate::feed::testing::TestSink;

    fn quotes(count: usize) -> Vec<Quote> {
        let mut market = Simulation::new(SimulatedConfig::default());
        (0..count).filter_map(|_| market.next_tick()).map(|tick| tick.quote).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn endless_patience_waits_until_all_is_taken() {
        let sink = TestSink { busy: 50.into(), ..TestSink::default() };
        let delivered = Delivery::new("test", &sink, Patience::Endless).deliver(quotes(64)).await.unwrap();
        assert_eq!((delivered.accepted, sink.count()), (64, 64));
    }

    #[tokio::test(start_paused = true)]
    async fn limited_patience_gives_up_what_found_no_room_in_time() {
        let sink = TestSink { busy: u32::MAX.into(), ..TestSink::default() };
        let began = Instant::now();
        let patience = Patience::For(Duration::from_secs(1));
        // One quote without room is all rest, however often it is offered.
        let delivered = Delivery::new("test", &sink, patience).deliver(quotes(1)).await.unwrap();
        assert_eq!(sink.count() as u64, delivered.accepted);
        assert!(began.elapsed() <= Duration::from_secs(1), "gave up after {:?}", began.elapsed());
        assert_eq!(delivered.accepted, 0);
    }
}
