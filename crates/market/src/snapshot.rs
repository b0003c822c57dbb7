//! What a client that joins a symbol gets, and the latest values for those who only ask.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tickwire_pubsub::{EpochTag, Stamp};

use crate::{Symbol, decimal::write_integer, value::with_n};

/// Whether a symbol's value is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Quotes come in.
    Ok,
    /// No quote came for [`stale_after`](crate::MarketConfig::stale_after), or ever, or the owner cannot be reached.
    Stale,
}

impl State {
    /// Its name in payloads.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Stale => "stale",
        }
    }
}

/// A symbol's state and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Whether its value is live.
    pub state: State,
    /// When the state began, in microseconds since the Unix epoch: for [`State::Stale`] when the last quote was accepted, if there was one.
    pub since_us: i64,
}

impl Status {
    /// The payload of `status`: `{"state":"stale","since_us":1714555800250000}`.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        let mut out = Vec::with_capacity(48);
        out.extend_from_slice(b"{\"state\":\"");
        out.extend_from_slice(self.state.as_str().as_bytes());
        out.extend_from_slice(b"\",\"since_us\":");
        write_integer(&mut out, self.since_us.unsigned_abs());
        out.push(b'}');
        out.into()
    }
}

/// The last update that a returning client saw: `{"epoch": "…", "seq": 17}`, both as the server gave them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawSince")]
pub struct Since {
    epoch: Box<str>,
    seq: u64,
}

/// A client may hand in the whole update that it saw last: other keys are skipped.
#[derive(Deserialize)]
#[serde(expecting = "an object with epoch and seq")]
struct RawSince {
    epoch: Box<str>,
    seq: u64,
}

/// A client's `since` is not one that any server gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("since.epoch has {seen} bytes, expected the epoch of an update, which has at most {}", Since::EPOCH_BYTES_MAX)]
pub struct SinceError {
    /// The length of what was handed in.
    pub seen: usize,
}

impl Since {
    /// The longest epoch that any version of the server gives out.
    pub const EPOCH_BYTES_MAX: usize = 64;

    /// Takes what a client remembers.
    ///
    /// # Errors
    /// If the epoch is longer than any.
    pub fn new(epoch: &str, seq: u64) -> Result<Self, SinceError> {
        if epoch.len() > Self::EPOCH_BYTES_MAX {
            return Err(SinceError { seen: epoch.len() });
        }
        Ok(Self { epoch: epoch.into(), seq })
    }

    /// The epoch, as opaque here as it is to the client.
    #[must_use]
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The place in the epoch.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

impl TryFrom<RawSince> for Since {
    type Error = SinceError;

    fn try_from(raw: RawSince) -> Result<Self, SinceError> {
        Self::new(&raw.epoch, raw.seq)
    }
}

/// How a resume ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resume {
    /// All that was missed is there.
    Recovered,
    /// The client did not ask.
    NotAsked,
    /// It remembers another epoch.
    OtherEpoch,
    /// It remembers a `seq` that was never given.
    Ahead,
    /// Some of what it missed is no longer kept.
    RingExceeded,
    /// It missed more than [`resume_max`](crate::MarketConfig::resume_max).
    TooMany,
    /// The owner did not answer in time.
    OwnerUnreachable,
}

impl Resume {
    /// Its name as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::NotAsked => "not_asked",
            Self::OtherEpoch => "other_epoch",
            Self::Ahead => "ahead",
            Self::RingExceeded => "ring_exceeded",
            Self::TooMany => "too_many",
            Self::OwnerUnreachable => "owner_unreachable",
        }
    }
}

/// The state that a joining client goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinSnapshot {
    /// The payload of the newest update, without `n`; `None`: nothing is known.
    pub quote: Option<Bytes>,
    /// The newest update's epoch as clients see it.
    pub epoch: EpochTag,
    /// The newest update's place in it; 0: an inherited value, or none yet.
    pub seq: u64,
    /// Where the stream goes on: what is not above is in the snapshot. `None`: the owner did not answer, and any update is news.
    pub floor: Option<Stamp>,
    /// Whether `missed` holds all that the client missed.
    pub resume: Resume,
    /// The payloads of the missed updates, oldest first.
    pub missed: Vec<Bytes>,
    /// Whether the value is live.
    pub status: Status,
    /// How long ago the newest quote was accepted.
    pub age: Option<Duration>,
}

