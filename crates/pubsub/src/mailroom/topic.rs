//! A topic of a mail room: the newest of it once, and of each reader only how far it has come.

use std::sync::Arc;

use tokio::time::Instant;

use super::Rate;
use crate::{Broadcast, Cursor, Delivery, Epoch, Role, Stamp, Subscription, Topic, Track};

/// The newest messages of a topic, and who reads them.
///
/// A reader that comes to look gets the newest of each role that it has not had. So nothing has to be kept, or replaced, for each reader.
pub(super) struct LocalTopic {
    pub(super) name: Topic,
    pub(super) members: Vec<Member>,
    /// `None` while it is being made.
    pub(super) subscription: Option<Subscription>,
    track: Track,
    epoch: Epoch,
    /// Rises with the epoch: what a member's own is compared with.
    run: u32,
    /// Rises with every message that is taken.
    version: u64,
    snapshot: Option<Newest>,
    update: Option<Newest>,
    status: Option<Newest>,
}

/// A reader's place in a topic.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) reader: u32,
    /// Of the topic, among those of the reader.
    pub(super) place: u32,
    /// Whether the reader is to look at this topic.
    pub(super) waiting: bool,
    started: bool,
    /// The run that its snapshot or the last message that it had was of.
    run: u32,
    /// All that was taken up to this one is old to it.
    seen: u64,
    cursor: Cursor,
}

/// The newest message of a role.
struct Newest {
    message: Arc<Broadcast>,
    stamp: Stamp,
    /// Its number among the updates received.
    number: u64,
    run: u32,
    version: u64,
}

impl LocalTopic {
    pub(super) fn new(name: Topic) -> Self {
        Self {
            name,
            members: Vec::new(),
            subscription: None,
            track: Track::default(),
            epoch: Epoch::default(),
            run: 0,
            version: 0,
            snapshot: None,
            update: None,
            status: None,
        }
    }

    /// Adds a reader, for which everything that comes from now on waits; returns its number here.
    pub(super) fn add(&mut self, reader: u32, place: u32) -> usize {
        let (run, seen, cursor) = (self.run, self.version, Cursor::default());
        self.members.push(Member { reader, place, waiting: false, started: false, run, seen, cursor });
        self.members.len() - 1
    }

    /// Lets a member have what its snapshot, taken at `floor`, does not contain. Whether something waits for it already.
    pub(super) fn start(&mut self, member: usize, floor: Option<Stamp>) -> bool {
        let cursor = self.track.join(floor);
        if let Some(floor) = floor
            && floor.epoch > self.epoch
        {
            // The snapshot is of a later run than all that came here.
            self.epoch = floor.epoch;
            self.run += 1;
        }
        let is_current = floor.is_some_and(|floor| floor.epoch == self.epoch);
        let run = self.run;
        let Some(joined) = self.members.get_mut(member) else { return false };
        joined.started = true;
        joined.cursor = cursor;
        if is_current {
            joined.run = run;
        }
        let joined = &self.members[member];
        let news = [Role::Snapshot, Role::Update, Role::Status];
        let waits = news.into_iter().any(|role| self.has_news(role, joined));
        self.members[member].waiting = waits;
        waits
    }

    /// Takes a message. Whether there is something in it for anyone.
    pub(super) fn put(&mut self, role: Role, stamp: Stamp, message: &Arc<Broadcast>) -> bool {
        let number = match role {
            Role::Update => {
                let Some(number) = self.track.receive(stamp) else { return false };
                self.enter(stamp.epoch);
                number
            }
            Role::Snapshot => {
                let Some(number) = self.restart(stamp) else { return false };
                (self.update, self.status) = (None, None);
                number
            }
            Role::Status if self.track.follows(stamp.epoch) => self.track.newest(),
            Role::Status => return false,
        };
        self.version += 1;
        // A status may tell of a run whose snapshot is still on its way.
        let run = self.run + u32::from(stamp.epoch > self.epoch);
        let newest = Newest { message: Arc::clone(message), stamp, number, run, version: self.version };
        match role {
            Role::Update => self.update = Some(newest),
            Role::Snapshot => self.snapshot = Some(newest),
            Role::Status => self.status = Some(newest),
        }
        true
    }

