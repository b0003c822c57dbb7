//! An in-process network of nodes, for the tests of this crate and of those that build on it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{Broadcast, Lane, Members, NodeId, Peers, RequestError, Route, SendError, wire};

/// What a node does with what arrives.
pub trait Inbound: Send + Sync {
    /// A message.
    fn message(&self, from: &NodeId, lane: Lane, bytes: Bytes);
    /// A request and its answer.
    fn request(&self, from: &NodeId, bytes: Bytes) -> BoxFuture<'static, Bytes>;
}

type Owner = dyn Fn(&str) -> String + Send + Sync;

/// Nodes that reach each other by queues, one per node and lane, each as long as a real lane is at the most.
pub struct Network {
    nodes: Mutex<BTreeMap<NodeId, Links>>,
    owner: Box<Owner>,
}

type Links = BTreeMap<Lane, mpsc::Sender<Parcel>>;

enum Parcel {
    Message(NodeId, Bytes),
    Request(NodeId, Bytes, tokio::sync::oneshot::Sender<Bytes>),
}

const LANE_CAPACITY: usize = 4096;

impl Network {
    /// A network in which `owner` names the node that owns a key.
    #[must_use]
    pub fn new(owner: impl Fn(&str) -> String + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { nodes: Mutex::default(), owner: Box::new(owner) })
    }

    /// A node's view of the network, before it takes part.
    #[must_use]
    pub fn view(self: &Arc<Self>, node: &NodeId) -> Arc<View> {
        Arc::new(View { node: node.clone(), network: Arc::downgrade(self) })
    }

    /// Links a node to all others; must be called within a tokio runtime.
    pub fn link(&self, node: &NodeId, inbound: &Arc<dyn Inbound>) {
        let lanes = [Lane::Control, Lane::Presence, Lane::Ingest, Lane::Publish, Lane::Bulk];
        let links = lanes.map(|lane| {
            let (sender, mut receiver) = mpsc::channel(LANE_CAPACITY);
            let inbound = Arc::clone(inbound);
            let deliver = async move {
                while let Some(parcel) = receiver.recv().await {
                    match parcel {
                        Parcel::Message(from, bytes) => inbound.message(&from, lane, bytes),
                        Parcel::Request(from, bytes, answer) => {
                            // Begun in order, as the real mesh does; an answer nobody waits for is dropped.
                            let _ = answer.send(inbound.request(&from, bytes).await);
                        }
                    }
                }
            };
            drop(tokio::runtime::Handle::current().spawn(deliver));
            (lane, sender)
        });
        self.nodes.lock().insert(node.clone(), Links::from(links));
    }

    fn push(&self, to: &NodeId, lane: Lane, parcel: Parcel) -> Result<(), SendError> {
        let nodes = self.nodes.lock();
        let link = nodes.get(to).and_then(|lanes| lanes.get(&lane)).ok_or(SendError::Unknown)?;
        link.try_send(parcel).map_err(|_| SendError::Full)
    }
}

/// A node's view of a [`Network`].
#[derive(Debug)]
pub struct View {
    node: NodeId,
    network: Weak<Network>,
}

impl Members for View {
    fn local(&self) -> &NodeId {
        &self.node
    }

    fn route_of(&self, key: &str) -> Route {
        let Some(network) = self.network.upgrade() else { return Route::Local };
        let owner = (network.owner)(key);
        let nodes = network.nodes.lock();
        match nodes.keys().find(|node| *node.name == owner && **node != self.node) {
            Some(node) => Route::Remote(node.clone()),
            None => Route::Local,
        }
    }
}

impl Peers for View {
    fn nodes(&self) -> Vec<NodeId> {
        let Some(network) = self.network.upgrade() else { return Vec::new() };
        let nodes = network.nodes.lock();
        nodes.keys().filter(|node| **node != self.node).cloned().collect()
    }

    fn send(&self, to: &NodeId, lane: Lane, message: Bytes) -> Result<(), SendError> {
        let network = self.network.upgrade().ok_or(SendError::Unknown)?;
        network.push(to, lane, Parcel::Message(self.node.clone(), message))
    }

    fn request(
        &self,
        to: &NodeId,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, RequestError>> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let parcel = Parcel::Request(self.node.clone(), request, sender);
        let queued = match self.network.upgrade() {
            Some(network) => network.push(to, lane, parcel),
            None => Err(SendError::Unknown),
        };
        Box::pin(async move {
            queued.map_err(|error| match error {
                SendError::Unknown => RequestError::Unreachable,
                SendError::Full => RequestError::Full,
            })?;
            match tokio::time::timeout(deadline, receiver).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(_)) => Err(RequestError::Unreachable),
                Err(_) => Err(RequestError::Timeout),
            }
        })
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("nodes", &self.nodes.lock().len()).finish_non_exhaustive()
    }
}

/// Reads bytes as each message that nodes send each other; of what can be read, what it says, and what it says once it is written and read
/// again. The time that a message has been under way is left out: it goes on.
#[must_use]
pub fn mesh_messages(bytes: &Bytes) -> Vec<(String, String)> {
    let shown = |message: &Broadcast| {
        let Broadcast { topic, event, payload, class, stamp, .. } = message;
        format!("{topic:?} {event:?} {payload:?} {class:?} {stamp:?}")
    };
    let broadcast = wire::decode_broadcast(bytes).ok().map(|message| {
        let again = wire::decode_broadcast(&wire::encode_broadcast(&message));
        (shown(&message), again.map_or_else(|error| error.to_string(), |again| shown(&again)))
    });
    let interest = wire::decode_interest(bytes).ok().map(|change| {
        let again = wire::decode_interest(&wire::encode_interest(change.reset, &change.add, &change.remove));
        (format!("{change:?}"), again.map_or_else(|error| error.to_string(), |again| format!("{again:?}")))
    });
    broadcast.into_iter().chain(interest).collect()
}