impl JoinSnapshot {
    /// Whether `missed` holds all that the client missed.
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.resume == Resume::Recovered
    }

    /// Leaves only the newest of the missed updates, with an `n` that says how many it stands for.
    pub fn merge_missed(&mut self) {
        let merged = self.missed.len() as u64;
        if let Some(newest) = self.missed.pop() {
            self.missed.clear();
            self.missed.push(with_n(&newest, merged));
        }
    }

    /// The join reply, and the payload of `snapshot`: `{quote, epoch, seq, recovered, missed, status}`.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        let text =
            self.quote.as_ref().map_or(4, Bytes::len) + self.missed.iter().map(|json| json.len() + 1).sum::<usize>();
        let mut out = Vec::with_capacity(text + 128);
        out.extend_from_slice(b"{\"quote\":");
        out.extend_from_slice(self.quote.as_deref().unwrap_or(b"null"));
        out.extend_from_slice(b",\"epoch\":\"");
        out.extend_from_slice(self.epoch.as_str().as_bytes());
        out.extend_from_slice(b"\",\"seq\":");
        write_integer(&mut out, self.seq);
        out.extend_from_slice(if self.recovered() { b",\"recovered\":true" } else { b",\"recovered\":false" });
        out.extend_from_slice(b",\"missed\":[");
        for (place, update) in self.missed.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            out.extend_from_slice(update);
        }
        out.extend_from_slice(b"],\"status\":\"");
        out.extend_from_slice(self.status.state.as_str().as_bytes());
        out.extend_from_slice(b"\"}");
        out.into()
    }
}

/// A symbol's newest value, for those who ask once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// The instrument.
    pub symbol: Symbol,
    /// The payload of the newest update, without `n`.
    pub quote: Bytes,
    /// Whether it is live.
    pub status: Status,
    /// How long ago it was accepted.
    pub age: Duration,
}

impl Latest {
    /// The update with two keys more: `age_us` and `status`.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.quote.len() + 48);
        out.extend_from_slice(self.quote.strip_suffix(b"}").unwrap_or(&self.quote));
        out.extend_from_slice(b",\"age_us\":");
        write_integer(&mut out, u64::try_from(self.age.as_micros()).unwrap_or(u64::MAX));
        out.extend_from_slice(b",\"status\":\"");
        out.extend_from_slice(self.status.state.as_str().as_bytes());
        out.extend_from_slice(b"\"}");
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use tickwire_pubsub::Epoch;

    use super::*;

    fn snapshot() -> JoinSnapshot {
        let epoch = Epoch { clock: 1, incarnation: 2, node: 3 };
        JoinSnapshot {
            quote: Some(Bytes::from_static(b"{\"seq\":3}")),
            epoch: epoch.tag(),
            seq: 3,
            floor: Some(Stamp { epoch, seq: 3 }),
            resume: Resume::Recovered,
            missed: vec![Bytes::from_static(b"{\"seq\":2}"), Bytes::from_static(b"{\"seq\":3}")],
            status: Status { state: State::Ok, since_us: 5 },
            age: None,
        }
    }

    #[test]
    fn a_join_reply_is_written_as_the_contract_says() {
        let mut reply = snapshot();
        let tag = reply.epoch;
        let expected = format!(
            r#"{{"quote":{{"seq":3}},"epoch":"{tag}","seq":3,"recovered":true,"missed":[{{"seq":2}},{{"seq":3}}],"status":"ok"}}"#
        );
        assert_eq!(reply.to_json(), expected);
        reply.merge_missed();
        assert_eq!(reply.missed, ["{\"seq\":3,\"n\":2}"]);
        reply.merge_missed();
        assert_eq!(reply.missed.len(), 1);
    }

    #[test]
    fn since_is_an_epoch_and_a_seq() {
        let read = |text: &str| serde_json::from_str::<Since>(text).map_err(|error| error.to_string());
        assert_eq!(read(r#"{"epoch":"abc","seq":7}"#), Ok(Since::new("abc", 7).unwrap()));
        assert_eq!(read(r#"{"symbol":"A","bid":"1","epoch":"abc","seq":7}"#), Ok(Since::new("abc", 7).unwrap()));
        let long = format!(r#"{{"epoch":"{}","seq":7}}"#, "x".repeat(65));
        for text in [
            r#"{"epoch":"abc"}"#,
            r#"{"epoch":"abc","seq":-1}"#,
            r#"{"epoch":1,"seq":1}"#,
            "7",
            r#"{"epoch":"a","seq":1.5}"#,
            &long,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_latest_value_tells_its_age() {
        let latest = Latest {
            symbol: Symbol::new("EURUSD").unwrap(),
            quote: Bytes::from_static(b"{\"seq\":3}"),
            status: Status { state: State::Stale, since_us: 5 },
            age: Duration::from_millis(2),
        };
        assert_eq!(latest.to_json(), r#"{"seq":3,"age_us":2000,"status":"stale"}"#);
        assert_eq!(latest.status.to_json(), r#"{"state":"stale","since_us":5}"#);
    }
}
