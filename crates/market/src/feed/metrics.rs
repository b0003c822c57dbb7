//! The names of what feeds count. The label `feed` is the name that the configuration gives a feed: few, and chosen by the operator.

use metrics::{Unit, describe_counter, describe_gauge};

/// Quotes that the market took from a feed.
pub const QUOTES: &str = "tickwire_feed_quotes_total";
/// Quotes of a feed that the market refused; `tickwire_quotes_rejected_total` has the reasons.
pub const REJECTED: &str = "tickwire_feed_rejected_total";
/// Times that a feed had to wait because the market had no room.
pub const BUSY: &str = "tickwire_feed_busy_total";
/// Quotes that a live feed gave up because the market had no room for too long.
pub const DROPPED: &str = "tickwire_feed_dropped_total";
/// Lines and messages that a feed could not read, by `reason`.
pub const BAD_INPUT: &str = "tickwire_feed_bad_input_total";
/// Restarts of a feed by its supervisor, by `reason`: `panic` or `error`.
pub const RESTARTS: &str = "tickwire_feed_restarts_total";
/// Connections of a live feed that ended and were dialled again, by `reason`.
pub const RECONNECTS: &str = "tickwire_feed_reconnects_total";
/// 1 while a feed delivers, 0 while it connects, waits for its restart, has ended or has failed.
pub const UP: &str = "tickwire_feed_up";
/// Seconds since a live feed last received a good message.
pub const AGE: &str = "tickwire_feed_last_message_age_seconds";
/// Batches that wait between a reader and its pacer, as `queue="feed:NAME"`.
pub const QUEUE_DEPTH: &str = "tickwire_queue_depth";
/// Room of that queue.
pub const QUEUE_CAPACITY: &str = "tickwire_queue_capacity";

/// Registers the descriptions; called once at start.
pub fn describe() {
    describe_counter!(QUOTES, "Quotes that the market took from a feed");
    describe_counter!(REJECTED, "Quotes of a feed that the market refused");
    describe_counter!(BUSY, "Times that a feed waited because the market had no room");
    describe_counter!(DROPPED, "Quotes that a live feed gave up because the market had no room for too long");
    describe_counter!(BAD_INPUT, "Lines and messages that a feed could not read");
    describe_counter!(RESTARTS, "Restarts of a feed by its supervisor");
    describe_counter!(RECONNECTS, "Connections of a live feed that ended and were dialled again");
    describe_gauge!(UP, "1 while a feed delivers, else 0");
    describe_gauge!(AGE, Unit::Seconds, "Time since a live feed last received a good message");
}
