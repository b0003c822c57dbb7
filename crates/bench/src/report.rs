//! What a run has measured, for people and for scripts.

mod rows;

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{check::Checks, system::AcceptQueue};

/// The longest latency that is told apart, in microseconds.
const LATENCY_MAX_US: u64 = 600_000_000;

/// A histogram of microseconds, with three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are valid")
}

/// Counts a duration.
pub(crate) fn record(histogram: &mut Histogram<u64>, value: Duration) {
    histogram.saturating_record(u64::try_from(value.as_micros()).unwrap_or(u64::MAX).max(1));
}

/// Percentiles of a duration, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Half are below.
    pub p50_us: u64,
    /// 99 of 100 are below.
    pub p99_us: u64,
    /// 999 of 1000 are below.
    pub p999_us: u64,
    /// The largest.
    pub max_us: u64,
    /// How many there were.
    pub count: u64,
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999), max_us: histogram.max(), count: histogram.len() }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none measured");
        }
        let [p50, p99, p999, max] = [self.p50_us, self.p99_us, self.p999_us, self.max_us].map(show_us);
        write!(f, "p50 {p50}  p99 {p99}  p99.9 {p999}  max {max}")
    }
}

fn show_us(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..1_000_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

/// What was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Setup {
    /// The scenario's name.
    pub scenario: &'static str,
    /// Sockets.
    pub sockets: usize,
    /// Symbols that quotes are published for.
    pub symbols: usize,
    /// Topics that each socket joins.
    pub topics_per_socket: usize,
    /// Quotes per second; `None` is as many as are acknowledged.
    pub rate: Option<u64>,
    /// Bytes of an update's payload, about.
    pub payload: usize,
    /// Measured seconds, warm-up excluded.
    pub seconds: f64,
}

/// What the publishers saw.
#[derive(Debug, Clone, Serialize)]
pub struct Ingest {
    /// Quotes that were sent.
    pub sent: u64,
    /// Those that the owners stamped.
    pub accepted: u64,
    /// Those that were refused.
    pub rejected: u64,
    /// The first reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Accepted quotes per second.
    pub per_second: f64,
    /// From when a batch was due until it was acknowledged.
    pub acknowledged: Percentiles,
    /// How late batches left the bench.
    pub lateness: Percentiles,
}

/// What the sockets saw.
#[derive(Debug, Clone, Serialize)]
pub struct Delivered {
    /// The checks of every delivery, warm-up included.
    #[serde(flatten)]
    pub checks: Checks,
    /// Updates owed: those stamped between a join and the end, over all joins; those of slow sockets are left out.
    pub owed: u64,
    /// Deliveries that stood for themselves alone, of the updates owed.
    pub share_unconflated: f64,
    /// Joins that had not reached the newest update when the run was given up.
    pub behind: u64,
    /// Updates that were acknowledged to the publishers and never reached a socket that had joined.
    pub missing: u64,
    /// Deliveries per second, in the measured time.
    pub per_second: f64,
    /// From when an update's quote was due until an update at least as new was read, for every update owed, in the measured time.
    pub coverage: Percentiles,
    /// From when a delivered quote was due until it was read.
    pub latency: Percentiles,
    /// From when an update was due until the last of all sockets had it; of one symbol alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_socket: Option<Percentiles>,
    /// `latency` as a curve: of each quantile, its microseconds.
    pub curve: Vec<(f64, u64)>,
    /// Messages that one read of a socket returned: a server that is late batches more, and looks cheaper.
    pub per_read: PerRead,
    /// Bytes of a delivery, frame and all.
    pub bytes_per_delivery: f64,
    /// Sockets that were closed, joins that failed, messages that were not understood.
    pub failed: u64,
    /// The first of their reasons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The share of its time that the busiest reading thread of the bench was at work: near 1, the bench is what was measured.
    pub reader_busy: f64,
}

/// Messages that one read of a socket returned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PerRead {
    /// On average.
    pub mean: f64,
    /// Half of the reads returned no more.
    pub p50: u64,
    /// The most.
    pub max: u64,
}

impl From<&Histogram<u64>> for PerRead {
    fn from(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        Self { mean: histogram.mean(), p50: histogram.value_at_quantile(0.5), max: histogram.max() }
    }
}

