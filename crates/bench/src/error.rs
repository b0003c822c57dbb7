//! Why a measurement cannot be made.

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
        source: std::io::Error,
    },
    /// Something took longer than it may.
    #[error("{0}")]
    TimedOut(String),
}

impl BenchError {
    pub(crate) fn machine(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Machine { what, source }
    }
}
