//! What a client's connection decides, without doing it: joins, replies, timeouts, heartbeats, rejoins.
//!
//! [`Machine`] takes what happens, with the time at which it happens, and leaves [`Action`]s for its driver to carry out in order.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tickwire_channels::{
    message::Payload,
    serializer::{CLOSE, ERROR, JOIN, LEAVE},
};

use crate::{
    Backoff, CallError,
    wire::{Body, Incoming, Outgoing},
};

/// The parameters of a join, asked for anew at every join: a resuming channel says there how far it came.
#[derive(Clone)]
pub struct Params(Arc<dyn Fn() -> Value + Send + Sync>);

impl Params {
    /// Parameters that `make` gives at every join.
    pub fn from_fn(make: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// No parameters.
    #[must_use]
    pub fn none() -> Self {
        Self::from(Value::Object(serde_json::Map::new()))
    }
}

impl From<Value> for Params {
    fn from(value: Value) -> Self {
        Self::from_fn(move || value.clone())
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Params({})", (self.0)())
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// The server closed it.
    #[error("closed by the server: {code} {reason}")]
    Closed {
        /// The WebSocket close code; 1005 if the server sent none.
        code: u16,
        /// The server's reason, a stable name (`docs/codes.md`).
        reason: String,
    },
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(String),
    /// A heartbeat was not answered.
    #[error("the server did not answer a heartbeat")]
    Silent,
    /// The server sent something that is not the protocol.
    #[error("the server sent what is no message: {0}")]
    Garbled(String),
    /// It was refused when it was opened again.
    #[error("{0}")]
    Refused(String),
    /// This side closed it.
    #[error("closed by this client")]
    Local,
}

/// Why a channel is not joined at the moment. It will be joined again by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interruption {
    /// The connection ended.
    Disconnected(Disconnect),
    /// The channel crashed on the server.
    Crashed,
    /// A later join was refused.
    Refused(Payload),
    /// A later join was not answered in time.
    TimedOut,
}

/// What happens on a joined channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was joined again, after an interruption.
    Rejoined(Payload),
    /// The server pushed a message.
    Message {
        /// What happened.
        event: String,
        /// What there is to say about it.
        payload: Payload,
    },
    /// Nothing arrives until the next [`Rejoined`](Event::Rejoined).
    Interrupted(Interruption),
    /// The server closed the channel for good.
    Ended,
}

/// Names a caller that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CallId(pub(crate) u64);

/// What the driver has to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send a text message.
    Send(String),
    /// Hand an event to the consumer of a topic.
    Deliver(String, Event),
    /// Answer a caller.
    Answer(CallId, Result<Payload, CallError>),
    /// Drop the connection: it is no longer usable.
    Drop(Disconnect),
}

/// The parts of the options that decisions depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) heartbeat: Duration,
    pub(crate) timeout: Duration,
    /// Between two joins of a channel that crashed or was refused.
    pub(crate) rejoin: Backoff,
}

#[derive(Debug)]
enum State {
    /// Not joined; the next join goes out at `until`, or with the next connection if that is `None`.
    Waiting {
        until: Option<Instant>,
    },
    Joining {
        join_ref: u64,
    },
    Joined {
        join_ref: u64,
    },
}

#[derive(Debug)]
struct Membership {
    params: Params,
    state: State,
    /// Who waits for the first join.
    first: Option<(CallId, Instant)>,
    failures: u32,
}

