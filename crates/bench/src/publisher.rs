//! Publishing at a rate that does not wait for the server: every quote has a time at which it is due, and carries that as its `ts`.
//!
//! A server, or a bench, that falls behind makes quotes late; it does not make them fewer or newer. Latency is counted from when a quote
//! was due, so that nothing slow is left out of the figures (the mistake known as coordinated omission).

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::Histogram;
use tokio::sync::Semaphore;

use crate::{
    BenchError,
    report::{histogram, record},
    wire::{self, Answer, QuoteMaker},
};

/// How often what is due is collected into a batch.
const TICK: Duration = Duration::from_millis(1);

/// Quotes of one batch.
const BATCH_MAX: u64 = 256;

/// Batches on their way without an answer. When they are used up the publisher waits, and its quotes become late.
const WINDOW: usize = 64;

/// How long the last batches may take to be answered.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// When quotes are due: pure arithmetic on numbers of quotes and microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Microseconds since 1970 of the first quote.
    pub(crate) start_us: i64,
    /// Quotes per second, all symbols together.
    pub(crate) rate: u64,
    pub(crate) symbols: Symbols,
    /// Quotes in all.
    pub(crate) total: u64,
}

/// The symbols of one of several publishers: no symbol has two, so that the quotes of each stay in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Symbols {
    pub(crate) count: u64,
    first: u64,
    step: u64,
}

impl Symbols {
    /// Deals symbols out to publishers, none of which stays without.
    pub(crate) fn deal(symbols: u64, publishers: u64) -> Vec<Self> {
        let step = publishers.clamp(1, symbols.max(1));
        (0..step).map(|first| Self { count: (symbols - first).div_ceil(step), first, step }).collect()
    }

    /// The symbol of a publisher's quote.
    pub(crate) fn of(&self, number: u64) -> usize {
        usize::try_from(self.first + number % self.count.max(1) * self.step).unwrap_or_default()
    }
}

impl Schedule {
    /// When a quote is due, in microseconds from the start.
    pub(crate) fn due(&self, number: u64) -> u64 {
        u64::try_from(u128::from(number) * 1_000_000 / u128::from(self.rate.max(1))).unwrap_or(u64::MAX)
    }

    /// When a quote is due, in microseconds since 1970.
    pub(crate) fn ts(&self, number: u64) -> i64 {
        self.start_us.saturating_add(i64::try_from(self.due(number)).unwrap_or(i64::MAX))
    }

    /// How many quotes are due by `elapsed`.
    pub(crate) fn due_by(&self, elapsed: Duration) -> u64 {
        let micros = elapsed.as_micros();
        let due = micros * u128::from(self.rate) / 1_000_000 + 1;
        u64::try_from(due).unwrap_or(u64::MAX).min(self.total)
    }

    /// How many quotes the publisher's symbol with that place in its hand gets in all.
    pub(crate) fn quotes_of(&self, place: u64) -> u64 {
        let count = self.symbols.count.max(1);
        self.total / count + u64::from(place < self.total % count)
    }

    /// Microseconds between two quotes of one symbol.
    pub(crate) fn interval_us(&self) -> u64 {
        self.symbols.count * 1_000_000 / self.rate.max(1)
    }
}

/// What became of the quotes.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) sent: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) reason: Option<String>,
    /// From when a batch's first quote was due until its answer, in microseconds.
    pub(crate) acknowledged: Histogram<u64>,
    /// How late batches were sent, in microseconds: what the bench itself, or a server that does not read, added.
    pub(crate) lateness: Histogram<u64>,
    pub(crate) took: Duration,
}

