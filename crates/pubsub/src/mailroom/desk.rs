//! A part of the readers, behind one lock.

use std::{collections::VecDeque, fmt, sync::Arc, task::Waker};

use hashbrown::HashMap;
use parking_lot::Mutex;
use slab::Slab;
use tokio::time::{Duration, Instant};

use super::{Delivery, MailboxEnd, Rate, topic::LocalTopic};
use crate::{Broadcast, Class, PubSub, Sink, SinkId, Stamp, Subscription, Topic, metrics};

/// Readers that share a sink.
pub(super) struct Desk {
    shared: Arc<Shared>,
    pubsub: PubSub,
    sink: SinkId,
    /// Held while topics come and go, so that one is never subscribed to anew before its last subscription is gone. It is taken before
    /// the state, which is never held while the switchboard is called: that calls us while it holds locks of its own.
    changes: Mutex<()>,
    conflated: ::metrics::Counter,
}

/// What the switchboard calls.
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    topics: Slab<LocalTopic>,
    by_name: HashMap<Topic, u32>,
    readers: Slab<Reader>,
    closed: bool,
}

/// One mailbox.
struct Reader {
    topics: Vec<Place>,
    /// The first and the last topic that waits to be looked at, in the order in which they began to wait.
    waiting: Option<(u32, u32)>,
    lossless: VecDeque<Arc<Broadcast>>,
    capacity: usize,
    overflowed: bool,
    /// There while the reader's task sleeps; who takes it wakes it.
    waker: Option<Waker>,
    rate: Option<Box<Rate>>,
}

/// One topic of a reader.
struct Place {
    topic: u32,
    member: u32,
    /// The place that waits behind this one.
    next: Option<u32>,
}

impl Desk {
    pub(super) fn new(pubsub: &PubSub) -> Self {
        let shared = Arc::new(Shared(Mutex::default()));
        let sink = pubsub.attach(Arc::clone(&shared) as Arc<dyn Sink>);
        Self { shared, pubsub: pubsub.clone(), sink, changes: Mutex::new(()), conflated: metrics::conflated_counter() }
    }

    /// Adds a reader; returns its number.
    pub(super) fn enter(&self, capacity: usize, min_interval: Option<Duration>) -> u32 {
        let rate = min_interval.map(|min_interval| Box::new(Rate { min_interval, not_before: Vec::new() }));
        let reader = Reader {
            topics: Vec::new(),
            waiting: None,
            lossless: VecDeque::new(),
            capacity,
            overflowed: false,
            waker: None,
            rate,
        };
        number(self.shared.0.lock().readers.insert(reader))
    }

    /// Begins to receive a topic for a reader; returns the topic's place there. `None`: it has it already.
    pub(super) fn subscribe(&self, reader: u32, topic: &Topic) -> Option<u32> {
        let _changes = self.changes.lock();
        let (local, place, is_first) = self.shared.0.lock().subscribe(reader, topic)?;
        if is_first {
            let subscription = self.pubsub.subscribe(topic, self.sink);
            if let Some(local) = self.shared.0.lock().topics.get_mut(local as usize) {
                local.subscription = Some(subscription);
            }
        }
        Some(place)
    }

