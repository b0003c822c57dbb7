//! Joins: from a client's wish to a channel that runs.

use std::sync::{Arc, atomic::Ordering};

use futures_util::future::BoxFuture;
use tickwire_faults::{Unit, point};
use tickwire_pubsub::{OriginId, Payload, Topic};

use super::{Command, JoinFailure, JoinOutcome, run::Worker, sockets::Running, topics::Subscriber};
use crate::{
    channel::{JoinRequest, Joined, Joining, Kind, Refusal, guarded, reason_payload},
    guard::Guarded,
    handle::{ChannelHandle, Place},
    metrics as names,
    serializer::{EncodeError, Push, Reply, Status},
};

impl Worker {
    /// Asks the kind. What is published on the topic from here on is kept for the join.
    pub(super) fn start_join(&mut self, key: usize, slot: u32, topic: Topic, params: Payload, kind: &Arc<dyn Kind>) {
        let id = OriginId(self.shared.node.next_channel.fetch_add(1, Ordering::Relaxed));
        let place = Place { socket: key, slot, id };
        let handle = ChannelHandle::new(Arc::clone(&self.shared), place, topic.clone());
        let place = self.topics.subscribe(&topic, Subscriber { socket: key, slot });
        let Some(socket) = self.sockets.get_mut(key) else { return };
        socket.outbox.open(slot, id);
        let index = slot as usize;
        if socket.channels.len() <= index {
            socket.channels.reserve_exact(index + 1 - socket.channels.len());
            socket.channels.resize_with(index + 1, || None);
        }
        socket.channels[index] = Some(Running { handle: handle.clone(), channel: None, held: Vec::new(), place });
        let limited = self.config.join_limit.as_ref().and_then(|limit| limit(&socket.info, self.now).err());
        let limited = limited.or_else(|| (!self.shared.node.admits_join(self.now)).then_some("busy"));
        if let Some(label) = limited {
            return self.finish_join(key, slot, Err(JoinFailure::Busy(label)));
        }
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let request = JoinRequest { topic, params, socket: Arc::clone(&socket.info), handle: handle.clone() };
        let decided = guarded(|| {
            point(Unit::Join, || handle.topic());
            kind.join(request)
        });
        match decided {
            Ok(Joining::Ready(decision)) => self.finish_join(key, slot, decision.map_err(JoinFailure::Refused)),
            Ok(Joining::Pending(decision)) => self.await_join(handle, decision),
            Err(panic) => self.finish_join(key, slot, Err(JoinFailure::Crashed(panic))),
        }
    }

    fn await_join(&self, handle: ChannelHandle, decision: BoxFuture<'static, Result<Joined, Refusal>>) {
        let (shared, timeout) = (Arc::clone(&self.shared), self.config.join_timeout);
        let decision = Guarded::new(decision);
        let task = async move {
            let outcome = match tokio::time::timeout(timeout, decision).await {
                Ok(Ok(decision)) => decision.map_err(JoinFailure::Refused),
                Ok(Err(panic)) => Err(JoinFailure::Crashed(panic)),
                Err(_) => Err(JoinFailure::Timeout),
            };
            shared.command(Command::JoinDone(handle, outcome));
        };
        self.shared.tasks.spawn_on(task, &self.shared.runtime);
    }

    /// Takes the decision of a join that took time, if its client is still there.
    pub(super) fn join_decided(&mut self, handle: &ChannelHandle, outcome: JoinOutcome) {
        let Place { socket: key, slot, .. } = handle.place();
        if self.is_current(handle) {
            return self.finish_join(key, slot, outcome);
        }
        if let Err(panic) = guarded(|| drop(outcome)) {
            self.channel_crashed(key, handle.topic(), &panic);
        }
    }

    /// Whether a handle's channel still runs.
    pub(super) fn is_current(&mut self, handle: &ChannelHandle) -> bool {
        let Place { socket, slot, id } = handle.place();
        let running = self.sockets.get_mut(socket).and_then(|socket| socket.running(slot));
        running.is_some_and(|running| running.handle.origin() == id)
    }

