//! Channels: what clients and tasks send them, and what they ask for.

use std::sync::Arc;

use metrics::counter;
use tickwire_faults::{Unit, point};
use tickwire_pubsub::{Payload, Topic};

use super::run::Worker;
use crate::{
    channel::{Context, Effect, Flow, Left, Stop, guarded, reason_payload},
    guard::Guarded,
    handle::{ChannelCommand, ChannelHandle, Place},
    message::{Message, Ref},
    metrics as names,
    outbox::shared_frame,
    serializer::{Reply, Status, WireFormat, broadcast_frame},
    session::{Action, Bounds, ControlReply},
};

impl Worker {
    /// Takes a client's message.
    pub(super) fn message(&mut self, key: usize, message: Message) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let bounds = Bounds {
            channels_max: socket.info.limits.channels_max,
            pending_messages_max: self.config.pending_messages_max,
            pending_bytes_max: self.config.pending_bytes_max,
        };
        let mut actions = std::mem::take(&mut self.actions);
        socket.session.handle(message, &self.router, &bounds, &mut actions);
        self.perform_all(key, &mut actions);
        self.actions = actions;
    }

    pub(super) fn perform_all(&mut self, key: usize, actions: &mut Vec<Action>) {
        for action in actions.drain(..) {
            self.perform(key, action);
        }
    }

    fn perform(&mut self, key: usize, action: Action) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let format = socket.info.format;
        match action {
            Action::Reply(ControlReply { join_ref, msg_ref, topic, status, response }) => {
                let (join_ref, msg_ref) = (join_ref.as_ref(), msg_ref.as_ref());
                let reply = Reply { join_ref, msg_ref, topic: &topic, status, response: &response };
                match format.reply(&reply) {
                    Ok(encoded) => self.sockets.push(key, encoded),
                    // Accepted joins have been checked; a refusal in bytes is a fault of the kind's that its client need not suffer for.
                    Err(_) => {
                        let response = reason_payload("join crashed");
                        if let Ok(encoded) = format.reply(&Reply { response: &response, ..reply }) {
                            self.sockets.push(key, encoded);
                        }
                    }
                }
            }
            Action::Close { join_ref, topic } => {
                self.sockets.push(key, format.close(join_ref.as_ref(), &topic));
            }
            Action::Error { join_ref, topic } => {
                self.sockets.push(key, format.error(join_ref.as_ref(), &topic));
            }
            Action::Join { slot, topic, params, kind } => self.start_join(key, slot, topic, params, &kind),
            Action::Event { slot, event, payload, msg_ref } => self.event(key, slot, &event, &payload, msg_ref),
            Action::End { slot, left } => self.end_channel(key, slot, Some(left)),
            Action::Refused(reason) => self.message_refused(key, reason),
        }
    }

    fn message_refused(&mut self, key: usize, reason: &'static str) {
        names::message_refused(reason);
        self.tell_refusal(key, reason, "a message is refused");
    }

    /// Gives an event to a channel, and does what it asks for, in that order.
    fn event(&mut self, key: usize, slot: u32, event: &str, payload: &Payload, msg_ref: Option<Ref>) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let Some(running) = socket.channels.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let Some(channel) = running.channel.as_mut() else { return };
        let handle = running.handle.clone();
        let mut context = Context::new(&handle, &socket.info, msg_ref);
        let common = self.router.asks();
        let flow = guarded(|| {
            point(Unit::Channel, || handle.topic());
            match common.and_then(|common| common.handle(event, payload, &mut context)) {
                Some(flow) => flow,
                None => channel.handle(event, payload, &mut context),
            }
        });
        let (effects, msg_ref) = (std::mem::take(&mut context.effects), context.msg_ref.take());
        let failed = !matches!(flow, Ok(Flow::Continue | Flow::Stop(Stop::Normal | Stop::Shutdown)));
        for effect in effects {
            // Of a channel that fails, what it sent before still goes out, but no answer to what it failed at.
            if !failed || matches!(effect, Effect::Push(..) | Effect::Broadcast(_)) {
                self.apply(key, slot, &handle, msg_ref.as_ref(), effect);
            }
        }
        if !self.is_current(&handle) {
            return;
        }
        match flow {
            Ok(Flow::Continue) => {}
            Ok(Flow::Stop(stop)) => self.stop_channel(key, slot, &stop),
            Err(panic) => self.crash_channel(key, slot, &panic),
        }
    }

    fn apply(&mut self, key: usize, slot: u32, handle: &ChannelHandle, msg_ref: Option<&Ref>, effect: Effect) {
        match effect {
            Effect::Reply(status, response) => self.reply(key, slot, msg_ref, status, &response),
            Effect::Push(event, payload) => self.push_to_channel(key, slot, &event, &payload),
            Effect::Broadcast(message) => {
                // WIRE: it is its sender's fault, not that of those who could not get it. The frame is kept for them.
                if matches!(message.payload, Payload::Binary(_))
                    && shared_frame(WireFormat::V2.into(), &message).is_none()
                    && let Err(error) =
                        broadcast_frame(WireFormat::V2.into(), &message.topic, &message.event, &message.payload)
                {
                    return self.unwritable(key, slot, &error);
                }
                self.shared.pubsub().broadcast(&[message]);
                // Its own copy is in the inbox now, and goes out before what the channel says next.
                self.drain_inbox();
            }
            Effect::Defer(answer) => self.defer(key, slot, handle, msg_ref, answer),
            Effect::Renew(renewal) => self.renew(key, &renewal),
        }
    }

    fn defer(
        &mut self,
        key: usize,
        slot: u32,
        handle: &ChannelHandle,
        msg_ref: Option<&Ref>,
        answer: Guarded<(Status, Payload)>,
    ) {
        if !handle.defer() {
            self.message_refused(key, "deferred");
            return self.reply(key, slot, msg_ref, Status::Error, &reason_payload("busy"));
        }
        let (handle, msg_ref) = (handle.clone(), msg_ref.cloned());
        let task = async move {
            let command = match answer.await {
                Ok((status, response)) => ChannelCommand::Reply(msg_ref, status, response),
                Err(panic) => ChannelCommand::Crash(panic),
            };
            handle.defer_done(command);
        };
        self.shared.tasks.spawn_on(task, &self.shared.runtime);
    }

    fn reply(&mut self, key: usize, slot: u32, msg_ref: Option<&Ref>, status: Status, response: &Payload) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let Some(running) = socket.channels.get(slot as usize).and_then(Option::as_ref) else { return };
        let join_ref = socket.session.push_ref(slot);
        let reply = Reply { join_ref, msg_ref, topic: running.handle.topic(), status, response };
        match socket.info.format.reply(&reply) {
            Ok(encoded) => self.sockets.push(key, encoded),
            Err(error) => self.unwritable(key, slot, &error),
        }
    }

    /// Takes what a task sent to a channel, if it still runs.
    pub(super) fn channel_command(&mut self, handle: &ChannelHandle, command: ChannelCommand) {
        let Place { socket: key, slot, .. } = handle.place();
        if !self.is_current(handle) {
            return handle.taken();
        }
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let Some(running) = socket.running(slot) else { return };
        if running.channel.is_none() {
            // It is pushed after the join's reply. It still counts as queued, which bounds how many there can be.
            return running.held.push(command);
        }
        self.obey_channel(key, slot, handle, command);
    }

    pub(super) fn obey_channel(&mut self, key: usize, slot: u32, handle: &ChannelHandle, command: ChannelCommand) {
        handle.taken();
        if !self.is_current(handle) {
            return;
        }
        match command {
            ChannelCommand::Push(event, payload) => self.push_to_channel(key, slot, &event, &payload),
            ChannelCommand::Reply(msg_ref, status, response) => {
                self.reply(key, slot, msg_ref.as_ref(), status, &response);
            }
            ChannelCommand::Renew(renewal) => self.renew(key, &renewal),
            ChannelCommand::Stop(stop) => self.stop_channel(key, slot, &stop),
            ChannelCommand::Crash(panic) => self.crash_channel(key, slot, &panic),
        }
    }

    pub(super) fn stop_channel(&mut self, key: usize, slot: u32, stop: &Stop) {
        if let Stop::Failed(reason) = stop
            && let Some(topic) = self.topic_of(key, slot)
        {
            self.channel_crashed(key, &topic, reason);
        }
        self.end_channel(key, slot, Some(Left::Stopped));
        self.say_stopped(key, slot, stop);
    }

    /// Ends a channel whose code has panicked, or which asked for what cannot be written.
    pub(super) fn crash_channel(&mut self, key: usize, slot: u32, panic: &str) {
        let Some(topic) = self.topic_of(key, slot) else { return };
        self.channel_crashed(key, &topic, panic);
        self.end_channel(key, slot, None);
        self.say_stopped(key, slot, &Stop::Failed(String::new()));
    }

    fn say_stopped(&mut self, key: usize, slot: u32, stop: &Stop) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if !socket.session.is_joined(slot) {
            return;
        }
        let mut actions = Vec::new();
        socket.session.stopped(slot, stop, &mut actions);
        self.perform_all(key, &mut actions);
    }

    fn topic_of(&mut self, key: usize, slot: u32) -> Option<Topic> {
        Some(self.sockets.get_mut(key)?.running(slot)?.handle.topic().clone())
    }

    /// Counts and logs that an application's code failed.
    pub(super) fn channel_crashed(&mut self, key: usize, topic: &Topic, panic: &str) {
        counter!(names::CHANNEL_CRASHES).increment(1);
        if self.log.allows(self.now) {
            let info = self.sockets.get_mut(key).map(|socket| Arc::clone(&socket.info));
            tracing::error!(%topic, socket = ?info, panic, "a channel crashed");
        }
    }
}
