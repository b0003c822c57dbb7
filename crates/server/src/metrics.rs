//! The metrics that this crate emits itself, and the description of all of them.

use std::fmt;

use ::metrics::{Gauge, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

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
/// When the certificate of the public ports ends, in Unix seconds.
pub(crate) const TLS_EXPIRY: &str = "tickwire_tls_certificate_expiry_timestamp_seconds";
/// Looks at the files of the certificate that found something, by `outcome` (replaced, failed).
pub(crate) const TLS_RELOADS: &str = "tickwire_tls_reloads_total";
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
/// Attempts to read the configuration anew, by `outcome` (ok, refused).
pub(crate) const RELOADS: &str = "tickwire_config_reloads_total";
/// Whether the last attempt to read the configuration succeeded, 0 or 1.
pub(crate) const RELOAD_OK: &str = "tickwire_config_last_reload_successful";
/// Threads that the node was started with, by `kind` (worker, compute, io).
pub(crate) const THREADS: &str = "tickwire_threads";
/// Cores that the process may use at once.
pub(crate) const CORES: &str = "tickwire_cores";
/// Members of the cluster, by `state`.
pub(crate) const MEMBERS: &str = "tickwire_cluster_members";
/// Whether the node is ready, 0 or 1.
pub(crate) const READY: &str = "tickwire_ready";
/// Keys that verify tokens, by `source` (secret, file, url).
pub(crate) const TOKEN_KEYS: &str = "tickwire_token_keys";
/// Readings of keys that verify tokens, by `source` (file, url) and `outcome` (ok, error).
pub(crate) const TOKEN_KEY_LOADS: &str = "tickwire_token_key_loads_total";
/// When keys that verify tokens were last read with success, by `source`.
pub(crate) const TOKEN_KEYS_LOADED: &str = "tickwire_token_keys_loaded_timestamp_seconds";
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
    describe_gauge!(TLS_EXPIRY, Unit::Seconds, "When the certificate of the public ports ends, in Unix time");
    describe_counter!(TLS_RELOADS, Unit::Count, "Certificate files that were replaced or cannot be used, by outcome");
    describe_counter!(REFUSED, Unit::Count, "What was turned away at the door, by reason");
    describe_gauge!(STREAMS, Unit::Count, "Open event streams and gRPC subscriptions, by transport");
    describe_histogram!(STREAM_LAG, Unit::Seconds, "Time from the acceptance of a message until a stream took it");
    describe_counter!(PANICS, Unit::Count, "Panics caught");
    describe_counter!(UNITS, Unit::Count, "Tasks that ended before their time, by outcome");
    describe_counter!(RELOADS, Unit::Count, "Attempts to read the configuration anew, by outcome");
    describe_gauge!(RELOAD_OK, Unit::Count, "Whether the last attempt to read the configuration succeeded");
    describe_gauge!(THREADS, Unit::Count, "Threads that the node was started with, by kind");
    describe_gauge!(CORES, Unit::Count, "Cores that the process may use at once");
    describe_gauge!(MEMBERS, Unit::Count, "Members of the cluster, by state");
    describe_gauge!(READY, Unit::Count, "Whether the node is ready");
    describe_gauge!(TOKEN_KEYS, Unit::Count, "Keys that verify tokens, by source");
    describe_counter!(TOKEN_KEY_LOADS, Unit::Count, "Readings of keys that verify tokens, by source and outcome");
    describe_gauge!(TOKEN_KEYS_LOADED, Unit::Seconds, "When keys that verify tokens were last read with success");
    describe_gauge!(ROOMS, Unit::Count, "Rooms whose history is kept");
    tickwire_pubsub::metrics::describe();
    tickwire_market::metrics::describe();
    tickwire_market::bars::metrics::describe();
    tickwire_market::feed::metrics::describe();
    tickwire_channels::metrics::describe();
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    counter!(PANICS).absolute(0);
    counter!(TLS_RELOADS, "outcome" => "failed").increment(0);
    gauge!(RELOAD_OK).set(1.0);
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
#[must_use = "dropping it counts down"]
pub(crate) struct Counted(Gauge);

impl Counted {
    /// One more of `name`, with one label.
    pub(crate) fn new(name: &'static str, label: &'static str, value: &'static str) -> Self {
        Self::of(&gauge!(name, label => value))
    }

    /// One more of a gauge that is looked up once for many.
    pub(crate) fn of(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").finish_non_exhaustive()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
