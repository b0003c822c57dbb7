//! What a bar is.

use std::fmt;
use std::str::FromStr;

use crate::{Decimal, rejection::excerpt};

/// The mid price over one interval of event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// When the interval begins, in microseconds since the Unix epoch: a multiple of its length.
    pub start: i64,
    /// The earliest mid in it.
    pub open: Decimal,
    /// The highest.
    pub high: Decimal,
    /// The lowest.
    pub low: Decimal,
    /// The latest.
    pub close: Decimal,
    /// How many quotes made it.
    pub count: u64,
    /// How many of them came when a later interval had already begun.
    pub revision: u32,
    /// Whether quotes of this interval may be missing, because the computation was behind or restarted.
    pub gap: bool,
}

/// The extremes of a UTC day of event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayRange {
    /// Midnight, in microseconds since the Unix epoch.
    pub start: i64,
    /// The highest mid so far.
    pub high: Decimal,
    /// The lowest mid so far.
    pub low: Decimal,
    /// Whether quotes of this day may be missing.
    pub gap: bool,
}

/// The length of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interval {
    /// `1s`
    Second,
    /// `1m`
    Minute,
}

/// The text names no interval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("interval is {0:?}, expected 1s or 1m")]
pub struct IntervalError(String);

impl Interval {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Second, Self::Minute];

    /// Its name in topics and queries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "1s",
            Self::Minute => "1m",
        }
    }

    /// Its length in microseconds.
    #[must_use]
    pub const fn micros(self) -> i64 {
        match self {
            Self::Second => 1_000_000,
            Self::Minute => 60_000_000,
        }
    }
}

impl FromStr for Interval {
    type Err = IntervalError;

    fn from_str(text: &str) -> Result<Self, IntervalError> {
        Self::ALL
            .into_iter()
            .find(|interval| interval.name() == text)
            .ok_or_else(|| IntervalError(excerpt(text.as_bytes())))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
