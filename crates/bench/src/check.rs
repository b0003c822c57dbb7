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
    /// Deliveries that came a second time, right after the first.
    pub repeated: u64,
    /// Deliveries that were older than the one before.
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
        self.repeated += other.repeated;
        self.disordered += other.disordered;
        self.overcounted += other.overcounted;
        self.unannounced += other.unannounced;
    }

    /// Whether every delivery kept its promise.
    #[must_use]
    pub fn clean(&self) -> bool {
        let Self { lost, repeated, disordered, overcounted, unannounced, .. } = self;
        [lost, repeated, disordered, overcounted, unannounced] == [&0; 5]
    }
}

impl Pair {
    /// A join's reply, or a snapshot, says where it starts. Whether it is the first.
    pub(crate) fn start(&mut self, epoch: &[u8], seq: u64) -> bool {
        let first = !self.joined;
        let base = if first { seq } else { self.base };
        *self = Self { epoch: digest(epoch), seq, base, joined: true };
        first
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
            *if seq == self.seq { &mut checks.repeated } else { &mut checks.disordered } += 1;
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

    /// An epoch, a `seq`, an `n`.
    type Delivery = (&'static [u8], u64, u64);

    /// What the checker says of deliveries on a join that began at 10 of epoch `a`.
    fn check(deliveries: &[Delivery]) -> Checks {
        let (mut pair, mut checks) = (Pair::default(), Checks::default());
        pair.start(b"a", 10);
        for (epoch, seq, n) in deliveries {
            pair.deliver(epoch, *seq, *n, &mut checks);
        }
        checks
    }

    #[test]
    fn what_keeps_its_promise_is_clean() {
        let checks = check(&[(b"a", 11, 1), (b"a", 15, 4), (b"a", 16, 1)]);
        assert_eq!(checks, Checks { deliveries: 3, unconflated: 2, covered: 6, ..Checks::default() });
        assert!(checks.clean());
    }

    #[test]
    fn every_broken_promise_is_counted() {
        let clean = Checks::default();
        let faults: [(&str, &[Delivery], Checks); 8] = [
            ("dropped", &[(b"a", 11, 1), (b"a", 13, 1)], Checks { lost: 1, ..clean }),
            ("repeated", &[(b"a", 11, 1), (b"a", 11, 1)], Checks { repeated: 1, ..clean }),
            ("swapped", &[(b"a", 12, 1), (b"a", 11, 1)], Checks { lost: 1, disordered: 1, ..clean }),
            ("n too small", &[(b"a", 15, 4)], Checks { lost: 1, ..clean }),
            ("n of nothing", &[(b"a", 11, 0)], Checks { lost: 1, ..clean }),
            ("n too large", &[(b"a", 12, 3)], Checks { overcounted: 1, ..clean }),
            ("an epoch unheard of", &[(b"b", 11, 1)], Checks { unannounced: 1, ..clean }),
            ("an epoch that was left", &[(b"b", 1, 1), (b"a", 11, 1)], Checks { unannounced: 2, ..clean }),
        ];
        for (fault, deliveries, expected) in faults {
            let checks = check(deliveries);
            assert!(!checks.clean(), "{fault}");
            let told = Checks { deliveries: 0, unconflated: 0, covered: 0, ..checks };
            assert_eq!(told, expected, "{fault}");
        }
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
