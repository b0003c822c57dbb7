//! What all threads have seen, as a report.

use crate::{
    probe::{Probe, Sample},
    publisher::Published,
    reader::{Plan, Seen},
    report::{Delivered, Ingest, Server, Setup, Slow, curve, histogram},
    run::{Load, Observed, Publishing, Rate, Stall},
    tally::Tally,
};

pub(crate) fn setup(load: &Load) -> Setup {
    Setup {
        scenario: load.scenario,
        sockets: load.sockets,
        symbols: load.symbols,
        topics_per_socket: if load.sockets == 0 { 0 } else { load.topics_per_socket },
        rate: match load.rate {
            Rate::None => Some(0),
            Rate::PerSecond(rate) => Some(rate),
            Rate::Max => None,
        },
        payload: load.payload,
        seconds: load.measured().as_secs_f64(),
    }
}

pub(crate) fn ingest(published: Published) -> Ingest {
    Ingest {
        sent: published.sent,
        accepted: published.accepted,
        rejected: published.rejected,
        per_second: ratio(published.accepted, published.took.as_secs_f64()),
        acknowledged: (&published.acknowledged).into(),
        lateness: (&published.lateness).into(),
        reason: published.reason,
    }
}

/// What all threads have seen.
pub(crate) struct Gathered {
    tally: Tally,
    slow: Tally,
    owed: u64,
    behind: u64,
    absent: Vec<usize>,
    busy: f64,
}

impl Gathered {
    pub(crate) fn new(load: &Load, seen: Vec<Seen>) -> Self {
        let mut newest = vec![0; load.symbols];
        for one in &seen {
            for (symbol, reached) in &one.reached {
                let best = reached.iter().copied().max().unwrap_or_default();
                newest[*symbol] = best.max(newest[*symbol]);
            }
        }
        let mut sum =
            Self { tally: Tally::new(), slow: Tally::new(), owed: 0, behind: 0, absent: Vec::new(), busy: 0.0 };
        for one in seen {
            let late = |(symbol, reached): (&usize, &Vec<u64>)| {
                reached.iter().filter(|seq| **seq < newest[*symbol]).count() as u64
            };
            sum.behind += one.reached.iter().map(late).sum::<u64>();
            sum.tally.add(one.tally);
            sum.slow.add(one.slow);
            sum.owed += one.owed;
            sum.absent.extend(one.absent);
            sum.busy = sum.busy.max(one.busy);
        }
        sum
    }

    /// Sockets that were only to stay open: how many did not, and why the first of them.
    pub(crate) fn cut(&self) -> Option<String> {
        let Tally { failed, failure, .. } = &self.tally;
        let reason = failure.as_deref().unwrap_or("no reason was given");
        (*failed > 0).then(|| format!("{failed} idle sockets failed, the first: {reason}"))
    }
}

pub(crate) fn slow(plan: &Plan, stall: Stall, sum: &mut Gathered, observed: &Observed) -> Slow {
    let checks = sum.slow.checks;
    let sockets = plan.slow();
    let grown = observed.rss_peak.zip(observed.start.rss).map(|(peak, before)| peak.saturating_sub(before));
    Slow {
        sockets,
        stalled_seconds: stall.duration.as_secs_f64(),
        cut: sum.slow.failed,
        reason: sum.slow.failure.take(),
        checks,
        conflated: checks.covered.saturating_sub(checks.deliveries),
        kernel_bytes_max: observed.kernel_bytes_max,
        others_before: (&sum.tally.baseline).into(),
        rss_peak: observed.rss_peak,
        rss_per_slow_socket: grown.map(|grown| grown / sockets.max(1) as u64),
        bound_per_socket: stall.bound,
    }
}

pub(crate) fn delivered(load: &Load, sum: Gathered, publishing: Option<&Publishing>) -> Delivered {
    let Gathered { tally, slow, owed, behind, absent, busy } = sum;
    let expected = publishing.map_or(0, |publishing| expected(load, publishing, &absent));
    let last: Vec<u32> = tally.last.iter().copied().filter(|micros| *micros > 0).collect();
    let mut followed = histogram();
    for micros in &last {
        followed.saturating_record(u64::from(*micros));
    }
    let messages = tally.per_read.mean() * approximate(tally.per_read.len());
    let fast_owed = owed.saturating_sub(slow.checks.covered);
    Delivered {
        share_unconflated: ratio(tally.checks.unconflated, approximate(fast_owed)),
        checks: tally.checks,
        owed: fast_owed,
        behind,
        missing: expected.saturating_sub(owed),
        per_second: ratio(tally.measured, load.measured().as_secs_f64()),
        coverage: (&tally.coverage).into(),
        latency: (&tally.latency).into(),
        last_socket: (!last.is_empty()).then(|| (&followed).into()),
        curve: curve(&tally.latency),
        per_read: (&tally.per_read).into(),
        bytes_per_delivery: ratio(tally.bytes, messages),
        failed: tally.failed,
        failure: tally.failure,
        reader_busy: busy,
    }
}

/// How many updates all joins together must have seen the end of; 0 if that is not known, since some quotes were refused.
fn expected(load: &Load, publishing: &Publishing, absent: &[usize]) -> u64 {
    match &publishing.quotes {
        Some(quotes) if publishing.published.rejected == 0 => {
            let all: u64 = (0..load.joins()).map(|join| quotes[join % load.symbols]).sum();
            let gone: u64 = absent.iter().map(|symbol| quotes[*symbol]).sum();
            all.saturating_sub(gone)
        }
        _ => 0,
    }
}

pub(crate) fn server(
    load: &Load,
    probe: &Probe,
    [before, after]: [&Sample; 2],
    observed: &Observed,
    ingest: Option<&Ingest>,
    delivered: Option<&Delivered>,
) -> Server {
    let cpu_seconds = observed.end.cpu_since(&observed.start);
    let seconds = load.measured().as_secs_f64();
    let per_cpu = |per_second: f64| cpu_seconds.filter(|cpu| *cpu > 0.0).map(|cpu| per_second * seconds / cpu);
    let rss_per_socket = match (before.rss, after.rss) {
        (Some(before), Some(after)) if load.sockets > 0 => Some(after.saturating_sub(before) / load.sockets as u64),
        _ => None,
    };
    Server {
        pid: probe.pid(),
        cores: cpu_seconds.map(|cpu| cpu / seconds),
        cpu_seconds,
        deliveries_per_cpu_second: delivered.and_then(|delivered| per_cpu(delivered.per_second)),
        quotes_per_cpu_second: ingest.and_then(|ingest| per_cpu(ingest.per_second)),
        rss_before: before.rss,
        rss_after: after.rss,
        rss_per_socket,
        lag: observed.end.lag_since(&observed.start),
    }
}

pub(crate) fn ratio(count: u64, per: f64) -> f64 {
    if per > 0.0 { approximate(count) / per } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn approximate(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_sockets_that_failed_are_told() {
        let sum = |failed: u64, failure: Option<&str>| {
            let tally = Tally { failed, failure: failure.map(str::to_owned), ..Tally::new() };
            Gathered { tally, slow: Tally::new(), owed: 0, behind: 0, absent: Vec::new(), busy: 0.0 }
        };
        assert_eq!(sum(0, None).cut(), None);
        let told = sum(3, Some("the server closed the connection")).cut();
        assert_eq!(told.unwrap(), "3 idle sockets failed, the first: the server closed the connection");
    }
}
