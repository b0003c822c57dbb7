//! Load for a running server, and what comes of it: deliveries, latency, loss, and what the server spends.
//!
//! Publishers keep to a schedule whatever the server does ([`Load::rate`]); latency is counted from when a quote was due. Readers look at
//! every delivery: each gap in a symbol's `seq` must be explained by `n`, nothing may come twice or go back. The bench shares its machine
//! with the server more often than not, so it is built to be cheap: many sockets on one thread, frames that are scanned and not parsed.

mod check;
mod error;
mod frames;
mod probe;
mod publisher;
mod report;
mod run;
mod scan;
mod sockets;
mod wire;

pub use check::Checks;
pub use error::BenchError;
pub use report::{Delivered, Ingest, Opening, Percentiles, Report, Server, ServerLag, Setup};
pub use run::{Load, Rate, Target, run};