    pub(super) fn start(&self, reader: u32, place: u32, floor: Option<Stamp>) {
        let waker = self.shared.0.lock().start(reader, place, floor);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes what a reader may have now. If that is nothing, its waker is kept, and the time is returned when there is something without a
    /// new message.
    pub(super) fn take(
        &self,
        reader: u32,
        waker: &Waker,
        now: Instant,
        into: &mut Vec<Delivery>,
    ) -> Result<Option<Instant>, MailboxEnd> {
        let before = into.len();
        let due = self.shared.0.lock().take(reader, waker, now, into)?;
        let merged: u64 = into[before..].iter().map(|delivery| delivery.n - 1).sum();
        if merged > 0 {
            self.conflated.increment(merged);
        }
        Ok(due)
    }

    /// Removes a reader with its topics.
    pub(super) fn leave(&self, reader: u32) {
        let _changes = self.changes.lock();
        let gone = self.shared.0.lock().leave(reader);
        // Subscriptions end here, where the state is not held any more.
        drop(gone);
    }

    /// Ends all readers.
    pub(super) fn close(&self) {
        let wakers: Vec<_> = {
            let mut state = self.shared.0.lock();
            state.closed = true;
            state.readers.iter_mut().filter_map(|(_, reader)| reader.waker.take()).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// The topic's number, its place among those of the reader, and whether nobody had it before.
    fn subscribe(&mut self, reader: u32, topic: &Topic) -> Option<(u32, u32, bool)> {
        let known = self.by_name.get(topic).copied();
        let Reader { topics: places, rate, .. } = self.readers.get_mut(reader as usize)?;
        if known.is_some_and(|known| places.iter().any(|place| place.topic == known)) {
            return None;
        }
        let local = known.unwrap_or_else(|| {
            let local = number(self.topics.insert(LocalTopic::new(topic.clone())));
            self.by_name.insert(topic.clone(), local);
            local
        });
        let place = number(places.len());
        let member = number(self.topics[local as usize].add(reader, place));
        places.push(Place { topic: local, member, next: None });
        if let Some(rate) = rate {
            rate.not_before.push(None);
        }
        Some((local, place, known.is_none()))
    }

    fn start(&mut self, reader: u32, place: u32, floor: Option<Stamp>) -> Option<Waker> {
        let owner = self.readers.get_mut(reader as usize)?;
        let &Place { topic, member, .. } = owner.topics.get(place as usize)?;
        let local = self.topics.get_mut(topic as usize)?;
        if !local.start(member as usize, floor) {
            return None;
        }
        owner.wait(place);
        owner.waker.take()
    }

    fn take(
        &mut self,
        reader: u32,
        waker: &Waker,
        now: Instant,
        into: &mut Vec<Delivery>,
    ) -> Result<Option<Instant>, MailboxEnd> {
        let Some(owner) = self.readers.get_mut(reader as usize).filter(|_| !self.closed) else {
            return Err(MailboxEnd::Closed);
        };
        if owner.overflowed {
            return Err(MailboxEnd::SlowReader);
        }
        let before = into.len();
        into.extend(std::mem::take(&mut owner.lossless).into_iter().map(|message| Delivery { message, n: 1 }));
        let mut earliest: Option<Instant> = None;
        let mut next = owner.waiting.take().map(|(first, _)| first);
        while let Some(place) = next {
            let Place { topic, member, next: behind } = &mut owner.topics[place as usize];
            next = behind.take();
            let local = &mut self.topics[*topic as usize];
            match local.take(*member as usize, now, owner.rate.as_deref_mut(), into) {
                Some(due) => {
                    earliest = Some(earliest.map_or(due, |time| time.min(due)));
                    owner.wait(place);
                }
                None => local.look_away(*member as usize),
            }
        }
        if into.len() > before {
            // It will come again, and need not be told to.
            owner.waker = None;
        } else if let Some(known) = &mut owner.waker {
            known.clone_from(waker);
        } else {
            owner.waker = Some(waker.clone());
        }
        Ok(earliest)
    }

    fn leave(&mut self, reader: u32) -> Option<(Reader, Vec<Subscription>)> {
        let owner = self.readers.try_remove(reader as usize)?;
        let mut ended = Vec::new();
        for &Place { topic, member, .. } in &owner.topics {
            let local = &mut self.topics[topic as usize];
            if let Some(moved) = local.remove(member as usize)
                && let Some(other) = self.readers.get_mut(moved.reader as usize)
            {
                other.topics[moved.place as usize].member = member;
            }
            if local.members.is_empty() {
                let local = self.topics.remove(topic as usize);
                self.by_name.remove(&local.name);
                ended.extend(local.subscription);
            }
        }
        Some((owner, ended))
    }

    fn put(&mut self, message: &Arc<Broadcast>, wakers: &mut Vec<Waker>) {
        let Some(local) = self.by_name.get(&message.topic).and_then(|&local| self.topics.get_mut(local as usize))
        else {
            return;
        };
        let readers = &mut self.readers;
        let (Class::Latest(role), Some(stamp)) = (message.class, message.stamp) else {
            for member in &local.members {
                if let Some(owner) = readers.get_mut(member.reader as usize) {
                    owner.keep(message);
                    wakers.extend(owner.waker.take());
                }
            }
            return;
        };
        if local.put(role, stamp, message) {
            local.tell(role, |member| {
                if let Some(owner) = readers.get_mut(member.reader as usize) {
                    owner.wait(member.place);
                    wakers.extend(owner.waker.take());
                }
            });
        }
    }
}

impl Reader {
    /// Puts a topic, which does not wait, behind those that do.
    fn wait(&mut self, place: u32) {
        self.waiting = match self.waiting {
            None => Some((place, place)),
            Some((first, last)) => {
                self.topics[last as usize].next = Some(place);
                Some((first, place))
            }
        };
    }

    /// Keeps a message that may not be left out, or notes that there was no room for it.
    fn keep(&mut self, message: &Arc<Broadcast>) {
        if self.lossless.len() < self.capacity {
            self.lossless.push_back(Arc::clone(message));
        } else {
            self.overflowed = true;
            metrics::dropped(metrics::SLOW_CONSUMER, 1);
        }
    }
}

impl Sink for Shared {
    fn deliver(&self, batch: &[Arc<Broadcast>]) {
        let mut wakers = Vec::new();
        {
            let mut state = self.0.lock();
            for message in batch {
                state.put(message, &mut wakers);
            }
        }
        // A task that is woken may run at once on another thread, and would have to wait for the lock.
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A place in a table as a small number: there are never as many readers or topics as would not fit.
fn number(place: usize) -> u32 {
    u32::try_from(place).expect("fewer than 2^32 readers and topics fit into memory")
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailroom desk")
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.pubsub.detach(self.sink);
    }
}
