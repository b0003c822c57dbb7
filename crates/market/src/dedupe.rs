//! Quotes that came before.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hashbrown::HashSet;
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::PublisherMark;

/// A symbol's place and the publisher's name for one of its quotes.
type Key = (u32, SmolStr);

/// The `id` of recent quotes, bounded by number and age: the oldest is forgotten first.
#[derive(Debug)]
pub(crate) struct RecentIds {
    known: HashSet<Key>,
    oldest_first: VecDeque<(Instant, Key)>,
    count_max: usize,
    age_max: Duration,
}

impl RecentIds {
    pub(crate) fn new(count_max: usize, age_max: Duration) -> Self {
        Self { known: HashSet::new(), oldest_first: VecDeque::new(), count_max, age_max }
    }

    pub(crate) fn contains(&self, slot: u32, id: &SmolStr) -> bool {
        self.known.contains(&(slot, id.clone()))
    }

    pub(crate) fn insert(&mut self, slot: u32, id: &SmolStr, now: Instant) {
        let key = (slot, id.clone());
        if self.known.insert(key.clone()) {
            self.oldest_first.push_back((now, key));
        }
        while self.known.len() > self.count_max {
            self.forget_oldest();
        }
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        while self.oldest_first.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > self.age_max) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.oldest_first.pop_front() {
            self.known.remove(&key);
        }
    }
}

/// The highest `pseq` that each publisher of one symbol reached, for the [`PUBLISHERS_MAX`] that spoke last.
#[derive(Debug, Default)]
pub(crate) struct PublisherMarks(SmallVec<[PublisherMark; 1]>);

/// Few publishers share a symbol; those beyond are told apart no longer than they speak.
const PUBLISHERS_MAX: usize = 16;

impl PublisherMarks {
    /// Whether the publisher said as much or more before.
    pub(crate) fn covers(&self, mark: &PublisherMark) -> bool {
        self.0.iter().any(|known| known.publisher == mark.publisher && known.pseq >= mark.pseq)
    }

    /// Takes note of a mark that is not covered.
    pub(crate) fn note(&mut self, mark: &PublisherMark) {
        // The order is that of the last word: the first one is forgotten first.
        self.0.retain(|known| known.publisher != mark.publisher);
        if self.0.len() == PUBLISHERS_MAX {
            self.0.remove(0);
        }
        self.0.push(mark.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_remembered_within_both_bounds() {
        let start = Instant::now();
        let mut ids = RecentIds::new(2, Duration::from_secs(10));
        let names: Vec<SmolStr> = ["a", "b", "c"].map(SmolStr::new).into();
        for (name, second) in names.iter().zip(0..) {
            ids.insert(1, name, start + Duration::from_secs(second));
        }
        assert!(!ids.contains(1, &names[0]) && ids.contains(1, &names[1]) && !ids.contains(2, &names[1]));
        ids.expire(start + Duration::from_secs(12));
        assert!(!ids.contains(1, &names[1]) && ids.contains(1, &names[2]));
        assert_eq!(ids.known.len(), ids.oldest_first.len());
    }

    #[test]
    fn a_publisher_that_speaks_is_remembered_and_the_most_silent_one_goes() {
        let mark = |publisher: usize, pseq| PublisherMark { publisher: publisher.to_string().into(), pseq };
        let mut marks = PublisherMarks::default();
        for publisher in 0..PUBLISHERS_MAX {
            marks.note(&mark(publisher, 5));
        }
        assert!(marks.covers(&mark(0, 5)) && marks.covers(&mark(0, 4)) && !marks.covers(&mark(0, 6)));
        marks.note(&mark(0, 6));
        marks.note(&mark(99, 1));
        assert!(marks.covers(&mark(0, 6)) && !marks.covers(&mark(1, 5)) && marks.covers(&mark(99, 1)));
    }
}
