//! Following one symbol: what arrives on a `ticker:SYMBOL` topic, checked.

mod follower;
mod payload;

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use serde_json::json;

pub use follower::{Fault, Follower, Tally};
pub use payload::{Feed, FeedState, Malformed, Mark, Quote, Snapshot, Update};

use crate::{Channel, Client, Event, Interruption, JoinError, Params, Payload};

/// What topics of this kind begin with.
const PREFIX: &str = "ticker:";

/// How to follow a symbol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Follow {
    /// At most one update per interval, always ending on the latest.
    pub max_rate: Option<Duration>,
    /// Where to resume.
    pub since: Option<Mark>,
}

/// What happened to a followed symbol.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The state to go on from: first of all, after a resume that the server could not serve, and when the epoch changes.
    Snapshot(Snapshot),
    /// A resume without loss: the updates that were missed follow.
    Resumed {
        /// How many of them.
        missed: usize,
        /// Whether the value is live.
        status: Option<Feed>,
    },
    /// A newer value.
    Update {
        /// The value.
        update: Update,
        /// What is wrong with its place in the order.
        fault: Option<Fault>,
    },
    /// Whether the value is live.
    Status(Feed),
    /// Nothing arrives until the next `Snapshot` or `Resumed`.
    Interrupted(Interruption),
    /// Another event of the topic, such as the answer to a ping.
    Other {
        /// What happened.
        event: String,
        /// What there is to say about it.
        payload: Payload,
    },
    /// A message that this client does not understand; what follows may be fine.
    Malformed(Malformed),
}

/// A followed symbol: a stream of its changes, which resumes by itself after an interruption. Dropping it leaves the topic.
#[derive(Debug)]
pub struct Ticker {
    channel: Channel,
    follower: Follower,
    /// What the next join asks to resume from.
    since: Arc<Mutex<Option<Mark>>>,
    ready: VecDeque<Change>,
}

impl Ticker {
    /// Follows a symbol, given as `EURUSD` or as `ticker:EURUSD`. Its first change tells where it starts.
    ///
    /// # Errors
    /// If the topic cannot be joined.
    pub async fn join(client: &Client, symbol: &str, follow: Follow) -> Result<Self, JoinError> {
        let topic = format!("{PREFIX}{}", symbol.strip_prefix(PREFIX).unwrap_or(symbol));
        let since = Arc::new(Mutex::new(follow.since.clone()));
        let (reply, channel) = client.join(&topic, params(follow.max_rate, since.clone())).await?;
        let mut ticker = Self { channel, follower: Follower::new(follow.since), since, ready: VecDeque::new() };
        ticker.apply(Event::Rejoined(reply));
        Ok(ticker)
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.channel.topic()
    }

    /// The symbol.
    #[must_use]
    pub fn symbol(&self) -> &str {
        self.topic().strip_prefix(PREFIX).unwrap_or(self.topic())
    }

    /// What has arrived so far, and what was wrong with it.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        self.follower.tally()
    }

    /// The channel, to push on.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The next change; `None` when the server has closed the channel or the connection is given up. May be dropped midway.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some(change);
            }
            let event = self.channel.next().await?;
            self.apply(event);
        }
    }

    fn apply(&mut self, event: Event) {
        let changes = self.follower.apply(event);
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.as_ref() != self.follower.mark() {
            *since = self.follower.mark().cloned();
        }
        self.ready.extend(changes);
    }
}

impl Stream for Ticker {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Change>> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Poll::Ready(Some(change));
            }
            match Pin::new(&mut self.channel).poll_next(context) {
                Poll::Ready(Some(event)) => self.apply(event),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Join parameters that ask to resume from wherever the follower is by then.
fn params(max_rate: Option<Duration>, since: Arc<Mutex<Option<Mark>>>) -> Params {
    Params::from_fn(move || {
        let mut params = json!({});
        if let Some(max_rate) = max_rate {
            params["max_rate"] = json!(format!("{}ms", max_rate.as_millis()));
        }
        if let Some(mark) = &*since.lock().unwrap_or_else(PoisonError::into_inner) {
            params["since"] = json!(mark);
        }
        params
    })
}
