//! Long polling: what stands in for the connection of a client that has none.
//!
//! A session of long polling is a socket like any other, but for its link. While a request of its client waits, the link takes frames and
//! answers the request with the messages in them; while none does, it takes nothing, which is to the outbox what a slow connection is: updates
//! are merged, and what must not be lost is kept within the same bounds.

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use metrics::{Gauge, gauge};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::oneshot;

use super::shared::{Command, RequestPermit, Shared};
use crate::{
    metrics as names,
    websocket::{Opcode, frame_payload},
};

/// Names a session of long polling on its node. Whoever knows it may read and write for its client: it is to be kept as secret as a
/// credential.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PollId {
    pub(super) worker: u16,
    /// Random, so that it cannot be guessed, and unique for the same reason.
    pub(super) secret: u128,
}

impl PollId {
    /// Its length as bytes.
    pub const LEN: usize = 18;

    /// A name that nobody else has. `None` if the system has no randomness to give.
    pub(super) fn random(worker: u16) -> Option<Self> {
        let mut secret = [0; 16];
        SystemRandom::new().fill(&mut secret).ok()?;
        Some(Self { worker, secret: u128::from_be_bytes(secret) })
    }

    /// As bytes, to be put into a token.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..2].copy_from_slice(&self.worker.to_be_bytes());
        bytes[2..].copy_from_slice(&self.secret.to_be_bytes());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let (mut worker, mut secret) = ([0; 2], [0; 16]);
        worker.copy_from_slice(&bytes[..2]);
        secret.copy_from_slice(&bytes[2..]);
        Self { worker: u16::from_be_bytes(worker), secret: u128::from_be_bytes(secret) }
    }
}

impl fmt::Debug for PollId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollId").field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// The answer to a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollAnswer {
    /// What waited, or the first that came: each one an encoded message, in order.
    Messages(Vec<String>),
    /// Nothing came within the window, or the session ended just now.
    Nothing,
    /// There is no such session any more.
    Gone,
}

/// A message that a client published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollMessage {
    /// To be read as a text message; whether it is UTF-8 has not been looked at.
    Text(Bytes),
    /// To be read as a binary message.
    Binary(Bytes),
}

impl PollMessage {
    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// What became of messages that a client published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishAnswer {
    /// All were handled; their replies come by polling.
    Taken,
    /// One of them cannot be read. The session has ended with it, as a socket would.
    Malformed,
    /// There is no such session any more, or it ended for another reason before all were handled.
    Gone,
}

/// What a request wants of a session.
pub(crate) enum PollRequest {
    /// The messages that are there, or the first that comes.
    Wait(oneshot::Sender<PollReply>, RequestPermit),
    /// To be handled.
    Publish(Vec<PollMessage>, oneshot::Sender<PublishAnswer>, RequestPermit),
    /// A request that waited has ended, at the end of its window or because its client has gone.
    Left,
    /// Messages that were handed to a request whose client had gone, and the number of that hand-over.
    Return(Vec<String>, u64),
}

/// What a waiting request is told.
pub(crate) enum PollReply {
    Messages(Parcel),
    /// A later request of the same client waits in its place.
    Superseded,
    /// The session has just ended.
    Ended,
    /// There is no such session.
    Gone,
}

/// Messages on their way to a request. If it is dropped before anybody has opened it, because the client hung up at that moment, they go back
/// to their session.
pub(crate) struct Parcel {
    messages: Vec<String>,
    number: u64,
    id: PollId,
    home: Arc<Shared>,
}

impl Parcel {
    pub(super) fn open(mut self) -> Vec<String> {
        std::mem::take(&mut self.messages)
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if !self.messages.is_empty() {
            let back = PollRequest::Return(std::mem::take(&mut self.messages), self.number);
            self.home.command(Command::Poll(self.id, back));
        }
    }
}

/// A request that waits.
struct Waiting {
    reply: oneshot::Sender<PollReply>,
    gauge: Gauge,
}

impl Waiting {
    fn new(reply: oneshot::Sender<PollReply>) -> Self {
        let gauge = gauge!(names::POLLS_WAITING);
        gauge.increment(1.0);
        Self { reply, gauge }
    }

    /// Answers it. An error is the answer itself: its client has gone.
    fn answer(self, reply: PollReply) -> Result<(), PollReply> {
        self.gauge.decrement(1.0);
        self.reply.send(reply)
    }
}

