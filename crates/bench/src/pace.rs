//! Waking up on time.
//!
//! A timer of tokio fires up to two milliseconds late, and the kernel by default lets a thread's sleep run 50 µs over. Where latencies of
//! 100 µs are measured from when a quote was due, both would be most of what is measured. So a publisher has a thread of its own, whose
//! timer slack is one nanosecond, sleeps until shortly before the time, and spins for the rest.

use std::{
    num::NonZeroU64,
    thread,
    time::{Duration, Instant},
};

/// How long a thread spins before the time: about what it takes to wake up. More would take the core from those who read on it.
const SPIN: Duration = Duration::from_micros(30);

/// Lets the calling thread sleep precisely. Without, it sleeps somewhat longer, which the report's lateness shows.
pub(crate) fn sharpen() {
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

/// Sleeps until it is time; not at all, if it has been.
pub(crate) fn sleep_until(time: Instant) {
    loop {
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(SPIN) {
            Some(sleep) if !sleep.is_zero() => pause(sleep),
            _ => std::hint::spin_loop(),
        }
    }
}

/// Sleeps.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, on which nothing else waits")]
pub(crate) fn pause(duration: Duration) {
    thread::sleep(duration);
}
