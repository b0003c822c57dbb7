//! What an application writes: kinds of channels, and the channels that they make.
//!
//! A [`Kind`] decides whether a client may join a topic; what it returns on success carries a [`Channel`], which gets the client's events
//! from then on. Both are called on the thread that serves the socket, with thousands of others: they must not block. What takes time is
//! a future: of the join ([`Joining::later`]), of an answer ([`Context::defer`]), or a task of the application's that holds the channel's
//! [`ChannelHandle`]. A panic in a channel, a join or an answer ends this channel and nothing else; one in a task of the application's own ends
//! that task, of which the channel knows nothing.

use std::{
    any::Any,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use tickwire_pubsub::{Broadcast, Busy, Payload, PubSub, Stamp, Topic};

pub use crate::handle::{ChannelHandle, HandleError, ReplyHandle};
use crate::{close::CloseReason, guard::Guarded, json, message::Ref, serializer::Status, socket::SocketInfo};

/// A kind of channel: what the topics of one route have in common.
pub trait Kind: Send + Sync + 'static {
    /// Decides on a join, at once or later. The socket is subscribed to the topic already, so that a snapshot taken now has no hole behind
    /// it: what is published meanwhile follows the reply, see [`Joined::floor`].
    fn join(&self, request: JoinRequest) -> Joining;
}

impl<F> Kind for F
where
    F: Fn(JoinRequest) -> Joining + Send + Sync + 'static,
{
    fn join(&self, request: JoinRequest) -> Joining {
        self(request)
    }
}

/// A client's wish to join a topic.
#[derive(Debug)]
pub struct JoinRequest {
    /// The topic.
    pub topic: Topic,
    /// The join's payload.
    pub params: Payload,
    /// Who asks.
    pub socket: Arc<SocketInfo>,
    /// The channel to be, for tasks that push to it. What they push before the join's reply follows it.
    pub handle: ChannelHandle,
}

impl JoinRequest {
    /// The parameters as a `T`.
    ///
    /// # Errors
    /// If they are not one.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.params.bytes())
    }
}

/// How a join is decided.
pub enum Joining {
    /// Now.
    Ready(Result<Joined, Refusal>),
    /// By a future, which is dropped when the join's deadline passes. Only this topic of the socket waits for it.
    Pending(BoxFuture<'static, Result<Joined, Refusal>>),
}

impl Joining {
    /// A decision that takes time.
    #[must_use]
    pub fn later(decision: impl Future<Output = Result<Joined, Refusal>> + Send + 'static) -> Self {
        Self::Pending(Box::pin(decision))
    }
}

impl From<Joined> for Joining {
    fn from(joined: Joined) -> Self {
        Self::Ready(Ok(joined))
    }
}

impl From<Refusal> for Joining {
    fn from(refusal: Refusal) -> Self {
        Self::Ready(Err(refusal))
    }
}

impl From<Result<Joined, Refusal>> for Joining {
    fn from(decision: Result<Joined, Refusal>) -> Self {
        Self::Ready(decision)
    }
}

impl fmt::Debug for Joining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(decision) => f.debug_tuple("Ready").field(decision).finish(),
            Self::Pending(_) => f.write_str("Pending"),
        }
    }
}

/// Why a join is refused: the response of its error reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub Payload);

impl Refusal {
    /// `{"reason": reason}`, as is the custom.
    #[must_use]
    pub fn reason(reason: &str) -> Self {
        Self(reason_payload(reason))
    }
}

/// `{"reason": reason}`.
#[must_use]
pub fn reason_payload(reason: &str) -> Payload {
    let mut json = br#"{"reason":"#.to_vec();
    json::write_string(&mut json, reason);
    json.push(b'}');
    Payload::Json(json.into())
}

/// An accepted join.
pub struct Joined {
    pub(crate) channel: Box<dyn Channel>,
    pub(crate) reply: Payload,
    pub(crate) floor: Option<Stamp>,
    pub(crate) min_interval: Option<Duration>,
    pub(crate) pushes: Vec<(String, Payload)>,
}

impl Joined {
    /// A join answered with `{}`. All that is published on the topic since the request was made follows.
    #[must_use]
    pub fn new(channel: impl Channel) -> Self {
        Self {
            channel: Box::new(channel),
            reply: Payload::empty(),
            floor: None,
            min_interval: None,
            pushes: Vec::new(),
        }
    }

    /// The response of the join's reply.
    #[must_use]
    pub fn reply(mut self, response: Payload) -> Self {
        self.reply = response;
        self
    }

    /// The stamp of the last update that the reply contains: what follows begins behind it, without hole or repeat.
    #[must_use]
    pub fn floor(mut self, stamp: Stamp) -> Self {
        self.floor = Some(stamp);
        self
    }

    /// The client wants at most one update per interval, always ending on the latest.
    #[must_use]
    pub fn min_interval(mut self, interval: Duration) -> Self {
        self.min_interval = Some(interval);
        self
    }

    /// Pushes an event right behind the reply.
    #[must_use]
    pub fn push(mut self, event: &str, payload: Payload) -> Self {
        self.pushes.push((event.to_owned(), payload));
        self
    }
}

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined")
            .field("reply", &self.reply)
            .field("floor", &self.floor)
            .field("min_interval", &self.min_interval)
            .finish_non_exhaustive()
    }
}

/// A joined topic of one socket. It is dropped when it ends, however it ends: what it holds, it holds for as long as the client is there.
pub trait Channel: Send + 'static {
    /// Takes an event from the client. Called in the order in which they were sent.
    fn handle(&mut self, event: &str, payload: &Payload, context: &mut Context<'_>) -> Flow;

    /// The channel has ended, without a panic, and is dropped next. Nothing can be sent to it any more.
    fn left(&mut self, reason: Left) {
        let _ = reason;
    }
}

