//! Quotes in, stamped updates and bars out.
//!
//! Start from [`Quote`], what a publisher says.
//!
//! This crate deliberately knows no sockets, no HTTP and no configuration file.

mod decimal;
pub mod feed;
mod quote;
mod rejection;
mod symbol;
mod tap;

pub use decimal::{Decimal, DecimalError};
pub use quote::{LastTrade, PublisherMark, Quote, QuoteFields, Sides, Source};
pub use rejection::{Field, Rejection};
pub use symbol::{Symbol, SymbolError, TICKER_PREFIX};
pub use tap::{TapUpdate, UpdateTap};
