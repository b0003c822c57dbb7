//! What one turn of a worker has for its topics, as bytes that all sockets share.
//!
//! The messages that a turn finds for a topic are a [`Burst`]: their frames stand one behind the other in one buffer per wire, built once,
//! and a socket that owes nothing else is written that buffer as it is. What a socket owes of the turn's bursts is a list of a few bytes in
//! an arena of the worker, so that a delivery takes neither an allocation nor a count of references. Sockets that cannot take part, since
//! they are behind, wait for a reply or have asked for an interval, are offered the messages one by one.

use std::{cell::OnceCell, sync::Arc, time::Instant};

use bytes::Bytes;
use smallvec::SmallVec;
use tickwire_pubsub::{Broadcast, Class, OriginId, Topic};

use super::{shared_frame, write::Tally};
use crate::{
    deflate::Window,
    serializer::{Wire, WireFormat, conflated_frame},
};

/// What a socket is written in one call from several bursts at most, in bytes: they are copied into one buffer first, which is kept.
const JOINED_BYTES_MAX: usize = 64 * 1024;

/// Sockets that are written between two looks at the clock: the time that a delivery is counted with is that much too late at most.
const WRITES_PER_LOOK: u32 = 16;

/// Bursts, messages of one burst, and deliveries, whose room is kept between turns. That of more deliveries is kept while it is made use of.
const BURSTS_KEPT: usize = 4_096;
const MESSAGES_KEPT: usize = 64;
const OWED_KEPT: usize = 16_384;

/// A burst of this turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BurstId(u32);

/// Messages of one topic, in order, either all lossless or all updates that follow one upon the other.
pub(crate) struct Burst {
    topic: Option<Topic>,
    messages: Vec<Arc<Broadcast>>,
    lossless: bool,
    /// The numbers of the oldest update that it stands for, and of the newest.
    first: u64,
    last: u64,
    /// Only the newest update is left of those that came late.
    late: bool,
    /// When the oldest of the updates was accepted.
    since: Instant,
    /// Who does not get some of it.
    excepts: SmallVec<[OriginId; 2]>,
    frames: [OnceCell<Option<Bytes>>; FRAMES],
    /// Sockets that were written it since the clock was looked at.
    written: u32,
}

/// One buffer for each wire.
const FRAMES: usize = WireFormat::COUNT * (1 + Window::COUNT);

fn frame_index(wire: Wire) -> usize {
    wire.format.index() * (1 + Window::COUNT) + wire.deflate.map_or(0, |window| 1 + window.index())
}

/// What one socket owes, as a list in the arena of a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owing {
    turn: u64,
    head: u32,
    tail: u32,
}

#[derive(Debug, Clone, Copy)]
struct Owed {
    burst: BurstId,
    slot: u32,
    next: Option<u32>,
}

/// The bursts of a turn, and who owes which.
#[derive(Default)]
pub(crate) struct Bursts {
    /// Those in use come first.
    bursts: Vec<Burst>,
    used: usize,
    owed: Vec<Owed>,
    turn: u64,
    /// Written since the clock was looked at.
    touched: Vec<BurstId>,
    writes: u32,
    joined: Joined,
}

/// Several bursts in one buffer, for all sockets that owe the same.
#[derive(Default)]
struct Joined {
    of: Vec<BurstId>,
    wire: Option<Wire>,
    bytes: Vec<u8>,
}

impl Burst {
    fn new(now: Instant) -> Self {
        Self {
            topic: None,
            messages: Vec::new(),
            lossless: false,
            first: 0,
            last: 0,
            late: false,
            since: now,
            excepts: SmallVec::new(),
            frames: [const { OnceCell::new() }; FRAMES],
            written: 0,
        }
    }

    fn begin(&mut self, message: Arc<Broadcast>, number: u64, late: bool) {
        self.topic = Some(message.topic.clone());
        self.lossless = message.class == Class::Lossless;
        (self.first, self.last) = (number, number);
        self.late = late;
        self.since = message.accepted_at;
        self.excepts.extend(message.except);
        self.messages.push(message);
    }

    /// Takes one more message, if it belongs here.
    fn extend(&mut self, message: &Arc<Broadcast>, number: u64) -> bool {
        if self.lossless != (message.class == Class::Lossless) || !(self.lossless || number == self.last + 1) {
            return false;
        }
        self.last = number;
        self.excepts.extend(message.except);
        if self.late {
            self.messages.clear();
        }
        self.messages.push(Arc::clone(message));
        true
    }

