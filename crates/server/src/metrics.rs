//! The metrics that this crate emits itself, and the description of all of them.

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// Which build runs: `version`, always 1.
pub(crate) const BUILD_INFO: &str = "tickwire_build_info";
/// Requests answered on the public port, by `status` and `method`.
pub(crate) const HTTP_REQUESTS: &str = "http_requests_total";
/// Time from a request's head to its answer's head, by `status` and `method`.
pub(crate) const HTTP_DURATION: &str = "http_request_duration_seconds";
/// Calls of the gRPC API, by `method` and `code`.
pub(crate) const GRPC_REQUESTS: &str = "tickwire_grpc_requests_total";
/// Network connections that are open, by `port`; sockets that a worker has taken over count in `tickwire_connections`.
pub(crate) const OPEN: &str = "tickwire_open_connections";
/// What was turned away at the door, by `reason`.
pub(crate) const REFUSED: &str = "tickwire_refused_total";
/// Event streams and gRPC subscriptions that are open, by `transport`.
pub(crate) const STREAMS: &str = "tickwire_streams";
/// Time from the acceptance of a message until an event stream or a subscription took it.
pub(crate) const STREAM_LAG: &str = "tickwire_stream_lag_seconds";
/// Panics caught, anywhere in the process.
pub(crate) const PANICS: &str = "tickwire_panics_total";
/// Tasks that ended before their time, by `unit` and `outcome` (error, panic, gave_up).
pub(crate) const UNITS: &str = "tickwire_unit_exits_total";
/// Members of the cluster, by `state`.
pub(crate) const MEMBERS: &str = "tickwire_cluster_members";
/// Whether the node is ready, 0 or 1.
pub(crate) const READY: &str = "tickwire_ready";
/// Rooms whose history is kept.
pub(crate) const ROOMS: &str = "tickwire_rooms";

/// The reason of messages that no history of a room has room for.
pub(crate) const ROOM_HISTORY: &str = "room_history";

/// Buckets of durations between a tenth of a millisecond and ten seconds.
pub(crate) const SECONDS: [f64; 16] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Describes every metric of the process to the exporter and sets those that never change.
pub(crate) fn describe() {
    describe_gauge!(BUILD_INFO, "Which build runs, always 1");
    describe_counter!(HTTP_REQUESTS, Unit::Count, "HTTP requests answered, by status and method");
    describe_histogram!(HTTP_DURATION, Unit::Seconds, "Time from a request's head to its answer's head");
    describe_counter!(GRPC_REQUESTS, Unit::Count, "gRPC calls, by method and code");
    describe_gauge!(OPEN, Unit::Count, "Open network connections, by port");
    describe_counter!(REFUSED, Unit::Count, "What was turned away at the door, by reason");
    describe_gauge!(STREAMS, Unit::Count, "Open event streams and gRPC subscriptions, by transport");
    describe_histogram!(STREAM_LAG, Unit::Seconds, "Time from the acceptance of a message until a stream took it");
    describe_counter!(PANICS, Unit::Count, "Panics caught");
    describe_counter!(UNITS, Unit::Count, "Tasks that ended before their time, by outcome");
    describe_gauge!(MEMBERS, Unit::Count, "Members of the cluster, by state");
    describe_gauge!(READY, Unit::Count, "Whether the node is ready");
    describe_gauge!(ROOMS, Unit::Count, "Rooms whose history is kept");
    tickwire_pubsub::metrics::describe();
    tickwire_market::metrics::describe();
    tickwire_market::bars::metrics::describe();
    tickwire_market::feed::metrics::describe();
    tickwire_channels::metrics::describe();
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    counter!(PANICS).absolute(0);
    counter!(HTTP_REQUESTS, "status" => "200", "method" => "GET").increment(0);
    tickwire_pubsub::metrics::dropped(ROOM_HISTORY, 0);
}

/// Brings what is looked at rather than counted up to date; called when metrics are read.
pub(crate) fn sample(node: &crate::app::Node) {
    let ready = node.checks().iter().all(|check| check.problem.is_none());
    gauge!(READY).set(if ready { 1.0 } else { 0.0 });
    metrics_process::Collector::default().collect();
}

/// Counts something that was turned away.
pub(crate) fn refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}

/// Counts a gauge up while it lives.
#[derive(Debug)]
#[must_use = "dropping it counts down"]
pub(crate) struct Counted(&'static str, &'static str, &'static str);

impl Counted {
    /// One more of `name`, with one label.
    pub(crate) fn new(name: &'static str, label: &'static str, value: &'static str) -> Self {
        gauge!(name, label => value).increment(1.0);
        Self(name, label, value)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        gauge!(self.0, self.1 => self.2).decrement(1.0);
    }
}
