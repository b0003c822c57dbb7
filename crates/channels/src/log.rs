//! Logging what clients can bring about.

use std::time::{Duration, Instant};

/// How many lines may be written per window.
const LINES_PER_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Keeps a client from writing our log. What is left out is still counted in the metrics.
#[derive(Debug, Default)]
pub(crate) struct LogBudget {
    window: Option<Instant>,
    written: u32,
}

impl LogBudget {
    /// Whether one more line may be written now.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        if self.window.is_none_or(|start| now.saturating_duration_since(start) >= WINDOW) {
            (self.window, self.written) = (Some(now), 0);
        }
        self.written += 1;
        self.written <= LINES_PER_WINDOW
    }
}
