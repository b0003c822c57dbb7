//! Where quotes come from without a publisher.
//!
//! A feed is a pure reader or generator of [`Tick`]s in a thin loop that waits for each tick's turn and offers what is due to a
//! [`QuoteSink`]: the market, or a publisher that speaks to a server elsewhere.
//!
//! - [`Feeds::start`] runs the feeds of a server, each a supervised unit with a name, a state, a restart policy and counters.
//! - [`replay::Replay`] plays recordings once, for a command line: [`Replay::open`](replay::Replay::open), then
//!   [`play`](replay::Replay::play) with an [`Observer`](replay::Observer) for the progress bar and the complaints.
//!
//! ```no_run
//! # use tickwire_market::feed::{QuoteSink, replay::{Observer, Problem, Progress, Replay, ReplayConfig}};
//! # use tokio_util::{sync::CancellationToken, task::TaskTracker};
//! struct Bar;
//!
//! impl Observer for Bar {
//!     fn progress(&self, progress: &Progress) {
//!         eprint!("\r{} of {} bytes, {} quotes", progress.bytes_read, progress.bytes_total, progress.accepted);
//!     }
//!     fn problem(&self, problem: &Problem) {
//!         eprintln!("{problem}");
//!     }
//! }
//!
//! async fn replay(server: impl QuoteSink) -> Result<Progress, Box<dyn std::error::Error>> {
//!     let config = ReplayConfig { speed: "10".parse()?, ..ReplayConfig::new(vec!["ticks/".into()]) };
//!     let replay = Replay::open(config)?;
//!     Ok(replay.play("replay", &server, &Bar, &TaskTracker::new(), &CancellationToken::new()).await?)
//! }
//! ```
//!
//! The kinds are [`replay`] (recorded files), [`binance`] (a live public stream) and [`simulated`] (a made-up market, which says so).

pub mod binance;
mod book_ticker;
mod delivery;
pub mod metrics;
mod pace;
pub mod replay;
pub mod simulated;
mod supervisor;
#[cfg(test)]
mod testing;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use pace::{Speed, SpeedError};
pub use supervisor::{FeedConfig, FeedKind, FeedState, FeedStatus, Feeds, RestartPolicy};

use crate::Quote;

/// A quote and its place in a playback.
#[derive(Debug, Clone)]
pub struct Tick {
    /// When it is to be played, from the start of the playback, before any change of speed. Never goes back.
    pub at: Duration,
    /// Its event time from the same start. Never goes back for one symbol.
    pub event: Duration,
    /// The quote, still without its `ts`: that is known when it is played.
    pub quote: Quote,
}

/// What became of quotes that were offered.
#[derive(Debug, Default)]
pub struct Offered {
    /// How many were taken.
    pub accepted: u64,
    /// How many were refused for good.
    pub rejected: u64,
    /// Those for which there was no room, in their order: to be offered again.
    pub rest: Vec<Quote>,
    /// When to offer them, if that is known.
    pub retry_after: Option<Duration>,
}

/// Quotes cannot be delivered at all: the place that they go to is gone. To have no room is not an error.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SinkError(#[from] Box<dyn std::error::Error + Send + Sync>);

/// Takes quotes.
pub trait QuoteSink: Send + Sync + 'static {
    /// Offers quotes in order, at most a few hundred at a time. Those of one symbol must be applied in this order.
    fn offer(&self, quotes: Vec<Quote>) -> impl Future<Output = Result<Offered, SinkError>> + Send;
}

/// The wall clock in microseconds since the Unix epoch. Read only by the loops that play, never by what decides.
fn unix_us() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}
