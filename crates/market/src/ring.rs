//! The last updates of a symbol, for clients that resume.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

/// What a kept update costs beside its text: its place here and the headers of its buffer.
const ENTRY_BYTES: usize = 96;

#[derive(Debug)]
struct Entry {
    accepted: Instant,
    payload: Bytes,
}

/// Updates of one epoch up to the newest, without a gap: they leave in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    /// The `seq` of the newest update, kept or not.
    last_seq: u64,
    bytes: usize,
}

impl Ring {
    /// Adds the next update and lets go of those beyond `count`.
    pub(crate) fn push(&mut self, payload: Bytes, accepted: Instant, count: usize) {
        self.bytes += payload.len() + ENTRY_BYTES;
        self.last_seq += 1;
        self.entries.push_back(Entry { accepted, payload });
        while self.entries.len() > count {
            self.pop();
        }
    }

    /// Lets go of the oldest update.
    pub(crate) fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.payload.len() + ENTRY_BYTES;
        }
    }

    /// Lets go of what is older than `age`.
    pub(crate) fn expire(&mut self, now: Instant, age: Duration) {
        while self.entries.front().is_some_and(|entry| now.saturating_duration_since(entry.accepted) > age) {
            self.pop();
        }
        if self.entries.is_empty() {
            // A symbol that fell silent gives its room back.
            self.entries.shrink_to(0);
        }
    }

    /// How many bytes the kept updates take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Every update after `seq`, oldest first; `None` if one of them is gone, or `seq` was never given.
    pub(crate) fn after(&self, seq: u64) -> Option<impl ExactSizeIterator<Item = &Bytes>> {
        let missed = usize::try_from(self.last_seq.checked_sub(seq)?).ok()?;
        let skip = self.entries.len().checked_sub(missed)?;
        Some(self.entries.range(skip..).map(|entry| &entry.payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ring: &Ring, seq: u64) -> Option<Vec<u64>> {
        Some(ring.after(seq)?.map(|text| std::str::from_utf8(text).unwrap().parse().unwrap()).collect())
    }

    #[test]
    fn a_ring_answers_only_when_nothing_after_the_seq_is_gone() {
        let start = Instant::now();
        let mut ring = Ring::default();
        assert_eq!(after(&ring, 0), Some(vec![]));
        for seq in 1..=5_u32 {
            ring.push(Bytes::from(seq.to_string()), start + Duration::from_secs(seq.into()), 3);
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
}