impl<F> Channel for F
where
    F: FnMut(&str, &Payload, &mut Context<'_>) -> Flow + Send + 'static,
{
    fn handle(&mut self, event: &str, payload: &Payload, context: &mut Context<'_>) -> Flow {
        self(event, payload, context)
    }
}

/// Whether a channel goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// It ends.
    Stop(Stop),
}

/// How a channel ends itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// As it should: its reply, if any, then `phx_close`.
    Normal,
    /// As [`Normal`](Self::Normal), because something around it ends.
    Shutdown,
    /// It cannot go on, for this reason, which is logged. The client gets `phx_error` and no reply, and may join again.
    Failed(String),
}

/// Why a channel has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The client left.
    Leave,
    /// The client joined the topic anew.
    Rejoin,
    /// The channel stopped itself.
    Stopped,
    /// Its socket ended.
    Socket(CloseReason),
}

/// What all channels of a router answer alike, whatever kind they are. It is asked before them, on the same thread: it must not block.
pub trait Common: Send + Sync + 'static {
    /// Takes an event from a client, or leaves it to the channel: `None`.
    fn handle(&self, event: &str, payload: &Payload, context: &mut Context<'_>) -> Option<Flow>;
}

/// The owner of a socket has shown a new credential: what changes for the socket, and for all its channels.
pub struct Renewal {
    /// When the socket is closed now, 1001 `token_expired`.
    pub expires_at: Option<Instant>,
    /// Asked for each topic that is joined, or about to be: the others are ended as if they had stopped themselves, with `phx_close`. Called
    /// on the thread that serves the socket.
    pub keeps: Box<dyn Fn(&Topic) -> bool + Send>,
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewal").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// What a channel can do while it handles an event. What it asks for happens in that order when it is done.
pub struct Context<'a> {
    pub(crate) handle: &'a ChannelHandle,
    pub(crate) socket: &'a Arc<SocketInfo>,
    pub(crate) msg_ref: Option<Ref>,
    pub(crate) effects: SmallVec<[Effect; 2]>,
}

/// Something that a channel asked for.
pub(crate) enum Effect {
    Reply(Status, Payload),
    Push(String, Payload),
    Broadcast(Arc<Broadcast>),
    Defer(Guarded<(Status, Payload)>),
    Renew(Renewal),
}

impl<'a> Context<'a> {
    pub(crate) fn new(handle: &'a ChannelHandle, socket: &'a Arc<SocketInfo>, msg_ref: Option<Ref>) -> Self {
        Self { handle, socket, msg_ref, effects: SmallVec::new() }
    }

    /// The channel's topic.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        self.handle.topic()
    }

    /// Whose channel it is.
    #[must_use]
    pub fn socket(&self) -> &Arc<SocketInfo> {
        self.socket
    }

    /// The channel as other tasks reach it.
    #[must_use]
    pub fn handle(&self) -> &ChannelHandle {
        self.handle
    }

    /// Answers the event that is being handled. Clients expect one answer at most.
    pub fn reply(&mut self, status: Status, response: Payload) {
        self.effects.push(Effect::Reply(status, response));
    }

    /// Answers the event that is being handled later, from elsewhere.
    #[must_use]
    pub fn reply_later(&self) -> ReplyHandle {
        ReplyHandle::new(self.handle.clone(), self.msg_ref.clone())
    }

    /// Answers the event that is being handled with what a future returns; other events are handled meanwhile. The future is dropped with
    /// the server, not with the channel. If it panics, the channel ends as if it had panicked itself. If the channel has too many of them
    /// under way, it is not started and the answer is an error, `busy`.
    pub fn defer(&mut self, answer: impl Future<Output = (Status, Payload)> + Send + 'static) {
        self.effects.push(Effect::Defer(Guarded::new(Box::pin(answer))));
    }

    /// Goes on with the whole socket under another credential.
    pub fn renew(&mut self, renewal: Renewal) {
        self.effects.push(Effect::Renew(renewal));
    }

    /// Sends an event to this client.
    pub fn push(&mut self, event: &str, payload: Payload) {
        self.effects.push(Effect::Push(event.to_owned(), payload));
    }

    /// Sends an event to everyone on the topic, the client included, in the whole cluster.
    ///
    /// # Errors
    /// If the node is at capacity. Nothing is sent then.
    pub fn broadcast(&mut self, event: &str, payload: Payload) -> Result<(), Busy> {
        let message = self.handle.message(event, payload)?;
        self.effects.push(Effect::Broadcast(Arc::new(message)));
        Ok(())
    }

    /// Sends an event to everyone on the topic but this channel.
    ///
    /// # Errors
    /// If the node is at capacity. Nothing is sent then.
    pub fn broadcast_from(&mut self, event: &str, payload: Payload) -> Result<(), Busy> {
        let message = self.handle.message(event, payload)?.except(self.handle.origin());
        self.effects.push(Effect::Broadcast(Arc::new(message)));
        Ok(())
    }

    /// The node's switchboard.
    #[must_use]
    pub fn pubsub(&self) -> &PubSub {
        self.handle.pubsub()
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("topic", self.topic()).field("msg_ref", &self.msg_ref).finish_non_exhaustive()
    }
}

/// Calls an application's code. What it was working on is not used any more if it panics.
///
/// # Errors
/// If it panics: its message.
pub(crate) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).map_err(|panic| panic_message(&*panic))
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
