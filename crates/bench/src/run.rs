//! A run, from the first socket to the report.

use std::{
    path::Path,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use tickwire_client::Options;

use crate::{
    BenchError,
    crowd::Crowd,
    dialect::{Dialect, Layout, Work},
    gather::{Gathered, delivered, ingest, server, setup, slow},
    limit::{Limit, LimitServer},
    machine, payload,
    peer::Peer,
    probe::{Probe, Sample},
    publisher::{Job, Published, Publishers},
    reader::{Control, Plan},
    report::{Report, Storm},
    schedule::{Schedule, Symbols, unix_us},
    system::{self, AcceptQueue},
    tally::Window,
    tickwire::{Tickwire, Via},
};

/// How long memory may settle before it is read.
const SETTLE: Duration = Duration::from_secs(1);
/// Between connecting the publishers and the first quote.
const LEAD: Duration = Duration::from_millis(200);
/// How often the server's memory is looked at where its peak is wanted.
const LOOK: Duration = Duration::from_millis(250);
/// The fastest load whose updates are followed to the last socket.
const FOLLOWED_PER_SECOND: u64 = 2_000;

/// The server to load.
#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) dialect: Arc<dyn Dialect>,
    /// Its admin port, such as `http://127.0.0.1:4040`, if it is one of ours.
    pub(crate) admin: Option<String>,
    /// Its process, if it is on this machine; `None` finds it by its port.
    pub(crate) pid: Option<u32>,
}

impl Target {
    /// A node of Tickwire: its socket, its gRPC port (`http://127.0.0.1:4001`), and the publishers' key.
    ///
    /// # Errors
    /// If its name has no address, or it is reached by TLS.
    pub fn tickwire(socket: Options, grpc: String, key: Option<String>, via: Via) -> Result<Self, BenchError> {
        let dialect = Arc::new(Tickwire::new(socket, grpc, key, via)?);
        Ok(Self { dialect, admin: None, pid: None })
    }

    /// A server of others.
    #[must_use]
    pub fn peer(peer: &Peer) -> Self {
        Self { dialect: peer.0.clone(), admin: None, pid: None }
    }

    /// The bare loop, run by `program bench limit-server`, for one symbol and the sockets that it is told of.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn limit(program: &Path, work: LimitServer) -> Result<Self, BenchError> {
        let (limit, pid) = Limit::start(program, work)?;
        Ok(Self { dialect: Arc::new(limit), admin: None, pid: Some(pid) })
    }

    /// With an admin port, such as `http://127.0.0.1:4040`: its own histogram of lag, and its resources if its process cannot be seen.
    #[must_use]
    pub fn admin(mut self, origin: String) -> Self {
        self.admin = Some(origin);
        self
    }

    /// With a process whose CPU time and memory are read; without, it is the one that listens where the sockets connect to.
    #[must_use]
    pub fn pid(mut self, pid: Option<u32>) -> Self {
        self.pid = pid;
        self
    }
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
    /// Quotes: none, at a rate per second, or as many as are taken.
    pub rate: Rate,
    /// Bytes of an update's payload, about.
    pub payload: usize,
    /// Connections that publish; each symbol has one of them.
    pub publishers: usize,
    /// Quotes of one batch at the most.
    pub batch: usize,
    /// Threads that read.
    pub readers: usize,
    /// How often all sockets are dropped and opened again at once, before quotes are published.
    pub storms: usize,
    /// Sockets that stop reading for a while.
    pub slow: Option<Stall>,
    /// How long the load runs before it is measured.
    pub warm_up: Duration,
    /// How long it is measured. With slow sockets: how long before they stop, to compare with.
    pub duration: Duration,
    /// The core that the bench keeps to.
    pub cpu: Option<usize>,
}

/// Sockets that stop reading for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// Every so many-th socket does.
    pub every: usize,
    /// For how long.
    pub duration: Duration,
    /// How long the load goes on when they read again.
    pub recovery: Duration,
    /// Bytes that the server is configured to keep for each (`limits.outbox_bytes`).
    pub bound: u64,
}

/// How many quotes are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// None: the sockets idle.
    None,
    /// So many per second.
    PerSecond(u64),
    /// As many as the server takes.
    Max,
}

