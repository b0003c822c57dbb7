//! The bounded queue between the market and a worker.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::TapUpdate;

/// Takes updates without ever waiting for the worker: both sides hold its lock only to copy or to swap a vector. The worker takes all
/// that is there at once, so its two buffers are used again and again and a steady flow allocates nothing.
///
/// The first update after a silence wakes the worker. While they flow it looks [`GATHER`] after it was done, or when the queue is half
/// full: waking a thread costs more than rolling up many updates, and a publisher of single quotes would pay for it with each of them.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    updates: Vec<TapUpdate>,
    /// Updates refused since the worker last looked.
    refused: u64,
    closed: bool,
    /// How many updates wake the worker.
    wake_at: usize,
}

/// How long updates gather before the worker takes them, so that bars are behind by as much.
const GATHER: Duration = Duration::from_millis(20);

/// Updates for which a buffer keeps its memory.
const BUFFER_KEPT: usize = 4096;

/// What the worker found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// The buffer has what was waiting; after it, so many updates were refused.
    Updates { refused: u64 },
    /// The queue is closed, nothing will follow.
    Closed,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), ready: Condvar::new(), capacity }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes as many of the updates, from the first on, as there is room for; returns how many were refused.
    pub(super) fn offer<'a>(&self, updates: impl Iterator<Item = &'a TapUpdate>) -> u64 {
        let mut state = self.state.lock();
        let waiting = state.updates.len();
        let mut left_over = 0;
        for update in updates {
            if state.updates.len() < self.capacity {
                state.updates.push(update.clone());
            } else {
                left_over += 1;
            }
        }
        state.refused += left_over;
        let wake = waiting < state.wake_at && state.updates.len() >= state.wake_at;
        drop(state);
        if wake {
            self.ready.notify_one();
        }
        left_over
    }

    /// Waits for updates and swaps them with the empty buffer.
    pub(super) fn take(&self, buffer: &mut Vec<TapUpdate>) -> Taken {
        let last = buffer.len();
        buffer.clear();
        // What a burst needed is given back once it is over.
        if last < buffer.capacity() / 4 {
            buffer.shrink_to(BUFFER_KEPT.max(2 * last));
        }
        let mut state = self.state.lock();
        if last > 0 {
            self.gather(&mut state);
        }
        state.wake_at = 1;
        while state.updates.is_empty() && state.refused == 0 {
            if state.closed {
                return Taken::Closed;
            }
            self.ready.wait(&mut state);
        }
        std::mem::swap(&mut state.updates, buffer);
        Taken::Updates { refused: std::mem::take(&mut state.refused) }
    }

    /// Leaves updates alone for a while.
    fn gather(&self, state: &mut MutexGuard<'_, State>) {
        let until = Instant::now() + GATHER;
        state.wake_at = self.capacity.div_ceil(2);
        while !state.closed && state.updates.len() < state.wake_at {
            if self.ready.wait_until(state, until).timed_out() {
                break;
            }
        }
    }

    /// Waits this long, or until the queue is closed; returns whether it is.
    pub(super) fn closed_within(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        let until = Instant::now() + pause;
        while !state.closed {
            // Arriving updates wake this too, which is why it loops.
            if self.ready.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.closed
    }

    /// Lets the worker finish what is there and end.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_all();
    }
}
