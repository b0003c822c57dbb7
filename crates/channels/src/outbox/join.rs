//! What an outbox knows of one join.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tickwire_pubsub::{Broadcast, Class, Cursor, OriginId, Role, Stamp};

use super::{EARLY_MAX, Offer, burst::Burst};

/// A message and its number among the updates received; 0 for what is no update.
pub(super) type Numbered = (Arc<Broadcast>, u64);

pub(super) struct Join {
    /// Whose messages it does not get back.
    pub(super) origin: OriginId,
    pub(super) cursor: Cursor,
    /// The stamp up to which the client has everything.
    pub(super) floor: Option<Stamp>,
    /// Where the newest update and the newest status stand that have not been written.
    pub(super) update: Option<u64>,
    pub(super) status: Option<u64>,
    /// When the oldest update that has not been written was accepted.
    pub(super) since: Option<Instant>,
    /// What was published before the join was decided.
    pub(super) early: Option<Box<Early>>,
    pub(super) rate: Option<Box<Rate>>,
}

impl Join {
    pub(super) fn new(origin: OriginId) -> Self {
        Self {
            origin,
            cursor: Cursor::default(),
            floor: None,
            update: None,
            status: None,
            since: None,
            early: Some(Box::default()),
            rate: None,
        }
    }

    /// Whether a burst can be written as it is: the join wants all of it, now, and its updates follow on the last that was written.
    pub(super) fn takes(&self, burst: &Burst) -> bool {
        self.early.is_none()
            && self.rate.is_none()
            && burst.first_update().is_none_or(|first| self.cursor.precedes(first))
            && !burst.excepts(self.origin)
            && !self.had_some(burst)
    }

    /// Whether the client has some of a burst. Updates come in the order of their stamps; lossless messages of several publishers may not.
    fn had_some(&self, burst: &Burst) -> bool {
        if self.floor.is_none() {
            return false;
        }
        match burst.first_update() {
            Some(_) => burst.oldest().is_some_and(|oldest| self.had(oldest)),
            None => burst.messages().any(|(message, _)| self.had(message)),
        }
    }

    /// Whether the client has a message already, in its join's reply.
    pub(super) fn had(&self, message: &Broadcast) -> bool {
        let (Some(floor), Some(stamp)) = (self.floor, message.stamp) else { return false };
        match message.class {
            Class::Latest(Role::Update) | Class::Lossless => stamp <= floor,
            Class::Latest(Role::Snapshot) => stamp.epoch <= floor.epoch,
            // It tells how the update of the same stamp stands, at any time after it.
            Class::Latest(Role::Status) => stamp < floor,
        }
    }
}

/// What waits for a join's reply.
#[derive(Default)]
pub(super) struct Early {
    /// Snapshot, update, status: the newest of each, in the order in which they are written.
    pub(super) latest: [Option<Numbered>; 3],
    pub(super) lossless: VecDeque<Arc<Broadcast>>,
}

impl Early {
    pub(super) fn keep(&mut self, message: &Arc<Broadcast>, number: u64) -> Offer {
        let kept = Some((Arc::clone(message), number));
        match message.class {
            Class::Latest(Role::Snapshot) => self.latest = [kept, None, None],
            Class::Latest(Role::Update) => self.latest[1] = kept,
            Class::Latest(Role::Status) => self.latest[2] = kept,
            Class::Lossless if self.lossless.len() < EARLY_MAX => self.lossless.push_back(Arc::clone(message)),
            Class::Lossless => return Offer::Overflow,
        }
        Offer::Taken
    }
}

/// The wish for at most one update per interval.
pub(super) struct Rate {
    min_interval: Duration,
    next_at: Instant,
    update: Option<Numbered>,
    /// A status that came behind an update that is held: it must not overtake it.
    status: Option<Arc<Broadcast>>,
}

impl Rate {
    pub(super) fn new(min_interval: Duration, now: Instant) -> Self {
        Self { min_interval, next_at: now, update: None, status: None }
    }

    /// Keeps a message back if it must wait.
    pub(super) fn hold(&mut self, role: Role, message: &Arc<Broadcast>, number: u64, now: Instant) -> Option<Offer> {
        match role {
            Role::Snapshot => {
                (self.update, self.status) = (None, None);
                None
            }
            Role::Status => {
                self.update.as_ref()?;
                self.status = Some(Arc::clone(message));
                Some(Offer::Taken)
            }
            Role::Update if self.update.is_none() && now >= self.next_at => {
                self.next_at = now + self.min_interval;
                None
            }
            Role::Update => {
                let first = self.update.replace((Arc::clone(message), number)).is_none();
                Some(if first { Offer::Due(self.next_at) } else { Offer::Taken })
            }
        }
    }

    /// Gives out what was held, whose time has come.
    pub(super) fn release(&mut self, now: Instant) -> (Option<Numbered>, Option<Arc<Broadcast>>) {
        if self.update.is_none() || now < self.next_at {
            // The timer was set for an update that a snapshot has made away with.
            return (None, None);
        }
        self.next_at = now + self.min_interval;
        (self.update.take(), self.status.take())
    }
}
