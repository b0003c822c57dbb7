//! Panics on purpose.
//!
//! Each kind of unit that must not take others with it when it crashes passes a [`point`]. A test [`arm`](armed::arm)s the point of one
//! unit, by its kind and its place (a topic, a symbol, a client's address), and sees what a panic there does to the others.
//!
//! Without the feature `inject` a point is nothing: not a branch, not a string. Only development dependencies turn it on; a test of the
//! workspace's manifests and `make dist` see to that.

#[cfg(feature = "inject")]
mod armed;

#[cfg(feature = "inject")]
pub use armed::{Armed, MESSAGE, arm, hush, point};

/// The kinds of units that crash by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// A socket while it is read. Its place is the client's address.
    Connection,
    /// A session of long polling while it handles what its client sent. Its place is the client's address.
    Poll,
    /// A channel while it handles an event. Its place is the topic.
    Channel,
    /// A join while its kind decides on the worker's thread. Its place is the topic.
    Join,
    /// A socket while it is written to. Its place is the client's address.
    Write,
    /// A turn of a worker, outside of any socket. Its place is `start` or `end`.
    Turn,
    /// A message on its way to the subscribers of a topic, which is its place.
    Delivery,
    /// A shard while it applies a quote. Its place is the symbol.
    Shard,
    /// A shard while it publishes. Its place is the topic of the first message.
    Publish,
    /// Bars while they roll up an update. Its place is the symbol.
    Bars,
    /// A feed. Its place is its name.
    Feed,
    /// A handler of an HTTP request. Its place is the path.
    Request,
    /// An event stream that is under way. Its place is the transport: `sse` or `grpc`.
    Stream,
    /// A gRPC call. Its place is the method.
    Call,
    /// A task that keeps house. Its place is the task's name.
    Upkeep,
    /// An accept loop. Its place is the port's name.
    Accept,
}

/// Panics if a test has armed this place. `place` is asked only while something is armed.
#[cfg(not(feature = "inject"))]
#[inline(always)]
pub fn point<P: ToString>(unit: Unit, place: impl FnOnce() -> P) {
    let _ = (unit, place);
}