    fn clear(&mut self) {
        self.topic = None;
        self.messages.clear();
        self.messages.shrink_to(MESSAGES_KEPT);
        self.excepts.clear();
        self.frames = [const { OnceCell::new() }; FRAMES];
        self.written = 0;
    }

    /// Whose messages they are.
    pub(crate) fn topic(&self) -> Option<&Topic> {
        self.topic.as_ref()
    }

    /// The first of its messages.
    pub(super) fn oldest(&self) -> Option<&Arc<Broadcast>> {
        self.messages.first()
    }

    /// Whether it has updates; their first number is then that of the oldest update that it stands for.
    pub(super) fn first_update(&self) -> Option<u64> {
        (!self.lossless).then_some(self.first)
    }

    /// The number of the newest update.
    pub(super) fn last_number(&self) -> u64 {
        self.last
    }

    /// Whether someone does not get all of it.
    pub(super) fn excepts(&self, origin: OriginId) -> bool {
        self.excepts.contains(&origin)
    }

    /// When the oldest of its updates was accepted.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Its messages, each with its number.
    pub(super) fn messages(&self) -> impl DoubleEndedIterator<Item = (&Arc<Broadcast>, u64)> + ExactSizeIterator {
        self.messages.iter().enumerate().map(|(index, message)| (message, self.number(index)))
    }

    /// The number of the message with that place.
    fn number(&self, index: usize) -> u64 {
        match self {
            Self { lossless: true, .. } => 0,
            Self { late: true, last, .. } => *last,
            Self { first, .. } => first + index as u64,
        }
    }

    /// How many updates stand behind the one that is left.
    fn n(&self) -> u64 {
        if self.late && !self.lossless { self.last - self.first + 1 } else { 1 }
    }

    /// Its frames, one behind the other. `None`: some message has no form in this wire.
    pub(super) fn bytes(&self, wire: Wire) -> Option<&Bytes> {
        self.frames[frame_index(wire)].get_or_init(|| self.build(wire)).as_ref()
    }

    fn build(&self, wire: Wire) -> Option<Bytes> {
        let n = self.n();
        match self.messages.as_slice() {
            [one] if n == 1 => shared_frame(wire, one).cloned(),
            [one] => conflated_frame(wire, &one.topic, &one.event, &one.payload, n).ok(),
            all => {
                let frames = all.iter().map(|message| shared_frame(wire, message));
                let frames: Option<SmallVec<[&Bytes; 16]>> = frames.collect();
                let frames = frames?;
                let mut bytes = Vec::with_capacity(frames.iter().map(|frame| frame.len()).sum());
                for frame in frames {
                    bytes.extend_from_slice(frame);
                }
                Some(bytes.into())
            }
        }
    }

    /// Counts what was written of it since the last time.
    fn count(&mut self, now: Instant, tally: &mut Tally) {
        let sockets = u64::from(std::mem::take(&mut self.written));
        tally.deliveries += sockets * self.messages.len() as u64;
        if self.lossless {
            return;
        }
        for message in &self.messages {
            tally.lag.record(now.saturating_duration_since(message.accepted_at), sockets);
        }
        let merged = self.n() - 1;
        if merged > 0 {
            tally.conflated += merged * sockets;
            tally.lag.record(now.saturating_duration_since(self.since), merged * sockets);
        }
    }
}

impl Bursts {
    /// Begins a burst. With `late`, only its newest update is kept.
    pub(crate) fn begin(&mut self, message: Arc<Broadcast>, number: u64, late: bool) -> BurstId {
        let id = BurstId(u32::try_from(self.used).unwrap_or(u32::MAX));
        if self.used == self.bursts.len() {
            self.bursts.push(Burst::new(message.accepted_at));
        }
        self.bursts[self.used].begin(message, number, late);
        self.used += 1;
        id
    }

    /// Adds a message to a burst of the same topic that nobody owes yet; `false` if it does not follow on it.
    pub(crate) fn extend(&mut self, id: BurstId, message: &Arc<Broadcast>, number: u64) -> bool {
        self.bursts[id.0 as usize].extend(message, number)
    }

