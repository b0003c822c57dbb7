//! When a tick of a recording is due, and which time stamp it then carries.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

/// How fast a recording plays: a multiple of the recorded pace, or as fast as it is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed(Option<f64>);

/// The text is neither a positive number nor `max`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("speed is {0:?}, expected a positive number such as 1, 0.5 or 10, or \"max\"")]
pub struct SpeedError(String);

impl Speed {
    /// The recorded pace.
    pub const RECORDED: Self = Self(Some(1.0));
    /// As fast as the market takes it.
    pub const MAX: Self = Self(None);

    /// A multiple of the recorded pace; must be a positive, finite number.
    pub fn times(factor: f64) -> Result<Self, SpeedError> {
        // Slower than one hour in a thousand years is a slip of the keyboard, and its due times would not fit any clock.
        if factor.is_finite() && factor >= 1e-6 { Ok(Self(Some(factor))) } else { Err(SpeedError(factor.to_string())) }
    }

    /// The multiple, or `None` for as fast as possible.
    pub fn factor(self) -> Option<f64> {
        self.0
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self::RECORDED
    }
}

impl FromStr for Speed {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Self, SpeedError> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::MAX);
        }
        let bare = text.strip_suffix(['x', '×']).unwrap_or(text);
        bare.parse::<f64>().ok().and_then(|factor| Self::times(factor).ok()).ok_or_else(|| SpeedError(text.to_owned()))
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(factor) => write!(f, "{factor}"),
            None => f.write_str("max"),
        }
    }
}

/// Maps the time of a recording to the clocks of this machine.
///
/// Event times are scaled like the pace, so that at any speed a quote's `ts` is about the moment when it is published and never runs
/// ahead of it: a later publisher of the same symbol would otherwise be refused as out of order.
#[derive(Debug)]
pub(super) struct Pacer {
    speed: Speed,
    /// When the playback began.
    start: Instant,
    /// The same moment on the wall clock, in Unix microseconds.
    start_us: i64,
}

/// A pacer that is later than this (a laptop slept, the market had no room) moves its start instead of catching up in one burst.
const SLIP_AFTER: Duration = Duration::from_secs(1);

impl Pacer {
    pub(super) fn new(speed: Speed, now: Instant, now_us: i64) -> Self {
        Self { speed, start: now, start_us: now_us }
    }

    /// When a tick at this offset of the recording is to be published; `None` means at once.
    pub(super) fn due(&self, at: Duration) -> Option<Instant> {
        self.speed.0.map(|factor| self.start + scaled(at, factor))
    }

    /// Follows the clock after a stall: the playback goes on from here at its pace.
    pub(super) fn slip(&mut self, due: Instant, now: Instant) {
        let late = now.saturating_duration_since(due);
        if late > SLIP_AFTER {
            self.start += late;
            self.start_us = self.start_us.saturating_add(micros(late));
        }
    }

    /// The event time, in Unix microseconds, of a tick whose recorded event time is at this offset.
    pub(super) fn stamp(&self, event: Duration, now: Instant) -> i64 {
        let since_start = match self.speed.0 {
            Some(factor) => scaled(event, factor),
            None => now.saturating_duration_since(self.start),
        };
        self.start_us.saturating_add(micros(since_start))
    }
}

fn scaled(recorded: Duration, factor: f64) -> Duration {
    // At the recorded pace no rounding takes place, so the digits of the recorded times survive.
    if factor.to_bits() == 1.0_f64.to_bits() {
        return recorded;
    }
    // A loop that plays for a century at a millionth of its pace is cut here rather than allowed to overflow the clock.
    let seconds = (recorded.as_secs_f64() / factor).min(3e9);
    Duration::from_secs_f64(seconds)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read_and_shown() {
        for (text, factor) in
            [("1", Some(1.0)), ("10", Some(10.0)), ("0.5", Some(0.5)), ("10x", Some(10.0)), ("max", None)]
        {
            let speed: Speed = text.parse().unwrap();
            assert_eq!(speed.factor(), factor, "{text}");
        }
        for text in ["", "0", "-1", "fast", "inf", "NaN", "x"] {
            let error = text.parse::<Speed>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")) && error.contains("max"), "{error}");
        }
        assert_eq!(Speed::MAX.to_string(), "max");
        assert_eq!("2.5".parse::<Speed>().unwrap().to_string(), "2.5");
    }

    #[tokio::test(start_paused = true)]
    async fn due_times_and_stamps_scale_together() {
        let now = Instant::now();
        let pacer = Pacer::new("10".parse().unwrap(), now, 1_000_000);
        assert_eq!(pacer.due(Duration::from_secs(5)), Some(now + Duration::from_millis(500)));
        assert_eq!(pacer.stamp(Duration::from_secs(5), now), 1_500_000);
        let recorded = Pacer::new(Speed::RECORDED, now, 0);
        assert_eq!(recorded.stamp(Duration::from_nanos(42_431_200), now), 42_431);
        let max = Pacer::new(Speed::MAX, now, 7);
        assert_eq!(max.due(Duration::from_secs(86_400)), None);
        assert_eq!(max.stamp(Duration::from_secs(86_400), now + Duration::from_micros(3)), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_moves_the_start_and_a_hiccup_does_not() {
        let now = Instant::now();
        let mut pacer = Pacer::new(Speed::RECORDED, now, 0);
        pacer.slip(now, now + Duration::from_millis(900));
        assert_eq!(pacer.due(Duration::ZERO), Some(now));
        pacer.slip(now, now + Duration::from_secs(60));
        assert_eq!(pacer.due(Duration::ZERO), Some(now + Duration::from_secs(60)));
        assert_eq!(pacer.stamp(Duration::ZERO, now), 60_000_000);
    }
}
