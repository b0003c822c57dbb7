//! A node's name and incarnation, and the cluster of one.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{Lane, Members, Peers, RequestError, Route, SendError};

/// A running node. A restart is a different node: same name, higher incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    /// Unique among the nodes of a cluster at any one time.
    pub name: Arc<str>,
    /// Microseconds since the Unix epoch when the node started; rises with each restart.
    pub incarnation: u64,
}

impl NodeId {
    /// Names a node.
    #[must_use]
    pub fn new(name: &str, incarnation: u64) -> Self {
        Self { name: Arc::from(name), incarnation }
    }

    /// A 64-bit fingerprint of the name (FNV-1a), the same on every node and in every version.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A node without a cluster: it owns every symbol and has no peers.
#[derive(Debug)]
pub struct LoneNode(NodeId);

impl LoneNode {
    /// The only node there is.
    #[must_use]
    pub fn new(id: NodeId) -> Self {
        Self(id)
    }
}

impl Members for LoneNode {
    fn local(&self) -> &NodeId {
        &self.0
    }

    fn route_of(&self, _key: &str) -> Route {
        Route::Local
    }
}

impl Peers for LoneNode {
    fn nodes(&self) -> Vec<NodeId> {
        Vec::new()
    }

    fn send(&self, _to: &NodeId, _lane: Lane, _message: Bytes) -> Result<(), SendError> {
        Err(SendError::Unknown)
    }

    fn request(&self, _: &NodeId, _: Lane, _: Bytes, _: Duration) -> BoxFuture<'static, Result<Bytes, RequestError>> {
        Box::pin(std::future::ready(Err(RequestError::Unreachable)))
    }
}
