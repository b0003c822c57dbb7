//! What a worker does at a later time.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

/// When each socket is to be looked at, and why. Timers are never taken back: one that is not wanted any more finds nothing to do.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub(super) at: Instant,
    pub(super) socket: usize,
    /// The socket's identity: its place may have been taken by another.
    pub(super) id: u64,
    pub(super) why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// The client may have been silent for too long, or its token may have expired. One timer for both, never further away than the idle
    /// timeout: timers outlive their sockets, and those of a token's whole life would pile up.
    Life,
    /// The client may have taken nothing for too long.
    Write,
    /// An update of this join has waited for its interval.
    Rate(u32),
    /// It is this socket's turn to be drained.
    Drain,
    /// Its client has had time enough to take the close frame, or has it at the latest then.
    Linger { until: Instant },
}

impl Timers {
    pub(super) fn push(&mut self, timer: Timer) {
        self.heap.push(Reverse(timer));
    }

    /// Takes a timer whose time has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        if self.heap.peek()?.0.at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(timer)| timer)
    }

    /// How long until the next one.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.heap.peek().map(|Reverse(timer)| timer.at.saturating_duration_since(now))
    }
}
