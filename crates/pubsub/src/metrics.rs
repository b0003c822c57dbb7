//! The metrics that this crate emits.

use metrics::{Unit, counter, describe_counter, describe_gauge};

/// Messages that were lost to a bound, by `reason`. Every increment is a message that somebody should have had.
pub const DROPPED: &str = "tickwire_dropped_total";
/// Updates that were merged into a newer one before they were written.
pub const CONFLATED: &str = "tickwire_conflated_total";
/// How many messages wait in a queue, by `queue`.
pub const QUEUE_DEPTH: &str = "tickwire_queue_depth";
/// How many messages a queue holds at most, by `queue`.
pub const QUEUE_CAPACITY: &str = "tickwire_queue_capacity";

/// The reasons of this crate.
const REASONS: [&str; 3] = [SLOW_CONSUMER, MESH_PUBLISH_LANE, MESH_CONTROL_LANE];
/// A mailbox had no room for a message that may not be left out.
pub(crate) const SLOW_CONSUMER: &str = "slow_consumer";
/// The lane of broadcasts to a peer had no room.
pub(crate) const MESH_PUBLISH_LANE: &str = "mesh_publish_lane";
/// The lane of interest to a peer had no room.
pub(crate) const MESH_CONTROL_LANE: &str = "mesh_control_lane";

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!(DROPPED, Unit::Count, "Messages lost to a bound, by reason");
    describe_counter!(CONFLATED, Unit::Count, "Updates merged into a newer one before they were written");
    describe_gauge!(QUEUE_DEPTH, Unit::Count, "Messages waiting, by queue");
    describe_gauge!(QUEUE_CAPACITY, Unit::Count, "Messages that fit at most, by queue");
    // What is there from the start can be watched from the start: the first event of a new series is invisible to a rate.
    counter!(CONFLATED).increment(0);
    for reason in REASONS {
        dropped(reason, 0);
    }
}

/// Counts messages that were dropped.
pub fn dropped(reason: &'static str, messages: u64) {
    counter!(DROPPED, "reason" => reason).increment(messages);
}

/// The counter of updates that were merged, for whoever counts often.
pub(crate) fn conflated_counter() -> ::metrics::Counter {
    counter!(CONFLATED)
}

/// Counts updates that were merged into a newer one.
pub fn conflated(updates: u64) {
    if updates > 0 {
        counter!(CONFLATED).increment(updates);
    }
}
