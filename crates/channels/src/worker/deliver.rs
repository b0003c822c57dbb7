//! From the inbox to the outboxes.

use std::{sync::Arc, time::Instant};

use tickwire_faults::{Unit, point};
use tickwire_pubsub::{Broadcast, Class, Role, Topic};

use super::{run::Worker, topics::Late};
use crate::{channel::guarded, close::CloseReason};

impl Worker {
    /// Hands all that was published to the joins that want it. A worker that is late keeps of each topic only the newest update, for all
    /// of its sockets would only merge them one by one; they are numbered all the same, so that `n` tells.
    pub(super) fn drain_inbox(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        let waiting_since = self.shared.inbox.take(&mut batch);
        if batch.is_empty() {
            self.batch = batch;
            return;
        }
        let now = Instant::now();
        let late = waiting_since.is_some_and(|since| now.saturating_duration_since(since) > self.config.conflate_after);
        for message in batch.drain(..) {
            if let Err(panic) = guarded(|| self.deliver(&message, late, now)) {
                self.delivery_crashed(&message.topic, &panic);
            }
        }
        while let Some(topic) = self.late.pop() {
            if let Err(panic) = guarded(|| self.deliver_late(&topic, now)) {
                self.delivery_crashed(&topic, &panic);
            }
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

    fn deliver(&mut self, message: &Arc<Broadcast>, late: bool, now: Instant) {
        point(Unit::Delivery, || &message.topic);
        let Some(topic) = self.topics.get_mut(&message.topic) else { return };
        let number = match (message.class, message.stamp) {
            (Class::Lossless, _) => 0,
            (Class::Latest(Role::Update), Some(stamp)) => {
                let Some(number) = topic.track.receive(stamp) else { return };
                if late {
                    let name = message.topic.clone();
                    if topic.hold(Arc::clone(message), number) {
                        self.late.push(name);
                    }
                    return;
                }
                number
            }
            (Class::Latest(Role::Snapshot), Some(stamp)) => {
                let Some(number) = topic.track.restart(stamp) else { return };
                topic.late = None;
                number
            }
            (Class::Latest(Role::Status), Some(stamp)) => {
                if !topic.track.follows(stamp.epoch) {
                    return;
                }
                // It is about the updates before it, so it must not overtake them.
                self.deliver_late(&message.topic, now);
                0
            }
            (Class::Latest(_), None) => return,
        };
        self.fan_out(message, number, message.accepted_at, now);
    }

    fn deliver_late(&mut self, topic: &Topic, now: Instant) {
        let late = self.topics.get_mut(topic).and_then(|topic| topic.late.take());
        if let Some(Late { message, number, since }) = late {
            self.fan_out(&message, number, since, now);
        }
    }

    fn fan_out(&mut self, message: &Arc<Broadcast>, number: u64, since: Instant, now: Instant) {
        let Some(topic) = self.topics.get_mut(&message.topic) else { return };
        for subscriber in &topic.subscribers {
            self.sockets.offer(*subscriber, message, number, since, now);
        }
    }
}
