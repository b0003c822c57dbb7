//! The topics that a worker's sockets have joined.

use std::{sync::Arc, time::Instant};

use hashbrown::HashMap;
use tickwire_pubsub::{Broadcast, PubSub, SinkId, Subscription, Topic, Track};

/// The topics of one worker: one subscription of the node's pubsub each, however many of its sockets are on it.
pub(super) struct Topics {
    pubsub: PubSub,
    sink: SinkId,
    topics: HashMap<Topic, LocalTopic>,
}

pub(super) struct LocalTopic {
    pub(super) track: Track,
    pub(super) subscribers: Vec<Subscriber>,
    /// The newest update of a batch that came late.
    pub(super) late: Option<Late>,
    _subscription: Subscription,
}

/// A join, by its socket and slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) socket: usize,
    pub(super) slot: u32,
}

/// An update that stands for those that came before it in the same batch.
pub(super) struct Late {
    pub(super) message: Arc<Broadcast>,
    pub(super) number: u64,
    pub(super) since: Instant,
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
            late: None,
            _subscription: self.pubsub.subscribe(topic, self.sink),
        });
        local.subscribers.push(subscriber);
        local.subscribers.len() - 1
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

impl LocalTopic {
    /// Keeps the newest update of a late batch; tells whether it is the first of its topic.
    pub(super) fn hold(&mut self, message: Arc<Broadcast>, number: u64) -> bool {
        let since = self.late.as_ref().map_or(message.accepted_at, |late| late.since);
        self.late.replace(Late { message, number, since }).is_none()
    }
}
