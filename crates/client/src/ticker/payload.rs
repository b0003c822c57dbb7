//! The payloads of a `ticker` channel.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The value.
    pub quote: Quote,
    /// Its place.
    pub mark: Mark,
    /// How many received updates it stands for, itself included.
    pub n: u64,
    /// The JSON text as it arrived.
    pub json: Bytes,
}

/// A join reply, or the push that replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The newest value, if there is one yet.
    pub quote: Option<Quote>,
    /// Its place.
    pub mark: Mark,
    /// Whether `missed` is all that was asked for.
    pub recovered: bool,
    /// The updates behind the place that the join asked to resume from.
    pub missed: Vec<Update>,
    /// Whether the value is live.
    pub status: Option<Feed>,
    /// The JSON text as it arrived.
    pub json: Bytes,
}

/// What an update says beside the quote's own fields.
#[derive(Deserialize)]
struct Place {
    #[serde(flatten)]
    mark: Mark,
    #[serde(default = "one")]
    n: u64,
}

fn one() -> u64 {
    1
}

impl Update {
    /// Reads the payload of an `update`.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(json: &Bytes) -> Result<Self, serde_json::Error> {
        let Place { mark, n } = serde_json::from_slice(json)?;
        Ok(Self { quote: serde_json::from_slice(json)?, mark, n, json: json.clone() })
    }
}

impl Snapshot {
    /// Reads a join reply or the payload of a `snapshot`.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(json: &Bytes) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            quote: Option<Quote>,
            epoch: String,
            seq: u64,
            #[serde(default)]
            recovered: bool,
            #[serde(borrow, default)]
            missed: Vec<&'a RawValue>,
            #[serde(default)]
            status: Option<Feed>,
        }
        let Fields { quote, epoch, seq, recovered, missed, status } = serde_json::from_slice(json)?;
        let update = |text: &RawValue| Update::parse(&json.slice_ref(text.get().as_bytes()));
        let missed = missed.into_iter().map(update).collect::<Result<_, _>>()?;
        Ok(Self { quote, mark: Mark { epoch, seq }, recovered, missed, status, json: json.clone() })
    }
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
