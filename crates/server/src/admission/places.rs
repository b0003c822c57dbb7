//! How much of something each party has at the moment.

use std::{
    fmt,
    hash::{BuildHasher as _, Hash, RandomState},
    sync::Arc,
};

use hashbrown::{HashMap, hash_map::Entry};
use parking_lot::Mutex;

const SHARDS: usize = 32;

/// Counts places by party. A party that has none is not remembered, so that there are never more of them than places taken, which
/// `limits.connections` bounds.
pub(super) struct Places<K> {
    shards: Box<[Mutex<HashMap<K, u32>>]>,
    hasher: RandomState,
}

impl<K: Hash + Eq + Clone> Places<K> {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Takes one of a party's `max` places.
    pub(super) fn take(self: &Arc<Self>, party: K, max: u32) -> Option<Place<K>> {
        match self.shard(&party).lock().entry(party.clone()) {
            Entry::Occupied(mut taken) if *taken.get() < max => *taken.get_mut() += 1,
            Entry::Occupied(_) => return None,
            Entry::Vacant(vacant) => {
                vacant.insert(1);
            }
        }
        Some(Place { places: Arc::clone(self), party })
    }

    fn give_back(&self, party: &K) {
        let mut shard = self.shard(party).lock();
        if let Some(taken) = shard.get_mut(party) {
            *taken -= 1;
            if *taken == 0 {
                shard.remove(party);
            }
        }
        // A herd that is gone leaves nothing behind.
        if shard.len() * 8 < shard.capacity() {
            shard.shrink_to(64);
        }
    }

    fn shard(&self, party: &K) -> &Mutex<HashMap<K, u32>> {
        let index = self.hasher.hash_one(party) % SHARDS as u64;
        &self.shards[usize::try_from(index).unwrap_or(0)]
    }

    #[cfg(test)]
    fn parties(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl<K> fmt::Debug for Places<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").finish_non_exhaustive()
    }
}

/// A place that a party has; dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub(super) struct Place<K: Hash + Eq + Clone> {
    places: Arc<Places<K>>,
    party: K,
}

impl<K: Hash + Eq + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        self.places.give_back(&self.party);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_has_its_places_and_leaves_no_trace() {
        let places = Arc::new(Places::new());
        let mut held: Vec<_> = (0..3).map(|_| places.take("a", 3)).collect();
        assert!(held.iter().all(Option::is_some) && places.take("a", 3).is_none());
        assert!(places.take("b", 3).is_some());
        held.pop();
        assert!(places.take("a", 3).is_some());
        drop(held);
        assert_eq!(places.parties(), 0);
    }

    #[test]
    fn many_parties_from_many_threads_all_go() {
        let places = Arc::new(Places::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let held: Vec<_> = (0..10_000).map(|party| places.take(party, 4)).collect();
                    assert!(held.iter().all(Option::is_some));
                });
            }
        });
        assert_eq!(places.parties(), 0);
    }
}
