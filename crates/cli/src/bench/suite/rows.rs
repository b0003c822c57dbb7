//! What the suite measures, and what is to be reached.

use std::{fmt, time::Duration};

use tickwire_bench::{Load, Rate, Report, Stall, Via};

use super::{
    super::{NOTHING, RECOVERY},
    Args,
};

/// A load against one server.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) against: Against,
    pub(super) load: Load,
    /// What is told of it, each with its goal.
    pub(super) metrics: Vec<(Metric, &'static str)>,
}

/// What is loaded.
#[derive(Debug, Clone, Copy)]
pub(super) enum Against {
    Tickwire(Via),
    Limit { per_call: usize },
}

impl fmt::Display for Against {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tickwire(_) => f.write_str("tickwire"),
            Self::Limit { per_call: 1 } => f.write_str("limit"),
            Self::Limit { per_call } => write!(f, "limit, {per_call} a call"),
        }
    }
}

/// A figure of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    DeliveriesPerCpu,
    QuotesPerCpu,
    Cores,
    PerRead,
    P50,
    P99,
    P99Before,
    Late,
    Missing,
    OpenedIn,
    LastSocket,
    ConnectCpu,
    IdleBytes,
    StormSeconds,
    StormCpu,
    Overflows,
    Conflated,
    Cut,
    SlowBytes,
}

impl Metric {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DeliveriesPerCpu => "deliveries per CPU second",
            Self::QuotesPerCpu => "quotes per CPU second",
            Self::Cores => "server's share of a core",
            Self::PerRead => "messages per read",
            Self::P50 => "latency p50",
            Self::P99 => "latency p99",
            Self::P99Before => "latency p99 before the stall",
            Self::Late => "bench late by, p99",
            Self::Missing => "lost, repeated, out of order",
            Self::OpenedIn => "all joined after",
            Self::LastSocket => "one update at all sockets, p50",
            Self::ConnectCpu => "CPU per connect and join",
            Self::IdleBytes => "resident memory per socket",
            Self::StormSeconds => "all joined again after",
            Self::StormCpu => "CPU per drop, connect and join",
            Self::Overflows => "accept-queue overflows",
            Self::Conflated => "updates conflated",
            Self::Cut => "slow sockets cut off",
            Self::SlowBytes => "memory per slow socket, peak",
        }
    }

    /// The figure, if the report has it.
    #[expect(clippy::cast_precision_loss, reason = "figures to look at")]
    pub(super) fn of(self, report: &Report) -> Option<f64> {
        let (delivered, server) = (report.delivered.as_ref(), &report.server);
        let count = |value: u64| value as f64;
        match self {
            Self::DeliveriesPerCpu => server.deliveries_per_cpu_second,
            Self::QuotesPerCpu => server.quotes_per_cpu_second,
            Self::Cores => server.cores,
            Self::PerRead => Some(delivered?.per_read.mean),
            Self::P50 => Some(count(delivered?.latency.p50_us)),
            Self::P99 => Some(count(delivered?.latency.p99_us)),
            Self::P99Before => Some(count(report.slow.as_ref()?.others_before.p99_us)),
            Self::Late => Some(count(report.ingest.as_ref()?.lateness.p99_us)),
            Self::Missing => {
                let seen = delivered?;
                Some(count(seen.checks.lost + seen.checks.repeated + seen.checks.disordered + seen.missing))
            }
            Self::OpenedIn => Some(report.opening.as_ref()?.seconds),
            Self::LastSocket => Some(count(delivered?.last_socket?.p50_us)),
            Self::ConnectCpu => report.opening.as_ref()?.server_cpu_us_per_socket,
            Self::IdleBytes => server.rss_per_socket.map(count),
            Self::StormSeconds => super::median(report.storm.as_ref()?.seconds.clone()).map(|[middle, ..]| middle),
            Self::StormCpu => {
                super::median(report.storm.as_ref()?.server_cpu_us_per_socket.clone()).map(|[middle, ..]| middle)
            }
            Self::Overflows => Some(count(report.storm.as_ref()?.accept_queue.overflows)),
            Self::Conflated => Some(count(report.slow.as_ref()?.conflated)),
            Self::Cut => Some(count(report.slow.as_ref()?.cut)),
            Self::SlowBytes => report.slow.as_ref()?.rss_per_slow_socket.map(count),
        }
    }

    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::DeliveriesPerCpu | Self::QuotesPerCpu if value >= 1e6 => format!("{:.2}M", value / 1e6),
            Self::DeliveriesPerCpu | Self::QuotesPerCpu if value >= 1e4 => format!("{:.0}k", value / 1e3),
            Self::DeliveriesPerCpu | Self::QuotesPerCpu => format!("{value:.0}"),
            Self::Cores => format!("{:.0} %", value * 100.0),
            Self::PerRead => format!("{value:.2}"),
            Self::P50 | Self::P99 | Self::P99Before | Self::Late | Self::LastSocket => format!("{:.2} ms", value / 1e3),
            Self::OpenedIn | Self::StormSeconds => format!("{value:.2} s"),
            Self::ConnectCpu | Self::StormCpu => format!("{value:.0} µs"),
            Self::IdleBytes | Self::SlowBytes => format!("{:.1} KiB", value / 1024.0),
            Self::Missing | Self::Overflows | Self::Conflated | Self::Cut => format!("{value:.0}"),
        }
    }
}

/// All rows, in the order in which they run.
pub(super) fn all(args: &Args) -> Vec<Row> {
    let mut rows = fanouts(args);
    rows.extend(tickers(args));
    rows.extend(connections(args));
    rows.extend(ingests(args));
    rows.extend(crowds(args));
    rows.push(slow(args));
    rows
}