    /// Notes the run of a message that has been taken.
    fn enter(&mut self, epoch: Epoch) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.run += 1;
        }
    }

    /// The number that stands for a snapshot. One that comes after a reader's own of the same run is still news to the other readers.
    fn restart(&mut self, stamp: Stamp) -> Option<u64> {
        if let Some(number) = self.track.restart(stamp) {
            self.enter(stamp.epoch);
            return Some(number);
        }
        let had = |newest: &Newest| newest.stamp.epoch == stamp.epoch;
        let is_late = stamp.epoch == self.epoch
            && !self.snapshot.as_ref().is_some_and(had)
            && !self.update.as_ref().is_some_and(had);
        is_late.then(|| self.track.newest())
    }

    /// Whether the newest message of a role is one that a member is to have.
    fn has_news(&self, role: Role, member: &Member) -> bool {
        let newest = match role {
            Role::Update => &self.update,
            Role::Snapshot => &self.snapshot,
            Role::Status => &self.status,
        };
        newest.as_ref().is_some_and(|newest| newest.is_new(role, member))
    }

    /// The members that have to look at what has just come and do not know yet; they know now.
    pub(super) fn tell(&mut self, role: Role, mut tell: impl FnMut(&Member)) {
        let newest = match role {
            Role::Update => &self.update,
            Role::Snapshot => &self.snapshot,
            Role::Status => &self.status,
        };
        let Some(newest) = newest else { return };
        for member in self.members.iter_mut().filter(|member| !member.waiting) {
            if newest.is_new(role, member) {
                member.waiting = true;
                tell(member);
            }
        }
    }

    /// Notes that a member has looked.
    pub(super) fn look_away(&mut self, member: usize) {
        if let Some(member) = self.members.get_mut(member) {
            member.waiting = false;
        }
    }

    /// Removes a member. Returns the one that stands in its place now.
    pub(super) fn remove(&mut self, member: usize) -> Option<&Member> {
        self.members.swap_remove(member);
        if self.members.len() * 4 < self.members.capacity() {
            self.members.shrink_to(self.members.len() * 2);
        }
        self.members.get(member)
    }

    /// Takes what a member may have now. What must wait for the reader's interval stays; the time when it may be taken is returned.
    pub(super) fn take(
        &mut self,
        member: usize,
        now: Instant,
        rate: Option<&mut Rate>,
        into: &mut Vec<Delivery>,
    ) -> Option<Instant> {
        let member = self.members.get_mut(member).filter(|member| member.started)?;
        if let Some(newest) = self.snapshot.as_ref().filter(|newest| newest.is_new(Role::Snapshot, member)) {
            member.cursor.restart(newest.number);
            (member.run, member.seen) = (newest.run, newest.version);
            into.push(newest.delivery(1));
        }
        if let Some(newest) = self.update.as_ref().filter(|newest| newest.is_new(Role::Update, member)) {
            if let Some(due) = rate.and_then(|rate| rate.hold(member.place, now)) {
                return Some(due);
            }
            let n = member.cursor.write(newest.number);
            if newest.run != member.run {
                // The snapshot's floor is of the run before and says nothing of this one.
                member.cursor.restart(newest.number);
                member.run = newest.run;
            }
            into.push(newest.delivery(n));
        }
        if let Some(newest) = self.status.as_ref().filter(|newest| newest.is_new(Role::Status, member)) {
            into.push(newest.delivery(1));
        }
        member.seen = self.version;
        None
    }
}

impl Newest {
    fn delivery(&self, n: u64) -> Delivery {
        Delivery { message: Arc::clone(&self.message), n }
    }

    /// Whether a member is to have it.
    fn is_new(&self, role: Role, member: &Member) -> bool {
        if !member.started || self.version <= member.seen {
            return false;
        }
        match role {
            Role::Snapshot => self.run > member.run,
            Role::Update => self.run > member.run || (self.run == member.run && !member.cursor.had(self.stamp.seq)),
            // One with the floor's own stamp may have come after the snapshot was taken.
            Role::Status => self.run > member.run || (self.run == member.run && !member.cursor.had(self.stamp.seq + 1)),
        }
    }
}
