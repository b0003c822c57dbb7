//! Load for a running server, and what comes of it: deliveries, latency, loss, and what the server spends.
//!
//! Publishers keep to a schedule whatever the server does ([`Load::rate`]); latency is counted from when a quote was due. Readers look at
//! every delivery: each gap in a symbol's `seq` must be explained by `n`, nothing may come twice or go back. The bench shares its machine
//! with the server more often than not, so it is built to be cheap: many sockets on one thread, frames that are scanned and not parsed.
//!
//! What server is loaded is a `Dialect`, see the module of that name; everything else is the same for all.

mod check;
mod compare;
mod crowd;
mod dialect;
mod error;
mod frames;
mod gather;
mod http;
mod limit;
mod machine;
mod pace;
mod payload;
mod peer;
pub mod plot;
mod probe;
mod publisher;
mod reader;
mod report;
mod run;
mod scan;
mod schedule;
mod socket;
mod system;
mod tally;
mod tickwire;
mod wire;

pub use check::Checks;
pub use compare::{Comparison, Figure, Row, compare};
pub use error::BenchError;
pub use limit::LimitServer;
pub use machine::spawn_on;
pub use peer::Peer;
pub use report::{Delivered, Ingest, Opening, PerRead, Percentiles, Report, Server, ServerLag, Setup, Slow, Storm};
pub use run::{Load, Rate, Stall, Target, run};
pub use system::AcceptQueue;
pub use tickwire::Via;