const GRPC: Against = Against::Tickwire(Via::Grpc);

fn load(args: &Args, scenario: &'static str, sockets: usize, symbols: usize, topics: usize, rate: Rate) -> Load {
    Load {
        scenario,
        sockets,
        symbols,
        topics_per_socket: topics,
        rate,
        payload: args.payload,
        publishers: 1,
        batch: 256,
        readers: 1,
        storms: 0,
        slow: None,
        warm_up: Duration::from_secs(2),
        duration: args.duration,
        cpu: args.cpu,
    }
}

/// One topic, a thousand sockets; the limit carries as many updates a call as a good server would have pending.
fn fanouts(args: &Args) -> Vec<Row> {
    let each = [
        ("fan-out 1000 × 50/s", 50, 1, ["≥ 200k", "", "≤ 3 ms"]),
        ("fan-out 1000 × 200/s", 200, 1, ["≥ 260k", "not full", ""]),
        ("fan-out 1000 × 1000/s", 1000, 16, ["≥ 2.1M", "≤ 48 %", "< 15 ms"]),
    ];
    let mut rows = Vec::new();
    for (name, rate, per_call, [per_cpu, cores, p50]) in each {
        let load = load(args, "fanout", 1000, 1, 1, Rate::PerSecond(rate));
        let metrics = [
            (Metric::DeliveriesPerCpu, per_cpu),
            (Metric::Cores, cores),
            (Metric::P50, p50),
            (Metric::P99, ""),
            (Metric::PerRead, ""),
            (Metric::Late, ""),
            (Metric::Missing, "0"),
        ];
        let without = metrics.map(|(metric, _)| (metric, "")).to_vec();
        rows.push(Row { name, against: GRPC, load: load.clone(), metrics: metrics.to_vec() });
        rows.push(Row { name, against: Against::Limit { per_call }, load, metrics: without });
    }
    rows
}

fn tickers(args: &Args) -> Vec<Row> {
    let metrics = |goals: [&'static str; 3]| {
        let [per_cpu, p50, p99] = goals;
        vec![
            (Metric::DeliveriesPerCpu, per_cpu),
            (Metric::P50, p50),
            (Metric::P99, p99),
            (Metric::PerRead, ""),
            (Metric::Late, ""),
            (Metric::Missing, "0"),
        ]
    };
    let market = Row {
        name: "500 topics, 2000 sockets × 10, 500/s",
        against: GRPC,
        load: load(args, "ticker", 2000, 500, 10, Rate::PerSecond(500)),
        metrics: metrics(["≥ 190k", "≤ 0.2 ms", "≤ 0.9 ms"]),
    };
    let small = Row {
        name: "100 symbols, 100 sockets × 1, 1000/s",
        against: GRPC,
        load: load(args, "ticker", 100, 100, 1, Rate::PerSecond(1000)),
        metrics: metrics(["", "≤ 0.2 ms", "< 1 ms"]),
    };
    vec![market, small]
}

fn connections(args: &Args) -> Vec<Row> {
    let idle = Row {
        name: "10000 idle sockets",
        against: GRPC,
        load: Load { duration: Duration::from_secs(1), ..load(args, "idle", 10_000, 500, 1, Rate::None) },
        metrics: vec![(Metric::IdleBytes, "≤ 4 KiB"), (Metric::ConnectCpu, "≤ 80 µs"), (Metric::OpenedIn, "")],
    };
    let calm = load(args, "storm", 10_000, 500, 1, Rate::None);
    let storm = Row {
        name: "10000 sockets reconnect at once",
        against: GRPC,
        load: Load { storms: 1, duration: NOTHING, warm_up: Duration::ZERO, ..calm },
        metrics: vec![(Metric::StormSeconds, "≤ 1.5 s"), (Metric::Overflows, "0"), (Metric::StormCpu, "")],
    };
    vec![idle, storm]
}

fn ingests(args: &Args) -> Vec<Row> {
    let row = |name, via, publishers, goal| Row {
        name,
        against: Against::Tickwire(via),
        load: Load { publishers, ..load(args, "ingest", 0, 500, 1, Rate::Max) },
        metrics: vec![(Metric::QuotesPerCpu, goal), (Metric::Cores, "")],
    };
    vec![
        row("ingest, gRPC batches of 256", Via::Grpc, 1, "≥ 1M"),
        row("ingest, NDJSON batches of 256", Via::Ndjson, 2, "≥ 500k"),
    ]
}

fn crowds(args: &Args) -> Vec<Row> {
    let load = load(args, "fanout", 18_000, 1, 1, Rate::PerSecond(1));
    let name = "18000 sockets, one update to all";
    let metrics = |joined, last| vec![(Metric::OpenedIn, joined), (Metric::LastSocket, last), (Metric::Missing, "0")];
    vec![
        Row { name, against: GRPC, load: load.clone(), metrics: metrics("< 5 s", "≤ 1.5 × limit") },
        Row { name, against: Against::Limit { per_call: 1 }, load, metrics: metrics("", "") },
    ]
}

fn slow(args: &Args) -> Row {
    let slow = Some(Stall { every: 10, duration: args.stall, recovery: RECOVERY, bound: 1 << 20 });
    Row {
        name: "10 % of 500 sockets stop reading, 100/s",
        against: GRPC,
        load: Load { slow, ..load(args, "slow", 500, 1, 1, Rate::PerSecond(100)) },
        metrics: vec![
            (Metric::P99Before, ""),
            (Metric::P99, "as before"),
            (Metric::Missing, "0"),
            (Metric::Conflated, "> 0"),
            (Metric::Cut, "0"),
            (Metric::SlowBytes, "≤ 1 MiB"),
        ],
    }
}
