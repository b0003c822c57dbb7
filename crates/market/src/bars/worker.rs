//! The threads that roll up, their supervision, and the handle that the market and the queries use.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tickwire_faults::{Unit, point};
use tickwire_pubsub::CrashBudget;

use crate::unit::{BackOff, BackOffBounds, gauge_value, panic_text};
use crate::{Symbol, TapUpdate, UpdateTap};

use super::bar::{Bar, DayRange, Interval};
use super::metrics as names;
use super::queue::{Queue, Taken};
use super::roller::{Applied, Bounds, Roller};

/// How many threads roll up and how much is kept.
#[derive(Debug, Clone)]
pub struct BarsConfig {
    /// Threads, among which the symbols are divided; at least one.
    pub threads: usize,
    /// Updates that may wait for a thread.
    pub queue: usize,
    /// Bars of a second that are kept for each symbol.
    pub seconds: usize,
    /// Bars of a minute that are kept for each symbol.
    pub minutes: usize,
    /// Symbols that have bars, on each thread.
    pub symbols: usize,
    /// The pauses after panics.
    pub back_off: BackOffBounds,
}

impl Default for BarsConfig {
    fn default() -> Self {
        Self {
            threads: 1,
            queue: 65_536,
            seconds: 300,
            minutes: 720,
            symbols: 10_000,
            back_off: BackOffBounds { first: Duration::from_millis(100), cap: Duration::from_secs(10) },
        }
    }
}

/// A thread that worked for this long after a panic has recovered from it.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// A worker that panics so many times in a row throws its bars away, since it may be they that it stumbles over.
const PANICS_WITH_HISTORY: u32 = 2;
/// Panics of a worker within ten minutes after which the node is not to be trusted with new clients. It goes on all the same.
const CRASHES_MAX: u32 = 10;
/// Updates that are rolled up before a query gets its turn.
const CHUNK: usize = 256;
/// A time further ahead of the acceptance than this is a broken clock, which must not close the bars of those that are right.
const AHEAD_MAX_US: i64 = 60_000_000;

/// Which bars are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarsQuery {
    /// Their length.
    pub interval: Interval,
    /// Bars that begin at this time, in microseconds, or later; `None`: from the oldest kept.
    pub from: Option<i64>,
    /// Bars that begin before this time; `None`: up to the open one.
    pub to: Option<i64>,
    /// The most bars; of more, the newest.
    pub limit: usize,
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BarsAnswer {
    /// Oldest first. The last one of all is still open.
    pub bars: Vec<Bar>,
    /// High and low of the newest day.
    pub day: Option<DayRange>,
}

/// The bars of a node: takes updates and answers queries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bars {
    lanes: Arc<[Lane]>,
    /// Divides the symbols among the lanes.
    hasher: RandomState,
}

/// What a worker shares with the handle.
#[derive(Debug)]
struct Lane {
    queue: Queue,
    roller: Mutex<Roller>,
    crashes: CrashBudget,
}

/// The running threads. Dropping it lets them finish what waits and joins them.
#[derive(Debug)]
#[must_use = "dropping it stops the computation"]
pub struct BarsWorkers {
    lanes: Arc<[Lane]>,
    threads: Vec<JoinHandle<()>>,
}

impl Bars {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(config: &BarsConfig) -> std::io::Result<(Self, BarsWorkers)> {
        let bounds = Bounds { seconds: config.seconds, minutes: config.minutes, symbols: config.symbols };
        let lanes: Arc<[Lane]> = (0..config.threads.max(1)).map(|_| Lane::new(config.queue, bounds)).collect();
        ::metrics::gauge!(names::QUEUE_CAPACITY, "queue" => "bars").set(gauge_value(config.queue * lanes.len()));
        let mut workers = BarsWorkers { lanes: lanes.clone(), threads: Vec::with_capacity(lanes.len()) };
        for index in 0..lanes.len() {
            let (lanes, back_off) = (lanes.clone(), config.back_off);
            let thread = std::thread::Builder::new().name(format!("bars-{index}"));
            workers.threads.push(thread.spawn(move || supervise(&lanes[index], index, back_off))?);
        }
        Ok((Self { lanes, hasher: RandomState::new() }, workers))
    }

    /// The bars of a symbol. Waits for the computation no longer than it takes to roll up some hundred quotes.
    #[must_use]
    pub fn query(&self, symbol: &Symbol, query: BarsQuery) -> BarsAnswer {
        let roller = self.lanes[self.lane_of(symbol)].roller.lock();
        let (from, to) = (query.from.unwrap_or(i64::MIN), query.to.unwrap_or(i64::MAX));
        BarsAnswer { bars: roller.bars(symbol, query.interval, from, to, query.limit), day: roller.day(symbol) }
    }

