//! The node's switchboard: which sinks want a topic, and handing them a batch.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use crate::{Broadcast, InterestTable, Lane, NodeId, Peers, Topic, metrics, wire};

/// Takes the messages of the topics it is subscribed to.
pub trait Sink: Send + Sync + fmt::Debug {
    /// Takes messages in order. Called while the publisher holds its own lock: it must neither block nor publish.
    fn deliver(&self, batch: &[Arc<Broadcast>]);
}

/// Names an attached sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SinkId(u32);

/// Some consumer has no room: nothing was published, try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is at capacity")]
pub struct Busy;

/// Counts the sinks that have no room. While there is one, nothing new is [admitted](PubSub::admit).
///
/// A sink that would rather slow publishers down than lose or merge messages holds this and says so; between a publisher's `admit` and
/// its `broadcast` others may publish, so a sink's bound is exceeded by at most one batch of each publisher.
#[derive(Debug, Default)]
pub struct Pressure(AtomicUsize);

impl Pressure {
    /// One more sink has no room.
    pub fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// A sink that had no room has some.
    pub fn release(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// A power of two that keeps two workers that join different topics from waiting for each other.
const TOPIC_SHARDS: usize = 64;

type Subscribers = SmallVec<[SinkId; 4]>;

#[derive(Debug, Default)]
struct Sinks {
    by_id: HashMap<SinkId, Arc<dyn Sink>>,
    next: u32,
}

struct Inner {
    topics: [RwLock<HashMap<Topic, Subscribers>>; TOPIC_SHARDS],
    sinks: RwLock<Sinks>,
    remote: RwLock<InterestTable>,
    peers: Arc<dyn Peers>,
    /// Interest leaves in the order in which it arose: the first subscriber of a topic and its last one may come from two threads.
    interest_order: Mutex<()>,
    pressure: Arc<Pressure>,
    hasher: hashbrown::DefaultHashBuilder,
}

/// The node's switchboard. Cloning is cheap; all clones are one.
#[derive(Clone)]
pub struct PubSub(Arc<Inner>);

/// A sink's wish for a topic; dropping it is leaving.
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    pubsub: PubSub,
    topic: Topic,
    sink: SinkId,
}

impl PubSub {
    /// A switchboard that reaches other nodes through `peers`.
    #[must_use]
    pub fn new(peers: Arc<dyn Peers>) -> Self {
        Self(Arc::new(Inner {
            topics: std::array::from_fn(|_| RwLock::default()),
            sinks: RwLock::default(),
            remote: RwLock::default(),
            peers,
            interest_order: Mutex::default(),
            pressure: Arc::default(),
            hasher: hashbrown::DefaultHashBuilder::default(),
        }))
    }

    /// Adds a sink. It gets nothing until it [subscribes](Self::subscribe).
    pub fn attach(&self, sink: Arc<dyn Sink>) -> SinkId {
        let mut sinks = self.0.sinks.write();
        let id = SinkId(sinks.next);
        sinks.next += 1;
        sinks.by_id.insert(id, sink);
        id
    }

    /// Removes a sink; its subscriptions must be gone.
    pub fn detach(&self, sink: SinkId) {
        self.0.sinks.write().by_id.remove(&sink);
    }

    /// The node's pressure gauge, for sinks that can be full.
    #[must_use]
    pub fn pressure(&self) -> Arc<Pressure> {
        Arc::clone(&self.0.pressure)
    }

    /// Subscribes a sink to a topic: every message whose publication begins after this call reaches it. A sink subscribes to a topic at
    /// most once at a time.
    pub fn subscribe(&self, topic: &Topic, sink: SinkId) -> Subscription {
        let first = {
            let mut topics = self.shard(topic).write();
            let subscribers = topics.entry(topic.clone()).or_default();
            debug_assert!(!subscribers.contains(&sink), "a sink subscribes to a topic once");
            subscribers.push(sink);
            subscribers.len() == 1
        };
        if first {
            self.tell_interest(topic);
        }
        Subscription { pubsub: self.clone(), topic: topic.clone(), sink }
    }

    /// Whether the consumers have room for more.
    ///
    /// # Errors
    /// If one has none. Counted by the caller, who knows what it turned away.
    pub fn admit(&self) -> Result<(), Busy> {
        if self.0.pressure.is_up() { Err(Busy) } else { Ok(()) }
    }

    /// Whether anybody wants a topic, here or on another node. A publisher that finds nobody need not write the message: who subscribes
    /// from now on gets what is published from now on.
    #[must_use]
    pub fn wants(&self, topic: &Topic) -> bool {
        self.shard(topic).read().contains_key(topic) || !self.0.remote.read().nodes_for(topic).is_empty()
    }

    /// Publishes messages, in order, to the subscribers on every node.
    pub fn broadcast(&self, batch: &[Arc<Broadcast>]) {
        self.send_to_peers(batch);
        self.dispatch(batch);
    }