    /// How many bursts there have been in this turn.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// How many deliveries there is room for.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.owed.capacity()
    }

    /// The burst with that place in the turn.
    pub(crate) fn id(&self, place: usize) -> Option<BurstId> {
        (place < self.used).then(|| u32::try_from(place).ok().map(BurstId)).flatten()
    }

    pub(crate) fn get(&self, id: BurstId) -> &Burst {
        &self.bursts[id.0 as usize]
    }

    /// A message of a burst, its number, and when the oldest of the updates that it stands for was accepted.
    pub(crate) fn message(&self, id: BurstId, index: usize) -> Option<(Arc<Broadcast>, u64, Instant)> {
        let burst = self.get(id);
        let message = burst.messages.get(index)?;
        let number = burst.number(index);
        let since = if burst.late { burst.since } else { message.accepted_at };
        Some((Arc::clone(message), number, since))
    }

    /// Notes that a socket owes a burst for one of its joins.
    pub(super) fn owe(&mut self, owing: &mut Option<Owing>, burst: BurstId, slot: u32) {
        let place = u32::try_from(self.owed.len()).unwrap_or(u32::MAX);
        self.owed.push(Owed { burst, slot, next: None });
        match owing.as_mut().filter(|owing| owing.turn == self.turn) {
            Some(owing) => {
                self.owed[owing.tail as usize].next = Some(place);
                owing.tail = place;
            }
            None => *owing = Some(Owing { turn: self.turn, head: place, tail: place }),
        }
    }

    /// What a socket owes, in order: the burst, and the join that it is for.
    pub(super) fn owed(&self, owing: Owing) -> impl Iterator<Item = (BurstId, u32)> {
        // A list of a turn that has crashed is of nobody's business any more.
        let head = (owing.turn == self.turn).then_some(owing.head);
        let at = |place: u32| self.owed[place as usize];
        std::iter::successors(head.map(at), move |owed| owed.next.map(at)).map(|owed| (owed.burst, owed.slot))
    }

    /// All that a socket owes as one piece. `None`: there is nothing, or too much to copy it.
    pub(super) fn bytes(&mut self, owing: Owing, wire: Wire) -> Option<&[u8]> {
        let head = self.owed.get(owing.head as usize).filter(|_| owing.turn == self.turn)?;
        if head.next.is_none() {
            return self.bursts[head.burst.0 as usize].bytes(wire).map(|bytes| bytes.as_ref());
        }
        let ids: SmallVec<[BurstId; 32]> = self.owed(owing).map(|(burst, _)| burst).collect();
        let Self { bursts, joined, .. } = self;
        if joined.wire != Some(wire) || joined.of.as_slice() != ids.as_slice() {
            joined.wire = None;
            joined.bytes.clear();
            for id in &ids {
                let bytes = bursts[id.0 as usize].bytes(wire)?;
                if joined.bytes.len() + bytes.len() > JOINED_BYTES_MAX {
                    return None;
                }
                joined.bytes.extend_from_slice(bytes);
            }
            joined.of.clear();
            joined.of.extend_from_slice(&ids);
            joined.wire = Some(wire);
        }
        Some(&joined.bytes)
    }

    /// Counts a burst as written to one more socket.
    pub(super) fn wrote(&mut self, id: BurstId) {
        let burst = &mut self.bursts[id.0 as usize];
        burst.written += 1;
        if burst.written == 1 {
            self.touched.push(id);
        }
    }

    /// Counts a call; every so often what was written is put down with the time that it is then.
    pub(super) fn called(&mut self, tally: &mut Tally) {
        tally.calls += 1;
        self.writes += 1;
        if self.writes == WRITES_PER_LOOK {
            self.count(tally);
        }
    }

    fn count(&mut self, tally: &mut Tally) {
        self.writes = 0;
        if self.touched.is_empty() {
            return;
        }
        let now = Instant::now();
        for id in self.touched.drain(..) {
            self.bursts[id.0 as usize].count(now, tally);
        }
    }

    /// Ends the turn: all that was owed is written, or stands in the outboxes.
    pub(crate) fn end(&mut self, tally: &mut Tally) {
        if self.used == 0 {
            return;
        }
        self.count(tally);
        for burst in &mut self.bursts[..self.used] {
            burst.clear();
        }
        self.used = 0;
        if self.owed.len() < self.owed.capacity() / 8 {
            self.owed.shrink_to(OWED_KEPT);
        }
        self.owed.clear();
        self.turn += 1;
        self.joined.wire = None;
        if self.bursts.len() > BURSTS_KEPT {
            self.bursts.truncate(BURSTS_KEPT);
            self.bursts.shrink_to(BURSTS_KEPT);
        }
    }
}
