//! From the inbox to the outboxes.

use std::{sync::Arc, time::Instant};

use tickwire_faults::{Unit, point};
use tickwire_pubsub::{Broadcast, Class, Role, Topic};

use super::{run::Worker, sockets::Sockets, topics::LocalTopic};
use crate::{channel::guarded, close::CloseReason, outbox::BurstId};

impl Worker {
    /// Hands all that was published to the joins that want it: first what there is for each topic is gathered, then every join gets all of
    /// it at once. A worker that is late keeps of each topic only the newest update, for all of its sockets would only merge them one by
    /// one; they are numbered all the same, so that `n` tells.
    pub(super) fn drain_inbox(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        let waiting_since = self.shared.inbox.take(&mut batch);
        if batch.is_empty() {
            self.batch = batch;
            return;
        }
        let now = Instant::now();
        // What it waited for on purpose does not make it late.
        let patience = self.config.conflate_after + self.pace.pause();
        let late = waiting_since.is_some_and(|since| now.saturating_duration_since(since) > patience);
        let first = self.sockets.bursts.len();
        for message in batch.drain(..) {
            if let Err(panic) = guarded(|| self.gather(&message, late, now)) {
                self.delivery_crashed(&message.topic, &panic);
            }
        }
        let mut place = first;
        while let Some(burst) = self.sockets.bursts.id(place) {
            if let Err(panic) = guarded(|| self.fan_out(burst, now))
                && let Some(topic) = self.sockets.bursts.get(burst).topic().cloned()
            {
                self.delivery_crashed(&topic, &panic);
            }
            place += 1;
        }
        self.batch = batch;
    }

    /// Nobody knows which of a topic's subscribers got what: they come back and resume. Other topics are not concerned.
    fn delivery_crashed(&mut self, topic: &Topic, panic: &str) {
        self.crashed("a delivery crashed, the sockets of its topic are closed", panic);
        let subscribers = self.topics.get_mut(topic).map(|topic| topic.subscribers.clone()).unwrap_or_default();
        for subscriber in subscribers {
            self.sockets.doom(subscriber.socket, CloseReason::InternalError);
        }
    }

    fn gather(&mut self, message: &Arc<Broadcast>, late: bool, now: Instant) {
        point(Unit::Delivery, || &message.topic);
        let Some(topic) = self.topics.get_mut(&message.topic) else { return };
        let (number, late) = match (message.class, message.stamp) {
            (Class::Lossless, _) => (0, false),
            (Class::Latest(Role::Update), Some(stamp)) => match topic.track.receive(stamp) {
                Some(number) => (number, late),
                None => return,
            },
            (Class::Latest(Role::Snapshot), Some(stamp)) => {
                let Some(number) = topic.track.restart(stamp) else { return };
                return self.pass_on(message, number, now);
            }
            (Class::Latest(Role::Status), Some(stamp)) if topic.track.follows(stamp.epoch) => {
                return self.pass_on(message, 0, now);
            }
            (Class::Latest(_), _) => return,
        };
        let bursts = &mut self.sockets.bursts;
        if let Some(burst) = topic.burst
            && bursts.extend(burst, message, number)
        {
            return;
        }
        let before = topic.burst.replace(bursts.begin(Arc::clone(message), number, late));
        if let Some(before) = before {
            hand_out(&mut self.sockets, topic, before, now);
        }
    }

    /// Offers a message that belongs to no burst to each join. It is about the updates before it, and must not overtake them.
    fn pass_on(&mut self, message: &Arc<Broadcast>, number: u64, now: Instant) {
        let Some(topic) = self.topics.get_mut(&message.topic) else { return };
        if let Some(burst) = topic.burst.take() {
            hand_out(&mut self.sockets, topic, burst, now);
        }
        for subscriber in &topic.subscribers {
            self.sockets.offer(*subscriber, message, number, message.accepted_at, now);
        }
    }

    /// Hands a burst to the joins of its topic, unless something that came behind it made that necessary earlier.
    fn fan_out(&mut self, burst: BurstId, now: Instant) {
        let Some(topic) = self.sockets.bursts.get(burst).topic() else { return };
        let Some(topic) = self.topics.get_mut(topic) else { return };
        if topic.burst == Some(burst) {
            topic.burst = None;
            hand_out(&mut self.sockets, topic, burst, now);
        }
    }
}

/// Hands a burst to the joins of its topic.
fn hand_out(sockets: &mut Sockets, topic: &LocalTopic, burst: BurstId, now: Instant) {
    for subscriber in &topic.subscribers {
        sockets.deliver(*subscriber, burst, now);
    }
}
