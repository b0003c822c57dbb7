//! What an operator may choose about the market.

use std::time::Duration;

use hashbrown::HashSet;

use crate::Symbol;

/// Which symbols are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Symbols {
    /// Whatever is published.
    #[default]
    Open,
    /// These only.
    Listed(HashSet<Symbol>),
}

impl Symbols {
    /// Whether a symbol is taken.
    #[must_use]
    pub fn take(&self, symbol: &Symbol) -> bool {
        match self {
            Self::Open => true,
            Self::Listed(symbols) => symbols.contains(symbol),
        }
    }
}

/// What becomes of a quote whose `ts` is older than that of the current value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutOfOrder {
    /// It is rejected.
    #[default]
    Reject,
    /// It replaces the current value all the same.
    Accept,
}

/// The market's bounds and rules.
#[derive(Debug, Clone)]
pub struct MarketConfig {
    /// Into how many parts, each with its own lock, the symbols are split; at least 1.
    pub shards: usize,
    /// How many updates of a symbol are kept for clients that resume.
    pub ring: usize,
    /// How long they are kept.
    pub ring_age: Duration,
    /// How many bytes the kept updates of all symbols may take.
    pub ring_bytes: usize,
    /// How many missed updates a resuming client gets at most; one that missed more starts from the newest value.
    pub resume_max: usize,
    /// How long after its last quote a symbol is stale.
    pub stale_after: Duration,
    /// Which symbols are taken.
    pub symbols: Symbols,
    /// How many symbols are kept at most.
    pub symbols_max: usize,
    /// What becomes of late quotes.
    pub out_of_order: OutOfOrder,
    /// How far ahead of the node's clock a quote's `ts` may be. One from the far future would make all that follow it late.
    pub ts_ahead_max: Duration,
    /// How many quotes' `id` are remembered.
    pub ids_max: usize,
    /// How long they are remembered.
    pub ids_age: Duration,
    /// How many quotes a batch may have.
    pub batch_max: usize,
    /// How long an owner on another node may take to answer before its answer is given up: for quotes that are forwarded to it and for
    /// joins of its symbols.
    pub owner_timeout: Duration,
}

impl Default for MarketConfig {
    fn default() -> Self {
        Self {
            shards: 8,
            ring: 512,
            ring_age: Duration::from_secs(60),
            ring_bytes: 64 << 20,
            resume_max: 512,
            stale_after: Duration::from_secs(15),
            symbols: Symbols::Open,
            symbols_max: 100_000,
            out_of_order: OutOfOrder::Reject,
            ts_ahead_max: Duration::from_secs(24 * 3600),
            ids_max: 200_000,
            ids_age: Duration::from_secs(300),
            batch_max: 10_000,
            owner_timeout: Duration::from_secs(2),
        }
    }
}
