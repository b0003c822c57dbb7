//! The topics that a worker's sockets have joined.

use hashbrown::HashMap;
use tickwire_pubsub::{PubSub, SinkId, Subscription, Topic, Track};

use crate::outbox::BurstId;

/// The topics of one worker: one subscription of the node's pubsub each, however many of its sockets are on it.
pub(super) struct Topics {
    pubsub: PubSub,
    sink: SinkId,
    topics: HashMap<Topic, LocalTopic>,
}

pub(super) struct LocalTopic {
    pub(super) track: Track,
    pub(super) subscribers: Vec<Subscriber>,
    /// The burst that what comes is added to, while nobody owes it yet.
    pub(super) burst: Option<BurstId>,
    _subscription: Subscription,
}

/// A join, by its socket and slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) socket: usize,
    pub(super) slot: u32,
}

impl Topics {
    pub(super) fn new(pubsub: PubSub, sink: SinkId) -> Self {
        Self { pubsub, sink, topics: HashMap::new() }
    }

    pub(super) fn get_mut(&mut self, topic: &Topic) -> Option<&mut LocalTopic> {
        self.topics.get_mut(topic)
    }

    /// Adds a join to a topic; returns its place there.
    pub(super) fn subscribe(&mut self, topic: &Topic, subscriber: Subscriber) -> usize {
        let local = self.topics.entry_ref(topic).or_insert_with(|| LocalTopic {
            track: Track::default(),
            subscribers: Vec::new(),
            burst: None,
            _subscription: self.pubsub.subscribe(topic, self.sink),
        });
        local.subscribers.push(subscriber);
        local.subscribers.len() - 1
    }

    /// Has nothing added any more to what was gathered so far.
    pub(super) fn forget_bursts(&mut self) {
        for local in self.topics.values_mut() {
            local.burst = None;
        }
    }

    /// Takes the join at a place out of a topic. Returns the one that stands there now, whose place has changed.
    #[must_use]
    pub(super) fn unsubscribe(&mut self, topic: &Topic, place: usize) -> Option<Subscriber> {
        let local = self.topics.get_mut(topic)?;
        local.subscribers.swap_remove(place);
        let moved = local.subscribers.get(place).copied();
        if local.subscribers.is_empty() {
            self.topics.remove(topic);
        }
        moved
    }
}
