//! Readers that are no sockets: event streams and gRPC subscriptions. Per topic first a snapshot, then what is published; a reader that
//! is slow gets the newest of what it missed.

use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ::metrics::{Counter, Histogram, counter, histogram};
use tickwire_faults::{Unit, point};
use tickwire_market::{JoinRequest, JoinSnapshot, Since, Symbol, TICKER_PREFIX};
use tickwire_pubsub::{Delivery, Mailbox, MailboxEnd, Mailroom, PubSub, Topic};
use tokio::time::Sleep;

use crate::{
    app::Node,
    auth::{AuthError, Principal},
    config::ChannelKind,
    listener::Permit,
    live::{ChannelSetting, Live},
    metrics::{self, Counted},
    telemetry,
};

/// Topics of one reader.
pub(crate) const TOPICS_MAX: usize = 1_000;

/// Topics that are counted for the message that tells of too many.
pub(crate) const TOPICS_COUNTED: usize = 100_000;

/// Messages of rooms that may wait for a reader; one that lets more wait is ended, for none of them may be left out.
const LOSSLESS_MAX: usize = 1_024;

/// Why a reader gets nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FollowError {
    /// It names no topic.
    #[error("no topic is named; expected for example topics=ticker:EURUSD,ticker:GBPUSD")]
    NoTopic,
    /// It names too many.
    #[error("{}{seen} topics are named, at most {TOPICS_MAX} may be", if *seen >= TOPICS_COUNTED { "at least " } else { "" })]
    TooMany {
        /// How many.
        seen: usize,
    },
    /// It names a topic that there is not.
    #[error("{topic:?} matches no channel of this server; quotes are at ticker:SYMBOL")]
    Unmatched {
        /// Which one.
        topic: String,
    },
    /// It names a symbol that is not taken.
    #[error("{topic:?} names no symbol that this server takes")]
    UnknownSymbol {
        /// Which one.
        topic: String,
    },
    /// There are as many readers as there may be.
    #[error("there are as many streams as limits.connections allows; try again later or at another node")]
    TooManyStreams,
    /// It may not read that topic.
    #[error("{topic:?}: {cause}")]
    Denied {
        /// Which one.
        topic: String,
        /// Why not.
        cause: AuthError,
    },
}

impl FollowError {
    /// The stable code of `docs/codes.md`.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoTopic => "no_topic",
            Self::TooMany { .. } => "too_many_topics",
            Self::Unmatched { .. } => "unmatched_topic",
            Self::UnknownSymbol { .. } => "unknown_symbol",
            Self::TooManyStreams => "too_many_streams",
            Self::Denied { cause, .. } => cause.code(),
        }
    }
}

/// Why a reader is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It let too many messages wait that may not be left out.
    SlowConsumer,
    /// Its token has expired.
    TokenExpired,
    /// The node is going away.
    Shutdown,
    /// Our own fault, which its log tells.
    Crashed,
}

impl Ended {
    /// The stable reason of `docs/codes.md`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::SlowConsumer => "slow_consumer",
            Self::TokenExpired => "token_expired",
            Self::Shutdown => "shutdown",
            Self::Crashed => "internal_error",
        }
    }
}

/// A topic that is followed.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// The topic.
    pub(crate) topic: Topic,
    /// Its symbol; a room has none.
    pub(crate) symbol: Option<Symbol>,
}

/// Finds out what topics are, and whether this client may read them.
pub(crate) fn subjects<'a>(
    node: &Node,
    principal: &Principal,
    topics: impl Iterator<Item = &'a str>,
) -> Result<Vec<Subject>, FollowError> {
    let live = node.live();
    let (names, seen) = distinct(topics);
    if seen > TOPICS_MAX {
        return Err(FollowError::TooMany { seen });
    }
    let subjects: Vec<_> =
        names.into_iter().map(|text| subject(node, &live, principal, text)).collect::<Result<_, _>>()?;
    if subjects.is_empty() { Err(FollowError::NoTopic) } else { Ok(subjects) }
}

/// The topics that are named, each once, and how many they are. A message of some megabytes may repeat the same topics ever so often, or
/// name a million: only those that may be followed are kept, and only so many are counted.
fn distinct<'a>(topics: impl Iterator<Item = &'a str>) -> (Vec<&'a str>, usize) {
    let mut known = HashSet::new();
    let mut names = Vec::new();
    let topics = topics.map(str::trim).filter(|text| !text.is_empty());
    for text in topics.filter(|text| known.insert(*text)).take(TOPICS_COUNTED) {
        names.push(text);
    }
    let seen = names.len();
    names.truncate(TOPICS_MAX);
    (names, seen)
}

fn subject(node: &Node, live: &Live, principal: &Principal, text: &str) -> Result<Subject, FollowError> {
    let topic = || text.chars().take(100).collect::<String>();
    let setting = live.channel_of(text).ok_or_else(|| FollowError::Unmatched { topic: topic() })?;
    let ChannelSetting { rule, gate, .. } = setting;
    gate.check_join(principal, text).map_err(|cause| FollowError::Denied { topic: topic(), cause })?;
    let symbol = match rule.kind {
        ChannelKind::Ticker => {
            let symbol = text.strip_prefix(TICKER_PREFIX).and_then(|text| Symbol::new(text).ok());
            Some(
                symbol
                    .filter(|symbol| node.market.config().symbols.take(symbol))
                    .ok_or_else(|| FollowError::UnknownSymbol { topic: topic() })?,
            )
        }
        ChannelKind::Room { .. } => None,
    };
    let topic = Topic::new(text).map_err(|_| FollowError::Unmatched { topic: topic() })?;
    Ok(Subject { topic, symbol })
}

