//! The threads that publish: at a rate that does not wait for the server, or as fast as it takes quotes.

use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::{
    BenchError,
    dialect::{Dialect, Due, Publisher, Taken, Work},
    machine, pace,
    report::{histogram, record},
    schedule::{Schedule, Symbols, unix_us},
};

/// Up to so many quotes per second each is sent when it is due; faster, what is due is collected for so long.
const ONE_BY_ONE: u64 = 2_000;
const TICK: Duration = Duration::from_millis(1);

/// How long the server may take to say what became of the last quotes.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of the quotes.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) sent: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) reason: Option<String>,
    /// From when a batch was sent until its answer, in microseconds.
    pub(crate) acknowledged: Histogram<u64>,
    /// How late batches were sent, in microseconds: what the bench itself, or a server that does not read, added.
    pub(crate) lateness: Histogram<u64>,
    pub(crate) took: Duration,
}

impl Published {
    /// What several publishers did together.
    pub(crate) fn sum(all: impl IntoIterator<Item = Self>) -> Self {
        let none = Self::new(0, Taken::new(), histogram(), Duration::ZERO);
        all.into_iter().fold(none, |mut sum, one| {
            sum.sent += one.sent;
            sum.accepted += one.accepted;
            sum.rejected += one.rejected;
            sum.reason = sum.reason.or(one.reason);
            sum.acknowledged += &one.acknowledged;
            sum.lateness += &one.lateness;
            sum.took = sum.took.max(one.took);
            sum
        })
    }

    fn new(sent: u64, taken: Taken, lateness: Histogram<u64>, took: Duration) -> Self {
        let Taken { accepted, rejected, reason, acknowledged } = taken;
        Self { sent, accepted, rejected, reason, acknowledged, lateness, took }
    }
}

/// What a publisher does once it is told to start.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Job {
    /// Quotes at their times; `start` is the schedule's start on the monotonic clock.
    Scheduled { schedule: Schedule, start: Instant },
    /// As many quotes as the server takes, until then.
    Flood { symbols: Symbols, until: Instant },
}

type Thread = JoinHandle<Result<Published, BenchError>>;

/// Publishers that are connected and wait for their work.
#[derive(Debug)]
pub(crate) struct Publishers {
    threads: Vec<(mpsc::SyncSender<Job>, Thread)>,
}

impl Publishers {
    /// Connects `count` publishers, each on a thread of its own.
    ///
    /// # Errors
    /// If one cannot connect.
    pub(crate) fn connect(
        dialect: &Arc<dyn Dialect>,
        count: usize,
        work: Work,
        batch: usize,
        cpu: Option<usize>,
    ) -> Result<Self, BenchError> {
        let mut threads = Vec::with_capacity(count);
        for _ in 0..count {
            let (ready, connected) = mpsc::sync_channel(1);
            let (jobs, job) = mpsc::sync_channel(1);
            let dialect = dialect.clone();
            let thread = thread::spawn(move || {
                if let Some(cpu) = cpu {
                    machine::pin(cpu)?;
                }
                pace::sharpen();
                let publisher = dialect.publisher(&work)?;
                let _ = ready.send(());
                // Nobody sends a job when another publisher could not connect.
                let Ok(job) = job.recv() else { return Ok(Published::sum([])) };
                match job {
                    Job::Scheduled { schedule, start } => scheduled(publisher, schedule, start, batch),
                    Job::Flood { symbols, until } => flood(publisher, symbols, until, batch),
                }
            });
            if connected.recv().is_err() {
                return Err(join(thread)
                    .err()
                    .unwrap_or_else(|| BenchError::Option("a publisher has ended".to_owned())));
            }
            threads.push((jobs, thread));
        }
        Ok(Self { threads })
    }

    /// Gives each publisher its job.
    pub(crate) fn start(&self, jobs: impl IntoIterator<Item = Job>) {
        for ((sender, _), job) in self.threads.iter().zip(jobs) {
            // One that has ended says why when it is asked.
            let _ = sender.send(job);
        }
    }

    /// Waits until all is published and answered.
    ///
    /// # Errors
    /// If a publisher lost its connection, or was not answered in time.
    pub(crate) fn finish(self) -> Result<Published, BenchError> {
        let (jobs, threads): (Vec<_>, Vec<_>) = self.threads.into_iter().unzip();
        drop(jobs);
        let published: Result<Vec<_>, _> = threads.into_iter().map(join).collect();
        Ok(Published::sum(published?))
    }
}

fn join(thread: Thread) -> Result<Published, BenchError> {
    match thread.join() {
        Ok(published) => published,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Publishes all quotes of a schedule.
fn scheduled(
    mut publisher: Box<dyn Publisher>,
    schedule: Schedule,
    start: Instant,
    batch: usize,
) -> Result<Published, BenchError> {
    let mut lateness = histogram();
    let mut quotes: Vec<Due> = Vec::with_capacity(batch);
    let mut number = 0;
    while number < schedule.total {
        let due = start + Duration::from_micros(schedule.due(number));
        let collect = if schedule.rate > ONE_BY_ONE { TICK } else { Duration::ZERO };
        publisher.wait_until(due + collect)?;
        let end = schedule.due_by(start.elapsed()).clamp(number + 1, number + batch as u64).min(schedule.total);
        quotes.clear();
        quotes.extend((number..end).map(|number| schedule.quote(number)));
        record(&mut lateness, due.elapsed());
        publisher.send(&quotes)?;
        number = end;
    }
    let taken = publisher.finish(PATIENCE)?;
    Ok(Published::new(number, taken, lateness, start.elapsed()))
}

/// Publishes as fast as the server takes it.
fn flood(
    mut publisher: Box<dyn Publisher>,
    symbols: Symbols,
    until: Instant,
    batch: usize,
) -> Result<Published, BenchError> {
    let began = Instant::now();
    let mut quotes: Vec<Due> = Vec::with_capacity(batch);
    let mut number = 0;
    while Instant::now() < until {
        let now_us = unix_us();
        quotes.clear();
        let end = number + batch as u64;
        quotes.extend((number..end).map(|number| Due {
            symbol: symbols.of(number),
            seq: number / symbols.count.max(1) + 1,
            due_us: now_us,
        }));
        publisher.send(&quotes)?;
        number = end;
    }
    let taken = publisher.finish(PATIENCE)?;
    Ok(Published::new(number, taken, histogram(), began.elapsed()))
}
