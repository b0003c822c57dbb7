//! Why a measurement cannot be made.

use std::{io, net::SocketAddr};

/// Why a measurement cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Nobody answers there.
    #[error("cannot connect to {address}: {problem}; is the server running?")]
    Unreachable {
        /// Where.
        address: String,
        /// What happened.
        problem: String,
    },
    /// The server answered, and will not be measured.
    #[error("{address}: {problem}")]
    Refused {
        /// Where.
        address: String,
        /// What it said.
        problem: String,
    },
    /// An option cannot be used.
    #[error("{0}")]
    Option(String),
    /// This machine does not give what the load needs.
    #[error("{what}: {source}")]
    Machine {
        /// What was tried.
        what: &'static str,
        /// The system's words.
        source: io::Error,
    },
    /// Something took longer than it may.
    #[error("{0}")]
    TimedOut(String),
}

impl BenchError {
    /// What a system says of a server that cannot be reached.
    pub(crate) fn unreachable(address: SocketAddr) -> impl Fn(io::Error) -> Self + Copy {
        move |error| Self::Unreachable { address: address.to_string(), problem: error.to_string() }
    }

    pub(crate) fn machine(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Machine { what, source }
    }
}