#[derive(Debug)]
struct Pending {
    topic: String,
    kind: PendingKind,
    deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PendingKind {
    Join,
    Call(CallId),
}

#[derive(Debug)]
struct Heartbeat {
    next: Instant,
    unanswered: Option<u64>,
}

/// The state of one client; see the module.
#[derive(Debug)]
pub(crate) struct Machine {
    settings: Settings,
    random: fastrand::Rng,
    last_ref: u64,
    /// `None` while there is no connection.
    heartbeat: Option<Heartbeat>,
    channels: HashMap<String, Membership>,
    pending: HashMap<u64, Pending>,
    /// No deadline is before it; exact after each tick.
    alarm: Option<Instant>,
    actions: VecDeque<Action>,
}

impl Machine {
    pub(crate) fn new(settings: Settings, random: fastrand::Rng) -> Self {
        Self {
            settings,
            random,
            last_ref: 0,
            heartbeat: None,
            channels: HashMap::new(),
            pending: HashMap::new(),
            alarm: None,
            actions: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub(crate) fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`tick`](Self::tick) wants to be called next.
    pub(crate) fn alarm(&self) -> Option<Instant> {
        self.alarm
    }

    /// There is a connection: every channel is joined on it.
    pub(crate) fn connected(&mut self, now: Instant) {
        let next = now + self.settings.heartbeat;
        self.heartbeat = Some(Heartbeat { next, unanswered: None });
        self.arm(next);
        let topics: Vec<String> = self.channels.keys().cloned().collect();
        for topic in topics {
            self.send_join(&topic, now);
        }
    }

    /// The connection is gone. Unanswered pushes fail, channels wait for the next connection.
    pub(crate) fn disconnected(&mut self, why: &Disconnect) {
        if self.heartbeat.take().is_none() {
            return;
        }
        for (_, pending) in self.pending.drain() {
            if let PendingKind::Call(call) = pending.kind {
                self.actions.push_back(Action::Answer(call, Err(CallError::Disconnected(why.clone()))));
            }
        }
        for (topic, membership) in &mut self.channels {
            let was_joined = matches!(membership.state, State::Joined { .. });
            membership.state = State::Waiting { until: None };
            if was_joined {
                let event = Event::Interrupted(Interruption::Disconnected(why.clone()));
                self.actions.push_back(Action::Deliver(topic.clone(), event));
            }
        }
    }

    /// There will be no connection any more: every caller and every channel is told.
    pub(crate) fn ended(&mut self, why: &Disconnect) {
        self.disconnected(why);
        for (topic, membership) in self.channels.drain() {
            match membership.first {
                Some((call, _)) => {
                    self.actions.push_back(Action::Answer(call, Err(CallError::Disconnected(why.clone()))));
                }
                None => self.actions.push_back(Action::Deliver(topic, Event::Ended)),
            }
        }
    }

    /// Somebody wants to join a topic.
    pub(crate) fn join(&mut self, call: CallId, topic: &str, params: Params, now: Instant) {
        if self.channels.contains_key(topic) {
            return self.actions.push_back(Action::Answer(call, Err(CallError::AlreadyJoined)));
        }
        let deadline = now + self.settings.timeout;
        self.arm(deadline);
        let state = State::Waiting { until: None };
        let membership = Membership { params, state, first: Some((call, deadline)), failures: 0 };
        self.channels.insert(topic.to_owned(), membership);
        if self.heartbeat.is_some() {
            self.send_join(topic, now);
        }
    }

    /// Somebody wants to send an event and to have its reply.
    pub(crate) fn push(&mut self, call: CallId, topic: &str, event: &str, payload: &Value, now: Instant) {
        let Some(Membership { state: State::Joined { join_ref }, .. }) = self.channels.get(topic) else {
            return self.actions.push_back(Action::Answer(call, Err(CallError::NotJoined)));
        };
        let join_ref = Some(*join_ref);
        let msg_ref = self.next_ref();
        self.actions.push_back(Action::Send(Outgoing { join_ref, msg_ref, topic, event, payload }.encode()));
        self.expect_reply(msg_ref, topic, PendingKind::Call(call), now);
    }

    /// The consumer of a topic has left it, or is gone.
    pub(crate) fn leave(&mut self, topic: &str) {
        let Some(membership) = self.channels.remove(topic) else { return };
        if let State::Joining { join_ref } | State::Joined { join_ref } = membership.state {
            self.send_leave(topic, join_ref);
        }
        if let Some((call, _)) = membership.first {
            self.actions.push_back(Action::Answer(call, Err(CallError::NotJoined)));
        }
        self.fail_calls(topic, &CallError::NotJoined);
    }

    /// A message arrived.
    pub(crate) fn received(&mut self, message: Incoming, now: Instant) {
        match message.body {
            Body::Reply { ok, response } => {
                let Some(msg_ref) = message.msg_ref.and_then(|text| text.parse().ok()) else { return };
                self.replied(msg_ref, ok, response, now);
            }
            Body::Event { event, payload } => {
                self.pushed(&message.topic, message.join_ref.as_deref(), event, payload, now);
            }
        }
    }

    fn replied(&mut self, msg_ref: u64, ok: bool, response: Payload, now: Instant) {
        if let Some(heartbeat) = &mut self.heartbeat
            && heartbeat.unanswered == Some(msg_ref)
        {
            heartbeat.unanswered = None;
        }
        let Some(Pending { topic, kind, .. }) = self.pending.remove(&msg_ref) else { return };
        match kind {
            PendingKind::Call(call) => {
                let answer = if ok { Ok(response) } else { Err(CallError::Refused(response)) };
                self.actions.push_back(Action::Answer(call, answer));
            }
            PendingKind::Join => self.join_answered(&topic, msg_ref, ok, response, now),
        }
    }

    fn join_answered(&mut self, topic: &str, msg_ref: u64, ok: bool, response: Payload, now: Instant) {
        let Some(membership) = self.channels.get_mut(topic) else { return };
        if !matches!(membership.state, State::Joining { join_ref } if join_ref == msg_ref) {
            return;
        }
        let first = membership.first.take();
        if ok {
            membership.state = State::Joined { join_ref: msg_ref };
            membership.failures = 0;
            self.actions.push_back(match first {
                Some((call, _)) => Action::Answer(call, Ok(response)),
                None => Action::Deliver(topic.to_owned(), Event::Rejoined(response)),
            });
        } else if let Some((call, _)) = first {
            self.channels.remove(topic);
            self.actions.push_back(Action::Answer(call, Err(CallError::Refused(response))));
        } else {
            self.interrupt(topic, Interruption::Refused(response), now);
        }
    }

    fn pushed(&mut self, topic: &str, join_ref: Option<&str>, event: String, payload: Payload, now: Instant) {
        let Some(Membership { state: State::Joined { join_ref: current }, .. }) = self.channels.get(topic) else {
            return;
        };
        if join_ref.is_some_and(|join_ref| join_ref.parse() != Ok(*current)) {
            return;
        }
        match event.as_str() {
            CLOSE => {
                self.channels.remove(topic);
                self.fail_calls(topic, &CallError::NotJoined);
                self.actions.push_back(Action::Deliver(topic.to_owned(), Event::Ended));
            }
            ERROR => {
                self.fail_calls(topic, &CallError::Crashed);
                self.interrupt(topic, Interruption::Crashed, now);
            }
            _ => self.actions.push_back(Action::Deliver(topic.to_owned(), Event::Message { event, payload })),
        }
    }

    /// Time has passed. While the driver does not read, unanswered heartbeats say nothing about the server: `reading` tells.
    pub(crate) fn tick(&mut self, now: Instant, reading: bool) {
        if self.alarm.is_none_or(|alarm| alarm > now) {
            return;
        }
        self.beat(now, reading);
        self.expire(now);
        let due = |membership: &Membership| match membership.state {
            State::Waiting { until } => until.is_some_and(|until| until <= now),
            _ => false,
        };
        let topics: Vec<String> =
            self.channels.iter().filter(|(_, membership)| due(membership)).map(|(topic, _)| topic.clone()).collect();
        for topic in topics {
            self.send_join(&topic, now);
        }
        self.alarm = self.earliest();
    }

    fn beat(&mut self, now: Instant, reading: bool) {
        let msg_ref = self.last_ref + 1;
        let Some(heartbeat) = self.heartbeat.as_mut().filter(|heartbeat| heartbeat.next <= now) else { return };
        if heartbeat.unanswered.is_some() && reading {
            return self.actions.push_back(Action::Drop(Disconnect::Silent));
        }
        heartbeat.next = now + self.settings.heartbeat;
        heartbeat.unanswered = Some(msg_ref);
        self.last_ref = msg_ref;
        self.actions.push_back(Action::Send(Outgoing::heartbeat(msg_ref)));
    }

    /// Fails what was not answered in time.
    fn expire(&mut self, now: Instant) {
        let late: Vec<u64> =
            self.pending.iter().filter(|(_, pending)| pending.deadline <= now).map(|(msg_ref, _)| *msg_ref).collect();
        for msg_ref in late {
            let Some(Pending { topic, kind, .. }) = self.pending.remove(&msg_ref) else { continue };
            match kind {
                PendingKind::Call(call) => self.actions.push_back(Action::Answer(call, Err(CallError::TimedOut))),
                PendingKind::Join => {
                    // The server may still answer: whatever it has joined then, it must not keep.
                    self.send_leave(&topic, msg_ref);
                    if self.channels.get(&topic).is_some_and(|membership| membership.first.is_none()) {
                        self.interrupt(&topic, Interruption::TimedOut, now);
                    }
                }
            }
        }
        let too_late = |membership: &mut Membership| membership.first.is_some_and(|(_, deadline)| deadline <= now);
        let given_up: Vec<_> = self.channels.extract_if(|_, membership| too_late(membership)).collect();
        for (topic, Membership { state, first, .. }) in given_up {
            // The join went out after its caller had begun to wait, and is not overdue itself.
            if let State::Joining { join_ref } = state
                && self.pending.contains_key(&join_ref)
            {
                self.send_leave(&topic, join_ref);
            }
            if let Some((call, _)) = first {
                self.actions.push_back(Action::Answer(call, Err(CallError::TimedOut)));
            }
        }
    }

    /// A joined channel is no longer joined: it is joined again after a while.
    fn interrupt(&mut self, topic: &str, why: Interruption, now: Instant) {
        let Some(membership) = self.channels.get_mut(topic) else { return };
        let until = now + self.settings.rejoin.delay(membership.failures, &mut self.random);
        membership.failures = membership.failures.saturating_add(1);
        membership.state = State::Waiting { until: Some(until) };
        self.arm(until);
        self.actions.push_back(Action::Deliver(topic.to_owned(), Event::Interrupted(why)));
    }

    fn send_join(&mut self, topic: &str, now: Instant) {
        let join_ref = self.next_ref();
        let Some(membership) = self.channels.get_mut(topic) else { return };
        membership.state = State::Joining { join_ref };
        let payload = (membership.params.0)();
        let message = Outgoing { join_ref: Some(join_ref), msg_ref: join_ref, topic, event: JOIN, payload: &payload };
        self.actions.push_back(Action::Send(message.encode()));
        self.expect_reply(join_ref, topic, PendingKind::Join, now);
    }

    /// The reply to a leave changes nothing, so nobody waits for it.
    fn send_leave(&mut self, topic: &str, join_ref: u64) {
        let msg_ref = self.next_ref();
        let payload = Value::Object(serde_json::Map::new());
        let message = Outgoing { join_ref: Some(join_ref), msg_ref, topic, event: LEAVE, payload: &payload };
        self.actions.push_back(Action::Send(message.encode()));
        self.pending.remove(&join_ref);
    }

    fn fail_calls(&mut self, topic: &str, error: &CallError) {
        let of_topic = |pending: &Pending| pending.topic == topic && pending.kind != PendingKind::Join;
        for (_, pending) in self.pending.extract_if(|_, pending| of_topic(pending)) {
            if let PendingKind::Call(call) = pending.kind {
                self.actions.push_back(Action::Answer(call, Err(error.clone())));
            }
        }
    }

    fn expect_reply(&mut self, msg_ref: u64, topic: &str, kind: PendingKind, now: Instant) {
        let deadline = now + self.settings.timeout;
        self.arm(deadline);
        self.pending.insert(msg_ref, Pending { topic: topic.to_owned(), kind, deadline });
    }

    fn next_ref(&mut self) -> u64 {
        self.last_ref += 1;
        self.last_ref
    }

    fn arm(&mut self, at: Instant) {
        self.alarm = Some(self.alarm.map_or(at, |alarm| alarm.min(at)));
    }

    fn earliest(&self) -> Option<Instant> {
        let heartbeat = self.heartbeat.iter().map(|heartbeat| heartbeat.next);
        let replies = self.pending.values().map(|pending| pending.deadline);
        let channels = self.channels.values().flat_map(|membership| {
            let rejoin = match membership.state {
                State::Waiting { until } => until,
                _ => None,
            };
            [rejoin, membership.first.map(|(_, deadline)| deadline)].into_iter().flatten()
        });
        heartbeat.chain(replies).chain(channels).min()
    }
}
