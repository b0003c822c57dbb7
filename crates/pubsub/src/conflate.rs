//! Counting what was received, so that `n` says what was really merged.
//!
//! A consumer (a worker, a mail room) keeps one [`Track`] per topic and one [`Cursor`] per join. The track numbers the updates that
//! arrive, 1, 2, 3 …; the cursor remembers the number of the last one written. An update's `n` is the difference, whatever was left out
//! on the way and why. Should updates be lost before they reach the consumer, they get no number, and the client sees a gap that no `n`
//! explains, as it must.

use crate::{Epoch, Stamp};

/// The updates of one topic as one consumer received them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Track {
    epoch: Epoch,
    last_seq: u64,
    /// All updates from this one to `last_seq` were received.
    contiguous_from: u64,
    received: u64,
    /// The lowest snapshot ahead of the stream that a join was given, while every join here has one.
    ahead: Option<u64>,
    /// Whether some join counts from where the stream stands, or has seen it pass its snapshot: from then on a hole is a loss.
    counted: bool,
}

impl Track {
    /// Takes an update. `None`: it is old, of a lower epoch or already had, and must be dropped. Else its number.
    #[must_use]
    pub fn receive(&mut self, stamp: Stamp) -> Option<u64> {
        if stamp.epoch < self.epoch || (stamp.epoch == self.epoch && stamp.seq <= self.last_seq) {
            return None;
        }
        if stamp.epoch != self.epoch || stamp.seq != self.last_seq + 1 {
            self.contiguous_from = stamp.seq;
            self.received += self.left_out_before(stamp);
        }
        self.counted |= self.ahead.is_some_and(|floor| stamp.epoch != self.epoch || stamp.seq > floor);
        self.epoch = stamp.epoch;
        self.last_seq = stamp.seq;
        self.received += 1;
        Some(self.received)
    }

    /// How many updates before this one were never sent here and are nobody's loss. The last updates of an ended subscription may still
    /// be on their way when the next one begins: between them and the first of the new one there is a hole, which every join's snapshot
    /// covers and whose place among the numbers it has [counted in](Self::join).
    fn left_out_before(&self, stamp: Stamp) -> u64 {
        let covered = !self.counted && self.ahead.is_some_and(|floor| stamp.seq <= floor + 1);
        if covered && stamp.epoch == self.epoch { stamp.seq - 1 - self.last_seq } else { 0 }
    }

    /// Starts a new epoch from its snapshot. `None`: it is old and must be dropped. Else the number that stands for the snapshot.
    #[must_use]
    pub fn restart(&mut self, stamp: Stamp) -> Option<u64> {
        if stamp.epoch <= self.epoch {
            return None;
        }
        self.begin(stamp);
        Some(self.received)
    }

    /// Goes on after a snapshot of a later epoch.
    fn begin(&mut self, after: Stamp) {
        *self = Self {
            epoch: after.epoch,
            last_seq: after.seq,
            contiguous_from: after.seq + 1,
            received: self.received,
            ahead: None,
            counted: true,
        };
    }

    /// The number of the newest update received.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.received
    }

    /// Whether a message of this epoch may still be shown.
    #[must_use]
    pub fn follows(&self, epoch: Epoch) -> bool {
        epoch >= self.epoch
    }

    /// A cursor for a join whose snapshot was taken at `floor`: updates up to it are not its business, those after it are.
    #[must_use]
    pub fn join(&mut self, floor: Option<Stamp>) -> Cursor {
        let Some(floor) = floor else {
            self.counted = true;
            return Cursor { floor: 0, written: self.received };
        };
        if floor.epoch > self.epoch {
            // The snapshot is of a later run than all that came here: what still comes of the run before is old.
            self.begin(floor);
        }
        if floor.epoch < self.epoch {
            self.counted = true;
            return Cursor { floor: 0, written: self.received };
        }
        let written = if floor.seq >= self.last_seq {
            // These are still on their way here and will be numbered as they come.
            if !self.counted {
                self.ahead = Some(self.ahead.map_or(floor.seq, |ahead| ahead.min(floor.seq)));
            }
            self.received + (floor.seq - self.last_seq)
        } else {
            self.counted = true;
            let had = self.last_seq - floor.seq.max(self.contiguous_from.saturating_sub(1));
            self.received.saturating_sub(had)
        };
        Cursor { floor: floor.seq, written }
    }
}

