//! A run, from the first socket to the report.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use futures_util::future;
use rustix::{
    process::{Resource, getrlimit, setrlimit},
    thread::{CpuSet, sched_setaffinity},
};
use tickwire_client::Options;

use crate::{
    BenchError,
    check::Checks,
    probe::{Probe, Sample},
    publisher::{self, Published, Schedule, Symbols, unix_us},
    report::{Delivered, Ingest, Opening, Report, Server, Setup, histogram},
    sockets::{self, Control, Plan, Seen},
};

/// How long all sockets together may take to open and join.
const OPENING_TIMEOUT: Duration = Duration::from_secs(120);
/// How long memory may settle before it is read.
const SETTLE: Duration = Duration::from_secs(1);
/// Between opening the publishers' streams and the first quote.
const LEAD: Duration = Duration::from_millis(200);
/// Files that are not sockets.
const OTHER_FILES: u64 = 64;

/// The server to load.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its socket.
    pub socket: Options,
    /// Its gRPC port, such as `http://127.0.0.1:4001`.
    pub grpc: String,
    /// Its admin port, such as `http://127.0.0.1:4040`.
    pub admin: String,
    /// The publishers' key.
    pub key: Option<String>,
    /// Its process, if it is on this machine: CPU time and memory are then read from the system.
    pub pid: Option<u32>,
}

/// The load.
#[derive(Debug, Clone)]
pub struct Load {
    /// The scenario's name, for the report.
    pub scenario: &'static str,
    /// Sockets to open.
    pub sockets: usize,
    /// Symbols that quotes are published for.
    pub symbols: usize,
    /// Topics that each socket joins, at most `symbols`.
    pub topics_per_socket: usize,
    /// Quotes: none, at a rate per second, or as many as are acknowledged.
    pub rate: Rate,
    /// Streams that publish; each symbol has one of them.
    pub publishers: usize,
    /// Threads that read.
    pub readers: usize,
    /// How long the load runs before it is measured.
    pub warm_up: Duration,
    /// How long it is measured.
    pub duration: Duration,
    /// The core that the bench keeps to.
    pub cpu: Option<usize>,
}

/// How many quotes are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// None: the sockets idle.
    None,
    /// So many per second.
    PerSecond(u64),
    /// As many as the server acknowledges.
    Max,
}

impl Load {
    fn check(&self) -> Result<(), BenchError> {
        let wrong = |what: &str| Err(BenchError::Option(what.to_owned()));
        if self.symbols == 0 || self.symbols > 100_000 {
            return wrong("the number of symbols must be 1 to 100000");
        }
        if self.sockets > 0 && !(1..=self.symbols).contains(&self.topics_per_socket) {
            return wrong("the topics of a socket must be at least 1 and at most the number of symbols");
        }
        if self.sockets > 1_000_000
            || self.readers == 0
            || self.readers > 64
            || self.publishers == 0
            || self.publishers > 64
        {
            return wrong("at most 1000000 sockets, 1 to 64 readers and 1 to 64 publishers");
        }
        if matches!(self.rate, Rate::PerSecond(0)) || matches!(self.rate, Rate::PerSecond(10_000_001..)) {
            return wrong("the rate must be 1 to 10000000 quotes per second");
        }
        if self.duration.is_zero() || self.duration + self.warm_up > Duration::from_secs(86_400) {
            return wrong("the duration must be above zero and, with the warm-up, at most a day");
        }
        Ok(())
    }
}

/// Runs a load. Call it on a thread of its own: with a `cpu`, that thread is bound to it.
///
/// # Errors
/// If the server cannot be reached or refuses, if an option cannot be used, or if this machine has not enough files for the sockets.
pub async fn run(target: &Target, load: &Load) -> Result<Report, BenchError> {
    load.check()?;
    if let Some(cpu) = load.cpu {
        pin(cpu)?;
    }
    let probe = Probe::new(target.pid, &target.admin)?;
    let before = probe.sample().await;
    let crowd = Crowd::open(target, load).await?;
    if load.sockets > 0 {
        tokio::time::sleep(SETTLE).await;
    }
    let (published, window) = Box::pin(publish(target, load, &probe, &crowd.control)).await?;
    let after = probe.sample().await;
    let opening = crowd.opening(load);
    let seen = crowd.finish()?;

    let delivered = (load.sockets > 0 && load.rate != Rate::None).then(|| delivered(load, seen, published.as_ref()));
    let ingest = published.map(|publishing| ingest(publishing.published));
    let server = server(load, &before, &after, &window, ingest.as_ref(), delivered.as_ref());
    Ok(Report { setup: setup(load), opening, ingest, delivered, server })
}

/// The sockets and the threads that read them.
struct Crowd {
    control: Arc<Control>,
    threads: Vec<JoinHandle<Result<Seen, BenchError>>>,
    took: Duration,
}