impl Load {
    fn check(&self) -> Result<(), BenchError> {
        let wrong = |what: &str| Err(BenchError::Option(what.to_owned()));
        payload::check(self.payload)?;
        if self.symbols == 0 || self.symbols > 100_000 {
            return wrong("the number of symbols must be 1 to 100000");
        }
        if self.sockets == 0 && self.scenario != "ingest" {
            return wrong("without sockets there is nothing to measure: give --sockets 1 or more");
        }
        if self.sockets > 0 && !(1..=self.symbols).contains(&self.topics_per_socket) {
            return wrong("the topics of a socket must be at least 1 and at most the number of symbols");
        }
        if self.sockets > 1_000_000
            || !(1..=64).contains(&self.readers)
            || !(1..=64).contains(&self.publishers)
            || !(1..=10_000).contains(&self.batch)
        {
            return wrong("at most 1000000 sockets, 1 to 64 readers, 1 to 64 publishers, batches of 1 to 10000");
        }
        if matches!(self.rate, Rate::PerSecond(0)) || matches!(self.rate, Rate::PerSecond(10_000_001..)) {
            return wrong("the rate must be 1 to 10000000 quotes per second");
        }
        if self.storms > 1_000 {
            return wrong("at most 1000 storms");
        }
        if self.slow.is_some_and(|slow| slow.every < 2) {
            return wrong("at most every second socket may be slow: others must read all the time, to compare with");
        }
        if self.duration.is_zero() || self.run_time() > Duration::from_secs(86_400) {
            return wrong("the duration must be above zero and, with the warm-up, at most a day");
        }
        Ok(())
    }

    /// What is measured, warm-up excluded.
    pub(crate) fn measured(&self) -> Duration {
        self.slow.map_or(self.duration, |slow| slow.duration + slow.recovery)
    }

    /// From the first quote until what is measured begins.
    fn before(&self) -> Duration {
        self.warm_up + if self.slow.is_some() { self.duration } else { Duration::ZERO }
    }

    fn run_time(&self) -> Duration {
        self.before() + self.measured()
    }

    pub(crate) fn joins(&self) -> usize {
        self.sockets * self.topics_per_socket
    }
}

/// Runs a load. Call it on a thread of its own: with a `cpu`, that thread is bound to it.
///
/// # Errors
/// If the server cannot be reached or refuses, if an option cannot be used, if this machine has not enough files for the sockets, or if
/// sockets that idle are closed.
pub async fn run(target: &Target, load: &Load) -> Result<Report, BenchError> {
    load.check()?;
    if let Some(cpu) = load.cpu {
        machine::pin(cpu)?;
    }
    let probe = Probe::new(target.pid, target.dialect.address(), target.admin.as_deref())?;
    let before = probe.sample().await;
    let plan = Plan {
        dialect: target.dialect.clone(),
        layout: Layout { symbols: load.symbols, topics_per_socket: load.topics_per_socket },
        sockets: load.sockets,
        slow_every: load.slow.map_or(0, |slow| slow.every),
    };
    let mut crowd = Crowd::open(&plan, load.readers, load.cpu, &probe).await?;
    let storm = storms(load, &mut crowd, &probe).await?;
    if load.sockets > 0 {
        tokio::time::sleep(SETTLE).await;
    }
    let (published, observed) = Box::pin(publish(target, load, &probe, crowd.control())).await?;
    let after = probe.sample().await;
    let opening = crowd.opening.take();
    let seen = crowd.finish()?;

    let mut sum = Gathered::new(load, seen);
    if load.rate == Rate::None
        && let Some(problem) = sum.cut()
    {
        // What a server spends on idle sockets says nothing once it has none.
        return Err(BenchError::Refused { address: target.dialect.address().to_string(), problem });
    }
    let slow = load.slow.map(|stall| slow(&plan, stall, &mut sum, &observed));
    let delivered = (load.sockets > 0 && load.rate != Rate::None).then(|| delivered(load, sum, published.as_ref()));
    let ingest = published.map(|publishing| ingest(publishing.published));
    let server = server(load, &probe, [&before, &after], &observed, ingest.as_ref(), delivered.as_ref());
    Ok(Report { setup: setup(load), opening, storm, ingest, delivered, slow, server })
}

/// Drops all sockets and opens them again, as often as asked for.
async fn storms(load: &Load, crowd: &mut Crowd, probe: &Probe) -> Result<Option<Storm>, BenchError> {
    if load.storms == 0 || load.sockets == 0 {
        return Ok(None);
    }
    let queues = AcceptQueue::now();
    let mut storm = Storm { seconds: Vec::new(), server_cpu_us_per_socket: Vec::new(), accept_queue: queues };
    for _ in 0..load.storms {
        tokio::time::sleep(SETTLE).await;
        let opening = crowd.storm(probe).await?;
        storm.seconds.push(opening.seconds);
        storm.server_cpu_us_per_socket.extend(opening.server_cpu_us_per_socket);
    }
    storm.accept_queue = AcceptQueue::now().since(queues);
    Ok(Some(storm))
}

