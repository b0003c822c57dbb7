//! Quotes in, stamped updates and bars out.
//!
//! Start from [`Quote`], what a publisher says, and [`Market`], which takes quotes in, stamps and publishes them, and answers joins.
//!
//! This crate deliberately knows no sockets, no HTTP and no configuration file.

mod aggregator;
pub mod bars;
mod batch;
mod clock;
mod config;
mod decimal;
pub mod decode;
mod dedupe;
pub mod feed;
#[cfg(test)]
mod fixtures;
mod market;
pub mod metrics;
mod publication;
mod quote;
mod rejection;
mod ring;
mod shard;
mod snapshot;
mod symbol;
mod tap;
#[cfg(feature = "testing")]
pub mod testing;
mod timestamp;
mod unit;
mod value;
mod wire;

pub use batch::{Answer, Batch, IngestReport, Rejected};
pub use clock::{Clock, Moment};
pub use config::{MarketConfig, OutOfOrder, Symbols};
pub use decimal::{Decimal, DecimalError};
pub use market::{JoinRefusal, JoinRequest, LatestError, Market, MarketSeams};
pub use quote::{LastTrade, PublisherMark, Quote, QuoteFields, Sides, Source};
pub use rejection::{Field, Rejection};
pub use snapshot::{JoinSnapshot, Latest, Resume, Since, SinceError, State, Status};
pub use symbol::{Symbol, SymbolError, TICKER_PREFIX};
pub use tap::{TapUpdate, UpdateTap};
pub use timestamp::parse_ts;
pub use unit::BackOffBounds;
