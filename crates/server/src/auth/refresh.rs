//! When a set of keys is read again: a pure schedule.

use std::time::{Duration, Instant};

/// The first pause after a failure; it doubles up to the regular interval.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// A signer that is away for long is asked this often.
const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// When the set was read, and when it is to be read again.
#[derive(Debug)]
pub(super) struct Refresh {
    interval: Duration,
    cooldown: Duration,
    due: Instant,
    began: Option<Instant>,
    under_way: bool,
    failures: u32,
}

/// What becomes of a wish for newer keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// They are being read already.
    UnderWay,
    /// They are to be read at once.
    Granted,
    /// They were read too recently: strangers must not make us call somebody as often as they like.
    Refused,
}

impl Refresh {
    /// Due at once, unless the set is known already.
    pub(super) fn new(interval: Duration, cooldown: Duration, now: Instant, is_known: bool) -> Self {
        let due = if is_known { now + interval } else { now };
        let began = is_known.then_some(now);
        Self { interval, cooldown, due, began, under_way: false, failures: 0 }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Somebody holds a token whose key is not in the set.
    pub(super) fn ask(&mut self, now: Instant) -> Asked {
        // One that is due is about to be read.
        if self.under_way || self.due <= now {
            return Asked::UnderWay;
        }
        if self.began.is_some_and(|began| now < began + self.cooldown) {
            return Asked::Refused;
        }
        self.due = now;
        Asked::Granted
    }

    /// Whether to read it now.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        if self.under_way || now < self.due {
            return false;
        }
        (self.under_way, self.began) = (true, Some(now));
        true
    }

    /// It has been read, or not. `chance` in 0..1 keeps many nodes from asking at the same moment.
    pub(super) fn end(&mut self, now: Instant, succeeded: bool, chance: f64) {
        self.under_way = false;
        self.failures = if succeeded { 0 } else { self.failures.saturating_add(1) };
        let pause = match self.failures {
            0 => self.interval,
            failures => {
                (RETRY_FIRST * 2_u32.saturating_pow(failures - 1).min(1 << 16)).min(RETRY_LONGEST).min(self.interval)
            }
        };
        self.due = now + pause.mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(600);
    const COOLDOWN: Duration = Duration::from_secs(30);

    #[test]
    fn it_is_read_at_once_and_then_at_intervals() {
        let start = Instant::now();
        let mut refresh = Refresh::new(INTERVAL, COOLDOWN, start, false);
        assert!(refresh.begin(start));
        assert!(!refresh.begin(start), "one at a time");
        refresh.end(start, true, 0.5);
        assert_eq!(refresh.due(), start + INTERVAL);
        assert!(!refresh.begin(start + INTERVAL - Duration::from_secs(1)));
        assert!(refresh.begin(start + INTERVAL));
        let known = Refresh::new(INTERVAL, COOLDOWN, start, true);
        assert_eq!(known.due(), start + INTERVAL);
    }

    #[test]
    fn strangers_cannot_have_it_read_often() {
        let start = Instant::now();
        let mut refresh = Refresh::new(INTERVAL, COOLDOWN, start, false);
        assert_eq!(refresh.ask(start), Asked::UnderWay);
        assert!(refresh.begin(start));
        assert_eq!(refresh.ask(start), Asked::UnderWay);
        refresh.end(start, true, 0.5);
        assert_eq!(refresh.ask(start + COOLDOWN / 2), Asked::Refused);
        assert_eq!(refresh.ask(start + COOLDOWN), Asked::Granted);
        assert_eq!(refresh.ask(start + COOLDOWN), Asked::UnderWay);
        assert!(refresh.begin(start + COOLDOWN));
        refresh.end(start + COOLDOWN, false, 0.5);
        assert_eq!(refresh.ask(start + COOLDOWN), Asked::Refused);
    }

    #[test]
    fn failures_are_repeated_less_and_less_often() {
        let start = Instant::now();
        let mut refresh = Refresh::new(INTERVAL, COOLDOWN, start, false);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let now = refresh.due();
            assert!(refresh.begin(now));
            refresh.end(now, false, 0.5);
            pauses.push((refresh.due() - now).as_secs());
        }
        assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 32, 60]);
        assert_eq!(pauses[39], 60);
    }
}
