//! A sink that one task reads: event streams and gRPC subscriptions.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{Broadcast, Class, Cursor, PubSub, Role, Sink, SinkId, Stamp, Subscription, Topic, Track, metrics};

/// A message to write, and how many updates it stands for.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Broadcast>,
    /// Updates merged into this one, itself included; 1 for all that is not an update.
    pub n: u64,
}

/// Where the topics of one reader meet. Updates that the reader has not taken yet are replaced by newer ones; lossless messages wait in
/// a queue of `capacity`, and a reader that lets it overflow is [slow](Mailbox::next) and must be closed.
pub struct Mailbox {
    shared: Arc<Shared>,
    pubsub: PubSub,
    sink: SinkId,
    min_interval: Option<Duration>,
    subscriptions: HashMap<Topic, Subscription>,
}

/// A subscription that waits for its snapshot; give that to [`MailboxSubscription::start`].
#[must_use = "nothing is delivered before the subscription is started"]
pub struct MailboxSubscription<'a> {
    mailbox: &'a Mailbox,
    topic: Topic,
}

struct Shared {
    state: Mutex<State>,
    ready: Notify,
    capacity: usize,
}

#[derive(Default)]
struct State {
    topics: HashMap<Topic, Slot>,
    /// Topics with something in their slot, in the order in which it came there.
    waiting: VecDeque<Topic>,
    lossless: VecDeque<Arc<Broadcast>>,
    overflowed: bool,
}

#[derive(Default)]
struct Slot {
    track: Track,
    /// `None` until the snapshot is there.
    cursor: Option<Cursor>,
    snapshot: Option<(Arc<Broadcast>, u64)>,
    update: Option<(Arc<Broadcast>, u64)>,
    status: Option<Arc<Broadcast>>,
    waiting: bool,
    not_before: Option<Instant>,
}

/// The reader was too slow for lossless messages: some are gone, and it must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader was too slow")]
pub struct SlowReader;

impl Mailbox {
    /// A reader of `pubsub` that gets at most one update per topic and `min_interval`.
    #[must_use]
    pub fn new(pubsub: &PubSub, capacity: usize, min_interval: Option<Duration>) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), ready: Notify::new(), capacity });
        let sink = pubsub.attach(Arc::clone(&shared) as Arc<dyn Sink>);
        Self { shared, pubsub: pubsub.clone(), sink, min_interval, subscriptions: HashMap::new() }
    }

    /// Begins to receive a topic's messages, which wait until the subscription is started with its snapshot. `None`: already subscribed.
    pub fn subscribe(&mut self, topic: &Topic) -> Option<MailboxSubscription<'_>> {
        if self.subscriptions.contains_key(topic) {
            return None;
        }
        self.shared.state.lock().topics.insert(topic.clone(), Slot::default());
        self.subscriptions.insert(topic.clone(), self.pubsub.subscribe(topic, self.sink));
        Some(MailboxSubscription { mailbox: self, topic: topic.clone() })
    }

    /// Waits for messages and takes all that are there, in the order of their topics' first waiting message. May be dropped midway:
    /// nothing is lost.
    ///
    /// # Errors
    /// If lossless messages had to be dropped because this was not called often enough.
    pub async fn next(&self) -> Result<Vec<Delivery>, SlowReader> {
        loop {
            let due = {
                let mut state = self.shared.state.lock();
                if state.overflowed {
                    return Err(SlowReader);
                }
                let (deliveries, due) = state.take(Instant::now(), self.min_interval);
                if !deliveries.is_empty() {
                    return Ok(deliveries);
                }
                due
            };
            let ready = self.shared.ready.notified();
            match due {
                None => ready.await,
                // Whichever comes first, the loop looks again.
                Some(due) => drop(tokio::time::timeout_at(due, ready).await),
            }
        }
    }
}

impl MailboxSubscription<'_> {
    /// Lets messages through that the snapshot, taken at `floor` after the subscription began, does not contain.
    pub fn start(self, floor: Option<Stamp>) {
        let mut state = self.mailbox.shared.state.lock();
        let Some(slot) = state.topics.get_mut(&self.topic) else { return };
        slot.cursor = Some(slot.track.join(floor));
        let had = |message: &Broadcast| match (floor, message.stamp) {
            (Some(floor), Some(stamp)) => stamp <= floor,
            _ => false,
        };
        // The update first: its number was given before the snapshot came.
        slot.update.take_if(|(message, _)| had(message));
        slot.snapshot.take_if(|(message, _)| had(message));
        // One with the floor's own stamp may have come after the snapshot was taken.
        slot.status.take_if(|message| message.stamp < floor);
        if slot.has_message() && !slot.waiting {
            slot.waiting = true;
            state.waiting.push_back(self.topic);
        }
        drop(state);
        self.mailbox.shared.ready.notify_one();
    }
}

