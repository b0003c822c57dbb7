//! A sink for many readers: event streams and gRPC subscriptions, each read by a task of its own.
//!
//! What a topic has newest is kept once, not once for each of its readers; a reader knows how far it has come in each of its topics, and which
//! of them have something for it. So a message costs each reader a mark and, if it is not on its way already, a wake-up; a reader
//! that is slow finds the newest when it comes, whatever it has missed, and holds nothing meanwhile.

mod desk;
mod mailbox;
#[cfg(test)]
mod tests;
mod topic;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use desk::Desk;
pub use mailbox::{Delivery, Mailbox, MailboxEnd, MailboxSubscription};
use tokio::time::{Duration, Instant};

use crate::PubSub;

/// Where the topics of many readers meet. Cloning is cheap; all clones are one.
///
/// Its readers are spread over a few desks, each a sink with a lock of its own, so that threads that read do not wait for each other.
#[derive(Clone)]
pub struct Mailroom {
    desks: Arc<[Arc<Desk>]>,
    next: Arc<AtomicUsize>,
}

/// The wish for at most one update of a topic per interval.
struct Rate {
    min_interval: Duration,
    /// By the topic's place among those of the reader.
    not_before: Vec<Option<Instant>>,
}

impl Mailroom {
    /// A mail room of `pubsub` with so many desks, at least one: as many as threads read.
    #[must_use]
    pub fn new(pubsub: &PubSub, desks: usize) -> Self {
        let desks = (0..desks.max(1)).map(|_| Arc::new(Desk::new(pubsub))).collect();
        Self { desks, next: Arc::default() }
    }

    /// A reader that lets at most `capacity` lossless messages wait, and gets at most one update per topic and `min_interval`.
    #[must_use]
    pub fn mailbox(&self, capacity: usize, min_interval: Option<Duration>) -> Mailbox {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        Mailbox::at(&self.desks[next % self.desks.len()], capacity, min_interval)
    }

    /// Ends all readers, those that are still to come as well.
    pub fn close(&self) {
        for desk in self.desks.iter() {
            desk.close();
        }
    }
}

impl Rate {
    /// Notes that an update is written now, unless its time has not come: then, when that is.
    fn hold(&mut self, place: u32, now: Instant) -> Option<Instant> {
        let not_before = self.not_before.get_mut(place as usize)?;
        let due = not_before.filter(|&time| time > now);
        if due.is_none() {
            *not_before = Some(now + self.min_interval);
        }
        due
    }
}

impl fmt::Debug for Mailroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailroom").field("desks", &self.desks.len()).finish_non_exhaustive()
    }
}