/// One join's place in its topic.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    floor: u64,
    written: u64,
}

impl Cursor {
    /// Whether the join's snapshot already contains this update.
    #[must_use]
    pub fn had(&self, seq: u64) -> bool {
        seq <= self.floor
    }

    /// Whether the update with this number is the next: written now, it would stand for itself alone.
    #[must_use]
    pub fn precedes(&self, number: u64) -> bool {
        self.written + 1 == number
    }

    /// Writes the update with this number: how many updates it stands for, itself included.
    #[must_use]
    pub fn write(&mut self, number: u64) -> u64 {
        let n = number.saturating_sub(self.written).max(1);
        self.written = number;
        n
    }

    /// Writes the snapshot of a new epoch: what was received before it is no longer counted.
    pub fn restart(&mut self, number: u64) {
        *self = Self { floor: 0, written: number };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(clock: u64, seq: u64) -> Stamp {
        Stamp { epoch: Epoch { clock, incarnation: 1, node: 1 }, seq }
    }

    #[test]
    fn old_and_repeated_updates_are_dropped() {
        let mut track = Track::default();
        assert_eq!(track.receive(at(2, 5)), Some(1));
        assert_eq!(track.receive(at(2, 5)), None);
        assert_eq!(track.receive(at(2, 4)), None);
        assert_eq!(track.receive(at(1, 9)), None);
        assert_eq!(track.receive(at(3, 1)), Some(2));
    }

    #[test]
    fn a_snapshot_taken_ahead_of_the_stream_does_not_count_what_it_contains() {
        let mut track = Track::default();
        let _ = track.receive(at(1, 5));
        let mut cursor = track.join(Some(at(1, 7)));
        let numbers: Vec<_> = (6..=9).map(|seq| (seq, track.receive(at(1, seq)))).collect();
        let (_, ninth) = numbers[3];
        assert!(cursor.had(6) && cursor.had(7) && !cursor.had(8));
        assert_eq!(cursor.write(ninth.unwrap()), 2, "8 and 9");
    }

    #[test]
    fn a_hole_on_the_way_here_stays_a_hole() {
        let mut track = Track::default();
        let mut cursor = track.join(Some(at(1, 1)));
        let _ = track.receive(at(1, 2));
        // 3 and 4 never come.
        let number = track.receive(at(1, 5)).unwrap();
        assert_eq!(cursor.write(number), 2, "2 and 5 were received; the client sees 5 - 1 > 2");
    }

    /// 3 is the last of a subscription that has ended; 4 to 6 came in nobody's time; the next one begins with 7 or later.
    #[test]
    fn the_hole_between_two_subscriptions_is_nobodys_loss() {
        for first in 5..=8 {
            let mut track = Track::default();
            let _ = track.receive(at(1, 3));
            let mut cursors = [track.join(Some(at(1, 7))), track.join(Some(at(1, 8)))];
            let numbers: Vec<_> = (first..=10).map(|seq| track.receive(at(1, seq)).unwrap()).collect();
            let last = *numbers.last().unwrap();
            assert_eq!(cursors.each_mut().map(|cursor| cursor.write(last)), [3, 2], "from {first}");
        }
        let mut track = Track::default();
        let _ = track.receive(at(1, 3));
        let mut cursor = track.join(Some(at(1, 7)));
        let _ = track.receive(at(1, 9));
        let number = track.receive(at(1, 10)).unwrap();
        assert!(cursor.write(number) < 3, "8 is lost");
    }

    proptest! {
        /// However a join skips, the `n` it is told add up to exactly what came after its snapshot.
        #[test]
        fn n_adds_up(total in 1_u64..200, before in 0_u64..200, behind in 0_u64..50, picks in proptest::collection::vec(any::<bool>(), 200)) {
            let mut track = Track::default();
            for seq in 1..=before { let _ = track.receive(at(1, seq)); }
            let floor = before.saturating_sub(behind);
            let mut cursor = track.join(Some(at(1, floor)));
            let (mut told, mut last) = (0, floor);
            for seq in before + 1..=before + total {
                let number = track.receive(at(1, seq)).unwrap();
                if picks[(seq % 200) as usize] || seq == before + total {
                    told += cursor.write(number);
                    last = seq;
                }
            }
            prop_assert_eq!(told, last - floor);
        }
    }
}
