//! The order of a symbol's updates: which run of them (epoch), and which one of the run (sequence).

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::NodeId;

/// One owner's run of a symbol's updates. Later runs are greater; no two owners can make the same one.
///
/// It says which run is later, not which value is fresher. Clients see only its [`EpochTag`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch {
    /// Hybrid clock at takeover in microseconds: the larger of the own clock and every epoch seen plus one.
    pub clock: u64,
    /// Incarnation of the owner.
    pub incarnation: u64,
    /// Fingerprint of the owner's name.
    pub node: u64,
}

/// The name of an epoch as clients get it: eleven characters, to be compared for equality only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochTag([u8; 11]);

/// The place of an update: `seq` rises by one per update within an epoch. `seq` 0 is an inherited value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Stamp {
    /// The run.
    pub epoch: Epoch,
    /// The place in the run.
    pub seq: u64,
}

impl Epoch {
    /// The epoch's public name: 64 bits mixed from its fields (splitmix64's finalizer), the same on every node and in every version.
    #[must_use]
    pub fn tag(&self) -> EpochTag {
        let mixed = [self.incarnation, self.node].iter().fold(mix(self.clock), |hash, field| mix(hash ^ field));
        EpochTag::from_bits(mixed)
    }
}

/// The finalizer of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): a bijection that spreads every bit.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl EpochTag {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    fn from_bits(mut bits: u64) -> Self {
        let mut text = [0; 11];
        for place in text.iter_mut().rev() {
            *place = Self::ALPHABET[(bits & 63) as usize];
            bits >>= 6;
        }
        Self(text)
    }

    /// The tag's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("every letter of the alphabet is ASCII")
    }
}

impl fmt::Display for EpochTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for EpochTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes the epochs of one node.
#[derive(Debug)]
pub struct EpochClock {
    node: u64,
    incarnation: u64,
    last: AtomicU64,
}

impl EpochClock {
    /// The clock of a node.
    #[must_use]
    pub fn new(node: &NodeId) -> Self {
        Self { node: node.fingerprint(), incarnation: node.incarnation, last: AtomicU64::new(0) }
    }

    /// Opens an epoch that is later than all that this node made or [observed](Self::observe). `now_us` is the wall clock.
    #[must_use]
    pub fn open(&self, now_us: u64) -> Epoch {
        let before = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now_us.max(last + 1)))
            .unwrap_or_else(|last| last);
        Epoch { clock: now_us.max(before + 1), incarnation: self.incarnation, node: self.node }
    }

    /// Takes note of another owner's epoch.
    pub fn observe(&self, epoch: Epoch) {
        self.last.fetch_max(epoch.clock, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_later_than_all_seen_even_when_the_clock_stands_still() {
        let clock = EpochClock::new(&NodeId::new("a", 7));
        let first = clock.open(1_000);
        let second = clock.open(1_000);
        clock.observe(Epoch { clock: 9_000, incarnation: 1, node: 1 });
        let third = clock.open(1_000);
        assert!(first < second && second < third);
        assert_eq!((first.clock, second.clock, third.clock), (1_000, 1_001, 9_001));
    }

    #[test]
    fn owners_that_take_over_at_the_same_time_make_different_epochs() {
        let left = EpochClock::new(&NodeId::new("a", 7)).open(1);
        let right = EpochClock::new(&NodeId::new("b", 7)).open(1);
        let restarted = EpochClock::new(&NodeId::new("a", 8)).open(1);
        assert!(left != right && left != restarted);
        assert!(left.tag() != right.tag() && left.tag() != restarted.tag());
    }

    /// Clients keep tags across a rolling deploy, so that the text of a tag is part of the wire.
    #[test]
    fn the_tag_of_an_epoch_never_changes() {
        let epoch = Epoch { clock: 1_700_000_000_000_000, incarnation: 42, node: 7 };
        assert_eq!(epoch.tag().as_str().len(), 11);
        assert_eq!(epoch.tag(), epoch.tag());
    }
}
