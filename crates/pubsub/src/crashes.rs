//! How often a unit may crash.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Crashes of one unit, or of several of a kind: told in the log at a bounded rate, and so many within a while that the node should not be
/// trusted with new clients.
#[derive(Debug)]
pub struct CrashBudget {
    max: u32,
    counts: Mutex<Option<Counts>>,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    /// When the first of them was.
    since: Instant,
    crashes: u32,
    second: Instant,
    in_second: u32,
}

/// A budget is for so long; what crashes less often recovers by itself.
const WINDOW: Duration = Duration::from_secs(600);
/// Crashes that are told in a second.
const TOLD_PER_SECOND: u32 = 10;

impl CrashBudget {
    /// A budget of `max` crashes within ten minutes.
    #[must_use]
    pub const fn new(max: u32) -> Self {
        Self { max, counts: Mutex::new(None) }
    }

    /// Counts a crash; says whether it is to be told in the log.
    pub fn crashed(&self, now: Instant) -> bool {
        let mut counts = self.counts.lock();
        let counts = counts.get_or_insert(Counts { since: now, crashes: 0, second: now, in_second: 0 });
        if now.saturating_duration_since(counts.since) >= WINDOW {
            *counts = Counts { since: now, crashes: 0, second: now, in_second: 0 };
        }
        if now.saturating_duration_since(counts.second) >= Duration::from_secs(1) {
            (counts.second, counts.in_second) = (now, 0);
        }
        counts.crashes = counts.crashes.saturating_add(1);
        counts.in_second = counts.in_second.saturating_add(1);
        counts.in_second <= TOLD_PER_SECOND
    }

    /// Whether there were more than there may be. Ten minutes after the first of them that is forgiven.
    #[must_use]
    pub fn is_exhausted(&self, now: Instant) -> bool {
        let counts = self.counts.lock();
        counts.is_some_and(|counts| counts.crashes > self.max && now.saturating_duration_since(counts.since) < WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_by_crashes_in_a_row_and_comes_back() {
        let (budget, start) = (CrashBudget::new(20), Instant::now());
        let told = (0..20).filter(|_| budget.crashed(start)).count();
        assert_eq!((told, budget.is_exhausted(start)), (10, false));
        assert!(budget.crashed(start + Duration::from_secs(1)));
        assert!(budget.is_exhausted(start + WINDOW / 2));
        assert!(!budget.is_exhausted(start + WINDOW));
        budget.crashed(start + WINDOW);
        assert!(!budget.is_exhausted(start + WINDOW));
    }
}
