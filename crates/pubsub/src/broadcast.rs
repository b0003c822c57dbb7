//! The message that goes to every subscriber of a topic.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;

use crate::{Stamp, Topic};

/// A payload, encoded once in the cluster.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// A JSON text, UTF-8.
    Json(Bytes),
    /// Raw bytes.
    Binary(Bytes),
}

impl Payload {
    /// `{}`.
    #[must_use]
    pub const fn empty() -> Self {
        Self::Json(Bytes::from_static(b"{}"))
    }

    /// The payload's bytes, whatever they are.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Json(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(text) => write!(f, "Json({})", String::from_utf8_lossy(text)),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}

/// What a message of a conflated topic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A newer value.
    Update,
    /// The value that a new epoch starts from; ends all that was pending.
    Snapshot,
    /// Whether the value is live.
    Status,
}

/// What may be done with a message that a subscriber cannot take yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A newer message of the same topic and role may replace it.
    Latest(Role),
    /// Nothing: a subscriber that cannot take it is closed.
    Lossless,
}

/// Names a sender that does not want its own message back. Unique on this node while the sender lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OriginId(pub u64);

/// How many encodings of one broadcast are kept: one per wire format and one for event streams, with room for one more.
pub const FRAME_SLOTS: usize = 4;

/// How many more encodings there are that few broadcasts are ever asked for, such as compressed ones.
pub const RARE_FRAME_SLOTS: usize = 4;

/// One encoding, once somebody has asked for it.
type Frame = OnceLock<Option<Bytes>>;

/// One message to every subscriber of a topic, shared by all of them.
pub struct Broadcast {
    /// Where it is published.
    pub topic: Topic,
    /// The event's name.
    pub event: Arc<str>,
    /// What it says.
    pub payload: Payload,
    /// What may be done with it under load.
    pub class: Class,
    /// Its place in the topic's order; always there for [`Class::Latest`].
    pub stamp: Option<Stamp>,
    /// The one subscriber that does not get it.
    pub except: Option<OriginId>,
    /// When it was accepted, by this node's monotonic clock; for one from a peer, less its residence there.
    pub accepted_at: Instant,
    frames: [Frame; FRAME_SLOTS],
    /// A broadcast that nobody asks for one of them does not pay for them.
    rare_frames: OnceLock<Box<[Frame; RARE_FRAME_SLOTS]>>,
}

impl Broadcast {
    /// A message for every subscriber, in the order of its publication, none of it dropped.
    #[must_use]
    pub fn lossless(topic: Topic, event: Arc<str>, payload: Payload, now: Instant) -> Self {
        Self::new(topic, event, payload, Class::Lossless, None, now)
    }

    /// A message that a newer one of the same role may replace.
    #[must_use]
    pub fn latest(topic: Topic, event: Arc<str>, payload: Payload, role: Role, stamp: Stamp, now: Instant) -> Self {
        Self::new(topic, event, payload, Class::Latest(role), Some(stamp), now)
    }

    fn new(topic: Topic, event: Arc<str>, payload: Payload, class: Class, stamp: Option<Stamp>, now: Instant) -> Self {
        let frames = [const { OnceLock::new() }; FRAME_SLOTS];
        let rare_frames = OnceLock::new();
        Self { topic, event, payload, class, stamp, except: None, accepted_at: now, frames, rare_frames }
    }

    /// The same message, kept from one subscriber.
    #[must_use]
    pub fn except(mut self, origin: OriginId) -> Self {
        self.except = Some(origin);
        self
    }

    /// The same message with a place in its topic's order.
    #[must_use]
    pub fn stamped(mut self, stamp: Stamp) -> Self {
        self.stamp = Some(stamp);
        self
    }

    /// The message in one encoding, built by whoever needs it first; `None` if it cannot be encoded so.
    ///
    /// # Panics
    /// If `slot` is not below [`FRAME_SLOTS`]: slots are constants.
    pub fn frame(&self, slot: usize, build: impl FnOnce() -> Option<Bytes>) -> Option<&Bytes> {
        self.frames[slot].get_or_init(build).as_ref()
    }

    /// The same for the encodings that few broadcasts are asked for, which have slots of their own.
    ///
    /// # Panics
    /// If `slot` is not below [`RARE_FRAME_SLOTS`]: slots are constants.
    pub fn rare_frame(&self, slot: usize, build: impl FnOnce() -> Option<Bytes>) -> Option<&Bytes> {
        let frames = self.rare_frames.get_or_init(Box::default);
        frames[slot].get_or_init(build).as_ref()
    }
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast")
            .field("topic", &self.topic)
            .field("event", &self.event)
            .field("payload", &self.payload)
            .field("stamp", &self.stamp)
            .finish_non_exhaustive()
    }
}
