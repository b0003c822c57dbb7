//! What the tests of the whole share: a real server process, its data, and waiting for what must come.
//!
//! ```no_run
//! # async fn example() {
//! use tickwire_tests::Process;
//!
//! let server = Process::start(&["drain.spread=1s"]).await;
//! server.publish(serde_json::json!([{"symbol": "EURUSD", "bid": "1.10"}])).await;
//! # }
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints what it skips"
)]

pub mod data;
mod eventually;
pub mod fixtures;
mod process;
pub mod socket;

pub use eventually::{PATIENCE, eventually, soon};
pub use process::{PUBLISH_KEY, Process, Signal, TOKEN_SECRET, binary, command, ready_addresses};