    /// Whether its workers panic no more often than those of a node that is well may.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let now = Instant::now();
        self.lanes.iter().all(|lane| !lane.crashes.is_exhausted(now))
    }

    fn lane_of(&self, symbol: &Symbol) -> usize {
        match self.lanes.len() {
            1 => 0,
            lanes => usize::try_from(self.hasher.hash_one(symbol) % lanes as u64).unwrap_or(0),
        }
    }
}

impl UpdateTap for Bars {
    fn offer(&self, updates: &[TapUpdate]) {
        let mut refused = 0;
        for (index, lane) in self.lanes.iter().enumerate() {
            refused += lane.queue.offer(updates.iter().filter(|update| self.lane_of(&update.symbol) == index));
        }
        if refused > 0 {
            ::metrics::counter!(names::LAGGED).increment(refused);
        }
    }
}

impl Drop for BarsWorkers {
    fn drop(&mut self) {
        for lane in &*self.lanes {
            lane.queue.close();
        }
        for thread in self.threads.drain(..) {
            // A worker's panics are caught and told by its supervisor; there is nothing more to learn here.
            let _ = thread.join();
        }
    }
}

/// Keeps one worker running until its queue is closed.
fn supervise(lane: &Lane, index: usize, bounds: BackOffBounds) {
    let mut back_off = BackOff::new(bounds);
    let mut rng = fastrand::Rng::with_seed(index as u64);
    loop {
        let began = Instant::now();
        let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| lane.work())) else { return };
        if began.elapsed() >= HEALTHY_AFTER {
            back_off.reset();
        }
        let pause = back_off.next_pause(&mut rng);
        let keeps_history = back_off.failures() <= PANICS_WITH_HISTORY;
        if lane.crashes.crashed(Instant::now()) {
            tracing::error!(
                panic = panic_text(&*panic),
                ?pause,
                keeps_history,
                "the computation of bars crashed and is started again"
            );
        }
        ::metrics::counter!(names::RESTARTS, "reason" => "panic").increment(1);
        lane.recover(keeps_history);
        if lane.queue.closed_within(pause) {
            return;
        }
    }
}

impl Lane {
    fn new(queue: usize, bounds: Bounds) -> Self {
        Self {
            queue: Queue::new(queue),
            roller: Mutex::new(Roller::new(bounds)),
            crashes: CrashBudget::new(CRASHES_MAX),
        }
    }

    /// After a panic: what was being rolled up is lost.
    fn recover(&self, keeps_history: bool) {
        let mut roller = self.roller.lock();
        if !keeps_history {
            roller.clear();
        }
        roller.mark_gap();
    }

    /// Rolls up what comes until the queue is closed.
    fn work(&self) {
        let depth = ::metrics::gauge!(names::QUEUE_DEPTH, "queue" => "bars");
        let mut buffer = Vec::new();
        while let Taken::Updates { refused } = self.queue.take(&mut buffer) {
            depth.set(gauge_value(buffer.len()));
            for chunk in buffer.chunks(CHUNK) {
                self.roll_up(chunk);
            }
            if refused > 0 {
                tracing::warn!(
                    refused,
                    capacity = self.queue.capacity(),
                    "bars lag: quotes were left out and a gap is marked"
                );
                ::metrics::counter!(names::RESTARTS, "reason" => "lagged").increment(1);
                self.roller.lock().mark_gap();
            }
        }
    }

    fn roll_up(&self, updates: &[TapUpdate]) {
        let (mut rolled, mut late, mut refused) = (0, 0, 0);
        let mut roller = self.roller.lock();
        for update in updates {
            point(Unit::Bars, || &update.symbol);
            let (Some(bid), Some(ask)) = (update.bid, update.ask) else { continue };
            match roller.apply(&update.symbol, event_time(update), bid.midpoint(ask)) {
                Applied::Rolled => rolled += 1,
                Applied::Late => late += 1,
                Applied::Refused => refused += 1,
            }
        }
        drop(roller);
        for (name, count) in [(names::UPDATES, rolled), (names::LATE, late), (names::REFUSED, refused)] {
            if count > 0 {
                ::metrics::counter!(name).increment(count);
            }
        }
    }
}

fn event_time(update: &TapUpdate) -> i64 {
    update.ts.filter(|ts| ts.saturating_sub(update.accepted_us) <= AHEAD_MAX_US).unwrap_or(update.accepted_us)
}
