//! What other nodes want to receive from this one. Pure.

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::{NodeId, Topic};

/// A peer's word on what it wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InterestChange {
    /// It forgets all that it said before.
    pub(crate) reset: bool,
    pub(crate) add: Vec<Topic>,
    pub(crate) remove: Vec<Topic>,
}

/// Which peers want which topic.
#[derive(Debug, Default)]
pub struct InterestTable {
    by_topic: HashMap<Topic, SmallVec<[NodeId; 2]>>,
}

impl InterestTable {
    /// Applies what a peer said; words of one peer are applied in the order in which it said them.
    pub fn apply(&mut self, peer: &NodeId, change: InterestChange) {
        if change.reset {
            self.forget(peer);
        }
        for topic in change.add {
            let nodes = self.by_topic.entry(topic).or_default();
            if !nodes.contains(peer) {
                nodes.push(peer.clone());
            }
        }
        for topic in &change.remove {
            if let Some(nodes) = self.by_topic.get_mut(topic) {
                nodes.retain(|node| node != peer);
                if nodes.is_empty() {
                    self.by_topic.remove(topic);
                }
            }
        }
    }

    /// Forgets a peer.
    pub fn forget(&mut self, peer: &NodeId) {
        self.by_topic.retain(|_, nodes| {
            nodes.retain(|node| node != peer);
            !nodes.is_empty()
        });
    }

    /// The peers that want a topic.
    #[must_use]
    pub fn nodes_for(&self, topic: &Topic) -> &[NodeId] {
        self.by_topic.get(topic).map_or(&[], SmallVec::as_slice)
    }

    /// Whether no peer wants anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_starts_anew_or_goes_leaves_nothing_behind() {
        let (a, b) = (NodeId::new("a", 1), NodeId::new("b", 1));
        let topics: Vec<_> = ["x", "y"].map(|text| Topic::new(text).unwrap()).into();
        let mut table = InterestTable::default();
        let add = |add: &[Topic], reset| InterestChange { reset, add: add.to_vec(), remove: vec![] };
        table.apply(&a, add(&topics, false));
        table.apply(&b, add(&topics[..1], false));
        assert_eq!(table.nodes_for(&topics[0]), &[a.clone(), b.clone()]);
        table.apply(&a, add(&topics[1..], true));
        assert_eq!(table.nodes_for(&topics[0]), std::slice::from_ref(&b));
        table.apply(&b, InterestChange { remove: topics.clone(), ..Default::default() });
        table.forget(&a);
        assert!(table.is_empty());
    }
}
