//! The time, read once per batch and handed to pure code.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// One moment by both clocks: the monotonic one measures, the wall clock is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the monotonic clock.
    pub instant: Instant,
    /// Microseconds since the Unix epoch.
    pub unix_us: i64,
}

impl Moment {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), unix_us: micros(unix) }
    }

    /// The moment that much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self { instant: self.instant + time, unix_us: self.unix_us.saturating_add(micros(time)) }
    }

    /// How long ago an earlier moment was, by the monotonic clock.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.instant.saturating_duration_since(earlier.instant)
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Tells the time: the system's, or in tests one that moves only when told to.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Manual>);

#[derive(Debug, Clone)]
struct Manual {
    start: Moment,
    elapsed_us: Arc<AtomicU64>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until it is [advanced](Self::advance); its clones are one.
    #[must_use]
    pub fn manual() -> Self {
        Self(Some(Manual { start: Moment::now(), elapsed_us: Arc::default() }))
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Moment {
        match &self.0 {
            None => Moment::now(),
            Some(manual) => manual.start.after(Duration::from_micros(manual.elapsed_us.load(Ordering::Relaxed))),
        }
    }

    /// Moves a manual clock on; the system's clock does not heed it.
    pub fn advance(&self, time: Duration) {
        if let Some(manual) = &self.0 {
            manual.elapsed_us.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}
