//! The handles that users hold.

mod driver;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use serde_json::Value;
use tickwire_channels::message::Payload;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{ConnectError, Disconnect, Event, Options, Params, transport};
use driver::{Command, Driver};

/// Commands on their way to the connection; whoever sends one more waits.
const COMMANDS_MAX: usize = 256;

/// Why a join or a push has no good answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The channel refused it.
    #[error("refused: {}", text(.0))]
    Refused(Payload),
    /// No answer came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The topic is not joined at the moment.
    #[error("the topic is not joined at the moment")]
    NotJoined,
    /// This client has joined the topic already.
    #[error("this client has joined the topic already")]
    AlreadyJoined,
    /// The channel crashed before it answered.
    #[error("the channel crashed on the server")]
    Crashed,
    /// The connection ended before the answer.
    #[error("{0}")]
    Disconnected(Disconnect),
}

/// Why a topic could not be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot join {topic:?}: {cause}")]
pub struct JoinError {
    /// The topic.
    pub topic: String,
    /// Why not.
    pub cause: CallError,
}

fn text(payload: &Payload) -> String {
    let reason = serde_json::from_slice::<Value>(payload.bytes()).ok();
    let reason = reason.as_ref().and_then(|value| value.get("reason")?.as_str());
    reason.map_or_else(|| String::from_utf8_lossy(payload.bytes()).into_owned(), str::to_owned)
}

/// The state of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It is open.
    Up,
    /// It is being opened again.
    Down {
        /// Why it is not open.
        why: Disconnect,
        /// Failed attempts since it was open.
        attempt: u32,
        /// When the next attempt starts.
        retry_in: Duration,
    },
    /// It will not be opened any more.
    Closed(Disconnect),
}

/// A connection to one socket, kept open. Cheap to clone; it is closed when the last handle and the last [`Channel`] are dropped.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: mpsc::Sender<Command>,
    link: watch::Receiver<Link>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    queue: usize,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Client {
    /// Opens the connection. It must succeed once; only after that it is kept open.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses.
    pub async fn connect(options: Options) -> Result<Self, ConnectError> {
        let socket = transport::open(&options).await?;
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (link_tx, link) = watch::channel(Link::Up);
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let queue = options.queue.max(1);
        let driver = Driver::new(options, inbox, link_tx, cancel.clone());
        tracker.spawn(driver.run(socket));
        tracker.close();
        Ok(Self { shared: Arc::new(Shared { commands, link, tracker, cancel, queue }) })
    }

    /// Joins a topic, now and after every interruption. Returns the reply to the first join.
    ///
    /// # Errors
    /// If the channel refuses, or does not answer in time; the topic is then not joined.
    pub async fn join(&self, topic: &str, params: impl Into<Params>) -> Result<(Payload, Channel), JoinError> {
        let (events_tx, events) = mpsc::channel(self.shared.queue);
        let (answer, answered) = oneshot::channel();
        let command = Command::Join { topic: topic.to_owned(), params: params.into(), events: events_tx, answer };
        match self.call(command, answered).await {
            Ok(reply) => Ok((reply, Channel { topic: topic.to_owned(), client: self.clone(), events })),
            Err(cause) => Err(JoinError { topic: topic.to_owned(), cause }),
        }
    }

    /// The state of the connection, and its changes.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.shared.link.clone()
    }

    /// Closes the connection, with code 1000, and waits until that is done.
    pub async fn close(self) {
        self.shared.cancel.cancel();
        self.shared.tracker.wait().await;
    }

    async fn call(&self, command: Command, answered: oneshot::Receiver<Answer>) -> Answer {
        let gone = || CallError::Disconnected(Disconnect::Local);
        self.shared.commands.send(command).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

type Answer = Result<Payload, CallError>;

/// A joined topic: a stream of its events. Dropping it leaves the topic.
///
/// Its queue is bounded: while it is full, the whole connection is not read. Do not wait for an answer to a push while events pile up.
#[derive(Debug)]
pub struct Channel {
    topic: String,
    client: Client,
    events: mpsc::Receiver<Event>,
}

impl Channel {
    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The next event; `None` when the channel has ended. May be dropped midway.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Sends an event and waits for its reply.
    ///
    /// # Errors
    /// If it is refused, or not answered.
    pub async fn push(&self, event: &str, payload: Value) -> Result<Payload, CallError> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Push { topic: self.topic.clone(), event: event.to_owned(), payload, answer };
        self.client.call(command, answered).await
    }

    /// Leaves the topic.
    pub fn leave(self) {}
}

impl Drop for Channel {
    fn drop(&mut self) {
        // A full queue does not matter: the driver leaves when it finds that nobody reads the events.
        let _ = self.client.shared.commands.try_send(Command::Leave { topic: std::mem::take(&mut self.topic) });
    }
}

impl Stream for Channel {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(context)
    }
}
