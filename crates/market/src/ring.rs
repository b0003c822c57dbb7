//! The last updates of a symbol, for clients that resume.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::value::Value;

/// An update as it is kept: its numbers, not its text. Few are ever asked for, and writing the text then costs less than keeping it ready.
#[derive(Debug)]
struct Entry {
    accepted: Instant,
    value: Value,
}

/// What a kept update costs: its place, and a quarter more for places that are not filled yet.
const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<Entry>() / 4;

/// Places that a ring begins with.
const PLACES_MIN: usize = 4;

/// Updates of one epoch up to the newest, without a gap: they leave in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    /// The `seq` of the newest update, kept or not.
    last_seq: u64,
}

impl Ring {
    /// Adds the next update and lets go of those beyond `count`, which is at least 1.
    pub(crate) fn push(&mut self, value: Value, accepted: Instant, count: usize) {
        self.last_seq += 1;
        while self.entries.len() >= count {
            self.entries.pop_front();
        }
        let places = self.entries.len();
        if places == self.entries.capacity() {
            // By a quarter rather than to twice as many: most of a ring's room is its own.
            self.entries.reserve_exact((places / 4).max(PLACES_MIN));
        }
        self.entries.push_back(Entry { accepted, value });
    }

    /// Lets go of the oldest update.
    pub(crate) fn pop(&mut self) {
        self.entries.pop_front();
        self.give_back();
    }

    /// Lets go of what is older than `age`.
    pub(crate) fn expire(&mut self, now: Instant, age: Duration) {
        let too_old = |entry: &Entry| now.saturating_duration_since(entry.accepted) > age;
        if !self.entries.front().is_some_and(too_old) {
            return;
        }
        // Acceptance times rise.
        let gone = self.entries.partition_point(too_old);
        self.entries.drain(..gone);
        self.give_back();
    }

    /// A symbol that fell silent, or whose updates had to make room, keeps no more places than twice what it fills.
    fn give_back(&mut self) {
        let (filled, places) = (self.entries.len(), self.entries.capacity());
        if filled == 0 || (places > PLACES_MIN && filled < places / 2) {
            self.entries.shrink_to(filled + filled / 4);
        }
    }

    /// How many bytes the kept updates take.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.len() * ENTRY_BYTES
    }

    /// Every update after `seq` with its own `seq`, oldest first; `None` if one of them is gone, or `seq` was never given.
    pub(crate) fn after(&self, seq: u64) -> Option<impl ExactSizeIterator<Item = (u64, &Value)>> {
        let missed = usize::try_from(self.last_seq.checked_sub(seq)?).ok()?;
        let skip = self.entries.len().checked_sub(missed)?;
        Some(self.entries.range(skip..).enumerate().map(move |(place, entry)| (seq + 1 + place as u64, &entry.value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ring: &Ring, seq: u64) -> Option<Vec<u64>> {
        let tell = |(seq, value): (u64, &Value)| {
            assert_eq!(value.ts, i64::try_from(seq).ok(), "a value is told with its own number");
            seq
        };
        Some(ring.after(seq)?.map(tell).collect())
    }

    fn value(seq: u32) -> Value {
        Value { ts: Some(seq.into()), ..Value::default() }
    }

    #[test]
    fn a_ring_answers_only_when_nothing_after_the_seq_is_gone() {
        let start = Instant::now();
        let mut ring = Ring::default();
        assert_eq!(after(&ring, 0), Some(vec![]));
        for seq in 1..=5_u32 {
            ring.push(value(seq), start + Duration::from_secs(seq.into()), 3);
        }
        assert_eq!(after(&ring, 5), Some(vec![]));
        assert_eq!(after(&ring, 2), Some(vec![3, 4, 5]));
        assert_eq!(after(&ring, 1), None, "2 is gone");
        assert_eq!(after(&ring, 6), None, "6 was never given");
        ring.expire(start + Duration::from_secs(7), Duration::from_secs(2));
        assert_eq!(after(&ring, 4), Some(vec![5]));
        assert_eq!(after(&ring, 3), None);
        ring.pop();
        assert_eq!((ring.bytes(), after(&ring, 5)), (0, Some(vec![])));
    }

    /// What a ring is said to take is what it takes, give or take its spare places.
    #[test]
    fn the_room_of_a_ring_follows_what_it_keeps() {
        let start = Instant::now();
        let mut ring = Ring::default();
        for seq in 1..=1_000 {
            ring.push(value(seq), start, 500);
            assert!(ring.entries.capacity() <= ring.entries.len() * 5 / 4 + PLACES_MIN);
        }
        assert_eq!(ring.entries.len(), 500);
        for _ in 0..500 {
            ring.pop();
            assert!(ring.entries.capacity() <= ring.entries.len() * 2 + 2 * PLACES_MIN);
        }
        ring.push(value(1), start, 500);
        ring.expire(start + Duration::from_secs(9), Duration::from_secs(8));
        assert_eq!(ring.entries.capacity(), 0);
    }
}
