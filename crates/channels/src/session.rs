//! What a client's messages mean: joins, leaves, references, and what belongs to which. Pure.
//!
//! A session knows the topics of one socket. It is fed messages, the outcomes of joins and the ends of channels, and says what is to be done,
//! in order. It does not run channels and does not write.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;
use slab::Slab;
use tickwire_pubsub::{Payload, Topic};

use crate::{
    channel::{Kind, Left, Stop, reason_payload},
    message::{Message, Ref},
    router::Router,
    serializer::{HEARTBEAT, JOIN, LEAVE, SOCKET_TOPIC, Status},
};

/// The bounds of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Channels, joined or about to be.
    pub(crate) channels_max: usize,
    /// Messages behind one pending join.
    pub(crate) pending_messages_max: usize,
    /// Bytes behind all pending joins.
    pub(crate) pending_bytes_max: usize,
}

/// What is to be done next.
pub(crate) enum Action {
    /// Write a reply.
    Reply(ControlReply),
    /// Write that a channel has ended.
    Close { join_ref: Option<Ref>, topic: Topic },
    /// Write that a channel has crashed.
    Error { join_ref: Option<Ref>, topic: Topic },
    /// Ask the kind; the outcome goes to [`Session::join_done`].
    Join { slot: u32, topic: Topic, params: Payload, kind: Arc<dyn Kind> },
    /// Give an event to the channel.
    Event { slot: u32, event: String, payload: Payload, msg_ref: Option<Ref> },
    /// Drop the channel. Its slot is free from here on.
    End { slot: u32, left: Left },
    /// Count a message that was refused by a bound.
    Refused(&'static str),
}

/// A reply that the socket itself gives.
#[derive(Debug)]
pub(crate) struct ControlReply {
    pub(crate) join_ref: Option<Ref>,
    pub(crate) msg_ref: Option<Ref>,
    pub(crate) topic: String,
    pub(crate) status: Status,
    pub(crate) response: Payload,
}

/// The topics of one socket.
#[derive(Debug, Default)]
pub(crate) struct Session {
    channels: Slab<Box<Entry>>,
    by_topic: HashMap<Topic, u32>,
    /// Bytes that wait behind pending joins.
    pending_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    topic: Topic,
    join_ref: Option<Ref>,
    /// The reference of the join itself.
    msg_ref: Option<Ref>,
    pending: Option<Pending>,
}

/// A join that has not been decided.
#[derive(Debug, Default)]
struct Pending {
    /// What the client sent for the topic since.
    backlog: VecDeque<Message>,
    /// The channel that this join replaces: its `phx_close` follows the reply.
    replaces: Option<Option<Ref>>,
}

impl Entry {
    /// What stands in the place of `join_ref` in replies and pushes. A client that joins without one gets the join's own reference there.
    fn push_ref(&self) -> Option<&Ref> {
        self.join_ref.as_ref().or(self.msg_ref.as_ref())
    }
}

/// What a queued message holds of our memory, about.
fn weight(message: &Message) -> usize {
    size_of::<Message>() + message.topic.len() + message.event.len() + message.payload.bytes().len()
}

impl Session {
    /// Takes a message from the client.
    pub(crate) fn handle(&mut self, message: Message, router: &Router, bounds: &Bounds, actions: &mut Vec<Action>) {
        if message.topic == SOCKET_TOPIC {
            return actions.push(Action::Reply(if message.event == HEARTBEAT {
                ControlReply {
                    join_ref: None,
                    msg_ref: message.msg_ref,
                    topic: message.topic,
                    status: Status::Ok,
                    response: Payload::empty(),
                }
            } else {
                unmatched(message)
            }));
        }
        let Some(slot) = self.by_topic.get(message.topic.as_str()).copied() else {
            return match message.event.as_str() {
                JOIN => self.join(message, None, router, bounds, actions),
                LEAVE => actions.push(Action::Reply(answer(message, Status::Ok, Payload::empty()))),
                _ => actions.push(Action::Reply(unmatched(message))),
            };
        };
        if self.channels[slot as usize].pending.is_some() {
            return self.queue(slot, message, bounds, actions);
        }
        self.on_joined(slot, message, router, bounds, actions);
    }

    fn on_joined(&mut self, slot: u32, message: Message, router: &Router, bounds: &Bounds, actions: &mut Vec<Action>) {
        if message.event == JOIN {
            let old = self.remove(slot);
            actions.push(Action::End { slot, left: Left::Rejoin });
            return self.join(message, Some(old.join_ref), router, bounds, actions);
        }
        let entry = &self.channels[slot as usize];
        if message.join_ref.is_some() && message.join_ref != entry.join_ref {
            // It is from an earlier join of the same topic.
            return;
        }
        if message.event == LEAVE {
            let old = self.remove(slot);
            actions.push(Action::End { slot, left: Left::Leave });
            actions.push(Action::Reply(ControlReply {
                join_ref: old.push_ref().cloned(),
                msg_ref: message.msg_ref,
                topic: message.topic,
                status: Status::Ok,
                response: Payload::empty(),
            }));
            return actions.push(Action::Close { join_ref: old.join_ref, topic: old.topic });
        }
        let Message { event, payload, msg_ref, .. } = message;
        actions.push(Action::Event { slot, event, payload, msg_ref });
    }

