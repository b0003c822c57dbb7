//! How long to wait before trying again.

use std::time::Duration;

/// Exponential, capped, with full jitter above a floor: clients that lose their server at once do not come back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The shortest wait; the first one is up to twice as long.
    pub first: Duration,
    /// The longest wait.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), cap: Duration::from_secs(10) }
    }
}

impl Backoff {
    /// The wait before the attempt after `failures` failed ones: between `first` and `first` × 2^(`failures` + 1), at most `cap`.
    #[must_use]
    pub fn delay(&self, failures: u32, random: &mut fastrand::Rng) -> Duration {
        let bound =
            self.first.saturating_mul(2u32.saturating_pow(failures.saturating_add(1))).min(self.cap).max(self.first);
        self.first + (bound - self.first).mul_f64(random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_is_capped_and_differs_between_clients() {
        let backoff = Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(3) };
        let mut random = fastrand::Rng::with_seed(7);
        for failures in 0..200 {
            let bound = Duration::from_millis(100).saturating_mul(2u32.saturating_pow(failures + 1)).min(backoff.cap);
            let delay = backoff.delay(failures, &mut random);
            assert!(delay >= backoff.first && delay <= bound, "{failures}: {delay:?}");
        }
        let waits: std::collections::HashSet<_> = (0..20).map(|_| backoff.delay(5, &mut random)).collect();
        assert!(waits.len() > 15);
    }
}
