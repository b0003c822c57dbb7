//! The check of every delivery: one state per socket and symbol.

use serde::Serialize;

/// What is known of one symbol on one socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    /// A digest of the epoch; 0 before the join's reply.
    epoch: u64,
    pub(crate) seq: u64,
    /// Where the join began.
    base: u64,
    pub(crate) joined: bool,
}

/// What was wrong with deliveries, and how many were right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Checks {
    /// Updates that arrived.
    pub deliveries: u64,
    /// Those that stood for themselves alone (`n` = 1).
    pub unconflated: u64,
    /// Sum of all `n`: updates that were received and merged, or delivered.
    pub covered: u64,
    /// Updates that no `n` explains.
    pub lost: u64,
    /// Deliveries that were not newer than the one before.
    pub disordered: u64,
    /// Deliveries whose `n` is larger than the step of `seq`.
    pub overcounted: u64,
    /// Deliveries of an epoch that nothing announced.
    pub unannounced: u64,
}

impl Checks {
    /// Adds what another thread has seen.
    pub(crate) fn add(&mut self, other: &Self) {
        self.deliveries += other.deliveries;
        self.unconflated += other.unconflated;
        self.covered += other.covered;
        self.lost += other.lost;
        self.disordered += other.disordered;
        self.overcounted += other.overcounted;
        self.unannounced += other.unannounced;
    }

    /// Whether every delivery kept its promise.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.lost == 0 && self.disordered == 0 && self.overcounted == 0 && self.unannounced == 0
    }
}

impl Pair {
    /// A join's reply, or a snapshot, says where it starts.
    pub(crate) fn start(&mut self, epoch: &[u8], seq: u64) {
        let base = if self.joined { self.base } else { seq };
        *self = Self { epoch: digest(epoch), seq, base, joined: true };
    }

    /// Updates between the join and the newest delivery: what was owed up to there.
    pub(crate) fn owed(&self) -> u64 {
        self.seq.saturating_sub(self.base)
    }

    /// Checks a delivery.
    #[inline]
    pub(crate) fn deliver(&mut self, epoch: &[u8], seq: u64, n: u64, checks: &mut Checks) {
        checks.deliveries += 1;
        checks.covered += n;
        checks.unconflated += u64::from(n == 1);
        let epoch = digest(epoch);
        if epoch != self.epoch {
            checks.unannounced += 1;
            *self = Self { epoch, seq, base: seq, joined: true };
            return;
        }
        let Some(step @ 1..) = seq.checked_sub(self.seq) else {
            checks.disordered += 1;
            return;
        };
        checks.lost += step.saturating_sub(n);
        checks.overcounted += u64::from(n > step);
        self.seq = seq;
    }
}

/// FNV-1a: tells the few epochs of a run apart.
#[inline]
fn digest(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_broken_promise_is_counted() {
        let (mut pair, mut checks) = (Pair::default(), Checks::default());
        pair.start(b"a", 10);
        for (epoch, seq, n) in [(b"a", 11, 1), (b"a", 15, 4), (b"a", 18, 2), (b"a", 18, 1), (b"a", 19, 3), (b"b", 1, 1)]
        {
            pair.deliver(epoch, seq, n, &mut checks);
        }
        let expected = Checks {
            deliveries: 6,
            unconflated: 3,
            covered: 12,
            lost: 1,
            disordered: 1,
            overcounted: 1,
            unannounced: 1,
        };
        assert_eq!(checks, expected);
        assert!(!checks.clean());
    }

    #[test]
    fn what_is_owed_counts_from_the_join() {
        let (mut pair, mut checks) = (Pair::default(), Checks::default());
        pair.start(b"a", 10);
        pair.deliver(b"a", 14, 4, &mut checks);
        assert_eq!(pair.owed(), 4);
        assert!(checks.clean());
    }
}
