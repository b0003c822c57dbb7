//! When quotes are due, whatever the server does: every quote has a time, and carries it as its `ts`.
//!
//! A server, or a bench, that falls behind makes quotes late; it does not make them fewer or newer. Latency is counted from when a quote
//! was due, so that nothing slow is left out of the figures (the mistake known as coordinated omission).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::dialect::Due;

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

    /// The quote with that number.
    pub(crate) fn quote(&self, number: u64) -> Due {
        Due { symbol: self.symbols.of(number), seq: number / self.symbols.count.max(1) + 1, due_us: self.ts(number) }
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

/// The wall clock as quotes carry it.
pub(crate) fn unix_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
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
