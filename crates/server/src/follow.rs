//! Readers that are no sockets: event streams and gRPC subscriptions. Per topic first a snapshot, then what is published; a reader that
//! is slow gets the newest of what it missed.

use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use ::metrics::{counter, histogram};
use futures_util::FutureExt as _;
use tickwire_faults::{Unit, point};
use tickwire_market::{JoinRequest, JoinSnapshot, Since, Symbol, TICKER_PREFIX};
use tickwire_pubsub::{Delivery, Mailbox, Topic};
use tokio_util::sync::CancellationToken;

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

/// A reader with its topics.
#[derive(Debug)]
pub(crate) struct Follower {
    mailbox: Mailbox,
    /// Whether the reader has limited its rate: then all that it missed is one update.
    merge_missed: bool,
    expires_at: Option<Instant>,
    cancelled: CancellationToken,
    transport: &'static str,
    _counted: Counted,
    _permit: Permit,
}

impl Follower {
    /// A reader over a transport, without topics yet.
    ///
    /// # Errors
    /// If there are as many readers as there may be.
    pub(crate) fn new(
        node: &Node,
        principal: &Principal,
        transport: &'static str,
        min_interval: Option<Duration>,
    ) -> Result<Self, FollowError> {
        let Some(permit) = node.door.enter_stream() else {
            telemetry::refused("streams", "a stream is refused", &FollowError::TooManyStreams);
            return Err(FollowError::TooManyStreams);
        };
        Ok(Self {
            mailbox: Mailbox::new(&node.pubsub, LOSSLESS_MAX, min_interval),
            merge_missed: min_interval.is_some(),
            expires_at: crate::access::expiry(principal),
            cancelled: node.streams_cancelled(),
            transport,
            _counted: Counted::new(metrics::STREAMS, "transport", transport),
            _permit: permit,
        })
    }

    /// Follows a topic. Subscribed first, read second: what is published meanwhile follows the snapshot. A room has no snapshot.
    pub(crate) async fn follow(
        &mut self,
        node: &Node,
        subject: &Subject,
        since: Option<&Since>,
    ) -> Option<JoinSnapshot> {
        let subscription = self.mailbox.subscribe(&subject.topic)?;
        let snapshot = match &subject.symbol {
            Some(symbol) => {
                let request =
                    JoinRequest { symbol: symbol.clone(), since: since.cloned(), merge_missed: self.merge_missed };
                node.market.join(request).wait().await.ok()
            }
            None => None,
        };
        subscription.start(snapshot.as_ref().and_then(|snapshot| snapshot.floor));
        snapshot
    }

    /// Waits for messages and takes all that are there. May be dropped midway: nothing is lost. A panic ends this reader alone: a connection
    /// may carry many, and be that of a proxy for many clients.
    pub(crate) async fn next(&self) -> Result<Vec<Delivery>, Ended> {
        AssertUnwindSafe(self.take()).catch_unwind().await.unwrap_or(Err(Ended::Crashed))
    }

    async fn take(&self) -> Result<Vec<Delivery>, Ended> {
        let expired = async {
            match self.expires_at {
                Some(time) => tokio::time::sleep_until(time.into()).await,
                None => std::future::pending().await,
            }
        };
        let deliveries = tokio::select! {
            deliveries = self.mailbox.next() => deliveries.map_err(|_| Ended::SlowConsumer)?,
            () = expired => return Err(Ended::TokenExpired),
            () = self.cancelled.cancelled() => return Err(Ended::Shutdown),
        };
        point(Unit::Stream, || self.transport);
        count(&deliveries);
        Ok(deliveries)
    }
}

fn count(deliveries: &[Delivery]) {
    let now = Instant::now();
    let lag = histogram!(metrics::STREAM_LAG);
    for delivery in deliveries {
        lag.record(now.saturating_duration_since(delivery.message.accepted_at));
    }
    counter!(tickwire_channels::metrics::DELIVERIES).increment(deliveries.len() as u64);
}
