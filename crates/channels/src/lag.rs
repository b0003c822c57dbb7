//! How long updates take to reach sockets.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::metrics::LAG;

/// Upper bounds of the buckets in microseconds: fine where a good node is, coarse where nobody wants to be.
const BOUNDS_US: [u64; 20] = [
    100, 250, 500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 40_000, 50_000, 75_000, 100_000,
    250_000, 500_000, 1_000_000, 5_000_000,
];

/// A histogram that takes millions of observations a second: the exporter's own keeps every one of them until it is read.
#[derive(Debug, Default)]
pub(crate) struct LagHistogram {
    /// The last one is for what is above all bounds.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl LagHistogram {
    /// Takes what a worker observed in a turn, and leaves nothing of it there.
    pub(crate) fn add(&self, tally: &mut LagTally) {
        if tally.sum_us == 0 && tally.buckets.iter().all(|count| *count == 0) {
            return;
        }
        let LagTally { buckets, sum_us } = std::mem::take(tally);
        for (all, count) in self.buckets.iter().zip(buckets).filter(|(_, count)| *count > 0) {
            all.fetch_add(count, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(sum_us, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> LagSnapshot {
        LagSnapshot {
            buckets: std::array::from_fn(|index| self.buckets[index].load(Ordering::Relaxed)),
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

/// What one thread observed and has not passed on yet.
#[derive(Debug, Default)]
pub(crate) struct LagTally {
    buckets: [u64; BOUNDS_US.len() + 1],
    sum_us: u64,
}

impl LagTally {
    /// Takes `count` observations of the same lag.
    pub(crate) fn record(&mut self, lag: Duration, count: u64) {
        let us = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS_US.partition_point(|bound| *bound < us)] += count;
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(count));
    }
}

/// The coverage lag of all updates so far: for every update that a socket is subscribed to, the time from its acceptance until it, or a newer
/// one in its place, was handed to the kernel.
///
/// Updates that were merged count with the lag of the oldest among them, so that the figure errs to the high side. Joins with a `max_rate` do
/// not count: they asked to wait.
#[derive(Debug, Clone)]
pub struct LagSnapshot {
    buckets: [u64; BOUNDS_US.len() + 1],
    sum_us: u64,
}

impl LagSnapshot {
    /// How many observations there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all lags.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us)
    }

    /// Upper bounds of the buckets, and how many observations are not above each.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        BOUNDS_US.iter().zip(&self.buckets).scan(0, |total, (bound, count)| {
            *total += count;
            Some((Duration::from_micros(*bound), *total))
        })
    }

    /// Appends it as the histogram `tickwire_delivery_lag_seconds` in Prometheus' text format.
    pub fn write_prometheus(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "# HELP {LAG} Time from the acceptance of an update until a socket was written it or a newer one"
        );
        let _ = writeln!(out, "# TYPE {LAG} histogram");
        for (bound, count) in self.cumulative() {
            let _ = writeln!(out, "{LAG}_bucket{{le=\"{}\"}} {count}", bound.as_secs_f64());
        }
        let count = self.count();
        let _ = writeln!(out, "{LAG}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{LAG}_sum {}", self.sum().as_secs_f64());
        let _ = writeln!(out, "{LAG}_count {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_none_is_lost() {
        let (histogram, mut tally) = (LagHistogram::default(), LagTally::default());
        tally.record(Duration::from_micros(100), 3);
        tally.record(Duration::from_micros(101), 2);
        histogram.add(&mut tally);
        tally.record(Duration::from_secs(60), 1);
        histogram.add(&mut tally);
        let mut text = String::new();
        histogram.snapshot().write_prometheus(&mut text);
        for line in [
            "tickwire_delivery_lag_seconds_bucket{le=\"0.0001\"} 3",
            "tickwire_delivery_lag_seconds_bucket{le=\"0.00025\"} 5",
            "tickwire_delivery_lag_seconds_bucket{le=\"5\"} 5",
            "tickwire_delivery_lag_seconds_bucket{le=\"+Inf\"} 6",
            "tickwire_delivery_lag_seconds_sum 60.000502",
            "tickwire_delivery_lag_seconds_count 6",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} in\n{text}");
        }
    }
}
