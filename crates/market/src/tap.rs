//! Where derived computations listen.

use std::fmt::Debug;

use tickwire_pubsub::Stamp;

use crate::{Decimal, Symbol};

/// A stamped update as derived computations see it.
#[derive(Debug, Clone)]
pub struct TapUpdate {
    /// The instrument.
    pub symbol: Symbol,
    /// The update's place in the symbol's order.
    pub stamp: Stamp,
    /// The bid after the update.
    pub bid: Option<Decimal>,
    /// The ask after the update.
    pub ask: Option<Decimal>,
    /// The publisher's time in microseconds since the Unix epoch.
    pub ts: Option<i64>,
    /// When the update was accepted, in microseconds since the Unix epoch.
    pub accepted_us: i64,
}

/// Takes every update that this node stamps.
pub trait UpdateTap: Send + Sync + Debug {
    /// Takes updates in the order of their stamps, symbol by symbol. Called while the shard is held: it must neither block nor panic, and
    /// drops and counts what does not fit.
    fn offer(&self, updates: &[TapUpdate]);
}