/// Stands in for a connection.
pub(crate) struct PollLink {
    pub(super) id: PollId,
    window: Duration,
    home: Arc<Shared>,
    waiting: Option<Waiting>,
    /// What the next answer has so far. Bounded by what one outbox holds: it is taken only for a request that waits, and handed over in the
    /// same turn.
    messages: Vec<String>,
    /// How many answers with messages there have been.
    handed: u64,
    /// When its client was last known to wait, or to ask.
    polled_at: Instant,
}

impl PollLink {
    /// A session that asks again within 1.5 `window`s, or is ended.
    pub(super) fn new(id: PollId, window: Duration, home: Arc<Shared>, now: Instant) -> Self {
        gauge!(names::POLL_SESSIONS).increment(1.0);
        Self { id, window, home, waiting: None, messages: Vec::new(), handed: 0, polled_at: now }
    }

    /// Has a request wait, in the place of the one before.
    pub(super) fn wait(&mut self, reply: oneshot::Sender<PollReply>, now: Instant) {
        self.polled_at = now;
        if let Some(before) = self.waiting.replace(Waiting::new(reply)) {
            // If its client has gone there is nobody to tell.
            let _ = before.answer(PollReply::Superseded);
        }
    }

    /// Takes messages back. Once others have been handed out since they would come in the wrong order, and are lost instead.
    pub(super) fn take_back(&mut self, messages: Vec<String>, number: u64) {
        if number != self.handed {
            return tickwire_pubsub::metrics::dropped(names::POLL_LOST, messages.len() as u64);
        }
        let newer = std::mem::replace(&mut self.messages, messages);
        self.messages.extend(newer);
    }

    /// Takes note that a request waits no more.
    pub(super) fn left(&mut self, now: Instant) {
        if self.waiting.is_some() && !self.is_awaited() {
            self.polled_at = now;
        }
    }

    /// Whether a request waits whose client is still there.
    fn is_awaited(&mut self) -> bool {
        if self.waiting.as_ref().is_some_and(|waiting| waiting.reply.is_closed()) {
            self.stop_waiting(PollReply::Superseded);
        }
        self.waiting.is_some()
    }

    fn stop_waiting(&mut self, reply: PollReply) {
        if let Some(waiting) = self.waiting.take() {
            let _ = waiting.answer(reply);
        }
    }

    /// Takes whole frames while a request waits.
    ///
    /// # Errors
    /// `WouldBlock` while none does.
    pub(super) fn write(&mut self, frames: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if !self.is_awaited() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.messages.extend(frames.iter().filter_map(|frame| message_of(frame)));
        Ok(frames.iter().map(|frame| frame.len()).sum())
    }

    /// Answers the request that waits, if there is something to answer it with. Returns whether none waits any more.
    pub(super) fn settle(&mut self) -> bool {
        if !self.is_awaited() {
            return true;
        }
        if self.messages.is_empty() {
            return false;
        }
        let Some(waiting) = self.waiting.take() else { return true };
        self.polled_at = Instant::now();
        self.handed += 1;
        let messages = std::mem::take(&mut self.messages);
        let parcel = Parcel { messages, number: self.handed, id: self.id, home: Arc::clone(&self.home) };
        if let Err(PollReply::Messages(parcel)) = waiting.answer(PollReply::Messages(parcel)) {
            self.messages = parcel.open();
        }
        true
    }

    /// How long after its last poll a session ends, and how often it is looked for such sessions.
    pub(super) fn patience(&self) -> Duration {
        self.window * 3 / 2
    }

    /// Whether its client has not asked for too long.
    pub(super) fn is_forsaken(&mut self, now: Instant) -> bool {
        if self.is_awaited() {
            self.polled_at = now;
        }
        now.saturating_duration_since(self.polled_at) > self.patience()
    }
}

impl Drop for PollLink {
    fn drop(&mut self) {
        self.stop_waiting(PollReply::Ended);
        gauge!(names::POLL_SESSIONS).decrement(1.0);
    }
}

/// The message in a frame of ours. WIRE: it stands in the answer as a string, binary ones too; one that is no text cannot, and where Phoenix
/// loses the whole answer over it, we leave it out.
fn message_of(frame: &[u8]) -> Option<String> {
    let (opcode, payload) = frame_payload(frame)?;
    match opcode {
        Opcode::Text | Opcode::Binary => {}
        Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => return None,
    }
    match simdutf8::basic::from_utf8(payload) {
        Ok(text) => Some(text.to_owned()),
        Err(_) => {
            tickwire_pubsub::metrics::dropped(names::BINARY_BY_LONGPOLL, 1);
            None
        }
    }
}

#[cfg(test)]
mod tests;
