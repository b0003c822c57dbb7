//! Channels as tasks elsewhere reach them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Instant,
};

use tickwire_pubsub::{Broadcast, Busy, OriginId, Payload, PubSub, Topic};

use crate::{
    channel::{Renewal, Stop},
    message::Ref,
    serializer::Status,
    worker::{Command, Shared},
};

/// How many commands of one channel may wait for its worker. A task that outruns it by more is told so.
const QUEUED_MAX: u32 = 256;

/// How many deferred answers of one channel may be under way: what a client may ask for in a tenth of a second at the default rate.
const DEFERRED_MAX: u32 = 1_024;

/// One channel, for as long as it lives and beyond. Cloning is cheap.
#[derive(Clone)]
pub struct ChannelHandle(Arc<Inner>);

struct Inner {
    worker: Arc<Shared>,
    place: Place,
    topic: Topic,
    queued: AtomicU32,
    deferred: AtomicU32,
    gone: AtomicBool,
}

/// Where a worker finds a channel. The slots may be used anew, the identity never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) socket: usize,
    pub(crate) slot: u32,
    pub(crate) id: OriginId,
}

/// Why a channel does not get what it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// Its worker has not caught up with what it was sent before; nothing was queued.
    #[error("the channel has {QUEUED_MAX} commands waiting")]
    Full,
    /// It has ended.
    #[error("the channel has ended")]
    Gone,
}

/// What a channel is sent from elsewhere.
pub(crate) enum ChannelCommand {
    Push(String, Payload),
    Reply(Option<Ref>, Status, Payload),
    Stop(Stop),
    Renew(Renewal),
    /// A deferred answer panicked and said this.
    Crash(String),
}

impl ChannelHandle {
    pub(crate) fn new(worker: Arc<Shared>, place: Place, topic: Topic) -> Self {
        let (queued, deferred) = (AtomicU32::new(0), AtomicU32::new(0));
        Self(Arc::new(Inner { worker, place, topic, queued, deferred, gone: AtomicBool::new(false) }))
    }

    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.0.topic
    }

    /// Its identity: unique on this node for ever.
    #[must_use]
    pub fn origin(&self) -> OriginId {
        self.0.place.id
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.gone.load(Ordering::Relaxed)
    }

    /// Sends an event to its client.
    ///
    /// # Errors
    /// If the channel is full or gone.
    pub fn push(&self, event: &str, payload: Payload) -> Result<(), HandleError> {
        self.send(ChannelCommand::Push(event.to_owned(), payload))
    }

    /// Ends it.
    ///
    /// # Errors
    /// If the channel is full or gone.
    pub fn stop(&self, stop: Stop) -> Result<(), HandleError> {
        self.send(ChannelCommand::Stop(stop))
    }

    /// Goes on with the whole socket under another credential.
    ///
    /// # Errors
    /// If the channel is full or gone.
    pub fn renew(&self, renewal: Renewal) -> Result<(), HandleError> {
        self.send(ChannelCommand::Renew(renewal))
    }

    /// Sends an event to everyone on its topic, in the whole cluster. Its own client gets it before what the same task pushes or answers
    /// afterwards.
    ///
    /// # Errors
    /// If the node is at capacity. Nothing is sent then.
    pub fn broadcast(&self, event: &str, payload: Payload) -> Result<(), Busy> {
        let message = self.message(event, payload)?;
        self.pubsub().broadcast(&[Arc::new(message)]);
        Ok(())
    }

    /// Sends an event to everyone on its topic but this channel.
    ///
    /// # Errors
    /// If the node is at capacity. Nothing is sent then.
    pub fn broadcast_from(&self, event: &str, payload: Payload) -> Result<(), Busy> {
        let message = self.message(event, payload)?.except(self.origin());
        self.pubsub().broadcast(&[Arc::new(message)]);
        Ok(())
    }

    pub(crate) fn message(&self, event: &str, payload: Payload) -> Result<Broadcast, Busy> {
        self.pubsub().admit()?;
        Ok(Broadcast::lossless(self.0.topic.clone(), event.into(), payload, Instant::now()))
    }

    pub(crate) fn pubsub(&self) -> &PubSub {
        self.0.worker.pubsub()
    }

    pub(crate) fn place(&self) -> Place {
        self.0.place
    }

    /// Says that the channel has ended.
    pub(crate) fn end(&self) {
        self.0.gone.store(true, Ordering::Relaxed);
    }

    /// Takes note that the worker took a command.
    pub(crate) fn taken(&self) {
        self.0.queued.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether one more deferred answer may start; if so, [`defer_done`](Self::defer_done) ends it.
    pub(crate) fn defer(&self) -> bool {
        let more = |under_way| (under_way < DEFERRED_MAX).then_some(under_way + 1);
        self.0.deferred.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Ends a deferred answer. What comes of it always finds room: there are not many of them.
    pub(crate) fn defer_done(&self, command: ChannelCommand) {
        self.0.deferred.fetch_sub(1, Ordering::Relaxed);
        self.0.queued.fetch_add(1, Ordering::Relaxed);
        self.0.worker.command(Command::Channel(self.clone(), command));
    }

    pub(crate) fn send(&self, command: ChannelCommand) -> Result<(), HandleError> {
        if self.is_gone() {
            return Err(HandleError::Gone);
        }
        let more = |queued| (queued < QUEUED_MAX).then_some(queued + 1);
        self.0.queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| HandleError::Full)?;
        self.0.worker.command(Command::Channel(self.clone(), command));
        Ok(())
    }
}

impl fmt::Debug for ChannelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelHandle")
            .field("topic", &self.0.topic)
            .field("place", &self.0.place)
            .finish_non_exhaustive()
    }
}

/// The answer to one event, to be given later.
#[derive(Debug)]
pub struct ReplyHandle {
    channel: ChannelHandle,
    msg_ref: Option<Ref>,
}

impl ReplyHandle {
    pub(crate) fn new(channel: ChannelHandle, msg_ref: Option<Ref>) -> Self {
        Self { channel, msg_ref }
    }

    /// Answers.
    ///
    /// # Errors
    /// If the channel is full or gone.
    pub fn send(self, status: Status, response: Payload) -> Result<(), HandleError> {
        self.channel.send(ChannelCommand::Reply(self.msg_ref, status, response))
    }
}
