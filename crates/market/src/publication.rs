//! What a shard has to say, as far as somebody listens.

use bytes::Bytes;
use tickwire_pubsub::{Role, Stamp, Topic};

/// A message that the shard's caller must publish, in the order in which they come out.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) topic: Topic,
    pub(crate) role: Role,
    pub(crate) payload: Bytes,
    pub(crate) stamp: Stamp,
}

/// What must be published, as far as somebody wants it: of what nobody wants, not even the text is written.
///
/// Whoever comes later subscribes before it takes its snapshot, and the snapshot waits for the shard: it has what was left out here.
pub(crate) struct Publications<'a> {
    wanted: &'a dyn Fn(&Topic) -> bool,
    messages: Vec<Publication>,
}

impl<'a> Publications<'a> {
    /// None yet; `wanted` tells whether a topic has subscribers, here or on another node.
    pub(crate) fn new(wanted: &'a dyn Fn(&Topic) -> bool) -> Self {
        Self { wanted, messages: Vec::new() }
    }

    /// Adds a message, if somebody wants its topic.
    pub(crate) fn push(&mut self, topic: &Topic, role: Role, stamp: Stamp, payload: impl FnOnce() -> Bytes) {
        if (self.wanted)(topic) {
            self.messages.push(Publication { topic: topic.clone(), role, payload: payload(), stamp });
        }
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Takes back those beyond the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.messages.truncate(len);
    }

    /// Hands the messages over.
    pub(crate) fn take(&mut self) -> Vec<Publication> {
        std::mem::take(&mut self.messages)
    }
}
