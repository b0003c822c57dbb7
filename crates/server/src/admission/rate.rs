//! How often something may happen.

use std::{num::NonZeroU32, time::Duration};

/// So many in a second, with a second's worth at once: the generic cell rate algorithm (ITU-T I.371, annex A), which needs one time for
/// each thing that it limits instead of a bucket that somebody has to refill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Nanoseconds that one of them uses up.
    interval: u64,
}

/// Times are nanoseconds since some beginning, so that a limited thing costs eight bytes.
pub(crate) type Nanos = u64;

impl Rate {
    /// How far ahead of the rate one may be.
    const BURST: Nanos = 1_000_000_000;

    /// So many in a second.
    pub(crate) fn per_second(rate: NonZeroU32) -> Self {
        Self { interval: (Self::BURST / u64::from(rate.get())).max(1) }
    }

    /// Takes one at the time `now` from somebody who has used up the rate until `used_up`; returns until when it is then.
    ///
    /// # Errors
    /// There is none left; how long until there is.
    pub(crate) fn take(self, used_up: Nanos, now: Nanos) -> Result<Nanos, Duration> {
        let next = used_up.max(now).saturating_add(self.interval);
        match next.saturating_sub(now).checked_sub(Self::BURST) {
            None | Some(0) => Ok(next),
            Some(ahead) => Err(Duration::from_nanos(ahead)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_comes_at_once_and_the_rest_at_the_rate() {
        let rate = Rate::per_second(NonZeroU32::new(4).unwrap());
        let (mut used_up, now) = (0, 50_000_000_000);
        for _ in 0..4 {
            used_up = rate.take(used_up, now).unwrap();
        }
        assert_eq!(rate.take(used_up, now), Err(Duration::from_millis(250)));
        let later = now + 250_000_000;
        used_up = rate.take(used_up, later).unwrap();
        assert_eq!(rate.take(used_up, later), Err(Duration::from_millis(250)));
        assert!(rate.take(used_up, later + 10_000_000_000).is_ok());
    }

    #[test]
    fn over_a_minute_no_more_than_the_rate_and_a_burst_come_in() {
        let rate = Rate::per_second(NonZeroU32::new(100).unwrap());
        let (mut used_up, mut taken) = (0, 0);
        // Somebody who asks ten times as often as may be.
        for now in (0..60_000_000_000).step_by(1_000_000) {
            if let Ok(next) = rate.take(used_up, now) {
                (used_up, taken) = (next, taken + 1);
            }
        }
        assert!((6_000..=6_100).contains(&taken), "{taken}");
    }

    #[test]
    fn the_fastest_rate_is_one() {
        let rate = Rate::per_second(NonZeroU32::MAX);
        assert!(rate.take(0, 0).is_ok() && rate.take(Nanos::MAX, Nanos::MAX).is_ok());
    }
}
