//! The names of what bars count.

use metrics::{describe_counter, describe_gauge};

/// Updates that were rolled up.
pub const UPDATES: &str = "tickwire_bars_updates_total";
/// Updates that were too late for any bar that is still changed.
pub const LATE: &str = "tickwire_bars_late_total";
/// Updates that found no room in the queue: their bars are marked with a gap.
pub const LAGGED: &str = "tickwire_bars_lagged_total";
/// Updates of symbols beyond the most that are kept.
pub const REFUSED: &str = "tickwire_bars_refused_total";
/// Fresh starts of a worker, by `reason`: `panic` or `lagged`.
pub const RESTARTS: &str = "tickwire_bars_restarts_total";
/// Updates that wait to be rolled up, as `queue="bars"`.
pub const QUEUE_DEPTH: &str = "tickwire_queue_depth";
/// Room of that queue.
pub const QUEUE_CAPACITY: &str = "tickwire_queue_capacity";

/// Registers the descriptions; called once at start.
pub fn describe() {
    describe_counter!(UPDATES, "Updates rolled up into bars");
    describe_counter!(LATE, "Updates that were too late for any bar that is still changed");
    describe_counter!(LAGGED, "Updates that found no room in the queue of the bars");
    describe_counter!(REFUSED, "Updates of symbols beyond the most that have bars");
    describe_counter!(RESTARTS, "Fresh starts of a bars worker after a panic or an overrun queue");
    describe_gauge!(QUEUE_DEPTH, "Entries in a queue");
    describe_gauge!(QUEUE_CAPACITY, "Most entries that a queue holds");
}
