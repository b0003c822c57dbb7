//! The payloads of a `ticker` channel.

use serde::{Deserialize, Deserializer, Serialize};

/// A place in one symbol's order of updates.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Opaque: compared for equality only.
    pub epoch: String,
    /// Rises by one per update within the epoch; 0 is an inherited value.
    pub seq: u64,
}

/// What a symbol is worth. Prices and sizes are decimals in the publisher's own digits; what is not known is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Quote {
    /// The best price that a buyer offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bid: Option<String>,
    /// The best price that a seller asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<String>,
    /// How much is bid for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bid_size: Option<String>,
    /// How much is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask_size: Option<String>,
    /// The price of the last trade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// The size of the last trade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_size: Option<String>,
    /// The publisher's time in microseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<i64>,
    /// Whether the bid is above the ask.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crossed: bool,
    /// Where it comes from, if that needs saying: `simulated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A newer value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Update {
    /// The value.
    #[serde(flatten)]
    pub quote: Quote,
    /// Its place.
    #[serde(flatten)]
    pub mark: Mark,
    /// How many received updates it stands for, itself included.
    #[serde(default = "one")]
    pub n: u64,
}

fn one() -> u64 {
    1
}

/// A join reply, or the push that replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    /// The newest value, if there is one yet.
    pub quote: Option<Quote>,
    /// Its place.
    #[serde(flatten)]
    pub mark: Mark,
    /// Whether `missed` is all that was asked for.
    #[serde(default)]
    pub recovered: bool,
    /// The updates behind the place that the join asked to resume from.
    #[serde(default)]
    pub missed: Vec<Update>,
    /// Whether the value is live.
    #[serde(default)]
    pub status: Option<Feed>,
}

/// Whether a value is live, and since when that is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Feed {
    /// The state.
    pub state: FeedState,
    /// Microseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_us: Option<i64>,
}

/// Whether a value is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedState {
    /// It is.
    Ok,
    /// Its feed is silent, or its owner does not answer.
    Stale,
    /// Its market is halted.
    Halted,
    /// Its market is closed.
    Closed,
    /// A state that this client does not know.
    #[serde(other)]
    Unknown,
}

impl FeedState {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Stale => "stale",
            Self::Halted => "halted",
            Self::Closed => "closed",
            Self::Unknown => "unknown",
        }
    }
}

/// On its own, or with the time since which it is so.
impl<'de> Deserialize<'de> for Feed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Long { state: FeedState, since_us: Option<i64> },
            Short(FeedState),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Long { state, since_us } => Self { state, since_us },
            Form::Short(state) => Self { state, since_us: None },
        })
    }
}

/// A payload that is not what its event promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the payload of {event:?} is not understood: {problem}")]
pub struct Malformed {
    /// The event.
    pub event: String,
    /// What is wrong with it.
    pub problem: String,
}