/// What all readers of a node share.
#[derive(Debug, Clone)]
pub(crate) struct Following {
    mailroom: Mailroom,
    deliveries: Counter,
    lag: Histogram,
}

impl Following {
    /// Readers that so many threads serve.
    pub(crate) fn new(pubsub: &PubSub, threads: usize) -> Self {
        let mailroom = Mailroom::new(pubsub, threads);
        let deliveries = counter!(tickwire_channels::metrics::DELIVERIES);
        Self { mailroom, deliveries, lag: histogram!(metrics::STREAM_LAG) }
    }

    /// Ends all readers, those still to come as well.
    pub(crate) fn end(&self) {
        self.mailroom.close();
    }

    fn count(&self, deliveries: &[Delivery]) {
        let now = Instant::now();
        for delivery in deliveries {
            self.lag.record(now.saturating_duration_since(delivery.message.accepted_at));
        }
        self.deliveries.increment(deliveries.len() as u64);
    }
}

/// A reader with its topics.
#[derive(Debug)]
pub(crate) struct Follower {
    mailbox: Mailbox,
    node: Arc<Node>,
    transport: &'static str,
    /// Whether the reader has limited its rate: then all that it missed is one update.
    merge_missed: bool,
    expires_at: Option<Instant>,
    /// How long it may hear nothing.
    keep_alive: Option<Duration>,
    /// When it last heard something.
    heard_at: Instant,
    /// Set to the first time at which there was something to do without a message; what was said meanwhile does not move it.
    timer: Option<Pin<Box<Sleep>>>,
    _counted: Counted,
    _permit: Permit,
}

/// What a reader is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// There are messages.
    Messages,
    /// There was none for as long as the reader may hear nothing.
    Silence,
}

impl Follower {
    /// A reader over a transport, without topics yet.
    ///
    /// # Errors
    /// If there are as many readers as there may be.
    pub(crate) fn new(
        node: &Arc<Node>,
        principal: &Principal,
        transport: &'static str,
        min_interval: Option<Duration>,
    ) -> Result<Self, FollowError> {
        let Some(permit) = node.door.enter_stream() else {
            telemetry::refused("streams", "a stream is refused", &FollowError::TooManyStreams);
            return Err(FollowError::TooManyStreams);
        };
        Ok(Self {
            mailbox: node.following.mailroom.mailbox(LOSSLESS_MAX, min_interval),
            node: Arc::clone(node),
            transport,
            merge_missed: min_interval.is_some(),
            expires_at: crate::access::expiry(principal),
            keep_alive: None,
            heard_at: Instant::now(),
            timer: None,
            _counted: Counted::new(metrics::STREAMS, "transport", transport),
            _permit: permit,
        })
    }

    /// Has the reader told when it has heard nothing for so long.
    pub(crate) fn keep_alive(self, keep_alive: Duration) -> Self {
        Self { keep_alive: Some(keep_alive), ..self }
    }

    /// Follows a topic. Subscribed first, read second: what is published meanwhile follows the snapshot. A room has no snapshot.
    pub(crate) async fn follow(&mut self, subject: &Subject, since: Option<&Since>) -> Option<JoinSnapshot> {
        let subscription = self.mailbox.subscribe(&subject.topic)?;
        let snapshot = match &subject.symbol {
            Some(symbol) => {
                let request =
                    JoinRequest { symbol: symbol.clone(), since: since.cloned(), merge_missed: self.merge_missed };
                self.node.market.join(request).wait().await.ok()
            }
            None => None,
        };
        subscription.start(snapshot.as_ref().and_then(|snapshot| snapshot.floor));
        snapshot
    }

    /// Takes all messages that are there, or waits for the first. A panic ends this reader alone: a connection may carry many, and be that
    /// of a proxy for many clients.
    pub(crate) fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        into: &mut Vec<Delivery>,
    ) -> Poll<Result<News, Ended>> {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| self.poll(context, into)));
        polled.unwrap_or(Poll::Ready(Err(Ended::Crashed)))
    }

    fn poll(&mut self, context: &mut Context<'_>, into: &mut Vec<Delivery>) -> Poll<Result<News, Ended>> {
        let now = Instant::now();
        if self.expires_at.is_some_and(|time| time <= now) {
            return Poll::Ready(Err(Ended::TokenExpired));
        }
        let due = self.mailbox.take(context.waker(), now.into(), into).map_err(|end| match end {
            MailboxEnd::SlowReader => Ended::SlowConsumer,
            MailboxEnd::Closed => Ended::Shutdown,
        })?;
        if !into.is_empty() {
            point(Unit::Stream, || self.transport);
            self.node.following.count(into);
            self.heard_at = now;
            return Poll::Ready(Ok(News::Messages));
        }
        let silent_at = self.keep_alive.map(|keep_alive| self.heard_at + keep_alive);
        if silent_at.is_some_and(|time| time <= now) {
            self.heard_at = now;
            return Poll::Ready(Ok(News::Silence));
        }
        let wakes = [due.map(tokio::time::Instant::into_std), self.expires_at, silent_at];
        if let Some(first) = wakes.into_iter().flatten().min() {
            self.wake_at(first.into(), context);
        }
        Poll::Pending
    }

    /// Has the task woken at a time. The timer is moved only if it would be late: to move it for each message would cost more than the
    /// message, and to come too early costs nothing worth naming.
    fn wake_at(&mut self, time: tokio::time::Instant, context: &mut Context<'_>) {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(time)));
        if timer.deadline() > time || timer.is_elapsed() {
            timer.as_mut().reset(time);
        }
        while timer.as_mut().poll(context).is_ready() {
            // It was set for an earlier time, which has just come; or this one came since the clock was read.
            if timer.deadline() >= time {
                context.waker().wake_by_ref();
                return;
            }
            timer.as_mut().reset(time);
        }
    }
}