impl Crowd {
    async fn open(target: &Target, load: &Load) -> Result<Self, BenchError> {
        let control = Arc::<Control>::default();
        let mut crowd = Self { control: control.clone(), threads: Vec::new(), took: Duration::ZERO };
        if load.sockets == 0 {
            return Ok(crowd);
        }
        allow_files(load.sockets as u64 + OTHER_FILES)?;
        let plan = Plan {
            socket: target.socket.clone(),
            address: resolve(&target.socket)?,
            symbols: load.symbols,
            topics_per_socket: load.topics_per_socket,
        };
        let began = Instant::now();
        let share = load.sockets.div_ceil(load.readers);
        for first in (0..load.sockets).step_by(share) {
            let (plan, control, cpu) = (plan.clone(), control.clone(), load.cpu);
            let numbers = first..(first + share).min(load.sockets);
            crowd.threads.push(thread::spawn(move || {
                if let Some(cpu) = cpu {
                    pin(cpu)?;
                }
                sockets::run(&plan, numbers, &control)
            }));
        }
        let joins = load.sockets * load.topics_per_socket;
        while control.joined.load(Ordering::Relaxed) < joins {
            let failed = control.failed.load(Ordering::Relaxed) > 0;
            if failed || crowd.threads.iter().any(JoinHandle::is_finished) {
                let failure = crowd.finish()?.into_iter().find_map(|seen| seen.failure);
                let problem = failure.unwrap_or_else(|| "not all sockets could be opened and joined".to_owned());
                return Err(BenchError::Refused { address: target.socket.address(), problem });
            }
            if began.elapsed() > OPENING_TIMEOUT {
                let joined = control.joined.load(Ordering::Relaxed);
                return Err(BenchError::TimedOut(format!(
                    "{joined} of {joins} joins were answered within {OPENING_TIMEOUT:?}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        crowd.took = began.elapsed();
        Ok(crowd)
    }

    fn opening(&self, load: &Load) -> Option<Opening> {
        let seconds = self.took.as_secs_f64();
        (load.sockets > 0).then(|| Opening { seconds, per_second: ratio(load.sockets as u64, seconds) })
    }

    /// Lets the threads read what is on its way, and gathers what they have seen.
    fn finish(mut self) -> Result<Vec<Seen>, BenchError> {
        self.control.finish.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.threads)
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(seen) => seen,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Threads of a run that has failed end by themselves.
        self.control.finish.store(true, Ordering::Relaxed);
    }
}

/// The server at the beginning and at the end of the measured time.
struct Window {
    start: Sample,
    end: Sample,
}

/// What was published: how it went, and how many quotes each symbol got, where that was planned.
struct Publishing {
    published: Published,
    quotes: Option<Vec<u64>>,
}

/// Publishes for warm-up and measured time, and looks at the server at both ends of the latter.
async fn publish(
    target: &Target,
    load: &Load,
    probe: &Probe,
    control: &Control,
) -> Result<(Option<Publishing>, Window), BenchError> {
    let hands = Symbols::deal(load.symbols as u64, load.publishers as u64);
    let start = Instant::now() + LEAD;
    let start_us = unix_us().saturating_add(micros(LEAD));
    let measured_from = start_us.saturating_add(micros(load.warm_up));
    let observe = async {
        tokio::time::sleep_until((start + load.warm_up).into()).await;
        let first = probe.sample().await;
        tokio::time::sleep_until((start + load.warm_up + load.duration).into()).await;
        Window { start: first, end: probe.sample().await }
    };
    control.until_us.store(measured_from.saturating_add(micros(load.duration)), Ordering::Relaxed);
    control.from_us.store(measured_from, Ordering::Relaxed);
    let (origin, key) = (target.grpc.as_str(), target.key.as_deref());
    let run_time = load.warm_up + load.duration;
    match load.rate {
        Rate::None => Ok((None, observe.await)),
        Rate::Max => {
            let flood = future::try_join_all(
                hands.into_iter().map(|hand| publisher::flood(origin, key, hand, LEAD + run_time)),
            );
            let (published, window) = tokio::join!(flood, observe);
            Ok((Some(Publishing { published: Published::sum(published?), quotes: None }), window))
        }
        Rate::PerSecond(rate) => {
            let schedules = hands.iter().map(|hand| {
                let rate = (rate * hand.count / load.symbols as u64).max(1);
                let total = u64::try_from(run_time.as_micros() * u128::from(rate) / 1_000_000).unwrap_or(u64::MAX);
                Schedule { start_us, rate, symbols: *hand, total }
            });
            let schedules: Vec<Schedule> = schedules.collect();
            let interval = schedules.iter().map(Schedule::interval_us).max().unwrap_or_default();
            control.interval_us.store(interval, Ordering::Relaxed);
            let mut quotes = vec![0; load.symbols];
            for schedule in &schedules {
                for place in 0..schedule.symbols.count {
                    quotes[schedule.symbols.of(place)] = schedule.quotes_of(place);
                }
            }
            let publish = schedules.into_iter().map(|schedule| publisher::publish(origin, key, schedule, start));
            let (published, window) = tokio::join!(future::try_join_all(publish), observe);
            Ok((Some(Publishing { published: Published::sum(published?), quotes: Some(quotes) }), window))
        }
    }
}

fn setup(load: &Load) -> Setup {
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
        seconds: load.duration.as_secs_f64(),
    }
}

fn ingest(published: Published) -> Ingest {
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

fn delivered(load: &Load, seen: Vec<Seen>, publishing: Option<&Publishing>) -> Delivered {
    let mut checks = Checks::default();
    let (mut coverage, mut latency) = (histogram(), histogram());
    let (mut measured, mut owed, mut busy, mut failure) = (0, 0, 0.0_f64, None);
    let mut newest = vec![0; load.symbols];
    for one in &seen {
        for (symbol, reached) in &one.reached {
            let best = reached.iter().copied().max().unwrap_or_default();
            newest[*symbol] = best.max(newest[*symbol]);
        }
    }
    let mut behind = 0;
    for one in seen {
        checks.add(&one.checks);
        coverage += &one.coverage;
        latency += &one.latency;
        measured += one.measured;
        owed += one.owed;
        busy = busy.max(one.busy);
        failure = failure.or(one.failure);
        let late = |(symbol, reached): (&usize, &Vec<u64>)| {
            reached.iter().filter(|seq| **seq < newest[*symbol]).count() as u64
        };
        behind += one.reached.iter().map(late).sum::<u64>();
    }
    Delivered {
        share_unconflated: ratio(checks.unconflated, u32::try_from(owed).map_or_else(|_| approximate(owed), f64::from)),
        checks,
        owed,
        behind,
        missing: publishing.map_or(0, |publishing| expected(load, publishing).saturating_sub(owed)),
        per_second: ratio(measured, load.duration.as_secs_f64()),
        coverage: (&coverage).into(),
        latency: (&latency).into(),
        failed: u64::from(failure.is_some()),
        failure,
        reader_busy: busy,
    }
}

/// How many updates all joins together must have seen the end of; 0 if that is not known, since some quotes were refused.
fn expected(load: &Load, publishing: &Publishing) -> u64 {
    match &publishing.quotes {
        Some(quotes) if publishing.published.rejected == 0 => {
            let symbols = (0..load.sockets * load.topics_per_socket).map(|join| join % load.symbols);
            symbols.map(|symbol| quotes[symbol]).sum()
        }
        _ => 0,
    }
}

fn server(
    load: &Load,
    before: &Sample,
    after: &Sample,
    window: &Window,
    ingest: Option<&Ingest>,
    delivered: Option<&Delivered>,
) -> Server {
    let cpu_seconds = window.end.cpu_since(&window.start);
    let per_cpu = |per_second: f64| {
        cpu_seconds.filter(|cpu| *cpu > 0.0).map(|cpu| per_second * load.duration.as_secs_f64() / cpu)
    };
    let rss_per_socket = match (before.rss, after.rss) {
        (Some(before), Some(after)) if load.sockets > 0 => Some(after.saturating_sub(before) / load.sockets as u64),
        _ => None,
    };
    Server {
        cpu_seconds,
        deliveries_per_cpu_second: delivered.and_then(|delivered| per_cpu(delivered.per_second)),
        quotes_per_cpu_second: ingest.and_then(|ingest| per_cpu(ingest.per_second)),
        rss_before: before.rss,
        rss_after: after.rss,
        rss_per_socket,
        lag: window.end.lag_since(&window.start),
    }
}

fn ratio(count: u64, per: f64) -> f64 {
    if per > 0.0 { approximate(count) / per } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn approximate(count: u64) -> f64 {
    count as f64
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn resolve(socket: &Options) -> Result<SocketAddr, BenchError> {
    let address = socket.address();
    let uri: http::Uri = address.parse().map_err(|_| BenchError::Option(format!("{address:?} is no URL")))?;
    if uri.scheme_str() != Some("ws") {
        return Err(BenchError::Option(format!(
            "{address}: the bench speaks ws only; measure behind TLS, or at its end"
        )));
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let unreachable = |problem: String| BenchError::Unreachable { address: address.clone(), problem };
    let found = (host, uri.port_u16().unwrap_or(80)).to_socket_addrs();
    let mut found = found.map_err(|error| unreachable(error.to_string()))?;
    found.next().ok_or_else(|| unreachable("the name has no address".to_owned()))
}

/// Raises the limit of open files as far as it may be and need be.
fn allow_files(wanted: u64) -> Result<(), BenchError> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        return Err(BenchError::Option(format!(
            "the sockets need {wanted} open files, the limit is {}; raise it (ulimit -n) or open fewer sockets",
            limit.maximum.unwrap_or_default()
        )));
    }
    limit.current = Some(wanted);
    setrlimit(Resource::Nofile, limit)
        .map_err(|error| BenchError::machine("raise the limit of open files")(error.into()))
}

/// Binds the calling thread to a core.
fn pin(cpu: usize) -> Result<(), BenchError> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(BenchError::Option(format!("there is no core {cpu}")));
    }
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).map_err(|error| BenchError::machine("keep to a core")(error.into()))
}
