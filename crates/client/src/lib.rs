//! A Phoenix Channels client (protocol V2) for tests, benchmarks and users.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tickwire_client::{Client, Follow, Options, Ticker};
//!
//! let client = Client::connect(Options::new("ws://127.0.0.1:4000/socket")?).await?;
//! let mut ticker = Ticker::join(&client, "EURUSD", Follow::default()).await?;
//! while let Some(change) = ticker.next().await {
//!     println!("{change:?}");
//! }
//! # Ok(()) }
//! ```
//!
//! A lost connection is opened again with capped, jittered back-off, and every channel is joined again with parameters that are asked for
//! anew: that is how a [`Ticker`] resumes where it was.
//!
//! What decides is a pure state machine; one task per client does its I/O. A consumer that does not read its channel
//! slows the socket instead of growing a queue, and the server then conflates for it.

mod backoff;
mod client;
mod machine;
mod options;
mod ticker;
mod transport;
pub mod wire;

pub use backoff::Backoff;
pub use client::{CallError, Channel, Client, JoinError, Link};
pub use machine::{Disconnect, Event, Interruption, Params};
pub use options::{InvalidUrl, Options};
pub use ticker::{
    Change, Fault, Feed, FeedState, Follow, Follower, Malformed, Mark, Quote, Snapshot, Tally, Ticker, Update,
};
pub use tickwire_channels::message::Payload;
pub use transport::ConnectError;
