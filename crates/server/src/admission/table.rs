//! Rates of very many parties in little memory.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::rate::{Nanos, Rate};

/// Parties that share a lock, and that a new one competes with for a place.
const WAYS: usize = 8;
const SETS: usize = 8_192;

/// Remembers of up to 65,536 parties how much of a rate they have used up, in one mebibyte and never more: whoever commands a million
/// addresses cannot make it grow. A party that finds no place takes that of the one of eight that has used up the least, which is as a
/// rule one that has long had its rate back. No list is ever walked: a look takes one lock for eight comparisons.
pub(super) struct RateTable {
    sets: Box<[Mutex<[Slot; WAYS]>]>,
    /// Keyed by chance, so that nobody can choose who their neighbours are.
    hasher: RandomState,
    began: Instant,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    party: u64,
    used_up: Nanos,
}

impl RateTable {
    pub(super) fn new(now: Instant) -> Self {
        let sets = (0..SETS).map(|_| Mutex::new([Slot::default(); WAYS])).collect();
        Self { sets, hasher: RandomState::new(), began: now }
    }

    /// Takes one out of a party's rate.
    ///
    /// # Errors
    /// There is none left; how long until there is.
    pub(super) fn take(&self, party: impl Hash, rate: Rate, now: Instant) -> Result<(), Duration> {
        let party = self.hasher.hash_one(party);
        let now = u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(Nanos::MAX);
        let index = usize::try_from(party % SETS as u64).expect("the number of sets fits a usize");
        let mut set = self.sets[index].lock();
        let known = set.iter().position(|slot| slot.party == party);
        let place = known.or_else(|| (0..WAYS).min_by_key(|place| set[*place].used_up)).unwrap_or(0);
        let used_up = known.map_or(0, |place| set[place].used_up);
        set[place] = Slot { party, used_up: rate.take(used_up, now)? };
        Ok(())
    }
}

impl std::fmt::Debug for RateTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateTable").field("places", &(SETS * WAYS)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn ten() -> Rate {
        Rate::per_second(NonZeroU32::new(10).unwrap())
    }

    #[test]
    fn each_party_has_a_rate_of_its_own() {
        let now = Instant::now();
        let table = RateTable::new(now);
        for party in 0..100 {
            assert_eq!((0..20).filter(|_| table.take(party, ten(), now).is_ok()).count(), 10);
        }
        let later = now + Duration::from_millis(100);
        assert!(table.take(5, ten(), later).is_ok() && table.take(5, ten(), later).is_err());
    }

    /// A flood of parties that come once each must not set the one free that is being held back.
    #[test]
    fn a_flood_of_addresses_neither_grows_the_table_nor_frees_a_busy_party() {
        let now = Instant::now();
        let table = RateTable::new(now);
        while table.take("busy", ten(), now).is_ok() {}
        for party in 0..200_000_u32 {
            assert!(table.take(party, ten(), now).is_ok(), "a party that comes once is let in");
        }
        assert!(table.take("busy", ten(), now).is_err());
    }
}