impl Published {
    /// What several publishers did together.
    pub(crate) fn sum(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().fold(Self::new(), |mut sum, one| {
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

    fn new() -> Self {
        Self {
            sent: 0,
            accepted: 0,
            rejected: 0,
            reason: None,
            acknowledged: histogram(),
            lateness: histogram(),
            took: Duration::ZERO,
        }
    }

    fn answered(&mut self, answer: Answer, due: Instant) {
        self.accepted += answer.accepted;
        self.rejected += answer.rejected;
        if self.reason.is_none() {
            self.reason = answer.reason;
        }
        record(&mut self.acknowledged, due.elapsed());
    }
}

/// The wall clock as quotes carry it.
pub(crate) fn unix_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Publishes all quotes of a schedule over one stream. `start` is the schedule's start on the monotonic clock.
pub(crate) async fn publish(
    origin: &str,
    key: Option<&str>,
    schedule: Schedule,
    start: Instant,
) -> Result<Published, BenchError> {
    let mut maker = QuoteMaker::default();
    let (requests, mut answers) = wire::open(origin, key).await?;
    let window = Semaphore::new(WINDOW);
    let (due_times, mut due_receiver) = tokio::sync::mpsc::channel::<Instant>(WINDOW);
    let send = async {
        let mut lateness = histogram();
        let mut number = 0;
        let mut ticks = tokio::time::interval_at(start.into(), TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while number < schedule.total {
            ticks.tick().await;
            while number < schedule.due_by(start.elapsed()) {
                let end = schedule.due_by(start.elapsed()).min(number + BATCH_MAX);
                let due = start + Duration::from_micros(schedule.due(number));
                let Ok(permit) = window.acquire().await else { return (lateness, number) };
                permit.forget();
                record(&mut lateness, due.elapsed());
                let quotes =
                    (number..end).map(|number| maker.quote(schedule.symbols.of(number), number, schedule.ts(number)));
                if !requests.send(quotes.collect()).await || due_times.send(due).await.is_err() {
                    return (lateness, number);
                }
                number = end;
            }
        }
        drop((requests, due_times));
        (lateness, number)
    };
    let receive = async {
        let mut published = Published::new();
        while let Some(answer) = answers.next().await? {
            window.add_permits(1);
            let Some(due) = due_receiver.recv().await else { break };
            published.answered(answer, due);
        }
        Ok::<_, BenchError>(published)
    };
    let limit = Duration::from_micros(schedule.due(schedule.total)) + DRAIN_TIMEOUT;
    let both = tokio::time::timeout(limit, async { tokio::join!(send, receive) }).await;
    let ((lateness, sent), published) =
        both.map_err(|_| BenchError::TimedOut(format!("not all quotes were answered within {limit:?}")))?;
    Ok(Published { sent, lateness, took: start.elapsed(), ..published? })
}

/// Publishes as fast as the server acknowledges, for a while.
pub(crate) async fn flood(
    origin: &str,
    key: Option<&str>,
    symbols: Symbols,
    duration: Duration,
) -> Result<Published, BenchError> {
    let mut maker = QuoteMaker::default();
    let (requests, mut answers) = wire::open(origin, key).await?;
    let mut published = Published::new();
    let start = Instant::now();
    let mut in_flight: VecDeque<Instant> = VecDeque::with_capacity(WINDOW);
    let mut requests = Some(requests);
    let work = async {
        loop {
            if start.elapsed() >= duration {
                requests = None;
            }
            if let Some(requests) = requests.as_ref().filter(|_| in_flight.len() < WINDOW) {
                let ts = unix_us();
                let numbers = published.sent..published.sent + BATCH_MAX;
                let quotes = numbers.map(|number| maker.quote(symbols.of(number), number, ts)).collect();
                in_flight.push_back(Instant::now());
                published.sent += BATCH_MAX;
                if requests.send(quotes).await {
                    continue;
                }
            }
            match answers.next().await? {
                Some(answer) => published.answered(answer, in_flight.pop_front().unwrap_or(start)),
                None => return Ok(()),
            }
        }
    };
    let limit = duration + DRAIN_TIMEOUT;
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done?,
        Err(_) => return Err(BenchError::TimedOut(format!("not all quotes were answered within {limit:?}"))),
    }
    published.took = start.elapsed();
    Ok(published)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_due_evenly_and_none_is_forgotten() {
        let symbols = Symbols::deal(500, 1)[0];
        let schedule = Schedule { start_us: 1_000_000, rate: 100_000, symbols, total: 1_000_000 };
        assert_eq!(schedule.due(100_000), 1_000_000);
        assert_eq!(schedule.ts(1), 1_000_010);
        assert_eq!(schedule.interval_us(), 5_000);
        let uneven = Schedule { total: 1_003, ..schedule };
        assert_eq!([uneven.quotes_of(2), uneven.quotes_of(3)], [3, 2]);
        assert_eq!((0..500).map(|place| uneven.quotes_of(place)).sum::<u64>(), 1_003);
        for micros in [0, 9, 10, 999, 1000, 12_345_678] {
            let due = schedule.due_by(Duration::from_micros(micros));
            assert!(schedule.due(due - 1) <= micros, "{micros}");
            assert!(due == schedule.total || schedule.due(due) > micros, "{micros}");
        }
    }

    #[test]
    fn every_symbol_has_one_publisher() {
        for (symbols, publishers) in [(1, 1), (500, 1), (500, 3), (2, 9)] {
            let mut dealt: Vec<usize> = Symbols::deal(symbols, publishers)
                .iter()
                .flat_map(|hand| (0..hand.count).map(|number| hand.of(number)))
                .collect();
            dealt.sort_unstable();
            assert_eq!(dealt, (0..usize::try_from(symbols).unwrap()).collect::<Vec<_>>());
        }
    }
}