impl Slot {
    fn has_message(&self) -> bool {
        self.snapshot.is_some() || self.update.is_some() || self.status.is_some()
    }

    fn put(&mut self, role: Role, stamp: Stamp, message: &Arc<Broadcast>) {
        match role {
            Role::Update => {
                if let Some(number) = self.track.receive(stamp)
                    && !self.cursor.is_some_and(|cursor| cursor.had(stamp.seq))
                {
                    self.update = Some((Arc::clone(message), number));
                }
            }
            Role::Snapshot => {
                if let Some(number) = self.track.restart(stamp) {
                    if let Some(cursor) = &mut self.cursor {
                        // Its floor is of the epoch before and says nothing of this one.
                        cursor.restart(number);
                    }
                    self.update = None;
                    self.status = None;
                    self.snapshot = Some((Arc::clone(message), number));
                }
            }
            Role::Status => {
                if self.track.follows(stamp.epoch) {
                    self.status = Some(Arc::clone(message));
                }
            }
        }
    }

    /// Takes what may be written now; what must wait for its interval stays, and the time when it may be written is returned.
    fn take(&mut self, now: Instant, min_interval: Option<Duration>, into: &mut Vec<Delivery>) -> Option<Instant> {
        let cursor = self.cursor.as_mut()?;
        if let Some((message, number)) = self.snapshot.take() {
            cursor.restart(number);
            into.push(Delivery { message, n: 1 });
        }
        let mut due = None;
        if self.update.is_some() {
            due = self.not_before.filter(|&time| time > now);
            if due.is_none()
                && let Some((message, number)) = self.update.take()
            {
                let n = cursor.write(number);
                metrics::conflated(n - 1);
                self.not_before = min_interval.map(|interval| now + interval);
                into.push(Delivery { message, n });
            }
        }
        if due.is_none()
            && let Some(message) = self.status.take()
        {
            into.push(Delivery { message, n: 1 });
        }
        due
    }
}

impl State {
    fn take(&mut self, now: Instant, min_interval: Option<Duration>) -> (Vec<Delivery>, Option<Instant>) {
        let mut deliveries: Vec<_> = self.lossless.drain(..).map(|message| Delivery { message, n: 1 }).collect();
        let mut earliest: Option<Instant> = None;
        for _ in 0..self.waiting.len() {
            let Some(topic) = self.waiting.pop_front() else { break };
            let Some(slot) = self.topics.get_mut(&topic) else { continue };
            match slot.take(now, min_interval, &mut deliveries) {
                Some(due) => {
                    earliest = Some(earliest.map_or(due, |time| time.min(due)));
                    self.waiting.push_back(topic);
                }
                None => slot.waiting = false,
            }
        }
        (deliveries, earliest)
    }

    fn put(&mut self, message: &Arc<Broadcast>, capacity: usize) {
        let (Class::Latest(role), Some(stamp)) = (message.class, message.stamp) else {
            if self.lossless.len() < capacity {
                self.lossless.push_back(Arc::clone(message));
            } else {
                self.overflowed = true;
                metrics::dropped(metrics::SLOW_CONSUMER, 1);
            }
            return;
        };
        let Some(slot) = self.topics.get_mut(&message.topic) else { return };
        slot.put(role, stamp, message);
        if slot.cursor.is_some() && !slot.waiting && slot.has_message() {
            slot.waiting = true;
            self.waiting.push_back(message.topic.clone());
        }
    }
}

impl Sink for Shared {
    fn deliver(&self, batch: &[Arc<Broadcast>]) {
        let mut state = self.state.lock();
        for message in batch {
            state.put(message, self.capacity);
        }
        let ready = !state.waiting.is_empty() || !state.lossless.is_empty() || state.overflowed;
        drop(state);
        if ready {
            self.ready.notify_one();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("topics", &self.subscriptions.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for MailboxSubscription<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MailboxSubscription").field(&self.topic).finish()
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.subscriptions.clear();
        self.pubsub.detach(self.sink);
    }
}