    fn join(
        &mut self,
        message: Message,
        replaces: Option<Option<Ref>>,
        router: &Router,
        bounds: &Bounds,
        actions: &mut Vec<Action>,
    ) {
        let Some(kind) = router.find(&message.topic) else {
            return actions.push(Action::Reply(unmatched(message)));
        };
        let Ok(topic) = Topic::new(&message.topic) else {
            actions.push(Action::Refused("topic_too_long"));
            return actions.push(Action::Reply(answer(message, Status::Error, reason_payload("topic too long"))));
        };
        if replaces.is_none() && self.channels.len() >= bounds.channels_max {
            actions.push(Action::Refused("too_many_channels"));
            let response = reason_payload("too many channels joined");
            return actions.push(Action::Reply(answer(message, Status::Error, response)));
        }
        let Message { join_ref, msg_ref, payload: params, .. } = message;
        let pending = Some(Pending { backlog: VecDeque::new(), replaces });
        let slot = self.channels.insert(Box::new(Entry { topic: topic.clone(), join_ref, msg_ref, pending }));
        let slot = u32::try_from(slot).expect("a socket has fewer channels than its limit, which is far below 2^32");
        self.by_topic.insert(topic.clone(), slot);
        actions.push(Action::Join { slot, topic, params, kind: Arc::clone(kind) });
    }

    /// Lets a message wait for the join in front of it. Other topics, and heartbeats, go on.
    fn queue(&mut self, slot: u32, message: Message, bounds: &Bounds, actions: &mut Vec<Action>) {
        let Some(pending) = &mut self.channels[slot as usize].pending else { return };
        let bytes = self.pending_bytes + weight(&message);
        if pending.backlog.len() >= bounds.pending_messages_max || bytes > bounds.pending_bytes_max {
            actions.push(Action::Refused("join_pending"));
            return actions.push(Action::Reply(answer(message, Status::Error, reason_payload("join pending"))));
        }
        self.pending_bytes = bytes;
        pending.backlog.push_back(message);
    }

    /// Takes the decision on a join. Returns what the client sent for the topic meanwhile: to be [handled](Self::handle) one by one, each
    /// after what the one before asked for has been done.
    #[must_use]
    pub(crate) fn join_done(
        &mut self,
        slot: u32,
        decision: Result<Payload, Payload>,
        actions: &mut Vec<Action>,
    ) -> VecDeque<Message> {
        let accepted = decision.is_ok();
        let entry = &mut self.channels[slot as usize];
        let Some(Pending { backlog, replaces }) = entry.pending.take() else { return VecDeque::new() };
        let (status, response) = match decision {
            Ok(response) => (Status::Ok, response),
            Err(response) => (Status::Error, response),
        };
        actions.push(Action::Reply(ControlReply {
            join_ref: entry.join_ref.clone(),
            msg_ref: entry.msg_ref.clone(),
            topic: entry.topic.to_string(),
            status,
            response,
        }));
        if let Some(join_ref) = replaces {
            actions.push(Action::Close { join_ref, topic: entry.topic.clone() });
        }
        if !accepted {
            self.remove(slot);
        }
        self.pending_bytes -= backlog.iter().map(weight).sum::<usize>();
        backlog
    }

    /// Takes note that a joined channel has ended itself.
    pub(crate) fn stopped(&mut self, slot: u32, stop: &Stop, actions: &mut Vec<Action>) {
        let Entry { join_ref, topic, .. } = *self.remove(slot);
        actions.push(match stop {
            Stop::Normal | Stop::Shutdown => Action::Close { join_ref, topic },
            Stop::Failed(_) => Action::Error { join_ref, topic },
        });
    }

    /// What stands in the place of `join_ref` in a channel's replies and pushes.
    pub(crate) fn push_ref(&self, slot: u32) -> Option<&Ref> {
        self.channels.get(slot as usize)?.push_ref()
    }

    /// Whether the channel's join has been accepted.
    pub(crate) fn is_joined(&self, slot: u32) -> bool {
        self.channels.get(slot as usize).is_some_and(|entry| entry.pending.is_none())
    }

    fn remove(&mut self, slot: u32) -> Box<Entry> {
        let entry = self.channels.remove(slot as usize);
        self.by_topic.remove(entry.topic.as_str());
        entry
    }
}

/// Answers with the references as they were sent.
fn answer(message: Message, status: Status, response: Payload) -> ControlReply {
    let Message { join_ref, msg_ref, topic, .. } = message;
    ControlReply { join_ref, msg_ref, topic, status, response }
}

fn unmatched(message: Message) -> ControlReply {
    ControlReply { join_ref: None, ..answer(message, Status::Error, reason_payload("unmatched topic")) }
}

#[cfg(test)]
mod tests;
