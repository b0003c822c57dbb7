//! What a socket has yet to be written. Pure: it writes into whatever takes bytes.
//!
//! Frames that must arrive stand in the queue as they are; conflated messages stand there as the shared message, so that a newer one can take
//! the place of one that waits. What an update stands for (`n`) is known only when it is written, from its number and the
//! join's [`Cursor`].
//!
//! While the socket takes everything, nothing is merged. Once it has refused bytes ([`Outbox::is_blocked`]), an update that waits is
//! replaced in place by the newer one of the same join, and a snapshot makes away with all of its join that waits.
//!
//! Few messages ever stand in the queue. A socket that keeps up [owes](Outbox::owe) the turn's [bursts](Bursts), whose bytes it shares with all
//! others, and has written them when the turn ends. What it owes comes before what stands in the queue.

mod burst;
mod join;
mod write;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use smallvec::SmallVec;
use tickwire_pubsub::{Broadcast, Class, Cursor, FRAME_SLOTS, OriginId, RARE_FRAME_SLOTS, Role, Stamp};

use self::{
    burst::Owing,
    join::{Early, Join, Rate},
};
pub(crate) use self::{
    burst::{BurstId, Bursts},
    write::Tally,
};
use crate::{
    deflate::Window,
    serializer::{Encoded, Wire, WireFormat, broadcast_frame},
};

/// Messages that may wait for the reply of one join, those aside that may be conflated.
const EARLY_MAX: usize = 1_024;

/// Entries are also put in front, which counts down.
const LEFT_START: u64 = 1 << 62;

/// What one socket has yet to be written.
pub(crate) struct Outbox {
    wire: Wire,
    blocked: bool,
    /// What it owes of the turn's bursts, before all entries.
    owing: Option<Owing>,
    entries: VecDeque<Entry>,
    /// How many control frames stand in front of the data.
    controls: usize,
    /// How many entries have left the queue: an entry's number is this plus its index, for as long as it waits.
    left: u64,
    /// The length of all entries; of an update, as if it stood for itself alone.
    bytes: usize,
    joins: Vec<Option<Box<Join>>>,
}

enum Entry {
    /// A reply or a push.
    Frame(Bytes),
    /// A control frame that has overtaken data.
    Control(Bytes),
    /// A broadcast that is never merged.
    Lossless(Bytes),
    /// A broadcast that a newer one may replace. `number` is that of the join's [`Track`](tickwire_pubsub::Track).
    Latest { message: Arc<Broadcast>, slot: u32, number: u64 },
    /// What is left of a frame that the socket has taken in part.
    Rest(Bytes),
    /// It was here, and something newer elsewhere replaces it.
    Gone,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It waits to be written, or it is not for this join.
    Taken,
    /// It waits for its time: [`Outbox::flush`] is to be called then.
    Due(Instant),
    /// There is no room for a message that must not be lost.
    Overflow,
}

