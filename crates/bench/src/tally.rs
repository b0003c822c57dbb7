//! What is counted at each delivery.

use hdrhistogram::Histogram;

use crate::{check::Checks, report::histogram};

/// The most that one update may stand for before its coverage is no longer counted one by one.
const COVERED_MAX: u64 = 1 << 20;
/// Updates whose way to the last of all sockets is followed.
const FOLLOWED_MAX: usize = 1 << 20;

/// When deliveries count, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first quote was due.
    pub(crate) start_us: i64,
    /// What was due from then until `from_us` is measured apart, to compare with.
    pub(crate) baseline_us: i64,
    pub(crate) from_us: i64,
    pub(crate) until_us: i64,
    /// Between two quotes of a symbol.
    pub(crate) interval_us: u64,
    /// Whether to follow each update until the last socket has it: for one symbol alone.
    pub(crate) followed: bool,
}

impl Window {
    /// Nothing is measured yet.
    pub(crate) const CLOSED: Self = Self {
        start_us: i64::MAX,
        baseline_us: i64::MAX,
        from_us: i64::MAX,
        until_us: i64::MAX,
        interval_us: 0,
        followed: false,
    };
}

/// What is counted at each delivery.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) checks: Checks,
    /// Deliveries in the measured time.
    pub(crate) measured: u64,
    /// Their bytes, frames and all.
    pub(crate) bytes: u64,
    pub(crate) coverage: Histogram<u64>,
    pub(crate) latency: Histogram<u64>,
    /// Latency before the measured time.
    pub(crate) baseline: Histogram<u64>,
    /// Messages that one read returned, in the measured time.
    pub(crate) per_read: Histogram<u64>,
    /// By the number of the update: when the last of the sockets had it, in microseconds from when it was due.
    pub(crate) last: Vec<u32>,
    pub(crate) failed: u64,
    pub(crate) failure: Option<String>,
    pub(crate) window: Window,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            checks: Checks::default(),
            measured: 0,
            bytes: 0,
            coverage: histogram(),
            latency: histogram(),
            baseline: histogram(),
            per_read: histogram(),
            last: Vec::new(),
            failed: 0,
            failure: None,
            window: Window::CLOSED,
        }
    }

    /// Adds what another thread has counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.checks.add(&other.checks);
        self.measured += other.measured;
        self.bytes += other.bytes;
        self.coverage += &other.coverage;
        self.latency += &other.latency;
        self.baseline += &other.baseline;
        self.per_read += &other.per_read;
        if self.last.len() < other.last.len() {
            self.last.resize(other.last.len(), 0);
        }
        for (mine, theirs) in self.last.iter_mut().zip(other.last) {
            *mine = theirs.max(*mine);
        }
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
    }

    pub(crate) fn fail(&mut self, reason: String) {
        self.failed += 1;
        self.failure.get_or_insert(reason);
    }

    /// Times a delivery, and the updates that were merged into it: their quotes were due one interval before each other.
    #[inline]
    pub(crate) fn time(&mut self, due_us: i64, n: u64, now_us: i64) {
        let Window { baseline_us, from_us, until_us, interval_us, followed, .. } = self.window;
        if due_us < from_us {
            if due_us >= baseline_us {
                self.baseline.saturating_record(micros(due_us, now_us));
            }
            if due_us < baseline_us {
                return;
            }
        } else {
            self.measured += u64::from(now_us < until_us);
            self.latency.saturating_record(micros(due_us, now_us));
        }
        let mut due_us = due_us;
        for _ in 0..n.min(COVERED_MAX) {
            if due_us < from_us {
                break;
            }
            self.coverage.saturating_record(micros(due_us, now_us));
            if followed {
                self.follow(due_us, now_us);
            }
            due_us = due_us.saturating_sub_unsigned(interval_us);
        }
    }

    /// One more socket has the update.
    #[inline]
    fn follow(&mut self, due_us: i64, now_us: i64) {
        let since = u64::try_from(due_us.saturating_sub(self.window.from_us)).unwrap_or(0);
        let number = usize::try_from(since / self.window.interval_us.max(1)).unwrap_or(usize::MAX);
        if number >= self.last.len() {
            if number >= FOLLOWED_MAX {
                return;
            }
            self.last.resize(number + 1, 0);
        }
        let took = u32::try_from(micros(due_us, now_us)).unwrap_or(u32::MAX);
        self.last[number] = took.max(self.last[number]);
    }

    /// A read returned so many messages and bytes.
    #[inline]
    pub(crate) fn read(&mut self, messages: u64, bytes: usize, now_us: i64) {
        if messages > 0 && now_us >= self.window.from_us && now_us < self.window.until_us {
            self.per_read.saturating_record(messages);
            self.bytes += bytes as u64;
        }
    }
}

/// From one time to another, at least one microsecond, which is what the histograms begin at.
#[inline]
fn micros(from_us: i64, to_us: i64) -> u64 {
    u64::try_from(to_us.saturating_sub(from_us)).unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_socket_decides_when_an_update_has_arrived() {
        let mut tally = Tally {
            window: Window { followed: true, baseline_us: 0, from_us: 0, interval_us: 10, ..Window::CLOSED },
            ..Tally::new()
        };
        for (due, n, now) in [(0, 1, 5), (0, 1, 9), (20, 2, 33), (20, 1, 30)] {
            tally.time(due, n, now);
        }
        assert_eq!(tally.last, [9, 23, 13]);
    }
}