    /// Hands messages, in order, to the subscribers on this node only. What came from a peer goes this way: one hop, no loops.
    pub fn dispatch(&self, batch: &[Arc<Broadcast>]) {
        let wanted = self.wanted(batch);
        if wanted.is_empty() {
            return;
        }
        let sinks = self.0.sinks.read();
        let mut share: SmallVec<[Arc<Broadcast>; 8]> = SmallVec::new();
        for group in wanted.chunk_by(|left, right| left.0 == right.0) {
            let Some(sink) = sinks.by_id.get(&group[0].0) else { continue };
            share.clear();
            share.extend(group.iter().map(|&(_, index)| Arc::clone(&batch[index])));
            sink.deliver(&share);
        }
    }

    /// Which sink wants which message: by sink, then in order.
    fn wanted(&self, batch: &[Arc<Broadcast>]) -> SmallVec<[(SinkId, usize); 16]> {
        let mut wanted = SmallVec::new();
        for (index, message) in batch.iter().enumerate() {
            if let Some(subscribers) = self.shard(&message.topic).read().get(&message.topic) {
                wanted.extend(subscribers.iter().map(|&sink| (sink, index)));
            }
        }
        // With one message the subscribers of a topic are distinct already.
        if batch.len() > 1 {
            wanted.sort_unstable();
        }
        wanted
    }

    fn send_to_peers(&self, batch: &[Arc<Broadcast>]) {
        let remote = self.0.remote.read();
        if remote.is_empty() {
            return;
        }
        for message in batch {
            let nodes = remote.nodes_for(&message.topic);
            if nodes.is_empty() {
                continue;
            }
            let bytes = wire::encode_broadcast(message);
            for node in nodes {
                if self.0.peers.send(node, Lane::Publish, bytes.clone()).is_err() {
                    metrics::dropped(metrics::MESH_PUBLISH_LANE, 1);
                }
            }
        }
    }

    /// Takes a message of [`Lane::Publish`] or an interest message of [`Lane::Control`] from a peer.
    ///
    /// # Errors
    /// If it is not one; the link is to be broken then, for nothing that follows can be trusted.
    pub fn receive(&self, from: &NodeId, lane: Lane, bytes: &Bytes) -> Result<(), wire::WireError> {
        if lane == Lane::Publish {
            let message = Arc::new(wire::decode_broadcast(bytes)?);
            self.dispatch(&[message]);
        } else {
            self.0.remote.write().apply(from, wire::decode_interest(bytes)?);
        }
        Ok(())
    }

    /// A link to a peer is up: tells it all that this node wants.
    pub fn peer_up(&self, peer: &NodeId) {
        let _order = self.0.interest_order.lock();
        let mut topics = Vec::new();
        for shard in &self.0.topics {
            topics.extend(shard.read().keys().cloned());
        }
        self.send_interest(peer, &wire::encode_interest(true, &topics, &[]));
    }

    /// A peer is gone, and its wishes with it.
    pub fn peer_down(&self, peer: &NodeId) {
        self.0.remote.write().forget(peer);
    }

    fn unsubscribe(&self, topic: &Topic, sink: SinkId) {
        let last = {
            let mut topics = self.shard(topic).write();
            let Some(subscribers) = topics.get_mut(topic) else { return };
            if let Some(place) = subscribers.iter().position(|&id| id == sink) {
                subscribers.swap_remove(place);
            }
            let last = subscribers.is_empty();
            if last {
                topics.remove(topic);
            }
            last
        };
        if last {
            self.tell_interest(topic);
        }
    }

    /// Tells every peer whether this node wants a topic, as it stands at the time of telling.
    fn tell_interest(&self, topic: &Topic) {
        let peers = self.0.peers.nodes();
        if peers.is_empty() {
            return;
        }
        let _order = self.0.interest_order.lock();
        let wants = self.shard(topic).read().contains_key(topic);
        let topics = std::slice::from_ref(topic);
        let bytes =
            if wants { wire::encode_interest(false, topics, &[]) } else { wire::encode_interest(false, &[], topics) };
        for peer in peers {
            self.send_interest(&peer, &bytes);
        }
    }

    fn send_interest(&self, peer: &NodeId, bytes: &Bytes) {
        if self.0.peers.send(peer, Lane::Control, bytes.clone()).is_err() {
            metrics::dropped(metrics::MESH_CONTROL_LANE, 1);
        }
    }

    fn shard(&self, topic: &Topic) -> &RwLock<HashMap<Topic, Subscribers>> {
        use std::hash::BuildHasher as _;
        let hash = self.0.hasher.hash_one(topic.as_str());
        // The map within the shard hashes with a key of its own, so that these bits are not spent twice.
        &self.0.topics[usize::from(hash.to_le_bytes()[0]) % TOPIC_SHARDS]
    }
}

impl fmt::Debug for PubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubSub").field("sinks", &self.0.sinks.read().by_id.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("topic", &self.topic).field("sink", &self.sink).finish()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.pubsub.unsubscribe(&self.topic, self.sink);
    }
}
