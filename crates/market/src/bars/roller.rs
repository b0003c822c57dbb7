//! Rolling mid prices up into bars: pure, exact, in event time.

use std::collections::VecDeque;

use hashbrown::{HashMap, hash_map::EntryRef};

use crate::{Decimal, Symbol};

use super::bar::{Bar, DayRange, Interval};

const DAY_US: i64 = 86_400_000_000;
/// Days whose extremes are kept: the current one, and the one before for late quotes around midnight.
const DAYS_KEPT: usize = 2;

/// How much a roller keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) seconds: usize,
    pub(super) minutes: usize,
    pub(super) symbols: usize,
}

/// What became of a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// It is in its bars; a late one perhaps in that of the minute and no more in that of the second.
    Rolled,
    /// It came too late for every bar that is still changed.
    Late,
    /// Its symbol is one too many.
    Refused,
}

/// The bars of many symbols.
#[derive(Debug)]
pub(super) struct Roller {
    bounds: Bounds,
    symbols: HashMap<Symbol, SymbolBars>,
}

#[derive(Debug)]
struct SymbolBars {
    seconds: Series,
    minutes: Series,
    days: Series,
}

impl Roller {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, symbols: HashMap::new() }
    }

    /// Adds a price of this event time, in microseconds.
    pub(super) fn apply(&mut self, symbol: &Symbol, ts: i64, mid: Decimal) -> Applied {
        let known = self.symbols.len();
        let bars = match self.symbols.entry_ref(symbol) {
            EntryRef::Occupied(bars) => bars.into_mut(),
            EntryRef::Vacant(_) if known >= self.bounds.symbols => return Applied::Refused,
            EntryRef::Vacant(place) => place.insert(SymbolBars::new(self.bounds)),
        };
        let taken = [&mut bars.seconds, &mut bars.minutes, &mut bars.days].map(|series| series.apply(ts, mid));
        if taken.contains(&true) { Applied::Rolled } else { Applied::Late }
    }

    /// Throws all bars away. The symbols stay, so that [`mark_gap`](Self::mark_gap) still reaches them.
    pub(super) fn clear(&mut self) {
        for bars in self.symbols.values_mut() {
            *bars = SymbolBars::new(self.bounds);
        }
    }

    /// Notes that prices were lost at this point: the open bars and those that follow them may lack some.
    pub(super) fn mark_gap(&mut self) {
        for bars in self.symbols.values_mut() {
            for series in [&mut bars.seconds, &mut bars.minutes, &mut bars.days] {
                series.mark_gap();
            }
        }
    }

    /// The newest `limit` bars that begin in `from..to`, oldest first.
    pub(super) fn bars(&self, symbol: &Symbol, interval: Interval, from: i64, to: i64, limit: usize) -> Vec<Bar> {
        let Some(bars) = self.symbols.get(symbol) else { return Vec::new() };
        let series = match interval {
            Interval::Second => &bars.seconds,
            Interval::Minute => &bars.minutes,
        };
        let end = series.bars.partition_point(|bar| bar.start < to);
        let begin = series.bars.partition_point(|bar| bar.start < from).max(end.saturating_sub(limit)).min(end);
        series.bars.range(begin..end).copied().collect()
    }

    /// The extremes of the newest day.
    pub(super) fn day(&self, symbol: &Symbol) -> Option<DayRange> {
        let day = self.symbols.get(symbol)?.days.bars.back()?;
        Some(DayRange { start: day.start, high: day.high, low: day.low, gap: day.gap })
    }
}

impl SymbolBars {
    fn new(bounds: Bounds) -> Self {
        Self {
            seconds: Series::new(Interval::Second.micros(), bounds.seconds),
            minutes: Series::new(Interval::Minute.micros(), bounds.minutes),
            days: Series::new(DAY_US, DAYS_KEPT),
        }
    }
}

/// Bars of one symbol and one length, in order of their starts. The last one is open.
#[derive(Debug)]
struct Series {
    length: i64,
    kept: usize,
    bars: VecDeque<Bar>,
    /// The times of the open and the close of the open bar, and of the bar of the interval before it: only these two still change.
    open_edges: Edges,
    previous_edges: Edges,
    gap_before_next: bool,
}

/// Event times of a bar's open and close.
#[derive(Debug, Clone, Copy, Default)]
struct Edges {
    first: i64,
    last: i64,
}

impl Series {
    fn new(length: i64, kept: usize) -> Self {
        Self {
            length,
            // Late quotes need the bar before the open one.
            kept: kept.max(2),
            bars: VecDeque::new(),
            open_edges: Edges::default(),
            previous_edges: Edges::default(),
            gap_before_next: false,
        }
    }

    /// Whether the price was in time for a bar of this series.
    fn apply(&mut self, ts: i64, mid: Decimal) -> bool {
        // Nearly every price is one of the open bar, and then there is nothing to divide.
        if let Some(open) = self.bars.back_mut()
            && ts.checked_sub(open.start).is_some_and(|after| (0..self.length).contains(&after))
        {
            merge(open, &mut self.open_edges, ts, mid);
            return true;
        }
        let start = ts.div_euclid(self.length).saturating_mul(self.length);
        let newest = self.bars.back().map(|bar| bar.start);
        match newest {
            Some(newest) if start < newest => start == newest - self.length && self.apply_late(start, ts, mid),
            _ => {
                self.begin(start, ts, mid);
                true
            }
        }
    }

    fn begin(&mut self, start: i64, ts: i64, mid: Decimal) {
        let gap = std::mem::take(&mut self.gap_before_next);
        self.bars.push_back(new_bar(start, mid, gap));
        self.previous_edges = std::mem::replace(&mut self.open_edges, Edges { first: ts, last: ts });
        if self.bars.len() > self.kept {
            self.bars.pop_front();
        }
    }

    /// A price of the interval just before the open bar, which has a bar only if an earlier price made one.
    fn apply_late(&mut self, start: i64, ts: i64, mid: Decimal) -> bool {
        let open = self.bars.len() - 1;
        if let Some(previous) = open.checked_sub(1).filter(|&previous| self.bars[previous].start == start) {
            merge(&mut self.bars[previous], &mut self.previous_edges, ts, mid);
            self.bars[previous].revision = self.bars[previous].revision.saturating_add(1);
            return true;
        }
        self.previous_edges = Edges { first: ts, last: ts };
        self.bars.insert(open, Bar { revision: 1, ..new_bar(start, mid, false) });
        if self.bars.len() > self.kept {
            self.bars.pop_front();
        }
        true
    }

    fn mark_gap(&mut self) {
        if let Some(open) = self.bars.back_mut() {
            open.gap = true;
        }
        self.gap_before_next = true;
    }
}

fn new_bar(start: i64, mid: Decimal, gap: bool) -> Bar {
    Bar { start, open: mid, high: mid, low: mid, close: mid, count: 1, revision: 0, gap }
}

fn merge(bar: &mut Bar, edges: &mut Edges, ts: i64, mid: Decimal) {
    bar.high = bar.high.max(mid);
    bar.low = bar.low.min(mid);
    bar.count += 1;
    if ts < edges.first {
        edges.first = ts;
        bar.open = mid;
    }
    if ts >= edges.last {
        edges.last = ts;
        bar.close = mid;
    }
}