/// The quantiles of a curve, close to one another where latencies are long.
pub(crate) fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let low = (1..18).map(|step| f64::from(step) * 0.05);
    let high = (0..=24).map(|step| 1.0 - 0.1 * 10f64.powf(-f64::from(step) / 8.0));
    low.chain(high).map(|quantile| (quantile, histogram.value_at_quantile(quantile))).collect()
}

/// All sockets dropped and opened again at once.
#[derive(Debug, Clone, Serialize)]
pub struct Storm {
    /// Seconds until all were joined again, for each time.
    pub seconds: Vec<f64>,
    /// CPU of the server for one connection that ends, one that opens, and its joins, in microseconds, for each time.
    pub server_cpu_us_per_socket: Vec<f64>,
    /// What the accept queues of this machine could not hold, all times together.
    pub accept_queue: AcceptQueue,
}

/// Sockets that stopped reading for a while.
#[derive(Debug, Clone, Serialize)]
pub struct Slow {
    /// How many.
    pub sockets: usize,
    /// For how long they did not read.
    pub stalled_seconds: f64,
    /// Those that the server closed.
    pub cut: u64,
    /// The first reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What they received, before, and after they read again.
    #[serde(flatten)]
    pub checks: Checks,
    /// Updates that were merged into newer ones before they were sent.
    pub conflated: u64,
    /// The most bytes that the kernel kept for one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_bytes_max: Option<u64>,
    /// Latency of the others before these stopped.
    pub others_before: Percentiles,
    /// Resident bytes of the server at the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_peak: Option<u64>,
    /// How many of them came for each slow socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_per_slow_socket: Option<u64>,
    /// What the server is configured to keep for a socket that does not read.
    pub bound_per_socket: u64,
}

/// What the server spent.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Server {
    /// Its process, if it is on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// CPU time by the measured time: 1 is a full core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<f64>,
    /// CPU seconds, user and system, in the measured time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Deliveries per CPU second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries_per_cpu_second: Option<f64>,
    /// Quotes per CPU second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quotes_per_cpu_second: Option<f64>,
    /// Resident bytes before the sockets were opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_before: Option<u64>,
    /// Resident bytes at the end, sockets open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_after: Option<u64>,
    /// Resident bytes per socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_per_socket: Option<u64>,
    /// Its own histogram of coverage lag in the measured time; upper bounds of its buckets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<ServerLag>,
}

/// Quantiles of a Prometheus histogram: the upper bounds of the buckets that they fall into, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ServerLag {
    /// Half are not above.
    pub p50: f64,
    /// 99 of 100 are not above.
    pub p99: f64,
    /// 999 of 1000 are not above.
    pub p999: f64,
    /// How many there were.
    pub count: u64,
}

/// What opening the sockets took.
#[derive(Debug, Clone, Serialize)]
pub struct Opening {
    /// Seconds until all were open and joined.
    pub seconds: f64,
    /// Sockets per second.
    pub per_second: f64,
    /// CPU of the server for one connection and its joins, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_socket: Option<f64>,
    /// What the accept queues of this machine could not hold.
    pub accept_queue: AcceptQueue,
}

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was asked for.
    pub setup: Setup,
    /// What opening the sockets took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opening: Option<Opening>,
    /// What opening them again took, all at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm: Option<Storm>,
    /// What the publishers saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingest: Option<Ingest>,
    /// What the sockets saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Delivered>,
    /// What became of sockets that stopped reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Slow>,
    /// What the server spent.
    pub server: Server,
}

impl Report {
    /// Whether everything that was promised was kept: nothing lost, disordered, refused or closed.
    #[must_use]
    pub fn clean(&self) -> bool {
        let delivered = self.delivered.as_ref();
        delivered.is_none_or(|seen| seen.checks.clean() && seen.behind == 0 && seen.missing == 0 && seen.failed == 0)
            && self.ingest.as_ref().is_none_or(|ingest| ingest.rejected == 0 && ingest.accepted == ingest.sent)
            && self.slow.as_ref().is_none_or(|slow| slow.checks.clean())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_shown_in_units_that_fit() {
        let mut histogram = histogram();
        for micros in [10, 1_500, 2_500_000] {
            record(&mut histogram, Duration::from_micros(micros));
        }
        let percentiles = Percentiles::from(&histogram);
        assert_eq!(percentiles.count, 3);
        assert!(percentiles.to_string().starts_with("p50 1.5 ms  p99 2.5 s"), "{percentiles}");
        assert_eq!(Percentiles::default().to_string(), "none measured");
    }
}