impl Outbox {
    pub(crate) fn new(wire: impl Into<Wire>) -> Self {
        Self {
            wire: wire.into(),
            blocked: false,
            owing: None,
            entries: VecDeque::new(),
            controls: 0,
            left: LEFT_START,
            bytes: 0,
            joins: Vec::new(),
        }
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that wait behind the frame that is written next, or is being written: that one may be as big as it likes, what makes a slow
    /// consumer is what piles up behind it.
    pub(crate) fn bytes_behind(&self) -> usize {
        self.bytes - self.entries.front().map_or(0, |first| first.len(self.wire))
    }

    /// Whether nothing stands in the queue; what is owed of bursts is not in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the socket has refused bytes and not taken all since.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Queues a message that must arrive.
    pub(crate) fn push_message(&mut self, message: Encoded) {
        self.push(message.into_frame_for(self.wire));
    }

    /// Takes note that the socket would refuse bytes, before it is asked to take any.
    pub(crate) fn block(&mut self) {
        self.blocked = true;
    }

    /// Queues a frame that must arrive.
    pub(crate) fn push(&mut self, frame: Bytes) {
        self.append(Entry::Frame(frame));
    }

    /// Queues a control frame. While the socket takes everything, clients get all answers in the order in which they asked. Once it does not,
    /// control frames overtake data: a client that waits for a pong behind megabytes of prices takes the server for dead. None goes into
    /// the middle of a frame.
    pub(crate) fn push_control(&mut self, frame: Bytes) {
        if !self.blocked {
            return self.append(Entry::Frame(frame));
        }
        self.bytes += frame.len();
        let begun = usize::from(matches!(self.entries.front(), Some(Entry::Rest(_))));
        // Those in front of it have no number that anyone remembers.
        self.entries.insert(begun + self.controls, Entry::Control(frame));
        self.controls += 1;
        self.left -= 1;
    }

    /// Begins to keep what is published for a join that has not been decided.
    pub(crate) fn open(&mut self, slot: u32, origin: OriginId) {
        let slot = slot as usize;
        if self.joins.len() <= slot {
            self.joins.reserve_exact(slot + 1 - self.joins.len());
            self.joins.resize_with(slot + 1, || None);
        }
        self.joins[slot] = Some(Box::new(Join::new(origin)));
    }

    /// Begins to write what is published, now that the join's reply is queued, first what came in the meantime. What `floor` contains is
    /// left out.
    pub(crate) fn start(
        &mut self,
        slot: u32,
        cursor: Cursor,
        floor: Option<Stamp>,
        min_interval: Option<Duration>,
        now: Instant,
    ) -> Offer {
        let Some(Some(join)) = self.joins.get_mut(slot as usize) else { return Offer::Taken };
        let Some(early) = join.early.take() else { return Offer::Taken };
        join.cursor = cursor;
        join.floor = floor;
        join.rate = min_interval.map(|min_interval| Box::new(Rate::new(min_interval, now)));
        let mut outcome = Offer::Taken;
        let Early { latest, lossless } = *early;
        for (message, number) in latest.into_iter().flatten().chain(lossless.into_iter().map(|message| (message, 0))) {
            if let due @ Offer::Due(_) = self.offer(slot, &message, number, now, now) {
                outcome = due;
            }
        }
        outcome
    }

    /// Forgets a join, and what of it could be merged. Frames that were queued for it stay.
    pub(crate) fn close(&mut self, slot: u32, bursts: &Bursts) {
        self.settle(bursts);
        if self.joins.get_mut(slot as usize).and_then(Option::take).is_some() {
            self.clear_latest(slot);
        }
    }

    /// Takes all of a burst that was published on a join's topic, to be written before the turn ends. `false`: it has to be
    /// [offered](Self::offer) one by one, since something waits or the join is not simply the next to get it.
    pub(crate) fn owe(&mut self, slot: u32, id: BurstId, bursts: &mut Bursts) -> bool {
        if self.blocked || !self.entries.is_empty() {
            return false;
        }
        let Some(Some(join)) = self.joins.get(slot as usize) else { return false };
        let burst = bursts.get(id);
        if !join.takes(burst) || burst.bytes(self.wire).is_none() {
            return false;
        }
        bursts.owe(&mut self.owing, id, slot);
        true
    }

    /// Puts what is owed into the queue, in front, as if it had been offered one by one.
    fn settle(&mut self, bursts: &Bursts) {
        let Some(owing) = self.owing.take() else { return };
        let owed: SmallVec<[(BurstId, u32); 16]> = bursts.owed(owing).collect();
        for &(id, slot) in owed.iter().rev() {
            let burst = bursts.get(id);
            for (message, number) in burst.messages().rev() {
                self.settle_one(slot, message, number, burst.since());
            }
        }
    }

    fn settle_one(&mut self, slot: u32, message: &Arc<Broadcast>, number: u64, since: Instant) {
        let Some(Some(join)) = self.joins.get_mut(slot as usize) else { return };
        self.left -= 1;
        let entry = if message.class == Class::Lossless {
            let Some(frame) = shared_frame(self.wire, message) else { return };
            Entry::Lossless(frame.clone())
        } else {
            // Those behind it are newer.
            join.update.get_or_insert(self.left);
            join.since = Some(since);
            Entry::Latest { message: Arc::clone(message), slot, number }
        };
        self.bytes += entry.len(self.wire);
        self.entries.push_front(entry);
    }

    /// Takes a message that was published on a join's topic. `number` is an update's place among those received, `since` when the oldest
    /// of the updates that it stands for was accepted.
    pub(crate) fn offer(
        &mut self,
        slot: u32,
        message: &Arc<Broadcast>,
        number: u64,
        since: Instant,
        now: Instant,
    ) -> Offer {
        let Some(Some(join)) = self.joins.get_mut(slot as usize) else { return Offer::Taken };
        if message.except == Some(join.origin) || join.had(message) {
            return Offer::Taken;
        }
        if let Some(early) = &mut join.early {
            return early.keep(message, number);
        }
        match message.class {
            Class::Lossless => {
                if let Some(frame) = shared_frame(self.wire, message).cloned() {
                    self.append(Entry::Lossless(frame));
                }
                Offer::Taken
            }
            Class::Latest(role) => {
                if role == Role::Update {
                    join.since.get_or_insert(since);
                }
                if let Some(rate) = &mut join.rate
                    && let Some(held) = rate.hold(role, message, number, now)
                {
                    return held;
                }
                self.latest(slot, role, message, number);
                Offer::Taken
            }
        }
    }

    /// Queues what waited for its time on a join with an interval.
    pub(crate) fn flush(&mut self, slot: u32, now: Instant) {
        let Some(Some(join)) = self.joins.get_mut(slot as usize) else { return };
        let Some(rate) = &mut join.rate else { return };
        let (update, status) = rate.release(now);
        if let Some((message, number)) = update {
            self.latest(slot, Role::Update, &message, number);
        }
        if let Some(message) = status {
            self.latest(slot, Role::Status, &message, 0);
        }
    }

    fn latest(&mut self, slot: u32, role: Role, message: &Arc<Broadcast>, number: u64) {
        let Some(len) = shared_frame(self.wire, message).map(Bytes::len) else { return };
        let Some(Some(join)) = self.joins.get_mut(slot as usize) else { return };
        let entry = Entry::Latest { message: Arc::clone(message), slot, number };
        if role == Role::Snapshot {
            (join.update, join.status) = (None, None);
            if self.blocked {
                self.clear_latest(slot);
            }
            return self.append(entry);
        }
        let next = self.left + self.entries.len() as u64;
        let waits = if role == Role::Update { &mut join.update } else { &mut join.status };
        if self.blocked
            && let Some(place) = *waits
            && let Some(old) = self.entries.get_mut(index_of(place, self.left))
        {
            self.bytes = self.bytes + len - old.len(self.wire);
            *old = entry;
            return;
        }
        *waits = Some(next);
        self.append(entry);
    }

    fn append(&mut self, entry: Entry) {
        self.bytes += entry.len(self.wire);
        self.entries.push_back(entry);
    }

    /// Leaves of each join only the newest message of each role: the last resort before a socket is given up.
    pub(crate) fn compact(&mut self) {
        let Self { wire, entries, joins, left, bytes, .. } = self;
        for (index, entry) in entries.iter_mut().enumerate() {
            let Entry::Latest { message, slot, .. } = entry else { continue };
            let Some(Some(join)) = joins.get(*slot as usize) else { continue };
            let newest = match message.class {
                Class::Latest(Role::Update) => join.update,
                Class::Latest(Role::Status) => join.status,
                _ => continue,
            };
            if newest.is_some_and(|place| index_of(place, *left) > index) {
                *bytes -= entry.len(*wire);
                *entry = Entry::Gone;
            }
        }
    }

    /// Leaves nothing but the rest of a frame that has begun: the socket is to be closed, and a close frame may still fit.
    pub(crate) fn clear(&mut self) {
        self.left += self.entries.len() as u64;
        self.owing = None;
        self.joins = Vec::new();
        self.bytes = 0;
        self.controls = 0;
        let rest = std::mem::take(&mut self.entries).pop_front().filter(|entry| matches!(entry, Entry::Rest(_)));
        if let Some(rest) = rest {
            self.append(rest);
        }
    }

    fn clear_latest(&mut self, of: u32) {
        for entry in &mut self.entries {
            if matches!(entry, Entry::Latest { slot, .. } if *slot == of) {
                self.bytes -= entry.len(self.wire);
                *entry = Entry::Gone;
            }
        }
    }
}

impl Entry {
    fn len(&self, wire: Wire) -> usize {
        match self {
            Self::Frame(frame) | Self::Control(frame) | Self::Lossless(frame) | Self::Rest(frame) => frame.len(),
            Self::Latest { message, .. } => shared_frame(wire, message).map_or(0, Bytes::len),
            Self::Gone => 0,
        }
    }
}

// Event streams and gRPC have a slot each besides.
const _: () = assert!(WireFormat::COUNT + 2 <= FRAME_SLOTS && WireFormat::COUNT * Window::COUNT <= RARE_FRAME_SLOTS);

/// The frame that all sockets share that write alike. `None`: the message has no form in it, and its sockets do not get it.
pub(crate) fn shared_frame(wire: Wire, message: &Broadcast) -> Option<&Bytes> {
    let build = || broadcast_frame(wire, &message.topic, &message.event, &message.payload).ok();
    match wire.deflate {
        None => message.frame(wire.format.index(), build),
        Some(window) => message.rare_frame(wire.format.index() * Window::COUNT + window.index(), build),
    }
}

/// Where an entry stands in the queue. Entries that have left are never asked for: their joins forget them.
fn index_of(place: u64, left: u64) -> usize {
    usize::try_from(place - left).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