    /// Answers a join, and goes on with what the client sent for the topic meanwhile.
    fn finish_join(&mut self, key: usize, slot: u32, outcome: JoinOutcome) {
        let outcome = outcome.and_then(|joined| self.check_reply(key, slot, joined));
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let mut actions = std::mem::take(&mut self.actions);
        let backlog = match outcome {
            Ok(joined) => {
                let backlog = socket.session.join_done(slot, Ok(joined.reply.clone()), &mut actions);
                self.perform_all(key, &mut actions);
                self.actions = actions;
                self.run_channel(key, slot, joined);
                backlog
            }
            Err(failure) => {
                let response = self.explain(key, slot, failure);
                self.end_channel(key, slot, None);
                let Some(socket) = self.sockets.get_mut(key) else { return };
                let backlog = socket.session.join_done(slot, Err(response), &mut actions);
                self.perform_all(key, &mut actions);
                self.actions = actions;
                backlog
            }
        };
        for message in backlog {
            if !self.sockets.get_mut(key).is_some_and(|socket| socket.is_open()) {
                return;
            }
            self.message(key, message);
        }
    }

    /// A reply that cannot be written is a fault of the kind's, found before anybody relies on the join.
    fn check_reply(&mut self, key: usize, slot: u32, joined: Joined) -> JoinOutcome {
        let Some(socket) = self.sockets.get_mut(key) else { return Ok(joined) };
        let Some(running) = socket.channels.get(slot as usize).and_then(Option::as_ref) else { return Ok(joined) };
        if matches!(joined.reply, Payload::Json(_)) {
            return Ok(joined);
        }
        let join_ref = socket.session.push_ref(slot);
        let reply = Reply {
            join_ref,
            msg_ref: join_ref,
            topic: running.handle.topic(),
            status: Status::Ok,
            response: &joined.reply,
        };
        match socket.info.format.reply(&reply) {
            Ok(_) => Ok(joined),
            Err(error) => Err(JoinFailure::Crashed(error.to_string())),
        }
    }

    /// What the client of a failed join is told.
    fn explain(&mut self, key: usize, slot: u32, failure: JoinFailure) -> Payload {
        let (label, response) = match failure {
            JoinFailure::Refused(refusal) => ("refused", refusal.0),
            JoinFailure::Timeout => ("timeout", reason_payload("join timeout")),
            JoinFailure::Busy(label) => (label, reason_payload("busy")),
            JoinFailure::Crashed(panic) => {
                let running = self.sockets.get_mut(key).and_then(|socket| socket.running(slot));
                if let Some(topic) = running.map(|running| running.handle.topic().clone()) {
                    self.channel_crashed(key, &topic, &panic);
                }
                ("crashed", reason_payload("join crashed"))
            }
        };
        names::join_refused(label);
        if label != "crashed" {
            self.tell_refusal(key, label, "a join is refused");
        }
        response
    }

    /// Lets the channel of an accepted join run: its own first pushes, then what was published and what it was sent meanwhile.
    fn run_channel(&mut self, key: usize, slot: u32, joined: Joined) {
        let Joined { channel, floor, min_interval, pushes, .. } = joined;
        let Some(running) = self.sockets.get_mut(key).and_then(|socket| socket.running(slot)) else { return };
        running.channel = Some(channel);
        let held = std::mem::take(&mut running.held);
        let handle = running.handle.clone();
        self.shared.joins.fetch_add(1, Ordering::Relaxed);
        self.meters.joins.increment(1.0);
        for (event, payload) in pushes {
            self.push_to_channel(key, slot, &event, &payload);
        }
        if let Some(cursor) = self.topics.get_mut(handle.topic()).map(|topic| topic.track.join(floor))
            && let Some(socket) = self.sockets.get_mut(key)
        {
            let outcome = socket.outbox.start(slot, cursor, floor, min_interval, self.now);
            self.sockets.queued(key);
            self.sockets.offered(Subscriber { socket: key, slot }, outcome);
        }
        for command in held {
            self.obey_channel(key, slot, &handle, command);
        }
    }

    /// Sends an event to a channel's client; what cannot be written ends the channel.
    pub(super) fn push_to_channel(&mut self, key: usize, slot: u32, event: &str, payload: &Payload) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let Some(running) = socket.channels.get(slot as usize).and_then(Option::as_ref) else { return };
        let push = Push { join_ref: socket.session.push_ref(slot), topic: running.handle.topic(), event, payload };
        match socket.info.format.push(&push) {
            Ok(encoded) => self.sockets.push(key, encoded),
            Err(error) => self.unwritable(key, slot, &error),
        }
    }

    pub(super) fn unwritable(&mut self, key: usize, slot: u32, error: &EncodeError) {
        self.crash_channel(key, slot, &error.to_string());
    }
}
