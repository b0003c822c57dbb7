//! What supervised units share: how long to wait before trying again, and what a panic said.

use std::time::Duration;

/// Bounds of the pause before a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOffBounds {
    /// The pause before the first retry.
    pub first: Duration,
    /// No pause is longer than this.
    pub cap: Duration,
}

impl Default for BackOffBounds {
    fn default() -> Self {
        Self { first: Duration::from_millis(250), cap: Duration::from_secs(30) }
    }
}

/// The pauses of one run of failures.
///
/// Each pause is between half and the whole of a value that doubles up to the cap ("equal jitter"): many feeds that lost the same venue do
/// not return to it in step, and none hammers it by drawing a pause near zero.
#[derive(Debug, Clone)]
pub(crate) struct BackOff {
    bounds: BackOffBounds,
    failures: u32,
}

impl BackOff {
    pub(crate) fn new(bounds: BackOffBounds) -> Self {
        Self { bounds, failures: 0 }
    }

    /// The pause after one more failure.
    pub(crate) fn next_pause(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let doubled = self.bounds.first.saturating_mul(1 << self.failures.min(16)).min(self.bounds.cap);
        self.failures = self.failures.saturating_add(1);
        doubled.mul_f64(0.5 + rng.f64() / 2.0)
    }

    /// Failures since the last [`reset`](Self::reset).
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// To be called once the thing has worked for a while: the next failure starts from the shortest pause.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// A count as a gauge shows it; queues are far shorter than where a float begins to round.
pub(crate) fn gauge_value(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_jitter_up_to_the_cap() {
        let bounds = BackOffBounds { first: Duration::from_millis(100), cap: Duration::from_secs(1) };
        let mut rng = fastrand::Rng::with_seed(7);
        let mut back_off = BackOff::new(bounds);
        for expected_ms in [100, 200, 400, 800, 1000, 1000, 1000] {
            let full = Duration::from_millis(expected_ms);
            let pause = back_off.next_pause(&mut rng);
            assert!(pause >= full / 2 && pause <= full, "{pause:?} is not within half and whole of {full:?}");
        }
        assert_eq!(back_off.failures(), 7);
        back_off.reset();
        assert!(back_off.next_pause(&mut rng) <= bounds.first);
    }

    #[test]
    fn a_thousand_failures_do_not_overflow() {
        let mut back_off = BackOff::new(BackOffBounds::default());
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..1000 {
            assert!(back_off.next_pause(&mut rng) <= BackOffBounds::default().cap);
        }
    }
}
