//! The metrics that this crate emits. The lag histogram is kept by the [workers](crate::Workers::lag) themselves.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::close::CloseReason;

/// Open sockets.
pub const CONNECTIONS: &str = "tickwire_connections";
/// Joined channels.
pub const JOINS: &str = "tickwire_joins";
/// Joins that did not succeed, by `reason`.
pub const JOINS_REFUSED: &str = "tickwire_joins_refused_total";
/// Sockets that ended, by `reason`, see [`CloseReason`].
pub const DISCONNECTS: &str = "tickwire_disconnects_total";
/// Broadcast messages handed to the kernel, each socket counted.
pub const DELIVERIES: &str = "tickwire_deliveries_total";
/// System calls that wrote to sockets; deliveries over writes is how many messages one carries.
pub const WRITES: &str = "tickwire_socket_writes_total";
/// See [`LagSnapshot`](crate::LagSnapshot).
pub const LAG: &str = "tickwire_delivery_lag_seconds";
/// Channels that ended in a panic or as failed.
pub const CHANNEL_CRASHES: &str = "tickwire_channel_crashes_total";
/// Connections that ended in a panic of ours.
pub const CONNECTION_CRASHES: &str = "tickwire_connection_crashes_total";
/// Turns of a worker that ended in a panic of ours outside of any connection.
pub const WORKER_CRASHES: &str = "tickwire_worker_crashes_total";
/// Messages of clients that were refused by a bound, by `reason`.
pub const MESSAGES_REFUSED: &str = "tickwire_messages_refused_total";
/// Bytes of messages that were compressed, by `stage`: `before` and `after`.
pub const DEFLATE_BYTES: &str = "tickwire_deflate_bytes_total";

/// Open sessions of long polling; each of them is an open socket too.
pub const POLL_SESSIONS: &str = "tickwire_poll_sessions";
/// Requests of long polling that wait for a message.
pub const POLLS_WAITING: &str = "tickwire_polls_waiting";

/// A binary message for a client of long polling that is no text.
pub(crate) const BINARY_BY_LONGPOLL: &str = "binary_by_longpoll";
/// Messages handed to a poll whose client had gone, after which a later poll was answered.
pub(crate) const POLL_LOST: &str = "poll_lost";

/// Describes them to the exporter.
pub fn describe() {
    describe_gauge!(CONNECTIONS, Unit::Count, "Open sockets");
    describe_gauge!(JOINS, Unit::Count, "Joined channels");
    describe_gauge!(POLL_SESSIONS, Unit::Count, "Open sessions of long polling");
    describe_gauge!(POLLS_WAITING, Unit::Count, "Requests of long polling that wait for a message");
    describe_counter!(JOINS_REFUSED, Unit::Count, "Joins that did not succeed, by reason");
    describe_counter!(DISCONNECTS, Unit::Count, "Sockets that ended, by reason");
    describe_counter!(DELIVERIES, Unit::Count, "Broadcast messages handed to the kernel, each socket counted");
    describe_counter!(WRITES, Unit::Count, "System calls that wrote to sockets");
    describe_counter!(CHANNEL_CRASHES, Unit::Count, "Channels that ended in a panic or as failed");
    describe_counter!(CONNECTION_CRASHES, Unit::Count, "Connections that ended in a panic of the server");
    describe_counter!(WORKER_CRASHES, Unit::Count, "Turns of a worker that ended in a panic outside of any connection");
    describe_counter!(MESSAGES_REFUSED, Unit::Count, "Messages of clients that were refused by a bound, by reason");
    describe_counter!(DEFLATE_BYTES, Unit::Bytes, "Messages that were compressed, by stage: before and after");
    // What is always there can be watched from the start.
    gauge!(CONNECTIONS).set(0.0);
    for name in [JOINS, POLL_SESSIONS, POLLS_WAITING] {
        gauge!(name).set(0.0);
    }
    for reason in [BINARY_BY_LONGPOLL, POLL_LOST] {
        tickwire_pubsub::metrics::dropped(reason, 0);
    }
    for name in [DELIVERIES, WRITES, CHANNEL_CRASHES, CONNECTION_CRASHES, WORKER_CRASHES] {
        counter!(name).increment(0);
    }
    // The first event of a series that was not there before is invisible to a rate.
    for reason in CloseReason::ALL {
        counter!(DISCONNECTS, "reason" => reason.as_str()).increment(0);
    }
}

pub(crate) fn disconnected(reason: CloseReason) {
    counter!(DISCONNECTS, "reason" => reason.as_str()).increment(1);
}

pub(crate) fn join_refused(reason: &'static str) {
    counter!(JOINS_REFUSED, "reason" => reason).increment(1);
}

pub(crate) fn message_refused(reason: &'static str) {
    counter!(MESSAGES_REFUSED, "reason" => reason).increment(1);
}
