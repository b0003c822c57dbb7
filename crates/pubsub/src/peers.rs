//! The seam to other nodes: who owns what ([`Members`]) and how to speak to them ([`Peers`]).

use std::{fmt::Debug, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::NodeId;

/// An ordered stream of messages to one peer; a lower lane never waits for a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Interest and snapshots, which must not overtake each other.
    Control,
    /// Presence deltas.
    Presence,
    /// Quotes on their way to their owner: acknowledged, never dropped in silence.
    Ingest,
    /// Broadcasts to the peer's subscribers.
    Publish,
    /// State transfer and anti-entropy.
    Bulk,
}

/// Who stamps a symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// This node.
    Local,
    /// Another one.
    Remote(NodeId),
}

/// Who the nodes are and who of them owns what.
pub trait Members: Send + Sync + Debug {
    /// This node.
    fn local(&self) -> &NodeId;

    /// The owner of a symbol.
    fn route_of(&self, key: &str) -> Route;
}

/// A message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No link to that node.
    #[error("no link to that node")]
    Unknown,
    /// The lane to that node is full.
    #[error("the lane to that node is full")]
    Full,
}

/// A request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No link to that node, or it broke before the answer came.
    #[error("the node cannot be reached")]
    Unreachable,
    /// The lane to that node is full.
    #[error("the lane to that node is full")]
    Full,
    /// No answer within the deadline.
    #[error("the node did not answer in time")]
    Timeout,
}

/// The only way to speak to another node. Messages and requests of one lane to one node arrive in the order of the calls.
pub trait Peers: Send + Sync + Debug {
    /// The nodes with a working link.
    fn nodes(&self) -> Vec<NodeId>;

    /// Queues a message and returns at once.
    ///
    /// # Errors
    /// If there is no link to the node or the lane is full; the message is gone then, and the caller counts it.
    fn send(&self, to: &NodeId, lane: Lane, message: Bytes) -> Result<(), SendError>;

    /// Queues a request at once, in the order of the calls; the future resolves to the answer. Dropping it forgets the answer, not the request.
    fn request(
        &self,
        to: &NodeId,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, RequestError>>;
}
