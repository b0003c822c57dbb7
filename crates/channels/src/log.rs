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

/// Tells of refusals, each code at most once a second: many of one kind neither fill the log nor hide another. Codes are few, and a list of
/// them is as quick as a table.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(Vec<Told>);

#[derive(Debug)]
struct Told {
    code: &'static str,
    at: Instant,
    held_back: u64,
}

impl RefusalLog {
    /// Whether to write a line about this code now, and how many were held back since its last one.
    pub(crate) fn pass(&mut self, code: &'static str, now: Instant) -> Option<u64> {
        let Some(told) = self.0.iter_mut().find(|told| told.code == code) else {
            self.0.push(Told { code, at: now, held_back: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(told.at) < WINDOW {
            told.held_back += 1;
            return None;
        }
        told.at = now;
        Some(std::mem::take(&mut told.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_told_once_a_second_with_what_was_held_back() {
        let (mut log, start) = (RefusalLog::default(), Instant::now());
        assert_eq!([log.pass("a", start), log.pass("a", start), log.pass("a", start)], [Some(0), None, None]);
        assert_eq!(log.pass("b", start), Some(0));
        assert_eq!([log.pass("a", start + WINDOW), log.pass("a", start + WINDOW * 2)], [Some(2), Some(0)]);
    }
}