/// The server at the beginning and at the end of the measured time, and at its peak.
pub(crate) struct Observed {
    pub(crate) start: Sample,
    pub(crate) end: Sample,
    pub(crate) rss_peak: Option<u64>,
    pub(crate) kernel_bytes_max: Option<u64>,
}

/// What was published: how it went, and how many quotes each symbol got, where that was planned.
pub(crate) struct Publishing {
    pub(crate) published: Published,
    pub(crate) quotes: Option<Vec<u64>>,
}

/// Publishes for warm-up and measured time, and looks at the server at both ends of the latter.
async fn publish(
    target: &Target,
    load: &Load,
    probe: &Probe,
    control: &Control,
) -> Result<(Option<Publishing>, Observed), BenchError> {
    let hands = Symbols::deal(load.symbols as u64, load.publishers as u64);
    let count = if load.rate == Rate::None { 0 } else { hands.len() };
    let work = Work { payload: load.payload, acknowledged: load.sockets == 0 };
    let publishers = Publishers::connect(&target.dialect, count, work, load.batch, load.cpu)?;
    let start = Instant::now() + LEAD;
    let start_us = unix_us().saturating_add(micros(LEAD));
    let schedules: Vec<Schedule> = match load.rate {
        Rate::PerSecond(rate) => hands.iter().map(|hand| schedule(load, rate, *hand, start_us)).collect(),
        Rate::None | Rate::Max => Vec::new(),
    };
    let from_us = start_us.saturating_add(micros(load.before()));
    *control.window.lock().unwrap_or_else(PoisonError::into_inner) = Window {
        start_us,
        baseline_us: load.slow.map_or(from_us, |_| start_us.saturating_add(micros(load.warm_up))),
        from_us,
        until_us: from_us.saturating_add(micros(load.measured())),
        interval_us: schedules.iter().map(Schedule::interval_us).max().unwrap_or_default(),
        followed: load.symbols == 1 && matches!(load.rate, Rate::PerSecond(..=FOLLOWED_PER_SECOND)),
    };
    let until = start + load.run_time();
    let flood = |symbols: &Symbols| Job::Flood { symbols: *symbols, until };
    if load.rate == Rate::Max {
        publishers.start(hands.iter().map(flood));
    } else {
        publishers.start(schedules.iter().map(|schedule| Job::Scheduled { schedule: *schedule, start }));
    }
    let observed = observe(target, load, probe, control, start).await;
    if load.rate == Rate::None {
        return Ok((None, observed));
    }
    let quotes = (load.rate != Rate::Max).then(|| planned(load, &schedules));
    Ok((Some(Publishing { published: publishers.finish()?, quotes }), observed))
}

/// A publisher's part of the load.
fn schedule(load: &Load, rate: u64, symbols: Symbols, start_us: i64) -> Schedule {
    let rate = (rate * symbols.count / load.symbols as u64).max(1);
    let total = u64::try_from(load.run_time().as_micros() * u128::from(rate) / 1_000_000).unwrap_or(u64::MAX);
    Schedule { start_us, rate, symbols, total }
}

/// How many quotes each symbol gets.
fn planned(load: &Load, schedules: &[Schedule]) -> Vec<u64> {
    let mut quotes = vec![0; load.symbols];
    for schedule in schedules {
        for place in 0..schedule.symbols.count {
            quotes[schedule.symbols.of(place)] = schedule.quotes_of(place);
        }
    }
    quotes
}

/// Looks at the server while it is loaded, and has the slow sockets stop and go on.
async fn observe(target: &Target, load: &Load, probe: &Probe, control: &Control, start: Instant) -> Observed {
    use std::sync::atomic::Ordering::Relaxed;

    let from = start + load.before();
    tokio::time::sleep_until(from.into()).await;
    let mut observed =
        Observed { start: probe.sample().await, end: Sample::default(), rss_peak: probe.rss(), kernel_bytes_max: None };
    if let Some(stall) = load.slow {
        control.stall.store(true, Relaxed);
        let resume = from + stall.duration;
        let port = target.dialect.address().port();
        while Instant::now() < from + load.measured() {
            tokio::time::sleep(LOOK).await;
            if Instant::now() >= resume {
                control.stall.store(false, Relaxed);
            } else {
                observed.kernel_bytes_max = system::unsent_max(port).max(observed.kernel_bytes_max);
            }
            observed.rss_peak = probe.rss().max(observed.rss_peak);
        }
        control.stall.store(false, Relaxed);
    }
    tokio::time::sleep_until((from + load.measured()).into()).await;
    observed.end = probe.sample().await;
    observed
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
